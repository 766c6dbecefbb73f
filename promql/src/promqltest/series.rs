//! Series as scripts and rule unit tests write them: `metric{label="value"} 1 2+3x4 _ stale {{count:1}}`.

use std::sync::Arc;

use pilaster_model::histogram::TestExpression;
use pilaster_model::{Histogram, Labels, LabelsBuilder, METRIC_NAME, stale_nan};

use crate::parser::literal::{parse_duration_ms, unquote};

/// More values than this in one line are a mistake.
const MAX_VALUES: usize = 10_000_000;

/// One value of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceValue {
    /// `_`: time passes without a sample.
    Omitted,
    Float(f64),
    Histogram {
        histogram: Arc<Histogram>,
        /// Whether a counter reset hint was written: only then is it compared.
        has_hint: bool,
    },
}

/// Why a line is no series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid series {text:?}: {reason}")]
pub struct SeriesError {
    pub text: String,
    pub reason: String,
}

/// Parses labels and values of one line.
///
/// # Errors
/// The line is not of that form.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<SequenceValue>), SeriesError> {
    let fail = |reason: String| SeriesError { text: line.to_owned(), reason };
    let (labels, rest) = parse_labels(line.trim()).map_err(fail)?;
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Err(fail(format!("unexpected {rest:?} behind the labels")));
    }
    Ok((labels, parse_items(rest).map_err(fail)?))
}

/// Parses values alone, as in the `values:` of a rule unit test.
///
/// # Errors
/// The text is not a sequence of values.
pub fn parse_values(text: &str) -> Result<Vec<SequenceValue>, SeriesError> {
    parse_items(text).map_err(|reason| SeriesError { text: text.to_owned(), reason })
}

/// A series' labels at the start of `text`, and what follows them.
pub(super) fn parse_labels(text: &str) -> Result<(Labels, &str), String> {
    let name_end = text.find(|c: char| !(c == '_' || c == ':' || c.is_ascii_alphanumeric())).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(name_end);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{name:?} is no metric name"));
    }
    let mut labels = LabelsBuilder::default();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = parse_label_list(inner, &mut labels)?;
    } else if name.is_empty() {
        return Err("no metric".to_owned());
    }
    if !name.is_empty() {
        labels.set(METRIC_NAME, name);
    }
    Ok((labels.build(), rest))
}

/// Labels up to and with the closing brace; returns what follows it.
fn parse_label_list<'a>(mut rest: &'a str, labels: &mut LabelsBuilder) -> Result<&'a str, String> {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = if rest.starts_with(['"', '\'', '`']) {
            let (name, after) = take_string(rest)?;
            let after = after.trim_start();
            if !after.starts_with('=') {
                labels.set(METRIC_NAME, &name);
                rest = after_comma(after)?;
                continue;
            }
            (name, after)
        } else {
            let end = rest.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(rest.len());
            (rest[..end].to_owned(), rest[end..].trim_start())
        };
        let Some(value) = after.strip_prefix('=').filter(|_| !name.is_empty()) else {
            return Err(format!("expected a label and \"=\" at {rest:?}"));
        };
        let (value, after) = take_string(value.trim_start())?;
        labels.set(&name, &value);
        rest = after_comma(after.trim_start())?;
    }
}

/// Skips a comma; a closing brace may stand in its place.
fn after_comma(rest: &str) -> Result<&str, String> {
    match rest.strip_prefix(',') {
        Some(after) => Ok(after),
        None if rest.starts_with('}') => Ok(rest),
        None => Err(format!("expected \",\" or \"}}\" at {rest:?}")),
    }
}

/// A quoted string at the start of `text`, unquoted, and what follows it.
fn take_string(text: &str) -> Result<(String, &str), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')).ok_or("expected a quoted string")?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            let (token, rest) = text.split_at(at + 1);
            let value = unquote(token).ok_or_else(|| format!("invalid string {token}"))?;
            return Ok((value, rest));
        }
    }
    Err("unterminated string".to_owned())
}

fn parse_items(text: &str) -> Result<Vec<SequenceValue>, String> {
    let mut values = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (item, after) = take_item(rest)?;
        push_item(item, &mut values)?;
        rest = after.trim_start();
    }
    Ok(values)
}

/// The first item: up to white space outside `{{…}}`.
fn take_item(text: &str) -> Result<(&str, &str), String> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with("{{") {
            at += rest.find("}}").ok_or("unterminated histogram")? + 2;
            continue;
        }
        match rest.chars().next() {
            None => return Ok((text, "")),
            Some(c) if c.is_whitespace() => return Ok(text.split_at(at)),
            Some(c) => at += c.len_utf8(),
        }
    }
}

