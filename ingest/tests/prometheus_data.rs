//! What the slow twin encodes is decoded bit by bit, chunk by chunk and as a whole directory.

mod prometheus_encoder;

use std::collections::BTreeMap;

use pilaster_ingest::prometheus_data::{Block, Encoding, Head, decode_chunk};
use pilaster_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Span};
use pilaster_model::{Columns, Labels, TimeRange, stale_nan};
use prometheus_encoder::{Sample, float_histograms, write_directory, xor, xor2};
use proptest::collection::vec;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-50_i32..50).prop_map(f64::from),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(stale_nan()),
        1 => prop::sample::select(vec![0.0, -0.0, f64::INFINITY, 0.1, 1e300]),
    ]
}

/// Milliseconds to the next sample: mostly the same.
fn delta() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(15_000), 3 => 14_900_i64..15_100, 2 => 1_i64..600_000, 1 => 1_i64..1_000_000_000]
}

fn floats(starts: bool) -> impl Strategy<Value = Vec<Sample>> {
    let start = if starts {
        prop_oneof![3 => Just(7_i64), 1 => 1_i64..2_000_000_000_000, 1 => Just(0)].boxed()
    } else {
        Just(0).boxed()
    };
    (-1_000_000_i64..2_000_000_000_000, vec((delta(), value(), start), 1..200)).prop_map(|(mut ms, all)| {
        let sample = |(delta_ms, value, start_ms)| {
            ms += delta_ms;
            Sample { timestamp_ms: ms, start_ms, value, histogram: None }
        };
        all.into_iter().map(sample).collect()
    })
}

/// Histograms that share their buckets, some of them staleness markers.
fn histograms() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (delta(), vec(0_u32..1000, 5), prop_oneof![8 => Just(false), 1 => Just(true)], 0_i64..3);
    let layout = (-4_i32..9, any::<bool>(), any::<bool>(), prop_oneof![Just(0.0), Just(0.001), Just(2_f64.powi(-128))]);
    (layout, vec(sample, 1..60)).prop_map(|((schema, custom, gauge, zero_threshold), all)| {
        let mut ms = 1_700_000_000_000;
        let make = |(delta_ms, counts, stale, start_ms): (i64, Vec<u32>, bool, i64)| {
            ms += delta_ms % 1_000_000;
            let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            let mut one = Histogram {
                schema,
                zero_threshold,
                zero_count: counts[4],
                count: counts.iter().sum(),
                sum: counts[0] * 1.5,
                positive_spans: vec![Span { offset: -3, length: 1 }, Span { offset: 2, length: 2 }],
                positive: counts[..3].to_vec(),
                negative_spans: vec![Span { offset: 5, length: 1 }],
                negative: vec![counts[3]],
                ..Histogram::default()
            };
            if custom {
                one = Histogram {
                    schema: CUSTOM_BUCKETS_SCHEMA,
                    positive_spans: vec![Span { offset: 0, length: 3 }],
                    custom_bounds: [-1.0, 0.25, 1e9, f64::MAX].into(),
                    zero_threshold: 0.0,
                    zero_count: 0.0,
                    negative: Vec::new(),
                    negative_spans: Vec::new(),
                    ..one
                };
            }
            if gauge {
                one.counter_reset_hint = CounterResetHint::Gauge;
            }
            let start_ms = if start_ms == 2 { ms - 5 } else { 0 };
            if stale {
                one.sum = stale_nan();
            }
            Sample { timestamp_ms: ms, start_ms, value: 0.0, histogram: Some(one) }
        };
        let mut all: Vec<Sample> = all.into_iter().map(make).collect();
        if let Some(first) = all.first_mut().and_then(|first| first.histogram.as_mut()) {
            // The first one says what buckets there are.
            first.sum = 1.0;
        }
        all
    })
}

/// Samples as they come back: a histogram that ends its series is a float that does.
fn expected(samples: &[Sample]) -> Columns {
    let mut out = Columns::default();
    for sample in samples {
        match &sample.histogram {
            Some(one) => out.push_histogram(sample.timestamp_ms, one.clone().into(), sample.start_ms),
            None => out.push_float(sample.timestamp_ms, sample.value, sample.start_ms),
        }
    }
    out
}

fn check(got: &Columns, expected: &Columns) {
    assert_eq!(got.timestamps, expected.timestamps);
    let bits = |samples: &Columns| samples.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(got), bits(expected));
    let starts = |samples: &Columns| {
        let mut starts = samples.starts_ms.clone();
        starts.resize(samples.len(), 0);
        starts
    };
    assert_eq!(starts(got), starts(expected));
    assert_eq!(got.histograms, expected.histograms);
}

