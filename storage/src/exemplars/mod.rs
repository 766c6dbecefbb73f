//! Exemplars: the newest ones in memory, by series. After a restart the log brings them back, and a file those that the
//! log no longer has.
//!
//! Source: Prometheus `tsdb/exemplar.go` and `model/exemplar`, whose rules for what is taken these are.

mod file;

pub use file::is_there;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use pilaster_model::{Labels, Matcher, TimeRange};

use crate::Error;
use crate::env::Files;

/// Characters in all names and values of an exemplar's labels, as OpenMetrics limits them.
const MAX_LABEL_CHARS: usize = 128;

/// An example of what a series counts, such as the trace of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub timestamp_ms: i64,
    /// Whether the target told the timestamp; without one it is the time of the scrape.
    pub has_timestamp: bool,
}

impl Exemplar {
    /// The same one, shown again. Where neither has a timestamp of its own, the times of the scrapes do not count.
    fn is_again(&self, other: &Exemplar) -> bool {
        let same_time = self.timestamp_ms == other.timestamp_ms || !(self.has_timestamp || other.has_timestamp);
        self.labels == other.labels && same_time && self.value == other.value
    }
}

/// What became of an exemplar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExemplarOutcome {
    Taken,
    /// It is there already, or the store keeps none.
    Passed,
    /// Its series has a newer one.
    OutOfOrder,
    /// It has more than 128 characters of labels.
    LabelsTooLong,
    /// There is no such series.
    UnknownSeries,
}

/// Exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    pub series: Labels,
    /// Ascending by time; never empty.
    pub exemplars: Vec<Exemplar>,
}

/// Numbers about the exemplars in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExemplarStats {
    pub max: u64,
    pub stored: u64,
    pub series: u64,
    /// Taken, and refused as out of order, since the start.
    pub appended: u64,
    pub out_of_order: u64,
    /// Of the one that has been there the longest.
    pub oldest_ms: Option<i64>,
}

/// A ring of at most `max` exemplars: a new one takes the place of the one that came first.
#[derive(Debug)]
pub struct ExemplarStore {
    out_of_order_ms: i64,
    ring: RwLock<Ring>,
    /// Whether the file lacks something.
    dirty: AtomicBool,
}

#[derive(Debug, Default)]
struct Ring {
    max: usize,
    /// Series and number of every exemplar, in the order in which they came.
    order: VecDeque<(Labels, u64)>,
    /// Ascending by time, with their numbers.
    by_series: HashMap<Labels, VecDeque<(u64, Exemplar)>>,
    next_number: u64,
    appended: u64,
    out_of_order: u64,
}

impl ExemplarStore {
    /// Keeps none where `max` is 0.
    pub fn new(max: usize, out_of_order_ms: i64) -> ExemplarStore {
        let ring = RwLock::new(Ring { max, ..Ring::default() });
        ExemplarStore { out_of_order_ms, ring, dirty: AtomicBool::new(false) }
    }

    /// Takes what the file in `dir` holds, where any are kept. Returns whether nothing of it is missing or damaged.
    ///
    /// # Errors
    /// The operating system refuses to read.
    pub fn load(&self, files: &dyn Files, dir: &Path) -> Result<bool, Error> {
        if !self.is_on() {
            return Ok(true);
        }
        let loaded = file::load(files, dir)?;
        let is_whole = loaded.is_some();
        let ring = &mut *self.ring.write();
        for (series, exemplar) in loaded.into_iter().flatten() {
            // They were taken once, whatever the rules are now.
            ring.insert(&series, exemplar);
        }
        Ok(is_whole)
    }

    /// Writes the file, where it lacks something.
    ///
    /// # Errors
    /// It cannot be written; the next call tries again.
    pub fn store(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        if !self.dirty.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let all = self.ring.read().in_order();
        file::store(files, dir, &all).inspect_err(|_| self.dirty.store(true, Ordering::Relaxed))
    }

    /// How many are kept at most.
    pub fn max(&self) -> usize {
        self.ring.read().max
    }

    /// Whether any are kept.
    pub fn is_on(&self) -> bool {
        self.ring.read().max > 0
    }

    /// Changes the size; where it shrinks, those that came first go.
    pub fn resize(&self, max: usize) {
        let ring = &mut *self.ring.write();
        ring.max = max;
        while ring.order.len() > max {
            ring.remove_first();
        }
    }

    /// Whether `exemplar` would be taken.
    pub fn validate(&self, series: &Labels, exemplar: &Exemplar) -> ExemplarOutcome {
        self.ring.read().validate(series, exemplar, self.out_of_order_ms)
    }