fn push_item(item: &str, values: &mut Vec<SequenceValue>) -> Result<(), String> {
    if let Some(rest) = item.strip_prefix('_') {
        let count = if rest.is_empty() { 1 } else { repetition(rest, item)? };
        return extend(values, count, |_| Ok(SequenceValue::Omitted));
    }
    if item.starts_with("{{") {
        return push_histograms(item, values);
    }
    if item == "stale" {
        values.push(SequenceValue::Float(stale_nan()));
        return Ok(());
    }
    let (first, rest) = take_number(item)?;
    if rest.is_empty() {
        values.push(SequenceValue::Float(first));
        return Ok(());
    }
    let (step, rest) = if rest.starts_with(['+', '-']) { take_number(rest)? } else { (0.0, rest) };
    let has_step = !item.ends_with(rest) || step != 0.0;
    let mut value = first;
    extend(values, repetition(rest, item)? + 1, |index| {
        if index > 0 && has_step {
            value += step;
        }
        Ok(SequenceValue::Float(value))
    })
}

fn push_histograms(item: &str, values: &mut Vec<SequenceValue>) -> Result<(), String> {
    let (first, rest) = take_histogram(item)?;
    if rest.is_empty() {
        values.push(written(first));
        return Ok(());
    }
    if rest.starts_with('x') {
        let value = written(first);
        return extend(values, repetition(rest, item)? + 1, |_| Ok(value.clone()));
    }
    let (negative, second) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
        (Some(second), _) => (false, second),
        (_, Some(second)) => (true, second),
        (None, None) => return Err(format!("unexpected {rest:?} behind a histogram")),
    };
    let (step, rest) = take_histogram(second)?;
    // What was written last decides whether hints are compared.
    let has_hint = step.has_hint;
    let mut current = first.histogram;
    extend(values, repetition(rest, item)? + 1, |index| {
        if index > 0 {
            if current.schema > step.histogram.schema {
                let (from, to) = (step.histogram.schema, current.schema);
                return Err(format!("error combining histograms: cannot merge from schema {from} to {to}"));
            }
            let combined = if negative { current.sub(&step.histogram) } else { current.add(&step.histogram) };
            combined.map_err(|error| error.to_string())?;
        }
        Ok(SequenceValue::Histogram { histogram: Arc::new(current.clone()), has_hint })
    })
}

fn written(expression: TestExpression) -> SequenceValue {
    SequenceValue::Histogram { histogram: Arc::new(expression.histogram), has_hint: expression.has_hint }
}

fn take_histogram(text: &str) -> Result<(TestExpression, &str), String> {
    let end = text.find("}}").ok_or("expected a histogram")? + 2;
    let expression = TestExpression::parse(&text[..end]).map_err(|error| error.to_string())?;
    Ok((expression, &text[end..]))
}

fn extend(
    values: &mut Vec<SequenceValue>,
    count: usize,
    mut value: impl FnMut(usize) -> Result<SequenceValue, String>,
) -> Result<(), String> {
    if values.len().saturating_add(count) > MAX_VALUES {
        return Err(format!("more than {MAX_VALUES} values"));
    }
    for index in 0..count {
        values.push(value(index)?);
    }
    Ok(())
}

/// The number behind `x`.
fn repetition(text: &str, item: &str) -> Result<usize, String> {
    let digits = text.strip_prefix('x').ok_or_else(|| format!("expected a repetition in {item:?}"))?;
    digits.parse().map_err(|_| format!("invalid repetition in series values: {item:?}"))
}

/// A signed decimal number at the start of `text`, and what follows it; infinities and NaN stand alone.
fn take_number(text: &str) -> Result<(f64, &str), String> {
    let fail = || format!("expected a number at {text:?}");
    let sign_len = usize::from(text.starts_with(['+', '-']));
    let unsigned = &text[sign_len..];
    let word = unsigned.to_ascii_lowercase();
    let negative = text.starts_with('-');
    let signed = |value: f64| if negative { -value } else { value };
    match word.as_str() {
        "inf" => return Ok((signed(f64::INFINITY), "")),
        "nan" => return Ok((f64::from_bits(0x7ff8_0000_0000_0001), "")),
        _ => {}
    }
    let bytes = unsigned.as_bytes();
    let digits_from = |mut at: usize| {
        while bytes.get(at).is_some_and(|b| b.is_ascii_digit() || *b == b'_') {
            at += 1;
        }
        at
    };
    let mut end = digits_from(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits_from(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits_from(end + 1 + sign);
    }
    let value: f64 = unsigned[..end].replace('_', "").parse().map_err(|_| fail())?;
    Ok((signed(value), &unsigned[end..]))
}

/// Milliseconds relative to each sample, from a line of start timestamps such as `_ -1m 0s+10sx3`; `None` for `_`.
pub(super) fn parse_start_offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        let (count, first, step) = start_item(item).map_err(|reason| format!("invalid ST item {item:?}: {reason}"))?;
        if offsets.len().saturating_add(count) > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        let mut offset = first;
        for _ in 0..count {
            offsets.push(offset);
            offset = offset.map(|offset| offset.saturating_add(step));
        }
    }
    Ok(offsets)
}

