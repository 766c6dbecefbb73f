//! Blocks: samples per second that one core writes and reads, and the bytes that they take.
//!
//! Over a real history of three hosts where it lies beside the repository, and over a made fleet. Sizes go to stderr.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pilaster_benches::dataset::{Fleet, INTERVAL_MS};
use pilaster_ingest::exposition::{Entry, Format, Parser};
use pilaster_model::{Labels, Matcher, TimeRange, stale_nan};
use pilaster_storage::block::{Block, BlockSeries, WriteOptions, write_block};
use pilaster_storage::env::Env;

/// Samples of each series, by time.
type Samples = BTreeMap<Labels, BTreeMap<i64, f64>>;

fn series_of(samples: Samples) -> Vec<BlockSeries> {
    let mut timelines: BTreeMap<Vec<i64>, Arc<[i64]>> = BTreeMap::new();
    let shared = |timestamps: Vec<i64>| {
        let list = timelines.entry(timestamps).or_insert_with_key(|timestamps| timestamps.as_slice().into());
        Arc::clone(list)
    };
    let timestamps: Vec<Arc<[i64]>> =
        samples.values().map(|samples| samples.keys().copied().collect()).map(shared).collect();
    let values = |samples: &BTreeMap<i64, f64>| samples.values().copied().collect();
    let all = samples.into_iter().zip(timestamps);
    all.map(|((labels, samples), timestamps)| BlockSeries {
        labels,
        timestamps,
        values: values(&samples),
        histograms: None,
        starts_ms: None,
    })
    .collect()
}

/// Three node exporters, Alertmanager and Prometheus, scraped every 15 s for 39 minutes.
fn real() -> Option<Vec<BlockSeries>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/realdata");
    let packed = std::fs::read(folder.join("history_15s_39min.om.zst")).ok()?;
    let text = zstd::decode_all(packed.as_slice()).expect("the history unpacks");
    let mut samples = Samples::new();
    let mut parser = Parser::new(Format::OpenMetrics, &text);
    while let Some(entry) = parser.next() {
        let Ok(Entry::Sample(sample)) = entry else { continue };
        let labels = Labels::from_pairs(parser.labels());
        samples.entry(labels).or_default().insert(sample.timestamp_ms.expect("a history has times"), sample.value);
    }
    // The text format cannot say that a series ended; these lines do.
    let stale = std::fs::read_to_string(folder.join("history_15s_39min.om.stale.tsv")).ok()?;
    for (series, timestamp_ms) in stale.lines().filter_map(|line| line.split_once('\t')) {
        let line = format!("{series} 0\n# EOF\n");
        let mut parser = Parser::new(Format::OpenMetrics, line.as_bytes());
        if let Some(Ok(Entry::Sample(_))) = parser.next() {
            let labels = Labels::from_pairs(parser.labels());
            samples.entry(labels).or_default().insert(timestamp_ms.parse().expect("a time"), stale_nan());
        }
    }
    Some(series_of(samples))
}

/// Two hours of a made fleet.
fn made() -> Vec<BlockSeries> {
    let mut fleet = Fleet::new(400);
    let mut samples = Samples::new();
    for scrape in 0..7_200_000 / INTERVAL_MS {
        for (labels, value) in fleet.scrape() {
            samples.entry(labels.clone()).or_default().insert(1_760_000_400_000 + scrape * INTERVAL_MS, value);
        }
    }
    series_of(samples)
}

fn blocks(criterion: &mut Criterion) {
    // The figures are of one core.
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let options = WriteOptions { promoted_labels: ["job", "instance", "le"].map(str::to_owned).to_vec() };
    let env = Env::real();
    for (name, series) in [("real 15 s history", real()), ("made fleet", Some(made()))] {
        let Some(series) = series else { continue };
        let sample_count: usize = series.iter().map(|one| one.timestamps.len()).sum();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |series, level| {
            let files = &*env.files;
            one_thread.install(|| write_block(files, dir.path(), &format!("level{level}"), level, series, &options))
        };
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements(sample_count as u64));
        for level in [0, 1] {
            group.bench_function(format!("write, level {level}"), |bencher| {
                bencher.iter_batched(|| series.clone(), |series| write(series, level), BatchSize::PerIteration);
            });
            let meta = write(series.clone(), level).expect("written");
            let per_sample = |bytes: u64| bytes as f64 / sample_count as f64;
            eprintln!(
                "{name}, level {level}: {} series, {sample_count} samples, {:.3} B/sample and {:.3} of index",
                series.len(),
                per_sample(meta.files[0].bytes),
                per_sample(meta.files[1].bytes)
            );
            let block = Block::open(env.files.clone(), dir.path(), meta).expect("opened");
            let ids = block.select(&[]);
            group.bench_function(format!("read all, level {level}"), |bencher| {
                bencher.iter(|| {
                    for ids in ids.chunks(1000) {
                        black_box(block.read_many(ids, TimeRange::ALL).expect("read"));
                    }
                });
            });
        }
        group.finish();

        let meta = write(series.clone(), 0).expect("written");
        let mut group = criterion.benchmark_group(format!("{name}, one series"));
        group.bench_function("open", |bencher| {
            bencher.iter(|| Block::open(env.files.clone(), dir.path(), meta.clone()).expect("opened"));
        });
        let block = Block::open(env.files.clone(), dir.path(), meta.clone()).expect("opened");
        let labels = block.labels(block.series_count() as u32 / 2);
        let matchers: Vec<Matcher> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
        group.bench_function("select by all labels", |bencher| bencher.iter(|| block.select(black_box(&matchers))));
        let mut next = 0;
        group.bench_function("read", |bencher| {
            bencher.iter(|| {
                next = (next + 7919) % block.series_count();
                block.read(next as u32, TimeRange::ALL).expect("read")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
