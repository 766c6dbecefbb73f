//! The store against a map: any sequence of calls gives the same answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pilaster_model::{LabelKey, Labels, Matcher, SeriesGroups, TimeRange};
use pilaster_storage::env::objects::sim::Bucket;
use pilaster_storage::env::sim::Sim;
use pilaster_storage::{
    ObjectOptions, Occasion, RejectReason, Sample, SelectedSeries, SeriesSamples, Snapshot, Store, StoreOptions,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    /// `(series, distance to now, value)`.
    Append(Vec<(usize, i64, u8)>),
    Wait(i64),
    Flush,
    /// Series, and the range before now.
    Delete(usize, i64, i64),
    Clean,
    Maintain,
    /// Takes a head snapshot.
    Save,
    /// With the head snapshot, or as if there were none.
    Reopen(bool),
    Keep,
    Drop,
}

fn any_call() -> impl Strategy<Value = Call> {
    let sample = (0..4usize, prop_oneof![3 => Just(0i64), 1 => 0..3000i64], 0..3u8);
    prop_oneof![
        12 => prop::collection::vec(sample, 1..6).prop_map(Call::Append),
        8 => (0..700i64).prop_map(Call::Wait),
        1 => Just(Call::Flush),
        1 => (0..4usize, 0..4000i64, -1000..4000i64).prop_map(|(series, from, to)| Call::Delete(series, from, to)),
        1 => Just(Call::Clean),
        2 => Just(Call::Maintain),
        1 => Just(Call::Save),
        1 => any::<bool>().prop_map(Call::Reopen),
        2 => Just(Call::Keep),
        1 => Just(Call::Drop),
    ]
}

type Samples = BTreeMap<(usize, i64), u64>;

/// What the store should hold.
#[derive(Default)]
struct Twin {
    samples: Samples,
    last: BTreeMap<usize, i64>,
    /// All that was taken: where a block has the first value, the head does not know it and takes another, unseen.
    taken: BTreeMap<(usize, i64), BTreeSet<u64>>,
    /// What comes there again may be hidden or not: until the head is flushed it is.
    deleted: Vec<(usize, TimeRange)>,
    /// Of all that ever was there.
    newest_ms: i64,
    /// The same as far as a store that was opened again can know: what was deleted is forgotten then.
    known_newest_ms: i64,
}

impl Twin {
    /// The newest samples may have been deleted: who opens the store again does not know that they ever were.
    fn forget_deleted(&mut self) {
        let deleted = |number: usize, ms: i64| self.deleted.iter().any(|(n, range)| *n == number && range.contains(ms));
        self.last.retain(|number, ms| !deleted(*number, *ms));
        for (number, ms) in self.samples.keys() {
            self.last.entry(*number).and_modify(|last| *last = (*last).max(*ms)).or_insert(*ms);
        }
        self.known_newest_ms = self.samples.keys().map(|(_, ms)| *ms).max().unwrap_or(i64::MIN);
    }
}

fn labels(series: usize) -> Labels {
    Labels::from_pairs([("__name__", ["a", "b"][series % 2].to_owned()), ("series", series.to_string())])
}

/// `groups`, where there are some, are those of the labels of `found`.
fn check_groups(groups: Option<SeriesGroups>, key: LabelKey<'_>, found: &[SelectedSeries]) {
    let Some(groups) = groups else { return };
    let mut known: Vec<Labels> = Vec::new();
    let mut expected = SeriesGroups::default();
    for (position, series) in (0..).zip(found) {
        let held = key.labels(&series.labels);
        let group = known.iter().position(|labels| *labels == held).unwrap_or(known.len());
        if group == known.len() {
            known.push(held);
            expected.firsts.push(position);
        }
        expected.group_of.push(group as u32);
    }
    assert_eq!(groups, expected);
}

