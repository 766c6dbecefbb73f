//! Receivers: remote write; remote read and OTLP say that they are not there.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::plain;
use crate::app::{App, now_ms};

pub(super) async fn remote_write(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    if !app.flags.on("web.enable-remote-write-receiver") {
        let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
        return (StatusCode::NOT_FOUND, plain(text)).into_response();
    }
    let Some(parts) = app.parts() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, encoding) = (text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
    let store = parts.store.clone();
    let received = tokio::task::spawn_blocking(move || {
        pilaster_ingest::remote_write::receive(&store, &content_type, &encoding, &body, now_ms())
    });
    match received.await {
        Ok(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = if answer.body.is_empty() { ().into_response() } else { plain(answer.body) };
            *response.status_mut() = status;
            for (name, value) in answer.headers {
                if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), value.parse()) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
        Err(error) => {
            tracing::error!(%error, "a remote write request ended by panic");
            (StatusCode::INTERNAL_SERVER_ERROR, plain("the request failed inside the server\n")).into_response()
        }
    }
}

pub(super) async fn remote_read() -> Response {
    (StatusCode::NOT_FOUND, plain("remote read is not built yet in Pilaster; ask for PromQL or SQL\n")).into_response()
}

pub(super) async fn otlp() -> Response {
    (StatusCode::NOT_FOUND, plain("the OTLP receiver is not built yet in Pilaster; use remote write\n")).into_response()
}
