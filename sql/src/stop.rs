//! Ending a statement's work, not only its answer.
//!
//! Dropping a DataFusion stream aborts its tasks, but a task that never yields (a join that feeds an aggregate from
//! memory) runs on. So a statement carries a [`Stop`]; our scan looks at it before every read, and [`StopRule`] puts
//! a [`StopExec`] above every operator that can multiply rows. The same place guards against values so large that
//! repeating them for a batch of rows would exhaust memory outside the pool.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::Stream;
use tokio::sync::Notify;

use crate::error::{SqlError, sqlstate};
use crate::functions::largest_value;

/// Why a statement ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The user, or a connection that went away.
    Canceled = 1,
    Timeout = 2,
    Shutdown = 3,
}

/// One statement's stop signal; the first reason wins.
#[derive(Debug, Default)]
pub struct Stop {
    state: AtomicU8,
    changed: Notify,
}

impl Stop {
    pub fn trip(&self, reason: StopReason) {
        if self.state.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// # Errors
    /// The reason, once tripped.
    pub fn check(&self) -> Result<(), SqlError> {
        match self.state.load(Ordering::Acquire) {
            0 => Ok(()),
            1 => Err(SqlError::new(sqlstate::QUERY_CANCELED, "canceling statement due to user request")),
            2 => Err(SqlError::new(sqlstate::QUERY_CANCELED, "canceling statement due to statement timeout")),
            _ => Err(SqlError::new(
                sqlstate::ADMIN_SHUTDOWN,
                "terminating connection because the server is shutting down",
            )),
        }
    }

    /// Resolves with the reason once tripped.
    pub async fn tripped(&self) -> SqlError {
        loop {
            // Registered before the check, so that a trip in between is not missed.
            let mut notified = std::pin::pin!(self.changed.notified());
            notified.as_mut().enable();
            if let Err(error) = self.check() {
                return error;
            }
            notified.await;
        }
    }
}

/// Adds a [`StopExec`] where rows may multiply. Runs last.
#[derive(Debug)]
pub struct StopRule {
    pub stop: Arc<Stop>,
}

impl PhysicalOptimizerRule for StopRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let multiplies = node.children().len() > 1
                || matches!(node.name(), "UnnestExec" | "LazyMemoryExec" | "WindowAggExec" | "BoundedWindowAggExec");
            // What an aggregation collects into one value, a join above it would repeat for every match.
            if multiplies || node.name() == "AggregateExec" {
                Ok(Transformed::yes(Arc::new(StopExec::new(node, Arc::clone(&self.stop))) as Arc<dyn ExecutionPlan>))
            } else {
                Ok(Transformed::no(node))
            }
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "stop_rule"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Passes batches through until the statement is stopped, or a value in them is too large to be repeated; yields to
/// the runtime now and then.
#[derive(Debug)]
pub struct StopExec {
    input: Arc<dyn ExecutionPlan>,
    stop: Arc<Stop>,
    properties: Arc<PlanProperties>,
}

impl StopExec {
    fn new(input: Arc<dyn ExecutionPlan>, stop: Arc<Stop>) -> StopExec {
        let properties = PlanProperties::clone(input.properties()).with_scheduling_type(SchedulingType::Cooperative);
        StopExec { input, stop, properties: Arc::new(properties) }
    }
}

impl DisplayAs for StopExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopExec")
    }
}

impl ExecutionPlan for StopExec {
    fn name(&self) -> &str {
        "StopExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(StopExec::new(children.remove(0), Arc::clone(&self.stop))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(make_cooperative(Box::pin(StopStream { input, stop: Arc::clone(&self.stop) })))
    }
}

/// Of one text or array that an operator hands on.
const MAX_VALUE_BYTES: u64 = 1024 * 1024;

struct StopStream {
    input: SendableRecordBatchStream,
    stop: Arc<Stop>,
}

impl Stream for StopStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Err(error) = self.stop.check() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let batch = std::task::ready!(self.input.as_mut().poll_next(context));
        if let Some(Ok(batch)) = &batch
            && let Some(bytes) = batch.columns().iter().map(largest_value).find(|bytes| *bytes > MAX_VALUE_BYTES)
        {
            let error = SqlError::new(sqlstate::OUT_OF_MEMORY, "out of memory: a single value is too large")
                .with_hint(format!("it has {bytes} bytes, the limit is {MAX_VALUE_BYTES}"));
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(batch)
    }
}

impl RecordBatchStream for StopStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
