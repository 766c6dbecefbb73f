//! `->`, `->>` and `?` over JSON text.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanBuilder, StringViewBuilder};
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::{one_or_many, texts};
use crate::error::{SqlError, sqlstate};

/// The functions behind the operators.
pub fn json_functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    let kinds = [JsonKind::Value, JsonKind::Text, JsonKind::Has];
    kinds.into_iter().map(|kind| Arc::new(ScalarUDF::new_from_impl(JsonFunction::new(kind))))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum JsonKind {
    /// `->`
    Value,
    /// `->>`
    Text,
    /// `?`
    Has,
}

/// Name of the function behind `->>`, which pushdown knows.
pub const JSON_GET_TEXT: &str = "json_get_text";

/// Looks into JSON text by name, or by position from 0. Neighbouring rows mostly hold the same text: it is parsed once.
#[derive(Debug)]
struct JsonFunction {
    kind: JsonKind,
    signature: Signature,
}

impl PartialEq for JsonFunction {
    fn eq(&self, other: &JsonFunction) -> bool {
        self.kind == other.kind
    }
}

impl Eq for JsonFunction {}

impl Hash for JsonFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

impl JsonFunction {
    fn new(kind: JsonKind) -> JsonFunction {
        JsonFunction { kind, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        match self.kind {
            JsonKind::Value => "json_get",
            JsonKind::Text => JSON_GET_TEXT,
            JsonKind::Has => "json_has",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(if self.kind == JsonKind::Has { DataType::Boolean } else { DataType::Utf8View })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let sides = texts(&args.args, rows)?;
        let (documents, keys) = (sides[0].as_string_view(), sides[1].as_string_view());
        let mut found_texts = StringViewBuilder::with_capacity(rows);
        let mut found_flags = BooleanBuilder::with_capacity(rows);
        let mut last: Option<(&str, serde_json::Value)> = None;
        for (document, key) in documents.iter().zip(keys) {
            let (Some(document), Some(key)) = (document, key) else {
                found_texts.append_null();
                found_flags.append_null();
                continue;
            };
            if last.as_ref().is_none_or(|(text, _)| *text != document) {
                let value = serde_json::from_str(document).map_err(|error| {
                    SqlError::new(sqlstate::INVALID_TEXT, format!("invalid input syntax for type json: {error}"))
                })?;
                last = Some((document, value));
            }
            let value = last.as_ref().and_then(|(_, value)| look_up(value, key));
            found_flags.append_value(value.is_some());
            match (value, self.kind) {
                (Some(serde_json::Value::String(text)), JsonKind::Text) => found_texts.append_value(text),
                (None | Some(serde_json::Value::Null), JsonKind::Text) | (None, _) => found_texts.append_null(),
                (Some(value), _) => found_texts.append_value(value.to_string()),
            }
        }
        match self.kind {
            JsonKind::Has => one_or_many(Arc::new(found_flags.finish()), all_scalar),
            JsonKind::Value | JsonKind::Text => one_or_many(Arc::new(found_texts.finish()), all_scalar),
        }
    }
}

fn look_up<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    }
}
