//! Which command a parsed statement is.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    CloseCursor, CopySource, CopyTarget, DeclareType, DescribeAlias, DiscardObject, FetchDirection, Reset,
    ShowStatementFilter, ShowStatementOptions, Statement, UtilityOption,
};

use super::copy::{copy_options, modern_options};
use super::set::classify_set;
use super::{Command, FetchCount, RowsKind, RowsStatement, folded, literal, plain_name, reparse, unsupported};
use crate::error::{SqlError, sqlstate};

pub(super) fn classify(statement: Statement, text: &Arc<str>) -> Result<Command, SqlError> {
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

/// Why a statement that is none of ours is refused.
pub(super) fn refuse(statement: &Statement) -> SqlError {
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
