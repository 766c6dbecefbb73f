//! A day of 15 s scrapes of 20,000 series, of which one in a hundred is replaced every hour, sent to our server as fast
//! as it takes them. Prints, hour by hour, memory, disk and the latency of queries that are asked all the while, and
//! how the latter compare with those of the server at rest.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use pilaster_benches::dataset::{Fleet, INTERVAL_MS, SERIES_PER_INSTANCE};
use pilaster_benches::load::send;
use pilaster_benches::server::{Asker, Kind, Server};
use tokio::sync::Mutex;

#[derive(Parser)]
#[command(about = "A day of scrapes with churn, as fast as it goes: memory, disk and latencies hour by hour")]
struct Arguments {
    /// Our server, built with `cargo build --release`.
    #[arg(long, default_value = "target/release/pilaster")]
    pilaster: PathBuf,
    /// Active series, about.
    #[arg(long, default_value_t = 20_000)]
    series: usize,
    #[arg(long, default_value_t = 24)]
    hours: i64,
    /// Percent of the instances that are replaced by new ones every hour.
    #[arg(long, default_value_t = 1.0)]
    churn: f64,
    /// Times faster than life, at most; 0 is as fast as it goes. With 200 a maintenance run of the server's, which comes
    /// every 30 s, meets an hour and forty minutes of scrapes.
    #[arg(long, default_value_t = 0.0)]
    speed: f64,
    /// Connections that send at the same time.
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Where the data directory is made; a temporary directory otherwise. It is removed in the end.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Asked in turn: a few series, all of a metric, and a graph of an hour.
const QUERIES: &[(&str, i64)] = &[
    ("node_load1{job=\"api\",instance=~\"10.0.0.1.:9100\"}", 0),
    ("sum by (job) (rate(http_requests_total[5m]))", 0),
    ("sum by (job) (rate(http_requests_total{code=\"500\"}[5m]))", 60),
];

/// Parts of the fleet, of which the oldest are replaced.
const PARTS: usize = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let server = Server::start(Kind::Pilaster, &arguments.pilaster, dir.path()).await?;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let end_ms = now_ms / INTERVAL_MS * INTERVAL_MS;
    let start_ms = end_ms - arguments.hours * 3_600_000;
    let instances = arguments.series.div_ceil(SERIES_PER_INSTANCE).max(PARTS);
    println!("{} series, {} h, {} % new every hour", instances * SERIES_PER_INSTANCE, arguments.hours, arguments.churn);

    let asked_ms = Arc::new(AtomicI64::new(start_ms));
    let stop = Arc::new(AtomicBool::new(false));
    let times: Arc<Mutex<Vec<f64>>> = Arc::default();
    let asking = tokio::spawn(ask(server.asker(), asked_ms.clone(), stop.clone(), times.clone()));

    // Parts of the fleet that are replaced as one; the oldest goes first.
    let mut fleets: Vec<Fleet> =
        (0..PARTS).map(|part| Fleet::part(instances * part / PARTS..instances * (part + 1) / PARTS)).collect();
    let (mut replaced, mut due, mut next_instance) = (0, 0.0, instances);
    let mut all = Vec::new();
    let mut samples = 0;
    let begun = Instant::now();
    println!(
        "{:>5} {:>12} {:>10} {:>9} {:>10} {:>9} {:>9}",
        "hour", "samples", "resident", "disk", "queries", "p50", "p99"
    );
    for timestamp_ms in (start_ms..=end_ms).step_by(INTERVAL_MS as usize) {
        samples += send(&server, &mut fleets, arguments.senders, timestamp_ms).await?;
        asked_ms.store(timestamp_ms, Ordering::Relaxed);
        let passed_ms = timestamp_ms - start_ms;
        if arguments.speed > 0.0 {
            let wanted = Duration::from_secs_f64(passed_ms as f64 / 1000.0 / arguments.speed);
            tokio::time::sleep(wanted.saturating_sub(begun.elapsed())).await;
        }
        if passed_ms > 0 && passed_ms % 3_600_000 == 0 {
            let mut hour = std::mem::take(&mut *times.lock().await);
            let usage = server.usage();
            println!(
                "{:>5} {:>12} {:>6} MiB {:>5} MiB {:>10} {:>6.1} ms {:>6.1} ms",
                passed_ms / 3_600_000,
                samples,
                usage.resident_bytes >> 20,
                server.disk_bytes() >> 20,
                hour.len(),
                percentile(&mut hour, 0.5),
                percentile(&mut hour, 0.99)
            );
            all.append(&mut hour);
            due += arguments.churn * PARTS as f64 / 100.0;
            while due >= 1.0 {
                let size = instances / PARTS;
                fleets[replaced % PARTS] = Fleet::part(next_instance..next_instance + size.max(1));
                (replaced, next_instance, due) = (replaced + 1, next_instance + size.max(1), due - 1.0);
            }
        }
    }
    let took = begun.elapsed();
    // Two runs of maintenance, so that nothing is left to do.
    let mut merging: Vec<f64> = Vec::new();
    let mut cpu_seconds = server.usage().cpu_seconds;
    times.lock().await.clear();
    for _ in 0..65 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = std::mem::take(&mut *times.lock().await);
        let so_far = server.usage().cpu_seconds;
        // Queries alone take less than a third of a core.
        if so_far - std::mem::replace(&mut cpu_seconds, so_far) > 0.6 {
            merging.extend(second);
        }
    }
    times.lock().await.clear();
    tokio::time::sleep(Duration::from_secs(20)).await;
    stop.store(true, Ordering::Relaxed);
    asking.await??;
    let mut rest = std::mem::take(&mut *times.lock().await);
    let usage = server.usage();
    println!(
        "\n{samples} samples in {:.0} s, {:.0} per CPU second; peak {} MiB; {:.2} bytes a sample on disk with the log",
        took.as_secs_f64(),
        samples as f64 / usage.cpu_seconds,
        usage.peak_resident_bytes >> 20,
        server.disk_bytes() as f64 / samples as f64
    );
    let idle = percentile(&mut rest, 0.99);
    for (what, times) in [("while it loads", &mut all), ("while it merges, the load over", &mut merging)] {
        let (count, busy) = (times.len(), percentile(times, 0.99));
        println!("p99 of {count} queries {what}: {busy:.1} ms, {idle:.1} ms at rest: {:.2}x", busy / idle);
    }
    Ok(())
}

/// Asks one query after another until told to stop, a hundred a second at most.
async fn ask(
    asker: Asker,
    asked_ms: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Vec<f64>>>,
) -> anyhow::Result<()> {
    for (query, minutes) in QUERIES.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let end_ms = asked_ms.load(Ordering::Relaxed);
        let seconds = |ms: i64| format!("{}", ms as f64 / 1000.0);
        let begun = Instant::now();
        if *minutes == 0 {
            asker.get("/api/v1/query", &[("query", (*query).to_owned()), ("time", seconds(end_ms))]).await?;
        } else {
            let (start, end) = (seconds(end_ms - minutes * 60_000), seconds(end_ms));
            let parameters =
                [("query", (*query).to_owned()), ("start", start), ("end", end), ("step", "15".to_owned())];
            asker.get("/api/v1/query_range", &parameters).await?;
        }
        times.lock().await.push(begun.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Sorts `times`; 0 where there are none.
fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
