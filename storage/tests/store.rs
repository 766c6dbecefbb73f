//! A store over a real directory, as the rest of the program uses it.

use std::sync::Arc;

use pilaster_model::histogram::Span;
use pilaster_model::{Histogram, Labels, MatchOp, Matcher, TimeRange, stale_nan};
use pilaster_storage::env::Env;
use pilaster_storage::env::sim::Sim;
use pilaster_storage::{
    AppendOutcome, Error, HistogramSample, RejectReason, Rejected, RetentionLimits, Sample, SeriesRef, Snapshot, Store,
    StoreOptions,
};

fn labels(metric: &str, number: usize) -> Labels {
    Labels::from_pairs([("__name__", metric.to_owned()), ("instance", format!("i{number}")), ("job", "j".to_owned())])
}

fn sample(series: SeriesRef, timestamp_ms: i64, value: f64) -> Sample {
    Sample { series, timestamp_ms, value, start_ms: None }
}

fn options(dir: &tempfile::TempDir) -> StoreOptions {
    StoreOptions { block_ms: 1000, ..StoreOptions::new(dir.path()) }
}

fn open(options: &StoreOptions) -> Arc<Store> {
    Store::open(options.clone(), Env::real()).unwrap()
}

/// All samples as `(labels, timestamp, bits)`.
fn all(snapshot: &Snapshot) -> Vec<(String, i64, u64)> {
    let series = snapshot.select(&[], TimeRange::ALL).unwrap();
    let samples = snapshot.read_many(&series, TimeRange::ALL).unwrap();
    let rows = series.iter().zip(&samples).flat_map(|(series, samples)| {
        let values = samples.timestamps.iter().zip(&samples.values);
        values.map(|(&timestamp_ms, value)| (series.labels.to_string(), timestamp_ms, value.to_bits()))
    });
    rows.collect()
}

#[test]
fn samples_are_read_back_from_head_block_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir);
    let store = open(&options);
    let series: Vec<_> = (0..20).map(|number| store.series(&labels("m", number))).collect();
    for step in 0..100i64 {
        let batch: Vec<_> = series.iter().map(|&series| sample(series, step * 50, step as f64 * 0.1)).collect();
        assert_eq!(store.append(&batch).unwrap(), AppendOutcome { appended: 20, rejected: vec![] });
    }
    store.append(&[sample(series[3], 5000, stale_nan()), sample(series[4], 5000, -0.0)]).unwrap();
    let before = store.snapshot();
    let expected = all(&before);
    assert_eq!(expected.len(), 2002);
    assert!(expected.contains(&(labels("m", 3).to_string(), 5000, 0x7ff0_0000_0000_0002)));

    store.maintain().unwrap();
    assert!(store.stats().blocks > 0 && store.stats().head_min_ms == Some(4000), "{:?}", store.stats());
    assert_eq!(all(&before), expected);
    assert_eq!(all(&store.snapshot()), expected);
    drop(store);
    let store = open(&options);
    assert_eq!(all(&store.snapshot()), expected);
    assert_eq!(all(&before), expected);
    store.flush().unwrap();
    drop(before);
    assert_eq!(all(&store.snapshot()), expected);
    store.maintain().unwrap();
    assert_eq!(all(&store.snapshot()), expected);
    assert_eq!(store.stats().head_samples, 0);
    drop(store);
    assert_eq!(all(&open(&options).snapshot()), expected);
}

