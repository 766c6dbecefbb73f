//! Few large blocks instead of many small ones, and one instead of overlapping ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::{Labels, TimeRange};

use super::Store;
use super::flush::{MAX_BLOCK_SAMPLES, block_series};
use super::maintenance::Maintenance;
use crate::Error;
use crate::block::{Block, BlockMeta};
use crate::head::Timelines;
use crate::snapshot::{SeriesSamples, columns_of, samples_of};

/// Widths of the windows whose blocks become one, in block ranges: 2 h, 6 h and a day for Prometheus' block range.
/// Nothing is gained beyond a day of dense samples.
const WIDTHS: [i64; 3] = [1, 3, 12];
/// Late blocks of a window that are worth rewriting the large one beside them.
const MANY: usize = 4;
/// Series that are read together.
const BATCH: usize = 4096;

impl Store {
    /// Merges until nothing is left to merge.
    pub(super) fn compact(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        while let Some((start_ms, level, names)) = self.plan(&maintenance.manifest.blocks) {
            let merged = self.merge(maintenance, start_ms, level, &names);
            let counter = if merged.is_ok() { &self.counters.compactions } else { &self.counters.compactions_failed };
            counter.fetch_add(1, Ordering::Relaxed);
            merged?;
        }
        Ok(())
    }

    /// The next blocks to merge: start of their window, level of the result, names.
    fn plan(&self, blocks: &[BlockMeta]) -> Option<(i64, u8, Vec<String>)> {
        let closed_before_ms = self.current_view().flushed.before_ms;
        for (index, width) in WIDTHS.into_iter().enumerate() {
            let width_ms = self.options.block_ms.saturating_mul(width);
            // A block that is longer than a tenth of the retention would keep much beyond it.
            if width > 1 && self.options.retention_ms.is_some_and(|retention_ms| retention_ms / 10 < width_ms) {
                break;
            }
            let level = index as u8 + 1;
            let mut windows: BTreeMap<i64, Vec<&BlockMeta>> = BTreeMap::new();
            for block in blocks {
                let number = block.min_ms.div_euclid(width_ms);
                if block.max_ms.div_euclid(width_ms) == number && block.level <= level {
                    windows.entry(number).or_default().push(block);
                }
            }
            for (number, window) in windows {
                let start_ms = number.saturating_mul(width_ms);
                if start_ms.saturating_add(width_ms) <= closed_before_ms
                    && let Some(names) = worth_merging(window, level)
                {
                    return Some((start_ms, level, names));
                }
            }
        }
        None
    }

    /// All samples of some series, one part a source.
    fn read_batch(
        &self,
        sources: &[Arc<Block>],
        batch: Vec<Placed>,
    ) -> Result<Vec<(Labels, Vec<SeriesSamples>)>, Error> {
        let mut wanted: Vec<Vec<(u32, usize)>> = vec![Vec::new(); sources.len()];
        for (at, (_, places)) in batch.iter().enumerate() {
            places.iter().for_each(|&(source, id)| wanted[source].push((id, at)));
        }
        let mut read: Vec<_> = batch.into_iter().map(|(labels, _)| (labels, Vec::new())).collect();
        for (block, wanted) in sources.iter().zip(wanted) {
            let ids: Vec<u32> = wanted.iter().map(|(id, _)| *id).collect();
            let samples = block.read_many(&ids, TimeRange::ALL).map_err(Error::block(&self.options.dir))?;
            for (samples, (_, at)) in samples.into_iter().zip(wanted) {
                read[at].1.push(samples_of(samples));
            }
        }
        Ok(read)
    }

    fn merge(&self, maintenance: &mut Maintenance, start_ms: i64, level: u8, names: &[String]) -> Result<(), Error> {
        let blocks = &self.current_view().blocks;
        let sources: Vec<Arc<Block>> = blocks.iter().filter(|b| names.contains(&b.meta().name)).cloned().collect();
        let mut by_labels: BTreeMap<Labels, Vec<(usize, u32)>> = BTreeMap::new();
        for (source, block) in sources.iter().enumerate() {
            for id in block.select(&[]) {
                by_labels.entry(block.labels(id)).or_default().push((source, id));
            }
        }
        let mut timelines = Timelines::default();
        let mut series = Vec::with_capacity(by_labels.len());
        let mut rest = by_labels.into_iter().peekable();
        while rest.peek().is_some() {
            let batch: Vec<_> = rest.by_ref().take(BATCH).collect();
            for (labels, parts) in self.read_batch(&sources, batch)? {
                let merged = columns_of(parts);
                series.push(block_series(labels, &merged, 0..merged.len(), &mut timelines));
            }
        }
        let meta = self.write_one(start_ms, level, series)?;
        let opened = match self.open_blocks(std::slice::from_ref(&meta)) {
            Ok(opened) => opened,
            Err(error) => {
                self.remove_files(&meta);
                return Err(error);
            }
        };
        // The result stands where the oldest of its sources stood.
        let mut metas = Vec::with_capacity(maintenance.manifest.blocks.len());
        let mut merged = Some(meta);
        for block in &maintenance.manifest.blocks {
            if names.contains(&block.name) {
                metas.extend(merged.take());
            } else {
                metas.push(block.clone());
            }
        }
        drop(sources);
        self.replace_blocks(maintenance, metas, opened)
    }
}

/// A label set and where it stands: source and series in it, in the order of the sources.
type Placed = (Labels, Vec<(usize, u32)>);

/// The blocks of a window to merge, if any.
fn worth_merging(mut window: Vec<&BlockMeta>, level: u8) -> Option<Vec<String>> {
    let is_old = |block: &&BlockMeta| block.level == level;
    // Small ones first, so that a large block does not keep them from each other.
    window.sort_by_key(|block| block.sample_count);
    let mut total = 0;
    window.retain(|block| {
        total += block.sample_count;
        total <= MAX_BLOCK_SAMPLES
    });
    if window.len() < 2 {
        return None;
    }
    let total: u64 = window.iter().map(|block| block.sample_count).sum();
    let fresh = window.iter().filter(|block| !is_old(block)).count();
    let fresh_samples: u64 = window.iter().filter(|block| !is_old(block)).map(|block| block.sample_count).sum();
    let first_time = fresh == window.len();
    // A large block is written again for much that is new, or for many small ones.
    let worth = first_time || fresh >= MANY || fresh_samples.saturating_mul(4) >= total || fresh == 0;
    worth.then(|| window.into_iter().map(|block| block.name.clone()).collect())
}
