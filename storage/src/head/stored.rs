//! The head as a head snapshot keeps it: series by series, each part of a shard as it was at one moment.
//!
//! ```text
//! series   its labels (`index/stored.rs`), its samples (`series/stored.rs`)
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::index::{Identity, Index, PairNumbers, PairTable, RestoredEntry};
use super::series::{HeadSeries, Restored};
use super::{Flushed, Head, PAGE, SeriesRef, Slot};
use crate::block::varint::Cursor;
use crate::tombstone::{Tombstone, hidden};

/// Slots that are copied under one lock, and bytes after which no further series is: writers wait so long.
const SLOTS_TOGETHER: u32 = 2048;
const BYTES_TOGETHER: usize = 512 << 10;
/// What a series costs that is packed anew, in bytes that are only copied.
const PACKING_COSTS: usize = 16;

/// Some series of a shard.
#[derive(Debug, Default)]
pub struct Copied {
    /// Label pairs that no series before had.
    pub pairs: Vec<u8>,
    pub pair_count: u32,
    pub series: Vec<u8>,
    pub series_count: u32,
    /// Slots of the shard below it were looked at.
    pub end: u32,
}

/// Copies what a head holds, a part at a time.
#[derive(Debug)]
pub struct Copier<'a> {
    head: &'a Head,
    flushed: Flushed,
    /// Those that hide something in the head: what they hide is left out.
    tombstones: Vec<&'a Tombstone>,
    numbers: PairNumbers,
}

impl Head {
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }
}

impl<'a> Copier<'a> {
    pub fn new(head: &'a Head, flushed: Flushed, tombstones: Vec<&'a Tombstone>) -> Copier<'a> {
        Copier { head, flushed, tombstones, numbers: PairNumbers::default() }
    }

    /// Copies some series of `shard`, from slot `from` of it on, in place of what is in `out`; what `note` says is of the
    /// same moment. `None` where there is no such slot.
    pub fn copy<T>(&mut self, shard: usize, from: u32, out: &mut Copied, note: impl FnOnce() -> T) -> Option<T> {
        let Copied { pairs, series: bytes, .. } = out;
        pairs.clear();
        bytes.clear();
        let pairs_before = self.numbers.pair_count;
        let shards = self.head.shards.len() as u32;
        let guard = self.head.shards[shard].read();
        if from >= guard.used {
            return None;
        }
        let noted = note();
        let index = self.head.index.read();
        let mut before = Vec::new();
        let (mut count, mut end, mut cost) = (0, from, 0);
        while end < guard.used && end - from < SLOTS_TOGETHER && cost + bytes.len() < BYTES_TOGETHER {
            let (local, slot) = (end as usize, end * shards + shard as u32);
            end += 1;
            let Some(series) = guard.pages[local / PAGE][local % PAGE].series.as_ref() else { continue };
            if !series.has_unflushed(self.flushed) {
                continue;
            }
            let left = self.without_hidden(&index, slot, series);
            if let Some(left) = &left {
                cost += left.heap_bytes() * PACKING_COSTS;
                if !left.has_unflushed(self.flushed) {
                    continue;
                }
            }
            index.store_labels(slot, &mut self.numbers, &mut before, (pairs, bytes));
            left.as_ref().unwrap_or(series).store(self.flushed, bytes);
            count += 1;
        }
        (out.series_count, out.end) = (count, end);
        out.pair_count = self.numbers.pair_count - pairs_before;
        Some(noted)
    }

    /// What is left of a series of which something is deleted.
    fn without_hidden(&self, index: &Index, slot: u32, series: &HeadSeries) -> Option<HeadSeries> {
        if self.tombstones.is_empty() {
            return None;
        }
        let hidden = hidden(&self.tombstones, &index.labels(index.reference(slot)?)?);
        (!hidden.is_empty()).then(|| series.without(&hidden, self.flushed))
    }

    /// The names of all labels, in the order of the numbers that pairs have for them.
    pub fn names(&self) -> &[Arc<str>] {
        &self.numbers.name_list
    }
}

/// Series of a frame, by shard.
pub type Decoded = Vec<Vec<(Identity, Box<[u32]>, Restored)>>;

/// A head that is being made of what was copied.
#[derive(Debug)]
pub struct Restoring {
    head: Head,
    table: PairTable,
    /// By shard.
    entries: Vec<Vec<RestoredEntry>>,
    /// What is in blocks by now and was not when the series were copied.
    flushed_since: Option<Flushed>,
}

impl Restoring {
    /// `None` where `names` are not as they were stored.
    pub fn new(shards: usize, names: Vec<Arc<str>>, flushed_since: Option<Flushed>) -> Option<Restoring> {
        let head = Head::new(shards);
        let entries = head.shards.iter().map(|_| Vec::new()).collect();
        Some(Restoring { head, table: PairTable::new(names)?, entries, flushed_since })
    }

