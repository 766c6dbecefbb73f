//! `topk`, `bottomk`, `limitk`, `limit_ratio` and `quantile`: aggregations that see all samples of a group at a step.

use std::sync::Arc;

use async_trait::async_trait;

use crate::annotations::Place;
use crate::ast::AggregateOp;
use crate::error::QueryError;
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::exec::scalar::Scalar;
use crate::grid::{Grid, GridBatch, GridBuilder, HistogramCell, Row};
use crate::kernels::{limit_ratio_keeps, quantile_cells, top_k};
use crate::series_table::{Groups, SeriesTable};

/// Steps that are turned from rows into columns at once: eight cache lines of each row.
const BLOCK_STEPS: usize = 64;

/// The rows that have samples, by group: groups and rows in the order of arrival, each group with its number.
fn grouped<'a>(grid: &'a Grid, groups: &Groups) -> Vec<(u32, Vec<Row<'a>>)> {
    let mut places: Vec<Option<usize>> = vec![None; groups.table.len()];
    let mut found: Vec<(u32, Vec<Row<'a>>)> = Vec::new();
    for row in grid.rows().filter(Row::has_samples) {
        let number = groups.group_of[row.series as usize];
        let place = *places[number as usize].get_or_insert_with(|| {
            found.push((number, Vec::new()));
            found.len() - 1
        });
        found[place].1.push(row);
    }
    found
}

/// An aggregation that keeps some of the series of each group at each step.
#[derive(Debug)]
pub(crate) struct Rank {
    pub op: AggregateOp,
    /// `k`, or the ratio.
    pub param: Scalar,
    pub groups: Groups,
    pub input: Arc<SeriesTable>,
    pub width: usize,
    /// Whether the result keeps the order of ranks, as in an instant query.
    pub ordered: bool,
    /// Where the aggregation stands.
    pub place: Place,
}

impl Rank {
    fn is_by_value(&self) -> bool {
        matches!(self.op, AggregateOp::Topk | AggregateOp::Bottomk)
    }

    /// Marks which of a group's rows stay at which steps; with one step also says in which order.
    fn rank_by_value(&self, rows: &[Row<'_>], keep: &mut [Vec<bool>], scratch: &mut Scratch) {
        let largest = self.op == AggregateOp::Topk;
        let Scratch { columns, order } = scratch;
        columns.resize_with(BLOCK_STEPS.min(self.width), Vec::new);
        for block in (0..self.width).step_by(BLOCK_STEPS) {
            let steps = block..(block + BLOCK_STEPS).min(self.width);
            columns.iter_mut().for_each(Vec::clear);
            for (index, row) in rows.iter().enumerate() {
                for step in steps.clone().filter(|step| row.valid[*step]) {
                    columns[step - block].push((index as u32, row.values[step]));
                }
            }
            for step in steps {
                let k = as_count(self.param.at(step), rows.len());
                if k == 0 {
                    continue;
                }
                top_k(k, largest, &columns[step - block], order);
                order.iter().for_each(|index| keep[*index as usize][step] = true);
            }
        }
    }

    fn limit(&self, rows: &[Row<'_>], keep: &mut [Vec<bool>]) {
        let mut taken = vec![0_usize; self.width];
        for (row, keep) in rows.iter().zip(keep) {
            for step in (0..self.width).filter(|step| row.is_present(*step)) {
                if taken[step] < as_count(self.param.at(step), usize::MAX) {
                    taken[step] += 1;
                    keep[step] = true;
                }
            }
        }
    }

    fn sample_ratio(&self, rows: &[Row<'_>], keep: &mut [Vec<bool>]) {
        for (row, keep) in rows.iter().zip(keep) {
            let labels = &self.input.labels()[row.series as usize];
            for step in (0..self.width).filter(|step| row.is_present(*step)) {
                let ratio = self.param.at(step);
                // Kept by sign before clamping: a ratio of zero keeps nothing.
                keep[step] = ratio != 0.0 && limit_ratio_keeps(ratio.clamp(-1.0, 1.0), labels);
            }
        }
    }
}

/// Memory that groups use in turn.
#[derive(Default)]
struct Scratch {
    /// Per step of a block the rows with a sample.
    columns: Vec<Vec<(u32, f64)>>,
    /// Rows that stay at the step looked at last, best first.
    order: Vec<u32>,
}

/// `k` as a number of series: below 1 none, and never more than `limit`.
fn as_count(k: f64, limit: usize) -> usize {
    if k >= 1.0 { (k as usize).min(limit) } else { 0 }
}

#[async_trait]
impl GridOperator for Rank {
    fn name(&self) -> &'static str {
        "RankExec"
    }

    fn arguments(&self) -> String {
        format!("{}({}), groups={}", self.op.name(), self.param.describe(), self.groups.table.len())
    }

    async fn run(&self, inputs: Vec<GridStream>, query: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let mut out = GridBuilder::new(self.width, 0);
        for input in inputs {
            let grid = input.collect().await?;
            let ranked = |(step, _): &HistogramCell| self.param.at(*step as usize) >= 1.0;
            if self.is_by_value() && grid.rows().any(|row| row.histograms.iter().any(ranked)) {
                query.note(|notes| notes.histogram_ignored_in_aggregation(self.op.name(), self.place));
            }
            let mut scratch = Scratch::default();
            for (_, rows) in grouped(&grid, &self.groups) {
                query.check()?;
                let mut keep = vec![vec![false; self.width]; rows.len()];
                scratch.order.clear();
                match self.op {
                    AggregateOp::Limitk => self.limit(&rows, &mut keep),
                    AggregateOp::LimitRatio => self.sample_ratio(&rows, &mut keep),
                    _ => self.rank_by_value(&rows, &mut keep, &mut scratch),
                }
                match (self.ordered, self.is_by_value()) {
                    (true, true) => {}
                    (true, false) => heap_order(&rows, &keep, &mut scratch.order),
                    (false, _) => scratch.order = (0..rows.len() as u32).collect(),
                }
                for index in scratch.order.iter().map(|index| *index as usize) {
                    emit_kept(rows[index], &keep[index], self.is_by_value(), &mut out);
                }
            }
        }
        Ok(vec![out.finish()])
    }
}

/// The order in which `limitk` and `limit_ratio` answer an instant query. Prometheus puts what it keeps on a heap by value,
/// histograms as 0, and returns it as the heap lies; sums over it are taken in that order.
fn heap_order(rows: &[Row<'_>], keep: &[Vec<bool>], order: &mut Vec<u32>) {
    let value = |index: u32| match rows[index as usize] {
        row if row.valid[0] => row.values[0],
        _ => 0.0,
    };
    order.clear();
    for index in (0..rows.len() as u32).filter(|index| keep[*index as usize].contains(&true)) {
        order.push(index);
        let mut child = order.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            let (own, above) = (value(order[child]), value(order[parent]));
            if !(own.is_nan() || own < above) {
                break;
            }
            order.swap(child, parent);
            child = parent;
        }
    }
}

/// Appends the cells of `row` at the steps in `keep`.
fn emit_kept(row: Row<'_>, keep: &[bool], floats_only: bool, out: &mut GridBuilder) {
    if !keep.contains(&true) {
        return;
    }
    let (values, valid) = out.push(row.series);
    for step in (0..keep.len()).filter(|step| keep[*step] && row.valid[*step]) {
        (values[step], valid[step]) = (row.values[step], true);
    }
    if !floats_only && !row.histograms.is_empty() {
        let kept: Vec<HistogramCell> =
            row.histograms.iter().filter(|(step, _)| keep[*step as usize]).cloned().collect();
        out.set_histograms(kept);
    }
    out.drop_empty();
}

/// `quantile(φ, v)`
#[derive(Debug)]
pub(crate) struct QuantileAggregation {
    pub quantile: Scalar,
    pub groups: Groups,
    pub width: usize,
    /// Where the aggregated expression stands.
    pub place: Place,
}

#[async_trait]
impl GridOperator for QuantileAggregation {
    fn name(&self) -> &'static str {
        "QuantileExec"
    }

    fn arguments(&self) -> String {
        format!("{}, groups={}", self.quantile.describe(), self.groups.table.len())
    }

    async fn run(&self, inputs: Vec<GridStream>, query: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let mut out = GridBuilder::new(self.width, self.groups.table.len());
        for input in inputs {
            let grid = input.collect().await?;
            if grid.rows().any(|row| !row.histograms.is_empty()) {
                query.note(|notes| notes.histogram_ignored_in_aggregation("quantile", self.place));
            }
            for (number, rows) in grouped(&grid, &self.groups) {
                query.check()?;
                let rows: Vec<(&[f64], &[bool])> = rows.iter().map(|row| (row.values, row.valid)).collect();
                let (values, valid) = out.push(number);
                quantile_cells(self.quantile.param(), &rows, values, valid);
                out.drop_empty();
            }
        }
        Ok(vec![out.finish()])
    }
}
