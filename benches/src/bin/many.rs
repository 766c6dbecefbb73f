//! A store of very many small blocks: what opening it costs, in time and memory, and what queries cost that touch them
//! all. With `--merge` the same again after the blocks were merged, and what that cost.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use pilaster_benches::dataset::{Fleet, INTERVAL_MS};
use pilaster_benches::server::{disk_bytes, own_usage};
use pilaster_engine::source::StoreSource;
use pilaster_model::{Labels, TimeRange};
use pilaster_promql::engine::{Engine, EngineOptions};
use pilaster_storage::block::{BlockSeries, OrderKey};
use pilaster_storage::env::Env;
use pilaster_storage::{Sample, Store, StoreOptions};

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Opening a store of very many small blocks, and queries over all of them")]
struct Arguments {
    /// Blocks of two hours, one behind the other.
    #[arg(long, default_value_t = 5000)]
    blocks: i64,
    /// Instances that were scraped; each has 27 series.
    #[arg(long, default_value_t = 11)]
    instances: usize,
    /// Runs of every query; the median counts.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Only what has this in its title is asked.
    #[arg(long, default_value = "")]
    only: String,
    /// Merge the blocks and ask again.
    #[arg(long)]
    merge: bool,
    /// A directory for the blocks that stays and is used again; a temporary one otherwise.
    #[arg(long)]
    dir: Option<PathBuf>,
}

const BLOCK_MS: i64 = 7_200_000;
const START_MS: i64 = 1_699_920_000_000;
const DAY_MS: i64 = 86_400_000;

/// Graphs at 500 steps over the end of the history; the title says what is divided by what.
const QUERIES: &[(&str, &str)] = &[
    ("1 series", "node_load1{instance=\"10.0.0.1:9100\"}"),
    ("cpu use", "100 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])) * 100"),
    ("requests by job", "sum by (job) (rate(http_requests_total[5m]))"),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir()?;
    let dir = arguments.dir.clone().unwrap_or_else(|| temporary.path().join("data"));
    if !dir.join("manifest.jsonl").exists() {
        fill(&dir, &arguments)?;
    }
    let mut store = open(&dir)?;
    let end_ms = START_MS + arguments.blocks * BLOCK_MS;
    ask(&store, end_ms, &arguments)?;
    if arguments.merge {
        // A range of time is merged when the head has left it behind.
        let series = store.series(&Labels::from_pairs([("__name__", "up")]));
        store.append(&[Sample { series, timestamp_ms: end_ms, value: 1.0, start_ms: None }])?;
        store.flush()?;
        let (begun, cpu) = (Instant::now(), own_usage().cpu_seconds);
        store.maintain()?;
        let (stats, cpu) = (store.stats(), own_usage().cpu_seconds - cpu);
        println!(
            "\nmerged: {} blocks, {:.3} bytes a sample, in {:.1} s and {cpu:.1} CPU seconds: {:.1} M samples a CPU second",
            stats.blocks,
            stats.block_bytes as f64 / stats.block_samples as f64,
            begun.elapsed().as_secs_f64(),
            stats.block_samples as f64 / cpu / 1e6
        );
        drop(store);
        store = open(&dir)?;
        ask(&store, end_ms, &arguments)?;
    }
    Ok(())
}

