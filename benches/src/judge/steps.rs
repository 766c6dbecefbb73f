//! A range query as Prometheus answers it when each of its steps is asked for as an instant query.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::answers::notes;
use crate::server::Server;

/// The times of a range query.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

impl Steps {
    /// The same query with what its range decides written out: an instant query has another start, end and step.
    fn spelled_out(&self, query: &str) -> String {
        let seconds = |ms: i64| format!("{}", ms as f64 / 1000.0);
        query
            .replace("start()", &seconds(self.start_ms))
            .replace("end()", &seconds(self.end_ms))
            .replace("step()", &seconds(self.step_ms))
            .replace("range()", &seconds(self.end_ms - self.start_ms))
    }
}

/// The answer to a range query, put together from instant queries; the first refusal where one is refused.
pub async fn by_steps(server: &Server, query: &str, steps: Steps) -> anyhow::Result<Value> {
    let query = steps.spelled_out(query);
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    let mut noted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for at_ms in (steps.start_ms..=steps.end_ms).step_by(steps.step_ms.max(1) as usize) {
        let time = format!("{}", at_ms as f64 / 1000.0);
        let answer = server.get_json("/api/v1/query", &[("query", query.clone()), ("time", time)]).await?;
        if answer["status"] != "success" {
            return Ok(answer);
        }
        for kind in ["warnings", "infos"] {
            noted.entry(kind).or_default().append(&mut notes(&answer, kind));
        }
        let data = &answer["data"];
        let scalar = json!([{ "metric": {}, "value": data["result"] }]);
        let vector = if data["resultType"] == "vector" { &data["result"] } else { &scalar };
        for one in vector.as_array().into_iter().flatten() {
            let series = all.entry(one["metric"].to_string()).or_insert_with(|| json!({ "metric": one["metric"] }));
            for (single, many) in [("value", "values"), ("histogram", "histograms")] {
                if one[single].is_array() {
                    let points = &mut series[many];
                    if points.is_null() {
                        *points = json!([]);
                    }
                    points.as_array_mut().into_iter().for_each(|points| points.push(one[single].clone()));
                }
            }
        }
    }
    let series: Vec<Value> = all.into_values().collect();
    Ok(json!({
        "status": "success",
        "data": { "resultType": "matrix", "result": series },
        "warnings": noted.remove("warnings").unwrap_or_default(),
        "infos": noted.remove("infos").unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_range_decides_is_written_out() {
        let steps = Steps { start_ms: 10_500, end_ms: 70_500, step_ms: 15_000 };
        assert_eq!(steps.spelled_out("x @ start() + step() * range()"), "x @ 10.5 + 15 * 60");
    }
}
