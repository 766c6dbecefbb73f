//! Reading a selection as rows: one row per sample, one series after the other.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, Float64Array, TimestampMillisecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use pilaster_model::{Histogram, Labels, METRIC_NAME, is_stale};
use pilaster_promql::source::{SampleBatch, Selection};

use crate::label_column::LabelColumn;
use crate::stop::Stop;

/// What one output column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleColumn {
    Timestamp,
    Value,
    /// One label's value, NULL where the series lacks it.
    Label(Arc<str>),
    /// All labels but the metric's name, as a JSON object.
    Labels,
}

/// What a [`SampleScanExec`] reads.
#[derive(Debug)]
pub struct SampleScan {
    pub selection: Arc<dyn Selection>,
    pub columns: Vec<SampleColumn>,
    /// Parallel to `columns`.
    pub schema: SchemaRef,
    /// No partition needs to produce more rows than this.
    pub limit: Option<usize>,
    pub partition_count: usize,
    /// For EXPLAIN: matchers, time range, series and blocks.
    pub note: String,
    pub stop: Arc<Stop>,
    /// The selection's reading order, once a partition has asked for it.
    pub order: OnceLock<Option<Vec<u32>>>,
}

impl SampleScan {
    /// The series that a partition reads.
    fn of_partition(&self, partition: usize) -> Vec<u32> {
        let count = self.selection.len();
        let own = count * partition / self.partition_count..count * (partition + 1) / self.partition_count;
        match self.order.get_or_init(|| self.selection.reading_order()) {
            Some(order) => order[own].to_vec(),
            None => (own.start as u32..own.end as u32).collect(),
        }
    }
}

