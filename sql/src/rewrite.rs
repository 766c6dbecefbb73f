//! Postgres's dialect as the planner's: names, types and operators that mean the same under another spelling.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, Join, JoinOperator, ObjectName, ObjectNamePart, Query,
    Select, SelectItem, SelectItem::ExprWithAlias, SetExpr, TableAlias, TableAliasColumnDef, TableFactor,
    TableFunctionArgs, TimezoneInfo, UnaryOperator, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::catalog::{INFORMATION_SCHEMA, PG_CATALOG, PUBLIC};
use crate::error::{SqlError, sqlstate};
use crate::output::expr_name;
use crate::pg_catalog::PgCatalog;
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

const TABLE_FUNCTIONS: &[&str] = &["generate_series", "range", "promql"];

/// `FROM f(x) AS a` for a function that makes one value, as `(SELECT f(x) AS a) AS a`; arrays to unnest likewise.
fn scalar_in_from(factor: &TableFactor, name: &str) -> Option<TableFactor> {
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

fn column_def(name: &str) -> TableAliasColumnDef {
    TableAliasColumnDef { name: Ident::new(name), data_type: None }
}

/// A derived table's unnamed function calls get Postgres's column names, so that an outer query can use them.
fn name_function_columns(query: &mut Query) {
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

fn for_each_derived(body: &mut SetExpr, visit: &mut impl FnMut(&mut Query)) {
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

/// Whether every row of `query` would come from a catalog table that never has rows.
fn reads_nothing(query: &Query) -> bool {
    matches!(query.body.as_ref(), SetExpr::Select(select) if select_reads_nothing(select))
}

/// See [`reads_nothing`]; an aggregate makes a row even of nothing.
fn select_reads_nothing(select: &Select) -> bool {
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

fn is_empty_table(factor: &TableFactor) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else { return false };
    is_catalog_table(name) && PgCatalog::is_always_empty(&last_word(name))
}

/// Only names with their schema: a metric may be called `views` or `triggers`.
fn is_catalog_table(name: &ObjectName) -> bool {
    name.0.len() >= 2
        && name.0[name.0.len() - 2].as_ident().is_some_and(|schema| {
            schema.value.eq_ignore_ascii_case(PG_CATALOG) || schema.value.eq_ignore_ascii_case(INFORMATION_SCHEMA)
        })
}

fn item_aggregates(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) | ExprWithAlias { expr, .. } => aggregates(expr),
        _ => false,
    }
}

/// Whether a call of an aggregate stands anywhere in `expr`.
fn aggregates(expr: &Expr) -> bool {
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

const AGGREGATES: &[&str] =
    &["count", "array_agg", "string_agg", "max", "min", "sum", "avg", "bool_or", "bool_and", "json_agg", "jsonb_agg"];

/// Leaves only the shape of a select over nothing: the same columns, no row. What it computes need not be known.
fn empty(select: &mut Select) {
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

/// Array columns of the catalogs that are always NULL.
const NULL_ARRAYS: &[&str] = &["reloptions", "relacl", "attacl", "attoptions", "attfdwoptions"];

/// `ARRAY(SELECT x …)` as `(SELECT array_agg(x) …)`.
fn array_subquery(query: &Query) -> Expr {
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

fn derived_array(query: &Query) -> Expr {
    fragment(&format!("(SELECT array_agg(item) FROM ({query}) AS items(item))")).unwrap_or_else(null)
}

/// A look-up in a catalog finds at most one row, but the planner wants that written: `(SELECT max(x) FROM …)`.
fn aggregate_lookup(query: &mut Query) {
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
fn list_items(right: &Expr) -> Option<Vec<Expr>> {
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

fn membership(left: &Expr, list: Vec<Expr>, negated: bool) -> Expr {
    if list.is_empty() {
        return Expr::Value(Value::Boolean(negated).into());
    }
    Expr::InList { expr: Box::new(left.clone()), list, negated }
}

fn strip_schema(name: &mut ObjectName) {
    let is_catalog = |part: &ObjectNamePart| {
        part.as_ident().is_some_and(|word| {
            word.value.eq_ignore_ascii_case(PG_CATALOG)
                || word.value.eq_ignore_ascii_case(INFORMATION_SCHEMA)
                || word.value.eq_ignore_ascii_case("public")
        })
    };
    if name.0.len() == 2 && is_catalog(&name.0[0]) {
        name.0.remove(0);
    }
}

fn last_word(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|word| word.value.to_lowercase()).unwrap_or_default()
}

/// Functions under another name or with other arguments.
fn replaced_function(function: &Function) -> Option<Expr> {
    let arguments: Vec<Expr> = match &function.args {
        FunctionArguments::None => Vec::new(),
        FunctionArguments::Subquery(_) => return None,
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            })
            .collect::<Option<_>>()?,
    };
    match (last_word(&function.name).as_str(), arguments.as_slice()) {
        ("localtimestamp" | "statement_timestamp" | "transaction_timestamp" | "clock_timestamp", []) => {
            Some(call("now", vec![]))
        }
        // TimescaleDB counts buckets from Monday, 2000-01-03.
        ("time_bucket", [width, time]) => {
            Some(call("date_bin", vec![interval(width), time.clone(), fragment("TIMESTAMPTZ '2000-01-03T00:00:00Z'")?]))
        }
        ("time_bucket", [width, time, origin]) => {
            Some(call("date_bin", vec![interval(width), time.clone(), origin.clone()]))
        }
        ("date_bin", [width @ Expr::Value(_), rest @ ..]) => {
            let mut arguments = vec![interval(width)];
            arguments.extend_from_slice(rest);
            Some(call("date_bin", arguments))
        }
        ("user" | "current_role", []) => Some(call("current_user", vec![])),
        ("current_catalog", []) => Some(call("current_database", vec![])),
        ("substr" | "substring", [_, Expr::Value(value)]) if matches!(value.value, Value::SingleQuotedString(_)) => {
            let mut arguments = arguments;
            arguments.push(number(1));
            let found = call("regexp_match", arguments[..2].to_vec());
            Some(call("array_element", vec![found, number(1)]))
        }
        _ => None,
    }
}

/// A width of time given as text is an interval.
fn interval(width: &Expr) -> Expr {
    match text(width) {
        Some(_) => Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(width.clone()),
            data_type: DataType::Interval { fields: None, precision: None },
            array: false,
            format: None,
        },
        None => width.clone(),
    }
}

/// What a cast to one of Postgres's own types becomes; `None` where the planner knows the type.
fn cast(inner: &Expr, data_type: &DataType) -> Option<Expr> {
    let is_literal = text(inner).is_some();
    match type_word(data_type)?.as_str() {
        "regclass" if is_literal => Some(call("regclass_in", vec![inner.clone()])),
        "regclass" => Some(call("regclass_out", vec![inner.clone()])),
        "regtype" if is_literal => Some(call("regtype_in", vec![inner.clone()])),
        "regtype" => Some(call("format_type", vec![inner.clone(), null()])),
        // A function is known by its bare name.
        "regproc" | "regprocedure" if is_literal => Some(string(text(inner)?.rsplit('.').next().unwrap_or_default())),
        "regnamespace" if is_literal => Some(call("regnamespace_in", vec![inner.clone()])),
        "regnamespace" => Some(call("regnamespace_out", vec![inner.clone()])),
        "regrole" => Some(call("pg_get_userbyid", vec![inner.clone()])),
        _ => Some(Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(inner.clone()),
            data_type: plain_type(data_type)?,
            array: false,
            format: None,
        }),
    }
}

/// A type of Postgres's own under the name of one the planner has.
fn plain_type(data_type: &DataType) -> Option<DataType> {
    if let DataType::Array(ArrayElemTypeDef::SquareBracket(inner, size)) = data_type {
        let inner = plain_type(inner)?;
        return Some(DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(inner), *size)));
    }
    Some(match type_word(data_type)?.as_str() {
        "oid" | "xid" | "cid" | "regclass" | "regtype" | "regproc" | "regnamespace" => DataType::BigInt(None),
        "int2" => DataType::SmallInt(None),
        "int4" => DataType::Integer(None),
        "int8" => DataType::BigInt(None),
        "float4" => DataType::Real,
        "float8" => DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
        "bool" => DataType::Boolean,
        "timestamptz" => DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::WithTimeZone),
        _ => DataType::Text,
    })
}

