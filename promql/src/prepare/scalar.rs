//! Scalar expressions, computed while preparing.

use futures::future::BoxFuture;

use crate::ast::{BinaryOp, Expr, ExprKind, Function};
use crate::error::QueryError;
use crate::exec::scalar::Scalar;
use crate::grid::{Grid, Row};
use crate::kernels::{self, go_max, go_min};
use crate::prepare::invariance::is_step_invariant;
use crate::prepare::{Evaluation, Preparer};

impl Preparer {
    /// The values of a scalar expression at the steps of `evaluation`.
    pub fn scalar<'a>(&'a self, expr: &'a Expr, evaluation: Evaluation) -> BoxFuture<'a, Result<Scalar, QueryError>> {
        Box::pin(async move {
            let count = evaluation.steps.count;
            Ok(match &expr.kind {
                ExprKind::Number(value) | ExprKind::DurationLiteral(value) => Scalar::Const(*value),
                ExprKind::Paren(inner) => self.scalar(inner, evaluation).await?,
                ExprKind::Unary { negative, expr: inner } => {
                    let value = self.scalar(inner, evaluation).await?;
                    if *negative { value.zip(&Scalar::Const(0.0), count, |value, _| -value) } else { value }
                }
                ExprKind::Binary(binary) => {
                    let left = self.scalar(&binary.left, evaluation).await?;
                    let right = self.scalar(&binary.right, evaluation).await?;
                    if matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
                        let text = format!("operator {:?} not allowed for Scalar operations", binary.op.symbol());
                        return Err(QueryError::execution(text));
                    }
                    left.zip(&right, count, |left, right| kernels::scalar(binary.op, left, right))
                }
                ExprKind::Call { function, args } => self.scalar_call(function, args, evaluation).await?,
                ExprKind::String(_)
                | ExprKind::VectorSelector(_)
                | ExprKind::MatrixSelector { .. }
                | ExprKind::Subquery { .. }
                | ExprKind::Aggregate(_) => {
                    let found = expr.value_type().describe();
                    return Err(QueryError::BadData(format!("expected a scalar, got {found}")));
                }
            })
        })
    }

    async fn scalar_call(
        &self,
        function: &Function,
        args: &[Expr],
        evaluation: Evaluation,
    ) -> Result<Scalar, QueryError> {
        let steps = evaluation.steps;
        Ok(match (function.name, args) {
            ("pi", _) => Scalar::Const(std::f64::consts::PI),
            ("start", _) => Scalar::Const(self.range.start_ms as f64 / 1000.0),
            ("end", _) => Scalar::Const(self.range.end_ms as f64 / 1000.0),
            ("step", _) => Scalar::Const(self.range.step_seconds()),
            ("range", _) => Scalar::Const(self.range.range_seconds()),
            ("time", _) => Scalar::from_steps((0..steps.count).map(|step| steps.at(step) as f64 / 1000.0).collect()),
            ("min_of" | "max_of", [left, right]) => {
                let left = self.scalar(left, evaluation).await?;
                let right = self.scalar(right, evaluation).await?;
                let pick = if function.name == "min_of" { go_min } else { go_max };
                left.zip(&right, steps.count, pick)
            }
            ("scalar", [vector]) => {
                if evaluation.is_range && is_step_invariant(vector, &self.range) {
                    let grid = self.collect(self.vector(vector, self.once(evaluation)).await?).await?;
                    return Ok(Scalar::Const(single_value(&grid, 0)));
                }
                let grid = self.collect(self.vector(vector, evaluation).await?).await?;
                self.query.release_samples(grid.sample_count());
                Scalar::from_steps((0..steps.count).map(|step| single_value(&grid, step)).collect())
            }
            (name, _) => {
                return Err(QueryError::Unsupported(format!("function {name} is not supported as a scalar")));
            }
        })
    }
}

/// The only float at `step`, NaN where there is none or several.
fn single_value(grid: &Grid, step: usize) -> f64 {
    let mut floats = grid.rows().filter(|row: &Row<'_>| row.valid[step]).map(|row| row.values[step]);
    match (floats.next(), floats.next()) {
        (Some(value), None) => value,
        _ => f64::NAN,
    }
}
