//! `pilaster import`: samples from elsewhere become blocks of a data directory.
//!
//! No server may run over the directory. Blocks are written directly, neither logged nor kept in memory; what the
//! directory has already is not taken again, so an import may be cut short and repeated.

mod openmetrics;
mod progress;
mod prometheus;
mod remote_read;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use pilaster_model::{Columns, Labels, TimeRange};
use pilaster_storage::block::BlockSeries;
use pilaster_storage::env::Env;
use pilaster_storage::{BlockImport, Imported, ObjectOptions, Store, StoreOptions};

use crate::arguments::{Arguments, Flag};
use crate::blocks::object_options;
use crate::config::Config;
use crate::flags;
use progress::{Progress, rate};
pub(crate) use progress::{bytes, grouped, time_text};

/// The server's flags that say where samples are.
pub(crate) const STORE: [Flag; 3] =
    [("--storage.tsdb.path", true), ("--config.file", true), ("--storage.blocks.url", true)];
pub(crate) const DEFAULT_DATA: &str = "data/";

/// Series that are handed on together.
const BATCH_SERIES: usize = 4096;

const USAGE: &str = "usage: pilaster import prometheus DIR [--storage.tsdb.path DATA]
       pilaster import openmetrics FILE... [--label NAME=VALUE]... [--storage.tsdb.path DATA]
       pilaster import remote-read URL --start TIME --end TIME [--match SELECTOR]... [--header NAME:VALUE]...
                                   [--storage.tsdb.path DATA]

Writes samples from elsewhere into the data directory DATA (default data/), over which no server may run. Samples that
it has already are left out: an import that was cut short goes on where it stopped. Where blocks go to an object store,
say so as to the server: --config.file=FILE or --storage.blocks.url=URL.

  prometheus   the data directory of a Prometheus that is stopped, or one of its snapshots: blocks, write-ahead log,
               late samples and all
  openmetrics  text files with timestamps
  remote-read  a running server, over its remote read API (URL ends in /api/v1/read)
";

/// Runs `pilaster import` with the words behind it.
pub fn run(words: &[&str]) -> ExitCode {
    let done = match words {
        ["prometheus", rest @ ..] => prometheus::run(rest),
        ["openmetrics", rest @ ..] => openmetrics::run(rest),
        ["remote-read", rest @ ..] => remote_read::run(rest),
        ["-h" | "--help", ..] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(Failure::Usage("expected what to import: prometheus, openmetrics or remote-read".to_owned())),
    };
    finish(done, USAGE)
}

/// Imports the directory of a Prometheus into an open store, without a word. What was imported, and how many damaged
/// pieces were left out.
///
/// # Errors
/// `from` is no such directory, or the store could not be written.
pub fn import_prometheus(from: &Path, store: &Store) -> anyhow::Result<(Imported, u64)> {
    prometheus::import(from, store, &Progress::silent())
}

/// Why a command did not do what it was asked.
pub(crate) enum Failure {
    /// The words make no sense.
    Usage(String),
    Failed(anyhow::Error),
    /// It did what could be done, and said what could not.
    Partly,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Failed(error)
    }
}

impl From<String> for Failure {
    fn from(usage: String) -> Failure {
        Failure::Usage(usage)
    }
}

/// The exit code, after a message where there is one to give.
pub(crate) fn finish(done: Result<(), Failure>, usage: &str) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Partly) => ExitCode::FAILURE,
        Err(Failure::Failed(error)) => {
            eprintln!("pilaster: error: {error:#}");
            ExitCode::FAILURE
        }
        Err(Failure::Usage(reason)) => {
            eprintln!("pilaster: error: {reason}\n{usage}");
            ExitCode::from(2)
        }
    }
}

/// The store that the flags of [`STORE`] name.
pub(crate) fn open_store(arguments: &Arguments) -> anyhow::Result<Arc<Store>> {
    open_store_at(Path::new(arguments.get("--storage.tsdb.path").unwrap_or(DEFAULT_DATA)), arguments)
}

/// The store in `dir`, with its blocks where a configuration file or a flag says.
pub(crate) fn open_store_at(dir: &Path, arguments: &Arguments) -> anyhow::Result<Arc<Store>> {
    let env = Env::real();
    let options = StoreOptions { blocks: blocks_of(arguments, &env)?, ..StoreOptions::new(dir) };
    Store::open(options, env).with_context(|| format!("cannot use the data directory {}", dir.display()))
}

