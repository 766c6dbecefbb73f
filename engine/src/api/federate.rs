//! `/federate`: the latest sample of every selected series, for another Prometheus to scrape.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pilaster_model::{Labels, METRIC_NAME, TimeRange, is_stale};
use pilaster_promql::source::Source;

use super::error::ApiError;
use super::json::push_value;
use super::params::Params;
use super::plain;
use super::series::{on_query_threads, selectors};
use crate::app::{App, now_ms};

pub(super) async fn federate(State(app): State<Arc<App>>, params: Params) -> Response {
    let selectors = match selectors(&params, ApiError::bad_data) {
        Ok(selectors) => selectors,
        Err(error) => return (StatusCode::BAD_REQUEST, plain(error.message + "\n")).into_response(),
    };
    let Some(source) = app.source() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let now = now_ms();
    let range = TimeRange::new(now - app.flags.duration_ms("query.lookback-delta"), now);
    let external = app.config().external_labels();
    let latest = on_query_threads(&app, move || {
        let (mut latest, mut seen) = (Vec::new(), HashSet::new());
        for matchers in &selectors {
            let selection = source.select(matchers, range)?;
            let all: Vec<u32> = (0..selection.labels().len() as u32).collect();
            let batch = selection.read(&all)?;
            for run in &batch.runs {
                let timestamps = &batch.timelines[run.timeline as usize];
                let last = timestamps.len() - 1;
                // A native histogram has no place in this text format.
                let is_histogram = run.histograms.as_ref().is_some_and(|list| list[last].is_some());
                let labels = &selection.labels()[run.series as usize];
                if !is_stale(run.values[last]) && !is_histogram && seen.insert(labels.clone()) {
                    latest.push((labels.clone(), timestamps[last], run.values[last]));
                }
            }
        }
        Ok(latest)
    })
    .await;
    match latest {
        Ok(mut latest) => {
            latest.sort_by(|a, b| a.0.metric_name().cmp(b.0.metric_name()));
            let content_type = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
            ([(header::CONTENT_TYPE, content_type)], exposition(&latest, &external)).into_response()
        }
        Err(error) => {
            app.metrics.federation_errors.add(1);
            (StatusCode::INTERNAL_SERVER_ERROR, plain(error.message + "\n")).into_response()
        }
    }
}

fn exposition(latest: &[(Labels, i64, f64)], external: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(latest.len() * 128);
    let mut family = "";
    for (labels, timestamp_ms, value) in latest {
        let name = labels.metric_name();
        if name != family {
            out.extend_from_slice(format!("# TYPE {} untyped\n", family_name(name)).as_bytes());
            family = name;
        }
        let mut pairs: Vec<(&str, &str)> = labels.iter().filter(|(label, _)| *label != METRIC_NAME).collect();
        for (label, value) in external {
            if labels.find(label).is_none() {
                pairs.push((label, value));
            }
        }
        if labels.find("instance").is_none() && !external.iter().any(|(label, _)| label == "instance") {
            // Else the other server would put its own name for us there.
            pairs.push(("instance", ""));
        }
        let legacy = is_legacy(name);
        if legacy {
            out.extend_from_slice(name.as_bytes());
        }
        out.push(b'{');
        let mut separator = "";
        if !legacy {
            out.extend_from_slice(quoted(name).as_bytes());
            separator = ",";
        }
        for (label, value) in pairs {
            let label = if is_legacy(label) { label.to_owned() } else { quoted(label) };
            out.extend_from_slice(format!("{separator}{label}={}", quoted(value)).as_bytes());
            separator = ",";
        }
        out.extend_from_slice(b"} ");
        push_value(&mut out, *value);
        out.extend_from_slice(format!(" {timestamp_ms}\n").as_bytes());
    }
    out
}

fn family_name(name: &str) -> String {
    if is_legacy(name) { name.to_owned() } else { quoted(name) }
}

fn is_legacy(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_labels_are_added_and_instance_is_always_there() {
        let latest = [
            (Labels::from_pairs([("__name__", "up"), ("instance", "a"), ("dc", "own")]), 1500, 1.0),
            (Labels::from_pairs([("__name__", "up")]), 1500, f64::NAN),
            (Labels::from_pairs([("__name__", "x.y")]), 0, 2.5),
        ];
        let text = exposition(&latest, &[("dc".to_owned(), "x".to_owned())]);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "# TYPE up untyped\nup{dc=\"own\",instance=\"a\"} 1 1500\nup{dc=\"x\",instance=\"\"} NaN 1500\n\
             # TYPE \"x.y\" untyped\n{\"x.y\",dc=\"x\",instance=\"\"} 2.5 0\n"
        );
    }
}
