//! What a record of the log says.

use std::sync::Arc;

use pilaster_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, IntegerHistogram, Span};
use pilaster_model::{Histogram, Labels, TimeRange};

use super::bytes::Bytes;
use super::error::Malformed;
use crate::remote_write::metric_kind;

/// A sample of the series that the log calls `series`.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged<V> {
    pub series: u64,
    pub timestamp_ms: i64,
    /// 0 where unknown.
    pub start_ms: i64,
    pub value: V,
}

/// What is said about the metric of the series that the log calls `series`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesMetadata {
    pub series: u64,
    pub kind: &'static str,
    pub help: String,
    pub unit: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Series(Vec<(u64, Labels)>),
    Floats(Vec<Logged<f64>>),
    Histograms(Vec<Logged<Arc<Histogram>>>),
    Tombstones(Vec<(u64, TimeRange)>),
    /// Which we do not keep.
    Exemplars,
    Metadata(Vec<SeriesMetadata>),
    /// About the memory of the process that wrote it, or of a later version.
    Other,
}

/// # Errors
/// The record is of a kind that is known, and malformed.
pub fn parse(bytes: &[u8]) -> Result<Record, Malformed> {
    let mut rest = Bytes(bytes);
    let rest = &mut rest;
    Ok(match rest.byte()? {
        1 => Record::Series(series(rest)?),
        2 => Record::Floats(first_form(rest, &mut |rest| rest.f64())?),
        3 => Record::Tombstones(tombstones(rest)?),
        4 => Record::Exemplars,
        6 => Record::Metadata(metadata(rest)?),
        7 | 9 => Record::Histograms(first_form(rest, &mut integers)?),
        8 | 10 => Record::Histograms(first_form(rest, &mut floats)?),
        11 => Record::Floats(second_form(rest, &mut |rest| rest.f64())?),
        12 => Record::Histograms(second_form(rest, &mut integers)?),
        13 => Record::Histograms(second_form(rest, &mut floats)?),
        _ => Record::Other,
    })
}

fn series(rest: &mut Bytes) -> Result<Vec<(u64, Labels)>, Malformed> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let reference = rest.be64()?;
        let count = rest.count()?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            pairs.push((rest.text()?, rest.text()?));
        }
        all.push((reference, Labels::from_pairs(pairs)));
    }
    Ok(all)
}

fn tombstones(rest: &mut Bytes) -> Result<Vec<(u64, TimeRange)>, Malformed> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        all.push((rest.be64()?, TimeRange::new(rest.varint()?, rest.varint()?)));
    }
    Ok(all)
}

fn metadata(rest: &mut Bytes) -> Result<Vec<SeriesMetadata>, Malformed> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (series, kind) = (rest.uvarint()?, metric_kind(u64::from(rest.byte()?)));
        let (mut help, mut unit) = (String::new(), String::new());
        for _ in 0..rest.count()? {
            match (rest.text()?, rest.text()?) {
                ("HELP", text) => help = text.to_owned(),
                ("UNIT", text) => unit = text.to_owned(),
                // Of a later version.
                (_, _) => {}
            }
        }
        all.push(SeriesMetadata { series, kind, help, unit });
    }
    Ok(all)
}

type Value<'v, V> = &'v mut dyn FnMut(&mut Bytes) -> Result<V, Malformed>;

/// References and timestamps as differences from the first.
fn first_form<V>(rest: &mut Bytes, value: Value<V>) -> Result<Vec<Logged<V>>, Malformed> {
    let mut all = Vec::new();
    if rest.is_empty() {
        return Ok(all);
    }
    let (series, timestamp_ms) = (rest.be64()?, rest.be64()? as i64);
    while !rest.is_empty() {
        all.push(Logged {
            series: series.wrapping_add(rest.varint()? as u64),
            timestamp_ms: timestamp_ms.wrapping_add(rest.varint()?),
            start_ms: 0,
            value: value(rest)?,
        });
    }
    Ok(all)
}

