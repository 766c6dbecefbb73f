//! Imports that are cut short: what was committed is there, the rest has left nothing behind, and the next try goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilaster_model::{Labels, TimeRange};
use pilaster_storage::block::{BlockSeries, OrderKey};
use pilaster_storage::env::objects::sim::Bucket;
use pilaster_storage::env::sim::{Fault, FaultKind, Sim};
use pilaster_storage::{Error, Imported, ObjectOptions, Sample, Store, StoreOptions};

const WINDOW_MS: i64 = 1000;
const WINDOWS: i64 = 4;
const SERIES: usize = 5;
/// In each window.
const SAMPLES: i64 = 20;

/// Timestamp to value, per series.
type Ledger = BTreeMap<(Labels, i64), u64>;

fn labels(number: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("n", number.to_string())])
}

fn value(number: usize, timestamp_ms: i64) -> f64 {
    (timestamp_ms * 7 + number as i64) as f64 / 4.0
}

/// What there is to import in a window, in the order of blocks.
fn series_of(window: i64) -> Vec<BlockSeries> {
    let timestamps: Arc<[i64]> = (0..SAMPLES).map(|n| window * WINDOW_MS + n * WINDOW_MS / SAMPLES).collect();
    let series = |number: usize| BlockSeries {
        labels: labels(number),
        timestamps: timestamps.clone(),
        values: timestamps.iter().map(|&ms| value(number, ms)).collect(),
        histograms: None,
        starts_ms: None,
    };
    let mut all: Vec<BlockSeries> = (0..SERIES).map(series).collect();
    all.sort_by_key(|one| OrderKey::of(&one.labels));
    all
}

fn expected() -> Ledger {
    let rows = |one: BlockSeries| {
        let labels = one.labels;
        let rows =
            one.timestamps.iter().zip(one.values).map(move |(&ms, value)| ((labels.clone(), ms), value.to_bits()));
        rows.collect::<Vec<_>>()
    };
    (0..WINDOWS).flat_map(series_of).flat_map(rows).collect()
}

fn read_all(store: &Store) -> Result<Ledger, Error> {
    let snapshot = store.snapshot();
    let found = snapshot.select(&[], TimeRange::ALL)?;
    let read = snapshot.read_many(&found, TimeRange::ALL)?;
    let mut ledger = Ledger::new();
    for (series, samples) in found.iter().zip(read) {
        for (&ms, value) in samples.timestamps.iter().zip(&samples.values) {
            assert_eq!(ledger.insert((series.labels.clone(), ms), value.to_bits()), None, "twice");
        }
    }
    Ok(ledger)
}

/// Imports everything, window by window, as far as it goes.
fn import(store: &Store, done: &mut Imported) -> Result<(), Error> {
    for window in 0..WINDOWS {
        let range = TimeRange::new(window * WINDOW_MS, (window + 1) * WINDOW_MS - 1);
        let mut import = store.import(range, 1)?;
        for one in series_of(window) {
            import.push(vec![one])?;
        }
        *done += import.commit()?;
    }
    Ok(())
}

