//! A million active series, scraped every 15 s, sent by remote write to one server after another: what they cost to
//! take, to hold, to ask, and to start again with. Prints one table.
//!
//! A whole run with two hours of history takes a quiet machine about an hour, most of it the other servers'.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use clap::Parser;
use pilaster_benches::dataset::{Fleet, INTERVAL_MS, SERIES_PER_INSTANCE};
use pilaster_benches::load::send;
use pilaster_benches::server::{Kind, Server};
use pilaster_benches::table::Table;

#[derive(Parser)]
#[command(about = "One server after another takes, holds and answers about a million active series")]
struct Arguments {
    /// Our server, built with `cargo build --release`.
    #[arg(long, default_value = "target/release/pilaster")]
    pilaster: PathBuf,
    /// A Prometheus to compare with.
    #[arg(long)]
    prometheus: Option<PathBuf>,
    /// A VictoriaMetrics to compare with.
    #[arg(long)]
    victoria_metrics: Option<PathBuf>,
    /// Leave our own server out.
    #[arg(long)]
    others_only: bool,
    /// Active series, about: scale down where memory is small.
    #[arg(long, default_value_t = 1_000_000)]
    series: usize,
    /// Minutes of history, up to now.
    #[arg(long, default_value_t = 120)]
    minutes: i64,
    /// Connections that send at the same time.
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Runs of every query; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Where data directories are made; a temporary directory otherwise. They are removed in the end.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Do not remove them: for a look with a profiler.
    #[arg(long)]
    keep: bool,
}

/// All series.
const ALL: &str = "count({__name__=~\".+\"})";

const QUERIES: &[&str] = &[
    "count(up)",
    ALL,
    "sum by (job) (rate(http_requests_total[5m]))",
    "sum by (job) (rate({__name__=~\".+_total|.+_bucket\"}[5m]))",
    "up{instance=\"10.0.0.1:9100\"}",
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut servers = Vec::new();
    if !arguments.others_only {
        servers.push((Kind::Pilaster, arguments.pilaster.clone()));
    }
    servers.extend(arguments.prometheus.clone().map(|program| (Kind::Prometheus, program)));
    servers.extend(arguments.victoria_metrics.clone().map(|program| (Kind::VictoriaMetrics, program)));
    let instances = arguments.series.div_ceil(SERIES_PER_INSTANCE).max(1);
    println!(
        "{} series every {} s for {} minutes, {} samples",
        instances * SERIES_PER_INSTANCE,
        INTERVAL_MS / 1000,
        arguments.minutes,
        instances as i64 * SERIES_PER_INSTANCE as i64 * (arguments.minutes * 60_000 / INTERVAL_MS + 1)
    );
    let mut table = Table::new(servers.iter().map(|(kind, _)| format!("{kind:?}")));
    for (column, (kind, program)) in servers.iter().enumerate() {
        let mut dir = match &arguments.dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        dir.disable_cleanup(arguments.keep);
        measure(&arguments, *kind, program, dir.path(), instances, &mut table, column).await?;
        if arguments.keep {
            eprintln!("{kind:?}: its data is kept in {}", dir.path().display());
        }
    }
    println!();
    table.print();
    Ok(())
}