/// References as differences from the one before, timestamps from the first, with start timestamps.
fn second_form<V>(rest: &mut Bytes, value: Value<V>) -> Result<Vec<Logged<V>>, Malformed> {
    let mut all: Vec<Logged<V>> = Vec::new();
    let (mut first_ms, mut first_start_ms) = (0, 0);
    while !rest.is_empty() {
        let (series, timestamp_ms, start_ms);
        if let Some(before) = all.last() {
            series = before.series.wrapping_add(rest.varint()? as u64);
            timestamp_ms = i64::wrapping_add(first_ms, rest.varint()?);
            start_ms = match rest.byte()? {
                0 => 0,
                1 => before.start_ms,
                _ => i64::wrapping_add(first_start_ms, rest.varint()?),
            };
        } else {
            series = rest.varint()? as u64;
            first_ms = rest.varint()?;
            first_start_ms = rest.varint()?;
            (timestamp_ms, start_ms) = (first_ms, first_start_ms);
        }
        all.push(Logged { series, timestamp_ms, start_ms, value: value(rest)? });
    }
    Ok(all)
}

fn spans(rest: &mut Bytes) -> Result<Vec<Span>, Malformed> {
    let count = rest.count()?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let far = Malformed("a span is too far away or too long");
        let offset = i32::try_from(rest.varint()?).map_err(|_| far)?;
        spans.push(Span { offset, length: u32::try_from(rest.uvarint()?).map_err(|_| far)? });
    }
    Ok(spans)
}

fn list<T>(rest: &mut Bytes, one: impl Fn(&mut Bytes) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let count = rest.count()?;
    (0..count).map(|_| one(rest)).collect()
}

/// Only gauges are told apart: see the module about chunks of histograms.
fn hint(rest: &mut Bytes) -> Result<CounterResetHint, Malformed> {
    Ok(if rest.byte()? == 3 { CounterResetHint::Gauge } else { CounterResetHint::Unknown })
}

fn schema(rest: &mut Bytes) -> Result<i32, Malformed> {
    i32::try_from(rest.varint()?).map_err(|_| Malformed("an unknown schema"))
}

const INVALID: Malformed = Malformed("a histogram is not valid");

fn bounds(rest: &mut Bytes, schema: i32) -> Result<Arc<[f64]>, Malformed> {
    Ok(if schema == CUSTOM_BUCKETS_SCHEMA { list(rest, |rest| rest.f64())?.into() } else { Arc::from([]) })
}

fn integers(rest: &mut Bytes) -> Result<Arc<Histogram>, Malformed> {
    let (counter_reset_hint, schema) = (hint(rest)?, schema(rest)?);
    let histogram = IntegerHistogram {
        schema,
        counter_reset_hint,
        zero_threshold: rest.f64()?,
        zero_count: rest.uvarint()?,
        count: rest.uvarint()?,
        sum: rest.f64()?,
        positive_spans: spans(rest)?,
        negative_spans: spans(rest)?,
        positive_deltas: list(rest, |rest| rest.varint())?,
        negative_deltas: list(rest, |rest| rest.varint())?,
        custom_bounds: bounds(rest, schema)?,
    };
    if pilaster_model::is_stale(histogram.sum) {
        return Ok(Arc::new(Histogram { sum: histogram.sum, ..Histogram::default() }));
    }
    histogram.into_float().map(Arc::new).map_err(|_| INVALID)
}

fn floats(rest: &mut Bytes) -> Result<Arc<Histogram>, Malformed> {
    let (counter_reset_hint, schema) = (hint(rest)?, schema(rest)?);
    let histogram = Histogram {
        schema,
        counter_reset_hint,
        zero_threshold: rest.f64()?,
        zero_count: rest.f64()?,
        count: rest.f64()?,
        sum: rest.f64()?,
        positive_spans: spans(rest)?,
        negative_spans: spans(rest)?,
        positive: list(rest, |rest| rest.f64())?,
        negative: list(rest, |rest| rest.f64())?,
        custom_bounds: bounds(rest, schema)?,
    };
    if histogram.is_stale() {
        return Ok(Arc::new(Histogram { sum: histogram.sum, ..Histogram::default() }));
    }
    histogram.validated().map(Arc::new).map_err(|_| INVALID)
}
