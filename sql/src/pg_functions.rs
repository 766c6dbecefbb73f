//! Functions that answer about the session and the catalogs: what psql, drivers and Grafana call between queries.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, StringViewArray, StringViewBuilder,
    UInt32Array, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::catalog::{INFORMATION_SCHEMA, PG_CATALOG, PUBLIC, Snapshot};
use crate::error::{SqlError, sqlstate};
use crate::pg_catalog::{self, INFORMATION_SCHEMA_OID, PG_CATALOG_OID, PUBLIC_OID, Relations};
use crate::settings::{self, Settings};
use crate::wire_type;

/// What the functions look at.
#[derive(Debug)]
pub struct SessionInfo {
    snapshot: Arc<Snapshot>,
    settings: Arc<Settings>,
}

impl SessionInfo {
    fn relations(&self) -> Result<Arc<Relations>> {
        self.snapshot.relations()
    }
}

/// One value of an argument or result.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
    Texts(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Text,
    Int32,
    Int64,
    Oid,
    Bool,
    Texts,
    /// `(x, n)`: an element and its position.
    Pair,
}

impl Answer {
    fn data_type(self) -> DataType {
        match self {
            Answer::Text => DataType::Utf8View,
            Answer::Int32 => DataType::Int32,
            Answer::Int64 => DataType::Int64,
            Answer::Oid => DataType::UInt32,
            Answer::Bool => DataType::Boolean,
            Answer::Pair => DataType::Struct(
                vec![Field::new("x", DataType::Int32, true), Field::new("n", DataType::Int32, true)].into(),
            ),
            Answer::Texts => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true))),
        }
    }
}

type Run = fn(&SessionInfo, &[Cell]) -> Result<Cell>;

