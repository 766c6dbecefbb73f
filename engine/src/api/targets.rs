//! `targets`, `targets/metadata`, `metadata`, `scrape_pools`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pilaster_ingest::scrape::Target;
use pilaster_model::{Labels, Matcher};
use serde_json::{Map, Value, json};

use super::error::{ApiError, ErrorType};
use super::params::Params;
use super::query::not_ready;
use super::success_value;
use crate::app::{App, Parts};

/// What Go prints for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) async fn targets(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let scrapes = app.parts().ok_or_else(not_ready)?.scrapes.clone();
    let pool = params.get("scrapePool");
    let (active, dropped) = match params.get("state").to_ascii_lowercase().as_str() {
        "" | "any" => (true, true),
        "active" => (true, false),
        "dropped" => (false, true),
        _ => (false, false),
    };
    let in_pool = |job: &str| pool.is_empty() || job == pool;
    let mut answer = json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null });
    if active {
        let targets = scrapes.targets();
        let targets = targets.iter().filter(|target| in_pool(target.job()));
        answer["activeTargets"] = targets.map(|target| active_json(&app, target)).collect();
    }
    if dropped {
        let targets = scrapes.dropped_targets();
        let targets = targets.iter().filter(|target| in_pool(&target.job));
        answer["droppedTargets"] = targets
            .map(|target| {
                json!({ "discoveredLabels": labels_json(&target.discovered_labels), "scrapePool": target.job })
            })
            .collect();
        let counts: Map<String, Value> = scrapes
            .dropped_target_counts()
            .into_iter()
            .filter(|(job, _)| in_pool(job))
            .map(|(job, count)| (job, count.into()))
            .collect();
        answer["droppedTargetCounts"] = Value::Object(counts);
    }
    Ok(success_value(&answer))
}

fn active_json(app: &App, target: &Target) -> Value {
    let state = target.state();
    let last_scrape = state.last_scrape_ms.and_then(chrono::DateTime::from_timestamp_millis);
    json!({
        "discoveredLabels": labels_json(&target.discovered_labels()),
        "labels": labels_json(target.labels()),
        "scrapePool": target.job(),
        "scrapeUrl": target.url(),
        "globalUrl": global_url(target.url(), &app.external_url),
        "lastError": state.last_error,
        "lastScrape": last_scrape.map_or_else(
            || NEVER.to_owned(),
            |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        ),
        "lastScrapeDuration": state.last_duration.as_secs_f64(),
        "health": state.health.name(),
        "scrapeInterval": target.interval_text(),
        "scrapeTimeout": target.timeout_text(),
    })
}

fn labels_json(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}

/// A target's URL as users elsewhere reach it: this machine has another name there.
fn global_url(url: &str, external_url: &str) -> String {
    let parts = |url: &str| -> Option<(String, String, String, String)> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        Some((scheme.to_owned(), host.to_owned(), port.to_owned(), path.to_owned()))
    };
    let (Some((scheme, host, port, path)), Some((_, our_host, our_port, _))) = (parts(url), parts(external_url)) else {
        return url.to_owned();
    };
    if !matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") {
        return url.to_owned();
    }
    let port = if port == our_port { our_port } else { port };
    let colon = if port.is_empty() { "" } else { ":" };
    format!("{scheme}://{our_host}{colon}{port}{path}")
}

pub(super) async fn scrape_pools(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let jobs = app.parts().ok_or_else(not_ready)?.scrapes.jobs();
    Ok(success_value(&json!({ "scrapePools": jobs })))
}

/// `limit` and the like: `None` where absent or negative.
fn count(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(number) => Ok(usize::try_from(number).ok()),
            Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
        },
    }
}

/// Type, unit and help of a metric.
pub(crate) type Description = (String, String, String);

/// What targets say about their metrics, and senders about those that no target has.
pub(crate) fn descriptions(parts: &Parts) -> BTreeMap<String, BTreeSet<Description>> {
    let mut metrics: BTreeMap<String, BTreeSet<Description>> = BTreeMap::new();
    for of_target in parts.scrapes.metadata() {
        for one in of_target.metrics {
            metrics.entry(one.metric).or_default().insert((one.kind.name().to_owned(), one.unit, one.help));
        }
    }
    for one in parts.store.metadata() {
        let known = metrics.entry(one.metric).or_default();
        if known.is_empty() {
            known.insert((one.kind, one.unit, one.help));
        }
    }
    metrics
}

pub(super) async fn metadata(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    let per_metric = match count(&params, "limit_per_metric")? {
        None | Some(0) => usize::MAX,
        Some(count) => count,
    };
    let wanted = params.get("metric");
    let metrics = descriptions(app.parts().ok_or_else(not_ready)?);
    let answer: Map<String, Value> = metrics
        .into_iter()
        .filter(|(metric, _)| wanted.is_empty() || metric == wanted)
        .take(limit)
        .map(|(metric, descriptions)| {
            let list = descriptions.into_iter().take(per_metric);
            (metric, list.map(|(kind, unit, help)| json!({ "type": kind, "unit": unit, "help": help })).collect())
        })
        .collect();
    Ok(success_value(&Value::Object(answer)))
}

pub(super) async fn targets_metadata(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => {
            pilaster_promql::parser::parse_selector(text).map_err(|error| ApiError::parameter("match_target", error))?
        }
    };
    let wanted = params.get("metric");
    let fits = |labels: &Labels| matchers.iter().all(|matcher: &Matcher| matcher.matches_labels(labels));
    let mut answer = Vec::new();
    for of_target in app.parts().ok_or_else(not_ready)?.scrapes.metadata() {
        if answer.len() >= limit {
            break;
        }
        if !fits(of_target.target.labels()) {
            continue;
        }
        for one in of_target.metrics {
            let mut entry = json!({
                "target": labels_json(of_target.target.labels()),
                "type": one.kind.name(),
                "help": one.help,
                "unit": one.unit,
            });
            if wanted.is_empty() {
                entry["metric"] = one.metric.into();
            } else if one.metric != wanted {
                continue;
            }
            answer.push(entry);
        }
    }
    if answer.is_empty() && !wanted.is_empty() {
        return Err(ApiError::new(ErrorType::NotFound, "specified metadata not found"));
    }
    Ok(success_value(&Value::Array(answer)))
}

#[cfg(test)]
mod tests {
    use super::global_url;

    #[test]
    fn this_machine_has_another_name_elsewhere() {
        for (url, expected) in [
            ("http://127.0.0.1:9100/metrics", "http://host:9100/metrics"),
            ("http://localhost:9090/metrics?a=b", "http://host:9090/metrics?a=b"),
            ("https://[::1]:8080/x", "https://host:8080/x"),
            ("http://10.0.0.1:9100/metrics", "http://10.0.0.1:9100/metrics"),
        ] {
            assert_eq!(global_url(url, "http://host:9090"), expected);
        }
    }
}
