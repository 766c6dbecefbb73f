//! Bytes on disk per sample, labels and indexes included: a history of real scrapes, and a synthetic day. Our blocks as
//! they are flushed and as they are merged, with what merging and their indexes cost, and reading them, also from an object
//! store some way off; Prometheus's blocks as promtool makes them, and VictoriaMetrics after a forced merge. Staleness
//! markers, which OpenMetrics cannot carry, are in none of them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use clap::Parser;
use pilaster_benches::dataset::{Fleet, INTERVAL_MS};
use pilaster_benches::distant::Distant;
use pilaster_benches::server::{Kind, Server, disk_bytes, own_usage, write_request};
use pilaster_benches::table::Table;
use pilaster_ingest::remote_write::SeriesToSend;
use pilaster_model::{Labels, METRIC_NAME, Matcher, TimeRange};
use pilaster_storage::env::Env;
use pilaster_storage::env::objects::open_url;
use pilaster_storage::{ObjectOptions, Sample, Snapshot, Store, StoreOptions, WalSync};

#[derive(Parser)]
#[command(about = "Bytes on disk per sample, beside Prometheus's blocks and VictoriaMetrics")]
struct Arguments {
    /// A history in OpenMetrics, plain or compressed with zstd (then the program `zstd` is asked).
    #[arg(long, default_value = "../shared/realdata/history_15s_39min.om.zst")]
    history: PathBuf,
    /// promtool, for Prometheus's blocks.
    #[arg(long)]
    promtool: Option<PathBuf>,
    /// VictoriaMetrics.
    #[arg(long)]
    victoria_metrics: Option<PathBuf>,
    /// Instances of the synthetic day, 27 series each; 0 leaves it out.
    #[arg(long, default_value_t = 40)]
    instances: usize,
    /// Hours of the synthetic day.
    #[arg(long, default_value_t = 24)]
    hours: i64,
    /// Scrapes of the synthetic day come so many milliseconds early or late at most.
    #[arg(long, default_value_t = 75)]
    jitter_ms: i64,
    /// What a request to an object store takes, for samples that are read from there.
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Where directories are made; a temporary directory otherwise. They are removed in the end.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Series and metrics that are read from far away, one by one.
const FAR_READS: usize = 9;

type MatchersOf<'a> = &'a dyn Fn(&Labels) -> Vec<Matcher>;

/// Samples by series, ascending by time.
type History = Vec<(Labels, Vec<(i64, f64)>)>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    if arguments.history.exists() {
        let text = dir.path().join("history.om");
        unpack(&arguments.history, &text)?;
        let history = parse(&std::fs::read_to_string(&text)?);
        measure(&arguments, "real scrapes", &history, dir.path()).await?;
    } else {
        println!("there is no {:?}: real scrapes are left out", arguments.history);
    }
    if arguments.instances > 0 {
        measure(&arguments, "synthetic", &synthetic(&arguments)?, dir.path()).await?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, title: &str, history: &History, dir: &Path) -> anyhow::Result<()> {
    let samples: usize = history.iter().map(|(_, samples)| samples.len()).sum();
    println!("\n{title}: {} series, {samples} samples", history.len());
    let names = ["Pilaster", "Prometheus", "VictoriaMetrics"];
    let mut table = Table::new(names.map(str::to_owned));
    let home = tempfile::tempdir_in(dir)?;
    ours(arguments, history, home.path(), samples, &mut table)?;
    if let Some(promtool) = &arguments.promtool {
        theirs(promtool, history, home.path(), samples, &mut table)?;
    }
    if let Some(program) = &arguments.victoria_metrics {
        victoria(program, history, home.path(), samples, &mut table).await?;
    }
    table.print();
    Ok(())
}

/// Through the store itself: the log is written and cut as in the server.
fn ours(
    arguments: &Arguments,
    history: &History,
    home: &Path,
    samples: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    let data_dir = home.join("pilaster");
    let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(&data_dir) };
    let store = Store::open(options.clone(), Env::real())?;
    let begun = Instant::now();
    // By time, as scrapes come: blocks are flushed on the way.
    let mut rows: Vec<(i64, usize, f64)> = history
        .iter()
        .enumerate()
        .flat_map(|(series, (_, samples))| samples.iter().map(move |&(ms, value)| (ms, series, value)))
        .collect();
    rows.sort_by_key(|&(ms, series, _)| (ms, series));
    let references: Vec<_> = history.iter().map(|(labels, _)| store.series(labels)).collect();
    let mut appended = 0;
    for (number, part) in rows.chunks(100_000).enumerate() {
        let batch: Vec<_> = part
            .iter()
            .map(|&(timestamp_ms, series, value)| {
                // A series that was forgotten meanwhile has another reference.
                let series = if number == 0 { references[series] } else { store.series(&history[series].0) };
                Sample { series, timestamp_ms, value, start_ms: None }
            })
            .collect();
        appended += store.append(&batch)?.appended;
        store.maintain_head()?;
    }
    ensure!(appended == samples, "{appended} of {samples} samples were taken");
    store.flush()?;
    table.set("s to load", 0, begun.elapsed().as_secs_f64());
    let blocks = || disk_bytes(&data_dir) - disk_bytes(&data_dir.join("wal"));
    table.set("bytes / sample, flushed", 0, blocks() as f64 / samples as f64);
    let cpu = own_usage().cpu_seconds;
    store.maintain()?;
    let cpu = own_usage().cpu_seconds - cpu;
    table.set("bytes / sample, merged", 0, blocks() as f64 / samples as f64);
    table.set("blocks", 0, store.stats().blocks as f64);
    if store.stats().compactions > 0 {
        table.set("M samples / CPU s, merging", 0, samples as f64 / cpu / 1e6);
    }
    let snapshot = store.snapshot();
    let (mut index_bytes, mut series) = (0, 0);
    for meta in snapshot.blocks().iter().map(|block| block.meta()) {
        index_bytes +=
            meta.files.iter().filter(|file| file.path.ends_with(".index")).map(|file| file.bytes).sum::<u64>();
        series += meta.series_count;
    }
    table.set("bytes / series, index", 0, index_bytes as f64 / series as f64);
    table.set("bytes / sample, index", 0, index_bytes as f64 / samples as f64);
    read_each(&snapshot, table)?;
    drop((snapshot, store));
    read_far(arguments, history, &options, home, table)
}

