//! The formats in which targets show their metrics: Prometheus text (0.0.4 and 1.0.0), OpenMetrics 1.0, and protobuf.
//!
//! [`protobuf`] is the last; all others are text. [`Parser`] goes through a body line by line without copying it. Lines in the form that every client library writes
//! take a short path; any other line goes through [`grammar`], which spells out the token grammar of the Prometheus
//! parsers, so that odd lines are accepted and refused exactly as there, with the same words.

mod grammar;
mod negotiate;
mod number;
mod parser;
pub mod protobuf;
#[cfg(test)]
mod tests;

pub use negotiate::{BodyFormat, UnknownContentType, accept_header, format_of};
pub use number::{format_bound, parse_value};
pub use parser::{Entry, Exemplar, Parser, Sample};

/// The two grammars of text. Prometheus text 1.0.0 is 0.0.4 with quoted names, which 0.0.4 bodies may have too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    PrometheusText,
    OpenMetrics,
}

/// What a `# TYPE` line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    #[default]
    Unknown,
}

impl MetricKind {
    /// The word in the metadata API.
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
            MetricKind::Unknown => "unknown",
        }
    }

    fn parse(format: Format, word: &[u8]) -> Option<MetricKind> {
        Some(match (word, format) {
            (b"counter", _) => MetricKind::Counter,
            (b"gauge", _) => MetricKind::Gauge,
            (b"histogram", _) => MetricKind::Histogram,
            (b"summary", _) => MetricKind::Summary,
            (b"untyped", Format::PrometheusText) | (b"unknown", Format::OpenMetrics) => MetricKind::Unknown,
            (b"gaugehistogram", Format::OpenMetrics) => MetricKind::GaugeHistogram,
            (b"info", Format::OpenMetrics) => MetricKind::Info,
            (b"stateset", Format::OpenMetrics) => MetricKind::StateSet,
            _ => return None,
        })
    }

    /// Whether `_created` lines give a start timestamp to metrics of this kind.
    pub fn has_start(self) -> bool {
        matches!(self, MetricKind::Counter | MetricKind::Histogram | MetricKind::Summary)
    }
}

/// A body that is not in its format. Displays as Prometheus words it; the line is beside it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

/// `text` in Go's double quotes, as `%q` prints it.
pub(crate) fn go_quote(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0b' => out.push_str("\\v"),
                '\x0c' => out.push_str("\\f"),
                c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}