/// More block ranges than are written at once, in another order for each series.
#[test]
fn a_flush_of_many_block_ranges_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { out_of_order_ms: i64::MAX, block_samples: 40, ..options(&dir) };
    let store = open(&options);
    store.append(&[sample(store.series(&labels("m", 99)), 50_000, 1.0)]).unwrap();
    for number in 0..10 {
        let metric = ["m", "n", ""][number % 3];
        let series = store.series(&labels(metric, number));
        // 30 ranges, and one far away from them.
        let times = (0..300i64).map(|step| (step * 7 + number as i64 * 31) % 300 * 100).chain([-9_000_000_123]);
        let batch: Vec<_> = times.map(|ms| sample(series, ms, ms as f64 + number as f64 / 4.0)).collect();
        assert_eq!(store.append(&batch).unwrap().appended, 301);
    }
    let expected = all(&store.snapshot());
    assert_eq!(expected.len(), 3011);
    store.flush().unwrap();
    assert_eq!(store.stats().head_samples, 0);
    let snapshot = store.snapshot();
    assert!(snapshot.blocks().len() > 60, "{} blocks", snapshot.blocks().len());
    for block in snapshot.blocks() {
        let meta = block.meta();
        assert_eq!(meta.min_ms.div_euclid(1000), meta.max_ms.div_euclid(1000), "{meta:?}");
        assert!(meta.sample_count <= 50, "{meta:?}");
    }
    assert_eq!(all(&snapshot), expected);
    drop((snapshot, store));
    assert_eq!(all(&open(&options).snapshot()), expected);
}

#[test]
fn what_prometheus_refuses_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&options(&dir));
    let series = store.series(&labels("m", 1));
    store.append(&[sample(series, 1000, 1.0)]).unwrap();
    let outcome = store
        .append(&[
            sample(series, 1000, 1.0),
            sample(series, 1000, 2.0),
            sample(series, 999, 1.0),
            sample(SeriesRef::from_raw(u64::MAX), 2000, 1.0),
            sample(series, 1001, 3.0),
        ])
        .unwrap();
    let rejected = |index, reason| Rejected { index, reason };
    assert_eq!(outcome.appended, 2);
    assert_eq!(
        outcome.rejected,
        [
            rejected(1, RejectReason::DuplicateDifferentValue),
            rejected(2, RejectReason::OutOfOrder),
            rejected(3, RejectReason::UnknownSeries)
        ]
    );
    store.flush().unwrap();
    let other = store.series(&labels("m", 2));
    let outcome = store.append(&[sample(other, 500, 1.0), sample(other, 1002, 1.0)]).unwrap();
    assert_eq!(outcome.rejected, [rejected(0, RejectReason::TooOld)]);
}

#[test]
fn late_samples_within_the_window_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { out_of_order_ms: 5000, ..options(&dir) };
    let store = open(&options);
    let series = store.series(&labels("m", 1));
    for timestamp_ms in (0..8000).step_by(100) {
        store.append(&[sample(series, timestamp_ms, timestamp_ms as f64)]).unwrap();
    }
    store.maintain().unwrap();
    let late: Vec<_> = (3050..7950).step_by(100).map(|ms| sample(series, ms, ms as f64)).collect();
    assert_eq!(store.append(&late).unwrap().rejected, []);
    let outcome = store.append(&[sample(series, 2000, 5.0), sample(series, 3050, 3050.0), sample(series, 3050, 1.0)]);
    let reasons: Vec<_> = outcome.unwrap().rejected.iter().map(|r| r.reason).collect();
    assert_eq!(reasons, [RejectReason::TooOld, RejectReason::DuplicateDifferentValue]);
    let expected = all(&store.snapshot());
    assert_eq!(expected.len(), 80 + 49);
    assert!(expected.is_sorted());
    for _ in 0..2 {
        store.flush().unwrap();
        assert_eq!(all(&store.snapshot()), expected);
        store.maintain().unwrap();
        assert_eq!(all(&store.snapshot()), expected);
    }
    assert!(store.stats().compactions > 0);
    drop(store);
    assert_eq!(all(&open(&options).snapshot()), expected);
}

