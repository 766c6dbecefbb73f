//! Answers of two servers beside each other.

use serde_json::Value;

/// What is different, a paragraph each. Sums may differ in their last bits, series in their order.
pub fn differences(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, ours: &Value, theirs: &Value| {
        let shown = |answer: &Value| answer.to_string().chars().take(600).collect::<String>();
        differences.push(format!("{what}\n  ours   {}\n  theirs {}", shown(ours), shown(theirs)));
    };
    for key in ["status", "error", "errorType", "warnings", "infos"] {
        if ours[key] != theirs[key] {
            differ(key, &ours[key], &theirs[key]);
        }
    }
    let (ours, theirs) = (&ours["data"], &theirs["data"]);
    if ours["resultType"] != theirs["resultType"] {
        differ("types", &ours["resultType"], &theirs["resultType"]);
    } else if !near(&by_labels(&ours["result"]), &by_labels(&theirs["result"])) {
        differ("results", &ours["result"], &theirs["result"]);
    }
    differences
}

fn by_labels(result: &Value) -> Value {
    match result.as_array() {
        Some(series) if series.iter().all(|one| one.get("metric").is_some()) => {
            series.iter().map(|one| (one["metric"].to_string(), one.clone())).collect()
        }
        _ => result.clone(),
    }
}

fn near(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, value)| other.get(key).is_some_and(|o| near(value, o)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| near(one, other))
        }
        (Value::String(one), Value::String(other)) if one != other => {
            let (Ok(a), Ok(b)) = (one.parse::<f64>(), other.parse::<f64>()) else { return false };
            (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
        }
        (one, other) => one == other,
    }
}
