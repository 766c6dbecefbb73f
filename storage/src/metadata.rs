//! What exporters say about their metrics. Kept for this life only: every scrape says it again.

use std::collections::BTreeMap;

use parking_lot::RwLock;

/// Type, help and unit of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub metric: String,
    pub kind: String,
    pub help: String,
    pub unit: String,
}

/// By metric.
#[derive(Debug, Default)]
pub struct MetadataTable(RwLock<BTreeMap<String, Metadata>>);

impl MetadataTable {
    pub fn set(&self, metric: &str, kind: &str, help: &str, unit: &str) {
        let known = |m: &Metadata| m.kind == kind && m.help == help && m.unit == unit;
        // Almost always said before, so readers do not wait for it.
        if self.0.read().get(metric).is_some_and(known) {
            return;
        }
        let metadata =
            Metadata { metric: metric.to_owned(), kind: kind.to_owned(), help: help.to_owned(), unit: unit.to_owned() };
        self.0.write().insert(metric.to_owned(), metadata);
    }

    /// Ascending by metric.
    pub fn list(&self) -> Vec<Metadata> {
        self.0.read().values().cloned().collect()
    }
}