#[test]
fn series_are_selected_by_all_kinds_of_matchers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&options(&dir));
    let sets = [
        vec![("__name__", "a"), ("x", "1")],
        vec![("__name__", "a"), ("x", "2"), ("y", "p")],
        vec![("__name__", "b"), ("x", "2")],
        vec![("__name__", "b")],
    ];
    let sets: Vec<Labels> = sets.into_iter().map(Labels::from_pairs).collect();
    let check = |store: &Store| {
        let cases = [
            (MatchOp::Equal, "x", "2"),
            (MatchOp::Equal, "x", ""),
            (MatchOp::NotEqual, "x", "2"),
            (MatchOp::NotEqual, "x", ""),
            (MatchOp::Regex, "x", "1|2"),
            (MatchOp::Regex, "x", ".*"),
            (MatchOp::Regex, "x", ".+"),
            (MatchOp::Regex, "x", "1|"),
            (MatchOp::Regex, "__name__", "a.*"),
            (MatchOp::NotRegex, "x", "1|2"),
            (MatchOp::NotRegex, "x", "1.*"),
            (MatchOp::NotRegex, "nope", "z"),
            (MatchOp::Equal, "nope", "z"),
        ];
        for first in cases {
            for second in cases {
                let matchers = [first, second].map(|(op, name, value)| Matcher::new(op, name, value).unwrap());
                let found = store.snapshot().select(&matchers, TimeRange::ALL).unwrap();
                let found: Vec<_> = found.into_iter().map(|series| series.labels).collect();
                let mut expected = sets.clone();
                expected.retain(|labels| matchers.iter().all(|matcher| matcher.matches_labels(labels)));
                expected.sort();
                assert_eq!(found, expected, "{matchers:?}");
            }
        }
        let snapshot = store.snapshot();
        assert_eq!(snapshot.label_names(&[], TimeRange::ALL).unwrap(), ["__name__", "x", "y"]);
        assert_eq!(snapshot.label_values("x", &[], TimeRange::ALL).unwrap(), ["1", "2"]);
        let only_b = [Matcher::equal("__name__", "b")];
        assert_eq!(snapshot.label_names(&only_b, TimeRange::ALL).unwrap(), ["__name__", "x"]);
        assert_eq!(snapshot.label_values("x", &only_b, TimeRange::ALL).unwrap(), ["2"]);
    };
    for labels in &sets {
        store.append(&[sample(store.series(labels), 1, 1.0)]).unwrap();
    }
    check(&store);
    assert!(store.snapshot().select(&[], TimeRange::new(2, 100)).unwrap().is_empty());
    store.flush().unwrap();
    check(&store);
    let again = store.series(&sets[0]);
    store.append(&[sample(again, 5, 1.0)]).unwrap();
    check(&store);
}

#[test]
fn a_snapshot_does_not_see_what_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&StoreOptions { out_of_order_ms: 100_000, ..options(&dir) });
    let series = store.series(&labels("m", 1));
    let mut snapshots = Vec::new();
    for step in 0..200i64 {
        store.append(&[sample(series, step * 20, step as f64)]).unwrap();
        if step % 3 == 0 {
            store.append(&[sample(series, step * 20 - 7, 0.5)]).unwrap();
        }
        let snapshot = store.snapshot();
        snapshots.push((all(&snapshot), snapshot));
        if step % 50 == 49 {
            store.maintain().unwrap();
        }
        if step % 70 == 69 {
            store.flush().unwrap();
        }
    }
    for (expected, snapshot) in &snapshots {
        assert_eq!(&all(snapshot), expected);
    }
    drop(snapshots);
    store.maintain().unwrap();
    store.flush().unwrap();
    assert_eq!(store.stats().head_samples, 0);
}

#[test]
fn start_timestamps_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir);
    let store = open(&options);
    let series = store.series(&labels("m", 1));
    for step in 0..100i64 {
        let start_ms = (step >= 40).then_some(777);
        store.append(&[Sample { series, timestamp_ms: step * 30, value: 1.0, start_ms }]).unwrap();
    }
    let check = |store: &Store| {
        let snapshot = store.snapshot();
        let found = snapshot.select(&[], TimeRange::ALL).unwrap();
        let starts = snapshot.read(&found[0], TimeRange::ALL).unwrap().starts_ms.unwrap();
        let expected: Vec<i64> = (0..100).map(|step| if step >= 40 { 777 } else { 0 }).collect();
        assert_eq!(starts, expected);
        let early = snapshot.read(&found[0], TimeRange::new(0, 300)).unwrap();
        assert_eq!((early.values.len(), early.starts_ms), (11, None));
    };
    check(&store);
    drop(store);
    let store = open(&options);
    check(&store);
    store.flush().unwrap();
    check(&store);
}

