//! SQL over flushed blocks, inside the process, per input sample and core.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilaster_benches::dataset::{Fleet, INTERVAL_MS};
use pilaster_engine::source::StoreSource;
use pilaster_model::{Matcher, TimeRange};
use pilaster_promql::engine::{Engine, EngineOptions};
use pilaster_promql::source::Source;
use pilaster_sql::{SourceProvider, SqlOptions, SqlService};
use pilaster_storage::env::Env;
use pilaster_storage::{Sample, Store, StoreOptions, WalSync};

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START_MS: i64 = 1_760_000_000_000;
const HOURS: i64 = 6;
const INSTANCES: usize = 200;

struct Provider(Arc<Store>);

impl SourceProvider for Provider {
    fn snapshot(&self) -> Arc<dyn Source> {
        Arc::new(StoreSource::new(self.0.snapshot()))
    }

    fn now_ms(&self) -> i64 {
        START_MS + HOURS * 3_600_000
    }

    fn plan_note(&self, _: &[Matcher], _: TimeRange) -> Option<String> {
        None
    }
}

fn load(dir: &std::path::Path) -> Arc<Store> {
    let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(dir) };
    let store = Store::open(options, Env::real()).expect("a store");
    let mut fleet = Fleet::new(INSTANCES);
    let references: Vec<_> = fleet.labels().map(|labels| store.series(labels)).collect();
    for timestamp_ms in (START_MS..START_MS + HOURS * 3_600_000).step_by(INTERVAL_MS as usize) {
        let samples: Vec<Sample> = references
            .iter()
            .zip(fleet.scrape())
            .map(|(&series, (_, value))| Sample { series, timestamp_ms, value, start_ms: None })
            .collect();
        store.append(&samples).expect("appended");
    }
    store.flush().expect("flushed");
    store
}

fn over_blocks(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = load(dir.path());
    let engine = Arc::new(Engine::new(EngineOptions { partitions: 1, ..EngineOptions::default() }));
    let options = SqlOptions { partitions: 1, ..SqlOptions::default() };
    let service = SqlService::new(Arc::new(Provider(store)), engine, options).expect("a service");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let scrapes = (HOURS * 3_600_000 / INTERVAL_MS) as u64;
    let mut group = criterion.benchmark_group("sql over blocks");
    group.sample_size(10);
    let queries = [
        ("count and sum, per input sample", "select count(*), sum(value) from http_requests_total", 9),
        (
            "average by instance, per input sample",
            "select instance, avg(value) from http_requests_total group by instance",
            9,
        ),
        (
            "maximum by hour of one job, per input sample",
            "select date_trunc('hour', ts) as hour, max(value) from http_requests_total where job = 'api' group by 1",
            9,
        ),
    ];
    for (name, sql, series_per_instance) in queries {
        let jobs = if sql.contains("where job") { 4 } else { 1 };
        group.throughput(Throughput::Elements(scrapes * INSTANCES as u64 * series_per_instance / jobs));
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(service.query(black_box(sql))).expect("answered"));
        });
    }
    group.finish();
}

criterion_group!(benches, over_blocks);
criterion_main!(benches);
