//! The protobuf format: `MetricFamily` messages, each with its length before it. The only one with native histograms.
//!
//! Source: `io/prometheus/client/metrics.proto` of Prometheus's client model.

use std::borrow::Cow;
use std::sync::Arc;

use pilaster_model::Histogram;
use pilaster_model::histogram::{ClassicBuckets, ClassicBucketsError, CounterResetHint, IntegerHistogram, Invalid};

use super::{Exemplar, MetricKind, go_quote};
use crate::protobuf::{DecodeError, Message};
use crate::remote_write::histogram::{decode_span, zigzag};

/// A body that is not in the format, or says something impossible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProtobufError {
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("unexpected EOF")]
    Truncated,
    #[error("invalid metric name: {0}")]
    Name(String),
    #[error("unknown metric type for metric {name:?}: {number}")]
    Kind { name: String, number: u64 },
}

/// One metric family.
#[derive(Debug, Clone, PartialEq)]
pub struct Family<'a> {
    pub name: &'a str,
    pub help: &'a str,
    pub unit: &'a str,
    pub kind: MetricKind,
    /// Each for [`Metric::decode`].
    pub metrics: Vec<&'a [u8]>,
}

/// One metric of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric<'a> {
    pub labels: Vec<(&'a str, &'a str)>,
    /// `None` where the scraper tells the time.
    pub timestamp_ms: Option<i64>,
    pub start_ms: Option<i64>,
    pub value: MetricValue,
    /// Each with the position of its classic bucket; without one it is of the metric as a whole.
    pub exemplars: Vec<(Option<usize>, Exemplar<'a>)>,
}

/// What a metric measures.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    Number(f64),
    Summary { count: f64, sum: f64, quantiles: Vec<(f64, f64)> },
    Histogram(Box<ProtobufHistogram>),
}

/// A histogram with its classic buckets, its native ones, or both.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProtobufHistogram {
    pub count: f64,
    pub sum: f64,
    /// Upper bounds with cumulative counts.
    pub buckets: Vec<(f64, f64)>,
    /// `None` where it has classic buckets only.
    pub native: Option<Result<Histogram, Invalid>>,
}

/// The families of a body; after an error there are no more.
pub fn families(body: &[u8]) -> impl Iterator<Item = Result<Family<'_>, ProtobufError>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let family = split_delimited(rest).ok_or(ProtobufError::Truncated).and_then(|(message, after)| {
            rest = after;
            Family::decode(message)
        });
        if family.is_err() {
            rest = &[];
        }
        Some(family)
    })
}

/// The message behind a length, and what follows it.
fn split_delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes[index + 1..].split_at_checked(length);
        }
    }
    None
}

impl<'a> Family<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Family<'a>, ProtobufError> {
        let (mut name, mut help, mut unit, mut number) = ("", "", "", 0);
        let mut metrics = Vec::new();
        let mut message = Message::new(bytes);
        while let Some(field) = message.next_field()? {
            match field.number {
                1 => name = field.text()?,
                2 => help = field.text()?,
                3 => number = field.varint()?,
                4 => metrics.push(field.bytes()?),
                5 => unit = field.text()?,
                _ => {}
            }
        }
        if name.is_empty() && !metrics.is_empty() {
            return Err(ProtobufError::Name(go_quote(b"")));
        }
        let kind = match number {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Summary,
            3 => MetricKind::Unknown,
            4 => MetricKind::Histogram,
            5 => MetricKind::GaugeHistogram,
            number => return Err(ProtobufError::Kind { name: name.to_owned(), number }),
        };
        Ok(Family { name, help, unit, kind, metrics })
    }
}

