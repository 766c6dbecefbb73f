//! `/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::plain;
use crate::app::{App, Control};

pub(super) async fn healthy() -> Response {
    plain("Prometheus Server is Healthy.\n")
}

pub(super) async fn ready() -> Response {
    plain("Prometheus Server is Ready.\n")
}

pub(super) async fn reload(State(app): State<Arc<App>>, method: Method) -> Response {
    if let Some(refused) = refused(&app, &method) {
        return refused;
    }
    let (answer, done) = oneshot::channel();
    let result = if app.ask(Control::Reload(answer)) { done.await.ok() } else { None };
    match result {
        Some(Ok(())) => StatusCode::OK.into_response(),
        Some(Err(reason)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, plain(format!("failed to reload config: {reason}\n"))).into_response()
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, plain("failed to reload config: the server is stopping\n"))
            .into_response(),
    }
}

pub(super) async fn quit(State(app): State<Arc<App>>, method: Method) -> Response {
    if let Some(refused) = refused(&app, &method) {
        return refused;
    }
    app.ask(Control::Quit);
    plain("Requesting termination... Goodbye!")
}

/// Why the request is not for us to follow: the flag first, then the method.
fn refused(app: &App, method: &Method) -> Option<Response> {
    if !app.flags.on("web.enable-lifecycle") {
        return Some((StatusCode::FORBIDDEN, plain("Lifecycle API is not enabled.")).into_response());
    }
    match *method {
        Method::POST | Method::PUT => None,
        _ => Some((StatusCode::METHOD_NOT_ALLOWED, plain("Only POST or PUT requests allowed")).into_response()),
    }
}
