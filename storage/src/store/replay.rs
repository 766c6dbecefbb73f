//! Putting the log back into the head, on all cores.
//!
//! ```text
//! some records of a segment -> names resolved -> samples sorted by lane (records side by side)
//! some samples of each series                 -> put into the head (lanes side by side)
//! ```
//!
//! A lane has shards of its own, so that lanes do not wait for each other, and keeps the order of records, so that each
//! series stays in order. Only so many records are decoded at a time as fit in some megabytes; see [`waiting`] for
//! how many samples wait.

mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use pilaster_model::{Histogram, Labels, TimeRange};
use rayon::prelude::*;

use super::ReplayProgress;
use super::head_snapshot::Base;
use super::maintenance::Mark;
use crate::SeriesRef;
use crate::exemplars::ExemplarStore;
use crate::head::{Flushed, Head, Identity, Limits};
use crate::manifest::Manifest;
use crate::metadata::MetadataTable;
use crate::tombstone::{Tombstone, about_log};
use crate::wal::{Record, WalExemplar, WalSample};
use waiting::{Piece, Waiting};

/// References are small numbers: one multiplication spreads them.
#[derive(Default)]
struct ReferenceHash(u64);

impl Hasher for ReferenceHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, reference: u64) {
        self.0 = (self.0 ^ reference).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type ByReference<T> = HashMap<u64, T, BuildHasherDefault<ReferenceHash>>;

/// The series that a segment has named.
#[derive(Default)]
struct Names {
    /// By the low half of the reference, which is a small number: `(reference, series)`, none where both are 0.
    near: Vec<(u64, u64)>,
    /// Those for which there is no place above.
    far: ByReference<u64>,
    /// Those that the head does not know yet.
    unmet: ByReference<(Identity, Labels)>,
    /// What was deleted of them: samples in the range whose records stand below the sequence.
    deleted: ByReference<Vec<(u64, TimeRange)>>,
    count: usize,
}

/// Samples below which one core is as fast as all.
const WORTH_THREADS: usize = 4096;

/// What a reference means in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Series(u64),
    /// It has a name, and no series yet.
    Unmet,
    /// Its name is lost: damage, which is reported.
    Unknown,
}

impl Names {
    fn clear(&mut self) {
        *self = Names { near: std::mem::take(&mut self.near), ..Names::default() };
        self.near.fill((0, 0));
    }

    fn set(&mut self, reference: u64, series: SeriesRef) {
        self.count += 1;
        let place = reference as u32 as usize;
        // A damaged reference must not ask for all memory.
        if place >= self.near.len() && place < 4 * self.count + (1 << 16) {
            self.near.resize((place + 1).next_power_of_two(), (0, 0));
        }
        match self.near.get_mut(place) {
            Some(free) if *free == (0, 0) => *free = (reference, series.0),
            Some(_) | None => {
                self.far.insert(reference, series.0);
            }
        }
    }

    fn meaning(&self, reference: u64) -> Meaning {
        match self.near.get(reference as u32 as usize) {
            Some(&(known, series)) if known == reference && series != 0 => Meaning::Series(series),
            Some(_) | None => match self.far.get(&reference) {
                Some(&series) => Meaning::Series(series),
                None if self.unmet.contains_key(&reference) => Meaning::Unmet,
                None => Meaning::Unknown,
            },
        }
    }

    fn is_deleted(&self, reference: u64, sequence: u64, timestamp_ms: i64) -> bool {
        let is_about = |(before, range): &(u64, TimeRange)| sequence < *before && range.contains(timestamp_ms);
        !self.deleted.is_empty() && self.deleted.get(&reference).is_some_and(|list| list.iter().any(is_about))
    }
}

/// The samples of a record.
enum Sorted {
    ByLane(Vec<Piece>),
    /// The record itself, and references of it that are series soon.
    Later(u64, Record, Vec<u64>),
}

/// Puts the log back into the head.
pub(super) struct Replay<'a> {
    head: &'a Head,
    beside: (&'a MetadataTable, &'a ExemplarStore),
    limits: Limits,
    /// What is in the head already.
    base: Option<&'a Base>,
    tombstones: Vec<&'a Tombstone>,
    flushed_sequence: u64,
    lanes: usize,
    waiting: Waiting,
    segment: Option<u64>,
    names: Names,
    /// Per segment: first sequence and newest timestamp.
    seen: BTreeMap<u64, (u64, i64)>,
    segments_left_out: u64,
    segments_total: u64,
    progress: &'a (dyn Fn(ReplayProgress) + Sync),
}

