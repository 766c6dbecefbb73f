//! The two common shells that turn an operator into a DataFusion `ExecutionPlan`, and the stream that operators read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::QueryError;
use crate::exec::query_state::QueryState;
use crate::grid::{self, Grid, GridBatch};

/// One batch in, one batch out; the output may be of another width.
pub(crate) trait BatchOperator: fmt::Debug + Send + Sync {
    /// As shown by EXPLAIN, ending in `Exec`.
    fn name(&self) -> &'static str;

    /// What EXPLAIN shows behind the name.
    fn arguments(&self) -> String;

    fn apply(&self, batch: GridBatch, query: &QueryState) -> Result<GridBatch, QueryError>;
}

/// All inputs in, all rows out.
#[async_trait]
pub(crate) trait GridOperator: fmt::Debug + Send + Sync {
    /// As shown by EXPLAIN, ending in `Exec`.
    fn name(&self) -> &'static str;

    /// What EXPLAIN shows behind the name.
    fn arguments(&self) -> String;

    /// One stream per input, in the order of the plan's children.
    async fn run(&self, inputs: Vec<GridStream>, query: &QueryState) -> Result<Vec<GridBatch>, QueryError>;
}

/// Properties of a plan that puts out grids.
pub(crate) fn grid_properties(schema: &SchemaRef, partitions: usize) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(Arc::clone(schema)),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

pub(crate) fn partition_count(plan: &dyn ExecutionPlan) -> usize {
    plan.properties().output_partitioning().partition_count()
}

/// How long work may go on before the runtime gets a chance to do something else, such as dropping the query.
const BETWEEN_YIELDS: Duration = Duration::from_millis(5);

/// The unpacked output of a plan's partition.
pub(crate) struct GridStream {
    stream: SendableRecordBatchStream,
    query: Arc<QueryState>,
    last_yield: Instant,
    /// Samples that came so far, of all streams of one operator.
    pub(super) samples: Arc<AtomicUsize>,
}

impl GridStream {
    pub fn new(stream: SendableRecordBatchStream, query: Arc<QueryState>) -> GridStream {
        GridStream { stream, query, last_yield: Instant::now(), samples: Arc::default() }
    }

    /// The next batch. Stops where the query has to stop, and yields to the runtime now and then: a dropped query ends
    /// at such a point.
    pub async fn next(&mut self) -> Result<Option<GridBatch>, QueryError> {
        self.query.check()?;
        if self.last_yield.elapsed() > BETWEEN_YIELDS {
            tokio::task::yield_now().await;
            self.last_yield = Instant::now();
        }
        match self.stream.next().await {
            None => Ok(None),
            Some(Err(error)) => Err(QueryError::from_datafusion(error)),
            Some(Ok(batch)) => {
                let batch = GridBatch::from_record_batch(&batch).map_err(arrow_error)?;
                self.samples.fetch_add(batch.sample_count(), Ordering::Relaxed);
                Ok(Some(batch))
            }
        }
    }

    /// Says that nobody holds any more what came so far.
    pub fn let_go(&self) {
        self.query.release_samples(self.samples.swap(0, Ordering::Relaxed));
    }

    /// All rows.
    pub async fn collect(mut self) -> Result<Grid, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            if !batch.is_empty() {
                batches.push(batch);
            }
        }
        Ok(Grid::new(batches))
    }
}

/// Arrow refuses a batch only where an operator broke the grid's shape.
pub(crate) fn arrow_error(error: arrow::error::ArrowError) -> QueryError {
    QueryError::Execution(format!("grid batch does not fit its schema: {error}"))
}

pub(crate) fn pack(batch: Result<GridBatch, QueryError>, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    Ok(batch?.to_record_batch(schema)?)
}

/// Batch operators in a row; a batch passes all of them before it is packed again.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperatorChain(pub Vec<Arc<dyn BatchOperator>>);

