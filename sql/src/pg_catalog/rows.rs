//! Rows of those catalog tables that have any, in the order of their columns.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::catalog::{DATABASE, INFORMATION_SCHEMA, PG_CATALOG, PUBLIC, Snapshot};
use crate::settings::Settings;
use crate::wire_type::{self, WireType};

use super::{
    Cell, DATABASE_OID, FUNCTIONS, INFORMATION_SCHEMA_OID, OWNER, OWNER_OID, PG_CATALOG_OID, PUBLIC_OID, Relation, Row,
    Wanted, catalog_table_oid, columns,
};

/// Tables with rows; all others are always empty.
pub const HAVE_ROWS: &[&str] = &[
    "columns",
    "pg_am",
    "pg_attribute",
    "pg_class",
    "pg_database",
    "pg_description",
    "pg_namespace",
    "pg_proc",
    "pg_roles",
    "pg_settings",
    "pg_tables",
    "pg_tablespace",
    "pg_type",
    "pg_user",
    "schemata",
    "tables",
];

const HEAP_OID: u32 = 2;
const TABLESPACE_OID: u32 = 1663;

/// The rows of table `name`, as far as they are wanted.
pub fn of_table(snapshot: &Arc<Snapshot>, name: &str, is_information: bool, wanted: &Wanted) -> Result<Vec<Row>> {
    if is_information {
        return match name {
            "columns" => information_columns(snapshot, wanted),
            "schemata" => Ok(schemas().into_iter().map(|(name, _)| schemata_row(name)).collect()),
            "tables" => information_tables(snapshot),
            _ => Ok(Vec::new()),
        };
    }
    match name {
        "pg_am" => Ok(vec![vec![HEAP_OID.into(), "heap".into(), Cell::Int(3), "t".into()]]),
        "pg_attribute" => attributes(snapshot, wanted),
        "pg_class" => classes(snapshot),
        "pg_database" => Ok(vec![database_row()]),
        "pg_description" => descriptions(snapshot),
        "pg_namespace" => Ok(schemas()
            .into_iter()
            .map(|(name, oid)| vec![oid.into(), name.into(), OWNER_OID.into(), Cell::Null])
            .collect()),
        "pg_proc" => Ok(FUNCTIONS.iter().map(function_row).collect()),
        "pg_roles" => Ok(vec![role_row()]),
        "pg_settings" => Ok(Settings::default().all().into_iter().map(setting_row).collect()),
        "pg_tables" => Ok(snapshot
            .relations()?
            .iter()
            .map(|relation| {
                let mut row: Row = vec![PUBLIC.into(), relation.name.clone().into(), OWNER.into(), Cell::Null];
                row.extend([Cell::Bool(false), Cell::Bool(false), Cell::Bool(false), Cell::Bool(false)]);
                row
            })
            .collect()),
        "pg_tablespace" => {
            Ok(vec![vec![TABLESPACE_OID.into(), "pg_default".into(), OWNER_OID.into(), Cell::Null, Cell::Null]])
        }
        "pg_type" => Ok(wire_type::TYPES.iter().map(type_row).collect()),
        "pg_user" => Ok(vec![vec![
            OWNER.into(),
            OWNER_OID.into(),
            Cell::Bool(false),
            Cell::Bool(false),
            Cell::Bool(false),
            Cell::Bool(false),
            Cell::Null,
            Cell::Null,
            Cell::Null,
        ]]),
        _ => Ok(Vec::new()),
    }
}

