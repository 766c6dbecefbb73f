//! `pilaster export`: samples of a data directory for others.

mod parquet;

use std::process::ExitCode;

use pilaster_model::TimeRange;

use crate::api::params::parse_time;
use crate::arguments::{Arguments, Flag};
use crate::import::{Failure, STORE, finish, open_store};
use crate::tsdb::{Selection, selectors, write_openmetrics};

const USAGE: &str = "usage: pilaster export parquet --output=OUT [--match=SELECTOR]... [--start=TIME] [--end=TIME]
                               [--storage.tsdb.path=DATA]
       pilaster export openmetrics [--match=SELECTOR]... [--start=TIME] [--end=TIME] [--storage.tsdb.path=DATA]

Times are Unix seconds or RFC 3339; a selection has all series and all times unless it says otherwise. DATA (default
data/) is a data directory over which no server runs; --config.file or --storage.blocks.url say where its blocks are, as
to the server.

  parquet      files in OUT, one row a sample, and OUT/views.sql for DuckDB
  openmetrics  text on standard output; native histograms and staleness markers have no form there
";

const OWN: [Flag; 3] = [("--match", true), ("--start", true), ("--end", true)];

/// Runs `pilaster export` with the words behind it.
pub fn run(words: &[&str]) -> ExitCode {
    let done = match words {
        ["parquet", rest @ ..] => parquet::run(rest),
        ["openmetrics", rest @ ..] => openmetrics(rest),
        ["-h" | "--help", ..] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(Failure::Usage("expected what to export: parquet or openmetrics".to_owned())),
    };
    finish(done, USAGE)
}

fn openmetrics(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &[&STORE[..], &OWN].concat())?;
    write_openmetrics(&selection(&arguments)?)?;
    Ok(())
}

fn selection(arguments: &Arguments) -> Result<Selection, Failure> {
    if let Some(word) = arguments.words.first() {
        return Err(Failure::Usage(format!("unexpected {word}")));
    }
    let time = |name: &str, default_ms| arguments.get(name).map_or(Ok(default_ms), parse_time);
    let range = TimeRange::new(time("--start", i64::MIN)?, time("--end", i64::MAX)?);
    let selectors = selectors(arguments.all("--match"))?;
    let store = open_store(arguments)?;
    Ok(Selection { store, range, selectors })
}
