//! `admin/tsdb/*`: deleting series, freeing their room, and snapshots of everything.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pilaster_model::TimeRange;
use pilaster_storage::Store;

use super::error::{ApiError, ErrorType};
use super::params::{MAX_TIME_MS, MIN_TIME_MS, Params};
use super::query::{not_ready, with_causes};
use super::series::selectors;
use super::success_value;
use crate::app::{self, App};

pub(super) async fn admin(
    State(app): State<Arc<App>>,
    Path(action): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    if !app.flags.on("web.enable-admin-api") {
        return Err(ApiError::new(ErrorType::Unavailable, "admin APIs disabled"));
    }
    let store = app.parts().ok_or_else(not_ready)?.store.clone();
    let done = match action.as_str() {
        "delete_series" => {
            if params.all("match[]").next().is_none() {
                return Err(ApiError::bad_data("no match[] parameter provided"));
            }
            let range = TimeRange::new(params.time_or("start", MIN_TIME_MS)?, params.time_or("end", MAX_TIME_MS)?);
            let selectors = selectors(&params, |reason| ApiError::parameter("match[]", reason))?;
            tokio::task::spawn_blocking(move || selectors.iter().try_for_each(|matchers| store.delete(matchers, range)))
        }
        "clean_tombstones" => tokio::task::spawn_blocking(move || store.clean_tombstones()),
        "snapshot" => return snapshot(store, skip_head(params.get("skip_head"))?).await,
        other => return Err(ApiError::new(ErrorType::NotFound, format!("no such action: {other}"))),
    };
    match done.await {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Err(error)) => Err(ApiError::internal(with_causes(&error))),
        Err(error) => {
            tracing::error!(%error, action, "an administrative request ended by panic");
            Err(ApiError::internal("unexpected error: the request failed inside the server; its log says where"))
        }
    }
}

/// Makes a snapshot below `snapshots` of the data directory and says its name.
async fn snapshot(store: Arc<Store>, skip_head: bool) -> Result<Response, ApiError> {
    let name = snapshot_name(app::now_ms());
    let dir = store.options().dir.join("snapshots").join(&name);
    let done = tokio::task::spawn_blocking(move || store.snapshot_into(&dir, !skip_head));
    match done.await {
        Ok(Ok(())) => Ok(success_value(&serde_json::json!({ "name": name }))),
        Ok(Err(error)) => Err(ApiError::internal(format!("create snapshot: {}", with_causes(&error)))),
        Err(error) => {
            tracing::error!(%error, "a snapshot ended by panic");
            Err(ApiError::internal("unexpected error: the request failed inside the server; its log says where"))
        }
    }
}

/// The time, and what keeps two snapshots of one second apart: `20261121T120000Z-0123456789abcdef`.
fn snapshot_name(now_ms: i64) -> String {
    use std::hash::{BuildHasher, Hasher};
    let time = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let random = std::hash::RandomState::new().build_hasher().finish() >> 1;
    format!("{}-{random:016x}", time.format("%Y%m%dT%H%M%SZ"))
}

/// The words that Go's `ParseBool` takes; nothing is false.
fn skip_head(text: &str) -> Result<bool, ApiError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => {
            let reason = format!("unable to parse boolean: strconv.ParseBool: parsing {other:?}: invalid syntax");
            Err(ApiError::parameter("skip_head", reason))
        }
    }
}
