//! A real Prometheus as judge: random queries over one data set, asked of both, every difference reported with the
//! smallest query that still shows it. Seeds are printed; `--end E --first-seed N --queries 1` repeats one.
//!
//! What is not the same to the last digit is chance (Prometheus varies itself), of a class in `judge::known`, or a
//! difference; the summary counts each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use clap::Parser;
use pilaster_benches::answers::{Order, Verdict, compare, notes};
use pilaster_benches::judge::chance::{Chance, chance, error_words};
use pilaster_benches::judge::data::{HOURS, Series, data};
use pilaster_benches::judge::known::{Difference, Known, Proof, cells, known, only_more_operator_notes};
use pilaster_benches::judge::steps::{Steps, by_steps};
use pilaster_benches::random_query::{Kind as QueryKind, Query, Random, random_query};
use pilaster_benches::server::{Kind, Server, write_request};
use serde_json::Value;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "prometheus")]
    prometheus: PathBuf,
    /// A Prometheus that has repaired some defects, asked where only these explain a difference (3.15).
    #[arg(long)]
    newer_prometheus: Option<PathBuf>,
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
    differences: u64,
    /// Features enabled in both besides the usual ones, such as promql-delayed-name-removal.
    #[arg(long, default_value = "")]
    features: String,
    /// Also compare how many samples each step looks at, where the answers are the same.
    #[arg(long)]
    counts: bool,
    /// Also print queries that both refuse, but not in the same words.
    #[arg(long)]
    show_refusals: bool,
    /// End of the data, seconds since the epoch; now if 0. The same seed and end give the same data and queries.
    #[arg(long, default_value_t = 0)]
    end: i64,
    /// Load the data, print where both listen, and ask nothing until interrupted.
    #[arg(long)]
    serve: bool,
}

