//! What can go wrong with a statement, in Postgres's terms.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

/// A refused or failed statement. `sqlstate` is what the caller can act on: see `sqlstate`'s constants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// Five characters, as in Postgres's appendix A.
    pub sqlstate: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// Position of the offending word in the statement's text, in characters, from 1.
    pub position: Option<usize>,
}

/// The codes this crate answers with.
pub mod sqlstate {
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const DATA_EXCEPTION: &str = "22000";
    pub const NUMERIC_OUT_OF_RANGE: &str = "22003";
    pub const INVALID_DATETIME: &str = "22007";
    pub const DATETIME_OVERFLOW: &str = "22008";
    pub const DIVISION_BY_ZERO: &str = "22012";
    pub const INVALID_PARAMETER: &str = "22023";
    pub const INVALID_TEXT: &str = "22P02";
    pub const INVALID_BINARY: &str = "22P03";
    pub const NO_TRANSACTION: &str = "25P01";
    pub const READ_ONLY: &str = "25006";
    pub const ABORTED_TRANSACTION: &str = "25P02";
    pub const UNDEFINED_STATEMENT: &str = "26000";
    pub const UNDEFINED_CURSOR: &str = "34000";
    pub const INVALID_SCHEMA: &str = "3F000";
    pub const SYNTAX_ERROR: &str = "42601";
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    pub const UNDEFINED_COLUMN: &str = "42703";
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const TYPE_MISMATCH: &str = "42804";
    pub const GROUPING_ERROR: &str = "42803";
    pub const UNDEFINED_FUNCTION: &str = "42883";
    pub const UNDEFINED_PARAMETER: &str = "42P02";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const DUPLICATE_CURSOR: &str = "42P03";
    pub const DUPLICATE_STATEMENT: &str = "42P05";
    pub const CANT_CHANGE_RUNTIME_PARAM: &str = "55P02";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const LIMIT_EXCEEDED: &str = "54000";
    pub const TOO_COMPLEX: &str = "54001";
    pub const TOO_MANY_COLUMNS: &str = "54011";
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    pub const QUERY_CANCELED: &str = "57014";
    pub const SYSTEM_ERROR: &str = "58000";
    pub const IO_ERROR: &str = "58030";
    pub const INTERNAL: &str = "XX000";
}

impl SqlError {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> SqlError {
        SqlError { sqlstate, message: message.into(), hint: None, position: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(mut self, position: Option<usize>) -> SqlError {
        self.position = position;
        self
    }

    /// Postgres's wording for a statement that would write.
    pub(crate) fn read_only(command: &str) -> SqlError {
        SqlError::new(sqlstate::READ_ONLY, format!("cannot execute {command} in a read-only transaction"))
    }

    pub(crate) fn parse(error: &ParserError, sql: &str) -> SqlError {
        match error {
            ParserError::RecursionLimitExceeded => {
                SqlError::new(sqlstate::TOO_COMPLEX, "statement is nested too deeply")
            }
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                let (message, position) = split_location(text, sql);
                SqlError::new(sqlstate::SYNTAX_ERROR, format!("syntax error: {message}")).at(position)
            }
        }
    }