/// Count, first offset and step of one item.
fn start_item(item: &str) -> Result<(usize, Option<i64>, i64), String> {
    if let Some(rest) = item.strip_prefix('_') {
        let count = if rest.is_empty() { 1 } else { repetition(rest, item)? };
        return Ok((count, None, 0));
    }
    let (first, rest) = take_signed_duration(item)?;
    if rest.is_empty() {
        return Ok((1, Some(first), 0));
    }
    let (step, rest) = if rest.starts_with(['+', '-']) { take_signed_duration(rest)? } else { (0, rest) };
    Ok((repetition(rest, item)? + 1, Some(first), step))
}

fn take_signed_duration(text: &str) -> Result<(i64, &str), String> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    // `x` begins the repetition and is in no unit.
    let letters = unsigned[digits..].bytes().take_while(|b| b.is_ascii_alphabetic() && *b != b'x').count();
    let (duration, rest) = unsigned.split_at(digits + letters);
    let ms = parse_duration_ms(duration)?;
    Ok((if text.starts_with('-') { -ms } else { ms }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<Option<f64>> {
        let values = parse_values(text).unwrap();
        values
            .iter()
            .map(|value| match value {
                SequenceValue::Float(value) => Some(*value),
                SequenceValue::Omitted | SequenceValue::Histogram { .. } => None,
            })
            .collect()
    }

    #[test]
    fn sequences_expand() {
        assert_eq!(floats("1 _ 2x2"), [Some(1.0), None, Some(2.0), Some(2.0), Some(2.0)]);
        assert_eq!(floats("_x3"), [None; 3]);
        assert_eq!(floats("0+1.5x2 -1-2x1"), [Some(0.0), Some(1.5), Some(3.0), Some(-1.0), Some(-3.0)]);
        assert_eq!(floats("1e3+1e2x1 -Inf 1_000"), [Some(1000.0), Some(1100.0), Some(f64::NEG_INFINITY), Some(1000.0)]);
        assert!(matches!(parse_values("stale").unwrap()[0], SequenceValue::Float(v) if pilaster_model::is_stale(v)));
        for bad in ["NaNx3", "stalex2", "1x", "x3", "1+x3", "0x1F", "1 2y", "{{count:1"] {
            assert!(parse_values(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn histograms_add_up() {
        let values = parse_values("{{count:1 sum:2 buckets:[1]}}+{{count:1 sum:1 buckets:[1]}}x2 {{}}").unwrap();
        let sums: Vec<f64> = values
            .iter()
            .map(|value| match value {
                SequenceValue::Histogram { histogram, .. } => histogram.sum,
                SequenceValue::Float(_) | SequenceValue::Omitted => f64::NAN,
            })
            .collect();
        assert_eq!(sums, [2.0, 3.0, 4.0, 0.0]);
    }

    #[test]
    fn labels_may_be_quoted() {
        let (labels, values) = parse_series(r#"{"a.b", "c d"='1', e="2",} 3"#).unwrap();
        assert_eq!(labels, Labels::from_pairs([("__name__", "a.b"), ("c d", "1"), ("e", "2")]));
        assert_eq!(values, [SequenceValue::Float(3.0)]);
        assert_eq!(parse_series("{}").unwrap(), (Labels::empty(), vec![]));
        for bad in ["a{b}", "a{b=c}", "a{b=\"c\"", "1a 2", "a{b=\"c\"}x 1", ""] {
            assert!(parse_series(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn start_offsets_expand() {
        let offsets = parse_start_offsets("_ -1m 0+10sx2 _x2").unwrap();
        assert_eq!(offsets, [None, Some(-60_000), Some(0), Some(10_000), Some(20_000), None, None]);
    }
}
