//! Native histograms: a chunk says its buckets once, each sample their counts as changes.
//!
//! Counter resets: a chunk tells whether it holds gauges. What else it tells is about neighbours in the same chunk, and not
//! kept: beside samples of other chunks and blocks it may be wrong, and resets show in the counts.

use std::sync::Arc;

use pilaster_model::{Histogram, histogram};
use pilaster_model::{is_stale, stale_nan};

use super::bits::Bits;
use super::error::Malformed;
use super::samples::Samples;
use super::starts::Starts;
use super::xor::Xor;
use histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, IntegerHistogram, Span};

/// What all samples of a chunk share.
struct Layout {
    schema: i32,
    hint: CounterResetHint,
    zero_threshold: f64,
    positive_spans: Vec<Span>,
    negative_spans: Vec<Span>,
    custom_bounds: Arc<[f64]>,
    positive: usize,
    negative: usize,
}

const GAUGE: u8 = 0b1100_0000;

impl Layout {
    fn read(bits: &mut Bits, flags: u8) -> Result<Layout, Malformed> {
        let zero_threshold = match bits.take(8)? {
            0 => 0.0,
            255 => bits.f64()?,
            // A power of two between 2^-243 and 2^10.
            exponent => 2_f64.powi(exponent as i32 - 244),
        };
        let schema = i32::try_from(bits.varbit_int()?).map_err(|_| Malformed("an unknown schema"))?;
        let (positive_spans, positive) = spans(bits)?;
        let (negative_spans, negative) = spans(bits)?;
        let custom_bounds = if schema == CUSTOM_BUCKETS_SCHEMA { custom_bounds(bits)? } else { Arc::from([]) };
        let hint = if flags & GAUGE == GAUGE { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        Ok(Layout { schema, hint, zero_threshold, positive_spans, negative_spans, custom_bounds, positive, negative })
    }
}

/// Spans, and the number of their buckets: each takes a bit at least.
fn spans(bits: &mut Bits) -> Result<(Vec<Span>, usize), Malformed> {
    let count = bits.varbit_uint()?;
    let mut spans = Vec::new();
    let mut buckets = 0_usize;
    for _ in 0..count {
        let length = u32::try_from(bits.varbit_uint()?).map_err(|_| Malformed("a span is too long"))?;
        let offset = i32::try_from(bits.varbit_int()?).map_err(|_| Malformed("a span is too far away"))?;
        buckets = buckets.saturating_add(length as usize);
        spans.push(Span { offset, length });
    }
    if buckets > bits.left() {
        return Err(Malformed("a histogram has more buckets than its chunk has bits"));
    }
    Ok((spans, buckets))
}

fn custom_bounds(bits: &mut Bits) -> Result<Arc<[f64]>, Malformed> {
    let count = bits.varbit_uint()?;
    let mut bounds = Vec::new();
    for _ in 0..count {
        bounds.push(match bits.varbit_uint()? {
            0 => bits.f64()?,
            thousandths => (thousandths - 1) as f64 / 1000.0,
        });
    }
    Ok(bounds.into())
}

/// A number given by how its change changes.
#[derive(Clone, Copy, Default)]
struct Integer {
    value: i64,
    delta: i64,
}

impl Integer {
    fn of(value: i64) -> Integer {
        Integer { value, delta: 0 }
    }

