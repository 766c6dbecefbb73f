//! A leaf whose rows are already known: `vector(…)`, and results that had to be computed before their labels were known.

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

use crate::exec::plan::grid_properties;
use crate::grid::{self, GridBatch};

/// Puts out given batches in one partition.
#[derive(Debug)]
pub(crate) struct GridExec {
    batches: Arc<Vec<GridBatch>>,
    /// Where the rows come from, for EXPLAIN.
    origin: String,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl GridExec {
    pub fn new(batches: Vec<GridBatch>, width: usize, origin: String) -> GridExec {
        let schema = grid::schema(width);
        let properties = grid_properties(&schema, 1);
        GridExec { batches: Arc::new(batches), origin, schema, properties }
    }
}

impl DisplayAs for GridExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: usize = self.batches.iter().map(GridBatch::row_count).sum();
        write!(f, "GridExec: {}, series={rows}", self.origin)
    }
}

impl ExecutionPlan for GridExec {
    fn name(&self) -> &str {
        "GridExec"
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

    fn execute(&self, _partition: usize, _: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let (batches, schema) = (Arc::clone(&self.batches), Arc::clone(&self.schema));
        let count = batches.len();
        let packed = stream::iter((0..count).map(move |index| Ok(batches[index].to_record_batch(&schema)?)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), packed)))
    }
}
