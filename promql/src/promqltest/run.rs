//! Runs a script's commands against an engine and a world.

use std::sync::Arc;
use std::time::Duration;

use super::expectation::{Expected, Mismatch, check_sorted};
use super::report::{Failure, FileReport};
use super::script::{Command, CommandKind, Eval, EvalTime, parse_script};
use super::world::World;
use crate::ast::{At, Expr, ExprKind};
use crate::engine::{Engine, EngineOptions, MatrixSeries, Output, QueryValue, Value, VectorSample};
use crate::parser::{ParseOptions, parse};
use crate::source::Source;

/// The options that scripts are written for.
pub fn engine_options() -> EngineOptions {
    EngineOptions {
        lookback_ms: 300_000,
        max_samples: 10_000,
        timeout: Duration::from_secs(100),
        delayed_name_removal: true,
        start_timestamps: true,
        default_subquery_step_ms: 60_000,
        parse: ParseOptions::all(),
        ..EngineOptions::default()
    }
}

/// Functions whose value changes with the evaluation time even where their arguments do not.
const TIME_DEPENDENT: [&str; 15] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// Runs the script `text`; `file` is what the report calls it.
///
/// Each evaluation at an instant is repeated at other times with `@` on every selector, and each of these as the middle
/// of a range query: the answer must not change. All count as one evaluation.
pub async fn run(file: &str, text: &str, engine: &Arc<Engine>, world: &mut dyn World) -> FileReport {
    let mut report = FileReport { file: file.to_owned(), passed: 0, failed: 0, failures: Vec::new() };
    let commands = match parse_script(text) {
        Ok(commands) => commands,
        Err(error) => {
            report.fail(error.line, "", "a script", &error.message);
            return report;
        }
    };
    if let Err(error) = world.clear() {
        report.fail(0, "", "an empty world", &error);
    }
    for Command { line, kind } in &commands {
        match kind {
            CommandKind::Clear => {
                if let Err(error) = world.clear() {
                    report.fail(*line, "clear", "an empty world", &error);
                }
            }
            CommandKind::Load(series) => {
                if let Err(error) = world.load(series) {
                    report.fail(*line, "load", "samples to load", &error);
                }
            }
            CommandKind::Eval(eval) => match world.source() {
                Ok(source) => match evaluate(engine, source, eval).await {
                    Ok(()) => report.passed += 1,
                    Err(wrong) => report.failures.push(Failure {
                        line: *line,
                        query: wrong.query,
                        expected: wrong.mismatch.expected,
                        got: wrong.mismatch.got,
                    }),
                },
                Err(error) => report.fail(*line, &eval.query, "a source", &error),
            },
        }
    }
    report.failed = report.failures.len();
    report
}

/// A mismatch and the query, perhaps rewritten, that it is about.
struct Wrong {
    query: String,
    mismatch: Mismatch,
}

async fn evaluate(engine: &Arc<Engine>, source: Arc<dyn Source>, eval: &Eval) -> Result<(), Wrong> {
    match eval.time {
        EvalTime::Range { start_ms, end_ms, step_ms } => {
            let wrong = |mismatch| Wrong { query: eval.query.clone(), mismatch };
            let answer = ask(engine, &source, &eval.query, Question::Range { start_ms, end_ms, step_ms }).await;
            let Some(output) = expect_answer(eval, answer).map_err(wrong)? else { return Ok(()) };
            eval.expectation.check_value(&output.value, (start_ms, end_ms, step_ms)).map_err(wrong)
        }
        EvalTime::Instant { at_ms } => {
            evaluate_instant(engine, &source, eval, &eval.query, at_ms).await?;
            for (query, at_ms) in pinned(&eval.query, at_ms) {
                evaluate_instant(engine, &source, eval, &query, at_ms).await?;
            }
            Ok(())
        }
    }
}

/// Evaluates at an instant, then as the middle step of a range.
async fn evaluate_instant(
    engine: &Arc<Engine>,
    source: &Arc<dyn Source>,
    eval: &Eval,
    query: &str,
    at_ms: i64,
) -> Result<(), Wrong> {
    let expectation = &eval.expectation;
    let wrong = |mismatch| Wrong { query: format!("{query} at {at_ms} ms"), mismatch };
    let answer = ask(engine, source, query, Question::Instant { at_ms }).await;
    let Some(output) = expect_answer(eval, answer).map_err(wrong)? else { return Ok(()) };
    let grid = expectation.range_vector.unwrap_or((at_ms, at_ms, 0));
    expectation.check_value(&output.value, grid).map_err(wrong)?;
    let in_context = ["start()", "end()", "range()", "step()"].iter().any(|call| query.contains(call));
    if in_context || expectation.range_vector.is_some() || matches!(expectation.expected, Expected::String(_)) {
        return Ok(());
    }
    const MINUTE_MS: i64 = 60_000;
    let wrong = |mismatch| Wrong { query: format!("{query} around {at_ms} ms, as a range"), mismatch };
    let (start_ms, end_ms) = (at_ms - MINUTE_MS, at_ms + MINUTE_MS);
    let range = ask(engine, source, query, Question::Range { start_ms, end_ms, step_ms: MINUTE_MS }).await;
    let value = match range.map(|output| output.value) {
        Ok(QueryValue::Matrix(matrix)) => matrix,
        Ok(_) => return Err(wrong(Mismatch { expected: "a matrix".to_owned(), got: "another value".to_owned() })),
        Err(error) => return Err(wrong(Mismatch { expected: "no failure".to_owned(), got: error })),
    };
    if expectation.ordered {
        return Ok(());
    }
    check_sorted(&value).map_err(wrong)?;
    let vector: Vec<VectorSample> = value.iter().flat_map(|series| samples_at(series, at_ms)).collect();
    let value = match (&output.value, vector.first().map(|sample| &sample.value)) {
        (QueryValue::Scalar { .. }, Some(Value::Float(value))) => {
            QueryValue::Scalar { timestamp_ms: at_ms, value: *value }
        }
        _ => QueryValue::Vector(vector),
    };
    expectation.check_value(&value, grid).map_err(wrong)
}

