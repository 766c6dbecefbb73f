//! Writers, readers and maintenance at the same time: every snapshot sees whole appends, and all that were acknowledged.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use pilaster_model::{Labels, Matcher, TimeRange};
use pilaster_storage::env::Env;
use pilaster_storage::{Sample, Store, StoreOptions, WalSync};

const WRITERS: usize = 3;
const SERIES: usize = 30;

fn labels(writer: usize, number: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("writer", writer.to_string()), ("n", number.to_string())])
}

#[test]
fn snapshots_see_whole_appends_while_everything_moves() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        block_ms: 2000,
        wal_sync: WalSync::Written,
        wal_segment_bytes: 50_000,
        ..StoreOptions::new(dir.path())
    };
    let store = Store::open(options.clone(), Env::real()).unwrap();
    let acknowledged: Vec<AtomicI64> = (0..WRITERS).map(|_| AtomicI64::new(0)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut step = 0;
                while !done.load(Ordering::Relaxed) {
                    step += 1;
                    let batch: Vec<_> = (0..SERIES)
                        .map(|number| Sample {
                            series: store.series(&labels(writer, number)),
                            // Writers drift apart by chance; `maintain` only closes what is well behind all.
                            timestamp_ms: step * 10,
                            value: step as f64,
                            start_ms: None,
                        })
                        .collect();
                    let outcome = store.append(&batch).unwrap();
                    if outcome.rejected.is_empty() {
                        acknowledged.store(step, Ordering::Release);
                    } else {
                        assert_eq!(outcome.appended, 0, "one timestamp is taken or refused as a whole");
                    }
                    // No writer runs away from the others, or maintenance would close their range.
                    while !done.load(Ordering::Relaxed) && step > slowest(store) + 40 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        for reader in 0..2 {
            let (store, done, acknowledged) = (&store, &done, &acknowledged);
            scope.spawn(move || {
                let mut round = reader;
                while !done.load(Ordering::Relaxed) {
                    round += 1;
                    let writer = round % WRITERS;
                    let at_least = acknowledged[writer].load(Ordering::Acquire);
                    let snapshot = store.snapshot();
                    let matchers = [Matcher::equal("writer", &writer.to_string())];
                    for _ in 0..2 {
                        let found = snapshot.select(&matchers, TimeRange::ALL).unwrap();
                        if at_least == 0 && found.is_empty() {
                            continue;
                        }
                        assert_eq!(found.len(), SERIES);
                        let read = snapshot.read_many(&found, TimeRange::ALL).unwrap();
                        let last = read[0].timestamps.last().copied().unwrap();
                        assert!(last >= at_least * 10, "{last} read, {} acknowledged", at_least * 10);
                        for samples in &read {
                            assert_eq!(samples.timestamps.len() as i64, last / 10, "all steps, none twice");
                            assert_eq!(samples.timestamps.last(), Some(&last), "half an append");
                            let right = |(ms, value): (&i64, &f64)| *value == (*ms / 10) as f64;
                            assert!(samples.timestamps.iter().zip(&samples.values).all(right));
                        }
                    }
                }
            });
        }
        let (store, done) = (&store, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                store.maintain().unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
    });
    let stats = store.stats();
    assert!(stats.flushes > 0 && stats.samples_appended > 1000, "{stats:?}");
    drop(store);
    let store = Store::open(options, Env::real()).unwrap();
    let snapshot = store.snapshot();
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        let found = snapshot.select(&[Matcher::equal("writer", &writer.to_string())], TimeRange::ALL).unwrap();
        for samples in snapshot.read_many(&found, TimeRange::ALL).unwrap() {
            assert!(samples.timestamps.len() as i64 >= acknowledged.load(Ordering::Relaxed));
        }
    }
}

/// The step that every writer has reached: what the head holds of the slowest.
fn slowest(store: &Store) -> i64 {
    let snapshot = store.snapshot();
    let newest = |writer: usize| {
        let matchers = [Matcher::equal("writer", &writer.to_string()), Matcher::equal("n", "0")];
        let found = snapshot.select(&matchers, TimeRange::ALL).unwrap();
        let read = found.first().map(|series| snapshot.read(series, TimeRange::ALL).unwrap());
        read.and_then(|samples| samples.timestamps.last().copied()).unwrap_or(0) / 10
    };
    (0..WRITERS).map(newest).min().unwrap_or(0)
}
