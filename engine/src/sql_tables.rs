//! Tables of the server itself for SQL: `targets` and `blocks`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use pilaster_ingest::scrape::ScrapeManager;
use pilaster_storage::Store;

/// All tables under their names, as they are now.
pub(crate) fn tables(store: &Store, scrapes: &ScrapeManager) -> Vec<(String, Arc<dyn TableProvider>)> {
    [("targets", targets(scrapes)), ("blocks", blocks(store))]
        .into_iter()
        .filter_map(|(name, batch)| {
            let batch = batch.ok()?;
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).ok()?;
            Some((name.to_owned(), Arc::new(table) as Arc<dyn TableProvider>))
        })
        .collect()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|count| i64::try_from(count).unwrap_or(i64::MAX))))
}

/// Instants in UTC, as in the tables of metrics.
fn instants(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let array: TimestampMillisecondArray = values.collect();
    Arc::new(array.with_timezone("UTC"))
}

fn targets(scrapes: &ScrapeManager) -> Result<RecordBatch, ArrowError> {
    let targets = scrapes.targets();
    let states: Vec<_> = targets.iter().map(|target| target.state()).collect();
    let durations = states.iter().map(|state| state.last_duration.as_secs_f64());
    batch(vec![
        ("job", texts(targets.iter().map(|target| target.job().to_owned()))),
        ("instance", texts(targets.iter().map(|target| target.labels().get("instance").to_owned()))),
        ("url", texts(targets.iter().map(|target| target.url().to_owned()))),
        ("health", texts(states.iter().map(|state| state.health.name().to_owned()))),
        ("last_error", texts(states.iter().map(|state| state.last_error.clone()))),
        ("last_scrape", instants(states.iter().map(|state| state.last_scrape_ms))),
        ("last_scrape_seconds", Arc::new(Float64Array::from_iter_values(durations))),
    ])
}

fn blocks(store: &Store) -> Result<RecordBatch, ArrowError> {
    let snapshot = store.snapshot();
    let metas: Vec<_> = snapshot.blocks().iter().map(|block| block.meta()).collect();
    batch(vec![
        ("name", texts(metas.iter().map(|meta| meta.name.clone()))),
        ("level", counts(metas.iter().map(|meta| u64::from(meta.level)))),
        ("min_time", instants(metas.iter().map(|meta| Some(meta.min_ms)))),
        ("max_time", instants(metas.iter().map(|meta| Some(meta.max_ms)))),
        ("series_count", counts(metas.iter().map(|meta| meta.series_count))),
        ("sample_count", counts(metas.iter().map(|meta| meta.sample_count))),
        ("bytes", counts(metas.iter().map(|meta| meta.files.iter().map(|file| file.bytes).sum()))),
    ])
}
