use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use parking_lot::Mutex;
use pilaster_model::{TimeRange, is_stale};
use pilaster_storage::env::Env;
use pilaster_storage::{Exemplar, Store, StoreOptions};
use tokio::time::Instant;

use super::append::{Job, Taker};
use super::fetch::{FetchError, Fetched};
use super::target::{Candidate, candidate};
use super::*;
use crate::config::yaml::{self, FromYaml};
use crate::config::{GlobalConfig, ScrapeConfig};

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { max_exemplars: 100, ..StoreOptions::new(folder.path()) };
    let store = Store::open(options, Env::real()).unwrap();
    (folder, store)
}

fn config(text: &str) -> ScrapeConfig {
    let mut config = ScrapeConfig::from_yaml(&yaml::parse(text).unwrap()).unwrap();
    config.validate(&GlobalConfig::default()).unwrap();
    config
}

/// All samples in the store: `series` -> `value@ms …`, staleness markers as `stale@ms`.
fn contents(store: &Store) -> BTreeMap<String, String> {
    let snapshot = store.snapshot();
    let range = TimeRange { min_ms: i64::MIN, max_ms: i64::MAX };
    let mut all = BTreeMap::new();
    for series in snapshot.select(&[], range).unwrap() {
        let samples = snapshot.read(&series, range).unwrap();
        let starts = samples.starts_ms.clone().unwrap_or_default();
        let histograms = samples.histograms.clone().unwrap_or_default();
        let texts = samples.timestamps.iter().zip(&samples.values).enumerate().map(|(index, (ms, value))| {
            let value = match histograms.get(index) {
                Some(Some(histogram)) => histogram.test_expression(),
                _ if is_stale(*value) => "stale".to_owned(),
                _ => value.to_string(),
            };
            match starts.get(index) {
                Some(start) if *start != 0 => format!("{value}@{ms}<{start}"),
                _ => format!("{value}@{ms}"),
            }
        });
        all.insert(series.labels.to_string(), texts.collect::<Vec<_>>().join(" "));
    }
    all
}

/// Takes bodies without a network: one target, given times.
struct Bench {
    _folder: tempfile::TempDir,
    job: Job,
    target: Box<Target>,
    taker: Taker,
}

impl Bench {
    fn new(text: &str) -> Bench {
        Bench::with_options(text, ScrapeOptions::default())
    }

    fn with_options(text: &str, options: ScrapeOptions) -> Bench {
        let (folder, store) = store();
        let config = config(text);
        let Ok(Candidate::Target(target)) = candidate(&config, "h:1", &BTreeMap::new()) else { panic!("no target") };
        let job = Job {
            config: Arc::new(config),
            store,
            counters: Arc::new(ScrapeCounters::default()),
            options: Arc::new(options),
            failures: None,
        };
        Bench { _folder: folder, job, target, taker: Taker::default() }
    }

    /// Returns the error of the scrape.
    fn take(&mut self, body: &str, ms: i64) -> String {
        self.take_as("text/plain; version=0.0.4", body, ms)
    }

    fn take_as(&mut self, content_type: &str, body: &str, ms: i64) -> String {
        self.take_bytes(content_type, body.into(), ms)
    }

    fn take_bytes(&mut self, content_type: &str, body: Vec<u8>, ms: i64) -> String {
        let fetched = Fetched { body, gzip: false, content_type: content_type.to_owned() };
        self.taker.take(&self.job, &self.target, Ok(fetched), ms, Instant::now());
        self.target.state().last_error
    }

    fn fail(&mut self, error: FetchError, ms: i64) {
        self.taker.take(&self.job, &self.target, Err(error), ms, Instant::now());
    }

    /// Checks the series of the target itself, and that there are no others but the report's.
    #[track_caller]
    fn check(&self, expected: &[(&str, &str)]) {
        let mut all = contents(&self.job.store);
        all.retain(|series, _| !series.contains("__name__=\"up\"") && !series.contains("__name__=\"scrape_"));
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(series, samples)| ((*series).to_owned(), (*samples).to_owned())).collect();
        assert_eq!(all, expected);
    }

    /// The samples of one of the report's series.
    fn report(&self, name: &str) -> String {
        let all = contents(&self.job.store);
        all.get(&format!("{{__name__={name:?}, instance=\"h:1\", job=\"j\"}}")).cloned().unwrap_or_default()
    }
}

const A: &str = r#"{__name__="a", instance="h:1", job="j"}"#;
const B: &str = r#"{__name__="b", instance="h:1", job="j", x="1"}"#;

