//! One statement, from text to rows.
//!
//! Planning and execution run on a runtime of the service's own, whose threads have large stacks, under a memory
//! pool, a limit on statements at a time, and a deadline. A statement's [`Stop`] ends both phases.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{DescribeAlias, Query, Statement};
use futures::StreamExt;
use pilaster_model::{Matcher, TimeRange};
use pilaster_promql::Engine;
use pilaster_promql::source::Source;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::catalog::Snapshot;
use crate::error::{SqlError, sqlstate};
use crate::gate::GateLimits;
use crate::output::{OutputColumn, QueryOutput};
use crate::parameters::{self, Parameter};
use crate::rewrite;
use crate::session::{self, Functions};
use crate::settings::Settings;
use crate::statement::{self, Command, RowsKind, RowsStatement};
use crate::stop::{Stop, StopReason};
use crate::wire_type;

/// What SQL reads from; implemented by whoever owns the store.
pub trait SourceProvider: Send + Sync {
    /// One consistent view of all samples, taken per statement.
    fn snapshot(&self) -> Arc<dyn Source>;

    /// What `now()` is, in milliseconds.
    fn now_ms(&self) -> i64;

    /// For EXPLAIN: what a scan with these matchers in this range costs, such as `blocks read 2 of 40`.
    fn plan_note(&self, matchers: &[Matcher], range: TimeRange) -> Option<String>;

    /// Type, help and unit of metrics, for the `metrics` table and for comments in the catalogs.
    fn metadata(&self) -> Vec<MetricMetadata> {
        Vec::new()
    }

    /// Further tables under their names, such as `targets` or `blocks`; they hide metrics of the same name.
    fn system_tables(&self) -> Vec<(String, Arc<dyn TableProvider>)> {
        Vec::new()
    }
}

/// What a target says about one of its metrics; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricMetadata {
    pub metric: String,
    /// `counter`, `gauge`, `histogram`, `summary`, …
    pub kind: String,
    pub help: String,
    pub unit: String,
}

/// Limits and sizes of the service.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    /// Memory of all statements' sorts, joins and aggregations together.
    pub memory_bytes: usize,
    /// For one statement, planning and reading its rows included.
    pub timeout: Duration,
    pub max_sql_bytes: usize,
    /// Statements planned or executed at a time; more wait for their turn until their deadline.
    pub max_concurrent: usize,
    /// Postgres connections at a time; more are refused with 53300.
    pub max_connections: usize,
    /// Of an answer that is collected before it is sent (HTTP). Arrow bytes.
    pub max_result_bytes: usize,
    /// Partitions of one statement, and threads of the service.
    pub partitions: usize,
    /// Labels that have columns in `samples` and `series`.
    pub promoted_labels: Vec<String>,
}

impl Default for SqlOptions {
    fn default() -> SqlOptions {
        SqlOptions {
            memory_bytes: 1024 * 1024 * 1024,
            timeout: Duration::from_secs(120),
            max_sql_bytes: GateLimits::default().max_bytes,
            max_concurrent: 20,
            max_connections: 100,
            max_result_bytes: 256 * 1024 * 1024,
            partitions: std::thread::available_parallelism().map_or(4, usize::from),
            promoted_labels: vec!["job".to_owned(), "instance".to_owned()],
        }
    }
}

/// Runs SQL statements; shared by HTTP and the Postgres wire.
pub struct SqlService {
    provider: Arc<dyn SourceProvider>,
    engine: Arc<Engine>,
    options: SqlOptions,
    functions: Functions,
    environment: Arc<RuntimeEnv>,
    slots: Arc<Semaphore>,
    /// `Some` until dropped.
    runtime: Option<Runtime>,
}

/// Planning recurses with the depth the gate allows; measured need in a debug build is below a quarter of this.
const STACK_BYTES: usize = 64 * 1024 * 1024;

