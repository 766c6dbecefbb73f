//! Functions whose results are bounded before they are made.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::error::{SqlError, sqlstate};

/// No function call makes more than this for one batch of rows.
pub(super) const MAX_RESULT_BYTES: u64 = 64 * 1024 * 1024;
/// Nor a single value larger than this: a constant is repeated for every row of a batch, a joined value for every match.
pub(super) const MAX_VALUE_BYTES: u64 = 256 * 1024;
/// Nor does one compare more than this many pairs of characters.
const MAX_PAIRS: u64 = 1_000_000_000;

/// `function`, called only where its result is not too large.
pub fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match bound_of(function.name()) {
        Some(bound) => Arc::new(ScalarUDF::new_from_impl(Bounded { inner: function, bound })),
        None => function,
    }
}

/// How large a function's result can be, in bytes, from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Bound {
    /// First argument, as often as the second says.
    Repeat,
    /// As long as the second argument says.
    Pad,
    /// A third argument for every match of the second in the first.
    Replace,
    /// Any text of the third argument's length around every character of the first.
    RegexReplace,
    /// First argument once per group of the second.
    RegexMatch,
    /// All arguments one after the other, `factor` times.
    Concat { factor: u64 },
    /// First and second numbers apart, by the third.
    Series,
    /// As many elements as the second argument says.
    Resize,
    /// The last argument's text, each character standing for a longer one.
    Format,
    /// Not bytes but work: length times length.
    Product,
}

fn bound_of(name: &str) -> Option<Bound> {
    Some(match name {
        "repeat" | "array_repeat" => Bound::Repeat,
        "lpad" | "rpad" => Bound::Pad,
        "replace" => Bound::Replace,
        "regexp_replace" => Bound::RegexReplace,
        "regexp_match" => Bound::RegexMatch,
        "concat" | "concat_ws" | "overlay" | "array_concat" | "array_append" | "array_prepend" | "array_to_string"
        | "make_array" | "map" | "make_map" | "struct" | "named_struct" | "array_union" | "arrays_zip" => {
            Bound::Concat { factor: 1 }
        }
        "encode" | "string_to_array" | "upper" | "lower" | "initcap" | "array_replace" | "array_replace_n"
        | "array_replace_all" | "array_insert" => Bound::Concat { factor: 4 },
        "range" | "generate_series" => Bound::Series,
        "array_resize" => Bound::Resize,
        "to_char" => Bound::Format,
        "levenshtein" => Bound::Product,
        _ => return None,
    })
}

/// Another function, called only where the bound on its result allows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    bound: Bound,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let arguments = args.args.iter().map(|arg| Sizes::of(arg, rows)).collect::<Result<Vec<_>>>()?;
        let (value_limit, limit) =
            if self.bound == Bound::Product { (MAX_PAIRS, MAX_PAIRS) } else { (MAX_VALUE_BYTES, MAX_RESULT_BYTES) };
        let mut total = 0u64;
        for row in 0..rows {
            let bytes = self.bound.of_row(&arguments, row);
            if bytes > value_limit {
                return Err(too_large(self.name(), bytes, value_limit));
            }
            total = total.saturating_add(bytes);
        }
        if total > limit {
            return Err(too_large(self.name(), total, limit));
        }
        self.inner.inner().invoke_with_args(args)
    }
}

pub(super) fn too_large(name: &str, found: u64, limit: u64) -> DataFusionError {
    SqlError::new(sqlstate::OUT_OF_MEMORY, format!("out of memory: the result of {name} is too large"))
        .with_hint(format!("it could reach {found} bytes, the limit is {limit}"))
        .into()
}

