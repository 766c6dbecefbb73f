//! A statement's answer: columns as clients see them, and batches.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, FunctionArguments, ObjectName, Query, Select, SelectItem, SetExpr, UnaryOperator, Value,
};

use crate::wire_type;

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    /// As Postgres would name it: `avg`, `date_trunc`, `?column?`. Not unique.
    pub name: String,
    pub data_type: DataType,
    /// Postgres type number.
    pub type_oid: u32,
}

/// All rows of one statement.
#[derive(Debug, Clone)]
pub struct QueryOutput {
    pub columns: Arc<[OutputColumn]>,
    pub batches: Vec<RecordBatch>,
}

impl QueryOutput {
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Names of the select list's items as Postgres derives them, around a `*` where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputNames {
    /// Items before the first wildcard; all of them where there is none.
    head: Vec<String>,
    /// Items after the last wildcard.
    tail: Vec<String>,
}

impl OutputNames {
    pub fn of_query(query: &Query) -> OutputNames {
        match first_select(&query.body) {
            Some(select) => OutputNames::of_items(&select.projection),
            None => OutputNames::default(),
        }
    }

    fn of_items(items: &[SelectItem]) -> OutputNames {
        let is_wildcard = |item: &SelectItem| match item {
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => true,
            SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } | SelectItem::ExprWithAliases { .. } => false,
        };
        let first = items.iter().position(is_wildcard).unwrap_or(items.len());
        let after_last = items.iter().rposition(is_wildcard).map_or(items.len(), |position| position + 1);
        let names = |items: &[SelectItem]| items.iter().map(item_name).collect();
        OutputNames { head: names(&items[..first]), tail: names(&items[after_last..]) }
    }

    /// The columns of a plan with this schema under these names.
    pub fn columns(&self, schema: &Schema) -> Arc<[OutputColumn]> {
        let fields = schema.fields();
        let count = fields.len();
        let tail_start = count.saturating_sub(self.tail.len());
        let column = |(index, field): (usize, &Arc<Field>)| {
            let name = if index < self.head.len() {
                self.head[index].clone()
            } else if index >= tail_start {
                self.tail[index - tail_start].clone()
            } else {
                field.name().clone()
            };
            OutputColumn { name, data_type: field.data_type().clone(), type_oid: wire_type::of_field(field) }
        };
        fields.iter().enumerate().map(column).collect()
    }
}

/// The select whose list names a query's columns: the leftmost of a chain of set operations.
pub fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn item_name(item: &SelectItem) -> String {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => {
            // An unquoted name is folded to lower case, as everywhere in Postgres.
            if alias.quote_style.is_some() { alias.value.clone() } else { alias.value.to_lowercase() }
        }
        SelectItem::UnnamedExpr(expr) => expr_name(expr).unwrap_or_else(|| "?column?".to_owned()),
        _ => "?column?".to_owned(),
    }
}

/// The name Postgres gives an expression without alias. Source: `FigureColname`, PostgreSQL `parse_target.c`.
pub fn expr_name(expr: &Expr) -> Option<String> {
    let ident = |ident: &datafusion::sql::sqlparser::ast::Ident| {
        if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
    };
    match expr {
        Expr::Identifier(name) => Some(ident(name)),
        Expr::CompoundIdentifier(names) => names.last().map(ident),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => expr_name(inner),
        Expr::Function(function) => match (&function.args, last_part(&function.name).as_str()) {
            (FunctionArguments::Subquery(_), "array") => Some("array".to_owned()),
            (_, name) => Some(name.to_owned()),
        },
        Expr::Cast { expr, data_type, kind: CastKind::Cast | CastKind::DoubleColon, .. } => {
            expr_name(expr).or_else(|| type_name(data_type))
        }
        Expr::Case { else_result, .. } => {
            else_result.as_deref().and_then(expr_name).or_else(|| Some("case".to_owned()))
        }
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Position { .. } => Some("position".to_owned()),
        Expr::Overlay { .. } => Some("overlay".to_owned()),
        Expr::Trim { .. } => Some("btrim".to_owned()),
        Expr::Ceil { .. } => Some("ceil".to_owned()),
        Expr::Floor { .. } => Some("floor".to_owned()),
        Expr::AtTimeZone { .. } => Some("timezone".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Interval(_) => Some("interval".to_owned()),
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Subquery(query) => match first_select(&query.body)?.projection.first()? {
            item @ SelectItem::ExprWithAlias { .. } => Some(item_name(item)),
            SelectItem::UnnamedExpr(inner) => expr_name(inner),
            _ => None,
        },
        Expr::Value(value) => match value.value {
            Value::Boolean(_) => Some("bool".to_owned()),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Plus | UnaryOperator::Minus, .. } => None,
        _ => None,
    }
}

fn last_part(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|part| part.value.to_lowercase()).unwrap_or_default()
}

fn type_name(data_type: &datafusion::sql::sqlparser::ast::DataType) -> Option<String> {
    let text = data_type.to_string().to_lowercase();
    let word: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    Some(match word.as_str() {
        "int" | "integer" => "int4".to_owned(),
        "bigint" => "int8".to_owned(),
        "smallint" => "int2".to_owned(),
        "double" | "float" => "float8".to_owned(),
        "real" => "float4".to_owned(),
        "boolean" => "bool".to_owned(),
        "decimal" => "numeric".to_owned(),
        "char" | "character" => "bpchar".to_owned(),
        "" => return None,
        _ => word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn names(sql: &str) -> OutputNames {
        match Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0) {
            Statement::Query(query) => OutputNames::of_query(&query),
            other => panic!("{other} is no query"),
        }
    }

    #[test]
    fn columns_are_called_as_in_postgres() {
        let found = names(
            "select 1, avg(value), date_trunc('hour', ts), t.Job, \"Job\", value::int, '1'::text, x as Y, \
             case when true then 1 end, extract(epoch from ts), 1 + 2, now() union all select 2",
        );
        assert_eq!(
            found.head,
            ["?column?", "avg", "date_trunc", "job", "Job", "value", "text", "y", "case", "extract", "?column?", "now"]
        );
        assert_eq!(
            names("select 1, t.*, max(x)"),
            OutputNames { head: vec!["?column?".into()], tail: vec!["max".into()] }
        );
    }
}
