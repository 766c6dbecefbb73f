//! SET in its forms.

use datafusion::sql::sqlparser::ast::{ContextModifier, Expr, Set, Value};

use super::{Command, SetValue, plain_name, unsupported};
use crate::error::{SqlError, sqlstate};

pub(super) fn classify_set(set: Set) -> Result<Command, SqlError> {
    match set {
        Set::SingleAssignment { scope, hivevar: false, variable, values } => {
            let name = plain_name(&variable);
            let is_local = matches!(scope, Some(ContextModifier::Local));
            let texts: Vec<String> = values.iter().map(set_text).collect::<Result<_, _>>()?;
            let is_default = matches!(values.as_slice(), [Expr::Identifier(word)]
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"));
            let value = if is_default { SetValue::Default } else { SetValue::Text(texts.join(", ")) };
            Ok(Command::Set { name, value, is_local })
        }
        Set::SetTimeZone { local, value } => {
            Ok(Command::Set { name: "TimeZone".to_owned(), value: SetValue::Text(set_text(&value)?), is_local: local })
        }
        Set::SetNames { charset_name, .. } => Ok(Command::Set {
            name: "client_encoding".to_owned(),
            value: SetValue::Text(charset_name.value),
            is_local: false,
        }),
        Set::SetNamesDefault {} => {
            Ok(Command::Set { name: "client_encoding".to_owned(), value: SetValue::Default, is_local: false })
        }
        Set::SetTransaction { .. } => Ok(Command::NoEffect("SET")),
        Set::SetRole { role_name: None, .. } => Ok(Command::NoEffect("SET")),
        Set::SetSessionAuthorization(_) | Set::SetRole { .. } => {
            Err(SqlError::new(sqlstate::INSUFFICIENT_PRIVILEGE, "permission denied to set role"))
        }
        _ => Err(unsupported("this form of SET")),
    }
}

/// The text of one value of a SET: a word, a string or a number.
fn set_text(value: &Expr) -> Result<String, SqlError> {
    match value {
        Expr::Identifier(word) => Ok(word.value.clone()),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Ok(text.clone())
            }
            Value::Number(number, _) => Ok(number.clone()),
            Value::Boolean(value) => Ok(if *value { "on" } else { "off" }.to_owned()),
            Value::Placeholder(_) => {
                Err(SqlError::new(sqlstate::SYNTAX_ERROR, "syntax error: SET takes no parameters"))
            }
            other => Ok(other.to_string()),
        },
        Expr::UnaryOp { .. } => Ok(value.to_string()),
        Expr::Interval(interval) => Ok(interval.to_string()),
        Expr::CompoundIdentifier(_) => Ok(value.to_string()),
        _ => Err(unsupported("an expression in SET")),
    }
}
