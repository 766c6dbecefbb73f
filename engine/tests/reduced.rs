//! Long windows, answered by the summaries of blocks where those answer exactly: the same bits as from all samples.

use std::sync::Arc;

use pilaster_engine::source::StoreSource;
use pilaster_model::histogram::Span;
use pilaster_model::{Histogram, Labels, Matcher, RangeGrid, ReducedWindows, Reduction, TimeRange, stale_nan};
use pilaster_promql::parser::ParseOptions;
use pilaster_promql::source::{SampleBatch, Selection, Source, SourceError};
use pilaster_promql::{Engine, EngineOptions, MatrixSeries, Output, QueryValue};
use pilaster_storage::env::Env;
use pilaster_storage::{HistogramSample, Sample, Store, StoreOptions, WalSync};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// The start of a day.
const START_MS: i64 = 20_400 * DAY_MS;
const DAYS: i64 = 5;
/// Not the whole last day: its end stands in the head.
const END_MS: i64 = START_MS + DAYS * DAY_MS - 5 * 3_600_000;

/// A source that reads all samples of whatever is wanted: the slow twin.
#[derive(Debug)]
struct Whole(StoreSource);

#[derive(Debug)]
struct WholeSelection(Arc<dyn Selection>);

impl Source for Whole {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError> {
        Ok(Arc::new(WholeSelection(self.0.select(matchers, range)?)))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.0.label_names(matchers, range)
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError> {
        self.0.label_values(name, matchers, range)
    }
}

impl Selection for WholeSelection {
    fn labels(&self) -> &[Labels] {
        self.0.labels()
    }

    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError> {
        self.0.read(series)
    }
}

/// Bits that look random and are the same every time.
fn noise(seed: u64, at: i64) -> u64 {
    let mut bits = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (at as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^ (bits >> 29)
}

/// The value of a series of one kind at its `nth` minute; no sample where there is none.
fn value(kind: usize, nth: i64) -> Option<f64> {
    let random = noise(kind as u64, nth);
    let day = nth / 1440;
    Some(match kind {
        // Counters: without resets, with a reset on the third day, from its first sample, of small growth.
        0 => (nth * 7) as f64 + (random % 7) as f64,
        1 => ((if nth < 3000 { nth } else { nth - 2990 }) * 1_000) as f64,
        2 if nth < 2000 => return None,
        2 => ((nth - 2000) * 3) as f64,
        3 => nth as f64 / 100.0,
        // Gauges: integers, decimals, page-sized, full mantissas, constant, alternating, below zero, huge.
        4 => (random % 1000) as f64,
        5 => (random % 10_000) as f64 / 100.0,
        6 => (random % 1_000_000) as f64 * 4096.0,
        7 => f64::from_bits((random >> 12) | 0x3ff0_0000_0000_0000),
        8 => 1.0,
        9 => (nth % 2) as f64,
        10 => 0.0 - (random % 500) as f64,
        11 => (random % (1 << 50)) as f64 + 4.0e15,
        // Of another class every day: fractions before integers decide how a sum is rounded.
        12 if day % 2 == 0 => (random % 1000) as f64 / 10.0 + 0.1,
        12 => (random % 1000) as f64,
        // Oddities in an otherwise whole series.
        13 if nth == 100 => f64::NAN,
        13 if nth == 4000 => -0.0,
        13 => (random % 10) as f64 - 5.0,
        14 if nth % 2000 == 1999 => stale_nan(),
        14 => (random % 100) as f64,
        15 if nth == 7000 => f64::INFINITY,
        15 => (random % 100) as f64,
        // Of a target that was not scraped for a while.
        16 if nth % 1440 < 600 => return None,
        16 => nth as f64,
        17 if day == 2 => return None,
        17 => (random % 64) as f64,
        _ => 0.0,
    })
}

const KINDS: usize = 19;
const COPIES: usize = 2;

fn store(dir: &std::path::Path) -> Arc<Store> {
    let options = StoreOptions { wal_sync: WalSync::Written, out_of_order_ms: 2 * DAY_MS, ..StoreOptions::new(dir) };
    let store = Store::open(options, Env::real()).unwrap();
    let labels = |kind: usize, copy: usize| {
        let (kind, copy) = (format!("{kind:02}"), copy.to_string());
        Labels::from_pairs([("__name__", "m"), ("copy", &copy), ("kind", &kind)])
    };
    let minutes = (END_MS - START_MS) / MINUTE_MS;
    for nth in 0..minutes {
        let mut samples = Vec::new();
        for kind in 0..KINDS {
            let Some(value) = value(kind, nth) else { continue };
            for copy in 0..COPIES {
                let timestamp_ms = START_MS + nth * MINUTE_MS + copy as i64 * 1_001;
                samples.push(Sample { series: store.series(&labels(kind, copy)), timestamp_ms, value, start_ms: None });
            }
        }
        store.append(&samples).unwrap();
        if nth % 720 == 0 {
            store.maintain().unwrap();
        }
    }
    // A late sample, which stands in a block of its own or in the head, between those of a whole block.
    let late = Sample {
        series: store.series(&labels(18, 1)),
        timestamp_ms: START_MS + 4 * DAY_MS - 3_600_000 + 1,
        value: 9.0,
        start_ms: None,
    };
    assert_eq!(store.append(&[late]).unwrap().appended, 1);
    for _ in 0..12 {
        store.maintain().unwrap();
    }
    // What is hidden is not summed up.
    let matchers = [Matcher::equal("kind", "04"), Matcher::equal("copy", "1")];
    let hidden = TimeRange::new(START_MS + DAY_MS + 5 * MINUTE_MS, START_MS + DAY_MS + 9 * MINUTE_MS);
    store.delete(&matchers, hidden).unwrap();
    store
}

/// All bits of an answer.
fn bits(output: &Output) -> Vec<(String, Vec<(i64, u64)>)> {
    let QueryValue::Matrix(series) = &output.value else { panic!("a range query answers with a matrix") };
    let points = |series: &MatrixSeries| series.points.iter().map(|(ms, value)| (*ms, value.to_bits())).collect();
    series.iter().map(|series| (series.labels.to_string(), points(series))).collect()
}

#[test]
fn summaries_answer_as_all_samples_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let snapshot = store.snapshot();
    assert!(snapshot.blocks().iter().any(|block| block.meta().level == 3), "there are blocks of a day");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let parse = ParseOptions::all();
    let engine = Engine::new(EngineOptions { parse, partitions: 1, ..EngineOptions::default() });
    let functions = [
        "count_over_time",
        "present_over_time",
        "ts_of_first_over_time",
        "ts_of_last_over_time",
        "last_over_time",
        "max_over_time",
        "min_over_time",
        "sum_over_time",
        "avg_over_time",
        "rate",
        "increase",
        "delta",
        "resets",
        // These take all samples.
        "changes",
        "stddev_over_time",
        "quantile_over_time",
        "irate",
        "first_over_time",
    ];
    for function in functions {
        for (width, step_ms) in [("4d", DAY_MS), ("5d", 6 * 3_600_000), ("1d", DAY_MS), ("1h", DAY_MS)] {
            for end_ms in [END_MS - 17, START_MS + 4 * DAY_MS] {
                let argument = if function == "quantile_over_time" { "0.9, " } else { "" };
                let query = format!("{function}({argument}m[{width}])");
                for start_ms in [end_ms, end_ms - 3 * DAY_MS] {
                    let source: Arc<dyn Source> = Arc::new(StoreSource::new(snapshot.clone()));
                    let fast = runtime.block_on(engine.range(source, &query, start_ms, end_ms, step_ms)).unwrap();
                    let source: Arc<dyn Source> = Arc::new(Whole(StoreSource::new(snapshot.clone())));
                    let slow = runtime.block_on(engine.range(source, &query, start_ms, end_ms, step_ms)).unwrap();
                    assert_eq!(bits(&fast), bits(&slow), "{query} from {start_ms} to {end_ms}");
                    // What lies between windows is not read.
                    let (read, all) = (fast.stats.samples_read, slow.stats.samples_read);
                    let gaps = width == "1h" && start_ms < end_ms;
                    assert!(if gaps { 0 < read && read < all / 4 } else { read == all }, "{query} {read} {all}");
                }
            }
        }
    }
}

/// One query, from what its windows hold and from all samples.
fn both_ways(store: &Store, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> [Output; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let parse = ParseOptions::all();
    let engine = Engine::new(EngineOptions { parse, partitions: 1, ..EngineOptions::default() });
    let source = || StoreSource::new(store.snapshot());
    let sources: [Arc<dyn Source>; 2] = [Arc::new(source()), Arc::new(Whole(source()))];
    sources.map(|source| runtime.block_on(engine.range(source, query, start_ms, end_ms, step_ms)).unwrap())
}

#[test]
fn samples_between_windows_are_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let selectors = ["m", "timestamp(m)", "m offset 7m", "m @ 1762700000", "start_timestamp(m)", "m smoothed"];
    let calls = ["rate(m[3m] anchored)", "increase(m[3m] smoothed)", "deriv(m[20m])", "mad_over_time(m[2m])"];
    for query in selectors.into_iter().chain(calls) {
        // Of windows of 1 to 20 minutes, 7 minutes apart some leave out most and some nothing.
        for step_ms in [7 * MINUTE_MS, 5 * 3_600_000 + 1] {
            for start_ms in [START_MS - DAY_MS, START_MS + 4 * DAY_MS + 999] {
                let [fast, slow] = both_ways(&store, query, start_ms, END_MS + 3_600_000, step_ms);
                assert_eq!(bits(&fast), bits(&slow), "{query} every {step_ms} ms from {start_ms}");
                assert!(fast.stats.samples_read <= slow.stats.samples_read);
            }
        }
    }
    let [fast, slow] = both_ways(&store, "m", START_MS, END_MS, 3_600_000);
    assert!(fast.stats.samples_read * 8 < slow.stats.samples_read, "five minutes of each hour are");
}

/// A series that has floats in some blocks and histograms in others or in the head: what those follow decides what their
/// hints say, in a window or not.
#[test]
fn histograms_see_what_they_follow_between_windows() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(dir.path()) };
    let store = Store::open(options, Env::real()).unwrap();
    let labels = |kind: &str| Labels::from_pairs([("__name__", "h"), ("kind", kind)]);
    let histogram = |count: i64| {
        let count = count as f64;
        let positive_spans = vec![Span { offset: 0, length: 1 }];
        Arc::new(Histogram { count, sum: count, positive_spans, positive: vec![count], ..Histogram::default() })
    };
    let minutes = (END_MS - START_MS) / MINUTE_MS;
    for nth in 0..minutes {
        let timestamp_ms = START_MS + nth * MINUTE_MS;
        let half_day = nth / 720;
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        // Floats first; histograms first; histograms in the head alone; each in turn.
        let is_histogram = [half_day >= 3, half_day < 3, nth >= minutes - 60, half_day % 2 == 1];
        for (kind, is_histogram) in ["a", "b", "c", "d"].into_iter().zip(is_histogram) {
            let series = store.series(&labels(kind));
            if is_histogram {
                // It starts over now and then.
                let histogram = histogram(nth % 97);
                histograms.push(HistogramSample { series, timestamp_ms, histogram, start_ms: None });
            } else {
                floats.push(Sample { series, timestamp_ms, value: (nth % 50) as f64, start_ms: None });
            }
        }
        store.append_batch(&floats, &histograms).unwrap();
        if nth % 720 == 0 {
            store.maintain().unwrap();
        }
    }
    for query in ["h", "histogram_count(h)", "rate(h[5m])", "last_over_time(h[9m])", "resets(h[20m])", "timestamp(h)"] {
        for step_ms in [3_600_000, 13 * MINUTE_MS] {
            let [fast, slow] = both_ways(&store, query, START_MS + 17, END_MS + 3_600_000, step_ms);
            assert_eq!(format!("{:?}", fast.value), format!("{:?}", slow.value), "{query} every {step_ms} ms");
            assert_eq!(fast.annotations, slow.annotations, "{query}");
        }
    }
}