/// Name, type of the answer, fewest and most arguments, and what it does.
struct Entry(&'static str, Answer, usize, usize, Run);

/// Every function of this kind for one statement.
pub fn session_functions(snapshot: &Arc<Snapshot>, settings: &Arc<Settings>) -> Vec<Arc<ScalarUDF>> {
    let info = Arc::new(SessionInfo { snapshot: Arc::clone(snapshot), settings: Arc::clone(settings) });
    ENTRIES
        .iter()
        .map(|entry| {
            let signatures = (entry.2..=entry.3)
                .map(|count| match count {
                    0 => datafusion::logical_expr::TypeSignature::Nullary,
                    count => datafusion::logical_expr::TypeSignature::Any(count),
                })
                .collect();
            Arc::new(ScalarUDF::new_from_impl(SessionFunction {
                name: entry.0,
                answer: entry.1,
                run: entry.4,
                signature: Signature::one_of(signatures, Volatility::Stable),
                info: Arc::clone(&info),
            }))
        })
        .collect()
}

const ENTRIES: &[Entry] = &[
    Entry("version", Answer::Text, 0, 0, |_, _| Ok(Cell::Text(settings::version_text()))),
    Entry("current_database", Answer::Text, 0, 0, |info, _| Ok(Cell::Text(info.settings.database.clone()))),
    Entry("current_schema", Answer::Text, 0, 0, |_, _| Ok(Cell::Text(PUBLIC.to_owned()))),
    Entry("current_schemas", Answer::Texts, 1, 1, |_, arguments| {
        let schemas: &[&str] = if arguments[0] == Cell::Bool(true) { &[PG_CATALOG, PUBLIC] } else { &[PUBLIC] };
        Ok(Cell::Texts(schemas.iter().map(|name| (*name).to_owned()).collect()))
    }),
    Entry("current_user", Answer::Text, 0, 0, user),
    Entry("session_user", Answer::Text, 0, 0, user),
    Entry("pg_get_userbyid", Answer::Text, 1, 1, |_, _| Ok(Cell::Text(pg_catalog::OWNER.to_owned()))),
    Entry("pg_backend_pid", Answer::Int32, 0, 0, |info, _| Ok(Cell::Int(info.settings.backend_pid.into()))),
    Entry("pg_is_in_recovery", Answer::Bool, 0, 0, no),
    Entry("inet_server_addr", Answer::Text, 0, 0, null),
    Entry("inet_server_port", Answer::Int32, 0, 0, null),
    Entry("inet_client_addr", Answer::Text, 0, 0, null),
    Entry("inet_client_port", Answer::Int32, 0, 0, null),
    Entry("pg_my_temp_schema", Answer::Oid, 0, 0, |_, _| Ok(Cell::Int(0))),
    Entry("pg_is_other_temp_schema", Answer::Bool, 1, 1, no),
    Entry("getdatabaseencoding", Answer::Text, 0, 0, |_, _| Ok(Cell::Text("UTF8".to_owned()))),
    Entry("pg_client_encoding", Answer::Text, 0, 0, |_, _| Ok(Cell::Text("UTF8".to_owned()))),
    Entry("pg_encoding_to_char", Answer::Text, 1, 1, |_, _| Ok(Cell::Text("UTF8".to_owned()))),
    Entry("current_setting", Answer::Text, 1, 2, |info, arguments| {
        let Cell::Text(name) = &arguments[0] else { return Ok(Cell::Null) };
        match info.settings.get(name) {
            Ok(value) => Ok(Cell::Text(value)),
            Err(_) if arguments.get(1) == Some(&Cell::Bool(true)) => Ok(Cell::Null),
            Err(error) => Err(error.into()),
        }
    }),
    // Within one statement only, as Postgres does it with `is_local`: the session is not reached from a function.
    Entry("set_config", Answer::Text, 3, 3, |_, arguments| Ok(arguments[1].clone())),
    Entry("pg_table_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_type_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_function_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_operator_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_opclass_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_collation_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_conversion_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_statistics_obj_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_ts_config_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_ts_dict_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_ts_parser_is_visible", Answer::Bool, 1, 1, yes),
    Entry("pg_ts_template_is_visible", Answer::Bool, 1, 1, yes),
    Entry("has_table_privilege", Answer::Bool, 2, 3, only_reading),
    Entry("has_any_column_privilege", Answer::Bool, 2, 3, only_reading),
    Entry("has_column_privilege", Answer::Bool, 3, 4, only_reading),
    Entry("has_schema_privilege", Answer::Bool, 2, 3, only_reading),
    Entry("has_database_privilege", Answer::Bool, 2, 3, only_reading),
    Entry("has_function_privilege", Answer::Bool, 2, 3, only_reading),
    Entry("has_type_privilege", Answer::Bool, 2, 3, only_reading),
    Entry("has_sequence_privilege", Answer::Bool, 2, 3, no),
    Entry("has_tablespace_privilege", Answer::Bool, 2, 3, no),
    Entry("pg_has_role", Answer::Bool, 2, 3, yes),
    Entry("format_type", Answer::Text, 2, 2, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Int(oid) => Cell::Text(
                u32::try_from(*oid).ok().and_then(wire_type::find).map_or("???", |known| known.sql_name).to_owned(),
            ),
            _ => Cell::Null,
        })
    }),
    Entry("pg_get_expr", Answer::Text, 2, 3, null),
    Entry("pg_get_constraintdef", Answer::Text, 1, 2, null),
    Entry("pg_get_indexdef", Answer::Text, 1, 3, null),
    Entry("pg_get_viewdef", Answer::Text, 1, 2, null),
    Entry("pg_get_ruledef", Answer::Text, 1, 2, null),
    Entry("pg_get_triggerdef", Answer::Text, 1, 2, null),
    Entry("pg_get_partkeydef", Answer::Text, 1, 1, null),
    Entry("pg_get_partition_constraintdef", Answer::Text, 1, 1, null),
    Entry("pg_get_statisticsobjdef_columns", Answer::Text, 1, 1, null),
    Entry("pg_get_function_sqlbody", Answer::Text, 1, 1, null),
    Entry("pg_get_functiondef", Answer::Text, 1, 1, null),
    Entry("pg_get_function_result", Answer::Text, 1, 1, |_, arguments| {
        Ok(pg_catalog::function(arguments[0].as_oid()).map_or(Cell::Null, |known| Cell::Text(known.result.to_owned())))
    }),
    Entry("pg_get_function_arguments", Answer::Text, 1, 1, function_arguments),
    Entry("pg_get_function_identity_arguments", Answer::Text, 1, 1, function_arguments),
    Entry("pg_get_serial_sequence", Answer::Text, 2, 2, null),
    Entry("pg_get_replica_identity_index", Answer::Oid, 1, 1, null),
    Entry("obj_description", Answer::Text, 1, 2, |info, arguments| {
        let relations = info.relations()?;
        let Some(relation) = relations.by_oid(arguments[0].as_oid()) else { return Ok(Cell::Null) };
        Ok(pg_catalog::comment(&info.snapshot, &relation.name).map_or(Cell::Null, Cell::Text))
    }),
    Entry("shobj_description", Answer::Text, 2, 2, null),
    Entry("col_description", Answer::Text, 2, 2, null),
    Entry("pg_relation_size", Answer::Int64, 1, 2, null),
    Entry("pg_table_size", Answer::Int64, 1, 1, null),
    Entry("pg_total_relation_size", Answer::Int64, 1, 1, null),
    Entry("pg_indexes_size", Answer::Int64, 1, 1, null),
    Entry("pg_database_size", Answer::Int64, 1, 1, null),
    Entry("pg_tablespace_size", Answer::Int64, 1, 1, null),
    Entry("pg_tablespace_location", Answer::Text, 1, 1, null),
    Entry("pg_size_pretty", Answer::Text, 1, 1, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Int(bytes) => Cell::Text(size_pretty(*bytes)),
            _ => Cell::Null,
        })
    }),
    Entry("pg_relation_is_publishable", Answer::Bool, 1, 1, no),
    Entry("pg_relation_is_updatable", Answer::Int32, 2, 2, |_, _| Ok(Cell::Int(0))),
    Entry("pg_column_is_updatable", Answer::Bool, 3, 3, no),
    Entry("txid_current", Answer::Int64, 0, 0, |_, _| Ok(Cell::Int(1))),
    Entry("quote_ident", Answer::Text, 1, 1, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Text(text) => Cell::Text(quote_ident(text)),
            _ => Cell::Null,
        })
    }),
    Entry("quote_literal", Answer::Text, 1, 1, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Null => Cell::Null,
            value => Cell::Text(format!("'{}'", value.to_text().replace('\'', "''"))),
        })
    }),
    Entry("quote_nullable", Answer::Text, 1, 1, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Null => Cell::Text("NULL".to_owned()),
            value => Cell::Text(format!("'{}'", value.to_text().replace('\'', "''"))),
        })
    }),
    Entry("parse_ident", Answer::Texts, 1, 2, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Text(text) => Cell::Texts(parse_ident(text)?),
            _ => Cell::Null,
        })
    }),
    Entry("array_lower", Answer::Int64, 2, 2, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Texts(items) if !items.is_empty() => Cell::Int(1),
            _ => Cell::Null,
        })
    }),
    Entry("array_upper", Answer::Int64, 2, 2, |_, arguments| {
        Ok(match &arguments[0] {
            Cell::Texts(items) if !items.is_empty() => Cell::Int(items.len() as i64),
            _ => Cell::Null,
        })
    }),
    // Over the columns of indexes, of which there are none.
    Entry("_pg_expandarray", Answer::Pair, 1, 1, null),
    Entry("format", Answer::Text, 1, 4, |_, arguments| {
        let Cell::Text(pattern) = &arguments[0] else { return Ok(Cell::Null) };
        Ok(Cell::Text(format_text(pattern, &arguments[1..])?))
    }),
    Entry("to_regclass", Answer::Oid, 1, 1, |info, arguments| {
        let Cell::Text(name) = &arguments[0] else { return Ok(Cell::Null) };
        Ok(find_class(info, name)?.map_or(Cell::Null, |oid| Cell::Int(oid.into())))
    }),
    Entry("regclass_in", Answer::Oid, 1, 1, |info, arguments| {
        let Cell::Text(name) = &arguments[0] else { return Ok(Cell::Null) };
        match find_class(info, name)? {
            Some(oid) => Ok(Cell::Int(oid.into())),
            None => Err(SqlError::new(sqlstate::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")).into()),
        }
    }),
    Entry("regclass_out", Answer::Text, 1, 1, |info, arguments| {
        if let Cell::Text(text) = &arguments[0] {
            return Ok(Cell::Text(text.clone()));
        }
        let Cell::Int(number) = arguments[0] else { return Ok(Cell::Null) };
        let relations = info.relations()?;
        let name = relations.by_oid(arguments[0].as_oid()).map(|relation| quote_ident(&relation.name));
        let name = name.or_else(|| pg_catalog::catalog_table_name(arguments[0].as_oid()).map(str::to_owned));
        Ok(Cell::Text(name.unwrap_or_else(|| number.to_string())))
    }),
    Entry("regtype_in", Answer::Oid, 1, 1, |_, arguments| {
        let Cell::Text(name) = &arguments[0] else { return Ok(Cell::Null) };
        match find_type(name) {
            Some(oid) => Ok(Cell::Int(oid.into())),
            None => Err(SqlError::new(sqlstate::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist")).into()),
        }
    }),
    Entry("to_regtype", Answer::Oid, 1, 1, |_, arguments| {
        let Cell::Text(name) = &arguments[0] else { return Ok(Cell::Null) };
        Ok(find_type(name).map_or(Cell::Null, |oid| Cell::Int(oid.into())))
    }),
    Entry("regnamespace_in", Answer::Oid, 1, 1, |_, arguments| {
        let Cell::Text(name) = &arguments[0] else { return Ok(Cell::Null) };
        match name.as_str() {
            PG_CATALOG => Ok(Cell::Int(PG_CATALOG_OID.into())),
            PUBLIC => Ok(Cell::Int(PUBLIC_OID.into())),
            INFORMATION_SCHEMA => Ok(Cell::Int(INFORMATION_SCHEMA_OID.into())),
            _ => Err(SqlError::new(sqlstate::INVALID_SCHEMA, format!("schema \"{name}\" does not exist")).into()),
        }
    }),
    Entry("regnamespace_out", Answer::Text, 1, 1, |_, arguments| {
        Ok(match arguments[0].as_oid() {
            PG_CATALOG_OID => Cell::Text(PG_CATALOG.to_owned()),
            PUBLIC_OID => Cell::Text(PUBLIC.to_owned()),
            INFORMATION_SCHEMA_OID => Cell::Text(INFORMATION_SCHEMA.to_owned()),
            _ => match &arguments[0] {
                Cell::Null => Cell::Null,
                other => Cell::Text(other.to_text()),
            },
        })
    }),
];

fn user(info: &SessionInfo, _: &[Cell]) -> Result<Cell> {
    Ok(Cell::Text(info.settings.user.clone()))
}

fn yes(_: &SessionInfo, _: &[Cell]) -> Result<Cell> {
    Ok(Cell::Bool(true))
}

fn no(_: &SessionInfo, _: &[Cell]) -> Result<Cell> {
    Ok(Cell::Bool(false))
}

fn null(_: &SessionInfo, _: &[Cell]) -> Result<Cell> {
    Ok(Cell::Null)
}

/// Whether the privilege named last is one of looking, not of changing.
fn only_reading(_: &SessionInfo, arguments: &[Cell]) -> Result<Cell> {
    let Some(Cell::Text(privileges)) = arguments.last() else { return Ok(Cell::Null) };
    let reads = privileges.split(',').any(|privilege| {
        matches!(privilege.trim().to_ascii_uppercase().as_str(), "SELECT" | "USAGE" | "CONNECT" | "EXECUTE")
    });
    Ok(Cell::Bool(reads))
}

fn function_arguments(_: &SessionInfo, arguments: &[Cell]) -> Result<Cell> {
    Ok(pg_catalog::function(arguments[0].as_oid()).map_or(Cell::Null, |known| Cell::Text(known.arguments.to_owned())))
}

fn find_class(info: &SessionInfo, name: &str) -> Result<Option<u32>> {
    let parts = parse_ident(name)?;
    let (schema, table) = match parts.as_slice() {
        [table] => (None, table),
        [.., schema, table] => (Some(schema.as_str()), table),
        [] => return Ok(None),
    };
    if matches!(schema, None | Some(PUBLIC))
        && let Some(relation) = info.relations()?.by_name(table)
    {
        return Ok(Some(relation.oid));
    }
    if let Ok(oid) = table.parse::<u32>() {
        return Ok(Some(oid));
    }
    Ok(if schema == Some(PUBLIC) { None } else { pg_catalog::catalog_table_oid(table) })
}

fn find_type(name: &str) -> Option<u32> {
    let name = name.trim().trim_start_matches("pg_catalog.").trim_matches('"').to_lowercase();
    let name = match name.as_str() {
        "int" => "integer".to_owned(),
        "float" => "double precision".to_owned(),
        _ => name,
    };
    wire_type::TYPES.iter().find(|known| known.name == name || known.sql_name == name).map(|known| known.oid)
}

/// A name as it has to be written: quoted unless it is plain lower case.
pub fn quote_ident(text: &str) -> String {
    let plain = !text.is_empty()
        && !text.starts_with(|character: char| character.is_ascii_digit())
        && text
            .chars()
            .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// `a."B".c` as its parts.
fn parse_ident(text: &str) -> Result<Vec<String>> {
    let invalid =
        || SqlError::new(sqlstate::INVALID_PARAMETER, format!("string is not a valid identifier: \"{text}\""));
    let mut parts = Vec::new();
    let mut characters = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if characters.peek() == Some(&'"') {
            characters.next();
            loop {
                match characters.next().ok_or_else(invalid)? {
                    '"' if characters.peek() == Some(&'"') => {
                        characters.next();
                        part.push('"');
                    }
                    '"' => break,
                    other => part.push(other),
                }
            }
        } else {
            while let Some(character) = characters.next_if(|character| *character != '.') {
                part.extend(character.to_lowercase());
            }
        }
        if part.is_empty() {
            return Err(invalid().into());
        }
        parts.push(part);
        match characters.next() {
            None => return Ok(parts),
            Some('.') => {}
            Some(_) => return Err(invalid().into()),
        }
    }
}

/// `format('%I.%s', …)`: `%I` a quoted name, `%L` a quoted literal, `%s` plain.
fn format_text(pattern: &str, arguments: &[Cell]) -> Result<String> {
    let invalid = |message: &str| SqlError::new(sqlstate::INVALID_PARAMETER, message.to_owned());
    let mut arguments = arguments.iter();
    let mut formatted = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            formatted.push(character);
            continue;
        }
        let kind = characters.next().ok_or_else(|| invalid("unterminated format() type specifier"))?;
        if kind == '%' {
            formatted.push('%');
            continue;
        }
        let argument = arguments.next().ok_or_else(|| invalid("too few arguments for format()"))?;
        match (kind, argument) {
            ('I', Cell::Null) => return Err(invalid("null values cannot be formatted as an SQL identifier").into()),
            ('I', argument) => formatted.push_str(&quote_ident(&argument.to_text())),
            ('L', Cell::Null) => formatted.push_str("NULL"),
            ('L', argument) => formatted.push_str(&format!("'{}'", argument.to_text().replace('\'', "''"))),
            ('s', argument) => formatted.push_str(&argument.to_text()),
            _ => return Err(invalid(&format!("unrecognized format() type specifier \"{kind}\"")).into()),
        }
    }
    Ok(formatted)
}

/// Bytes in the largest unit that leaves fewer than five digits, as `pg_size_pretty`.
fn size_pretty(bytes: i64) -> String {
    let mut size = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        if size.abs() < 10_240.0 {
            return format!("{size:.0} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.0} PB")
}

impl Cell {
    fn as_oid(&self) -> u32 {
        match self {
            Cell::Int(number) => u32::try_from(*number).unwrap_or(0),
            Cell::Text(text) => text.parse().unwrap_or(0),
            Cell::Null | Cell::Bool(_) | Cell::Texts(_) => 0,
        }
    }

    fn to_text(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Text(text) => text.clone(),
            Cell::Int(number) => number.to_string(),
            Cell::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
            Cell::Texts(items) => items.join(","),
        }
    }
}

struct SessionFunction {
    name: &'static str,
    answer: Answer,
    run: Run,
    signature: Signature,
    info: Arc<SessionInfo>,
}

impl std::fmt::Debug for SessionFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionFunction").field(&self.name).finish()
    }
}

