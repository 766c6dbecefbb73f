//! The HTTP API: Prometheus's endpoints below `/api/v1`, its health and lifecycle endpoints, and the web page.
//!
//! `router` joins them. Handlers read [`params::Params`], ask the parts of [`App`](crate::app::App), and answer with
//! bytes of JSON; every failure is an [`error::ApiError`].

mod admin;
pub mod error;
mod exemplars;
mod federate;
pub mod gzip;
pub mod json;
mod lifecycle;
pub mod output;
pub mod params;
mod query;
mod router;
mod self_metrics;
mod series;
mod sql;
mod status;
mod targets;
mod write;

pub use router::router;
pub use status::host_name;

pub(crate) use query::with_causes;

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// A JSON body.
fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The envelope of a success around `data`, which is JSON already.
fn success(data: &[u8], warnings: &[String]) -> Response {
    let mut body = Vec::with_capacity(data.len() + 64);
    body.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    body.extend_from_slice(data);
    output::push_annotations(&mut body, warnings, &[]);
    body.push(b'}');
    json_response(body)
}

/// [`success`] around a value that serde writes.
fn success_value(data: &serde_json::Value) -> Response {
    success(data.to_string().as_bytes(), &[])
}

fn plain(text: impl Into<String>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.into()).into_response()
}

#[cfg(test)]
mod early_tests;