fn schemas() -> [(&'static str, u32); 3] {
    [(PG_CATALOG, PG_CATALOG_OID), (PUBLIC, PUBLIC_OID), (INFORMATION_SCHEMA, INFORMATION_SCHEMA_OID)]
}

fn classes(snapshot: &Snapshot) -> Result<Vec<Row>> {
    let relations = snapshot.relations()?;
    let public = relations.iter().map(|relation| class_row(relation.oid, relation.name.clone(), PUBLIC_OID, "r"));
    let catalogs = columns::TABLES.iter().filter(|table| table.schema == PG_CATALOG).filter_map(|table| {
        Some(class_row(catalog_table_oid(table.name)?, table.name.to_owned(), PG_CATALOG_OID, "r"))
    });
    Ok(public.chain(catalogs).collect())
}

fn class_row(oid: u32, name: String, schema_oid: u32, kind: &str) -> Row {
    vec![
        oid.into(),
        name.into(),
        schema_oid.into(),
        0u32.into(),
        0u32.into(),
        OWNER_OID.into(),
        HEAP_OID.into(),
        oid.into(),
        0u32.into(),
        Cell::Int(0),
        // How many rows there are is not known without reading.
        Cell::Int(-1),
        Cell::Int(0),
        0u32.into(),
        Cell::Bool(false),
        Cell::Bool(false),
        "p".into(),
        kind.into(),
        Cell::Int(0),
        Cell::Int(0),
        Cell::Bool(false),
        Cell::Bool(false),
        Cell::Bool(false),
        Cell::Bool(false),
        Cell::Bool(false),
        Cell::Bool(true),
        "n".into(),
        Cell::Bool(false),
        0u32.into(),
        0u32.into(),
        0u32.into(),
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Bool(false),
    ]
}

/// The columns of a public table; empty where it vanished meanwhile.
fn schema_of(snapshot: &Arc<Snapshot>, relation: &Relation) -> Result<Option<SchemaRef>> {
    Ok(snapshot.public_table(&relation.name)?.map(|table| table.schema()))
}

fn attributes(snapshot: &Arc<Snapshot>, wanted: &Wanted) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for relation in snapshot.relations()?.iter().filter(|relation| wanted.wants(relation)) {
        let Some(schema) = schema_of(snapshot, relation)? else { continue };
        for (index, field) in schema.fields().iter().enumerate() {
            let known = wire_type::find(wire_type::of_field(field));
            rows.push(vec![
                relation.oid.into(),
                field.name().as_str().into(),
                known.map_or(wire_type::TEXT, |known| known.oid).into(),
                Cell::Int(known.map_or(-1, |known| known.length).into()),
                Cell::Int(index as i64 + 1),
                Cell::Int(-1),
                Cell::Int(-1),
                Cell::Int(0),
                Cell::Bool(known.is_some_and(|known| known.by_value)),
                "i".into(),
                "p".into(),
                "".into(),
                Cell::Bool(!field.is_nullable()),
                Cell::Bool(false),
                Cell::Bool(false),
                "".into(),
                "".into(),
                Cell::Bool(false),
                Cell::Bool(true),
                Cell::Int(0),
                Cell::Int(-1),
                0u32.into(),
                Cell::Null,
                Cell::Null,
                Cell::Null,
            ]);
        }
    }
    Ok(rows)
}

