//! Loads the same samples into Pilaster and into a real Prometheus, checks that both give the same answers, then
//! prints what loading and queries cost side by side.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use clap::Parser;
use pilaster_benches::answers::{Order, Verdict, compare};
use pilaster_benches::dataset::{Fleet, INTERVAL_MS};
use pilaster_benches::server::{Kind, Server, write_request};
use pilaster_ingest::remote_write::SeriesToSend;

#[derive(Parser)]
struct Arguments {
    /// The program to compare with.
    #[arg(long, default_value = "prometheus")]
    prometheus: PathBuf,
    /// Our server, built with `cargo build --release`.
    #[arg(long, default_value = "target/release/pilaster")]
    pilaster: PathBuf,
    /// Instances that are scraped; each has 27 series.
    #[arg(long, default_value_t = 100)]
    instances: usize,
    /// Hours of history, up to now.
    #[arg(long, default_value_t = 6)]
    hours: i64,
    /// Runs of every query; the median counts.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Scrapes of a series that are sent in one request.
    #[arg(long, default_value_t = 1)]
    scrapes_per_request: usize,
    /// Only load and compare answers.
    #[arg(long)]
    answers_only: bool,
    /// Then ask every panel once more of servers that have just started, with no block in memory; as root.
    #[arg(long)]
    cold: bool,
    /// When all is measured, print where both listen, and leave them running until interrupted.
    #[arg(long)]
    serve: bool,
}

/// Queries that are compared at an instant and, where that makes sense, over a range.
const QUERIES: &[&str] = &[
    "up",
    "count(up)",
    "count by (job) (up)",
    "http_requests_total{code=\"500\"}",
    "http_requests_total{job=~\"api|web\",method!=\"GET\"}",
    "rate(http_requests_total[5m])",
    "sum(rate(http_requests_total[5m]))",
    "sum by (job) (rate(http_requests_total[5m]))",
    "sum by (job, code) (rate(http_requests_total[5m]))",
    "sum without (instance, method) (increase(http_requests_total[1h]))",
    "irate(node_cpu_seconds_total{mode=\"idle\"}[2m])",
    "100 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])) * 100",
    "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))",
    "histogram_quantile(0.5, sum by (job, le) (rate(http_request_duration_seconds_bucket[5m])))",
    "sum(rate(http_requests_total{code=\"500\"}[5m])) / sum(rate(http_requests_total[5m]))",
    "sum by (job) (rate(http_requests_total{code=\"500\"}[5m])) / sum by (job) (rate(http_requests_total[5m]))",
    "node_filesystem_avail_bytes / node_filesystem_size_bytes",
    "1 - node_filesystem_avail_bytes / on (instance, device) node_filesystem_size_bytes",
    "node_load1 * on (instance) group_left (job) up",
    "topk(5, process_resident_memory_bytes)",
    "bottomk(3, node_load1)",
    "quantile(0.9, node_load1)",
    "stddev by (job) (node_load1)",
    "max_over_time(node_load1[30m])",
    "min_over_time(node_load1[30m])",
    "avg_over_time(node_load1[30m])",
    "sum_over_time(node_load1[30m])",
    "stddev_over_time(node_load1[30m])",
    "quantile_over_time(0.9, node_load1[30m])",
    "count_over_time(up[10m])",
    "last_over_time(node_load1[10m])",
    "deriv(node_load1[15m])",
    "predict_linear(node_filesystem_avail_bytes[1h], 4 * 3600)",
    "delta(node_load1[10m])",
    "changes(node_load1[10m])",
    "resets(http_requests_total[1h])",
    "absent(nonexistent{job=\"api\"})",
    "node_load1 > 5",
    "node_load1 > bool 5",
    "up == 1 and on (instance) node_load1 > 2",
    "up unless on (instance) node_load1 > 2",
    "node_load1 or process_resident_memory_bytes",
    "max_over_time(rate(http_requests_total{code=\"200\",method=\"GET\"}[5m])[30m:1m])",
    "http_requests_total{code=\"200\"} offset 10m",
    "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(up, \"both\", \"-\", \"job\", \"instance\")",
    "sort_desc(sum by (instance) (node_load1))",
    "count_values(\"value\", up)",
    "clamp_max(node_load1, 3)",
    "round(node_load1, 0.5)",
    "vector(time())",
    "hour(timestamp(up))",
    "rate(http_requests_total[5m]) + rate(node_load1[5m])",
    "sum(",
    "up{job=\"a\" or}",
];

