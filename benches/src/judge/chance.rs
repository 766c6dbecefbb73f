//! Is a difference chance? Prometheus keeps the results of one step in a map and reads it back in the map's order, so
//! what depends on the order of series (the last digit of a sum, which of equal series `topk` keeps, which of several
//! offenders a note names) differs from one asking to the next. It is asked again, and what it says varies where it is
//! chance.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::answers::{close, notes};

/// The cells of an answer: by series and time, a number or a histogram.
type Cells = BTreeMap<(String, String), Value>;

fn cells(answer: &Value) -> Cells {
    let data = &answer["data"];
    let mut cells = Cells::new();
    if matches!(data["resultType"].as_str(), Some("scalar" | "string")) {
        cells.insert((String::new(), data["result"][0].to_string()), data["result"][1].clone());
    }
    for series in data["result"].as_array().into_iter().flatten().filter(|series| series.is_object()) {
        let labels = series["metric"].to_string();
        let single = ["value", "histogram"].into_iter().map(|kind| &series[kind]).filter(|point| point.is_array());
        let many = ["values", "histograms"].into_iter().filter_map(|kind| series[kind].as_array()).flatten();
        for point in single.chain(many) {
            cells.insert((labels.clone(), point[0].to_string()), point[1].clone());
        }
    }
    cells
}

/// How `ours` relates to several answers of Prometheus to the same question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chance {
    /// Each cell of ours, each missing one and each note is among theirs.
    Among,
    /// The same, but for rounding in cells that vary there too.
    Rounding,
    No,
}

/// Compares with answers of which the first differs from `ours`.
pub fn chance(ours: &Value, theirs: &[Value]) -> Chance {
    if ours["status"] != "success" || theirs.iter().any(|answer| answer["status"] != "success") {
        let same = |answer: &&Value| answer["status"] == ours["status"] && answer["error"] == ours["error"];
        return if theirs.iter().any(|answer| same(&answer)) { Chance::Among } else { Chance::No };
    }
    for kind in ["warnings", "infos"] {
        let known: BTreeSet<String> = theirs.iter().flat_map(|answer| notes(answer, kind)).collect();
        let always =
            theirs.iter().map(|answer| notes(answer, kind)).reduce(|all, next| &all & &next).unwrap_or_default();
        let ours = notes(ours, kind);
        if !ours.is_subset(&known) || !always.is_subset(&ours) {
            return Chance::No;
        }
    }
    let (ours, theirs) = (cells(ours), theirs.iter().map(cells).collect::<Vec<Cells>>());
    let keys: BTreeSet<&(String, String)> = ours.keys().chain(theirs.iter().flat_map(BTreeMap::keys)).collect();
    let mut result = Chance::Among;
    for key in keys {
        let (mine, known) = (ours.get(key), theirs.iter().map(|cells| cells.get(key)).collect::<Vec<_>>());
        if known.contains(&mine) {
            continue;
        }
        let varies = known.iter().any(|cell| *cell != known[0]);
        let near = |other: &Option<&Value>| matches!((mine, other), (Some(one), Some(other)) if close(one, other));
        if !(varies && known.iter().any(near)) {
            return Chance::No;
        }
        result = Chance::Rounding;
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(cells: &[(&str, &str)], warnings: &[&str]) -> Value {
        let result: Vec<Value> =
            cells.iter().map(|(name, value)| json!({"metric": {"a": name}, "values": [[1, value]]})).collect();
        json!({"status": "success", "data": {"resultType": "matrix", "result": result}, "warnings": warnings})
    }

    #[test]
    fn what_varies_is_chance_and_what_does_not_is_none() {
        let (one, other) = (answer(&[("x", "1")], &[]), answer(&[("y", "1")], &[]));
        assert_eq!(chance(&one, &[other.clone(), other.clone()]), Chance::No);
        assert_eq!(chance(&one, &[other.clone(), one.clone()]), Chance::Among);
        let both = answer(&[("x", "1"), ("y", "2")], &[]);
        assert_eq!(chance(&both, &[other, one]), Chance::No);
        let sums = [answer(&[("x", "0.3")], &[]), answer(&[("x", "0.30000000000000004")], &[])];
        assert_eq!(chance(&answer(&[("x", "0.29999999999999999")], &[]), &sums), Chance::Rounding);
        assert_eq!(chance(&answer(&[("x", "0.31")], &[]), &sums), Chance::No);
        assert_eq!(chance(&answer(&[("x", "0.29999999999999999")], &[]), &sums[..1]), Chance::No);
    }

    #[test]
    fn notes_must_be_among_theirs() {
        let with = |notes: &[&str]| answer(&[("x", "1")], notes);
        assert_eq!(chance(&with(&["a"]), &[with(&["b"]), with(&["a"])]), Chance::Among);
        assert_eq!(chance(&with(&["a", "c"]), &[with(&["b"]), with(&["a"])]), Chance::No);
        assert_eq!(chance(&with(&[]), &[with(&["a"]), with(&["a"])]), Chance::No);
    }
}