impl OperatorChain {
    pub fn apply(&self, batch: GridBatch, query: &QueryState) -> Result<GridBatch, QueryError> {
        self.0.iter().try_fold(batch, |batch, operator| operator.apply(batch, query))
    }
}

/// For EXPLAIN: `RoundExec: to=1, NegateExec`.
impl fmt::Display for OperatorChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, operator) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " | " };
            write!(f, "{separator}{}", operator.name())?;
            let arguments = operator.arguments();
            if !arguments.is_empty() {
                write!(f, ": {arguments}")?;
            }
        }
        Ok(())
    }
}

/// Carries an [`OperatorChain`].
#[derive(Debug, Clone)]
pub(crate) struct StreamExec {
    operators: OperatorChain,
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl StreamExec {
    pub fn new(operators: OperatorChain, input: Arc<dyn ExecutionPlan>, width: usize) -> StreamExec {
        let schema = grid::schema(width);
        let properties = grid_properties(&schema, partition_count(input.as_ref()));
        StreamExec { operators, input, schema, properties }
    }
}

impl DisplayAs for StreamExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operators)
    }
}

impl ExecutionPlan for StreamExec {
    fn name(&self) -> &str {
        "StreamExec"
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
        let properties = grid_properties(&self.schema, partition_count(input.as_ref()));
        Ok(Arc::new(StreamExec { input, properties, ..self.as_ref().clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let query = QueryState::of(&context);
        let input = self.input.execute(partition, context)?;
        let (operators, schema) = (self.operators.clone(), Arc::clone(&self.schema));
        let batches = input.map(move |batch| {
            query.check()?;
            let batch = GridBatch::from_record_batch(&batch?)?;
            pack(operators.apply(batch, &query), &schema)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

/// Carries a [`GridOperator`].
#[derive(Debug, Clone)]
pub(crate) struct GatherExec {
    operator: Arc<dyn GridOperator>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl GatherExec {
    /// `inputs` have one partition each.
    pub fn new(operator: Arc<dyn GridOperator>, inputs: Vec<Arc<dyn ExecutionPlan>>, width: usize) -> GatherExec {
        debug_assert!(inputs.iter().all(|input| partition_count(input.as_ref()) == 1), "inputs are merged first");
        let schema = grid::schema(width);
        let properties = grid_properties(&schema, 1);
        GatherExec { operator, inputs, schema, properties }
    }
}

impl DisplayAs for GatherExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operator.name(), self.operator.arguments())
    }
}

impl ExecutionPlan for GatherExec {
    fn name(&self) -> &str {
        self.operator.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
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
        if children.len() != self.inputs.len() {
            return Err(wrong_children(self.name()));
        }
        Ok(Arc::new(GatherExec { inputs: children, ..self.as_ref().clone() }))
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let query = QueryState::of(&context);
        let samples: Arc<AtomicUsize> = Arc::default();
        let inputs = self
            .inputs
            .iter()
            .map(|input| {
                let stream = input.execute(0, Arc::clone(&context))?;
                Ok(GridStream { samples: Arc::clone(&samples), ..GridStream::new(stream, Arc::clone(&query)) })
            })
            .collect::<DataFusionResult<Vec<GridStream>>>()?;
        let (operator, schema) = (Arc::clone(&self.operator), Arc::clone(&self.schema));
        let batches = stream::once(async move {
            let batches = operator.run(inputs, &query).await?;
            // From here on the result is held, and its inputs are not.
            query.hold_samples(batches.iter().map(GridBatch::sample_count).sum())?;
            query.release_samples(samples.load(Ordering::Relaxed));
            Ok::<_, DataFusionError>(stream::iter(batches).map(move |batch| pack(Ok(batch), &schema)))
        });
        let batches = batches.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

pub(crate) fn wrong_children(name: &str) -> DataFusionError {
    DataFusionError::Internal(format!("{name} got another number of children than it had"))
}
