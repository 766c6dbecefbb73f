//! The planner's state for one statement.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::DateTime;
use datafusion::catalog::TableFunction;
use datafusion::config::Dialect;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion::prelude::SessionConfig;
use pilaster_promql::Engine;

use crate::catalog::{DATABASE, Databases, PUBLIC, Snapshot};
use crate::functions::{self, ConcatPlanner};
use crate::pg_functions;
use crate::promql_function::PromqlFunction;
use crate::settings::Settings;
use crate::statement::RowsKind;
use crate::stop::StopRule;

/// Functions that are the same in every statement, made once.
#[derive(Clone)]
pub struct Functions {
    scalar: Arc<[Arc<ScalarUDF>]>,
    aggregate: Arc<[Arc<AggregateUDF>]>,
    window: Arc<[Arc<WindowUDF>]>,
    higher_order: Arc<[Arc<HigherOrderUDF>]>,
    /// `generate_series` and `range`: they make rows as they are asked for.
    table: Arc<HashMap<String, Arc<TableFunction>>>,
    planners: Arc<[Arc<dyn ExprPlanner>]>,
}

impl Functions {
    pub fn new() -> Functions {
        let mut planners: Vec<Arc<dyn ExprPlanner>> =
            vec![Arc::new(ConcatPlanner::new()), Arc::new(DatetimeFunctionPlanner)];
        planners.extend(SessionStateDefaults::default_expr_planners());
        // The table functions come only with a whole default session.
        let defaults = SessionContext::new();
        let mut table = defaults.state().table_functions().clone();
        table.retain(|name, _| name == "generate_series" || name == "range");
        Functions {
            scalar: functions::scalar_functions().into(),
            aggregate: SessionStateDefaults::default_aggregate_functions().into(),
            window: SessionStateDefaults::default_window_functions().into(),
            higher_order: SessionStateDefaults::default_higher_order_functions().into(),
            table: Arc::new(table),
            planners: planners.into(),
        }
    }
}

/// Half the planner's default: what one wide row costs, a batch costs this many times.
const BATCH_ROWS: usize = 4096;

/// Everything the planner may use for one statement of this session over `snapshot`.
pub fn state(
    functions: &Functions,
    environment: Arc<RuntimeEnv>,
    engine: Arc<Engine>,
    snapshot: &Arc<Snapshot>,
    settings: &Arc<Settings>,
    partitions: usize,
    kind: RowsKind,
) -> SessionState {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(DATABASE, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(partitions.max(1));
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".to_owned());
    options.sql_parser.dialect = Dialect::PostgreSQL;
    // Positions of unknown names, for psql's caret.
    options.sql_parser.collect_spans = true;
    options.explain.physical_plan_only = kind == RowsKind::Explain { analyze: false, verbose: false };
    let mut scalar = functions.scalar.to_vec();
    scalar.extend(pg_functions::session_functions(snapshot, settings));
    let mut table = functions.table.as_ref().clone();
    let promql = PromqlFunction { engine, snapshot: Arc::clone(snapshot) };
    table.insert("promql".to_owned(), Arc::new(TableFunction::new("promql".to_owned(), Arc::new(promql))));
    let props = ExecutionProps::new().with_query_execution_start_time(
        DateTime::from_timestamp_millis(snapshot.now_ms).unwrap_or(DateTime::UNIX_EPOCH),
    );
    SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(environment)
        .with_catalog_list(Arc::new(Databases::new(Arc::clone(snapshot))))
        .with_expr_planners(functions.planners.to_vec())
        .with_scalar_functions(scalar)
        .with_aggregate_functions(functions.aggregate.to_vec())
        .with_window_functions(functions.window.to_vec())
        .with_higher_order_functions(functions.higher_order.to_vec())
        .with_table_functions(table)
        .with_execution_props(props)
        .with_physical_optimizer_rule(Arc::new(StopRule { stop: Arc::clone(&snapshot.stop) }))
        .build()
}
