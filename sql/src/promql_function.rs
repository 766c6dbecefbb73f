//! `promql('expr', start, end, step)`: a PromQL query as a table.
//!
//! Columns are `ts`, `value`, one per label of the answer or named by the query (so that a query's shape does not
//! depend on whether data is there), and `labels`. With one or two arguments it is an instant query, at `now()` or at
//! the given time. Times are timestamps, text or Unix seconds; the step is an interval, text such as `5m`, or seconds.
//! The query runs while the statement is planned, over the statement's snapshot.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::types::IntervalMonthDayNano;
use arrow::buffer::ScalarBuffer;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use pilaster_model::{Histogram, Labels, METRIC_NAME};
use pilaster_promql::ast::{self, ExprKind};
use pilaster_promql::source::{SampleBatch, Selection, SeriesRun, SourceError};
use pilaster_promql::{Engine, MatrixSeries, QueryError, QueryValue, Value, parser};

use crate::catalog::Snapshot;
use crate::error::{SqlError, sqlstate};
use crate::metric_table::{column_names, timestamp_type};
use crate::scan::{SampleColumn, SampleScan, SampleScanExec};
use crate::wire_type;

/// The table function for one statement.
pub struct PromqlFunction {
    pub engine: Arc<Engine>,
    pub snapshot: Arc<Snapshot>,
}

impl fmt::Debug for PromqlFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PromqlFunction")
    }
}

/// When to evaluate.
#[derive(Debug, Clone, Copy)]
enum Times {
    At(i64),
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

impl TableFunctionImpl for PromqlFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (query, times) = self.arguments(args.exprs())?;
        self.snapshot.stop.check()?;
        let source = Arc::clone(&self.snapshot.source);
        let evaluation = async {
            match times {
                Times::At(at_ms) => self.engine.instant(source, &query, at_ms).await,
                Times::Range { start_ms, end_ms, step_ms } => {
                    self.engine.range(source, &query, start_ms, end_ms, step_ms).await
                }
            }
        };
        // The planner cannot wait, this thread can: the statement has its own runtime, which moves other work away.
        let output = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                tokio::select! {
                    biased;
                    stopped = self.snapshot.stop.tripped() => Err(stopped),
                    output = evaluation => output.map_err(|error| query_error(&error)),
                }
            })
        })?;
        let mut names = BTreeSet::new();
        if let Ok(expr) = parser::parse(&query, &self.engine.options().parse) {
            named_labels(&expr, &mut names);
        }
        let series = to_series(output.value)?;
        let sample_count: usize = series.iter().map(|series| series.points.len() + series.histograms.len()).sum();
        let reservation = MemoryConsumer::new("promql").register(&args.session().runtime_env().memory_pool);
        reservation.try_grow(sample_count * 16)?;
        let note = format!("{query}, series={}, samples={sample_count}", series.len());
        Ok(Arc::new(PromqlTable::new(series, names, note, reservation, Arc::clone(&self.snapshot))))
    }
}

impl PromqlFunction {
    fn arguments(&self, exprs: &[Expr]) -> Result<(String, Times)> {
        let mut values = Vec::with_capacity(exprs.len());
        for expr in exprs {
            match expr {
                Expr::Literal(value, _) => values.push(value.clone()),
                _ => return Err(usage("the arguments of promql() must be constants").into()),
            }
        }
        let query = match values.first().map(ScalarValue::try_as_str) {
            Some(Some(Some(query))) => query.to_owned(),
            _ => return Err(usage("the first argument of promql() must be a query as text").into()),
        };
        let times = match &values[1..] {
            [] => Times::At(self.snapshot.now_ms),
            [at] => Times::At(time_ms(at)?),
            [start, end, step] => {
                let (start_ms, end_ms, step_ms) = (time_ms(start)?, time_ms(end)?, step_ms(step)?);
                if end_ms < start_ms {
                    return Err(usage("the end of promql() lies before its start").into());
                }
                // As in Prometheus's HTTP API.
                if step_ms <= 0 || end_ms.abs_diff(start_ms) / step_ms.unsigned_abs() > 11_000 {
                    return Err(usage("promql() makes at most 11,000 steps, and steps are longer than zero").into());
                }
                Times::Range { start_ms, end_ms, step_ms }
            }
            _ => return Err(usage("promql() takes (query), (query, time) or (query, start, end, step)").into()),
        };
        Ok((query, times))
    }
}

fn usage(message: &str) -> SqlError {
    SqlError::new(sqlstate::INVALID_PARAMETER, message)
        .with_hint("promql('sum by (job) (rate(x[5m]))', now() - interval '1 hour', now(), interval '1 minute')")
}