    /// The label pairs of a frame; for [`Restoring::add_pairs`], frame by frame.
    pub fn decode_pairs(&self, bytes: &[u8], count: usize) -> Option<Vec<(u32, Arc<str>)>> {
        self.table.decode(bytes, count)
    }

    pub fn add_pairs(&mut self, pairs: Vec<(u32, Arc<str>)>) {
        self.table.extend(pairs);
    }

    /// The series of a frame, when all pairs are there; for [`Restoring::add_series`], frame by frame.
    pub fn decode_series(&self, bytes: &[u8], count: usize) -> Option<Decoded> {
        let mut decoded: Decoded = self.entries.iter().map(|_| Vec::new()).collect();
        let mut cursor = Cursor::new(bytes);
        let mut pairs = Vec::new();
        // What is copied after the flush is what it left; samples of before must not look like that.
        let epoch = if self.flushed_since.is_some() { 0 } else { self.head.epochs.current() };
        for _ in 0..count {
            self.table.labels(&mut cursor, &mut pairs)?;
            let mut restored = HeadSeries::restore(&mut cursor, epoch)?;
            if let Some(flushed) = self.flushed_since {
                let (in_order, late) = restored.series.drop_flushed(flushed);
                restored.in_order -= in_order;
                restored.late -= late;
                if !restored.series.has_unflushed(flushed) {
                    continue;
                }
            }
            let identity = self.table.identity(&pairs, &self.head.key);
            let shard = (identity.hash % decoded.len() as u64) as usize;
            decoded[shard].push((identity, pairs.as_slice().into(), restored));
        }
        cursor.is_empty().then_some(decoded)
    }

    /// Adds the series of some frames.
    pub fn add_series(&mut self, frames: Vec<Decoded>) {
        let mut by_shard: Vec<Vec<_>> = self.entries.iter().map(|_| Vec::new()).collect();
        for (shard, series) in frames.into_iter().flat_map(|frame| frame.into_iter().enumerate()) {
            by_shard[shard].push(series);
        }
        let shards = self.head.shards.len() as u32;
        let shard_of = self.head.shards.par_iter_mut().zip(&mut self.entries).zip(by_shard).enumerate();
        let (samples, late, max_ms) = shard_of
            .map(|(number, ((shard, entries), series))| {
                let shard = shard.get_mut();
                let (mut samples, mut late_samples, mut max_ms) = (0, 0, i64::MIN);
                for (identity, pairs, Restored { series, in_order, late }) in series.into_iter().flatten() {
                    let local = shard.grow();
                    samples += in_order + late;
                    late_samples += late;
                    max_ms = max_ms.max(series.max_ms().unwrap_or(i64::MIN));
                    if let Some(slot) = shard.slot_mut(local as usize) {
                        *slot = Slot { generation: 1, series: Some(series) };
                    }
                    let series = SeriesRef::new(local * shards + number as u32, 1);
                    entries.push(RestoredEntry { series, identity, pairs });
                }
                (samples, late_samples, max_ms)
            })
            .reduce(|| (0, 0, i64::MIN), |a, b| (a.0 + b.0, a.1 + b.1, a.2.max(b.2)));
        self.head.sample_count.fetch_add(samples as i64, Ordering::Relaxed);
        self.head.late_count.fetch_add(late as i64, Ordering::Relaxed);
        self.head.max_ms.fetch_max(max_ms, Ordering::Relaxed);
    }

    /// The head. `None` where a series was there twice.
    pub fn finish(self) -> Option<Head> {
        let count = self.entries.iter().map(|entries| entries.len() as u64).sum();
        let index = Index::restore(self.table, self.entries)?;
        self.head.series_created.store(count, Ordering::Relaxed);
        Some(Head { index: index.into(), ..self.head })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_head_that_panics(
            pairs in prop::collection::vec(any::<u8>(), 0..60), series in prop::collection::vec(any::<u8>(), 0..200),
            counts in (0..4usize, 0..4usize), huge in any::<bool>()
        ) {
            let restoring = Restoring::new(4, vec!["a".into(), "b".into()], None);
            let mut restoring = restoring.expect("two names");
            let many = |count: usize| if huge { u32::MAX as usize } else { count };
            let _ = restoring.decode_pairs(&pairs, many(counts.0));
            restoring.add_pairs(vec![(0, "x".into()), (1, "y".into()), (1, "z".into())]);
            if let Some(series) = restoring.decode_series(&series, many(counts.1)) {
                restoring.add_series(vec![series]);
            }
            let _ = restoring.finish();
        }
    }
}
