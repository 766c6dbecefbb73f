//! Catalog tables that are always empty, and what a query over them comes to.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Join, JoinOperator, ObjectName, Query, Select, SelectItem, SelectItem::ExprWithAlias,
    SetExpr, TableFactor, Value, Visit, Visitor,
};

use super::literal::null;
use super::spelling::last_word;
use crate::catalog::{INFORMATION_SCHEMA, PG_CATALOG};
use crate::output::expr_name;
use crate::pg_catalog::PgCatalog;

/// Whether every row of `query` would come from a catalog table that never has rows.
pub(super) fn reads_nothing(query: &Query) -> bool {
    matches!(query.body.as_ref(), SetExpr::Select(select) if select_reads_nothing(select))
}

/// See [`reads_nothing`]; an aggregate makes a row even of nothing.
pub(super) fn select_reads_nothing(select: &Select) -> bool {
    let Some(first) = select.from.first() else { return false };
    let keeps_emptiness = |join: &Join| {
        matches!(
            join.join_operator,
            JoinOperator::Join(_)
                | JoinOperator::Inner(_)
                | JoinOperator::Left(_)
                | JoinOperator::LeftOuter(_)
                | JoinOperator::CrossJoin(_)
        )
    };
    is_empty_table(&first.relation)
        && first.joins.iter().all(keeps_emptiness)
        && !select.projection.iter().any(item_aggregates)
        && matches!(&select.group_by, GroupByExpr::Expressions(groups, _) if groups.is_empty())
}

pub(super) fn is_empty_table(factor: &TableFactor) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else { return false };
    is_catalog_table(name) && PgCatalog::is_always_empty(&last_word(name))
}

/// Only names with their schema: a metric may be called `views` or `triggers`.
pub(super) fn is_catalog_table(name: &ObjectName) -> bool {
    name.0.len() >= 2
        && name.0[name.0.len() - 2].as_ident().is_some_and(|schema| {
            schema.value.eq_ignore_ascii_case(PG_CATALOG) || schema.value.eq_ignore_ascii_case(INFORMATION_SCHEMA)
        })
}

pub(super) fn item_aggregates(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) | ExprWithAlias { expr, .. } => aggregates(expr),
        _ => false,
    }
}

/// Whether a call of an aggregate stands anywhere in `expr`.
pub(super) fn aggregates(expr: &Expr) -> bool {
    struct Finder {
        /// Subqueries around the current place: their aggregates are theirs.
        depth: usize,
    }
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function)
                    if self.depth == 0 && AGGREGATES.contains(&last_word(&function.name).as_str()) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(expr, &mut Finder { depth: 0 }).is_break()
}

pub(super) const AGGREGATES: &[&str] =
    &["count", "array_agg", "string_agg", "max", "min", "sum", "avg", "bool_or", "bool_and", "json_agg", "jsonb_agg"];

/// Leaves only the shape of a select over nothing: the same columns, no row. What it computes need not be known.
pub(super) fn empty(select: &mut Select) {
    for item in &mut select.projection {
        let name = match item {
            SelectItem::UnnamedExpr(expr) => expr_name(expr).unwrap_or_else(|| "?column?".to_owned()),
            ExprWithAlias { alias, .. } => {
                *item = ExprWithAlias { expr: null(), alias: alias.clone() };
                continue;
            }
            _ => return,
        };
        *item = ExprWithAlias { expr: null(), alias: Ident::with_quote('"', name) };
    }
    let mut seen = Vec::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        if let ExprWithAlias { alias, .. } = item {
            if seen.contains(&alias.value) {
                alias.value = format!("{} ({index})", alias.value);
            }
            seen.push(alias.value.clone());
        }
    }
    select.from.truncate(1);
    if let Some(first) = select.from.first_mut() {
        first.joins.clear();
    }
    select.distinct = None;
    select.selection = Some(Expr::Value(Value::Boolean(false).into()));
}
