//! Native histograms of remote-write messages: integer or float on the wire, float from here on.
//!
//! Source: Prometheus `prompb/types.proto`, message `Histogram`; the same fields in both versions.

use std::sync::Arc;

use pilaster_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Span};

use crate::protobuf::{DecodeError, Message};

/// One histogram sample as sent.
#[derive(Debug, Clone, PartialEq)]
pub struct RawHistogram {
    pub timestamp_ms: i64,
    /// 0 where unknown.
    pub start_ms: i64,
    pub histogram: Histogram,
}

/// One side's buckets: the wire has differences of integers, or absolute floats.
#[derive(Default)]
struct Buckets {
    spans: Vec<Span>,
    deltas: Vec<u64>,
    counts: Vec<f64>,
}

impl Buckets {
    /// Absolute counts of the buckets that the spans name.
    fn into_counts(self, is_float: bool) -> Result<(Vec<Span>, Vec<f64>), DecodeError> {
        let counts = if is_float {
            self.counts
        } else {
            let mut count = 0i64;
            self.deltas
                .iter()
                .map(|&delta| {
                    count = count.wrapping_add(zigzag(delta));
                    count as f64
                })
                .collect()
        };
        let named: u64 = self.spans.iter().map(|span| u64::from(span.length)).sum();
        if named != counts.len() as u64 {
            return Err(DecodeError::SpansAndBuckets { spans: named, buckets: counts.len() });
        }
        Ok((self.spans, counts))
    }
}

/// A `sint32` or `sint64` out of its varint.
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Decodes one `BucketSpan`, the same message here and in the exposition format.
pub(crate) fn decode_span(bytes: &[u8]) -> Result<Span, DecodeError> {
    let mut span = Span::default();
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => span.offset = zigzag(field.varint()?) as i32,
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// Decodes one `Histogram` message. A stale marker is the sum's business: its bits pass unchanged.
pub fn decode_histogram(bytes: &[u8]) -> Result<RawHistogram, DecodeError> {
    let mut histogram = Histogram::default();
    let (mut timestamp_ms, mut start_ms) = (0, 0);
    let (mut positive, mut negative) = (Buckets::default(), Buckets::default());
    let mut custom_bounds = Vec::new();
    let mut is_float = false;
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => histogram.count = field.varint()? as f64,
            2 => {
                is_float = true;
                histogram.count = field.double()?;
            }
            3 => histogram.sum = field.double()?,
            4 => histogram.schema = zigzag(field.varint()?) as i32,
            5 => histogram.zero_threshold = field.double()?,
            6 => histogram.zero_count = field.varint()? as f64,
            7 => histogram.zero_count = field.double()?,
            8 => negative.spans.push(decode_span(field.bytes()?)?),
            9 => field.varints(&mut negative.deltas)?,
            10 => field.doubles(&mut negative.counts)?,
            11 => positive.spans.push(decode_span(field.bytes()?)?),
            12 => field.varints(&mut positive.deltas)?,
            13 => field.doubles(&mut positive.counts)?,
            14 => {
                histogram.counter_reset_hint = match field.varint()? {
                    1 => CounterResetHint::Reset,
                    2 => CounterResetHint::NotReset,
                    3 => CounterResetHint::Gauge,
                    _ => CounterResetHint::Unknown,
                }
            }
            15 => timestamp_ms = field.varint()? as i64,
            16 => field.doubles(&mut custom_bounds)?,
            17 => start_ms = field.varint()? as i64,
            _ => {}
        }
    }
    (histogram.positive_spans, histogram.positive) = positive.into_counts(is_float)?;
    (histogram.negative_spans, histogram.negative) = negative.into_counts(is_float)?;
    if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
        histogram.custom_bounds = Arc::from(custom_bounds);
    }
    Ok(RawHistogram { timestamp_ms, start_ms, histogram })
}

#[cfg(test)]
mod tests {
    use pilaster_model::Labels;

    use super::*;
    use crate::remote_write::{SeriesToSend, decode_v1, decode_v2, encode_v1, encode_v2};

    #[test]
    fn what_was_sent_arrives_in_both_versions() {
        let spans = vec![Span { offset: -3, length: 2 }, Span { offset: 4, length: 1 }];
        let exponential = Histogram {
            schema: -2,
            counter_reset_hint: CounterResetHint::Gauge,
            zero_threshold: 0.001,
            zero_count: 2.5,
            count: 12.5,
            sum: -3.25,
            positive_spans: spans.clone(),
            positive: vec![1.0, 2.0, 3.0],
            negative_spans: spans,
            negative: vec![0.5, 1.5, 2.0],
            custom_bounds: Arc::from([]),
        };
        let custom = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive: vec![1.0, 2.0],
            custom_bounds: Arc::from([0.1, 5.0]),
            ..Histogram::default()
        };
        let labels = Labels::from_pairs([("__name__", "a")]);
        let histograms = [(1000, exponential), (2000, custom)];
        let one = || [SeriesToSend { labels: &labels, samples: &[], histograms: &histograms }];
        for (bytes, version) in [(encode_v1(one()), 1), (encode_v2(one()), 2)] {
            let request = if version == 1 { decode_v1(&bytes) } else { decode_v2(&bytes) }.unwrap();
            let arrived: Vec<_> = request.histograms.into_iter().map(|raw| (raw.timestamp_ms, raw.histogram)).collect();
            assert_eq!(arrived, histograms);
        }
    }

    #[test]
    fn integer_buckets_are_differences() {
        // count_int 6, one positive span of three buckets, deltas +1, +2, -1 in zigzag.
        let bytes = [8, 6, 0x5a, 4, 8, 0, 16, 3, 0x62, 3, 2, 4, 1, 0x78, 7];
        let raw = decode_histogram(&bytes).unwrap();
        assert_eq!((raw.timestamp_ms, raw.histogram.count), (7, 6.0));
        assert_eq!(raw.histogram.positive, [1.0, 3.0, 2.0]);
        let error = decode_histogram(&bytes[..bytes.len() - 7]).unwrap_err();
        assert_eq!(error, DecodeError::SpansAndBuckets { spans: 3, buckets: 0 });
    }
}
