use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilaster_model::histogram::{CounterResetHint, Span};
use pilaster_model::{Histogram, Labels, Matcher, TimeRange, stale_nan};
use proptest::prelude::*;

use super::Occasion;
use crate::env::sim::Sim;
use crate::{Exemplar, HistogramSample, Metadata, Sample, SeriesSamples, Store, StoreOptions, WalSync};

const DIR: &str = "/data";

fn options() -> StoreOptions {
    StoreOptions {
        block_ms: 1000,
        out_of_order_ms: 3000,
        wal_segment_bytes: 400,
        snapshot_samples: 1,
        shards: 4,
        max_exemplars: 100,
        ..StoreOptions::new(DIR)
    }
}

fn snapshot_path() -> PathBuf {
    super::path(&Path::new(DIR).join("wal"))
}

fn labels(series: usize) -> Labels {
    let mut pairs = vec![("__name__", ["a", "b"][series % 2].to_owned()), ("series", series.to_string())];
    if series.is_multiple_of(3) {
        pairs.push(("ä", "ö".repeat(series + 1)));
    }
    Labels::from_pairs(pairs)
}

/// Another machine with the same files, but for those that `keep` does not want.
fn copy_of(sim: &Sim, keep: impl Fn(&Path) -> bool) -> Sim {
    let copy = Sim::new(5);
    let (from, to) = (sim.env().files, copy.env().files);
    for path in from.list_tree(Path::new(DIR)).unwrap().iter().filter(|path| keep(path)) {
        let mut file = to.create(path).unwrap();
        file.append(&from.read(path).unwrap()).unwrap();
        file.sync().unwrap();
        to.sync_dir(path.parent().unwrap()).unwrap();
    }
    copy
}

/// Timestamps, bits of values, start timestamps, histograms.
type Read = (Vec<i64>, Vec<u64>, Vec<Option<i64>>, Vec<Option<Histogram>>);

/// All that can be asked of a store.
#[derive(Debug, PartialEq)]
struct Everything {
    samples: Vec<(Labels, Read)>,
    names: Vec<String>,
    values: Vec<Vec<String>>,
    metadata: Vec<Metadata>,
    exemplars: Vec<(Labels, Vec<i64>)>,
    newest_ms: Option<i64>,
    series: u64,
}

fn everything(store: &Store) -> Everything {
    let snapshot = store.snapshot();
    let found = snapshot.select(&[], TimeRange::ALL).unwrap();
    let read = snapshot.read_many(&found, TimeRange::ALL).unwrap();
    let plain = |read: SeriesSamples| -> Read {
        let bits = read.values.iter().map(|value| value.to_bits()).collect();
        let starts = read.timestamps.iter().enumerate().map(|(at, _)| read.starts_ms.as_ref().map(|all| all[at]));
        let starts = starts.collect();
        let histograms = read.histograms.iter().flatten().map(|one| one.as_ref().map(|one| (**one).clone()));
        let histograms = histograms.collect();
        (read.timestamps.to_vec(), bits, starts, histograms)
    };
    let samples = found.iter().zip(read).map(|(series, read)| (series.labels.clone(), plain(read)));
    let names = snapshot.label_names(&[], TimeRange::ALL).unwrap();
    let values = names.iter().map(|name| snapshot.label_values(name, &[], TimeRange::ALL).unwrap()).collect();
    let exemplars = store.exemplars(&[vec![]], TimeRange::ALL).into_iter();
    Everything {
        samples: samples.collect(),
        values,
        names,
        metadata: store.metadata(),
        exemplars: exemplars.map(|of| (of.series, of.exemplars.iter().map(|one| one.timestamp_ms).collect())).collect(),
        newest_ms: store.stats().head_max_ms,
        series: store.stats().series,
    }
}

#[derive(Debug, Clone)]
enum Call {
    /// `(series, distance to now, kind of sample)`.
    Append(Vec<(usize, i64, u8)>),
    Wait(i64),
    /// Of a series without samples.
    Series(usize),
    Beside(usize),
    Flush,
    Maintain,
    Delete(usize, i64, i64),
    Save,
    Reopen,
}

fn any_call() -> impl Strategy<Value = Call> {
    let sample = (0..6usize, prop_oneof![3 => Just(0i64), 1 => 0..3000i64], 0..8u8);
    prop_oneof![
        12 => prop::collection::vec(sample, 1..6).prop_map(Call::Append),
        8 => (0..400i64).prop_map(Call::Wait),
        1 => (0..9usize).prop_map(Call::Series),
        1 => (0..6usize).prop_map(Call::Beside),
        1 => Just(Call::Flush),
        1 => Just(Call::Maintain),
        1 => (0..6usize, 0..2000i64, -500..2000i64).prop_map(|(series, from, to)| Call::Delete(series, from, to)),
        3 => Just(Call::Save),
        1 => Just(Call::Reopen),
    ]
}

