//! Literals and calls: reading them and making them.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// The text of a string literal, through parentheses.
pub fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => value_text(value),
        Expr::Nested(inner) => text(inner),
        _ => None,
    }
}

pub(super) fn value_text(value: &datafusion::sql::sqlparser::ast::ValueWithSpan) -> Option<String> {
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
        _ => None,
    }
}

/// The text of an expression made of literals: casts to text and `||` included.
pub(super) fn constant_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Cast { expr, data_type: DataType::Text | DataType::Varchar(_), .. } => constant_text(expr),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            Some(constant_text(left)? + &constant_text(right)?)
        }
        Expr::Nested(inner) => constant_text(inner),
        other => text(other),
    }
}

/// A LIKE pattern with another escape character, written with backslashes.
pub(super) fn with_backslashes(pattern: &str, escape: &str) -> String {
    let mut rewritten = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if escape.starts_with(character) {
            rewritten.push('\\');
            rewritten.extend(characters.next());
        } else if character == '\\' {
            rewritten.push_str("\\\\");
        } else {
            rewritten.push(character);
        }
    }
    rewritten
}

pub fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

pub fn string(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).into())
}

pub fn number(value: i64) -> Expr {
    let digits = Expr::Value(Value::Number(value.unsigned_abs().to_string(), false).into());
    if value < 0 {
        Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(digits) }))
    } else {
        digits
    }
}

/// A call of one of the functions the planner knows.
pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// Text of our own as an expression.
pub(super) fn fragment(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}
