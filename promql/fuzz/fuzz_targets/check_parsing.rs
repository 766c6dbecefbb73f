//! What must hold for any text, whoever makes it up: the fuzzer, or the test that mutates the queries of scripts.

use pilaster_promql::ast::{Duration, DurationExprKind, Expr, ExprKind};
use pilaster_promql::ast_json::ast_json;
use pilaster_promql::parser::{ParseOptions, parse};
use pilaster_promql::pretty::pretty;

/// Parsing `text` does not panic, and what parses prints to text that parses and prints the same.
pub fn check_parsing(text: &str) {
    let options = ParseOptions::all();
    let Ok(expr) = parse(text, &options) else { return };
    let _ = ast_json(&expr);
    if has_sum_as_offset(&expr) {
        return;
    }
    // Matchers are printed in order, so the trees themselves may differ.
    for printed in [expr.to_string(), pretty(&expr)] {
        let again = parse(&printed, &options).unwrap_or_else(|error| panic!("{text:?} as {printed:?}: {error}"));
        assert_eq!(again.to_string(), expr.to_string(), "{text:?} printed as {printed:?}");
    }
}

/// Whether an offset reads on behind its parentheses: `x offset (24) + 5` is `x offset (24 + 5)`. It is printed as
/// `x offset 24 + 5`, which adds to `x`; so does Prometheus.
fn has_sum_as_offset(expr: &Expr) -> bool {
    let modifiers = match &expr.kind {
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => Some(&selector.modifiers),
        ExprKind::Subquery { modifiers, .. } => Some(modifiers),
        _ => None,
    };
    let is_sum = |offset: &Duration| match offset {
        Duration::Expr(expr) => matches!(expr.kind, DurationExprKind::Binary { .. }),
        Duration::Literal(_) => false,
    };
    modifiers.and_then(|modifiers| modifiers.offset.as_ref()).is_some_and(is_sum)
        || expr.children().into_iter().any(has_sum_as_offset)
}
