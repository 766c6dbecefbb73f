//! From the head to blocks.
//!
//! ```text
//! at rest: close the range, end the epoch, note the log's sequence
//!   -> write blocks -> manifest -> new view -> cut the log -> free memory
//! ```
//!
//! Only the manifest decides. Before it the new files are strangers; after it replay skips what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::{Columns, METRIC_NAME, TimeRange};
use rayon::prelude::*;

use super::maintenance::{Maintenance, Mark};
use super::output::NewBlocks;
use super::{Store, View};
use crate::block::{BlockMeta, LiveBlock, OrderKey};
use crate::head::{Flushed, HeadView};
use crate::manifest::Manifest;
use crate::tombstone::{Source, about, hidden};
use crate::{Error, SeriesRef};

/// Block ranges that are written at once. Where the head has samples of more, it is read again for the others.
const OPEN_RANGES: usize = 8;

impl Store {
    /// Moves the samples before `cut_ms`, or all, to blocks.
    pub(super) fn flush_before(&self, maintenance: &mut Maintenance, cut_ms: Option<i64>) -> Result<(), Error> {
        let flushed = self.try_flush_before(maintenance, cut_ms);
        let counter = if flushed.is_ok() { &self.counters.flushes } else { &self.counters.flushes_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        flushed
    }

    fn try_flush_before(&self, maintenance: &mut Maintenance, cut_ms: Option<i64>) -> Result<(), Error> {
        let (epoch, rest) = self.head.epochs.end_epoch(|| {
            let everything = || self.head.max_ms().map_or(i64::MIN, |ms| ms.saturating_add(1));
            let closed_before_ms = self.closed_before_ms.load(Ordering::Relaxed);
            let cut_ms = cut_ms.unwrap_or_else(everything).max(closed_before_ms);
            self.closed_before_ms.store(cut_ms, Ordering::Relaxed);
            self.wal.rotate();
            (cut_ms, self.wal.next_sequence(), self.wal.barrier(), self.head.max_ms())
        });
        let (cut_ms, sequence, barrier, max_ms) = rest;
        let view = HeadView { epoch, flushed: self.view.read().flushed };
        // Sequences count in the manifest, so they must not be given out again after a failure.
        let written = self.wal.wait(barrier).map_err(Error::from).and_then(|()| self.write_blocks(view, cut_ms));
        self.head.epochs.release(epoch);
        let metas = written?;
        if metas.is_empty() && cut_ms == maintenance.manifest.closed_before_ms {
            return Ok(());
        }

        if let Some(max_ms) = max_ms
            && maintenance.marks.back().is_none_or(|mark| mark.sequence < sequence)
        {
            maintenance.marks.push_back(Mark { sequence, max_ms });
        }
        let in_blocks = maintenance.marks.iter().take_while(|mark| mark.max_ms < cut_ms && mark.sequence <= sequence);
        let mut manifest = Manifest {
            closed_before_ms: cut_ms,
            flushed_sequence: sequence,
            log_from_sequence: in_blocks.last().map_or(maintenance.manifest.log_from_sequence, |mark| mark.sequence),
            ..maintenance.manifest.clone()
        };
        manifest.blocks.extend(metas.iter().cloned());
        for tombstone in &mut manifest.tombstones {
            tombstone.head &= tombstone.max_ms >= cut_ms;
            if tombstone.log_before <= manifest.log_from_sequence {
                tombstone.log_before = 0;
            }
        }
        manifest.tombstones.retain(|tombstone| !tombstone.is_done());
        let opened = self.open_blocks(&metas);
        let stored = opened.and_then(|blocks| self.store_manifest(maintenance, manifest).map(|()| blocks));
        // After a failed write of the manifest nobody knows which one a crash would leave: the files stay until then.
        let blocks = stored?;
        let flushed = Flushed { before_ms: cut_ms, epoch };
        let last_old_epoch = self.publish(maintenance, blocks, flushed);
        maintenance.pending_drop = Some((flushed, last_old_epoch));
        self.cut_log(maintenance);
        Ok(())
    }

    /// Writes all samples before `cut_ms` that `view` sees to blocks aligned to the block range.
    pub(super) fn write_blocks(&self, view: HeadView, cut_ms: i64) -> Result<Vec<BlockMeta>, Error> {
        let Some(last_ms) = cut_ms.checked_sub(1) else { return Ok(Vec::new()) };
        let mut metas = Vec::new();
        let written = self.options.flush_workers.run(|| {
            let mut wanted: Option<BTreeSet<i64>> = None;
            loop {
                let left = self.write_ranges(view, last_ms, wanted.as_ref(), &mut metas)?;
                if left.is_empty() {
                    return Ok(());
                }
                wanted = Some(left);
            }
        });
        if written.is_err() {
            metas.iter().for_each(|meta| self.remove_files(meta));
        }
        written.map(|()| metas)
    }

    /// Writes the samples up to `last_ms` of some block ranges: of those whose numbers are `wanted`, of all at first, as
    /// many as may be open at once. Returns the numbers of the others.
    ///
    /// Series are read one by one in the order of a file, so that what is in memory does not grow with the head.
    fn write_ranges(
        &self,
        view: HeadView,
        last_ms: i64,
        wanted: Option<&BTreeSet<i64>>,
        metas: &mut Vec<BlockMeta>,
    ) -> Result<BTreeSet<i64>, Error> {
        let block_ms = self.options.block_ms;
        let range = TimeRange::new(i64::MIN, last_ms);
        let current = self.current_view();
        let tombstones = about(&current.tombstones, Source::Head);
        let mut open: BTreeMap<i64, NewBlocks<'_>> = BTreeMap::new();
        let mut left = BTreeSet::new();
        let mut columns = Columns::default();
        // Files are ordered by metric first. Without a name comes before all names.
        let mut metrics = self.head.label_values(METRIC_NAME, &[], range, view);
        metrics.insert(0, String::new());
        for metric in metrics {
            let all = self.head.of_metric(&metric, range, view).into_iter();
            let keyed = |series| Some((OrderKey::of(&self.head.labels(series)?), series));
            let mut all: Vec<(OrderKey, SeriesRef)> = all.filter_map(keyed).collect();
            all.par_sort_unstable_by(|a, b| a.0.cmp(&b.0));
            for (key, series) in all {
                columns.clear();
                self.head.read(series, range, view, &mut columns);
                columns.remove(&hidden(&tombstones, key.labels()));
                let mut from = 0;
                while from < columns.len() {
                    let number = columns.timestamps[from].div_euclid(block_ms);
                    let rest = &columns.timestamps[from..];
                    let to = from + rest.partition_point(|ms| ms.div_euclid(block_ms) == number);
                    if wanted.is_none_or(|wanted| wanted.contains(&number)) {
                        if open.len() < OPEN_RANGES && !left.contains(&number) {
                            let new = || NewBlocks::new(self, number.saturating_mul(block_ms), 0);
                            open.entry(number).or_insert_with(new);
                        }
                        match open.get_mut(&number) {
                            Some(blocks) => blocks.push_columns(key.clone(), &columns, from..to)?,
                            None => drop(left.insert(number)),
                        }
                    }
                    from = to;
                }
            }
        }
        for blocks in open.into_values() {
            metas.extend(blocks.finish()?);
        }
        Ok(left)
    }

    pub(super) fn open_blocks(&self, metas: &[BlockMeta]) -> Result<Vec<Arc<LiveBlock>>, Error> {
        let blocks: Vec<Arc<LiveBlock>> = metas.iter().map(|meta| self.home.block(meta)).collect();
        blocks.iter().try_for_each(|block| block.open().map(drop)).map_err(Error::block(&self.options.dir))?;
        Ok(blocks)
    }

    /// The current blocks.
    pub(super) fn current_view(&self) -> Arc<View> {
        self.view.read().clone()
    }
}