#[tokio::test]
async fn samples_report_and_markers() {
    let mut bench = Bench::new("{job_name: j}");
    assert_eq!(bench.take("a 1\nb{x=\"1\"} 2\n", 1000), "");
    assert_eq!(bench.take("a 3\n", 2000), "");
    bench.check(&[(A, "1@1000 3@2000"), (B, "2@1000 stale@2000")]);
    assert_eq!(bench.take("a 4\nb{x=\"1\"} 5\n", 3000), "");
    bench.fail(FetchError::Failed("nothing".to_owned()), 4000);
    bench.fail(FetchError::Failed("nothing".to_owned()), 5000);
    bench.check(&[(A, "1@1000 3@2000 4@3000 stale@4000"), (B, "2@1000 stale@2000 5@3000 stale@4000")]);
    assert_eq!(bench.report("up"), "1@1000 1@2000 1@3000 0@4000 0@5000");
    assert_eq!(bench.report("scrape_samples_scraped"), "2@1000 1@2000 2@3000 0@4000 0@5000");
    assert_eq!(bench.report("scrape_samples_post_metric_relabeling"), "2@1000 1@2000 2@3000 0@4000 0@5000");
    // The cache forgot b when it was gone, so it counts as added again.
    assert_eq!(bench.report("scrape_series_added"), "2@1000 0@2000 1@3000 0@4000 0@5000");
    assert!(bench.report("scrape_duration_seconds").contains("@5000"));
    assert_eq!(bench.report("scrape_timeout_seconds"), "");
    assert_eq!(bench.target.state().last_error, "nothing");
    // Back again, and gone for good.
    assert_eq!(bench.take("a 6\n", 6000), "");
    bench.taker.end(&bench.job, &bench.target, 7000);
    bench
        .check(&[(A, "1@1000 3@2000 4@3000 stale@4000 6@6000 stale@7000"), (B, "2@1000 stale@2000 5@3000 stale@4000")]);
    assert!(bench.report("up").ends_with("1@6000 stale@7000"));
    assert_eq!(bench.job.counters.read().scrapes_failed, 2);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_taken_not_at_all() {
    let mut bench = Bench::new("{job_name: j}");
    bench.take("a 1\n", 1000);
    let error = bench.take("a 2\nb{x=\"1\"} 2\n7&-\n", 2000);
    assert_eq!(error, r#"expected a valid start token, got "7" ("INVALID") while parsing: "7""#);
    bench.check(&[(A, "1@1000 stale@2000")]);
    assert_eq!(bench.report("up"), "1@1000 0@2000");
    assert_eq!(bench.report("scrape_samples_scraped"), "1@1000 2@2000");
    // An empty answer is good, and shows nothing.
    bench.take("a 3\n", 3000);
    assert_eq!(bench.take_as("", "", 4000), "");
    bench.check(&[(A, "1@1000 stale@2000 3@3000 stale@4000")]);
    assert!(bench.report("up").ends_with("1@4000"));
    let error = bench.take_as("text/html", "a 1\n", 5000);
    assert_eq!(
        error,
        "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target"
    );
}

#[tokio::test]
async fn labels_of_target_and_series() {
    let mut bench = Bench::new("{job_name: j}");
    bench.take("a{job=\"x\",instance=\"\",exported_job=\"y\"} 1\n", 1000);
    bench.check(&[(
        r#"{__name__="a", exported_exported_job="x", exported_job="y", instance="h:1", job="j"}"#,
        "1@1000",
    )]);
    let mut bench = Bench::new("{job_name: j, honor_labels: true}");
    bench.take("a{job=\"x\",instance=\"\"} 1\n", 1000);
    bench.check(&[(r#"{__name__="a", job="x"}"#, "1@1000")]);
    let error = bench.take("a{x=\"1\",x=\"2\"} 1\n", 2000);
    assert_eq!(error, "label name \"x\" is not unique: invalid sample");
}

#[tokio::test]
async fn metric_relabelling() {
    let rules = "[{action: drop, source_labels: [__name__], regex: drop_.*}, {action: labeldrop, regex: secret},
                  {source_labels: [__name__], regex: old, target_label: __name__, replacement: a}]";
    let mut bench = Bench::new(&format!("{{job_name: j, metric_relabel_configs: {rules}}}"));
    for ms in [1000, 2000] {
        assert_eq!(bench.take("old{secret=\"1\"} 1\ndrop_me 2\n", ms), "");
    }
    bench.check(&[(A, "1@1000 1@2000")]);
    assert_eq!(bench.report("scrape_samples_scraped"), "2@1000 2@2000");
    assert_eq!(bench.report("scrape_samples_post_metric_relabeling"), "1@1000 1@2000");
    assert_eq!(bench.report("scrape_series_added"), "1@1000 0@2000");
    let mut bench = Bench::new("{job_name: j, metric_relabel_configs: [{target_label: __name__, replacement: ''}]}");
    assert_eq!(bench.take("a 1\n", 1000), "missing metric name (__name__ label)");
}

#[tokio::test]
async fn timestamps_of_the_target() {
    let body = "a 1 900\nb{x=\"1\"} 2\n";
    let mut bench = Bench::new("{job_name: j}");
    bench.take(body, 1000);
    bench.take("b{x=\"1\"} 2\n", 2000);
    // No marker: its timestamps are the target's business.
    bench.check(&[(A, "1@900"), (B, "2@1000 2@2000")]);
    let mut bench = Bench::new("{job_name: j, honor_timestamps: false}");
    bench.take(body, 1000);
    bench.check(&[(A, "1@1000"), (B, "2@1000")]);
    let mut bench = Bench::new("{job_name: j, track_timestamps_staleness: true}");
    bench.take(body, 1000);
    bench.take("b{x=\"1\"} 2\n", 2000);
    bench.check(&[(A, "1@900 stale@2000"), (B, "2@1000 2@2000")]);
    let mut bench = Bench::new("{job_name: j}");
    assert_eq!(bench.take("a 1 700000\nb{x=\"1\"} 2 600000\na 1 1\na 2 1\n", 1000), "");
    bench.check(&[(A, "1@1"), (B, "2@600000")]);
    let stats = bench.job.counters.read();
    assert_eq!((stats.samples_out_of_bounds, stats.samples_duplicate), (1, 1));
    bench.take("a 3 0\n", 2000);
    assert_eq!(bench.job.counters.read().samples_out_of_order, 1);
}

#[tokio::test]
async fn repeated_series() {
    let mut bench = Bench::new("{job_name: j}");
    assert_eq!(bench.take("a 1\na 2\na 1\n", 1000), "");
    bench.check(&[(A, "1@1000")]);
    assert_eq!(bench.job.counters.read().samples_duplicate, 2);
    assert_eq!(bench.report("scrape_samples_post_metric_relabeling"), "3@1000");
    // Another text for the same series is no new series, and the old one does not end.
    assert_eq!(bench.take("a{} 3\n", 2000), "");
    bench.check(&[(A, "1@1000 3@2000")]);
}

#[tokio::test]
async fn limits() {
    let body = "a 1\nb{x=\"1\"} 2\nb{x=\"2\"} 2\n";
    let mut bench = Bench::new("{job_name: j, sample_limit: 2, extra_scrape_metrics: true}");
    assert_eq!(bench.take("a 1\n", 1000), "");
    assert_eq!(bench.take(body, 2000), "sample limit exceeded");
    bench.check(&[(A, "1@1000 stale@2000")]);
    assert_eq!(bench.report("scrape_samples_scraped"), "1@1000 3@2000");
    assert_eq!(bench.report("scrape_samples_post_metric_relabeling"), "1@1000 3@2000");
    assert_eq!(bench.report("scrape_series_added"), "1@1000 1@2000");
    assert_eq!(bench.report("scrape_sample_limit"), "2@1000 2@2000");
    assert_eq!(bench.report("scrape_timeout_seconds"), "10@1000 10@2000");
    assert_eq!(bench.report("scrape_body_size_bytes"), "4@1000 26@2000");
    bench.fail(FetchError::BodyTooLarge, 3000);
    assert_eq!(bench.target.state().last_error, "body size limit exceeded");
    assert_eq!(bench.report("scrape_body_size_bytes"), "4@1000 26@2000 -1@3000");
    for (limit, message) in [
        ("label_limit: 3", "label_limit exceeded (metric: b, number of labels: 4, limit: 3)"),
        (
            "label_name_length_limit: 7",
            "label_name_length_limit exceeded (metric: a, label name: __name__, length: 8, limit: 7)",
        ),
        (
            "label_value_length_limit: 2",
            "label_value_length_limit exceeded (metric: a, label name: instance, value: \"h:1\", length: 3, limit: 2)",
        ),
    ] {
        let mut bench = Bench::new(&format!("{{job_name: j, {limit}}}"));
        assert_eq!(bench.take(body, 1000), message);
        bench.check(&[]);
        assert_eq!(bench.job.counters.read().exceeded_label_limits, 1);
    }
    let mut bench = Bench::new("{job_name: j, metric_name_validation_scheme: legacy}");
    let error = bench.take("{\"a.b\"} 1\n", 1000);
    assert_eq!(error, "invalid metric name or label names: {__name__=\"a.b\", instance=\"h:1\", job=\"j\"}");
}

#[tokio::test]
async fn metadata_is_kept_for_a_while() {
    let mut bench = Bench::new("{job_name: j}");
    bench.take("# HELP a Helps.\n# TYPE a counter\na 1\n", 1000);
    let expected = MetricMetadata {
        metric: "a".to_owned(),
        kind: crate::exposition::MetricKind::Counter,
        help: "Helps.".to_owned(),
        unit: String::new(),
    };
    assert_eq!(bench.target.metadata(), std::slice::from_ref(&expected));
    let stored = bench.job.store.metadata();
    assert_eq!(
        (stored[0].metric.as_str(), stored[0].kind.as_str(), stored[0].help.as_str()),
        ("a", "counter", "Helps.")
    );
    for round in 0..10 {
        bench.take("b{x=\"1\"} 1\n", 2000 + round);
        assert_eq!(bench.target.metadata(), std::slice::from_ref(&expected));
    }
    bench.take("b{x=\"1\"} 1\n", 3000);
    assert!(bench.target.metadata().is_empty());
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

#[tokio::test]
async fn created_lines() {
    let body = "# TYPE a counter\na_total{x=\"1\"} 5\na_created{x=\"1\"} 0.5\na_total{x=\"2\"} 6\n\
                # TYPE h histogram\nh_created 0.25\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\n\
                # TYPE g gauge\ng_created 7\n# EOF\n";
    let mut bench = Bench::new("{job_name: j}");
    bench.take_as(OPEN_METRICS, body, 1000);
    assert_eq!(bench.report("scrape_samples_scraped"), "8@1000");
    let options = ScrapeOptions { start_timestamps: true, ..ScrapeOptions::default() };
    let mut bench = Bench::with_options("{job_name: j}", options);
    for ms in [1000, 2000] {
        assert_eq!(bench.take_as(OPEN_METRICS, body, ms), "");
    }
    bench.check(&[
        (r#"{__name__="a_total", instance="h:1", job="j", x="1"}"#, "5@1000<500 5@2000<500"),
        (r#"{__name__="a_total", instance="h:1", job="j", x="2"}"#, "6@1000 6@2000"),
        (r#"{__name__="g_created", instance="h:1", job="j"}"#, "7@1000 7@2000"),
        (r#"{__name__="h_bucket", instance="h:1", job="j", le="+Inf"}"#, "2@1000<250 2@2000<250"),
        (r#"{__name__="h_bucket", instance="h:1", job="j", le="1.0"}"#, "1@1000<250 1@2000<250"),
        (r#"{__name__="h_count", instance="h:1", job="j"}"#, "2@1000<250 2@2000<250"),
    ]);
}

const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// A message field: number, and bytes or a varint or a double.
enum Part {
    Bytes(u32, Vec<u8>),
    Varint(u32, u64),
    Double(u32, f64),
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn message(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(number, bytes) => {
                varint(u64::from(number << 3 | 2), &mut out);
                varint(bytes.len() as u64, &mut out);
                out.extend_from_slice(bytes);
            }
            Part::Varint(number, value) => {
                varint(u64::from(number << 3), &mut out);
                varint(*value, &mut out);
            }
            Part::Double(number, value) => {
                varint(u64::from(number << 3 | 1), &mut out);
                out.extend(value.to_le_bytes());
            }
        }
    }
    out
}

fn family(name: &str, kind: u64, metrics: Vec<Vec<u8>>) -> Vec<u8> {
    let mut parts = vec![Part::Bytes(1, name.into()), Part::Bytes(2, b"Helps.".to_vec()), Part::Varint(3, kind)];
    parts.extend(metrics.into_iter().map(|metric| Part::Bytes(4, metric)));
    let family = message(&parts);
    let mut out = Vec::new();
    varint(family.len() as u64, &mut out);
    out.extend(family);
    out
}

fn label(name: &str, value: &str) -> Part {
    Part::Bytes(1, message(&[Part::Bytes(1, name.into()), Part::Bytes(2, value.into())]))
}

/// A histogram with two classic buckets, and native ones: one below, three above zero.
fn both_histograms() -> Vec<u8> {
    let bucket = |bound: f64, count: u64| Part::Bytes(3, message(&[Part::Varint(1, count), Part::Double(2, bound)]));
    let span = |offset: u64, length: u64| message(&[Part::Varint(1, offset), Part::Varint(2, length)]);
    message(&[
        Part::Varint(1, 7),
        Part::Double(2, 12.5),
        bucket(1.0, 3),
        bucket(2.0, 5),
        Part::Varint(5, 0),
        Part::Double(6, 0.001),
        Part::Varint(7, 1),
        Part::Bytes(9, span(0, 1)),
        Part::Bytes(10, vec![2]),
        Part::Bytes(12, span(0, 3)),
        // Packed differences: 1, 1, 0.
        Part::Bytes(13, vec![2, 2, 0]),
        Part::Bytes(15, message(&[Part::Varint(1, 1)])),
    ])
}

fn protobuf_body() -> Vec<u8> {
    let number = |value: f64| message(&[Part::Double(1, value)]);
    let quantile = message(&[Part::Double(1, 0.5), Part::Double(2, 3.0)]);
    let summary = message(&[Part::Varint(1, 4), Part::Double(2, 8.0), Part::Bytes(3, quantile)]);
    let body = [
        family("c_total", 0, vec![message(&[label("x", "1"), Part::Bytes(3, number(5.0))])]),
        family("g", 1, vec![message(&[Part::Bytes(2, number(6.0)), Part::Varint(6, 900)])]),
        family("s", 2, vec![message(&[Part::Bytes(4, summary)])]),
        family("h", 4, vec![message(&[label("x", "1"), Part::Bytes(7, both_histograms())])]),
    ];
    body.concat()
}

/// All exemplars in the store: series' name and bound, trace, value and time of each.
fn exemplars(store: &Store) -> Vec<String> {
    let all = store.exemplars(&[vec![]], TimeRange::ALL);
    let texts = all.iter().flat_map(|one| {
        let (name, bound) = (one.series.metric_name(), one.series.get("le"));
        let show = move |e: &Exemplar| format!("{name}{bound} {} {}@{}", e.labels, e.value, e.timestamp_ms);
        one.exemplars.iter().map(show)
    });
    texts.collect()
}

#[tokio::test]
async fn exemplars_of_open_metrics() {
    let body = |trace: &str| {
        format!(
            "# TYPE c counter\nc_total 5 # {{trace_id=\"{trace}\"}} 1.5 0.5\nc_total{{x=\"a\"}} 5 3 # {{}} 2\n\
             # TYPE h histogram\nh_bucket{{le=\"1\"}} 3 # {{a=\"q\\\"\",b=\"2\"}} 0.5 0.25\nh_bucket{{le=\"+Inf\"}} 3\n\
             h_count 3\nh_sum 1\n# EOF\n"
        )
    };
    let open_metrics = "application/openmetrics-text; version=1.0.0";
    let mut bench = Bench::new("{job_name: j}");
    assert_eq!(bench.take_as(open_metrics, &body("a"), 1000), "");
    let first = ["c_total {trace_id=\"a\"} 1.5@500", "c_total {} 2@3000", "h_bucket1.0 {a=\"q\\\"\", b=\"2\"} 0.5@250"];
    assert_eq!(exemplars(&bench.job.store), first);
    // Shown again they are the same, and what is older than the last one of its series is refused.
    assert_eq!(bench.take_as(open_metrics, &body("a"), 2000), "");
    assert_eq!(bench.take_as(open_metrics, &body("b").replace("1.5 0.5", "1.5 0.4"), 3000), "");
    assert_eq!(exemplars(&bench.job.store), first);
    assert_eq!(bench.job.counters.read().exemplars_out_of_order, 1);
    // Of a body that is wrong somewhere nothing is taken.
    assert_ne!(bench.take_as(open_metrics, &body("c").replace("0.5\n", "0.9\n").replace("# EOF", "x"), 4000), "");
    assert_eq!(exemplars(&bench.job.store), first);
    // A classic histogram that is converted has those that tell their time.
    let mut bench = Bench::new("{job_name: j, convert_classic_histograms_to_nhcb: true}");
    assert_eq!(bench.take_as(open_metrics, &body("a"), 1000), "");
    let last = exemplars(&bench.job.store).pop().unwrap();
    assert_eq!(last, "h {a=\"q\\\"\", b=\"2\"} 0.5@250");
}

#[tokio::test]
async fn exemplars_of_protobuf() {
    let shown = |trace: &str, value: f64, seconds: Option<u64>| {
        let mut parts = vec![label("trace_id", trace), Part::Double(2, value)];
        parts.extend(seconds.map(|seconds| Part::Bytes(3, message(&[Part::Varint(1, seconds)]))));
        message(&parts)
    };
    let counter = message(&[Part::Double(1, 5.0), Part::Bytes(2, shown("c", 1.0, None))]);
    let bucket = |bound: f64, exemplar: Vec<u8>| {
        Part::Bytes(3, message(&[Part::Varint(1, 7), Part::Double(2, bound), Part::Bytes(3, exemplar)]))
    };
    let histogram = |own: &[Vec<u8>]| {
        let mut histogram = both_histograms();
        let mut more = vec![bucket(3.0, shown("old", 2.5, None)), bucket(4.0, shown("new", 3.5, Some(7)))];
        more.extend(own.iter().map(|exemplar| Part::Bytes(16, exemplar.clone())));
        histogram.extend(message(&more));
        message(&[Part::Bytes(7, histogram)])
    };
    let body = |own: &[Vec<u8>]| {
        let counter = message(&[Part::Bytes(3, counter.clone())]);
        [family("c_total", 0, vec![counter]), family("h", 4, vec![histogram(own)])].concat()
    };
    let mut bench = Bench::new("{job_name: j}");
    assert_eq!(bench.take_bytes(PROTOBUF, body(&[]), 1000), "");
    let classic = [
        "c_total {trace_id=\"c\"} 1@1000",
        "h_bucket3.0 {trace_id=\"old\"} 2.5@1000",
        "h_bucket4.0 {trace_id=\"new\"} 3.5@7000",
    ];
    assert_eq!(exemplars(&bench.job.store), classic);
    // Native ones need their time; those of buckets stand in for them.
    let native = "{job_name: j, scrape_native_histograms: true}";
    let mut bench = Bench::new(native);
    assert_eq!(bench.take_bytes(PROTOBUF, body(&[]), 1000), "");
    assert_eq!(exemplars(&bench.job.store)[1..], ["h {trace_id=\"new\"} 3.5@7000"]);
    let mut bench = Bench::new(native);
    let own = [shown("2", 1.0, Some(9)), shown("1", 2.0, Some(8)), shown("3", 3.0, None)];
    assert_eq!(bench.take_bytes(PROTOBUF, body(&own), 1000), "");
    assert_eq!(exemplars(&bench.job.store)[1..], ["h {trace_id=\"1\"} 2@8000", "h {trace_id=\"2\"} 1@9000"]);
}

const NATIVE: &str = "{{count:7 sum:12.5 z_bucket:1 z_bucket_w:0.001 buckets:[1 2 2] n_buckets:[1]}}";

#[tokio::test]
async fn protobuf_without_native_histograms() {
    let mut bench = Bench::new("{job_name: j}");
    assert_eq!(bench.take_bytes(PROTOBUF, protobuf_body(), 1000), "");
    let series = |name: &str, more: &str| format!("{{__name__=\"{name}\", instance=\"h:1\", job=\"j\"{more}}}");
    bench.check(&[
        (&series("c_total", ", x=\"1\""), "5@1000"),
        (&series("g", ""), "6@900"),
        (&series("s", ", quantile=\"0.5\""), "3@1000"),
        (&series("s_count", ""), "4@1000"),
        (&series("s_sum", ""), "8@1000"),
        (&series("h_bucket", ", le=\"1.0\", x=\"1\""), "3@1000"),
        (&series("h_bucket", ", le=\"2.0\", x=\"1\""), "5@1000"),
        (&series("h_bucket", ", le=\"+Inf\", x=\"1\""), "7@1000"),
        (&series("h_count", ", x=\"1\""), "7@1000"),
        (&series("h_sum", ", x=\"1\""), "12.5@1000"),
    ]);
    assert_eq!(bench.target.metadata()[1].kind, crate::exposition::MetricKind::Gauge);
    // Cut anywhere, it is refused as a whole, unless it was cut between families.
    let body = protobuf_body();
    for length in 1..body.len() {
        let error = bench.take_bytes(PROTOBUF, body[..length].to_vec(), 2000 + length as i64);
        let between = crate::exposition::protobuf::families(&body[..length]).all(|family| family.is_ok());
        assert_eq!(error.is_empty(), between, "{length}: {error}");
    }
}

#[tokio::test]
async fn native_histograms() {
    let h = "{__name__=\"h\", instance=\"h:1\", job=\"j\", x=\"1\"}";
    let options = ScrapeOptions { start_timestamps: true, ..ScrapeOptions::default() };
    let mut bench = Bench::with_options("{job_name: j, scrape_native_histograms: true}", options);
    assert_eq!(bench.take_bytes(PROTOBUF, protobuf_body(), 1000), "");
    assert_eq!(bench.take_bytes(PROTOBUF, protobuf_body(), 2000), "");
    bench.take("a 1\n", 3000);
    let all = contents(&bench.job.store);
    assert_eq!(all[h], format!("{NATIVE}@1000<1000 {NATIVE}@2000<1000 stale@3000"));
    assert!(!all.keys().any(|series| series.contains("h_bucket")));
    assert_eq!(bench.report("scrape_samples_scraped"), "6@1000 6@2000 1@3000");

    let mut bench = Bench::new("{job_name: j, scrape_native_histograms: true, always_scrape_classic_histograms: true}");
    assert_eq!(bench.take_bytes(PROTOBUF, protobuf_body(), 1000), "");
    let all = contents(&bench.job.store);
    assert_eq!(all[h], format!("{NATIVE}@1000"));
    assert_eq!(all.keys().filter(|series| series.contains("h_bucket")).count(), 3);

    let mut bench = Bench::new("{job_name: j, scrape_native_histograms: true, native_histogram_min_bucket_factor: 4}");
    bench.take_bytes(PROTOBUF, protobuf_body(), 1000);
    assert!(contents(&bench.job.store)[h].starts_with("{{schema:-1 "));
    let mut bench = Bench::new("{job_name: j, scrape_native_histograms: true, native_histogram_bucket_limit: 3}");
    assert_eq!(bench.take_bytes(PROTOBUF, protobuf_body(), 1000), "");
    assert!(contents(&bench.job.store)[h].starts_with("{{schema:-1 "));
    let mut bench = Bench::new("{job_name: j, scrape_native_histograms: true, native_histogram_bucket_limit: 1}");
    assert_eq!(bench.take_bytes(PROTOBUF, protobuf_body(), 1000), "histogram bucket limit exceeded");
}

#[tokio::test]
async fn classic_histograms_become_custom_buckets() {
    let h = "{__name__=\"h\", instance=\"h:1\", job=\"j\", x=\"1\"}";
    let custom = "{{schema:-53 count:7 sum:12.5 custom_values:[1 2] buckets:[3 2 2]}}@1000";
    let text = "# TYPE h histogram\nh_bucket{x=\"1\",le=\"1\"} 3\nh_bucket{x=\"1\",le=\"2\"} 5\nh_bucket{x=\"1\",le=\"+Inf\"} 7\n\
                h_sum{x=\"1\"} 12.5\nh_count{x=\"1\"} 7\nh_bucket{le=\"+Inf\",x=\"2\"} 2\nh_count{x=\"2\"} 3\n# TYPE a gauge\na 1\n";
    let mut bench = Bench::new("{job_name: j, convert_classic_histograms_to_nhcb: true}");
    assert_eq!(bench.take(text, 1000), "");
    bench.check(&[(h, custom), (A, "1@1000")]);
    assert_eq!(bench.report("scrape_samples_scraped"), "2@1000");
    let mut bench =
        Bench::new("{job_name: j, convert_classic_histograms_to_nhcb: true, always_scrape_classic_histograms: true}");
    assert_eq!(bench.take(text, 1000), "");
    let all = contents(&bench.job.store);
    assert_eq!(all[h], custom);
    assert_eq!(all.keys().filter(|series| series.contains("\"h_")).count(), 7);
    let mut bench = Bench::new("{job_name: j, convert_classic_histograms_to_nhcb: true}");
    assert_eq!(bench.take_bytes(PROTOBUF, protobuf_body(), 1000), "");
    assert_eq!(contents(&bench.job.store)[h], custom);
}

/// The same exporters at about the same time, once in text and once in protobuf.
#[tokio::test]
async fn real_scrapes_in_both_formats() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/realdata/exposition");
    if !folder.exists() {
        println!("no real scrapes at {}", folder.display());
        return;
    }
    for name in ["node_exporter", "prometheus", "alertmanager"] {
        let read = |ending: &str| std::fs::read(folder.join(format!("{name}.t10min.{ending}"))).unwrap();
        let mut in_text = Bench::new("{job_name: j}");
        assert_eq!(in_text.take_bytes("text/plain", read("text.prom"), 1000), "");
        let mut in_protobuf = Bench::new("{job_name: j}");
        assert_eq!(in_protobuf.take_bytes(PROTOBUF, read("protobuf.bin"), 1000), "");
        let keys = |bench: &Bench| contents(&bench.job.store).into_keys().collect::<std::collections::BTreeSet<_>>();
        let (text, protobuf) = (keys(&in_text), keys(&in_protobuf));
        let differ = text.symmetric_difference(&protobuf).count();
        // Between the two scrapes a label value or two may have come or gone.
        assert!(text.len() > 100 && differ * 50 < text.len(), "{name}: {differ} of {}", text.len());
        assert_eq!(in_text.target.metadata().len(), in_protobuf.target.metadata().len());
    }
}

/// A server whose answers are written down beforehand; the last one stays.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<Vec<Answer>>>,
    /// `header: value` lines and the URI of each request.
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

#[derive(Clone)]
enum Answer {
    Text(String),
    Gzip(String),
    Status(u16),
    Redirect(String),
    Slow,
}

async fn answer(State(script): State<Script>, request: Request) -> Response<Body> {
    let headers =
        request.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or_default()));
    script.requests.lock().push((request.uri().to_string(), headers.collect()));
    let answer = {
        let mut answers = script.answers.lock();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    };
    let response = Response::builder().header("content-type", "text/plain; version=0.0.4");
    match answer {
        Answer::Text(body) => response.body(body.into()),
        Answer::Gzip(body) => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body.as_bytes()).unwrap();
            response.header("content-encoding", "gzip").body(encoder.finish().unwrap().into())
        }
        Answer::Status(status) => response.status(status).body("broken".into()),
        Answer::Redirect(to) => response.status(302).header("location", to).body(Body::empty()),
        Answer::Slow => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            response.body("late 1\n".into())
        }
    }
    .unwrap()
}

async fn serve(answers: &[Answer]) -> (String, Script) {
    let script = Script { answers: Arc::new(Mutex::new(answers.to_vec())), ..Script::default() };
    let app = axum::Router::new().fallback(answer).with_state(script.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, script)
}

fn clock() -> Clock {
    Arc::new(|| std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis() as i64))
}

fn manager(store: &Arc<Store>) -> ScrapeManager {
    let options =
        ScrapeOptions { jitter: false, discovery_delay: Duration::from_millis(10), ..ScrapeOptions::default() };
    ScrapeManager::new(store.clone(), clock(), options)
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Values of the series whose labels contain all of `parts`.
fn values(store: &Store, parts: &[&str]) -> Vec<String> {
    let all = contents(store);
    let found = all.iter().filter(|(series, _)| parts.iter().all(|part| series.contains(part)));
    found
        .flat_map(|(_, samples)| samples.split(' ').map(|sample| sample.split('@').next().unwrap().to_owned()))
        .collect()
}

#[tokio::test]
async fn targets_are_scraped_over_http() {
    let (address, script) =
        serve(&[Answer::Text("a 1\n".to_owned()), Answer::Gzip("a 2\n".to_owned()), Answer::Status(503)]).await;
    let (_folder, store) = store();
    let manager = manager(&store);
    let job = format!(
        "{{job_name: j, scrape_interval: 100ms, scrape_timeout: 90ms, params: {{x: [y]}}, basic_auth: {{username: u, password: p}},
           http_headers: {{X-Extra: {{values: [z]}}}}, static_configs: [{{targets: ['{address}'], labels: {{l: v}}}}]}}"
    );
    manager.apply(vec![config(&job)]).await.unwrap();
    let target = manager.targets().remove(0);
    assert_eq!(target.state().health, Health::Unknown);
    wait_until("down", || target.state().health == Health::Down).await;
    assert_eq!(target.state().last_error, "server returned HTTP status 503 Service Unavailable");
    assert_eq!(values(&store, &["__name__=\"a\"", "l=\"v\""]), ["1", "2", "stale"]);
    let (uri, headers) = script.requests.lock()[0].clone();
    assert_eq!(uri, "/metrics?x=y");
    for header in [
        "accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,",
        "accept-encoding: gzip\n",
        "x-prometheus-scrape-timeout-seconds: 0.09\n",
        "authorization: Basic dTpw\n",
        "x-extra: z\n",
        "user-agent: Pilaster/",
    ] {
        assert!(headers.contains(header), "{header} in {headers}");
    }
    manager.stop().await;
    let requests = script.requests.lock().len();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(script.requests.lock().len(), requests);
    assert!(manager.targets().is_empty());
}

#[tokio::test]
async fn errors_in_the_words_of_prometheus() {
    let (slow, _) = serve(&[Answer::Slow]).await;
    let (circle, script) = serve(&[Answer::Redirect("/again".to_owned())]).await;
    let (moved, _) = serve(&[Answer::Redirect("/again".to_owned())]).await;
    let (large, _) = serve(&[Answer::Gzip("a 1\n".repeat(1000))]).await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (_folder, store) = store();
    let manager = manager(&store);
    let job = |name: &str, address: &str, more: &str| {
        config(&format!(
            "{{job_name: {name}, scrape_interval: 1s, scrape_timeout: 200ms, static_configs: [{{targets: ['{address}']}}]{more}}}"
        ))
    };
    let configs = vec![
        job("slow", &slow, ""),
        job("circle", &circle, ""),
        job("moved", &moved, ", follow_redirects: false"),
        job("large", &large, ", body_size_limit: 1KB"),
        job("closed", &closed, ""),
        job("limit", &closed, ", target_limit: 1, relabel_configs: [{target_label: x, replacement: y}]"),
        job("nowhere", "no.such.host.invalid:80", ""),
    ];
    manager.apply(configs).await.unwrap();
    wait_until("all scraped", || manager.targets().iter().all(|target| target.state().health == Health::Down)).await;
    let errors: BTreeMap<String, String> =
        manager.targets().iter().map(|target| (target.job().to_owned(), target.state().last_error)).collect();
    assert_eq!(errors["slow"], format!("Get \"http://{slow}/metrics\": context deadline exceeded"));
    assert_eq!(errors["circle"], format!("Get \"http://{circle}/metrics\": stopped after 10 redirects"));
    assert_eq!(script.requests.lock().len(), 11);
    assert_eq!(errors["moved"], "server returned HTTP status 302 Found");
    assert_eq!(errors["large"], "body size limit exceeded");
    assert_eq!(
        errors["closed"],
        format!("Get \"http://{closed}/metrics\": dial tcp {closed}: connect: connection refused")
    );
    let nowhere = "Get \"http://no.such.host.invalid:80/metrics\": ";
    assert!(errors["nowhere"].starts_with(nowhere), "{}", errors["nowhere"]);
    manager.stop().await;
}

#[tokio::test]
async fn too_many_targets_are_not_scraped_at_all() {
    let (address, script) = serve(&[Answer::Text("a 1\n".to_owned())]).await;
    let (_folder, store) = store();
    let manager = manager(&store);
    let job = format!(
        "{{job_name: j, scrape_interval: 50ms, target_limit: 1, static_configs: [{{targets: ['{address}', '{}']}}]}}",
        address.replace("127.0.0.1", "localhost")
    );
    manager.apply(vec![config(&job)]).await.unwrap();
    wait_until("both are down", || manager.targets().iter().all(|target| target.state().health == Health::Down)).await;
    assert_eq!(manager.targets()[0].state().last_error, "target_limit exceeded (number of targets: 2, limit: 1)");
    assert!(script.requests.lock().is_empty());
    manager.stop().await;
}

#[tokio::test]
async fn targets_come_and_go() {
    let (address, _) = serve(&[Answer::Text("a 1\n".to_owned())]).await;
    let (folder, store) = store();
    let manager = manager(&store);
    let list = folder.path().join("targets.json");
    let with = format!("[{{\"targets\": [\"{address}\", \"dropped:1\"]}}]");
    std::fs::write(&list, &with).unwrap();
    let job = format!(
        "{{job_name: j, scrape_interval: 100ms, file_sd_configs: [{{files: ['{}']}}],
           relabel_configs: [{{action: drop, source_labels: [__address__], regex: 'dropped.*'}}]}}",
        list.display()
    );
    manager.apply(vec![config(&job)]).await.unwrap();
    wait_until("a sample", || !values(&store, &["__name__=\"a\""]).is_empty()).await;
    let dropped = manager.dropped_targets();
    assert_eq!(dropped[0].discovered_labels.get("__address__"), "dropped:1");
    assert!(dropped[0].discovered_labels.get("__meta_filepath").ends_with("targets.json"));
    assert_eq!(manager.dropped_target_counts()["j"], 1);
    std::fs::write(&list, "[]").unwrap();
    wait_until("gone", || manager.targets().is_empty()).await;
    wait_until("markers", || values(&store, &["__name__=\"a\""]).last().is_some_and(|last| last == "stale")).await;
    wait_until("markers of the report", || {
        values(&store, &["__name__=\"up\""]).last().is_some_and(|last| last == "stale")
    })
    .await;
    std::fs::write(&list, &with).unwrap();
    wait_until("back", || values(&store, &["__name__=\"up\""]).last().is_some_and(|last| last == "1")).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_reload_loses_nothing() {
    let (address, _) = serve(&[Answer::Text("a 1\nb 1\n".to_owned())]).await;
    let (_folder, store) = store();
    let manager = manager(&store);
    let job = |more: &str| config(&format!("{{job_name: j, static_configs: [{{targets: ['{address}']}}], {more}}}"));
    // An interval is also the time that a scrape may take: on a busy machine short ones fail, which ends series.
    manager.apply(vec![job("scrape_interval: 400ms")]).await.unwrap();
    wait_until("a sample", || values(&store, &["__name__=\"a\""]).len() > 1).await;
    // The interval is a label of the target, so this is another target that makes the same series.
    manager.apply(vec![job("scrape_interval: 500ms")]).await.unwrap();
    assert_eq!(manager.targets()[0].interval_text(), "500ms");
    // Long enough for the first target to have ended its series, had nobody taken them over.
    let before = values(&store, &["__name__=\"a\""]).len();
    wait_until("more samples", || values(&store, &["__name__=\"a\""]).len() > before + 3).await;
    // The same target with other series: what is dropped now ends.
    manager
        .apply(vec![job(
            "scrape_interval: 500ms, metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: b}]",
        )])
        .await
        .unwrap();
    wait_until("b ends", || values(&store, &["__name__=\"b\""]).last().is_some_and(|last| last == "stale")).await;
    let (a, up) = (values(&store, &["__name__=\"a\""]), values(&store, &["__name__=\"up\""]));
    let ends = a.iter().filter(|value| *value == "stale").count();
    let failed = up.iter().filter(|value| *value == "0").count();
    assert!(ends <= failed, "{a:?} {up:?}");
    // A job that cannot be run changes nothing.
    let broken = config("{job_name: k, tls_config: {ca_file: /nowhere/ca.pem}, static_configs: [{targets: [x]}]}");
    let error = manager.apply(vec![broken]).await.unwrap_err().to_string();
    assert!(
        error.contains("job name \"k\"") && error.contains("open /nowhere/ca.pem: no such file or directory"),
        "{error}"
    );
    assert_eq!(manager.jobs(), ["j"]);
    manager.apply(Vec::new()).await.unwrap();
    assert!(manager.targets().is_empty());
    manager.stop().await;
}

/// The store forgets series that are silent for long; the next scrape finds them again.
#[tokio::test]
async fn forgotten_series_are_found_again() {
    let mut bench = Bench::new("{job_name: j}");
    bench.take("a 1\n", 1000);
    let target_labels = bench.target.labels().clone();
    let (_folder, other) = store();
    // References of one store mean nothing to another.
    bench.job.store = other;
    assert_eq!(bench.take("a 2\n", 2000), "");
    bench.check(&[(A, "2@2000")]);
    assert_eq!(bench.report("up"), "1@2000");
    assert_eq!(bench.target.labels(), &target_labels);
}
