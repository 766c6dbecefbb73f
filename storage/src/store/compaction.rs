//! Few large blocks instead of many small ones.
//!
//! The blocks of a window of time become one, or, where that would be too large, several with neighbouring series each.
//! Either way a series of the window stands in one block only.
//!
//! Only choosing the blocks and putting others in their place hold up flushes and deletions; reading and writing do not.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

use pilaster_model::Labels;

use super::maintenance::Maintenance;
use super::merge::{Haste, Window};
use super::{Store, View};
use crate::Error;
use crate::block::{AT_ONCE, Block, BlockMeta, DAY_LEVEL, LiveBlock};
use crate::tombstone::Tombstone;

/// Widths of the windows whose blocks become one, in block ranges: 2 h, 6 h and a day for Prometheus' block range.
/// Nothing is gained beyond a day of dense samples.
const WIDTHS: [i64; DAY_LEVEL as usize] = [1, 3, 12];
/// Late blocks of a window that are worth rewriting the large one beside them.
const MANY: usize = 4;

impl Store {
    /// Merges until nothing is left to merge, or a request wants to. The caller merges alone.
    ///
    /// # Errors
    /// The first thing that failed. A window with a damaged block is left alone until the store is opened again.
    pub(super) fn compact(&self) -> Result<(), Error> {
        let mut result = Ok(());
        let settled_ms = self.settled_before_ms();
        loop {
            let (window, view) = {
                let maintenance = self.maintenance.lock();
                let Some(window) = self.plan(&maintenance, settled_ms) else { return result };
                (window, self.current_view())
            };
            match self.merge(&view, &window, &|_| true) {
                Ok(None) => return result,
                Ok(Some(_)) => {
                    self.counters.compactions.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.counters.compactions_failed.fetch_add(1, Ordering::Relaxed);
                    let damaged = error.is_corruption();
                    result = result.and(Err(error));
                    if !damaged {
                        return result;
                    }
                    self.maintenance.lock().unmergeable.insert((window.start_ms, window.level));
                }
            }
        }
    }

    /// Before this time nothing comes any more but late samples: it was flushed, or it is long over by the clock, and the
    /// head has nothing of it. So blocks that were imported need not wait for samples that come after them.
    fn settled_before_ms(&self) -> i64 {
        let (flushed, block_ms) = (self.current_view().flushed, self.options.block_ms);
        let over_ms = self.env.clock.now_ms().saturating_sub(block_ms / 2);
        let over_ms = over_ms.div_euclid(block_ms).saturating_mul(block_ms);
        flushed.before_ms.max(over_ms.min(self.head.min_ms(flushed).unwrap_or(i64::MAX)))
    }

    /// The next blocks to merge, of windows that end at `settled_ms` or before.
    fn plan(&self, maintenance: &Maintenance, settled_ms: i64) -> Option<Window> {
        let width_ms = |width: i64| self.options.block_ms.saturating_mul(width);
        // A block that is longer than a tenth of the retention would keep much beyond it.
        let retention_ms = self.retention().ms.unwrap_or(i64::MAX);
        let fits = |width: &i64| *width == 1 || width_ms(*width) <= retention_ms / 10;
        let widths: Vec<(u8, i64)> = (1..).zip(WIDTHS.into_iter().take_while(fits).map(width_ms)).collect();
        // Where nothing was merged yet, the widest window comes first: samples are written once, not once for each width.
        let anew = widths.iter().rev().filter(|(level, _)| *level > 1);
        let anew = anew.map(|&(level, width_ms)| self.plan_of(maintenance, settled_ms, level, width_ms, all_at_once));
        let in_steps = widths.iter();
        let in_steps = in_steps.map(|&(level, width_ms)| {
            let worth = |blocks, level| worth_merging(blocks, level, self.options.block_samples);
            self.plan_of(maintenance, settled_ms, level, width_ms, worth)
        });
        anew.chain(in_steps).flatten().next()
    }

    /// The first of the windows of one width that has blocks which, by `choose`, should become one.
    fn plan_of<'m>(
        &self,
        maintenance: &'m Maintenance,
        settled_ms: i64,
        level: u8,
        width_ms: i64,
        choose: impl Fn(Vec<&'m BlockMeta>, u8) -> Option<Vec<&'m BlockMeta>>,
    ) -> Option<Window> {
        let free_bytes = self.env.files.free_bytes(&self.options.dir).unwrap_or(u64::MAX);
        let mut windows: BTreeMap<i64, Vec<&BlockMeta>> = BTreeMap::new();
        let set_aside = self.current_view().unreadable();
        let is_open = |block: &&BlockMeta| set_aside.iter().all(|aside| aside.name != block.name);
        for block in maintenance.manifest.blocks.iter().filter(is_open) {
            let number = block.min_ms.div_euclid(width_ms);
            if block.max_ms.div_euclid(width_ms) == number && block.level <= level {
                windows.entry(number).or_default().push(block);
            }
        }
        for (number, blocks) in windows {
            let start_ms = number.saturating_mul(width_ms);
            let complete = start_ms.saturating_add(width_ms) <= settled_ms;
            if !complete || maintenance.unmergeable.contains(&(start_ms, level)) {
                continue;
            }
            let Some(blocks) = choose(blocks, level) else { continue };
            let bytes: u64 = blocks.iter().map(|block| block.bytes()).sum();
            // The old and the new stand beside each other for a while.
            if bytes.saturating_add(bytes / 4) < free_bytes {
                let names = blocks.into_iter().map(|block| block.name.clone()).collect();
                return Some(Window { start_ms, level, names, haste: Haste::Leisure });
            }
        }
        None
    }

