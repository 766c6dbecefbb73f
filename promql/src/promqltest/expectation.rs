//! What a script expects of an evaluation, and whether an answer is that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use pilaster_model::histogram::Span;
use pilaster_model::{GoRegex, Histogram, Labels, is_stale};

use super::series::SequenceValue;
use crate::annotations::Annotations;
use crate::engine::{MatrixSeries, QueryValue, Value, VectorSample};

/// The greatest relative difference between values that count as equal.
const EPSILON: f64 = 1e-6;

/// An expected message.
#[derive(Debug, Clone)]
pub enum Pattern {
    Any,
    Message(String),
    /// As written, and compiled so that it may match anywhere.
    Regex(String, GoRegex),
}

impl Pattern {
    pub fn matches(&self, message: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Message(expected) => expected == message,
            Pattern::Regex(_, regex) => regex.is_match(message),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Any => f.write_str("any message"),
            Pattern::Message(message) => write!(f, "message {message:?}"),
            Pattern::Regex(regex, _) => write!(f, "message matching {regex:?}"),
        }
    }
}

/// The kinds of `expect` lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Ordered,
    Fail,
    Warn,
    NoWarn,
    Info,
    NoInfo,
}

/// The expected value.
#[derive(Debug, Clone)]
pub enum Expected {
    Series(BTreeMap<Labels, ExpectedSeries>),
    Scalar(f64),
    String(String),
}

#[derive(Debug, Clone)]
pub struct ExpectedSeries {
    /// From 1, for ordered vectors.
    position: usize,
    values: Vec<SequenceValue>,
}

#[derive(Debug, Clone)]
pub struct Expectation {
    pub fail: Option<Pattern>,
    pub ordered: bool,
    /// Legacy `eval_warn` and `eval_info`.
    pub some_warning: bool,
    pub some_info: bool,
    pub warnings: Vec<Pattern>,
    pub infos: Vec<Pattern>,
    pub no_warnings: bool,
    pub no_infos: bool,
    /// Start, end and step in milliseconds, of an instant query that answers a matrix.
    pub range_vector: Option<(i64, i64, i64)>,
    pub expected: Expected,
}

impl Default for Expectation {
    fn default() -> Expectation {
        Expectation {
            fail: None,
            ordered: false,
            some_warning: false,
            some_info: false,
            warnings: Vec::new(),
            infos: Vec::new(),
            no_warnings: false,
            no_infos: false,
            range_vector: None,
            expected: Expected::Series(BTreeMap::new()),
        }
    }
}

/// What was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub expected: String,
    pub got: String,
}

fn mismatch<T>(expected: impl Into<String>, got: impl Into<String>) -> Result<T, Mismatch> {
    Err(Mismatch { expected: expected.into(), got: got.into() })
}

impl Expectation {
    pub fn add_rule(&mut self, rule: Rule, pattern: Pattern) -> Result<(), String> {
        match rule {
            Rule::Ordered => self.ordered = true,
            Rule::Fail if self.fail.is_some() => {
                return Err("multiple expect fail lines are not allowed".to_owned());
            }
            Rule::Fail => self.fail = Some(pattern),
            Rule::Warn => self.warnings.push(pattern),
            Rule::Info => self.infos.push(pattern),
            Rule::NoWarn => self.no_warnings = true,
            Rule::NoInfo => self.no_infos = true,
        }
        if self.no_warnings && !self.warnings.is_empty() || self.no_infos && !self.infos.is_empty() {
            return Err("warn and no_warn, or info and no_info, cannot be used together".to_owned());
        }
        Ok(())
    }

    pub fn expect_series(&mut self, position: usize, labels: Labels, values: Vec<SequenceValue>) {
        if !matches!(self.expected, Expected::Series(_)) {
            self.expected = Expected::Series(BTreeMap::new());
        }
        if let Expected::Series(series) = &mut self.expected {
            series.insert(labels, ExpectedSeries { position, values });
        }
    }

    /// Whether `error` is the expected failure.
    pub fn check_error(&self, error: &str) -> Result<(), Mismatch> {
        match &self.fail {
            Some(pattern) if pattern.matches(error) => Ok(()),
            Some(pattern) => mismatch(format!("failure with {pattern}"), format!("failure {error:?}")),
            None => mismatch("no failure", format!("failure {error:?}")),
        }
    }