impl SqlService {
    /// # Errors
    /// `58000` where the system gives no threads.
    pub fn new(
        provider: Arc<dyn SourceProvider>,
        engine: Arc<Engine>,
        options: SqlOptions,
    ) -> Result<SqlService, SqlError> {
        let system = |what: &str, error: &dyn std::fmt::Display| {
            SqlError::new(sqlstate::SYSTEM_ERROR, format!("could not start {what}: {error}"))
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.partitions.max(2))
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| system("SQL threads", &error))?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(options.memory_bytes)))
            // Sorts and joins that do not fit are refused (53200): nothing of a statement reaches the disk.
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(|error| system("the SQL environment", &error))?;
        Ok(SqlService {
            provider,
            engine,
            functions: Functions::new(),
            environment,
            slots: Arc::new(Semaphore::new(options.max_concurrent.max(1))),
            options,
            runtime: Some(runtime),
        })
    }

    pub fn options(&self) -> &SqlOptions {
        &self.options
    }

    /// All rows of the one statement in `sql`.
    ///
    /// # Errors
    /// By SQLSTATE, see [`SqlError`]; `54000` where the answer passes `max_result_bytes`.
    pub async fn query(&self, sql: &str) -> Result<QueryOutput, SqlError> {
        let mut rows = self.stream(sql).await?;
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            bytes += batch.get_array_memory_size();
            if bytes > self.options.max_result_bytes {
                return Err(SqlError::new(
                    sqlstate::LIMIT_EXCEEDED,
                    format!("the answer is larger than {} bytes", self.options.max_result_bytes),
                )
                .with_hint("aggregate, add LIMIT, or read it over the Postgres wire, which streams"));
            }
            batches.push(batch);
        }
        Ok(QueryOutput { columns: rows.columns(), batches })
    }

    /// Rows of the one statement in `sql` as they come.
    ///
    /// # Errors
    /// By SQLSTATE, see [`SqlError`]; errors while rows are made come from the stream.
    pub async fn stream(&self, sql: &str) -> Result<RowStream, SqlError> {
        let mut commands = self.parse(sql).await?;
        if commands.len() != 1 {
            return Err(SqlError::new(
                sqlstate::SYNTAX_ERROR,
                format!("expected one statement, found {}", commands.len()),
            ));
        }
        let settings = Arc::new(Settings::default());
        let rows = match commands.remove(0) {
            Command::Rows(rows) => rows,
            Command::Show(name) => RowsStatement::of_text(&name.to_lowercase(), &settings.get(&name)?)?,
            _ => {
                return Err(SqlError::new(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    "only statements that answer with rows are possible here",
                )
                .with_hint("sessions, transactions and COPY need the Postgres wire"));
            }
        };
        let stop = Arc::new(Stop::default());
        let mut guard = StopOnDrop(Some(Arc::clone(&stop)));
        let planned = self.plan(&settings, &rows, &[], &stop).await?;
        let stream = self.execute(planned);
        // From here on the stream holds the stop.
        guard.0 = None;
        Ok(stream)
    }

    pub(crate) async fn parse(&self, sql: &str) -> Result<Vec<Command>, SqlError> {
        let limits = GateLimits { max_bytes: self.options.max_sql_bytes, ..GateLimits::default() };
        let sql = sql.to_owned();
        // The parser recurses as the planner does, within the gate's limits.
        let task = self.handle().spawn(async move { statement::parse(&sql, &limits) });
        task.await.unwrap_or_else(|_| Err(panicked("parser")))
    }

    fn handle(&self) -> Handle {
        self.runtime.as_ref().expect("only dropping takes the runtime").handle().clone()
    }

    /// Plans `rows` with values for its placeholders. Takes a fresh snapshot.
    pub(crate) async fn plan(
        &self,
        settings: &Arc<Settings>,
        rows: &RowsStatement,
        parameters: &[Parameter],
        stop: &Arc<Stop>,
    ) -> Result<Planned, SqlError> {
        let mut query = rows.query.as_ref().clone();
        if let Some(last) = rows.placeholders.last()
            && *last > parameters.len()
        {
            return Err(SqlError::new(sqlstate::UNDEFINED_PARAMETER, format!("there is no parameter ${last}")));
        }
        if !rows.placeholders.is_empty() {
            parameters::bind(&mut query, parameters)?;
        }
        self.plan_query(settings, rows, query, stop).await
    }

    async fn plan_query(
        &self,
        settings: &Arc<Settings>,
        rows: &RowsStatement,
        mut query: Query,
        stop: &Arc<Stop>,
    ) -> Result<Planned, SqlError> {
        rewrite::for_datafusion(&mut query)?;
        let started = Instant::now();
        let limit = settings.statement_timeout().map_or(self.options.timeout, |own| own.min(self.options.timeout));
        let timer = trip_at(started + limit, Arc::clone(stop));
        let slots = Arc::clone(&self.slots);
        let provider = Arc::clone(&self.provider);
        let promoted = self.options.promoted_labels.clone();
        let functions = self.functions.clone();
        let environment = Arc::clone(&self.environment);
        let partitions = self.options.partitions;
        let engine = Arc::clone(&self.engine);
        let (kind, text, settings, its_stop) =
            (rows.kind, Arc::clone(&rows.text), Arc::clone(settings), Arc::clone(stop));
        let mut task = self.handle().spawn(async move {
            let permit = slots.acquire_owned().await;
            let snapshot = Arc::new(Snapshot::new(provider, its_stop, promoted));
            let state = session::state(&functions, environment, engine, &snapshot, &settings, partitions, kind);
            let statement = match kind {
                RowsKind::Query => Statement::Query(Box::new(query)),
                RowsKind::Explain { analyze, verbose } => Statement::Explain {
                    describe_alias: DescribeAlias::Explain,
                    analyze,
                    verbose,
                    query_plan: false,
                    estimate: false,
                    statement: Box::new(Statement::Query(Box::new(query))),
                    format: None,
                    options: None,
                },
            };
            let planned = async {
                let plan = state.statement_to_plan(PlannerStatement::Statement(Box::new(statement))).await?;
                let read_only =
                    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
                read_only.verify_plan(&plan)?;
                Ok(plan)
            };
            let plan = planned.await.map_err(|error: DataFusionError| SqlError::from_datafusion(&error, &text))?;
            drop(permit);
            Ok::<_, SqlError>((plan, state))
        });
        let outcome = tokio::select! {
            biased;
            error = stop.tripped() => {
                task.abort();
                Err(error)
            }
            joined = &mut task => joined.unwrap_or_else(|_| Err(panicked("planner"))),
        };
        timer.abort();
        let (logical, state) = outcome?;
        let columns = match rows.kind {
            RowsKind::Query => rows.names.columns(logical.schema().as_arrow()),
            RowsKind::Explain { .. } => explain_columns(),
        };
        Ok(Planned {
            columns,
            logical,
            state,
            kind: rows.kind,
            text: Arc::clone(&rows.text),
            stop: Arc::clone(stop),
            limit: limit.saturating_sub(started.elapsed()).max(Duration::from_millis(1)),
        })
    }

    /// Starts the work; rows are made no faster than they are taken.
    pub(crate) fn execute(&self, planned: Planned) -> RowStream {
        let (sender, receiver) = mpsc::channel(2);
        let columns = Arc::clone(&planned.columns);
        let stop = Arc::clone(&planned.stop);
        // On the caller's runtime: a statement that keeps all SQL threads busy cannot delay it.
        let timer = trip_at(Instant::now() + planned.limit, Arc::clone(&stop));
        self.handle().spawn(drive(planned, Arc::clone(&self.slots), sender, timer));
        RowStream { columns, receiver, guard: StopOnDrop(Some(stop)), finished: false }
    }

    /// Types of the placeholders and the columns of the answer, without values. `declared` are the client's own
    /// types, 0 where it has none.
    pub(crate) async fn describe(
        &self,
        settings: &Arc<Settings>,
        rows: &RowsStatement,
        declared: &[u32],
        stop: &Arc<Stop>,
    ) -> Result<(Vec<u32>, Arc<[OutputColumn]>), SqlError> {
        if rows.placeholders.is_empty() {
            let planned = self.plan(settings, rows, &[], stop).await?;
            return Ok((declared.to_vec(), planned.columns));
        }
        let count = rows.placeholders.last().copied().unwrap_or(0).max(declared.len());
        let stated = parameters::stated_types(&rows.query);
        let mut types: Vec<u32> = (0..count)
            .map(|index| match declared.get(index) {
                Some(oid) if *oid != 0 => *oid,
                _ => stated.get(&(index + 1)).copied().unwrap_or(0),
            })
            .collect();
        let mut open = rows.query.as_ref().clone();
        let arrays = rewrite::any_of_placeholders(&mut open);
        let inferred = self.plan_query(settings, rows, open, stop).await;
        if let Ok(planned) = &inferred {
            let found = planned.logical.get_parameter_types().unwrap_or_default();
            for (name, data_type) in found {
                let (Some(data_type), Some(number)) = (data_type, name.strip_prefix('$')) else { continue };
                let Some(number) = number.parse::<usize>().ok().filter(|number| (1..=count).contains(number)) else {
                    continue;
                };
                if types[number - 1] == 0 {
                    let oid = wire_type::of_data_type(&data_type);
                    let array = wire_type::find(oid).map_or(0, |known| known.array_oid);
                    types[number - 1] = if arrays.contains(&number) && array != 0 { array } else { oid };
                }
            }
        }
        for (index, oid) in types.iter_mut().enumerate() {
            if *oid == 0 || *oid == wire_type::UNKNOWN {
                *oid = if arrays.contains(&(index + 1)) { wire_type::TEXT_ARRAY } else { wire_type::TEXT };
            }
        }
        // The answer's types follow from the parameters': NULLs of their types stand in for them.
        let nulls: Vec<Parameter> = types.iter().map(|oid| Parameter { type_oid: *oid, text: None }).collect();
        let columns = match self.plan(settings, rows, &nulls, stop).await {
            Ok(planned) => planned.columns,
            Err(error) => match inferred {
                Ok(planned) => planned.columns,
                Err(_) => return Err(error),
            },
        };
        Ok((types, columns))
    }
}

