//! What some blocks hold together, written as new ones.
//!
//! ```text
//! sources, each in the order of a file -> a batch of series, read -> without what is deleted -> new blocks
//! ```
//!
//! Series pass through a batch at a time, so that memory does not depend on how large the blocks are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::{Columns, Labels, TimeRange};

use super::output::NewBlocks;
use super::{Store, View};
use crate::Error;
use crate::block::{Block, BlockError, BlockMeta, BlockSeries, FoundSamples, OrderKey};
use crate::head::Timelines;
use crate::snapshot::{JoinedTimelines, Timeline, columns_of};
use crate::tombstone::{Source, Tombstone, about, hidden};

/// Samples that are looked for together, and series.
const BATCH_SAMPLES: u64 = 1 << 20;
const BATCH_SERIES: usize = 4096;

/// Blocks that become one.
pub(super) struct Window {
    pub start_ms: i64,
    /// Of the result.
    pub level: u8,
    pub names: Vec<String>,
    pub haste: Haste,
}

/// Whether somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// With what processor time is left over, and only until a request wants to merge.
    Leisure,
    /// A request waits for it.
    Request,
}

/// A label set and where it stands: source and series in it, in the order of the sources.
type Placed = (Arc<OrderKey>, Vec<(usize, u32)>);

/// All series of some blocks, in the order of a file.
struct InOrder<'b> {
    blocks: &'b [&'b Block],
    next: BinaryHeap<Reverse<(Arc<OrderKey>, usize, u32)>>,
    /// The key that was made last: mostly the next series of all sources is the same one.
    last: Option<Arc<OrderKey>>,
}

impl<'b> InOrder<'b> {
    fn new(blocks: &'b [&'b Block]) -> InOrder<'b> {
        let mut all = InOrder { blocks, next: BinaryHeap::with_capacity(blocks.len()), last: None };
        (0..blocks.len()).for_each(|source| all.put(source, 0));
        all
    }

    fn put(&mut self, source: usize, id: u32) {
        let block = self.blocks[source];
        if (id as usize) < block.series_count() {
            let known = self.last.take().filter(|key| block.has_labels(id, key.labels()));
            let key = known.unwrap_or_else(|| Arc::new(OrderKey::of(&block.labels(id))));
            self.last = Some(key.clone());
            self.next.push(Reverse((key, source, id)));
        }
    }
}

impl Iterator for InOrder<'_> {
    type Item = Placed;

    fn next(&mut self) -> Option<Placed> {
        let Reverse((key, source, id)) = self.next.pop()?;
        self.put(source, id + 1);
        let mut places = vec![(source, id)];
        while let Some(Reverse((other, source, id))) = self.next.peek()
            && *other == key
        {
            let (source, id) = (*source, *id);
            places.push((source, id));
            self.next.pop();
            self.put(source, id + 1);
        }
        Some((key, places))
    }
}

impl Store {
    /// Writes what `sources`, the blocks of `window`, hold together in `view`, as far as `keep` wants the series. No result is live
    /// yet. `None` where a request came that has no leisure; nothing is left behind then.
    pub(super) fn write_merged(
        &self,
        view: &View,
        window: &Window,
        sources: &[&Block],
        keep: &(dyn Fn(&Labels) -> bool + Sync),
    ) -> Result<Option<Vec<BlockMeta>>, Error> {
        let mut output = NewBlocks::new(self, window.start_ms, window.level);
        let mut batch: Vec<Placed> = Vec::new();
        let mut batch_samples = 0;
        let mut all = InOrder::new(sources).filter(|(key, _)| keep(key.labels())).peekable();
        while let Some((key, places)) = all.next() {
            let samples_in = |(source, id): &(usize, u32)| sources[*source].sample_count(*id) as u64;
            batch_samples += places.iter().map(samples_in).sum::<u64>();
            batch.push((key, places));
            if batch.len() < BATCH_SERIES && batch_samples < BATCH_SAMPLES && all.peek().is_some() {
                continue;
            }
            self.copy_batch(sources, std::mem::take(&mut batch), &view.tombstones, &mut output)?;
            batch_samples = 0;
            if window.haste == Haste::Leisure && self.merging_wanted.load(Ordering::Relaxed) > 0 {
                return Ok(None);
            }
        }
        output.finish().map(Some)
    }

