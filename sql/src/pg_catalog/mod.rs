//! `pg_catalog` and `information_schema`: metrics described the way Postgres describes tables, as far as psql, Grafana
//! and drivers look. Tables without a counterpart here exist and are empty, so that queries over them are answered.

mod columns;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, Int64Array, ListBuilder, StringViewArray,
    StringViewBuilder, UInt32Array, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::catalog::{INFORMATION_SCHEMA, PG_CATALOG, Snapshot};
use crate::wire_type;

pub const PG_CATALOG_OID: u32 = 11;
pub const PUBLIC_OID: u32 = 2200;
pub const INFORMATION_SCHEMA_OID: u32 = 13_000;
const DATABASE_OID: u32 = 16_384;
const OWNER_OID: u32 = 10;
/// Who owns every table, whoever looks.
pub const OWNER: &str = "pilaster";
/// Metrics have numbers from here on, made from their names, so that they stay the same from statement to statement.
const FIRST_TABLE_OID: u32 = 1 << 30;

/// A value of a catalog row.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
    Oids(Vec<u32>),
    Texts(Vec<String>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Cell {
        Cell::Int(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Cell {
        Cell::Int(number.into())
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Cell {
        Cell::Bool(value)
    }
}

type Row = Vec<Cell>;

/// What a scan wants of a table whose rows are dear to make; `None` wants all.
#[derive(Debug, Default)]
struct Wanted {
    oids: Option<Vec<u32>>,
    names: Option<Vec<String>>,
}

/// A function that `\df` shows.
#[derive(Debug, Clone, Copy)]
pub struct ListedFunction {
    pub oid: u32,
    pub name: &'static str,
    pub result: &'static str,
    pub arguments: &'static str,
    pub description: &'static str,
}

/// The functions that are ours, not Postgres's.
pub const FUNCTIONS: &[ListedFunction] = &[
    ListedFunction {
        oid: 20_001,
        name: "promql",
        result: "SETOF record",
        arguments: "query text, start timestamp with time zone, \"end\" timestamp with time zone, step interval",
        description: "rows of a PromQL range query; with fewer arguments, of an instant query",
    },
    ListedFunction {
        oid: 20_002,
        name: "time_bucket",
        result: "timestamp with time zone",
        arguments: "bucket_width interval, ts timestamp with time zone, origin timestamp with time zone",
        description: "start of the bucket that ts lies in",
    },
    ListedFunction {
        oid: 20_003,
        name: "date_bin",
        result: "timestamp with time zone",
        arguments: "stride interval, ts timestamp with time zone, origin timestamp with time zone",
        description: "start of the bucket that ts lies in",
    },
];

pub fn function(oid: u32) -> Option<&'static ListedFunction> {
    FUNCTIONS.iter().find(|function| function.oid == oid)
}

/// HELP of the metric behind a table, or what a system table is for.
pub fn comment(snapshot: &Snapshot, name: &str) -> Option<String> {
    match name {
        "samples" => Some("samples of all metrics".to_owned()),
        "series" => Some("label sets of all metrics".to_owned()),
        "metrics" => Some("names, types and help texts of all metrics".to_owned()),
        metric => {
            let metadata = snapshot.metadata();
            let found = metadata.iter().find(|metadata| metadata.metric == metric)?;
            (!found.help.is_empty()).then(|| found.help.clone())
        }
    }
}

/// The public tables under the numbers that catalogs know them by.
#[derive(Debug)]
pub struct Relations {
    /// Ascending by name.
    all: Vec<Relation>,
    by_oid: HashMap<u32, usize>,
}

#[derive(Debug, Clone)]
pub struct Relation {
    pub oid: u32,
    pub name: String,
}

impl Relations {
    pub fn new(tables: Vec<String>) -> Relations {
        let mut all = Vec::with_capacity(tables.len());
        let mut by_oid = HashMap::with_capacity(tables.len());
        for (index, name) in tables.into_iter().enumerate() {
            let mut oid = FIRST_TABLE_OID | (fnv1a(&name) & (FIRST_TABLE_OID - 1));
            while by_oid.contains_key(&oid) {
                oid = FIRST_TABLE_OID | (oid.wrapping_add(1) & (FIRST_TABLE_OID - 1));
            }
            by_oid.insert(oid, index);
            all.push(Relation { oid, name });
        }
        Relations { all, by_oid }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Relation> {
        self.all.iter()
    }

    pub fn by_oid(&self, oid: u32) -> Option<&Relation> {
        self.by_oid.get(&oid).map(|index| &self.all[*index])
    }

    pub fn by_name(&self, name: &str) -> Option<&Relation> {
        self.all.binary_search_by(|relation| relation.name.as_str().cmp(name)).ok().map(|index| &self.all[index])
    }
}

/// Source: FNV-1a, Fowler/Noll/Vo, 32 bits.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Number of a catalog's own table, for `'pg_class'::regclass`.
pub fn catalog_table_oid(name: &str) -> Option<u32> {
    let position = columns::TABLES.iter().position(|table| table.schema == PG_CATALOG && table.name == name)?;
    // The well-known numbers, which clients write as literals.
    Some(match name {
        "pg_type" => 1247,
        "pg_attribute" => 1249,
        "pg_proc" => 1255,
        "pg_class" => 1259,
        "pg_namespace" => 2615,
        "pg_database" => 1262,
        "pg_constraint" => 2606,
        "pg_extension" => 3079,
        _ => 12_000 + position as u32,
    })
}

pub fn catalog_table_name(oid: u32) -> Option<&'static str> {
    columns::TABLES
        .iter()
        .filter(|table| table.schema == PG_CATALOG)
        .find(|table| catalog_table_oid(table.name) == Some(oid))
        .map(|table| table.name)
}

/// The catalogs over one snapshot.
#[derive(Debug, Clone)]
pub struct PgCatalog {
    snapshot: Arc<Snapshot>,
}

impl PgCatalog {
    pub fn new(snapshot: Arc<Snapshot>) -> PgCatalog {
        PgCatalog { snapshot }
    }

    pub fn table_names(schema: &str) -> impl Iterator<Item = &'static str> {
        let schema = schema.to_owned();
        columns::TABLES.iter().filter(move |table| table.schema == schema).map(|table| table.name)
    }

    /// Whether `name` is a catalog table that never has a row.
    pub fn is_always_empty(name: &str) -> bool {
        columns::TABLES.iter().any(|table| table.name == name) && !rows::HAVE_ROWS.contains(&name)
    }

    pub fn table(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = columns::TABLES.iter().find(|table| table.schema == schema && table.name == name) else {
            return Ok(None);
        };
        let columns: Vec<(&'static str, Kind)> = table.columns().collect();
        let schema: SchemaRef =
            Arc::new(Schema::new(columns.iter().map(|(name, kind)| kind.field(name)).collect::<Vec<_>>()));
        Ok(Some(Arc::new(CatalogTable {
            name: table.name,
            is_information: table.schema == INFORMATION_SCHEMA,
            columns,
            schema,
            snapshot: Arc::clone(&self.snapshot),
        })))
    }
}

/// Type of a catalog column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Oid,
    Name,
    Text,
    Char,
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Oids,
    Texts,
}

impl Kind {
    fn field(self, name: &str) -> Field {
        let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
        match self {
            Kind::Oid => wire_type::tagged(Field::new(name, DataType::UInt32, true), wire_type::OID),
            Kind::Name => wire_type::tagged(Field::new(name, DataType::Utf8View, true), wire_type::NAME),
            Kind::Char => wire_type::tagged(Field::new(name, DataType::Utf8View, true), wire_type::CHAR),
            Kind::Text => Field::new(name, DataType::Utf8View, true),
            Kind::Bool => Field::new(name, DataType::Boolean, true),
            Kind::Int2 => Field::new(name, DataType::Int16, true),
            Kind::Int4 => Field::new(name, DataType::Int32, true),
            Kind::Int8 => Field::new(name, DataType::Int64, true),
            Kind::Float4 => Field::new(name, DataType::Float32, true),
            Kind::Oids => Field::new(name, list(DataType::UInt32), true),
            Kind::Texts => Field::new(name, list(DataType::Utf8View), true),
        }
    }

    fn array(self, rows: &[Row], column: usize) -> ArrayRef {
        let number = |row: &Row| match &row[column] {
            Cell::Int(number) => Some(*number),
            _ => None,
        };
        match self {
            Kind::Oid => Arc::new(UInt32Array::from_iter(rows.iter().map(|row| number(row).map(|value| value as u32)))),
            Kind::Int2 => Arc::new(Int16Array::from_iter(rows.iter().map(|row| number(row).map(|value| value as i16)))),
            Kind::Int4 => Arc::new(Int32Array::from_iter(rows.iter().map(|row| number(row).map(|value| value as i32)))),
            Kind::Int8 => Arc::new(Int64Array::from_iter(rows.iter().map(number))),
            Kind::Float4 => {
                Arc::new(Float32Array::from_iter(rows.iter().map(|row| number(row).map(|value| value as f32))))
            }
            Kind::Bool => Arc::new(BooleanArray::from_iter(rows.iter().map(|row| match &row[column] {
                Cell::Bool(value) => Some(*value),
                _ => None,
            }))),
            Kind::Name | Kind::Text | Kind::Char => {
                Arc::new(StringViewArray::from_iter(rows.iter().map(|row| match &row[column] {
                    Cell::Text(text) => Some(text.as_str()),
                    _ => None,
                })))
            }
            Kind::Oids => {
                let mut lists = ListBuilder::new(UInt32Builder::new());
                for row in rows {
                    match &row[column] {
                        Cell::Oids(items) => {
                            lists.values().append_slice(items);
                            lists.append(true);
                        }
                        _ => lists.append(false),
                    }
                }
                Arc::new(lists.finish())
            }
            Kind::Texts => {
                let mut lists = ListBuilder::new(StringViewBuilder::new());
                for row in rows {
                    match &row[column] {
                        Cell::Texts(items) => {
                            items.iter().for_each(|item| lists.values().append_value(item));
                            lists.append(true);
                        }
                        _ => lists.append(false),
                    }
                }
                Arc::new(lists.finish())
            }
        }
    }
}

/// One catalog table; rows are made when it is scanned.
#[derive(Debug)]
struct CatalogTable {
    name: &'static str,
    is_information: bool,
    columns: Vec<(&'static str, Kind)>,
    schema: SchemaRef,
    snapshot: Arc<Snapshot>,
}

#[async_trait]
impl TableProvider for CatalogTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.snapshot.stop.check()?;
        let mut wanted = Wanted::default();
        for filter in filters {
            wanted.narrow(filter);
        }
        let rows = rows::of_table(&self.snapshot, self.name, self.is_information, &wanted)?;
        let arrays: Vec<ArrayRef> =
            self.columns.iter().enumerate().map(|(index, (_, kind))| kind.array(&rows, index)).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        MemTable::try_new(Arc::clone(&self.schema), vec![vec![batch]])?.scan(state, projection, &[], None).await
    }
}

