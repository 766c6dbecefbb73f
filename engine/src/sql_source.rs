//! What SQL reads from: the store, the clock, and what is known about metrics.

use std::sync::Arc;

use pilaster_model::{Matcher, TimeRange};
use pilaster_promql::source::Source;
use pilaster_sql::{MetricMetadata, SourceProvider};
use pilaster_storage::Store;

use crate::app::now_ms;
use crate::source::StoreSource;

/// The store as SQL sees it.
pub struct StoreProvider {
    store: Arc<Store>,
}

impl StoreProvider {
    pub fn new(store: Arc<Store>) -> StoreProvider {
        StoreProvider { store }
    }
}

impl SourceProvider for StoreProvider {
    fn snapshot(&self) -> Arc<dyn Source> {
        Arc::new(StoreSource::new(self.store.snapshot()))
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn plan_note(&self, matchers: &[Matcher], range: TimeRange) -> Option<String> {
        let plan = self.store.snapshot().plan(matchers, range).ok()?;
        let head = if plan.reads_head { " and the head" } else { "" };
        Some(format!("blocks read {} of {}{head}, series {}", plan.blocks_read, plan.blocks_total, plan.series))
    }

    /// The scraper and remote write both tell the store.
    fn metadata(&self) -> Vec<MetricMetadata> {
        let known = self.store.metadata().into_iter();
        known.map(|one| MetricMetadata { metric: one.metric, kind: one.kind, help: one.help, unit: one.unit }).collect()
    }
}