/// Queries at the end of the history.
const INSTANTS: &[(&str, &str)] = &[
    ("1 series", "up{instance=\"10.0.0.1:9100\"}"),
    ("requests by job", "sum by (job) (rate(http_requests_total[5m]))"),
];

/// Panels of a dashboard, at up to 1,000 steps.
const PANELS: &[(&str, &str)] = &[
    ("cpu use", "100 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])) * 100"),
    ("requests by job", "sum by (job) (rate(http_requests_total[5m]))"),
    ("p99", "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))"),
    (
        "error ratio",
        "sum by (job) (rate(http_requests_total{code=\"500\"}[5m])) / sum by (job) (rate(http_requests_total[5m]))",
    ),
    ("disks full", "1 - node_filesystem_avail_bytes / on (instance, device) node_filesystem_size_bytes"),
    ("memory maximum", "max by (job) (max_over_time(process_resident_memory_bytes[10m]))"),
];

/// What panels look back over, in minutes; longer ones than the history are left out.
const RANGES: &[(&str, i64)] = &[("30 m", 30), ("6 h", 360), ("24 h", 1440), ("7 d", 10_080), ("30 d", 43_200)];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let mut ours = Server::start(Kind::Pilaster, &arguments.pilaster, dir.path()).await?;
    let mut theirs = Server::start(Kind::Prometheus, &arguments.prometheus, dir.path()).await?;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let end_ms = now_ms / INTERVAL_MS * INTERVAL_MS;
    let start_ms = end_ms - arguments.hours * 3_600_000;
    let servers = [&ours, &theirs];
    let mut peaks = Peaks::default();
    load(&arguments, &ours, &theirs, start_ms, end_ms).await?;
    peaks.end_phase("loading", servers)?;
    let different = compare_answers(&ours, &theirs, start_ms, end_ms).await?;
    peaks.end_phase("answers", servers)?;
    if !arguments.answers_only {
        measure(&arguments, &ours, &theirs, end_ms).await?;
        peaks.end_phase("panels", servers)?;
    }
    for (at, server) in servers.into_iter().enumerate() {
        let usage = server.usage();
        println!(
            "{:<10?} cpu {:7.1} s, resident {:6.0} MiB (files {:.0}), {}, disk {:6.1} MiB",
            server.kind,
            usage.cpu_seconds,
            mib(usage.resident_bytes),
            mib(usage.resident_file_bytes),
            peaks.of(at),
            mib(server.disk_bytes())
        );
    }
    if arguments.cold {
        measure_cold(&arguments, [&mut ours, &mut theirs], end_ms).await?;
    }
    if arguments.serve {
        println!("{} and {}, data end at {}", ours.url, theirs.url, end_ms / 1000);
        tokio::signal::ctrl_c().await?;
    }
    anyhow::ensure!(different == 0, "{different} answers differ");
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}

