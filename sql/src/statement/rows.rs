//! Statements that answer with rows.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SetExpr, Statement, Value, Visit, Visitor};

use super::classify::refuse;
use super::{literal, reparse, unsupported};
use crate::error::{SqlError, sqlstate};
use crate::output::OutputNames;

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

impl RowsStatement {
    pub(super) fn query(query: Query, text: &Arc<str>) -> Result<RowsStatement, SqlError> {
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

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<SqlError> {
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
