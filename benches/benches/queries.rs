//! Whole queries inside the process: text in, values out. Over flushed blocks, per input sample; over the head, per
//! query; windows of weeks over merged blocks, by their summaries and by all samples.

use std::hint::black_box;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilaster_benches::dataset::{Fleet, INTERVAL_MS};
use pilaster_engine::source::StoreSource;
use pilaster_model::{Labels, Matcher, TimeRange};
use pilaster_promql::engine::{Engine, EngineOptions};
use pilaster_promql::source::{SampleBatch, Selection, SeriesRun, Source, SourceError};
use pilaster_storage::env::Env;
use pilaster_storage::{Sample, Store, StoreOptions, WalSync};

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START_MS: i64 = 1_760_000_000_000;

/// A store that holds `minutes` of a fleet, in blocks where `flushed`.
struct Loaded {
    store: Arc<Store>,
    end_ms: i64,
    _dir: tempfile::TempDir,
}

fn load(instances: usize, minutes: i64, flushed: bool) -> Loaded {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(dir.path()) };
    let store = Store::open(options, Env::real()).expect("a store");
    let mut fleet = Fleet::new(instances);
    let end_ms = START_MS + minutes * 60_000;
    let mut references = Vec::new();
    for timestamp_ms in (START_MS..=end_ms).step_by(INTERVAL_MS as usize) {
        let scrape: Vec<_> = fleet.scrape().collect();
        if references.is_empty() {
            references = scrape.iter().map(|(labels, _)| store.series(labels)).collect();
        }
        let samples: Vec<Sample> = references
            .iter()
            .zip(scrape)
            .map(|(&series, (_, value))| Sample { series, timestamp_ms, value, start_ms: None })
            .collect();
        store.append(&samples).expect("appended");
    }
    if flushed {
        store.flush().expect("flushed");
    }
    Loaded { store, end_ms, _dir: dir }
}

/// One worker thread: the figures are per core.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn engine() -> Engine {
    Engine::new(EngineOptions { partitions: 1, ..EngineOptions::default() })
}

fn over_blocks(criterion: &mut Criterion) {
    const INSTANCES: usize = 200;
    const HOURS: i64 = 6;
    let loaded = load(INSTANCES, HOURS * 60, true);
    let (runtime, engine) = (runtime(), engine());
    let scrapes = HOURS as u64 * 3_600_000 / INTERVAL_MS as u64;
    let mut group = criterion.benchmark_group("over blocks");
    group.sample_size(10);
    let queries = [
        (
            "sum by (job) (rate(requests[5m])) every 30 s, per input sample",
            "sum by (job) (rate(http_requests_total[5m]))",
            9,
            30_000,
        ),
        (
            "sum by (job) (rate(requests[5m])) every 60 s, per input sample",
            "sum by (job) (rate(http_requests_total[5m]))",
            9,
            60_000,
        ),
        ("sum by (job) (gauge), per input sample", "sum by (job) (node_load1)", 1, 30_000),
        (
            "disk use, one to one, per input sample",
            "1 - node_filesystem_avail_bytes / on (instance, device) node_filesystem_size_bytes",
            4,
            30_000,
        ),
        (
            "p99 of 7 buckets, per input sample",
            "histogram_quantile(0.99, sum by (le, job) (rate(http_request_duration_seconds_bucket[5m])))",
            7,
            30_000,
        ),
    ];
    for (name, query, series_per_instance, step_ms) in queries {
        group.throughput(Throughput::Elements(scrapes * INSTANCES as u64 * series_per_instance));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let source = Arc::new(StoreSource::new(loaded.store.snapshot()));
                let (start_ms, end_ms) = (START_MS + 300_000, loaded.end_ms);
                let answer = engine.range(source, black_box(query), start_ms, end_ms, step_ms);
                runtime.block_on(answer).expect("answered")
            });
        });
    }
    group.finish();
}

fn over_head(criterion: &mut Criterion) {
    let (runtime, engine) = (runtime(), engine());
    let mut group = criterion.benchmark_group("instant over the head");
    group.sample_size(20);
    let few = ["up", "sum by (job) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))"];
    let many = [
        "count(up)",
        "count({__name__=~\".+\"})",
        "sum by (job) (rate(http_requests_total[5m]))",
        "sum by (job) (rate({__name__=~\".+_total|.+_bucket\"}[5m]))",
        "up{instance=\"10.0.0.1:9100\"}",
    ];
    for (instances, queries) in [(100, &few[..]), (4000, &many[..])] {
        let loaded = load(instances, 10, false);
        for query in queries {
            group.bench_function(format!("{instances} instances: {query}"), |bencher| {
                bencher.iter(|| {
                    let source = Arc::new(StoreSource::new(loaded.store.snapshot()));
                    runtime.block_on(engine.instant(source, black_box(query), loaded.end_ms)).expect("answered")
                });
            });
        }
    }
    group.finish();
}

/// A source that reads all samples, whatever is wanted of them.
#[derive(Debug)]
struct AllSamples(StoreSource);

#[derive(Debug)]
struct AllOfSelection(Arc<dyn Selection>);

