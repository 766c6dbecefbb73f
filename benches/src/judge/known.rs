//! Differences that are meant, or that nothing can settle; each by name. A class says by what the answers differ, and
//! where that is not enough, what else has to agree with ours: a newer Prometheus that has repaired the defect, or this
//! Prometheus asked step by step, or in other words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::answers::{Order, Verdict, compare, notes};
use crate::judge::rewrite::{argument_length, with_labels_of_absent, with_offsets_in_at};
use crate::judge::steps::Steps;

/// A class of differences that an answer may belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub name: &'static str,
    pub proof: Proof,
}

/// What shows that a difference is of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The two answers themselves.
    Answers,
    /// A newer Prometheus answers as we do.
    Newer,
    /// A newer Prometheus answers with other series each time, and gives each sample of ours at some time.
    Unordered,
    /// The same Prometheus answers as we do when each step is asked for as an instant query.
    EachStep,
    /// The same Prometheus answers as we do to another query that says the same.
    Rewritten(String),
}

/// What the answers to a query differ by.
#[derive(Debug, Clone, Copy)]
pub struct Difference<'a> {
    pub query: &'a str,
    /// One step where the query is an instant query.
    pub steps: Steps,
    pub ours: &'a Value,
    pub theirs: &'a Value,
    /// How the cells compare, whatever the notes.
    pub cells: &'a Verdict,
}

/// The classes that a difference may belong to, those that need no further proof first.
pub fn known(difference: &Difference<'_>) -> Vec<Known> {
    let Difference { query, steps, ours, theirs, cells } = *difference;
    let is_range = steps.step_ms > 0;
    let cells_are_equal = *cells == Verdict::Same;
    let classes = [
        // Its evaluator has one place for notes per operator and step. Cells and all of its notes are the same.
        (
            cells_are_equal && only_more_operator_notes(ours, theirs),
            "of several notes of one operator at one step, Prometheus keeps the last",
            Proof::Answers,
        ),
        // Nothing but the numbers in "… over N samples from A to B" differ.
        (
            cells_are_equal && same_without_sample_counts(ours, theirs),
            "samples counted in a note on monotonicity: Prometheus doubles them where notes meet",
            Proof::Answers,
        ),
        // `sort.Float64s` is not stable and takes both zeros for equal. Nothing but the sign of zeros differs.
        (
            zeros_differ(ours, theirs) && ["quantile", "mad_over_time"].iter().any(|call| query.contains(call)),
            "sign of a zero that is a quantile: zeros of both signs have no order",
            Proof::Answers,
        ),
        // Of equal values the first stays, and which comes first is the storage's business. Nothing but the sign of zeros
        // differs.
        (
            zeros_differ(ours, theirs) && ["min", "max"].iter().any(|call| query.contains(call)),
            "sign of a zero that is the least or the greatest: zeros of both signs are equal",
            Proof::Answers,
        ),
        // Its sort is not stable. An instant query has the same values, of other series.
        (
            !is_range && is_sorted(query) && same_values(ours, theirs),
            "which of equal values is kept behind sort: Prometheus leaves equal ones in no order",
            Proof::Answers,
        ),
        // A panic of its own, when it looks for a zero bucket that there cannot be.
        (
            theirs["error"] == "histograms with custom buckets have no zero bucket" && ours["status"] == "success",
            "Prometheus does not write out custom buckets that were multiplied by NaN",
            Proof::Answers,
        ),
        // The comparison says of neither that it is less, whatever the other labels. Nothing but the order differs, …
        (
            query.starts_with("sort_by_label")
                && missing_sort_label(query, theirs)
                && !cells_are_equal
                && compare(ours, theirs, Order::Nothing) == Verdict::Same,
            "Prometheus has no order between a missing label and a present one",
            Proof::Answers,
        ),
        // … or the last digit of what is summed in that order.
        (
            !is_range && query.contains("sort_by_label") && matches!(cells, Verdict::Near(_)),
            "last digit of a sum over sort_by_label, which has no order between a missing label and a present one",
            Proof::Answers,
        ),
        // It moves its windows along with the steps once more. Repaired in 3.15.
        (
            per_step_argument_over_fixed_subquery(query),
            "Prometheus 3.14 finds nothing in a subquery with @ under a function with an argument per step",
            Proof::Newer,
        ),
        // Our scripts ask for what 3.15 does: info series as of the selectors' times, names that stay dropped.
        (
            query.contains("info("),
            "Prometheus 3.14 looks info series up at other times than what they describe, and restores dropped names",
            Proof::Newer,
        ),
        // Which of them come first is the order of a Go map there; a range query sorts nothing. Of dozens, ours are hardly
        // ever drawn together.
        (
            query.contains("limitk") && (query.contains("info(") || is_range && is_sorted(query)),
            "which series limitk keeps beside info(), or behind sort in a range: Prometheus has them in no order",
            Proof::Unordered,
        ),
        // What meets nobody, and what is made of the buckets of a classic histogram, comes in the order of a Go map.
        (
            keeps_some(query) && (query.contains(" fill") || query.contains("histogram_quantiles(")),
            "which of equal ones are kept of those from fill or histogram_quantiles(): Prometheus has them in no order",
            Proof::Unordered,
        ),
        // Its preprocessing, which takes parentheses away, leaves parameters of aggregations out. Nothing but such places
        // differs.
        (
            cells_are_equal && only_parentheses_between(query, ours, theirs),
            "Prometheus points at the parentheses around an argument in the parameter of an aggregation",
            Proof::Answers,
        ),
        // Its preprocessing leaves parameters of aggregations out: what `@` pins there moves with the steps, and
        // `@ start()` and `@ end()` mean nothing.
        (
            is_range && parameter_with_at(query),
            "Prometheus does not heed @ in the parameter of an aggregation in a range query",
            Proof::EachStep,
        ),
    ];
    // `absent(x{job="a",job!="b"})`: whether a label that several matchers name is in the result depends on the order that
    // the storage has put the matchers in.
    let absent = with_labels_of_absent(query).map(|query| {
        (
            true,
            "labels of absent() where matchers repeat a label: Prometheus's storage reorders them",
            Proof::Rewritten(query),
        )
    });
    // The evaluator sets the offset anew from `@` at each step, and forgets the one that was written.
    let timestamp = with_offsets_in_at(query, steps)
        .map(|query| (true, "timestamp(x offset 5m @ 10): Prometheus forgets the offset", Proof::Rewritten(query)));
    let all = classes.into_iter().chain(absent).chain(timestamp);
    all.filter(|(fits, ..)| *fits).map(|(_, name, proof)| Known { name, proof }).collect()
}

