//! A prepared part of a query: its output series, and the plan that makes their cells.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use crate::exec::beside::{BesideExec, BesideOperator};
use crate::exec::memory::GridExec;
use crate::exec::merge::SeriesMergeExec;
use crate::exec::plan::{BatchOperator, GatherExec, GridOperator, OperatorChain, StreamExec};
use crate::exec::select::{Select, SelectExec};
use crate::grid::GridBatch;
use crate::series_table::SeriesTable;

/// Where a node's batches come from before its operators.
#[derive(Debug)]
enum Input {
    Leaf { select: Arc<Select>, partitions: usize },
    Plan(Arc<dyn ExecutionPlan>),
}

/// Batch operators are collected and packed into one plan, or into the leaf, when something needs the plan.
#[derive(Debug)]
pub(crate) struct Node {
    pub table: Arc<SeriesTable>,
    /// Steps per row.
    pub width: usize,
    input: Input,
    operators: OperatorChain,
}

impl Node {
    pub fn leaf(select: Select, partitions: usize) -> Node {
        let (table, width) = (Arc::clone(&select.table), select.width);
        let input = Input::Leaf { select: Arc::new(select), partitions };
        Node { table, width, input, operators: OperatorChain::default() }
    }

    /// Rows that are known already.
    pub fn known(batches: Vec<GridBatch>, table: Arc<SeriesTable>, width: usize, origin: &str) -> Node {
        let plan = Arc::new(GridExec::new(batches, width, origin.to_owned()));
        Node { table, width, input: Input::Plan(plan), operators: OperatorChain::default() }
    }

    /// No series.
    pub fn empty(width: usize) -> Node {
        Node::known(Vec::new(), Arc::new(SeriesTable::default()), width, "nothing")
    }

    pub fn gather(
        operator: impl GridOperator + 'static,
        inputs: Vec<Node>,
        table: Arc<SeriesTable>,
        width: usize,
    ) -> Node {
        let inputs = inputs.into_iter().map(Node::into_single).collect();
        let plan = Arc::new(GatherExec::new(Arc::new(operator), inputs, width));
        Node { table, width, input: Input::Plan(plan), operators: OperatorChain::default() }
    }

    /// Lets the batches of `passing` pass beside all of `whole`.
    pub fn beside(
        operator: impl BesideOperator + 'static,
        passing: Node,
        whole: Node,
        table: Arc<SeriesTable>,
        width: usize,
    ) -> Node {
        let plan = BesideExec::new(Arc::new(operator), passing.into_plan(), whole.into_single(), width);
        Node { table, width, input: Input::Plan(Arc::new(plan)), operators: OperatorChain::default() }
    }

    /// Lets rows come in the order that costs least, for who does not mind. Returns whether they would have ascended by
    /// series and do not any more.
    pub fn reorder(&mut self) -> bool {
        let Input::Leaf { select, .. } = &mut self.input else { return false };
        let Some(select) = Arc::get_mut(select) else { return false };
        select.order = select.selection.reading_order();
        select.order.is_some()
    }

    /// Appends an operator that keeps the width.
    pub fn then(self, operator: impl BatchOperator + 'static) -> Node {
        let width = self.width;
        self.then_wide(operator, width)
    }

    /// Appends an operator that puts out rows of `width`.
    pub fn then_wide(mut self, operator: impl BatchOperator + 'static, width: usize) -> Node {
        self.operators.0.push(Arc::new(operator));
        self.width = width;
        self
    }

    pub fn with_table(self, table: Arc<SeriesTable>) -> Node {
        Node { table, ..self }
    }

    pub fn into_plan(self) -> Arc<dyn ExecutionPlan> {
        match self.input {
            Input::Leaf { select, partitions } => {
                Arc::new(SelectExec::new(select, self.operators, self.width, partitions))
            }
            Input::Plan(plan) if self.operators.0.is_empty() => plan,
            Input::Plan(plan) => Arc::new(StreamExec::new(self.operators, plan, self.width)),
        }
    }

    /// A plan with one partition, its rows in order.
    pub fn into_single(self) -> Arc<dyn ExecutionPlan> {
        SeriesMergeExec::wrap(self.into_plan())
    }
}