fn query_error(error: &QueryError) -> SqlError {
    let state = match error {
        QueryError::Parse(_) => sqlstate::SYNTAX_ERROR,
        QueryError::BadData(_) => sqlstate::INVALID_PARAMETER,
        QueryError::Execution(text) if text.contains("too many samples") => sqlstate::OUT_OF_MEMORY,
        QueryError::Execution(_) => sqlstate::DATA_EXCEPTION,
        QueryError::Timeout(_) | QueryError::Canceled(_) => sqlstate::QUERY_CANCELED,
        QueryError::Storage(_) => sqlstate::IO_ERROR,
        QueryError::Unsupported(_) => sqlstate::FEATURE_NOT_SUPPORTED,
    };
    SqlError::new(state, format!("promql: {error}"))
}

/// A time argument in milliseconds.
fn time_ms(value: &ScalarValue) -> Result<i64, SqlError> {
    let wrong = || usage(&format!("\"{value}\" is no time for promql()"));
    if let Some(text) = value.try_as_str() {
        let text = text.ok_or_else(wrong)?;
        if let Ok(seconds) = text.parse::<f64>() {
            return seconds_ms(seconds).ok_or_else(wrong);
        }
        return string_to_timestamp_nanos(text).map(|nanos| nanos.div_euclid(1_000_000)).map_err(|_| wrong());
    }
    match value {
        ScalarValue::TimestampSecond(Some(value), _) => value.checked_mul(1_000).ok_or_else(wrong),
        ScalarValue::TimestampMillisecond(Some(value), _) => Ok(*value),
        ScalarValue::TimestampMicrosecond(Some(value), _) => Ok(value.div_euclid(1_000)),
        ScalarValue::TimestampNanosecond(Some(value), _) => Ok(value.div_euclid(1_000_000)),
        ScalarValue::Date32(Some(days)) => Ok(i64::from(*days) * 86_400_000),
        other => number(other).and_then(seconds_ms).ok_or_else(wrong),
    }
}

/// A step argument in milliseconds.
fn step_ms(value: &ScalarValue) -> Result<i64, SqlError> {
    let wrong = || usage(&format!("\"{value}\" is no step for promql()"));
    if let Some(text) = value.try_as_str() {
        let text = text.ok_or_else(wrong)?;
        return match parser::parse_duration_ms(text) {
            Ok(step_ms) => Ok(step_ms),
            Err(_) => text.parse::<f64>().ok().and_then(seconds_ms).ok_or_else(wrong),
        };
    }
    match value {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months: 0, days, nanoseconds })) => {
            Ok(i64::from(*days) * 86_400_000 + nanoseconds / 1_000_000)
        }
        ScalarValue::IntervalDayTime(Some(value)) => {
            Ok(i64::from(value.days) * 86_400_000 + i64::from(value.milliseconds))
        }
        other => number(other).and_then(seconds_ms).ok_or_else(wrong),
    }
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(number))) if value.data_type().is_numeric() => Some(number),
        _ => None,
    }
}

fn seconds_ms(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).round();
    (ms.abs() < 9.0e15).then_some(ms as i64)
}

/// Labels that the query names in matchers, groupings and matchings.
fn named_labels(expr: &ast::Expr, names: &mut BTreeSet<String>) {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::DurationLiteral(_) | ExprKind::String(_) => {}
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
            names.extend(selector.matchers.iter().map(|matcher| matcher.name().to_owned()));
        }
        ExprKind::Subquery { expr, .. } | ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => {
            named_labels(expr, names);
        }
        ExprKind::Call { args, .. } => args.iter().for_each(|argument| named_labels(argument, names)),
        ExprKind::Aggregate(aggregate) if aggregate.without => {
            let mut inner = BTreeSet::new();
            named_labels(&aggregate.expr, &mut inner);
            names.extend(inner.into_iter().filter(|name| !aggregate.labels.contains(name)));
        }
        // Of an aggregation, only what it groups by can come out, unless it keeps whole series.
        ExprKind::Aggregate(aggregate) => {
            names.extend(aggregate.labels.iter().cloned());
        }
        ExprKind::Binary(binary) => {
            named_labels(&binary.left, names);
            named_labels(&binary.right, names);
            if let Some(matching) = &binary.matching {
                names.extend(matching.include.iter().cloned());
            }
        }
    }
}

fn to_series(value: QueryValue) -> Result<Vec<MatrixSeries>, SqlError> {
    match value {
        QueryValue::Scalar { timestamp_ms, value } => Ok(vec![MatrixSeries {
            labels: Labels::empty(),
            points: vec![(timestamp_ms, value)],
            histograms: Vec::new(),
        }]),
        QueryValue::String { .. } => Err(usage("a query that answers with text makes no rows")),
        QueryValue::Vector(samples) => Ok(samples
            .into_iter()
            .map(|sample| {
                let (points, histograms) = match sample.value {
                    Value::Float(value) => (vec![(sample.timestamp_ms, value)], Vec::new()),
                    Value::Histogram(histogram) => (Vec::new(), vec![(sample.timestamp_ms, histogram)]),
                };
                MatrixSeries { labels: sample.labels, points, histograms }
            })
            .collect()),
        QueryValue::Matrix(series) => Ok(series),
    }
}

