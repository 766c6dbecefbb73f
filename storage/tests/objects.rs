//! Blocks in object stores: the same samples, few requests, nobody's manifest overwritten, patience with outages.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pilaster_model::{Labels, Matcher, TimeRange};
use pilaster_storage::block::BlockSeries;
use pilaster_storage::env::objects::sim::{Bucket, BucketFault, BucketFaultKind};
use pilaster_storage::env::objects::{Bytes, Listed, ObjectError, Objects, Put, Version, open_url};
use pilaster_storage::env::sim::Sim;
use pilaster_storage::env::{Env, Files};
use pilaster_storage::{Error, ObjectOptions, ObjectStats, RetentionLimits, Sample, Store, StoreOptions};

const DIR: &str = "/data";
const SERIES: usize = 30;

fn labels(number: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("number", format!("{number:04}"))])
}

/// Integers, decimals and full doubles, by series.
fn value(number: usize, timestamp_ms: i64) -> f64 {
    match number % 3 {
        0 => timestamp_ms as f64,
        1 => timestamp_ms as f64 / 10.0,
        _ => (timestamp_ms as f64).sin(),
    }
}

fn options(objects: Arc<dyn Objects>) -> StoreOptions {
    StoreOptions {
        block_ms: 1000,
        blocks: Some(ObjectOptions { refresh_ms: 0, ..ObjectOptions::new(objects) }),
        ..StoreOptions::new(DIR)
    }
}

fn with_objects(options: StoreOptions, change: impl FnOnce(&mut ObjectOptions)) -> StoreOptions {
    let mut options = options;
    change(options.blocks.as_mut().unwrap());
    options
}

fn open_again(store: Arc<Store>, options: &StoreOptions, sim: &Sim) -> Arc<Store> {
    drop(store);
    open(options, sim)
}

fn open(options: &StoreOptions, sim: &Sim) -> Arc<Store> {
    Store::open(options.clone(), sim.env()).unwrap()
}

/// Samples of `series` at each of `times`.
fn fill(store: &Store, series: std::ops::Range<usize>, times: impl IntoIterator<Item = i64>) {
    let references: Vec<_> = series.clone().map(|number| store.series(&labels(number))).collect();
    for timestamp_ms in times {
        let sample =
            |(number, &series)| Sample { series, timestamp_ms, value: value(number, timestamp_ms), start_ms: None };
        let batch: Vec<_> = series.clone().zip(&references).map(sample).collect();
        assert_eq!(store.append(&batch).unwrap().appended, batch.len());
    }
}

fn read(store: &Store, matchers: &[Matcher], range: TimeRange) -> Result<BTreeMap<(String, i64), u64>, Error> {
    let snapshot = store.snapshot();
    let series = snapshot.select(matchers, range)?;
    let samples = snapshot.read_many(&series, range)?;
    let rows = series.iter().zip(&samples).flat_map(|(series, samples)| {
        assert!(samples.timestamps.is_sorted_by(|a, b| a < b));
        let values = samples.timestamps.iter().zip(&samples.values);
        values.map(|(&timestamp_ms, value)| ((series.labels.get("number").to_owned(), timestamp_ms), value.to_bits()))
    });
    Ok(rows.collect())
}

fn all(store: &Store) -> BTreeMap<(String, i64), u64> {
    read(store, &[], TimeRange::ALL).unwrap()
}

fn stats(store: &Store) -> ObjectStats {
    store.stats().objects.unwrap()
}

/// Removes what a local disk has cached.
fn empty_cache(sim: &Sim) {
    for path in sim.list_tree(&Path::new(DIR).join("cache")).unwrap() {
        Files::remove(sim, &path).unwrap();
    }
}

fn outage(bucket: &Bucket, on: bool) {
    let fault = BucketFault { at_call: 0, kind: BucketFaultKind::Outage };
    bucket.set_fault(on.then_some(fault));
}

fn whole_error(error: &dyn std::error::Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {}", whole_error(source)))
}