/// Blocks in `dir`, through the store's way of importing them.
fn fill(dir: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let store = Store::open(StoreOptions::new(dir), Env::real())?;
    let mut fleet = Fleet::new(arguments.instances);
    let mut values: BTreeMap<OrderKey, (Labels, Vec<f64>)> = BTreeMap::new();
    for _ in 0..BLOCK_MS / INTERVAL_MS {
        for (labels, value) in fleet.scrape() {
            let series = values.entry(OrderKey::of(labels)).or_insert_with(|| (labels.clone(), Vec::new()));
            series.1.push(value);
        }
    }
    let mut commits: Vec<Duration> = Vec::new();
    let begun = Instant::now();
    for number in 0..arguments.blocks {
        let start_ms = START_MS + number * BLOCK_MS;
        let mut times: BTreeMap<String, Arc<[i64]>> = BTreeMap::new();
        let series = values.values().map(|(labels, values)| {
            let instance = labels.get("instance").to_owned();
            let late_ms = times.len() as i64 * 17;
            let times = times.entry(instance).or_insert_with(|| {
                let at = |scrape: usize| start_ms + late_ms + scrape as i64 * INTERVAL_MS;
                (0..values.len()).map(at).collect()
            });
            BlockSeries {
                labels: labels.clone(),
                timestamps: times.clone(),
                values: values.clone(),
                histograms: None,
                starts_ms: None,
            }
        });
        let mut import = store.import(TimeRange::new(start_ms, start_ms + BLOCK_MS - 1), 0)?;
        import.push(series.collect())?;
        let committing = Instant::now();
        import.commit()?;
        commits.push(committing.elapsed());
    }
    let last = &mut commits[arguments.blocks as usize * 9 / 10..];
    last.sort();
    println!(
        "{} blocks of {} series in {:.1} s; of the last tenth a commit takes {:.1} ms in the middle; manifest {} KiB",
        arguments.blocks,
        values.len(),
        begun.elapsed().as_secs_f64(),
        last[last.len() / 2].as_secs_f64() * 1000.0,
        std::fs::metadata(dir.join("manifest.jsonl"))?.len() >> 10
    );
    Ok(())
}

fn open(dir: &Path) -> anyhow::Result<Arc<Store>> {
    let (resident, begun, cpu) = (own_usage().resident_bytes, Instant::now(), own_usage().cpu_seconds);
    let store = Store::open(StoreOptions::new(dir), Env::real())?;
    let (took, cpu) = (begun.elapsed(), own_usage().cpu_seconds - cpu);
    let stats = store.stats();
    println!(
        "opened {} blocks of {} samples, {} MiB, in {:.0} ms and {:.0} CPU ms; resident {} KiB more",
        stats.blocks,
        stats.block_samples,
        disk_bytes(dir) >> 20,
        took.as_secs_f64() * 1000.0,
        cpu * 1000.0,
        own_usage().resident_bytes.saturating_sub(resident) >> 10
    );
    Ok(store)
}

fn ask(store: &Arc<Store>, end_ms: i64, arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let engine = Engine::new(EngineOptions { partitions: 1, ..EngineOptions::default() });
    let first_ms = store.stats().blocks_min_ms.context("there are blocks")?;
    println!("{:<28}{:>12}{:>12}", "", "first", "median");
    let measure = |title: &str, work: &dyn Fn() -> anyhow::Result<()>| -> anyhow::Result<()> {
        if !title.contains(&arguments.only) {
            return Ok(());
        }
        let mut times = Vec::new();
        for _ in 0..arguments.runs.max(1) {
            let begun = Instant::now();
            work()?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        let first = times[0];
        times.sort_by(f64::total_cmp);
        println!("{title:<28}{first:>9.2} ms{:>9.2} ms", times[times.len() / 2]);
        Ok(())
    };
    measure("label values", &|| {
        black_box(store.snapshot().label_values("instance", &[], TimeRange::ALL)?);
        Ok(())
    })?;
    measure("label values of a metric", &|| {
        let up = pilaster_model::Matcher::equal("__name__", "up");
        black_box(store.snapshot().label_values("instance", &[up], TimeRange::ALL)?);
        Ok(())
    })?;
    for (range, days) in [("7 d", 7), ("30 d", 30), ("all", i64::MAX)] {
        let start_ms = first_ms.max(end_ms - days.saturating_mul(DAY_MS).min(end_ms));
        let step_ms = ((end_ms - start_ms) / 500 / 1000 * 1000).max(1000);
        for (title, query) in QUERIES {
            measure(&format!("{title}, {range}"), &|| {
                let source = Arc::new(StoreSource::new(store.snapshot()));
                black_box(runtime.block_on(engine.range(source, query, start_ms, end_ms, step_ms))?);
                Ok(())
            })?;
        }
    }
    println!("resident {} MiB", own_usage().resident_bytes >> 20);
    Ok(())
}
