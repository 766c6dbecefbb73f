//! A real Prometheus as judge: random queries over one data set, asked of both, every difference reported with the
//! smallest query that still shows it. Seeds are printed; `--first-seed N --queries 1` repeats one.

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use clap::Parser;
use pilaster_benches::answers::{Verdict, compare};
use pilaster_benches::random_query::{Kind as QueryKind, Query, Random, random_query};
use pilaster_benches::server::{Kind, Server, write_request};
use pilaster_ingest::remote_write::SeriesToSend;
use pilaster_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, Span};
use pilaster_model::{Labels, stale_nan};
use serde_json::Value;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "prometheus")]
    prometheus: PathBuf,
    #[arg(long, default_value = "target/release/pilaster")]
    pilaster: PathBuf,
    #[arg(long, default_value_t = 10_000)]
    queries: u64,
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Levels of nesting at most.
    #[arg(long, default_value_t = 4)]
    depth: usize,
    /// Give up after so many differences.
    #[arg(long, default_value_t = 20)]
    differences: usize,
}

const HOURS: i64 = 2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let ours = Server::start(Kind::Pilaster, &arguments.pilaster, dir.path()).await?;
    let theirs = Server::start(Kind::Prometheus, &arguments.prometheus, dir.path()).await?;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let end_ms = now_ms / 60_000 * 60_000;
    let mut samples = data(end_ms);
    let count: usize = samples.iter().map(|one| one.floats.len() + one.histograms.len()).sum();
    // Of equal candidates, `topk`, `limitk` and `sort` take the first in the order of the storage, which is that of
    // creation there and that of labels here: created in the order of labels, in the first request, they are the same.
    samples.sort_by(|one, other| one.labels.cmp(&other.labels));
    // In order of time, as senders do.
    for slice in 3..HOURS * 12 {
        let until_ms = end_ms - HOURS * 3_600_000 + (slice + 1) * 300_000;
        let parts: Vec<Series> = samples.iter_mut().map(|one| one.take_until(until_ms)).collect();
        let filled = parts.iter().filter(|one| !one.floats.is_empty() || !one.histograms.is_empty());
        let body = write_request(filled.map(Series::to_send))?;
        ours.write(body.clone()).await?;
        theirs.write(body).await?;
    }
    println!("{count} samples; data end at {}", end_ms as f64 / 1000.0);
    let begun = Instant::now();
    let (mut same, mut near, mut failed_alike, mut different) = (0u64, 0u64, 0u64, 0usize);
    for seed in arguments.first_seed..arguments.first_seed + arguments.queries {
        let mut random = Random::new(seed);
        let query = random_query(&mut random, QueryKind::Vector, 1 + arguments.depth);
        let request = Request::random(&mut random, end_ms);
        match ask(&ours, &theirs, &query, &request).await? {
            Outcome::Same => same += 1,
            Outcome::Near => near += 1,
            Outcome::FailedAlike => failed_alike += 1,
            Outcome::Different(reason) => {
                different += 1;
                let (query, reason) = reduce(&ours, &theirs, query, reason, &request).await?;
                println!("\nseed {seed} {request:?}\n  {query}\n  {}", reason.chars().take(400).collect::<String>());
                if different >= arguments.differences {
                    break;
                }
            }
        }
        if seed % 500 == 0 {
            let done = seed - arguments.first_seed + 1;
            eprint!("\r{done} queries, {:.0}/s, {different} different ", done as f64 / begun.elapsed().as_secs_f64());
        }
    }
    println!("\n{same} the same, {near} within rounding, {failed_alike} refused by both, {different} different");
    anyhow::ensure!(different == 0, "{different} differences");
    Ok(())
}

/// One series; floats and histograms may alternate, each ascending in time.
struct Series {
    labels: Labels,
    floats: Vec<(i64, f64)>,
    histograms: Vec<(i64, Histogram)>,
}

impl Series {
    /// Removes and returns what is not later than `until_ms`.
    fn take_until(&mut self, until_ms: i64) -> Series {
        fn split<T>(samples: &mut Vec<(i64, T)>, until_ms: i64) -> Vec<(i64, T)> {
            let rest = samples.split_off(samples.partition_point(|(timestamp_ms, _)| *timestamp_ms <= until_ms));
            std::mem::replace(samples, rest)
        }
        Series {
            labels: self.labels.clone(),
            floats: split(&mut self.floats, until_ms),
            histograms: split(&mut self.histograms, until_ms),
        }
    }

    fn to_send(&self) -> SeriesToSend<'_> {
        SeriesToSend { labels: &self.labels, samples: &self.floats, histograms: &self.histograms }
    }
}