/// Changes nothing but what `stats=all` says.
const PER_STEP: &str = "promql-per-step-stats";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let features = format!("{PER_STEP},{}", arguments.features);
    let ours = Server::start_with(Kind::Pilaster, &arguments.pilaster, dir.path(), &features).await?;
    let theirs = Server::start_with(Kind::Prometheus, &arguments.prometheus, dir.path(), &features).await?;
    let newer = match &arguments.newer_prometheus {
        None => None,
        Some(program) => {
            let dir = dir.path().join("newer");
            Some(Server::start_with(Kind::Prometheus, program, &dir, &features).await?)
        }
    };
    let end_ms = match arguments.end {
        0 => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64 / 60_000 * 60_000,
        end_s => end_s * 1000,
    };
    let mut samples = data(end_ms);
    let count: usize = samples.iter().map(Series::sample_count).sum();
    // Of equal candidates, `topk`, `limitk` and `sort` take the first in the order of the storage, which is that of
    // creation there and that of labels here: created in the order of labels, in the first request, they are the same.
    samples.sort_by(|one, other| one.labels().cmp(other.labels()));
    // In order of time, as senders do.
    for slice in 3..HOURS * 12 {
        let until_ms = end_ms - HOURS * 3_600_000 + (slice + 1) * 300_000;
        let parts: Vec<Series> = samples.iter_mut().map(|one| one.take_until(until_ms)).collect();
        let filled = parts.iter().filter(|one| one.sample_count() > 0);
        let body = write_request(filled.map(Series::to_send))?;
        ours.write(body.clone()).await?;
        theirs.write(body.clone()).await?;
        if let Some(newer) = &newer {
            newer.write(body).await?;
        }
    }
    println!("{count} samples; data end at {}", end_ms / 1000);
    if arguments.serve {
        println!("{} and {}", ours.url, theirs.url);
        newer.iter().for_each(|newer| println!("newer: {}", newer.url));
        tokio::signal::ctrl_c().await?;
        return Ok(());
    }
    let begun = Instant::now();
    let judge = Judge { ours, theirs, newer, counts: arguments.counts };
    let mut tally = Tally::default();
    for seed in arguments.first_seed..arguments.first_seed + arguments.queries {
        let mut random = Random::before(seed, end_ms);
        let request = Request::random(&mut random, end_ms);
        let kind = match random.below(20) {
            0 => QueryKind::Scalar,
            1 if matches!(request, Request::Instant { .. }) => QueryKind::Range,
            _ => QueryKind::Vector,
        };
        let query = random_query(&mut random, kind, 1 + arguments.depth);
        let outcome = judge.ask(&query, &request).await?;
        tally.count(&outcome);
        let words = match &outcome {
            Outcome::Different(_) => "different",
            Outcome::Rounding(_) => "rounding",
            Outcome::RefusedInOtherWords if arguments.show_refusals => "refused in other words",
            _ => "",
        };
        if !words.is_empty() {
            let (smallest, reason) = judge.reduce(query, outcome, &request).await?;
            let reason: String = reason.chars().take(600).collect();
            println!("\nseed {seed} {words} {request:?}\n  {smallest}\n  {reason}");
        }
        if tally.different >= arguments.differences {
            break;
        }
        if seed % 500 == 0 {
            let done = seed - arguments.first_seed + 1;
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            eprint!("\r{done} queries, {rate:.0}/s, {} different ", tally.different);
        }
    }
    println!("\n{tally}");
    anyhow::ensure!(tally.different == 0, "{} differences", tally.different);
    Ok(())
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

    fn parameters(&self, query: &str) -> (&'static str, Vec<(&'static str, String)>) {
        let text = ("query", query.to_owned());
        let seconds = |timestamp_ms: i64| format!("{}", timestamp_ms as f64 / 1000.0);
        match *self {
            Request::Instant { at_ms } => ("/api/v1/query", vec![text, ("time", seconds(at_ms))]),
            Request::Range { start_ms, end_ms, step_ms } => {
                let (start, end, step) = (seconds(start_ms), seconds(end_ms), seconds(step_ms));
                ("/api/v1/query_range", vec![text, ("start", start), ("end", end), ("step", step)])
            }
        }
    }

    /// An instant query has one step, of no length.
    fn steps(&self) -> Steps {
        match *self {
            Request::Instant { at_ms } => Steps { start_ms: at_ms, end_ms: at_ms, step_ms: 0 },
            Request::Range { start_ms, end_ms, step_ms } => Steps { start_ms, end_ms, step_ms },
        }
    }

    fn order(&self, query: &str, theirs: &Value) -> Order {
        let sorts = |prefixes: &[&str]| prefixes.iter().any(|prefix| query.starts_with(prefix));
        if !matches!(self, Request::Instant { .. }) || theirs["data"]["resultType"] != "vector" {
            Order::Nothing
        } else if sorts(&["sort_by_label"]) {
            Order::OfSeries
        } else if sorts(&["sort(", "sort_desc(", "topk (", "bottomk ("]) {
            Order::OfValues
        } else {
            Order::Nothing
        }
    }
}

/// What comes out of asking both, with the number of times it did.
#[derive(Debug, Default)]
struct Tally {
    same: u64,
    refused: u64,
    refused_in_other_words: u64,
    chance: u64,
    chance_rounding: u64,
    rounding: u64,
    known: BTreeMap<&'static str, u64>,
    different: u64,
}

enum Outcome {
    Same,
    /// Both refuse, with the same words.
    Refused,
    /// Both refuse for one of several reasons; which one is named first is no promise.
    RefusedInOtherWords,
    Chance(Chance),
    /// A known difference, by name.
    Known(&'static str),
    /// Within rounding, although Prometheus always says the same.
    Rounding(String),
    Different(String),
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Same => &mut self.same,
            Outcome::Refused => &mut self.refused,
            Outcome::RefusedInOtherWords => &mut self.refused_in_other_words,
            Outcome::Chance(Chance::Rounding) => &mut self.chance_rounding,
            Outcome::Chance(_) => &mut self.chance,
            Outcome::Known(name) => self.known.entry(name).or_default(),
            Outcome::Rounding(_) => &mut self.rounding,
            Outcome::Different(_) => &mut self.different,
        };
        *counter += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |count: u64, words: &str| match count {
            0 => Ok(()),
            count => writeln!(out, "{count:>8} {words}"),
        };
        line(self.same, "the same to the last digit")?;
        line(self.refused, "refused by both in the same words")?;
        line(self.refused_in_other_words, "refused by both in other words")?;
        line(self.chance, "chance: Prometheus says this too when asked again")?;
        line(self.chance_rounding, "chance: last digits vary in Prometheus too")?;
        self.known.iter().try_for_each(|(name, count)| line(*count, &format!("known: {name}")))?;
        line(self.rounding, "within rounding, but not chance")?;
        line(self.different, "different")
    }
}

