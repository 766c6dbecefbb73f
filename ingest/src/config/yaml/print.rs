//! Back to text.

use std::fmt::Write as _;

use super::{Node, Scalar, Value, resolve};

/// Writes `node` in the style of Prometheus's configuration page: two spaces, sequences not indented.
pub fn print(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Null => out.push_str("null\n"),
        Value::Scalar { .. } => {
            print_inline(node, &mut out);
            out.push('\n');
        }
        Value::Sequence(_) | Value::Mapping(_) => print_block(node, 0, &mut out),
    }
    out
}

fn print_inline(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Scalar { text, plain: true } => out.push_str(text),
        Value::Scalar { text, plain: false } => print_string(text, out),
        Value::Sequence(_) => out.push_str("[]"),
        Value::Mapping(_) => out.push_str("{}"),
    }
}

pub(super) fn print_string(text: &str, out: &mut String) {
    let first = text.chars().next().unwrap_or(' ');
    let resolves = !matches!(resolve(text), Scalar::Text(_));
    let awkward = text.chars().any(|c| c.is_control())
        || text.starts_with(' ')
        || text.ends_with(' ')
        || text.contains(": ")
        || text.contains(" #")
        || text.ends_with(':')
        || "!&*?|>%@`\"'#,[]{}".contains(first)
        || (first == '-' && (text.len() == 1 || text.starts_with("- ") || text.starts_with("--")));
    if text.chars().any(|c| c.is_control()) {
        // JSON's escapes are YAML's.
        let _ = write!(out, "{}", serde_json::Value::String(text.to_owned()));
    } else if resolves {
        let _ = write!(out, "\"{text}\"");
    } else if awkward {
        let _ = write!(out, "'{}'", text.replace('\'', "''"));
    } else {
        out.push_str(text);
    }
}

fn is_block(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Scalar { .. } => false,
        Value::Sequence(items) => !items.is_empty(),
        Value::Mapping(pairs) => !pairs.is_empty(),
    }
}

fn print_block(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Value::Mapping(pairs) => {
            for (index, (key, value)) in pairs.iter().enumerate() {
                if index > 0 || !out.ends_with("- ") {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                print_inline(key, out);
                out.push(':');
                if is_block(value) {
                    out.push('\n');
                    let deeper = if matches!(value.value, Value::Sequence(_)) { indent } else { indent + 2 };
                    print_block(value, deeper, out);
                } else {
                    out.push(' ');
                    print_inline(value, out);
                    out.push('\n');
                }
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 || !out.ends_with("- ") {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str("- ");
                if is_block(item) {
                    print_block(item, indent + 2, out);
                } else {
                    print_inline(item, out);
                    out.push('\n');
                }
            }
        }
        Value::Null | Value::Scalar { .. } => {
            print_inline(node, out);
            out.push('\n');
        }
    }
}
