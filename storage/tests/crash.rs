//! The ledger: whatever the disk does, every acknowledged sample is read back once, and nothing that was never written.
//!
//! A seed decides options, calls and the moment the power goes, or a call fails, or the disk is full. Canaries with a
//! broken disk show that the ledger would notice.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pilaster_model::{Histogram, Labels, Matcher, TimeRange};
use pilaster_storage::env::objects::sim::{Bucket, BucketFault, BucketFaultKind};
use pilaster_storage::env::sim::{Fault, FaultKind, Sim};
use pilaster_storage::env::{AppendFile, DirLock, Env, Files};
use pilaster_storage::{Error, HistogramSample, ObjectOptions, Occasion, Sample, Store, StoreOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DIR: &str = "/data";
fn snapshot_path() -> PathBuf {
    Path::new(DIR).join("wal/head.snapshot")
}

/// The series that has native histograms.
const HISTOGRAMS: usize = 99;

/// Timestamp to bits, per series.
type Ledger = BTreeMap<(usize, i64), u64>;

fn labels(series: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("series", series.to_string())])
}

/// What a sample's value must be: wrong data shows.
fn bits(series: usize, timestamp_ms: i64) -> u64 {
    let value = match series % 3 {
        0 => timestamp_ms as f64,
        1 => (timestamp_ms as f64).sin(),
        _ => series as f64 + 0.25,
    };
    if timestamp_ms % 97 == 0 { pilaster_model::STALE_NAN_BITS } else { value.to_bits() }
}

/// Everything in the store, or what is wrong with it.
fn read_all(store: &Store) -> Result<Ledger, String> {
    let snapshot = store.snapshot();
    let found = snapshot.select(&[], TimeRange::ALL).map_err(|error| format!("select: {error:?}"))?;
    let read = snapshot.read_many(&found, TimeRange::ALL).map_err(|error| format!("read: {error:?}"))?;
    let mut ledger = Ledger::new();
    for (series, samples) in found.iter().zip(read) {
        let number: usize = series.labels.get("series").parse().map_err(|_| format!("labels {}", series.labels))?;
        if series.labels != labels(number) {
            return Err(format!("labels {}", series.labels));
        }
        if !samples.timestamps.is_sorted_by(|a, b| a < b) {
            return Err(format!("timestamps of series {number} do not ascend: {:?}", samples.timestamps));
        }
        let mut values = samples.values;
        if number == HISTOGRAMS {
            let histograms = samples.histograms.ok_or("no histograms")?;
            let counts = histograms.iter().map(|histogram| histogram.as_ref().map(|histogram| histogram.count));
            values = counts.collect::<Option<_>>().ok_or("a histogram is missing")?;
        }
        let rows = samples.timestamps.iter().zip(&values);
        ledger.extend(rows.map(|(&timestamp_ms, value)| ((number, timestamp_ms), value.to_bits())));
    }
    Ok(ledger)
}

/// Compares what is there with what was acknowledged and what was tried.
fn check(there: &Ledger, acknowledged: &Ledger, attempted: &Ledger) -> Result<(), String> {
    for (key, bits) in acknowledged {
        match there.get(key) {
            None => return Err(format!("lost {key:?}")),
            Some(other) if other != bits => return Err(format!("changed {key:?}")),
            Some(_) => {}
        }
    }
    match there.iter().find(|(key, bits)| attempted.get(key) != Some(bits)) {
        Some((key, _)) => Err(format!("invented {key:?}")),
        None => Ok(()),
    }
}

fn options(rng: &mut StdRng) -> StoreOptions {
    StoreOptions {
        block_ms: 1000,
        out_of_order_ms: if rng.random_bool(0.5) { 3000 } else { 0 },
        wal_segment_bytes: rng.random_range(200..4000),
        block_samples: if rng.random_bool(0.3) { rng.random_range(1..100) } else { 16 << 20 },
        shards: 4,
        index_bytes: if rng.random_bool(0.3) { 0 } else { 1 << 30 },
        ..StoreOptions::new(DIR)
    }
}