struct Judge {
    ours: Server,
    theirs: Server,
    newer: Option<Server>,
    counts: bool,
}

/// The answers are the same, and so is what the newer Prometheus counts.
const NEWER_COUNTS: &str = "samples counted where Prometheus 3.14 looks info series up at other times";

/// How often Prometheus is asked again before a difference is believed.
const ASK_AGAIN: [usize; 3] = [20, 100, 400];

/// Whether all answers to a question are the same.
fn are_stable(answers: &[Value]) -> bool {
    answers.iter().all(|answer| {
        compare(answer, &answers[0], Order::Nothing) == Verdict::Same && notes_differ(answer, &answers[0]).is_none()
    })
}

impl Judge {
    async fn ask(&self, query: &Query, request: &Request) -> anyhow::Result<Outcome> {
        let query = query.to_string();
        let (path, mut parameters) = request.parameters(&query);
        if self.counts {
            parameters.push(("stats", "all".to_owned()));
        }
        let (ours, theirs) =
            tokio::try_join!(self.ours.get_json(path, &parameters), self.theirs.get_json(path, &parameters))?;
        let refused = refused(&ours, &theirs);
        if let Some(outcome @ (Outcome::Refused | Outcome::RefusedInOtherWords)) = refused {
            return Ok(outcome);
        }
        let verdict = compare(&ours, &theirs, request.order(&query, &theirs));
        let (cells, notes) = (verdict != Verdict::Same, notes_differ(&ours, &theirs));
        if !cells && notes.is_none() {
            let Some(reason) = counts_differ(&ours, &theirs) else { return Ok(Outcome::Same) };
            return Ok(match &self.newer {
                Some(newer) if counts_differ(&ours, &newer.get_json(path, &parameters).await?).is_none() => {
                    Outcome::Known(NEWER_COUNTS)
                }
                _ => Outcome::Different(reason),
            });
        }
        let difference =
            Difference { query: &query, steps: request.steps(), ours: &ours, theirs: &theirs, cells: &verdict };
        for Known { name, proof } in known(&difference) {
            if self.proves(proof, &query, request, &ours).await? {
                return Ok(Outcome::Known(name));
            }
        }
        let mut answers = vec![theirs];
        let mut outcome = chance(&ours, &answers);
        for times in ASK_AGAIN {
            for _ in 0..times {
                answers.push(self.theirs.get_json(path, &parameters).await?);
            }
            outcome = chance(&ours, &answers);
            // What never varies is no chance, however often it is asked.
            if outcome != Chance::No || (answers.len() > ASK_AGAIN[1] && are_stable(&answers)) {
                break;
            }
        }
        if let (Chance::No, Some(outcome)) = (outcome, refused) {
            return Ok(outcome);
        }
        Ok(match (outcome, verdict, notes) {
            (outcome @ (Chance::Among | Chance::Rounding), _, _) => Outcome::Chance(outcome),
            (Chance::No, Verdict::Different(reason), _) | (Chance::No, _, Some(reason)) => Outcome::Different(reason),
            (Chance::No, verdict @ (Verdict::Same | Verdict::Near(_)), None) => {
                Outcome::Rounding(format!("{verdict:?}"))
            }
        })
    }

