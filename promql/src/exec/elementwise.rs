//! Functions and operators that look at one cell at a time.

use crate::annotations::Place;
use crate::ast::BinaryOp;
use crate::error::QueryError;
use crate::exec::histogram_cells;
use crate::exec::plan::BatchOperator;
use crate::exec::query_state::QueryState;
use crate::exec::scalar::Scalar;
use crate::grid::{GridBatch, GridBuilder, HistogramCell, Steps};
use crate::kernels::{self, Operand, UnaryFunction};

/// A function of the value alone. Histograms disappear; only negation knows them.
#[derive(Debug)]
pub(crate) struct Unary {
    pub function: UnaryFunction,
}

impl BatchOperator for Unary {
    fn name(&self) -> &'static str {
        "UnaryExec"
    }

    fn arguments(&self) -> String {
        format!("{:?}", self.function).to_lowercase()
    }

    fn apply(&self, batch: GridBatch, _: &QueryState) -> Result<GridBatch, QueryError> {
        let mut cells = vec![0.0; batch.cells().len()];
        kernels::unary(self.function, batch.cells(), &mut cells);
        if self.function == UnaryFunction::Neg && batch.has_histograms() {
            return Ok(batch.with_cells(cells).map_histograms(histogram_cells::negated));
        }
        Ok(batch.with_cells(cells).without_histograms())
    }
}

/// `round(v, to)`
#[derive(Debug)]
pub(crate) struct Round {
    pub to_nearest: Scalar,
}

/// `clamp(v, min, max)` and its halves.
#[derive(Debug)]
pub(crate) struct Clamp {
    pub min: Scalar,
    pub max: Scalar,
}

/// Copies the floats of `batch` and lets `change` work on each row.
fn map_float_rows(batch: &GridBatch, mut change: impl FnMut(&mut [f64], &mut [bool])) -> GridBatch {
    let mut out = GridBuilder::new(batch.width(), batch.row_count());
    for row in batch.rows() {
        let (values, valid) = out.push(row.series);
        values.copy_from_slice(row.values);
        valid.copy_from_slice(row.valid);
        change(values, valid);
    }
    out.finish()
}

impl BatchOperator for Round {
    fn name(&self) -> &'static str {
        "RoundExec"
    }

    fn arguments(&self) -> String {
        format!("to={}", self.to_nearest.describe())
    }

    fn apply(&self, batch: GridBatch, _: &QueryState) -> Result<GridBatch, QueryError> {
        Ok(map_float_rows(&batch, |values, _| kernels::round(values, self.to_nearest.param())))
    }
}

impl BatchOperator for Clamp {
    fn name(&self) -> &'static str {
        "ClampExec"
    }

    fn arguments(&self) -> String {
        format!("min={}, max={}", self.min.describe(), self.max.describe())
    }

    fn apply(&self, batch: GridBatch, _: &QueryState) -> Result<GridBatch, QueryError> {
        let (min, max) = (self.min.param(), self.max.param());
        Ok(map_float_rows(&batch, |values, valid| kernels::clamp(values, valid, min, max)))
    }
}

/// `timestamp(v)` of anything but a selector: the evaluation time, in seconds, where there is a sample.
#[derive(Debug)]
pub(crate) struct EvaluationTime {
    pub steps: Steps,
}

impl BatchOperator for EvaluationTime {
    fn name(&self) -> &'static str {
        "TimestampExec"
    }

    fn arguments(&self) -> String {
        String::new()
    }

    fn apply(&self, batch: GridBatch, _: &QueryState) -> Result<GridBatch, QueryError> {
        let mut out = GridBuilder::new(batch.width(), batch.row_count());
        for row in batch.rows() {
            let (values, valid) = out.push(row.series);
            valid.copy_from_slice(row.valid);
            for (step, _) in row.histograms {
                valid[*step as usize] = true;
            }
            for (step, value) in values.iter_mut().enumerate() {
                *value = self.steps.at(step) as f64 / 1000.0;
            }
        }
        Ok(out.finish())
    }
}

/// Keeps floats only: `sort` in a range query, and functions whose other work is done elsewhere.
#[derive(Debug)]
pub(crate) struct FloatsOnly;

