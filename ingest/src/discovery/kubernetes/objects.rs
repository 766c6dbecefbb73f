//! Objects of a cluster, as their JSON.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// Kinds of objects that are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    Namespace,
    ReplicaSet,
    Job,
}

impl Kind {
    /// The API group's path and the plural name.
    pub fn path(self) -> (&'static str, &'static str) {
        match self {
            Kind::Node => ("/api/v1", "nodes"),
            Kind::Pod => ("/api/v1", "pods"),
            Kind::Service => ("/api/v1", "services"),
            Kind::Endpoints => ("/api/v1", "endpoints"),
            Kind::Namespace => ("/api/v1", "namespaces"),
            Kind::EndpointSlice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Kind::Ingress => ("/apis/networking.k8s.io/v1", "ingresses"),
            Kind::ReplicaSet => ("/apis/apps/v1", "replicasets"),
            Kind::Job => ("/apis/batch/v1", "jobs"),
        }
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(self, Kind::Node | Kind::Namespace)
    }
}

/// What was listed.
#[derive(Debug, Default)]
pub(super) struct Objects {
    by_kind: HashMap<Kind, BTreeMap<String, Value>>,
}

impl Objects {
    pub fn set(&mut self, kind: Kind, objects: Vec<Value>) {
        let named = objects.into_iter().map(|object| (key(namespace(&object), name(&object)), object));
        self.by_kind.insert(kind, named.collect());
    }

    /// Ascending by namespace and name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.by_kind.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.by_kind.get(&kind)?.get(&key(namespace, name))
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The text at a JSON pointer; empty where there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer; empty where there is none.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of the map at a JSON pointer.
pub(super) fn texts<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = object.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// Kind and name of the object that controls this one.
pub(super) fn controller(object: &Value) -> Option<(&str, &str)> {
    let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    let owner = list(object, "/metadata/ownerReferences").iter().find(controls)?;
    Some((text(owner, "/kind"), text(owner, "/name")))
}
