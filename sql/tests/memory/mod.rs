//! Samples in memory behind the source contract, for tests.
#![allow(dead_code)]

use std::sync::Arc;

use pilaster_model::{Histogram, Labels, METRIC_NAME, Matcher, TimeRange, stale_nan};
use pilaster_promql::source::{SampleBatch, Selection, SeriesRun, Source, SourceError};
use pilaster_promql::{Engine, EngineOptions};
use pilaster_sql::{MetricMetadata, SourceProvider, SqlOptions, SqlService};

/// 2026-11-21T08:00:00Z.
pub const NOW_MS: i64 = 1_795_248_000_000;

#[derive(Debug, Clone)]
pub struct MemorySeries {
    pub labels: Labels,
    pub timestamps: Arc<[i64]>,
    pub values: Vec<f64>,
    pub histograms: Option<Arc<[Option<Arc<Histogram>>]>>,
}

/// All series, ascending by labels.
#[derive(Debug, Clone, Default)]
pub struct MemorySource(pub Arc<Vec<MemorySeries>>);

#[derive(Debug)]
struct MemorySelection {
    labels: Vec<Labels>,
    series: Vec<MemorySeries>,
    range: TimeRange,
}

impl MemorySource {
    fn matching(&self, matchers: &[Matcher], range: TimeRange) -> Vec<MemorySeries> {
        self.0
            .iter()
            .filter(|series| matchers.iter().all(|matcher| matcher.matches_labels(&series.labels)))
            .filter(|series| series.timestamps.iter().any(|time| range.contains(*time)))
            .cloned()
            .collect()
    }
}

impl Source for MemorySource {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        let series = self.matching(matchers, range);
        Ok(Arc::new(MemorySelection {
            labels: series.iter().map(|series| series.labels.clone()).collect(),
            series,
            range,
        }))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        let mut names: Vec<String> = self
            .matching(matchers, range)
            .iter()
            .flat_map(|series| series.labels.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        let mut values: Vec<String> = self
            .matching(matchers, range)
            .iter()
            .filter_map(|series| series.labels.find(name).map(str::to_owned))
            .collect();
        values.sort();
        values.dedup();
        Ok(values)
    }
}

impl Selection for MemorySelection {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        let mut batch = SampleBatch::default();
        for &index in series {
            let series = &self.series[index as usize];
            let first = series.timestamps.partition_point(|time| *time < self.range.min_ms);
            let last = series.timestamps.partition_point(|time| *time <= self.range.max_ms);
            if first == last {
                continue;
            }
            batch.runs.push(SeriesRun {
                series: index,
                timeline: batch.timelines.len() as u32,
                values: series.values[first..last].to_vec().into(),
                histograms: series.histograms.as_ref().map(|histograms| histograms[first..last].into()),
                starts_ms: None,
            });
            batch.timelines.push(series.timestamps[first..last].into());
        }
        Ok(batch)
    }
}

pub struct MemoryProvider {
    pub source: MemorySource,
    pub metadata: Vec<MetricMetadata>,
}

impl SourceProvider for MemoryProvider {
    fn snapshot(&self) -> Arc<dyn Source> {
        Arc::new(self.source.clone())
    }

    fn now_ms(&self) -> i64 {
        NOW_MS
    }

    fn plan_note(&self, matchers: &[Matcher], _range: TimeRange) -> Option<String> {
        Some(format!("blocks read {} of 7", matchers.len()))
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        self.metadata.clone()
    }
}

/// Samples every `step_ms` up to and with now.
pub fn series(labels: &[(&str, &str)], step_ms: i64, values: Vec<f64>) -> MemorySeries {
    let count = values.len() as i64;
    MemorySeries {
        labels: Labels::from_pairs(labels.iter().copied()),
        timestamps: (0..count).map(|index| NOW_MS - (count - 1 - index) * step_ms).collect(),
        values,
        histograms: None,
    }
}

pub fn provider_of(mut all: Vec<MemorySeries>) -> MemoryProvider {
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    MemoryProvider {
        source: MemorySource(Arc::new(all)),
        metadata: vec![MetricMetadata {
            metric: "http_requests_total".to_owned(),
            kind: "counter".to_owned(),
            help: "Requests served.".to_owned(),
            unit: String::new(),
        }],
    }
}

/// `http_requests_total` of two jobs, `up` with a staleness marker, a native histogram, and odd names.
pub fn small() -> MemoryProvider {
    let name = METRIC_NAME;
    let mut histogram = series(&[(name, "latency"), ("job", "api")], 15_000, vec![1.0, 0.0]);
    let one = Histogram { count: 3.0, sum: 7.0, ..Histogram::default() };
    histogram.histograms = Some(vec![None, Some(Arc::new(one))].into());
    provider_of(vec![
        series(
            &[(name, "http_requests_total"), ("instance", "a:80"), ("job", "api"), ("code", "200")],
            15_000,
            (0..240).map(f64::from).collect(),
        ),
        series(
            &[(name, "http_requests_total"), ("instance", "b:80"), ("job", "api"), ("code", "500")],
            15_000,
            (0..240).map(|value| f64::from(value) * 2.0).collect(),
        ),
        series(
            &[(name, "http_requests_total"), ("instance", "c:80"), ("job", "web")],
            15_000,
            vec![f64::NAN, f64::INFINITY, 0.5],
        ),
        series(&[(name, "up"), ("instance", "a:80"), ("job", "api")], 15_000, vec![1.0, stale_nan(), 0.0]),
        series(&[(name, "up"), ("instance", "c:80"), ("job", "web")], 15_000, vec![1.0, 1.0, 1.0]),
        series(&[(name, "job:up:sum"), ("Zone", "eu"), ("ts", "label called ts")], 60_000, vec![2.0]),
        histogram,
    ])
}

/// A service over `provider` with two partitions.
pub fn service_over(provider: MemoryProvider, options: SqlOptions) -> Arc<SqlService> {
    let engine = Arc::new(Engine::new(EngineOptions::default()));
    let options = SqlOptions { partitions: 2, ..options };
    Arc::new(SqlService::new(Arc::new(provider), engine, options).unwrap())
}
