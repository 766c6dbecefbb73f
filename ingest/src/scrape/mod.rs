//! Scraping: targets are asked at their interval, what they answer is appended.
//!
//! ```text
//! Discovery --groups--> Pool (one per job) --targets--> ScrapeLoop (one per target) --samples--> Store
//!                                                          fetch, then parse and append
//! ```
//!
//! * A scrape is taken whole or not at all: its samples, the staleness markers of what disappeared and the report
//!   (`up` and its companions) go to the store in one append.
//! * The text of a series is looked up in a cache before anything in it is read, so a repeated scrape parses no label
//!   and hashes no label set.
//! * Staleness markers follow a series that is no longer exposed, every series of a failed scrape, and a target that
//!   is gone for more than two intervals. There are none at shutdown: the next start goes on where this one ended.

mod append;
mod cache;
mod classic;
mod failures;
mod fetch;
mod labels;
mod manager;
mod pool;
mod read;
mod report;
mod run;
mod starts;
mod stats;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use manager::{DroppedTarget, ScrapeManager, TargetMetadata};
pub use stats::{ScrapeCounters, ScrapeStats};
pub use target::{Health, MetricMetadata, Target, TargetState};

/// Milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How scraping behaves beyond what jobs configure.
#[derive(Debug, Clone)]
pub struct ScrapeOptions {
    /// Shifts all scrapes within their interval, so that two servers with the same targets ask at different times.
    pub offset_seed: u64,
    /// Scrapes that are late by no more than this get the timestamp they should have had; regular timestamps compress.
    pub timestamp_tolerance_ms: i64,
    /// Whether targets are first asked at their place in the interval, or at once.
    pub jitter: bool,
    /// How long changes of discovery are collected before they are applied.
    pub discovery_delay: std::time::Duration,
    /// Bytes of a decompressed body beyond which a scrape fails although its job sets no limit: an endless answer must
    /// not take the memory of the server.
    pub max_body_bytes: u64,
    /// `_created` lines of OpenMetrics become start timestamps of samples instead of series.
    pub start_timestamps: bool,
}

impl Default for ScrapeOptions {
    fn default() -> ScrapeOptions {
        ScrapeOptions {
            offset_seed: 0,
            timestamp_tolerance_ms: 2,
            jitter: true,
            discovery_delay: std::time::Duration::from_millis(500),
            max_body_bytes: 1 << 30,
            start_timestamps: false,
        }
    }
}