fn histogram(kind: u8, sum: f64) -> Histogram {
    let custom = kind == 7;
    Histogram {
        counter_reset_hint: CounterResetHint::Unknown,
        schema: if custom { -53 } else { 2 },
        count: 7.0,
        sum,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive: vec![3.0, 4.0],
        custom_bounds: if custom { [1.0, 2.5].into() } else { [].into() },
        ..Histogram::default()
    }
}

fn append(store: &Store, now_ms: i64, samples: &[(usize, i64, u8)]) {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for &(number, before_ms, kind) in samples {
        let series = store.series(&labels(number));
        let timestamp_ms = now_ms - before_ms;
        let start_ms = (number == 2).then_some(timestamp_ms / 700 * 700);
        if number == 5 && kind > 1 {
            let histogram = Arc::new(histogram(kind, if kind == 2 { stale_nan() } else { f64::from(kind) }));
            histograms.push(HistogramSample { series, timestamp_ms, histogram, start_ms });
        } else {
            let value = [0.0, 1.0, 0.1, -0.0, f64::INFINITY, stale_nan(), 1e300, f64::from_bits(0x7ff8_dead_beef_0001)];
            floats.push(Sample { series, timestamp_ms, value: value[usize::from(kind)], start_ms });
        }
    }
    store.append_batch(&floats, &histograms).unwrap();
}

/// What a store finds that opens a copy of the files, with the snapshot and without. Returns whether the snapshot counted.
fn check(sim: &Sim, options: &StoreOptions) -> bool {
    let open = |keep: &dyn Fn(&Path) -> bool| Store::open(options.clone(), copy_of(sim, keep).env()).unwrap();
    let quick = open(&|_| true);
    let slow = open(&|path| path != snapshot_path());
    assert_eq!(slow.stats().restored_samples, 0);
    assert_eq!(everything(&quick), everything(&slow));
    // And they go on alike.
    for store in [&quick, &slow] {
        append(store, 1 << 40, &[(0, 0, 1), (5, 0, 7), (8, 0, 2)]);
        store.flush().unwrap();
        store.maintain().unwrap();
    }
    assert_eq!(everything(&quick), everything(&slow));
    quick.stats().restored_samples > 0
}

fn check_calls(calls: Vec<Call>, other_shards: bool) {
    let sim = Sim::new(1);
    let mut options = options();
    let mut store = Store::open(options.clone(), sim.env()).unwrap();
    let mut now_ms = 500;
    let mut deleted: Vec<(usize, TimeRange)> = Vec::new();
    for call in calls {
        match call {
            Call::Append(mut samples) => {
                // What comes to a deleted range while the head holds deleted samples may be hidden or not.
                let is_in =
                    |number: usize, ms: i64| deleted.iter().any(|(of, range)| *of == number && range.contains(ms));
                samples.retain(|&(number, before_ms, _)| !is_in(number, now_ms - before_ms));
                append(&store, now_ms, &samples);
            }
            Call::Wait(ms) => {
                now_ms += ms;
                sim.set_now_ms(now_ms * 100);
            }
            Call::Series(number) => drop(store.series(&labels(number))),
            Call::Beside(number) => {
                let labels = labels(number);
                store.set_metadata(&[Metadata::new("m", "counter", &format!("{now_ms}"), "")]).unwrap();
                let exemplar =
                    Exemplar { labels: labels.clone(), value: 1.0, timestamp_ms: now_ms, has_timestamp: true };
                store.append_exemplars(&[(store.series(&labels), exemplar)]).unwrap();
            }
            Call::Flush => store.flush().unwrap(),
            Call::Maintain => store.maintain().unwrap(),
            Call::Delete(number, from, to) => {
                let range = TimeRange::new(now_ms - from, now_ms - to);
                store.delete(&[Matcher::equal("series", &number.to_string())], range).unwrap();
                deleted.push((number, range));
            }
            Call::Save => {
                let saved = store.save_head(Occasion::Asked).unwrap();
                // Nothing came in between: it is used, unless all of it is in blocks.
                let is_used = check(&sim, &options);
                let replayed =
                    Store::open(options.clone(), copy_of(&sim, |path| path != snapshot_path()).env()).unwrap();
                assert_eq!(is_used, replayed.stats().head_samples > 0, "saved: {saved}");
            }
            Call::Reopen => {
                drop(store);
                if other_shards {
                    options.shards = 8 / options.shards;
                }
                store = Store::open(options.clone(), sim.env()).unwrap();
            }
        }
        if now_ms % 16 == 0 {
            check(&sim, &options);
        }
    }
    check(&sim, &options);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_are_the_log(
        calls in prop::collection::vec(any_call(), 1..50), other_shards in any::<bool>()
    ) {
        check_calls(calls, other_shards);
    }
}

