//! Holds a document against the schema: unknown keys, repeated keys and values of the wrong type.
//!
//! The order and the wording of the messages are those of Prometheus, which reads the file with strict yaml.v2.

use super::schema::{Record, Shape};
use super::tree::{Node, Scalar, Value};
use crate::duration::parse_duration_ms;
use crate::flags::parse_bytes;

/// Why a document does not fit.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Unknown keys and wrong types, all of them, each with its line.
    Keys(Vec<String>),
    /// A value that its type refuses; the first one.
    Value { line: usize, reason: String },
}

/// Checks `node` against `record`.
///
/// # Errors
/// The first refused value, or else every unknown key and wrong type.
pub(super) fn check(record: &'static Record, node: &Node) -> Result<(), Refusal> {
    let mut problems = Vec::new();
    walk_record(record, node, &mut problems)?;
    if problems.is_empty() { Ok(()) } else { Err(Refusal::Keys(problems)) }
}

fn walk_record(record: &'static Record, node: &Node, problems: &mut Vec<String>) -> Result<(), Refusal> {
    let Value::Map(entries) = &node.value else {
        mismatch(node, record.go, problems);
        return Ok(());
    };
    let mut seen: Vec<&str> = Vec::new();
    for (key, value) in entries {
        let name = key.text().unwrap_or_default();
        match record.fields().find(|field| field.name == name) {
            None => problems.push(format!("line {}: field {name} not found in type {}", key.line, record.go)),
            Some(_) if seen.contains(&name) => {
                problems.push(format!("line {}: field {name} already set in type {}", key.line, record.go));
            }
            Some(field) => {
                seen.push(name);
                walk(&field.shape, value, problems)?;
            }
        }
    }
    Ok(())
}

fn walk(shape: &'static Shape, node: &Node, problems: &mut Vec<String>) -> Result<(), Refusal> {
    if node.is_null() {
        return Ok(());
    }
    let scalar = node.scalar();
    match shape {
        Shape::Any => {}
        Shape::Text | Shape::Secret if scalar.is_some() => {}
        Shape::Text | Shape::Secret => mismatch(node, "string", problems),
        Shape::Bool => match scalar {
            Some(Scalar::Bool(_)) => {}
            _ => mismatch(node, "bool", problems),
        },
        Shape::Int(go) => match scalar {
            Some(Scalar::Int(number)) if number >= 0 || !go.starts_with('u') => {}
            Some(Scalar::Float(number)) if number.fract() == 0.0 && number >= 0.0 && number < 9e18 => {}
            _ => mismatch(node, go, problems),
        },
        Shape::Float => match scalar {
            Some(Scalar::Int(_) | Scalar::Float(_)) => {}
            _ => mismatch(node, "float64", problems),
        },
        Shape::Duration => match node.text() {
            None => mismatch(node, "string", problems),
            Some(text) => {
                parse_duration_ms(text)
                    .map_err(|error| Refusal::Value { line: node.line, reason: error.to_string() })?;
            }
        },
        Shape::Bytes => match node.text() {
            None => mismatch(node, "string", problems),
            Some(text) if parse_bytes(text).is_some() => {}
            Some(text) => {
                let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
                return Err(Refusal::Value {
                    line: node.line,
                    reason: format!("units: unknown unit {unit} in {text}"),
                });
            }
        },
        Shape::Url => match node.text() {
            None => mismatch(node, "string", problems),
            Some(text) if text.starts_with(':') => {
                return Err(Refusal::Value {
                    line: node.line,
                    reason: format!("parse {text:?}: missing protocol scheme"),
                });
            }
            Some(_) => {}
        },
        Shape::List(item, go) | Shape::FlowList(item, go) => match &node.value {
            Value::List(items) => {
                for value in items {
                    walk(item, value, problems)?;
                }
            }
            _ => mismatch(node, go, problems),
        },
        Shape::Map(item, go) => match &node.value {
            Value::Map(entries) => {
                for (_, value) in entries {
                    walk(item, value, problems)?;
                }
            }
            _ => mismatch(node, go, problems),
        },
        Shape::Record(record) => walk_record(record, node, problems)?,
    }
    Ok(())
}

fn mismatch(node: &Node, go: &str, problems: &mut Vec<String>) {
    problems.push(format!("line {}: cannot unmarshal {} into {go}", node.line, node.describe()));
}

/// The document as JSON with the types of the schema, for deserialising into the structs of a consumer.
///
/// Keys that are null are left out. Call after [`check`].
pub(super) fn to_json(record: &'static Record, node: &Node) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    for (key, value) in node.entries() {
        let Some(field) = record.fields().find(|field| Some(field.name) == key.text()) else { continue };
        if !value.is_null() {
            object.insert(field.name.to_owned(), json(&field.shape, value));
        }
    }
    serde_json::Value::Object(object)
}

fn json(shape: &'static Shape, node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match shape {
        Shape::Any => untyped(node),
        Shape::Bool => Json::Bool(node.scalar() == Some(Scalar::Bool(true))),
        Shape::Int(_) | Shape::Float => match node.scalar() {
            Some(Scalar::Int(number)) => number.into(),
            Some(Scalar::Float(number)) if number.fract() == 0.0 && number.abs() < 9e15 => (number as i64).into(),
            Some(Scalar::Float(number)) => number.into(),
            _ => Json::Null,
        },
        Shape::Text | Shape::Secret | Shape::Duration | Shape::Bytes | Shape::Url => {
            Json::String(node.text().unwrap_or_default().to_owned())
        }
        Shape::List(item, _) | Shape::FlowList(item, _) => {
            node.items().iter().map(|value| if value.is_null() { Json::Null } else { json(item, value) }).collect()
        }
        Shape::Map(item, _) => Json::Object(
            node.entries()
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), json(item, value)))
                .collect(),
        ),
        Shape::Record(record) => to_json(record, node),
    }
}

fn untyped(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::List(items) => items.iter().map(untyped).collect(),
        Value::Map(entries) => Json::Object(
            entries.iter().map(|(key, value)| (key.text().unwrap_or_default().to_owned(), untyped(value))).collect(),
        ),
        Value::Scalar { text, .. } => match node.scalar() {
            Some(Scalar::Null) | None => Json::Null,
            Some(Scalar::Bool(on)) => on.into(),
            Some(Scalar::Int(number)) => number.into(),
            Some(Scalar::Float(number)) => number.into(),
            Some(Scalar::Text(_)) => text.as_str().into(),
        },
    }
}
