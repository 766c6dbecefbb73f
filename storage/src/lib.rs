//! Series and samples that last. This crate knows no query language.
//!
//! ```text
//! append -> head + write-ahead log -> (flush) blocks, named by the manifest -> (maintain) larger blocks -> gone
//!              \________________ snapshot: one consistent view of both ________________/
//! ```
//!
//! * Acknowledged means logged: [`Store::append`] returns when its samples would survive a crash.
//! * A sample is read exactly once, whether it stands in the head, the log, a block or two of them after a crash.
//! * A [`Snapshot`] sees whole appends, and keeps seeing the same samples while flush, compaction and retention go on.

pub mod block;
mod decimal;
pub mod env;
mod error;
mod exemplars;
pub mod frame;
mod head;
mod home;
mod manifest;
mod metadata;
mod snapshot;
mod stats;
mod store;
mod tombstone;
pub mod wal;

pub use error::Error;
pub use exemplars::{Exemplar, ExemplarOutcome, ExemplarStats, SeriesExemplars};
pub use head::{HeadCardinality, RejectReason, SeriesRef};
pub use home::{CacheStats, ObjectOptions, ObjectStats};
pub use metadata::Metadata;
pub use snapshot::{ReducedSamples, SelectPlan, SelectedSeries, SeriesSamples, SeriesSelection, Snapshot};
pub use stats::Stats;
pub use store::inspect;
pub use store::{
    AppendOutcome, BlockImport, HistogramSample, Imported, Occasion, Priority, Rejected, ReplayProgress,
    RetentionLimits, RetentionRule, Sample, Store, StoreOptions, Workers,
};
pub use wal::WalSync;