/// Where flags or a configuration file say that blocks are; `None` for the data directory.
pub(crate) fn blocks_of(arguments: &Arguments, env: &Env) -> anyhow::Result<Option<ObjectOptions>> {
    let given = STORE.iter().filter(|(name, _)| *name != "--storage.tsdb.path");
    let words: Vec<String> = given.filter_map(|(name, _)| Some(format!("{name}={}", arguments.get(name)?))).collect();
    let flags = match flags::parse(&words) {
        Ok(flags::Command::Serve(flags)) => flags,
        Ok(_) => bail!("no command of its own"),
        Err(error) => bail!("{error}"),
    };
    let config = match arguments.get("--config.file") {
        Some(file) => Config::load(Path::new(file)).with_context(|| format!("error loading config from {file:?}"))?,
        None => Config::parse("", Path::new(""))?,
    };
    object_options(&flags, &config.blocks, env).map_err(|error| anyhow!("storage.blocks: {error}"))
}

/// The samples of a series that lie in `range`, as a block takes them; `None` where there are none.
fn block_series(labels: &Labels, samples: &Columns, range: TimeRange) -> Option<BlockSeries> {
    let from = samples.timestamps.partition_point(|&ms| ms < range.min_ms);
    let to = samples.timestamps.partition_point(|&ms| ms <= range.max_ms);
    (from < to).then(|| BlockSeries {
        labels: labels.clone(),
        timestamps: samples.timestamps[from..to].into(),
        values: samples.values[from..to].to_vec(),
        histograms: samples.histograms_in(from..to),
        starts_ms: (!samples.starts_ms.is_empty()).then(|| samples.starts_ms[from..to].to_vec()),
    })
}

/// The window of `width_ms` that `timestamp_ms` lies in.
fn window_of(timestamp_ms: i64, width_ms: i64) -> TimeRange {
    let start_ms = timestamp_ms.div_euclid(width_ms).saturating_mul(width_ms);
    TimeRange::new(start_ms, start_ms.saturating_add(width_ms - 1))
}

/// Writes series that are in memory, in the order of blocks and each ascending by time, to blocks of about `span_ms`.
fn import_series(store: &Store, series: &[(Labels, Columns)], span_ms: i64) -> anyhow::Result<Imported> {
    import_series_where(store, series, span_ms, |_, _| true)
}

/// [`import_series`] for ranges of time of which `wanted` says so, once their samples are compared with the store's.
fn import_series_where(
    store: &Store,
    series: &[(Labels, Columns)],
    span_ms: i64,
    wanted: impl Fn(TimeRange, &BlockImport) -> bool,
) -> anyhow::Result<Imported> {
    let (width_ms, level) = store.import_window(span_ms);
    let mut windows = BTreeSet::new();
    for (_, samples) in series {
        let mut rest = &samples.timestamps[..];
        while let Some(&first) = rest.first() {
            let window = window_of(first, width_ms);
            windows.insert(window.min_ms);
            rest = &rest[rest.partition_point(|&ms| ms <= window.max_ms)..];
        }
    }
    let mut imported = Imported::default();
    for start_ms in windows {
        let window = window_of(start_ms, width_ms);
        let mut import = store.import(window, level)?;
        for batch in series.chunks(BATCH_SERIES) {
            import
                .push(batch.iter().filter_map(|(labels, samples)| block_series(labels, samples, window)).collect())?;
        }
        if wanted(window, &import) {
            imported += import.commit()?;
        } else {
            imported.known_samples += import.new_and_known().1;
        }
    }
    Ok(imported)
}

/// What stands at the end of every import.
fn summary(imported: &Imported, read_bytes: Option<u64>, progress: &Progress) -> String {
    let taken = progress.elapsed();
    let mut out = format!(
        "imported {} samples in {} blocks, {} ({:.2} a sample), in {:.1} s: {}",
        grouped(imported.samples),
        imported.blocks,
        bytes(imported.bytes),
        imported.bytes as f64 / (imported.samples.max(1)) as f64,
        taken.as_secs_f64(),
        rate(imported.samples + imported.known_samples, taken),
    );
    if let Some(read) = read_bytes {
        out += &format!("; read {}", bytes(read));
    }
    if imported.known_samples > 0 {
        out += &format!("; {} samples were there already", grouped(imported.known_samples));
    }
    out
}