/// A whole series, and all series of a metric, from a store far away, of which nothing is here but the manifest.
fn read_far(
    arguments: &Arguments,
    history: &History,
    options: &StoreOptions,
    home: &Path,
    table: &mut Table,
) -> anyhow::Result<()> {
    let url = format!("file://{}", std::path::absolute(home.join("objects"))?.display());
    let near = open_url(&url, &[], Env::real().files).map_err(anyhow::Error::msg)?;
    let latency = Duration::from_millis(arguments.latency_ms);
    let objects = Arc::new(Distant { objects: near, latency });
    let options = StoreOptions { blocks: Some(ObjectOptions::new(objects)), ..options.clone() };
    // Blocks of the directory move there at its next start.
    drop(Store::open(options.clone(), Env::real())?);
    let whole = |labels: &Labels| labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect::<Vec<_>>();
    let metric = |labels: &Labels| vec![Matcher::equal(METRIC_NAME, labels.metric_name())];
    let kinds: [(&str, MatchersOf); 2] = [("a series", &whole), ("a metric", &metric)];
    for (name, matchers) in kinds {
        let (mut times, mut most) = (Vec::new(), 0);
        for number in 0..FAR_READS {
            std::fs::remove_dir_all(options.dir.join("cache"))?;
            let store = Store::open(options.clone(), Env::real())?;
            let requests = || store.stats().objects.map_or(0, |objects| objects.requests.gets);
            let (labels, _) = &history[number * 7919 % history.len()];
            let (before, begun) = (requests(), Instant::now());
            let snapshot = store.snapshot();
            let found = snapshot.select(&matchers(labels), TimeRange::ALL)?;
            ensure!(!found.is_empty(), "{labels} is gone");
            std::hint::black_box(snapshot.read_many(&found, TimeRange::ALL)?);
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            most = most.max(requests() - before);
        }
        times.sort_by(f64::total_cmp);
        table.set(&format!("requests for {name}, cold and far away"), 0, most as f64);
        table.set(&format!("ms for {name} at {} ms a request", arguments.latency_ms), 0, times[times.len() / 2]);
    }
    Ok(())
}

