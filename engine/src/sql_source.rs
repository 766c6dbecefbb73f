//! What SQL reads from: the store, the clock, what is known about metrics, and tables of the server itself.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use pilaster_ingest::scrape::ScrapeManager;
use pilaster_model::{Matcher, TimeRange};
use pilaster_promql::source::Source;
use pilaster_sql::{MetricMetadata, SourceProvider};
use pilaster_storage::Store;

use crate::app::now_ms;
use crate::source::StoreSource;

/// The store as SQL sees it.
pub struct StoreProvider {
    store: Arc<Store>,
    scrapes: Arc<ScrapeManager>,
}

impl StoreProvider {
    pub fn new(store: Arc<Store>, scrapes: Arc<ScrapeManager>) -> StoreProvider {
        StoreProvider { store, scrapes }
    }
}

impl SourceProvider for StoreProvider {
    fn snapshot(&self) -> Arc<dyn Source> {
        Arc::new(StoreSource::strict(self.store.snapshot()))
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn plan_note(&self, matchers: &[Matcher], range: TimeRange) -> Option<String> {
        let plan = self.store.snapshot().plan(matchers, range).ok()?;
        let head = if plan.reads_head { " and the head" } else { "" };
        Some(format!("blocks read {} of {}{head}", plan.blocks_read, plan.blocks_total))
    }

    /// The scraper and remote write both tell the store.
    fn metadata(&self) -> Vec<MetricMetadata> {
        let known = self.store.metadata().into_iter();
        known.map(|one| MetricMetadata { metric: one.metric, kind: one.kind, help: one.help, unit: one.unit }).collect()
    }
    fn system_tables(&self) -> Vec<(String, Arc<dyn TableProvider>)> {
        crate::sql_tables::tables(&self.store, &self.scrapes)
    }
}
