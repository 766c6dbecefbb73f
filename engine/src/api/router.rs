//! Routes, and what happens around every request: readiness, CORS, compression, counting.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tower_http::compression::{CompressionLayer, CompressionLevel};

use super::{admin, exemplars, federate, lifecycle, query, self_metrics, series, sql, status, targets, write};
use crate::app::{App, Phase};
use crate::web;

/// Form bodies hold queries; a few are generated and long.
const MOST_FORM_BYTES: usize = 10 << 20;
/// A remote-write request of the largest sensible configuration, compressed.
const MOST_WRITE_BYTES: usize = 64 << 20;

/// All routes, below the prefix.
pub fn router(app: &Arc<App>) -> Router {
    let api = Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/query_exemplars", get(exemplars::exemplars).post(exemplars::exemplars))
        .route("/format_query", get(query::format).post(query::format))
        .route("/parse_query", get(query::parse).post(query::parse))
        .route("/labels", get(series::label_names).post(series::label_names))
        .route("/label/{name}/values", get(series::label_values))
        .route("/series", get(series::series).post(series::series))
        .route("/metadata", get(targets::metadata))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(targets::targets_metadata))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/rules", get(status::rules))
        .route("/alerts", get(status::alerts))
        .route("/alertmanagers", get(status::alertmanagers))
        .route("/notifications", get(status::notifications))
        .route("/features", get(status::features))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/runtimeinfo", get(status::runtime_info))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/tsdb/blocks", get(status::tsdb_blocks))
        .route("/status/walreplay", get(status::wal_replay))
        .route("/write", post(write::remote_write).layer(DefaultBodyLimit::max(MOST_WRITE_BYTES)))
        .route("/read", post(write::remote_read))
        .route("/otlp/v1/metrics", post(write::otlp))
        .route("/admin/tsdb/{action}", post(admin::admin).put(admin::admin))
        .route("/sql", get(sql::sql).post(sql::sql));
    let routes = Router::new()
        .nest("/api/v1", api)
        .route("/-/healthy", get(lifecycle::healthy))
        .route("/-/ready", get(lifecycle::ready))
        .route("/-/reload", any(lifecycle::reload))
        .route("/-/quit", any(lifecycle::quit))
        .route("/version", get(status::version))
        .route("/federate", get(federate::federate))
        .route("/metrics", get(self_metrics::metrics))
        .route("/query", get(web::page))
        .route("/graph", get(web::graph))
        .route("/assets/{name}", get(web::asset))
        .route("/favicon.svg", get(web::favicon))
        .route("/favicon.ico", get(web::favicon));
    let root = app.prefix.clone() + "/query";
    let home = move || {
        let root = root.clone();
        async move { web::found(&root) }
    };
    let routes = if app.prefix.is_empty() {
        routes.route("/", get(home))
    } else {
        Router::new()
            .nest(&app.prefix, routes)
            .route("/", get(home.clone()))
            .route(&app.prefix, get(home.clone()))
            .route(&format!("{}/", app.prefix), get(home))
    };
    // Grafana cannot read zstd, and what it calls deflate is another format than HTTP's.
    let compression = CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest);
    routes
        .fallback(|| async { not_found() })
        .method_not_allowed_fallback(|| async { method_not_allowed() })
        .layer(DefaultBodyLimit::max(MOST_FORM_BYTES))
        .layer(compression)
        .layer(from_fn_with_state(app.clone(), around))
        .with_state(app.clone())
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, text_headers(), "404 page not found\n").into_response()
}

fn method_not_allowed() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, text_headers(), "Method Not Allowed\n").into_response()
}

fn text_headers() -> [(HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")]
}

async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.uri().path().strip_prefix(app.prefix.as_str()).unwrap_or_default().to_owned();
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let is_api = path.starts_with("/api/v1/");
    let origin = if is_api { request.headers().get(header::ORIGIN).cloned() } else { None };
    let mut response = if is_api && request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else if needs_ready(&path) && app.phase() != Phase::Ready && !(asks_samples(&path) && app.answers_early()) {
        not_ready(&app)
    } else {
        next.run(request).await
    };
    if is_api {
        allow_origin(&app, origin.as_ref(), &mut response);
    }
    let handler = handler_name(&app, matched.as_deref().unwrap_or("/*path"));
    app.metrics.http_requests.with(&[&handler, response.status().as_str()]).add(1);
    app.metrics.http_seconds.with(&[&handler]).observe(started.elapsed().as_secs_f64());
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    app.metrics.http_bytes.with(&[&handler]).observe(bytes as f64);
    response
}

/// What answers only when the log is replayed and the server is not stopping.
fn needs_ready(path: &str) -> bool {
    match path {
        "/-/ready" | "/federate" => true,
        "/api/v1/status/walreplay" | "/api/v1/notifications" => false,
        _ => path.starts_with("/api/v1/"),
    }
}

/// What blocks can answer while the log is replayed. Not `/federate`, which wants the newest samples and has no place for
/// warnings.
fn asks_samples(path: &str) -> bool {
    let Some(asked) = path.strip_prefix("/api/v1/") else { return false };
    matches!(asked, "query" | "query_range" | "format_query" | "parse_query" | "labels" | "series")
        || (asked.starts_with("label/") && asked.ends_with("/values"))
}

fn not_ready(app: &App) -> Response {
    let stopping = if app.phase() == Phase::Stopping { "true" } else { "false" };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (HeaderName::from_static("x-prometheus-stopping"), stopping),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, "Service Unavailable").into_response()
}

fn allow_origin(app: &App, origin: Option<&HeaderValue>, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin.filter(|value| value.to_str().is_ok_and(|text| app.cors.is_match(text))) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// `/prom/api/v1/label/{name}/values` as Prometheus names it: `/api/v1/label/:name/values`.
fn handler_name(app: &App, matched: &str) -> String {
    let path = matched.strip_prefix(app.prefix.as_str()).unwrap_or(matched);
    path.replace('{', ":").replace('}', "")
}
