//! The leaf: reads samples of a selector's series in chunks and turns each series into one row.
//!
//! Chunk `k` of the series belongs to partition `k mod partitions`; see [`crate::exec::merge`] for why.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream;
use pilaster_model::{CounterResetHint, Histogram, Labels, ReducedWindows, Reduction, is_stale};

use crate::annotations::Place;
use crate::error::QueryError;
use crate::exec::plan::{OperatorChain, grid_properties};
use crate::exec::query_state::QueryState;
use crate::exec::range_call::{RangeCall, Samples};
use crate::exec::sample_counts::{SampleCounts, samples_in};
use crate::exec::smoothed::smoothed_row;
use crate::grid::{self, GridBatch, GridBuilder, HistogramCell};
use crate::kernels::{RangeGrid, Windows, latest, latest_index, smoothed_instant, without_stale};
use crate::series_table::SeriesTable;
use crate::source::{NewestSamples, SampleBatch, Selection, SeriesRun};

/// What becomes of one series' samples.
#[derive(Debug)]
pub(crate) enum Sampler {
    Instant(InstantCall),
    Range(RangeCall),
}

/// An instant selector.
#[derive(Debug)]
pub(crate) struct InstantCall {
    /// Its width is the lookback.
    pub grid: RangeGrid,
    pub value: InstantValue,
    /// Where samples are counted, if that is asked for.
    pub counts: Option<Arc<SampleCounts>>,
}

/// What an instant selector takes from the newest sample of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstantValue {
    Sample,
    /// `timestamp(selector)`, in seconds.
    Timestamp,
    /// Like `Timestamp`, of an info metric: a histogram is an error.
    InfoTimestamp,
    /// `start_timestamp(selector)`, in seconds.
    StartTimestamp,
    /// `selector smoothed`
    Smoothed {
        place: Place,
    },
}

impl InstantCall {
    /// Whether the newest sample of the selected range is all that is looked at.
    fn takes_newest(&self) -> bool {
        self.grid.steps == 1
            && self.counts.is_none()
            && matches!(self.value, InstantValue::Sample | InstantValue::Timestamp)
    }

    /// The rows of floats, one step wide.
    fn rows_of_newest(&self, newest: &NewestSamples) -> GridBatch {
        let mut out = GridBuilder::new(1, newest.series.len());
        let samples = newest.timestamps_ms.iter().zip(&newest.values);
        for (&series, (&timestamp_ms, &value)) in newest.series.iter().zip(samples).filter(|(_, s)| !is_stale(*s.1)) {
            let (cells, valid) = out.push(series);
            cells[0] = if self.value == InstantValue::Timestamp { timestamp_ms as f64 / 1000.0 } else { value };
            valid[0] = true;
        }
        out.finish()
    }

    fn windows(&self, timestamps_ms: &[i64]) -> Windows {
        match self.value {
            InstantValue::Smoothed { .. } => Windows::extended(timestamps_ms, &self.grid, 0, self.grid.width_ms),
            _ => Windows::new(timestamps_ms, &self.grid),
        }
    }

    fn apply(
        &self,
        series: u32,
        labels: &Labels,
        samples: &Samples<'_>,
        windows: &Windows,
        out: &mut GridBuilder,
        query: &QueryState,
    ) -> Result<(), QueryError> {
        let Samples { timestamps_ms, values, histograms, starts_ms, .. } = *samples;
        match self.value {
            InstantValue::Sample => match histograms {
                None => {
                    let (cells, valid) = out.push(series);
                    latest(values, windows, cells, valid);
                    if let Some(counts) = &self.counts {
                        counts.add_present(valid);
                    }
                }
                Some(histograms) => {
                    let mut newest = vec![u32::MAX; windows.len()];
                    latest_index(windows, &mut newest);
                    let mut found: Vec<HistogramCell> = Vec::new();
                    let (cells, valid) = out.push(series);
                    for (step, index) in newest.iter().enumerate().filter(|(_, index)| **index != u32::MAX) {
                        match &histograms[*index as usize] {
                            Some(histogram) if !is_stale(histogram.sum) => {
                                found.push((step as u32, Arc::clone(histogram)));
                            }
                            None if !is_stale(values[*index as usize]) => {
                                (cells[step], valid[step]) = (values[*index as usize], true);
                            }
                            Some(_) | None => {}
                        }
                    }
                    if let Some(counts) = &self.counts {
                        counts.add_present(valid);
                        found.iter().for_each(|(step, found)| counts.add(*step as usize, samples_in(found)));
                    }
                    out.set_histograms(found);
                }
            },
            InstantValue::Timestamp | InstantValue::InfoTimestamp | InstantValue::StartTimestamp => {
                let mut newest = vec![u32::MAX; windows.len()];
                latest_index(windows, &mut newest);
                let (cells, valid) = out.push(series);
                for (step, index) in newest.iter().enumerate().filter(|(_, index)| **index != u32::MAX) {
                    let index = *index as usize;
                    let stale = match histograms.and_then(|histograms| histograms[index].as_ref()) {
                        Some(histogram) => is_stale(histogram.sum),
                        None => is_stale(values[index]),
                    };
                    if stale {
                        continue;
                    }
                    let is_histogram = histograms.is_some_and(|histograms| histograms[index].is_some());
                    if is_histogram && self.value == InstantValue::InfoTimestamp {
                        let text = format!("this should be an info metric, with float samples: {labels}");
                        return Err(QueryError::execution(text));
                    }
                    let time_ms = match self.value {
                        InstantValue::StartTimestamp => starts_ms.map_or(0, |starts| starts[index]),
                        _ => timestamps_ms[index],
                    };
                    (cells[step], valid[step]) = (time_ms as f64 / 1000.0, true);
                }
                if let Some(counts) = &self.counts {
                    counts.add_present(valid);
                }
            }
            InstantValue::Smoothed { place } => {
                if histograms.is_some() {
                    let name = labels.metric_name();
                    smoothed_row(&self.grid, series, name, samples, place, out, query);
                    return Ok(());
                }
                let live = without_stale(timestamps_ms, values);
                let (timestamps_ms, values) = match &live {
                    Some((timestamps_ms, values)) => (timestamps_ms.as_slice(), values.as_slice()),
                    None => (timestamps_ms, values),
                };
                let (cells, valid) = out.push(series);
                smoothed_instant(timestamps_ms, values, &self.grid, self.grid.width_ms, false, cells, valid);
            }
        }
        out.drop_empty();
        Ok(())
    }
}