fn check(seed: u64, far: bool) {
    let (sim, bucket) = (Sim::new(seed), Bucket::new());
    let options = StoreOptions {
        block_ms: WINDOW_MS,
        // One window is several blocks.
        block_samples: if seed.is_multiple_of(2) { 30 } else { 1 << 20 },
        blocks: far.then(|| ObjectOptions { keep_removed_ms: 0, ..ObjectOptions::new(bucket.seen_from(&sim, "p")) }),
        ..StoreOptions::new("/data")
    };
    let whole = expected();
    let mut before = Ledger::new();
    let mut tries = 0;
    loop {
        let store = Store::open(options.clone(), sim.env()).unwrap();
        let there = read_all(&store).unwrap();
        assert!(before.iter().all(|(key, bits)| there.get(key) == Some(bits)), "seed {seed}: something is gone");
        for window in 0..WINDOWS {
            let samples = there.keys().filter(|(_, ms)| ms.div_euclid(WINDOW_MS) == window).count();
            let all = SERIES * SAMPLES as usize;
            assert!(samples == 0 || samples == all, "seed {seed}: {samples} of {all} samples in window {window}");
        }
        if tries == 0 && seed.is_multiple_of(3) {
            // A sample that the store has already, from elsewhere.
            let (number, timestamp_ms) = (2, WINDOW_MS);
            let sample = Sample {
                series: store.series(&labels(number)),
                timestamp_ms,
                value: value(number, timestamp_ms),
                start_ms: None,
            };
            store.append(&[sample]).unwrap();
        }
        tries += 1;
        let mut done = Imported::default();
        if tries < 5 {
            let kind = if seed.is_multiple_of(5) { FaultKind::Error } else { FaultKind::PowerCut };
            sim.set_fault(Some(Fault { at_call: sim.calls() + (seed * 13 + tries * 29) % 90, kind }));
        }
        let result = import(&store, &mut done);
        sim.set_fault(None);
        if result.is_ok() && !sim.is_off() {
            assert_eq!(read_all(&store).unwrap(), whole, "seed {seed}");
            assert_eq!(done.samples + done.known_samples, whole.len() as u64);
            store.maintain().unwrap();
            assert_eq!(read_all(&store).unwrap(), whole, "seed {seed}, maintained");
            if far {
                let objects = bucket.names().iter().filter(|name| name.starts_with("p/samples/")).count() as u64;
                assert_eq!(objects, 2 * store.stats().blocks, "seed {seed}: {:?}", bucket.names());
            }
            break;
        }
        if !sim.is_off() {
            before = read_all(&store).unwrap();
            // One sample of the window that it was appended to is no half of an import.
            before.retain(|(_, ms), _| *ms != WINDOW_MS);
        }
        drop(store);
        sim.crash();
        if seed.is_multiple_of(3) {
            // Whole or not is asked of what was imported.
            let store = Store::open(options.clone(), sim.env()).unwrap();
            import(&store, &mut done).unwrap();
            assert_eq!(read_all(&store).unwrap(), whole, "seed {seed}");
            break;
        }
    }
    assert_eq!(read_all(&Store::open(options, sim.env()).unwrap()).unwrap(), whole, "seed {seed}, opened again");
}

#[test]
fn an_import_that_was_cut_short_goes_on_without_duplicates() {
    for far in [false, true] {
        (0..60).for_each(|seed| check(seed, far));
    }
}

/// A day and a window of imported blocks, at this time of the clock: levels of the blocks after upkeep, and merges.
fn levels_at(now_ms: i64, sample_ms: Option<i64>) -> (Vec<u8>, u64) {
    let sim = Sim::new(1);
    sim.set_now_ms(now_ms);
    let options = StoreOptions { block_ms: WINDOW_MS, ..StoreOptions::new("/data") };
    let store = Store::open(options, sim.env()).unwrap();
    for window in 0..13 {
        let mut import = store.import(TimeRange::new(window * WINDOW_MS, (window + 1) * WINDOW_MS - 1), 1).unwrap();
        import.push(series_of(window)).unwrap();
        import.commit().unwrap();
    }
    if let Some(timestamp_ms) = sample_ms {
        let series = store.series(&labels(99));
        store.append(&[Sample { series, timestamp_ms, value: 1.0, start_ms: None }]).unwrap();
    }
    let before = read_all(&store).unwrap();
    store.maintain_blocks().unwrap();
    assert_eq!(read_all(&store).unwrap(), before);
    let levels = store.snapshot().blocks().iter().map(|block| block.meta().level).collect();
    (levels, store.stats().compactions)
}

#[test]
fn imported_blocks_are_merged_although_nothing_was_flushed() {
    let day_ms = 12 * WINDOW_MS;
    // A day at once, without the steps of a store that grows.
    assert_eq!(levels_at(day_ms + 5 * WINDOW_MS, None), (vec![3, 1], 1));
    // By the clock, the day goes on; what is over of it is merged.
    assert_eq!(levels_at(day_ms + WINDOW_MS / 2 - 1, None).1, 3);
    assert_eq!(levels_at(0, None), (vec![1; 13], 0));
    // The head has a sample of the day's end, which will be a block as well.
    assert_eq!(levels_at(day_ms + 5 * WINDOW_MS, Some(day_ms - 1)).1, 3);
    assert_eq!(levels_at(day_ms + 5 * WINDOW_MS, Some(day_ms)), (vec![3, 1], 1));
}
