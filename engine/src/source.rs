//! The store as a [`Source`] of PromQL and SQL: one snapshot, whose samples pass through without being copied.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use pilaster_model::{Labels, Matcher, TimeRange};
use pilaster_promql::source::{SampleBatch, Selection, SeriesRun, Source, SourceError};
use pilaster_storage::{SelectedSeries, Snapshot};

/// One snapshot of the store.
#[derive(Clone)]
pub struct StoreSource {
    snapshot: Snapshot,
}

impl StoreSource {
    pub fn new(snapshot: Snapshot) -> StoreSource {
        StoreSource { snapshot }
    }

    /// The snapshot itself, for what PromQL does not ask.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl std::fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSource").field("blocks", &self.snapshot.blocks().len()).finish_non_exhaustive()
    }
}

impl Source for StoreSource {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        let series = self.snapshot.select(matchers, range).map_err(refused)?;
        let labels = series.iter().map(|one| one.labels.clone()).collect();
        Ok(Arc::new(StoreSelection { snapshot: self.snapshot.clone(), range, series, labels }))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.snapshot.label_names(matchers, range).map_err(refused)
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.snapshot.label_values(name, matchers, range).map_err(refused)
    }
}

fn refused(error: pilaster_storage::Error) -> SourceError {
    SourceError::Storage(Box::new(error))
}

struct StoreSelection {
    snapshot: Snapshot,
    range: TimeRange,
    series: Vec<SelectedSeries>,
    labels: Vec<Labels>,
}

impl std::fmt::Debug for StoreSelection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSelection")
            .field("series", &self.series.len())
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl Selection for StoreSelection {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, start: usize, end: usize) -> Result<SampleBatch, SourceError> {
        let samples = self.snapshot.read_many(&self.series[start..end], self.range).map_err(refused)?;
        let mut batch = SampleBatch { timelines: Vec::new(), runs: Vec::with_capacity(samples.len()) };
        // The store hands out one list of timestamps for all series that share it.
        let mut known: HashMap<(*const i64, usize), u32> = HashMap::new();
        for (offset, one) in samples.into_iter().enumerate() {
            if one.timestamps.is_empty() {
                continue;
            }
            let timeline = *known.entry((one.timestamps.as_ptr(), one.timestamps.len())).or_insert_with(|| {
                batch.timelines.push(one.timestamps.clone());
                (batch.timelines.len() - 1) as u32
            });
            batch.runs.push(SeriesRun {
                series: (start + offset) as u32,
                timeline,
                values: ScalarBuffer::from(one.values),
                histograms: one.histograms.map(Arc::from),
                starts_ms: one.starts_ms.map(Arc::from),
            });
        }
        Ok(batch)
    }
}
