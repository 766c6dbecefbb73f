//! From plans to values: runs a query's plans and gathers their rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::common::HashMap;
use pilaster_model::Labels;

use crate::ast::{ExprKind, ValueType};
use crate::engine::output::{MatrixSeries, QueryValue, Value, VectorSample};
use crate::engine::{Execution, samples};
use crate::error::QueryError;
use crate::exec::plan::GridStream;
use crate::grid::{Row, Steps};
use crate::prepare::node::Node;
use crate::prepare::{Evaluation, unwrap_parens};
use crate::series_table::SeriesTable;

/// Cells of a leaf above which a smaller tile is tried: a cell takes 9 bytes, and some operators hold all of them.
const TILE_CELLS: usize = 1 << 25;

/// Below this a smaller tile costs more than it saves.
const SMALLEST_TILE: usize = 64;

impl Execution {
    pub(super) async fn instant_value(&self, at_ms: i64, evaluation: Evaluation) -> Result<QueryValue, QueryError> {
        let expr = unwrap_parens(&self.expr);
        match expr.value_type() {
            ValueType::Scalar => {
                let value = self.preparer.scalar(expr, evaluation).await?.at(0);
                Ok(QueryValue::Scalar { timestamp_ms: at_ms, value })
            }
            ValueType::String => match &expr.kind {
                ExprKind::String(value) => Ok(QueryValue::String { timestamp_ms: at_ms, value: value.clone() }),
                _ => Err(QueryError::BadData("expected a string".to_owned())),
            },
            ValueType::RangeVector => samples::range_vector(&self.preparer, expr, evaluation).await,
            ValueType::InstantVector => {
                let node = self.preparer.vector(expr, evaluation).await?;
                let (mut stream, table) = self.run(self.preparer.finish_names(node))?;
                let mut vector = Vec::new();
                while let Some(batch) = stream.next().await? {
                    for row in batch.rows() {
                        let value = match row.histogram(0) {
                            _ if row.valid[0] => Value::Float(row.values[0]),
                            Some(histogram) => Value::Histogram(Arc::clone(histogram)),
                            None => continue,
                        };
                        let labels = table.labels()[row.series as usize].clone();
                        vector.push(VectorSample { labels, timestamp_ms: at_ms, value });
                    }
                }
                Ok(QueryValue::Vector(vector))
            }
        }
    }

    /// Evaluates tile by tile.
    pub(super) async fn range_value(&self, steps: Steps, tile: usize) -> Result<QueryValue, QueryError> {
        let expr = unwrap_parens(&self.expr);
        let is_range = steps.end_ms() != steps.start_ms;
        let mut tile = tile.max(1);
        let mut first = 0;
        // A leaf that is too large may make smaller tiles of one.
        let mut matrix = MatrixBuilder::of_tiles();
        while first < steps.count {
            let count = tile.min(steps.count - first);
            let part = Steps { start_ms: steps.at(first), count, ..steps };
            let evaluation = Evaluation::new(part, is_range, self.preparer.query.outermost_counts());
            if expr.value_type() == ValueType::Scalar {
                let scalar = self.preparer.scalar(expr, evaluation).await?;
                let points = (0..count).map(|step| (part.at(step), scalar.at(step)));
                matrix.series(&Labels::empty()).points.extend(points);
                self.preparer.query.hold_samples(count)?;
                first += count;
                continue;
            }
            self.preparer.largest_leaf.store(0, Ordering::Relaxed);
            self.preparer.selections.lock().clear();
            let node = self.preparer.vector(expr, evaluation).await?;
            // Counts are those of a plan for all steps.
            let divisible = evaluation.counts.is_none() && count > SMALLEST_TILE;
            if divisible && self.preparer.largest_leaf.load(Ordering::Relaxed) > TILE_CELLS {
                tile = (count / 2).max(SMALLEST_TILE);
                continue;
            }
            if count == steps.count {
                matrix = MatrixBuilder::default();
            }
            first += count;
            let mut node = self.preparer.finish_names(node);
            // The matrix is sorted in the end.
            node.reorder();
            let (mut stream, table) = self.run(node)?;
            while let Some(batch) = stream.next().await? {
                for row in batch.rows().filter(Row::has_samples) {
                    matrix.add(&table.labels()[row.series as usize], row, part);
                }
            }
        }
        Ok(QueryValue::Matrix(matrix.finish()))
    }

    /// Starts a plan whose table has the labels that leave the query.
    fn run(&self, node: Node) -> Result<(GridStream, Arc<SeriesTable>), QueryError> {
        let table = Arc::clone(&node.table);
        Ok((self.preparer.start(node)?, table))
    }
}

/// Puts the rows of all tiles together by labels.
#[derive(Default)]
pub(super) struct MatrixBuilder {
    /// Empty with one tile: then every row is a series of its own.
    numbers: HashMap<Labels, usize>,
    several_tiles: bool,
    series: Vec<MatrixSeries>,
}

impl MatrixBuilder {
    /// For rows from more than one tile.
    pub fn of_tiles() -> MatrixBuilder {
        MatrixBuilder { several_tiles: true, ..MatrixBuilder::default() }
    }

    fn series(&mut self, labels: &Labels) -> &mut MatrixSeries {
        let next = self.series.len();
        let number = if self.several_tiles { *self.numbers.entry(labels.clone()).or_insert(next) } else { next };
        if number == next {
            self.series.push(MatrixSeries { labels: labels.clone(), points: Vec::new(), histograms: Vec::new() });
        }
        &mut self.series[number]
    }

    pub fn add(&mut self, labels: &Labels, row: Row<'_>, steps: Steps) {
        let series = self.series(labels);
        let cells = || row.values.iter().zip(row.valid).enumerate();
        let count = row.valid.iter().filter(|valid| **valid).count();
        series.points.reserve_exact(count);
        if count == row.valid.len() {
            series.points.extend(cells().map(|(step, (value, _))| (steps.at(step), *value)));
        } else {
            let present = cells().filter(|(_, (_, valid))| **valid);
            series.points.extend(present.map(|(step, (value, _))| (steps.at(step), *value)));
        }
        let histograms =
            row.histograms.iter().map(|(step, histogram)| (steps.at(*step as usize), Arc::clone(histogram)));
        series.histograms.extend(histograms);
    }

    /// Ascending by labels.
    pub fn finish(mut self) -> Vec<MatrixSeries> {
        if !self.series.is_sorted_by(|a, b| a.labels <= b.labels) {
            self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        self.series
    }
}
