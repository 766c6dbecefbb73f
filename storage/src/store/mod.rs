//! The store: the head, its log and the blocks as one thing.
//!
//! Lock order: saved, merging, maintenance, gate of the head (see [`crate::head::Epochs`]), shards, log, index; `view` last and only
//! for a moment.

mod append;
mod compaction;
mod delete;
mod extras;
mod flush;
mod head_snapshot;
mod import;
pub mod inspect;
mod maintenance;
mod merge;
mod open;
mod options;
mod output;
mod replay;
mod retention;
mod snapshot_dir;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use pilaster_model::{Histogram, Labels};

pub use append::{AppendOutcome, HistogramSample, Rejected, Sample};
pub use head_snapshot::Occasion;
pub use import::{BlockImport, Imported};
pub use open::ReplayProgress;
pub use options::{RetentionLimits, RetentionRule, StoreOptions};
pub use workers::{Priority, Workers};

use crate::block::{BlockMeta, LiveBlock};
use crate::env::{DirLock, Env};
use crate::exemplars::ExemplarStore;
use crate::head::{Flushed, Head};
use crate::home::Home;
use crate::metadata::MetadataTable;
use crate::stats::{Counters, Stats};
use crate::tombstone::Tombstone;
use crate::wal::{Wal, WalSample};
use crate::{HeadCardinality, RejectReason, SeriesRef, Snapshot};
use maintenance::Maintenance;

/// The blocks of a moment, and what of the head is in them.
#[derive(Debug)]
pub(crate) struct View {
    /// Our own, oldest first, then those of others.
    pub blocks: Vec<Arc<LiveBlock>>,
    /// How many are our own.
    pub own: usize,
    pub flushed: Flushed,
    pub tombstones: Vec<Tombstone>,
    /// Live blocks that could not be opened: nobody reads them, and nothing touches their files.
    pub set_aside: Vec<BlockMeta>,
}

impl View {
    /// Our own blocks, oldest first.
    pub fn own(&self) -> &[Arc<LiveBlock>] {
        &self.blocks[..self.own]
    }

    /// Our own blocks that cannot be read, found so when the store was opened or later.
    pub fn unreadable(&self) -> Vec<BlockMeta> {
        let lost = self.own().iter().filter(|block| block.is_lost()).map(|block| block.meta());
        self.set_aside.iter().chain(lost).cloned().collect()
    }
}

/// Series and samples in one data directory. Thread-safe; every call may block on the disk.
#[derive(Debug)]
pub struct Store {
    env: Env,
    options: StoreOptions,
    retention: RwLock<Arc<RetentionLimits>>,
    home: Home,
    head: Arc<Head>,
    wal: Wal,
    view: RwLock<Arc<View>>,
    /// Samples before it are in blocks, or on their way.
    closed_before_ms: AtomicI64,
    /// Newest timestamp that blocks held when the store was opened.
    opened_max_ms: i64,
    /// In the head, yet not in the log, because writing it failed.
    unlogged: Mutex<Vec<Unlogged>>,
    has_unlogged: AtomicBool,
    /// Held by the one who writes blocks anew from others.
    merging: Mutex<()>,
    /// Requests that wait for `merging`: what is done at leisure stops for them.
    merging_wanted: AtomicUsize,
    maintenance: Mutex<Maintenance>,
    metadata: MetadataTable,
    /// Shared from the log to metadata and exemplars; alone while their files are written for the log to be cut.
    beside_gate: RwLock<()>,
    exemplars: ExemplarStore,
    counters: Counters,
    /// Held by the one who takes a head snapshot.
    saved: Mutex<head_snapshot::Saved>,
    /// Bytes of the file.
    snapshot_bytes: AtomicU64,
    /// Samples that came from a head snapshot when the store was opened, and those that came from the log.
    restored_samples: u64,
    replayed_samples: u64,
    wal_damaged_ranges: AtomicU64,
    wal_torn_bytes: u64,
    _lock: Box<dyn DirLock>,
}

