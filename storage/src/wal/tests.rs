//! The log against what was promised: everything waited for is read back, whatever happens to the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilaster_model::histogram::{CounterResetHint, Span};
use pilaster_model::{Histogram, Labels, stale_nan};
use proptest::prelude::*;

use super::codec::{decode_histograms, decode_samples, encode_histograms, encode_samples, pack_series, unpack_series};
use super::*;
use crate::env::Env;
use crate::env::sim::{Fault, FaultKind, Sim};

const DIR: &str = "/data/wal";

fn labels_of(series: u64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("series", series.to_string())])
}

fn sample(series: u64, timestamp_ms: i64, value: f64) -> WalSample {
    WalSample { series, timestamp_ms, value, start_ms: 0 }
}

fn options(segment_bytes: usize) -> WalOptions {
    WalOptions { segment_bytes, sync: WalSync::Commit }
}

/// Feeds records one by one.
fn each(mut apply: impl FnMut(u64, Record)) -> impl FnMut(u64, Vec<(u64, Record)>) {
    move |segment, records| records.into_iter().for_each(|(_, record)| apply(segment, record))
}

/// All samples in the log, by the series' labels, and what the replay said.
fn read_back(env: &Env) -> (BTreeMap<(Labels, i64), u64>, Replay, Wal) {
    let mut named = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let (wal, replay) = Wal::open(
        env.clone(),
        Path::new(DIR),
        options(300),
        &LogTail::whole(),
        each(|segment, record| match record {
            Record::Histograms(_) | Record::Metadata(_) | Record::Exemplars(_) => panic!("none was written"),
            Record::Series(series) => {
                named.extend(series.into_iter().map(|(series, labels)| ((segment, series), labels)))
            }
            Record::Samples(read) => {
                for one in read {
                    let labels: &Labels = &named[&(segment, one.series)];
                    samples.insert((labels.clone(), one.timestamp_ms), one.value.to_bits());
                }
            }
        }),
    )
    .unwrap();
    (samples, replay, wal)
}

fn segments(env: &Env) -> Vec<PathBuf> {
    env.files.list(Path::new(DIR)).unwrap()
}

#[test]
fn what_was_appended_is_read_back() {
    let env = Sim::new(1).env();
    let (_, _, wal) = read_back(&env);
    for step in 0..200 {
        let samples: Vec<_> = (0..5).map(|series| sample(series, step * 1000, step as f64)).collect();
        wal.append(&samples, &labels_of).unwrap();
    }
    wal.append(&[sample(3, 600_000, stale_nan())], &labels_of).unwrap();
    assert!(wal.segment_count() > 5, "segments of 300 bytes must have been followed by others");
    drop(wal);
    let (samples, replay, _) = read_back(&env);
    assert_eq!(samples.len(), 1001);
    assert_eq!(samples[&(labels_of(4), 7000)], 7f64.to_bits());
    assert_eq!(samples[&(labels_of(3), 600_000)], stale_nan().to_bits());
    assert_eq!(replay.damage, []);
}

#[test]
fn truncation_keeps_what_is_newer() {
    let env = Sim::new(1).env();
    let (_, _, wal) = read_back(&env);
    for step in 0..20 {
        wal.append(&[sample(1, step, 0.5)], &labels_of).unwrap();
    }
    wal.rotate();
    let first_kept = wal.next_sequence();
    wal.append(&[sample(1, 20, 0.5)], &labels_of).unwrap();
    assert!(wal.truncate_before(first_kept).unwrap() > 0);
    drop(wal);
    let (samples, replay, wal) = read_back(&env);
    assert_eq!(samples.keys().map(|(_, timestamp_ms)| *timestamp_ms).collect::<Vec<_>>(), [20]);
    assert_eq!(replay.damage, []);
    assert!(wal.next_sequence() > first_kept, "sequences go on");
}

