//! Native histograms: bucket counts over exponential or custom boundaries.
//!
//! Integer histograms are turned into this float form on arrival. Buckets are held sparse: a span says how many
//! empty buckets to skip and how many counts follow.

mod number;

use std::sync::Arc;

pub use number::{format_exponent, format_g};

/// The schema number that stands for custom bucket boundaries.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What is known about a counter reset between a histogram and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CounterResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    /// Not a counter: resets mean nothing.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Empty buckets before this run: counted from bucket 0 for the first span, from the end of the previous one after.
    pub offset: i32,
    /// Buckets in this run.
    pub length: u32,
}

/// One sample of a native histogram.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// -4 to 8: bucket boundaries grow by `2^(2^-schema)`; [`CUSTOM_BUCKETS_SCHEMA`]: they are `custom_bounds`.
    pub schema: i32,
    pub counter_reset_hint: CounterResetHint,
    /// Observations in `[-zero_threshold, zero_threshold]` are in the zero bucket.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    /// Counts of the buckets that the spans name; not cumulative.
    pub positive: Vec<f64>,
    pub negative_spans: Vec<Span>,
    pub negative: Vec<f64>,
    /// Ascending upper bounds of custom buckets, without the last, infinite one; empty for exponential schemas.
    pub custom_bounds: Arc<[f64]>,
}
