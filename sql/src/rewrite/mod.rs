//! Postgres's dialect as the planner's: names, types and operators that mean the same under another spelling.

mod emptiness;
mod from;
mod literal;
mod spelling;
mod subquery;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, FunctionArguments, Ident, ObjectName, Query, Select,
    SelectItem, SelectItem::ExprWithAlias, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TimezoneInfo, Value,
    Visit, VisitMut, Visitor, VisitorMut,
};

pub use literal::{null, number, string, text};
pub use spelling::type_oid;

use emptiness::{empty, is_catalog_table, reads_nothing, select_reads_nothing};
use from::{TABLE_FUNCTIONS, name_function_columns, scalar_in_from};
use literal::{call, constant_text, value_text, with_backslashes};
use spelling::{cast, last_word, operator, plain_type, replaced_function, strip_schema};
use subquery::{aggregate_lookup, array_subquery, list_items, membership};

use crate::catalog::{PG_CATALOG, PUBLIC};
use crate::error::SqlError;
use crate::output::expr_name;
use crate::statement::unsupported;

/// Rewrites `query` in place.
///
/// # Errors
/// `0A000` for operators that have no counterpart.
pub fn for_datafusion(query: &mut Query) -> Result<(), SqlError> {
    distinct_names(query);
    let on_types = reads_types(query);
    match VisitMut::visit(query, &mut Rewriter { on_types }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Replaces every `x = ANY($n)` by `x IN ($n)` and tells the numbers: where only types matter, a placeholder for an
/// array of x's type looks like one for an x.
pub fn any_of_placeholders(query: &mut Query) -> Vec<usize> {
    struct AnyVisitor(Vec<usize>);
    impl VisitorMut for AnyVisitor {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let (Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. }) = expr else {
                return ControlFlow::Continue(());
            };
            let inner = match right.as_ref() {
                Expr::Cast { expr, .. } | Expr::Nested(expr) => expr.as_ref(),
                other => other,
            };
            if let Some(number) = placeholder(inner) {
                self.0.push(number);
                let list = vec![inner.clone()];
                *expr = Expr::InList { expr: left.clone(), list, negated: false };
            }
            ControlFlow::Continue(())
        }
    }
    let mut visitor = AnyVisitor(Vec::new());
    let _ = VisitMut::visit(query, &mut visitor);
    visitor.0
}

/// The n of `$n`.
pub fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

/// Gives items of the outermost select list that the planner would call the same a name of their own. What clients
/// see is decided before, by [`crate::output::OutputNames`].
fn distinct_names(query: &mut Query) {
    let Some(select) = first_select_mut(&mut query.body) else { return };
    let has_wildcard = crate::statement::has_wildcard(&select.projection);
    let mut seen: Vec<String> = Vec::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let (key, expr) = match item {
            SelectItem::UnnamedExpr(expr) => (expr.to_string().to_lowercase(), expr.clone()),
            ExprWithAlias { expr, alias } => (alias.value.clone(), expr.clone()),
            _ => continue,
        };
        let repeats =
            seen.contains(&key) || has_wildcard && matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        if repeats {
            let alias = Ident::with_quote('"', format!("{key} ({index})"));
            *item = ExprWithAlias { expr, alias };
        }
        seen.push(key);
    }
}

fn first_select_mut(body: &mut SetExpr) -> Option<&mut datafusion::sql::sqlparser::ast::Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select_mut(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select_mut(left),
        _ => None,
    }
}

struct Rewriter {
    /// The query reads `pg_type`.
    on_types: bool,
}

