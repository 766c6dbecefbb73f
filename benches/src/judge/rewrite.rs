//! Other queries that mean the same, without what Prometheus does differently.

use crate::judge::steps::Steps;

/// The query with what it says in `timestamp(x offset O @ T)` said as `timestamp(x @ T-O)`; `None` where it does not.
pub fn with_offsets_in_at(query: &str, steps: Steps) -> Option<String> {
    replace_arguments(query, &["timestamp("], |argument| {
        let (selector, modifiers) = argument.split_once(" offset ")?;
        let (offset, at) = modifiers.split_once(" @ ")?;
        let at_ms = match at {
            "start()" => steps.start_ms,
            "end()" => steps.end_ms,
            seconds => seconds.parse::<i64>().ok()? * 1000,
        };
        let time = (at_ms - offset_ms(offset, steps.step_ms)?) as f64 / 1000.0;
        Some(format!("timestamp({selector} @ {time})"))
    })
}

/// What the generated offsets mean.
fn offset_ms(text: &str, step_ms: i64) -> Option<i64> {
    Some(match text {
        "5m" => 300_000,
        "-2m" => -120_000,
        "37s" => 37_000,
        "1h" => 3_600_000,
        "(1m + 2 * step())" => 60_000 + 2 * step_ms,
        "-(10s * 3)" => -30_000,
        _ => return None,
    })
}

/// The query with the labels of each `absent` written out that several matchers name: that of the first equality, unless
/// another matcher follows it. `None` where there are none.
pub fn with_labels_of_absent(query: &str) -> Option<String> {
    replace_arguments(query, &["absent(", "absent_over_time("], |argument| {
        let (name, rest) = argument.split_once('{')?;
        let (matchers, rest) = rest.split_once('}')?;
        if name.contains(['(', ' ']) {
            return None;
        }
        let matchers: Vec<(&str, &str, &str)> = matchers.split(',').filter_map(matcher).collect();
        let call = if rest.starts_with('[') { "absent_over_time" } else { "absent" };
        let mut text = format!("{call}({argument})");
        let mut labels: Vec<&str> = matchers.iter().map(|(label, ..)| *label).collect();
        labels.sort_unstable();
        labels.dedup();
        let count = |label: &str| matchers.iter().filter(|(other, ..)| *other == label).count();
        for label in labels.into_iter().filter(|label| count(label) > 1) {
            let mut own = matchers.iter().filter(|(other, ..)| *other == label);
            let (equal, value) = own.find(|(_, operator, _)| *operator == "=").map_or(("", ""), |(_, o, v)| (*o, *v));
            let value = if equal == "=" && own.next().is_none() { value } else { "" };
            text = format!("label_replace({text}, \"{label}\", \"{value}\", \"\", \"\")");
        }
        text.starts_with("label_replace").then_some(text)
    })
}

/// Label, operator and value of `label="value"`, the label quoted or not.
fn matcher(text: &str) -> Option<(&str, &str, &str)> {
    let at = text.find(['=', '!'])?;
    let (label, rest) = text.split_at(at);
    let (operator, value) = rest.split_once('"')?;
    Some((label.trim_matches('"'), operator, value.trim_end_matches('"')))
}

/// Replaces calls by what `change` makes of their argument; `None` where it changes none.
fn replace_arguments(query: &str, calls: &[&str], change: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = query;
    let mut changed = false;
    while let Some((at, call)) = calls.iter().filter_map(|call| Some((rest.find(call)?, *call))).min() {
        let begin = at + call.len();
        let argument = &rest[begin..begin + argument_length(&rest[begin..], false)];
        let is_whole_name = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match change(argument).filter(|_| is_whole_name) {
            Some(text) => {
                changed = true;
                out.push_str(&rest[..at]);
                out.push_str(&text);
                rest = &rest[begin + argument.len() + 1..];
            }
            None => {
                out.push_str(&rest[..begin]);
                rest = &rest[begin..];
            }
        }
    }
    changed.then(|| out + rest)
}

/// Bytes until the parenthesis that closes what `text` stands in, or until a comma there.
pub fn argument_length(text: &str, until_comma: bool) -> usize {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' if depth == 0 => return at,
            ')' | '}' | ']' => depth -= 1,
            ',' if depth == 0 && until_comma => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: Steps = Steps { start_ms: 100_000, end_ms: 400_000, step_ms: 15_000 };

    #[test]
    fn offsets_move_into_at() {
        let rewrite = |query: &str| with_offsets_in_at(query, STEPS);
        assert_eq!(
            rewrite("abs(timestamp(x{a=\"b\"} offset 37s @ 900))").as_deref(),
            Some("abs(timestamp(x{a=\"b\"} @ 863))")
        );
        assert_eq!(rewrite("timestamp(x offset -2m @ end())").as_deref(), Some("timestamp(x @ 520)"));
        assert_eq!(rewrite("timestamp(x offset (1m + 2 * step()) @ start())").as_deref(), Some("timestamp(x @ 10)"));
        assert_eq!(rewrite("timestamp(x offset 5m)"), None);
        assert_eq!(rewrite("start_timestamp(x offset 5m @ 10)"), None);
        assert_eq!(rewrite("timestamp(abs(x)) offset 5m @ 10"), None);
    }

    #[test]
    fn labels_matched_twice_are_written_out() {
        let rewrite = |query: &str| with_labels_of_absent(query);
        assert_eq!(rewrite("absent(x{job=\"a\",zone=\"b\"})"), None);
        assert_eq!(
            rewrite("1 + absent(x{job!=\"a\",\"job\"=\"b\"} offset 5m)").as_deref(),
            Some("1 + label_replace(absent(x{job!=\"a\",\"job\"=\"b\"} offset 5m), \"job\", \"b\", \"\", \"\")")
        );
        assert_eq!(
            rewrite("absent_over_time(x{job=\"b\",job=~\"c\"}[5m])").as_deref(),
            Some("label_replace(absent_over_time(x{job=\"b\",job=~\"c\"}[5m]), \"job\", \"\", \"\", \"\")")
        );
    }
}
