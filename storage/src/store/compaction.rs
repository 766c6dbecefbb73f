//! Few large blocks instead of many small ones.
//!
//! The blocks of a window of time become one, or, where that would be too large, several with neighbouring series each.
//! Either way a series of the window stands in one block only.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use pilaster_model::{Labels, TimeRange};

use super::Store;
use super::flush::block_series;
use super::maintenance::Maintenance;
use crate::Error;
use crate::block::{Block, BlockMeta, LiveBlock};
use crate::head::Timelines;
use crate::snapshot::{SeriesSamples, columns_of, samples_of};
use crate::tombstone::{Source, Tombstone, about, hidden};

/// Widths of the windows whose blocks become one, in block ranges: 2 h, 6 h and a day for Prometheus' block range.
/// Nothing is gained beyond a day of dense samples.
const WIDTHS: [i64; 3] = [1, 3, 12];
/// Late blocks of a window that are worth rewriting the large one beside them.
const MANY: usize = 4;
/// Samples that are read together, and series.
const BATCH_SAMPLES: u64 = 2 << 20;
const BATCH_SERIES: usize = 4096;

impl Store {
    /// Merges until nothing is left to merge.
    ///
    /// # Errors
    /// The first thing that failed. A window with a damaged block is left alone until the store is opened again.
    pub(super) fn compact(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        let mut result = Ok(());
        while let Some(window) = self.plan(maintenance) {
            match self.merge(maintenance, &window, &|_| true) {
                Ok(_) => {
                    self.counters.compactions.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.counters.compactions_failed.fetch_add(1, Ordering::Relaxed);
                    let damaged = error.is_corruption();
                    result = result.and(Err(error));
                    if !damaged {
                        break;
                    }
                    maintenance.unmergeable.insert((window.start_ms, window.level));
                }
            }
        }
        result
    }

    /// The next blocks to merge.
    fn plan(&self, maintenance: &Maintenance) -> Option<Window> {
        let closed_before_ms = self.current_view().flushed.before_ms;
        let free_bytes = self.env.files.free_bytes(&self.options.dir).unwrap_or(u64::MAX);
        for (index, width) in WIDTHS.into_iter().enumerate() {
            let width_ms = self.options.block_ms.saturating_mul(width);
            // A block that is longer than a tenth of the retention would keep much beyond it.
            if width > 1 && self.retention().ms.is_some_and(|retention_ms| retention_ms / 10 < width_ms) {
                break;
            }
            let level = index as u8 + 1;
            let mut windows: BTreeMap<i64, Vec<&BlockMeta>> = BTreeMap::new();
            let set_aside = &self.current_view().set_aside;
            let is_open = |block: &&BlockMeta| set_aside.iter().all(|aside| aside.name != block.name);
            for block in maintenance.manifest.blocks.iter().filter(is_open) {
                let number = block.min_ms.div_euclid(width_ms);
                if block.max_ms.div_euclid(width_ms) == number && block.level <= level {
                    windows.entry(number).or_default().push(block);
                }
            }
            for (number, blocks) in windows {
                let start_ms = number.saturating_mul(width_ms);
                let complete = start_ms.saturating_add(width_ms) <= closed_before_ms;
                if !complete || maintenance.unmergeable.contains(&(start_ms, level)) {
                    continue;
                }
                let Some(blocks) = worth_merging(blocks, level, self.options.block_samples) else { continue };
                let bytes: u64 = blocks.iter().map(|block| block.bytes()).sum();
                // The old and the new stand beside each other for a while.
                if bytes.saturating_add(bytes / 4) < free_bytes {
                    let names = blocks.into_iter().map(|block| block.name.clone()).collect();
                    return Some(Window { start_ms, level, names });
                }
            }
        }
        None
    }

    /// All samples of some series, one part a source.
    fn read_batch(
        &self,
        sources: &[&Block],
        batch: Vec<Placed>,
        tombstones: &[Tombstone],
    ) -> Result<Vec<(Labels, Vec<SeriesSamples>)>, Error> {
        let mut wanted: Vec<Vec<(u32, usize)>> = vec![Vec::new(); sources.len()];
        for (at, (_, places)) in batch.iter().enumerate() {
            places.iter().for_each(|&(source, id)| wanted[source].push((id, at)));
        }
        let mut read: Vec<_> = batch.into_iter().map(|(labels, _)| (labels, Vec::new())).collect();
        for (block, wanted) in sources.iter().zip(wanted) {
            let ids: Vec<u32> = wanted.iter().map(|(id, _)| *id).collect();
            let samples = block.read_many(&ids, TimeRange::ALL).map_err(Error::block(&self.options.dir))?;
            let tombstones = about(tombstones, Source::Block(&block.meta().name));
            for (samples, (_, at)) in samples.into_iter().zip(wanted) {
                let (labels, parts) = &mut read[at];
                parts.push(samples_of(samples).without(&hidden(&tombstones, labels)));
            }
        }
        Ok(read)
    }

    /// Writes a block again without what is deleted, and without the series that `keep` does not want. The names of
    /// what takes its place.
    pub(super) fn rewrite(
        &self,
        maintenance: &mut Maintenance,
        name: String,
        keep: &dyn Fn(&Labels) -> bool,
    ) -> Result<Vec<String>, Error> {
        let Some(block) = maintenance.manifest.blocks.iter().find(|block| block.name == name) else {
            // It is gone, and the tombstones about it go with the next change.
            let metas = maintenance.manifest.blocks.clone();
            return self.replace_blocks(maintenance, metas, Vec::new()).map(|()| Vec::new());
        };
        let (start_ms, level) = (block.min_ms.div_euclid(self.options.block_ms), block.level);
        let start_ms = start_ms.saturating_mul(self.options.block_ms);
        self.merge(maintenance, &Window { start_ms, level, names: vec![name] }, keep)
    }

