//! `query_exemplars`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pilaster_model::{Matcher, TimeRange};
use pilaster_promql::ast::{Expr, ExprKind};
use pilaster_storage::SeriesExemplars;

use super::error::ApiError;
use super::json::{push_labels, push_timestamp, push_value};
use super::params::{MAX_TIME_MS, MIN_TIME_MS, Params};
use super::query::not_ready;
use super::success;
use crate::app::App;

/// Exemplars of all series that the query's selectors name.
pub(super) async fn exemplars(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let start_ms = params.time_or("start", MIN_TIME_MS)?;
    let end_ms = params.time_or("end", MAX_TIME_MS)?;
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let parts = app.parts().ok_or_else(not_ready)?;
    // This endpoint does not say which parameter it could not parse.
    let expr = pilaster_promql::parser::parse(params.get("query"), &parts.engine.options().parse)
        .map_err(|error| ApiError::bad_data(error.to_string()))?;
    let mut selectors = Vec::new();
    collect(&expr, &mut selectors);
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(success(&json(&parts.store.exemplars(&selectors, TimeRange::new(start_ms, end_ms))), &[]))
}

fn collect(expr: &Expr, selectors: &mut Vec<Vec<Matcher>>) {
    if let ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } = &expr.kind {
        selectors.push(selector.matchers.clone());
    }
    for child in expr.children() {
        collect(child, selectors);
    }
}

fn json(found: &[SeriesExemplars]) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, of_series) in found.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"seriesLabels\":");
        push_labels(&mut out, &of_series.series);
        out.extend_from_slice(b",\"exemplars\":[");
        for (index, exemplar) in of_series.exemplars.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"labels\":");
            push_labels(&mut out, &exemplar.labels);
            out.extend_from_slice(b",\"value\":\"");
            push_value(&mut out, exemplar.value);
            out.extend_from_slice(b"\",\"timestamp\":");
            push_timestamp(&mut out, exemplar.timestamp_ms);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    out
}
