//! A script's text to commands. Source: the format of Prometheus' `promqltest`.

use std::collections::BTreeMap;

use pilaster_model::{GoRegex, Labels};

use super::expectation::{Expectation, Expected, Pattern, Rule};
use super::nhcb;
use super::series::{SequenceValue, parse_labels, parse_series, parse_start_offsets};
use super::world::{LoadedSample, LoadedSeries, LoadedValue};
use crate::parser::literal::{parse_duration_ms, parse_number, unquote};
use crate::parser::{ParseOptions, parse};

/// A command and the line that it begins at, from 1.
#[derive(Debug)]
pub struct Command {
    pub line: usize,
    pub kind: CommandKind,
}

#[derive(Debug)]
pub enum CommandKind {
    Clear,
    Load(Vec<LoadedSeries>),
    Eval(Box<Eval>),
}

/// An evaluation with what is expected of it.
#[derive(Debug)]
pub struct Eval {
    pub query: String,
    pub time: EvalTime,
    pub expectation: Expectation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalTime {
    Instant { at_ms: i64 },
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// A line that is no command, or an expression that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// Reads a script.
///
/// # Errors
/// The first line that is not of the format.
pub fn parse_script(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<&str> =
        text.split('\n').map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let head = lines[at];
        at += 1;
        if head.is_empty() {
            continue;
        }
        let word = head.split([' ', '\t']).next().unwrap_or(head).to_ascii_lowercase();
        if word == "clear" {
            commands.push(Command { line, kind: CommandKind::Clear });
            continue;
        }
        let body_end = lines[at..].iter().position(|line| line.is_empty()).map_or(lines.len(), |length| at + length);
        let first = at + 1;
        let body: Vec<(usize, &str)> =
            lines[at..body_end].iter().enumerate().map(|(index, text)| (first + index, *text)).collect();
        let kind = if word.starts_with("load") {
            at = body_end;
            CommandKind::Load(parse_load(line, head, &body)?)
        } else if word.starts_with("eval") {
            let (eval, taken) = parse_eval(line, head, &body)?;
            at += taken;
            CommandKind::Eval(Box::new(eval))
        } else {
            return Err(ScriptError { line, message: format!("invalid command {head:?}") });
        };
        commands.push(Command { line, kind });
    }
    Ok(commands)
}

fn parse_load(line: usize, head: &str, body: &[(usize, &str)]) -> Result<Vec<LoadedSeries>, ScriptError> {
    let invalid = || ScriptError { line, message: "invalid load command, expected load[_with_nhcb] <step>".to_owned() };
    let (word, step) = head.split_once([' ', '\t']).ok_or_else(invalid)?;
    let with_nhcb = match word {
        "load" => false,
        "load_with_nhcb" => true,
        _ => return Err(invalid()),
    };
    let step_ms = parse_duration_ms(step.trim())
        .map_err(|error| ScriptError { line, message: format!("invalid step definition {step:?}: {error}") })?;
    let mut loaded: BTreeMap<Labels, Vec<LoadedSample>> = BTreeMap::new();
    let mut pending: Option<(usize, Labels, Vec<Option<i64>>)> = None;
    for &(line, text) in body {
        let fail = |message: String| ScriptError { line, message };
        let first = text.split([' ', '\t']).next().unwrap_or(text);
        if let (Some(metric), true) = (first.strip_suffix("@st"), first.len() < text.len()) {
            if let Some((line, ..)) = pending {
                return Err(ScriptError { line, message: "@st line has no following sample line".to_owned() });
            }
            let (labels, rest) = parse_labels(metric).map_err(fail)?;
            if !rest.is_empty() {
                return Err(fail(format!("invalid @st line metric {metric:?}")));
            }
            pending = Some((line, labels, parse_start_offsets(&text[first.len()..]).map_err(fail)?));
            continue;
        }
        let (labels, values) = parse_series(text).map_err(|error| fail(error.to_string()))?;
        let starts = match pending.take() {
            Some((_, metric, starts)) if metric == labels && starts.len() == values.len() => starts,
            Some((line, ..)) => {
                let message = "@st line does not match the following sample line".to_owned();
                return Err(ScriptError { line, message });
            }
            None => Vec::new(),
        };
        loaded.insert(labels, samples(&values, &starts, step_ms));
    }
    if let Some((line, ..)) = pending {
        return Err(ScriptError { line, message: "@st line has no following sample line".to_owned() });
    }
    let mut series: Vec<LoadedSeries> =
        loaded.into_iter().map(|(labels, samples)| LoadedSeries { labels, samples }).collect();
    if with_nhcb {
        let histograms = nhcb::from_classic(&series).map_err(|message| ScriptError { line, message })?;
        series.extend(histograms);
    }
    Ok(series)
}

/// Sample `i` stands at `i * step_ms`.
fn samples(values: &[SequenceValue], starts: &[Option<i64>], step_ms: i64) -> Vec<LoadedSample> {
    let mut samples = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let timestamp_ms = index as i64 * step_ms;
        let value = match value {
            SequenceValue::Omitted => continue,
            SequenceValue::Float(value) => LoadedValue::Float(*value),
            SequenceValue::Histogram { histogram, .. } => LoadedValue::Histogram(histogram.clone()),
        };
        let start_ms = starts.get(index).copied().flatten().map(|offset_ms| timestamp_ms + offset_ms);
        samples.push(LoadedSample { timestamp_ms, value, start_ms });
    }
    samples
}