    /// Copies some series. All are found at once, and then read one by one: each source keeps a page or two decoded.
    fn copy_batch(
        &self,
        sources: &[&Block],
        batch: Vec<Placed>,
        tombstones: &[Tombstone],
        output: &mut NewBlocks<'_>,
    ) -> Result<(), Error> {
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); sources.len()];
        batch.iter().flat_map(|(_, places)| places).for_each(|&(source, id)| wanted[source].push(id));
        let unreadable = || Error::block(&self.options.dir);
        let mut found: Vec<Found<'_>> = Vec::with_capacity(sources.len());
        for (block, ids) in sources.iter().zip(wanted) {
            let samples = block.find(&ids, TimeRange::ALL).map_err(unreadable())?;
            found.push((samples, about(tombstones, Source::Block(&block.meta().name)), 0..ids.len()));
        }
        // Of this batch only: a part of a timeline is another list in the next.
        let mut joined = Joined::default();
        for (key, places) in batch {
            let mut places: Vec<(usize, usize)> = places
                .into_iter()
                .map(|(source, _)| match found[source].2.next() {
                    Some(at) => (source, at),
                    None => unreachable!("each place is asked for once"),
                })
                .collect();
            let is_plain = places.iter().all(|&(source, at)| {
                let (samples, tombstones, _) = &found[source];
                samples.is_plain(at) && hidden(tombstones, key.labels()).is_empty()
            });
            if is_plain && follow_each_other(&found, &mut places) {
                let series = joined_series(key.labels(), &mut found, &places, &mut joined).map_err(unreadable())?;
                output.push(key, series)?;
                continue;
            }
            let mut parts = Vec::with_capacity(places.len());
            for (source, at) in places {
                let (samples, tombstones, _) = &mut found[source];
                let samples = samples.samples(at).map_err(unreadable())?;
                parts.push(samples.without(&hidden(tombstones, key.labels())));
            }
            let columns = columns_of(parts);
            if !columns.is_empty() {
                let series = series_of(key.labels().clone(), columns);
                output.push(key, series)?;
            }
        }
        Ok(())
    }
}

/// What a source has of a batch, what is deleted in it, and the positions that come next.
type Found<'b> = (FoundSamples<'b>, Vec<&'b Tombstone>, Range<usize>);

/// Timelines of a batch.
#[derive(Default)]
struct Joined {
    known: JoinedTimelines,
    lists: Timelines,
}

/// Whether the parts of a series at `places`, sources and positions, are one after the other in time; in that order then.
fn follow_each_other(found: &[Found<'_>], places: &mut [(usize, usize)]) -> bool {
    let ends = |&(source, at): &(usize, usize)| {
        let timestamps = found[source].0.timestamps(at);
        timestamps.first().copied().zip(timestamps.last().copied())
    };
    if places.iter().any(|place| ends(place).is_none()) {
        return false;
    }
    // Where they overlap, the order of the sources says which samples count.
    let mut sorted = places.to_vec();
    sorted.sort_by_key(ends);
    let follows = |pair: &[(usize, usize)]| match (ends(&pair[0]), ends(&pair[1])) {
        (Some((_, last_ms)), Some((first_ms, _))) => last_ms < first_ms,
        _ => false,
    };
    let all_follow = sorted.windows(2).all(follows);
    if all_follow {
        places.copy_from_slice(&sorted);
    }
    all_follow
}

/// The parts of a plain series at `places`, which follow each other in time.
fn joined_series(
    labels: &Labels,
    found: &mut [Found<'_>],
    places: &[(usize, usize)],
    joined: &mut Joined,
) -> Result<BlockSeries, BlockError> {
    let of_part = |&(source, at): &(usize, usize)| found[source].0.timestamps(at).clone();
    let timelines: Vec<Timeline> =
        places.iter().map(|place| Timeline { timestamps: of_part(place), weights: None }).collect();
    let rows = timelines.iter().map(|timeline| timeline.timestamps.len()).sum();
    let mut values = Vec::with_capacity(rows);
    for &(source, at) in places {
        found[source].0.push_values(at, &mut values)?;
    }
    let timestamps = match timelines.as_slice() {
        [one] => one.timestamps.clone(),
        several => joined.known.join(several, &mut joined.lists).timestamps,
    };
    Ok(BlockSeries { labels: labels.clone(), timestamps, values, histograms: None, starts_ms: None })
}

fn series_of(labels: Labels, columns: Columns) -> BlockSeries {
    BlockSeries {
        labels,
        histograms: columns.histograms_in(0..columns.len()),
        timestamps: columns.timestamps.into(),
        values: columns.values,
        starts_ms: (!columns.starts_ms.is_empty()).then_some(columns.starts_ms),
    }
}
