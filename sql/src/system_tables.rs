//! `samples`, `series` and `metrics`: what is stored, seen across all metrics.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use pilaster_model::{METRIC_NAME, TimeRange};

use crate::catalog::Snapshot;
use crate::label_column::LabelColumn;
use crate::metric_table::MetricTable;
use crate::pushdown::{LabelColumns, Pushed, translate};
use crate::scan::labels_json;
use crate::wire_type;

/// Ascending.
pub const NAMES: [&str; 3] = ["metrics", "samples", "series"];

/// The system table called `name`.
pub fn table(snapshot: &Arc<Snapshot>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    match name {
        "samples" => Ok(Some(Arc::new(MetricTable::of_all(Arc::clone(snapshot), &snapshot.promoted_labels)))),
        "series" => Ok(Some(Arc::new(SeriesTable::new(Arc::clone(snapshot))))),
        "metrics" => metrics(snapshot).map(|table| Some(table as Arc<dyn TableProvider>)),
        _ => Ok(None),
    }
}

/// One row per metric: `metric`, `type`, `help`, `unit`.
fn metrics(snapshot: &Arc<Snapshot>) -> Result<Arc<MemTable>> {
    let names = snapshot.metrics()?;
    let metadata: HashMap<String, crate::service::MetricMetadata> =
        snapshot.metadata().into_iter().map(|metadata| (metadata.metric.clone(), metadata)).collect();
    let of = |name: &str| metadata.get(name).or_else(|| metadata.get(family(name)));
    let column = |text: &dyn Fn(&crate::service::MetricMetadata) -> &str| -> ArrayRef {
        let texts: Vec<Option<&str>> =
            names.iter().map(|name| of(name).map(text).filter(|text| !text.is_empty())).collect();
        Arc::new(StringViewArray::from(texts))
    };
    let metric: ArrayRef = Arc::new(StringViewArray::from_iter_values(names.iter().map(String::as_str)));
    let schema = Arc::new(Schema::new(vec![
        Field::new("metric", DataType::Utf8View, false),
        Field::new("type", DataType::Utf8View, true),
        Field::new("help", DataType::Utf8View, true),
        Field::new("unit", DataType::Utf8View, true),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            metric,
            column(&|metadata| &metadata.kind),
            column(&|metadata| &metadata.help),
            column(&|metadata| &metadata.unit),
        ],
    )?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// The name under which metadata of a histogram's or summary's part is kept: `x` for `x_bucket`, `x_sum`, `x_count`.
fn family(metric: &str) -> &str {
    ["_bucket", "_count", "_sum", "_total"].iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric)
}

/// One row per series: `metric`, `labels`, the promoted labels. Label predicates become matchers.
#[derive(Debug)]
struct SeriesTable {
    snapshot: Arc<Snapshot>,
    /// Parallel to the schema; `None` is the `labels` column.
    columns: Vec<Option<String>>,
    schema: SchemaRef,
}

impl SeriesTable {
    fn new(snapshot: Arc<Snapshot>) -> SeriesTable {
        let mut fields = vec![
            Field::new("metric", DataType::Utf8View, true),
            wire_type::tagged(Field::new("labels", DataType::Utf8View, false), wire_type::JSONB),
            Field::new("label_count", DataType::Int64, false),
        ];
        let mut columns = vec![Some(METRIC_NAME.to_owned()), None, None];
        for label in snapshot.promoted_labels.iter().filter(|label| !RESERVED.contains(&label.as_str())) {
            fields.push(Field::new(label, DataType::Utf8View, true));
            columns.push(Some(label.clone()));
        }
        SeriesTable { snapshot, columns, schema: Arc::new(Schema::new(fields)) }
    }
}

const RESERVED: [&str; 4] = [METRIC_NAME, "metric", "labels", "label_count"];

impl LabelColumns for SeriesTable {
    fn label_of(&self, name: &str) -> Option<&str> {
        self.columns[self.schema.index_of(name).ok()?].as_deref()
    }

    fn is_time(&self, _name: &str) -> bool {
        false
    }

    fn is_labels(&self, name: &str) -> bool {
        name == "labels"
    }
}

#[async_trait]
impl TableProvider for SeriesTable {
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
        self.snapshot.stop.check()?;
        let mut pushed = Pushed::everything();
        for filter in filters {
            let more = translate(filter, self).ok_or_else(|| {
                DataFusionError::Internal(format!("filter {filter} was claimed as exact but has no translation"))
            })?;
            pushed = pushed.and(more);
        }
        let selection = self
            .snapshot
            .source
            .select(&pushed.matchers, TimeRange::ALL)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let series = selection.labels();
        let series = &series[..series.len().min(limit.unwrap_or(usize::MAX))];
        let batch_rows = state.config().batch_size();
        let mut batches = Vec::with_capacity(series.len() / batch_rows + 1);
        for chunk in series.chunks(batch_rows) {
            let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
            for (index, column) in self.columns.iter().enumerate() {
                arrays.push(match column {
                    None if index == 1 => {
                        let mut texts = LabelColumn::default();
                        chunk.iter().for_each(|labels| texts.append_run(Some(&labels_json(labels)), 1));
                        texts.finish()
                    }
                    None => Arc::new(Int64Array::from_iter_values(
                        chunk
                            .iter()
                            .map(|labels| (labels.len() - usize::from(labels.find(METRIC_NAME).is_some())) as i64),
                    )),
                    Some(label) => {
                        let mut texts = LabelColumn::default();
                        chunk.iter().for_each(|labels| texts.append_run(labels.find(label), 1));
                        texts.finish()
                    }
                });
            }
            batches.push(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?);
        }
        MemTable::try_new(Arc::clone(&self.schema), vec![batches])?.scan(state, projection, &[], limit).await
    }
}