    pub fn check_annotations(&self, annotations: &Annotations) -> Result<(), Mismatch> {
        let kinds = [
            ("warning", &self.warnings, self.no_warnings, self.some_warning, &annotations.warnings),
            ("info", &self.infos, self.no_infos, self.some_info, &annotations.infos),
        ];
        for (kind, expected, none, some, actual) in kinds {
            if none && !actual.is_empty() {
                return mismatch(format!("no {kind}"), format!("{actual:?}"));
            }
            if (some || !expected.is_empty()) && actual.is_empty() {
                return mismatch(format!("some {kind}"), format!("no {kind}"));
            }
            if expected.is_empty() {
                continue;
            }
            if let Some(pattern) = expected.iter().find(|pattern| !actual.iter().any(|text| pattern.matches(text))) {
                return mismatch(format!("{kind} with {pattern}"), format!("{actual:?}"));
            }
            if let Some(text) = actual.iter().find(|text| !expected.iter().any(|pattern| pattern.matches(text))) {
                return mismatch(format!("no other {kind}"), format!("{text:?}"));
            }
        }
        Ok(())
    }

    /// Compares a value; `grid` is start, end and step of the times of a matrix.
    pub fn check_value(&self, value: &QueryValue, grid: (i64, i64, i64)) -> Result<(), Mismatch> {
        match (value, &self.expected) {
            (QueryValue::Matrix(matrix), Expected::Series(expected)) => {
                if self.ordered {
                    return mismatch("an ordered vector", "a matrix");
                }
                check_matrix(matrix, expected, grid)
            }
            (QueryValue::Vector(vector), Expected::Series(expected)) => check_vector(vector, expected, self.ordered),
            (QueryValue::Scalar { value, .. }, Expected::Scalar(expected)) => {
                if almost_equal(*value, *expected) {
                    return Ok(());
                }
                mismatch(format!("scalar {expected}"), format!("scalar {value}"))
            }
            (QueryValue::String { value, .. }, Expected::String(expected)) => {
                if value == expected {
                    return Ok(());
                }
                mismatch(format!("string {expected:?}"), format!("string {value:?}"))
            }
            (value, expected) => {
                let expected = match expected {
                    Expected::Series(_) => "a vector or matrix",
                    Expected::Scalar(_) => "a scalar",
                    Expected::String(_) => "a string",
                };
                mismatch(expected, describe(value))
            }
        }
    }
}

fn describe(value: &QueryValue) -> String {
    match value {
        QueryValue::Scalar { value, .. } => format!("scalar {value}"),
        QueryValue::String { value, .. } => format!("string {value:?}"),
        QueryValue::Vector(vector) => format!("a vector of {} series", vector.len()),
        QueryValue::Matrix(matrix) => format!("a matrix of {} series", matrix.len()),
    }
}

fn check_vector(
    vector: &[VectorSample],
    expected: &BTreeMap<Labels, ExpectedSeries>,
    ordered: bool,
) -> Result<(), Mismatch> {
    let mut seen = BTreeSet::new();
    for (index, VectorSample { labels, value, .. }) in vector.iter().enumerate() {
        let got = || format!("{} {}", metric(labels), show(value));
        let Some(series) = expected.get(labels) else { return mismatch("no such series", got()) };
        if ordered && series.position != index + 1 {
            let place = format!("{} at position {}", metric(labels), series.position);
            return mismatch(place, format!("it at position {}", index + 1));
        }
        if !seen.insert(labels) {
            return mismatch("each series once", format!("{} twice", metric(labels)));
        }
        let wanted = || match series.values.first() {
            Some(value) => format!("{} {}", metric(labels), show_expected(value)),
            None => format!("{} without a value", metric(labels)),
        };
        let equal = match (series.values.first(), value) {
            (Some(SequenceValue::Float(expected)), Value::Float(value)) => almost_equal(*value, *expected),
            (Some(SequenceValue::Histogram { histogram, has_hint }), Value::Histogram(value)) => {
                histograms_equal(histogram, value, *has_hint)
            }
            _ => false,
        };
        if !equal {
            return mismatch(wanted(), got());
        }
    }
    match expected.iter().find(|(labels, _)| !seen.contains(labels)) {
        None => Ok(()),
        Some((labels, series)) => {
            let value = series.values.first().map(show_expected).unwrap_or_default();
            mismatch(format!("{} {value}", metric(labels)), "no such series")
        }
    }
}

