//! The store as a [`Source`] of PromQL and SQL: one snapshot, whose samples pass through without being copied.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use parking_lot::Mutex;
use pilaster_model::histogram::{CounterResetHint, Histogram};
use pilaster_model::{LabelKey, Labels, Matcher, ReducedWindows, SeriesGroups, TimeRange};
use pilaster_promql::source::{NewestSamples, SampleBatch, Selection, SeriesRun, Source, SourceError};
use pilaster_storage::block::BlockMeta;
use pilaster_storage::{ReducedSamples, SeriesSamples, SeriesSelection, Snapshot};

use crate::app::Replay;

/// What was asked for is in the log at most, and that is not read yet.
#[derive(Debug, thiserror::Error)]
#[error("the write-ahead log is being read ({} of {} segments): samples that are not in blocks yet are missing", .0.current, .0.max)]
pub struct TooEarly(pub Replay);

/// One snapshot of the store.
#[derive(Clone)]
pub struct StoreSource {
    snapshot: Snapshot,
    /// What was asked for and stands in blocks that are set aside: one sentence each.
    missing: Arc<Mutex<BTreeSet<String>>>,
    /// Such a selection fails.
    strict: bool,
    /// There is a head, and it cannot be asked yet: how far its log is read.
    reading: Option<Replay>,
}

impl StoreSource {
    /// A source whose answers may lack what cannot be read, which [`StoreSource::warnings`] tells.
    pub fn new(snapshot: Snapshot) -> StoreSource {
        StoreSource { snapshot, missing: Arc::default(), strict: false, reading: None }
    }

    /// A source that has blocks only, because the log is read no further than `reading`. It refuses to select where no
    /// block has anything: an empty answer would be a wrong one, which an alert would take for the end of its trouble.
    pub fn early(snapshot: Snapshot, reading: Replay) -> StoreSource {
        StoreSource { reading: Some(reading), ..StoreSource::new(snapshot) }
    }

    /// A source that refuses to select what it would answer in part, for those whose answers carry no warnings.
    pub fn strict(snapshot: Snapshot) -> StoreSource {
        StoreSource { strict: true, ..StoreSource::new(snapshot) }
    }

    /// What is missing in the answers so far.
    pub fn warnings(&self) -> Vec<String> {
        self.missing.lock().iter().cloned().collect()
    }

    /// Notes what an answer about `range` lacks, which reading it has shown.
    ///
    /// # Errors
    /// It would lack everything.
    fn note_missing(&self, range: TimeRange) -> Result<(), SourceError> {
        if let Some(reading) = &self.reading {
            let in_range = |meta: &BlockMeta| range.overlaps(&TimeRange::new(meta.min_ms, meta.max_ms));
            if !self.snapshot.blocks().iter().any(|block| in_range(block.meta())) {
                return Err(SourceError::Storage(Box::new(TooEarly(*reading))));
            }
            self.missing.lock().insert(format!("incomplete: {}", TooEarly(*reading)));
        }
        for meta in self.snapshot.missing(range) {
            let time =
                |ms| chrono::DateTime::from_timestamp_millis(ms).map_or(ms.to_string(), |time| time.to_rfc3339());
            let (from, to) = (time(meta.min_ms), time(meta.max_ms));
            let name = &meta.name;
            self.missing.lock().insert(format!(
                "incomplete: block {name} with samples from {from} to {to} cannot be read and is set aside"
            ));
        }
        Ok(())
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
        let series = self.snapshot.find(matchers, range).map_err(refused)?;
        self.note_missing(range)?;
        if self.strict
            && let Some(warning) = self.warnings().into_iter().next()
        {
            return Err(SourceError::Storage(format!("{warning}; ask for other times").into()));
        }
        Ok(Arc::new(StoreSelection { range, series }))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        let names = self.snapshot.label_names(matchers, range).map_err(refused)?;
        self.note_missing(range)?;
        Ok(names)
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        let values = self.snapshot.label_values(name, matchers, range).map_err(refused)?;
        self.note_missing(range)?;
        Ok(values)
    }
}

fn refused(error: pilaster_storage::Error) -> SourceError {
    SourceError::Storage(Box::new(error))
}

