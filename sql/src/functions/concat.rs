//! `||` over text.

use std::sync::Arc;

use arrow::array::{AsArray, StringViewArray, StringViewBuilder};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::bounded::{MAX_RESULT_BYTES, MAX_VALUE_BYTES, too_large};
use super::{one_or_many, texts};

/// Plans `a || b` over text as a bounded function: chains of it can double a value again and again.
#[derive(Debug)]
pub struct ConcatPlanner {
    concat: Arc<ScalarUDF>,
}

impl ConcatPlanner {
    pub fn new() -> ConcatPlanner {
        ConcatPlanner { concat: text_concat() }
    }
}

impl ExprPlanner for ConcatPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        let is_list = |side: &Expr| {
            matches!(
                side.get_type(schema),
                Ok(DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
            )
        };
        if is_list(&expr.left) || is_list(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let call = ScalarFunction::new_udf(Arc::clone(&self.concat), vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

pub(super) fn text_concat() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(TextConcat { signature: Signature::any(2, Volatility::Immutable) }))
}

/// `textcat(a, b)`: NULL where either is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextConcat {
    signature: Signature,
}

impl ScalarUDFImpl for TextConcat {
    fn name(&self) -> &str {
        "textcat"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let sides = texts(&args.args, rows)?;
        let (left, right) = (sides[0].as_string_view(), sides[1].as_string_view());
        let length = |side: &StringViewArray, row: usize| u64::from(side.views()[row] as u32);
        let mut total = 0;
        for row in 0..rows {
            let bytes = length(left, row) + length(right, row);
            total += bytes;
            if bytes > MAX_VALUE_BYTES || total > MAX_RESULT_BYTES {
                return Err(too_large("||", bytes.max(total), MAX_VALUE_BYTES));
            }
        }
        let mut joined = StringViewBuilder::with_capacity(rows);
        let mut text = String::new();
        for (left, right) in left.iter().zip(right) {
            match (left, right) {
                (Some(left), Some(right)) => {
                    text.clear();
                    text.push_str(left);
                    text.push_str(right);
                    joined.append_value(&text);
                }
                _ => joined.append_null(),
            }
        }
        one_or_many(Arc::new(joined.finish()), all_scalar)
    }
}
