//! From nodes to values: strict, with all type errors of a document at once.

use std::collections::BTreeMap;

use super::{Error, Node, Scalar, Value};

/// A type that can be read from a node.
///
/// # Errors
/// [`Error::Type`] is collected by [`Fields`]; every other error ends the decoding at once.
pub trait FromYaml: Sized {
    /// The name that type errors show, Go's.
    fn type_name() -> String;
    fn from_yaml(node: &Node) -> Result<Self, Error>;
}

impl FromYaml for String {
    fn type_name() -> String {
        "string".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<String, Error> {
        match &node.value {
            Value::Scalar { text, .. } => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            Value::Sequence(_) | Value::Mapping(_) => Err(node.type_error("string")),
        }
    }
}

impl FromYaml for bool {
    fn type_name() -> String {
        "bool".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<bool, Error> {
        match node.scalar() {
            Some(Scalar::Bool(value)) => Ok(value),
            _ => Err(node.type_error("bool")),
        }
    }
}

macro_rules! integer {
    ($($rust:ty => $go:literal),*) => {$(
        impl FromYaml for $rust {
            fn type_name() -> String {
                $go.to_owned()
            }

            fn from_yaml(node: &Node) -> Result<$rust, Error> {
                let whole = match node.scalar() {
                    Some(Scalar::Int(value)) => Some(value),
                    // Go truncates.
                    Some(Scalar::Float(value)) if value.abs() < 1e18 => Some(value as i128),
                    _ => None,
                };
                whole.and_then(|value| <$rust>::try_from(value).ok()).ok_or_else(|| node.type_error($go))
            }
        }
    )*};
}

integer!(u64 => "uint64", i64 => "int", usize => "uint", u32 => "uint", i32 => "int", u16 => "uint16");

impl FromYaml for f64 {
    fn type_name() -> String {
        "float64".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<f64, Error> {
        match node.scalar() {
            Some(Scalar::Int(value)) => Ok(value as f64),
            Some(Scalar::Float(value)) => Ok(value),
            _ => Err(node.type_error("float64")),
        }
    }
}

impl FromYaml for Node {
    fn type_name() -> String {
        "interface {}".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<Node, Error> {
        Ok(node.clone())
    }
}

/// `null` is `None`.
impl<T: FromYaml> FromYaml for Option<T> {
    fn type_name() -> String {
        T::type_name()
    }

    fn from_yaml(node: &Node) -> Result<Option<T>, Error> {
        if node.is_null() { Ok(None) } else { T::from_yaml(node).map(Some) }
    }
}

impl<T: FromYaml> FromYaml for Vec<T> {
    fn type_name() -> String {
        format!("[]{}", T::type_name())
    }

    fn from_yaml(node: &Node) -> Result<Vec<T>, Error> {
        let items = match &node.value {
            Value::Sequence(items) => items,
            Value::Null => return Ok(Vec::new()),
            Value::Scalar { .. } | Value::Mapping(_) => return Err(node.type_error(&Self::type_name())),
        };
        let mut out = Vec::with_capacity(items.len());
        let mut errors = Vec::new();
        for item in items {
            match T::from_yaml(item) {
                Ok(value) => out.push(value),
                Err(Error::Type(more)) => errors.extend(more),
                Err(other) => return Err(other),
            }
        }
        if errors.is_empty() { Ok(out) } else { Err(Error::Type(errors)) }
    }
}

impl<T: FromYaml> FromYaml for BTreeMap<String, T> {
    fn type_name() -> String {
        format!("map[string]{}", T::type_name())
    }

