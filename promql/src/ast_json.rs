//! Expressions as JSON, as `/api/v1/parse_query` shows them to the query builder of the web interface.

use pilaster_model::{METRIC_NAME, Matcher};
use serde_json::{Value, json};

use crate::ast::{
    At, Cardinality, Duration, DurationExpr, DurationExprKind, Expr, ExprKind, Modifiers, SelectorExtension, ValueType,
    VectorMatching, VectorSelector,
};
use crate::parser::quote::lossy;
use crate::printer::format_number;

/// The tree of `expr`. Source: Prometheus `web/api/v1/translate_ast.go`.
pub fn ast_json(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(value) | ExprKind::DurationLiteral(value) => {
            json!({"type": "numberLiteral", "val": format_number(*value)})
        }
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": lossy(text)}),
        ExprKind::VectorSelector(selector) => selector_json("vectorSelector", selector),
        ExprKind::MatrixSelector { selector, range } => {
            let mut value = selector_json("matrixSelector", selector);
            value["range"] = literal_ms(Some(range));
            value["rangeExpr"] = expression(Some(range));
            value
        }
        ExprKind::Subquery { expr, range, step, modifiers } => {
            let value = json!({
                "type": "subquery",
                "range": literal_ms(Some(range)),
                "step": literal_ms(step.as_ref()),
            });
            let inner = [
                ("expr", ast_json(expr)),
                ("rangeExpr", expression(Some(range))),
                ("stepExpr", expression(step.as_ref())),
            ];
            let mut value = with(value, inner);
            add_modifiers(&mut value, modifiers);
            value
        }
        ExprKind::Call { function, args } => {
            let value = json!({
                "type": "call",
                "func": {
                    "name": function.name,
                    "argTypes": function.args.iter().copied().map(ValueType::name).collect::<Vec<_>>(),
                    "variadic": function.variadic,
                    "returnType": function.returns.name(),
                },
            });
            with(value, [("args", Value::Array(args.iter().map(ast_json).collect()))])
        }
        ExprKind::Aggregate(aggregate) => {
            let value = json!({
                "type": "aggregation",
                "op": aggregate.op.name(),
                "grouping": aggregate.labels,
                "without": aggregate.without,
            });
            let param = aggregate.param.as_deref().map_or(Value::Null, ast_json);
            with(value, [("expr", ast_json(&aggregate.expr)), ("param", param)])
        }
        ExprKind::Binary(binary) => {
            let value = json!({
                "type": "binaryExpr",
                "op": binary.op.symbol(),
                "matching": binary.matching.as_ref().map(matching_json),
                "bool": binary.return_bool,
            });
            with(value, [("lhs", ast_json(&binary.left)), ("rhs", ast_json(&binary.right))])
        }
        ExprKind::Unary { negative, expr } => {
            let value = json!({"type": "unaryExpr", "op": if *negative { "-" } else { "+" }});
            with(value, [("expr", ast_json(expr))])
        }
        ExprKind::Paren(inner) => with(json!({"type": "parenExpr"}), [("expr", ast_json(inner))]),
    }
}

/// An object with more members, which are moved into it: `json!` would copy them, at every level again.
fn with<const N: usize>(mut object: Value, members: [(&str, Value); N]) -> Value {
    for (name, value) in members {
        object[name] = value;
    }
    object
}

fn selector_json(kind: &str, selector: &VectorSelector) -> Value {
    // Prometheus appends the name that stands before the braces behind the other matchers.
    let (name, others) = match (&selector.name, selector.matchers.split_first()) {
        (Some(_), Some((name, others))) if name.name() == METRIC_NAME => (Some(name), others),
        _ => (None, selector.matchers.as_slice()),
    };
    let matcher_json = |matcher: &Matcher| json!({"name": matcher.name(), "value": lossy(matcher.value()), "type": matcher.op().symbol()});
    let mut value = json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or(""),
        "matchers": others.iter().chain(name).map(matcher_json).collect::<Vec<_>>(),
        "anchored": selector.extension == Some(SelectorExtension::Anchored),
        "smoothed": selector.extension == Some(SelectorExtension::Smoothed),
    });
    add_modifiers(&mut value, &selector.modifiers);
    value
}

fn add_modifiers(value: &mut Value, modifiers: &Modifiers) {
    value["offset"] = literal_ms(modifiers.offset.as_ref());
    value["offsetExpr"] = expression(modifiers.offset.as_ref());
    value["timestamp"] = match modifiers.at {
        Some(At::Timestamp(ms)) => json!(ms),
        Some(At::Start | At::End) | None => Value::Null,
    };
    value["startOrEnd"] = match modifiers.at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        Some(At::Timestamp(_)) | None => Value::Null,
    };
}

/// Milliseconds; 0 for what is absent or computed.
fn literal_ms(duration: Option<&Duration>) -> Value {
    match duration {
        Some(Duration::Literal(ms)) => json!(ms),
        Some(Duration::Expr(_)) | None => json!(0),
    }
}

fn expression(duration: Option<&Duration>) -> Value {
    match duration {
        Some(Duration::Expr(expr)) => duration_json(expr, false),
        Some(Duration::Literal(_)) | None => Value::Null,
    }
}

fn duration_json(expr: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, lhs: Value, rhs: Value| {
        with(json!({"type": "durationExpr", "op": op, "wrapped": wrapped}), [("lhs", lhs), ("rhs", rhs)])
    };
    let inner = |expr: &DurationExpr| duration_json(expr, false);
    match &expr.kind {
        DurationExprKind::Number(value) => {
            json!({"type": "numberLiteral", "val": format_number(*value), "duration": false})
        }
        DurationExprKind::Literal(value) => {
            json!({"type": "numberLiteral", "val": format_number(*value), "duration": true})
        }
        DurationExprKind::Step => node("step", Value::Null, Value::Null),
        DurationExprKind::Range => node("range", Value::Null, Value::Null),
        DurationExprKind::Plus(operand) => node("+", Value::Null, inner(operand)),
        DurationExprKind::Negate(operand) => node("-", Value::Null, inner(operand)),
        DurationExprKind::Paren(operand) => duration_json(operand, true),
        DurationExprKind::Binary { op, left, right } => node(op.symbol(), inner(left), inner(right)),
        DurationExprKind::Min(left, right) => node("min_of", inner(left), inner(right)),
        DurationExprKind::Max(left, right) => node("max_of", inner(left), inner(right)),
    }
}

fn matching_json(matching: &VectorMatching) -> Value {
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": {"lhs": matching.fill_left.map(number_json), "rhs": matching.fill_right.map(number_json)},
    })
}

/// A whole number without `.0`, as Go writes it.
fn number_json(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT { json!(value as i64) } else { json!(value) }
}