impl Bound {
    fn of_row(self, arguments: &[Sizes], row: usize) -> u64 {
        let bytes = |index: usize| arguments.get(index).map_or(0, |sizes| sizes.bytes(row));
        let number = |index: usize| arguments.get(index).map_or(0, |sizes| sizes.number(row));
        match self {
            Bound::Repeat => {
                // `array_repeat` counts with its second argument too, and an element is never free.
                let count = number(1).max(0) as u64;
                bytes(0).max(1).saturating_mul(count)
            }
            Bound::Pad => (number(1).max(0) as u64).saturating_mul(bytes(2).clamp(1, 4)),
            Bound::Replace => {
                let matches = bytes(0) / bytes(1).max(1) + 1;
                bytes(0).saturating_add(matches.saturating_mul(bytes(2)))
            }
            Bound::RegexReplace => (bytes(0) + 1).saturating_mul(bytes(2) + 1),
            Bound::RegexMatch => bytes(0).saturating_mul(bytes(1).min(256) / 2 + 1),
            Bound::Concat { factor } => {
                arguments.iter().fold(0u64, |sum, sizes| sum.saturating_add(sizes.bytes(row))).saturating_mul(factor)
            }
            Bound::Series => {
                let (start, stop, step) = match arguments.len() {
                    1 => (0, number(0), 1),
                    2 => (number(0), number(1), 1),
                    _ => (number(0), number(1), number(2)),
                };
                start.abs_diff(stop).saturating_div(step.unsigned_abs().max(1)).saturating_mul(8)
            }
            Bound::Resize => bytes(0).saturating_add((number(1).max(0) as u64).saturating_mul(bytes(2).max(16))),
            Bound::Format => bytes(1).saturating_mul(24),
            Bound::Product => bytes(0).saturating_mul(bytes(1)),
        }
    }
}

/// One argument, asked for sizes row by row.
struct Sizes {
    array: ArrayRef,
    /// The argument as whole numbers, where it is one.
    numbers: Option<ArrayRef>,
    is_scalar: bool,
}

impl Sizes {
    fn of(argument: &ColumnarValue, rows: usize) -> Result<Sizes> {
        let is_scalar = matches!(argument, ColumnarValue::Scalar(_));
        let array = match argument {
            ColumnarValue::Array(array) => Arc::clone(array),
            ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(1.min(rows))?,
        };
        // Dates and timestamps count in their own unit, which is never finer than a generated step.
        let numbers = array.data_type().is_integer().then(|| cast(&array, &DataType::Int64)).transpose()?;
        Ok(Sizes { array, numbers, is_scalar })
    }

    fn row(&self, row: usize) -> usize {
        if self.is_scalar { 0 } else { row }
    }

    fn bytes(&self, row: usize) -> u64 {
        let row = self.row(row);
        if row >= self.array.len() || self.array.is_null(row) {
            return 0;
        }
        value_bytes(self.array.as_ref(), row)
    }

    fn number(&self, row: usize) -> i64 {
        let row = self.row(row);
        match &self.numbers {
            Some(numbers) if row < numbers.len() && numbers.is_valid(row) => {
                numbers.as_primitive::<Int64Type>().value(row)
            }
            _ => 0,
        }
    }
}

/// Bytes of one value, roughly: text by its length, arrays by their elements, everything else 16.
fn value_bytes(array: &dyn Array, row: usize) -> u64 {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len() as u64,
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len() as u64,
        DataType::Utf8View => array.as_string_view().value(row).len() as u64,
        DataType::Binary => array.as_binary::<i32>().value(row).len() as u64,
        DataType::LargeBinary => array.as_binary::<i64>().value(row).len() as u64,
        DataType::BinaryView => array.as_binary_view().value(row).len() as u64,
        DataType::List(_) => elements_bytes(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => elements_bytes(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => elements_bytes(&array.as_fixed_size_list().value(row)),
        _ => 16,
    }
}

fn elements_bytes(elements: &ArrayRef) -> u64 {
    match elements.data_type() {
        data_type if data_type.is_primitive() => (elements.len() * data_type.primitive_width().unwrap_or(16)) as u64,
        _ => (0..elements.len()).map(|index| value_bytes(elements.as_ref(), index).max(16)).sum(),
    }
}

/// Bytes of the largest text or array in `array`.
pub fn largest_value(array: &ArrayRef) -> u64 {
    match array.data_type() {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::List(_)
        | DataType::LargeList(_) => {
            let valid = (0..array.len()).filter(|row| array.is_valid(*row));
            valid.map(|row| value_bytes(array.as_ref(), row)).max().unwrap_or(0)
        }
        _ => 0,
    }
}
