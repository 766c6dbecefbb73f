//! Types: which expression may stand where, and what vector matching may say.

use super::quote::quote;
use super::{Problem, Read};
use crate::ast::{AggregateOp, Binary, Cardinality, Expr, ExprKind, Function, ValueType, VectorSelector};
use pilaster_model::METRIC_NAME;

/// The first type error of `expr`, in the order in which Prometheus visits it.
///
/// Takes away the matching of operators that do not stand between vectors.
pub fn check(expr: &mut Expr, text: &str) -> Result<(), Problem> {
    Checker { text }.check(expr, EmptyMatch::Refused).map(|_| ())
}

/// Whether a selector may match every series.
#[derive(Clone, Copy, PartialEq)]
enum EmptyMatch {
    Refused,
    /// The second argument of `info`.
    Allowed,
}

struct Checker<'a> {
    text: &'a str,
}

fn fail<T>(at: usize, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { at, message: message.into(), read: Read::upto(0) })
}

impl Checker<'_> {
    fn check(&self, expr: &mut Expr, empty: EmptyMatch) -> Result<ValueType, Problem> {
        let at = expr.span.start;
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::DurationLiteral(_) | ExprKind::String(_) => {}
            ExprKind::Paren(inner) => {
                self.check(inner, EmptyMatch::Refused)?;
            }
            ExprKind::Unary { expr: inner, .. } => {
                let inner = self.check(inner, EmptyMatch::Refused)?;
                if !matches!(inner, ValueType::Scalar | ValueType::InstantVector) {
                    let got = quote(inner.describe());
                    return fail(
                        at,
                        format!(
                            "unary expression only allowed on expressions of type scalar or instant vector, got {got}"
                        ),
                    );
                }
            }
            ExprKind::Subquery { expr: inner, .. } => {
                let inner = self.check(inner, EmptyMatch::Refused)?;
                if inner != ValueType::InstantVector {
                    return fail(
                        at,
                        format!("subquery is only allowed on instant vector, got {} instead", inner.name()),
                    );
                }
            }
            ExprKind::MatrixSelector { selector, .. } => check_selector(selector, at, EmptyMatch::Refused)?,
            ExprKind::VectorSelector(selector) => check_selector(selector, at, empty)?,
            ExprKind::Aggregate(aggregate) => {
                self.expect(&mut aggregate.expr, ValueType::InstantVector, "aggregation expression")?;
                if let Some(param) = &mut aggregate.param {
                    let wanted =
                        if aggregate.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
                    self.expect(param, wanted, "aggregation parameter")?;
                }
            }
            ExprKind::Call { function, args } => self.check_call(at, function, args)?,
            ExprKind::Binary(binary) => self.check_binary(at, binary)?,
        }
        Ok(expr.value_type())
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, place: &str) -> Result<(), Problem> {
        self.expect_or(expr, wanted, place, EmptyMatch::Refused)
    }

    fn expect_or(&self, expr: &mut Expr, wanted: ValueType, place: &str, empty: EmptyMatch) -> Result<(), Problem> {
        let got = self.check(expr, empty)?;
        if got == wanted {
            return Ok(());
        }
        fail(expr.span.start, format!("expected type {} in {place}, got {}", wanted.describe(), got.describe()))
    }

    fn check_call(&self, at: usize, function: &Function, args: &mut [Expr]) -> Result<(), Problem> {
        let (name, wanted, got) = (quote(function.name), function.args.len(), args.len());
        if function.variadic == 0 {
            if wanted != got {
                return fail(at, format!("expected {wanted} argument(s) in call to {name}, got {got}"));
            }
        } else {
            let least = wanted - 1;
            if got < least {
                return fail(at, format!("expected at least {least} argument(s) in call to {name}, got {got}"));
            }
            if let Ok(extra) = usize::try_from(function.variadic)
                && got > least + extra
            {
                let most = least + extra;
                return fail(at, format!("expected at most {most} argument(s) in call to {name}, got {got}"));
            }
        }
        let place = format!("call to function {name}");
        let is_info = function.name == "info";
        if let (true, Some(selector)) = (is_info, args.get(1)) {
            let got = selector.value_type();
            if got != ValueType::InstantVector {
                return fail(at, format!("expected type instant vector in {place}, got {}", got.describe()));
            }
            match &selector.kind {
                ExprKind::VectorSelector(selector) if selector.name.is_none() => {}
                ExprKind::VectorSelector(_) => {
                    return fail(selector.span.start, "expected label selectors only, got vector selector instead");
                }
                _ => return fail(selector.span.start, "expected label selectors only"),
            }
        }
        for (index, arg) in args.iter_mut().enumerate() {
            let empty = if is_info && index == 1 { EmptyMatch::Allowed } else { EmptyMatch::Refused };
            let wanted = function.args[index.min(wanted - 1)];
            self.expect_or(arg, wanted, &place, empty)?;
        }
        Ok(())
    }

    fn check_binary(&self, at: usize, binary: &mut Binary) -> Result<(), Problem> {
        let left = self.check(&mut binary.left, EmptyMatch::Refused)?;
        let right = self.check(&mut binary.right, EmptyMatch::Refused)?;
        let op = binary.op;
        let op_at = self.operator_position(binary);
        if binary.return_bool && !op.is_comparison() {
            return fail(op_at, "bool modifier can only be used on comparison operators");
        }
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        if op.is_comparison() && !binary.return_bool && scalars {
            return fail(op_at, "comparisons between scalars must use BOOL modifier");
        }
        if let Some(matching) = &binary.matching
            && matching.on
            && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
        {
            return fail(op_at, format!("label {} must not occur in ON and GROUP clause at once", quote(label)));
        }
        for (side, value_type) in [(&binary.left, left), (&binary.right, right)] {
            if !matches!(value_type, ValueType::Scalar | ValueType::InstantVector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return fail(side.span.start, message);
            }
        }
        let vectors = left == ValueType::InstantVector && right == ValueType::InstantVector;
        if let Some(matching) = &binary.matching {
            let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
            if !vectors {
                if !matching.labels.is_empty() {
                    return fail(at, "vector matching only allowed between instant vectors");
                }
                if fills {
                    return fail(at, "filling in missing series only allowed between instant vectors");
                }
            } else if op.is_set() {
                if matching.cardinality != Cardinality::ManyToMany {
                    return fail(at, format!("no grouping allowed for {} operation", quote(op.symbol())));
                }
                if fills {
                    return fail(at, "filling in missing series not allowed for set operators");
                }
            }
        }
        if op.is_set() && !vectors {
            let op = quote(op.symbol());
            return fail(at, format!("set operator {op} not allowed in binary scalar expression"));
        }
        if !vectors {
            binary.matching = None;
        }
        Ok(())
    }

    /// Where the operator stands: behind the left side, white space skipped.
    fn operator_position(&self, binary: &Binary) -> usize {
        let end = binary.left.span.end;
        let rest = &self.text[end..];
        end + rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len()
    }
}

fn check_selector(selector: &VectorSelector, at: usize, empty: EmptyMatch) -> Result<(), Problem> {
    if let Some(name) = &selector.name {
        // The first matcher is the name's own.
        return match selector.matchers.iter().skip(1).find(|matcher| matcher.name() == METRIC_NAME) {
            Some(other) => {
                let (name, other) = (quote(name), quote(other.value()));
                fail(at, format!("metric name must not be set twice: {name} or {other}"))
            }
            None => Ok(()),
        };
    }
    if empty == EmptyMatch::Refused && selector.matchers.iter().all(|matcher| matcher.matches_empty()) {
        return fail(at, "vector selector must contain at least one non-empty matcher");
    }
    Ok(())
}