async fn measure(
    arguments: &Arguments,
    kind: Kind,
    program: &Path,
    dir: &Path,
    instances: usize,
    table: &mut Table,
    column: usize,
) -> anyhow::Result<()> {
    let mut server = Server::start(kind, program, dir).await?;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let end_ms = now_ms / INTERVAL_MS * INTERVAL_MS;
    let start_ms = end_ms - arguments.minutes * 60_000;

    let mut fleets: Vec<Fleet> = (0..arguments.senders)
        .map(|sender| instances * sender / arguments.senders..instances * (sender + 1) / arguments.senders)
        .map(Fleet::part)
        .collect();
    let begun = Instant::now();
    // The first scrape creates all series: a measure of its own.
    send(&server, &mut fleets, arguments.senders, start_ms).await?;
    let (created, creating) = (server.usage(), begun.elapsed());
    let all = instances * SERIES_PER_INSTANCE;
    table.set("new series / s", column, all as f64 / creating.as_secs_f64());
    table.set("new series / CPU s", column, all as f64 / created.cpu_seconds.max(0.01));
    let mut samples = 0;
    let mut shown = Instant::now();
    for timestamp_ms in (start_ms..=end_ms).step_by(INTERVAL_MS as usize).skip(1) {
        samples += send(&server, &mut fleets, arguments.senders, timestamp_ms).await?;
        if shown.elapsed() > Duration::from_secs(5) {
            shown = Instant::now();
            let usage = server.usage();
            let done = (timestamp_ms - start_ms) as f64 / (end_ms - start_ms) as f64;
            let (resident, cpu) = (usage.resident_bytes >> 20, usage.cpu_seconds);
            eprint!("\r{kind:?}: {:3.0} %, {resident} MiB, {cpu:.0} CPU s   ", done * 100.0);
        }
    }
    let loaded = server.usage();
    eprintln!("\r{kind:?}: loaded in {:.0} s                          ", begun.elapsed().as_secs_f64());
    table.set("samples / CPU s", column, samples as f64 / (loaded.cpu_seconds - created.cpu_seconds).max(0.01));
    table.set("peak while loading, MiB", column, loaded.peak_resident_bytes as f64 / 1048576.0);
    tokio::time::sleep(Duration::from_secs(15)).await;
    table.set("resident after 15 s of rest, MiB", column, server.usage().resident_bytes as f64 / 1048576.0);
    table.set("on disk, bytes / sample", column, server.disk_bytes() as f64 / (samples as usize + all) as f64);

    for query in QUERIES {
        let mut times = Vec::new();
        for _ in 0..arguments.runs.max(1) {
            let begun = Instant::now();
            let answer = ask(&server, query, end_ms).await?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            anyhow::ensure!(answer["status"] == "success", "{kind:?} answered {query} with {answer}");
        }
        times.sort_by(f64::total_cmp);
        let median = *times.get(times.len() / 2).context("no run")?;
        table.set(&format!("ms: {query}"), column, median);
    }
    table.set("resident after queries, MiB", column, server.usage().resident_bytes as f64 / 1048576.0);

    server.kill_and_restart()?;
    let took = until_complete(&mut server, end_ms, all).await?;
    table.set("s from start to complete queries, killed", column, took.as_secs_f64());
    let usage = server.usage();
    table.set("CPU s of that, killed", column, usage.cpu_seconds);
    table.set("peak of that, killed, MiB", column, usage.peak_resident_bytes as f64 / 1048576.0);
    let ended = server.restart()?;
    table.set("s to end", column, ended.as_secs_f64());
    let took = until_complete(&mut server, end_ms, all).await?;
    table.set("s from start to complete queries", column, took.as_secs_f64());
    let usage = server.usage();
    table.set("CPU s of that", column, usage.cpu_seconds);
    table.set("peak of that, MiB", column, usage.peak_resident_bytes as f64 / 1048576.0);
    Ok(())
}

/// Waits until a server that was just started finds all series. Returns how long that took.
async fn until_complete(server: &mut Server, end_ms: i64, all: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    server.wait_ready(Duration::from_secs(3600)).await?;
    loop {
        let answer = ask(server, ALL, end_ms).await?;
        let count = answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
        if count == Some(all as f64) {
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(3600), "series are lost: {answer}");
    }
}

async fn ask(server: &Server, query: &str, at_ms: i64) -> anyhow::Result<serde_json::Value> {
    let time = format!("{}", at_ms as f64 / 1000.0);
    server.get_json("/api/v1/query", &[("query", query.to_owned()), ("time", time)]).await
}