    /// Whether what has to agree with our answer, does; some of what differs may be chance besides.
    async fn proves(&self, proof: Proof, query: &str, request: &Request, ours: &Value) -> anyhow::Result<bool> {
        let ours = unplaced(ours);
        let (server, query) = match (&proof, &self.newer) {
            (Proof::Answers, _) => return Ok(true),
            (Proof::EachStep, _) => {
                let theirs = by_steps(&self.theirs, query, request.steps()).await?;
                return Ok(chance(&ours, &[unplaced(&theirs)]) != Chance::No);
            }
            (Proof::Rewritten(other), _) => (&self.theirs, other.as_str()),
            (Proof::Newer | Proof::Unordered, Some(newer)) => (newer, query),
            (Proof::Newer | Proof::Unordered, None) => return Ok(false),
        };
        let (path, parameters) = request.parameters(query);
        let mut answers = Vec::new();
        let times = if proof == Proof::Unordered { ASK_AGAIN[1] } else { ASK_AGAIN[0] };
        for _ in 0..times {
            let answer = unplaced(&server.get_json(path, &parameters).await?);
            // What the newer one has repaired may hide behind what neither does.
            let same_cells = || compare(&ours, &answer, Order::Nothing) == Verdict::Same;
            if proof == Proof::Newer && only_more_operator_notes(&ours, &answer) && same_cells() {
                return Ok(true);
            }
            answers.push(answer);
            if proof != Proof::Unordered && chance(&ours, &answers) != Chance::No {
                return Ok(true);
            }
        }
        let given: BTreeSet<String> = answers.iter().flat_map(cells).collect();
        Ok(proof == Proof::Unordered && !are_stable(&answers) && cells(&ours).is_subset(&given))
    }

    /// The smallest query that still shows a difference as bad as `found`.
    async fn reduce(&self, mut query: Query, mut found: Outcome, request: &Request) -> anyhow::Result<(Query, String)> {
        'smaller: loop {
            for candidate in query.smaller() {
                let outcome = self.ask(&candidate, request).await?;
                match (&found, &outcome) {
                    (Outcome::Different(_), Outcome::Different(_)) | (Outcome::Rounding(_), Outcome::Rounding(_)) => {
                        (query, found) = (candidate, outcome);
                        continue 'smaller;
                    }
                    _ => {}
                }
            }
            let reason = match found {
                Outcome::Different(reason) | Outcome::Rounding(reason) => reason,
                _ => String::new(),
            };
            return Ok((query, reason));
        }
    }
}

/// The outcome where either refuses.
fn refused(ours: &Value, theirs: &Value) -> Option<Outcome> {
    let is_error = |answer: &Value| answer["status"] == "error";
    if !is_error(ours) && !is_error(theirs) {
        return None;
    }
    if !(is_error(ours) && is_error(theirs)) || ours["errorType"] != theirs["errorType"] {
        return Some(Outcome::Different(format!("{} and {}", answer_text(ours), answer_text(theirs))));
    }
    let same = error_words(ours) == error_words(theirs);
    Some(if same { Outcome::Refused } else { Outcome::RefusedInOtherWords })
}

/// The answer without the places that its notes name, which are others in other versions and other spellings.
fn unplaced(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for kind in ["warnings", "infos"] {
        for note in answer.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            let text = note.as_str().unwrap_or_default();
            *note = text.rsplit_once(" (").map_or(text, |(words, _)| words).into();
        }
    }
    answer
}

fn answer_text(answer: &Value) -> String {
    answer.to_string().chars().take(300).collect()
}

/// What two servers say of samples looked at, which nothing but the peak may differ in.
fn counts_differ(ours: &Value, theirs: &Value) -> Option<String> {
    let counts = |answer: &Value| {
        let mut counts = answer["data"]["stats"]["samples"].clone();
        counts.as_object_mut().and_then(|counts| counts.remove("peakSamples"));
        counts
    };
    let (ours, theirs) = (counts(ours), counts(theirs));
    (ours != theirs).then(|| format!("counts {ours} and {theirs}"))
}

fn notes_differ(one: &Value, other: &Value) -> Option<String> {
    ["warnings", "infos"].into_iter().find_map(|kind| {
        let (ours, theirs) = (notes(one, kind), notes(other, kind));
        (ours != theirs).then(|| {
            let (more, less) = (&ours - &theirs, &theirs - &ours);
            format!("{kind}: only here {more:?}, only there {less:?}")
        })
    })
}
