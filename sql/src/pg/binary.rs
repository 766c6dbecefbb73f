//! Values in Postgres's binary format. Source: the `…send` and `…recv` functions, PostgreSQL `src/backend/utils/adt`.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt32Type,
};
use arrow::error::ArrowError;
use std::sync::Arc;

use crate::cell_text::{CellText, Spelling};
use crate::error::{SqlError, sqlstate};
use crate::wire_type::{
    self, BOOL, BYTEA, DATE, FLOAT4, FLOAT8, INT2, INT4, INT8, INTERVAL, JSONB, NUMERIC, OID, TIME, TIMESTAMP,
    TIMESTAMPTZ,
};

/// Microseconds from 1970-01-01 to 2000-01-01, where Postgres counts from.
const EPOCH_US: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// One column, ready to be written value by value.
pub struct BinaryColumn {
    type_oid: u32,
    array: ArrayRef,
    /// For types whose binary form is their text.
    text: Option<CellText>,
    /// For arrays: their elements.
    items: Option<Box<BinaryColumn>>,
}

impl BinaryColumn {
    /// # Errors
    /// Where Arrow cannot convert the layout.
    pub fn new(array: &ArrayRef, type_oid: u32) -> Result<BinaryColumn, ArrowError> {
        let plain = |data_type: DataType| -> Result<BinaryColumn, ArrowError> {
            Ok(BinaryColumn { type_oid, array: cast(array, &data_type)?, text: None, items: None })
        };
        let element = wire_type::find(type_oid).map_or(0, |known| known.element_oid);
        if element != 0 {
            let item = match array.data_type() {
                DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Arc::clone(item),
                _ => Arc::new(Field::new_list_field(DataType::Utf8View, true)),
            };
            let list = cast(array, &DataType::List(item))?;
            let items = BinaryColumn::new(list.as_list::<i32>().values(), element)?;
            return Ok(BinaryColumn { type_oid, array: list, text: None, items: Some(Box::new(items)) });
        }
        match type_oid {
            BOOL => plain(DataType::Boolean),
            INT2 => plain(DataType::Int16),
            INT4 => plain(DataType::Int32),
            INT8 => plain(DataType::Int64),
            OID => plain(DataType::UInt32),
            FLOAT4 => plain(DataType::Float32),
            FLOAT8 => plain(DataType::Float64),
            BYTEA => plain(DataType::BinaryView),
            DATE => plain(DataType::Date32),
            TIME => plain(DataType::Time64(TimeUnit::Microsecond)),
            TIMESTAMP | TIMESTAMPTZ => {
                let zone = match array.data_type() {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    _ => None,
                };
                plain(DataType::Timestamp(TimeUnit::Microsecond, zone))
            }
            INTERVAL => match array.data_type() {
                DataType::Duration(_) => {
                    let nanos = cast(array, &DataType::Duration(TimeUnit::Nanosecond))?;
                    BinaryColumn::new(&cast(&nanos, &DataType::Interval(IntervalUnit::MonthDayNano))?, type_oid)
                }
                _ => plain(DataType::Interval(IntervalUnit::MonthDayNano)),
            },
            NUMERIC => match array.data_type() {
                DataType::Decimal128(precision, scale) if *scale >= 0 => {
                    plain(DataType::Decimal128(*precision, *scale))
                }
                DataType::UInt64 => plain(DataType::Decimal128(20, 0)),
                DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) if *scale >= 0 => {
                    plain(DataType::Decimal128(*precision, *scale))
                }
                // As text, and from there to digits.
                _ => Ok(BinaryColumn {
                    type_oid,
                    array: ArrayRef::clone(array),
                    text: Some(CellText::new(array, Spelling::Postgres, false)?),
                    items: None,
                }),
            },
            _ => Ok(BinaryColumn {
                type_oid,
                array: ArrayRef::clone(array),
                text: Some(CellText::new(array, Spelling::Postgres, false)?),
                items: None,
            }),
        }
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row) || matches!(self.array.data_type(), DataType::Null)
    }

    /// Appends the value at `row`, which is not NULL, without its length.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        let array = self.array.as_ref();
        if let Some(items) = &self.items {
            return self.write_array(items, row, out);
        }
        if let Some(text) = &self.text {
            if self.type_oid == NUMERIC {
                let mut digits = Vec::new();
                text.write(row, &mut digits);
                write_numeric(&String::from_utf8_lossy(&digits), out);
                return;
            }
            if self.type_oid == JSONB {
                // The version of the format.
                out.push(1);
            }
            text.write(row, out);
            return;
        }
        match self.type_oid {
            BOOL => out.push(u8::from(array.as_boolean().value(row))),
            INT2 => out.extend_from_slice(&array.as_primitive::<Int16Type>().value(row).to_be_bytes()),
            INT4 => out.extend_from_slice(&array.as_primitive::<Int32Type>().value(row).to_be_bytes()),
            INT8 => out.extend_from_slice(&array.as_primitive::<Int64Type>().value(row).to_be_bytes()),
            OID => out.extend_from_slice(&array.as_primitive::<UInt32Type>().value(row).to_be_bytes()),
            FLOAT4 => out.extend_from_slice(&array.as_primitive::<Float32Type>().value(row).to_be_bytes()),
            FLOAT8 => out.extend_from_slice(&array.as_primitive::<Float64Type>().value(row).to_be_bytes()),
            BYTEA => out.extend_from_slice(array.as_binary_view().value(row)),
            DATE => {
                let days = array.as_primitive::<Date32Type>().value(row).saturating_sub(EPOCH_DAYS);
                out.extend_from_slice(&days.to_be_bytes());
            }
            TIME => out.extend_from_slice(&array.as_primitive::<Time64MicrosecondType>().value(row).to_be_bytes()),
            TIMESTAMP | TIMESTAMPTZ => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row).saturating_sub(EPOCH_US);
                out.extend_from_slice(&micros.to_be_bytes());
            }
            INTERVAL => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                out.extend_from_slice(&(value.nanoseconds / 1_000).to_be_bytes());
                out.extend_from_slice(&value.days.to_be_bytes());
                out.extend_from_slice(&value.months.to_be_bytes());
            }
            NUMERIC => {
                let decimals = array.as_primitive::<Decimal128Type>();
                write_numeric(&decimals.value_as_string(row), out);
            }
            _ => {}
        }
    }

    fn write_array(&self, items: &BinaryColumn, row: usize, out: &mut Vec<u8>) {
        let offsets = self.array.as_list::<i32>().value_offsets();
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        let has_null = (start..end).any(|index| items.is_null(index));
        let dimensions = u32::from(end > start);
        out.extend_from_slice(&dimensions.to_be_bytes());
        out.extend_from_slice(&u32::from(has_null).to_be_bytes());
        out.extend_from_slice(&items.type_oid.to_be_bytes());
        if dimensions == 0 {
            return;
        }
        out.extend_from_slice(&((end - start) as u32).to_be_bytes());
        out.extend_from_slice(&1u32.to_be_bytes());
        for index in start..end {
            write_sized(out, items.is_null(index), |out| items.write(index, out));
        }
    }
}

