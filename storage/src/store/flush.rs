//! From the head to blocks.
//!
//! ```text
//! at rest: close the range, end the epoch, note the log's sequence
//!   -> write blocks -> manifest -> new view -> cut the log -> free memory
//! ```
//!
//! Only the manifest decides. Before it the new files are strangers; after it replay skips what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::{Columns, Labels, TimeRange};

use super::maintenance::{Maintenance, Mark};
use super::{Store, View};
use crate::block::{BlockMeta, BlockSeries, LiveBlock, WriteOptions, write_block};
use crate::head::{Flushed, HeadView, Timelines};
use crate::manifest::Manifest;
use crate::tombstone::{Source, about, hidden};
use crate::{Error, SeriesRef};

/// Series on their way to a block.
#[derive(Debug, Default)]
struct Group {
    series: Vec<BlockSeries>,
    samples: u64,
}

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
        let mut metas = Vec::new();
        let written = self.options.flush_workers.run(|| self.write_groups(view, cut_ms, &mut metas));
        if written.is_err() {
            metas.iter().for_each(|meta| self.remove_files(meta));
        }
        written.map(|()| metas)
    }

    fn write_groups(&self, view: HeadView, cut_ms: i64, metas: &mut Vec<BlockMeta>) -> Result<(), Error> {
        let Some(last_ms) = cut_ms.checked_sub(1) else { return Ok(()) };
        let range = TimeRange::new(i64::MIN, last_ms);
        let mut groups: BTreeMap<i64, Group> = BTreeMap::new();
        let mut timelines = Timelines::default();
        let mut columns = Columns::default();
        let mut samples = 0;
        let labelled = |series| Some((self.head.labels(series)?, series));
        let mut all: Vec<(Labels, SeriesRef)> = self.head.all_series().into_iter().filter_map(labelled).collect();
        if self.head.sample_count() >= self.options.block_samples {
            // A range becomes more than one block: each gets neighbours.
            all.sort_unstable();
        }
        let current = self.current_view();
        let tombstones = about(&current.tombstones, Source::Head);
        for (labels, series) in all {
            columns.clear();
            self.head.read(series, range, view, &mut columns);
            columns.remove(&hidden(&tombstones, &labels));
            if columns.is_empty() {
                continue;
            }
            let mut from = 0;
            while from < columns.len() {
                let number = columns.timestamps[from].div_euclid(self.options.block_ms);
                let to = from
                    + columns.timestamps[from..].partition_point(|ms| ms.div_euclid(self.options.block_ms) == number);
                let group = groups.entry(number).or_default();
                group.series.push(block_series(labels.clone(), &columns, from..to, &mut timelines));
                group.samples += (to - from) as u64;
                samples += (to - from) as u64;
                from = to;
            }
            while samples >= self.options.block_samples
                && let Some(number) = groups.iter().max_by_key(|(_, group)| group.samples).map(|(number, _)| *number)
                && let Some(group) = groups.remove(&number)
            {
                samples -= group.samples;
                timelines = Timelines::default();
                metas.push(self.write_one(number.saturating_mul(self.options.block_ms), 0, group.series)?);
            }
        }
        for (number, group) in groups {
            metas.push(self.write_one(number.saturating_mul(self.options.block_ms), 0, group.series)?);
        }
        Ok(())
    }

    /// Writes one block whose range begins at `start_ms`.
    pub(super) fn write_one(&self, start_ms: i64, level: u8, series: Vec<BlockSeries>) -> Result<BlockMeta, Error> {
        let name = format!("{start_ms}-{level}-{:016x}", self.env.random.next_u64());
        let options = WriteOptions { promoted_labels: self.options.promoted_labels.clone() };
        let dir = self.home.writing_dir();
        let meta = write_block(&*self.env.files, dir, &name, level, series, &options).map_err(Error::block(dir))?;
        self.home.bring(&meta)?;
        Ok(meta)
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

/// The samples at `places` as a block takes them.
pub(super) fn block_series(
    labels: Labels,
    columns: &Columns,
    places: std::ops::Range<usize>,
    timelines: &mut Timelines,
) -> BlockSeries {
    BlockSeries {
        labels,
        timestamps: timelines.share(&columns.timestamps[places.clone()]),
        values: columns.values[places.clone()].to_vec(),
        histograms: columns.histograms_in(places.clone()),
        starts_ms: (!columns.starts_ms.is_empty()).then(|| columns.starts_ms[places].to_vec()),
    }
}