fn read(snapshot: &Snapshot, range: TimeRange) -> Samples {
    let found = snapshot.select(&[], range).unwrap();
    assert!(found.is_sorted_by(|a, b| a.labels < b.labels));
    let many = snapshot.read_many(&found, range).unwrap();
    let selection = snapshot.find(&[], range).unwrap();
    let all: Vec<u32> = (0..found.len() as u32).collect();
    // Small groups of labels first: once all labels are made, they are not made by position any more.
    let some: Vec<u32> = all.iter().copied().step_by(3).rev().collect();
    assert!(selection.labels_at(&some).iter().eq(some.iter().map(|&at| &found[at as usize].labels)));
    for names in [&[][..], &["__name__".to_owned()], &["series".to_owned(), "none".to_owned()]] {
        for key in [LabelKey::With(names), LabelKey::Without(names)] {
            check_groups(selection.groups(key), key, &found);
            let metric = [Matcher::equal("__name__", "a")];
            let some = snapshot.select(&metric, range).unwrap();
            check_groups(snapshot.find(&metric, range).unwrap().groups(key), key, &some);
        }
    }
    assert!(selection.labels().iter().eq(found.iter().map(|series| &series.labels)));
    let mut order = selection.reading_order().unwrap_or_else(|| all.clone());
    let in_order = selection.read(&order, range).unwrap();
    for (&at, read) in order.iter().zip(&in_order) {
        assert_eq!(many[at as usize], *read);
    }
    order.sort_unstable();
    assert!(order.into_iter().eq(0..found.len() as u32));
    let mut newest: Vec<(u32, i64, u64)> = Vec::new();
    if selection.newest(&all, range, |at, ms, value| newest.push((at, ms, value.to_bits()))) {
        let last =
            |(at, read): (u32, &SeriesSamples)| Some((at, *read.timestamps.last()?, read.values.last()?.to_bits()));
        assert_eq!(newest, (0..).zip(&many).filter_map(last).collect::<Vec<_>>());
    }
    let mut samples = Samples::new();
    for (series, read) in found.iter().zip(&many) {
        let alone = snapshot.read(series, range).unwrap();
        assert_eq!(alone.timestamps, read.timestamps);
        assert!(read.timestamps.is_sorted_by(|a, b| a < b));
        let number: usize = series.labels.get("series").parse().unwrap();
        for (&timestamp_ms, value) in read.timestamps.iter().zip(&read.values) {
            assert!(range.contains(timestamp_ms));
            samples.insert((number, timestamp_ms), value.to_bits());
        }
    }
    samples
}

fn check_calls(calls: Vec<Call>, out_of_order_ms: i64, block_samples: u64) {
    check_calls_at(calls, out_of_order_ms, block_samples, false);
}

/// In the data directory, or `far` away in an object store.
fn check_calls_at(calls: Vec<Call>, out_of_order_ms: i64, block_samples: u64, far: bool) {
    let sim = Sim::new(1);
    let objects = far.then(|| ObjectOptions {
        keep_removed_ms: 50_000,
        cache_bytes: 1 << 20,
        ..ObjectOptions::new(Bucket::new().seen_from(&sim, "p"))
    });
    let options = StoreOptions {
        blocks: objects,
        block_ms: 1000,
        out_of_order_ms,
        wal_segment_bytes: 300,
        block_samples,
        shards: 2,
        // Nothing stays open that nobody reads.
        index_bytes: if far { 0 } else { 1 << 30 },
        ..StoreOptions::new("/data")
    };
    let mut store = Store::open(options.clone(), sim.env()).unwrap();
    let mut twin = Twin { newest_ms: i64::MIN, known_newest_ms: i64::MIN, ..Twin::default() };
    let mut kept: Vec<(Samples, Snapshot)> = Vec::new();
    let mut now_ms = 500;
    for call in calls {
        match call {
            Call::Append(samples) => append(&store, &mut twin, out_of_order_ms, now_ms, samples),
            Call::Wait(ms) => {
                now_ms += ms;
                // Much faster than the samples, so that idle series are forgotten.
                sim.set_now_ms(now_ms * 100);
            }
            Call::Flush => store.flush().unwrap(),
            Call::Delete(series, from, to) => {
                let range = TimeRange::new(now_ms - from, now_ms - to);
                store.delete(&[Matcher::equal("series", &series.to_string())], range).unwrap();
                twin.samples.retain(|(number, ms), _| *number != series || !range.contains(*ms));
                let newest_ms = twin.samples.keys().map(|(_, ms)| *ms).max().unwrap_or(i64::MIN);
                twin.deleted
                    .push((series, TimeRange::new(range.min_ms, range.max_ms.min(newest_ms.max(twin.newest_ms)))));
            }
            Call::Clean => store.clean_tombstones().unwrap(),
            Call::Maintain => store.maintain().unwrap(),
            Call::Save => drop(store.save_head(Occasion::Asked).unwrap()),
            Call::Reopen(with_snapshot) => {
                // Snapshots outlive a store, though not what a later one does to its files.
                kept.clear();
                drop(store);
                if !with_snapshot {
                    let _ = sim.env().files.remove(Path::new("/data/wal/head.snapshot"));
                }
                store = Store::open(options.clone(), sim.env()).unwrap();
                twin.forget_deleted();
            }
            Call::Keep => kept.push((twin.samples.clone(), store.snapshot())),
            Call::Drop => {
                kept.pop();
            }
        }
        assert_eq!(read(&store.snapshot(), TimeRange::ALL), twin.samples);
    }
    for (expected, snapshot) in &kept {
        assert_eq!(&read(snapshot, TimeRange::ALL), expected);
        for range in [TimeRange::new(900, 2100), TimeRange::new(1000, 1000), TimeRange::new(5, 1)] {
            let mut part = expected.clone();
            part.retain(|(_, timestamp_ms), _| range.contains(*timestamp_ms));
            assert_eq!(read(snapshot, range), part);
        }
    }
}

