//! How a store behaves.

use std::path::PathBuf;

use pilaster_model::{Labels, Matcher};

use super::Workers;
use crate::Error;
use crate::home::ObjectOptions;
use crate::wal::WalSync;

/// How long some series are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionRule {
    /// All must be satisfied.
    pub matchers: Vec<Matcher>,
    pub ms: i64,
}

impl RetentionRule {
    pub fn fits(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }
}

/// How much is kept, which may change while a store is open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetentionLimits {
    /// Blocks whose newest sample is older than the newest of all by more than this are removed; `None` keeps all.
    pub ms: Option<i64>,
    /// Bytes of blocks and log together beyond which the oldest blocks are removed; `None` keeps all.
    pub bytes: Option<u64>,
    /// Percent of the whole disk that blocks and log may take together; goes before `bytes`.
    pub percent: Option<f64>,
    /// Series that are kept for a time of their own; the first rule that fits a series counts.
    pub rules: Vec<RetentionRule>,
}

impl RetentionLimits {
    /// Limits by time alone.
    pub fn of_ms(ms: i64) -> RetentionLimits {
        RetentionLimits { ms: Some(ms), ..RetentionLimits::default() }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::InvalidOptions { reason: reason.to_owned() });
        if self.rules.iter().map(|rule| rule.ms).chain(self.ms).any(|ms| ms <= 0) {
            return refuse("retention_ms must be positive");
        }
        if self.percent.is_some_and(|percent| !(percent > 0.0 && percent <= 100.0)) {
            return refuse("retention_percent must be above 0 and at most 100");
        }
        Ok(())
    }
}

/// [`StoreOptions::new`] gives Prometheus' behaviour, except that nothing is acknowledged before it is on disk.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub dir: PathBuf,
    pub retention: RetentionLimits,
    /// Exemplars in memory; 0 keeps none.
    pub max_exemplars: usize,
    /// Length of the time range of a fresh block.
    pub block_ms: i64,
    /// Samples in a block, about. A range that has more becomes several blocks, each with some of the series.
    pub block_samples: u64,
    /// How much older than the newest sample of all a sample may be when its series has a newer one; 0 takes none.
    pub out_of_order_ms: i64,
    pub wal_sync: WalSync,
    pub wal_segment_bytes: usize,
    /// Samples that the log must have more than the last head snapshot for a new one, at least; see [`Store::save_head`].
    /// `u64::MAX` takes none.
    ///
    /// [`Store::save_head`]: super::Store::save_head
    pub snapshot_samples: u64,
    /// Parts of the head that are locked on their own: rounded up to a power of two, 64 at most.
    pub shards: usize,
    /// Bytes of memory that the indexes of blocks may take which nobody reads at the moment.
    pub index_bytes: u64,
    /// Where blocks go that do not stay in `dir`.
    pub blocks: Option<ObjectOptions>,
    /// Labels that have a column of their own in blocks.
    pub promoted_labels: Vec<String>,
    /// Who writes what the head held to blocks.
    pub flush_workers: Workers,
    /// Who reads and writes blocks to merge them.
    pub merge_workers: Workers,
}

impl StoreOptions {
    pub fn new(dir: impl Into<PathBuf>) -> StoreOptions {
        let promoted = ["job", "instance", "namespace", "pod", "container", "node", "service", "le", "quantile"];
        StoreOptions {
            dir: dir.into(),
            retention: RetentionLimits::default(),
            max_exemplars: 0,
            block_ms: 7_200_000,
            block_samples: 16 << 20,
            out_of_order_ms: 0,
            wal_sync: WalSync::Commit,
            wal_segment_bytes: 64 << 20,
            snapshot_samples: 4 << 20,
            shards: 16,
            index_bytes: 1 << 30,
            blocks: None,
            promoted_labels: promoted.map(str::to_owned).to_vec(),
            flush_workers: Workers::default(),
            merge_workers: Workers::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::InvalidOptions { reason: reason.to_owned() });
        if self.block_ms <= 0 {
            return refuse("block_ms must be positive");
        }
        if self.block_samples == 0 {
            return refuse("block_samples must be positive");
        }
        if self.out_of_order_ms < 0 {
            return refuse("out_of_order_ms must not be negative");
        }
        self.retention.check()?;
        Ok(())
    }
}