/// The most bytes that were resident in each phase.
#[derive(Default)]
struct Peaks(Vec<(&'static str, [u64; 2])>);

impl Peaks {
    fn end_phase(&mut self, phase: &'static str, servers: [&Server; 2]) -> anyhow::Result<()> {
        self.0.push((phase, servers.map(|server| server.usage().peak_resident_bytes)));
        servers.into_iter().try_for_each(Server::forget_peak)
    }

    /// The peak of the `at`th server, and of its phases.
    fn of(&self, at: usize) -> String {
        let most = self.0.iter().map(|(_, bytes)| bytes[at]).max().unwrap_or(0);
        let phases: Vec<String> =
            self.0.iter().map(|(phase, bytes)| format!("{phase} {:.0}", mib(bytes[at]))).collect();
        format!("peak {:6.0} MiB ({})", mib(most), phases.join(", "))
    }
}

/// Sends every scrape as one request to each server in turn; a fleet too big for one is cut in pieces.
async fn load(arguments: &Arguments, ours: &Server, theirs: &Server, start_ms: i64, end_ms: i64) -> anyhow::Result<()> {
    /// What a Prometheus sender puts in one request by default.
    const SAMPLES_PER_REQUEST: usize = 2000;
    let mut fleet = Fleet::new(arguments.instances);
    println!("{} series, {} h every {} s", fleet.series_count(), arguments.hours, INTERVAL_MS / 1000);
    let mut spent = [Duration::ZERO; 2];
    let mut samples = 0usize;
    let mut shown = Instant::now();
    let at_once = arguments.scrapes_per_request.max(1);
    let times: Vec<i64> = (start_ms..=end_ms).step_by(INTERVAL_MS as usize).collect();
    for times in times.chunks(at_once) {
        let timestamp_ms = times.last().copied().unwrap_or(end_ms);
        let mut scrape: Vec<_> =
            fleet.labels().map(|labels| (labels.clone(), Vec::with_capacity(times.len()))).collect();
        for &timestamp_ms in times {
            for ((_, samples), (_, value)) in scrape.iter_mut().zip(fleet.scrape()) {
                samples.push((timestamp_ms, value));
            }
        }
        for part in scrape.chunks((SAMPLES_PER_REQUEST / times.len()).max(1)) {
            let body = write_request(part.iter().map(|(labels, samples)| SeriesToSend::floats(labels, samples)))?;
            for (server, spent) in [ours, theirs].into_iter().zip(&mut spent) {
                let begun = Instant::now();
                server.write(body.clone()).await?;
                *spent += begun.elapsed();
            }
        }
        samples += scrape.len() * times.len();
        if shown.elapsed() > Duration::from_secs(2) {
            shown = Instant::now();
            let done = (timestamp_ms - start_ms) as f64 / (end_ms - start_ms) as f64;
            eprint!("\rloading {:3.0} %", done * 100.0);
        }
    }
    eprintln!("\rloaded {samples} samples");
    for (server, spent) in [ours, theirs].into_iter().zip(spent) {
        let usage = server.usage();
        println!(
            "{:<10?} loaded in {:6.1} s, {:9.0} samples/s, {:9.0} samples per CPU second",
            server.kind,
            spent.as_secs_f64(),
            samples as f64 / spent.as_secs_f64(),
            samples as f64 / usage.cpu_seconds.max(0.01)
        );
    }
    Ok(())
}

fn seconds(timestamp_ms: i64) -> String {
    format!("{}", timestamp_ms as f64 / 1000.0)
}

async fn compare_answers(ours: &Server, theirs: &Server, start_ms: i64, end_ms: i64) -> anyhow::Result<usize> {
    let (mut same, mut near, mut different) = (0, 0, 0);
    let middle_ms = (start_ms + end_ms) / 2;
    for query in QUERIES {
        for at_ms in [end_ms, middle_ms + 7_123] {
            let parameters = [("query", (*query).to_owned()), ("time", seconds(at_ms))];
            let is_ordered = ["sort", "topk", "bottomk"].iter().any(|call| query.starts_with(call));
            let order = if is_ordered { Order::OfValues } else { Order::Nothing };
            let (one, other) = both(ours, theirs, "/api/v1/query", &parameters).await?;
            count(compare(&one, &other, order), query, &mut same, &mut near, &mut different);
        }
        let parameters = [
            ("query", (*query).to_owned()),
            ("start", seconds(start_ms.max(end_ms - 6 * 3_600_000))),
            ("end", seconds(end_ms)),
            ("step", "73".to_owned()),
        ];
        let (one, other) = both(ours, theirs, "/api/v1/query_range", &parameters).await?;
        count(compare(&one, &other, Order::Nothing), query, &mut same, &mut near, &mut different);
    }
    println!("answers: {same} the same, {near} within rounding, {different} different");
    Ok(different)
}

async fn both(
    ours: &Server,
    theirs: &Server,
    path: &str,
    parameters: &[(&str, String)],
) -> anyhow::Result<(serde_json::Value, serde_json::Value)> {
    Ok((ours.get_json(path, parameters).await?, theirs.get_json(path, parameters).await?))
}

fn count(verdict: Verdict, query: &str, same: &mut usize, near: &mut usize, different: &mut usize) {
    match verdict {
        Verdict::Same => *same += 1,
        Verdict::Near(_) => *near += 1,
        Verdict::Different(reason) => {
            *different += 1;
            println!("DIFFERENT {query}: {}", reason.chars().take(300).collect::<String>());
        }
    }
}

/// A query whose latency is measured.
struct Question {
    title: String,
    path: &'static str,
    /// What it looks back over.
    minutes: i64,
    parameters: Vec<(&'static str, String)>,
}

impl Question {
    /// Milliseconds until the last byte of the answer is there.
    async fn ask(&self, server: &Server) -> anyhow::Result<f64> {
        let begun = Instant::now();
        server.get(self.path, &self.parameters).await?;
        Ok(begun.elapsed().as_secs_f64() * 1000.0)
    }
}

fn instants(end_ms: i64) -> impl Iterator<Item = Question> {
    INSTANTS.iter().map(move |(title, query)| Question {
        title: format!("now: {title}"),
        path: "/api/v1/query",
        minutes: 0,
        parameters: vec![("query", (*query).to_owned()), ("time", seconds(end_ms))],
    })
}

/// Panels of a history of so many minutes, the same ones for each range.
fn panels(history_minutes: i64, end_ms: i64) -> impl Iterator<Item = Question> {
    let ranges = RANGES.iter().filter(move |(_, minutes)| *minutes <= history_minutes);
    ranges.flat_map(move |&(range, minutes)| {
        PANELS.iter().map(move |(title, query)| Question {
            title: format!("{range}: {title}"),
            path: "/api/v1/query_range",
            minutes,
            parameters: vec![
                ("query", (*query).to_owned()),
                ("start", seconds(end_ms - minutes * 60_000)),
                ("end", seconds(end_ms)),
                ("step", (minutes * 60 / 1000).max(15).to_string()),
            ],
        })
    })
}

async fn measure(arguments: &Arguments, ours: &Server, theirs: &Server, end_ms: i64) -> anyhow::Result<()> {
    let titles = ["query", "Pilaster", "Prometheus", "ratio", "first", "first", "ratio", "cpu ratio"];
    let [query, ours_title, theirs_title, ratio, ours_first, theirs_first, first_ratio, cpu] = titles;
    println!("\nmilliseconds: median of {} runs, and the first; processor time of all runs", arguments.runs.max(1));
    println!(
        "{query:<26} {ours_title:>10} {theirs_title:>10} {ratio:>7} {ours_first:>10} {theirs_first:>10} \
         {first_ratio:>7} {cpu:>9}"
    );
    for question in instants(end_ms).chain(panels(arguments.hours * 60, end_ms)) {
        measure_one(arguments, [ours, theirs], &question).await?;
    }
    Ok(())
}

/// Asks each panel that reads blocks of servers that have just started and have read none.
async fn measure_cold(arguments: &Arguments, servers: [&mut Server; 2], end_ms: i64) -> anyhow::Result<()> {
    let titles = ["query", "Pilaster", "Prometheus", "ratio"];
    let [query, ours_title, theirs_title, ratio] = titles;
    println!("\nmilliseconds: the first query of a server that reads blocks, none of which is in memory");
    println!("{query:<26} {ours_title:>10} {theirs_title:>10} {ratio:>7}");
    let (_, shortest) = RANGES[0];
    let far: Vec<Question> =
        panels(arguments.hours * 60, end_ms).filter(|question| question.minutes > shortest).collect();
    let first_end_ms = end_ms - arguments.hours * 3_600_000 + shortest * 60_000;
    let oldest: Vec<Question> = panels(shortest, first_end_ms).collect();
    let mut times = vec![[0.0; 2]; far.len()];
    for (at, server) in servers.into_iter().enumerate() {
        for ((question, times), of_oldest) in far.iter().zip(&mut times).zip(oldest.iter().cycle()) {
            server.restart()?;
            server.wait_ready(Duration::from_secs(600)).await?;
            // The same of the begin of the history, so that the program itself is in memory.
            of_oldest.ask(server).await?;
            anyhow::ensure!(Command::new("sync").status()?.success(), "sync failed");
            std::fs::write("/proc/sys/vm/drop_caches", "3").context("the system's caches are root's to empty")?;
            times[at] = question.ask(server).await?;
        }
    }
    for (question, [ours, theirs]) in far.iter().zip(times) {
        println!("{:<26} {ours:>10.2} {theirs:>10.2} {:>6.1}x", question.title, theirs / ours);
    }
    Ok(())
}

/// Prints one line of the table.
async fn measure_one(arguments: &Arguments, servers: [&Server; 2], question: &Question) -> anyhow::Result<()> {
    let (mut medians, mut firsts, mut cpu) = ([0.0; 2], [0.0; 2], [0.0; 2]);
    for (at, server) in servers.into_iter().enumerate() {
        let mut times = Vec::new();
        let before = server.usage().cpu_seconds;
        for _ in 0..arguments.runs.max(1) {
            times.push(question.ask(server).await?);
        }
        cpu[at] = server.usage().cpu_seconds - before;
        firsts[at] = *times.first().context("no run")?;
        times.sort_by(f64::total_cmp);
        medians[at] = *times.get(times.len() / 2).context("no run")?;
    }
    // Processor time is counted in hundredths of a second.
    let cpu = if cpu[0] >= 0.05 { format!("{:8.1}x", cpu[1] / cpu[0]) } else { "-".to_owned() };
    println!(
        "{:<26} {:>10.2} {:>10.2} {:>6.1}x {:>10.2} {:>10.2} {:>6.1}x {cpu:>9}",
        question.title,
        medians[0],
        medians[1],
        medians[1] / medians[0],
        firsts[0],
        firsts[1],
        firsts[1] / firsts[0]
    );
    Ok(())
}
