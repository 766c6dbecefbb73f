//! Values as text: Postgres's spelling, and JSON's.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DecimalType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// How instants and arrays are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `2026-11-21 08:00:00.5+00`, `{1,2}`, `t`.
    Postgres,
    /// `"2026-11-21T08:00:00.500Z"`, `[1,2]`, `true`.
    Json,
}

/// One column, ready to be written value by value. Strings of every layout become one; dictionaries are resolved.
pub struct CellText {
    array: ArrayRef,
    spelling: Spelling,
    /// The column already holds JSON.
    is_json: bool,
    /// The elements, where the column is a list.
    items: Option<Box<CellText>>,
}

impl CellText {
    /// # Errors
    /// Where Arrow cannot convert the layout.
    pub fn new(array: &ArrayRef, spelling: Spelling, is_json: bool) -> Result<CellText, ArrowError> {
        let array = match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => cast(array, &DataType::Utf8View)?,
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
                cast(array, &DataType::BinaryView)?
            }
            DataType::Dictionary(_, value) => {
                return CellText::new(&cast(array, value)?, spelling, is_json);
            }
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => cast(array, &DataType::List(item.clone()))?,
            DataType::Float16 => cast(array, &DataType::Float32)?,
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                cast(array, &DataType::Decimal128(*precision, *scale))?
            }
            DataType::Duration(_) => {
                // Whole nanoseconds, written as an interval.
                let nanos = cast(array, &DataType::Duration(TimeUnit::Nanosecond))?;
                cast(&nanos, &DataType::Interval(IntervalUnit::MonthDayNano))?
            }
            _ => ArrayRef::clone(array),
        };
        let items = match array.data_type() {
            DataType::List(_) => Some(Box::new(CellText::new(array.as_list::<i32>().values(), spelling, false)?)),
            _ => None,
        };
        Ok(CellText { array, spelling, is_json, items })
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row) || matches!(self.array.data_type(), DataType::Null)
    }

    /// Appends the value at `row`, which is not NULL, without quotes.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        let array = self.array.as_ref();
        let mut digits = itoa::Buffer::new();
        macro_rules! integer {
            ($kind:ty) => {
                out.extend_from_slice(digits.format(array.as_primitive::<$kind>().value(row)).as_bytes())
            };
        }
        match array.data_type() {
            DataType::Boolean => {
                let value = array.as_boolean().value(row);
                out.extend_from_slice(match (self.spelling, value) {
                    (Spelling::Postgres, true) => b"t",
                    (Spelling::Postgres, false) => b"f",
                    (Spelling::Json, true) => b"true",
                    (Spelling::Json, false) => b"false",
                });
            }
            DataType::Int8 => integer!(Int8Type),
            DataType::Int16 => integer!(Int16Type),
            DataType::Int32 => integer!(Int32Type),
            DataType::Int64 => integer!(Int64Type),
            DataType::UInt8 => integer!(UInt8Type),
            DataType::UInt16 => integer!(UInt16Type),
            DataType::UInt32 => integer!(UInt32Type),
            DataType::UInt64 => integer!(UInt64Type),
            DataType::Float32 => write_float(&format!("{:e}", array.as_primitive::<Float32Type>().value(row)), 6, out),
            DataType::Float64 => write_float(&format!("{:e}", array.as_primitive::<Float64Type>().value(row)), 15, out),
            DataType::Decimal128(precision, scale) => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                out.extend_from_slice(Decimal128Type::format_decimal(value, *precision, *scale).as_bytes());
            }
            DataType::Decimal256(precision, scale) => {
                let value = array.as_primitive::<Decimal256Type>().value(row);
                out.extend_from_slice(Decimal256Type::format_decimal(value, *precision, *scale).as_bytes());
            }
            DataType::Utf8View => out.extend_from_slice(array.as_string_view().value(row).as_bytes()),
            DataType::BinaryView => {
                out.extend_from_slice(b"\\x");
                for byte in array.as_binary_view().value(row) {
                    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
            }
            DataType::Timestamp(unit, zone) => {
                let (value, per_second) = timestamp(array, *unit, row);
                self.write_timestamp(value, per_second, zone.is_some(), out);
            }
            DataType::Date32 => write_date(i64::from(array.as_primitive::<Date32Type>().value(row)), out),
            DataType::Date64 => {
                write_date(array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000), out);
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                let (value, per_second) = time_of_day(array, row);
                write_time(value, per_second, false, out);
            }
            DataType::Interval(unit) => {
                let (months, days, nanos) = interval(array, *unit, row);
                write_interval(months, days, nanos, out);
            }
            DataType::List(_) => self.write_list(row, out),
            _ => {
                // Structs, maps and unions: Arrow's own notation.
                let text = ArrayFormatter::try_new(array, &FormatOptions::default())
                    .map_or_else(|error| error.to_string(), |formatter| formatter.value(row).to_string());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Appends the value at `row` as a JSON value.
    pub fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        let bare = match self.array.data_type() {
            DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Decimal128(..)
            | DataType::List(_) => true,
            // JSON has no NaN and no infinity: they are strings.
            DataType::Float32 => self.array.as_primitive::<Float32Type>().value(row).is_finite(),
            DataType::Float64 => self.array.as_primitive::<Float64Type>().value(row).is_finite(),
            _ => self.is_json,
        };
        if bare {
            self.write(row, out);
            return;
        }
        let start = out.len();
        self.write(row, out);
        let text = String::from_utf8_lossy(&out[start..]).into_owned();
        out.truncate(start);
        write_json_string(&text, out);
    }

    fn write_timestamp(&self, value: i64, per_second: i64, has_zone: bool, out: &mut Vec<u8>) {
        let seconds = value.div_euclid(per_second);
        let days = seconds.div_euclid(86_400);
        // Days are exact; the time of day is what is left of the value.
        let of_day = value - days * 86_400 * per_second;
        let (year, _, _) = civil(days);
        match self.spelling {
            Spelling::Postgres => {
                write_date_as(days, year <= 0, out);
                out.push(b' ');
                write_time(of_day, per_second, false, out);
                if has_zone {
                    out.extend_from_slice(b"+00");
                }
                if year <= 0 {
                    out.extend_from_slice(b" BC");
                }
            }
            Spelling::Json => {
                write_date_as(days, false, out);
                out.push(b'T');
                write_time(of_day, per_second, true, out);
                if has_zone {
                    out.push(b'Z');
                }
            }
        }
    }

    fn write_list(&self, row: usize, out: &mut Vec<u8>) {
        let Some(items) = &self.items else { return };
        let offsets = self.array.as_list::<i32>().value_offsets();
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        let (open, close) = match self.spelling {
            Spelling::Postgres => (b'{', b'}'),
            Spelling::Json => (b'[', b']'),
        };
        out.push(open);
        for index in start..end {
            if index > start {
                out.push(b',');
            }
            match self.spelling {
                Spelling::Json => items.write_json(index, out),
                Spelling::Postgres if items.is_null(index) => out.extend_from_slice(b"NULL"),
                Spelling::Postgres if items.items.is_some() => items.write(index, out),
                Spelling::Postgres => {
                    let before = out.len();
                    items.write(index, out);
                    quote_element(before, out);
                }
            }
        }
        out.push(close);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Puts quotes around the array element that starts at `start`, where Postgres needs them.
fn quote_element(start: usize, out: &mut Vec<u8>) {
    let text = &out[start..];
    let needs = text.is_empty()
        || text.eq_ignore_ascii_case(b"null")
        || text.iter().any(|byte| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace());
    if !needs {
        return;
    }
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    out.truncate(start);
    out.extend_from_slice(&quoted);
}

/// Appends `text` as a JSON string.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends a float given in Rust's `{:e}` form (shortest digits) the way Postgres lays it out: plain between 1e-4 and
/// 10^`plain_digits`, else with an exponent of at least two digits.
fn write_float(scientific: &str, plain_digits: i32, out: &mut Vec<u8>) {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        out.extend_from_slice(match scientific {
            "inf" => b"Infinity".as_slice(),
            "-inf" => b"-Infinity",
            _ => b"NaN",
        });
        return;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    out.extend_from_slice(sign.as_bytes());
    if exponent < -4 || exponent >= plain_digits {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(&digits);
    } else {
        let whole = exponent as usize + 1;
        for position in 0..whole {
            out.push(digits.get(position).copied().unwrap_or(b'0'));
        }
        if digits.len() > whole {
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

/// The value and how many of its unit make a second.
pub fn timestamp(array: &dyn Array, unit: TimeUnit, row: usize) -> (i64, i64) {
    match unit {
        TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1),
        TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
        TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
        TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
    }
}

/// Time since midnight and how many of its unit make a second.
pub fn time_of_day(array: &dyn Array, row: usize) -> (i64, i64) {
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => (i64::from(array.as_primitive::<Time32SecondType>().value(row)), 1),
        DataType::Time32(_) => (i64::from(array.as_primitive::<Time32MillisecondType>().value(row)), 1_000),
        DataType::Time64(TimeUnit::Microsecond) => {
            (array.as_primitive::<Time64MicrosecondType>().value(row), 1_000_000)
        }
        _ => (array.as_primitive::<Time64NanosecondType>().value(row), 1_000_000_000),
    }
}

/// Months, days and nanoseconds.
pub fn interval(array: &dyn Array, unit: IntervalUnit, row: usize) -> (i32, i32, i64) {
    match unit {
        IntervalUnit::YearMonth => (array.as_primitive::<IntervalYearMonthType>().value(row), 0, 0),
        IntervalUnit::DayTime => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            (0, value.days, i64::from(value.milliseconds) * 1_000_000)
        }
        IntervalUnit::MonthDayNano => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            (value.months, value.days, value.nanoseconds)
        }
    }
}