impl VisitorMut for Rewriter {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        name_function_columns(query);
        if reads_nothing(query) {
            // Nothing to order, and perhaps by columns that the emptied select no longer has.
            query.order_by = None;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        if select_reads_nothing(select) && !crate::statement::has_wildcard(&select.projection) {
            empty(select);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<SqlError> {
        // `database.schema.table`: there is one database, under whatever name the client knows it.
        if relation.0.len() == 3 {
            relation.0.remove(0);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            strip_schema(name);
            let name = last_word(name);
            if name == "pg_get_keywords" {
                if let TableFactor::Table { name, args, .. } = factor {
                    *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new("pg_keywords")]);
                    *args = None;
                }
                return ControlFlow::Continue(());
            }
            if !TABLE_FUNCTIONS.contains(&name.as_str())
                && let Some(derived) = scalar_in_from(factor, &name)
            {
                *factor = derived;
                return ControlFlow::Continue(());
            }
        }
        let (name, alias, columns) = match factor {
            TableFactor::Table { name, alias, args: Some(_), .. } | TableFactor::Function { name, alias, .. } => {
                let scalar = matches!(last_word(name).as_str(), "generate_series" | "range");
                (last_word(name), alias, scalar)
            }
            TableFactor::UNNEST { alias, .. } => ("unnest".to_owned(), alias, true),
            _ => return ControlFlow::Continue(()),
        };
        // `generate_series(…) AS i`: the column is called as the table.
        if columns {
            let column = |name: Ident| vec![TableAliasColumnDef { name, data_type: None }];
            match alias {
                Some(alias) if alias.columns.is_empty() => alias.columns = column(alias.name.clone()),
                Some(_) => {}
                None => {
                    *alias = Some(TableAlias {
                        explicit: true,
                        name: Ident::new(name.clone()),
                        columns: column(Ident::new(name)),
                        at: None,
                    });
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            // Tables that are always empty: their subqueries need no planner, which cannot correlate such ones.
            Expr::Subquery(query) if reads_nothing(query) => *expr = null(),
            Expr::Subquery(query) => aggregate_lookup(query),
            // Grafana asks whether a schema is on the search path, in a form that the planner cannot place in a CASE.
            Expr::InSubquery { expr: schema, subquery, negated }
                if subquery.to_string().contains("current_setting('search_path')") =>
            {
                *expr = membership(schema, vec![string(PUBLIC)], *negated);
            }
            Expr::Case { operand: None, conditions, else_result, .. } if self.on_types => {
                conditions.retain(|branch| !is_never_true(&branch.condition));
                if conditions.is_empty() {
                    *expr = else_result.as_deref().cloned().unwrap_or_else(null);
                }
            }
            Expr::Exists { subquery, negated } if reads_nothing(subquery) => {
                *expr = Expr::Value(Value::Boolean(*negated).into());
            }
            Expr::Function(function)
                if matches!(function.args, FunctionArguments::Subquery(_)) && last_word(&function.name) == "array" =>
            {
                if let FunctionArguments::Subquery(query) = &function.args {
                    *expr = array_subquery(query);
                }
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                if let Some(list) = list_items(right) {
                    *expr = membership(left, list, false);
                }
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                if let Some(list) = list_items(right) {
                    *expr = membership(left, list, true);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::Function(function) => {
                strip_schema(&mut function.name);
                if let Some(replacement) = replaced_function(function) {
                    *expr = replacement;
                }
            }
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, .. } => {
                if let Some(replacement) = cast(inner, data_type) {
                    *expr = replacement;
                }
            }
            Expr::TypedString(typed) => {
                if let Some(data_type) = plain_type(&typed.data_type) {
                    typed.data_type = data_type;
                }
            }
            // To Postgres this is the clock on a wall there; to the planner, the same instant with another zone.
            Expr::AtTimeZone { timestamp, .. } if !is_wall_clock(timestamp) => {
                *expr = call("to_local_time", vec![expr.clone()]);
            }
            // `(f(x)).n`
            Expr::CompoundFieldAccess { root, access_chain } => {
                if let [AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice() {
                    *expr = call("get_field", vec![root.as_ref().clone(), string(&field.value)]);
                }
            }
            Expr::Collate { expr: inner, .. } => *expr = inner.as_ref().clone(),
            Expr::BinaryOp { left, op, right } => {
                let function = match op {
                    BinaryOperator::Arrow => Some("json_get"),
                    BinaryOperator::LongArrow => Some("json_get_text"),
                    BinaryOperator::Question => Some("json_has"),
                    _ => None,
                };
                if let Some(function) = function {
                    *expr = call(function, vec![left.as_ref().clone(), right.as_ref().clone()]);
                } else if let BinaryOperator::PGCustomBinaryOperator(parts) = op {
                    match parts.last().and_then(|symbol| operator(symbol)) {
                        Some(known) => *op = known,
                        None => return ControlFlow::Break(unsupported(&format!("operator {}", parts.join(".")))),
                    }
                }
            }
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                // An escape character that the pattern does not use changes nothing; a backslash is the default.
                // The planner knows the backslash only: a constant pattern can be written with it.
                if let Some(escape) = escape_char.as_ref().and_then(value_text)
                    && let Some(constant) = constant_text(pattern)
                {
                    **pattern = string(&with_backslashes(&constant, &escape));
                    *escape_char = None;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Whether `expr` is a timestamp without zone, as far as its text tells: columns and `now()` have one.
fn is_wall_clock(expr: &Expr) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let without_zone = |data_type: &DataType| {
                matches!(data_type, DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone))
            };
            match expr {
                Expr::Function(function) if last_word(&function.name) == "to_local_time" => ControlFlow::Break(()),
                Expr::Cast { data_type, .. } if without_zone(data_type) => ControlFlow::Break(()),
                Expr::TypedString(typed) if without_zone(&typed.data_type) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(expr, &mut Finder).is_break()
}

fn reads_types(query: &Query) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
            if is_catalog_table(relation) && last_word(relation) == "pg_type" {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    Visit::visit(query, &mut Finder).is_break()
}

/// `typtype = 'c'` and its like: there are no composite types, domains and ranges, and what clients compute for them
/// the planner cannot always express.
fn is_never_true(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            expr_name(left).as_deref() == Some("typtype")
                && text(right).is_some_and(|kind| matches!(kind.as_str(), "c" | "d" | "r" | "m" | "e"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn rewritten(sql: &str) -> String {
        match Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0) {
            Statement::Query(mut query) => {
                for_datafusion(&mut query).unwrap();
                query.to_string()
            }
            other => panic!("{other} is no query"),
        }
    }

    #[test]
    fn postgres_spellings_become_the_planners() {
        for (sql, expected) in [
            ("SELECT pg_catalog.version()", "SELECT version()"),
            ("SELECT a OPERATOR(pg_catalog.~) '^(up)$' COLLATE pg_catalog.default", "SELECT a ~ '^(up)$'"),
            ("SELECT 'up'::regclass", "SELECT regclass_in('up')"),
            ("SELECT oid::pg_catalog.regclass::pg_catalog.text", "SELECT CAST(regclass_out(oid) AS TEXT)"),
            ("SELECT x::name", "SELECT CAST(x AS TEXT)"),
            ("SELECT x::oid", "SELECT CAST(x AS BIGINT)"),
            ("SELECT 1 WHERE x = ANY('{a,\"b c\"}')", "SELECT 1 WHERE x IN ('a', 'b c')"),
            ("SELECT 1 WHERE x = ANY(ARRAY['a','b'])", "SELECT 1 WHERE x IN ('a', 'b')"),
            ("SELECT 1 WHERE x <> ALL('{}')", "SELECT 1 WHERE true"),
            ("SELECT labels->>'job'", "SELECT json_get_text(labels, 'job')"),
            ("SELECT (SELECT 1 FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.x) FROM a", "SELECT NULL FROM a"),
            ("SELECT i FROM generate_series(1, 3) AS i", "SELECT i FROM generate_series(1, 3) AS i (i)"),
            ("SELECT avg FROM (SELECT avg(v) FROM t) AS s", "SELECT avg FROM (SELECT avg(v) AS \"avg\" FROM t) AS s"),
            ("SELECT 1, 1", "SELECT 1, 1 AS \"1 (1)\""),
            ("SELECT x LIKE 'a%' ESCAPE '/'", "SELECT x LIKE 'a%'"),
            ("SELECT x LIKE 'a/_' || '%' ESCAPE '/'", "SELECT x LIKE 'a\\_%'"),
            ("SELECT (a.k).x FROM a", "SELECT get_field((a.k), 'x') FROM a"),
            (
                "SELECT CASE WHEN t.typtype = 'c' THEN 1 ELSE 2 END FROM pg_catalog.pg_type t",
                "SELECT 2 FROM pg_catalog.pg_type t",
            ),
            (
                "SELECT CASE WHEN typtype = 'c' THEN 1 ELSE 2 END FROM t",
                "SELECT CASE WHEN typtype = 'c' THEN 1 ELSE 2 END FROM t",
            ),
            ("SELECT 'pg_catalog.array_in'::regproc", "SELECT 'array_in'"),
            ("SELECT s FROM upper('x') AS s", "SELECT s FROM (SELECT upper('x') AS s) AS s"),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }
}
