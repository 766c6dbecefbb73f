//! From text to commands: what a statement is, before anything is planned.
//!
//! Deny by default: a statement is read from, answered by the session itself, or refused. What would write is refused
//! as Postgres refuses it in a read-only transaction (25006); what is merely unknown here, as unsupported (0A000).

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    CloseCursor, CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, DataType, DeclareType,
    DescribeAlias, DiscardObject, Expr, FetchDirection, ObjectName, Query, Reset, SelectItem, Set, SetExpr,
    ShowStatementFilter, ShowStatementOptions, Statement, UtilityOption, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;

use crate::error::{SqlError, sqlstate};
use crate::gate::{self, GateLimits};
use crate::output::OutputNames;

/// One statement of a client's text.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub command: Command,
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Rows from tables.
    Rows(RowsStatement),
    Show(String),
    ShowAll,
    Set {
        name: String,
        value: SetValue,
        is_local: bool,
    },
    /// Accepted for clients' sake, without effect; the word is the command tag.
    NoEffect(&'static str),
    Reset(Option<String>),
    Begin {
        tag: &'static str,
    },
    Commit,
    Rollback,
    Savepoint,
    ReleaseSavepoint,
    RollbackToSavepoint,
    Discard {
        all: bool,
    },
    Deallocate(Option<String>),
    Prepare {
        name: String,
        parameter_types: Vec<DataType>,
        statement: RowsStatement,
    },
    Execute {
        name: String,
        arguments: Vec<Expr>,
    },
    DeclareCursor {
        name: String,
        statement: RowsStatement,
        hold: bool,
    },
    Fetch {
        name: String,
        count: FetchCount,
    },
    /// `MOVE` does not parse; `CLOSE` without a name closes all.
    CloseCursor(Option<String>),
    Copy {
        statement: RowsStatement,
        options: CopyOptions,
    },
}

/// The right side of a SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    Text(String),
    Default,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
}

/// How COPY writes rows. Source: PostgreSQL 16, COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    pub null: String,
    pub header: bool,
    pub quote: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// A statement that answers with rows.
#[derive(Debug, Clone)]
pub struct RowsStatement {
    /// The client's whole text, which positions in errors count in.
    pub text: Arc<str>,
    pub query: Arc<Query>,
    pub kind: RowsKind,
    pub names: OutputNames,
    /// Numbers of the `$n` in it, ascending.
    pub placeholders: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    Query,
    Explain { analyze: bool, verbose: bool },
}

/// A select list longer than this is refused, as in Postgres.
const MAX_COLUMNS: usize = 1664;

/// Parses and sorts the statements in `text`.
///
/// # Errors
/// See the module's head; `42601` for what is no SQL.
pub fn parse(text: &str, limits: &GateLimits) -> Result<Vec<Parsed>, SqlError> {
    let text: Arc<str> = text.into();
    let mut parsed = Vec::new();
    for tokens in gate::tokenize(&text, limits)? {
        let command = match tokens.first().map(|token| token.token.to_string().to_uppercase()).as_deref() {
            // ROLLBACK's older name, which the parser does not have.
            Some("ABORT") if tokens.len() <= 2 => Command::Rollback,
            _ => classify(parse_one(tokens, &text)?, &text)?,
        };
        parsed.push(Parsed { command });
    }
    Ok(parsed)
}

fn parse_one(tokens: Vec<TokenWithSpan>, text: &str) -> Result<Statement, SqlError> {
    let end = tokens.last().map(|token| token.span.end);
    let mut statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(150)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|error| {
            let mut error = SqlError::parse(&error, text);
            // Input that ends too early is located behind its last word.
            if error.position.is_none() && error.sqlstate == sqlstate::SYNTAX_ERROR {
                error = error.at(end.and_then(|end| crate::error::position_of(text, end.line, end.column)));
            }
            error
        })?;
    if statements.len() != 1 {
        return Err(SqlError::new(sqlstate::SYNTAX_ERROR, "syntax error: expected one statement"));
    }
    Ok(statements.remove(0))
}

