//! Queries over samples in memory: what the scripts do not say, and that partitions and tiles change nothing.

mod counts;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pilaster_model::{Histogram, Labels, Matcher, Span, TimeRange, stale_nan};

use super::*;
use crate::source::{SampleBatch, Selection, SeriesRun, SourceError};

#[derive(Debug, Clone)]
struct Stored {
    labels: Labels,
    samples: Vec<(i64, Value)>,
}

/// Series in memory, ascending by labels.
#[derive(Debug)]
struct Memory(Arc<Vec<Stored>>);

#[derive(Debug)]
struct Selected {
    labels: Vec<Labels>,
    series: Vec<Stored>,
    range: TimeRange,
}

impl Source for Memory {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        let chosen = |stored: &&Stored| matchers.iter().all(|matcher| matcher.matches_labels(&stored.labels));
        let series: Vec<Stored> = self.0.iter().filter(chosen).cloned().collect();
        let labels = series.iter().map(|stored| stored.labels.clone()).collect();
        Ok(Arc::new(Selected { labels, series, range }))
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, SourceError> {
        Ok(Vec::new())
    }
}

impl Selection for Selected {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// Backwards: answers must not depend on it.
    fn reading_order(&self) -> Option<Vec<u32>> {
        Some((0..self.labels.len() as u32).rev().collect())
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        let mut batch = SampleBatch::default();
        for &series in series {
            let stored = &self.series[series as usize];
            let inside: Vec<&(i64, Value)> = stored.samples.iter().filter(|(t, _)| self.range.contains(*t)).collect();
            let float = |value: &Value| match value {
                Value::Float(value) => *value,
                Value::Histogram(_) => 0.0,
            };
            let histogram = |value: &Value| match value {
                Value::Float(_) => None,
                Value::Histogram(histogram) => Some(Arc::clone(histogram)),
            };
            let histograms: Arc<[Option<Arc<Histogram>>]> = inside.iter().map(|(_, value)| histogram(value)).collect();
            if inside.is_empty() {
                continue;
            }
            batch.runs.push(SeriesRun {
                series,
                timeline: batch.timelines.len() as u32,
                values: inside.iter().map(|(_, value)| float(value)).collect::<Vec<f64>>().into(),
                histograms: histograms.iter().any(Option::is_some).then_some(histograms),
                starts_ms: None,
            });
            batch.timelines.push(inside.iter().map(|(t, _)| *t).collect());
        }
        Ok(batch)
    }
}

const MINUTE: i64 = 60_000;

