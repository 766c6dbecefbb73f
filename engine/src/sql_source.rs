//! What SQL reads from: the store, the clock, metadata, and tables of blocks and targets.

use std::sync::Arc;

use pilaster_ingest::scrape::ScrapeManager;
use pilaster_model::{Matcher, TimeRange};
use pilaster_promql::source::Source;
use pilaster_sql::SourceProvider;
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
}
