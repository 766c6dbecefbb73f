//! Differences that are meant, or that nothing can settle; each by name.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::answers::notes;

/// Why the answers to `query` differ; `None` if no known reason fits.
pub fn known(query: &str, ours: &Value, theirs: &Value, cells_are_equal: bool) -> Option<&'static str> {
    if cells_are_equal && only_more_operator_notes(ours, theirs) {
        return Some("of several notes of one operator at one step, Prometheus keeps the last");
    }
    if cells_are_equal && same_without_sample_counts(ours, theirs) {
        return Some("samples counted in a note on monotonicity: Prometheus doubles them where notes meet");
    }
    if zeros_differ(ours, theirs) && (query.contains("quantile") || query.contains("mad_over_time")) {
        return Some("sign of a zero that is a quantile: zeros of both signs have no order");
    }
    if per_step_argument_over_fixed_subquery(query) && is_empty(theirs) {
        return Some("Prometheus finds nothing in a subquery with @ under a function with an argument per step");
    }
    if query.contains("info(") && (query.contains(" @ ") || query.contains(" offset ")) {
        return Some(
            "info() of selectors with @ or offset: its scripts ask for what Prometheus does only after 3.14.0",
        );
    }
    if query.contains("absent") && one_series_each(ours, theirs) {
        return Some("labels of absent() where matchers repeat a label: Prometheus's storage reorders them");
    }
    if query.starts_with("sort_by_label") && missing_sort_label(query, theirs) {
        return Some("Prometheus has no order between a missing label and a present one");
    }
    None
}

/// Whether the answers differ in notes only, and ours has more of those that an operator between two vectors makes
/// where theirs has one of the same operator.
fn only_more_operator_notes(ours: &Value, theirs: &Value) -> bool {
    const OPERATOR_NOTES: [&str; 3] = [
        "incompatible sample types encountered",
        "incompatible bucket layout encountered",
        "during histogram addition",
    ];
    let all = |answer: &Value| -> BTreeSet<String> { &notes(answer, "warnings") | &notes(answer, "infos") };
    let (ours, theirs) = (all(ours), all(theirs));
    let is_operator_s = |note: &str| {
        OPERATOR_NOTES.iter().any(|part| note.contains(part)) || note.contains("during histogram subtraction")
    };
    let place = |note: &str| note.rfind(" (").map(|at| note[at..].to_owned());
    ours != theirs
        && theirs.is_subset(&ours)
        && ours.difference(&theirs).all(|note| {
            is_operator_s(note) && theirs.iter().any(|other| is_operator_s(other) && place(other) == place(note))
        })
}

fn same_without_sample_counts(ours: &Value, theirs: &Value) -> bool {
    let uncounted = |answer: &Value| -> BTreeSet<String> {
        let cut = |note: &String| match (note.find(", over "), note.find(" samples from ")) {
            (Some(start), Some(end)) if start < end => format!("{}{}", &note[..start], &note[end..]),
            _ => note.clone(),
        };
        notes(answer, "infos").iter().map(cut).collect()
    };
    notes(ours, "warnings") == notes(theirs, "warnings") && uncounted(ours) == uncounted(theirs)
}

/// Whether the answers are the same but for the signs of zeros.
fn zeros_differ(ours: &Value, theirs: &Value) -> bool {
    let unsigned = |answer: &Value| answer["data"].to_string().replace("\"-0\"", "\"0\"");
    ours["data"] != theirs["data"] && unsigned(ours) == unsigned(theirs)
}

fn per_step_argument_over_fixed_subquery(query: &str) -> bool {
    const CALLS: [&str; 3] = ["predict_linear(", "quantile_over_time(", "double_exponential_smoothing("];
    CALLS.iter().any(|call| query.contains(call)) && query.contains(":") && query.contains(" @ ")
}

fn is_empty(answer: &Value) -> bool {
    answer["data"]["result"].as_array().is_some_and(Vec::is_empty)
}

/// Whether both answers are the one series of `absent`, with labels that differ.
fn one_series_each(ours: &Value, theirs: &Value) -> bool {
    [ours, theirs].iter().all(|answer| answer["data"]["result"].as_array().is_some_and(|result| result.len() == 1))
        && ours["data"]["result"][0]["metric"] != theirs["data"]["result"][0]["metric"]
}

fn missing_sort_label(query: &str, answer: &Value) -> bool {
    let Some((_, labels)) = query.rsplit_once("), \"") else { return false };
    let labels: Vec<&str> = labels.split('"').filter(|label| label.chars().all(char::is_alphanumeric)).collect();
    let result = answer["data"]["result"].as_array();
    result.into_iter().flatten().any(|series| labels.iter().any(|label| series["metric"][label].is_null()))
}