/// The samples of an answer, each with its series, as text.
pub fn cells(answer: &Value) -> BTreeSet<String> {
    let mut cells = BTreeSet::new();
    for series in answer["data"]["result"].as_array().into_iter().flatten() {
        let labels: BTreeMap<_, _> = series["metric"].as_object().into_iter().flatten().collect();
        let several = ["values", "histograms"].into_iter().filter_map(|kind| series[kind].as_array()).flatten();
        let one = ["value", "histogram"].into_iter().filter_map(|kind| series.get(kind));
        cells.extend(several.chain(one).map(|sample| format!("{labels:?} {sample}")));
    }
    cells
}

/// Whether the answers differ in notes only, and ours has more of those that an operator between two vectors makes
/// where theirs has one of the same operator.
pub fn only_more_operator_notes(ours: &Value, theirs: &Value) -> bool {
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
    notes(ours, "warnings") == notes(theirs, "warnings")
        && notes(ours, "infos") != notes(theirs, "infos")
        && uncounted(ours) == uncounted(theirs)
}

/// Whether the answers are the same but for the signs of zeros.
fn zeros_differ(ours: &Value, theirs: &Value) -> bool {
    let unsigned = |answer: &Value| answer["data"].to_string().replace("\"-0\"", "\"0\"");
    ours["data"] != theirs["data"] && unsigned(ours) == unsigned(theirs)
}