/// Counts that only grow, except for a reset now and then: a counter of observations in exponential buckets.
fn exponential_histogram(random: &mut Random, before: Option<&Histogram>, schema: i32) -> Histogram {
    let buckets = 6;
    let mut next = match before {
        Some(before) if !random.chance(1) => before.clone(),
        Some(_) | None => Histogram {
            schema,
            zero_threshold: 0.001,
            positive_spans: vec![Span { offset: -2, length: 4 }, Span { offset: 1, length: 2 }],
            positive: vec![0.0; buckets],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative: vec![0.0; 2],
            ..Histogram::default()
        },
    };
    for (index, count) in next.positive.iter_mut().chain(&mut next.negative).enumerate() {
        let more = random.below(5) as f64;
        *count += more;
        next.count += more;
        next.sum += more * (index as f64 / 4.0 + 0.25) * if index < buckets { 1.0 } else { -1.0 };
    }
    let zeros = random.below(3) as f64;
    next.zero_count += zeros;
    next.count += zeros;
    next
}

/// The same with custom bounds; `wide` series have one bound more, so that adding them needs their common bounds.
fn custom_histogram(random: &mut Random, before: Option<&Histogram>, wide: bool) -> Histogram {
    let bounds: &[f64] = if wide { &[0.1, 0.5, 1.0, 2.5] } else { &[0.1, 0.5, 2.5] };
    let mut next = before.filter(|_| !random.chance(1)).cloned().unwrap_or_else(|| Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: vec![Span { offset: 0, length: bounds.len() as u32 + 1 }],
        positive: vec![0.0; bounds.len() + 1],
        custom_bounds: bounds.into(),
        ..Histogram::default()
    });
    for (index, count) in next.positive.iter_mut().enumerate() {
        let more = random.below(4) as f64;
        *count += more;
        next.count += more;
        next.sum += more * (index as f64 * 0.5 + 0.125);
    }
    next
}

/// Series of every character: steady, sparse, churning, reset, ended by staleness markers, irregular, not a number,
/// native histograms with both kinds of buckets, and floats that alternate with histograms.
fn data(end_ms: i64) -> Vec<Series> {
    let start_ms = end_ms - HOURS * 3_600_000 + 1000;
    let mut random = Random::new(42);
    let mut all: Vec<Series> = Vec::new();
    let floats = |labels: Labels, floats: Vec<(i64, f64)>| Series { labels, floats, histograms: Vec::new() };
    let zones = ["", "x", "y"];
    for (job_index, job) in ["api", "web", "db"].into_iter().enumerate() {
        for number in 0..4 {
            let instance = format!("i{number}");
            let labels = |name: &str, extra: &[(&str, &str)]| {
                let mut pairs = vec![("__name__", name), ("job", job), ("instance", instance.as_str())];
                pairs.extend_from_slice(extra);
                pairs.retain(|(_, value)| !value.is_empty());
                Labels::from_pairs(pairs)
            };
            let zone = ("zone", zones[(job_index + number) % 3]);
            let mut counter = 0.0;
            let mut steady = Vec::new();
            for timestamp_ms in (start_ms..end_ms).step_by(15_000) {
                counter = if random.chance(1) { 0.0 } else { counter + random.below(40) as f64 };
                steady.push((timestamp_ms, counter));
            }
            all.push(floats(labels("judge_requests_total", &[zone]), steady));
            let mut gauge = 50.0;
            let mut irregular = Vec::new();
            let mut timestamp_ms = start_ms;
            while timestamp_ms < end_ms {
                gauge = ((gauge + random.below(2001) as f64 / 100.0 - 10.0) * 100.0).round() / 100.0;
                irregular.push((timestamp_ms, gauge));
                timestamp_ms += 5_000 + random.below(40_000) as i64;
            }
            all.push(floats(labels("judge_gauge", &[zone]), irregular));
            let mut sparse = Vec::new();
            let mut timestamp_ms = start_ms + random.below(600_000) as i64;
            while timestamp_ms < end_ms {
                let value = if random.chance(10) { stale_nan() } else { random.below(1000) as f64 / 7.0 };
                sparse.push((timestamp_ms, value));
                timestamp_ms += 20_000 + random.below(400_000) as i64;
            }
            all.push(floats(labels("judge_sparse", &[zone]), sparse));
            let mut counts = [0.0; 4];
            let mut buckets = vec![Vec::new(); 4];
            for timestamp_ms in (start_ms..end_ms).step_by(30_000) {
                let mut below = 0.0;
                for (count, bucket) in counts.iter_mut().zip(&mut buckets) {
                    below += random.below(9) as f64;
                    *count += below;
                    bucket.push((timestamp_ms, *count));
                }
            }
            for (le, samples) in ["0.1", "0.5", "2.5", "+Inf"].into_iter().zip(buckets) {
                all.push(floats(labels("judge_latency_bucket", &[("le", le)]), samples));
            }
            let constant =
                (start_ms..end_ms).step_by(60_000).map(|timestamp_ms| (timestamp_ms, number as f64)).collect();
            all.push(floats(labels("judge_constant", &[]), constant));
            let mut native =
                Series { labels: labels("judge_native", &[zone]), floats: Vec::new(), histograms: Vec::new() };
            let mut custom =
                Series { labels: labels("judge_custom", &[zone]), floats: Vec::new(), histograms: Vec::new() };
            let mut mixed =
                Series { labels: labels("judge_mixed", &[zone]), floats: Vec::new(), histograms: Vec::new() };
            for (step, timestamp_ms) in (start_ms..end_ms).step_by(30_000).enumerate() {
                let before = native.histograms.last().map(|(_, histogram)| histogram);
                let next = exponential_histogram(&mut random, before, (job_index as i32 + number as i32) % 3);
                native.histograms.push((timestamp_ms, next));
                let before = custom.histograms.last().map(|(_, histogram)| histogram);
                let next = custom_histogram(&mut random, before, number % 2 == 0);
                custom.histograms.push((timestamp_ms, next));
                match (step / 20) % 2 {
                    0 => mixed.floats.push((timestamp_ms, step as f64)),
                    _ => {
                        let before = mixed.histograms.last().map(|(_, histogram)| histogram);
                        let next = exponential_histogram(&mut random, before, 1);
                        mixed.histograms.push((timestamp_ms, next));
                    }
                }
            }
            all.extend([native, custom, mixed]);
            if number == 0 {
                let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e300, -1e-300, 5.0];
                let steps = (start_ms..end_ms).step_by(45_000);
                all.push(floats(
                    labels("judge_special", &[zone]),
                    steps.map(|at_ms| (at_ms, random.pick(&values))).collect(),
                ));
            }
        }
    }
    all
}

