//! Holds a document against the schema: unknown keys, repeated keys and values of the wrong type.
//!
//! The order and the wording of the messages are those of Prometheus, which reads the file with strict yaml.v2.

use pilaster_ingest::config::yaml::{Node, Scalar, Value};
use pilaster_ingest::config::{ByteSize, Error, PromDuration};

use super::schema::{Record, Shape};

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
    let Value::Mapping(entries) = &node.value else {
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
            Some(Scalar::Float(number)) if number.fract() == 0.0 && (0.0..9e18).contains(&number) => {}
            _ => mismatch(node, go, problems),
        },
        Shape::Float => match scalar {
            Some(Scalar::Int(_) | Scalar::Float(_)) => {}
            _ => mismatch(node, "float64", problems),
        },
        Shape::Duration => match node.text() {
            None => mismatch(node, "string", problems),
            Some(text) => {
                PromDuration::parse(text)
                    .map_err(|error| Refusal::Value { line: node.line, reason: error.to_string() })?;
            }
        },
        Shape::Bytes => match node.text() {
            None => mismatch(node, "string", problems),
            Some(text) => {
                ByteSize::parse(text).map_err(|error| Refusal::Value { line: node.line, reason: error.to_string() })?;
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
            Value::Sequence(items) => {
                for value in items {
                    walk(item, value, problems)?;
                }
            }
            _ => mismatch(node, go, problems),
        },
        Shape::Map(item, go) => match &node.value {
            Value::Mapping(entries) => {
                for (_, value) in entries {
                    walk(item, value, problems)?;
                }
            }
            _ => mismatch(node, go, problems),
        },
        Shape::StoreOptions => match &node.value {
            Value::Mapping(entries) => {
                for (_, value) in entries {
                    walk(&Shape::Text, value, problems)?;
                }
            }
            _ => mismatch(node, "map[string]string", problems),
        },
        Shape::Record(record) => walk_record(record, node, problems)?,
        Shape::Owned(read) => match read(node) {
            Ok(()) => {}
            Err(Error::Type(more)) => problems.extend(more),
            Err(error) => return Err(Refusal::Value { line: node.line, reason: error.to_string() }),
        },
    }
    Ok(())
}

fn mismatch(node: &Node, go: &str, problems: &mut Vec<String>) {
    if let Error::Type(more) = node.type_error(go) {
        problems.extend(more);
    }
}
