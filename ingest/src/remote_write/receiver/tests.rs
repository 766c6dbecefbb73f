//! The receiver against a real store in a temporary directory.

use std::sync::Arc;

use pilaster_model::histogram::{Histogram, Span};
use pilaster_model::{Matcher, TimeRange, stale_nan};
use pilaster_storage::StoreOptions;
use pilaster_storage::env::Env;

use super::*;
use crate::remote_write::{SeriesToSend, encode_v1, encode_v2};

const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const NOW_MS: i64 = 1_700_000_000_000;

fn store(dir: &tempfile::TempDir) -> Arc<Store> {
    Store::open(StoreOptions::new(dir.path()), Env::real()).unwrap()
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn bits(store: &Store, name: &str) -> Vec<(i64, u64)> {
    let snapshot = store.snapshot();
    let series = snapshot.select(&[Matcher::equal(METRIC_NAME, name)], TimeRange::ALL).unwrap();
    series
        .iter()
        .flat_map(|one| {
            let read = snapshot.read(one, TimeRange::ALL).unwrap();
            let pairs = read.timestamps.iter().copied().zip(read.values.iter().map(|value| value.to_bits()));
            pairs.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn both_versions_store_every_bit() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let labels =
        [Labels::from_pairs([("__name__", "a"), ("job", "x")]), Labels::from_pairs([("__name__", "b"), ("job", "x")])];
    let samples = [(NOW_MS - 2, f64::NAN), (NOW_MS - 1, stale_nan()), (NOW_MS, -0.0)];
    let one = |index: usize| [SeriesToSend::floats(&labels[index], &samples)];
    let v1 = receive(&store, "application/x-protobuf", "snappy", &compress(&encode_v1(one(0))), NOW_MS);
    assert_eq!((v1.status, v1.headers.len()), (204, 0));
    let v2 = receive(&store, V2, "snappy", &compress(&encode_v2(one(1))), NOW_MS);
    assert_eq!(v2.status, 204);
    assert_eq!(v2.headers[0], ("X-Prometheus-Remote-Write-Samples-Written", "3".to_owned()));
    let expected: Vec<_> = samples.iter().map(|(timestamp_ms, value)| (*timestamp_ms, value.to_bits())).collect();
    assert_eq!(bits(&store, "a"), expected);
    assert_eq!(bits(&store, "b"), expected);
}

#[test]
fn histograms_arrive_and_wrong_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let labels = Labels::from_pairs([("__name__", "a")]);
    let right = Histogram {
        count: 3.0,
        sum: 4.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive: vec![1.0, 2.0],
        ..Histogram::default()
    };
    let wrong = Histogram { positive: vec![1.0, -2.0], ..right.clone() };
    let stale = Histogram { sum: stale_nan(), ..Histogram::default() };
    let histograms = [(NOW_MS - 2, right.clone()), (NOW_MS - 1, wrong), (NOW_MS, stale)];
    let body = compress(&encode_v2([SeriesToSend { labels: &labels, samples: &[], histograms: &histograms }]));
    let response = receive(&store, V2, "snappy", &body, NOW_MS);
    assert_eq!(response.status, 400);
    assert_eq!((response.headers[0].1.as_str(), response.headers[1].1.as_str()), ("0", "2"), "{}", response.body);
    let snapshot = store.snapshot();
    let series = snapshot.select(&[Matcher::equal(METRIC_NAME, "a")], TimeRange::ALL).unwrap();
    let read = snapshot.read(&series[0], TimeRange::ALL).unwrap();
    assert_eq!(*read.timestamps, [NOW_MS - 2, NOW_MS]);
    let kept = read.histograms.unwrap();
    assert_eq!((kept[0].as_deref(), kept[1].as_deref()), (Some(&right), None));
    assert!(pilaster_model::is_stale(read.values[1]));
}

/// A field that holds bytes; all of these tests' are short.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// A double as field `number`, and a timestamp behind it.
fn at(number: u8, value: f64, timestamp_ms: i64) -> Vec<u8> {
    let mut out = [&[number << 3 | 1][..], &value.to_le_bytes(), &[(number + 1) << 3]].concat();
    let mut rest = timestamp_ms as u64;
    while rest > 127 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

#[test]
fn exemplars_of_version_2_are_counted_and_late_ones_refused() {
    let send = |store: &Store, exemplars: &[(f64, i64)]| {
        let mut series = [field(1, &[1, 2]), field(2, &at(1, 1.0, NOW_MS))].concat();
        for (value, timestamp_ms) in exemplars {
            series.extend(field(4, &[field(1, &[3, 4]), at(2, *value, *timestamp_ms)].concat()));
        }
        let symbols = ["", "__name__", "a", "trace_id", "t"].map(|symbol| field(4, symbol.as_bytes())).concat();
        receive(store, V2, "snappy", &compress(&[symbols, field(5, &series)].concat()), NOW_MS)
    };
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { max_exemplars: 10, ..StoreOptions::new(dir.path()) };
    let store = Store::open(options, Env::real()).unwrap();
    let answer = send(&store, &[(1.0, NOW_MS), (2.0, NOW_MS + 1), (2.0, NOW_MS + 1)]);
    assert_eq!((answer.status, answer.headers[2].1.as_str()), (204, "3"), "{}", answer.body);
    let answer = send(&store, &[(3.0, NOW_MS - 5), (3.0, NOW_MS + 2)]);
    assert_eq!((answer.status, answer.headers[2].1.as_str()), (400, "1"));
    assert!(answer.body.contains("out of order exemplar"), "{}", answer.body);
    let found = store.exemplars(&[vec![Matcher::equal(METRIC_NAME, "a")]], TimeRange::ALL);
    assert_eq!(found[0].exemplars.len(), 3);
    assert_eq!(found[0].exemplars[0].labels, Labels::from_pairs([("trace_id", "t")]));
    // Where none are kept they are passed over, as by a Prometheus without the feature.
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreOptions::new(dir.path()), Env::real()).unwrap();
    let answer = send(&store, &[(1.0, NOW_MS), (0.0, 5)]);
    assert_eq!((answer.status, answer.headers[2].1.as_str()), (204, "2"));
    assert!(store.exemplars(&[vec![]], TimeRange::ALL).is_empty());
}

#[test]
fn a_refused_sample_is_named_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let labels = Labels::from_pairs([("__name__", "a")]);
    let send = |samples: &[(i64, f64)]| {
        let body = compress(&encode_v2([SeriesToSend::floats(&labels, samples)]));
        receive(&store, V2, "snappy", &body, NOW_MS)
    };
    assert_eq!(send(&[(NOW_MS, 1.0)]).status, 204);
    let again = send(&[(NOW_MS, 2.0), (NOW_MS + 1, 3.0), (NOW_MS + 3_600_000, 4.0)]);
    assert_eq!(again.status, 400);
    assert!(again.body.contains("duplicate sample for timestamp"), "{}", again.body);
    assert!(again.body.contains("too far in the future"), "{}", again.body);
    assert_eq!(again.headers[0].1, "1");
    assert_eq!(bits(&store, "a"), [(NOW_MS, 1f64.to_bits()), (NOW_MS + 1, 3f64.to_bits())]);
}

#[test]
fn what_is_not_a_request_is_refused_before_memory_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let status =
        |content_type: &str, encoding: &str, body: &[u8]| receive(&store, content_type, encoding, body, NOW_MS).status;
    assert_eq!(status("text/plain", "snappy", &[]), 415);
    assert_eq!(status("application/x-protobuf;proto=other", "snappy", &[]), 415);
    assert_eq!(status("application/x-protobuf", "gzip", &[]), 415);
    assert_eq!(status("application/x-protobuf", "snappy", b"not snappy"), 400);
    // A header that promises 4 GiB.
    assert_eq!(status("application/x-protobuf", "snappy", &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), 400);
    assert_eq!(status("application/x-protobuf", "snappy", &compress(&[0x0a, 0xff])), 400);
    assert_eq!(status(V2, "snappy", &compress(&[0x22, 1, b'x'])), 400);
}

proptest::proptest! {
    #[test]
    fn decoders_never_panic(bytes: Vec<u8>) {
        let _ = crate::remote_write::decode_v1(&bytes);
        let _ = crate::remote_write::decode_v2(&bytes);
    }
}
