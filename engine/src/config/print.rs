//! The effective configuration: defaults filled in, secrets hidden, in Prometheus's order.

use pilaster_ingest::config::yaml::{self, Node, Scalar, Value};
use pilaster_ingest::config::{ByteSize, PromDuration};

use super::blocks::may_be_shown;
use super::given;
use super::schema::{Field, Record, Shape};

/// `node` with the defaults of `record`, ready for printing; what is absent and what is zero by default is left out.
///
/// `owned` gives the nodes of the keys that the ingest crate owns.
pub(super) fn effective(record: &'static Record, node: &Node, owned: &dyn Fn(&str) -> Option<Node>) -> Node {
    let mut pairs = Vec::new();
    for field in record.fields() {
        if let Some(value) = owned(field.name) {
            pairs.push((field.name.to_owned(), value));
            continue;
        }
        let defaulted;
        let value = match given(node, field.name) {
            Some(value) => value,
            None if field.default.is_empty() => continue,
            None => {
                defaulted = default_node(field);
                &defaulted
            }
        };
        if field.always || !is_zero(&field.shape, value) {
            pairs.push((field.name.to_owned(), shown(&field.shape, value)));
        }
    }
    Node::mapping(pairs)
}

fn shown(shape: &'static Shape, node: &Node) -> Node {
    let text = node.text().unwrap_or_default();
    match shape {
        Shape::Record(record) => effective(record, node, &|_| None),
        Shape::List(item, _) => Node::sequence(node.items().iter().map(|value| shown(item, value))),
        Shape::FlowList(..) => Node::flow(node.items().iter().map(|item| item.text().unwrap_or_default())),
        Shape::Map(item, _) => {
            let mut pairs: Vec<(String, Node)> = node
                .entries()
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), shown(item, value)))
                .collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Node::mapping(pairs)
        }
        Shape::StoreOptions => Node::mapping(node.entries().iter().map(|(key, value)| {
            let name = key.text().unwrap_or_default();
            let shown = if may_be_shown(name) { value.clone() } else { Node::plain("<secret>") };
            (name.to_owned(), shown)
        })),
        Shape::Any | Shape::Owned(_) => without_secrets(node),
        Shape::Secret => Node::plain("<secret>"),
        Shape::Duration => PromDuration::parse(text).map_or_else(|_| Node::string(text), Node::plain),
        Shape::Url => Node::string(without_password(text)),
        Shape::Bool => Node::plain(node.scalar() == Some(Scalar::Bool(true))),
        Shape::Int(_) | Shape::Float => match node.scalar() {
            Some(Scalar::Float(number)) => Node::plain(number),
            _ => Node::plain(text),
        },
        Shape::Text | Shape::Bytes => Node::string(text),
    }
}

/// A value without a schema, secrets by the look of their key.
fn without_secrets(node: &Node) -> Node {
    const SECRETS: [&str; 7] =
        ["password", "secret", "token", "secret_key", "client_secret", "bearer_token", "credentials"];
    match &node.value {
        Value::Null | Value::Scalar { .. } => node.clone(),
        Value::Sequence(items) => Node::sequence(items.iter().map(without_secrets)),
        Value::Mapping(entries) => Node::mapping(entries.iter().map(|(key, value)| {
            let name = key.text().unwrap_or_default();
            let hidden = SECRETS.contains(&name) && value.text().is_some();
            (name.to_owned(), if hidden { Node::plain("<secret>") } else { without_secrets(value) })
        })),
    }
}

fn is_zero(shape: &Shape, node: &Node) -> bool {
    let text = node.text().unwrap_or_default();
    match shape {
        Shape::Text | Shape::Url | Shape::Secret => text.is_empty(),
        Shape::Bool => node.scalar() != Some(Scalar::Bool(true)),
        Shape::Int(_) | Shape::Float => matches!(node.scalar(), Some(Scalar::Int(0)) | None),
        Shape::Duration => PromDuration::parse(text).is_ok_and(|duration| duration.ms() == 0),
        Shape::Bytes => ByteSize::parse(text).is_ok_and(|bytes| bytes.0 == 0),
        Shape::List(..) | Shape::FlowList(..) => node.items().is_empty(),
        Shape::Map(..) | Shape::StoreOptions => node.entries().is_empty(),
        Shape::Any | Shape::Record(_) | Shape::Owned(_) => node.is_null(),
    }
}

fn default_node(field: &Field) -> Node {
    yaml::parse(field.default).unwrap_or_else(|_| Node::string(field.default))
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:xxxxx@{host}{path}"),
        None => url.to_owned(),
    }
}
