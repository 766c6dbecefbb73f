//! From an expression to a plan: selectors are resolved and all label algebra is done here, once per query.
//!
//! Every vector expression becomes a [`node::Node`]: a series table and the plan that computes its cells. Scalars, and
//! the few nodes whose labels depend on values (`count_values`, `info`), are computed while preparing, so that what is
//! left is integer maps and arithmetic over cells.

mod aggregate;
mod binary;
mod call;
mod histogram;
mod info;
mod invariance;
mod labels;
pub(crate) mod node;
mod references;
mod scalar;
pub(crate) mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::execution::TaskContext;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use pilaster_model::{Matcher, TimeRange};

use crate::annotations::Place;
use crate::ast::{Duration, Expr, ExprKind, Modifiers, SelectorExtension, VectorSelector};
use crate::error::QueryError;
use crate::exec::broadcast::Broadcast;
use crate::exec::elementwise::Unary;
use crate::exec::merge_series::{Collision, MergeSeries, UndecidedNames};
use crate::exec::plan::GridStream;
use crate::exec::query_state::{CountsNumber, QueryState};
use crate::exec::sample_counts::Share;
use crate::exec::select::{InstantCall, InstantValue, Sampler, Select};
use crate::grid::{Grid, Steps};
use crate::kernels::{RangeGrid, UnaryFunction};
use crate::series_table::SeriesTable;
use crate::source::{Selection, Source};

use invariance::is_step_invariant;
pub(crate) use invariance::unwrap_parens;
use node::Node;
use times::QueryRange;

/// Cells, or samples read, of a leaf that has many.
const MANY_CELLS: usize = 1 << 24;
/// Samples of a series beyond which chunks do not get smaller any more …
const LONG_SERIES: usize = 16_384;
/// … until one would take so many together, which a partition has in memory.
const CHUNK_SAMPLES: usize = 1 << 20;

/// The options that change what a query means or how it runs.
#[derive(Debug, Clone)]
pub(crate) struct PrepareOptions {
    pub lookback_ms: i64,
    pub delayed_name_removal: bool,
    pub start_timestamps: bool,
    pub type_labels: bool,
    pub default_subquery_step_ms: i64,
    pub partitions: usize,
    /// Cells, or samples read, that are worth a partition.
    pub partition_cells: usize,
}

/// The steps a node is evaluated at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evaluation {
    pub steps: Steps,
    /// Whether its evaluator covers more than one time; a tile of a range query may be one step and still be a range.
    pub is_range: bool,
    /// Only count and sum of native histograms are asked for, unless something `needs_buckets`.
    pub histogram_stats: bool,
    /// Something outside needs whole histograms.
    pub needs_buckets: bool,
    /// Where the samples are counted that it looks at.
    pub counts: CountsNumber,
}

impl Evaluation {
    pub fn new(steps: Steps, is_range: bool, counts: CountsNumber) -> Evaluation {
        Evaluation { steps, is_range, histogram_stats: false, needs_buckets: false, counts }
    }

    /// As seen inside of `histogram_count` and its siblings.
    fn of_histogram_stats(self) -> Evaluation {
        Evaluation { histogram_stats: true, ..self }
    }

    /// As seen inside of functions and operators that look into buckets.
    fn of_whole_histograms(self) -> Evaluation {
        Evaluation { needs_buckets: true, ..self }
    }
}

/// Who takes the samples of a subquery.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Taker {
    Function,
    /// They are the query's value.
    Query,
}

/// A subquery's times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subquery {
    /// The windows that are asked for.
    pub grid: RangeGrid,
    /// The evaluation of the inner expression, which fills them.
    pub inner: Evaluation,
}

/// The answer to a selector.
#[derive(Debug)]
pub(crate) struct Selected {
    matchers: Vec<Matcher>,
    range: TimeRange,
    selection: Arc<dyn Selection>,
}

/// Prepares the parts of one query.
#[derive(Debug)]
pub(crate) struct Preparer {
    pub source: Arc<dyn Source>,
    pub options: PrepareOptions,
    pub range: QueryRange,
    pub query: Arc<QueryState>,
    pub context: Arc<TaskContext>,
    /// What selectors have selected so far: the same selector is often written several times.
    pub selections: Mutex<Vec<Selected>>,
    /// Cells of the largest leaf prepared so far.
    pub largest_leaf: AtomicUsize,
}

impl Preparer {
    /// For another evaluation within the same request.
    pub fn anew(&self) -> Preparer {
        let query = Arc::new(self.query.anew());
        let config = self.context.session_config().clone();
        Preparer {
            source: Arc::clone(&self.source),
            options: self.options.clone(),
            range: self.range,
            context: Arc::new(query.context(config, self.context.runtime_env())),
            query,
            selections: Mutex::default(),
            largest_leaf: AtomicUsize::new(0),
        }
    }

