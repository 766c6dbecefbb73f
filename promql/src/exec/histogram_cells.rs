//! Operators and functions over single native histograms, with the notes they write.

use std::sync::Arc;

use pilaster_model::histogram::QuantileNote;
use pilaster_model::{CounterResetHint, Histogram};

use crate::annotations::{HistogramOperation, Place};
use crate::ast::BinaryOp;
use crate::exec::query_state::QueryState;

/// Why two histograms have no result.
pub(crate) enum Refusal {
    /// The operator does not know histograms on both sides.
    Types,
    /// They do not fit together; a note says so.
    Noted,
}

/// A changed copy.
fn changed(histogram: &Histogram, change: impl FnOnce(&mut Histogram)) -> Arc<Histogram> {
    let mut copy = histogram.clone();
    change(&mut copy);
    Arc::new(copy)
}

/// `-histogram`
pub(crate) fn negated(histogram: &Histogram) -> Histogram {
    let mut copy = histogram.clone();
    copy.mul(-1.0);
    copy
}

/// `float op histogram`; `None` where there is no such operation.
pub(crate) fn float_with_histogram(op: BinaryOp, left: f64, right: &Histogram) -> Option<Arc<Histogram>> {
    (op == BinaryOp::Mul).then(|| changed(right, |copy| _ = copy.mul(left).compact()))
}

/// `histogram op float`; `None` where there is no such operation.
pub(crate) fn histogram_with_float(op: BinaryOp, left: &Histogram, right: f64) -> Option<Arc<Histogram>> {
    Some(changed(left, |copy| match op {
        BinaryOp::Mul => _ = copy.mul(right).compact(),
        BinaryOp::Div => _ = copy.div(right).compact(),
        BinaryOp::TrimUpper => _ = copy.trim_upper(right),
        BinaryOp::TrimLower => _ = copy.trim_lower(right),
        _ => {}
    }))
    .filter(|_| matches!(op, BinaryOp::Mul | BinaryOp::Div | BinaryOp::TrimUpper | BinaryOp::TrimLower))
}

/// `histogram op histogram`; `Ok(None)` where a comparison is false.
///
/// Source: `vectorElemBinop`, Prometheus 3.14 `promql/engine.go`.
pub(crate) fn histogram_with_histogram(
    op: BinaryOp,
    left: &Arc<Histogram>,
    right: &Arc<Histogram>,
    place: Place,
    query: &QueryState,
) -> Result<Option<Arc<Histogram>>, Refusal> {
    let operation = match op {
        BinaryOp::Eq | BinaryOp::Ne => {
            let keep = left.is_same_data(right) == (op == BinaryOp::Eq);
            return Ok(keep.then(|| Arc::clone(left)));
        }
        BinaryOp::Add => HistogramOperation::Addition,
        BinaryOp::Sub => HistogramOperation::Subtraction,
        _ => return Err(Refusal::Types),
    };
    let mut result = Histogram::clone(left);
    let done = if op == BinaryOp::Add { result.add(right) } else { result.sub(right) };
    let Ok(notes) = done else {
        query.note(|all| all.incompatible_bucket_layout(op.symbol(), place));
        return Err(Refusal::Noted);
    };
    if notes.counter_reset_collision {
        // The result is not trusted: a sum over different lives of a counter.
        query.note(|all| all.counter_reset_collision(operation, place));
        return Err(Refusal::Noted);
    }
    if notes.bounds_reconciled {
        query.note(|all| all.mismatched_custom_buckets(operation, place));
    }
    if op == BinaryOp::Sub {
        result.counter_reset_hint = CounterResetHint::Gauge;
    }
    result.compact();
    Ok(Some(Arc::new(result)))
}

/// The φ-quantile.
pub(crate) fn quantile(quantile: f64, histogram: &Histogram, name: &str, place: Place, query: &QueryState) -> f64 {
    let outcome = histogram.quantile(quantile);
    match outcome.note {
        Some(QuantileNote::NanResult) => query.note(|notes| notes.quantile_nan_result(name, place)),
        Some(QuantileNote::NanSkew) => query.note(|notes| notes.quantile_nan_skew(name, place)),
        None => {}
    }
    outcome.value
}

/// The share of observations between `lower` and `upper`.
pub(crate) fn fraction(
    lower: f64,
    upper: f64,
    histogram: &Histogram,
    name: &str,
    place: Place,
    query: &QueryState,
) -> f64 {
    let outcome = histogram.fraction(lower, upper);
    if outcome.has_nan_observations {
        query.note(|notes| notes.fraction_nans(name, place));
    }
    outcome.value
}