    /// Adds `exemplar` where it is acceptable.
    pub fn add(&self, series: &Labels, exemplar: Exemplar) -> ExemplarOutcome {
        let ring = &mut *self.ring.write();
        let outcome = ring.validate(series, &exemplar, self.out_of_order_ms);
        match outcome {
            ExemplarOutcome::Taken => {
                ring.insert(series, exemplar);
                self.dirty.store(true, Ordering::Relaxed);
            }
            ExemplarOutcome::OutOfOrder => ring.out_of_order += 1,
            ExemplarOutcome::Passed | ExemplarOutcome::LabelsTooLong | ExemplarOutcome::UnknownSeries => {}
        }
        outcome
    }

    /// Adds what the log says was taken, unless it is there already.
    pub fn replay(&self, series: &Labels, exemplar: Exemplar) {
        let ring = &mut *self.ring.write();
        if ring.validate(series, &exemplar, self.out_of_order_ms) == ExemplarOutcome::Taken {
            ring.insert(series, exemplar);
            self.dirty.store(true, Ordering::Relaxed);
        }
    }

    /// Exemplars in `range` of all series that satisfy one of `selectors`, ascending by series.
    pub fn select(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Vec<SeriesExemplars> {
        let ring = self.ring.read();
        let wanted = |series: &Labels| {
            selectors.iter().any(|matchers| matchers.iter().all(|matcher| matcher.matches_labels(series)))
        };
        let within = |list: &VecDeque<(u64, Exemplar)>| {
            let all = list.iter().map(|(_, exemplar)| exemplar);
            all.filter(|exemplar| range.contains(exemplar.timestamp_ms)).cloned().collect::<Vec<_>>()
        };
        let matching = ring.by_series.iter().filter(|(series, _)| wanted(series));
        let mut found: Vec<SeriesExemplars> = matching
            .map(|(series, list)| SeriesExemplars { series: series.clone(), exemplars: within(list) })
            .filter(|found| !found.exemplars.is_empty())
            .collect();
        found.sort_by(|a, b| a.series.cmp(&b.series));
        found
    }

    pub fn stats(&self) -> ExemplarStats {
        let ring = self.ring.read();
        let oldest = ring.order.front().and_then(|(series, number)| {
            ring.by_series.get(series)?.iter().find(|(other, _)| other == number).map(|(_, one)| one.timestamp_ms)
        });
        ExemplarStats {
            max: ring.max as u64,
            stored: ring.order.len() as u64,
            series: ring.by_series.len() as u64,
            appended: ring.appended,
            out_of_order: ring.out_of_order,
            oldest_ms: oldest,
        }
    }
}

impl Ring {
    fn validate(&self, series: &Labels, exemplar: &Exemplar, out_of_order_ms: i64) -> ExemplarOutcome {
        if self.max == 0 {
            return ExemplarOutcome::Passed;
        }
        let chars = |(name, value): (&str, &str)| name.chars().count() + value.chars().count();
        if exemplar.labels.iter().map(chars).sum::<usize>() > MAX_LABEL_CHARS {
            return ExemplarOutcome::LabelsTooLong;
        }
        let Some((_, newest)) = self.by_series.get(series).and_then(VecDeque::back) else {
            return ExemplarOutcome::Taken;
        };
        if newest.is_again(exemplar) {
            return ExemplarOutcome::Passed;
        }
        let (at, newest_at) = (exemplar.timestamp_ms, newest.timestamp_ms);
        let too_late = at < newest_at && at <= newest_at.saturating_sub(out_of_order_ms);
        // A native histogram has several at one time: they come in this order.
        let before = at == newest_at
            && (exemplar.value < newest.value
                || (exemplar.value == newest.value && exemplar.labels.hash64() < newest.labels.hash64()));
        // Within the window, one that stands between others and has the time of one is taken for that one.
        let between = || {
            let list = self.by_series.get(series).into_iter().flatten();
            at < newest_at && list.into_iter().any(|(_, other)| other.timestamp_ms == at)
        };
        match () {
            () if too_late || before => ExemplarOutcome::OutOfOrder,
            () if between() => ExemplarOutcome::Passed,
            () => ExemplarOutcome::Taken,
        }
    }

    fn insert(&mut self, series: &Labels, exemplar: Exemplar) {
        while self.order.len() >= self.max {
            self.remove_first();
        }
        let number = self.next_number;
        self.next_number += 1;
        self.appended += 1;
        let list = self.by_series.entry(series.clone()).or_default();
        let place = list.partition_point(|(_, other)| other.timestamp_ms <= exemplar.timestamp_ms);
        list.insert(place, (number, exemplar));
        self.order.push_back((series.clone(), number));
    }

