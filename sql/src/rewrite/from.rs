//! Functions in FROM.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, Query, SelectItem, SelectItem::ExprWithAlias, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, TableFunctionArgs,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::first_select_mut;
use crate::output::expr_name;

pub(super) const TABLE_FUNCTIONS: &[&str] = &["generate_series", "range", "promql"];

/// `FROM f(x) AS a` for a function that makes one value, as `(SELECT f(x) AS a) AS a`; arrays to unnest likewise.
pub(super) fn scalar_in_from(factor: &TableFactor, name: &str) -> Option<TableFactor> {
    let (TableFactor::Table { alias, args: Some(TableFunctionArgs { args, .. }), .. }
    | TableFactor::Function { alias, args, .. }) = factor
    else {
        return None;
    };
    if name == "unnest" {
        let array_exprs = args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()?;
        return Some(TableFactor::UNNEST {
            alias: Some(alias.clone().map_or_else(
                || TableAlias { explicit: true, name: Ident::new(name), columns: vec![column_def(name)], at: None },
                |mut alias| {
                    if alias.columns.is_empty() {
                        alias.columns = vec![column_def(&alias.name.value)];
                    }
                    alias
                },
            )),
            array_exprs,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        });
    }
    let arguments: Vec<String> = args.iter().map(ToString::to_string).collect();
    let table = alias.as_ref().map_or_else(|| name.to_owned(), |alias| alias.name.to_string());
    let column = alias
        .as_ref()
        .and_then(|alias| alias.columns.first())
        .map_or_else(|| table.clone(), |column| column.name.to_string());
    let sql = format!("(SELECT {name}({}) AS {column}) AS {table}", arguments.join(", "));
    Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql).ok()?.parse_table_factor().ok()
}

pub(super) fn column_def(name: &str) -> TableAliasColumnDef {
    TableAliasColumnDef { name: Ident::new(name), data_type: None }
}

/// A derived table's unnamed function calls get Postgres's column names, so that an outer query can use them.
pub(super) fn name_function_columns(query: &mut Query) {
    for_each_derived(&mut query.body, &mut |inner| {
        let grouped = inner.order_by.is_some();
        let Some(select) = first_select_mut(&mut inner.body) else { return };
        let names: Vec<Option<String>> = select
            .projection
            .iter()
            .map(|item| match item {
                SelectItem::UnnamedExpr(expr) => expr_name(expr),
                ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                _ => None,
            })
            .collect();
        for (index, item) in select.projection.iter_mut().enumerate() {
            let SelectItem::UnnamedExpr(expr @ (Expr::Function(_) | Expr::Cast { .. } | Expr::Extract { .. })) = item
            else {
                continue;
            };
            let Some(name) = names[index].clone() else { continue };
            // A name that something else has too would be ambiguous where it was not before.
            let is_unique = names.iter().flatten().filter(|other| **other == name).count() == 1;
            if is_unique && !grouped {
                *item = ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
            }
        }
    });
}

pub(super) fn for_each_derived(body: &mut SetExpr, visit: &mut impl FnMut(&mut Query)) {
    match body {
        SetExpr::Select(select) => {
            for table in &mut select.from {
                let joined = table.joins.iter_mut().map(|join| &mut join.relation);
                for factor in std::iter::once(&mut table.relation).chain(joined) {
                    if let TableFactor::Derived { subquery, alias, .. } = factor
                        && alias.as_ref().is_none_or(|alias| alias.columns.is_empty())
                    {
                        visit(subquery);
                    }
                }
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            for_each_derived(left, visit);
            for_each_derived(right, visit);
        }
        _ => {}
    }
}