fn decoded((encoding, data): (u8, Vec<u8>)) -> Columns {
    let mut out = Columns::default();
    decode_chunk(Encoding::from_byte(encoding).unwrap(), &data, &mut out).unwrap();
    for len in 0..data.len().min(40) {
        assert!(decode_chunk(Encoding::from_byte(encoding).unwrap(), &data[..len], &mut Columns::default()).is_err());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn floats_come_back(samples in floats(false)) {
        check(&decoded(xor(&samples)), &expected(&samples));
    }

    #[test]
    fn floats_with_start_timestamps_come_back(samples in floats(true)) {
        check(&decoded(xor2(&samples)), &expected(&samples));
    }

    #[test]
    fn histograms_come_back(samples in histograms()) {
        check(&decoded(float_histograms(&samples)), &expected(&samples));
    }

    #[test]
    fn directories_come_back(
        all in vec(prop_oneof![floats(false), floats(true), histograms()], 1..8),
        cut_ms in prop_oneof![Just(i64::MIN), Just(i64::MAX), 0_i64..2_000_000_000_000],
    ) {
        let name = |number: usize| match number {
            0 => Labels::from_pairs([("z", "only"), ("job", "b")]),
            number => Labels::from_pairs([("__name__", format!("m{}", number % 3)), ("a", format!("{number}"))]),
        };
        let series: Vec<(Labels, Vec<Sample>)> =
            all.into_iter().enumerate().map(|(number, samples)| (name(number), samples)).collect();
        let dir = tempfile::tempdir().unwrap();
        write_directory(dir.path(), &series, cut_ms);
        let mut fail = |error| panic!("{error}");
        let mut got: BTreeMap<Labels, Columns> = BTreeMap::new();
        for block in Block::list(dir.path()).unwrap() {
            let block = Block::open(&block, &mut fail).unwrap();
            got.extend(block.read(0..block.series_count(), TimeRange::ALL, &mut fail));
        }
        let head = Head::open(dir.path(), &mut fail).unwrap();
        for run in head.passes(100) {
            for (labels, samples) in head.read(run, &mut fail).unwrap() {
                got.entry(labels).or_default().extend_from(&samples);
            }
        }
        prop_assert_eq!(got.len(), series.len());
        for (labels, samples) in &series {
            check(&got[labels], &expected(samples));
        }
    }
}

/// Everything in a directory, damages counted.
fn read_all(dir: &std::path::Path) -> (BTreeMap<Labels, Columns>, usize) {
    let mut damages = 0;
    let mut got: BTreeMap<Labels, Columns> = BTreeMap::new();
    for block in Block::list(dir).unwrap() {
        match Block::open(&block, &mut |_| damages += 1) {
            Ok(block) => got.extend(block.read(0..block.series_count(), TimeRange::ALL, &mut |_| damages += 1)),
            Err(_) => damages += 1,
        }
    }
    match Head::open(dir, &mut |_| damages += 1) {
        Ok(head) => {
            for run in head.passes(u64::MAX) {
                for (labels, samples) in head.read(run, &mut |_| damages += 1).unwrap() {
                    got.entry(labels).or_default().extend_from(&samples);
                }
            }
        }
        Err(_) => damages += 1,
    }
    (got, damages)
}

#[test]
fn every_flipped_bit_is_told_of_or_changes_nothing() {
    let sample = |n: i64| Sample { timestamp_ms: 1000 * n, start_ms: n % 2, value: n as f64, histogram: None };
    let series = |name: &str| (Labels::from_pairs([("__name__", name), ("job", "x")]), (18..42).map(sample).collect());
    let dir = tempfile::tempdir().unwrap();
    write_directory(dir.path(), &[series("a"), series("b")], 30_000);
    let (truth, damages) = read_all(dir.path());
    assert_eq!((truth.len(), damages), (2, 0));
    let block = dir.path().join("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    for path in [block.join("index"), block.join("chunks/000001"), dir.path().join("wal/00000000")] {
        let good = std::fs::read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            std::fs::write(&path, &bad).unwrap();
            let (got, damages) = read_all(dir.path());
            let mut lost = got.len() < truth.len();
            for (labels, samples) in &got {
                let whole = truth.get(labels).unwrap_or_else(|| panic!("{path:?} byte {byte} made {labels}"));
                let pairs = |samples: &Columns| -> Vec<(i64, u64)> {
                    samples.timestamps.iter().copied().zip(samples.values.iter().map(|value| value.to_bits())).collect()
                };
                let all = pairs(whole);
                assert!(pairs(samples).iter().all(|pair| all.contains(pair)), "{path:?} byte {byte} made samples");
                lost |= samples.len() < whole.len();
            }
            // The compression that a record has is not under its checksum: none is taken for another only with a complaint.
            assert!(!lost || damages > 0 || path.ends_with("wal/00000000"), "{path:?} byte {byte}: nothing was said");
        }
        std::fs::write(&path, &good).unwrap();
    }
}