/// Awkward numbers in many series: sums depend on the order in which they are added.
fn requests() -> Arc<dyn Source> {
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut all = Vec::new();
    for name in ["errors_total", "requests_total"] {
        for instance in 0..60 {
            for le in ["0.1", "0.5", "1", "+Inf"] {
                let instance_text = format!("host-{instance}");
                let labels = Labels::from_pairs([
                    ("__name__", name),
                    ("instance", instance_text.as_str()),
                    ("job", if instance % 3 == 0 { "api" } else { "web" }),
                    ("le", le),
                ]);
                let mut total = 0.0;
                let mut samples = Vec::new();
                for step in 0..180_i64 {
                    total += random() * 1e3 / 7.0;
                    if random() < 0.02 {
                        total = 0.0;
                    }
                    match random() {
                        x if x < 0.03 => {}
                        x if x < 0.04 => samples.push((step * 20_000 + instance, Value::Float(stale_nan()))),
                        _ => samples.push((step * 20_000 + instance, Value::Float(total))),
                    }
                }
                all.push(Stored { labels, samples });
            }
        }
    }
    for instance in 0..60 {
        let instance_text = format!("host-{instance}");
        let job = if instance % 3 == 0 { "api" } else { "web" };
        let labels = Labels::from_pairs([("__name__", "latency"), ("instance", instance_text.as_str()), ("job", job)]);
        let mut latency = sizes(instance);
        let mut samples = Vec::new();
        for step in 0..180_i64 {
            latency.observe(&mut random);
            match random() {
                x if x < 0.03 => {}
                x if x < 0.04 => samples.push((step * 20_000 + instance, Value::Float(stale_nan()))),
                x if x < 0.05 => samples.push((step * 20_000 + instance, Value::Float(x))),
                x if x < 0.06 => latency = sizes(instance),
                _ => samples.push((step * 20_000 + instance, Value::Histogram(Arc::new(latency.0.clone())))),
            }
        }
        all.push(Stored { labels, samples });
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    Arc::new(Memory(Arc::new(all)))
}

/// A native histogram that counts awkward fractions, so that sums of buckets depend on their order too.
struct Latency(Histogram);

/// Of one of three schemas and two widths of the zero bucket.
fn sizes(instance: i64) -> Latency {
    Latency(Histogram {
        schema: (instance % 3) as i32,
        zero_threshold: if instance % 2 == 0 { 0.001 } else { 0.3 },
        positive_spans: vec![Span { offset: 1, length: 3 }, Span { offset: 2, length: 2 }],
        positive: vec![0.0; 5],
        negative_spans: vec![Span { offset: 2, length: 2 }],
        negative: vec![0.0; 2],
        ..Histogram::default()
    })
}

impl Latency {
    fn observe(&mut self, random: &mut impl FnMut() -> f64) {
        let Latency(histogram) = self;
        for count in histogram.positive.iter_mut().chain(&mut histogram.negative) {
            let more = random() / 3.0;
            *count += more;
            histogram.count += more;
            histogram.sum += more * random();
        }
        let zeros = random() / 7.0;
        histogram.zero_count += zeros;
        histogram.count += zeros;
    }
}

fn engine(partitions: usize, tile: usize) -> Engine {
    let parse = ParseOptions::all();
    Engine::new(EngineOptions { partitions, tile, partition_cells: 1, parse, ..EngineOptions::default() })
}

/// The numbers of one sample, as bits, and its time.
type SampleBits = (i64, Vec<u64>);

/// All numbers of an answer, as bits, with their labels.
fn fingerprint(output: &Output) -> Vec<(String, Vec<SampleBits>)> {
    let bits = |value: &Value| match value {
        Value::Float(value) => vec![value.to_bits()],
        Value::Histogram(histogram) => histogram_bits(histogram),
    };
    match &output.value {
        QueryValue::Matrix(series) => series
            .iter()
            .map(|series| {
                let floats = series.points.iter().map(|(t, value)| (*t, vec![value.to_bits()]));
                let histograms = series.histograms.iter().map(|(t, histogram)| (*t, histogram_bits(histogram)));
                (series.labels.to_string(), floats.chain(histograms).collect())
            })
            .collect(),
        QueryValue::Vector(samples) => samples
            .iter()
            .map(|sample| (sample.labels.to_string(), vec![(sample.timestamp_ms, bits(&sample.value))]))
            .collect(),
        QueryValue::Scalar { timestamp_ms, value } => {
            vec![("scalar".to_owned(), vec![(*timestamp_ms, vec![value.to_bits()])])]
        }
        QueryValue::String { value, .. } => vec![(value.clone(), Vec::new())],
    }
}

/// All that a histogram holds; layouts as they are, not as they compare.
fn histogram_bits(histogram: &Histogram) -> Vec<u64> {
    let spans = histogram.positive_spans.iter().chain(&histogram.negative_spans);
    let numbers = [histogram.count, histogram.sum, histogram.zero_count, histogram.zero_threshold];
    let counts = histogram.positive.iter().chain(&histogram.negative).chain(histogram.custom_bounds.iter());
    let floats = numbers.iter().chain(counts).map(|number| number.to_bits());
    let layout = spans.flat_map(|span| [span.offset as u64, u64::from(span.length)]);
    floats.chain(layout).chain([histogram.schema as u64, histogram.counter_reset_hint as u64]).collect()
}

const QUERIES: &[&str] = &[
    "requests_total",
    "sum(rate(requests_total[2m]))",
    "avg by (job) (rate(requests_total[1m]))",
    "stddev without (instance) (requests_total)",
    "quantile by (le) (0.9, increase(requests_total[3m]))",
    "topk(3, sum by (instance) (rate(requests_total[2m])))",
    "bottomk by (job) (2, requests_total)",
    "limit_ratio(0.3, requests_total)",
    "errors_total / requests_total",
    "errors_total / on (instance, le) group_left () requests_total > bool 0.5",
    "sum by (instance) (errors_total) / ignoring (le, job) group_right () requests_total",
    "errors_total or requests_total",
    "errors_total and on (job) requests_total{job=\"api\"} > 1000",
    "errors_total unless on (instance) requests_total{job=\"api\"}",
    "errors_total / requests_total + on (instance, le) group_left () (requests_total and errors_total > 700) * errors_total",
    "latency / on (instance, job) requests_total{le=\"1\"}",
    "latency + on (instance, job) group_right () latency unless on (instance) requests_total > 2000",
    "sum by (job) (errors_total{le!=\"1\"} - errors_total offset 1m and on (instance) latency)",
    "histogram_quantile(0.9, sum by (le, job) (rate(requests_total[5m])))",
    "histogram_fraction(0, 0.5, requests_total)",
    "max_over_time(rate(requests_total[1m])[5m:30s])",
    "avg_over_time(requests_total[4m]) - avg_over_time(requests_total[4m] offset 1m)",
    "sum(requests_total @ end()) - sum(requests_total)",
    "count_values by (job) (\"v\", round(requests_total, 500))",
    "label_replace(requests_total, \"host\", \"$1\", \"instance\", \"host-(.*)\")",
    "absent(nothing{a=\"b\"}) * scalar(sum(requests_total))",
    "predict_linear(requests_total[5m], 600) + deriv(requests_total[5m])",
    "quantile_over_time(0.5, requests_total[3m]) * mad_over_time(requests_total[3m])",
    "-abs(ln(requests_total)) ^ 2 % 7",
    "clamp(requests_total, 10, 100) == bool clamp_max(errors_total, 50)",
    "time() - timestamp(requests_total)",
    "sum(rate(latency[2m]))",
    "avg by (job) (latency)",
    "avg_over_time(latency[3m])",
    "sum_over_time(latency[2m]) / 3 + on (instance, job) increase(latency[5m])",
    "histogram_quantile(0.9, sum by (job) (rate(latency[2m])))",
    "histogram_avg(sum without (instance) (latency)) + histogram_stddev(sum without (instance) (latency))",
    "sum(latency >/ 0.7)",
    "sum(sum_over_time(rate(latency[1m])[5m:30s]))",
    "quantile(0.5, histogram_fraction(0, 1.3, latency))",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn partitions_and_tiles_change_no_bit() {
    let source = requests();
    for query in QUERIES {
        let mut expected = None;
        for (partitions, tile) in [(1, 1024), (2, 1024), (4, 1024), (1, 64), (4, 64), (4, 7)] {
            let engine = engine(partitions, tile);
            let range = engine.range(Arc::clone(&source), query, 3 * MINUTE, 55 * MINUTE, 17_000).await;
            let instant = engine.instant(Arc::clone(&source), query, 31 * MINUTE).await;
            let (range, instant) = (range.expect(query), instant.expect(query));
            let found = (fingerprint(&range), fingerprint(&instant), range.annotations);
            assert!(!found.0.is_empty(), "{query}");
            match &expected {
                None => expected = Some(found),
                Some(expected) => assert!(*expected == found, "{query} with {partitions} partitions, tile {tile}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tile_of_one_step_is_the_instant_query() {
    let source = requests();
    let engine = engine(1, 1024);
    for query in QUERIES.iter().filter(|query| !query.contains("topk") && !query.contains("bottomk")) {
        let at_ms = 20 * MINUTE;
        let range = engine.range(Arc::clone(&source), query, at_ms, at_ms, 1000).await.expect(query);
        let instant = engine.instant(Arc::clone(&source), query, at_ms).await.expect(query);
        let mut instant = fingerprint(&instant);
        instant.sort();
        let mut range = fingerprint(&range);
        range.sort();
        assert_eq!(range, instant, "{query}");
    }
}

#[tokio::test]
async fn a_request_may_look_back_less_far() {
    let engine = engine(1, 1024);
    let found = async |lookback_ms: Option<i64>| {
        let limits = QueryLimits { lookback_ms, ..QueryLimits::default() };
        let query = "count(requests_total)";
        let output = engine.instant_with(requests(), query, 60 * MINUTE, &limits).await.expect(query);
        fingerprint(&output)
    };
    let usual = found(None).await;
    assert_eq!(found(Some(300_000)).await, usual);
    assert_ne!(found(Some(10_000)).await, usual);
    for none in [0, -300_000] {
        assert_eq!(found(Some(none)).await, usual);
    }
}

async fn error(query: &str) -> String {
    match engine(1, 1024).range(requests(), query, 0, 30 * MINUTE, MINUTE).await {
        Ok(output) => format!("{:?}", output.value),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn errors_read_as_in_prometheus() {
    assert_eq!(
        error("{__name__=~\"errors_total|requests_total\"} * 2").await,
        "vector cannot contain metrics with the same labelset"
    );
    assert_eq!(
        error("rate({__name__=~\"errors_total|requests_total\"}[5m])").await,
        "vector cannot contain metrics with the same labelset"
    );
    let text =
        error("sum by (job) (errors_total) * on (job) requests_total{instance=~\"host-1|host-2\", le=\"1\"}").await;
    assert_eq!(
        text,
        "found duplicate series for the match group {job=\"web\"} on the right hand-side of the operation: \
         [{__name__=\"requests_total\", instance=\"host-1\", job=\"web\", le=\"1\"}, \
         {__name__=\"requests_total\", instance=\"host-2\", job=\"web\", le=\"1\"}];\
         many-to-many matching not allowed: matching labels must be unique on one side"
    );
    assert_eq!(
        error("requests_total * on (job) sum by (job) (errors_total)").await,
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    );
    assert_eq!(error("topk(NaN, requests_total)").await, "Parameter value is NaN");
    assert_eq!(
        error("double_exponential_smoothing(requests_total[5m], 2, 0.5)").await,
        "invalid smoothing factor. Expected: 0 < sf < 1, got: 2.000000"
    );
    assert_eq!(
        error("requests_total[5m]").await,
        "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
    );
}

#[tokio::test]
async fn limits_stop_a_query() {
    let small = Engine::new(EngineOptions { max_samples: 100, ..EngineOptions::default() });
    let error = small.range(requests(), "requests_total", 0, 30 * MINUTE, MINUTE).await.expect_err("too many");
    assert_eq!(error.to_string(), "query processing would load too many samples into memory in query execution");
    let late = Engine::new(EngineOptions { timeout: Duration::ZERO, ..EngineOptions::default() });
    let error = late.instant(requests(), "requests_total", MINUTE).await.expect_err("too late");
    assert_eq!(error.to_string(), "query timed out in expression evaluation");
}

#[tokio::test]
async fn annotations_have_positions() {
    let output = engine(1, 1024).instant(requests(), "quantile(2, requests_total)\n + 0", MINUTE).await.expect("query");
    assert_eq!(output.annotations.warnings, ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]);
    let query = "sum(rate(label_replace(requests_total, \"__name__\", \"x\", \"\", \"\")[5m:20s]))";
    let output = engine(1, 1024).instant(requests(), query, 10 * MINUTE).await.expect("query");
    assert_eq!(
        output.annotations.infos,
        ["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:1)"]
    );
}

#[tokio::test]
async fn explain_shows_the_plan() {
    let text = engine(4, 1024)
        .explain(requests(), "sum by (job) (rate(requests_total[5m])) > 0.5", 0, 30 * MINUTE, MINUTE)
        .await
        .expect("query");
    let names: Vec<&str> = text.lines().map(|line| line.trim().split(':').next().unwrap_or("")).collect();
    assert_eq!(names, ["VectorScalarExec", "AggregateExec", "SeriesMergeExec", "SelectExec"], "{text}");
}

#[test]
fn deep_queries_fit_on_a_worker_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let nestings =
        [("sum(", ")", 1), ("abs(", ")", 1), ("-(", ")", 2), ("1 + (", ")", 2), ("max_over_time(", "[5m:1m])", 2)];
    for (open, close, levels) in nestings {
        let query = |depth: usize| format!("{}requests_total{}", open.repeat(depth), close.repeat(depth));
        // As deep as the parser lets pass.
        let deepest = query(250 / levels);
        let query = query(18 / levels);
        let task = runtime.spawn(async move { engine(1, 1024).instant(requests(), &deepest, 20 * MINUTE).await });
        let output = runtime.block_on(task).expect("no panic").expect(open);
        assert!(matches!(output.value, QueryValue::Vector(_)), "{open}");
        // About the deepest that runs on the worker itself.
        let task = runtime.spawn(async move { engine(1, 1024).instant(requests(), &query, 20 * MINUTE).await });
        runtime.block_on(task).expect("no panic").expect(open);
    }
}

/// Counts reads, each of which takes a while.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn Source>,
    reads: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct SlowSelection {
    inner: Arc<dyn Selection>,
    reads: Arc<AtomicUsize>,
}

impl Source for Slow {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        let inner = self.inner.select(matchers, range)?;
        Ok(Arc::new(SlowSelection { inner, reads: Arc::clone(&self.reads) }))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.inner.label_names(matchers, range)
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.inner.label_values(name, matchers, range)
    }
}

impl Selection for SlowSelection {
    fn labels(&self) -> &[Labels] {
        self.inner.labels()
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        self.inner.read(series)
    }
}

/// Fails to read, and says what.
#[derive(Debug)]
struct Broken(Arc<dyn Source>);

#[derive(Debug)]
struct BrokenSelection(Arc<dyn Selection>);

impl Source for Broken {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        Ok(Arc::new(BrokenSelection(self.0.select(matchers, range)?)))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.0.label_names(matchers, range)
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.0.label_values(name, matchers, range)
    }
}

impl Selection for BrokenSelection {
    fn labels(&self) -> &[Labels] {
        self.0.labels()
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        let name = self.0.labels()[series[0] as usize].metric_name();
        Err(SourceError::Storage(format!("{name} cannot be read").into()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_of_two_failures_counts() {
    let source: Arc<dyn Source> = Arc::new(Broken(requests()));
    for (query, first) in [
        ("errors_total / requests_total", "errors_total"),
        ("requests_total / errors_total", "requests_total"),
        ("errors_total * on (instance, le) group_left () requests_total", "errors_total"),
        ("sum(errors_total) / sum(requests_total)", "errors_total"),
        ("vector(1) + on () sum(requests_total)", "requests_total"),
        ("errors_total - requests_total{le=\"none\"}", "errors_total"),
    ] {
        for partitions in [1, 4] {
            let answer = engine(partitions, 1024).range(Arc::clone(&source), query, 0, 50 * MINUTE, MINUTE).await;
            let error = answer.expect_err(query).to_string();
            assert!(error.contains(&format!("{first} cannot be read")), "{query}: {error}");
        }
    }
}

/// Only whether the samples on the right are there is kept of them.
#[tokio::test]
async fn sets_hold_no_samples_of_their_right_sides() {
    let peak = async |query: &str| {
        let answer = engine(1, 1024).range(requests(), query, 3 * MINUTE, 55 * MINUTE, 17_000).await;
        answer.expect(query).stats.peak_samples
    };
    let one = peak("errors_total and on (instance, le) requests_total").await;
    let many = format!("errors_total{}", " and on (instance, le) requests_total".repeat(6));
    assert!(peak(&many).await <= one + one / 4, "{one}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_query_stops_reading() {
    let deep = format!("{}requests_total{}", "sum(".repeat(30), ")".repeat(30));
    for (query, partitions) in [
        ("sum(requests_total)", 4),
        ("sum(requests_total)", 1),
        (deep.as_str(), 1),
        (deep.as_str(), 4),
        ("requests_total and errors_total", 4),
        ("errors_total / requests_total", 1),
    ] {
        let reads = Arc::new(AtomicUsize::new(0));
        let source = Arc::new(Slow { inner: requests(), reads: Arc::clone(&reads) });
        let engine = engine(partitions, 1024);
        let running = engine.range(source, query, 0, 50 * MINUTE, MINUTE);
        // One series per read: all of them would take more than 300 ms. The workers are busy reading, so timers of the
        // runtime would be late.
        let pause = |ms| tokio::task::spawn_blocking(move || std::thread::sleep(Duration::from_millis(ms)));
        tokio::select! {
            answer = running => panic!("{query} ended early: {answer:?}"),
            _ = pause(60) => {}
        }
        pause(60).await.expect("a pause");
        let stopped_at = reads.load(Ordering::SeqCst);
        pause(100).await.expect("a pause");
        assert_eq!(reads.load(Ordering::SeqCst), stopped_at, "{query} with {partitions} partitions");
        assert!(stopped_at < 240, "{query}");
    }
}
