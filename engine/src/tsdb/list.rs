//! `pilaster tsdb list`: the blocks, in the columns of promtool.

use pilaster_storage::env::Env;

use super::{PLACE, directory, go_duration, place, print_table};
use crate::arguments::Arguments;
use crate::import::{Failure, bytes, time_text};

pub(super) fn run(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &[&PLACE[..], &[("-r", false), ("--human-readable", false)]].concat())?;
    let readable = arguments.has("-r") || arguments.has("--human-readable");
    let env = Env::real();
    let blocks = place(&env, directory(&arguments, 1)?, &arguments)?.blocks().map_err(anyhow::Error::from)?;
    let head = [
        "BLOCK NAME",
        "MIN TIME",
        "MAX TIME",
        "DURATION",
        "NUM SAMPLES",
        "NUM SERIES",
        "LEVEL",
        "BYTES/SAMPLE",
        "SIZE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for block in blocks {
        let time = |ms: i64| if readable { time_text(ms) } else { ms.to_string() };
        rows.push(vec![
            block.name.clone(),
            time(block.min_ms),
            // As promtool: the first moment behind the block.
            time(block.max_ms.saturating_add(1)),
            go_duration(block.max_ms.saturating_sub(block.min_ms).saturating_add(1)),
            block.sample_count.to_string(),
            block.series_count.to_string(),
            block.level.to_string(),
            format!("{:.2}", block.bytes() as f64 / block.sample_count.max(1) as f64),
            if readable { bytes(block.bytes()) } else { block.bytes().to_string() },
        ]);
    }
    print_table(&rows);
    Ok(())
}