    fn from_yaml(node: &Node) -> Result<BTreeMap<String, T>, Error> {
        let pairs = match &node.value {
            Value::Mapping(pairs) => pairs,
            Value::Null => return Ok(BTreeMap::new()),
            Value::Scalar { .. } | Value::Sequence(_) => return Err(node.type_error(&Self::type_name())),
        };
        let mut out = BTreeMap::new();
        let mut errors = Vec::new();
        for (key, value) in pairs {
            match (String::from_yaml(key), T::from_yaml(value)) {
                (Ok(name), Ok(value)) => {
                    if out.insert(name.clone(), value).is_some() {
                        errors.push(format!("line {}: key {name:?} already set in map", key.line));
                    }
                }
                (Err(Error::Type(more)), _) | (_, Err(Error::Type(more))) => errors.extend(more),
                (Err(other), _) | (_, Err(other)) => return Err(other),
            }
        }
        if errors.is_empty() { Ok(out) } else { Err(Error::Type(errors)) }
    }
}

/// The keys of one mapping, taken one by one; what is left over at [`Fields::finish`] is unknown.
pub struct Fields<'a> {
    type_name: &'static str,
    entries: Vec<Entry<'a>>,
    /// With the position of the key in the mapping, so that they can be told in file order.
    errors: Vec<(usize, String)>,
}

struct Entry<'a> {
    name: &'a str,
    line: usize,
    position: usize,
    value: &'a Node,
    taken: bool,
}

impl<'a> Fields<'a> {
    /// `type_name` is the Go type that errors name (`config.plain`). A null node has no keys.
    ///
    /// # Errors
    /// [`Error::Type`] where the node is no mapping.
    pub fn of(node: &'a Node, type_name: &'static str) -> Result<Fields<'a>, Error> {
        let pairs: &[(Node, Node)] = match &node.value {
            Value::Mapping(pairs) => pairs,
            Value::Null => &[],
            Value::Scalar { .. } | Value::Sequence(_) => return Err(node.type_error(type_name)),
        };
        let mut fields = Fields { type_name, entries: Vec::with_capacity(pairs.len()), errors: Vec::new() };
        for (position, (key, value)) in pairs.iter().enumerate() {
            let line = key.line;
            let Some(name) = key.text() else {
                fields.keep_error(position, key.type_error("string"))?;
                continue;
            };
            if fields.entries.iter().any(|entry| entry.name == name) {
                fields.errors.push((position, format!("line {line}: field {name} already set in type {type_name}")));
            } else {
                fields.entries.push(Entry { name, line, position, value, taken: false });
            }
        }
        Ok(fields)
    }

    fn take_entry(&mut self, key: &str) -> Option<(usize, &'a Node)> {
        let entry = self.entries.iter_mut().find(|entry| entry.name == key)?;
        entry.taken = true;
        Some((entry.position, entry.value))
    }

    /// The node under `key`, even where it is null; the key counts as known from here on.
    pub fn take_node(&mut self, key: &str) -> Option<&'a Node> {
        self.take_entry(key).map(|(_, node)| node)
    }

    /// The value under `key`; `None` where it is missing, null, or of the wrong type (which [`Fields::finish`] reports).
    pub fn take<T: FromYaml>(&mut self, key: &str) -> Result<Option<T>, Error> {
        match self.take_entry(key) {
            Some((position, node)) if !node.is_null() => match T::from_yaml(node) {
                Ok(value) => Ok(Some(value)),
                Err(error) => self.keep_error(position, error).map(|()| None),
            },
            Some(_) | None => Ok(None),
        }
    }

    /// A list of a named Go type, which errors show in place of the list of its items.
    pub fn take_list<T: FromYaml>(&mut self, key: &str, go_name: &str) -> Result<Option<Vec<T>>, Error> {
        match self.take_entry(key) {
            Some((position, node)) if !matches!(node.value, Value::Null | Value::Sequence(_)) => {
                self.keep_error(position, node.type_error(go_name)).map(|()| None)
            }
            Some(_) => self.take(key),
            None => Ok(None),
        }
    }

    /// A map of a named Go type; empty where missing.
    pub fn take_map<T: FromYaml>(&mut self, key: &str, go_name: &str) -> Result<BTreeMap<String, T>, Error> {
        match self.take_entry(key) {
            Some((position, node)) if !matches!(node.value, Value::Null | Value::Mapping(_)) => {
                self.keep_error(position, node.type_error(go_name)).map(|()| BTreeMap::new())
            }
            Some(_) => self.take_default(key),
            None => Ok(BTreeMap::new()),
        }
    }

    /// [`Fields::take`] with a default.
    pub fn take_or<T: FromYaml>(&mut self, key: &str, default: T) -> Result<T, Error> {
        Ok(self.take(key)?.unwrap_or(default))
    }

    /// [`Fields::take`] with the type's own default.
    pub fn take_default<T: FromYaml + Default>(&mut self, key: &str) -> Result<T, Error> {
        Ok(self.take(key)?.unwrap_or_default())
    }

    /// The line of `key` in the file; 0 where it is missing.
    pub fn line(&self, key: &str) -> usize {
        self.entries.iter().find(|entry| entry.name == key).map_or(0, |entry| entry.line)
    }

    /// Keeps type errors for [`Fields::finish`]; passes every other error on.
    fn keep_error(&mut self, position: usize, error: Error) -> Result<(), Error> {
        match error {
            Error::Type(more) => {
                self.errors.extend(more.into_iter().map(|error| (position, error)));
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Reports the type errors met so far and the keys that nobody took, in file order.
    pub fn finish(mut self) -> Result<(), Error> {
        for Entry { name, line, position, taken, .. } in &self.entries {
            if !taken {
                let error = format!("line {line}: field {name} not found in type {}", self.type_name);
                self.errors.push((*position, error));
            }
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort_by_key(|(position, _)| *position);
        Err(Error::Type(self.errors.into_iter().map(|(_, error)| error).collect()))
    }
}