#[test]
fn samples_last_in_every_kind_of_store_without_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let url = |url: &str| open_url(url, &[], Env::real().files).unwrap();
    let (file, memory) = (url(&format!("file://{}/blocks", dir.path().display())), url("memory:///pilaster/one"));
    let sim = Sim::new(1);
    let bucket = Bucket::new().seen_from(&sim, "p");
    for objects in [file, memory, bucket] {
        let sim = if objects.place().starts_with("sim") { sim.clone() } else { Sim::new(2) };
        for options in [
            with_objects(options(objects.clone()), |o| o.keep_removed_ms = 0),
            with_objects(options(objects.clone()), |o| (o.cache_bytes, o.keep_removed_ms) = (0, 0)),
        ] {
            let store = open(&options, &sim);
            let from_ms = all(&store).keys().map(|(_, ms)| ms + 50).max().unwrap_or(0);
            fill(&store, 0..SERIES, (from_ms..from_ms + 15_000).step_by(50));
            let expected = all(&store);
            store.maintain().unwrap();
            assert!(store.stats().blocks > 0 && store.stats().compactions > 0, "{:?}", store.stats());
            assert_eq!(all(&store), expected);
            store.flush().unwrap();
            assert_eq!(all(&store), expected);
            drop(store);
            empty_cache(&sim);
            let store = open(&options, &sim);
            assert_eq!(stats(&store).requests.gets, 1, "only the manifest is read");
            assert_eq!(all(&store), expected);
            store.delete(&[Matcher::equal("number", "0003")], TimeRange::ALL).unwrap();
            store.clean_tombstones().unwrap();
            let left: BTreeMap<_, _> = expected.into_iter().filter(|((number, _), _)| number != "0003").collect();
            assert_eq!(all(&store), left);
            store.maintain().unwrap();
            store.maintain().unwrap();
            assert_eq!(objects.list("samples").unwrap().len() as u64, 2 * store.stats().blocks);
            for block in store.snapshot().blocks() {
                block.open().unwrap().verify().unwrap();
            }
        }
        let names: Vec<String> =
            sim.list_tree(Path::new(DIR)).unwrap().iter().map(|p| p.display().to_string()).collect();
        assert!(!names.iter().any(|name| name.ends_with(".parquet")), "{names:?}");
    }
}

#[test]
fn a_cold_series_is_one_request_for_its_index_and_one_for_its_values() {
    let sim = Sim::new(1);
    let options = StoreOptions { block_ms: 1 << 40, ..options(Bucket::new().seen_from(&sim, "p")) };
    let store = open(&options, &sim);
    fill(&store, 0..300, (0..3000).map(|step| step * 15_000));
    // Times of its own, and values of two kinds.
    let odd = store.series(&labels(999));
    for step in 0..3000i64 {
        let value = if step % 2 == 0 { step as f64 } else { (step as f64).sqrt() };
        store
            .append(&[Sample { series: odd, timestamp_ms: step * 15_000 + step * step % 911, value, start_ms: None }])
            .unwrap();
    }
    store.flush().unwrap();
    assert!(store.stats().block_bytes > 1 << 20, "large enough to matter: {}", store.stats().block_bytes);
    drop(store);
    for (number, most) in [("0000", 2), ("0001", 2), ("0002", 2), ("0150", 2), ("0999", 3)] {
        empty_cache(&sim);
        let store = open(&options, &sim);
        let before = stats(&store).requests;
        let found = read(&store, &[Matcher::equal("number", number)], TimeRange::ALL).unwrap();
        assert_eq!(found.len(), 3000);
        let cold = stats(&store).requests;
        assert!(cold.gets - before.gets <= most, "{number}: {} requests", cold.gets - before.gets);
        assert!(
            cold.bytes_read - before.bytes_read < 1 << 20,
            "{number}: {} bytes",
            cold.bytes_read - before.bytes_read
        );
        assert_eq!(read(&store, &[Matcher::equal("number", number)], TimeRange::ALL).unwrap(), found);
        assert_eq!(stats(&store).requests, cold, "a warm read is no request");
        assert!(stats(&store).cache.hits > 0);
        drop(store);
        // The cache outlives the process: a manifest, and no more.
        let store = open(&options, &sim);
        assert_eq!(read(&store, &[Matcher::equal("number", number)], TimeRange::ALL).unwrap(), found);
        assert_eq!(stats(&store).requests.gets, 1);
    }
    // All series together are read in long pieces, not page by page.
    empty_cache(&sim);
    let store = open(&options, &sim);
    assert_eq!(all(&store).len(), 301 * 3000);
    assert!(stats(&store).requests.gets <= 6, "{:?}", stats(&store));
}