    /// Writes a block again without what is deleted, and without the series that `keep` does not want. The names of
    /// what takes its place; `None` where a request came meanwhile that has no leisure. The caller merges alone.
    pub(super) fn rewrite(
        &self,
        name: String,
        keep: &(dyn Fn(&Labels) -> bool + Sync),
        haste: Haste,
    ) -> Result<Option<Vec<String>>, Error> {
        let (window, view) = {
            let maintenance = &mut *self.maintenance.lock();
            let Some(block) = maintenance.manifest.blocks.iter().find(|block| block.name == name) else {
                // It is gone, and the tombstones about it go with the next change.
                let metas = maintenance.manifest.blocks.clone();
                return self.replace_blocks(maintenance, metas, Vec::new()).map(|()| Some(Vec::new()));
            };
            let (start_ms, level) = (block.min_ms.div_euclid(self.options.block_ms), block.level);
            let start_ms = start_ms.saturating_mul(self.options.block_ms);
            (Window { start_ms, level, names: vec![name], haste }, self.current_view())
        };
        self.merge(&view, &window, keep)
    }

    /// Puts new blocks in the place of those of `window`, as they are in `view`. Everybody else goes on meanwhile: what
    /// is deleted is hidden in the new blocks as well, and where one of the old ones is gone by the end, nothing is
    /// changed. The names of the new blocks.
    fn merge(
        &self,
        view: &View,
        window: &Window,
        keep: &(dyn Fn(&Labels) -> bool + Sync),
    ) -> Result<Option<Vec<String>>, Error> {
        // By this thread: who wants one of them meanwhile does not wait for those that get what time is left over.
        let sources: Vec<&LiveBlock> = sources_of(view, window).collect();
        let opened = LiveBlock::open_all(&sources).map_err(Error::block(&self.options.dir))?;
        let sources: Vec<&Block> = opened.iter().map(|block| &**block).collect();
        let workers = match window.haste {
            Haste::Leisure => &self.options.merge_workers,
            Haste::Request => &self.options.flush_workers,
        };
        let Some(mut metas) = workers.run(|| self.write_merged(view, window, &sources, keep))? else { return Ok(None) };
        let opened = match self.open_blocks(&metas) {
            Ok(opened) => opened,
            Err(error) => {
                metas.iter().for_each(|meta| self.remove_files(meta));
                return Err(error);
            }
        };
        let maintenance = &mut *self.maintenance.lock();
        let live: HashSet<&String> = maintenance.manifest.blocks.iter().map(|block| &block.name).collect();
        if !window.names.iter().all(|name| live.contains(name)) {
            metas.iter().for_each(|meta| self.remove_files(meta));
            return Ok(Some(Vec::new()));
        }
        let names: Vec<String> = metas.iter().map(|meta| meta.name.clone()).collect();
        let mut manifest = maintenance.manifest.clone();
        // The results stand where the oldest of their sources stood.
        manifest.blocks.clear();
        for block in &maintenance.manifest.blocks {
            if window.names.contains(&block.name) {
                manifest.blocks.append(&mut metas);
            } else {
                manifest.blocks.push(block.clone());
            }
        }
        for tombstone in &mut manifest.tombstones {
            let is_late = window.names.iter().any(|name| {
                let of_source = |known: &Tombstone| known.blocks.contains(name) && known.hides_as(tombstone);
                tombstone.blocks.contains(name) && !view.tombstones.iter().any(of_source)
            });
            if is_late {
                tombstone.blocks.extend(names.iter().cloned());
            }
        }
        self.replace_manifest(maintenance, manifest, opened).map(|()| Some(names))
    }
}

/// The blocks of `window`, oldest first.
fn sources_of<'v>(view: &'v View, window: &Window) -> impl Iterator<Item = &'v LiveBlock> {
    view.own().iter().map(|block| &**block).filter(|block| window.names.contains(&block.meta().name))
}

/// The width and level of the widest window that blocks of `span_ms` fill.
pub(super) fn window_for(block_ms: i64, span_ms: i64) -> (i64, u8) {
    let level = WIDTHS.iter().filter(|width| block_ms.saturating_mul(**width) <= span_ms).count().max(1);
    (block_ms.saturating_mul(WIDTHS[level - 1]), level as u8)
}

/// All blocks of a window, where none of them comes from one as wide and they are few enough to be open together.
fn all_at_once(window: Vec<&BlockMeta>, level: u8) -> Option<Vec<&BlockMeta>> {
    let is_new = window.iter().all(|block| block.level < level);
    (is_new && (2..=AT_ONCE).contains(&window.len())).then_some(window)
}

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
