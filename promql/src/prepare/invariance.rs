//! Which expressions give the same value at every step, because `@` pins all of their selectors.

use crate::ast::{Expr, ExprKind};
use crate::prepare::references::shared_pin;
use crate::prepare::times::QueryRange;

/// Functions whose result depends on the evaluation time even where their arguments do not.
const TIME_DEPENDENT: [&str; 16] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "start_timestamp",
    "step",
    "time",
    "timestamp",
    "year",
];

/// The expression without the parentheses around it.
pub(crate) fn unwrap_parens(mut expr: &Expr) -> &Expr {
    while let ExprKind::Paren(inner) = &expr.kind {
        expr = inner;
    }
    expr
}

/// Whether one evaluation serves all steps. Source: `preprocessExprHelper`, Prometheus 3.15 `promql/engine.go`.
pub(super) fn is_step_invariant(expr: &Expr, range: &QueryRange) -> bool {
    let invariant = |expr: &Expr| is_step_invariant(expr, range);
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::DurationLiteral(_) | ExprKind::String(_) => true,
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
            selector.modifiers.at.is_some()
        }
        ExprKind::Subquery { modifiers, .. } => modifiers.at.is_some(),
        ExprKind::Aggregate(aggregate) => invariant(&aggregate.expr),
        ExprKind::Binary(binary) => invariant(&binary.left) && invariant(&binary.right),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => invariant(expr),
        ExprKind::Call { function, args } => match function.name {
            // Constants of the query, whatever the step.
            "start" | "end" | "range" | "step" => true,
            // Where its selectors disagree, labels are looked up at each step. What it looks for is no vector.
            "info" => {
                args.first().is_some_and(|vector| invariant(vector) && matches!(shared_pin(vector, range), Ok(Some(_))))
            }
            "timestamp" => args.iter().all(|arg| {
                let arg = unwrap_parens(arg);
                matches!(arg.kind, ExprKind::VectorSelector(_)) && invariant(arg)
            }),
            name => !TIME_DEPENDENT.contains(&name) && args.iter().all(invariant),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParseOptions, parse};

    #[test]
    fn pinned_expressions_do_not_depend_on_the_step() {
        let range = QueryRange { start_ms: 0, end_ms: 60_000, step_ms: 15_000 };
        let invariant = |text: &str| is_step_invariant(&parse(text, &ParseOptions::all()).expect(text), &range);
        for text in [
            "x @ 5",
            "sum(rate(x[5m] @ start())) + 1",
            "timestamp(x @ 5)",
            "max_over_time(x[5m:1m] @ 5)",
            "vector(end())",
            "-(x @ 5)",
            "info(x @ 6 offset 1s or y @ 5, {a=\"b\"})",
        ] {
            assert!(invariant(text), "{text}");
        }
        for text in [
            "x",
            "x @ 5 + x",
            "timestamp(abs(x @ 5))",
            "predict_linear(x[5m] @ 5, 60)",
            "vector(time())",
            "max_over_time((x @ 5)[5m:1m])",
            "hour()",
            "info(x @ 5 or y @ 6)",
            "info(x @ 5 or vector(1))",
        ] {
            assert!(!invariant(text), "{text}");
        }
    }
}
