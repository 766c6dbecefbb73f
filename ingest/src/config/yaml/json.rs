//! Nodes from JSON, and to JSON.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Node, Scalar, Value};

/// From any serde format, without lines. Formats that resolve scalars themselves lose the original text of numbers.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
                Ok(Node::plain(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
                Ok(Node::plain(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
                Ok(Node::plain(value))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
                Ok(Node::plain(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
                Ok(Node::string(value))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::null(0))
            }

            fn visit_none<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::null(0))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Node::sequence(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = access.next_entry::<Node, Node>()? {
                    pairs.push(pair);
                }
                Ok(Node { line: 0, value: Value::Mapping(pairs) })
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Scalar { text, .. } => match self.scalar() {
                Some(Scalar::Null) => serializer.serialize_unit(),
                Some(Scalar::Bool(value)) => serializer.serialize_bool(value),
                Some(Scalar::Int(value)) => match i64::try_from(value) {
                    Ok(value) => serializer.serialize_i64(value),
                    Err(_) => serializer.serialize_str(text),
                },
                Some(Scalar::Float(value)) => serializer.serialize_f64(value),
                Some(Scalar::Text(_)) | None => serializer.serialize_str(text),
            },
            Value::Sequence(items) => serializer.collect_seq(items),
            Value::Mapping(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(key.text().unwrap_or_default(), value)?;
                }
                map.end()
            }
        }
    }
}
