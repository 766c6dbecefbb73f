//! Values for `$1`, `$2`, …: put into the statement as literals of their type before it is planned, so that they take
//! part in constant folding and pushdown, and may stand where only literals can (table functions, LIMIT).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr, LimitClause, Query, TimezoneInfo, Value, Visit,
    VisitMut, Visitor, VisitorMut,
};

use crate::error::{SqlError, sqlstate};
use crate::rewrite::{null, placeholder, string};
use crate::wire_type::{
    self, BOOL, DATE, FLOAT4, FLOAT8, INT2, INT4, INT8, INTERVAL, NUMERIC, OID, TIME, TIMESTAMP, TIMESTAMPTZ,
};

/// One value: its Postgres type (0 where the client left it open) and its text; no text is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub type_oid: u32,
    pub text: Option<String>,
}

/// Replaces every placeholder in `query` by its value.
///
/// # Errors
/// `08P01` where a value is missing, `22P02` where it is none of its type.
pub fn bind(query: &mut Query, parameters: &[Parameter]) -> Result<(), SqlError> {
    let mut literals = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        literals.push(literal(parameter)?);
    }
    struct Binder {
        literals: Vec<Expr>,
    }
    impl VisitorMut for Binder {
        type Break = SqlError;

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
            if let Some(number) = placeholder(expr) {
                match self.literals.get(number - 1) {
                    Some(literal) => *expr = literal.clone(),
                    None => {
                        return ControlFlow::Break(SqlError::new(
                            sqlstate::UNDEFINED_PARAMETER,
                            format!("there is no parameter ${number}"),
                        ));
                    }
                }
            }
            ControlFlow::Continue(())
        }
    }
    match VisitMut::visit(query, &mut Binder { literals }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Types that stand beside their placeholder: `$1::int8`, `LIMIT $2`.
pub fn stated_types(query: &Query) -> BTreeMap<usize, u32> {
    #[derive(Default)]
    struct Stated(BTreeMap<usize, u32>);
    impl Visitor for Stated {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
                let offset = offset.as_ref().map(|offset| &offset.value);
                for number in limit.iter().chain(offset).filter_map(placeholder) {
                    self.0.insert(number, INT8);
                }
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Some(number) = placeholder(expr)
                && let Ok(oid) = crate::rewrite::type_oid(data_type)
            {
                self.0.entry(number).or_insert(oid);
            }
            ControlFlow::Continue(())
        }
    }
    let mut stated = Stated::default();
    let _ = query.visit(&mut stated);
    stated.0
}

fn literal(parameter: &Parameter) -> Result<Expr, SqlError> {
    let target = sql_type(parameter.type_oid);
    let Some(text) = &parameter.text else {
        return Ok(target.map_or_else(null, |target| cast(null(), target)));
    };
    let invalid =
        |what: &str| SqlError::new(sqlstate::INVALID_TEXT, format!("invalid input syntax for type {what}: \"{text}\""));
    if let Some(array) = wire_type::find(parameter.type_oid).filter(|known| known.element_oid != 0) {
        let items = parse_array(text).ok_or_else(|| invalid(array.sql_name))?;
        let elem = items
            .into_iter()
            .map(|item| literal(&Parameter { type_oid: array.element_oid, text: item }))
            .collect::<Result<Vec<_>, _>>()?;
        let literal = Expr::Array(Array { elem, named: true });
        return Ok(match sql_type(array.element_oid) {
            Some(element) => cast(literal, DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(element), None))),
            None => literal,
        });
    }
    let trimmed = text.trim();
    match parameter.type_oid {
        BOOL => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "y" | "1" => Ok(Expr::Value(Value::Boolean(true).into())),
            "f" | "false" | "off" | "no" | "n" | "0" => Ok(Expr::Value(Value::Boolean(false).into())),
            _ => Err(invalid("boolean")),
        },
        INT2 | INT4 | INT8 | OID => {
            let value: i64 = trimmed.parse().map_err(|_| invalid("bigint"))?;
            let fits = match parameter.type_oid {
                INT2 => i16::try_from(value).is_ok(),
                INT4 => i32::try_from(value).is_ok(),
                OID => u32::try_from(value).is_ok(),
                _ => true,
            };
            if !fits {
                return Err(SqlError::new(sqlstate::NUMERIC_OUT_OF_RANGE, format!("value \"{text}\" is out of range")));
            }
            if value == i64::MIN {
                return Ok(cast(string(trimmed), DataType::BigInt(None)));
            }
            Ok(crate::rewrite::number(value))
        }
        FLOAT4 | FLOAT8 | NUMERIC => {
            let known = matches!(
                trimmed.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str(),
                "nan" | "inf" | "infinity"
            );
            if !known && trimmed.parse::<f64>().is_err() {
                return Err(invalid("double precision"));
            }
            Ok(cast(string(trimmed), DataType::Double(ExactNumberInfo::None)))
        }
        _ => Ok(target.map_or_else(|| string(text), |target| cast(string(text), target))),
    }
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// The type a literal of Postgres type `oid` is cast to; `None` for text and what is not known.
fn sql_type(oid: u32) -> Option<DataType> {
    Some(match oid {
        BOOL => DataType::Boolean,
        INT2 => DataType::SmallInt(None),
        INT4 => DataType::Integer(None),
        INT8 | OID => DataType::BigInt(None),
        FLOAT4 => DataType::Real,
        FLOAT8 | NUMERIC => DataType::Double(ExactNumberInfo::None),
        TIMESTAMP => DataType::Timestamp(None, TimezoneInfo::None),
        TIMESTAMPTZ => DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        DATE => DataType::Date,
        TIME => DataType::Time(None, TimezoneInfo::None),
        INTERVAL => DataType::Interval { fields: None, precision: None },
        _ => return None,
    })
}