/// Whether the vectors have the same values, whichever series have them.
fn same_values(ours: &Value, theirs: &Value) -> bool {
    let values = |answer: &Value| -> Vec<String> {
        let series = answer["data"]["result"].as_array().into_iter().flatten();
        let mut values: Vec<String> = series.map(|series| series["value"][1].to_string()).collect();
        values.sort();
        values
    };
    ours["data"] != theirs["data"] && values(ours) == values(theirs)
}

fn per_step_argument_over_fixed_subquery(query: &str) -> bool {
    const CALLS: [&str; 3] = ["predict_linear(", "quantile_over_time(", "double_exponential_smoothing("];
    CALLS.iter().any(|call| query.contains(call)) && query.contains(":") && query.contains(" @ ")
}

/// Whether some aggregation keeps a few of its series, the first of equal ones.
fn keeps_some(query: &str) -> bool {
    ["topk", "bottomk", "limitk"].iter().any(|operator| query.contains(operator))
}

fn is_sorted(query: &str) -> bool {
    ["sort(", "sort_desc("].iter().any(|call| query.contains(call))
}

/// Whether notes are the same but for places: theirs before the parentheses around what ours point at.
fn only_parentheses_between(query: &str, ours: &Value, theirs: &Value) -> bool {
    let inside = |note: &String| -> Option<String> {
        let (text, column) = note.strip_suffix(')')?.rsplit_once(" (1:")?;
        let behind = query.get(column.parse::<usize>().ok()?.checked_sub(1)?..)?.trim_start_matches('(');
        Some(format!("{text} (1:{})", query.len() - behind.len() + 1))
    };
    let agree = |kind: &str| {
        let (ours, theirs) = (notes(ours, kind), notes(theirs, kind));
        let moved = |note: &String| if ours.contains(note) { Some(note.clone()) } else { inside(note) };
        theirs.iter().map(moved).collect::<Option<BTreeSet<String>>>().is_some_and(|moved| moved == ours)
    };
    let differ = |kind: &str| notes(ours, kind) != notes(theirs, kind);
    (differ("warnings") || differ("infos")) && agree("warnings") && agree("infos")
}

fn missing_sort_label(query: &str, answer: &Value) -> bool {
    let Some((_, labels)) = query.rsplit_once("), \"") else { return false };
    let labels: Vec<&str> = labels.split('"').filter(|label| label.chars().all(char::is_alphanumeric)).collect();
    let result = answer["data"]["result"].as_array();
    result.into_iter().flatten().any(|series| labels.iter().any(|label| series["metric"][label].is_null()))
}

