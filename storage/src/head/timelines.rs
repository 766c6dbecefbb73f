//! Equal timestamp lists become one.
//!
//! The series of one target are appended at one timestamp, so their lists are equal; whoever computes on them can do
//! the part that depends on time alone once per list.

use std::collections::HashMap;
use std::sync::Arc;

/// Length and both ends of a list.
type Ends = (usize, i64, i64);

/// The distinct timestamp lists met so far.
#[derive(Debug, Default)]
pub struct Timelines {
    /// By length and both ends: scrape offsets differ by target, so more than one list under a key is rare.
    known: HashMap<Ends, Vec<Arc<[i64]>>>,
    empty: Option<Arc<[i64]>>,
    /// The last list that was asked for: neighbours mostly share theirs.
    last: Option<Arc<[i64]>>,
}

impl Timelines {
    /// The list equal to `timestamps`, shared with everyone who asked before.
    pub fn share(&mut self, timestamps: &[i64]) -> Arc<[i64]> {
        let (&[first, ..], &[.., last]) = (timestamps, timestamps) else {
            return self.empty.get_or_insert_with(|| Arc::from([])).clone();
        };
        if let Some(same) = self.last.as_ref().filter(|list| ***list == *timestamps) {
            return same.clone();
        }
        let lists = self.known.entry((timestamps.len(), first, last)).or_default();
        let list = match lists.iter().find(|list| ***list == *timestamps) {
            Some(list) => list.clone(),
            None => {
                let list: Arc<[i64]> = timestamps.into();
                lists.push(list.clone());
                list
            }
        };
        self.last = Some(list.clone());
        list
    }

    /// Like [`Timelines::share`] for a list that is shared within its block already.
    pub fn share_arc(&mut self, timestamps: Arc<[i64]>) -> Arc<[i64]> {
        let (&[first, ..], &[.., last]) = (&*timestamps, &*timestamps) else { return timestamps };
        let lists = self.known.entry((timestamps.len(), first, last)).or_default();
        match lists.iter().find(|list| Arc::ptr_eq(list, &timestamps) || ***list == *timestamps) {
            Some(list) => list.clone(),
            None => {
                lists.push(timestamps.clone());
                timestamps
            }
        }
    }
}
