//! What some blocks hold together, written as new ones.
//!
//! ```text
//! sources, each in the order of a file -> a batch of series, read -> without what is deleted -> new blocks
//! ```
//!
//! Series pass through a batch at a time, so that memory does not depend on how large the blocks are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

use pilaster_model::{Columns, Labels, TimeRange};

use super::output::NewBlocks;
use super::{Store, View};
use crate::Error;
use crate::block::{Block, BlockMeta, BlockSeries, OrderKey};
use crate::snapshot::columns_of;
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
type Placed = (OrderKey, Vec<(usize, u32)>);

/// All series of some blocks, in the order of a file.
struct InOrder<'b> {
    blocks: &'b [&'b Block],
    next: BinaryHeap<Reverse<(OrderKey, usize, u32)>>,
}

impl<'b> InOrder<'b> {
    fn new(blocks: &'b [&'b Block]) -> InOrder<'b> {
        let mut all = InOrder { blocks, next: BinaryHeap::with_capacity(blocks.len()) };
        (0..blocks.len()).for_each(|source| all.put(source, 0));
        all
    }

    fn put(&mut self, source: usize, id: u32) {
        let block = self.blocks[source];
        if (id as usize) < block.series_count() {
            self.next.push(Reverse((OrderKey::of(&block.labels(id)), source, id)));
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
        let mut found = Vec::with_capacity(sources.len());
        for (block, ids) in sources.iter().zip(wanted) {
            let samples = block.find(&ids, TimeRange::ALL).map_err(unreadable())?;
            found.push((samples, about(tombstones, Source::Block(&block.meta().name)), 0..ids.len()));
        }
        for (key, places) in batch {
            let mut parts = Vec::with_capacity(places.len());
            for (source, _) in places {
                let (samples, tombstones, next) = &mut found[source];
                let Some(at) = next.next() else { unreachable!("each place is asked for once") };
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

fn series_of(labels: Labels, columns: Columns) -> BlockSeries {
    BlockSeries {
        labels,
        histograms: columns.histograms_in(0..columns.len()),
        timestamps: columns.timestamps.into(),
        values: columns.values,
        starts_ms: (!columns.starts_ms.is_empty()).then_some(columns.starts_ms),
    }
}
