//! The engine: text and times in, values and annotations out.
//!
//! A range query of more steps than a tile runs as several plans, one per tile, whose results are put together at the
//! end; so a row is never longer than a tile, and what a plan holds does not grow with the range.

mod assemble;
mod deep;
mod first_error;
mod output;
mod samples;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;

use crate::ast::{Expr, ExprKind, ValueType};
use crate::error::QueryError;
use crate::exec::query_state::QueryState;
use crate::grid::Steps;
use crate::parser::{self, ParseOptions};
use crate::prepare::times::QueryRange;
use crate::prepare::{Evaluation, PrepareOptions, Preparer, unwrap_parens};
use crate::source::Source;

pub use crate::exec::sample_counts::StepCounts;
pub use output::{MatrixSeries, Output, QueryStats, QueryValue, Value, VectorSample};

/// How queries are answered. The default is a Prometheus server without flags.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How far an instant selector looks back; its window is left-open.
    pub lookback_ms: i64,
    /// Samples that a query may hold at once.
    pub max_samples: usize,
    pub timeout: Duration,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `use-start-timestamps`
    pub start_timestamps: bool,
    /// `type-and-unit-labels`: what is a counter is read from `__type__`.
    pub type_and_unit_labels: bool,
    /// Step of subqueries that name none.
    pub default_subquery_step_ms: i64,
    pub parse: ParseOptions,
    /// Most steps that one plan computes.
    pub tile: usize,
    /// Most partitions of a leaf.
    pub partitions: usize,
    /// Cells, or samples read, that make another partition worth its overhead.
    pub partition_cells: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            lookback_ms: 300_000,
            max_samples: 50_000_000,
            timeout: Duration::from_secs(120),
            delayed_name_removal: false,
            start_timestamps: false,
            type_and_unit_labels: false,
            default_subquery_step_ms: 60_000,
            parse: ParseOptions::default(),
            tile: 1024,
            partitions: std::thread::available_parallelism().map_or(1, usize::from),
            partition_cells: 1 << 18,
        }
    }
}

/// What one request may ask to differ.
#[derive(Debug, Clone, Default)]
pub struct QueryLimits {
    /// The engine's where it is not positive.
    pub lookback_ms: Option<i64>,
    /// Only lowers the engine's.
    pub timeout: Option<Duration>,
    /// Only lowers the engine's.
    pub max_samples: Option<usize>,
    /// Whether samples are counted step by step, which takes a plan for all steps and no short cuts.
    pub count_samples: bool,
}

/// Answers PromQL queries over sources. Cheap to share; has no state between queries.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    runtime: Arc<RuntimeEnv>,
    /// Copied for each query: making one anew costs more than a small query.
    config: SessionConfig,
}

/// One running query.
struct Execution {
    expr: Expr,
    text: String,
    preparer: Preparer,
    started: Instant,
}

