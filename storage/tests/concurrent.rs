//! Writers, readers and maintenance at the same time: every snapshot sees whole appends, and all that were acknowledged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use pilaster_model::{Labels, Matcher, TimeRange};
use pilaster_storage::env::sim::{Fault, FaultKind, Sim};
use pilaster_storage::env::{AppendFile, DirLock, Env, Files};
use pilaster_storage::{Occasion, Priority, RetentionLimits, Sample, Store, StoreOptions, WalSync, Workers};

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
        // Beside flushes, too: they make a head snapshot that is being taken useless.
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                store.save_head(Occasion::Asked).unwrap();
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
    let store = Store::open(options.clone(), Env::real()).unwrap();
    let with_snapshot = all_samples(&store);
    drop(store);
    std::fs::remove_file(dir.path().join("wal/head.snapshot")).unwrap();
    let store = Store::open(options, Env::real()).unwrap();
    assert_eq!(with_snapshot, all_samples(&store));
    let snapshot = store.snapshot();
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        let found = snapshot.select(&[Matcher::equal("writer", &writer.to_string())], TimeRange::ALL).unwrap();
        for samples in snapshot.read_many(&found, TimeRange::ALL).unwrap() {
            assert!(samples.timestamps.len() as i64 >= acknowledged.load(Ordering::Relaxed));
        }
    }
}

/// A copy of a simulated machine without the head snapshot.
fn without_snapshot(sim: &Sim) -> Sim {
    let copy = Sim::new(1);
    let (from, to) = (sim.env().files, copy.env().files);
    for path in from.list_tree(Path::new("/data")).unwrap() {
        if path.file_name().is_some_and(|name| name == "head.snapshot") {
            continue;
        }
        let mut file = to.create(&path).unwrap();
        file.append(&from.read(&path).unwrap()).unwrap();
        file.sync().unwrap();
        to.sync_dir(path.parent().unwrap()).unwrap();
    }
    copy
}

/// All samples, in the order of series.
fn all_samples(store: &Store) -> Vec<(Labels, Vec<i64>, Vec<f64>)> {
    let snapshot = store.snapshot();
    let found = snapshot.select(&[], TimeRange::ALL).unwrap();
    let read = snapshot.read_many(&found, TimeRange::ALL).unwrap();
    let all = found.into_iter().zip(read);
    all.map(|(series, read)| (series.labels, read.timestamps.to_vec(), read.values)).collect()
}