/// Year (astronomical), month and day of a day counted from 1970-01-01.
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, _, _) = civil(days);
    write_date_as(days, year <= 0, out);
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn write_date_as(days: i64, before_christ: bool, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    let year = if before_christ { 1 - year } else { year };
    if (0..=9999).contains(&year) {
        let year = year as u32;
        let digit = |value: u32| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[digit(year / 1000), digit(year / 100), digit(year / 10), digit(year)]);
    } else {
        out.extend_from_slice(format!("{year:04}").as_bytes());
    }
    out.push(b'-');
    write_two(month, out);
    out.push(b'-');
    write_two(day, out);
}

fn write_two(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

/// `08:09:10.5`; at least three digits behind the point where `milliseconds` is set, else as few as possible, at most six.
fn write_time(of_day: i64, per_second: i64, milliseconds: bool, out: &mut Vec<u8>) {
    let seconds = (of_day / per_second) as u32;
    write_two(seconds / 3600, out);
    out.push(b':');
    write_two(seconds / 60 % 60, out);
    out.push(b':');
    write_two(seconds % 60, out);
    let micros = (i128::from(of_day % per_second) * 1_000_000 / i128::from(per_second)) as u32;
    if micros == 0 && !milliseconds {
        return;
    }
    let text = format!(".{micros:06}");
    let least = if milliseconds { 4 } else { 2 };
    let mut end = text.len();
    while end > least && text.as_bytes()[end - 1] == b'0' {
        end -= 1;
    }
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// `1 year 2 mons 3 days 04:05:06.7`, Postgres's default style.
fn write_interval(months: i32, days: i32, nanos: i64, out: &mut Vec<u8>) {
    let start = out.len();
    let mut part = |count: i32, one: &str, many: &str| {
        if count != 0 {
            let space = if out.len() > start { " " } else { "" };
            let unit = if count == 1 { one } else { many };
            out.extend_from_slice(format!("{space}{count} {unit}").as_bytes());
        }
    };
    part(months / 12, "year", "years");
    part(months % 12, "mon", "mons");
    part(days, "day", "days");
    let empty = out.len() == start;
    if nanos != 0 || empty {
        if !empty {
            out.push(b' ');
        }
        let micros = nanos / 1_000;
        if micros < 0 {
            out.push(b'-');
        }
        let micros = micros.unsigned_abs();
        let hours = micros / 3_600_000_000;
        if hours < 100 {
            write_two(hours as u32, out);
        } else {
            out.extend_from_slice(hours.to_string().as_bytes());
        }
        let rest = (micros % 3_600_000_000) as i64;
        let before = out.len();
        write_time(rest, 1_000_000, false, out);
        // `write_time` starts with the hours, which are zero here and already written.
        out.drain(before..before + 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Float32Array, Float64Array, Int32Array, IntervalMonthDayNanoArray, ListArray, StringArray,
        TimestampMillisecondArray,
    };
    use arrow::datatypes::IntervalMonthDayNano;
    use std::sync::Arc;

    fn text(array: impl Array + 'static, spelling: Spelling) -> Vec<String> {
        let array: ArrayRef = Arc::new(array);
        let cells = CellText::new(&array, spelling, false).unwrap();
        (0..array.len())
            .map(|row| {
                let mut out = Vec::new();
                match spelling {
                    Spelling::Postgres => cells.write(row, &mut out),
                    Spelling::Json => cells.write_json(row, &mut out),
                }
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    #[test]
    fn floats_are_spelled_as_in_postgres() {
        let values = [0.0, -0.0, 1.0, 0.1, 1e14, 1e15, 123456789012345680.0, 1e-4, 1e-5, 1.5e300, -2.25];
        assert_eq!(
            text(Float64Array::from(values.to_vec()), Spelling::Postgres),
            [
                "0",
                "-0",
                "1",
                "0.1",
                "100000000000000",
                "1e+15",
                "1.2345678901234568e+17",
                "0.0001",
                "1e-05",
                "1.5e+300",
                "-2.25"
            ]
        );
        let odd = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        assert_eq!(text(Float64Array::from(odd.clone()), Spelling::Postgres), ["NaN", "Infinity", "-Infinity"]);
        assert_eq!(text(Float64Array::from(odd), Spelling::Json), ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""]);
        assert_eq!(text(Float32Array::from(vec![0.1, 1e6]), Spelling::Postgres), ["0.1", "1e+06"]);
    }

    #[test]
    fn instants_are_utc() {
        let array =
            || TimestampMillisecondArray::from(vec![0, 1_763_712_000_500, -1, 951_782_400_000]).with_timezone("UTC");
        assert_eq!(
            text(array(), Spelling::Postgres),
            [
                "1970-01-01 00:00:00+00",
                "2025-11-21 08:00:00.5+00",
                "1969-12-31 23:59:59.999+00",
                "2000-02-29 00:00:00+00"
            ]
        );
        assert_eq!(text(array(), Spelling::Json)[1], "\"2025-11-21T08:00:00.500Z\"");
    }

    #[test]
    fn arrays_intervals_and_booleans() {
        let list = ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>(vec![Some(vec![Some(1), None])]);
        assert_eq!(text(list.clone(), Spelling::Postgres), ["{1,NULL}"]);
        assert_eq!(text(list, Spelling::Json), ["[1,null]"]);
        let values = StringArray::from(vec!["a", "b c", "", "null", "q\"\\"]);
        let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 5].into());
        let field = Arc::new(arrow::datatypes::Field::new("item", DataType::Utf8, true));
        let list = ListArray::new(field, offsets, Arc::new(values), None);
        assert_eq!(text(list, Spelling::Postgres), [r#"{a,"b c","","null","q\"\\"}"#]);
        let intervals = vec![
            IntervalMonthDayNano::new(14, 3, 14_706_700_000_000),
            IntervalMonthDayNano::new(0, 0, 0),
            IntervalMonthDayNano::new(0, 1, -1_000_000_000),
        ];
        assert_eq!(
            text(IntervalMonthDayNanoArray::from(intervals), Spelling::Postgres),
            ["1 year 2 mons 3 days 04:05:06.7", "00:00:00", "1 day -00:00:01"]
        );
        assert_eq!(text(BooleanArray::from(vec![true, false]), Spelling::Postgres), ["t", "f"]);
        assert_eq!(text(Int32Array::from(vec![-7]), Spelling::Json), ["-7"]);
        assert_eq!(text(StringArray::from(vec!["a\"\n\u{1}é"]), Spelling::Json), ["\"a\\\"\\n\\u0001é\""]);
    }
}