/// Appends a value behind its length, or the mark of NULL.
pub fn write_sized(out: &mut Vec<u8>, is_null: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if is_null {
        out.extend_from_slice(&(-1i32).to_be_bytes());
        return;
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends plain decimal text as digits to base 10,000.
fn write_numeric(text: &str, out: &mut Vec<u8>) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    // Whole digits are padded in front, fractional ones behind, to groups of four.
    let mut digits = "0".repeat((4 - whole.len() % 4) % 4);
    digits.push_str(whole);
    let weight = (digits.len() / 4) as i16 - 1;
    digits.push_str(fraction);
    digits.push_str(&"0".repeat((4 - fraction.len() % 4) % 4));
    let mut groups: Vec<i16> = digits
        .as_bytes()
        .chunks(4)
        .map(|group| group.iter().fold(0i16, |value, digit| value * 10 + i16::from(digit.wrapping_sub(b'0').min(9))))
        .collect();
    let mut weight = weight;
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.extend_from_slice(&(groups.len() as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&(if negative && !groups.is_empty() { 0x4000u16 } else { 0 }).to_be_bytes());
    out.extend_from_slice(&(fraction.len() as i16).to_be_bytes());
    groups.iter().for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
}

/// A parameter that came in binary, as the text Postgres would write for it.
///
/// # Errors
/// `22P03` where the bytes are no value of the type, `0A000` for types without a binary form here.
pub fn parameter_text(type_oid: u32, bytes: &[u8]) -> Result<String, SqlError> {
    let wrong = || {
        SqlError::new(
            sqlstate::INVALID_BINARY,
            format!("incorrect binary data format for a parameter of type {}", type_name(type_oid)),
        )
    };
    let fixed = |count: usize| if bytes.len() == count { Ok(()) } else { Err(wrong()) };
    if let Some(array) = wire_type::find(type_oid).filter(|known| known.element_oid != 0) {
        return array_text(array.element_oid, bytes).ok_or_else(wrong)?;
    }
    match type_oid {
        BOOL => {
            fixed(1)?;
            Ok(if bytes[0] != 0 { "t" } else { "f" }.to_owned())
        }
        INT2 => {
            fixed(2)?;
            Ok(i16::from_be_bytes([bytes[0], bytes[1]]).to_string())
        }
        INT4 => {
            fixed(4)?;
            Ok(take_i32(bytes, 0).ok_or_else(wrong)?.to_string())
        }
        OID => {
            fixed(4)?;
            Ok((take_i32(bytes, 0).ok_or_else(wrong)? as u32).to_string())
        }
        INT8 => {
            fixed(8)?;
            Ok(take_i64(bytes, 0).ok_or_else(wrong)?.to_string())
        }
        FLOAT4 => {
            fixed(4)?;
            Ok(f32::from_bits(take_i32(bytes, 0).ok_or_else(wrong)? as u32).to_string())
        }
        FLOAT8 => {
            fixed(8)?;
            Ok(f64::from_bits(take_i64(bytes, 0).ok_or_else(wrong)? as u64).to_string())
        }
        NUMERIC => numeric_text(bytes).ok_or_else(wrong),
        TIMESTAMP | TIMESTAMPTZ => {
            fixed(8)?;
            let micros = take_i64(bytes, 0).and_then(|micros| micros.checked_add(EPOCH_US)).ok_or_else(wrong)?;
            let time = chrono::DateTime::from_timestamp_micros(micros).ok_or_else(wrong)?;
            let zone = if type_oid == TIMESTAMPTZ { "Z" } else { "" };
            Ok(format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.6f")))
        }
        DATE => {
            fixed(4)?;
            let days = take_i32(bytes, 0).and_then(|days| days.checked_add(EPOCH_DAYS)).ok_or_else(wrong)?;
            let time = chrono::DateTime::from_timestamp(i64::from(days) * 86_400, 0).ok_or_else(wrong)?;
            Ok(time.format("%Y-%m-%d").to_string())
        }
        TIME => {
            fixed(8)?;
            let micros = take_i64(bytes, 0).filter(|micros| (0..=86_400_000_000).contains(micros)).ok_or_else(wrong)?;
            let seconds = micros / 1_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            Ok(format!("{hours:02}:{minutes:02}:{:02}.{:06}", seconds % 60, micros % 1_000_000))
        }
        INTERVAL => {
            fixed(16)?;
            let micros = take_i64(bytes, 0).ok_or_else(wrong)?;
            let (days, months) = (take_i32(bytes, 8).ok_or_else(wrong)?, take_i32(bytes, 12).ok_or_else(wrong)?);
            let sign = if micros < 0 { "-" } else { "" };
            let micros = micros.unsigned_abs();
            Ok(format!("{months} months {days} days {sign}{}.{:06} seconds", micros / 1_000_000, micros % 1_000_000))
        }
        BYTEA => Ok(bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))),
        JSONB => match bytes.split_first() {
            Some((1, text)) => String::from_utf8(text.to_vec()).map_err(|_| wrong()),
            _ => Err(wrong()),
        },
        0
        | wire_type::TEXT
        | wire_type::VARCHAR
        | wire_type::BPCHAR
        | wire_type::NAME
        | wire_type::CHAR
        | wire_type::JSON
        | wire_type::UNKNOWN => String::from_utf8(bytes.to_vec()).map_err(|_| wrong()),
        _ => Err(SqlError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!("binary parameters of type {} are not supported", type_name(type_oid)),
        )),
    }
}

