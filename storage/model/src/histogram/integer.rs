//! Integer histograms, as clients send them, in the float form that everything else works on.

use std::sync::Arc;

use super::{CounterResetHint, Histogram, Invalid, MAX_SCHEMA, Span};

/// Largest schema that may arrive; those above [`MAX_SCHEMA`] are merged down to it.
const MAX_RESERVED_SCHEMA: i32 = 52;

/// A native histogram whose buckets are integers, each written as its difference from the one before it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IntegerHistogram {
    pub schema: i32,
    pub counter_reset_hint: CounterResetHint,
    pub zero_threshold: f64,
    pub zero_count: u64,
    pub count: u64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub positive_deltas: Vec<i64>,
    pub negative_spans: Vec<Span>,
    pub negative_deltas: Vec<i64>,
    pub custom_bounds: Arc<[f64]>,
}

impl IntegerHistogram {
    /// The same histogram in floats, checked.
    ///
    /// # Errors
    /// Whatever [`Histogram::validated`] refuses.
    pub fn into_float(self) -> Result<Histogram, Invalid> {
        Histogram {
            schema: self.schema,
            counter_reset_hint: self.counter_reset_hint,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans,
            positive: running_totals(&self.positive_deltas),
            negative_spans: self.negative_spans,
            negative: running_totals(&self.negative_deltas),
            custom_bounds: self.custom_bounds,
        }
        .validated()
    }
}

fn running_totals(deltas: &[i64]) -> Vec<f64> {
    let totals = deltas.iter().scan(0_i64, |total, delta| {
        *total = total.wrapping_add(*delta);
        Some(*total as f64)
    });
    totals.collect()
}

impl Histogram {
    /// This histogram if it is consistent, with a schema finer than we keep merged down.
    ///
    /// # Errors
    /// An unknown schema, or whatever [`Histogram::validate`] refuses.
    pub fn validated(mut self) -> Result<Histogram, Invalid> {
        if (MAX_SCHEMA + 1..=MAX_RESERVED_SCHEMA).contains(&self.schema) {
            self.validate_as(MAX_SCHEMA)?;
            self.reduce_to(MAX_SCHEMA);
        } else {
            self.validate()?;
        }
        Ok(self)
    }
}