#[test]
fn a_whole_block_is_a_sample_or_two() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = store(dir.path()).snapshot();
    let range = TimeRange::new(START_MS, START_MS + 3 * DAY_MS);
    let windows = RangeGrid { first_end_ms: range.max_ms, step_ms: 0, steps: 1, width_ms: 3 * DAY_MS + MINUTE_MS };
    let kinds_of = |reduction: Reduction| -> Vec<String> {
        let selection = snapshot.find(&[Matcher::equal("copy", "0")], range).unwrap();
        let all: Vec<u32> = (0..selection.len() as u32).collect();
        let read = selection.read_reduced(&all, range, &ReducedWindows { windows, reduction }).unwrap();
        let whole = selection.read(&all, range).unwrap();
        let series = snapshot.select(&[Matcher::equal("copy", "0")], range).unwrap();
        let mut kinds = Vec::new();
        for ((series, read), whole) in series.iter().zip(read).zip(whole) {
            let stands_for = match &read.weights {
                None => read.samples.values.len(),
                Some(weights) => weights.iter().map(|&weight| weight as usize).sum(),
            };
            assert_eq!(stands_for, whole.values.len(), "{}", series.labels);
            // Nothing but the first sample of the fourth day is left of three days.
            if read.samples.values.len() <= 7 {
                kinds.push(series.labels.get("kind").to_owned());
            }
        }
        kinds
    };
    let integers_and_decimals = "00 01 02 03 04 05 06 08 09 10 11 15 16 17 18";
    assert_eq!(kinds_of(Reduction::Largest).join(" "), integers_and_decimals);
    assert_eq!(kinds_of(Reduction::Smallest).join(" "), integers_and_decimals);
    assert_eq!(kinds_of(Reduction::Sum).join(" "), "04 06 08 09 10 15 17 18");
    assert_eq!(kinds_of(Reduction::Growth).join(" "), "00 02 03 08 16 18");
    assert_eq!(kinds_of(Reduction::Last).join(" "), "00 02 03 08 16 18");
    assert_eq!(kinds_of(Reduction::Times), Vec::<String>::new());
}