/// The type's name in lower case, without schema; `None` for types the planner understands as they are.
fn type_word(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Custom(name, _) => Some(last_word(name)),
        DataType::Regclass => Some("regclass".to_owned()),
        DataType::JSON | DataType::JSONB => Some("json".to_owned()),
        DataType::Array(_) => Some("array".to_owned()),
        DataType::Char(_) | DataType::Character(_) | DataType::Varchar(_) | DataType::CharacterVarying(_) => {
            Some("text".to_owned())
        }
        _ => None,
    }
}

fn operator(symbol: &str) -> Option<BinaryOperator> {
    Some(match symbol {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        ">" => BinaryOperator::Gt,
        "<=" => BinaryOperator::LtEq,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        _ => return None,
    })
}

/// The text of a string literal, through parentheses.
pub fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => value_text(value),
        Expr::Nested(inner) => text(inner),
        _ => None,
    }
}

fn value_text(value: &datafusion::sql::sqlparser::ast::ValueWithSpan) -> Option<String> {
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
        _ => None,
    }
}

/// The text of an expression made of literals: casts to text and `||` included.
fn constant_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Cast { expr, data_type: DataType::Text | DataType::Varchar(_), .. } => constant_text(expr),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            Some(constant_text(left)? + &constant_text(right)?)
        }
        Expr::Nested(inner) => constant_text(inner),
        other => text(other),
    }
}

