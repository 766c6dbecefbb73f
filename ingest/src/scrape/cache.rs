//! What a target's series are, by the text it shows them with.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pilaster_model::Labels;
use pilaster_storage::SeriesRef;

/// Grows by this much before entries of failed scrapes are thrown out.
const SLACK: usize = 1000;

/// The series of one target, in the order in which it shows them.
///
/// A target repeats itself, so the entry behind the last one found is tried before anything is hashed.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    entries: Vec<Entry>,
    by_text: HashMap<Arc<[u8]>, u32>,
    /// Where the next text is expected.
    cursor: usize,
    /// Lookups of this scrape that did not find the text there.
    jumps: usize,
    /// Number of the scrape that is going on; the first is 1.
    scrape: u64,
    /// Entries seen in it.
    seen: usize,
    /// Entries after the last successful scrape.
    settled: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    text: Arc<[u8]>,
    pub kind: EntryKind,
    /// The scrape in which it was seen last.
    seen: u64,
    /// The scrape of the last sample whose series gets a staleness marker when it disappears.
    tracked: u64,
    /// Place among the entries of the scrape in which it was seen last.
    place: u32,
}

#[derive(Debug)]
pub(super) enum EntryKind {
    /// Metric relabelling dropped it.
    Dropped,
    /// `series` is found when the first sample is appended.
    Series { labels: Labels, series: Option<SeriesRef>, start: StartGroup },
}

/// How a series takes part in start timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartGroup {
    None,
    /// Shares the start of the group.
    Member(u32),
    /// The `_created` line that tells it.
    Created(u32),
}

/// A text that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub index: u32,
    /// In this very scrape.
    pub again: bool,
}

impl SeriesCache {
    /// Begins a scrape and returns its number.
    pub fn begin(&mut self) -> u64 {
        self.scrape += 1;
        self.cursor = 0;
        self.jumps = 0;
        self.seen = 0;
        self.scrape
    }

    /// The number of the scrape that is going on.
    pub fn current(&self) -> u64 {
        self.scrape
    }

    pub fn find(&mut self, text: &[u8]) -> Option<Hit> {
        let index = match self.entries.get(self.cursor) {
            Some(entry) if *entry.text == *text => self.cursor,
            _ => {
                self.jumps += 1;
                *self.by_text.get(text)? as usize
            }
        };
        self.cursor = index + 1;
        let entry = &mut self.entries[index];
        let again = entry.seen == self.scrape;
        if !again {
            entry.seen = self.scrape;
            entry.place = self.seen as u32;
            self.seen += 1;
        }
        Some(Hit { index: index as u32, again })
    }

    /// Adds a text that [`SeriesCache::find`] does not know.
    pub fn insert(&mut self, text: &[u8], kind: EntryKind) -> u32 {
        let text: Arc<[u8]> = text.into();
        let index = self.entries.len() as u32;
        self.by_text.insert(text.clone(), index);
        let place = self.seen as u32;
        self.entries.push(Entry { text, kind, seen: self.scrape, tracked: 0, place });
        self.seen += 1;
        index
    }

    pub fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    /// Labels and reference of a series.
    pub fn series(&mut self, index: u32) -> Option<(&Labels, &mut Option<SeriesRef>)> {
        match &mut self.entries[index as usize].kind {
            EntryKind::Series { labels, series, .. } => Some((labels, series)),
            EntryKind::Dropped => None,
        }
    }

    /// From now on the series gets a staleness marker when it is missing in the next scrape.
    pub fn track(&mut self, index: u32) {
        self.entries[index as usize].tracked = self.scrape;
    }

