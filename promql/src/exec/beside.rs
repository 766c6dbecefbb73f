//! Two inputs, one of which is taken in whole before the batches of the other pass beside it, in as many partitions as that
//! one has.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::watch;

use crate::error::QueryError;
use crate::exec::merge::SeriesMergeExec;
use crate::exec::plan::{GridOperator, GridStream, grid_properties, pack, partition_count, wrong_children};
use crate::exec::query_state::QueryState;
use crate::grid::{self, GridBatch};

/// Makes one batch of one batch.
pub(crate) type BatchFunction = Arc<dyn Fn(GridBatch, &QueryState) -> Result<GridBatch, QueryError> + Send + Sync>;

/// An operator that can do with one whole input, beside which the batches of the other pass one by one.
#[async_trait]
pub(crate) trait BesideOperator: GridOperator {
    /// Takes in the whole one; each batch of the other then passes what is returned.
    async fn prepare(self: Arc<Self>, whole: GridStream, query: &QueryState) -> Result<BatchFunction, QueryError>;
}

/// Carries a [`BesideOperator`].
#[derive(Debug)]
pub(crate) struct BesideExec {
    operator: Arc<dyn BesideOperator>,
    /// Its batches pass, partition by partition.
    passing: Arc<dyn ExecutionPlan>,
    /// One partition.
    whole: Arc<dyn ExecutionPlan>,
    width: usize,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    shared: Arc<Beside>,
}

/// What the partitions of a [`BesideExec`] share.
struct Beside {
    /// Made by the first partition, whose batches, and errors, are the first that anybody waits for.
    function: watch::Sender<Prepared>,
    /// Partitions that have not ended.
    running: AtomicUsize,
    /// Samples of the whole input.
    samples: AtomicUsize,
}

enum Prepared {
    NotYet,
    Ready(BatchFunction),
    /// All ended, or the first one failed.
    Over,
}

/// A partition that has not ended.
struct Running {
    beside: Arc<Beside>,
    query: Arc<QueryState>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.beside.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.beside.function.send_replace(Prepared::Over);
            self.query.release_samples(self.beside.samples.swap(0, Ordering::Relaxed));
        }
    }
}

impl Running {
    /// The function, once the whole input is there. `passing` is what the first partition waits for beside it.
    async fn function(
        &self,
        operator: Arc<dyn BesideOperator>,
        whole: Option<GridStream>,
        passing: &mut SendableRecordBatchStream,
    ) -> DataFusionResult<BatchFunction> {
        let Some(whole) = whole else {
            let mut prepared = self.beside.function.subscribe();
            let prepared = prepared.wait_for(|prepared| !matches!(prepared, Prepared::NotYet)).await;
            return match prepared.as_deref() {
                Ok(Prepared::Ready(function)) => Ok(Arc::clone(function)),
                Ok(Prepared::NotYet | Prepared::Over) | Err(_) => {
                    Err(QueryError::execution("another part of the query failed").into())
                }
            };
        };
        let samples = Arc::clone(&whole.samples);
        match operator.prepare(whole, &self.query).await {
            Ok(function) => {
                self.beside.samples.store(samples.load(Ordering::Relaxed), Ordering::Relaxed);
                self.beside.function.send_replace(Prepared::Ready(Arc::clone(&function)));
                Ok(function)
            }
            Err(error) => {
                self.beside.function.send_replace(Prepared::Over);
                // Where both inputs fail, it is the error of the passing one that counts.
                while let Some(batch) = passing.next().await {
                    batch?;
                }
                Err(error.into())
            }
        }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("running", &self.running).finish_non_exhaustive()
    }
}

impl BesideExec {
    /// `whole` has one partition.
    pub fn new(
        operator: Arc<dyn BesideOperator>,
        passing: Arc<dyn ExecutionPlan>,
        whole: Arc<dyn ExecutionPlan>,
        width: usize,
    ) -> BesideExec {
        debug_assert!(partition_count(whole.as_ref()) == 1, "it is merged first");
        let schema = grid::schema(width);
        let partitions = partition_count(passing.as_ref());
        let properties = grid_properties(&schema, partitions);
        let (function, _) = watch::channel(Prepared::NotYet);
        let shared = Beside { function, running: AtomicUsize::new(partitions), samples: AtomicUsize::new(0) };
        BesideExec { operator, passing, whole, width, schema, properties, shared: Arc::new(shared) }
    }
}

impl DisplayAs for BesideExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operator.name(), self.operator.arguments())
    }
}

impl ExecutionPlan for BesideExec {
    fn name(&self) -> &str {
        self.operator.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.passing, &self.whole]
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
        let [passing, whole] = <[_; 2]>::try_from(children).map_err(|_| wrong_children(self.name()))?;
        let whole = SeriesMergeExec::wrap(whole);
        Ok(Arc::new(BesideExec::new(Arc::clone(&self.operator), passing, whole, self.width)))
    }

    /// Each partition once: the whole input is taken in once for all.
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let query = QueryState::of(&context);
        let whole = match partition {
            0 => Some(GridStream::new(self.whole.execute(0, Arc::clone(&context))?, Arc::clone(&query))),
            _ => None,
        };
        let mut passing = self.passing.execute(partition, context)?;
        let (operator, schema) = (Arc::clone(&self.operator), Arc::clone(&self.schema));
        let running = Running { beside: Arc::clone(&self.shared), query };
        let batches = stream::once(async move {
            let function = running.function(operator, whole, &mut passing).await?;
            Ok::<_, DataFusionError>(passing.map(move |batch| {
                let query = &running.query;
                query.check()?;
                let batch = GridBatch::from_record_batch(&batch?)?;
                let taken = batch.sample_count();
                let made = function(batch, query)?;
                query.hold_samples(made.sample_count())?;
                query.release_samples(taken);
                pack(Ok(made), &schema)
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches.try_flatten())))
    }
}
