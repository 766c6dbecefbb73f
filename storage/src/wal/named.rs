//! Which series a segment has named already: a set of references, which are handed out in ascending order.

use std::collections::HashMap;

const WORDS: usize = 512;
const PAGE: u64 = WORDS as u64 * 64;

/// A bitmap in pages of 32,768 references; neighbours of the last one asked for cost no hashing.
#[derive(Debug, Default)]
pub(super) struct NamedSeries {
    pages: Vec<(u64, Box<[u64; WORDS]>)>,
    page_of: HashMap<u64, usize>,
    last_page: usize,
}

impl NamedSeries {
    /// Adds `series` and says whether it is new.
    pub(super) fn insert(&mut self, series: u64) -> bool {
        let key = series / PAGE;
        if self.pages.get(self.last_page).is_none_or(|(page, _)| *page != key) {
            let next = self.pages.len();
            self.last_page = *self.page_of.entry(key).or_insert(next);
            if self.last_page == next {
                self.pages.push((key, Box::new([0; WORDS])));
            }
        }
        let bit = series % PAGE;
        let word = &mut self.pages[self.last_page].1[(bit / 64) as usize];
        let mask = 1u64 << (bit % 64);
        let new = *word & mask == 0;
        *word |= mask;
        new
    }

    pub(super) fn clear(&mut self) {
        *self = NamedSeries::default();
    }
}
