//! From many partitions back to one, in the order of the series.
//!
//! A leaf with `P` partitions gives chunk `k` of its series to partition `k mod P`, and operators in between put out one
//! batch per batch. Taking one batch from each partition in turn therefore restores the order, whatever `P` is.

use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use futures::stream;
use tokio::sync::mpsc;

use crate::exec::plan::{grid_properties, partition_count, wrong_children};

/// Batches that a partition may be ahead.
const AHEAD: usize = 2;

/// Runs the partitions of its input at the same time and puts their chunks back in order.
#[derive(Debug)]
pub(crate) struct SeriesMergeExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl SeriesMergeExec {
    /// `input` itself where it has one partition.
    pub fn wrap(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        if partition_count(input.as_ref()) == 1 {
            return input;
        }
        let properties = grid_properties(&input.schema(), 1);
        Arc::new(SeriesMergeExec { input, properties })
    }
}

impl DisplayAs for SeriesMergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesMergeExec: partitions={}", partition_count(self.input.as_ref()))
    }
}

impl ExecutionPlan for SeriesMergeExec {
    fn name(&self) -> &str {
        "SeriesMergeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let [input] = <[_; 1]>::try_from(children).map_err(|_| wrong_children(self.name()))?;
        Ok(SeriesMergeExec::wrap(input))
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let partitions = partition_count(self.input.as_ref());
        let mut lanes = Vec::with_capacity(partitions);
        for partition in 0..partitions {
            let mut input = self.input.execute(partition, Arc::clone(&context))?;
            let (sender, receiver) = mpsc::channel::<DataFusionResult<RecordBatch>>(AHEAD);
            // Dropping the task aborts it, so a dropped query stops all of its partitions.
            let task = SpawnedTask::spawn(async move {
                while let Some(batch) = input.next().await {
                    let failed = batch.is_err();
                    if sender.send(batch).await.is_err() || failed {
                        return;
                    }
                    // A leaf is always ready: without this, nothing else would run on this thread until its end.
                    tokio::task::yield_now().await;
                }
            });
            lanes.push((receiver, task));
        }
        let batches = stream::unfold((lanes, 0), |(mut lanes, turn)| async move {
            // The first lane without a chunk at its turn had the last one: later lanes are empty too.
            let lane = turn % lanes.len();
            let batch = lanes[lane].0.recv().await?;
            Some((batch, (lanes, turn + 1)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