/// Where blocks are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Home {
    Directory,
    Bucket,
    /// One that does not look at the conditions of puts.
    CarelessBucket,
}

/// A store whose samples lie in `bucket`, seen from `sim`.
fn object_options(rng: &mut StdRng, bucket: &Bucket, sim: &Sim) -> ObjectOptions {
    ObjectOptions {
        cache_bytes: if rng.random_bool(0.5) { 1 << 20 } else { 0 },
        keep_removed_ms: if rng.random_bool(0.5) { 60_000 } else { 0 },
        ..ObjectOptions::new(bucket.seen_from(sim, "p"))
    }
}

fn bucket_fault(rng: &mut StdRng, bucket: &Bucket) -> BucketFault {
    let kind = match rng.random_range(0..5) {
        0 => BucketFaultKind::Error,
        1 => BucketFaultKind::AnswerLost,
        2 | 3 => BucketFaultKind::Late { calls: rng.random_range(1..25) },
        _ => BucketFaultKind::Outage,
    };
    BucketFault { at_call: bucket.calls() + rng.random_range(1..40), kind }
}

/// What is there while no fault of the bucket hits the reader; `None` where the power is off, and nobody reads.
fn read_calmly(store: &Store, bucket: &Bucket, sim: &Sim) -> Result<Option<Ledger>, String> {
    let fault = bucket.fault();
    bucket.set_fault(None);
    let there = read_all(store);
    bucket.set_fault(fault);
    if there.is_err() && sim.is_off() { Ok(None) } else { there.map(Some) }
}

/// Whether a call failed. That the blocks are somebody else's is never true here.
fn failed(result: Result<(), Error>) -> Result<bool, String> {
    match result {
        Err(error @ Error::Foreign { .. }) => Err(error.to_string()),
        other => Ok(other.is_err()),
    }
}

