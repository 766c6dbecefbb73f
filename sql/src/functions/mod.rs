//! Scalar functions that depend on nothing but their arguments, where they differ from the planner's own: those whose result can be
//! far larger than their arguments are bounded, because function results are outside the memory pool; others answer as Postgres does.

mod bounded;
mod concat;
mod json;
mod to_timestamp;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};

pub use bounded::largest_value;
pub use concat::ConcatPlanner;
pub use json::JSON_GET_TEXT;

/// All scalar functions that depend on nothing but their arguments.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions: Vec<Arc<ScalarUDF>> = SessionStateDefaults::default_scalar_functions()
        .into_iter()
        .filter(|function| !REPLACED.contains(&function.name()))
        .map(|function| if function.name() == "to_timestamp" { to_timestamp::of_seconds(function) } else { function })
        .map(bounded::bounded)
        .collect();
    functions.push(concat::text_concat());
    functions.extend(json::json_functions());
    functions
}

/// Answered per session, see `pg_functions`.
const REPLACED: &[&str] = &["version"];

/// Arguments as text views of `rows` rows each.
fn texts(arguments: &[ColumnarValue], rows: usize) -> Result<Vec<ArrayRef>> {
    arguments.iter().map(|argument| Ok(cast(&argument.to_array(rows)?, &DataType::Utf8View)?)).collect()
}

fn one_or_many(array: ArrayRef, all_scalar: bool) -> Result<ColumnarValue> {
    if all_scalar {
        return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}