impl Wanted {
    /// Takes `attrelid = 1`, `table_name = 'x'` and lists of such into account.
    fn narrow(&mut self, filter: &Expr) {
        let (column, values): (&Expr, Vec<&Expr>) = match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match left.as_ref() {
                Expr::Literal(..) => (right, vec![left]),
                _ => (left, vec![right]),
            },
            Expr::InList(list) if !list.negated => (&list.expr, list.list.iter().collect()),
            _ => return,
        };
        let column = match column {
            Expr::Cast(cast) => cast.expr.as_ref(),
            other => other,
        };
        let Expr::Column(column) = column else { return };
        let literals: Option<Vec<&ScalarValue>> = values
            .into_iter()
            .map(|value| match value {
                Expr::Literal(value, _) => Some(value),
                _ => None,
            })
            .collect();
        let Some(literals) = literals else { return };
        match column.name.as_str() {
            "attrelid" => {
                let number = |value: &&ScalarValue| match value.cast_to(&DataType::Int64) {
                    Ok(ScalarValue::Int64(Some(number))) => u32::try_from(number).ok(),
                    _ => None,
                };
                self.oids = Some(literals.iter().filter_map(number).collect());
            }
            "table_name" => {
                let text = |value: &&ScalarValue| value.try_as_str().flatten().map(str::to_owned);
                self.names = Some(literals.iter().filter_map(text).collect());
            }
            _ => {}
        }
    }

    fn wants(&self, relation: &Relation) -> bool {
        self.oids.as_ref().is_none_or(|oids| oids.contains(&relation.oid))
            && self.names.as_ref().is_none_or(|names| names.contains(&relation.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_names() {
        let table = |name: &str| name.to_owned();
        let few = Relations::new(vec![table("up")]);
        let more = Relations::new(vec![table("a"), table("up"), table("z")]);
        assert_eq!(few.by_name("up").unwrap().oid, more.by_name("up").unwrap().oid);
        assert!(more.iter().all(|relation| more.by_oid(relation.oid).unwrap().name == relation.name));
        assert_eq!(catalog_table_name(catalog_table_oid("pg_class").unwrap()), Some("pg_class"));
    }

    #[test]
    fn every_table_has_columns_that_parse() {
        for table in columns::TABLES {
            assert!(table.columns().count() > 0, "{}", table.name);
        }
        for name in rows::HAVE_ROWS {
            assert!(columns::TABLES.iter().any(|table| table.name == *name), "{name}");
        }
        assert!(PgCatalog::is_always_empty("pg_attrdef"));
        assert!(!PgCatalog::is_always_empty("pg_class"));
        assert!(!PgCatalog::is_always_empty("up"));
    }
}