#[test]
fn every_cut_of_the_last_segment_leaves_a_prefix() {
    let build = || {
        let sim = Sim::new(3);
        let (_, _, wal) = read_back(&sim.env());
        for step in 0..4 {
            wal.append(&[sample(1, step, step as f64), sample(2, step, 0.1)], &labels_of).unwrap();
        }
        drop(wal);
        sim
    };
    let whole = build();
    let path = segments(&whole.env()).pop().unwrap();
    let len = whole.env().files.len(&path).unwrap() as usize;
    let (all, _, _) = read_back(&whole.env());
    for cut in 0..len {
        let sim = build();
        sim.cut(&path, cut);
        let (samples, _, wal) = read_back(&sim.env());
        assert!(samples.iter().all(|(key, value)| all[key] == *value), "cut at {cut}");
        wal.append(&[sample(9, 9, 9.0)], &labels_of).unwrap();
        drop(wal);
        let (after, _, _) = read_back(&sim.env());
        assert_eq!(after.len(), samples.len() + 1, "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_is_reported_or_harmless() {
    let build = || {
        let sim = Sim::new(4);
        let (_, _, wal) = read_back(&sim.env());
        for step in 0..6 {
            wal.append(&[sample(1, step, step as f64 + 0.5)], &labels_of).unwrap();
        }
        drop(wal);
        sim
    };
    let (all, _, _) = read_back(&build().env());
    let path = segments(&build().env())[0].clone();
    let len = build().env().files.len(&path).unwrap() as usize;
    for byte in 0..len {
        let sim = build();
        sim.flip_bit(&path, byte, (byte % 8) as u8);
        let mut named = BTreeMap::new();
        let mut read = BTreeMap::new();
        let (_, replay) = Wal::open(
            sim.env(),
            Path::new(DIR),
            options(300),
            &LogTail::whole(),
            each(|segment, record| match record {
                Record::Histograms(_) | Record::Metadata(_) | Record::Exemplars(_) => panic!("none was written"),
                Record::Series(series) => named.extend(series.into_iter().map(|(id, labels)| ((segment, id), labels))),
                Record::Samples(samples) => {
                    for one in samples {
                        // A lost series record makes its samples unnameable; the loss of both is what is reported.
                        if let Some(labels) = named.get(&(segment, one.series)) {
                            read.insert((labels.clone(), one.timestamp_ms), one.value.to_bits());
                        }
                    }
                }
            }),
        )
        .unwrap();
        assert!(read.iter().all(|(key, value)| all[key] == *value), "wrong data after a flip at byte {byte}");
        // The last record looks like a torn tail: no later record says that it had been durable.
        let only_the_last = all.iter().take(all.len() - 1).all(|(key, value)| read.get(key) == Some(value));
        assert!(only_the_last || !replay.damage.is_empty(), "a loss at byte {byte} was not reported");
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let sim = Sim::new(5);
    let env = sim.env();
    let (_, _, wal) = read_back(&env);
    wal.append(&[sample(1, 1, 1.0)], &labels_of).unwrap();
    sim.set_capacity_bytes(sim.used_bytes() + 20);
    let refused = wal.append(&[sample(1, 2, 2.0)], &labels_of);
    assert!(matches!(refused, Err(WalError::DiskFull { .. })), "{refused:?}");
    sim.set_capacity_bytes(u64::MAX);
    wal.append(&[sample(1, 3, 3.0)], &labels_of).unwrap();
    drop(wal);
    sim.crash();
    let (samples, replay, _) = read_back(&env);
    assert_eq!(samples[&(labels_of(1), 1)], 1f64.to_bits());
    assert_eq!(samples[&(labels_of(1), 3)], 3f64.to_bits());
    assert_eq!(replay.damage, []);
}

/// One life after another on one disk, with faults; returns what is missing in the end.
fn lives(seed: u64, sync: WalSync) -> usize {
    let sim = Sim::new(seed);
    let env = sim.env();
    let mut acknowledged = BTreeMap::new();
    let mut attempted = BTreeMap::new();
    let mut next_ms = 0;
    for _ in 0..4 {
        let mut opened = BTreeMap::new();
        let mut named = BTreeMap::new();
        let opened_log = Wal::open(
            env.clone(),
            Path::new(DIR),
            WalOptions { segment_bytes: 400, sync },
            &LogTail::whole(),
            each(|segment, record| match record {
                Record::Histograms(_) | Record::Metadata(_) | Record::Exemplars(_) => panic!("none was written"),
                Record::Series(series) => named.extend(series.into_iter().map(|(id, labels)| ((segment, id), labels))),
                Record::Samples(samples) => opened.extend(
                    samples
                        .iter()
                        .map(|one| ((named[&(segment, one.series)].clone(), one.timestamp_ms), one.value.to_bits())),
                ),
            }),
        );
        let (wal, _) = opened_log.unwrap();
        let missing = acknowledged.iter().filter(|(key, value)| opened.get(*key) != Some(*value)).count();
        assert!(opened.iter().all(|(key, value)| attempted.get(key) == Some(value)), "never written, seed {seed}");
        if missing > 0 {
            return missing;
        }
        let at_call = sim.calls() + 1 + env.random.next_u64() % 40;
        let kind = if env.random.next_u64().is_multiple_of(2) { FaultKind::Error } else { FaultKind::PowerCut };
        sim.set_fault(Some(Fault { at_call, kind }));
        for _ in 0..env.random.next_u64() % 30 {
            next_ms += 1;
            let samples: Vec<_> =
                (0..1 + env.random.next_u64() % 4).map(|id| sample(id, next_ms, next_ms as f64)).collect();
            let entries = || samples.iter().map(|one| ((labels_of(one.series), one.timestamp_ms), one.value.to_bits()));
            attempted.extend(entries());
            if wal.append(&samples, &labels_of).is_ok() {
                acknowledged.extend(entries());
            }
        }
        drop(wal);
        sim.crash();
    }
    0
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    for seed in 0..1500 {
        assert_eq!(lives(seed, WalSync::Commit), 0, "seed {seed}");
    }
}

/// The test above can fail: a log that does not sync loses data under it.
#[test]
fn the_crash_test_catches_a_log_that_does_not_sync() {
    assert!((0..200).any(|seed| lives(seed, WalSync::Written) > 0));
}

#[test]
fn many_writers_share_syncs() {
    let sim = Sim::new(8);
    let env = sim.env();
    let (_, _, wal) = read_back(&env);
    let wal = Arc::new(wal);
    std::thread::scope(|scope| {
        for writer in 0..8u64 {
            let wal = &wal;
            scope.spawn(move || {
                for step in 0..100 {
                    wal.append(&[sample(writer, step, step as f64)], &labels_of).unwrap();
                }
            });
        }
    });
    drop(wal);
    sim.crash();
    assert_eq!(read_back(&env).0.len(), 800);
}

fn any_bits() -> impl Strategy<Value = u64> {
    let decimal = (-1_000_000i64..1_000_000, 0..4usize);
    prop_oneof![
        any::<u64>(),
        decimal.prop_map(|(value, digits)| (value as f64 / [1.0, 10.0, 100.0, 1000.0][digits]).to_bits())
    ]
}

fn any_sample() -> impl Strategy<Value = WalSample> {
    (any::<u64>(), prop_oneof![Just(5), any::<i64>()], any_bits(), prop_oneof![Just(0), any::<i64>()]).prop_map(
        |(series, timestamp_ms, bits, start_ms)| WalSample {
            series,
            timestamp_ms,
            value: f64::from_bits(bits),
            start_ms,
        },
    )
}

proptest! {
    #[test]
    fn samples_survive_encoding(samples in prop::collection::vec(any_sample(), 0..50)) {
        let mut payload = Vec::new();
        let flags = encode_samples(&samples, &mut payload);
        prop_assert_eq!(decode_samples(&payload, flags), Some(Record::Samples(samples)));
    }

    #[test]
    fn labels_survive_encoding(series in prop::collection::vec((any::<u64>(), prop::collection::btree_map("[a-z]{1,8}", ".{1,12}", 0..5)), 0..40)) {
        let series: Vec<_> = series.into_iter().map(|(id, pairs)| (id, Labels::from_pairs(pairs))).collect();
        let (payload, flags) = pack_series(&series);
        prop_assert_eq!(unpack_series(&payload, flags), Some(Record::Series(series)));
    }

    #[test]
    fn noise_is_never_a_panic(noise in prop::collection::vec(any::<u8>(), 0..200), flags in any::<u16>()) {
        let _ = (unpack_series(&noise, 0), unpack_series(&noise, 1));
        let _ = decode_samples(&noise, flags);
        let _ = super::segment::record_at(&noise, 0);
    }

    #[test]
    fn histograms_survive_encoding(samples in prop::collection::vec((any_sample(), any_histogram()), 1..10)) {
        let samples: Vec<_> = samples.into_iter().map(|(sample, histogram)| (sample, Arc::new(histogram))).collect();
        let mut payload = Vec::new();
        let flags = encode_histograms(&samples, &mut payload);
        let Some(Record::Histograms(back)) = decode_histograms(&payload, flags) else { panic!("must decode") };
        prop_assert_eq!(back.len(), samples.len());
        for ((sample, histogram), (expected, expected_histogram)) in back.iter().zip(&samples) {
            prop_assert_eq!(sample, expected);
            prop_assert_eq!(histogram, &**expected_histogram);
        }
        for end in 0..payload.len() {
            prop_assert_eq!(decode_histograms(&payload[..end], flags), None);
        }
    }
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let spans = || prop::collection::vec((any::<i32>(), any::<u32>()), 0..4);
    let floats = || prop::collection::vec(-1e9..1e9, 0..6);
    (any::<i32>(), spans(), floats(), spans(), floats(), floats(), 0..4usize).prop_map(
        |(schema, positive_spans, positive, negative_spans, negative, bounds, hint)| {
            let span = |(offset, length)| Span { offset, length };
            Histogram {
                schema,
                counter_reset_hint: [
                    CounterResetHint::Unknown,
                    CounterResetHint::Reset,
                    CounterResetHint::NotReset,
                    CounterResetHint::Gauge,
                ][hint],
                zero_threshold: 1e-128,
                zero_count: 3.0,
                count: 12.5,
                sum: -0.25,
                positive_spans: positive_spans.into_iter().map(span).collect(),
                positive,
                negative_spans: negative_spans.into_iter().map(span).collect(),
                negative,
                custom_bounds: bounds.into(),
            }
        },
    )
}