    /// Names the cause of a planner's or operator's error; `sql` is the text positions refer to.
    pub(crate) fn from_datafusion(error: &DataFusionError, sql: &str) -> SqlError {
        let position = error
            .diagnostic()
            .and_then(|diagnostic| diagnostic.span)
            .and_then(|span| position_of(sql, span.start.line, span.start.column));
        let cause = classify(error, sql);
        if cause.position.is_some() { cause } else { cause.at(position) }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

/// The innermost of our own errors in the chain, or a code for DataFusion's.
fn classify(error: &DataFusionError, sql: &str) -> SqlError {
    // `find_root` stops at the first source that is not a DataFusionError; wrappers with several causes come first.
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => return classify(inner, sql),
        DataFusionError::Shared(inner) => return classify(inner, sql),
        DataFusionError::Collection(errors) => {
            if let Some(first) = errors.first() {
                return classify(first, sql);
            }
        }
        _ => {}
    }
    match error {
        DataFusionError::External(source) => external(source.as_ref(), sql),
        DataFusionError::ArrowError(source, _) => arrow(source, sql),
        DataFusionError::SQL(source, _) => SqlError::parse(source, sql),
        DataFusionError::SchemaError(source, _) => schema(source),
        DataFusionError::Plan(message) => plan(message),
        DataFusionError::NotImplemented(message) => SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, first_line(message)),
        DataFusionError::ResourcesExhausted(message) => SqlError::new(sqlstate::OUT_OF_MEMORY, "out of memory")
            .with_hint(format!("the statement reached the SQL memory limit: {}", first_line(message))),
        DataFusionError::Execution(message) => execution(message),
        DataFusionError::Configuration(message) => SqlError::new(sqlstate::INVALID_PARAMETER, first_line(message)),
        DataFusionError::IoError(source) => SqlError::new(sqlstate::IO_ERROR, source.to_string()),
        other => SqlError::new(sqlstate::INTERNAL, first_line(&other.strip_backtrace())),
    }
}

fn external(source: &(dyn std::error::Error + Send + Sync + 'static), sql: &str) -> SqlError {
    if let Some(own) = source.downcast_ref::<SqlError>() {
        return own.clone();
    }
    if let Some(inner) = source.downcast_ref::<DataFusionError>() {
        return classify(inner, sql);
    }
    SqlError::new(sqlstate::IO_ERROR, chain(source))
}

/// An error with its causes, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn arrow(error: &arrow::error::ArrowError, sql: &str) -> SqlError {
    use arrow::error::ArrowError;
    match error {
        ArrowError::DivideByZero => SqlError::new(sqlstate::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(message) => SqlError::new(sqlstate::NUMERIC_OUT_OF_RANGE, message.clone()),
        ArrowError::CastError(message) => SqlError::new(sqlstate::INVALID_TEXT, first_line(message)),
        ArrowError::ParseError(message) => SqlError::new(sqlstate::INVALID_DATETIME, first_line(message)),
        ArrowError::ComputeError(message) | ArrowError::InvalidArgumentError(message) => {
            SqlError::new(sqlstate::DATA_EXCEPTION, first_line(message))
        }
        ArrowError::ExternalError(source) => external(source.as_ref(), sql),
        other => SqlError::new(sqlstate::INTERNAL, other.to_string()),
    }
}

fn schema(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let name = field.name();
            let error = SqlError::new(sqlstate::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
            let close = valid_fields
                .iter()
                .map(|candidate| (distance(name, candidate.name()), candidate.name()))
                .min_by_key(|(distance, _)| *distance);
            match close {
                Some((distance, candidate)) if distance <= 2 || candidate.eq_ignore_ascii_case(name) => {
                    error.with_hint(format!("perhaps you meant \"{candidate}\"; names keep their case"))
                }
                _ if valid_fields.is_empty() || valid_fields.len() > 40 => error,
                _ => {
                    let names: Vec<&str> = valid_fields.iter().map(|column| column.name()).collect();
                    error.with_hint(format!("columns here: {}", names.join(", ")))
                }
            }
        }
        SchemaError::AmbiguousReference { field } => {
            SqlError::new(sqlstate::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name()))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new(sqlstate::AMBIGUOUS_COLUMN, format!("column name \"{name}\" is used twice"))
        }
    }
}

fn plan(message: &str) -> SqlError {
    let message = first_line(message);
    if let Some(rest) = message.strip_prefix("table '")
        && let Some(name) = rest.strip_suffix("' not found")
    {
        let name = name.rsplit_once("public.").map_or(name, |(_, name)| name);
        return SqlError::new(sqlstate::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
            .with_hint("every metric is a table; SELECT name FROM metrics lists them, and names keep their case");
    }
    if message.starts_with("failed to resolve schema")
        || message.starts_with("failed to resolve catalog")
        || message.contains("Unsupported compound identifier")
    {
        return SqlError::new(sqlstate::INVALID_SCHEMA, message);
    }
    if message.starts_with("Invalid function") || message.starts_with("table function '") {
        return SqlError::new(sqlstate::UNDEFINED_FUNCTION, message);
    }
    if message.contains("must be in GROUP BY") || message.contains("must appear in the GROUP BY") {
        return SqlError::new(sqlstate::GROUPING_ERROR, message);
    }
    if message.contains("coerce")
        || message.contains("Cannot infer common argument type")
        || message.contains("No function matches")
        || message.contains("type_coercion")
    {
        return SqlError::new(sqlstate::TYPE_MISMATCH, message);
    }
    SqlError::new("42000", message)
}

fn execution(message: &str) -> SqlError {
    let message = first_line(message);
    if message.contains("does not exist") || message.contains("No function matches") {
        return SqlError::new(sqlstate::UNDEFINED_FUNCTION, message);
    }
    SqlError::new(sqlstate::DATA_EXCEPTION, message)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Splits sqlparser's trailing ` at Line: 1, Column: 8` off.
fn split_location(text: &str, sql: &str) -> (String, Option<usize>) {
    let Some((message, location)) = text.rsplit_once(" at Line: ") else {
        return (first_line(text), None);
    };
    let mut numbers = location.split(", Column: ").filter_map(|part| part.trim().parse::<u64>().ok());
    let position = match (numbers.next(), numbers.next()) {
        (Some(line), Some(column)) => position_of(sql, line, column),
        _ => None,
    };
    (first_line(message), position)
}

/// Characters before (`line`, `column`), both from 1, plus one; `None` outside the text.
pub(crate) fn position_of(sql: &str, line: u64, column: u64) -> Option<usize> {
    if line == 0 || column == 0 {
        return None;
    }
    let before: usize = sql.split_inclusive('\n').take(line as usize - 1).map(|text| text.chars().count()).sum();
    let position = before + column as usize;
    (position <= sql.chars().count() + 1).then_some(position)
}

/// Edit distance between short names; large for long ones, which are not worth guessing.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_over_lines() {
        assert_eq!(position_of("select\n  é x", 2, 3), Some(10));
        assert_eq!(position_of("select", 9, 1), Some(7), "just past the end is where input ended");
        assert_eq!(position_of("select", 0, 0), None);
    }

    #[test]
    fn close_names_are_offered() {
        assert_eq!(distance("instnce", "instance"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
