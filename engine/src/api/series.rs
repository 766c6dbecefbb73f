//! `labels`, `label/<name>/values`, `series`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use pilaster_model::{Labels, Matcher, TimeRange};
use pilaster_promql::source::{Source, SourceError};

use super::error::ApiError;
use super::json::{push_labels, push_strings};
use super::params::{MAX_TIME_MS, MIN_TIME_MS, Params};
use super::query::{not_ready, unreadable};
use super::success;
use crate::app::App;
use crate::source::StoreSource;

const TRUNCATED: &str = "results truncated due to limit";

pub(super) async fn label_names(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let range = time_range(&params)?;
    let selectors = selectors(&params, ApiError::bad_data)?;
    let Some(range) = range else { return Ok(strings(Vec::new(), limit, Vec::new())) };
    let source = app.source().ok_or_else(not_ready)?;
    let asked = source.clone();
    let names = on_query_threads(&app, move || {
        union(&asked, &selectors, |source, matchers| source.label_names(matchers, range))
    })
    .await?;
    Ok(strings(names, limit, source.warnings()))
}

pub(super) async fn label_values(State(app): State<Arc<App>>, uri: Uri, params: Params) -> Result<Response, ApiError> {
    let name = label_in_path(uri.path())?;
    let limit = params.limit()?;
    let range = time_range(&params)?;
    let selectors = selectors(&params, ApiError::bad_data)?;
    let Some(range) = range else { return Ok(strings(Vec::new(), limit, Vec::new())) };
    let source = app.source().ok_or_else(not_ready)?;
    let asked = source.clone();
    let values = on_query_threads(&app, move || {
        union(&asked, &selectors, |source, matchers| source.label_values(&name, matchers, range))
    })
    .await?;
    Ok(strings(values, limit, source.warnings()))
}

pub(super) async fn series(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = params.limit()?;
    let range = time_range(&params)?;
    let selectors = selectors(&params, |reason| ApiError::parameter("match[]", reason))?;
    let Some(range) = range else { return Ok(success(b"[]", &[])) };
    let source = app.source().ok_or_else(not_ready)?;
    let asked = source.clone();
    let (body, cut) = on_query_threads(&app, move || {
        let mut selections = Vec::with_capacity(selectors.len());
        for matchers in &selectors {
            selections.push(asked.select(matchers, range)?);
        }
        // One selector is the common case, and its label sets are ascending and distinct already.
        let mut merged: Vec<&Labels> = selections.iter().flat_map(|selection| selection.labels()).collect();
        if selections.len() > 1 {
            merged.sort_unstable();
            merged.dedup();
        }
        let shown = limit.map_or(merged.len(), |limit| limit.min(merged.len()));
        let mut out = Vec::with_capacity(shown * 128);
        out.push(b'[');
        for (index, labels) in merged[..shown].iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_labels(&mut out, labels);
        }
        out.push(b']');
        Ok((out, shown < merged.len()))
    })
    .await?;
    let mut warnings = source.warnings();
    warnings.extend(cut.then(|| TRUNCATED.to_owned()));
    Ok(success(&body, &warnings))
}

/// Runs blocking work on the query threads.
pub(super) async fn on_query_threads<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, ApiError> {
    match app.queries.spawn_blocking(work).await {
        Ok(answer) => answer.map_err(|error| unreadable(&error)),
        Err(error) => {
            tracing::error!(%error, "a request ended by panic");
            Err(ApiError::internal("unexpected error: the request failed inside the server; its log says where"))
        }
    }
}

fn union(
    source: &StoreSource,
    selectors: &[Vec<Matcher>],
    ask: impl Fn(&StoreSource, &[Matcher]) -> Result<Vec<String>, SourceError>,
) -> Result<Vec<String>, SourceError> {
    match selectors {
        [] => ask(source, &[]),
        [one] => ask(source, one),
        many => {
            let mut all = BTreeSet::new();
            for matchers in many {
                all.extend(ask(source, matchers)?);
            }
            Ok(all.into_iter().collect())
        }
    }
}

fn strings(mut texts: Vec<String>, limit: Option<usize>, mut warnings: Vec<String>) -> Response {
    if let Some(limit) = limit
        && texts.len() > limit
    {
        texts.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
    let mut out = Vec::with_capacity(texts.len() * 24);
    push_strings(&mut out, &texts);
    success(&out, &warnings)
}

/// `start` and `end`; `None` where the range ends before it starts.
fn time_range(params: &Params) -> Result<Option<TimeRange>, ApiError> {
    let start_ms = params.time_or("start", MIN_TIME_MS)?;
    let end_ms = params.time_or("end", MAX_TIME_MS)?;
    Ok(if start_ms <= end_ms { Some(TimeRange::new(start_ms, end_ms)) } else { None })
}

/// The selectors in `match[]`.
pub(super) fn selectors(params: &Params, refuse: impl Fn(String) -> ApiError) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let mut selectors = Vec::new();
    for text in params.all("match[]") {
        let matchers = pilaster_promql::parser::parse_selector(text).map_err(|error| refuse(error.to_string()))?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(refuse("match[] must contain at least one non-empty matcher".to_owned()));
        }
        selectors.push(matchers);
    }
    Ok(selectors)
}

/// The label of a path `…/label/<name>/values`.
fn label_in_path(path: &str) -> Result<String, ApiError> {
    let encoded = path.strip_suffix("/values").unwrap_or(path).rsplit('/').next().unwrap_or_default();
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(encoded).collect();
    match String::from_utf8(bytes) {
        Ok(name) if !name.is_empty() => Ok(unescape(&name)),
        Ok(name) => Err(ApiError::bad_data(format!("invalid label name: {name:?}"))),
        Err(error) => {
            let shown: String = error.as_bytes().utf8_chunks().fold(String::new(), |mut shown, chunk| {
                shown.push_str(chunk.valid());
                shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
                shown
            });
            Err(ApiError::bad_data(format!("invalid label name: \"{shown}\"")))
        }
    }
}

/// Reads a name in the `U__` escaping of names that do not fit a URL; any other name stands for itself.
fn unescape(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let (mut rest, mut text) = (escaped, String::new());
    while let Some((before, after)) = rest.split_once('_') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('_') {
            text.push('_');
            rest = after;
            continue;
        }
        let decoded = after
            .split_once('_')
            .filter(|(hex, _)| !hex.is_empty() && hex.len() <= 6)
            .and_then(|(hex, after)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, after)));
        match decoded {
            Some((character, after)) => {
                text.push(character);
                rest = after;
            }
            None => return name.to_owned(),
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        assert_eq!(label_in_path("/api/v1/label/a%20b/values").unwrap(), "a b");
        assert_eq!(label_in_path("/p/label/%ffx/values").unwrap_err().message, "invalid label name: \"\\xffx\"");
        for (escaped, name) in [
            ("job", "job"),
            ("U__http_2e_status:code", "http.status:code"),
            ("U__a__b", "a_b"),
            ("U___263a_", "\u{263a}"),
            ("U__a_zz_b", "U__a_zz_b"),
            ("U__a_2e", "U__a_2e"),
        ] {
            assert_eq!(unescape(escaped), name, "{escaped}");
        }
    }
}