fn check_matrix(
    matrix: &[MatrixSeries],
    expected: &BTreeMap<Labels, ExpectedSeries>,
    (start_ms, end_ms, step_ms): (i64, i64, i64),
) -> Result<(), Mismatch> {
    check_sorted(matrix)?;
    let mut seen = BTreeSet::new();
    for MatrixSeries { labels, points, histograms } in matrix {
        let got = || format!("{} {points:?} {}", metric(labels), show_histograms(histograms));
        let Some(series) = expected.get(labels) else { return mismatch("no such series", got()) };
        if !seen.insert(labels) {
            return mismatch("each series once", format!("{} twice", metric(labels)));
        }
        let mut floats = Vec::new();
        let mut expected_histograms = Vec::new();
        for (index, value) in series.values.iter().enumerate() {
            let timestamp_ms = start_ms + index as i64 * step_ms;
            if timestamp_ms > end_ms {
                let count = series.values.len();
                return mismatch(format!("{count} points of {}", metric(labels)), "a range too short for them");
            }
            match value {
                SequenceValue::Omitted => {}
                SequenceValue::Float(value) => floats.push((timestamp_ms, *value)),
                SequenceValue::Histogram { histogram, has_hint } => {
                    expected_histograms.push((timestamp_ms, histogram, *has_hint));
                }
            }
        }
        let floats_equal = floats.len() == points.len()
            && floats.iter().zip(points).all(|(a, b)| a.0 == b.0 && almost_equal(b.1, a.1));
        let histograms_match = expected_histograms.len() == histograms.len()
            && expected_histograms
                .iter()
                .zip(histograms)
                .all(|((time, histogram, hint), got)| *time == got.0 && histograms_equal(histogram, &got.1, *hint));
        if !floats_equal || !histograms_match {
            let shown: Vec<String> = expected_histograms
                .iter()
                .map(|(time, histogram, _)| format!("{} @{time}", histogram.test_expression()))
                .collect();
            return mismatch(format!("{} {floats:?} {shown:?}", metric(labels)), got());
        }
    }
    match expected.keys().find(|labels| !seen.contains(labels)) {
        None => Ok(()),
        Some(labels) => mismatch(metric(labels), "no such series"),
    }
}

/// Whether a matrix is sorted by labels.
pub fn check_sorted(matrix: &[MatrixSeries]) -> Result<(), Mismatch> {
    match matrix.windows(2).find(|pair| pair[0].labels > pair[1].labels) {
        None => Ok(()),
        Some(pair) => mismatch(
            "a matrix sorted by labels",
            format!("{} before {}", metric(&pair[0].labels), metric(&pair[1].labels)),
        ),
    }
}

/// `name{label="value"}`.
fn metric(labels: &Labels) -> String {
    let others = labels.without_metric_name();
    match (labels.metric_name(), others.is_empty()) {
        ("", _) => others.to_string(),
        (name, true) => name.to_owned(),
        (name, false) => format!("{name}{others}"),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Float(value) => value.to_string(),
        Value::Histogram(histogram) => histogram.test_expression(),
    }
}

fn show_expected(value: &SequenceValue) -> String {
    match value {
        SequenceValue::Omitted => "_".to_owned(),
        SequenceValue::Float(value) => value.to_string(),
        SequenceValue::Histogram { histogram, .. } => histogram.test_expression(),
    }
}

fn show_histograms(histograms: &[(i64, Arc<Histogram>)]) -> String {
    let shown: Vec<String> =
        histograms.iter().map(|(time, histogram)| format!("{} @{time}", histogram.test_expression())).collect();
    format!("{shown:?}")
}

/// Whether `a` and `b` differ by less than a millionth of their sum. Source: Prometheus `util/almost`.
pub fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

/// Whether `got` is `expected` up to rounding, empty buckets and the cut of spans; hints count where one was written.
pub fn histograms_equal(expected: &Histogram, got: &Histogram, compare_hint: bool) -> bool {
    let (mut expected, mut got) = (expected.clone(), got.clone());
    expected.compact();
    got.compact();
    let counts_equal = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b));
    let bounds_equal = !expected.has_custom_buckets() || expected.custom_bounds[..] == got.custom_bounds[..];
    expected.schema == got.schema
        && almost_equal(expected.count, got.count)
        && almost_equal(expected.sum, got.sum)
        && bounds_equal
        && expected.zero_threshold == got.zero_threshold
        && almost_equal(expected.zero_count, got.zero_count)
        && indexes(&expected.positive_spans).eq(indexes(&got.positive_spans))
        && counts_equal(&expected.positive, &got.positive)
        && indexes(&expected.negative_spans).eq(indexes(&got.negative_spans))
        && counts_equal(&expected.negative, &got.negative)
        && (!compare_hint || expected.counter_reset_hint == got.counter_reset_hint)
}

/// The bucket indexes that spans name.
fn indexes(spans: &[Span]) -> impl Iterator<Item = i64> + '_ {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerance_is_relative_to_the_sum() {
        assert!(almost_equal(1.0, 1.0000019) && !almost_equal(1.0, 1.0000021));
        assert!(almost_equal(f64::NAN, -f64::NAN) && !almost_equal(f64::NAN, pilaster_model::stale_nan()));
        assert!(almost_equal(f64::INFINITY, f64::INFINITY) && !almost_equal(f64::INFINITY, f64::MAX));
        assert!(almost_equal(f64::MAX, f64::MAX * 0.999_999_9) && !almost_equal(0.0, 1e-300));
        assert!(almost_equal(0.0, 1e-320));
    }

    #[test]
    fn spans_may_be_cut_differently() {
        let one = [Span { offset: 1, length: 3 }];
        let two = [Span { offset: 1, length: 1 }, Span { offset: 0, length: 0 }, Span { offset: 0, length: 2 }];
        assert!(indexes(&one).eq(indexes(&two)));
    }
}