fn type_name(oid: u32) -> String {
    wire_type::find(oid).map_or_else(|| oid.to_string(), |known| known.sql_name.to_owned())
}

fn take_i32(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn take_i64(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// `None` for what is no one-dimensional array; the inner error is that of an element.
fn array_text(element_oid: u32, bytes: &[u8]) -> Option<Result<String, SqlError>> {
    let dimensions = take_i32(bytes, 0)?;
    if dimensions == 0 {
        return Some(Ok("{}".to_owned()));
    }
    if dimensions != 1 {
        return None;
    }
    let count = usize::try_from(take_i32(bytes, 12)?).ok()?;
    let mut at = 20;
    let mut text = String::from("{");
    for index in 0..count {
        if index > 0 {
            text.push(',');
        }
        let length = take_i32(bytes, at)?;
        at += 4;
        if length == -1 {
            text.push_str("NULL");
            continue;
        }
        let length = usize::try_from(length).ok()?;
        let item = match parameter_text(element_oid, bytes.get(at..at.checked_add(length)?)?) {
            Ok(item) => item,
            Err(error) => return Some(Err(error)),
        };
        at += length;
        text.push('"');
        for character in item.chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('"');
    }
    text.push('}');
    (at == bytes.len()).then_some(Ok(text))
}

fn numeric_text(bytes: &[u8]) -> Option<String> {
    let word = |index: usize| Some(u16::from_be_bytes(bytes.get(index * 2..index * 2 + 2)?.try_into().ok()?));
    let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, word(3)?);
    match sign {
        0 | 0x4000 => {}
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    }
    if bytes.len() != 8 + 2 * usize::from(count) || scale > 16_383 {
        return None;
    }
    let mut text = String::from(if sign == 0x4000 { "-" } else { "" });
    let group = |position: i32| -> Option<u16> {
        let index = i32::from(weight) - position;
        if (0..i32::from(count)).contains(&index) { word(4 + index as usize) } else { Some(0) }
    };
    if weight < 0 {
        text.push('0');
    } else {
        for position in (0..=i32::from(weight)).rev() {
            let digits = group(position)?;
            text.push_str(&if position == i32::from(weight) { digits.to_string() } else { format!("{digits:04}") });
        }
    }
    if scale > 0 {
        let mut fraction = String::new();
        let mut position = -1;
        while fraction.len() < usize::from(scale) {
            fraction.push_str(&format!("{:04}", group(position)?));
            position -= 1;
        }
        text.push('.');
        text.push_str(&fraction[..usize::from(scale)]);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int64Array, ListArray, TimestampMillisecondArray};

    #[test]
    fn numbers_survive_the_round_trip() {
        for text in ["0", "1", "-1", "12345.678", "10000", "0.0001", "-99999999.5", "123456789012345678901234.000001"] {
            let mut bytes = Vec::new();
            write_numeric(text, &mut bytes);
            assert_eq!(numeric_text(&bytes).as_deref(), Some(text));
        }
        let decimals: ArrayRef =
            Arc::new(Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 2).unwrap());
        let mut bytes = Vec::new();
        BinaryColumn::new(&decimals, NUMERIC).unwrap().write(0, &mut bytes);
        assert_eq!(parameter_text(NUMERIC, &bytes).unwrap(), "-123.45");
    }

    #[test]
    fn instants_count_from_2000() {
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![946_684_800_001]).with_timezone("UTC"));
        let mut bytes = Vec::new();
        BinaryColumn::new(&times, TIMESTAMPTZ).unwrap().write(0, &mut bytes);
        assert_eq!(bytes, 1_000i64.to_be_bytes());
        assert_eq!(parameter_text(TIMESTAMPTZ, &bytes).unwrap(), "2000-01-01T00:00:00.001000Z");
        assert!(parameter_text(TIMESTAMPTZ, &i64::MAX.to_be_bytes()).is_err());
    }

    #[test]
    fn arrays_survive_the_round_trip() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), Some(vec![])]);
        let list: ArrayRef = Arc::new(list);
        let column = BinaryColumn::new(&list, 1016).unwrap();
        let mut bytes = Vec::new();
        column.write(0, &mut bytes);
        assert_eq!(parameter_text(1016, &bytes).unwrap(), "{\"1\",NULL}");
        bytes.clear();
        column.write(1, &mut bytes);
        assert_eq!(parameter_text(1016, &bytes).unwrap(), "{}");
        assert!(parameter_text(1016, &[0, 0, 0, 1, 0, 0]).is_err());
        let _ = Int64Array::from(vec![1]);
    }
}