impl<'a> Replay<'a> {
    pub fn new(
        head: &'a Head,
        beside: (&'a MetadataTable, &'a ExemplarStore),
        manifest: &'a Manifest,
        base: Option<&'a Base>,
        segments_total: u64,
        progress: &'a (dyn Fn(ReplayProgress) + Sync),
    ) -> Replay<'a> {
        let segments_left_out = base.map_or(0, |base| base.segments_left_out);
        progress(ReplayProgress { segments_done: segments_left_out, segments_total });
        // It was accepted once, so nothing is too old.
        let flushed = Flushed { before_ms: manifest.closed_before_ms, epoch: 0 };
        let limits = Limits { closed_before_ms: manifest.closed_before_ms, late_from_ms: Some(i64::MIN), flushed };
        Replay {
            head,
            beside,
            limits,
            base,
            segments_left_out,
            tombstones: about_log(&manifest.tombstones),
            flushed_sequence: manifest.flushed_sequence,
            lanes: rayon::current_num_threads().next_power_of_two().min(16),
            waiting: Waiting::default(),
            segment: None,
            names: Names::default(),
            seen: BTreeMap::new(),
            segments_total,
            progress,
        }
    }

    /// Takes some records of a segment, with their sequences; ascending.
    pub fn apply(&mut self, segment: u64, records: Vec<(u64, Record)>) {
        if self.segment != Some(segment) {
            self.names.clear();
            self.segment = Some(segment);
            let segments_done = (self.segments_left_out + self.seen.len() as u64).min(self.segments_total);
            (self.progress)(ReplayProgress { segments_done, segments_total: self.segments_total });
            let first_sequence = records.first().map_or(0, |(sequence, _)| *sequence);
            self.seen.insert(segment, (first_sequence, i64::MIN));
        }
        let mut named: Vec<(u64, Labels)> = Vec::new();
        let mut exemplars: Vec<WalExemplar> = Vec::new();
        let mut rest = Vec::with_capacity(records.len());
        for (sequence, record) in records {
            match record {
                // A reference is named before it is used, and once: naming all at once changes nothing.
                Record::Series(series) => named.extend(series),
                Record::Samples(_) | Record::Histograms(_) => rest.push((sequence, record)),
                Record::Metadata(metadata) => self.beside.0.apply(metadata),
                Record::Exemplars(some) => exemplars.extend(some),
            }
        }
        self.name(named);
        for WalExemplar { series, exemplar } in exemplars {
            if let Some(labels) = self.labels(series) {
                self.beside.1.replay(&labels, exemplar);
            }
        }
        let count: usize = rest.iter().map(|(_, record)| sample_count(record)).sum();
        let newest_ms = rest.iter().map(|(_, record)| newest_ms(record)).max().unwrap_or(i64::MIN);
        if let Some((_, newest)) = self.seen.get_mut(&segment) {
            *newest = newest_ms.max(*newest);
        }
        let sort = |(sequence, record)| self.sort(sequence, record);
        let sorted: Vec<Sorted> = if count < WORTH_THREADS {
            rest.into_iter().map(sort).collect()
        } else {
            rest.into_par_iter().map(sort).collect()
        };
        for one in sorted {
            match one {
                Sorted::ByLane(pieces) => self.waiting.push(pieces),
                Sorted::Later(sequence, record, references) => {
                    for reference in references {
                        if let Some((identity, labels)) = self.names.unmet.remove(&reference) {
                            self.names.set(reference, self.head.create(identity, &labels));
                        }
                    }
                    if let Sorted::ByLane(pieces) = self.sort(sequence, record) {
                        self.waiting.push(pieces);
                    }
                }
            }
        }
        if self.waiting.len() >= most_waiting(self.head.series_count()) {
            self.waiting.put(self.head, self.limits);
        }
    }

    fn name(&mut self, named: Vec<(u64, Labels)>) {
        const TOGETHER: usize = 256;
        let known: Vec<(Identity, Option<SeriesRef>)> = if named.len() < TOGETHER {
            self.head.find_all(&named)
        } else {
            named.par_chunks(TOGETHER).flat_map_iter(|some| self.head.find_all(some)).collect()
        };
        for ((reference, labels), (identity, series)) in named.into_iter().zip(known) {
            let matching = self.tombstones.iter().filter(|tombstone| tombstone.matches(&labels));
            let deleted: Vec<_> = matching.map(|tombstone| (tombstone.log_before, tombstone.range())).collect();
            if !deleted.is_empty() {
                self.names.deleted.insert(reference, deleted);
            }
            match series {
                Some(series) => self.names.set(reference, series),
                // Not before a sample of it is taken: all of them may be in blocks.
                None if !labels.is_empty() => {
                    self.names.unmet.insert(reference, (identity, labels));
                }
                None => {}
            }
        }
    }

    fn labels(&self, reference: u64) -> Option<Labels> {
        match self.names.meaning(reference) {
            Meaning::Series(series) => self.head.labels(SeriesRef(series)),
            Meaning::Unmet => self.names.unmet.get(&reference).map(|(_, labels)| labels.clone()),
            Meaning::Unknown => None,
        }
    }

    /// What the head needs of a record, by lane.
    fn sort(&self, sequence: u64, record: Record) -> Sorted {
        let mut unmet = Vec::new();
        let mut lanes = self.waiting.pieces(self.lanes, sample_count(&record));
        let mask = lanes.len() - 1;
        let mut sort = |sample: &WalSample, meaning: Meaning, histogram: Option<&Histogram>| {
            let reference = sample.series;
            if (sequence < self.flushed_sequence && sample.timestamp_ms < self.limits.closed_before_ms)
                || self.base.is_some_and(|base| base.has(sequence, reference))
                || self.names.is_deleted(reference, sequence, sample.timestamp_ms)
            {
                return;
            }
            match meaning {
                Meaning::Series(series) => {
                    lanes[series as usize & mask].push(&WalSample { series, ..*sample }, histogram.cloned());
                }
                Meaning::Unmet => unmet.push(reference),
                Meaning::Unknown => {}
            }
        };
        match &record {
            Record::Series(_) | Record::Metadata(_) | Record::Exemplars(_) => {}
            Record::Samples(samples) => {
                // In a loop of its own, in which the processor waits for several of them at a time.
                let meanings: Vec<Meaning> = samples.iter().map(|sample| self.names.meaning(sample.series)).collect();
                samples.iter().zip(meanings).for_each(|(sample, meaning)| sort(sample, meaning, None));
            }
            Record::Histograms(samples) => {
                for (sample, histogram) in samples {
                    sort(sample, self.names.meaning(sample.series), Some(histogram));
                }
            }
        }
        if unmet.is_empty() {
            lanes.iter_mut().for_each(Piece::gather);
            Sorted::ByLane(lanes)
        } else {
            Sorted::Later(sequence, record, unmet)
        }
    }

    /// What each segment may be removed for.
    pub fn finish(mut self, last_sequence: u64) -> Vec<Mark> {
        self.waiting.put(self.head, self.limits);
        (self.progress)(ReplayProgress { segments_done: self.segments_total, segments_total: self.segments_total });
        let mut marks = Vec::new();
        let mut end = last_sequence + 1;
        for (first, newest_ms) in self.seen.into_values().rev() {
            marks.push(Mark { sequence: end, max_ms: newest_ms });
            end = end.min(first);
        }
        marks.reverse();
        // What is left out stands in the marks of who copied it.
        let mut newest_ms = i64::MIN;
        if let Some(base) = self.base {
            let last = base.marks.last().map_or(0, |mark| mark.sequence);
            marks.retain(|mark| mark.sequence > last);
            marks.splice(0..0, base.marks.iter().copied());
        }
        for mark in &mut marks {
            newest_ms = newest_ms.max(mark.max_ms);
            mark.max_ms = newest_ms;
        }
        marks
    }
}