impl Drop for SqlService {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not possible inside an async context, where services mostly end.
            runtime.shutdown_background();
        }
    }
}

/// Trips `stop` at `deadline`, unless aborted before.
fn trip_at(deadline: Instant, stop: Arc<Stop>) -> tokio::task::AbortHandle {
    tokio::spawn(async move {
        tokio::time::sleep_until(deadline).await;
        stop.trip(StopReason::Timeout);
    })
    .abort_handle()
}

fn panicked(what: &str) -> SqlError {
    SqlError::new(sqlstate::INTERNAL, format!("the {what} failed on this statement"))
}

/// Trips the stop with it: what nobody waits for any more ends.
#[derive(Debug)]
struct StopOnDrop(Option<Arc<Stop>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(stop) = &self.0 {
            stop.trip(StopReason::Canceled);
        }
    }
}

/// A statement ready to run, over its own snapshot.
pub(crate) struct Planned {
    pub columns: Arc<[OutputColumn]>,
    logical: LogicalPlan,
    state: SessionState,
    kind: RowsKind,
    text: Arc<str>,
    stop: Arc<Stop>,
    /// Time left.
    limit: Duration,
}

enum Message {
    Batch(RecordBatch),
    Failed(SqlError),
    /// All batches were sent: without it an answer is not whole.
    End,
}