/// Whole series of the largest block, one by one.
fn read_each(snapshot: &Snapshot, table: &mut Table) -> anyhow::Result<()> {
    let largest = snapshot.blocks().iter().max_by_key(|block| block.meta().sample_count).context("there is a block")?;
    let block = largest.open()?;
    let count = block.series_count();
    let mut times: Vec<f64> = Vec::new();
    // A prime far from any stride of theirs; the first time around is for the page cache.
    for number in 0..3 * count {
        let id = (number * 7919 % count) as u32;
        let begun = Instant::now();
        std::hint::black_box(block.read(id, TimeRange::ALL)?);
        if number >= count {
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    table.set("us to read a series, median", 0, times[times.len() / 2]);
    table.set("us to read a series, p99", 0, times[times.len() * 99 / 100]);
    Ok(())
}

fn theirs(promtool: &Path, history: &History, home: &Path, samples: usize, table: &mut Table) -> anyhow::Result<()> {
    let text = home.join("samples.om");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&text)?);
    let mut line = String::new();
    for (labels, samples) in history {
        let series = series_text(labels);
        for (timestamp_ms, value) in samples {
            line.clear();
            write!(line, "{series} {value} {}.{:03}", timestamp_ms / 1000, timestamp_ms % 1000)?;
            writeln!(file, "{}", line.replace(" inf ", " +Inf ").replace(" -inf ", " -Inf "))?;
        }
    }
    writeln!(file, "# EOF")?;
    file.into_inner().context("the file could not be written")?;
    let out = home.join("prometheus");
    let begun = Instant::now();
    for (measure, duration) in [("bytes / sample, flushed", "2h"), ("bytes / sample, merged", "24h")] {
        let _ = std::fs::remove_dir_all(&out);
        let made = Command::new(promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
            .arg(format!("--max-block-duration={duration}"))
            .args([&text, &out])
            .output()?;
        ensure!(made.status.success(), "promtool: {}", String::from_utf8_lossy(&made.stderr));
        table.set(measure, 1, disk_bytes(&out) as f64 / samples as f64);
        let blocks = std::fs::read_dir(&out)?.flatten().filter(|entry| entry.path().join("index").exists()).count();
        table.set("blocks", 1, blocks as f64);
    }
    table.set("s to load", 1, begun.elapsed().as_secs_f64() / 2.0);
    std::fs::remove_file(&text)?;
    Ok(())
}

async fn victoria(
    program: &Path,
    history: &History,
    home: &Path,
    samples: usize,
    table: &mut Table,
) -> anyhow::Result<()> {
    let server = Server::start(Kind::VictoriaMetrics, program, home).await?;
    let begun = Instant::now();
    for (labels, samples) in history {
        for part in samples.chunks(10_000) {
            server.write(write_request([SeriesToSend::floats(labels, part)])?).await?;
        }
    }
    let bytes = || disk_bytes(&server.data_dir.join("data")) + disk_bytes(&server.data_dir.join("indexdb"));
    server.get("/internal/force_flush", &[]).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.get("/internal/force_merge", &[]).await?;
    // Done when the size stays.
    let (mut last, mut same) = (0, 0);
    while same < 5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        same = if bytes() == last { same + 1 } else { 0 };
        last = bytes();
    }
    table.set("bytes / sample, merged", 2, bytes() as f64 / samples as f64);
    table.set("s to load", 2, begun.elapsed().as_secs_f64());
    Ok(())
}

/// A fleet's day, in whose middle nothing happens but scrapes. Those of one instance share their jitter.
fn synthetic(arguments: &Arguments) -> anyhow::Result<History> {
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    // Whole block ranges, so that nothing is cut off.
    let end_ms = now_ms / 86_400_000 * 86_400_000;
    let start_ms = end_ms - arguments.hours * 3_600_000;
    let mut fleet = Fleet::new(arguments.instances);
    let per_instance = fleet.series_count() / arguments.instances;
    let mut history: History = Vec::new();
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    let mut jitter = move |most: i64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if most == 0 { 0 } else { (random % (2 * most as u64 + 1)) as i64 - most }
    };
    // To a moment after its end: a day that is not over is not merged.
    for timestamp_ms in (start_ms + INTERVAL_MS..=end_ms + INTERVAL_MS).step_by(INTERVAL_MS as usize) {
        let mut late_ms = 0;
        for (index, (labels, value)) in fleet.scrape().enumerate() {
            if index % per_instance == 0 {
                late_ms = jitter(arguments.jitter_ms);
            }
            if history.len() <= index {
                history.push((labels.clone(), Vec::new()));
            }
            history[index].1.push((timestamp_ms + late_ms, value));
        }
    }
    Ok(history)
}

fn unpack(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from.extension().is_some_and(|extension| extension == "zst") {
        let done = Command::new("zstd").args(["-d", "-q", "-f", "-o"]).args([to, from]).status()?;
        ensure!(done.success(), "zstd could not unpack {from:?}");
    } else {
        std::fs::copy(from, to)?;
    }
    Ok(())
}

/// `name{label="value",…} value seconds`, line by line.
fn parse(text: &str) -> History {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut history: History = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((rest, seconds)) = line.rsplit_once(' ') else { continue };
        let Some((series, value)) = rest.rsplit_once(' ') else { continue };
        let (Ok(seconds), Ok(value)) = (seconds.parse::<f64>(), value.parse::<f64>()) else { continue };
        let place = *places.entry(series).or_insert_with(|| {
            history.push((labels_of(series), Vec::new()));
            history.len() - 1
        });
        history[place].1.push(((seconds * 1000.0).round() as i64, value));
    }
    for (_, samples) in &mut history {
        samples.sort_by_key(|(ms, _)| *ms);
        samples.dedup_by_key(|(ms, _)| *ms);
    }
    history
}

fn labels_of(series: &str) -> Labels {
    let (name, mut rest) = series.split_once('{').unwrap_or((series, ""));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    while let Some((label, value)) = rest.trim_start_matches(',').split_once("=\"") {
        let mut text = String::new();
        let mut chars = value.char_indices();
        let mut end = value.len();
        while let Some((at, letter)) = chars.next() {
            match letter {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, escaped)) => text.push(escaped),
                    None => {}
                },
                plain => text.push(plain),
            }
        }
        pairs.push((label.to_owned(), text));
        rest = &value[end..];
    }
    Labels::from_pairs(pairs)
}

fn series_text(labels: &Labels) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    if pairs.is_empty() {
        return labels.metric_name().to_owned();
    }
    format!("{}{{{}}}", labels.metric_name(), pairs.join(","))
}