impl<'a> Metric<'a> {
    /// Reads one of [`Family::metrics`]. A metric without the part that its kind needs is 0.
    ///
    /// # Errors
    /// [`ProtobufError`] where the bytes are no such message.
    pub fn decode(bytes: &'a [u8], kind: MetricKind) -> Result<Metric<'a>, ProtobufError> {
        let mut labels = Vec::new();
        let (mut timestamp_ms, mut start_ms) = (None, None);
        let mut exemplars = Vec::new();
        let mut value = match kind {
            MetricKind::Summary => MetricValue::Summary { count: 0.0, sum: 0.0, quantiles: Vec::new() },
            MetricKind::Histogram | MetricKind::GaugeHistogram => MetricValue::Histogram(Box::default()),
            _ => MetricValue::Number(0.0),
        };
        let mut message = Message::new(bytes);
        while let Some(field) = message.next_field()? {
            match (field.number, kind) {
                (1, _) => labels.push(field.label()?),
                (2, MetricKind::Gauge) | (5, MetricKind::Unknown) => {
                    value = MetricValue::Number(number(field.bytes()?, &mut Vec::new())?.0);
                }
                (3, MetricKind::Counter) => {
                    let (count, start) = number(field.bytes()?, &mut exemplars)?;
                    value = MetricValue::Number(count);
                    start_ms = start;
                }
                (4, MetricKind::Summary) => (value, start_ms) = summary(field.bytes()?)?,
                (7, MetricKind::Histogram | MetricKind::GaugeHistogram) => {
                    let (decoded, start) =
                        histogram(field.bytes()?, kind == MetricKind::GaugeHistogram, &mut exemplars)?;
                    value = MetricValue::Histogram(Box::new(decoded));
                    start_ms = start;
                }
                // Nothing tells 0 from missing.
                (6, _) => timestamp_ms = Some(field.varint()? as i64).filter(|ms| *ms != 0),
                _ => {}
            }
        }
        Ok(Metric { labels, timestamp_ms, start_ms, value, exemplars })
    }

    /// Bytes that stand for the series `name` with this metric's labels and `bound`.
    pub fn key(&self, name: &str, bound: Option<(&str, &str)>) -> Vec<u8> {
        let mut key = name.as_bytes().to_vec();
        for (name, value) in self.labels.iter().copied().chain(bound) {
            // No UTF-8 text has this byte.
            key.push(0xff);
            key.extend_from_slice(name.as_bytes());
            key.push(0xff);
            key.extend_from_slice(value.as_bytes());
        }
        key
    }
}

type Exemplars<'a> = Vec<(Option<usize>, Exemplar<'a>)>;

fn exemplar(bytes: &[u8]) -> Result<Exemplar<'_>, DecodeError> {
    let mut exemplar = Exemplar { labels: Vec::new(), value: 0.0, timestamp_ms: None };
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => {
                let (name, value) = field.label()?;
                exemplar.labels.push((Cow::Borrowed(name), Cow::Borrowed(value)));
            }
            2 => exemplar.value = field.double()?,
            // A timestamp of zero is one.
            3 => exemplar.timestamp_ms = Some(timestamp(field.bytes()?)?.unwrap_or(0)),
            _ => {}
        }
    }
    Ok(exemplar)
}

/// Value and start of a `Counter`, and its exemplar; a `Gauge` and an `Untyped` have the value only.
fn number<'a>(bytes: &'a [u8], exemplars: &mut Exemplars<'a>) -> Result<(f64, Option<i64>), DecodeError> {
    let (mut value, mut start_ms) = (0.0, None);
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => value = field.double()?,
            2 => exemplars.push((None, exemplar(field.bytes()?)?)),
            3 => start_ms = timestamp(field.bytes()?)?,
            _ => {}
        }
    }
    Ok((value, start_ms))
}

/// Milliseconds of a `google.protobuf.Timestamp`; `None` for the epoch itself.
fn timestamp(bytes: &[u8]) -> Result<Option<i64>, DecodeError> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(Some(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)).filter(|ms| *ms != 0))
}