struct StoreSelection {
    range: TimeRange,
    series: SeriesSelection,
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
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self) -> &[Labels] {
        self.series.labels()
    }

    fn labels_at(&self, positions: &[u32]) -> Vec<Labels> {
        self.series.labels_at(positions)
    }

    fn groups(&self, key: LabelKey<'_>) -> Option<SeriesGroups> {
        self.series.groups(key)
    }

    fn reading_order(&self) -> Option<Vec<u32>> {
        self.series.reading_order()
    }

    fn newest(&self, series: &[u32]) -> Result<Option<NewestSamples>, SourceError> {
        let mut newest = NewestSamples::default();
        let all_found = self.series.newest(series, self.range, |series, timestamp_ms, value| {
            newest.series.push(series);
            newest.timestamps_ms.push(timestamp_ms);
            newest.values.push(value);
        });
        Ok(all_found.then_some(newest))
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        let samples = self.series.read(series, self.range).map_err(refused)?;
        self.batch(series, samples.into_iter().map(|samples| ReducedSamples { samples, weights: None }).collect())
    }

    fn read_reduced(&self, series: &[u32], wanted: &ReducedWindows) -> Result<SampleBatch, SourceError> {
        let samples = self.series.read_reduced(series, self.range, wanted).map_err(refused)?;
        self.batch(series, samples)
    }
}

/// How long before the selected range a sample may lie that says whether the first one in it is a reset: as long as a
/// chunk of Prometheus's may be.
const HINT_MS: i64 = 7_200_000;

impl StoreSelection {
    /// A batch of what was read of the series at these positions.
    fn batch(&self, of: &[u32], mut samples: Vec<ReducedSamples>) -> Result<SampleBatch, SourceError> {
        self.hint_histograms(of, &mut samples)?;
        let mut batch = SampleBatch { runs: Vec::with_capacity(samples.len()), ..SampleBatch::default() };
        // The store hands out one list of timestamps for all series that share it.
        let mut known: HashMap<(*const i64, usize, Option<*const u32>), u32> = HashMap::new();
        for (&series, ReducedSamples { samples: one, weights }) in of.iter().zip(samples) {
            if one.timestamps.is_empty() {
                continue;
            }
            let weights_at = weights.as_ref().map(|weights| weights.as_ptr());
            let key = (one.timestamps.as_ptr(), one.timestamps.len(), weights_at);
            let timeline = *known.entry(key).or_insert_with(|| {
                batch.timelines.push(one.timestamps.clone());
                batch.weights.push(weights);
                (batch.timelines.len() - 1) as u32
            });
            batch.runs.push(SeriesRun {
                series,
                timeline,
                values: ScalarBuffer::from(one.values),
                histograms: one.histograms.map(Arc::from),
                starts_ms: one.starts_ms.map(Arc::from),
            });
        }
        Ok(batch)
    }

    /// Sets the counter reset hints of histograms of `samples`, which are those at the positions `of`.
    ///
    /// What lies before the range is read again for series that have histograms, so that the answer does not depend on
    /// where a range begins.
    fn hint_histograms(&self, of: &[u32], samples: &mut [ReducedSamples]) -> Result<(), SourceError> {
        let with: Vec<usize> =
            (0..samples.len()).filter(|index| samples[*index].samples.histograms.is_some()).collect();
        if with.is_empty() {
            return Ok(());
        }
        let series: Vec<u32> = with.iter().map(|index| of[*index]).collect();
        let wider = TimeRange::new(self.range.min_ms.saturating_sub(HINT_MS), self.range.max_ms);
        let before = self.series.read(&series, wider).map_err(refused)?;
        for (index, longer) in with.into_iter().zip(before) {
            let Some(mut histograms) = longer.histograms else { continue };
            hint_resets(&mut histograms);
            let first = longer.timestamps.partition_point(|timestamp_ms| *timestamp_ms < self.range.min_ms);
            let SeriesSamples { timestamps, histograms: hinted, .. } = &mut samples[index].samples;
            debug_assert_eq!(histograms.len() - first, timestamps.len());
            *hinted = Some(histograms.split_off(first));
        }
        Ok(())
    }
}

/// Says of which counters it is known that they go on from the sample before; of the others nothing is known, whatever
/// the sender wrote. Gauges stay gauges.
fn hint_resets(histograms: &mut [Option<Arc<Histogram>>]) {
    let mut previous: Option<Arc<Histogram>> = None;
    for slot in histograms {
        let Some(histogram) = slot else {
            previous = None;
            continue;
        };
        let as_stored = histogram.clone();
        if histogram.counter_reset_hint != CounterResetHint::Gauge {
            let hint = match &previous {
                Some(previous) if histogram.continues(previous) => CounterResetHint::NotReset,
                Some(_) | None => CounterResetHint::Unknown,
            };
            if histogram.counter_reset_hint != hint {
                Arc::make_mut(histogram).counter_reset_hint = hint;
            }
        }
        previous = Some(as_stored);
    }
}
