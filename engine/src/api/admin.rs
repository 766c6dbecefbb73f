//! `admin/tsdb/*`: deleting series, and freeing their room.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pilaster_model::TimeRange;

use super::error::{ApiError, ErrorType};
use super::params::{MAX_TIME_MS, MIN_TIME_MS, Params};
use super::query::{not_ready, with_causes};
use super::series::selectors;
use crate::app::App;

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
        "snapshot" => return Err(ApiError::new(ErrorType::Unavailable, "snapshots are not built yet in Pilaster")),
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
