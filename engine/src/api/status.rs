//! `status/*`, `features`, `version`, and the lists that stay empty until rules and alerting are built.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::params::Params;
use super::query::not_ready;
use super::{plain, success_value};
use crate::app::App;
use crate::build;
use crate::logging::rfc3339_millis;

pub(super) async fn config(State(app): State<Arc<App>>) -> Response {
    success_value(&json!({ "yaml": app.config().yaml() }))
}

pub(super) async fn flags(State(app): State<Arc<App>>) -> Response {
    let flags: Map<String, Value> =
        app.flags.shown().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    success_value(&Value::Object(flags))
}

/// Clients read the version to know which interfaces there are, so it is the one of the Prometheus we stand in for.
fn build_json() -> Value {
    json!({
        "version": build::PROMETHEUS_VERSION,
        "revision": format!("pilaster-{}", build::VERSION),
        "branch": "",
        "buildUser": "",
        "buildDate": build::date(),
        "goVersion": "",
    })
}

pub(super) async fn build_info() -> Response {
    success_value(&build_json())
}

pub(super) async fn version() -> Response {
    plain(build_json().to_string())
}

pub(super) async fn runtime_info(State(app): State<Arc<App>>) -> Response {
    let reload = app.last_reload();
    let cwd = std::env::current_dir().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let reload_time = chrono::DateTime::<chrono::Utc>::from(reload.at);
    success_value(&json!({
        "startTime": rfc3339_millis(app.started),
        "CWD": cwd,
        "hostname": host_name(),
        "serverTime": rfc3339_millis(SystemTime::now()),
        "reloadConfigSuccess": reload.successful,
        "lastConfigTime": reload_time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "corruptionCount": 0,
        "goroutineCount": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": crate::retention::shown(&app.retention()),
    }))
}

/// The machine's name.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|text| text.trim().to_owned())
        .unwrap_or_else(|_| "localhost".to_owned())
}

pub(super) async fn wal_replay(State(app): State<Arc<App>>) -> Response {
    let replay = app.replay();
    success_value(&json!({ "min": replay.min, "max": replay.max, "current": replay.current }))
}

pub(super) async fn tsdb(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.get("limit") {
        "" => 10,
        text => text
            .parse::<usize>()
            .ok()
            .filter(|limit| (1..=10_000).contains(limit))
            .ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?,
    };
    let store = app.parts().ok_or_else(not_ready)?.store.clone();
    let (stats, cardinality) = tokio::task::spawn_blocking(move || (store.stats(), store.head_cardinality(limit)))
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let list = |entries: &[(String, u64)]| -> Value {
        entries.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    };
    Ok(success_value(&json!({
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": cardinality.label_pairs,
            "chunkCount": stats.series,
            "minTime": stats.head_min_ms.unwrap_or(i64::MAX),
            "maxTime": stats.head_max_ms.unwrap_or(i64::MIN),
        },
        "seriesCountByMetricName": list(&cardinality.series_by_metric),
        "labelValueCountByLabelName": list(&cardinality.values_by_label),
        "memoryInBytesByLabelName": list(&cardinality.bytes_by_label),
        "seriesCountByLabelValuePair": list(&cardinality.series_by_pair),
    })))
}

pub(super) async fn tsdb_blocks(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let source = app.source().ok_or_else(not_ready)?;
    let blocks: Vec<Value> = source
        .snapshot()
        .blocks()
        .iter()
        .map(|block| {
            let meta = block.meta();
            json!({
                "ulid": meta.name,
                "minTime": meta.min_ms,
                // Upstream's blocks end before their greatest time.
                "maxTime": meta.max_ms.saturating_add(1),
                "stats": { "numSamples": meta.sample_count, "numSeries": meta.series_count },
                "compaction": { "level": meta.level, "sources": [meta.name] },
                "version": 1,
                "files": meta.files.iter().map(|file| json!({ "path": file.path, "bytes": file.bytes })).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(success_value(&json!({ "blocks": blocks })))
}

pub(super) async fn rules() -> Response {
    success_value(&json!({ "groups": [] }))
}

pub(super) async fn alerts() -> Response {
    success_value(&json!({ "alerts": [] }))
}

pub(super) async fn alertmanagers() -> Response {
    success_value(&json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

pub(super) async fn notifications() -> Response {
    success_value(&json!([]))
}

pub(super) async fn features(State(app): State<Arc<App>>) -> Response {
    let on = |name: &str| app.flags.features().any(|feature| feature == name);
    let functions: Map<String, Value> = pilaster_promql::functions::FUNCTIONS
        .iter()
        .map(|function| {
            let usable = !function.experimental || on("promql-experimental-functions");
            (function.name.to_owned(), Value::Bool(usable))
        })
        .collect();
    success_value(&json!({
        "api": {
            "admin": app.flags.on("web.enable-admin-api"),
            "label_values_match": true,
            "lifecycle": app.flags.on("web.enable-lifecycle"),
            "otlp_write_receiver": false,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": app.flags.on("web.enable-remote-write-receiver"),
            "sql": true,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "prometheus": { "agent_mode": false, "auto_reload_config": false, "server_mode": true },
        "promql": {
            "at_modifier": true,
            "bool": true,
            "delayed_name_removal": on("promql-delayed-name-removal"),
            "experimental_functions": on("promql-experimental-functions"),
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": on("promql-per-step-stats"),
            "subqueries": true,
        },
        "promql_functions": functions,
    }))
}