fn append(store: &Arc<Store>, twin: &mut Twin, out_of_order_ms: i64, now_ms: i64, samples: Vec<(usize, i64, u8)>) {
    let deleted = |number: usize, ms: i64| twin.deleted.iter().any(|(n, range)| *n == number && range.contains(ms));
    let samples: Vec<_> = samples.iter().copied().filter(|s| !deleted(s.0, now_ms - s.1)).collect();
    let batch: Vec<_> = samples
        .iter()
        .map(|&(number, before_ms, value)| Sample {
            series: store.series(&labels(number)),
            timestamp_ms: now_ms - before_ms,
            value: f64::from(value),
            start_ms: None,
        })
        .collect();
    let newest_ms = (!twin.taken.is_empty()).then_some(twin.newest_ms);
    let known_newest_ms = newest_ms.map(|_| twin.known_newest_ms);
    let outcome = store.append(&batch).unwrap();
    let mut rejected: BTreeMap<usize, RejectReason> = outcome.rejected.iter().map(|r| (r.index, r.reason)).collect();
    assert_eq!(outcome.appended + rejected.len(), batch.len());
    for (index, (&(number, ..), sample)) in samples.iter().zip(&batch).enumerate() {
        let key = (number, sample.timestamp_ms);
        let verdict = rejected.remove(&index);
        let there = twin.samples.get(&key).copied();
        let last = twin.last.get(&number).copied();
        if verdict.is_none() {
            twin.taken.entry(key).or_default().insert(sample.value.to_bits());
        }
        match (verdict, there) {
            // Taken: the first value stays.
            (None, Some(_)) => {}
            (None, None) => {
                let in_order = last.is_none_or(|last| sample.timestamp_ms > last);
                let oldest_ms = known_newest_ms.map_or(i64::MIN, |ms| ms.saturating_sub(out_of_order_ms));
                assert!(in_order || out_of_order_ms > 0, "took {key:?} out of order");
                assert!(in_order || sample.timestamp_ms >= oldest_ms, "took {key:?}, too old");
                twin.newest_ms = twin.newest_ms.max(sample.timestamp_ms);
                twin.known_newest_ms = twin.known_newest_ms.max(sample.timestamp_ms);
                twin.samples.insert(key, sample.value.to_bits());
                twin.last.insert(number, last.unwrap_or(i64::MIN).max(sample.timestamp_ms));
            }
            (Some(RejectReason::DuplicateDifferentValue), _) => {
                let other = |bits: &u64| *bits != sample.value.to_bits();
                assert!(twin.taken.get(&key).is_some_and(|taken| taken.iter().any(other)), "{key:?} is no duplicate");
            }
            (Some(RejectReason::OutOfOrder), _) => {
                assert!(out_of_order_ms == 0 && last.is_some_and(|last| sample.timestamp_ms < last), "{key:?}");
            }
            (Some(RejectReason::TooOld), _) => {
                let newest_ms = newest_ms.expect("nothing is too old for an empty store");
                assert!(sample.timestamp_ms <= newest_ms - out_of_order_ms, "{key:?} is not too old");
            }
            (Some(RejectReason::UnknownSeries), _) => panic!("the series was just asked for"),
        }
    }
}

/// A sample that is sent again after its flush stands in the log a second time.
#[test]
fn a_deleted_sample_does_not_come_back_from_the_log() {
    let append = || Call::Append(vec![(0, 0, 0)]);
    let reopen = || Call::Reopen(true);
    check_calls(vec![append(), Call::Flush, append(), Call::Delete(0, 0, 0), reopen(), Call::Flush, reopen()], 0, 1);
    // Hidden in the head and in the log, and taken again afterwards.
    check_calls(vec![append(), Call::Delete(0, 0, 0), reopen(), Call::Wait(1), append(), reopen()], 0, 1);
    // Nor from a head snapshot, taken before or afterwards.
    for saves in [[true, false], [false, true]] {
        let save = |wanted: bool| if wanted { Call::Save } else { Call::Wait(0) };
        check_calls(vec![append(), save(saves[0]), Call::Delete(0, 0, 0), save(saves[1]), reopen(), Call::Flush], 0, 1);
    }
}

/// Times before 1970 are times: the window of late samples goes by the newest, whatever its sign.
#[test]
fn late_samples_before_1970_are_taken() {
    let calls = vec![Call::Append(vec![(0, 662, 0)]), Call::Append(vec![(1, 0, 0), (0, 2501, 0)])];
    check_calls(calls, 2000, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map(calls in prop::collection::vec(any_call(), 1..60), late in any::<bool>(),
        block_samples in prop_oneof![Just(1u64), Just(20), Just(1 << 24)]) {
        check_calls(calls.clone(), if late { 2000 } else { 0 }, block_samples);
        check_calls_at(calls, if late { 2000 } else { 0 }, block_samples, true);
    }
}