/// Stops the operators of a query whose future was dropped; they may run on other threads.
struct CancelOnDrop(Arc<QueryState>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Engine {
    pub fn new(options: EngineOptions) -> Engine {
        Engine { options, runtime: Arc::new(RuntimeEnv::default()), config: SessionConfig::new() }
    }

    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates `query` at one time.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn instant(&self, source: Arc<dyn Source>, query: &str, at_ms: i64) -> Result<Output, QueryError> {
        self.instant_with(source, query, at_ms, &QueryLimits::default()).await
    }

    /// Like [`Engine::instant`], with limits of the request.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn instant_with(
        &self,
        source: Arc<dyn Source>,
        query: &str,
        at_ms: i64,
        limits: &QueryLimits,
    ) -> Result<Output, QueryError> {
        let range = QueryRange { start_ms: at_ms, end_ms: at_ms, step_ms: 0 };
        let execution = self.begin(source, query, range, limits)?;
        let _guard = CancelOnDrop(Arc::clone(&execution.preparer.query));
        let counts = execution.preparer.query.outermost_counts();
        let evaluation = Evaluation::new(Steps::instant(at_ms), false, counts);
        deep::run(deep::is_deep(&execution.expr), async move {
            match execution.instant_value(at_ms, evaluation).await {
                Ok(value) => Ok(execution.finish(value)),
                Err(error) => Err(execution.first_error(evaluation.steps, 1, error).await),
            }
        })
        .await
    }

    /// Evaluates `query` at `start_ms`, `start_ms + step_ms`, … up to and including `end_ms`.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn range(
        &self,
        source: Arc<dyn Source>,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Output, QueryError> {
        self.range_with(source, query, start_ms, end_ms, step_ms, &QueryLimits::default()).await
    }

    /// Like [`Engine::range`], with limits of the request.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn range_with(
        &self,
        source: Arc<dyn Source>,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        limits: &QueryLimits,
    ) -> Result<Output, QueryError> {
        let range = QueryRange { start_ms, end_ms, step_ms };
        let execution = self.begin(source, query, range, limits)?;
        let _guard = CancelOnDrop(Arc::clone(&execution.preparer.query));
        check_range_type(&execution.expr)?;
        let steps = Steps::range(start_ms, end_ms, step_ms);
        let tile = if limits.count_samples { steps.count } else { self.options.tile };
        deep::run(deep::is_deep(&execution.expr), async move {
            match execution.range_value(steps, tile).await {
                Ok(value) => Ok(execution.finish(value)),
                Err(error) => Err(execution.first_error(steps, tile, error).await),
            }
        })
        .await
    }

    /// The plan of `query` as text: of an instant query where `step_ms` is 0, else of a range query's first tile.
    ///
    /// Scalars and the inputs of `count_values` and `info` are computed while planning.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn explain(
        &self,
        source: Arc<dyn Source>,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<String, QueryError> {
        let range = QueryRange { start_ms, end_ms, step_ms };
        let execution = self.begin(source, query, range, &QueryLimits::default())?;
        let steps = if step_ms == 0 { Steps::instant(start_ms) } else { Steps::range(start_ms, end_ms, step_ms) };
        let tile = Steps { count: steps.count.min(self.options.tile.max(1)), ..steps };
        let evaluation = Evaluation::new(tile, steps.count > 1, None);
        deep::run(deep::is_deep(&execution.expr), async move { execution.plan_text(evaluation).await }).await
    }

    fn begin(
        &self,
        source: Arc<dyn Source>,
        text: &str,
        range: QueryRange,
        limits: &QueryLimits,
    ) -> Result<Execution, QueryError> {
        let started = Instant::now();
        let expr = parser::parse(text, &self.options.parse)?;
        let timeout = limits.timeout.map_or(self.options.timeout, |timeout| timeout.min(self.options.timeout));
        let max_samples =
            limits.max_samples.map_or(self.options.max_samples, |limit| limit.min(self.options.max_samples));
        let mut query = QueryState::new(started.checked_add(timeout), max_samples);
        if limits.count_samples {
            query = query.counting(Steps::range(range.start_ms, range.end_ms, range.step_ms));
        }
        let query = Arc::new(query);
        let options = PrepareOptions {
            lookback_ms: limits.lookback_ms.filter(|ms| *ms > 0).unwrap_or(self.options.lookback_ms),
            delayed_name_removal: self.options.delayed_name_removal,
            start_timestamps: self.options.start_timestamps,
            type_labels: self.options.type_and_unit_labels,
            default_subquery_step_ms: self.options.default_subquery_step_ms,
            partitions: self.options.partitions,
            partition_cells: self.options.partition_cells,
        };
        let context = Arc::new(query.context(self.config.clone(), Arc::clone(&self.runtime)));
        let largest_leaf = AtomicUsize::new(0);
        let preparer = Preparer { source, options, range, query, context, selections: Mutex::default(), largest_leaf };
        Ok(Execution { expr, text: text.to_owned(), preparer, started })
    }
}

impl Execution {
    async fn plan_text(&self, evaluation: Evaluation) -> Result<String, QueryError> {
        let expr = unwrap_parens(&self.expr);
        match expr.value_type() {
            ValueType::Scalar => Ok("scalar, computed while planning\n".to_owned()),
            ValueType::String => Ok("string\n".to_owned()),
            ValueType::RangeVector => match &expr.kind {
                ExprKind::Subquery { expr, .. } => {
                    let node = self.preparer.vector_or_scalar(expr, evaluation).await?;
                    Ok(displayable(node.into_single().as_ref()).indent(false).to_string())
                }
                _ => Ok("samples, as stored\n".to_owned()),
            },
            ValueType::InstantVector => {
                let node = self.preparer.vector(expr, evaluation).await?;
                let plan = self.preparer.finish_names(node).into_single();
                Ok(displayable(plan.as_ref()).indent(false).to_string())
            }
        }
    }

    fn finish(self, value: QueryValue) -> Output {
        let query = &self.preparer.query;
        let stats = QueryStats {
            samples_read: query.read_samples(),
            peak_samples: query.peak_samples(),
            steps: query.take_counts(),
            elapsed: self.started.elapsed(),
        };
        Output { value, annotations: query.take_notes().render(&self.text), stats }
    }
}

/// # Errors
/// Where the expression has no value per step.
fn check_range_type(expr: &Expr) -> Result<(), QueryError> {
    match expr.value_type() {
        ValueType::Scalar | ValueType::InstantVector => Ok(()),
        ValueType::RangeVector | ValueType::String => Err(QueryError::BadData(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            expr.value_type().describe()
        ))),
    }
}