/// One history over several lives. `Err` says what the ledger found wrong.
fn run(seed: u64, wrap: &dyn Fn(Env) -> Env, home: Home) -> Result<(), String> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let sim = Sim::new(seed);
    let mut options = options(rng);
    let bucket = Bucket::new();
    if home != Home::Directory {
        options.blocks = Some(object_options(rng, &bucket, &sim));
    }
    if home == Home::CarelessBucket {
        bucket.set_careless();
    }
    let series_count = rng.random_range(1..6);
    let (mut acknowledged, mut attempted) = (Ledger::new(), Ledger::new());
    let mut now_ms = rng.random_range(-3000..3000);
    let mut deleted: Vec<(usize, TimeRange)> = Vec::new();
    let mut may_look_damaged = false;
    let lives = rng.random_range(2..4);
    for life in 0..lives {
        if home != Home::Directory && rng.random_bool(0.3) {
            bucket.set_fault(Some(bucket_fault(rng, &bucket)));
        }
        if rng.random_bool(0.2) {
            let _ = sim.env().files.remove(&snapshot_path());
        }
        let mut opened = Store::open(options.clone(), wrap(sim.env()));
        if matches!(opened, Err(Error::Objects(_))) && home != Home::Directory {
            bucket.set_fault(None);
            opened = Store::open(options.clone(), wrap(sim.env()));
        }
        let store = match opened {
            Ok(store) => store,
            Err(error) => return Err(format!("life {life}: open: {error:?}")),
        };
        if let Some(there) = read_calmly(&store, &bucket, &sim)? {
            check(&there, &acknowledged, &attempted).map_err(|e| format!("life {life}, after open: {e}"))?;
        }
        if home != Home::Directory && rng.random_bool(0.7) {
            bucket.set_fault(Some(bucket_fault(rng, &bucket)));
        }
        let kind = if rng.random_bool(0.8) { FaultKind::PowerCut } else { FaultKind::Error };
        if rng.random_bool(0.9) {
            let at_call = sim.calls() + rng.random_range(1..150);
            sim.set_fault(Some(Fault { at_call, kind }));
        }
        for _ in 0..rng.random_range(5..40) {
            let failed = match rng.random_range(0..20) {
                0 => failed(store.flush())?,
                1..4 => failed(store.maintain())?,
                4 => {
                    sim.set_capacity_bytes(sim.used_bytes() + rng.random_range(0..2000));
                    false
                }
                5 => {
                    sim.set_capacity_bytes(u64::MAX);
                    false
                }
                6 => {
                    let (number, from_ms) = (rng.random_range(0..series_count), now_ms - rng.random_range(0..3000));
                    let range = TimeRange::new(from_ms, from_ms + rng.random_range(0..2000));
                    let result = store.delete(&[Matcher::equal("series", &number.to_string())], range);
                    let is_deleted = |key: &(usize, i64)| key.0 == number && range.contains(key.1);
                    acknowledged.retain(|key, _| !is_deleted(key));
                    if result.is_ok() {
                        attempted.retain(|key, _| !is_deleted(key));
                    }
                    deleted.push((number, range));
                    result.is_err()
                }
                7 => failed(store.clean_tombstones())?,
                8 => failed(store.save_head(Occasion::Asked).map(drop))?,
                _ => {
                    now_ms += rng.random_range(0..400);
                    // Sixty times as fast as the samples, so that idle series are forgotten.
                    sim.set_now_ms(now_ms * 60);
                    let mut batch = Vec::new();
                    let mut keys = Vec::new();
                    for number in 0..series_count {
                        let late_ms = if rng.random_bool(0.2) { rng.random_range(0..4000) } else { 0 };
                        let timestamp_ms = now_ms - late_ms;
                        // What comes to a deleted range may be hidden or not.
                        if deleted.iter().any(|(n, range)| *n == number && range.contains(timestamp_ms)) {
                            continue;
                        }
                        let value = f64::from_bits(bits(number, timestamp_ms));
                        batch.push(Sample {
                            series: store.series(&labels(number)),
                            timestamp_ms,
                            value,
                            start_ms: None,
                        });
                        keys.push((number, timestamp_ms));
                        attempted.insert((number, timestamp_ms), value.to_bits());
                    }
                    let (number, timestamp_ms) = (HISTOGRAMS, now_ms);
                    attempted.insert((number, timestamp_ms), bits(number, timestamp_ms));
                    keys.push((number, timestamp_ms));
                    let histogram = Arc::new(Histogram {
                        count: f64::from_bits(bits(number, timestamp_ms)),
                        ..Histogram::default()
                    });
                    let series = store.series(&labels(number));
                    let histogram = HistogramSample { series, timestamp_ms, histogram, start_ms: None };
                    match store.append_batch(&batch, &[histogram]) {
                        Ok(outcome) => {
                            let refused: Vec<usize> = outcome.rejected.iter().map(|rejected| rejected.index).collect();
                            let taken = keys.into_iter().enumerate().filter(|(index, _)| !refused.contains(index));
                            acknowledged.extend(taken.map(|(_, key)| (key, bits(key.0, key.1))));
                            false
                        }
                        Err(_) => true,
                    }
                }
            };
            if failed && sim.is_off() {
                break;
            }
            if rng.random_bool(0.1) {
                // A full or failing disk does not stop queries.
                if let Some(there) = read_calmly(&store, &bucket, &sim)? {
                    check(&there, &acknowledged, &attempted).map_err(|e| format!("life {life}, while running: {e}"))?;
                }
                if home != Home::Directory && rng.random_bool(0.5) {
                    bucket.set_fault(Some(bucket_fault(rng, &bucket)));
                }
            }
        }
        sim.set_capacity_bytes(u64::MAX);
        if rng.random_bool(0.2) {
            let _ = failed(store.save_head(Occasion::Asked).map(drop))?;
        }
        if rng.random_bool(0.8) {
            sim.crash();
        } else if store.stats().appends_failed > 0 {
            // What could not be synced is still read by the next life, and gone in the one after: a false alarm.
            may_look_damaged = true;
        }
        sim.set_fault(None);
        bucket.set_fault(None);
        drop(store);
    }
    bucket.deliver();
    let store = Store::open(options, wrap(sim.env())).map_err(|error| format!("last open: {error:?}"))?;
    check(&read_all(&store)?, &acknowledged, &attempted).map_err(|e| format!("at the end: {e}"))?;
    store.flush().map_err(|error| format!("last flush: {error:?}"))?;
    store.maintain().map_err(|error| format!("last maintain: {error:?}"))?;
    check(&read_all(&store)?, &acknowledged, &attempted).map_err(|e| format!("after the last flush: {e}"))?;
    if store.stats().wal_damaged_ranges > 0 && !may_look_damaged {
        return Err("a crash looked like damage".to_owned());
    }
    if home != Home::Directory {
        // What was left behind is gone as soon as it is old enough.
        for _ in 0..20 {
            now_ms += 100_000;
            sim.set_now_ms(now_ms * 60);
            store.maintain().map_err(|error| format!("cleaning up: {error:?}"))?;
        }
        let objects = bucket.names().iter().filter(|name| name.starts_with("p/samples/")).count() as u64;
        if objects != 2 * store.stats().blocks {
            return Err(format!("{} blocks are {objects} objects: {:?}", store.stats().blocks, bucket.names()));
        }
    }
    Ok(())
}

