//! What the head takes, and a flush, byte by byte: an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};

use pilaster_model::Labels;
use pilaster_storage::env::Env;
use pilaster_storage::env::sim::Sim;
use pilaster_storage::{Priority, RetentionLimits, Sample, SeriesRef, Store, StoreOptions, WalSync, Workers};

struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static PEAK_BYTES: AtomicI64 = AtomicI64::new(0);

/// As much as an allocator with size classes takes: four to each doubling, 16 bytes apart at least.
fn class(bytes: usize) -> i64 {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step) as i64
}

// SAFETY: every call goes to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = LIVE_BYTES.fetch_add(class(layout.size()), Ordering::Relaxed);
        PEAK_BYTES.fetch_max(before + class(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(class(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: they share the count.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn live_bytes() -> i64 {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// The most that was live while `work` went on, beside what was live before.
fn peak_bytes(work: impl FnOnce()) -> i64 {
    let before = live_bytes();
    PEAK_BYTES.store(before, Ordering::Relaxed);
    work();
    PEAK_BYTES.load(Ordering::Relaxed) - before
}

fn open(dir: &tempfile::TempDir) -> std::sync::Arc<Store> {
    let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(dir.path()) };
    Store::open(options, Env::real()).unwrap()
}

/// Ten labels, as series of containers have; `pods` of them, with 500 series each.
fn labels(number: usize) -> Labels {
    let (pod, series) = (number / 500, number % 500);
    Labels::from_pairs([
        ("__name__", format!("container_metric_{}_total", series / 10)),
        ("cluster", "eu-west-1".to_owned()),
        ("container", format!("service-{}", pod % 40)),
        ("device", format!("/dev/disk{}", series % 10)),
        ("endpoint", "https-metrics".to_owned()),
        ("instance", format!("10.1.{}.{}:10250", pod / 250, pod % 250)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{}", pod % 20)),
        ("node", format!("node-{}.example.internal", pod % 30)),
        ("pod", format!("service-{}-7f9c{pod:04x}", pod % 40)),
    ])
}

#[test]
fn an_active_series_costs_less_than_400_bytes_beside_its_samples() {
    let _alone = alone();
    const COUNT: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let before = live_bytes();
    let series: Vec<SeriesRef> = (0..COUNT).map(|number| store.series(&labels(number))).collect();
    for batch in series.chunks(1000) {
        let samples: Vec<_> = batch
            .iter()
            .map(|&series| Sample { series, timestamp_ms: 1_700_000_000_000, value: 3.5, start_ms: None })
            .collect();
        store.append(&samples).unwrap();
    }
    let bytes = (live_bytes() - before) as f64 / COUNT as f64 - 8.0;
    let own = store.head_memory_bytes() as f64 / COUNT as f64;
    println!("{bytes:.0} bytes a series with one sample, {own:.0} by its own account");
    assert!(bytes < 400.0, "{bytes} bytes a series");
    assert!((own / bytes - 1.0).abs() < 0.25, "{own} by its own account, {bytes} in truth");
}

/// `(labels, samples)` of real scrapes, 15 s apart; none where the folder beside the workspace is missing.
fn real_history() -> Vec<(Labels, Vec<(i64, f64)>)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/realdata/history_15s_39min.om.zst");
    let Ok(file) = std::fs::File::open(&file) else { return Vec::new() };
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut history: Vec<(Labels, Vec<(i64, f64)>)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        // The text of the series need not be understood here: it is one label.
        let Some((rest, seconds)) = line.rsplit_once(' ') else { continue };
        let Some((series, value)) = rest.rsplit_once(' ') else { continue };
        let (Ok(seconds), Ok(value)) = (seconds.parse::<f64>(), value.parse::<f64>()) else { continue };
        let place = *places.entry(series).or_insert_with(|| {
            history.push((Labels::from_pairs([("__name__", "m"), ("text", series)]), Vec::new()));
            history.len() - 1
        });
        history[place].1.push(((seconds * 1000.0).round() as i64, value));
    }
    history
}

#[test]
fn a_real_sample_costs_less_than_3_bytes() {
    let _alone = alone();
    let mut history = real_history();
    if history.is_empty() {
        println!("no real history beside the workspace: nothing checked");
        return;
    }
    history.iter_mut().for_each(|(_, samples)| samples.sort_by_key(|(ms, _)| *ms));
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let series: Vec<SeriesRef> = history.iter().map(|(labels, _)| store.series(labels)).collect();
    let append = |skip: usize, take: usize| {
        let mut count = 0;
        for (&series, (_, samples)) in series.iter().zip(&history) {
            let part = samples.iter().skip(skip).take(take);
            let batch: Vec<_> =
                part.map(|&(timestamp_ms, value)| Sample { series, timestamp_ms, value, start_ms: None }).collect();
            count += store.append(&batch).unwrap().appended;
        }
        count
    };
    let first = append(0, 1);
    let before = live_bytes();
    let count = append(1, usize::MAX);
    let bytes = (live_bytes() - before) as f64 / count as f64;
    println!("{} series, {} samples, {bytes:.2} bytes a sample", series.len(), first + count);
    assert!(bytes < 3.0, "{bytes} bytes a sample");
}

/// Pods that come and go: as many as are active take room, however many there were.
#[test]
fn churn_does_not_grow_the_head() {
    let _alone = alone();
    const ROUNDS: usize = 24;
    const PODS: usize = 2;
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new(1);
    let env = Env { clock: sim.env().clock, ..Env::real() };
    let options = StoreOptions {
        wal_sync: WalSync::Written,
        block_ms: 60_000,
        // Old blocks go, so that what grows is the head's.
        retention: RetentionLimits::of_ms(300_000),
        ..StoreOptions::new(dir.path())
    };
    let store = Store::open(options, env).unwrap();
    let mut after_round = Vec::new();
    for round in 0..ROUNDS {
        let from = round * PODS * 500;
        for step in 0..4 {
            let now_ms = 1_700_000_000_000 + (round as i64 * 4 + step) * 30_000;
            sim.set_now_ms(now_ms);
            let sample = |number: usize| Sample {
                series: store.series(&labels(number)),
                timestamp_ms: now_ms,
                value: (number + step as usize) as f64,
                start_ms: None,
            };
            let samples: Vec<_> = (from..from + PODS * 500).map(sample).collect();
            assert_eq!(store.append(&samples).unwrap().appended, samples.len());
            store.maintain().unwrap();
        }
        after_round.push((store.stats().series, store.head_memory_bytes(), live_bytes()));
    }
    let stats = store.stats();
    assert_eq!(stats.series_created, (ROUNDS * PODS * 500) as u64);
    assert!(stats.series <= (5 * PODS * 500) as u64, "{} series are held", stats.series);
    let most = |rounds: std::ops::Range<usize>, of: fn(&(u64, u64, i64)) -> i64| {
        after_round[rounds].iter().map(of).max().unwrap_or_default()
    };
    for (name, of) in [("own account", (|r| r.1 as i64) as fn(&(u64, u64, i64)) -> i64), ("allocator", |r| r.2)] {
        let (early, late) = (most(4..14, of), most(ROUNDS - 10..ROUNDS, of));
        println!("{name}: {early} bytes after rounds 4 to 14, {late} after the last ten");
        assert!(late < early + early / 4, "{name}: {early} bytes grew to {late}: {after_round:?}");
    }
}

/// Counters of `count` series, so many samples each: 900 series with 1200 are a row group. On two threads, as the server
/// does it.
fn counters(dir: &tempfile::TempDir, count: usize, steps: i64, block_ms: i64) -> std::sync::Arc<Store> {
    let workers = Workers::new("two", 2, Priority::Low).unwrap();
    let options = StoreOptions {
        wal_sync: WalSync::Written,
        block_ms,
        flush_workers: workers.clone(),
        merge_workers: workers,
        ..StoreOptions::new(dir.path())
    };
    let store = Store::open(options, Env::real()).unwrap();
    let series: Vec<SeriesRef> = (0..count).map(|number| store.series(&labels(number))).collect();
    for steps in (0..steps).collect::<Vec<_>>().chunks(60) {
        let sample = |(number, &series): (usize, &SeriesRef), step: i64| Sample {
            series,
            timestamp_ms: 1_699_992_000_000 + step * 15_000,
            value: (step * 25 + step * number as i64 % 17) as f64,
            start_ms: None,
        };
        let batch: Vec<Sample> =
            steps.iter().flat_map(|&step| series.iter().enumerate().map(move |one| sample(one, step))).collect();
        assert_eq!(store.append(&batch).unwrap().appended, batch.len());
    }
    store
}

#[test]
fn a_flush_takes_as_much_however_much_there_is() {
    let _alone = alone();
    let peak = |count: usize| {
        let dir = tempfile::tempdir().unwrap();
        let store = counters(&dir, count, 1200, 18_000_000);
        let peak = peak_bytes(|| store.flush().unwrap());
        assert_eq!(store.stats().head_samples, 0);
        assert!(store.stats().blocks > 0);
        peak as f64 / 1048576.0
    };
    let (group, groups) = (peak(900), peak(3600));
    println!("{group:.1} MiB for a row group, {groups:.1} for four");
    // A row group's values alone are 8 MiB.
    assert!(group < 10.0, "{group} MiB for a row group");
    assert!(groups < group + 5.0, "{group} MiB for a row group, {groups} for four");
}

#[test]
fn a_merge_takes_little_beside_its_blocks() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let store = counters(&dir, 1350, 1200, 1_800_000);
    store.flush().unwrap();
    let before = store.stats().blocks;
    let peak = peak_bytes(|| while_merging(&store)) as f64 / 1048576.0;
    assert!(before >= 10 && store.stats().blocks < before / 2, "{before} blocks became {}", store.stats().blocks);
    println!("{peak:.1} MiB for one and a half row groups");
    // Their values alone are 12 MiB, and each has a timestamp.
    assert!(peak < 16.0, "{peak} MiB for one and a half row groups");
}

#[test]
fn a_merge_to_a_day_takes_as_little() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    // Twelve block ranges are a day, and one more shows that it is over.
    let store = counters(&dir, 1350, 1300, 1_500_000);
    store.flush().unwrap();
    let peak = peak_bytes(|| while_merging(&store)) as f64 / 1048576.0;
    let day = store.snapshot().blocks().iter().map(|block| block.meta().clone()).find(|meta| meta.level == 3);
    let rows = day.expect("a block of a day").sample_count;
    println!("{peak:.1} MiB for a row group of {rows} rows");
    assert_eq!(rows, 1350 * 1200);
    // Its values alone are 12 MiB, and as many its timestamps.
    assert!(peak < 16.0, "{peak} MiB for a row group of {rows} rows");
}

/// Merges until there is nothing more to merge.
fn while_merging(store: &Store) {
    loop {
        let before = store.stats().blocks;
        store.maintain_blocks().unwrap();
        if store.stats().blocks == before {
            return;
        }
    }
}
