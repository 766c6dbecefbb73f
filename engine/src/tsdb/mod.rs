//! `pilaster tsdb`: looking at a data directory, and setting it right.
//!
//! `list`, `analyze` and `verify` read what the manifest names, and run beside a server. The others take the directory.

mod analyze;
mod check;
mod dump;
mod list;

use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use pilaster_storage::env::Env;
use pilaster_storage::inspect::{Place, address};

use crate::arguments::{Arguments, Flag};
use crate::blocks::open;
use crate::config::BlockPlace;
use crate::import::{DEFAULT_DATA, Failure, blocks_of, finish};

use dump::dump_openmetrics;
pub(crate) use dump::{Selection, selectors, write_openmetrics};

const USAGE: &str = "usage: pilaster tsdb list [-r] [DIR]
       pilaster tsdb analyze [--limit=20] [--match=SELECTOR] [DIR] [BLOCK]
       pilaster tsdb verify [DIR]
       pilaster tsdb repair [DIR]
       pilaster tsdb dump [--min-time=MS] [--max-time=MS] [--match=SELECTOR]... [--format=prom|seriesjson] [DIR]
       pilaster tsdb dump-openmetrics [--min-time=MS] [--max-time=MS] [--match=SELECTOR]... [DIR]

DIR is the data directory (default data/). Where its blocks are in an object store, they are found there by what the
environment says (AWS_..., GOOGLE_..., AZURE_...), or by --config.file=FILE or --storage.blocks.url=URL.

  list              the blocks
  analyze           churn and cardinality of a block (default the last)
  verify            reads every byte of every block, compares all checksums, and draws the blocks over time
  repair            makes damaged indexes again, and moves blocks that cannot be read to set-aside; nothing is cut
  dump              all samples, a line each
  dump-openmetrics  the same for other servers; native histograms and staleness markers have no form there
";

/// Runs `pilaster tsdb` with the words behind it.
pub fn run(words: &[&str]) -> ExitCode {
    let done = match words {
        ["list", rest @ ..] => list::run(rest),
        ["analyze", rest @ ..] => analyze::run(rest),
        ["verify", rest @ ..] => check::verify(rest),
        ["repair", rest @ ..] => check::repair(rest),
        ["dump", rest @ ..] => dump::run(rest),
        ["dump-openmetrics", rest @ ..] => dump_openmetrics(rest),
        ["-h" | "--help", ..] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(Failure::Usage("expected a command of tsdb".to_owned())),
    };
    finish(done, USAGE)
}

/// Flags that say where blocks are.
const PLACE: [Flag; 2] = [("--config.file", true), ("--storage.blocks.url", true)];

/// The blocks of the data directory `dir`: where flags or a configuration say, else where the directory itself does.
fn place<'a>(env: &'a Env, dir: &'a Path, arguments: &Arguments) -> anyhow::Result<Place<'a>> {
    let given = blocks_of(arguments, env)?.map(|options| options.objects);
    let objects = match given {
        Some(objects) => Some(objects),
        None => match address(env, dir)? {
            Some(url) => Some(open(&BlockPlace { url, options: Vec::new() }, env).map_err(|error| anyhow!(error))?),
            None => None,
        },
    };
    Ok(Place::new(env, dir, objects)?)
}

/// The data directory, which may be left out.
fn directory(arguments: &Arguments, most: usize) -> Result<&Path, Failure> {
    if arguments.words.len() > most {
        return Err(Failure::Usage(format!("unexpected {}", arguments.words[most])));
    }
    Ok(Path::new(arguments.words.first().map_or(DEFAULT_DATA, String::as_str)))
}

/// Rows with columns as wide as their widest cell, two spaces between them.
fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

/// A duration as Go prints it: `2h0m0s`.
fn go_duration(ms: i64) -> String {
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let (hours, minutes, left) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    match (hours, minutes) {
        (0, 0) if seconds == 0 && rest != 0 => format!("{rest}ms"),
        (0, 0) => format!("{left}{fraction}s"),
        (0, minutes) => format!("{minutes}m{left}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{left}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::go_duration;

    #[test]
    fn durations_are_gos() {
        let all = [0, 7, 1500, 61_000, 7_200_000, 7_199_999].map(go_duration);
        assert_eq!(all, ["0s", "7ms", "1.5s", "1m1s", "2h0m0s", "1h59m59.999s"]);
    }
}
