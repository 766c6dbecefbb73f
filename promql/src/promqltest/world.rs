//! Where a script's samples live: in memory here, in a real store elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use pilaster_model::{CounterResetHint, Histogram, Labels, Matcher, TimeRange};

use crate::source::{SampleBatch, Selection, SeriesRun, Source, SourceError};

/// One series of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedSeries {
    pub labels: Labels,
    /// Ascending by time.
    pub samples: Vec<LoadedSample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LoadedSample {
    pub timestamp_ms: i64,
    pub value: LoadedValue,
    /// When the counter started, where the script says so.
    pub start_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LoadedValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// A place for samples that a script fills and queries.
pub trait World: Send {
    /// Forgets everything.
    ///
    /// # Errors
    /// In words of the world.
    fn clear(&mut self) -> Result<(), String>;

    /// Adds samples; all of one load belong together.
    ///
    /// # Errors
    /// In words of the world.
    fn load(&mut self, series: &[LoadedSeries]) -> Result<(), String>;

    /// What queries read.
    ///
    /// # Errors
    /// In words of the world.
    fn source(&mut self) -> Result<Arc<dyn Source>, String>;
}

/// Samples in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryWorld {
    series: BTreeMap<Labels, BTreeMap<i64, LoadedSample>>,
}

impl World for MemoryWorld {
    fn clear(&mut self) -> Result<(), String> {
        self.series.clear();
        Ok(())
    }

    fn load(&mut self, series: &[LoadedSeries]) -> Result<(), String> {
        for LoadedSeries { labels, samples } in series {
            let stored = self.series.entry(labels.clone()).or_default();
            stored.extend(samples.iter().map(|sample| (sample.timestamp_ms, sample.clone())));
        }
        Ok(())
    }

    fn source(&mut self) -> Result<Arc<dyn Source>, String> {
        let series = self
            .series
            .iter()
            .map(|(labels, samples)| (labels.clone(), with_stored_hints(samples.values().cloned()).into()))
            .collect();
        Ok(Arc::new(MemorySource { series }))
    }
}

/// Counter reset hints as a store gives them back: within a run of histograms that one chunk can hold, all but the first
/// are known to be no reset; of the first nothing is known, whatever was written. Gauges stay gauges.
fn with_stored_hints(samples: impl Iterator<Item = LoadedSample>) -> Vec<LoadedSample> {
    let mut previous: Option<Arc<Histogram>> = None;
    let mut stored: Vec<LoadedSample> = samples.collect();
    for sample in &mut stored {
        let LoadedValue::Histogram(histogram) = &mut sample.value else {
            previous = None;
            continue;
        };
        let written = histogram.clone();
        if histogram.counter_reset_hint != CounterResetHint::Gauge {
            let continues = previous.is_some_and(|previous| histogram.continues(&previous));
            let hint = if continues { CounterResetHint::NotReset } else { CounterResetHint::Unknown };
            Arc::make_mut(histogram).counter_reset_hint = hint;
        }
        previous = Some(written);
    }
    stored
}

/// A snapshot of a [`MemoryWorld`], or of any samples at hand.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    /// Ascending by labels, samples ascending by time.
    series: Vec<(Labels, Arc<[LoadedSample]>)>,
}

impl MemorySource {
    /// A source of `series`; of a repeated label set the last wins.
    pub fn new(series: impl IntoIterator<Item = LoadedSeries>) -> MemorySource {
        let sorted: BTreeMap<Labels, Arc<[LoadedSample]>> =
            series.into_iter().map(|series| (series.labels, series.samples.into())).collect();
        MemorySource { series: sorted.into_iter().collect() }
    }

    /// The series that satisfy `matchers` and have a sample in `range`, with those samples.
    fn matching(&self, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, Vec<LoadedSample>)> {
        let mut matching = Vec::new();
        for (labels, samples) in &self.series {
            if !matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                continue;
            }
            let inside = |sample: &&LoadedSample| range.contains(sample.timestamp_ms);
            let samples: Vec<LoadedSample> = samples.iter().filter(inside).cloned().collect();
            if !samples.is_empty() {
                matching.push((labels.clone(), samples));
            }
        }
        matching
    }
}

impl Source for MemorySource {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        let (labels, samples) = self.matching(matchers, range).into_iter().unzip();
        Ok(Arc::new(MemorySelection { labels, samples }))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        let matching = self.matching(matchers, range);
        let names = matching.iter().flat_map(|(labels, _)| labels.iter().map(|(name, _)| name.to_owned()));
        Ok(sorted(names.collect()))
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        let matching = self.matching(matchers, range);
        let values = matching.iter().filter_map(|(labels, _)| labels.find(name).map(str::to_owned));
        Ok(sorted(values.collect()))
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

#[derive(Debug)]
struct MemorySelection {
    labels: Vec<Labels>,
    samples: Vec<Vec<LoadedSample>>,
}

impl Selection for MemorySelection {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        let mut batch = SampleBatch::default();
        // Series with the same timestamps share one timeline, as those of one target do in a store.
        let mut timelines: BTreeMap<Vec<i64>, u32> = BTreeMap::new();
        for &position in series {
            let samples = &self.samples[position as usize];
            let timestamps: Vec<i64> = samples.iter().map(|sample| sample.timestamp_ms).collect();
            let timeline = *timelines.entry(timestamps).or_insert_with_key(|timestamps| {
                batch.timelines.push(Arc::from(timestamps.as_slice()));
                batch.timelines.len() as u32 - 1
            });
            batch.runs.push(run(position, timeline, samples));
        }
        Ok(batch)
    }
}

fn run(series: u32, timeline: u32, samples: &[LoadedSample]) -> SeriesRun {
    let values: Vec<f64> = samples
        .iter()
        .map(|sample| match &sample.value {
            LoadedValue::Float(value) => *value,
            LoadedValue::Histogram(_) => 0.0,
        })
        .collect();
    let histograms: Arc<[Option<Arc<Histogram>>]> = samples
        .iter()
        .map(|sample| match &sample.value {
            LoadedValue::Float(_) => None,
            LoadedValue::Histogram(histogram) => Some(histogram.clone()),
        })
        .collect();
    let starts_ms: Arc<[i64]> = samples.iter().map(|sample| sample.start_ms.unwrap_or(0)).collect();
    SeriesRun {
        series,
        timeline,
        values: ScalarBuffer::from(values),
        histograms: histograms.iter().any(Option::is_some).then_some(histograms),
        starts_ms: starts_ms.iter().any(|start| *start != 0).then_some(starts_ms),
    }
}