/// The rows of a running statement. Dropping it ends the work.
#[derive(Debug)]
pub struct RowStream {
    columns: Arc<[OutputColumn]>,
    receiver: mpsc::Receiver<Message>,
    guard: StopOnDrop,
    finished: bool,
}

impl RowStream {
    pub fn columns(&self) -> Arc<[OutputColumn]> {
        Arc::clone(&self.columns)
    }

    /// The next rows; `None` once all are there. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, SqlError>> {
        if self.finished {
            return None;
        }
        match self.receiver.recv().await {
            Some(Message::Batch(batch)) => Some(Ok(batch)),
            Some(Message::Failed(error)) => {
                self.finished = true;
                Some(Err(error))
            }
            Some(Message::End) => {
                self.finished = true;
                None
            }
            None => {
                self.finished = true;
                let reason = self.guard.0.as_ref().and_then(|stop| stop.check().err());
                Some(Err(reason.unwrap_or_else(|| {
                    SqlError::new(sqlstate::ADMIN_SHUTDOWN, "the statement ended because the server is shutting down")
                })))
            }
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// Runs one statement to its end, its stop, or the loss of its reader.
async fn drive(
    planned: Planned,
    slots: Arc<Semaphore>,
    sender: mpsc::Sender<Message>,
    timer: tokio::task::AbortHandle,
) {
    let stop = Arc::clone(&planned.stop);
    let work = std::panic::AssertUnwindSafe(run(planned, slots, &sender));
    let outcome = tokio::select! {
        biased;
        error = stop.tripped() => Err(error),
        () = sender.closed() => {
            stop.trip(StopReason::Canceled);
            return timer.abort();
        }
        finished = futures::FutureExt::catch_unwind(work) => {
            finished.unwrap_or_else(|_| Err(panicked("executor")))
        }
    };
    timer.abort();
    let last = match outcome {
        Ok(()) => Message::End,
        Err(error) => Message::Failed(stop.check().err().unwrap_or(error)),
    };
    // A reader that is gone needs no last word.
    let _ = sender.send(last).await;
}

async fn run(planned: Planned, slots: Arc<Semaphore>, sender: &mpsc::Sender<Message>) -> Result<(), SqlError> {
    let Planned { logical, state, kind, text, .. } = planned;
    let _permit = slots.acquire_owned().await;
    let failed = |error: DataFusionError| SqlError::from_datafusion(&error, &text);
    let physical: Arc<dyn ExecutionPlan> = state.create_physical_plan(&logical).await.map_err(failed)?;
    check_constants(&physical).map_err(failed)?;
    let context: Arc<TaskContext> = state.task_ctx();
    let mut batches = execute_stream(physical, context).map_err(failed)?;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(failed)?;
        let batch = match kind {
            RowsKind::Query => batch,
            RowsKind::Explain { verbose, .. } => explain_lines(&batch, verbose).map_err(failed)?,
        };
        if batch.num_rows() > 0 && sender.send(Message::Batch(batch)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Constants are repeated for every row of a batch, outside the memory pool: together they have to be small, unless the
/// plan has just one row.
fn check_constants(plan: &Arc<dyn ExecutionPlan>) -> Result<(), DataFusionError> {
    let mut bytes = 0u64;
    let mut has_rows = false;
    plan.apply(|node| {
        has_rows |= node.children().is_empty() && !matches!(node.name(), "PlaceholderRowExec" | "EmptyExec");
        node.apply_expressions(&mut |root| {
            root.apply(|expr| {
                if let Some(literal) = expr.downcast_ref::<Literal>() {
                    let size = literal.value().size() as u64;
                    bytes += if size > 1024 { size } else { 0 };
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if has_rows && bytes > MAX_CONSTANT_BYTES {
        return Err(SqlError::new(sqlstate::OUT_OF_MEMORY, "out of memory: the statement's constants are too large")
            .with_hint(format!("they have {bytes} bytes, the limit is {MAX_CONSTANT_BYTES}"))
            .into());
    }
    Ok(())
}

/// Of all large constants in a plan over many rows.
const MAX_CONSTANT_BYTES: u64 = 256 * 1024;

/// Postgres's one column of plan text.
fn explain_columns() -> Arc<[OutputColumn]> {
    Arc::new([OutputColumn { name: "QUERY PLAN".to_owned(), data_type: DataType::Utf8View, type_oid: wire_type::TEXT }])
}

/// The planner's `plan_type` and `plan` columns as lines of text.
fn explain_lines(batch: &RecordBatch, verbose: bool) -> Result<RecordBatch, DataFusionError> {
    let column = |index: usize| cast(batch.column(index), &DataType::Utf8View);
    let (kinds, plans) = (column(0)?, column(1)?);
    let mut lines = StringViewBuilder::new();
    for (kind, plan) in kinds.as_string_view().iter().zip(plans.as_string_view()) {
        if verbose {
            lines.append_value(format!("{}:", kind.unwrap_or_default()));
        }
        for line in plan.unwrap_or_default().lines() {
            lines.append_value(line);
        }
    }
    let schema = Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8View, false)]));
    Ok(RecordBatch::try_new(schema, vec![Arc::new(lines.finish())])?)
}