    /// The one evaluation of an expression that is the same at every step.
    fn once(&self, evaluation: Evaluation) -> Evaluation {
        let steps = evaluation.steps.first();
        let counts = self.query.counts_inside(evaluation.counts, steps, Share::Once);
        Evaluation { steps, is_range: false, counts, ..evaluation }
    }

    /// Prepares an expression whose value is an instant vector.
    pub fn vector<'a>(&'a self, expr: &'a Expr, evaluation: Evaluation) -> BoxFuture<'a, Result<Node, QueryError>> {
        Box::pin(async move {
            self.query.check()?;
            if evaluation.steps.count == 0 {
                return Ok(Node::empty(0));
            }
            if evaluation.is_range && is_step_invariant(expr, &self.range) {
                let node = self.varying(expr, self.once(evaluation)).await?;
                let width = evaluation.steps.count;
                return Ok(node.then_wide(Broadcast { width }, width));
            }
            self.varying(expr, evaluation).await
        })
    }

    /// Like [`Preparer::vector`], also where there are no steps and whatever does not depend on them.
    pub async fn varying(&self, expr: &Expr, evaluation: Evaluation) -> Result<Node, QueryError> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.vector(inner, evaluation).await,
            ExprKind::VectorSelector(selector) => {
                let value = match selector.extension {
                    Some(SelectorExtension::Smoothed) => {
                        InstantValue::Smoothed { place: Place { span: expr.span, owner: expr.span } }
                    }
                    Some(SelectorExtension::Anchored) | None => InstantValue::Sample,
                };
                self.instant_selector(selector, evaluation, value)
            }
            ExprKind::Unary { negative, expr: inner } => {
                let node = self.vector(inner, evaluation).await?;
                if !negative {
                    return Ok(node);
                }
                let node = node.then(Unary { function: UnaryFunction::Neg });
                Ok(self.drop_names(node, Collision::SameStep, expr.span.start))
            }
            ExprKind::Call { function, args } => self.call(expr, function, args, evaluation).await,
            ExprKind::Aggregate(aggregate) => self.aggregate(expr, aggregate, evaluation).await,
            ExprKind::Binary(binary) => self.binary(expr, binary, evaluation).await,
            ExprKind::Number(_)
            | ExprKind::DurationLiteral(_)
            | ExprKind::String(_)
            | ExprKind::MatrixSelector { .. }
            | ExprKind::Subquery { .. } => {
                let found = expr.value_type().describe();
                Err(QueryError::BadData(format!("expected an instant vector, got {found}")))
            }
        }
    }

    fn instant_selector(
        &self,
        selector: &VectorSelector,
        evaluation: Evaluation,
        value: InstantValue,
    ) -> Result<Node, QueryError> {
        let lookback_ms = self.options.lookback_ms;
        let grid = self.range.pin(&selector.modifiers)?.grid(evaluation.steps, lookback_ms);
        let last_ms = grid.end_ms(grid.steps - 1);
        let after_ms = if matches!(value, InstantValue::Smoothed { .. }) { lookback_ms } else { 0 };
        let range = TimeRange::new(grid.start_ms(0).saturating_add(1), last_ms.saturating_add(after_ms));
        let counts = self.query.counts(evaluation.counts);
        let sampler = Sampler::Instant(InstantCall { grid, value, counts });
        self.leaf(selector, range, sampler, evaluation)
    }

    fn select(&self, selector: &VectorSelector, range: TimeRange) -> Result<Arc<dyn Selection>, QueryError> {
        let mut selections = self.selections.lock();
        let same = |known: &&Selected| known.matchers == selector.matchers && known.range == range;
        if let Some(known) = selections.iter().find(same) {
            return Ok(Arc::clone(&known.selection));
        }
        let selection = self.source.select(&selector.matchers, range)?;
        let matchers = selector.matchers.clone();
        selections.push(Selected { matchers, range, selection: Arc::clone(&selection) });
        Ok(selection)
    }

    fn leaf(
        &self,
        selector: &VectorSelector,
        range: TimeRange,
        sampler: Sampler,
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let selection = self.select(selector, range)?;
        let table = Arc::new(SeriesTable::of_selection(Arc::clone(&selection)));
        let width = evaluation.steps.count;
        // A sample per 15 s is what most people scrape; the guess only sizes chunks and partitions.
        self.largest_leaf.fetch_max(table.len() * width, Ordering::Relaxed);
        let range_ms = range.max_ms.saturating_sub(range.min_ms).max(0) as usize;
        let cost = width.max(range_ms / 15_000).max(1);
        // Neighbours share pages, and every chunk decodes its pages anew: long series too are read some at a time, and more
        // where enough chunks are left for all threads.
        let chunk_cells = self.options.partition_cells / if table.len() * cost < MANY_CELLS { 2 } else { 1 };
        let chunk_series = chunk_cells / cost.min(LONG_SERIES);
        let chunk_series = chunk_series.min(CHUNK_SAMPLES / cost).clamp(1, 1024);
        let partitions =
            (table.len() * cost / self.options.partition_cells.max(1)).clamp(1, self.options.partitions.max(1));
        let stats_only = evaluation.histogram_stats && !evaluation.needs_buckets;
        let text = describe_selector(selector);
        let select = Select { selection, table, sampler, width, chunk_series, order: None, stats_only, text };
        Ok(Node::leaf(select, partitions))
    }

    /// Takes names away, at once or at the end of the query, and deals with series that become one.
    fn drop_names(&self, node: Node, collision: Collision, position: usize) -> Node {
        let table = node.table.dropping_names(self.options.delayed_name_removal);
        let before = Arc::clone(&node.table);
        self.merge_equal(node.with_table(table), &before, collision, position)
    }

    /// Merges series of equal labels; `before` has labels that still tell them apart.
    fn merge_equal(&self, node: Node, before: &Arc<SeriesTable>, collision: Collision, position: usize) -> Node {
        let Some(merged) = node.table.duplicates() else { return node };
        let (after, names) = UndecidedNames::of(&merged, &node.table, position);
        let (target, before, width) = (merged.target, Arc::clone(before), node.width);
        let operator = MergeSeries { target, collision, before, after: Arc::clone(&after), width, position, names };
        Node::gather(operator, vec![node], after, width)
    }

    /// With delayed name removal, the labels as they leave the query.
    pub fn finish_names(&self, node: Node) -> Node {
        let table = &node.table;
        if (0..table.len()).all(|series| !table.drops_name(series)) {
            return node;
        }
        let labels = (0..table.len()).map(|series| table.final_labels(series)).collect();
        let before = Arc::clone(table);
        self.merge_equal(node.with_table(Arc::new(SeriesTable::new(labels))), &before, Collision::SameStep, 0)
    }

    /// `[range:step] modifiers` as seen from `evaluation`.
    pub(crate) fn subquery(
        &self,
        range: &Duration,
        step: Option<&Duration>,
        modifiers: &Modifiers,
        taker: Taker,
        evaluation: Evaluation,
    ) -> Result<Subquery, QueryError> {
        let range_ms = self.range.duration_ms(range, false)?;
        let step_ms = step.map(|step| self.range.duration_ms(step, false)).transpose()?;
        let pin = self.range.pin(modifiers)?;
        let step_ms = step_ms.unwrap_or(self.options.default_subquery_step_ms).max(1);
        let (first_ms, last_ms) = match pin.at_ms {
            Some(at_ms) => (at_ms, at_ms),
            None => (evaluation.steps.start_ms, evaluation.steps.end_ms()),
        };
        let after_ms = first_ms.saturating_sub(pin.offset_ms).saturating_sub(range_ms);
        let end_ms = last_ms.saturating_sub(pin.offset_ms);
        // The first multiple of the step after the window's open start; division rounds towards zero, as in Go.
        let mut start_ms = step_ms * (after_ms / step_ms);
        if start_ms <= after_ms {
            start_ms = start_ms.saturating_add(step_ms);
        }
        let steps = Steps::range(start_ms, end_ms, step_ms);
        // One series would already be too much, and a row of them might not even be allocated.
        self.query.check_steps(steps.count)?;
        let share = match taker {
            Taker::Function => {
                // With `@` its steps end where the first step of the function is.
                let pinned_ms = pin.at_ms.map_or(0, |at_ms| evaluation.steps.start_ms.saturating_sub(at_ms));
                Share::Subquery { offset_ms: pin.offset_ms.saturating_add(pinned_ms), range_ms }
            }
            Taker::Query => Share::Value,
        };
        let counts = self.query.counts_inside(evaluation.counts, steps, share);
        // Hints of samples that a subquery skips would be missed: it needs whole histograms.
        let inner = Evaluation { steps, is_range: end_ms != start_ms, counts, ..evaluation.of_whole_histograms() };
        Ok(Subquery { grid: pin.grid(evaluation.steps, range_ms), inner })
    }

    /// Computes a node while preparing.
    pub async fn collect(&self, node: Node) -> Result<Grid, QueryError> {
        self.start(node)?.collect().await
    }

    /// Starts the plan of a node.
    pub fn start(&self, node: Node) -> Result<GridStream, QueryError> {
        let stream = node.into_single().execute(0, Arc::clone(&self.context)).map_err(QueryError::from_datafusion)?;
        Ok(GridStream::new(stream, Arc::clone(&self.query)))
    }
}

/// A selector's matchers, for EXPLAIN.
fn describe_selector(selector: &VectorSelector) -> String {
    let matchers: Vec<String> =
        selector.matchers.iter().map(|m| format!("{}{}{:?}", m.name(), m.op().symbol(), m.value())).collect();
    format!("{{{}}}", matchers.join(", "))
}