/// A LIKE pattern with another escape character, written with backslashes.
fn with_backslashes(pattern: &str, escape: &str) -> String {
    let mut rewritten = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if escape.starts_with(character) {
            rewritten.push('\\');
            rewritten.extend(characters.next());
        } else if character == '\\' {
            rewritten.push_str("\\\\");
        } else {
            rewritten.push(character);
        }
    }
    rewritten
}

pub fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

pub fn string(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).into())
}

pub fn number(value: i64) -> Expr {
    let digits = Expr::Value(Value::Number(value.unsigned_abs().to_string(), false).into());
    if value < 0 {
        Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(digits) }))
    } else {
        digits
    }
}

/// A call of one of the functions the planner knows.
fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// Text of our own as an expression.
fn fragment(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// A type given by name, as in PREPARE.
///
/// # Errors
/// `42704` for a type nobody knows.
pub fn type_oid(data_type: &DataType) -> Result<u32, SqlError> {
    let (data_type, is_array) = match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) => (inner.as_ref(), true),
        other => (other, false),
    };
    let text = match type_word(data_type) {
        Some(word) if matches!(data_type, DataType::Custom(..)) => word,
        _ => data_type.to_string().to_lowercase(),
    };
    let base = text.split('(').next().unwrap_or_default().trim();
    let name = match base {
        "int" | "integer" => "int4",
        "double" | "float" => "float8",
        "decimal" | "dec" => "numeric",
        "character varying" | "char varying" => "varchar",
        "character" => "bpchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "regclass" | "regtype" => "oid",
        other => other,
    };
    let found = crate::wire_type::TYPES
        .iter()
        .find(|known| known.element_oid == 0 && (known.name == name || known.sql_name == name))
        .ok_or_else(|| SqlError::new(sqlstate::UNDEFINED_OBJECT, format!("type \"{base}\" does not exist")))?;
    Ok(if is_array { found.array_oid } else { found.oid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::ast::Statement;

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
