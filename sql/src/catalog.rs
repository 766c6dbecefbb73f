//! What one statement can name: metrics, system tables and the Postgres catalogs, over one snapshot.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use parking_lot::Mutex;
use pilaster_model::{METRIC_NAME, Matcher, TimeRange};
use pilaster_promql::source::Source;

use crate::metric_table::MetricTable;
use crate::pg_catalog::{PgCatalog, Relations};
use crate::pushdown::Pushed;
use crate::service::{MetricMetadata, SourceProvider};
use crate::stop::Stop;
use crate::system_tables;

/// The one database; clients may connect under any name.
pub const DATABASE: &str = "pilaster";
/// Where metrics and system tables live.
pub const PUBLIC: &str = "public";
pub const PG_CATALOG: &str = "pg_catalog";
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// Everything a statement reads from: one consistent view of the samples, one instant as `now()`, one stop signal.
pub struct Snapshot {
    pub source: Arc<dyn Source>,
    pub stop: Arc<Stop>,
    pub now_ms: i64,
    provider: Arc<dyn SourceProvider>,
    /// Label columns of `samples`.
    pub promoted_labels: Vec<String>,
    /// Asked of the source once per statement.
    metrics: Mutex<Option<Arc<[String]>>>,
    relations: Mutex<Option<Arc<Relations>>>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub fn new(provider: Arc<dyn SourceProvider>, stop: Arc<Stop>, promoted_labels: Vec<String>) -> Snapshot {
        Snapshot {
            source: provider.snapshot(),
            stop,
            now_ms: provider.now_ms(),
            provider,
            promoted_labels,
            metrics: Mutex::new(None),
            relations: Mutex::new(None),
        }
    }

    /// Names of all metrics, ascending.
    pub fn metrics(&self) -> Result<Arc<[String]>> {
        let mut metrics = self.metrics.lock();
        if let Some(names) = &*metrics {
            return Ok(Arc::clone(names));
        }
        self.stop.check()?;
        let names: Arc<[String]> = self.source.label_values(METRIC_NAME, &[], TimeRange::ALL).map_err(external)?.into();
        *metrics = Some(Arc::clone(&names));
        Ok(names)
    }

    /// Labels of one metric, ascending, its name among them; none where there is no such metric.
    fn labels_of(&self, metric: &str) -> Result<Vec<String>> {
        self.stop.check()?;
        self.source.label_names(&[Matcher::equal(METRIC_NAME, metric)], TimeRange::ALL).map_err(external)
    }

    pub fn metadata(&self) -> Vec<MetricMetadata> {
        self.provider.metadata()
    }

    /// Every name that is a table in the public schema, ascending: metrics and system tables.
    pub fn public_tables(&self) -> Result<Vec<String>> {
        let system = system_tables::NAMES.iter().map(|name| (*name).to_owned());
        let further = self.provider.system_tables().into_iter().map(|(name, _)| name);
        let mut tables: Vec<String> = system.chain(further).collect();
        tables.extend(self.metrics()?.iter().cloned());
        tables.sort();
        // A metric called like a system table is hidden by it.
        tables.dedup();
        Ok(tables)
    }

    /// The public tables with their object numbers.
    pub fn relations(&self) -> Result<Arc<Relations>> {
        let mut relations = self.relations.lock();
        if let Some(known) = &*relations {
            return Ok(Arc::clone(known));
        }
        let known = Arc::new(Relations::new(self.public_tables()?));
        *relations = Some(Arc::clone(&known));
        Ok(known)
    }

    /// The table called `name`; `None` where there is none.
    pub fn public_table(self: &Arc<Snapshot>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = system_tables::table(self, name)? {
            return Ok(Some(table));
        }
        if let Some((_, table)) = self.provider.system_tables().into_iter().find(|(own, _)| own == name) {
            return Ok(Some(table));
        }
        // A metric has at least one label, its name: what has none does not exist.
        let mut labels = self.labels_of(name)?;
        if labels.is_empty() {
            return Ok(None);
        }
        labels.retain(|label| label != METRIC_NAME);
        Ok(Some(Arc::new(MetricTable::of_metric(Arc::clone(self), name, &labels))))
    }

    /// One line for EXPLAIN: what a scan asks the store for and what that costs.
    pub fn explain(&self, pushed: &Pushed, series_count: usize) -> String {
        let mut line = String::from("{");
        for (index, matcher) in pushed.matchers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(line, "{comma}{matcher}");
        }
        line.push('}');
        if pushed.range != TimeRange::ALL {
            let _ = write!(line, ", ts=[{}, {}]", bound(pushed.range.min_ms), bound(pushed.range.max_ms));
        }
        let _ = write!(line, ", series={series_count}");
        if let Some(note) = self.provider.plan_note(&pushed.matchers, pushed.range) {
            let _ = write!(line, ", {note}");
        }
        line
    }
}

fn bound(timestamp_ms: i64) -> String {
    match timestamp_ms {
        i64::MIN => "-∞".to_owned(),
        i64::MAX => "∞".to_owned(),
        ms => chrono::DateTime::from_timestamp_millis(ms)
            .map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
    }
}

fn external(error: pilaster_promql::source::SourceError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The list of the one database; a name in front of a schema is not looked at, as Postgres has one per connection.
#[derive(Debug)]
pub struct Databases {
    database: Arc<Database>,
}

impl Databases {
    pub fn new(snapshot: Arc<Snapshot>) -> Databases {
        Databases { database: Arc::new(Database { snapshot }) }
    }
}

impl CatalogProviderList for Databases {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![DATABASE.to_owned()]
    }

    fn catalog(&self, _name: &str) -> Option<Arc<dyn CatalogProvider>> {
        Some(Arc::clone(&self.database) as Arc<dyn CatalogProvider>)
    }
}

#[derive(Debug)]
struct Database {
    snapshot: Arc<Snapshot>,
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        vec![INFORMATION_SCHEMA.to_owned(), PG_CATALOG.to_owned(), PUBLIC.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let snapshot = Arc::clone(&self.snapshot);
        match name {
            PUBLIC => Some(Arc::new(PublicSchema { snapshot })),
            PG_CATALOG | INFORMATION_SCHEMA => {
                Some(Arc::new(PgSchema { catalog: PgCatalog::new(snapshot), schema: name.to_owned() }))
            }
            _ => None,
        }
    }
}

#[derive(Debug)]
struct PublicSchema {
    snapshot: Arc<Snapshot>,
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        self.snapshot.public_tables().unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.snapshot.public_table(name)? {
            return Ok(Some(table));
        }
        // As on Postgres's search path, `pg_class` needs no schema in front.
        PgCatalog::new(Arc::clone(&self.snapshot)).table(PG_CATALOG, name)
    }

    fn table_exist(&self, name: &str) -> bool {
        matches!(self.snapshot.public_table(name), Ok(Some(_)))
    }
}

#[derive(Debug)]
struct PgSchema {
    catalog: PgCatalog,
    schema: String,
}

#[async_trait]
impl SchemaProvider for PgSchema {
    fn table_names(&self) -> Vec<String> {
        PgCatalog::table_names(&self.schema).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.catalog.table(&self.schema, name)
    }

    fn table_exist(&self, name: &str) -> bool {
        PgCatalog::table_names(&self.schema).any(|own| own == name)
    }
}