/// Writers that touch several shards at once, some of them with new series, while head snapshots are taken, until the power
/// goes: what comes back is what the log alone gives, and all that was acknowledged.
#[test]
fn head_snapshots_are_taken_beside_appends() {
    let sim = Sim::new(3);
    let options = StoreOptions { wal_segment_bytes: 20_000, shards: 8, ..StoreOptions::new("/data") };
    let acknowledged: Vec<AtomicI64> = (0..WRITERS).map(|_| AtomicI64::new(0)).collect();
    let mut snapshots_used = 0;
    for life in 0..12 {
        let store = Store::open(options.clone(), sim.env()).unwrap();
        assert_eq!(
            all_samples(&store),
            all_samples(&Store::open(options.clone(), without_snapshot(&sim).env()).unwrap())
        );
        snapshots_used += u64::from(store.stats().restored_samples > 0);
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let snapshot = store.snapshot();
            let found = snapshot.select(&[Matcher::equal("writer", &writer.to_string())], TimeRange::ALL).unwrap();
            for samples in snapshot.read_many(&found, TimeRange::ALL).unwrap() {
                assert!(samples.timestamps.last() >= Some(&acknowledged.load(Ordering::Relaxed)), "life {life}");
            }
        }
        let saved = AtomicI64::new(0);
        std::thread::scope(|scope| {
            for (writer, acknowledged) in acknowledged.iter().enumerate() {
                let store = &store;
                scope.spawn(move || {
                    for step in acknowledged.load(Ordering::Relaxed) + 1.. {
                        let sample = |number: usize| Sample {
                            series: store.series(&labels(writer, number)),
                            timestamp_ms: step,
                            value: (step * number as i64) as f64,
                            start_ms: None,
                        };
                        let batch: Vec<_> = (0..SERIES).map(sample).collect();
                        let new = labels(9, step as usize * WRITERS + writer);
                        let new = Sample { series: store.series(&new), ..batch[0] };
                        if store.append(&batch).is_err() || store.append(&[new]).is_err() {
                            return;
                        }
                        acknowledged.store(step, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                while let Ok(taken) = store.save_head(Occasion::Asked) {
                    saved.fetch_add(i64::from(taken), Ordering::Relaxed);
                }
            });
            let wanted = 1 + life % 3;
            while saved.load(Ordering::Relaxed) < wanted {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(life as u64 % 4));
            sim.set_fault(Some(Fault { at_call: sim.calls() + 1, kind: FaultKind::PowerCut }));
        });
        sim.crash();
    }
    assert!(snapshots_used > 6, "{snapshots_used} of 12 starts");
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

/// A disk on which something happens when a file of a merged block is begun.
#[derive(Debug)]
struct Interrupted {
    files: Arc<dyn Files>,
    store: Mutex<Weak<Store>>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

type Meanwhile = fn(&Store);

impl Files for Interrupted {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let name = path.to_string_lossy();
        let is_merged = ["-1-", "-2-", "-3-"].iter().any(|level| name.contains(level));
        let meanwhile = is_merged.then(|| self.meanwhile.lock().unwrap().take()).flatten();
        let store = self.store.lock().unwrap().upgrade();
        if let (Some(meanwhile), Some(store)) = (meanwhile, store) {
            meanwhile(&store);
        }
        self.files.create(path)
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
        self.files.sync_dir(dir)
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

fn append(store: &Store, number: usize, times_ms: impl Iterator<Item = i64>) {
    let series = store.series(&labels(0, number));
    let sample = |timestamp_ms| Sample { series, timestamp_ms, value: timestamp_ms as f64, start_ms: None };
    let samples: Vec<Sample> = times_ms.map(sample).collect();
    assert_eq!(store.append(&samples).unwrap().appended, samples.len());
}

/// Timestamps of all series, by their number.
fn times(store: &Store) -> Vec<Vec<i64>> {
    let snapshot = store.snapshot();
    let read = |number: usize| {
        let matchers = [Matcher::equal("n", &number.to_string())];
        let found = snapshot.select(&matchers, TimeRange::ALL).unwrap();
        let read = snapshot.read_many(&found, TimeRange::ALL).unwrap();
        read.iter().flat_map(|samples| samples.timestamps.iter().copied()).collect()
    };
    (0..3).map(read).collect()
}

/// What happens while blocks are merged waits for nothing, and stays when they are.
#[test]
fn a_merge_holds_up_nothing_and_undoes_nothing() {
    let meanwhile: [(Meanwhile, [Vec<i64>; 3]); 4] = [
        (|_| {}, [vec![100, 300, 500, 2100, 9000], vec![200, 400], vec![]]),
        (
            |store| store.delete(&[Matcher::equal("n", "0")], TimeRange::new(200, 2500)).unwrap(),
            [vec![100, 9000], vec![200, 400], vec![]],
        ),
        (
            |store| {
                append(store, 2, [9000, 9100].into_iter());
                store.flush().unwrap();
            },
            [vec![100, 300, 500, 2100, 9000], vec![200, 400], vec![9000, 9100]],
        ),
        (
            // What is being merged is too old meanwhile.
            |store| {
                store.set_retention(RetentionLimits::of_ms(5000)).unwrap();
                store.maintain_head().unwrap();
            },
            [vec![9000], vec![], vec![]],
        ),
    ];
    for (case, (meanwhile, expected)) in meanwhile.into_iter().enumerate() {
        for idle in [false, true] {
            let sim = Sim::new(case as u64);
            sim.set_now_ms(9000);
            let files = Arc::new(Interrupted {
                files: sim.env().files,
                store: Mutex::default(),
                meanwhile: Mutex::new(Some(meanwhile)),
            });
            let mut options = StoreOptions { block_ms: 1000, out_of_order_ms: 9000, ..StoreOptions::new("/data") };
            if idle {
                options.merge_workers = Workers::new("merge", 2, Priority::Idle).unwrap();
            }
            let store = Store::open(options.clone(), Env { files: files.clone(), ..sim.env() }).unwrap();
            *files.store.lock().unwrap() = Arc::downgrade(&store);
            append(&store, 0, [100, 500, 2100].into_iter());
            store.flush().unwrap();
            append(&store, 0, [9000].into_iter());
            append(&store, 0, [300].into_iter());
            append(&store, 1, [200, 400].into_iter());
            store.flush().unwrap();
            let blocks = store.stats().blocks;
            // A deletion from before, which the merge carries out.
            store.delete(&[Matcher::equal("n", "0")], TimeRange::new(50, 60)).unwrap();
            store.maintain_blocks().unwrap();
            assert!(files.meanwhile.lock().unwrap().is_none(), "case {case}: nothing was merged");
            assert_eq!(times(&store), expected, "case {case}");
            assert!(store.stats().blocks < blocks + 2, "case {case}: {:?}", store.stats());
            sim.crash();
            drop(store);
            let store = Store::open(options, sim.env()).unwrap();
            assert_eq!(times(&store), expected, "case {case}, opened again");
            store.clean_tombstones().unwrap();
            assert_eq!(times(&store), expected, "case {case}, cleaned");
        }
    }
}