/// A store with a bit of everything in its snapshot, and some more in its log.
fn filled() -> Sim {
    let sim = Sim::new(1);
    let store = Store::open(options(), sim.env()).unwrap();
    for step in 0..70 {
        append(&store, 1000 + step * 10, &[(0, 0, 1), (1, 0, (step % 8) as u8), (2, 0, 1), (5, 0, (step % 8) as u8)]);
    }
    append(&store, 1705, &[(0, 300, 1), (5, 404, 7)]);
    assert!(store.save_head(Occasion::Asked).unwrap());
    append(&store, 1800, &[(0, 0, 1), (4, 0, 1)]);
    drop(store);
    assert!(check(&sim, &options()), "the snapshot is used");
    sim
}

#[test]
fn a_damaged_snapshot_is_as_good_as_none() {
    let sim = filled();
    let path = snapshot_path();
    let length = sim.env().files.len(&path).unwrap() as usize;
    let expected = everything(&Store::open(options(), copy_of(&sim, |p| p != path).env()).unwrap());
    for byte in 0..length {
        let damaged = copy_of(&sim, |_| true);
        damaged.flip_bit(&path, byte, (byte % 8) as u8);
        let store = Store::open(options(), damaged.env()).unwrap();
        assert_eq!(store.stats().restored_samples, 0, "byte {byte}");
        assert_eq!(everything(&store), expected, "byte {byte}");
        let cut = copy_of(&sim, |_| true);
        cut.cut(&path, byte);
        let store = Store::open(options(), cut.env()).unwrap();
        assert_eq!(store.stats().restored_samples, 0, "cut at {byte}");
        assert_eq!(everything(&store), expected, "cut at {byte}");
    }
}

#[test]
fn a_snapshot_that_does_not_fit_is_not_used() {
    let sim = filled();
    let unused = |what: &str, change: &dyn Fn(&Sim), options: StoreOptions| {
        let copy = copy_of(&sim, |_| true);
        change(&copy);
        let without = copy_of(&copy, |path| path != snapshot_path());
        let (quick, slow) = (Store::open(options.clone(), copy.env()).unwrap(), Store::open(options, without.env()));
        assert_eq!(quick.stats().restored_samples, 0, "{what}");
        assert_eq!(everything(&quick), everything(&slow.unwrap()), "{what}");
    };
    let wal = Path::new(DIR).join("wal");
    let segments = |sim: &Sim| {
        let mut paths = sim.env().files.list(&wal).unwrap();
        paths.retain(|path| *path != snapshot_path());
        paths
    };
    let remove = |sim: &Sim, path: &Path| sim.env().files.remove(path).unwrap();
    unused("no log", &|sim| segments(sim).iter().for_each(|path| remove(sim, path)), options());
    let lose_end = |sim: &Sim| {
        while Store::open(options(), copy_of(sim, |_| true).env()).unwrap().stats().restored_samples > 0 {
            remove(sim, segments(sim).last().unwrap());
        }
        assert!(!segments(sim).is_empty());
    };
    unused("a log that lost its end", &lose_end, options());
    // Sequences that were in the snapshot are given out again.
    let lose_and_go_on = |sim: &Sim| {
        lose_end(sim);
        let store = Store::open(options(), sim.env()).unwrap();
        (0..50).for_each(|step| append(&store, 5000 + step, &[(3, 0, 1), (5, 0, 6)]));
    };
    unused("a log that lost its end and went on", &lose_and_go_on, options());
    unused(
        "a later deletion",
        &|sim| {
            let store = Store::open(options(), sim.env()).unwrap();
            store.delete(&[Matcher::equal("series", "0")], TimeRange::ALL).unwrap();
        },
        options(),
    );
    unused("more exemplars", &|_| {}, StoreOptions { max_exemplars: 101, ..options() });
    unused(
        "no manifest any more",
        &|sim| {
            let store = Store::open(options(), sim.env()).unwrap();
            store.flush().unwrap();
            append(&store, 5000, &[(0, 0, 1)]);
            assert!(store.save_head(Occasion::Asked).unwrap());
            drop(store);
            remove(sim, &Path::new(DIR).join("manifest.jsonl"));
        },
        options(),
    );
}

