//! `query`, `query_range`, `format_query`, `parse_query`.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use pilaster_promql::source::SourceError;
use pilaster_promql::{Output, QueryError, QueryLimits, QueryValue};

use super::error::{ApiError, ErrorType};
use super::gzip::{self, Packers};
use super::output::{StatsDetail, Timings, query_body, query_pieces};
use super::params::{Params, parse_duration_ns};
use super::{json_response, success_value};
use crate::app::{App, now_ms};
use crate::source::{StoreSource, TooEarly};

/// A panel wider than this asks for more points than any screen has.
const MOST_POINTS: i128 = 11_000;

const NANOSECONDS_PER_MS: i64 = 1_000_000;

pub(super) async fn instant(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let at_ms = params.time_or("time", now_ms())?;
    let request = Request::read(&app, &headers, &params, limit)?;
    let (engine, source) = (app.engine().ok_or_else(not_ready)?, app.source().ok_or_else(not_ready)?);
    let (text, limits) = (request.text.clone(), request.limits.clone());
    let evaluated = source.clone();
    request.run(&app, source, async move { engine.instant_with(evaluated, &text, at_ms, &limits).await }).await
}

pub(super) async fn range(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let start_ms = params.time("start")?;
    let end_ms = params.time("end")?;
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ns = params.duration_ns("step")?;
    // A step below a millisecond would be none at all.
    if step_ns < NANOSECONDS_PER_MS {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", reason));
    }
    let length_ns = i128::from(end_ms.saturating_sub(start_ms)) * i128::from(NANOSECONDS_PER_MS);
    if length_ns / i128::from(step_ns) > MOST_POINTS {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let step_ms = step_ns / NANOSECONDS_PER_MS;
    let request = Request::read(&app, &headers, &params, limit)?;
    let (engine, source) = (app.engine().ok_or_else(not_ready)?, app.source().ok_or_else(not_ready)?);
    let (text, limits) = (request.text.clone(), request.limits.clone());
    let evaluated = source.clone();
    let evaluate = async move { engine.range_with(evaluated, &text, start_ms, end_ms, step_ms, &limits).await };
    request.run(&app, source, evaluate).await
}

pub(super) async fn format(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let expr = parsed(&app, &params)?;
    Ok(success_value(&pilaster_promql::pretty::pretty(&expr).into()))
}

pub(super) async fn parse(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let expr = parsed(&app, &params)?;
    Ok(success_value(&pilaster_promql::ast_json::ast_json(&expr)))
}

fn parsed(app: &App, params: &Params) -> Result<pilaster_promql::ast::Expr, ApiError> {
    let engine = app.engine().ok_or_else(not_ready)?;
    pilaster_promql::parser::parse(params.get("query"), &engine.options().parse)
        .map_err(|error| ApiError::parameter("query", error))
}

pub(super) fn not_ready() -> ApiError {
    ApiError::new(ErrorType::Unavailable, "TSDB not ready")
}

/// What both kinds of query share.
struct Request {
    text: String,
    limits: QueryLimits,
    timeout: Duration,
    limit: Option<usize>,
    stats: StatsDetail,
    warning: Option<String>,
    gzip: bool,
}

impl Request {
    fn read(app: &App, headers: &HeaderMap, params: &Params, limit: Option<usize>) -> Result<Request, ApiError> {
        let mut timeout = app.query_timeout();
        if !params.get("timeout").is_empty() {
            let given_ns = params.duration_ns("timeout")?;
            // No time left is a timeout whatever the query.
            let given_ns = u64::try_from(given_ns).ok().filter(|given_ns| *given_ns > 0);
            let given_ns =
                given_ns.ok_or_else(|| ApiError::new(ErrorType::Timeout, "query timed out in query execution"))?;
            timeout = timeout.min(Duration::from_nanos(given_ns));
        }
        let lookback_ms =
            match params.get("lookback_delta") {
                "" => None,
                text => Some(parse_duration_ns(text).map(|lookback_ns| lookback_ns / NANOSECONDS_PER_MS).map_err(
                    |reason| ApiError::bad_data(format!("error parsing lookback delta duration: {reason}")),
                )?),
            };
        let per_step = app.flags.features().any(|feature| feature == "promql-per-step-stats");
        let (stats, warning) = match params.get("stats") {
            "" => (StatsDetail::None, None),
            "all" if per_step => (StatsDetail::Steps, None),
            "true" | "all" => (StatsDetail::Totals, None),
            other => {
                let text = format!(
                    "value {other:?} for parameter \"stats\" is deprecated and will be rejected in the next major \
                     release, use \"true\" or \"all\""
                );
                (StatsDetail::Totals, Some(text))
            }
        };
        let count_samples = stats != StatsDetail::None;
        let limits = QueryLimits { lookback_ms, timeout: Some(timeout), count_samples, ..QueryLimits::default() };
        let gzip = gzip::is_accepted(headers);
        Ok(Request { text: params.get("query").to_owned(), limits, timeout, limit, stats, warning, gzip })
    }

    /// Waits for a place, evaluates on the query threads, and writes the answer there.
    ///
    /// When the client goes away the future is dropped, and the evaluation with it.
    async fn run(
        self,
        app: &Arc<App>,
        source: Arc<StoreSource>,
        evaluate: impl Future<Output = Result<Output, QueryError>> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let arrived = Instant::now();
        let _counted = Counted::new(app);
        let permit = tokio::time::timeout(self.timeout, app.gate.acquire())
            .await
            .map_err(|_| ApiError::new(ErrorType::Timeout, "query timed out in query queue"))?
            .map_err(|_| ApiError::new(ErrorType::Canceled, "query was canceled in query queue"))?;
        let queued = arrived.elapsed();
        let queries = &app.queries;
        let app = app.clone();
        let task = queries.spawn(async move {
            let mut output = evaluate.await.map_err(refusal)?;
            let took = arrived.elapsed();
            let slices = [("queue_time", queued), ("inner_eval", output.stats.elapsed)];
            for (slice, duration) in slices {
                app.metrics.query_seconds.with(&[slice]).observe(duration.as_secs_f64());
            }
            app.metrics.language_seconds.with(&["promql"]).observe(took.as_secs_f64());
            app.metrics.query_samples.add(output.stats.samples_read as u64);
            app.metrics.query_samples_read.add(output.stats.samples_read as u64);
            truncate(&mut output, self.limit);
            output.annotations.warnings.extend(self.warning);
            output.annotations.warnings.extend(source.warnings());
            let timings = Timings { queue: queued.as_secs_f64(), total: took.as_secs_f64() };
            Ok(match self.gzip {
                true => packed(&output, self.stats, &timings, &app.packers),
                false => plain(&output, self.stats, &timings),
            })
        });
        let answer = AbortOnDrop(task).join().await;
        drop(permit);
        answer
    }
}

/// Counts a query as running or waiting while it lives.
struct Counted(Arc<App>);

impl Counted {
    fn new(app: &Arc<App>) -> Counted {
        app.metrics.queries.add(1.0);
        Counted(app.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.queries.add(-1.0);
    }
}

/// A task that ends when nobody waits for it any more.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Response, ApiError>>);

impl AbortOnDrop {
    async fn join(mut self) -> Result<Response, ApiError> {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "a query ended by panic");
                Err(ApiError::internal("unexpected error: the query failed inside the server; its log says where"))
            }
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn plain(output: &Output, stats: StatsDetail, timings: &Timings) -> Response {
    json_response(query_body(output, stats, timings))
}

/// Compressed, where that is much work on all threads.
fn packed(output: &Output, stats: StatsDetail, timings: &Timings, packers: &Packers) -> Response {
    let pieces = query_pieces(output, stats, timings, || packers.lend(), |packer, piece| packer.pack(piece));
    let Some(pieces) = pieces.into_iter().collect::<Option<Vec<_>>>() else { return plain(output, stats, timings) };
    let mut response = json_response(gzip::join(&pieces));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

fn truncate(output: &mut Output, limit: Option<usize>) {
    let Some(limit) = limit else { return };
    let cut = match &mut output.value {
        QueryValue::Vector(samples) if samples.len() > limit => {
            samples.truncate(limit);
            true
        }
        QueryValue::Matrix(series) if series.len() > limit => {
            series.truncate(limit);
            true
        }
        QueryValue::Vector(_) | QueryValue::Matrix(_) | QueryValue::Scalar { .. } | QueryValue::String { .. } => false,
    };
    if cut {
        output.annotations.warnings.push("results truncated due to limit".to_owned());
    }
}

/// The kind of error a failed query is.
pub(super) fn refusal(error: QueryError) -> ApiError {
    let kind = match &error {
        QueryError::Parse(_) | QueryError::BadData(_) => return ApiError::parameter("query", error),
        QueryError::Execution(_) | QueryError::Unsupported(_) => ErrorType::Execution,
        QueryError::Timeout(_) => ErrorType::Timeout,
        QueryError::Canceled(_) => ErrorType::Canceled,
        QueryError::Storage(source) => return unreadable(source),
    };
    ApiError::new(kind, with_causes(&error))
}

/// What a source that could not be read is to a client.
pub(super) fn unreadable(error: &SourceError) -> ApiError {
    let SourceError::Storage(cause) = error;
    match cause.downcast_ref::<TooEarly>() {
        Some(reason) => ApiError::new(ErrorType::Starting, reason.to_string()),
        None => ApiError::internal(with_causes(error)),
    }
}

/// The error and what lies behind it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use pilaster_model::Labels;
    use pilaster_promql::{Annotations, MatrixSeries, QueryStats};

    use super::*;

    fn answer(series: usize, points: usize) -> Output {
        let one = |number: usize| MatrixSeries {
            labels: Labels::from_pairs([("__name__", "m"), ("number", &number.to_string())]),
            points: (0..points)
                .map(|at| (1_763_740_800_000 + at as i64 * 21_000, (at * number) as f64 / 7.0))
                .collect(),
            histograms: Vec::new(),
        };
        let value = QueryValue::Matrix((0..series).map(one).collect());
        Output { value, annotations: Annotations::default(), stats: QueryStats::default() }
    }

    #[tokio::test]
    async fn packed_answers_are_the_plain_ones() {
        let packers = Packers::new(1);
        for (series, points) in [(0, 0), (1, 1), (1, 11_000), (20, 1000), (5000, 1)] {
            let output = answer(series, points);
            let mut bodies = Vec::new();
            let (stats, timings) = (StatsDetail::None, Timings::default());
            for response in [plain(&output, stats, &timings), packed(&output, stats, &timings, &packers)] {
                let packed = response.headers().get(header::CONTENT_ENCODING).is_some();
                let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
                let mut text = Vec::new();
                match packed {
                    true => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap()),
                    false => text.extend_from_slice(&bytes),
                }
                bodies.push((packed, text));
            }
            assert_eq!((bodies[0].0, bodies[1].0), (false, true), "{series} x {points}");
            assert!(bodies[0].1 == bodies[1].1, "{series} x {points}");
        }
    }
}