// One statement has one set of these: the name tells them apart.
impl PartialEq for SessionFunction {
    fn eq(&self, other: &SessionFunction) -> bool {
        self.name == other.name
    }
}

impl Eq for SessionFunction {}

impl Hash for SessionFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for SessionFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.answer.data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let columns =
            args.args.iter().map(|argument| readable(&argument.to_array(rows)?)).collect::<Result<Vec<ArrayRef>>>()?;
        let mut cells = Vec::with_capacity(rows);
        let mut arguments = Vec::with_capacity(columns.len());
        for row in 0..rows {
            arguments.clear();
            arguments.extend(columns.iter().map(|column| cell(column, row)));
            cells.push((self.run)(&self.info, &arguments)?);
        }
        let array = to_array(cells, self.answer);
        if all_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// The column in one of the few types [`cell`] reads.
fn readable(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Boolean | DataType::Null => Arc::clone(array),
        data_type if data_type.is_integer() => cast(array, &DataType::Int64)?,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            cast(array, &Answer::Texts.data_type())?
        }
        _ => cast(array, &DataType::Utf8View)?,
    })
}

fn cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row).to_owned()),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Cell::Texts(items.as_string_view().iter().map(|item| item.unwrap_or_default().to_owned()).collect())
        }
        _ => Cell::Null,
    }
}