/// The evaluation, and how many lines of `body` belong to it.
fn parse_eval(line: usize, head: &str, body: &[(usize, &str)]) -> Result<(Eval, usize), ScriptError> {
    let fail = |message: String| ScriptError { line, message };
    let (modifier, time, query) = parse_eval_head(head).map_err(fail)?;
    if let Err(error) = parse(query, &ParseOptions::all()) {
        return Err(fail(format!("{query}: {error}")));
    }
    let mut expectation = Expectation::default();
    match modifier {
        "" => {}
        "fail" => expectation.fail = Some(Pattern::Any),
        "warn" => expectation.some_warning = true,
        "info" => expectation.some_info = true,
        "ordered" if matches!(time, EvalTime::Instant { .. }) => expectation.ordered = true,
        _ => return Err(fail(format!("invalid eval modifier {modifier:?}"))),
    }
    let mut time = time;
    let mut taken = 0;
    let mut position = 0;
    for &(line, text) in body {
        let fail = |message: String| ScriptError { line, message };
        taken += 1;
        if modifier == "fail" && text.starts_with("expected_fail_") {
            expectation.fail = Some(parse_legacy_failure(text).map_err(fail)?);
            break;
        }
        if let Some(range) = text.strip_prefix("expect range vector") {
            let (start_ms, end_ms, step_ms) = parse_range(range).map_err(fail)?;
            expectation.range_vector = Some((start_ms, end_ms, step_ms));
            time = EvalTime::Instant { at_ms: end_ms };
            position += 1;
            continue;
        }
        if let Some(literal) = text.strip_prefix("expect string") {
            let literal = literal.trim();
            let value = unquote(literal).filter(|_| literal.starts_with(['"', '`']) && literal.len() > 1);
            let value = value.ok_or_else(|| fail(format!("expected string literal not valid: {literal}")))?;
            expectation.expected = Expected::String(value);
            position += 1;
            continue;
        }
        if text.split(' ').next() == Some("expect") {
            parse_rule(text, &mut expectation).map_err(fail)?;
            continue;
        }
        if let Ok(value) = parse_number(text) {
            expectation.expected = Expected::Scalar(value);
            break;
        }
        position += 1;
        let (labels, values) = parse_series(text).map_err(|error| fail(error.to_string()))?;
        let one_value = matches!(time, EvalTime::Instant { .. }) && expectation.range_vector.is_none();
        if one_value && values.len() > 1 {
            return Err(fail("several values for an instant, and no \"expect range vector\"".to_owned()));
        }
        expectation.expect_series(position, labels, values);
    }
    Ok((Eval { query: query.to_owned(), time, expectation }, taken))
}