impl BatchOperator for FloatsOnly {
    fn name(&self) -> &'static str {
        "FloatsExec"
    }

    fn arguments(&self) -> String {
        String::new()
    }

    fn apply(&self, batch: GridBatch, _: &QueryState) -> Result<GridBatch, QueryError> {
        Ok(batch.without_histograms())
    }
}

/// Keeps nothing: a function that has no result for its argument.
#[derive(Debug)]
pub(crate) struct Nothing;

impl BatchOperator for Nothing {
    fn name(&self) -> &'static str {
        "EmptyExec"
    }

    fn arguments(&self) -> String {
        String::new()
    }

    fn apply(&self, batch: GridBatch, _: &QueryState) -> Result<GridBatch, QueryError> {
        Ok(GridBuilder::new(batch.width(), 0).finish())
    }
}

/// A binary operator between a vector and a scalar.
#[derive(Debug)]
pub(crate) struct VectorScalar {
    pub op: BinaryOp,
    pub scalar: Scalar,
    /// The scalar stands on the left.
    pub scalar_first: bool,
    pub return_bool: bool,
    pub place: Place,
}

impl BatchOperator for VectorScalar {
    fn name(&self) -> &'static str {
        "VectorScalarExec"
    }

    fn arguments(&self) -> String {
        let (op, scalar) = (self.op.symbol(), self.scalar.describe());
        if self.scalar_first { format!("{scalar} {op} v") } else { format!("v {op} {scalar}") }
    }

    fn apply(&self, batch: GridBatch, query: &QueryState) -> Result<GridBatch, QueryError> {
        let trims = matches!(self.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        let plain = !batch.has_histograms() && !trims && !self.op.is_comparison();
        if let Some(scalar) = self.scalar.as_const().filter(|_| plain) {
            // All rows in one call.
            let mut cells = vec![0.0; batch.cells().len()];
            let (vector, scalar) = (Operand::Cells(batch.cells()), Operand::Scalar(scalar));
            let (left, right) = if self.scalar_first { (scalar, vector) } else { (vector, scalar) };
            kernels::arithmetic(self.op, left, right, &mut cells);
            return Ok(batch.with_cells(cells));
        }
        let mut out = GridBuilder::new(batch.width(), batch.row_count());
        for row in batch.rows() {
            let (values, valid) = out.push(row.series);
            valid.copy_from_slice(row.valid);
            let (vector, scalar) = (Operand::Cells(row.values), self.scalar.operand());
            let (left, right) = if self.scalar_first { (scalar, vector) } else { (vector, scalar) };
            if trims {
                if valid.contains(&true) {
                    let op = self.op.symbol();
                    query.note(|notes| notes.incompatible_types("float", op, "float", self.place));
                }
                valid.fill(false);
            } else if !self.op.is_comparison() {
                kernels::arithmetic(self.op, left, right, values);
            } else if self.return_bool {
                kernels::compare_bool(self.op, left, right, values);
            } else {
                let mut keep = vec![false; valid.len()];
                kernels::compare(self.op, left, right, &mut keep);
                values.copy_from_slice(row.values);
                valid.iter_mut().zip(&keep).for_each(|(valid, keep)| *valid &= keep);
            }
            if !row.histograms.is_empty() {
                let histograms = self.histograms(row.histograms, query);
                out.set_histograms(histograms);
            }
            out.drop_empty();
        }
        Ok(out.finish())
    }
}

impl VectorScalar {
    fn histograms(&self, cells: &[HistogramCell], query: &QueryState) -> Vec<HistogramCell> {
        let mut out = Vec::new();
        for (step, histogram) in cells {
            let scalar = self.scalar.at(*step as usize);
            let result = if self.scalar_first {
                histogram_cells::float_with_histogram(self.op, scalar, histogram)
            } else {
                histogram_cells::histogram_with_float(self.op, histogram, scalar)
            };
            match result {
                Some(result) => out.push((*step, result)),
                None => {
                    let (left, right) = if self.scalar_first { ("float", "histogram") } else { ("histogram", "float") };
                    query.note(|notes| notes.incompatible_types(left, self.op.symbol(), right, self.place));
                }
            }
        }
        out
    }
}