/// The output; `None` where the expected failure came.
fn expect_answer(eval: &Eval, answer: Result<Output, String>) -> Result<Option<Output>, Mismatch> {
    match answer {
        Err(error) => eval.expectation.check_error(&error).map(|()| None),
        Ok(_) if eval.expectation.fail.is_some() => {
            Err(Mismatch { expected: "failure".to_owned(), got: "an answer".to_owned() })
        }
        Ok(output) => eval.expectation.check_annotations(&output.annotations).map(|()| Some(output)),
    }
}

fn samples_at(series: &MatrixSeries, at_ms: i64) -> Vec<VectorSample> {
    let float = series.points.iter().find(|point| point.0 == at_ms).map(|point| Value::Float(point.1));
    let histogram =
        series.histograms.iter().find(|point| point.0 == at_ms).map(|point| Value::Histogram(point.1.clone()));
    let sample = |value| VectorSample { labels: series.labels.clone(), timestamp_ms: at_ms, value };
    float.into_iter().chain(histogram).map(sample).collect()
}

#[derive(Clone, Copy)]
enum Question {
    Instant { at_ms: i64 },
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// Asks the engine on a task of its own, so that a panic there is a failure of this evaluation alone.
async fn ask(
    engine: &Arc<Engine>,
    source: &Arc<dyn Source>,
    query: &str,
    question: Question,
) -> Result<Output, String> {
    let (engine, source, query) = (engine.clone(), source.clone(), query.to_owned());
    let task = tokio::spawn(async move {
        match question {
            Question::Instant { at_ms } => engine.instant(source, &query, at_ms).await,
            Question::Range { start_ms, end_ms, step_ms } => {
                engine.range(source, &query, start_ms, end_ms, step_ms).await
            }
        }
    });
    match task.await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(error) => Err(format!("evaluation died: {error}")),
    }
}

/// `query` with `@ at_ms` on every selector and subquery that is in no other subquery and has none, and the times at
/// which it must have the same value.
fn pinned(query: &str, at_ms: i64) -> Vec<(String, i64)> {
    let Ok(mut expr) = parse(query, &ParseOptions::all()) else { return Vec::new() };
    if !pin(&mut expr, at_ms) {
        return Vec::new();
    }
    let query = expr.to_string();
    let times = if at_ms == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at_ms, 0, at_ms / 5, at_ms, 10 * at_ms] };
    times.into_iter().map(|at_ms| (query.clone(), at_ms)).collect()
}

/// Sets `@`; false where a function depends on the evaluation time.
fn pin(expr: &mut Expr, at_ms: i64) -> bool {
    let set = |at: &mut Option<At>| {
        if !matches!(at, Some(At::Timestamp(_))) {
            *at = Some(At::Timestamp(at_ms));
        }
    };
    match &mut expr.kind {
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
            set(&mut selector.modifiers.at);
            true
        }
        ExprKind::Subquery { modifiers, .. } => {
            set(&mut modifiers.at);
            true
        }
        ExprKind::Call { function, args } => {
            pin_all(args.iter_mut(), at_ms) && !TIME_DEPENDENT.contains(&function.name)
        }
        ExprKind::Number(_)
        | ExprKind::DurationLiteral(_)
        | ExprKind::String(_)
        | ExprKind::Aggregate(_)
        | ExprKind::Binary(_)
        | ExprKind::Unary { .. }
        | ExprKind::Paren(_) => pin_all(expr.children_mut().into_iter(), at_ms),
    }
}

fn pin_all<'a>(exprs: impl Iterator<Item = &'a mut Expr>, at_ms: i64) -> bool {
    let mut all = true;
    for expr in exprs {
        all &= pin(expr, at_ms);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_pinned_outside_subqueries() {
        let queries = pinned("sum(a @ 5) + rate(b[1m:] offset 1m) / c offset 2m", 50_000);
        assert_eq!(queries[0].0, "sum(a @ 5.000) + rate(b[1m:] @ 50.000 offset 1m) / c @ 50.000 offset 2m");
        let times: Vec<i64> = queries.iter().map(|query| query.1).collect();
        assert_eq!(times, [-500_000, 0, 10_000, 50_000, 500_000]);
        assert!(pinned("timestamp(a)", 1).is_empty());
    }
}
