//! Expressions over several lines, as `/api/v1/format_query` shows them.

use crate::ast::{Expr, ExprKind};
use crate::printer::{AggregateHead, BinaryHead, SubquerySuffix};

/// An expression longer than this, in bytes, is split.
const MAX_LINE_BYTES: usize = 100;

/// `expr` laid out over lines with indentation of two spaces a level. Source: Prometheus `parser.Prettify`.
pub fn pretty(expr: &Expr) -> String {
    layout(expr, 0)
}

fn layout(expr: &Expr, level: usize) -> String {
    let indent = "  ".repeat(level);
    let line = expr.to_string();
    let fits = line.len() <= MAX_LINE_BYTES;
    match &expr.kind {
        ExprKind::Unary { negative, expr } => {
            let sign = if *negative { '-' } else { '+' };
            format!("{indent}{sign}{}", layout(expr, level).trim())
        }
        // Prometheus does not indent a subquery that fits.
        ExprKind::Subquery { .. } if fits => line,
        ExprKind::Subquery { expr, range, step, modifiers } => {
            let suffix = SubquerySuffix { range, step: step.as_ref(), modifiers };
            format!("{}{suffix}", layout(expr, level))
        }
        ExprKind::Aggregate(aggregate) if !fits => {
            let param = aggregate.param.as_ref().map(|param| format!("{},\n", layout(param, level + 1)));
            let inner = layout(&aggregate.expr, level + 1);
            format!("{indent}{}(\n{}{inner}\n{indent})", AggregateHead(aggregate), param.unwrap_or_default())
        }
        ExprKind::Call { function, args } if !fits => {
            let args: Vec<String> = args.iter().map(|arg| layout(arg, level + 1)).collect();
            format!("{indent}{}(\n{}\n{indent})", function.name, args.join(",\n"))
        }
        ExprKind::Binary(binary) if !fits => {
            let (left, right) = (layout(&binary.left, level + 1), layout(&binary.right, level + 1));
            format!("{left}\n{indent}{}\n{right}", BinaryHead(binary))
        }
        ExprKind::Paren(inner) if !fits => format!("{indent}(\n{}\n{indent})", layout(inner, level + 1)),
        ExprKind::Number(_)
        | ExprKind::DurationLiteral(_)
        | ExprKind::String(_)
        | ExprKind::VectorSelector(_)
        | ExprKind::MatrixSelector { .. }
        | ExprKind::Call { .. }
        | ExprKind::Aggregate(_)
        | ExprKind::Binary(_)
        | ExprKind::Paren(_) => format!("{indent}{line}"),
    }
}
