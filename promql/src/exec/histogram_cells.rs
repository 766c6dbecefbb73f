//! Operators and functions over single native histograms, with the notes they write.

use std::sync::Arc;

use pilaster_model::{CounterResetHint, Histogram};

use crate::ast::{BinaryOp, Span};
use crate::error::QueryError;
use crate::exec::query_state::QueryState;

/// Why two histograms have no result.
pub(crate) enum Refusal {
    /// The operator does not know histograms on both sides.
    Types,
    /// They do not fit together; a note says so.
    Noted,
    Failed(QueryError),
}

fn unsupported(what: &str) -> QueryError {
    QueryError::Unsupported(format!("{what} of native histograms is not supported yet"))
}

/// `-histogram`
pub(crate) fn negated(histogram: &Histogram) -> Histogram {
    scaled(histogram, |value| -value)
}

fn scaled(histogram: &Histogram, scale: impl Fn(f64) -> f64) -> Histogram {
    Histogram {
        counter_reset_hint: CounterResetHint::Gauge,
        zero_count: scale(histogram.zero_count),
        count: scale(histogram.count),
        sum: scale(histogram.sum),
        positive: histogram.positive.iter().map(|count| scale(*count)).collect(),
        negative: histogram.negative.iter().map(|count| scale(*count)).collect(),
        ..histogram.clone()
    }
}

/// `float op histogram`; `None` where there is no such operation.
pub(crate) fn float_with_histogram(op: BinaryOp, _left: f64, _right: &Histogram) -> Option<Arc<Histogram>> {
    let _ = op;
    None
}

/// `histogram op float`; `None` where there is no such operation.
pub(crate) fn histogram_with_float(op: BinaryOp, _left: &Histogram, _right: f64) -> Option<Arc<Histogram>> {
    let _ = op;
    None
}

/// `histogram op histogram`; `Ok(None)` where a comparison is false.
pub(crate) fn histogram_with_histogram(
    _op: BinaryOp,
    _left: &Arc<Histogram>,
    _right: &Arc<Histogram>,
    _span: Span,
    _query: &QueryState,
) -> Result<Option<Arc<Histogram>>, Refusal> {
    Err(Refusal::Failed(unsupported("arithmetic")))
}

/// The φ-quantile.
pub(crate) fn quantile(
    _quantile: f64,
    _histogram: &Histogram,
    _name: &str,
    _span: Span,
    _query: &QueryState,
) -> Result<f64, QueryError> {
    Err(unsupported("histogram_quantile"))
}

/// The share of observations in `(lower, upper]`.
pub(crate) fn fraction(
    _lower: f64,
    _upper: f64,
    _histogram: &Histogram,
    _name: &str,
    _span: Span,
    _query: &QueryState,
) -> Result<f64, QueryError> {
    Err(unsupported("histogram_fraction"))
}

/// The variance of the observations, each taken at the middle of its bucket.
pub(crate) fn variance(_histogram: &Histogram) -> f64 {
    f64::NAN
}

/// The text that `count_values` puts into a label.
pub(crate) fn text(histogram: &Histogram) -> String {
    format!("{histogram:?}")
}