/// Whether the parameter of some aggregation has an `@`.
fn parameter_with_at(query: &str) -> bool {
    const OPERATORS: [&str; 5] = ["topk", "bottomk", "limitk", "limit_ratio", "quantile"];
    let parameters = OPERATORS.iter().flat_map(|operator| {
        query.match_indices(operator).filter_map(|(at, _)| {
            let mut rest = &query[at + operator.len()..];
            if rest.starts_with(" by ") || rest.starts_with(" without ") {
                let open = rest.find('(')?;
                rest = &rest[open + argument_length(&rest[open + 1..], false) + 2..];
            }
            let arguments = rest.strip_prefix(" (")?;
            Some(&arguments[..argument_length(arguments, true)])
        })
    });
    parameters.into_iter().any(|parameter| parameter.contains(" @ "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(query: &str, ours: &Value, theirs: &Value) -> Vec<&'static str> {
        let order = if query.starts_with("sort_by_label") { Order::OfSeries } else { Order::Nothing };
        let cells = compare(ours, theirs, order);
        let steps = Steps { start_ms: 0, end_ms: 0, step_ms: 0 };
        let difference = Difference { query, steps, ours, theirs, cells: &cells };
        known(&difference).into_iter().map(|known| known.name).collect()
    }

    fn vector(series: &[(Value, &str)]) -> Value {
        let result: Vec<Value> =
            series.iter().map(|(metric, value)| json!({"metric": metric, "value": [1.0, value]})).collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": result}})
    }

    #[test]
    fn parameters_are_found() {
        assert!(parameter_with_at("topk by (job, le) (scalar(x{a=\"b\"} @ 5), y)"));
        assert!(parameter_with_at("abs(quantile (scalar(x @ start()), y))"));
        assert!(!parameter_with_at("topk by (job) (2, y @ 5)"));
        assert!(!parameter_with_at("histogram_quantile(0.5, y @ 5)"));
    }

    #[test]
    fn sort_leaves_open_which_of_equal_values_is_kept() {
        let answer = |pod: &str, value: &str| vector(&[(json!({ "pod": pod }), value)]);
        assert_eq!(names("limitk (1, sort(x))", &answer("a", "1"), &answer("b", "1")).len(), 1);
        assert_eq!(names("limitk (1, sort(x))", &answer("a", "1"), &answer("b", "2")), Vec::<&str>::new());
        assert_eq!(names("limitk (1, x)", &answer("a", "1"), &answer("b", "1")), Vec::<&str>::new());
    }

    #[test]
    fn what_comes_from_maps_has_no_order() {
        let (ours, theirs) = (vector(&[(json!({"pod": "a"}), "1")]), vector(&[(json!({"pod": "b"}), "1")]));
        let known = |query: &str| names(query, &ours, &theirs).len();
        assert_eq!(known("bottomk (2, a + on (job) fill (0) b)"), 1);
        assert_eq!(known("limitk (2, histogram_quantiles(a, \"q\", 0.5, 0.9))"), 1);
        assert_eq!(known("sum(a + on (job) fill (0) b)"), 0);
        assert_eq!(known("bottomk (2, a + on (job) b)"), 0);
    }

    #[test]
    fn cells_are_known_by_series_time_and_value() {
        let result = |order: [usize; 2]| {
            let all = [
                json!({"metric": {"b": "c", "a": "b"}, "values": [[2.5, "7"]]}),
                json!({"metric": {}, "values": [[1, "2"], [2.5, "3"]], "histograms": [[4, {}]]}),
            ];
            json!({"data": {"resultType": "matrix", "result": order.map(|at| all[at].clone())}})
        };
        assert_eq!(cells(&result([0, 1])).len(), 4);
        assert_eq!(cells(&result([0, 1])), cells(&result([1, 0])));
        let (one, other) = (vector(&[(json!({}), "1")]), vector(&[(json!({}), "2")]));
        assert!(cells(&one).is_disjoint(&cells(&other)));
    }

    #[test]
    fn places_differ_by_parentheses_only() {
        let query = "quantile(scalar(quantile_over_time(((0.5)), x[5m])), y)";
        let answer = |notes: &[&str]| {
            let mut answer = vector(&[]);
            answer["infos"] = json!(notes);
            answer
        };
        let names = |ours: &[&str], theirs: &[&str]| names(query, &answer(ours), &answer(theirs));
        assert_eq!(names(&["a (1:38)", "b"], &["a (1:36)", "b"]).len(), 1);
        for theirs in [["a (1:34)", "b"], ["c (1:36)", "b"], ["a (1:36)", "c"], ["a (1:36)", "a (1:37)"]] {
            assert_eq!(names(&["a (1:38)", "b"], &theirs), Vec::<&str>::new(), "{theirs:?}");
        }
    }

    #[test]
    fn orders_are_open_only_where_labels_are_missing() {
        let (one, other) = ((json!({"zone": "x"}), "1"), (json!({"job": "a"}), "2"));
        let (ours, theirs) = (vector(&[one.clone(), other.clone()]), vector(&[other, one]));
        let query = "sort_by_label((x), \"zone\")";
        assert_eq!(names(query, &ours, &theirs).len(), 1);
        let (a, b) = ((json!({"zone": "x"}), "1"), (json!({"zone": "y"}), "2"));
        let (forth, back) = (vector(&[a.clone(), b.clone()]), vector(&[b, a]));
        assert_eq!(names(query, &forth, &back), Vec::<&str>::new());
        let wrong = vector(&[(json!({"job": "a"}), "2"), (json!({"zone": "x"}), "3")]);
        assert_eq!(names(query, &ours, &wrong), Vec::<&str>::new());
    }
}