/// Runs `seeds`, a few at a time, and returns what went wrong.
fn run_all(seeds: std::ops::Range<u64>, wrap: &(dyn Fn(Env) -> Env + Sync), home: Home) -> Vec<String> {
    let next = AtomicUsize::new(seeds.start as usize);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(error) = run(seed, wrap, home) {
                        failures.lock().unwrap().push(format!("seed {seed}: {error}"));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[test]
fn no_crash_loses_or_doubles_a_sample() {
    let seeds = std::env::var("CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1000);
    for home in [Home::Directory, Home::Bucket] {
        let failures = run_all(0..seeds, &|env| env, home);
        let first = &failures[..failures.len().min(5)];
        assert!(failures.is_empty(), "{home:?}: {} of {seeds} failed: {first:#?}", failures.len());
    }
}

#[test]
fn the_ledger_notices_an_object_store_that_ignores_conditions() {
    let failures = run_all(400..800, &|env| env, Home::CarelessBucket);
    assert!(!failures.is_empty(), "nobody noticed");
}

/// A disk that says yes and does not do it.
#[derive(Debug)]
struct Liar {
    files: Arc<dyn Files>,
    lie: LiesAbout,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum LiesAbout {
    Log,
    Blocks,
    Names,
    Snapshot,
}

#[derive(Debug)]
struct LiarFile(Box<dyn AppendFile>);

impl AppendFile for LiarFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

impl Files for Liar {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let file = self.files.create(path)?;
        let in_log = path.starts_with(Path::new(DIR).join("wal"));
        let in_block = path.starts_with(Path::new(DIR).join("samples"));
        let is_snapshot = path.file_stem().is_some_and(|stem| stem == "head.snapshot");
        let lies = match self.lie {
            LiesAbout::Log => in_log,
            LiesAbout::Blocks => in_block,
            LiesAbout::Snapshot => is_snapshot,
            LiesAbout::Names => false,
        };
        Ok(if lies { Box::new(LiarFile(file)) } else { file })
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }
    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.files.read_range(path, offset, len)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.files.len(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.files.list(dir)
    }
    fn list_tree(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.files.list_tree(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.lie == LiesAbout::Names { Ok(()) } else { self.files.sync_dir(dir) }
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.files.lock(dir)
    }
    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.files.total_bytes(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.files.free_bytes(dir)
    }
}

#[test]
fn the_ledger_notices_a_disk_that_does_not_sync() {
    for lie in [LiesAbout::Log, LiesAbout::Blocks, LiesAbout::Names] {
        let wrap = |env: Env| Env { files: Arc::new(Liar { files: env.files.clone(), lie }), ..env };
        let failures = run_all(0..60, &wrap, Home::Directory);
        assert!(!failures.is_empty(), "nobody noticed {lie:?}");
    }
}

#[test]
fn a_disk_that_does_not_sync_head_snapshots_loses_nothing() {
    let lie = LiesAbout::Snapshot;
    let wrap = |env: Env| Env { files: Arc::new(Liar { files: env.files.clone(), lie }), ..env };
    let failures = run_all(0..300, &wrap, Home::Directory);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_flipped_bit_is_an_error_or_harmless() {
    for seed in 0..150 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let sim = Sim::new(seed);
        let options = options(rng);
        let mut written = Ledger::new();
        let store = Store::open(options.clone(), sim.env()).unwrap();
        for step in 0..40i64 {
            let batch: Vec<_> = (0..3)
                .map(|number| {
                    let value = f64::from_bits(bits(number, step * 90));
                    written.insert((number, step * 90), value.to_bits());
                    Sample { series: store.series(&labels(number)), timestamp_ms: step * 90, value, start_ms: None }
                })
                .collect();
            store.append(&batch).unwrap();
            if step == 25 {
                store.maintain().unwrap();
            }
            if step == 32 && rng.random_bool(0.5) {
                store.save_head(Occasion::Asked).unwrap();
            }
        }
        drop(store);
        let files = sim.env().files;
        let paths = files.list_tree(Path::new(DIR)).unwrap();
        let path = &paths[rng.random_range(0..paths.len())];
        let length = files.len(path).unwrap() as usize;
        sim.flip_bit(path, rng.random_range(0..length), rng.random_range(0..8));
        let store = match Store::open(options, sim.env()) {
            Ok(store) => store,
            Err(error) => {
                assert!(error.is_corruption(), "seed {seed}, {path:?}: {error:?}");
                continue;
            }
        };
        match read_all(&store) {
            Err(error) => assert!(error.starts_with("read: "), "seed {seed}, {path:?}: {error}"),
            Ok(there) => {
                let mut promised = written.clone();
                // Damage to the very last record looks like a write that a crash tore.
                promised.retain(|(_, timestamp_ms), _| *timestamp_ms < 39 * 90);
                if store.stats().wal_damaged_ranges > 0 {
                    promised.clear();
                }
                check(&there, &promised, &written).unwrap_or_else(|error| panic!("seed {seed}, {path:?}: {error}"));
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_appends_and_later_takes_them() {
    let sim = Sim::new(7);
    let store = Store::open(StoreOptions::new(DIR), sim.env()).unwrap();
    let series = store.series(&labels(1));
    let sample = |timestamp_ms| Sample { series, timestamp_ms, value: 1.0, start_ms: None };
    store.append(&[sample(1)]).unwrap();
    sim.set_capacity_bytes(sim.used_bytes());
    for _ in 0..3 {
        assert!(matches!(store.append(&[sample(2)]), Err(Error::DiskFull { .. })));
    }
    assert!(matches!(store.flush(), Err(Error::DiskFull { .. })));
    assert!(read_all(&store).unwrap().len() <= 2);
    sim.set_capacity_bytes(u64::MAX);
    assert_eq!(store.append(&[sample(2)]).unwrap().appended, 1);
    assert_eq!(store.append(&[sample(3)]).unwrap().appended, 1);
    sim.crash();
    let store = Store::open(StoreOptions::new(DIR), sim.env()).unwrap();
    assert_eq!(read_all(&store).unwrap().len(), 3);
}