/// The elements of a one-dimensional array in Postgres's text form: `{1,NULL,"a b"}`; `None` where it is none.
pub fn parse_array(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut characters = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Some(items);
    }
    loop {
        while characters.peek().is_some_and(|character| character.is_whitespace()) {
            characters.next();
        }
        let mut item = String::new();
        if characters.peek() == Some(&'"') {
            characters.next();
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => item.push(characters.next()?),
                    other => item.push(other),
                }
            }
            while characters.peek().is_some_and(|character| character.is_whitespace()) {
                characters.next();
            }
            items.push(Some(item));
        } else {
            while let Some(character) = characters.peek().copied() {
                match character {
                    ',' => break,
                    '{' | '}' | '"' => return None,
                    '\\' => {
                        characters.next();
                        item.push(characters.next()?);
                    }
                    other => {
                        characters.next();
                        item.push(other);
                    }
                }
            }
            let word = item.trim_end();
            if word.is_empty() {
                return None;
            }
            items.push((!word.eq_ignore_ascii_case("null")).then(|| word.to_owned()));
        }
        match characters.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn query(sql: &str) -> Query {
        match Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0) {
            Statement::Query(query) => *query,
            other => panic!("{other} is no query"),
        }
    }

    fn bound(sql: &str, parameters: &[(u32, Option<&str>)]) -> Result<String, &'static str> {
        let parameters: Vec<Parameter> = parameters
            .iter()
            .map(|(type_oid, text)| Parameter { type_oid: *type_oid, text: text.map(str::to_owned) })
            .collect();
        let mut query = query(sql);
        bind(&mut query, &parameters).map_err(|error| error.sqlstate)?;
        Ok(query.to_string())
    }

    #[test]
    fn values_become_literals() {
        assert_eq!(bound("SELECT $1", &[(0, Some("a'b"))]).unwrap(), "SELECT 'a''b'");
        assert_eq!(bound("SELECT $1", &[(INT4, Some("-5"))]).unwrap(), "SELECT (-5)");
        assert_eq!(bound("SELECT $1", &[(INT8, None)]).unwrap(), "SELECT CAST(NULL AS BIGINT)");
        assert_eq!(bound("SELECT $1", &[(FLOAT8, Some("NaN"))]).unwrap(), "SELECT CAST('NaN' AS DOUBLE)");
        assert_eq!(bound("SELECT $2, $1", &[(BOOL, Some("t")), (0, None)]).unwrap(), "SELECT NULL, true");
        assert_eq!(bound("SELECT x = ANY($1)", &[(1009, Some("{a,b}"))]).unwrap(), "SELECT x = ANY(ARRAY['a', 'b'])");
        assert_eq!(bound("SELECT 1 LIMIT $1", &[(INT8, Some("3"))]).unwrap(), "SELECT 1 LIMIT 3");
        assert_eq!(bound("SELECT $2", &[(0, None)]), Err(sqlstate::UNDEFINED_PARAMETER));
        assert_eq!(bound("SELECT $1", &[(INT2, Some("70000"))]), Err(sqlstate::NUMERIC_OUT_OF_RANGE));
        assert_eq!(bound("SELECT $1", &[(INT4, Some("x"))]), Err(sqlstate::INVALID_TEXT));
    }

    #[test]
    fn types_beside_placeholders_are_found() {
        let stated = stated_types(&query("SELECT $1::int8, $3::timestamptz FROM t LIMIT $2"));
        assert_eq!(stated.into_iter().collect::<Vec<_>>(), [(1, INT8), (2, INT8), (3, TIMESTAMPTZ)]);
    }

    #[test]
    fn arrays_are_parsed_as_postgres_writes_them() {
        let some = |items: &[&str]| Some(items.iter().map(|item| Some((*item).to_owned())).collect::<Vec<_>>());
        assert_eq!(parse_array("{a,b}"), some(&["a", "b"]));
        assert_eq!(parse_array("{}"), Some(vec![]));
        assert_eq!(parse_array(r#"{"a,\"b\"", c d }"#), some(&["a,\"b\"", "c d"]));
        assert_eq!(parse_array("{NULL,\"null\"}"), Some(vec![None, Some("null".to_owned())]));
        assert_eq!(parse_array("{a"), None);
        assert_eq!(parse_array("{a,}"), None);
        assert_eq!(parse_array("{{1}}"), None);
    }
}