    fn next(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        self.delta = self.delta.wrapping_add(bits.varbit_int()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

/// Appends `count` histograms of integers. `flags` holds the counter reset header, `starts` the one about start timestamps.
pub fn decode_integers(
    mut bits: Bits,
    count: usize,
    flags: u8,
    starts: Option<u8>,
    out: &mut Samples,
) -> Result<(), Malformed> {
    if count == 0 {
        return Ok(());
    }
    let bits = &mut bits;
    let layout = Layout::read(bits, flags)?;
    let mut starts = starts.map(Starts::new);
    let mut time = Integer::default();
    let (mut all, mut zero) = (Integer::default(), Integer::default());
    let mut sum = Xor::default();
    let mut buckets = vec![Integer::default(); layout.positive + layout.negative];
    for index in 0..count {
        let mut before_ms = time.value;
        let mut stale = false;
        if index == 0 {
            time = Integer::of(bits.varbit_int()?);
            before_ms = time.value;
            all = Integer::of(bits.varbit_uint()? as i64);
            zero = Integer::of(bits.varbit_uint()? as i64);
            sum = Xor::of(bits.take(64)?);
            for bucket in &mut buckets {
                *bucket = Integer::of(bits.varbit_int()?);
            }
        } else {
            time.next(bits)?;
            all.next(bits)?;
            zero.next(bits)?;
            sum.next(bits)?;
            stale = is_stale(sum.value());
            if !stale {
                buckets.iter_mut().try_for_each(|bucket| bucket.next(bits))?;
            }
        }
        let start_ms = starts.as_mut().map_or(Ok(0), |starts| starts.next(bits, index, before_ms))?;
        if stale || is_stale(sum.value()) {
            out.push(time.value, stale_nan(), start_ms);
            continue;
        }
        let values: Vec<i64> = buckets.iter().map(|bucket| bucket.value).collect();
        let (positive, negative) = values.split_at(layout.positive);
        let histogram = IntegerHistogram {
            schema: layout.schema,
            counter_reset_hint: layout.hint,
            zero_threshold: layout.zero_threshold,
            zero_count: zero.value as u64,
            count: all.value as u64,
            sum: sum.value(),
            positive_spans: layout.positive_spans.clone(),
            positive_deltas: positive.to_vec(),
            negative_spans: layout.negative_spans.clone(),
            negative_deltas: negative.to_vec(),
            custom_bounds: layout.custom_bounds.clone(),
        };
        let histogram = histogram.into_float().map_err(|_| Malformed("a histogram is not valid"))?;
        out.push_histogram(time.value, Arc::new(histogram), start_ms);
    }
    Ok(())
}

/// Appends `count` histograms of floats, as [`decode_integers`].
pub fn decode_floats(
    mut bits: Bits,
    count: usize,
    flags: u8,
    starts: Option<u8>,
    out: &mut Samples,
) -> Result<(), Malformed> {
    if count == 0 {
        return Ok(());
    }
    let bits = &mut bits;
    let layout = Layout::read(bits, flags)?;
    let mut starts = starts.map(Starts::new);
    let mut time = Integer::default();
    let (mut all, mut zero, mut sum) = (Xor::default(), Xor::default(), Xor::default());
    let mut buckets = vec![Xor::default(); layout.positive + layout.negative];
    for index in 0..count {
        let mut before_ms = time.value;
        if index == 0 {
            time = Integer::of(bits.varbit_int()?);
            before_ms = time.value;
            for number in [&mut all, &mut zero, &mut sum].into_iter().chain(&mut buckets) {
                *number = Xor::of(bits.take(64)?);
            }
        } else {
            time.next(bits)?;
            all.next(bits)?;
            zero.next(bits)?;
            sum.next(bits)?;
            if !is_stale(sum.value()) {
                buckets.iter_mut().try_for_each(|bucket| bucket.next(bits))?;
            }
        }
        let start_ms = starts.as_mut().map_or(Ok(0), |starts| starts.next(bits, index, before_ms))?;
        if is_stale(sum.value()) {
            out.push(time.value, stale_nan(), start_ms);
            continue;
        }
        let values: Vec<f64> = buckets.iter().map(Xor::value).collect();
        let (positive, negative) = values.split_at(layout.positive);
        let histogram = Histogram {
            schema: layout.schema,
            counter_reset_hint: layout.hint,
            zero_threshold: layout.zero_threshold,
            zero_count: zero.value(),
            count: all.value(),
            sum: sum.value(),
            positive_spans: layout.positive_spans.clone(),
            positive: positive.to_vec(),
            negative_spans: layout.negative_spans.clone(),
            negative: negative.to_vec(),
            custom_bounds: layout.custom_bounds.clone(),
        };
        let histogram = histogram.validated().map_err(|_| Malformed("a histogram is not valid"))?;
        out.push_histogram(time.value, Arc::new(histogram), start_ms);
    }
    Ok(())
}