/// When a query is asked for.
#[derive(Debug, Clone, Copy)]
enum Request {
    Instant { at_ms: i64 },
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

impl Request {
    fn random(random: &mut Random, end_ms: i64) -> Request {
        let at_ms = end_ms - random.below(HOURS as usize * 3_600_000) as i64;
        match random.chance(40) {
            true => Request::Instant { at_ms },
            false => {
                let step_ms = random.pick(&[1_000, 15_000, 60_000, 77_000, 300_000]);
                Request::Range { start_ms: at_ms, end_ms: at_ms + step_ms * random.below(60) as i64, step_ms }
            }
        }
    }
}

enum Outcome {
    Same,
    Near,
    FailedAlike,
    Different(String),
}

async fn ask(ours: &Server, theirs: &Server, query: &Query, request: &Request) -> anyhow::Result<Outcome> {
    let text = ("query", query.to_string());
    let seconds = |timestamp_ms: i64| format!("{}", timestamp_ms as f64 / 1000.0);
    let (path, parameters) = match *request {
        Request::Instant { at_ms } => ("/api/v1/query", vec![text, ("time", seconds(at_ms))]),
        Request::Range { start_ms, end_ms, step_ms } => {
            let (start, end, step) = (seconds(start_ms), seconds(end_ms), seconds(step_ms));
            ("/api/v1/query_range", vec![text, ("start", start), ("end", end), ("step", step)])
        }
    };
    let (one, other) = (ours.get_json(path, &parameters).await?, theirs.get_json(path, &parameters).await?);
    // Which of several colliding series an error names is chance there.
    if one["status"] == "error" && other["status"] == "error" && one["errorType"] == other["errorType"] {
        return Ok(Outcome::FailedAlike);
    }
    let ordered =
        matches!(request, Request::Instant { .. }) && query.to_string().starts_with("sort") && !has_ties(&other);
    Ok(match compare(&one, &other, ordered) {
        Verdict::Different(reason) => Outcome::Different(reason),
        verdict @ (Verdict::Same | Verdict::Near(_)) => match notes_differ(&one, &other) {
            Some(reason) => Outcome::Different(reason),
            None if verdict == Verdict::Same => Outcome::Same,
            None => Outcome::Near,
        },
    })
}

/// Whether two series of a vector have the same value: their order is chance then.
fn has_ties(answer: &Value) -> bool {
    let result = answer["data"]["result"].as_array();
    let mut values: Vec<&str> = result.into_iter().flatten().filter_map(|series| series["value"][1].as_str()).collect();
    let all = values.len();
    values.sort_unstable();
    values.dedup();
    values.len() < all
}

/// Warnings and infos, in any order.
fn notes_differ(one: &Value, other: &Value) -> Option<String> {
    ["warnings", "infos"].into_iter().find_map(|key| {
        let sorted = |answer: &Value| {
            let mut notes: Vec<String> = answer[key].as_array().into_iter().flatten().map(Value::to_string).collect();
            // Which ten of many are shown is chance there, and of incompatible pairs in one step it keeps the last.
            if notes.iter().any(|note| note.ends_with("annotations omitted\"")) {
                notes.retain(|note| note.ends_with("annotations omitted\""));
            }
            for note in &mut notes {
                if let Some(end) = note.find("incompatible sample types encountered") {
                    note.truncate(end);
                }
            }
            notes.sort();
            notes.dedup();
            notes
        };
        let (ours, theirs) = (sorted(one), sorted(other));
        (ours != theirs).then(|| format!("{key} {ours:?} and {theirs:?}"))
    })
}

async fn reduce(
    ours: &Server,
    theirs: &Server,
    mut query: Query,
    mut reason: String,
    request: &Request,
) -> anyhow::Result<(Query, String)> {
    'smaller: loop {
        for candidate in query.smaller() {
            if let Outcome::Different(why) = ask(ours, theirs, &candidate, request).await? {
                (query, reason) = (candidate, why);
                continue 'smaller;
            }
        }
        return Ok((query, reason));
    }
}
