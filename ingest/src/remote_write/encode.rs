//! Remote-write messages out of samples: what a sender, a load generator or a test writes.

use pilaster_model::Labels;
use pilaster_model::histogram::{CounterResetHint, Histogram, Span};

/// One series with its samples, `(timestamp_ms, value)` and `(timestamp_ms, histogram)`.
#[derive(Debug, Clone)]
pub struct SeriesToSend<'a> {
    pub labels: &'a Labels,
    pub samples: &'a [(i64, f64)],
    pub histograms: &'a [(i64, Histogram)],
}

impl<'a> SeriesToSend<'a> {
    /// A series of floats.
    pub fn floats(labels: &'a Labels, samples: &'a [(i64, f64)]) -> SeriesToSend<'a> {
        SeriesToSend { labels, samples, histograms: &[] }
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(field << 3 | 2), out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_sample(field: u32, (timestamp_ms, value): (i64, f64), scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    scratch.push(1 << 3 | 1);
    scratch.extend_from_slice(&value.to_bits().to_le_bytes());
    scratch.push(2 << 3);
    put_varint(timestamp_ms as u64, scratch);
    put_bytes(field, scratch, out);
}

fn put_double(field: u32, value: f64, out: &mut Vec<u8>) {
    put_varint(u64::from(field << 3 | 1), out);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn zigzag(value: i32) -> u64 {
    u64::from((value << 1 ^ value >> 31) as u32)
}

fn put_doubles(field: u32, values: &[f64], out: &mut Vec<u8>) {
    if !values.is_empty() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
        put_bytes(field, &bytes, out);
    }
}

fn put_spans(field: u32, spans: &[Span], out: &mut Vec<u8>) {
    for span in spans {
        let mut body = vec![1 << 3];
        put_varint(zigzag(span.offset), &mut body);
        body.push(2 << 3);
        put_varint(u64::from(span.length), &mut body);
        put_bytes(field, &body, out);
    }
}

/// A float histogram, with the field numbers of both versions.
fn put_histogram(field: u32, (timestamp_ms, histogram): &(i64, Histogram), out: &mut Vec<u8>) {
    let mut body = Vec::new();
    put_double(2, histogram.count, &mut body);
    put_double(3, histogram.sum, &mut body);
    body.push(4 << 3);
    put_varint(zigzag(histogram.schema), &mut body);
    put_double(5, histogram.zero_threshold, &mut body);
    put_double(7, histogram.zero_count, &mut body);
    put_spans(8, &histogram.negative_spans, &mut body);
    put_doubles(10, &histogram.negative, &mut body);
    put_spans(11, &histogram.positive_spans, &mut body);
    put_doubles(13, &histogram.positive, &mut body);
    body.push(14 << 3);
    body.push(match histogram.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    });
    body.push(15 << 3);
    put_varint(*timestamp_ms as u64, &mut body);
    put_doubles(16, &histogram.custom_bounds, &mut body);
    put_bytes(field, &body, out);
}

/// `prometheus.WriteRequest`, not compressed.
pub fn encode_v1<'a>(series: impl IntoIterator<Item = SeriesToSend<'a>>) -> Vec<u8> {
    let (mut out, mut body, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    for one in series {
        body.clear();
        for (name, value) in one.labels.iter() {
            scratch.clear();
            put_bytes(1, name.as_bytes(), &mut scratch);
            put_bytes(2, value.as_bytes(), &mut scratch);
            put_bytes(1, &scratch, &mut body);
        }
        for &sample in one.samples {
            put_sample(2, sample, &mut scratch, &mut body);
        }
        for histogram in one.histograms {
            put_histogram(4, histogram, &mut body);
        }
        put_bytes(1, &body, &mut out);
    }
    out
}

/// `io.prometheus.write.v2.Request`, not compressed.
pub fn encode_v2<'a>(series: impl IntoIterator<Item = SeriesToSend<'a>>) -> Vec<u8> {
    let mut index = std::collections::HashMap::<&str, u64>::from([("", 0)]);
    let mut symbols = vec![""];
    let (mut out, mut body, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    for one in series {
        body.clear();
        scratch.clear();
        for text in one.labels.iter().flat_map(|(name, value)| [name, value]) {
            let reference = *index.entry(text).or_insert_with(|| {
                symbols.push(text);
                symbols.len() as u64 - 1
            });
            put_varint(reference, &mut scratch);
        }
        put_bytes(1, &scratch, &mut body);
        for &sample in one.samples {
            put_sample(2, sample, &mut scratch, &mut body);
        }
        for histogram in one.histograms {
            put_histogram(3, histogram, &mut body);
        }
        put_bytes(5, &body, &mut out);
    }
    for symbol in symbols {
        put_bytes(4, symbol.as_bytes(), &mut out);
    }
    out
}
