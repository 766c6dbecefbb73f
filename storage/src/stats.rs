//! Numbers about a store, for its own metrics and status pages.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{ExemplarStats, ObjectStats, RejectReason};

/// A moment's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series in the head.
    pub series: u64,
    /// Series that began to exist, and that were forgotten, since the store was opened.
    pub series_created: u64,
    pub series_forgotten: u64,
    /// Samples accepted since the store was opened.
    pub samples_appended: u64,
    pub histograms_appended: u64,
    pub rejected_out_of_order: u64,
    pub rejected_too_old: u64,
    pub rejected_duplicate: u64,
    pub rejected_unknown_series: u64,
    /// Appends that failed as a whole.
    pub appends_failed: u64,
    /// Samples in memory.
    pub head_samples: u64,
    pub head_late_samples: u64,
    /// Samples that came from a head snapshot when the store was opened.
    pub restored_samples: u64,
    /// Oldest and newest sample in the head.
    pub head_min_ms: Option<i64>,
    pub head_max_ms: Option<i64>,
    pub blocks: u64,
    /// Blocks that could not be opened.
    pub blocks_set_aside: u64,
    pub block_bytes: u64,
    pub block_samples: u64,
    /// Memory of the indexes of blocks, about.
    pub block_index_bytes: u64,
    /// Oldest and newest sample in blocks.
    pub blocks_min_ms: Option<i64>,
    pub blocks_max_ms: Option<i64>,
    pub flushes: u64,
    pub flushes_failed: u64,
    pub compactions: u64,
    pub compactions_failed: u64,
    /// Blocks that retention removed.
    pub blocks_expired: u64,
    pub wal_bytes: u64,
    pub wal_segments: u64,
    /// Ranges of the log that were acknowledged once and could not be read at the start.
    pub wal_damaged_ranges: u64,
    /// Bytes at the end of the log that were no whole record at the start.
    pub wal_torn_bytes: u64,
    pub exemplars: ExemplarStats,
    pub metadata_entries: u64,
    /// About the object store, where blocks go to one.
    pub objects: Option<ObjectStats>,
}

/// What is counted while the store works.
#[derive(Debug, Default)]
pub struct Counters {
    pub samples_appended: AtomicU64,
    pub histograms_appended: AtomicU64,
    rejected: [AtomicU64; 4],
    pub appends_failed: AtomicU64,
    pub series_forgotten: AtomicU64,
    pub flushes: AtomicU64,
    pub flushes_failed: AtomicU64,
    pub compactions: AtomicU64,
    pub compactions_failed: AtomicU64,
    pub blocks_expired: AtomicU64,
}

impl Counters {
    pub fn reject(&self, reason: RejectReason) {
        self.rejected[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn rejected(&self, reason: RejectReason) -> u64 {
        self.rejected[reason as usize].load(Ordering::Relaxed)
    }
}
