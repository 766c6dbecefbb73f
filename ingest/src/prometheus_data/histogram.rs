//! Native histograms: a chunk says its buckets once, each sample their counts as changes.
//!
//! Counter resets: a chunk tells whether it holds gauges. What else it tells is about neighbours in the same chunk, and not
//! kept: beside samples of other chunks and blocks it may be wrong, and resets show in the counts.

use std::sync::Arc;

use pilaster_model::{Columns, Histogram, histogram};
use pilaster_model::{is_stale, stale_nan};

use super::bits::Bits;
use super::error::Malformed;
use super::starts::Starts;
use super::xor::Xor;
use histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, IntegerHistogram, Invalid, Span};

/// What all samples of a chunk share.
pub struct Layout {
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

/// Counts of a chunk's histograms: integers or floats.
pub trait Count: Copy + Default {
    /// The first of a chunk: of all its observations, or of its zero bucket.
    fn first_total(bits: &mut Bits) -> Result<Self, Malformed>;
    fn first_bucket(bits: &mut Bits) -> Result<Self, Malformed>;
    fn next(&mut self, bits: &mut Bits) -> Result<(), Malformed>;
    fn histogram(layout: &Layout, row: &Row<Self>) -> Result<Histogram, Invalid>;
}

/// A sample's numbers, as far as a chunk has been read.
#[derive(Default)]
pub struct Row<N> {
    time: Integer,
    count: N,
    zero: N,
    sum: Xor,
    /// Positive ones, then negative ones.
    buckets: Vec<N>,
}

impl<N: Count> Row<N> {
    fn first(bits: &mut Bits, layout: &Layout) -> Result<Row<N>, Malformed> {
        Ok(Row {
            time: Integer::first_bucket(bits)?,
            count: N::first_total(bits)?,
            zero: N::first_total(bits)?,
            sum: Xor::of(bits.take(64)?),
            buckets: (0..layout.positive + layout.negative).map(|_| N::first_bucket(bits)).collect::<Result<_, _>>()?,
        })
    }

    fn next(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        self.time.next(bits)?;
        self.count.next(bits)?;
        self.zero.next(bits)?;
        self.sum.next(bits)?;
        if !is_stale(self.sum.value()) {
            self.buckets.iter_mut().try_for_each(|bucket| bucket.next(bits))?;
        }
        Ok(())
    }
}

/// Appends `count` histograms. `flags` holds the counter reset header, `starts` the one about start timestamps.
pub fn decode<N: Count>(
    mut bits: Bits,
    count: usize,
    flags: u8,
    starts: Option<u8>,
    out: &mut Columns,
) -> Result<(), Malformed> {
    if count == 0 {
        return Ok(());
    }
    let bits = &mut bits;
    let layout = Layout::read(bits, flags)?;
    let mut starts = starts.map(Starts::new);
    let mut row = Row::<N>::first(bits, &layout)?;
    let mut before_ms = row.time.value;
    for index in 0..count {
        if index > 0 {
            before_ms = row.time.value;
            row.next(bits)?;
        }
        let start_ms = starts.as_mut().map_or(Ok(0), |starts| starts.next(bits, index, before_ms))?;
        if is_stale(row.sum.value()) {
            out.push_float(row.time.value, stale_nan(), start_ms);
            continue;
        }
        let histogram = N::histogram(&layout, &row).map_err(|_| Malformed("a histogram is not valid"))?;
        out.push_histogram(row.time.value, Arc::new(histogram), start_ms);
    }
    Ok(())
}

/// A number given by how its change changes.
#[derive(Clone, Copy, Default)]
pub struct Integer {
    value: i64,
    delta: i64,
}

impl Count for Integer {
    fn first_total(bits: &mut Bits) -> Result<Integer, Malformed> {
        Ok(Integer { value: bits.varbit_uint()? as i64, delta: 0 })
    }

    fn first_bucket(bits: &mut Bits) -> Result<Integer, Malformed> {
        Ok(Integer { value: bits.varbit_int()?, delta: 0 })
    }

    fn next(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        self.delta = self.delta.wrapping_add(bits.varbit_int()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }

    fn histogram(layout: &Layout, row: &Row<Integer>) -> Result<Histogram, Invalid> {
        let (positive, negative) = row.buckets.split_at(layout.positive);
        let deltas = |buckets: &[Integer]| buckets.iter().map(|bucket| bucket.value).collect();
        let histogram = IntegerHistogram {
            schema: layout.schema,
            counter_reset_hint: layout.hint,
            zero_threshold: layout.zero_threshold,
            zero_count: row.zero.value as u64,
            count: row.count.value as u64,
            sum: row.sum.value(),
            positive_spans: layout.positive_spans.clone(),
            positive_deltas: deltas(positive),
            negative_spans: layout.negative_spans.clone(),
            negative_deltas: deltas(negative),
            custom_bounds: layout.custom_bounds.clone(),
        };
        histogram.into_float()
    }
}

impl Count for Xor {
    fn first_total(bits: &mut Bits) -> Result<Xor, Malformed> {
        Ok(Xor::of(bits.take(64)?))
    }

    fn first_bucket(bits: &mut Bits) -> Result<Xor, Malformed> {
        Xor::first_total(bits)
    }

    fn next(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        Xor::next(self, bits)
    }

    fn histogram(layout: &Layout, row: &Row<Xor>) -> Result<Histogram, Invalid> {
        let (positive, negative) = row.buckets.split_at(layout.positive);
        let histogram = Histogram {
            schema: layout.schema,
            counter_reset_hint: layout.hint,
            zero_threshold: layout.zero_threshold,
            zero_count: row.zero.value(),
            count: row.count.value(),
            sum: row.sum.value(),
            positive_spans: layout.positive_spans.clone(),
            positive: positive.iter().map(Xor::value).collect(),
            negative_spans: layout.negative_spans.clone(),
            negative: negative.iter().map(Xor::value).collect(),
            custom_bounds: layout.custom_bounds.clone(),
        };
        histogram.validated()
    }
}
