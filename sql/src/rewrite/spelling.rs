//! Functions, types and operators under Postgres's names.

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, ObjectName, ObjectNamePart, Value,
};

use super::literal::{call, fragment, null, number, string, text};
use crate::catalog::{INFORMATION_SCHEMA, PG_CATALOG};
use crate::error::{SqlError, sqlstate};

/// Functions under another name or with other arguments.
pub(super) fn replaced_function(function: &Function) -> Option<Expr> {
    let arguments: Vec<Expr> = match &function.args {
        FunctionArguments::None => Vec::new(),
        FunctionArguments::Subquery(_) => return None,
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            })
            .collect::<Option<_>>()?,
    };
    match (last_word(&function.name).as_str(), arguments.as_slice()) {
        ("localtimestamp" | "statement_timestamp" | "transaction_timestamp" | "clock_timestamp", []) => {
            Some(call("now", vec![]))
        }
        // TimescaleDB counts buckets from Monday, 2000-01-03.
        ("time_bucket", [width, time]) => {
            Some(call("date_bin", vec![interval(width), time.clone(), fragment("TIMESTAMPTZ '2000-01-03T00:00:00Z'")?]))
        }
        ("time_bucket", [width, time, origin]) => {
            Some(call("date_bin", vec![interval(width), time.clone(), origin.clone()]))
        }
        ("date_bin", [width @ Expr::Value(_), rest @ ..]) => {
            let mut arguments = vec![interval(width)];
            arguments.extend_from_slice(rest);
            Some(call("date_bin", arguments))
        }
        ("user" | "current_role", []) => Some(call("current_user", vec![])),
        ("current_catalog", []) => Some(call("current_database", vec![])),
        ("substr" | "substring", [_, Expr::Value(value)]) if matches!(value.value, Value::SingleQuotedString(_)) => {
            let mut arguments = arguments;
            arguments.push(number(1));
            let found = call("regexp_match", arguments[..2].to_vec());
            Some(call("array_element", vec![found, number(1)]))
        }
        _ => None,
    }
}

/// A width of time given as text is an interval.
pub(super) fn interval(width: &Expr) -> Expr {
    match text(width) {
        Some(_) => Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(width.clone()),
            data_type: DataType::Interval { fields: None, precision: None },
            array: false,
            format: None,
        },
        None => width.clone(),
    }
}

/// What a cast to one of Postgres's own types becomes; `None` where the planner knows the type.
pub(super) fn cast(inner: &Expr, data_type: &DataType) -> Option<Expr> {
    let is_literal = text(inner).is_some();
    match type_word(data_type)?.as_str() {
        "regclass" if is_literal => Some(call("regclass_in", vec![inner.clone()])),
        "regclass" => Some(call("regclass_out", vec![inner.clone()])),
        "regtype" if is_literal => Some(call("regtype_in", vec![inner.clone()])),
        "regtype" => Some(call("format_type", vec![inner.clone(), null()])),
        // A function is known by its bare name.
        "regproc" | "regprocedure" if is_literal => Some(string(text(inner)?.rsplit('.').next().unwrap_or_default())),
        "regnamespace" if is_literal => Some(call("regnamespace_in", vec![inner.clone()])),
        "regnamespace" => Some(call("regnamespace_out", vec![inner.clone()])),
        "regrole" => Some(call("pg_get_userbyid", vec![inner.clone()])),
        _ => Some(Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(inner.clone()),
            data_type: plain_type(data_type)?,
            array: false,
            format: None,
        }),
    }
}

/// A type of Postgres's own under the name of one the planner has.
pub(super) fn plain_type(data_type: &DataType) -> Option<DataType> {
    if let DataType::Array(ArrayElemTypeDef::SquareBracket(inner, size)) = data_type {
        let inner = plain_type(inner)?;
        return Some(DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(inner), *size)));
    }
    Some(match type_word(data_type)?.as_str() {
        "oid" | "xid" | "cid" | "regclass" | "regtype" | "regproc" | "regnamespace" => DataType::BigInt(None),
        "int2" => DataType::SmallInt(None),
        "int4" => DataType::Integer(None),
        "int8" => DataType::BigInt(None),
        "float4" => DataType::Real,
        "float8" => DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
        "bool" => DataType::Boolean,
        "timestamptz" => DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::WithTimeZone),
        _ => DataType::Text,
    })
}

/// The type's name in lower case, without schema; `None` for types the planner understands as they are.
pub(super) fn type_word(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Custom(name, _) => Some(last_word(name)),
        DataType::Regclass => Some("regclass".to_owned()),
        DataType::JSON | DataType::JSONB => Some("json".to_owned()),
        DataType::Array(_) => Some("array".to_owned()),
        DataType::Char(_) | DataType::Character(_) | DataType::Varchar(_) | DataType::CharacterVarying(_) => {
            Some("text".to_owned())
        }
        _ => None,
    }
}

pub(super) fn operator(symbol: &str) -> Option<BinaryOperator> {
    Some(match symbol {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        ">" => BinaryOperator::Gt,
        "<=" => BinaryOperator::LtEq,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        _ => return None,
    })
}

/// A type given by name, as in PREPARE.
///
/// # Errors
/// `42704` for a type nobody knows.
pub fn type_oid(data_type: &DataType) -> Result<u32, SqlError> {
    let (data_type, is_array) = match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) => (inner.as_ref(), true),
        other => (other, false),
    };
    let text = match type_word(data_type) {
        Some(word) if matches!(data_type, DataType::Custom(..)) => word,
        _ => data_type.to_string().to_lowercase(),
    };
    let base = text.split('(').next().unwrap_or_default().trim();
    let name = match base {
        "int" | "integer" => "int4",
        "double" | "float" => "float8",
        "decimal" | "dec" => "numeric",
        "character varying" | "char varying" => "varchar",
        "character" => "bpchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "regclass" | "regtype" => "oid",
        other => other,
    };
    let found = crate::wire_type::TYPES
        .iter()
        .find(|known| known.element_oid == 0 && (known.name == name || known.sql_name == name))
        .ok_or_else(|| SqlError::new(sqlstate::UNDEFINED_OBJECT, format!("type \"{base}\" does not exist")))?;
    Ok(if is_array { found.array_oid } else { found.oid })
}

pub(super) fn strip_schema(name: &mut ObjectName) {
    let is_catalog = |part: &ObjectNamePart| {
        part.as_ident().is_some_and(|word| {
            word.value.eq_ignore_ascii_case(PG_CATALOG)
                || word.value.eq_ignore_ascii_case(INFORMATION_SCHEMA)
                || word.value.eq_ignore_ascii_case("public")
        })
    };
    if name.0.len() == 2 && is_catalog(&name.0[0]) {
        name.0.remove(0);
    }
}

pub(super) fn last_word(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|word| word.value.to_lowercase()).unwrap_or_default()
}