    /// All, in the order in which they came.
    fn in_order(&self) -> Vec<(Labels, Exemplar)> {
        let numbered = self.by_series.iter().flat_map(|(series, list)| list.iter().map(move |one| (series, one)));
        let mut all: Vec<(u64, &Labels, &Exemplar)> =
            numbered.map(|(series, (number, exemplar))| (*number, series, exemplar)).collect();
        all.sort_unstable_by_key(|(number, ..)| *number);
        all.into_iter().map(|(_, series, exemplar)| (series.clone(), exemplar.clone())).collect()
    }

    fn remove_first(&mut self) {
        let Some((series, number)) = self.order.pop_front() else { return };
        if let Some(list) = self.by_series.get_mut(&series) {
            list.retain(|(other, _)| *other != number);
            if list.is_empty() {
                self.by_series.remove(&series);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    fn exemplar(timestamp_ms: i64, value: f64, trace: &str) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", trace)]), value, timestamp_ms, has_timestamp: true }
    }

    fn times(store: &ExemplarStore, name: &str) -> Vec<i64> {
        let selectors = [vec![Matcher::equal("__name__", name)]];
        let found = store.select(&selectors, TimeRange::ALL);
        found.into_iter().flat_map(|one| one.exemplars).map(|exemplar| exemplar.timestamp_ms).collect()
    }

    #[test]
    fn the_first_to_come_is_the_first_to_go() {
        let store = ExemplarStore::new(3, 0);
        for at in 1..=3 {
            assert_eq!(store.add(&series("a"), exemplar(at, 1.0, "x")), ExemplarOutcome::Taken);
        }
        assert_eq!(store.add(&series("b"), exemplar(9, 1.0, "x")), ExemplarOutcome::Taken);
        assert_eq!((times(&store, "a"), times(&store, "b")), (vec![2, 3], vec![9]));
        let stats = ExemplarStats { max: 3, stored: 3, series: 2, appended: 4, out_of_order: 0, oldest_ms: Some(2) };
        assert_eq!(store.stats(), stats);
        store.resize(1);
        assert_eq!((times(&store, "a"), times(&store, "b")), (vec![], vec![9]));
        store.resize(0);
        assert_eq!(store.add(&series("b"), exemplar(10, 1.0, "x")), ExemplarOutcome::Passed);
        assert_eq!(store.stats().series, 0);
    }

    #[test]
    fn only_what_is_new_is_taken() {
        use ExemplarOutcome::{LabelsTooLong, OutOfOrder, Passed, Taken};
        let store = ExemplarStore::new(10, 0);
        let a = series("a");
        for (one, expected) in [
            (exemplar(5, 1.0, "x"), Taken),
            (exemplar(5, 1.0, "x"), Passed),
            (exemplar(4, 1.0, "x"), OutOfOrder),
            (exemplar(5, 0.5, "x"), OutOfOrder),
            (exemplar(5, 2.0, "x"), Taken),
            (exemplar(6, 2.0, &"x".repeat(120)), Taken),
            (exemplar(7, 2.0, &"x".repeat(121)), LabelsTooLong),
            (exemplar(8, 2.0, &"ö".repeat(120)), Taken),
        ] {
            assert_eq!(store.add(&a, one.clone()), expected, "{one:?}");
        }
        // The same one at every scrape, which alone gives it a time.
        let shown = |timestamp_ms| Exemplar { has_timestamp: false, ..exemplar(timestamp_ms, 3.0, "y") };
        assert_eq!(store.add(&a, shown(10)), Taken);
        assert_eq!(store.add(&a, shown(20)), Passed);
        assert_eq!(times(&store, "a"), [5, 5, 6, 8, 10]);
    }

    #[test]
    fn late_ones_find_their_place_within_the_window() {
        let store = ExemplarStore::new(3, 10);
        let a = series("a");
        for (at, expected) in [
            (100, ExemplarOutcome::Taken),
            (95, ExemplarOutcome::Taken),
            (97, ExemplarOutcome::Taken),
            (95, ExemplarOutcome::Passed),
            (90, ExemplarOutcome::OutOfOrder),
        ] {
            assert_eq!(store.add(&a, exemplar(at, 1.0, "x")), expected, "{at}");
        }
        assert_eq!(times(&store, "a"), [95, 97, 100]);
        // Whoever came first goes, wherever it stands.
        assert_eq!(store.add(&a, exemplar(96, 1.0, "x")), ExemplarOutcome::Taken);
        assert_eq!(times(&store, "a"), [95, 96, 97]);
    }
}
