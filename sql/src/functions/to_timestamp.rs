//! `to_timestamp` of seconds with a fraction.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type, TimestampNanosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::one_or_many;
use crate::error::{SqlError, sqlstate};

/// `to_timestamp`, which rounds floating-point seconds to microseconds as Postgres does: a double has no more digits
/// than that today, and those behind them must not make a time the millisecond before.
pub fn of_seconds(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(ToTimestamp { inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ToTimestamp {
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

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        Some(ScalarUDF::new_from_impl(ToTimestamp { inner }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [seconds] if seconds.data_type().is_floating() => {
                let is_scalar = matches!(seconds, ColumnarValue::Scalar(_));
                let seconds = seconds.to_array(if is_scalar { 1 } else { args.number_rows })?;
                one_or_many(timestamps(&seconds, args.return_type())?, is_scalar)
            }
            _ => self.inner.inner().invoke_with_args(args),
        }
    }
}

fn timestamps(seconds: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let seconds = cast(seconds, &DataType::Float64)?;
    let times: TimestampNanosecondArray =
        seconds.as_primitive::<Float64Type>().try_unary::<_, TimestampNanosecondType, SqlError>(nanoseconds)?;
    Ok(cast(&times, to)?)
}

fn nanoseconds(seconds: f64) -> Result<i64, SqlError> {
    if seconds.is_nan() {
        return Err(SqlError::new(sqlstate::DATETIME_OVERFLOW, "timestamp cannot be NaN"));
    }
    let microseconds = (seconds * 1e6).round_ties_even();
    // No float is the largest integer; those below are exact.
    let in_range = microseconds.abs() < (i64::MAX / 1000) as f64;
    if !in_range {
        return Err(SqlError::new(sqlstate::DATETIME_OVERFLOW, format!("timestamp out of range: \"{seconds}\"")));
    }
    Ok(microseconds as i64 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_to_microseconds() {
        let at = |seconds: f64| nanoseconds(seconds).map_err(|error| error.sqlstate.to_owned());
        assert_eq!(at(1_795_270_006.483), Ok(1_795_270_006_483_000_000));
        assert_eq!(at(-0.000_000_4), Ok(0));
        assert_eq!(at(-1.5), Ok(-1_500_000_000));
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e10, -1e300] {
            assert_eq!(at(seconds), Err("22008".to_owned()), "{seconds}");
        }
    }
}
