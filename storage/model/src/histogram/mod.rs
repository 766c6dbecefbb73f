//! Native histograms: bucket counts over exponential or custom boundaries.
//!
//! Integer histograms are turned into this float form on arrival. Buckets are held sparse: a span says how many
//! empty buckets to skip and how many counts follow.
//!
//! ```text
//! schema 0                -2   -1  -0.5      0     0.5   1    2    4        bucket i ends at 2^i
//! negative index        2    1    0    zero bucket    0    1    2           (lower, upper], mirrored below zero
//! custom bounds b            (-inf, b0] (b0, b1] … (bn, +inf]               index 0, 1, … n+1
//! ```

mod arithmetic;
mod bounds;
mod buckets;
mod classic;
mod codec;
mod equality;
mod fraction;
mod integer;
mod json;
mod kahan;
mod layout;
mod moments;
mod number;
mod quantile;
mod reset;
mod sparse;
mod test_expression;
mod text;
mod trim;
mod validate;

use std::sync::Arc;

pub use arithmetic::{AddNotes, IncompatibleSchemas};
pub use buckets::Bucket;
pub use classic::{ClassicBuckets, ClassicBucketsError};
pub use codec::CodecError;
pub use fraction::FractionOutcome;
pub use integer::IntegerHistogram;
pub use kahan::{HistogramMean, HistogramSum};
pub use number::{format_decimal, format_exponent, format_g, format_json, push_json};
pub use quantile::{QuantileNote, QuantileOutcome};
pub use test_expression::{TestExpression, TestExpressionError};
pub use validate::Invalid;

/// The schema number that stands for custom bucket boundaries.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Smallest and largest schema of exponential buckets.
pub const MIN_SCHEMA: i32 = -4;
pub const MAX_SCHEMA: i32 = 8;

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
    /// Observations, NaN ones included, which are in no bucket.
    pub count: f64,
    /// Of the observations. A staleness marker here makes the whole sample one.
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    /// Counts of the buckets that the spans name; not cumulative.
    pub positive: Vec<f64>,
    pub negative_spans: Vec<Span>,
    pub negative: Vec<f64>,
    /// Ascending upper bounds of custom buckets, without the last, infinite one; empty for exponential schemas.
    pub custom_bounds: Arc<[f64]>,
}

impl Histogram {
    /// Whether boundaries are listed instead of exponential.
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether this sample marks the end of its series.
    pub fn is_stale(&self) -> bool {
        crate::is_stale(self.sum)
    }

    /// Bytes this histogram occupies, for memory budgets.
    pub fn memory_bytes(&self) -> usize {
        let spans = self.positive_spans.capacity() + self.negative_spans.capacity();
        let counts = self.positive.capacity() + self.negative.capacity();
        size_of::<Histogram>() + spans * size_of::<Span>() + counts * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests;