#[test]
fn series_of_one_target_share_their_timestamps() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&options(&dir));
    let series: Vec<_> = (0..10).map(|number| store.series(&labels("m", number))).collect();
    for step in 0..40i64 {
        let batch: Vec<_> = series.iter().map(|&series| sample(series, step * 100, 1.0)).collect();
        store.append(&batch).unwrap();
    }
    store.maintain().unwrap();
    let snapshot = store.snapshot();
    let found = snapshot.select(&[], TimeRange::ALL).unwrap();
    let read = snapshot.read_many(&found, TimeRange::ALL).unwrap();
    assert!(read.iter().all(|samples| Arc::ptr_eq(&samples.timestamps, &read[0].timestamps)));
    assert_eq!(read[0].timestamps.len(), 40);
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir);
    let store = open(&options);
    assert!(matches!(Store::open(options.clone(), Env::real()), Err(Error::Locked { .. })));
    drop(store);
    open(&options);
}

#[test]
fn idle_series_are_forgotten_and_come_back() {
    let sim = Sim::new(1);
    let options = StoreOptions { block_ms: 1000, ..StoreOptions::new("/data") };
    let store = Store::open(options, sim.env()).unwrap();
    let old = store.series(&labels("m", 1));
    store.append(&[sample(old, 100, 1.0)]).unwrap();
    let other = store.series(&labels("m", 2));
    for timestamp_ms in (0..10_000).step_by(500) {
        store.append(&[sample(other, timestamp_ms, 1.0)]).unwrap();
    }
    for (now_ms, series) in [(1000, 2), (60_999, 2), (61_000, 1)] {
        sim.set_now_ms(now_ms);
        store.maintain().unwrap();
        assert_eq!(store.stats().series, series);
    }
    let outcome = store.append(&[sample(old, 20_000, 1.0)]).unwrap();
    assert_eq!(outcome.rejected[0].reason, RejectReason::UnknownSeries);
    let again = store.series(&labels("m", 1));
    assert_ne!(old, again);
    assert_eq!(store.append(&[sample(again, 20_000, 2.0)]).unwrap().appended, 1);
    let rows = all(&store.snapshot());
    assert_eq!(rows.iter().filter(|row| row.0 == labels("m", 1).to_string()).count(), 2);
}

#[test]
fn the_log_is_cut_and_blocks_expire() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { retention: RetentionLimits::of_ms(20_000), wal_segment_bytes: 2000, ..options(&dir) };
    let store = open(&options);
    let series = store.series(&labels("m", 1));
    for timestamp_ms in (0..60_000).step_by(100) {
        store.append(&[sample(series, timestamp_ms, 1.5)]).unwrap();
        if timestamp_ms % 2000 == 0 {
            store.maintain().unwrap();
        }
    }
    let stats = store.stats();
    assert!(stats.wal_bytes < 12_000, "{stats:?}");
    assert!(stats.blocks_expired > 0 && stats.blocks_min_ms > Some(35_000), "{stats:?}");
    let files = || std::fs::read_dir(dir.path().join("wal")).unwrap().count() as u64;
    assert_eq!(files(), stats.wal_segments);
    assert_eq!(all(&store.snapshot()).last().unwrap().1, 59_900);
}

#[test]
fn a_day_of_many_series_stands_in_few_blocks_each_with_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { block_samples: 250, ..options(&dir) };
    let store = open(&options);
    let series: Vec<_> = (0..40).map(|number| store.series(&labels("m", number))).collect();
    for timestamp_ms in (0..14_000).step_by(100) {
        let batch: Vec<_> = series.iter().map(|&series| sample(series, timestamp_ms, timestamp_ms as f64)).collect();
        store.append(&batch).unwrap();
        if timestamp_ms % 500 == 0 {
            store.maintain().unwrap();
        }
    }
    store.maintain().unwrap();
    let stats = store.stats();
    assert!(stats.compactions > 0 && stats.blocks < 60, "{stats:?}");
    let snapshot = store.snapshot();
    let found = snapshot.select(&[], TimeRange::new(0, 11_999)).unwrap();
    let plan = snapshot.plan(&[Matcher::equal("instance", "i7")], TimeRange::new(0, 11_999)).unwrap();
    assert_eq!((found.len(), plan.blocks_read), (40, 1));
    assert_eq!(all(&snapshot).len(), 40 * 140);
}

