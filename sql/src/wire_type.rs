//! Postgres type numbers, and how a column says that it is more than its Arrow type.

use arrow::datatypes::{DataType, Field, IntervalUnit};

pub const BOOL: u32 = 16;
pub const BYTEA: u32 = 17;
pub const CHAR: u32 = 18;
pub const NAME: u32 = 19;
pub const INT8: u32 = 20;
pub const INT2: u32 = 21;
pub const INT4: u32 = 23;
pub const TEXT: u32 = 25;
pub const OID: u32 = 26;
pub const JSON: u32 = 114;
pub const FLOAT4: u32 = 700;
pub const FLOAT8: u32 = 701;
pub const UNKNOWN: u32 = 705;
pub const BPCHAR: u32 = 1042;
pub const VARCHAR: u32 = 1043;
pub const DATE: u32 = 1082;
pub const TIME: u32 = 1083;
pub const TIMESTAMP: u32 = 1114;
pub const TIMESTAMPTZ: u32 = 1184;
pub const INTERVAL: u32 = 1186;
pub const NUMERIC: u32 = 1700;
pub const TEXT_ARRAY: u32 = 1009;
pub const JSONB: u32 = 3802;

/// A type as `pg_type` describes it.
#[derive(Debug, Clone, Copy)]
pub struct WireType {
    pub oid: u32,
    pub name: &'static str,
    /// As SQL spells it.
    pub sql_name: &'static str,
    /// Bytes of a value; -1 where they vary.
    pub length: i16,
    pub by_value: bool,
    /// `typcategory`.
    pub category: char,
    /// Type of the array of it, 0 for none.
    pub array_oid: u32,
    /// Type of the elements where this is an array, else 0.
    pub element_oid: u32,
}

const fn scalar(
    oid: u32,
    name: &'static str,
    sql_name: &'static str,
    length: i16,
    category: char,
    array_oid: u32,
) -> WireType {
    WireType { oid, name, sql_name, length, by_value: length > 0 && length <= 8, category, array_oid, element_oid: 0 }
}

const fn array(oid: u32, name: &'static str, sql_name: &'static str, element_oid: u32) -> WireType {
    WireType { oid, name, sql_name, length: -1, by_value: false, category: 'A', array_oid: 0, element_oid }
}

/// Every type a column or parameter can have. Source: PostgreSQL 16 `pg_type.dat`.
pub const TYPES: &[WireType] = &[
    scalar(BOOL, "bool", "boolean", 1, 'B', 1000),
    scalar(BYTEA, "bytea", "bytea", -1, 'U', 1001),
    scalar(CHAR, "char", "\"char\"", 1, 'Z', 1002),
    scalar(NAME, "name", "name", 64, 'S', 1003),
    scalar(INT8, "int8", "bigint", 8, 'N', 1016),
    scalar(INT2, "int2", "smallint", 2, 'N', 1005),
    scalar(INT4, "int4", "integer", 4, 'N', 1007),
    scalar(TEXT, "text", "text", -1, 'S', 1009),
    scalar(OID, "oid", "oid", 4, 'N', 1028),
    scalar(JSON, "json", "json", -1, 'U', 199),
    scalar(FLOAT4, "float4", "real", 4, 'N', 1021),
    scalar(FLOAT8, "float8", "double precision", 8, 'N', 1022),
    scalar(UNKNOWN, "unknown", "unknown", -2, 'X', 0),
    scalar(BPCHAR, "bpchar", "character", -1, 'S', 1014),
    scalar(VARCHAR, "varchar", "character varying", -1, 'S', 1015),
    scalar(DATE, "date", "date", 4, 'D', 1182),
    scalar(TIME, "time", "time without time zone", 8, 'D', 1183),
    scalar(TIMESTAMP, "timestamp", "timestamp without time zone", 8, 'D', 1115),
    scalar(TIMESTAMPTZ, "timestamptz", "timestamp with time zone", 8, 'D', 1185),
    scalar(INTERVAL, "interval", "interval", 16, 'T', 1187),
    scalar(NUMERIC, "numeric", "numeric", -1, 'N', 1231),
    scalar(JSONB, "jsonb", "jsonb", -1, 'U', 3807),
    array(1000, "_bool", "boolean[]", BOOL),
    array(1001, "_bytea", "bytea[]", BYTEA),
    array(1002, "_char", "\"char\"[]", CHAR),
    array(1003, "_name", "name[]", NAME),
    array(1016, "_int8", "bigint[]", INT8),
    array(1005, "_int2", "smallint[]", INT2),
    array(1007, "_int4", "integer[]", INT4),
    array(1009, "_text", "text[]", TEXT),
    array(1028, "_oid", "oid[]", OID),
    array(199, "_json", "json[]", JSON),
    array(1021, "_float4", "real[]", FLOAT4),
    array(1022, "_float8", "double precision[]", FLOAT8),
    array(1014, "_bpchar", "character[]", BPCHAR),
    array(1015, "_varchar", "character varying[]", VARCHAR),
    array(1182, "_date", "date[]", DATE),
    array(1183, "_time", "time without time zone[]", TIME),
    array(1115, "_timestamp", "timestamp without time zone[]", TIMESTAMP),
    array(1185, "_timestamptz", "timestamp with time zone[]", TIMESTAMPTZ),
    array(1187, "_interval", "interval[]", INTERVAL),
    array(1231, "_numeric", "numeric[]", NUMERIC),
    array(3807, "_jsonb", "jsonb[]", JSONB),
];

/// What is known about type `oid`.
pub fn find(oid: u32) -> Option<&'static WireType> {
    TYPES.iter().find(|wire_type| wire_type.oid == oid)
}

/// Metadata key under which a field carries its type number.
const KEY: &str = "postgres_type";

/// `field`, to be announced to clients as type `oid`.
pub fn tagged(field: Field, oid: u32) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(KEY.to_owned(), oid.to_string());
    field.with_metadata(metadata)
}

/// The type clients are told for `field`.
pub fn of_field(field: &Field) -> u32 {
    let tag = field.metadata().get(KEY).and_then(|oid| oid.parse().ok());
    match (tag, field.data_type()) {
        // A tag outlives a cast in some plans: it holds only for the Arrow type it was given to.
        (Some(OID), DataType::UInt32) => OID,
        (Some(tag @ (JSON | JSONB | NAME | CHAR)), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => tag,
        (_, data_type) => of_data_type(data_type),
    }
}

/// The type clients are told for an Arrow type; what Postgres has no type for is text or JSON.
pub fn of_data_type(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Boolean => BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => INT2,
        DataType::Int32 | DataType::UInt16 => INT4,
        DataType::Int64 | DataType::UInt32 => INT8,
        DataType::UInt64 => NUMERIC,
        DataType::Float16 | DataType::Float32 => FLOAT4,
        DataType::Float64 => FLOAT8,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            NUMERIC
        }
        DataType::Timestamp(_, None) => TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => TIMESTAMPTZ,
        DataType::Date32 | DataType::Date64 => DATE,
        DataType::Time32(_) | DataType::Time64(_) => TIME,
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano)
        | DataType::Duration(_) => INTERVAL,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => BYTEA,
        DataType::Dictionary(_, value) => of_data_type(value),
        DataType::RunEndEncoded(_, value) => of_data_type(value.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        // Lists of these are made of nothing but object numbers.
        | DataType::LargeListView(item) if item.data_type() == &DataType::UInt32 => 1028,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => match find(of_data_type(item.data_type())) {
            Some(element) if element.array_oid != 0 => element.array_oid,
            _ => JSON,
        },
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => JSON,
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TEXT,
    }
}