fn to_array(cells: Vec<Cell>, answer: Answer) -> ArrayRef {
    let number = |cell: &Cell| match cell {
        Cell::Int(number) => Some(*number),
        _ => None,
    };
    match answer {
        Answer::Text => Arc::new(StringViewArray::from_iter(cells.into_iter().map(|cell| match cell {
            Cell::Null => None,
            other => Some(other.to_text()),
        }))),
        Answer::Int32 => {
            Arc::new(Int32Array::from_iter(cells.iter().map(|cell| number(cell).map(|value| value as i32))))
        }
        Answer::Int64 => Arc::new(Int64Array::from_iter(cells.iter().map(number))),
        Answer::Oid => {
            Arc::new(UInt32Array::from_iter(cells.iter().map(|cell| number(cell).map(|value| value as u32))))
        }
        Answer::Bool => Arc::new(BooleanArray::from_iter(cells.iter().map(|cell| match cell {
            Cell::Bool(value) => Some(*value),
            _ => None,
        }))),
        Answer::Pair => new_null_array(&answer.data_type(), cells.len()),
        Answer::Texts => {
            let mut lists = ListBuilder::new(StringViewBuilder::new());
            for cell in cells {
                match cell {
                    Cell::Texts(items) => {
                        for item in items {
                            lists.values().append_value(item);
                        }
                        lists.append(true);
                    }
                    _ => lists.append(false),
                }
            }
            Arc::new(lists.finish())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_taken_apart() {
        assert_eq!(quote_ident("up"), "up");
        assert_eq!(quote_ident("job:x"), "\"job:x\"");
        assert_eq!(parse_ident("public.\"Up\"").unwrap(), ["public", "Up"]);
        assert!(parse_ident("a.").is_err());
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(format_text("%I=%L%%%s", &[text("A"), text("b"), Cell::Int(1)]).unwrap(), "\"A\"='b'%1");
        assert!(format_text("%s", &[]).is_err());
        assert_eq!(size_pretty(10_239), "10239 bytes");
        assert_eq!(size_pretty(10_240), "10 kB");
    }
}
