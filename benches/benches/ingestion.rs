//! The store alone: appending to the head, finding series, reading samples.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pilaster_model::{Labels, MatchOp, Matcher, TimeRange};
use pilaster_storage::env::Env;
use pilaster_storage::{Sample, SeriesRef, Store, StoreOptions, WalSync};

const TARGETS: usize = 100;
const SERIES: usize = 1000;
const START_MS: i64 = 1_700_000_000_000;
const SCRAPE_MS: i64 = 15_000;

fn labels(target: usize, number: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", number % 250)),
        ("cluster", "eu-west-1".to_owned()),
        ("code", format!("{}", 200 + number / 250)),
        ("instance", format!("10.0.{}.{}:9100", target / 250, target % 250)),
        ("job", format!("job-{}", target % 10)),
    ])
}

/// Counters, constants, decimals and noise, as targets have them.
fn value(step: i64, number: usize) -> f64 {
    match number % 4 {
        0 => (step * 13 + number as i64) as f64,
        1 => 5.0,
        2 => ((step * 31 + number as i64 * 7) % 101) as f64 * 0.01,
        _ => (step as f64 + number as f64).sin(),
    }
}

struct World {
    store: Arc<Store>,
    targets: Vec<Vec<SeriesRef>>,
    step: i64,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(targets: usize, steps: i64) -> World {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(dir.path()) };
        let store = Store::open(options, Env::real()).expect("an empty directory opens");
        let target = |target| (0..SERIES).map(|number| store.series(&labels(target, number))).collect();
        let targets = (0..targets).map(target).collect();
        let mut world = World { store, targets, step: 0, _dir: dir };
        for _ in 0..steps {
            let batches = world.next_batches();
            batches.iter().for_each(|batch| world.append(batch));
        }
        world
    }

    /// One scrape of every target.
    fn next_batches(&mut self) -> Vec<Vec<Sample>> {
        self.step += 1;
        let step = self.step;
        let batch = |(target, series): (usize, &Vec<SeriesRef>)| {
            let timestamp_ms = START_MS + step * SCRAPE_MS + target as i64;
            let sample =
                |(number, &series)| Sample { series, timestamp_ms, value: value(step, number), start_ms: None };
            series.iter().enumerate().map(sample).collect()
        };
        self.targets.iter().enumerate().map(batch).collect()
    }

    fn append(&self, batch: &[Sample]) {
        let outcome = self.store.append(batch).expect("the disk has room");
        assert_eq!(outcome.appended, batch.len());
    }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64)).sample_size(20);
    let mut world = World::new(TARGETS, 1);
    group.bench_function("100 targets x 1000 series, one core", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let batches = world.next_batches();
                let start = std::time::Instant::now();
                batches.iter().for_each(|batch| world.append(batch));
                spent += start.elapsed();
                world.store.maintain().expect("maintenance works");
            }
            spent
        });
    });
    group.throughput(Throughput::Elements(SERIES as u64));
    let all: Vec<Labels> = (0..SERIES).map(|number| labels(3, number)).collect();
    group.bench_function("find 1000 known series", |bencher| {
        bencher.iter(|| all.iter().map(|labels| world.store.series(labels).to_raw()).sum::<u64>());
    });
    group.bench_function("create 1000 series", |bencher| {
        let mut target = 1_000_000;
        let fresh = || {
            target += 1;
            (0..SERIES).map(|number| labels(target, number)).collect::<Vec<_>>()
        };
        let create = |all: Vec<Labels>| all.iter().map(|labels| world.store.series(labels).to_raw()).max();
        bencher.iter_batched(fresh, create, BatchSize::LargeInput);
    });
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let world = World::new(TARGETS, 240);
    for place in ["head", "block"] {
        if place == "block" {
            world.store.flush().expect("the disk has room");
        }
        let mut group = criterion.benchmark_group(place);
        let snapshot = world.store.snapshot();
        let metric = [Matcher::equal("__name__", "metric_7_total")];
        let job = Matcher::new(MatchOp::Regex, "job", "job-[1-4]").expect("a regex");
        let cases = [
            ("one metric", metric.to_vec()),
            ("one series", vec![metric[0].clone(), Matcher::equal("instance", "10.0.0.7:9100")]),
            ("a regex", vec![metric[0].clone(), job]),
        ];
        for (name, matchers) in &cases {
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("select {name} of 100,000 series"), |bencher| {
                bencher.iter(|| snapshot.find(matchers, TimeRange::ALL).map(|found| found.len()));
            });
        }
        let found = snapshot.find(&metric, TimeRange::ALL).expect("a snapshot answers");
        let all: Vec<u32> = (0..found.len() as u32).collect();
        group.throughput(Throughput::Elements(found.len() as u64 * 240));
        group.bench_function("read 400 series x 240 samples", |bencher| {
            bencher.iter(|| found.read(&all, TimeRange::ALL).map(|read| read.len()));
        });
        group.finish();
    }
    criterion.bench_function("snapshot", |bencher| bencher.iter(|| world.store.snapshot()));
}

/// A start with a log of an hour's quarter.
fn replay(criterion: &mut Criterion) {
    const STEPS: i64 = 60;
    let World { store, _dir: dir, .. } = World::new(TARGETS, STEPS);
    drop(store);
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64 * STEPS as u64)).sample_size(10);
    group.bench_function("100,000 series x 60 samples, all cores", |bencher| {
        bencher.iter(|| {
            let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(dir.path()) };
            Store::open(options, Env::real()).expect("the log is intact").stats().head_samples
        });
    });
    group.finish();
}

criterion_group!(benches, append, read, replay);
criterion_main!(benches);