    /// The series that were tracked in the scrape before and are not in this one.
    pub fn stale(&self) -> Vec<SeriesRef> {
        let reference = |entry: &Entry| match entry.kind {
            EntryKind::Series { series, .. } => series,
            EntryKind::Dropped => None,
        };
        let missing = |entry: &&Entry| entry.tracked != 0 && entry.tracked + 1 == self.scrape;
        let mut stale: Vec<SeriesRef> = self.entries.iter().filter(missing).filter_map(reference).collect();
        if !stale.is_empty() {
            // A series may be shown with another text than before.
            let tracked = self.entries.iter().filter(|entry| entry.tracked == self.scrape);
            let present: HashSet<SeriesRef> = tracked.filter_map(reference).collect();
            stale.retain(|series| !present.contains(series));
        }
        stale
    }

    /// Ends a scrape. After a successful one, what it did not show is forgotten. Returns whether entries had to be
    /// thrown out although no scrape succeeded.
    pub fn finish(&mut self, success: bool) -> bool {
        let forced = !success && self.entries.len() > self.settled * 2 + SLACK;
        if success || forced {
            let disordered = self.jumps > self.entries.len() / 16;
            if self.seen < self.entries.len() || disordered {
                let scrape = self.scrape;
                self.entries.retain(|entry| entry.seen == scrape);
                self.entries.sort_by_key(|entry| entry.place);
                self.by_text.clear();
                self.by_text
                    .extend(self.entries.iter().enumerate().map(|(index, entry)| (entry.text.clone(), index as u32)));
            }
        }
        if success {
            self.settled = self.entries.len();
        }
        forced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(cache: &mut SeriesCache, texts: &[&str], success: bool) -> Vec<u64> {
        cache.begin();
        for text in texts {
            let index = match cache.find(text.as_bytes()) {
                Some(hit) => hit.index,
                None => {
                    let series = Some(SeriesRef::from_raw(u64::from(text.as_bytes()[0])));
                    let kind = EntryKind::Series { labels: Labels::empty(), series, start: StartGroup::None };
                    cache.insert(text.as_bytes(), kind)
                }
            };
            if success {
                cache.track(index);
            }
        }
        let stale = cache.stale().into_iter().map(SeriesRef::to_raw).collect();
        cache.finish(success);
        stale
    }

    #[test]
    fn what_disappears_is_stale_once() {
        let mut cache = SeriesCache::default();
        assert!(show(&mut cache, &["a", "b", "c"], true).is_empty());
        assert_eq!(show(&mut cache, &["c", "a"], true), [u64::from(b'b')]);
        assert!(show(&mut cache, &["c", "a"], true).is_empty());
        assert_eq!(show(&mut cache, &["c"], false), [u64::from(b'c'), u64::from(b'a')]);
        assert!(show(&mut cache, &[], false).is_empty());
        assert!(show(&mut cache, &["a"], true).is_empty());
        // The same series with another text.
        assert!(show(&mut cache, &["a2"], true).is_empty());
    }

    #[test]
    fn a_repeated_order_is_found_without_hashing() {
        let mut cache = SeriesCache::default();
        let texts: Vec<String> = (0..100).map(|i| format!("m{i}")).collect();
        let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        show(&mut cache, &texts, true);
        show(&mut cache, &texts, true);
        assert_eq!(cache.jumps, 0);
        texts.insert(50, "new");
        show(&mut cache, &texts, true);
        show(&mut cache, &texts, true);
        assert!(cache.jumps <= 2);
        texts.reverse();
        show(&mut cache, &texts, true);
        show(&mut cache, &texts, true);
        assert_eq!(cache.jumps, 0);
        cache.begin();
        assert!(!cache.find(b"m5").unwrap().again);
        assert!(cache.find(b"m5").unwrap().again);
    }

    #[test]
    fn failed_scrapes_do_not_fill_the_memory() {
        let mut cache = SeriesCache::default();
        for round in 0..100 {
            let texts: Vec<String> = (0..100).map(|i| format!("m{round}_{i}")).collect();
            show(&mut cache, &texts.iter().map(String::as_str).collect::<Vec<_>>(), false);
        }
        assert!(cache.entries.len() <= SLACK + 100);
    }
}