impl Sampler {
    fn windows(&self, timestamps_ms: &[i64], weights: Option<&[u32]>) -> Windows {
        match self {
            Sampler::Instant(call) => call.windows(timestamps_ms),
            Sampler::Range(call) => call.windows(timestamps_ms, weights),
        }
    }

    /// What it wants of samples, where that is less than all of them.
    pub fn reduced(&self) -> Option<ReducedWindows> {
        match self {
            Sampler::Instant(call) => {
                let reduction = match call.value {
                    InstantValue::Timestamp | InstantValue::InfoTimestamp => Reduction::Times,
                    InstantValue::Sample | InstantValue::StartTimestamp => Reduction::Whole,
                    // It looks behind its windows, too.
                    InstantValue::Smoothed { .. } => return None,
                };
                call.counts.is_none().then_some(ReducedWindows { windows: call.grid, reduction })
            }
            Sampler::Range(call) => call.reduced(),
        }
    }

    /// The rows of a batch of samples. Windows are computed once per timeline.
    pub fn rows(
        &self,
        batch: &SampleBatch,
        table: &SeriesTable,
        width: usize,
        query: &QueryState,
    ) -> Result<GridBatch, QueryError> {
        let mut windows: Vec<Option<Windows>> = batch.timelines.iter().map(|_| None).collect();
        let mut out = GridBuilder::new(width, batch.runs.len());
        for run in &batch.runs {
            let SeriesRun { series, timeline, values, histograms, starts_ms } = run;
            let timestamps_ms = &batch.timelines[*timeline as usize];
            let weights = batch.weights(*timeline);
            let windows = windows[*timeline as usize].get_or_insert_with(|| self.windows(timestamps_ms, weights));
            let (histograms, starts_ms) = (histograms.as_deref(), starts_ms.as_deref());
            let samples = Samples { timestamps_ms, weights, values, histograms, starts_ms };
            let labels = match self {
                // An error shows all of them.
                Sampler::Instant(InstantCall { value: InstantValue::InfoTimestamp, .. }) => {
                    &table.labels()[*series as usize]
                }
                Sampler::Instant(_) | Sampler::Range(_) => table.noted_labels(*series),
            };
            match self {
                Sampler::Instant(call) => {
                    call.apply(*series, labels, &samples, windows, &mut out, query)?;
                }
                Sampler::Range(call) => {
                    call.apply(*series, labels, &samples, windows, &mut out, query)?;
                }
            }
        }
        Ok(out.finish())
    }
}

/// What the partitions of a leaf share.
#[derive(Debug)]
pub(crate) struct Select {
    pub selection: Arc<dyn Selection>,
    /// One entry per series of the selection, whose names annotations show.
    pub table: Arc<SeriesTable>,
    pub sampler: Sampler,
    /// Steps per row of the sampler.
    pub width: usize,
    /// Series that are read at once; does not depend on the number of partitions.
    pub chunk_series: usize,
    /// Positions of the series in the order in which they are read and their rows come out; ascending where absent.
    pub order: Option<Vec<u32>>,
    /// Only count, sum and reset hint of native histograms are wanted.
    pub stats_only: bool,
    /// The selector as written, for EXPLAIN.
    pub text: String,
}