/// Sequences and places of records are the same in both, and the samples are not.
#[test]
fn a_snapshot_of_another_log_is_not_used() {
    let sims = [1, 2].map(Sim::new);
    for (sim, value) in sims.iter().zip([5.0, 6.0]) {
        let store = Store::open(options(), sim.env()).unwrap();
        let series = store.series(&labels(1));
        for timestamp_ms in 1..20 {
            store.append(&[Sample { series, timestamp_ms, value, start_ms: None }]).unwrap();
        }
        assert!(store.save_head(Occasion::Asked).unwrap());
    }
    let files = |at: usize| sims[at].env().files;
    assert_eq!(files(0).len(&snapshot_path()).unwrap(), files(1).len(&snapshot_path()).unwrap());
    let expected = everything(&Store::open(options(), sims[1].env()).unwrap());
    let mut file = files(1).create(&snapshot_path()).unwrap();
    file.append(&files(0).read(&snapshot_path()).unwrap()).unwrap();
    let store = Store::open(options(), sims[1].env()).unwrap();
    assert_eq!((everything(&store), store.stats().restored_samples), (expected, 0));
}

/// Where an acknowledged record need not be on the disk, one that a snapshot has must be all the same.
#[test]
fn the_log_is_on_the_disk_before_the_snapshot_counts() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let options = StoreOptions { wal_sync: WalSync::Written, wal_segment_bytes: 1 << 20, ..options() };
        let store = Store::open(options.clone(), sim.env()).unwrap();
        (0..50).for_each(|step| append(&store, 1000 + step * 10, &[(0, 0, 1), (5, 0, 7)]));
        assert!(store.save_head(Occasion::Asked).unwrap());
        append(&store, 1600, &[(0, 0, 1)]);
        sim.crash();
        assert!(check(&sim, &options), "seed {seed}");
        let store = Store::open(options, sim.env()).unwrap();
        assert!(store.stats().restored_samples == 100 && store.stats().head_samples >= 100);
    }
}

#[test]
fn deletions_are_carried_out_in_a_snapshot() {
    let sim = Sim::new(1);
    let store = Store::open(options(), sim.env()).unwrap();
    for step in 0..100 {
        append(&store, 1000 + step * 10, &[(0, 0, (step % 8) as u8), (5, 0, (step % 8) as u8), (2, 0, 1), (2, 15, 1)]);
    }
    store.delete(&[Matcher::equal("series", "0")], TimeRange::new(1100, 1500)).unwrap();
    store.delete(&[Matcher::equal("series", "2")], TimeRange::new(0, 1700)).unwrap();
    store.delete(&[Matcher::equal("series", "5")], TimeRange::ALL).unwrap();
    assert!(store.save_head(Occasion::Asked).unwrap());
    assert!(check(&sim, &options()), "the snapshot knows of them");
    drop(store);
    // Deleted samples are forgotten by now: what comes again is no duplicate of another value.
    let store = Store::open(options(), sim.env()).unwrap();
    append(&store, 1990, &[(5, 0, 3)]);
    assert!(store.save_head(Occasion::Asked).unwrap());
    assert!(check(&sim, &options()));
}

#[test]
fn it_is_taken_when_it_is_worth_it() {
    let sim = Sim::new(1);
    let store = Store::open(StoreOptions { snapshot_samples: 100, ..options() }, sim.env()).unwrap();
    let mut step = 0;
    let mut more = |count: i64| {
        for _ in 0..count {
            step += 1;
            append(&store, 1000 + step, &[(0, 0, 1)]);
        }
    };
    let saved = |occasion| store.save_head(occasion).unwrap();
    more(24);
    assert!(!saved(Occasion::Timer) && !saved(Occasion::End));
    more(1);
    assert!(!saved(Occasion::Timer) && saved(Occasion::End) && !saved(Occasion::End));
    more(99);
    assert!(!saved(Occasion::Timer));
    more(1);
    assert!(saved(Occasion::Timer) && !saved(Occasion::Timer));
    more(175);
    assert!(saved(Occasion::Timer));
    more(149);
    assert!(!saved(Occasion::Timer), "less than a third of the head");
    more(1);
    assert!(saved(Occasion::Timer));
    more(24);
    assert!(!saved(Occasion::End), "fewer than are ever worth it");
    more(1);
    assert!(saved(Occasion::End));
    more(775);
    assert!(saved(Occasion::Timer));
    more(40);
    assert!(!saved(Occasion::End), "less than one in 32 of the head");
    more(1);
    assert!(saved(Occasion::End));
    // A full disk is left alone.
    more(1000);
    sim.set_capacity_bytes(sim.used_bytes() + store.stats().wal_bytes);
    assert!(!saved(Occasion::Timer));
    sim.set_capacity_bytes(u64::MAX);
    assert!(saved(Occasion::Timer));
}
