//! Prints the effective configuration: defaults filled in, secrets hidden, in Prometheus's order and style.

use super::schema::{Field, Record, Shape};
use super::tree::{self, Node, Scalar, Value};
use crate::duration::{format_duration, parse_duration_ms};

/// `node` as YAML, with the defaults of `record`.
pub(super) fn print(record: &'static Record, node: &Node) -> String {
    let mut text = String::new();
    record_lines(record, node, 0, false, &mut text);
    text
}

/// Writes the entries of a record. `inline` says that the first line continues a `- `.
fn record_lines(record: &'static Record, node: &Node, indent: usize, inline: bool, text: &mut String) {
    let start = text.len();
    for field in record.fields() {
        let defaulted;
        let value = match node.get(field.name) {
            Some(value) => value,
            None if field.default.is_empty() => continue,
            None => {
                defaulted = default_node(field);
                &defaulted
            }
        };
        if !field.always && is_zero(&field.shape, value) {
            continue;
        }
        if !(inline && text.len() == start) {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        text.push_str(field.name);
        text.push(':');
        shape_lines(&field.shape, value, indent, text);
    }
    if text.len() == start {
        // Nothing to show: what stands behind `- ` or before the first key is an empty map.
        text.push_str(if inline { "{}\n" } else { "" });
    }
}

/// Writes what stands behind `key:`, from the space or line break on.
fn shape_lines(shape: &'static Shape, node: &Node, indent: usize, text: &mut String) {
    match shape {
        Shape::Record(record) => {
            text.push('\n');
            let start = text.len();
            record_lines(record, node, indent + 2, false, text);
            if text.len() == start {
                text.truncate(start - 1);
                text.push_str(" {}\n");
            }
        }
        Shape::List(item, _) => list_lines(item, node, indent, text),
        Shape::FlowList(_, _) => {
            let items: Vec<String> =
                node.items().iter().map(|item| flow_quoted(item.text().unwrap_or_default())).collect();
            text.push_str(&format!(" [{}]\n", items.join(", ")));
        }
        Shape::Map(item, _) if !node.entries().is_empty() => {
            text.push('\n');
            let mut entries: Vec<_> = node.entries().iter().collect();
            entries.sort_by(|a, b| a.0.text().cmp(&b.0.text()));
            for (key, value) in entries {
                text.extend(std::iter::repeat_n(' ', indent + 2));
                text.push_str(&quoted(key.text().unwrap_or_default()));
                text.push(':');
                shape_lines(item, value, indent + 2, text);
            }
        }
        Shape::Map(..) => text.push_str(" {}\n"),
        Shape::Any => any_lines(node, indent, text),
        Shape::Text
        | Shape::Bool
        | Shape::Int(_)
        | Shape::Float
        | Shape::Duration
        | Shape::Secret
        | Shape::Url
        | Shape::Bytes => {
            text.push(' ');
            text.push_str(&scalar_text(shape, node));
            text.push('\n');
        }
    }
}

fn list_lines(item: &'static Shape, node: &Node, indent: usize, text: &mut String) {
    if node.items().is_empty() {
        text.push_str(" []\n");
        return;
    }
    text.push('\n');
    for value in node.items() {
        text.extend(std::iter::repeat_n(' ', indent));
        text.push_str("- ");
        match item {
            Shape::Record(record) => record_lines(record, value, indent + 2, true, text),
            Shape::Any => {
                let mut nested = String::new();
                any_lines(value, indent, &mut nested);
                text.push_str(nested.trim_start());
            }
            _ => {
                text.push_str(&scalar_text(item, value));
                text.push('\n');
            }
        }
    }
}

/// Values without a schema, secrets by the look of their key.
fn any_lines(node: &Node, indent: usize, text: &mut String) {
    match &node.value {
        Value::Scalar { .. } => {
            text.push(' ');
            text.push_str(&scalar_text(&Shape::Any, node));
            text.push('\n');
        }
        Value::List(_) => list_lines(&Shape::Any, node, indent, text),
        Value::Map(entries) => {
            text.push('\n');
            for (key, value) in entries {
                let name = key.text().unwrap_or_default();
                text.extend(std::iter::repeat_n(' ', indent + 2));
                text.push_str(&quoted(name));
                text.push(':');
                let secret =
                    ["password", "secret", "token", "secret_key", "client_secret", "bearer_token", "credentials"];
                if secret.contains(&name) && value.text().is_some() {
                    text.push_str(" <secret>\n");
                } else {
                    any_lines(value, indent + 2, text);
                }
            }
        }
    }
}

fn scalar_text(shape: &Shape, node: &Node) -> String {
    let Some(text) = node.text() else { return "null".to_owned() };
    match shape {
        Shape::Secret => "<secret>".to_owned(),
        Shape::Duration => parse_duration_ms(text).map_or_else(|_| text.to_owned(), format_duration),
        Shape::Url => quoted(&without_password(text)),
        Shape::Bool => (node.scalar() == Some(Scalar::Bool(true))).to_string(),
        Shape::Int(_) | Shape::Float => match node.scalar() {
            Some(Scalar::Int(number)) => number.to_string(),
            Some(Scalar::Float(number)) => number.to_string(),
            _ => text.to_owned(),
        },
        Shape::Any if !matches!(node.scalar(), Some(Scalar::Text(_))) => text.to_owned(),
        _ => quoted(text),
    }
}

fn is_zero(shape: &Shape, node: &Node) -> bool {
    match shape {
        Shape::Text | Shape::Url | Shape::Secret => node.text().is_none_or(str::is_empty),
        Shape::Bool => node.scalar() != Some(Scalar::Bool(true)),
        Shape::Int(_) | Shape::Float => matches!(node.scalar(), Some(Scalar::Int(0)) | None),
        Shape::Duration => node.text().and_then(|text| parse_duration_ms(text).ok()) == Some(0),
        Shape::Bytes => node.text().is_none_or(|text| text.starts_with('0')),
        Shape::List(..) | Shape::FlowList(..) => node.items().is_empty(),
        Shape::Map(..) => node.entries().is_empty(),
        Shape::Any | Shape::Record(_) => node.is_null(),
    }
}

fn default_node(field: &Field) -> Node {
    // A default such as `~` or `` would not be a node; the table holds none.
    match tree::parse(field.default) {
        Ok(Some(node)) => node,
        _ => Node { line: 0, value: Value::Scalar { text: field.default.to_owned(), plain: false } },
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        Some((user, _)) => {
            let host = rest[..authority_end].rsplit_once('@').map_or("", |(_, host)| host);
            format!("{scheme}://{user}:xxxxx@{host}{}", &rest[authority_end..])
        }
        None => url.to_owned(),
    }
}

/// A string as a YAML scalar: plain where it reads back as the same string.
fn quoted(text: &str) -> String {
    if text.contains(['\n', '\t', '\r']) || text.chars().any(char::is_control) {
        return format!("{text:?}");
    }
    let node = Node { line: 0, value: Value::Scalar { text: text.to_owned(), plain: true } };
    let reads_as_text = matches!(node.scalar(), Some(Scalar::Text(_)));
    if !reads_as_text {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let first = text.chars().next().unwrap_or(' ');
    let plain_start = !matches!(
        first,
        '!' | '&' | '*' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' | '#' | ',' | '[' | ']' | '{' | '}' | ' '
    ) && !(matches!(first, '-' | '?' | ':')
        && text[first.len_utf8()..].chars().next().is_none_or(char::is_whitespace));
    let plain = plain_start
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.ends_with(' ')
        && text != "---"
        && text != "<<";
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// A string inside brackets, where commas and brackets end a plain scalar.
fn flow_quoted(text: &str) -> String {
    match quoted(text) {
        plain if plain == text && text.contains(['[', ']', '{', '}', ',', '?']) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        quoted => quoted,
    }
}