/// The answer of one query.
#[derive(Debug)]
struct PromqlTable {
    selection: Arc<ComputedSeries>,
    columns: Vec<SampleColumn>,
    schema: SchemaRef,
    note: String,
    /// The answer's share of the memory pool, for as long as it is held.
    _reservation: MemoryReservation,
    snapshot: Arc<Snapshot>,
}

impl PromqlTable {
    fn new(
        series: Vec<MatrixSeries>,
        mut names: BTreeSet<String>,
        note: String,
        reservation: MemoryReservation,
        snapshot: Arc<Snapshot>,
    ) -> PromqlTable {
        for series in &series {
            names.extend(series.labels.iter().map(|(name, _)| name.to_owned()));
        }
        // Functions drop the metric's name: it is a column only where an answer has it.
        if series.iter().all(|series| series.labels.find(METRIC_NAME).is_none()) {
            names.remove(METRIC_NAME);
        }
        let mut columns = vec![SampleColumn::Timestamp, SampleColumn::Value];
        columns.extend(names.iter().map(|name| SampleColumn::Label(name.as_str().into())));
        columns.push(SampleColumn::Labels);
        let fields: Vec<Field> = columns
            .iter()
            .zip(column_names(&columns))
            .map(|(column, name)| match column {
                SampleColumn::Timestamp => Field::new(name, timestamp_type(), false),
                SampleColumn::Value => Field::new(name, DataType::Float64, true),
                SampleColumn::Label(_) => Field::new(name, DataType::Utf8View, true),
                SampleColumn::Labels => {
                    wire_type::tagged(Field::new(name, DataType::Utf8View, false), wire_type::JSONB)
                }
            })
            .collect();
        PromqlTable {
            selection: Arc::new(ComputedSeries::new(series)),
            columns,
            schema: Arc::new(Schema::new(fields)),
            note,
            _reservation: reservation,
            snapshot,
        }
    }
}

#[async_trait]
impl TableProvider for PromqlTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (columns, schema) = match projection {
            None => (self.columns.clone(), Arc::clone(&self.schema)),
            Some(positions) => (
                positions.iter().map(|position| self.columns[*position].clone()).collect(),
                Arc::new(self.schema.project(positions)?),
            ),
        };
        Ok(Arc::new(SampleScanExec::new(SampleScan {
            selection: Arc::clone(&self.selection) as Arc<dyn Selection>,
            columns,
            schema,
            limit,
            partition_count: 1,
            note: self.note.clone(),
            stop: Arc::clone(&self.snapshot.stop),
            order: OnceLock::new(),
        })))
    }
}

/// A computed answer in the form that scans read.
#[derive(Debug)]
struct ComputedSeries {
    labels: Vec<Labels>,
    /// Parallel to `labels`.
    runs: Vec<ComputedRun>,
}

#[derive(Debug)]
struct ComputedRun {
    timestamps: Arc<[i64]>,
    values: ScalarBuffer<f64>,
    histograms: Option<Arc<[Option<Arc<Histogram>>]>>,
}

impl ComputedSeries {
    fn new(series: Vec<MatrixSeries>) -> ComputedSeries {
        let mut labels = Vec::with_capacity(series.len());
        let mut runs = Vec::with_capacity(series.len());
        for one in series {
            labels.push(one.labels);
            runs.push(if one.histograms.is_empty() {
                ComputedRun {
                    timestamps: one.points.iter().map(|(time, _)| *time).collect(),
                    values: one.points.iter().map(|(_, value)| *value).collect::<Vec<_>>().into(),
                    histograms: None,
                }
            } else {
                let floats = one.points.into_iter().map(|(time, value)| (time, value, None));
                let histograms = one.histograms.into_iter().map(|(time, histogram)| (time, 0.0, Some(histogram)));
                let mut all: Vec<(i64, f64, Option<Arc<Histogram>>)> = floats.chain(histograms).collect();
                all.sort_by_key(|(time, _, _)| *time);
                ComputedRun {
                    timestamps: all.iter().map(|(time, _, _)| *time).collect(),
                    values: all.iter().map(|(_, value, _)| *value).collect::<Vec<_>>().into(),
                    histograms: Some(all.into_iter().map(|(_, _, histogram)| histogram).collect()),
                }
            });
        }
        ComputedSeries { labels, runs }
    }
}

impl Selection for ComputedSeries {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, series: &[u32]) -> std::result::Result<SampleBatch, SourceError> {
        let mut batch = SampleBatch::default();
        for (index, &series) in series.iter().enumerate() {
            let run = &self.runs[series as usize];
            batch.runs.push(SeriesRun {
                series,
                timeline: index as u32,
                values: run.values.clone(),
                histograms: run.histograms.clone(),
                starts_ms: None,
            });
            batch.timelines.push(Arc::clone(&run.timestamps));
        }
        Ok(batch)
    }
}
