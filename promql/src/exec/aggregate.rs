//! `sum`, `avg`, `count`, `group`, `min`, `max`, `stddev`, `stdvar`: one accumulator per group over all steps.
//!
//! Rows are added in an order that does not depend on partitions, so a group's floating-point sum does not either. Groups come
//! out in the order of their first rows, as in Prometheus: an aggregation over them adds them in that order.

use std::sync::Arc;

use async_trait::async_trait;

use crate::annotations::Place;
use crate::ast::AggregateOp;
use crate::error::QueryError;
use crate::exec::histogram_aggregate::HistogramColumn;
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::grid::{GridBatch, GridBuilder, Row};
use crate::kernels::{Accumulator, FloatAggregate};
use crate::series_table::{Groups, SeriesTable};

/// An aggregation without parameter.
#[derive(Debug)]
pub(crate) struct Aggregation {
    op: AggregateOp,
    float_op: FloatAggregate,
    groups: Groups,
    input: Arc<SeriesTable>,
    width: usize,
    /// Where the aggregated expression stands.
    place: Place,
    reordered: bool,
}

/// The kernel's operator, for the aggregations that have one.
pub(crate) fn float_aggregate(op: AggregateOp) -> Option<FloatAggregate> {
    match op {
        AggregateOp::Sum => Some(FloatAggregate::Sum),
        AggregateOp::Avg => Some(FloatAggregate::Avg),
        AggregateOp::Count => Some(FloatAggregate::Count),
        AggregateOp::Group => Some(FloatAggregate::Group),
        AggregateOp::Min => Some(FloatAggregate::Min),
        AggregateOp::Max => Some(FloatAggregate::Max),
        AggregateOp::Stddev => Some(FloatAggregate::Stddev),
        AggregateOp::Stdvar => Some(FloatAggregate::Stdvar),
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Quantile
        | AggregateOp::CountValues
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => None,
    }
}

/// One group while its rows arrive.
struct Group {
    number: u32,
    /// The lowest of its series that has samples.
    first_series: u32,
    floats: Accumulator,
    /// Present once a row with histograms came, for `sum` and `avg`.
    histograms: Option<Box<HistogramColumn>>,
}

impl Aggregation {
    pub fn new(
        op: AggregateOp,
        float_op: FloatAggregate,
        groups: Groups,
        input: Arc<SeriesTable>,
        width: usize,
        place: Place,
    ) -> Aggregation {
        Aggregation { op, float_op, groups, input, width, place, reordered: false }
    }

    /// Where rows come in another order than they would have, which was that of their series, groups come out as if they
    /// had not.
    pub fn of_reordered(self, reordered: bool) -> Aggregation {
        Aggregation { reordered, ..self }
    }

    fn add(&self, group: &mut Group, row: Row<'_>, query: &QueryState) {
        if row.histograms.is_empty() {
            group.floats.add(row.values, row.valid);
            return;
        }
        match self.float_op {
            FloatAggregate::Count | FloatAggregate::Group => {
                let mut present = row.valid.to_vec();
                row.histograms.iter().for_each(|(step, _)| present[*step as usize] = true);
                group.floats.add(row.values, &present);
            }
            FloatAggregate::Sum | FloatAggregate::Avg => {
                group.floats.add(row.values, row.valid);
                let column = group.histograms.get_or_insert_with(|| {
                    Box::new(HistogramColumn::new(self.float_op == FloatAggregate::Avg, self.width))
                });
                let name = self.input.metric_name(row.series);
                column.add(row.histograms, name, self.place, query);
            }
            FloatAggregate::Min | FloatAggregate::Max | FloatAggregate::Stddev | FloatAggregate::Stdvar => {
                group.floats.add(row.values, row.valid);
                query.note(|notes| notes.histogram_ignored_in_aggregation(self.op.name(), self.place));
            }
        }
    }
}

#[async_trait]
impl GridOperator for Aggregation {
    fn name(&self) -> &'static str {
        "AggregateExec"
    }

    fn arguments(&self) -> String {
        format!("{}, groups={} of series={}", self.op.name(), self.groups.table.len(), self.input.len())
    }

    async fn run(&self, mut inputs: Vec<GridStream>, query: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        // Positions in `groups` of the groups that have a row.
        let mut places: Vec<Option<usize>> = vec![None; self.groups.table.len()];
        let mut groups: Vec<Group> = Vec::new();
        for input in &mut inputs {
            while let Some(batch) = input.next().await? {
                for row in batch.rows() {
                    let number = self.groups.group_of[row.series as usize];
                    let place = match places[number as usize] {
                        Some(place) => place,
                        None if !row.has_samples() => continue,
                        None => {
                            places[number as usize] = Some(groups.len());
                            let floats = Accumulator::new(self.float_op, self.width);
                            groups.push(Group { number, first_series: row.series, floats, histograms: None });
                            groups.len() - 1
                        }
                    };
                    let group = &mut groups[place];
                    if self.reordered && row.series < group.first_series && row.has_samples() {
                        group.first_series = row.series;
                    }
                    self.add(group, row, query);
                }
            }
        }
        if self.reordered {
            groups.sort_unstable_by_key(|group| group.first_series);
        }
        let mut out = GridBuilder::new(self.width, groups.len());
        for group in groups {
            let (values, valid) = out.push(group.number);
            group.floats.finish(values, valid);
            if let Some(column) = group.histograms {
                let histograms = column.finish(valid, self.place, query);
                out.set_histograms(histograms);
            }
            out.drop_empty();
        }
        Ok(vec![out.finish()])
    }
}
