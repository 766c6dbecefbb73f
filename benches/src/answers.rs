//! Are two servers' answers the same?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// How two answers relate.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Every number to its last digit.
    Same,
    /// Numbers differ by at most this fraction.
    Near(f64),
    /// The first difference in words.
    Different(String),
}

/// Differences up to this fraction are rounding, since sums may be taken in another order.
const ROUNDING: f64 = 1e-12;

/// The warnings or infos (`kind`) of an answer; of more than are shown only how many those are, since which are shown
/// is chance.
pub fn notes(answer: &Value, kind: &str) -> BTreeSet<String> {
    let all = || answer[kind].as_array().into_iter().flatten().map(|note| note.as_str().unwrap_or_default().to_owned());
    match all().find(|note| note.ends_with("annotations omitted")) {
        Some(omitted) => BTreeSet::from([omitted]),
        None => all().collect(),
    }
}

/// Whether two values of samples, numbers or histograms, are the same but for rounding.
pub fn close(one: &Value, other: &Value) -> bool {
    compare_value(one, other).is_some()
}

/// What the order of the series of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Nothing,
    /// Which value is the greater one; series of equal values may stand in any order.
    OfValues,
    OfSeries,
}

/// Compares two bodies of `/api/v1/query` or `query_range`.
pub fn compare(ours: &Value, theirs: &Value, order: Order) -> Verdict {
    if ours["status"] != theirs["status"] {
        return Verdict::Different(format!("status {} and {}: {ours} {theirs}", ours["status"], theirs["status"]));
    }
    if ours["status"] == "error" {
        let same = ours["errorType"] == theirs["errorType"] && ours["error"] == theirs["error"];
        return match same {
            true => Verdict::Same,
            false => Verdict::Different(format!("errors {} and {}", ours["error"], theirs["error"])),
        };
    }
    let (ours, theirs) = (&ours["data"], &theirs["data"]);
    if ours["resultType"] != theirs["resultType"] {
        return Verdict::Different(format!("types {} and {}", ours["resultType"], theirs["resultType"]));
    }
    if ours["resultType"] == "scalar" || ours["resultType"] == "string" {
        return compare_point(&ours["result"], &theirs["result"], "the scalar");
    }
    let empty = Vec::new();
    let list = |value: &Value| value["result"].as_array().unwrap_or(&empty).clone();
    let (ours, theirs) = (list(ours), list(theirs));
    if ours.len() != theirs.len() {
        return Verdict::Different(format!("{} and {} series", ours.len(), theirs.len()));
    }
    let mut pairs = ours.iter().zip(&theirs);
    let misplaced = pairs.find(|(one, other)| match order {
        Order::Nothing => false,
        Order::OfValues => !close(&one["value"][1], &other["value"][1]),
        Order::OfSeries => one["metric"] != other["metric"],
    });
    if let Some((one, other)) = misplaced {
        return Verdict::Different(format!("{one} stands where {other} should"));
    }
    let by_labels = |list: &[Value]| -> BTreeMap<String, Value> {
        list.iter().map(|series| (sorted_labels(&series["metric"]), series.clone())).collect()
    };
    let (ours, theirs) = (by_labels(&ours), by_labels(&theirs));
    worst(theirs.iter().map(|(labels, other)| match ours.get(labels) {
        Some(one) => compare_series(one, other),
        None => Verdict::Different(format!("series {labels} is missing")),
    }))
}

fn sorted_labels(metric: &Value) -> String {
    let pairs: BTreeMap<_, _> = metric.as_object().into_iter().flatten().collect();
    format!("{pairs:?}")
}

fn compare_series(ours: &Value, theirs: &Value) -> Verdict {
    let name = ours["metric"].to_string();
    let empty = Vec::new();
    let kinds = ["value", "values", "histogram", "histograms"];
    worst(kinds.into_iter().filter(|kind| ours.get(kind).is_some() || theirs.get(kind).is_some()).map(|kind| {
        if !kind.ends_with('s') {
            return compare_point(&ours[kind], &theirs[kind], &name);
        }
        let points = |series: &Value| series[kind].as_array().unwrap_or(&empty).clone();
        let (ours, theirs) = (points(ours), points(theirs));
        if ours.len() != theirs.len() {
            return Verdict::Different(format!("{} and {} {kind} of {name}", ours.len(), theirs.len()));
        }
        worst(ours.iter().zip(&theirs).map(|(one, other)| compare_point(one, other, &name)))
    }))
}

