//! Which error a query ends with where several of its parts fail.
//!
//! Prometheus evaluates the parts of an expression one after the other, each at all steps, and ends with the first error.
//! Here parts run side by side and steps in tiles, so that any of them may fail first. A query that has failed is
//! therefore asked part by part, in Prometheus's order, before it says why.

use futures::future::BoxFuture;

use crate::ast::{AggregateOp, Expr, ExprKind, ValueType};
use crate::engine::Execution;
use crate::error::QueryError;
use crate::grid::Steps;
use crate::prepare::{Evaluation, Preparer, Taker, unwrap_parens};

impl Execution {
    /// The error of a query that failed with `error`.
    pub(super) async fn first_error(&self, steps: Steps, tile: usize, error: QueryError) -> QueryError {
        self.preparer.first_error(&self.expr, steps, tile, error).await
    }
}

impl Preparer {
    /// The error of the first part of `expr` that fails by itself at `steps`, else `error`, that of the whole.
    fn first_error<'a>(
        &'a self,
        expr: &'a Expr,
        steps: Steps,
        tile: usize,
        error: QueryError,
    ) -> BoxFuture<'a, QueryError> {
        Box::pin(async move {
            if !matches!(error, QueryError::Execution(_)) {
                return error;
            }
            if checks_strings_first(expr)
                && let Err(own) = self.varying(expr, self.evaluation(Steps { count: 0, ..steps })).await
            {
                return own;
            }
            for part in parts(expr) {
                let Ok((part, steps)) = self.inner(part, steps) else { return error };
                // Selectors and literals fail in ways only that end the query at once.
                if part.children().is_empty() {
                    continue;
                }
                match self.run_to_end(part, steps, tile).await {
                    Ok(()) => {}
                    Err(first @ QueryError::Execution(_)) => return self.first_error(part, steps, tile, first).await,
                    // No time is left to find out.
                    Err(_) => return error,
                }
            }
            error
        })
    }

    /// What of `part` is evaluated, and where: of a subquery, the expression inside.
    fn inner<'a>(&self, part: &'a Expr, steps: Steps) -> Result<(&'a Expr, Steps), QueryError> {
        match &unwrap_parens(part).kind {
            ExprKind::Subquery { expr, range, step, modifiers } => {
                let evaluation = self.evaluation(steps);
                let subquery = self.subquery(range, step.as_ref(), modifiers, Taker::Function, evaluation)?;
                Ok((expr, subquery.inner.steps))
            }
            _ => Ok((part, steps)),
        }
    }

    fn evaluation(&self, steps: Steps) -> Evaluation {
        Evaluation::new(steps, steps.count > 1, None)
    }

    /// Evaluates `expr` for its error only, tile by tile.
    async fn run_to_end(&self, expr: &Expr, steps: Steps, tile: usize) -> Result<(), QueryError> {
        let anew = self.anew();
        for first in (0..steps.count).step_by(tile.max(1)) {
            let part = Steps { start_ms: steps.at(first), count: tile.min(steps.count - first), ..steps };
            let evaluation = Evaluation { is_range: steps.count > 1, ..anew.evaluation(part) };
            match expr.value_type() {
                ValueType::Scalar => drop(anew.scalar(expr, evaluation).await?),
                ValueType::InstantVector => {
                    let mut stream = anew.start(anew.vector(expr, evaluation).await?)?;
                    while let Some(batch) = stream.next().await? {
                        anew.query.release_samples(batch.sample_count());
                    }
                }
                ValueType::RangeVector | ValueType::String => {}
            }
        }
        Ok(())
    }
}

/// What Prometheus evaluates before `expr` itself, in its order.
fn parts(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => {
            let param = aggregate.param.as_deref().filter(|_| aggregate.op != AggregateOp::CountValues);
            param.into_iter().chain([&*aggregate.expr]).collect()
        }
        // The rest of its arguments is looked up, not evaluated.
        ExprKind::Call { function, args } if function.name == "info" => args.iter().take(1).collect(),
        ExprKind::Call { args, .. } => {
            let is_subquery = |arg: &&Expr| matches!(unwrap_parens(arg).kind, ExprKind::Subquery { .. });
            args.iter().filter(is_subquery).chain(args.iter().filter(|arg| !is_subquery(arg))).collect()
        }
        _ => expr.children(),
    }
}

/// Whether strings among its arguments are checked before its vector is evaluated.
fn checks_strings_first(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => aggregate.op == AggregateOp::CountValues,
        ExprKind::Call { function, .. } => matches!(function.name, "label_replace" | "label_join"),
        _ => false,
    }
}