/// Samples that wait until they are put into a head of so many series: some of each series, and at most about a hundred
/// megabytes.
fn most_waiting(series_count: u64) -> usize {
    (4 * series_count as usize).clamp(1 << 16, 1 << 22)
}

fn sample_count(record: &Record) -> usize {
    match record {
        Record::Series(_) | Record::Metadata(_) | Record::Exemplars(_) => 0,
        Record::Samples(samples) => samples.len(),
        Record::Histograms(samples) => samples.len(),
    }
}

fn newest_ms(record: &Record) -> i64 {
    let newest = match record {
        Record::Series(_) | Record::Metadata(_) | Record::Exemplars(_) => None,
        Record::Samples(samples) => samples.iter().map(|sample| sample.timestamp_ms).max(),
        Record::Histograms(samples) => samples.iter().map(|(sample, _)| sample.timestamp_ms).max(),
    };
    newest.unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_mean_what_they_were_named_for() {
        let mut names = Names::default();
        let far = 7 << 32 | 0xffff_fff0;
        for (reference, series) in [(1 << 32 | 5, 50), (2 << 32 | 5, 51), (far, 52)] {
            names.set(reference, SeriesRef(series));
        }
        let labels = Labels::from_pairs([("a", "b")]);
        let (identity, _) = Head::new(1).find_all(&[(9, labels.clone())])[0];
        names.unmet.insert(9, (identity, labels));
        let meanings = [1 << 32 | 5, 2 << 32 | 5, far, 9, 5, 0].map(|reference| names.meaning(reference));
        use Meaning::{Series, Unknown, Unmet};
        assert_eq!(meanings, [Series(50), Series(51), Series(52), Unmet, Unknown, Unknown]);
        assert!(names.near.len() < 1 << 17, "a far reference takes no room for those before it");
        names.clear();
        assert_eq!(names.meaning(1 << 32 | 5), Unknown);
    }
}