#[test]
fn deleted_samples_are_hidden_at_once_and_then_gone() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir);
    let mut store = open(&options);
    let series: Vec<_> = (0..3).map(|number| store.series(&labels("m", number))).collect();
    for timestamp_ms in (0..4000).step_by(100) {
        let batch: Vec<_> = series.iter().map(|&series| sample(series, timestamp_ms, 1.0)).collect();
        store.append(&batch).unwrap();
    }
    store.maintain().unwrap();
    assert!(store.stats().blocks > 0 && store.stats().head_samples > 0);
    let before = store.snapshot();
    store.delete(&[Matcher::equal("instance", "i1")], TimeRange::new(500, 3500)).unwrap();
    store.delete(&[Matcher::equal("instance", "i2")], TimeRange::ALL).unwrap();
    store.delete(&[Matcher::equal("instance", "nope")], TimeRange::ALL).unwrap();
    assert_eq!(all(&before).len(), 120);
    drop(before);
    let mut expected = all(&store.snapshot());
    assert_eq!(expected.len(), 40 + 9);
    for step in 0..6 {
        match step {
            0 => store = reopened(store, &options),
            1 | 4 => store.clean_tombstones().unwrap(),
            2 => {
                let again = store.series(&labels("m", 0));
                store.append(&[sample(again, 4000, 1.0)]).unwrap();
                expected = all(&store.snapshot());
            }
            3 => store.flush().unwrap(),
            _ => store.maintain().unwrap(),
        }
        assert_eq!(all(&store.snapshot()), expected, "step {step}");
        // One block with all of it says of each series where it begins and ends.
        let found = store.snapshot().select(&[], TimeRange::new(1000, 3000)).unwrap().len();
        assert_eq!(found, if step < 5 { 1 } else { 2 }, "step {step}");
    }
    assert_eq!(store.stats().block_samples, expected.len() as u64);
    let again = store.series(&labels("m", 2));
    store.append(&[sample(again, 5000, 1.0)]).unwrap();
    assert_eq!(all(&store.snapshot()).len(), expected.len() + 1);
}

fn reopened(store: Arc<Store>, options: &StoreOptions) -> Arc<Store> {
    drop(store);
    open(options)
}

#[test]
fn a_damaged_or_missing_index_is_made_again() {
    let sim = Sim::new(1);
    let options = StoreOptions { block_ms: 1000, ..StoreOptions::new("/data") };
    let store = Store::open(options.clone(), sim.env()).unwrap();
    for number in 0..5 {
        let series = store.series(&labels("m", number));
        store.append(&(0..40).map(|step| sample(series, step * 100, step as f64)).collect::<Vec<_>>()).unwrap();
    }
    store.flush().unwrap();
    let expected = all(&store.snapshot());
    drop(store);
    let files = sim.env().files;
    let paths = files.list_tree("/data/samples".as_ref()).unwrap();
    let indexes: Vec<_> = paths.iter().filter(|path| path.extension().is_some_and(|e| e == "index")).collect();
    assert!(indexes.len() > 2);
    sim.flip_bit(indexes[0], 50, 3);
    files.remove(indexes[1]).unwrap();
    for _ in 0..2 {
        let store = Store::open(options.clone(), sim.env()).unwrap();
        assert_eq!(all(&store.snapshot()), expected);
    }
}

