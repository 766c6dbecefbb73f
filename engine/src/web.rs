//! The web page at `/query`: an expression, a table, a graph. Three files inside the binary, and no network.

use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

use crate::app::App;

const PAGE: &str = include_str!("web/page.html");
const SCRIPT: &str = include_str!("web/page.js");
const GRAPH: &str = include_str!("web/graph.js");
const STYLE: &str = include_str!("web/page.css");
const ICON: &str = include_str!("web/favicon.svg");

pub async fn page(State(app): State<Arc<App>>) -> Response {
    let title = escaped(app.flags.get("web.page-title"));
    let page = PAGE.replace("{{prefix}}", &escaped(&app.prefix)).replace("{{title}}", &title);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

pub async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "page.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "graph.js" => ("text/javascript; charset=utf-8", GRAPH),
        "page.css" => ("text/css; charset=utf-8", STYLE),
        _ => return (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

pub async fn favicon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], ICON).into_response()
}

/// Links in old alerts point here.
pub async fn graph(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    found(&format!("{}/query{query}", app.prefix))
}

/// 302 to `location`.
pub fn found(location: &str) -> Response {
    let body = format!("<a href=\"{}\">Found</a>.\n\n", escaped(location));
    let headers =
        [(header::LOCATION, location.to_owned()), (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned())];
    (StatusCode::FOUND, headers, body).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
