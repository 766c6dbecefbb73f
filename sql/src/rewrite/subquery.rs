//! Subqueries and lists that the planner does not take as they are written.

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Query, SelectItem,
    SelectItem::ExprWithAlias, SetExpr, TableFactor, Value,
};

use super::emptiness::{aggregates, is_catalog_table, reads_nothing};
use super::literal::{call, fragment, null, string, text};
use super::spelling::last_word;
use crate::output::expr_name;

/// Array columns of the catalogs that are always NULL.
const NULL_ARRAYS: &[&str] = &["reloptions", "relacl", "attacl", "attoptions", "attfdwoptions"];

/// `ARRAY(SELECT x …)` as `(SELECT array_agg(x) …)`.
pub(super) fn array_subquery(query: &Query) -> Expr {
    let SetExpr::Select(select) = query.body.as_ref() else { return derived_array(query) };
    let unnests_null = match select.from.first().map(|table| &table.relation) {
        Some(TableFactor::Table { name, args: Some(arguments), .. }) if last_word(name) == "unnest" => {
            matches!(arguments.args.first(), Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)))
                if expr_name(expr).is_some_and(|column| NULL_ARRAYS.contains(&column.as_str())))
        }
        Some(TableFactor::UNNEST { array_exprs, .. }) => {
            array_exprs.iter().all(|expr| expr_name(expr).is_some_and(|column| NULL_ARRAYS.contains(&column.as_str())))
        }
        _ => false,
    };
    if unnests_null || reads_nothing(query) {
        return Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(null()),
            data_type: DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None)),
            array: false,
            format: None,
        };
    }
    let plain = query.with.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && select.distinct.is_none()
        && select.having.is_none()
        && matches!(&select.group_by, GroupByExpr::Expressions(groups, _) if groups.is_empty());
    match select.projection.as_slice() {
        // In place, so that it may refer to tables outside, which a derived table could not.
        [SelectItem::UnnamedExpr(item) | ExprWithAlias { expr: item, .. }] if plain => {
            let order = if query.order_by.is_some() { format!(" ORDER BY {item}") } else { String::new() };
            let mut select = select.clone();
            let mut query = query.clone();
            query.order_by = None;
            if let Some(aggregate) = fragment(&format!("array_agg({item}{order})")) {
                select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
                query.body = Box::new(SetExpr::Select(select));
                return Expr::Subquery(Box::new(query));
            }
            null()
        }
        _ => derived_array(&query.clone()),
    }
}

pub(super) fn derived_array(query: &Query) -> Expr {
    fragment(&format!("(SELECT array_agg(item) FROM ({query}) AS items(item))")).unwrap_or_else(null)
}

/// A look-up in a catalog finds at most one row, but the planner wants that written: `(SELECT max(x) FROM …)`.
pub(super) fn aggregate_lookup(query: &mut Query) {
    let plain = query.limit_clause.is_none() && query.order_by.is_none();
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let from_catalog = matches!(select.from.first().map(|table| &table.relation),
        Some(TableFactor::Table { name, args: None, .. }) if is_catalog_table(name));
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(groups, _) if groups.is_empty());
    if !plain || !from_catalog || grouped || select.selection.is_none() || select.distinct.is_some() {
        return;
    }
    if let [SelectItem::UnnamedExpr(item) | ExprWithAlias { expr: item, .. }] = select.projection.as_mut_slice()
        && !aggregates(item)
    {
        *item = call("max", vec![item.clone()]);
    }
}

/// The elements of `ARRAY[…]` or of an array written as text; `None` for everything else.
pub(super) fn list_items(right: &Expr) -> Option<Vec<Expr>> {
    match right {
        Expr::Nested(inner) => list_items(inner),
        Expr::Cast { expr, .. } => list_items(expr),
        Expr::Array(array) => Some(array.elem.clone()),
        other => {
            let items = crate::parameters::parse_array(&text(other)?)?;
            Some(items.into_iter().map(|item| item.map_or_else(null, |item| string(&item))).collect())
        }
    }
}

pub(super) fn membership(left: &Expr, list: Vec<Expr>, negated: bool) -> Expr {
    if list.is_empty() {
        return Expr::Value(Value::Boolean(negated).into());
    }
    Expr::InList { expr: Box::new(left.clone()), list, negated }
}