impl Select {
    fn read(&self, chunk: usize, operators: &OperatorChain, query: &QueryState) -> Result<GridBatch, QueryError> {
        query.check()?;
        let start = chunk * self.chunk_series;
        let end = (start + self.chunk_series).min(self.selection.len());
        let rows = match &self.order {
            Some(order) => self.rows(&order[start..end], query)?,
            None => self.rows(&(start as u32..end as u32).collect::<Vec<u32>>(), query)?,
        };
        query.hold_samples(rows.sample_count())?;
        operators.apply(rows, query)
    }

    fn rows(&self, series: &[u32], query: &QueryState) -> Result<GridBatch, QueryError> {
        if let Sampler::Instant(call) = &self.sampler
            && call.takes_newest()
            && let Some(newest) = self.selection.newest(series)?
        {
            query.count_read(newest.series.len());
            return Ok(call.rows_of_newest(&newest));
        }
        let mut samples = match self.sampler.reduced() {
            Some(wanted) => self.selection.read_reduced(series, &wanted)?,
            None => self.selection.read(series)?,
        };
        if self.stats_only {
            samples.runs.iter_mut().for_each(keep_stats_only);
        }
        query.count_read(samples.sample_count());
        self.sampler.rows(&samples, &self.table, self.width, query)
    }

    fn chunk_count(&self) -> usize {
        self.selection.len().div_ceil(self.chunk_series)
    }
}

/// Leaves count, sum and schema of native histograms, and says of each whether the counter was reset before it: without
/// buckets nobody could tell later.
///
/// Source: `HistogramStatsIterator`, Prometheus 3.14 `promql`.
fn keep_stats_only(run: &mut SeriesRun) {
    let Some(histograms) = &run.histograms else { return };
    let mut previous: Option<&Arc<Histogram>> = None;
    let stats = |histogram: &Arc<Histogram>, previous: Option<&Arc<Histogram>>| {
        let counter_reset_hint = match (histogram.counter_reset_hint, previous) {
            (CounterResetHint::Unknown, Some(previous)) if histogram.detect_reset(previous) => CounterResetHint::Reset,
            (CounterResetHint::Unknown, Some(_)) => CounterResetHint::NotReset,
            (hint, _) => hint,
        };
        let Histogram { schema, count, sum, .. } = **histogram;
        Arc::new(Histogram { schema, count, sum, counter_reset_hint, ..Histogram::default() })
    };
    let kept = histograms.iter().map(|histogram| {
        let histogram = histogram.as_ref()?;
        if histogram.is_stale() {
            return Some(Arc::clone(histogram));
        }
        let kept = stats(histogram, previous);
        previous = Some(histogram);
        Some(kept)
    });
    run.histograms = Some(kept.collect());
}

/// Reads a selector.
#[derive(Debug)]
pub(crate) struct SelectExec {
    select: Arc<Select>,
    /// Run on each chunk before it is packed.
    operators: OperatorChain,
    partitions: usize,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl SelectExec {
    /// `width` is the width of the rows after `operators`.
    pub fn new(select: Arc<Select>, operators: OperatorChain, width: usize, partitions: usize) -> SelectExec {
        let partitions = partitions.min(select.chunk_count()).max(1);
        let schema = grid::schema(width);
        let properties = grid_properties(&schema, partitions);
        SelectExec { select, operators, partitions, schema, properties }
    }
}

impl DisplayAs for SelectExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let series = self.select.selection.len();
        let call = match &self.select.sampler {
            Sampler::Instant(call) => match call.value {
                InstantValue::Sample => "last".to_owned(),
                InstantValue::Timestamp | InstantValue::InfoTimestamp => "timestamp".to_owned(),
                InstantValue::StartTimestamp => "start_timestamp".to_owned(),
                InstantValue::Smoothed { .. } => "smoothed".to_owned(),
            },
            Sampler::Range(call) => call.describe(),
        };
        write!(f, "SelectExec: {}, {call}, series={series}, partitions={}", self.select.text, self.partitions)?;
        if !self.operators.0.is_empty() {
            write!(f, ", then {}", self.operators)?;
        }
        Ok(())
    }
}

impl ExecutionPlan for SelectExec {
    fn name(&self) -> &str {
        "SelectExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let query = QueryState::of(&context);
        let (select, operators) = (Arc::clone(&self.select), self.operators.clone());
        let schema = Arc::clone(&self.schema);
        let chunks = (partition..self.select.chunk_count()).step_by(self.partitions);
        let batches = stream::iter(chunks.map(move |chunk| {
            let batch = select.read(chunk, &operators, &query)?;
            Ok(batch.to_record_batch(&schema)?)
        }));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}