    /// The names of the results.
    fn merge(
        &self,
        maintenance: &mut Maintenance,
        window: &Window,
        keep: &dyn Fn(&Labels) -> bool,
    ) -> Result<Vec<String>, Error> {
        let mut metas = Vec::new();
        let written = self.write_merged(window, keep, &mut metas).and_then(|()| self.open_blocks(&metas));
        let opened = match written {
            Ok(opened) => opened,
            Err(error) => {
                metas.iter().for_each(|meta| self.remove_files(meta));
                return Err(error);
            }
        };
        let names = metas.iter().map(|meta| meta.name.clone()).collect();
        // The results stand where the oldest of their sources stood.
        let mut all = Vec::with_capacity(maintenance.manifest.blocks.len());
        for block in &maintenance.manifest.blocks {
            if window.names.contains(&block.name) {
                all.append(&mut metas);
            } else {
                all.push(block.clone());
            }
        }
        self.replace_blocks(maintenance, all, opened).map(|()| names)
    }

    /// Writes what the blocks of `window` hold together.
    fn write_merged(
        &self,
        window: &Window,
        keep: &dyn Fn(&Labels) -> bool,
        metas: &mut Vec<BlockMeta>,
    ) -> Result<(), Error> {
        let view = self.current_view();
        let is_source = |block: &&LiveBlock| window.names.contains(&block.meta().name);
        let sources: Vec<&LiveBlock> = view.own().iter().map(|block| &**block).filter(is_source).collect();
        LiveBlock::open_all(&sources).map_err(Error::block(&self.options.dir))?;
        let sources: Vec<&Block> = sources
            .into_iter()
            .map(|block| block.open())
            .collect::<Result<_, _>>()
            .map_err(Error::block(&self.options.dir))?;
        let mut by_labels: BTreeMap<Labels, Vec<(usize, u32)>> = BTreeMap::new();
        for (source, block) in sources.iter().enumerate() {
            for id in block.select(&[]) {
                let labels = block.labels(id);
                if keep(&labels) {
                    by_labels.entry(labels).or_default().push((source, id));
                }
            }
        }
        let samples_in = |(source, id): &(usize, u32)| sources[*source].sample_count(*id) as u64;
        let mut timelines = Timelines::default();
        let mut series = Vec::new();
        let mut samples = 0;
        let mut batch: Vec<Placed> = Vec::new();
        let mut batch_samples = 0;
        let mut rest = by_labels.into_iter().peekable();
        while let Some((labels, places)) = rest.next() {
            batch_samples += places.iter().map(samples_in).sum::<u64>();
            batch.push((labels, places));
            let last = rest.peek().is_none();
            if batch.len() < BATCH_SERIES && batch_samples < BATCH_SAMPLES.min(self.options.block_samples) && !last {
                continue;
            }
            for (labels, parts) in self.read_batch(&sources, std::mem::take(&mut batch), &view.tombstones)? {
                let merged = columns_of(parts);
                if !merged.is_empty() {
                    samples += merged.len() as u64;
                    series.push(block_series(labels, &merged, 0..merged.len(), &mut timelines));
                }
            }
            batch_samples = 0;
            if samples >= self.options.block_samples || (last && samples > 0) {
                metas.push(self.write_one(window.start_ms, window.level, std::mem::take(&mut series))?);
                timelines = Timelines::default();
                samples = 0;
            }
        }
        Ok(())
    }
}

/// The width and level of the widest window that blocks of `span_ms` fill.
pub(super) fn window_for(block_ms: i64, span_ms: i64) -> (i64, u8) {
    let level = WIDTHS.iter().filter(|width| block_ms.saturating_mul(**width) <= span_ms).count().max(1);
    (block_ms.saturating_mul(WIDTHS[level - 1]), level as u8)
}

/// Blocks that become one.
struct Window {
    start_ms: i64,
    /// Of the result.
    level: u8,
    names: Vec<String>,
}

/// A label set and where it stands: source and series in it, in the order of the sources.
type Placed = (Labels, Vec<(usize, u32)>);

/// Those blocks of a window that should become one, if any. `block_samples` is what fits into a block.
fn worth_merging(mut window: Vec<&BlockMeta>, level: u8, block_samples: u64) -> Option<Vec<&BlockMeta>> {
    if level == 1 {
        // All of one range: late blocks, and parts of a large one, which would only become parts again.
        window.sort_by_key(|block| block.sample_count);
        let mut total = 0u64;
        window.retain(|block| {
            total = total.saturating_add(block.sample_count);
            total <= block_samples
        });
    }
    let is_fresh = |block: &&&BlockMeta| block.level < level;
    let fresh = window.iter().filter(is_fresh).count();
    let samples = |blocks: &mut dyn Iterator<Item = &&BlockMeta>| blocks.map(|block| block.sample_count).sum::<u64>();
    let total = samples(&mut window.iter());
    let fresh_total = samples(&mut window.iter().filter(is_fresh));
    // What was merged before is written again for much that is new, or while it is small.
    let much = fresh_total.saturating_mul(4) >= total || (fresh >= MANY && total <= block_samples);
    (window.len() >= 2 && fresh >= 1 && much).then_some(window)
}