impl Source for AllSamples {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        Ok(Arc::new(AllOfSelection(self.0.select(matchers, range)?)))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.0.label_names(matchers, range)
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.0.label_values(name, matchers, range)
    }
}

impl Selection for AllOfSelection {
    fn labels(&self) -> &[Labels] {
        self.0.labels()
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        self.0.read(series)
    }
}

/// Five weeks, so that the end of the last day is still in small blocks.
fn over_weeks(criterion: &mut Criterion) {
    const INSTANCES: usize = 4;
    const DAY_MS: i64 = 86_400_000;
    let loaded = load(INSTANCES, 35 * 24 * 60, true);
    loaded.store.maintain().expect("maintained");
    let (runtime, engine) = (runtime(), engine());
    let mut group = criterion.benchmark_group("windows of weeks");
    group.sample_size(10);
    for (query, days) in [
        ("max_over_time(node_load1[30d])", 0),
        ("max_over_time(node_load1[7d])", 0),
        ("avg_over_time(up[8d])", 0),
        ("increase(http_request_duration_seconds_bucket[30d])", 0),
        ("count_over_time(http_requests_total[30d])", 0),
        // They fall on most days.
        ("rate(http_requests_total[30d])", 0),
        ("max_over_time(node_load1[7d])", 28),
        ("increase(http_request_duration_seconds_bucket[1d])", 28),
    ] {
        for all in [false, true] {
            let graph = if days > 0 { format!(" at {days} midnights") } else { String::new() };
            let name = format!("{query}{graph}, {}", if all { "all samples" } else { "summaries" });
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let source = StoreSource::new(loaded.store.snapshot());
                    let source: Arc<dyn Source> = if all { Arc::new(AllSamples(source)) } else { Arc::new(source) };
                    // Graphs of days begin at midnight, as dashboards ask for them.
                    let last_ms = loaded.end_ms / DAY_MS * DAY_MS;
                    let first_ms = last_ms - (days - 1).max(0) * DAY_MS;
                    let answer = match days {
                        0 => runtime.block_on(engine.instant(source, black_box(query), loaded.end_ms)),
                        _ => runtime.block_on(engine.range(source, black_box(query), first_ms, last_ms, DAY_MS)),
                    };
                    answer.expect("answered")
                });
            });
        }
    }
    group.finish();
}

/// Series that are there in memory, with a sample at every step.
#[derive(Debug)]
struct Dense {
    labels: Vec<Labels>,
    timeline: Arc<[i64]>,
    values: ScalarBuffer<f64>,
}

impl Dense {
    fn new(metric: &str, series: usize, steps: usize) -> Dense {
        let labels = (0..series).map(|id| {
            Labels::from_pairs([("__name__", metric), ("id", format!("{id:05}").as_str()), ("job", "dense")])
        });
        let timeline = (0..steps as i64).map(|step| START_MS + step * INTERVAL_MS).collect();
        Dense { labels: labels.collect(), timeline, values: (0..steps).map(|step| step as f64 + 1.0).collect() }
    }
}

impl Selection for Dense {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        let run =
            |&series| SeriesRun { series, timeline: 0, values: self.values.clone(), histograms: None, starts_ms: None };
        let runs = series.iter().map(run).collect();
        Ok(SampleBatch { timelines: vec![self.timeline.clone()], runs, ..SampleBatch::default() })
    }
}

/// By metric.
#[derive(Debug)]
struct DenseMetrics(Vec<(&'static str, Arc<Dense>)>);

impl Source for DenseMetrics {
    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        let is_wanted =
            |(name, _): &&(&str, Arc<Dense>)| matchers.iter().all(|m| m.name() != "__name__" || m.matches(name));
        let (_, dense) = self.0.iter().find(is_wanted).expect("a known metric");
        Ok(dense.clone())
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, SourceError> {
        unreachable!("no query of this bench asks")
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, SourceError> {
        unreachable!("no query of this bench asks")
    }
}

/// What matching costs is the difference: one selector and one aggregation of the one, two selectors of the other.
fn matching(criterion: &mut Criterion) {
    const SERIES: usize = 1000;
    const STEPS: usize = 1000;
    let metrics = ["left", "right"].map(|metric| (metric, Arc::new(Dense::new(metric, SERIES, STEPS))));
    let source = Arc::new(DenseMetrics(metrics.into()));
    let (runtime, engine) = (runtime(), engine());
    let mut group = criterion.benchmark_group("dense in memory, per cell");
    group.throughput(Throughput::Elements((SERIES * STEPS) as u64));
    for query in [
        "sum(left)",
        "sum(left / right)",
        "sum(left / on (id) group_left right)",
        "sum(left and right)",
        "sum(left > 3)",
    ] {
        group.bench_function(query, |bencher| {
            bencher.iter(|| {
                let end_ms = START_MS + (STEPS as i64 - 1) * INTERVAL_MS;
                let answer = engine.range(source.clone(), black_box(query), START_MS, end_ms, INTERVAL_MS);
                runtime.block_on(answer).expect("answered")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, over_blocks, over_head, over_weeks, matching);
criterion_main!(benches);
