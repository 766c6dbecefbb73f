//! From text to commands: what a statement is, before anything is planned.
//!
//! Deny by default: a statement is read from, answered by the session itself, or refused. What would write is refused
//! as Postgres refuses it in a read-only transaction (25006); what is merely unknown here, as unsupported (0A000).

mod classify;
mod copy;
mod rows;
mod set;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{DataType, Expr, Ident, ObjectName, SelectItem, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;

use crate::error::{SqlError, sqlstate};
use crate::gate::{self, GateLimits};
pub use copy::{CopyFormat, CopyOptions};
pub use rows::{RowsKind, RowsStatement};

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

impl Command {
    /// The statement that is planned for it, of those that are.
    pub fn rows(&self) -> Option<&RowsStatement> {
        match self {
            Command::Rows(rows)
            | Command::Copy { statement: rows, .. }
            | Command::DeclareCursor { statement: rows, .. } => Some(rows),
            _ => None,
        }
    }
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

/// Parses and sorts the statements in `text`.
///
/// # Errors
/// See the module's head; `42601` for what is no SQL.
pub fn parse(text: &str, limits: &GateLimits) -> Result<Vec<Command>, SqlError> {
    let text: Arc<str> = text.into();
    let mut commands = Vec::new();
    for tokens in gate::tokenize(&text, limits)? {
        commands.push(match tokens.first().map(|token| token.token.to_string().to_uppercase()).as_deref() {
            // ROLLBACK's older name, which the parser does not have.
            Some("ABORT") if tokens.len() <= 2 => Command::Rollback,
            _ => classify::classify(parse_one(tokens, &text)?, &text)?,
        });
    }
    Ok(commands)
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

fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

pub fn unsupported(what: &str) -> SqlError {
    SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, format!("{what} is not supported"))
}

/// The items of a query's select list, for callers that look at it.
pub fn has_wildcard(items: &[SelectItem]) -> bool {
    items.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)))
}
