//! `pilaster tsdb dump` and `dump-openmetrics`: all samples as lines of text.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use pilaster_model::histogram::format_g;
use pilaster_model::{Labels, METRIC_NAME, Matcher, TimeRange, is_stale};
use pilaster_promql::parser::parse_selector;
use pilaster_storage::{SelectedSeries, SeriesSamples, Store};

use super::directory;
use crate::api::json;
use crate::arguments::{Arguments, Flag};
use crate::import::{Failure, open_store_at};

/// Series that are read together.
const BATCH: usize = 256;

const OWN: [Flag; 5] = [
    ("--min-time", true),
    ("--max-time", true),
    ("--match", true),
    ("--config.file", true),
    ("--storage.blocks.url", true),
];

/// What to show, of what.
pub(crate) struct Selection {
    pub store: Arc<Store>,
    pub range: TimeRange,
    pub selectors: Vec<Vec<Matcher>>,
}

impl Selection {
    /// The series that one of the selectors finds, ascending, and a way to their samples.
    pub(crate) fn for_each(
        &self,
        mut take: impl FnMut(&SelectedSeries, SeriesSamples) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let snapshot = self.store.snapshot();
        let mut series: Vec<SelectedSeries> = Vec::new();
        for matchers in &self.selectors {
            series.extend(snapshot.select(matchers, self.range)?);
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        series.dedup_by(|a, b| a.labels == b.labels);
        for batch in series.chunks(BATCH) {
            for (one, samples) in batch.iter().zip(snapshot.read_many(batch, self.range)?) {
                take(one, samples)?;
            }
        }
        Ok(())
    }
}

/// Selectors of flags; all series where there is none.
pub(crate) fn selectors<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, String> {
    let mut all = Vec::new();
    for text in texts {
        all.push(parse_selector(text).map_err(|error| error.to_string())?);
    }
    Ok(if all.is_empty() { vec![Vec::new()] } else { all })
}

fn selection(arguments: &Arguments) -> Result<Selection, Failure> {
    let min_ms = arguments.number("--min-time", i64::MIN)?;
    let range = TimeRange::new(min_ms, arguments.number("--max-time", i64::MAX)?);
    let selectors = selectors(arguments.all("--match"))?;
    Ok(Selection { store: open_store_at(directory(arguments, 1)?, arguments)?, range, selectors })
}

pub(super) fn run(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &[&OWN[..], &[("--format", true)]].concat())?;
    let json = match arguments.get("--format") {
        None | Some("prom") => false,
        Some("seriesjson") => true,
        Some(other) => return Err(format!("enum value must be one of prom,seriesjson, got '{other}'").into()),
    };
    let selection = selection(&arguments)?;
    write_lines(&selection, |labels, samples, out| {
        if json {
            json::push_labels(out, labels);
            out.push(b'\n');
            return;
        }
        for (at, (ms, value)) in samples.timestamps.iter().zip(&samples.values).enumerate() {
            let histogram = samples.histograms.as_ref().and_then(|all| all[at].as_ref());
            // Writing into memory does not fail.
            let _ = match histogram {
                Some(histogram) => writeln!(out, "{labels} {histogram} {ms}"),
                None => writeln!(out, "{labels} {} {ms}", format_g(*value)),
            };
        }
    })?;
    Ok(())
}

/// Runs the command with the words behind its name.
pub(super) fn dump_openmetrics(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &OWN)?;
    write_openmetrics(&selection(&arguments)?)?;
    Ok(())
}

/// Writes floats of a selection to standard output, as OpenMetrics.
pub(crate) fn write_openmetrics(selection: &Selection) -> anyhow::Result<()> {
    write_lines(selection, |labels, samples, out| {
        let mut name = String::new();
        for (at, (name_of, value)) in labels.iter().filter(|(name, _)| *name != METRIC_NAME).enumerate() {
            name += if at > 0 { "," } else { "" };
            name += &format!("{name_of}={}", quoted(value));
        }
        let name = format!("{}{{{name}}}", labels.metric_name());
        for (at, (ms, value)) in samples.timestamps.iter().zip(&samples.values).enumerate() {
            if is_stale(*value) || samples.histograms.as_ref().is_some_and(|all| all[at].is_some()) {
                continue;
            }
            let sign = if *ms < 0 { "-" } else { "" };
            let (seconds, rest) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
            let _ = writeln!(out, "{name} {} {sign}{seconds}.{rest:03}", format_g(*value));
        }
    })?;
    println!("# EOF");
    Ok(())
}

/// A label value as OpenMetrics writes it.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn write_lines(selection: &Selection, write: impl Fn(&Labels, &SeriesSamples, &mut Vec<u8>)) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let mut out = Vec::new();
    selection.for_each(|series, samples| {
        if samples.values.is_empty() {
            return Ok(());
        }
        write(&series.labels, &samples, &mut out);
        if out.len() > 1 << 16 {
            stdout.write_all(&out).context("could not write")?;
            out.clear();
        }
        Ok(())
    })?;
    stdout.write_all(&out).context("could not write")
}