type Unlogged = (WalSample, Option<Arc<Histogram>>);

impl Store {
    /// The reference of the series with `labels`, which begins to exist where it did not. Without any label there is no
    /// series, and appends refuse the reference.
    pub fn series(&self, labels: &Labels) -> SeriesRef {
        self.head.series(labels)
    }

    /// The series with the label set of these pairs, ascending by name and none of them empty, where the head knows one.
    /// Cheaper than [`Store::series`] for whoever has no [`Labels`] yet.
    pub fn find_series(&self, pairs: &[(&str, &str)]) -> Option<SeriesRef> {
        self.head.find(pairs)
    }

    /// A view of everything that was acknowledged before. It costs a few hundred nanoseconds, and waits for appends
    /// that are being applied. While it lives, what it sees stays, in memory and on disk.
    pub fn snapshot(&self) -> Snapshot {
        let (epoch, view) = self.head.epochs.end_epoch(|| self.view.read().clone());
        Snapshot::new(self.head.clone(), view, epoch)
    }

    /// Newest sample in head and blocks.
    fn max_ms(&self) -> Option<i64> {
        let opened = Some(self.opened_max_ms).filter(|&ms| ms != i64::MIN);
        self.head.max_ms().max(opened)
    }

    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// What the head holds most of, `limit` entries per list at most.
    pub fn head_cardinality(&self, limit: usize) -> HeadCardinality {
        self.head.cardinality(limit)
    }

    /// Rough bytes of memory that the head takes. Visits every series.
    pub fn head_memory_bytes(&self) -> u64 {
        self.head.memory_bytes()
    }

    /// Numbers of this moment. Visits every series of the head once.
    pub fn stats(&self) -> Stats {
        let view = self.view.read().clone();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let metas = || view.own().iter().map(|block| block.meta());
        Stats {
            series: self.head.series_count(),
            series_created: self.head.series_created(),
            series_forgotten: load(&counters.series_forgotten),
            samples_appended: load(&counters.samples_appended),
            histograms_appended: load(&counters.histograms_appended),
            rejected_out_of_order: counters.rejected(RejectReason::OutOfOrder),
            rejected_too_old: counters.rejected(RejectReason::TooOld),
            rejected_duplicate: counters.rejected(RejectReason::DuplicateDifferentValue),
            rejected_unknown_series: counters.rejected(RejectReason::UnknownSeries),
            appends_failed: load(&counters.appends_failed),
            head_samples: self.head.sample_count(),
            head_late_samples: self.head.late_count(),
            restored_samples: self.restored_samples,
            head_min_ms: self.head.min_ms(view.flushed),
            head_max_ms: self.head.max_ms(),
            blocks: view.own as u64,
            blocks_set_aside: view.unreadable().len() as u64,
            block_bytes: metas().flat_map(|meta| &meta.files).map(|file| file.bytes).sum(),
            block_samples: metas().map(|meta| meta.sample_count).sum(),
            block_index_bytes: self.home.shelf().held_bytes(),
            blocks_min_ms: metas().map(|meta| meta.min_ms).min(),
            blocks_max_ms: metas().map(|meta| meta.max_ms).max(),
            flushes: load(&counters.flushes),
            flushes_failed: load(&counters.flushes_failed),
            compactions: load(&counters.compactions),
            compactions_failed: load(&counters.compactions_failed),
            blocks_expired: load(&counters.blocks_expired),
            wal_bytes: self.wal.size_bytes(),
            wal_segments: self.wal.segment_count() as u64,
            wal_damaged_ranges: load(&self.wal_damaged_ranges),
            wal_torn_bytes: self.wal_torn_bytes,
            exemplars: self.exemplars.stats(),
            metadata_entries: self.metadata.len() as u64,
            objects: self.home.stats(),
        }
    }
}
