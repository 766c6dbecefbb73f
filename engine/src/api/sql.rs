//! `/api/v1/sql`: SQL text in, rows out in the form that `Accept` asks for.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, ErrorType};
use super::params::Params;
use super::query::not_ready;
use crate::app::App;

/// The statement is the body; or `query` of a form, of the URL, or of a JSON object.
pub(super) async fn sql(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let accept = header_text(&request, &header::ACCEPT);
    let content_type = header_text(&request, &header::CONTENT_TYPE);
    let in_url = Params::of_query(request.uri().query().unwrap_or_default()).get("query").to_owned();
    let body = Bytes::from_request(request, &()).await.map_err(|error| ApiError::bad_data(error.to_string()))?;
    let body = String::from_utf8(body.to_vec()).map_err(|_| ApiError::bad_data("the statement is not UTF-8"))?;
    let statement = statement(in_url, body, &content_type)?;
    if statement.trim().is_empty() {
        return Err(ApiError::parameter("query", "no SQL statement"));
    }
    let service = app.parts().ok_or_else(not_ready)?.sql.clone();
    let _place = tokio::time::timeout(app.query_timeout(), app.gate.acquire())
        .await
        .map_err(|_| ApiError::new(ErrorType::Timeout, "query timed out in query queue"))?;
    let started = Instant::now();
    let task = app.queries.spawn(async move { pilaster_sql::http::respond(&service, &statement, &accept).await });
    let answer = task.await.map_err(|error| {
        tracing::error!(%error, "an SQL query ended by panic");
        ApiError::internal("unexpected error: the query failed inside the server; its log says where")
    })?;
    app.metrics.language_seconds.with(&["sql"]).observe(started.elapsed().as_secs_f64());
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok((status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response())
}

/// Clients that send plain text as a form, as curl does unless it is told not to, get what they mean.
fn statement(in_url: String, body: String, content_type: &str) -> Result<String, ApiError> {
    if !in_url.is_empty() {
        return Ok(in_url);
    }
    if content_type.starts_with("application/json") {
        let value: serde_json::Value =
            serde_json::from_str(&body).map_err(|error| ApiError::bad_data(format!("not JSON: {error}")))?;
        return Ok(value["query"].as_str().unwrap_or_default().to_owned());
    }
    if content_type.starts_with("application/x-www-form-urlencoded") {
        let in_form = Params::of_query(&body).get("query").to_owned();
        if !in_form.is_empty() {
            return Ok(in_form);
        }
    }
    Ok(body)
}

fn header_text(request: &Request, name: &header::HeaderName) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::statement;

    #[test]
    fn the_statement_is_found_wherever_it_stands() {
        let form = "application/x-www-form-urlencoded";
        for (in_url, body, content_type) in [
            ("select 1", "", ""),
            ("", "select 1", "text/plain"),
            ("", "select 1", form),
            ("", "query=select+1", form),
            ("", "{\"query\": \"select 1\"}", "application/json; charset=utf-8"),
        ] {
            assert_eq!(statement(in_url.to_owned(), body.to_owned(), content_type).unwrap(), "select 1", "{body}");
        }
        assert!(statement(String::new(), "{".to_owned(), "application/json").is_err());
    }
}