fn classify(statement: Statement, text: &Arc<str>) -> Result<Command, SqlError> {
    match statement {
        Statement::Query(query) => {
            // Clients ask for `SELECT` through this too; a bare VALUES or TABLE is a query as well.
            Ok(Command::Rows(RowsStatement::query(*query, text)?))
        }
        Statement::Explain { describe_alias, analyze, verbose, statement, options, .. } => {
            let (mut analyze, mut verbose) = (analyze, verbose);
            for option in options.iter().flatten() {
                explain_option(option, &mut analyze, &mut verbose)?;
            }
            let Statement::Query(query) = *statement else {
                return Err(refuse(&statement));
            };
            if !matches!(describe_alias, DescribeAlias::Explain) {
                return Err(unsupported("DESCRIBE of a query"));
            }
            let mut rows = RowsStatement::query(*query, text)?;
            rows.kind = RowsKind::Explain { analyze, verbose };
            Ok(Command::Rows(rows))
        }
        Statement::ExplainTable { table_name, .. } => own_query(
            &format!(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
                 WHERE table_schema || '.' || table_name IN ({name}, 'public.' || {name}) ORDER BY ordinal_position",
                name = literal(&plain_name(&table_name))
            ),
            text,
        ),
        Statement::ShowTables { show_options, .. } => {
            let filter = show_filter(&show_options, "table_name")?;
            own_query(
                &format!(
                    "SELECT table_schema, table_name, table_type FROM information_schema.tables \
                     WHERE table_schema = 'public'{filter} ORDER BY table_name"
                ),
                text,
            )
        }
        Statement::ShowColumns { show_options, .. } => {
            let Some(table) = show_options.show_in.as_ref().and_then(|place| place.parent_name.as_ref()) else {
                return Err(SqlError::new(sqlstate::SYNTAX_ERROR, "syntax error: SHOW COLUMNS needs a table"));
            };
            own_query(
                &format!(
                    "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
                     WHERE table_name = {} ORDER BY ordinal_position",
                    literal(&plain_name(table))
                ),
                text,
            )
        }
        Statement::ShowSchemas { .. } => {
            own_query("SELECT schema_name FROM information_schema.schemata ORDER BY 1", text)
        }
        Statement::ShowDatabases { .. } => own_query("SELECT datname AS database FROM pg_catalog.pg_database", text),
        Statement::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
            Ok(match words.join(" ").as_str() {
                "all" => Command::ShowAll,
                "time zone" => Command::Show("TimeZone".to_owned()),
                "transaction isolation level" => Command::Show("transaction_isolation".to_owned()),
                "session authorization" => Command::Show("session_authorization".to_owned()),
                _ => Command::Show(words.join(".")),
            })
        }
        Statement::Set(set) => classify_set(set),
        Statement::Reset(reset) => Ok(match reset.reset {
            Reset::ALL => Command::Reset(None),
            Reset::ConfigurationParameter(name) => Command::Reset(Some(plain_name(&name))),
        }),
        Statement::StartTransaction { begin, statements, exception, .. } => {
            if !statements.is_empty() || exception.is_some() {
                return Err(unsupported("a block of statements"));
            }
            Ok(Command::Begin { tag: if begin { "BEGIN" } else { "START TRANSACTION" } })
        }
        Statement::Commit { .. } => Ok(Command::Commit),
        Statement::Rollback { savepoint, .. } => {
            Ok(if savepoint.is_some() { Command::RollbackToSavepoint } else { Command::Rollback })
        }
        Statement::Savepoint { .. } => Ok(Command::Savepoint),
        Statement::ReleaseSavepoint { .. } => Ok(Command::ReleaseSavepoint),
        Statement::Discard { object_type } => Ok(Command::Discard { all: matches!(object_type, DiscardObject::ALL) }),
        Statement::Deallocate { name, .. } => {
            let all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
            Ok(Command::Deallocate((!all).then(|| folded(&name))))
        }
        Statement::Prepare { name, data_types, statement } => match *statement {
            Statement::Query(query) => Ok(Command::Prepare {
                name: folded(&name),
                parameter_types: data_types,
                statement: RowsStatement::query(*query, text)?,
            }),
            other => Err(refuse(&other)),
        },
        Statement::Execute { name: Some(name), parameters, using, immediate: false, .. } if using.is_empty() => {
            Ok(Command::Execute { name: plain_name(&name), arguments: parameters })
        }
        Statement::Declare { mut stmts } if stmts.len() == 1 => {
            let declare = stmts.remove(0);
            let (Some(DeclareType::Cursor), Some(query), Some(name)) =
                (declare.declare_type, declare.for_query, declare.names.first())
            else {
                return Err(unsupported("DECLARE of anything but a cursor"));
            };
            if declare.binary == Some(true) {
                return Err(unsupported("a binary cursor"));
            }
            if declare.scroll == Some(true) {
                return Err(unsupported("a cursor that scrolls back"));
            }
            Ok(Command::DeclareCursor {
                name: folded(name),
                statement: RowsStatement::query(*query, text)?,
                hold: declare.hold == Some(true),
            })
        }
        Statement::Fetch { name, direction, into: None, .. } => {
            Ok(Command::Fetch { name: folded(&name), count: fetch_count(&direction)? })
        }
        Statement::Close { cursor } => Ok(Command::CloseCursor(match cursor {
            CloseCursor::All => None,
            CloseCursor::Specific { name } => Some(folded(&name)),
        })),
        Statement::Copy { source, to, target, options, legacy_options, .. } => {
            if !to {
                return Err(SqlError::read_only("COPY FROM"));
            }
            if target != CopyTarget::Stdout {
                return Err(SqlError::new(
                    sqlstate::INSUFFICIENT_PRIVILEGE,
                    "permission denied to COPY to or from a file or a program",
                )
                .with_hint("COPY … TO STDOUT and psql's \\copy work for anyone"));
            }
            let options = copy_options(&modern_options(options, legacy_options)?)?;
            let query = match source {
                CopySource::Query(query) => query,
                CopySource::Table { table_name, columns } => {
                    let columns = if columns.is_empty() {
                        "*".to_owned()
                    } else {
                        columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                    };
                    match reparse(&format!("SELECT {columns} FROM {table_name}"))? {
                        Statement::Query(query) => query,
                        other => return Err(refuse(&other)),
                    }
                }
            };
            Ok(Command::Copy { statement: RowsStatement::query(*query, text)?, options })
        }
        Statement::UNLISTEN { .. } => Ok(Command::NoEffect("UNLISTEN")),
        other => Err(refuse(&other)),
    }
}