fn information_columns(snapshot: &Arc<Snapshot>, wanted: &Wanted) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for relation in snapshot.relations()?.iter().filter(|relation| wanted.wants(relation)) {
        let Some(schema) = schema_of(snapshot, relation)? else { continue };
        for (index, field) in schema.fields().iter().enumerate() {
            let known = wire_type::find(wire_type::of_field(field));
            let is_float = known.is_some_and(|known| known.oid == wire_type::FLOAT8);
            let is_time = known.is_some_and(|known| known.oid == wire_type::TIMESTAMPTZ);
            let mut row: Row = vec![
                DATABASE.into(),
                PUBLIC.into(),
                relation.name.clone().into(),
                field.name().as_str().into(),
                Cell::Int(index as i64 + 1),
                Cell::Null,
                if field.is_nullable() { "YES" } else { "NO" }.into(),
                known.map_or("text", |known| known.sql_name).into(),
                Cell::Null,
                Cell::Null,
                if is_float { Cell::Int(53) } else { Cell::Null },
                if is_float { Cell::Int(2) } else { Cell::Null },
                Cell::Null,
                if is_time { Cell::Int(3) } else { Cell::Null },
            ];
            row.extend(std::iter::repeat_n(Cell::Null, 7));
            row.extend([
                DATABASE.into(),
                PG_CATALOG.into(),
                known.map_or("text", |known| known.name).into(),
                (index as i64 + 1).to_string().into(),
                "NO".into(),
                "NO".into(),
                Cell::Null,
                "NEVER".into(),
                Cell::Null,
                "NO".into(),
            ]);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn information_tables(snapshot: &Snapshot) -> Result<Vec<Row>> {
    let row = |schema: &str, name: &str, kind: &str| -> Row {
        let mut row: Row = vec![DATABASE.into(), schema.into(), name.into(), kind.into()];
        row.extend(std::iter::repeat_n(Cell::Null, 5));
        row.extend(["NO".into(), "NO".into(), Cell::Null]);
        row
    };
    let relations = snapshot.relations()?;
    let public = relations.iter().map(|relation| row(PUBLIC, &relation.name, "BASE TABLE"));
    let catalogs = columns::TABLES
        .iter()
        .map(|table| row(table.schema, table.name, if table.schema == PG_CATALOG { "BASE TABLE" } else { "VIEW" }));
    Ok(public.chain(catalogs).collect())
}

fn descriptions(snapshot: &Snapshot) -> Result<Vec<Row>> {
    let relations = snapshot.relations()?;
    let class_oid = catalog_table_oid("pg_class").unwrap_or(0);
    let mut rows: Vec<Row> = Vec::new();
    for name in crate::system_tables::NAMES {
        if let (Some(relation), Some(text)) = (relations.by_name(name), super::comment(snapshot, name)) {
            rows.push(vec![relation.oid.into(), class_oid.into(), Cell::Int(0), text.into()]);
        }
    }
    for metadata in snapshot.metadata() {
        if let Some(relation) = relations.by_name(&metadata.metric).filter(|_| !metadata.help.is_empty()) {
            rows.push(vec![relation.oid.into(), class_oid.into(), Cell::Int(0), metadata.help.into()]);
        }
    }
    let proc_oid = catalog_table_oid("pg_proc").unwrap_or(0);
    rows.extend(FUNCTIONS.iter().map(|function| -> Row {
        vec![function.oid.into(), proc_oid.into(), Cell::Int(0), function.description.into()]
    }));
    Ok(rows)
}

fn database_row() -> Row {
    vec![
        DATABASE_OID.into(),
        DATABASE.into(),
        OWNER_OID.into(),
        Cell::Int(6),
        "c".into(),
        Cell::Bool(false),
        Cell::Bool(true),
        Cell::Int(-1),
        0u32.into(),
        0u32.into(),
        TABLESPACE_OID.into(),
        "C".into(),
        "C".into(),
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        0u32.into(),
    ]
}

fn role_row() -> Row {
    let mut row: Row = vec![OWNER.into(), Cell::Bool(false), Cell::Bool(true), Cell::Bool(false), Cell::Bool(false)];
    row.extend([Cell::Bool(true), Cell::Bool(false), Cell::Int(-1), "********".into(), Cell::Null]);
    row.extend([Cell::Bool(false), Cell::Null, OWNER_OID.into()]);
    row
}

fn setting_row((name, value): (String, String)) -> Row {
    let mut row: Row = vec![name.into(), value.clone().into()];
    row.extend(std::iter::repeat_n(Cell::Null, 4));
    row.extend(["user".into(), "string".into(), "default".into(), Cell::Null, Cell::Null, Cell::Null]);
    row.extend([value.clone().into(), value.into(), Cell::Null, Cell::Null, Cell::Bool(false)]);
    row
}

fn schemata_row(name: &str) -> Row {
    let mut row: Row = vec![DATABASE.into(), name.into(), OWNER.into()];
    row.extend(std::iter::repeat_n(Cell::Null, 4));
    row
}

fn function_row(function: &super::ListedFunction) -> Row {
    let argument_count = function.arguments.split(',').count() as i64;
    let returns_rows = function.result.starts_with("SETOF");
    let mut row: Row = vec![
        function.oid.into(),
        function.name.into(),
        PUBLIC_OID.into(),
        OWNER_OID.into(),
        12u32.into(),
        Cell::Int(1),
        Cell::Int(if returns_rows { 1000 } else { 0 }),
        0u32.into(),
        0u32.into(),
        "f".into(),
        Cell::Bool(false),
        Cell::Bool(false),
        Cell::Bool(true),
        Cell::Bool(returns_rows),
        "s".into(),
        "s".into(),
        Cell::Int(argument_count),
        Cell::Int(0),
        if returns_rows { 2249u32 } else { wire_type::TIMESTAMPTZ }.into(),
        Cell::Oids(Vec::new()),
        Cell::Null,
        Cell::Null,
    ];
    let names = function.arguments.split(',').filter_map(|argument| argument.split_whitespace().next());
    row.push(Cell::Texts(names.map(|name| name.trim_matches('"').to_owned()).collect()));
    row.extend([function.name.into(), Cell::Null, Cell::Null]);
    row
}

fn type_row(known: &WireType) -> Row {
    let is_array = known.element_oid != 0;
    let io = |suffix: &str| -> Cell {
        if is_array { format!("array_{suffix}").into() } else { format!("{}{suffix}", known.name).into() }
    };
    vec![
        known.oid.into(),
        known.name.into(),
        PG_CATALOG_OID.into(),
        OWNER_OID.into(),
        Cell::Int(known.length.into()),
        Cell::Bool(known.by_value),
        if known.oid == wire_type::UNKNOWN { "p" } else { "b" }.into(),
        known.category.to_string().into(),
        Cell::Bool(matches!(known.oid, wire_type::TEXT | wire_type::FLOAT8 | wire_type::TIMESTAMPTZ)),
        Cell::Bool(true),
        ",".into(),
        0u32.into(),
        0u32.into(),
        known.element_oid.into(),
        known.array_oid.into(),
        io("in"),
        io("out"),
        io("recv"),
        io("send"),
        0u32.into(),
        0u32.into(),
        0u32.into(),
        "i".into(),
        if known.length < 0 { "x" } else { "p" }.into(),
        Cell::Bool(false),
        0u32.into(),
        Cell::Int(-1),
        Cell::Int(0),
        0u32.into(),
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}