/// Modifier, time and query of the line `eval[_modifier] instant at T Q` or `eval[_modifier] range from … Q`.
fn parse_eval_head(head: &str) -> Result<(&str, EvalTime, &str), String> {
    let invalid = || {
        "invalid evaluation command, expected eval[_fail|_warn|_ordered|_info] instant at <time> <query> or \
         eval[_fail|_warn|_info] range from <time> to <time> step <step> <query>"
            .to_owned()
    };
    let (word, rest) = take_word(head).ok_or_else(invalid)?;
    let modifier = match word.strip_prefix("eval") {
        Some("") => "",
        Some(modifier) => modifier.strip_prefix('_').ok_or_else(invalid)?,
        None => return Err(invalid()),
    };
    let (kind, rest) = take_word(rest).ok_or_else(invalid)?;
    match kind {
        "instant" => {
            let (at, rest) = take_word(rest).ok_or_else(invalid)?;
            let (time, query) = take_word(rest).ok_or_else(invalid)?;
            if at != "at" || query.is_empty() {
                return Err(invalid());
            }
            let at_ms =
                parse_duration_ms(time).map_err(|error| format!("invalid timestamp definition {time:?}: {error}"))?;
            Ok((modifier, EvalTime::Instant { at_ms }, query))
        }
        "range" => {
            let mut rest = rest;
            let mut times = [0; 3];
            for (index, keyword) in ["from", "to", "step"].into_iter().enumerate() {
                let (word, after) = take_word(rest).ok_or_else(invalid)?;
                let (time, after) = take_word(after).ok_or_else(invalid)?;
                if word != keyword {
                    return Err(invalid());
                }
                times[index] = parse_duration_ms(time)
                    .map_err(|error| format!("invalid {keyword} definition {time:?}: {error}"))?;
                rest = after;
            }
            let [start_ms, end_ms, step_ms] = times;
            if end_ms < start_ms {
                return Err("invalid test definition, the end is before the start".to_owned());
            }
            if rest.is_empty() {
                return Err(invalid());
            }
            Ok((modifier, EvalTime::Range { start_ms, end_ms, step_ms }, rest))
        }
        _ => Err(invalid()),
    }
}

/// The first word and what follows it, both without surrounding blanks.
fn take_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if text.is_empty() {
        return None;
    }
    Some(match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    })
}

/// ` from T to T step D`.
fn parse_range(text: &str) -> Result<(i64, i64, i64), String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["from", start, "to", end, "step", step] = words[..] else {
        return Err(format!("invalid range vector definition {text:?}"));
    };
    let (start, end, step) = (parse_duration_ms(start)?, parse_duration_ms(end)?, parse_duration_ms(step)?);
    if end < start {
        return Err("invalid test definition, the end is before the start".to_owned());
    }
    Ok((start, end, step))
}

fn parse_legacy_failure(text: &str) -> Result<Pattern, String> {
    match take_word(text) {
        Some(("expected_fail_message", message)) => Ok(Pattern::Message(message.to_owned())),
        Some(("expected_fail_regexp", regex)) => pattern(regex),
        _ => Err(format!("invalid expected failure {text:?}")),
    }
}

/// A regex that may match anywhere.
fn pattern(regex: &str) -> Result<Pattern, String> {
    GoRegex::new_anchored(&format!(".*(?:{regex}).*"))
        .map(|compiled| Pattern::Regex(regex.to_owned(), compiled))
        .map_err(|error| error.to_string())
}

/// `expect <type>[ msg:<text>| regex:<regex>]`.
fn parse_rule(text: &str, expectation: &mut Expectation) -> Result<(), String> {
    let (_, rest) = take_word(text).unwrap_or_default();
    let (kind, argument) = take_word(rest).ok_or("invalid expect statement")?;
    let pattern = match argument.split_once(':') {
        None if argument.is_empty() => Pattern::Any,
        Some(("msg", message)) => Pattern::Message(message.trim().to_owned()),
        Some(("regex", regex)) => pattern(regex.trim())?,
        _ => return Err(format!("invalid token {argument:?} after {kind}")),
    };
    let rule = match kind {
        "ordered" => Rule::Ordered,
        "fail" => Rule::Fail,
        "warn" => Rule::Warn,
        "no_warn" => Rule::NoWarn,
        "info" => Rule::Info,
        "no_info" => Rule::NoInfo,
        _ => return Err(format!("invalid expected error or annotation type {kind}")),
    };
    expectation.add_rule(rule, pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_ends_a_block() {
        let script = "load 1m\n  a 1\n # b 2\n\nclear\neval instant at 5m a\n  a 1\n";
        let commands = parse_script(script).unwrap();
        let lines: Vec<usize> = commands.iter().map(|command| command.line).collect();
        assert_eq!(lines, [1, 5, 6]);
        assert!(parse_script("load 1m\n a 1\n# x\n b 2\n").is_err());
    }

    #[test]
    fn a_scalar_ends_an_evaluation() {
        let commands = parse_script("eval instant at 0 1\n 1\neval range from 0 to 1m step 30s a\n").unwrap();
        assert_eq!(commands.len(), 2);
    }

    #[test]
    fn a_parse_error_is_the_files_error() {
        let error = parse_script("eval instant at 0 rate(x)").unwrap_err();
        assert!(error.message.contains("expected type range vector"), "{error}");
    }
}