/// A day of six hundred counters in one block, whose row groups are as large as they get.
#[test]
fn a_day_is_read_with_as_few_requests_as_a_small_block() {
    let sim = Sim::new(1);
    let options = StoreOptions { block_ms: 7_200_000, ..options(Bucket::new().seen_from(&sim, "p")) };
    let store = open(&options, &sim);
    let timestamps: Arc<[i64]> = (0..5760).map(|step| step * 15_000).collect();
    let metric = |number: usize| format!("metric_{:02}", number / 40);
    let named = |number: usize| Labels::from_pairs([("__name__", metric(number)), ("number", format!("{number:04}"))]);
    let mut day = store.import(TimeRange::new(0, 86_399_999), 3).unwrap();
    for number in 0..600u64 {
        let mut total = 0;
        let mut noise = number + 1;
        let mut grow = |_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            total += noise >> 57;
            total as f64
        };
        let values = (0..5760).map(&mut grow).collect();
        let series = BlockSeries {
            labels: named(number as usize),
            timestamps: timestamps.clone(),
            values,
            histograms: None,
            starts_ms: None,
        };
        day.push(vec![series]).unwrap();
    }
    day.commit().unwrap();
    assert_eq!(store.stats().blocks, 1);
    let block_bytes = store.stats().block_bytes;
    assert!(block_bytes > 2 << 20, "{block_bytes} bytes");
    drop(store);
    let last_hour = TimeRange::new(82_800_000, 86_399_999);
    let one = |number: usize| Matcher::equal("number", &format!("{number:04}"));
    let all_of_metric = |number: usize| Matcher::equal("__name__", &metric(number));
    let cases = [
        (one(0), TimeRange::ALL, 5760),
        (one(333), TimeRange::ALL, 5760),
        (one(599), last_hour, 240),
        (all_of_metric(0), TimeRange::ALL, 40 * 5760),
        (all_of_metric(480), last_hour, 40 * 240),
        (Matcher::equal("job", ""), TimeRange::ALL, 600 * 5760),
    ];
    for (matcher, range, samples) in cases {
        empty_cache(&sim);
        let store = open(&options, &sim);
        let before = stats(&store).requests;
        assert_eq!(read(&store, std::slice::from_ref(&matcher), range).unwrap().len(), samples);
        let cold = stats(&store).requests;
        // The index and one piece with all pages that are wanted.
        assert_eq!(cold.gets - before.gets, 2, "{matcher:?} in {range:?}");
        let bytes = cold.bytes_read - before.bytes_read;
        assert!(samples > 40 * 5760 || bytes < block_bytes / 4, "{matcher:?} in {range:?}: {bytes} bytes");
    }
}

/// A store of objects that answers nobody until so many ask at once, and takes its time for the views.
#[derive(Debug)]
struct Gate {
    objects: Arc<dyn Objects>,
    views_put: AtomicUsize,
    waiting: Mutex<usize>,
    came: Condvar,
    wanted: AtomicUsize,
}

impl Gate {
    fn of(objects: Arc<dyn Objects>) -> Arc<Gate> {
        let (views_put, wanted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Gate { objects, views_put, waiting: Mutex::default(), came: Condvar::new(), wanted })
    }

    /// Passes when `wanted` others wait, or were let through.
    fn pass(&self) -> Result<(), ObjectError> {
        let mut waiting = self.waiting.lock().unwrap();
        *waiting += 1;
        self.came.notify_all();
        let too_few = |waiting: &mut usize| *waiting < self.wanted.load(Ordering::Relaxed);
        let passed = self.came.wait_timeout_while(waiting, Duration::from_secs(20), too_few).unwrap();
        if !passed.1.timed_out() {
            return Ok(());
        }
        let place = self.place().to_owned();
        Err(ObjectError::Unavailable { action: "read", place, name: "gate".into(), source: "alone".into() })
    }

    fn want(&self, wanted: usize) {
        *self.waiting.lock().unwrap() = 0;
        self.wanted.store(wanted, Ordering::Relaxed);
    }
}

impl Objects for Gate {
    fn place(&self) -> &str {
        self.objects.place()
    }

    fn get(&self, name: &str, known: Option<&Version>) -> Result<Option<(Bytes, Version)>, ObjectError> {
        self.pass()?;
        self.objects.get(name, known)
    }

    fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        self.pass()?;
        self.objects.get_ranges(name, ranges)
    }

    fn put(&self, name: &str, bytes: Bytes, condition: Put<'_>) -> Result<Version, ObjectError> {
        if name == "views.sql" {
            self.views_put.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
        self.objects.put(name, bytes, condition)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError> {
        self.objects.list(folder)
    }

    fn remove(&self, names: &[String]) -> Result<(), ObjectError> {
        self.objects.remove(names)
    }
}

/// Puts so many small blocks, forgets what is cached of them, and says what they hold.
fn put_blocks(options: &StoreOptions, sim: &Sim, blocks: i64) -> BTreeMap<(String, i64), u64> {
    let store = open(options, sim);
    for step in 0..blocks {
        fill(&store, 0..2, [step * 1000]);
        store.flush().unwrap();
    }
    let expected = all(&store);
    drop(store);
    empty_cache(sim);
    expected
}

#[test]
fn blocks_of_a_month_are_asked_for_at_the_same_time() {
    const BLOCKS: usize = 30;
    let sim = Sim::new(1);
    let gate = Gate::of(Bucket::new().seen_from(&sim, "p"));
    let options = options(gate.clone());
    let expected = put_blocks(&options, &sim, BLOCKS as i64);
    let store = open(&options, &sim);
    let snapshot = store.snapshot();
    gate.want(BLOCKS);
    let found = snapshot.select(&[], TimeRange::ALL).unwrap();
    gate.want(BLOCKS);
    let samples = snapshot.read_many(&found, TimeRange::ALL).unwrap();
    assert_eq!(samples.iter().map(|samples| samples.values.len()).sum::<usize>(), expected.len());
}

/// Several threads put the blocks, and the views would be written under one temporary name by each of them.
#[test]
fn a_directory_that_moves_puts_its_views_once() {
    let sim = Sim::new(1);
    let gate = Gate::of(Bucket::new().seen_from(&sim, "p"));
    let far = options(gate.clone());
    let store = open(&StoreOptions { blocks: None, ..far.clone() }, &sim);
    for step in 0..8 {
        fill(&store, 0..2, [step * 1000]);
        store.flush().unwrap();
    }
    let expected = all(&store);
    let store = open_again(store, &far, &sim);
    assert_eq!(all(&store), expected);
    assert_eq!(gate.views_put.load(Ordering::Relaxed), 1);
}

#[test]
fn many_blocks_open_with_one_request_and_are_read_when_needed() {
    let sim = Sim::new(1);
    let options = options(Bucket::new().seen_from(&sim, "p"));
    let expected = put_blocks(&options, &sim, 300);
    let store = open(&options, &sim);
    assert_eq!((store.stats().blocks, stats(&store).requests.gets), (300, 1));
    let part = read(&store, &[], TimeRange::new(5000, 7000)).unwrap();
    assert_eq!((part.len(), stats(&store).requests.gets), (6, 1 + 3 * 2));
    assert_eq!(all(&store), expected);
    assert_eq!(stats(&store).requests.gets, 1 + 300 * 2);
}

#[test]
fn a_prefix_belongs_to_one_data_directory() {
    let bucket = Bucket::new();
    let (one, other) = (Sim::new(1), Sim::new(2));
    let with_late = |objects| StoreOptions { out_of_order_ms: 10_000, ..options(objects) };
    let (of_one, of_other) = (with_late(bucket.seen_from(&one, "p")), with_late(bucket.seen_from(&other, "p")));
    let first = open(&of_one, &one);
    fill(&first, 0..3, [100, 200]);
    first.flush().unwrap();
    fill(&first, 0..3, [300]);

    let refused = Store::open(of_other.clone(), other.env()).unwrap_err();
    assert!(matches!(refused, Error::Foreign { .. }), "{refused}");
    assert!(refused.to_string().contains("sim://bucket/p belong to another data directory"), "{refused}");
    assert!(refused.to_string().contains("take_over"), "{refused}");

    // Taken over by one who has samples of its own at the same times, under the same sequences.
    let second = open(&with_objects(of_other.clone(), |o| o.take_over = true), &other);
    assert_eq!(all(&second).len(), 6);
    fill(&second, 3..5, [100, 200, 300]);
    // The first one is told, and keeps what it has.
    assert!(matches!(first.flush(), Err(Error::Foreign { .. })));
    assert!(matches!(first.maintain(), Ok(()) | Err(Error::Foreign { .. })));
    fill(&first, 0..3, [400]);
    assert_eq!(all(&first).len(), 12);
    second.flush().unwrap();
    let at_second = all(&second);
    drop((first, second));

    // Back again: everything of both is there, once.
    assert!(matches!(Store::open(of_one.clone(), one.env()), Err(Error::Foreign { .. })));
    let first = open(&with_objects(of_one.clone(), |o| o.take_over = true), &one);
    let mut both = all(&first);
    assert_eq!(both.len(), 12 + 6);
    first.flush().unwrap();
    assert_eq!(all(&first), both);
    drop(first);
    let first = open(&of_one, &one);
    assert_eq!(all(&first), both);
    both.retain(|key, _| at_second.contains_key(key));
    assert_eq!(both, at_second);
}

#[test]
fn what_was_deleted_in_a_log_stays_deleted_when_it_comes_back() {
    let bucket = Bucket::new();
    let (one, other) = (Sim::new(1), Sim::new(2));
    let take_over = |sim: &Sim| with_objects(options(bucket.seen_from(sim, "p")), |o| o.take_over = true);
    let first = open(&take_over(&one), &one);
    fill(&first, 0..3, [100, 200]);
    first.flush().unwrap();
    fill(&first, 0..3, [1300, 1400]);
    // In a block, and in the log alone.
    first.delete(&[Matcher::equal("number", "0001")], TimeRange::new(150, 1350)).unwrap();
    let expected = all(&first);
    assert_eq!(expected.len(), 12 - 2);
    drop(first);
    let second = open(&take_over(&other), &other);
    assert_eq!(all(&second).len(), 5, "the block only");
    fill(&second, 5..6, [1300]);
    second.flush().unwrap();
    drop(second);
    let first = open(&take_over(&one), &one);
    let there = |store: &Store| {
        let mut there = all(store);
        there.retain(|(number, _), _| number != "0005");
        there
    };
    assert_eq!(there(&first), expected);
    first.flush().unwrap();
    first.clean_tombstones().unwrap();
    drop(first);
    assert_eq!(there(&open(&take_over(&one), &one)), expected);
}

#[test]
fn a_damaged_manifest_is_replaced_by_its_copy_and_the_copy_by_it() {
    for damage in 0..3 {
        let (bucket, sim) = (Bucket::new(), Sim::new(1));
        let options = options(bucket.seen_from(&sim, "p"));
        let store = open(&options, &sim);
        for from_ms in [0, 1000] {
            fill(&store, 0..3, (from_ms..from_ms + 1000).step_by(100));
            store.flush().unwrap();
        }
        fill(&store, 0..3, [2000]);
        drop(store);
        let copy = Path::new(DIR).join("manifest.jsonl");
        if damage != 1 {
            bucket.flip_bit("p/manifest.jsonl", 60, 2);
        }
        if damage != 0 {
            sim.flip_bit(&copy, 60, 2);
        }
        for _ in 0..2 {
            let store = open(&options, &sim);
            assert_eq!(all(&store).len(), 3 * 21);
            store.flush().unwrap();
            store.maintain().unwrap();
            assert_eq!(all(&store).len(), 3 * 21);
        }
    }

    // Before the first blocks are brought there, the one in the directory is the only one.
    let (bucket, sim) = (Bucket::new(), Sim::new(1));
    let moved = options(bucket.seen_from(&sim, "p"));
    let store = open(&StoreOptions { blocks: None, ..moved.clone() }, &sim);
    fill(&store, 0..3, (0..1000).step_by(100));
    store.flush().unwrap();
    drop(store);
    sim.flip_bit(&Path::new(DIR).join("manifest.jsonl"), 60, 2);
    assert_eq!(all(&open(&moved, &sim)).len(), 30);
}

#[test]
fn a_manifest_damaged_in_the_store_is_made_again_by_who_may() {
    for damaged_index in [false, true] {
        let (bucket, sim) = (Bucket::new(), Sim::new(1));
        let own = options(bucket.seen_from(&sim, "p"));
        let store = open(&own, &sim);
        for from_ms in [0, 1000] {
            fill(&store, 0..3, (from_ms..from_ms + 1000).step_by(100));
            store.flush().unwrap();
        }
        drop(store);
        bucket.flip_bit("p/manifest.jsonl", 60, 2);
        let index = bucket.names().into_iter().find(|name| name.ends_with(".index")).unwrap();
        if damaged_index {
            bucket.flip_bit(&index, 30, 2);
        }
        let expected = if damaged_index { 30 } else { 60 };

        // From another directory nobody knows whose it is.
        let other = Sim::new(2);
        let others = options(bucket.seen_from(&other, "p"));
        let before = bucket.names();
        let error = Store::open(others.clone(), other.env()).unwrap_err();
        assert!(error.is_corruption() && error.to_string().contains("take-over"), "{error}");
        assert_eq!(bucket.names(), before);
        let taken = with_objects(others, |objects| objects.take_over = true);
        let store = open(&taken, &other);
        store.maintain().unwrap();
        assert_eq!(all(&store).len(), expected);
        // What cannot say what it is stays.
        let names = bucket.names();
        let is_kept = |name: &str| names.contains(&format!("p/{name}"));
        assert!(is_kept("manifest.jsonl.damaged"));
        let aside = format!("set-aside/{}", index.rsplit('/').next().unwrap());
        assert_eq!((is_kept(&aside), is_kept(&aside.replace(".index", ".parquet"))), (damaged_index, damaged_index));
        assert_eq!(all(&open_again(store, &taken, &other)).len(), expected);
        // The first one is told that it lost them.
        assert!(matches!(Store::open(own, sim.env()), Err(Error::Foreign { .. })));
    }
}

#[test]
fn a_copied_data_directory_does_not_write_over_its_original() {
    let (bucket, sim, copy) = (Bucket::new(), Sim::new(1), Sim::new(2));
    let (original, copied) = (options(bucket.seen_from(&sim, "p")), options(bucket.seen_from(&copy, "p")));
    let store = open(&original, &sim);
    fill(&store, 0..3, [100]);
    store.flush().unwrap();
    for path in sim.list_tree(Path::new(DIR)).unwrap() {
        let mut file = Files::create(&copy, &path).unwrap();
        file.append(&Files::read(&sim, &path).unwrap()).unwrap();
    }
    let twin = open(&copied, &copy);
    fill(&twin, 0..3, [200]);
    twin.flush().unwrap();
    fill(&store, 0..3, [300]);
    assert!(matches!(store.flush(), Err(Error::Foreign { .. })));
    assert_eq!((all(&store).len(), all(&twin).len()), (6, 6));
}

#[test]
fn a_directory_with_blocks_moves_and_does_not_move_back() {
    let (bucket, sim) = (Bucket::new(), Sim::new(1));
    let local = StoreOptions { block_ms: 1000, ..StoreOptions::new(DIR) };
    let moved = options(bucket.seen_from(&sim, "p"));
    let store = open(&local, &sim);
    fill(&store, 0..SERIES, (0..5000).step_by(100));
    store.maintain().unwrap();
    let expected = all(&store);
    let blocks = store.stats().blocks;
    drop(store);
    // A store that fails on the way leaves everything where it was.
    for at_call in 1..=2 * blocks + 3 {
        bucket.set_fault(Some(BucketFault { at_call: bucket.calls() + at_call, kind: BucketFaultKind::Outage }));
        assert!(Store::open(moved.clone(), sim.env()).is_err());
        bucket.set_fault(None);
    }
    let store = open(&moved, &sim);
    assert_eq!((all(&store), store.stats().blocks), (expected.clone(), blocks));
    store.maintain().unwrap();
    assert_eq!(bucket.names().iter().filter(|name| name.starts_with("p/samples/")).count() as u64, 2 * blocks);
    assert!(sim.list_tree(&Path::new(DIR).join("samples")).unwrap().is_empty());
    drop(store);
    let refused = Store::open(local, sim.env()).unwrap_err().to_string();
    assert!(refused.contains("are at sim://bucket/p"), "{refused}");
    let elsewhere = Store::open(options(bucket.seen_from(&sim, "q")), sim.env()).unwrap_err().to_string();
    assert!(elsewhere.contains("are at sim://bucket/p, not at sim://bucket/q"), "{elsewhere}");
    assert_eq!(all(&open(&moved, &sim)), expected);
}

#[test]
fn a_lost_object_is_set_aside_and_everything_else_is_served() {
    for (is_index_gone, is_flipped) in [(true, false), (false, true)] {
        let (bucket, sim) = (Bucket::new(), Sim::new(1));
        let options = options(bucket.seen_from(&sim, "p"));
        let store = open(&options, &sim);
        for from_ms in [0, 1000, 2000] {
            fill(&store, 0..SERIES, (from_ms..from_ms + 1000).step_by(100));
            store.flush().unwrap();
        }
        drop(store);
        empty_cache(&sim);
        // The index follows from the other file, so that one is gone in any case.
        let of_block: Vec<String> = bucket.names().into_iter().filter(|name| name.contains("/1000-")).collect();
        assert_eq!(of_block.len(), 2);
        for name in of_block {
            if is_flipped && name.ends_with(".index") {
                bucket.flip_bit(&name, 40, 3);
            } else if name.ends_with(".parquet") || is_index_gone {
                bucket.seen_from(&sim, "p").remove(&[name.trim_start_matches("p/").to_owned()]).unwrap();
            }
        }
        let store = open(&options, &sim);
        let snapshot = store.snapshot();
        assert_eq!(all(&store).len(), SERIES * 20);
        let missing: Vec<(i64, i64)> =
            snapshot.missing(TimeRange::ALL).map(|meta| (meta.min_ms, meta.max_ms)).collect();
        assert_eq!(missing, [(1000, 1900)]);
        assert_eq!(snapshot.missing(TimeRange::new(2000, 3000)).count(), 0);
        assert_eq!((store.stats().blocks, store.stats().blocks_set_aside), (3, 1));
        // Nothing that happens to blocks stumbles over it, nor takes it away.
        let matchers = [Matcher::equal("number", "0000")];
        store.delete(&matchers, TimeRange::new(0, 1500)).unwrap();
        store.clean_tombstones().unwrap();
        store.maintain().unwrap();
        assert_eq!(all(&store).len(), SERIES * 20 - 10);
        assert_eq!(store.stats().blocks, 3);
    }
}

#[test]
fn an_outage_stops_neither_samples_nor_a_restart() {
    let (bucket, sim) = (Bucket::new(), Sim::new(1));
    let options = options(bucket.seen_from(&sim, "p"));
    let store = open(&options, &sim);
    fill(&store, 0..SERIES, (0..1000).step_by(100));
    store.flush().unwrap();
    drop(store);
    empty_cache(&sim);
    outage(&bucket, true);

    let store = open(&options, &sim);
    fill(&store, 0..SERIES, (1000..2000).step_by(100));
    let recent = TimeRange::new(1000, 2000);
    assert_eq!(read(&store, &[], recent).unwrap().len(), SERIES * 10);
    let error = whole_error(&read(&store, &[], TimeRange::ALL).unwrap_err());
    assert!(error.contains("could not read") && error.contains("sim://bucket/p"), "{error}");
    assert!(error.contains("the store cannot be reached"), "{error}");
    assert!(matches!(store.flush(), Err(Error::Objects(_))));
    assert!(store.maintain().is_ok() || store.stats().flushes_failed > 0);
    for _ in 0..40 {
        // Tries do not wear anything out.
        assert!(store.flush().is_err());
    }
    fill(&store, 0..SERIES, (2000..3000).step_by(100));
    drop(store);
    let store = open(&options, &sim);
    assert_eq!(read(&store, &[], TimeRange::new(1000, 3000)).unwrap().len(), SERIES * 20);
    outage(&bucket, false);
    store.flush().unwrap();
    assert_eq!(all(&store).len(), SERIES * 30);
    drop(store);
    let store = open(&options, &sim);
    assert_eq!(all(&store).len(), SERIES * 30);
    store.maintain().unwrap();
    assert_eq!(
        bucket.names().iter().filter(|name| name.starts_with("p/samples/")).count() as u64,
        2 * store.stats().blocks
    );
}

#[test]
fn a_life_that_ended_right_after_its_put_leaves_a_copy_to_the_next() {
    let (bucket, sim) = (Bucket::new(), Sim::new(1));
    let options = options(bucket.seen_from(&sim, "p"));
    let store = open(&options, &sim);
    fill(&store, 0..2, [100]);
    store.flush().unwrap();
    drop(store);
    Files::remove(&sim, &Path::new(DIR).join("manifest.jsonl")).unwrap();
    drop(open(&options, &sim));
    outage(&bucket, true);
    assert_eq!(open(&options, &sim).stats().blocks, 1);
}

#[test]
fn without_a_manifest_nothing_begins_during_an_outage_and_nothing_is_forgotten_after_a_loss() {
    let (bucket, sim) = (Bucket::new(), Sim::new(1));
    let objects = bucket.seen_from(&sim, "p");
    let options = options(objects.clone());
    outage(&bucket, true);
    assert!(matches!(Store::open(options.clone(), sim.env()), Err(Error::Objects(_))));
    outage(&bucket, false);
    let store = open(&options, &sim);
    fill(&store, 0..2, [100]);
    store.flush().unwrap();
    objects.remove(&["manifest.jsonl".to_owned()]).unwrap();
    fill(&store, 0..2, [200]);
    let lost = store.flush().unwrap_err();
    assert!(lost.is_corruption() && lost.to_string().contains("is gone"), "{lost}");
    drop(store);
    assert!(Store::open(options, sim.env()).unwrap_err().is_corruption());
}

#[test]
fn blocks_of_other_prefixes_are_read_and_left_alone() {
    let bucket = Bucket::new();
    let (one, other) = (Sim::new(1), Sim::new(2));
    let of_one = with_objects(options(bucket.seen_from(&one, "one")), |o| {
        o.read_from = vec![bucket.seen_from(&one, "two"), bucket.seen_from(&one, "none")];
    });
    let of_other = with_objects(options(bucket.seen_from(&other, "two")), |o| {
        o.read_from = vec![bucket.seen_from(&other, "one")];
        o.keep_removed_ms = 10_000;
    });
    let (first, second) = (open(&of_one, &one), open(&of_other, &other));
    // Replicas in part: series 1 and 2 are in both.
    fill(&first, 0..3, (0..5000).step_by(100));
    fill(&second, 1..4, (0..5000).step_by(100));
    for store in [&first, &second, &first] {
        store.flush().unwrap();
        store.maintain().unwrap();
    }
    assert_eq!((all(&first).len(), all(&second).len()), (4 * 50, 4 * 50));
    assert_eq!((stats(&first).sources, stats(&first).sources_readable), (2, 2));
    assert!(stats(&first).source_blocks > 0 && store_blocks(&first) < first.snapshot().blocks().len());

    // What is deleted there is not seen here; what is deleted here is still there.
    second.delete(&[Matcher::equal("number", "0003")], TimeRange::ALL).unwrap();
    first.delete(&[Matcher::equal("number", "0001")], TimeRange::ALL).unwrap();
    first.maintain().unwrap();
    assert_eq!(all(&first).len(), 3 * 50, "series 0, 1 and 2");
    // Blocks that go there are read by old snapshots for a while, and by nobody after.
    let old = first.snapshot();
    second.clean_tombstones().unwrap();
    second.maintain().unwrap();
    empty_cache(&one);
    let series = old.select(&[Matcher::equal("number", "0002")], TimeRange::ALL).unwrap();
    assert_eq!(old.read(&series[0], TimeRange::ALL).unwrap().values.len(), 50);
    other.set_now_ms(20_000);
    second.maintain().unwrap();
    empty_cache(&one);
    drop(old);
    first.maintain().unwrap();
    assert_eq!(all(&first).len(), 3 * 50);

    // A source that is away keeps what is known of it.
    outage(&bucket, true);
    let _ = first.maintain();
    assert_eq!(stats(&first).sources_readable, 0);
    outage(&bucket, false);
    first.maintain().unwrap();
    assert_eq!(all(&first).len(), 3 * 50);
    let twice = with_objects(of_one, |o| o.read_from = vec![bucket.seen_from(&one, "one")]);
    drop(first);
    assert!(matches!(Store::open(twice, one.env()), Err(Error::InvalidOptions { .. })));
}

fn store_blocks(store: &Store) -> usize {
    store.stats().blocks as usize
}

#[test]
fn damage_to_the_cache_is_repaired_and_damage_to_an_object_is_told() {
    let (bucket, sim) = (Bucket::new(), Sim::new(1));
    let options = options(bucket.seen_from(&sim, "p"));
    let store = open(&options, &sim);
    fill(&store, 0..SERIES, (0..900).step_by(100));
    store.flush().unwrap();
    let expected = all(&store);
    drop(store);
    let mut cached = sim.list_tree(&Path::new(DIR).join("cache/index")).unwrap();
    cached.extend(sim.list_tree(&Path::new(DIR).join("cache/samples")).unwrap());
    assert!(cached.len() >= 2, "{cached:?}");
    for path in cached {
        for byte in (0..Files::len(&sim, &path).unwrap() as usize).step_by(301) {
            sim.flip_bit(&path, byte, byte as u8);
        }
    }
    assert_eq!(all(&open(&options, &sim)), expected);
    let repaired = open(&options, &sim);
    assert_eq!(all(&repaired), expected);
    assert_eq!(stats(&repaired).requests.gets, 1, "what was repaired stays so");
    drop(repaired);

    empty_cache(&sim);
    for name in bucket.names().iter().filter(|name| name.ends_with(".index")) {
        bucket.flip_bit(name, 20, 1);
    }
    assert_eq!(all(&open(&options, &sim)), expected, "an index is made again from its samples");
    empty_cache(&sim);
    for name in bucket.names().iter().filter(|name| name.ends_with(".parquet")) {
        bucket.flip_bit(name, 40, 1);
    }
    let error = read(&open(&options, &sim), &[], TimeRange::ALL).unwrap_err();
    assert!(error.is_corruption() && error.to_string().contains("sim://bucket/p/samples"), "{error}");
}

#[test]
fn retention_removes_objects_after_a_while() {
    let (bucket, sim) = (Bucket::new(), Sim::new(1));
    let options = StoreOptions {
        retention: RetentionLimits::of_ms(5000),
        ..with_objects(options(bucket.seen_from(&sim, "p")), |o| o.keep_removed_ms = 1000)
    };
    let store = open(&options, &sim);
    fill(&store, 0..2, (0..20_000).step_by(500));
    sim.set_now_ms(20_000);
    let before = store.snapshot();
    store.maintain().unwrap();
    store.maintain().unwrap();
    assert!(store.stats().blocks_expired > 0);
    let live = |store: &Store| 2 * store.stats().blocks;
    let there = || bucket.names().iter().filter(|name| name.starts_with("p/samples/")).count() as u64;
    assert!(there() > live(&store));
    // Not even a restart takes away what others may read.
    drop((before, store));
    let store = open(&options, &sim);
    store.maintain().unwrap();
    assert!(there() > live(&store));
    sim.set_now_ms(21_000);
    store.maintain().unwrap();
    assert_eq!(there(), live(&store));
    assert_eq!(all(&store).keys().map(|(_, ms)| *ms).max(), Some(19_500));
}
