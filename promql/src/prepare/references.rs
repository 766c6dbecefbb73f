//! The times that the selectors in an expression read at, and whether they are one.

use crate::ast::{Expr, ExprKind, ValueType};
use crate::error::QueryError;
use crate::prepare::times::{Pin, QueryRange};

/// What the vectors in an expression are made of.
#[derive(Default)]
struct References {
    /// Of each selector, the subqueries around it included.
    pins: Vec<Pin>,
    /// Some vector has no selector in it.
    some_free: bool,
}

/// Where all selectors in `expr` read at the same time, and no vector in it is without one, that time.
///
/// Scalars do not count, nor does what `info` is told to look for.
///
/// # Errors
/// Where an offset is no duration.
pub(super) fn shared_pin(expr: &Expr, range: &QueryRange) -> Result<Option<Pin>, QueryError> {
    let mut references = References::default();
    references.find(expr, None, range)?;
    let Some((first, rest)) = references.pins.split_first() else { return Ok(None) };
    let shared = !references.some_free && rest.iter().all(|pin| pin.same_times(*first));
    Ok(shared.then_some(*first))
}

impl References {
    /// Returns whether there is a selector in `expr`, which stands in subqueries of the time `outer`.
    fn find(&mut self, expr: &Expr, outer: Option<Pin>, range: &QueryRange) -> Result<bool, QueryError> {
        if matches!(expr.value_type(), ValueType::Scalar | ValueType::String) {
            return Ok(false);
        }
        let inside = |own: Pin| match (own.at_ms, outer) {
            (None, Some(outer)) => Pin { offset_ms: own.offset_ms.saturating_add(outer.offset_ms), at_ms: outer.at_ms },
            (None, None) | (Some(_), _) => own,
        };
        let (mut children, mut outer_of_children) = (expr.children(), outer);
        match &expr.kind {
            ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
                self.pins.push(inside(range.pin(&selector.modifiers)?));
                return Ok(true);
            }
            ExprKind::Call { function, .. } if function.name == "info" => children.truncate(1),
            ExprKind::Subquery { modifiers, .. } => outer_of_children = Some(inside(range.pin(modifiers)?)),
            ExprKind::Number(_)
            | ExprKind::DurationLiteral(_)
            | ExprKind::String(_)
            | ExprKind::Call { .. }
            | ExprKind::Aggregate(_)
            | ExprKind::Binary(_)
            | ExprKind::Unary { .. }
            | ExprKind::Paren(_) => {}
        }
        let mut any = false;
        for child in children {
            any |= self.find(child, outer_of_children, range)?;
        }
        self.some_free |= !any;
        Ok(any)
    }
}