#[test]
fn the_oldest_blocks_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&dir);
    let fill = |store: &Store, range: std::ops::Range<i64>| {
        let series = store.series(&labels("m", 1));
        for timestamp_ms in range.step_by(50) {
            store.append(&[sample(series, timestamp_ms, (timestamp_ms as f64).sin())]).unwrap();
        }
        store.maintain().unwrap();
    };
    let store = open(&options);
    fill(&store, 0..30_000);
    let before = store.stats();
    drop(store);
    let limit_bytes = before.wal_bytes + before.block_bytes / 2;
    options.retention.bytes = Some(limit_bytes);
    let store = open(&options);
    store.maintain().unwrap();
    let after = store.stats();
    assert!(after.block_bytes + after.wal_bytes <= limit_bytes && after.blocks > 0, "{after:?}");
    assert!(after.blocks_min_ms > before.blocks_min_ms && after.blocks_max_ms == before.blocks_max_ms, "{after:?}");
    assert_eq!(all(&store.snapshot()).last().unwrap().1, 29_950);
}

#[test]
fn histograms_are_kept_beside_floats() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { out_of_order_ms: 10_000, ..options(&dir) };
    let store = open(&options);
    let series = store.series(&labels("m", 1));
    let histogram = |count: f64| {
        let positive_spans = vec![Span { offset: -2, length: 2 }, Span { offset: 5, length: 1 }];
        let positive = vec![count / 2.0, count / 4.0, count / 4.0];
        Arc::new(Histogram { schema: 3, count, sum: count * 1.1, positive_spans, positive, ..Histogram::default() })
    };
    for step in 0..90i64 {
        let timestamp_ms = step * 40;
        if step % 3 == 0 {
            store.append(&[sample(series, timestamp_ms, step as f64)]).unwrap();
        } else {
            let one = HistogramSample { series, timestamp_ms, histogram: histogram(step as f64), start_ms: Some(5) };
            assert_eq!(store.append_histograms(&[one.clone(), one]).unwrap().appended, 2);
        }
    }
    let late = HistogramSample { series, timestamp_ms: 33, histogram: histogram(1.0), start_ms: None };
    store.append_histograms(&[late]).unwrap();
    let outcome = store.append(&[sample(series, 89 * 40, 0.0)]).unwrap();
    assert_eq!(outcome.rejected[0].reason, RejectReason::DuplicateDifferentValue);
    let check = |store: &Store| {
        let snapshot = store.snapshot();
        let found = snapshot.select(&[], TimeRange::ALL).unwrap();
        let read = snapshot.read(&found[0], TimeRange::ALL).unwrap();
        let histograms = read.histograms.unwrap();
        assert_eq!(histograms.len(), 91);
        for (at, &timestamp_ms) in read.timestamps.iter().enumerate() {
            let step = timestamp_ms / 40;
            match timestamp_ms {
                33 => assert_eq!(histograms[at], Some(histogram(1.0))),
                _ if step % 3 == 0 => assert_eq!((read.values[at], &histograms[at]), (step as f64, &None)),
                _ => assert_eq!(histograms[at], Some(histogram(step as f64))),
            }
        }
    };
    check(&store);
    drop(store);
    let store = open(&options);
    check(&store);
    store.maintain().unwrap();
    check(&store);
    store.flush().unwrap();
    check(&store);
    store.maintain().unwrap();
    assert_eq!(store.stats().head_samples, 0);
    check(&store);
}

/// What blocks hold is not logged again: a deletion there would not reach it.
#[test]
fn a_sample_that_was_sent_again_after_a_flush_stays_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir);
    let store = open(&options);
    let series = store.series(&labels("m", 1));
    store.append(&[sample(series, 500, 1.0)]).unwrap();
    store.flush().unwrap();
    assert_eq!(store.append(&[sample(series, 500, 1.0)]).unwrap(), AppendOutcome { appended: 1, rejected: vec![] });
    store.delete(&[Matcher::equal("__name__", "m")], TimeRange::new(500, 500)).unwrap();
    assert_eq!(all(&store.snapshot()), []);
    // Behind the deletion in the log, so only not logging it keeps it away.
    assert_eq!(store.append(&[sample(series, 500, 1.0)]).unwrap().appended, 1);
    assert_eq!(all(&store.snapshot()), []);
    drop(store);
    assert_eq!(all(&open(&options).snapshot()), []);
}
