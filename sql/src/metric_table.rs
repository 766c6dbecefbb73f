//! One metric, or all of them, as a table of samples.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use pilaster_model::{METRIC_NAME, Matcher, TimeRange};

use crate::catalog::Snapshot;
use crate::pushdown::{LabelColumns, Pushed, translate};
use crate::scan::{SampleColumn, SampleScan, SampleScanExec};
use crate::wire_type;

/// Samples as rows: `ts`, `value`, label columns and `labels`, narrowed by matchers that belong to the table itself.
#[derive(Debug)]
pub struct MetricTable {
    snapshot: Arc<Snapshot>,
    /// `__name__="…"` for one metric, nothing for `samples`.
    own_matchers: Vec<Matcher>,
    columns: Vec<SampleColumn>,
    schema: SchemaRef,
}

/// The type of every `ts` column.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

impl MetricTable {
    /// The table of one metric, with a column for each of `labels` (ascending, the metric's name left out).
    pub fn of_metric(snapshot: Arc<Snapshot>, metric: &str, labels: &[String]) -> MetricTable {
        let mut columns = vec![SampleColumn::Timestamp, SampleColumn::Value];
        columns.extend(labels.iter().map(|label| SampleColumn::Label(label.as_str().into())));
        columns.push(SampleColumn::Labels);
        let names = column_names(&columns);
        MetricTable::new(snapshot, vec![Matcher::equal(METRIC_NAME, metric)], columns, names)
    }

    /// The union of all metrics: `metric`, `labels`, `ts`, `value` and the `promoted` labels.
    pub fn of_all(snapshot: Arc<Snapshot>, promoted: &[String]) -> MetricTable {
        let mut columns = vec![
            SampleColumn::Label(METRIC_NAME.into()),
            SampleColumn::Labels,
            SampleColumn::Timestamp,
            SampleColumn::Value,
        ];
        columns.extend(
            promoted
                .iter()
                .filter(|label| *label != METRIC_NAME)
                .map(|label| SampleColumn::Label(label.as_str().into())),
        );
        let names = column_names(&columns);
        MetricTable::new(snapshot, Vec::new(), columns, names)
    }

    fn new(
        snapshot: Arc<Snapshot>,
        own_matchers: Vec<Matcher>,
        columns: Vec<SampleColumn>,
        names: Vec<String>,
    ) -> MetricTable {
        let fields: Vec<Field> = columns
            .iter()
            .zip(names)
            .map(|(column, name)| match column {
                SampleColumn::Timestamp => Field::new(name, timestamp_type(), false),
                // NULL for a native histogram.
                SampleColumn::Value => Field::new(name, DataType::Float64, true),
                SampleColumn::Label(_) => Field::new(name, DataType::Utf8View, true),
                SampleColumn::Labels => {
                    wire_type::tagged(Field::new(name, DataType::Utf8View, false), wire_type::JSONB)
                }
            })
            .collect();
        MetricTable { snapshot, own_matchers, columns, schema: Arc::new(Schema::new(fields)) }
    }

    fn column(&self, name: &str) -> Option<&SampleColumn> {
        self.schema.index_of(name).ok().map(|index| &self.columns[index])
    }
}

/// Column names, unique: a label called like one of our own columns gets `label_` in front.
pub fn column_names(columns: &[SampleColumn]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    let own = ["ts", "value", "labels", "metric"];
    for column in columns {
        let name = match column {
            SampleColumn::Timestamp => "ts".to_owned(),
            SampleColumn::Value => "value".to_owned(),
            SampleColumn::Labels => "labels".to_owned(),
            SampleColumn::Label(label) if &**label == METRIC_NAME => "metric".to_owned(),
            SampleColumn::Label(label) => {
                let mut name = label.to_string();
                while own.contains(&name.as_str()) || names.contains(&name) {
                    name.insert_str(0, "label_");
                }
                name
            }
        };
        names.push(name);
    }
    names
}

impl LabelColumns for MetricTable {
    fn label_of(&self, name: &str) -> Option<&str> {
        match self.column(name)? {
            SampleColumn::Label(label) => Some(label),
            SampleColumn::Timestamp | SampleColumn::Value | SampleColumn::Labels => None,
        }
    }

    fn is_time(&self, name: &str) -> bool {
        self.column(name) == Some(&SampleColumn::Timestamp)
    }

    fn is_labels(&self, name: &str) -> bool {
        self.column(name) == Some(&SampleColumn::Labels)
    }
}

#[async_trait]
impl TableProvider for MetricTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match translate(filter, self) {
                Some(_) => TableProviderFilterPushDown::Exact,
                None => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut pushed = Pushed { matchers: self.own_matchers.clone(), range: TimeRange::ALL };
        for filter in filters {
            let more = translate(filter, self).ok_or_else(|| {
                DataFusionError::Internal(format!("filter {filter} was claimed as exact but has no translation"))
            })?;
            pushed = pushed.and(more);
        }
        let (columns, schema) = match projection {
            None => (self.columns.clone(), Arc::clone(&self.schema)),
            Some(positions) => (
                positions.iter().map(|position| self.columns[*position].clone()).collect(),
                Arc::new(self.schema.project(positions)?),
            ),
        };
        if pushed.is_empty() || limit == Some(0) {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        self.snapshot.stop.check()?;
        let selection = self
            .snapshot
            .source
            .select(&pushed.matchers, pushed.range)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let series_count = selection.len();
        let note = self.snapshot.explain(&pushed, series_count);
        // A limited scan is served by the first series; partitions would only read more.
        let partition_count = if limit.is_some() {
            1
        } else {
            state.config().target_partitions().min(series_count / SERIES_PER_PARTITION).max(1)
        };
        Ok(Arc::new(SampleScanExec::new(SampleScan {
            selection,
            columns,
            schema,
            limit,
            partition_count,
            note,
            stop: Arc::clone(&self.snapshot.stop),
            order: OnceLock::new(),
        })))
    }
}

/// Fewer series are not worth a partition of their own (0.3-0.5 ms of setup each).
const SERIES_PER_PARTITION: usize = 64;
