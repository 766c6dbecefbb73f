//! Blocks: samples that last, in Parquet files that any reader opens.
//!
//! A block is a sample file (`samples/date=2026-11-20/NAME.parquet`, one row a sample, sorted by metric, job, instance,
//! the other labels and time) and an index file beside it, which holds what the engine needs to find and decode a
//! series without the Parquet footer. `storage/FORMAT.md` draws both.
//!
//! * A block never changes. It appears whole or not at all: files are written under other names, synced, then renamed.
//! * What is read is what was written, bit for bit, or an error: every byte is under a checksum, and those under one in
//!   [`BlockMeta`].
//! * The index follows from the sample file: [`rebuild_index`] makes the same bytes again.
//!
//! This module does not know which blocks are live, nor what a query is.

mod by_series;
mod column;
mod delta;
mod describe;
mod divide;
mod error;
mod file;
mod group;
mod index;
mod live;
mod order;
mod page;
mod postings;
mod read;
mod rebuild;
mod reduce;
mod run;
mod schema;
mod seal;
mod shelf;
mod source;
mod summary;
mod timeline;
mod timestamps;
pub(crate) mod varint;
mod verify;
mod write;

use std::sync::Arc;

use pilaster_model::{Histogram, Labels};
use serde::{Deserialize, Serialize};

pub use describe::describe;
pub use error::BlockError;
pub use file::{FileMeta, RANGE_BYTES};
pub use group::DAY_LEVEL;
pub use live::{AT_ONCE, LiveBlock};
pub use order::OrderKey;
pub use read::{Block, FoundSamples, SeriesSamples};
pub use rebuild::rebuild_index;
pub use reduce::{Reduced, ReducedValues};
pub use shelf::Shelf;
pub use source::{BlockFiles, Copy, LocalBlocks};
pub use verify::{copy, verify, verify_samples};
pub use write::{BlockWriter, write_block};

/// The samples of one series, on their way into a block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSeries {
    pub labels: Labels,
    /// Milliseconds since the Unix epoch, strictly ascending, at least one. Series that share the `Arc` are written faster.
    pub timestamps: Arc<[i64]>,
    /// One a timestamp; where there is a histogram the value beside it is not kept.
    pub values: Vec<f64>,
    /// One a timestamp, where the series has native histograms.
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
    /// Start timestamps in milliseconds, one a timestamp, 0 where unknown.
    pub starts_ms: Option<Vec<i64>>,
}

/// What a block is and where its files lie; kept in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMeta {
    pub name: String,
    /// 0: as flushed; 1 and more: as often compacted.
    pub level: u8,
    /// Of the first sample.
    pub min_ms: i64,
    /// Of the last sample.
    pub max_ms: i64,
    pub series_count: u64,
    pub sample_count: u64,
    /// The sample file, then the index file.
    pub files: Vec<FileMeta>,
}

impl BlockMeta {
    /// Paths of all files.
    pub fn paths(&self) -> Vec<String> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// The sample file and the index file.
    ///
    /// # Errors
    /// Somebody has written other files into the manifest.
    fn both_files(&self) -> Result<&[FileMeta; 2], BlockError> {
        let wrong =
            || BlockError::malformed(std::path::Path::new(&self.name), "a block has a sample file and an index file");
        self.files.as_slice().try_into().map_err(|_| wrong())
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// How blocks are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Labels that get a column of their own, for readers of the Parquet files to filter and group by.
    pub promoted_labels: Vec<String>,
}

#[cfg(test)]
mod tests;