fn summary(bytes: &[u8]) -> Result<(MetricValue, Option<i64>), DecodeError> {
    let (mut count, mut sum, mut start_ms) = (0.0, 0.0, None);
    let mut quantiles = Vec::new();
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => count = field.varint()? as f64,
            2 => sum = field.double()?,
            3 => {
                let mut pair = (0.0, 0.0);
                let mut quantile = Message::new(field.bytes()?);
                while let Some(field) = quantile.next_field()? {
                    match field.number {
                        1 => pair.0 = field.double()?,
                        2 => pair.1 = field.double()?,
                        _ => {}
                    }
                }
                quantiles.push(pair);
            }
            4 => start_ms = timestamp(field.bytes()?)?,
            _ => {}
        }
    }
    Ok((MetricValue::Summary { count, sum, quantiles }, start_ms))
}

fn classic_bucket(bytes: &[u8]) -> Result<((f64, f64), Option<Exemplar<'_>>), DecodeError> {
    let (mut bound, mut count, mut float_count, mut shown) = (0.0, 0, 0.0, None);
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => count = field.varint()?,
            2 => bound = field.double()?,
            3 => shown = Some(exemplar(field.bytes()?)?),
            4 => float_count = field.double()?,
            _ => {}
        }
    }
    Ok(((bound, if float_count != 0.0 { float_count } else { count as f64 }), shown))
}

fn histogram<'a>(
    bytes: &'a [u8],
    gauge: bool,
    exemplars: &mut Exemplars<'a>,
) -> Result<(ProtobufHistogram, Option<i64>), DecodeError> {
    let mut out = ProtobufHistogram::default();
    let mut integer = IntegerHistogram::default();
    let mut float = Histogram::default();
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    let mut start_ms = None;
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => integer.count = field.varint()?,
            2 => integer.sum = field.double()?,
            3 => {
                let (bucket, shown) = classic_bucket(field.bytes()?)?;
                exemplars.extend(shown.map(|shown| (Some(out.buckets.len()), shown)));
                out.buckets.push(bucket);
            }
            4 => float.count = field.double()?,
            5 => integer.schema = zigzag(field.varint()?) as i32,
            6 => integer.zero_threshold = field.double()?,
            7 => integer.zero_count = field.varint()?,
            8 => float.zero_count = field.double()?,
            9 => integer.negative_spans.push(decode_span(field.bytes()?)?),
            10 => field.varints(&mut negative)?,
            11 => field.doubles(&mut float.negative)?,
            12 => integer.positive_spans.push(decode_span(field.bytes()?)?),
            13 => field.varints(&mut positive)?,
            14 => field.doubles(&mut float.positive)?,
            15 => start_ms = timestamp(field.bytes()?)?,
            16 => exemplars.push((None, exemplar(field.bytes()?)?)),
            _ => {}
        }
    }
    out.count = if float.count != 0.0 { float.count } else { integer.count as f64 };
    out.sum = integer.sum;
    let has_spans = !integer.positive_spans.is_empty() || !integer.negative_spans.is_empty();
    if has_spans || integer.zero_threshold > 0.0 || integer.zero_count > 0 {
        let hint = if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        out.native = Some(if float.count > 0.0 || float.zero_count > 0.0 {
            float.schema = integer.schema;
            float.sum = integer.sum;
            float.zero_threshold = integer.zero_threshold;
            float.positive_spans = integer.positive_spans;
            float.negative_spans = integer.negative_spans;
            float.custom_bounds = Arc::from([]);
            float.counter_reset_hint = hint;
            float.validated()
        } else {
            integer.positive_deltas = positive.into_iter().map(zigzag).collect();
            integer.negative_deltas = negative.into_iter().map(zigzag).collect();
            integer.counter_reset_hint = hint;
            integer.into_float()
        });
    }
    Ok((out, start_ms))
}

impl ProtobufHistogram {
    /// The classic buckets as one histogram with custom buckets.
    ///
    /// # Errors
    /// Buckets that make no histogram.
    pub fn classic(&self) -> Result<Histogram, ClassicBucketsError> {
        let mut buckets = ClassicBuckets::default();
        buckets.set_count(self.count)?;
        buckets.set_sum(self.sum);
        for (bound, count) in &self.buckets {
            buckets.set_bucket(*bound, *count)?;
        }
        buckets.into_histogram()
    }
}