impl RowsStatement {
    fn query(query: Query, text: &Arc<str>) -> Result<RowsStatement, SqlError> {
        let mut inspector = Inspector::default();
        if let ControlFlow::Break(error) = query.visit(&mut inspector) {
            return Err(error);
        }
        let names = OutputNames::of_query(&query);
        Ok(RowsStatement {
            text: Arc::clone(text),
            query: Arc::new(query),
            kind: RowsKind::Query,
            names,
            placeholders: inspector.placeholders,
        })
    }

    /// One row with one text, the answer to SHOW.
    pub fn of_text(name: &str, value: &str) -> Result<RowsStatement, SqlError> {
        let sql = format!("SELECT {} AS \"{}\"", literal(value), name.replace('"', "\"\""));
        match reparse(&sql)? {
            Statement::Query(query) => RowsStatement::query(*query, &sql.as_str().into()),
            other => Err(refuse(&other)),
        }
    }
}

/// Looks for writing hidden in a query, for too wide lists, and for placeholders.
#[derive(Default)]
struct Inspector {
    placeholders: BTreeSet<usize>,
}

impl Visitor for Inspector {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        if !query.locks.is_empty() {
            return ControlFlow::Break(SqlError::read_only("SELECT FOR UPDATE"));
        }
        match query.body.as_ref() {
            SetExpr::Insert(_) => ControlFlow::Break(SqlError::read_only("INSERT")),
            SetExpr::Update(_) => ControlFlow::Break(SqlError::read_only("UPDATE")),
            SetExpr::Delete(_) => ControlFlow::Break(SqlError::read_only("DELETE")),
            SetExpr::Merge(_) => ControlFlow::Break(SqlError::read_only("MERGE")),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &datafusion::sql::sqlparser::ast::Select) -> ControlFlow<SqlError> {
        if select.into.is_some() {
            return ControlFlow::Break(SqlError::read_only("SELECT INTO"));
        }
        if select.projection.len() > MAX_COLUMNS {
            return ControlFlow::Break(SqlError::new(
                sqlstate::TOO_MANY_COLUMNS,
                format!("target lists can have at most {MAX_COLUMNS} entries"),
            ));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<SqlError> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            other => ControlFlow::Break(refuse(other)),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        if let Expr::Function(function) = expr
            && function.over.is_some()
            && let Some(name) = function.name.0.last().and_then(|part| part.as_ident())
            && matches!(name.value.to_lowercase().as_str(), "array_agg" | "string_agg")
        {
            // Every row would hold all rows before it.
            return ControlFlow::Break(unsupported(&format!("{} as a window function", name.value)));
        }
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            match name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()) {
                Some(number @ 1..=65_535) => {
                    self.placeholders.insert(number);
                }
                _ => {
                    return ControlFlow::Break(SqlError::new(
                        sqlstate::SYNTAX_ERROR,
                        format!("syntax error: there is no parameter {name}"),
                    ));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn classify_set(set: Set) -> Result<Command, SqlError> {
    match set {
        Set::SingleAssignment { scope, hivevar: false, variable, values } => {
            let name = plain_name(&variable);
            let is_local = matches!(scope, Some(datafusion::sql::sqlparser::ast::ContextModifier::Local));
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

fn explain_option(option: &UtilityOption, analyze: &mut bool, verbose: &mut bool) -> Result<(), SqlError> {
    let on = match &option.arg {
        None => true,
        Some(value) => {
            !matches!(value.to_string().to_lowercase().as_str(), "off" | "false" | "0" | "'off'" | "'false'")
        }
    };
    match option.name.value.to_lowercase().as_str() {
        "analyze" => *analyze = on,
        "verbose" => *verbose = on,
        "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" => {}
        "format" => {
            let format = option.arg.as_ref().map(ToString::to_string).unwrap_or_default().to_lowercase();
            if format.trim_matches('\'') != "text" {
                return Err(unsupported(&format!("EXPLAIN in format {format}")));
            }
        }
        other => {
            return Err(SqlError::new(sqlstate::SYNTAX_ERROR, format!("unrecognized EXPLAIN option \"{other}\"")));
        }
    }
    Ok(())
}

fn fetch_count(direction: &FetchDirection) -> Result<FetchCount, SqlError> {
    let number = |value: &datafusion::sql::sqlparser::ast::ValueWithSpan| {
        value.to_string().parse::<u64>().map(FetchCount::Rows).map_err(|_| backwards())
    };
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(FetchCount::Rows(1)),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => number(limit),
        FetchDirection::All | FetchDirection::ForwardAll => Ok(FetchCount::All),
        _ => Err(backwards()),
    }
}

fn backwards() -> SqlError {
    SqlError::new("55000", "cursor can only scan forward")
}

/// COPY's options in the old syntax (`WITH CSV HEADER`, which psql users still type) under their new names.
fn modern_options(mut options: Vec<CopyOption>, legacy: Vec<CopyLegacyOption>) -> Result<Vec<CopyOption>, SqlError> {
    for option in legacy {
        match option {
            CopyLegacyOption::Binary => options.push(CopyOption::Format("binary".into())),
            CopyLegacyOption::Delimiter(character) => options.push(CopyOption::Delimiter(character)),
            CopyLegacyOption::Null(text) => options.push(CopyOption::Null(text)),
            CopyLegacyOption::Header => options.push(CopyOption::Header(true)),
            CopyLegacyOption::Csv(details) => {
                options.push(CopyOption::Format("csv".into()));
                for detail in details {
                    options.push(match detail {
                        CopyLegacyCsvOption::Header => CopyOption::Header(true),
                        CopyLegacyCsvOption::Quote(character) => CopyOption::Quote(character),
                        CopyLegacyCsvOption::Escape(character) => CopyOption::Escape(character),
                        CopyLegacyCsvOption::ForceQuote(columns) => CopyOption::ForceQuote(columns),
                        CopyLegacyCsvOption::ForceNotNull(columns) => CopyOption::ForceNotNull(columns),
                    });
                }
            }
            other => return Err(unsupported(&format!("COPY option {other}"))),
        }
    }
    Ok(options)
}

fn copy_options(options: &[CopyOption]) -> Result<CopyOptions, SqlError> {
    let mut format = CopyFormat::Text;
    for option in options {
        if let CopyOption::Format(name) = option {
            format = match name.value.to_lowercase().as_str() {
                "text" => CopyFormat::Text,
                "csv" => CopyFormat::Csv,
                "binary" => CopyFormat::Binary,
                other => {
                    return Err(SqlError::new(
                        sqlstate::INVALID_PARAMETER,
                        format!("COPY format \"{other}\" not recognized"),
                    ));
                }
            };
        }
    }
    let is_csv = format == CopyFormat::Csv;
    let mut copy = CopyOptions {
        format,
        delimiter: if is_csv { b',' } else { b'\t' },
        null: if is_csv { String::new() } else { "\\N".to_owned() },
        header: false,
        quote: b'"',
    };
    let byte = |character: char, what: &str| {
        u8::try_from(character).ok().filter(|byte| byte.is_ascii() && !matches!(byte, b'\n' | b'\r')).ok_or_else(|| {
            SqlError::new(sqlstate::INVALID_PARAMETER, format!("COPY {what} must be a single one-byte character"))
        })
    };
    for option in options {
        match option {
            CopyOption::Format(_) => {}
            CopyOption::Delimiter(character) => copy.delimiter = byte(*character, "delimiter")?,
            CopyOption::Null(text) => copy.null = text.clone(),
            CopyOption::Header(header) => copy.header = *header,
            CopyOption::Quote(character) => copy.quote = byte(*character, "quote")?,
            CopyOption::Encoding(name) if name.to_lowercase().replace('-', "") == "utf8" => {}
            other => return Err(unsupported(&format!("COPY option {other}"))),
        }
    }
    Ok(copy)
}

fn show_filter(options: &ShowStatementOptions, column: &str) -> Result<String, SqlError> {
    let filter = options.filter_position.as_ref().map(|position| {
        use datafusion::sql::sqlparser::ast::ShowStatementFilterPosition::{Infix, Suffix};
        match position {
            Infix(filter) | Suffix(filter) => filter,
        }
    });
    match filter {
        None => Ok(String::new()),
        Some(ShowStatementFilter::Like(pattern)) => Ok(format!(" AND {column} LIKE {}", literal(pattern))),
        Some(ShowStatementFilter::ILike(pattern)) => Ok(format!(" AND {column} ILIKE {}", literal(pattern))),
        Some(_) => Err(unsupported("this filter of SHOW")),
    }
}

/// A query of our own that answers a SHOW or DESCRIBE.
fn own_query(sql: &str, text: &Arc<str>) -> Result<Command, SqlError> {
    match reparse(sql)? {
        Statement::Query(query) => Ok(Command::Rows(RowsStatement::query(*query, text)?)),
        other => Err(refuse(&other)),
    }
}

fn reparse(sql: &str) -> Result<Statement, SqlError> {
    let tokens = gate::tokenize(sql, &GateLimits::default())?;
    parse_one(tokens.into_iter().flatten().collect(), sql)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name's parts without quotes, unquoted ones in lower case.
fn plain_name(name: &ObjectName) -> String {
    let parts: Vec<String> =
        name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), folded)).collect();
    parts.join(".")
}

fn folded(name: &datafusion::sql::sqlparser::ast::Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

pub fn unsupported(what: &str) -> SqlError {
    SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, format!("{what} is not supported"))
}

/// Why a statement that is none of ours is refused.
fn refuse(statement: &Statement) -> SqlError {
    let text = statement.to_string();
    let words: Vec<String> =
        text.split_whitespace().take(2).map(|word| word.trim_end_matches('(').to_uppercase()).collect();
    let first = words.first().map_or("", String::as_str);
    let command = match first {
        "CREATE" | "ALTER" | "DROP" => words.join(" "),
        _ => first.to_owned(),
    };
    match statement {
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_)
        | Statement::Truncate(_)
        | Statement::Copy { .. }
        | Statement::Grant(_)
        | Statement::Revoke(_)
        | Statement::Comment { .. }
        | Statement::Analyze(_)
        | Statement::Vacuum(_)
        | Statement::Lock(_)
        | Statement::NOTIFY { .. } => SqlError::read_only(first),
        _ if matches!(first, "CREATE" | "ALTER" | "DROP") => SqlError::read_only(&command),
        _ => unsupported(&command),
    }
}

/// The items of a query's select list, for callers that look at it.
pub fn has_wildcard(items: &[SelectItem]) -> bool {
    items.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str) -> String {
        match parse(sql, &GateLimits::default()) {
            Err(error) => error.sqlstate.to_owned(),
            Ok(parsed) => {
                let text = format!("{:?}", parsed.first().map(|parsed| &parsed.command));
                text.chars().skip(5).take_while(|character| character.is_alphanumeric()).collect()
            }
        }
    }

    #[test]
    fn writing_is_refused_as_in_a_read_only_transaction() {
        for sql in [
            "insert into up values (1)",
            "update up set value = 1",
            "delete from up",
            "merge into a using b on a.x = b.x when matched then delete",
            "truncate up",
            "create table t (x int)",
            "create external table t stored as csv location '/etc/passwd'",
            "create view v as select 1",
            "create function f() returns int language sql as 'select 1'",
            "create schema s",
            "drop table up",
            "alter table up add column x int",
            "select * into t from up",
            "with x as (insert into up values (1) returning *) select * from x",
            "explain analyze insert into up values (1)",
            "prepare p as delete from up",
            "select * from up for update",
            "copy up from stdin",
            "grant all on up to x",
            "vacuum",
        ] {
            let found = check(sql);
            assert!(found == "25006" || (found == "42601" && sql.contains("external")), "{sql}: {found}");
        }
        assert_eq!(check("copy up to '/tmp/x'"), "42501");
        assert_eq!(check("copy (select 1) to program 'sh'"), "42501");
        assert_eq!(check("load 'x'"), "0A000");
        assert_eq!(check("set role postgres"), "42501");
        assert_eq!(check("call f()"), "0A000");
    }

    #[test]
    fn what_clients_send_is_understood() {
        for (sql, command) in [
            ("select 1", "Rows"),
            ("values (1)", "Rows"),
            ("explain (analyze, verbose) select 1", "Rows"),
            ("describe up", "Rows"),
            ("show tables", "Rows"),
            ("show transaction isolation level", "Show"),
            ("show all", "ShowAll"),
            ("set extra_float_digits = 3", "Set"),
            ("set local statement_timeout to '1s'", "Set"),
            ("set time zone 'UTC'", "Set"),
            ("set session characteristics as transaction read only", "NoEffect"),
            ("set transaction isolation level repeatable read", "NoEffect"),
            ("reset all", "Reset"),
            ("begin", "Begin"),
            ("begin read only", "Begin"),
            ("start transaction isolation level serializable", "Begin"),
            ("commit", "Commit"),
            ("end", "Commit"),
            ("rollback", "Rollback"),
            ("abort", "Rollback"),
            ("savepoint a", "Savepoint"),
            ("release savepoint a", "ReleaseSavepoint"),
            ("rollback to savepoint a", "RollbackToSavepoint"),
            ("discard all", "Discard"),
            ("deallocate all", "Deallocate"),
            ("prepare p (int) as select $1", "Prepare"),
            ("execute p (1)", "Execute"),
            ("declare c cursor for select 1", "DeclareCursor"),
            ("declare \"c\" no scroll cursor with hold for select 1", "DeclareCursor"),
            ("fetch forward 10 from c", "Fetch"),
            ("fetch all from c", "Fetch"),
            ("close c", "CloseCursor"),
            ("copy (select 1) to stdout with (format csv, header)", "Copy"),
            ("copy up to stdout", "Copy"),
            ("unlisten *", "NoEffect"),
        ] {
            assert_eq!(check(sql), command, "{sql}");
        }
        assert_eq!(check("selec 1"), "42601");
        assert_eq!(check("select $0"), "42601");
    }
}
