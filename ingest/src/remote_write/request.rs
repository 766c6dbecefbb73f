//! Remote-write messages, both versions, decoded into one shape.
//!
//! Source: Prometheus `prompb/types.proto`, `prompb/io/prometheus/write/v2/types.proto`.

use super::histogram::{RawHistogram, decode_histogram};
use crate::protobuf::{DecodeError, Message};

/// All series of one request.
#[derive(Debug, Default, PartialEq)]
pub struct Request<'a> {
    /// Pairs of all series one after another, in the order sent.
    pub labels: Vec<(&'a str, &'a str)>,
    pub samples: Vec<RawSample>,
    pub histograms: Vec<RawHistogram>,
    pub exemplars: Vec<RawExemplar<'a>>,
    pub series: Vec<RawSeries>,
    pub metadata: Vec<RawMetadata<'a>>,
}

/// An exemplar; its labels are in the order sent.
#[derive(Debug, Clone, PartialEq)]
pub struct RawExemplar<'a> {
    pub labels: Vec<(&'a str, &'a str)>,
    pub value: f64,
    /// 0 where unknown.
    pub timestamp_ms: i64,
}

/// One series: where its labels, samples, histograms and exemplars end in the request's lists (they start where the previous series' end).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawSeries {
    pub labels_end: usize,
    pub samples_end: usize,
    pub histograms_end: usize,
    pub exemplars_end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawSample {
    pub timestamp_ms: i64,
    pub value: f64,
    /// 0 where unknown.
    pub start_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawMetadata<'a> {
    pub metric: &'a str,
    pub kind: &'static str,
    pub help: &'a str,
    pub unit: &'a str,
}

/// Names of the metric type enum, the same numbers in both versions, and in Prometheus's log.
pub(crate) fn metric_kind(number: u64) -> &'static str {
    match number {
        1 => "counter",
        2 => "gauge",
        3 => "histogram",
        4 => "gaugehistogram",
        5 => "summary",
        6 => "info",
        7 => "stateset",
        _ => "unknown",
    }
}

/// Decodes `prometheus.WriteRequest` (remote write 1.0).
pub fn decode_v1(bytes: &[u8]) -> Result<Request<'_>, DecodeError> {
    let mut request = Request::default();
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => decode_series_v1(field.bytes()?, &mut request)?,
            3 => request.metadata.push(decode_metadata_v1(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(request)
}

fn decode_series_v1<'a>(bytes: &'a [u8], request: &mut Request<'a>) -> Result<(), DecodeError> {
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => request.labels.push(field.label()?),
            2 => request.samples.push(decode_sample(field.bytes()?)?),
            3 => request.exemplars.push(decode_exemplar_v1(field.bytes()?)?),
            4 => request.histograms.push(decode_histogram(field.bytes()?)?),
            _ => {}
        }
    }
    push_series(request);
    Ok(())
}

fn decode_exemplar_v1(bytes: &[u8]) -> Result<RawExemplar<'_>, DecodeError> {
    let mut exemplar = RawExemplar { labels: Vec::new(), value: 0.0, timestamp_ms: 0 };
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => exemplar.labels.push(field.label()?),
            2 => exemplar.value = field.double()?,
            3 => exemplar.timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(exemplar)
}

fn push_series(request: &mut Request<'_>) {
    request.series.push(RawSeries {
        labels_end: request.labels.len(),
        samples_end: request.samples.len(),
        histograms_end: request.histograms.len(),
        exemplars_end: request.exemplars.len(),
    });
}

fn decode_sample(bytes: &[u8]) -> Result<RawSample, DecodeError> {
    let mut sample = RawSample { timestamp_ms: 0, value: 0.0, start_ms: 0 };
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.timestamp_ms = field.varint()? as i64,
            3 => sample.start_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(sample)
}

fn decode_metadata_v1(bytes: &[u8]) -> Result<RawMetadata<'_>, DecodeError> {
    let mut metadata = RawMetadata { metric: "", kind: metric_kind(0), help: "", unit: "" };
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => metadata.kind = metric_kind(field.varint()?),
            2 => metadata.metric = field.text()?,
            4 => metadata.help = field.text()?,
            5 => metadata.unit = field.text()?,
            _ => {}
        }
    }
    Ok(metadata)
}

/// Decodes `io.prometheus.write.v2.Request` (remote write 2.0).
pub fn decode_v2(bytes: &[u8]) -> Result<Request<'_>, DecodeError> {
    // Symbols may come behind the series that use them: two passes.
    let mut symbols: Vec<&str> = Vec::new();
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        if field.number == 4 {
            symbols.push(field.text()?);
        }
    }
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(DecodeError::FirstSymbolNotEmpty);
    }
    let mut request = Request::default();
    let mut message = Message::new(bytes);
    let mut references = Vec::new();
    while let Some(field) = message.next_field()? {
        if field.number == 5 {
            decode_series_v2(field.bytes()?, &symbols, &mut references, &mut request)?;
        }
    }
    Ok(request)
}

fn symbol<'a>(symbols: &[&'a str], reference: u64) -> Result<&'a str, DecodeError> {
    usize::try_from(reference)
        .ok()
        .and_then(|index| symbols.get(index).copied())
        .ok_or(DecodeError::SymbolOutOfRange { reference, symbols: symbols.len() })
}

fn decode_series_v2<'a>(
    bytes: &'a [u8],
    symbols: &[&'a str],
    references: &mut Vec<u64>,
    request: &mut Request<'a>,
) -> Result<(), DecodeError> {
    references.clear();
    let mut metadata = None;
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => field.varints(references)?,
            2 => request.samples.push(decode_sample(field.bytes()?)?),
            3 => request.histograms.push(decode_histogram(field.bytes()?)?),
            4 => request.exemplars.push(decode_exemplar_v2(field.bytes()?, symbols)?),
            5 => metadata = Some(field.bytes()?),
            _ => {}
        }
    }
    if !references.len().is_multiple_of(2) {
        return Err(DecodeError::OddLabelRefs);
    }
    let labels_start = request.labels.len();
    for pair in references.chunks_exact(2) {
        request.labels.push((symbol(symbols, pair[0])?, symbol(symbols, pair[1])?));
    }
    if let Some(bytes) = metadata {
        let metric = request.labels[labels_start..]
            .iter()
            .find(|(name, _)| *name == pilaster_model::METRIC_NAME)
            .map_or("", |(_, value)| value);
        let mut raw = RawMetadata { metric, kind: metric_kind(0), help: "", unit: "" };
        let mut message = Message::new(bytes);
        while let Some(field) = message.next_field()? {
            match field.number {
                1 => raw.kind = metric_kind(field.varint()?),
                3 => raw.help = symbol(symbols, field.varint()?)?,
                4 => raw.unit = symbol(symbols, field.varint()?)?,
                _ => {}
            }
        }
        request.metadata.push(raw);
    }
    push_series(request);
    Ok(())
}

fn decode_exemplar_v2<'a>(bytes: &'a [u8], symbols: &[&'a str]) -> Result<RawExemplar<'a>, DecodeError> {
    let mut exemplar = RawExemplar { labels: Vec::new(), value: 0.0, timestamp_ms: 0 };
    let mut references = Vec::new();
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => field.varints(&mut references)?,
            2 => exemplar.value = field.double()?,
            3 => exemplar.timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    if !references.len().is_multiple_of(2) {
        return Err(DecodeError::OddLabelRefs);
    }
    for pair in references.chunks_exact(2) {
        exemplar.labels.push((symbol(symbols, pair[0])?, symbol(symbols, pair[1])?));
    }
    Ok(exemplar)
}