fn compare_point(ours: &Value, theirs: &Value, name: &str) -> Verdict {
    if ours[0].as_f64() != theirs[0].as_f64() {
        return Verdict::Different(format!("times {} and {} of {name}", ours[0], theirs[0]));
    }
    if ours[1] == theirs[1] {
        return Verdict::Same;
    }
    compare_value(&ours[1], &theirs[1])
        .unwrap_or_else(|| Verdict::Different(format!("values {} and {} at {} of {name}", ours[1], theirs[1], ours[0])))
}

/// Numbers as text, or whole histograms made of them; `None` where they differ.
fn compare_value(ours: &Value, theirs: &Value) -> Option<Verdict> {
    match (ours, theirs) {
        (Value::String(one), Value::String(other)) if one == other => Some(Verdict::Same),
        (Value::String(one), Value::String(other)) => {
            let (one, other): (f64, f64) = (one.parse().ok()?, other.parse().ok()?);
            let difference = ((one - other) / other.abs().max(f64::MIN_POSITIVE)).abs();
            (difference <= ROUNDING).then_some(Verdict::Near(difference))
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            let pairs: Option<Vec<_>> = ours.iter().zip(theirs).map(|(one, other)| compare_value(one, other)).collect();
            Some(worst(pairs?.into_iter()))
        }
        (Value::Object(ours), Value::Object(theirs)) if ours.len() == theirs.len() => {
            let pairs: Option<Vec<_>> =
                theirs.iter().map(|(key, other)| compare_value(ours.get(key)?, other)).collect();
            Some(worst(pairs?.into_iter()))
        }
        _ => (ours == theirs).then_some(Verdict::Same),
    }
}

fn worst(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let mut result = Verdict::Same;
    for verdict in verdicts {
        match (&result, &verdict) {
            (_, Verdict::Different(_)) => return verdict,
            (Verdict::Near(before), Verdict::Near(now)) if now > before => result = verdict,
            (Verdict::Same, Verdict::Near(_)) => result = verdict,
            (Verdict::Same | Verdict::Near(_) | Verdict::Different(_), Verdict::Same | Verdict::Near(_)) => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vector(labels: &[(&str, &str)]) -> Value {
        let result: Vec<_> =
            labels.iter().map(|(name, value)| json!({"metric": {"a": name}, "value": [1.0, value]})).collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": result}})
    }

    #[test]
    fn differences_are_found() {
        let answer = vector(&[("x", "1"), ("y", "0.1")]);
        let swapped = vector(&[("y", "0.1"), ("x", "1")]);
        for order in [Order::Nothing, Order::OfValues, Order::OfSeries] {
            assert_eq!(compare(&answer, &answer, order), Verdict::Same);
            assert_eq!(compare(&answer, &swapped, order) == Verdict::Same, order == Order::Nothing);
        }
        let different = |other: &Value| matches!(compare(&answer, other, Order::Nothing), Verdict::Different(_));
        assert!(different(&vector(&[("x", "1")])));
        assert!(different(&vector(&[("x", "1"), ("y", "NaN")])));
        let rounded = vector(&[("x", "1"), ("y", "0.10000000000000002")]);
        assert!(matches!(compare(&answer, &rounded, Order::Nothing), Verdict::Near(_)));
    }

    #[test]
    fn equal_values_have_no_order() {
        let (one, other) = (vector(&[("x", "1"), ("y", "1")]), vector(&[("y", "1"), ("x", "1")]));
        assert_eq!(compare(&one, &other, Order::OfValues), Verdict::Same);
        assert!(matches!(compare(&one, &other, Order::OfSeries), Verdict::Different(_)));
        let third = vector(&[("x", "1"), ("z", "1")]);
        assert!(matches!(compare(&one, &third, Order::OfValues), Verdict::Different(_)));
    }
}
