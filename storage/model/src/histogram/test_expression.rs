//! `{{schema:0 sum:5 count:4 buckets:[1 2 1]}}`: histograms in PromQL scripts and rule unit tests.

use std::sync::Arc;

use super::number::format_g;
use super::sparse::Side;
use super::{CounterResetHint, Histogram, Span};

/// A histogram as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct TestExpression {
    pub histogram: Histogram,
    /// Whether a counter reset hint was written; comparisons look at hints only then.
    pub has_hint: bool,
}

/// Why a text is no histogram.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TestExpressionError {
    #[error("a histogram is written {{{{key:value …}}}}, not {0:?}")]
    Shape(String),
    #[error("duplicate key {0:?} in histogram")]
    DuplicateKey(String),
    #[error("bad histogram descriptor found: {0:?}")]
    UnknownKey(String),
    #[error("error parsing {key}: {value:?}")]
    Value { key: String, value: String },
}

impl TestExpression {
    /// Reads `{{key:value …}}`, both pairs of braces included.
    ///
    /// Keys, each at most once: `schema`, `sum`, `count`, `z_bucket`, `z_bucket_w`, `custom_values`, `buckets`,
    /// `offset`, `n_buckets`, `n_offset`, `counter_reset_hint`.
    ///
    /// # Errors
    /// Another shape, an unknown or repeated key, or a value that is not of its key's kind.
    pub fn parse(text: &str) -> Result<TestExpression, TestExpressionError> {
        let inner = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        let mut rest = inner.ok_or_else(|| TestExpressionError::Shape(text.to_owned()))?.trim();
        let mut histogram = Histogram::default();
        let mut seen: Vec<&str> = Vec::new();
        let (mut positive_offset, mut negative_offset) = (0, 0);
        while !rest.is_empty() {
            let (key, value, after) = next_entry(rest).ok_or_else(|| TestExpressionError::Shape(text.to_owned()))?;
            rest = after;
            if seen.contains(&key) {
                return Err(TestExpressionError::DuplicateKey(key.to_owned()));
            }
            seen.push(key);
            let wrong = || TestExpressionError::Value { key: key.to_owned(), value: value.to_owned() };
            let number = || parse_number(value).ok_or_else(wrong);
            let integer = || value.parse::<i32>().map_err(|_| wrong());
            let list = || parse_list(value).ok_or_else(wrong);
            match key {
                "schema" => histogram.schema = integer()?,
                "sum" => histogram.sum = number()?,
                "count" => histogram.count = number()?,
                "z_bucket" => histogram.zero_count = number()?,
                "z_bucket_w" => histogram.zero_threshold = number()?,
                "custom_values" => histogram.custom_bounds = Arc::from(list()?),
                "buckets" => histogram.positive = list()?,
                "n_buckets" => histogram.negative = list()?,
                "offset" => positive_offset = integer()?,
                "n_offset" => negative_offset = integer()?,
                "counter_reset_hint" => histogram.counter_reset_hint = parse_hint(value).ok_or_else(wrong)?,
                _ => return Err(TestExpressionError::UnknownKey(key.to_owned())),
            }
        }
        let one_span = |offset, counts: &[f64]| match counts.len() as u32 {
            0 => Vec::new(),
            length => vec![Span { offset, length }],
        };
        histogram.positive_spans = one_span(positive_offset, &histogram.positive);
        histogram.negative_spans = one_span(negative_offset, &histogram.negative);
        Ok(TestExpression { histogram, has_hint: seen.contains(&"counter_reset_hint") })
    }
}

impl Histogram {
    /// This histogram in the notation that [`TestExpression::parse`] reads.
    pub fn test_expression(&self) -> String {
        let mut plain = self.clone();
        plain.fill_gaps();
        let mut entries = Vec::new();
        if plain.schema != 0 {
            entries.push(format!("schema:{}", plain.schema));
        }
        let scalars = [
            ("count", plain.count),
            ("sum", plain.sum),
            ("z_bucket", plain.zero_count),
            ("z_bucket_w", plain.zero_threshold),
        ];
        entries.extend(
            scalars.iter().filter(|(_, value)| *value != 0.0).map(|(key, value)| format!("{key}:{}", format_g(*value))),
        );
        if plain.has_custom_buckets() {
            entries.push(format!("custom_values:{}", format_list(&plain.custom_bounds)));
        }
        match plain.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::Reset => entries.push("counter_reset_hint:reset".to_owned()),
            CounterResetHint::NotReset => entries.push("counter_reset_hint:not_reset".to_owned()),
            CounterResetHint::Gauge => entries.push("counter_reset_hint:gauge".to_owned()),
        }
        for (side, prefix) in [(Side::Positive, ""), (Side::Negative, "n_")] {
            let (spans, counts) = plain.side(side);
            if let Some(span) = spans.first().filter(|span| span.offset != 0) {
                entries.push(format!("{prefix}offset:{}", span.offset));
            }
            if !counts.is_empty() {
                entries.push(format!("{prefix}buckets:{}", format_list(counts)));
            }
        }
        format!("{{{{{}}}}}", entries.join(" "))
    }
}

fn format_list(numbers: &[f64]) -> String {
    format!("[{}]", numbers.iter().map(|number| format_g(*number)).collect::<Vec<_>>().join(" "))
}

/// Splits `key:value rest`; a value that begins with `[` ends with `]`.
fn next_entry(text: &str) -> Option<(&str, &str, &str)> {
    let (key, after) = text.split_once(':')?;
    let after = after.trim_start();
    let end = match after.strip_prefix('[') {
        Some(list) => list.find(']')? + 2,
        None => after.find(char::is_whitespace).unwrap_or(after.len()),
    };
    let (value, rest) = after.split_at(end);
    Some((key.trim(), value, rest.trim_start())).filter(|_| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn parse_list(text: &str) -> Option<Vec<f64>> {
    text.strip_prefix('[')?.strip_suffix(']')?.split_whitespace().map(parse_number).collect()
}

/// A signed decimal number, `inf` or `nan`; underscores may separate digits.
fn parse_number(text: &str) -> Option<f64> {
    let text = text.replace('_', "");
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let is_word = unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("nan");
    (is_word || unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')).then(|| text.parse().ok())?
}

fn parse_hint(text: &str) -> Option<CounterResetHint> {
    Some(match text {
        "unknown" => CounterResetHint::Unknown,
        "reset" => CounterResetHint::Reset,
        "not_reset" => CounterResetHint::NotReset,
        "gauge" => CounterResetHint::Gauge,
        _ => return None,
    })
}
