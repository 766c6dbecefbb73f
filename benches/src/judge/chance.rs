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

/// What an error says, without which of several colliding series it names and at which step: that is chance.
pub fn error_words(answer: &Value) -> String {
    let text = answer["error"].as_str().unwrap_or_default();
    match (text.find("for the match group"), text.find(" on the ")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{}", &text[..start], text[end..].split('[').next().unwrap_or_default())
        }
        _ => text.to_owned(),
    }
}

/// Digits that a sum may lose depending on its order, where it does so in Prometheus itself.
const OWN_SPREAD: f64 = 1e-6;

/// Whether `mine` lies where `others`, numbers that are the same but for lost digits, lie: no farther from them than
/// they are from each other.
fn within_spread(mine: &Value, others: &[Option<&Value>]) -> bool {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok()).filter(|one| one.is_finite());
    let Some(others) = others.iter().map(|other| other.and_then(number)).collect::<Option<Vec<f64>>>() else {
        return false;
    };
    let (low, high) = others.iter().fold((f64::MAX, f64::MIN), |(low, high), one| (low.min(*one), high.max(*one)));
    let spread = high - low;
    spread <= OWN_SPREAD * low.abs().max(high.abs())
        && number(mine).is_some_and(|mine| mine >= low - spread && mine <= high + spread)
}

/// Compares with answers of which the first differs from `ours`.
pub fn chance(ours: &Value, theirs: &[Value]) -> Chance {
    if ours["status"] != "success" {
        let same = |answer: &Value| answer["status"] == ours["status"] && error_words(answer) == error_words(ours);
        return if theirs.iter().any(same) { Chance::Among } else { Chance::No };
    }
    // Where it refuses at times, the other times count.
    let theirs: Vec<&Value> = theirs.iter().filter(|answer| answer["status"] == "success").collect();
    if theirs.is_empty() {
        return Chance::No;
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
    let (ours, theirs) = (cells(ours), theirs.iter().map(|answer| cells(answer)).collect::<Vec<Cells>>());
    let keys: BTreeSet<&(String, String)> = ours.keys().chain(theirs.iter().flat_map(BTreeMap::keys)).collect();
    let mut result = Chance::Among;
    for key in keys {
        let (mine, known) = (ours.get(key), theirs.iter().map(|cells| cells.get(key)).collect::<Vec<_>>());
        if known.contains(&mine) {
            continue;
        }
        let varies = known.iter().any(|cell| *cell != known[0]);
        let near = |other: &Option<&Value>| matches!((mine, other), (Some(one), Some(other)) if close(one, other));
        let spread = || mine.is_some_and(|mine| within_spread(mine, &known));
        if !(varies && (known.iter().any(near) || spread())) {
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
        let sums = [answer(&[("x", "8222.265213")], &[]), answer(&[("x", "8222.265216")], &[])];
        assert_eq!(chance(&answer(&[("x", "8222.265211")], &[]), &sums), Chance::Rounding);
        assert_eq!(chance(&answer(&[("x", "8222.265200")], &[]), &sums), Chance::No);
        assert_eq!(chance(&answer(&[("x", "8222.265211")], &[]), &sums[..1]), Chance::No);
    }

    #[test]
    fn an_error_is_chance_if_it_comes_there_at_times() {
        let refused = |series: &str| {
            let text = format!(
                "found duplicate series for the match group {{{series}}} on the left hand-side of the operation: [{series}];many"
            );
            json!({"status": "error", "error": text})
        };
        let fine = answer(&[("x", "1")], &[]);
        assert_eq!(chance(&refused("a"), &[fine.clone(), refused("b")]), Chance::Among);
        assert_eq!(chance(&refused("a"), std::slice::from_ref(&fine)), Chance::No);
        assert_eq!(chance(&fine, &[refused("a"), fine.clone()]), Chance::Among);
        assert_eq!(chance(&fine, &[refused("a")]), Chance::No);
    }

    #[test]
    fn notes_must_be_among_theirs() {
        let with = |notes: &[&str]| answer(&[("x", "1")], notes);
        assert_eq!(chance(&with(&["a"]), &[with(&["b"]), with(&["a"])]), Chance::Among);
        assert_eq!(chance(&with(&["a", "c"]), &[with(&["b"]), with(&["a"])]), Chance::No);
        assert_eq!(chance(&with(&[]), &[with(&["a"]), with(&["a"])]), Chance::No);
    }
}