/// Streams the samples of a selection; each partition reads its own run of series. Staleness markers are left out;
/// a native histogram is a row whose value is NULL.
#[derive(Debug)]
pub struct SampleScanExec {
    scan: Arc<SampleScan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SampleScanExec {
    pub fn new(scan: SampleScan) -> SampleScanExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&scan.schema)),
            Partitioning::UnknownPartitioning(scan.partition_count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        SampleScanExec {
            scan: Arc::new(scan),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for SampleScanExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(f, "SampleScanExec: {}", self.scan.note)?,
            DisplayFormatType::TreeRender => write!(f, "{}", self.scan.note)?,
        }
        if let Some(limit) = self.scan.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for SampleScanExec {
    fn name(&self) -> &str {
        "SampleScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reader = SampleReader {
            series: self.scan.of_partition(partition),
            next_series: 0,
            chunk: 16,
            batch: SampleBatch::default(),
            next_run: 0,
            next_sample: 0,
            rows_left: self.scan.limit.unwrap_or(usize::MAX),
            batch_rows: context.session_config().batch_size(),
            samples_read: MetricBuilder::new(&self.metrics).counter("samples_read", partition),
            scan: Arc::clone(&self.scan),
        };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let stream = futures::stream::unfold(Some((reader, baseline)), |state| async move {
            let (mut reader, baseline) = state?;
            let timer = baseline.elapsed_compute().timer();
            let batch = reader.next_batch();
            timer.done();
            match batch {
                Ok(Some(batch)) => {
                    baseline.record_output(batch.num_rows());
                    Some((Ok(batch), Some((reader, baseline))))
                }
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        let schema = Arc::clone(&self.scan.schema);
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(schema, Box::pin(stream)))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Walks the series of one partition.
struct SampleReader {
    scan: Arc<SampleScan>,
    /// Their positions.
    series: Vec<u32>,
    next_series: usize,
    /// Series per read; follows how many samples the last read brought.
    chunk: usize,
    batch: SampleBatch,
    next_run: usize,
    next_sample: usize,
    rows_left: usize,
    batch_rows: usize,
    samples_read: Count,
}

/// A read should bring about this many samples: large enough for the store's fast path, small against the memory limit.
const SAMPLES_PER_READ: usize = 64 * 1024;

impl SampleReader {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let scan = Arc::clone(&self.scan);
        let mut rows = Rows::new(&scan.columns);
        while rows.count < self.batch_rows && self.rows_left > 0 {
            if self.next_run == self.batch.runs.len() && !self.read()? {
                break;
            }
            self.take_from_run(&mut rows);
        }
        if rows.count == 0 { Ok(None) } else { rows.finish(&scan.schema).map(Some) }
    }

    /// Reads the next chunk of series that has samples; `false` at the end.
    fn read(&mut self) -> Result<bool> {
        while self.next_series < self.series.len() {
            self.scan.stop.check()?;
            let end = (self.next_series + self.chunk).min(self.series.len());
            self.batch = self
                .scan
                .selection
                .read(&self.series[self.next_series..end])
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            let sample_count: usize = self.batch.runs.iter().map(|run| run.values.len()).sum();
            self.samples_read.add(sample_count);
            if sample_count < SAMPLES_PER_READ / 2 {
                self.chunk = (self.chunk * 2).min(8192);
            } else if sample_count > SAMPLES_PER_READ * 2 {
                self.chunk = (self.chunk / 2).max(1);
            }
            self.next_series = end;
            self.next_run = 0;
            self.next_sample = 0;
            if !self.batch.runs.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves samples of the current run into `rows`, as many as the batch and the limit leave room for.
    fn take_from_run(&mut self, rows: &mut Rows) {
        let run = &self.batch.runs[self.next_run];
        let timeline = &self.batch.timelines[run.timeline as usize];
        let before = rows.count;
        let room = (self.batch_rows - rows.count).min(self.rows_left);
        let start = self.next_sample;
        let end = run.values.len().min(start + room);
        let (timestamps, values) = (&timeline[start..end], &run.values[start..end]);
        match &run.histograms {
            Some(histograms) => rows.append_with_histograms(timestamps, values, &histograms[start..end]),
            None => rows.append_without_stale(timestamps, values),
        }
        self.next_sample = end;
        let taken = rows.count - before;
        rows.end_run(&self.scan.selection.labels()[run.series as usize], taken);
        self.rows_left -= taken;
        if self.next_sample == run.values.len() {
            self.next_run += 1;
            self.next_sample = 0;
        }
    }
}

/// One output batch under construction. Columns that are not asked for stay empty.
struct Rows<'a> {
    columns: &'a [SampleColumn],
    count: usize,
    wants_time: bool,
    wants_value: bool,
    timestamps: Vec<i64>,
    values: Vec<f64>,
    /// As long as `values` once the first NULL has come.
    valid: Vec<bool>,
    /// Parallel to `columns`; unused for timestamps and values.
    texts: Vec<LabelColumn>,
}

impl<'a> Rows<'a> {
    fn new(columns: &'a [SampleColumn]) -> Rows<'a> {
        Rows {
            columns,
            count: 0,
            wants_time: columns.contains(&SampleColumn::Timestamp),
            wants_value: columns.contains(&SampleColumn::Value),
            timestamps: Vec::new(),
            values: Vec::new(),
            valid: Vec::new(),
            texts: columns.iter().map(|_| LabelColumn::default()).collect(),
        }
    }

    /// Appends whole stretches between staleness markers, of which there are mostly none.
    fn append_without_stale(&mut self, timestamps: &[i64], values: &[f64]) {
        let mut start = 0;
        while start < values.len() {
            let length = values[start..].iter().position(|value| is_stale(*value)).unwrap_or(values.len() - start);
            self.append(&timestamps[start..start + length], &values[start..start + length]);
            // Behind the marker, or at the end.
            start += length + 1;
        }
    }

    fn append(&mut self, timestamps: &[i64], values: &[f64]) {
        if self.wants_time {
            self.timestamps.extend_from_slice(timestamps);
        }
        if self.wants_value {
            self.values.extend_from_slice(values);
            if !self.valid.is_empty() {
                self.valid.resize(self.values.len(), true);
            }
        }
        self.count += timestamps.len();
    }

    /// Samples some of which are histograms: those become NULL.
    fn append_with_histograms(&mut self, timestamps: &[i64], values: &[f64], histograms: &[Option<Arc<Histogram>>]) {
        for (index, histogram) in histograms.iter().enumerate() {
            if histogram.is_none() && is_stale(values[index]) {
                continue;
            }
            self.append(&timestamps[index..=index], &[if histogram.is_some() { 0.0 } else { values[index] }]);
            if histogram.is_some() && self.wants_value {
                self.valid.resize(self.values.len(), true);
                if let Some(last) = self.valid.last_mut() {
                    *last = false;
                }
            }
        }
    }

    fn end_run(&mut self, labels: &Labels, row_count: usize) {
        if row_count == 0 {
            return;
        }
        for (column, text) in self.columns.iter().zip(&mut self.texts) {
            match column {
                SampleColumn::Timestamp | SampleColumn::Value => {}
                SampleColumn::Label(name) => text.append_run(labels.find(name), row_count),
                SampleColumn::Labels => text.append_run(Some(&labels_json(labels)), row_count),
            }
        }
    }

    fn finish(self, schema: &SchemaRef) -> Result<RecordBatch> {
        let timestamps: ArrayRef = Arc::new(TimestampMillisecondArray::from(self.timestamps).with_timezone("UTC"));
        let nulls = (!self.valid.is_empty()).then(|| NullBuffer::from(self.valid));
        let values: ArrayRef = Arc::new(Float64Array::new(self.values.into(), nulls));
        let arrays: Vec<ArrayRef> = self
            .columns
            .iter()
            .zip(self.texts)
            .map(|(column, text)| match column {
                SampleColumn::Timestamp => Arc::clone(&timestamps),
                SampleColumn::Value => Arc::clone(&values),
                SampleColumn::Label(_) | SampleColumn::Labels => text.finish(),
            })
            .collect();
        // `count(*)` projects no column at all.
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
    }
}

/// All labels but the metric's name as a JSON object, names ascending: `{"instance":"a:1","job":"x"}`.
pub fn labels_json(labels: &Labels) -> String {
    let mut json = String::from("{");
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&serde_json::Value::from(name).to_string());
        json.push(':');
        json.push_str(&serde_json::Value::from(value).to_string());
    }
    json.push('}');
    json
}
