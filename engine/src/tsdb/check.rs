//! `pilaster tsdb verify` and `repair`.

use pilaster_storage::block::BlockMeta;
use pilaster_storage::env::Env;

use super::{PLACE, directory, place, print_table};
use crate::arguments::Arguments;
use crate::import::{Failure, bytes, grouped, time_text};

/// Columns of the picture.
const WIDTH: usize = 48;

pub(super) fn verify(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &PLACE)?;
    let dir = directory(&arguments, 1)?;
    let env = Env::real();
    let place = place(&env, dir, &arguments)?;
    let blocks = place.blocks().map_err(anyhow::Error::from)?;
    let span = (blocks.iter().map(|block| block.min_ms).min(), blocks.iter().map(|block| block.max_ms).max());
    let (Some(from_ms), Some(to_ms)) = span else {
        println!("no blocks");
        return Ok(());
    };
    let mut damaged = Vec::new();
    let mut rows = Vec::new();
    for block in &blocks {
        let checked = place.verify(block);
        let state = if checked.is_ok() { "ok" } else { "DAMAGED" };
        rows.push(vec![
            picture(block, from_ms, to_ms, checked.is_ok()),
            state.to_owned(),
            format!("level {}", block.level),
            format!("{} samples", grouped(block.sample_count)),
            bytes(block.bytes()),
            block.name.clone(),
        ]);
        damaged.extend(checked.err().map(|error| format!("{}: {:#}", block.name, anyhow::Error::from(error))));
    }
    println!("{:<WIDTH$}", format!("{} to {}", time_text(from_ms), time_text(to_ms)));
    print_table(&rows);
    let total: u64 = blocks.iter().map(BlockMeta::bytes).sum();
    println!("{} blocks, {}; {} damaged", blocks.len(), bytes(total), damaged.len());
    if damaged.is_empty() {
        return Ok(());
    }
    damaged.iter().for_each(|line| eprintln!("{line}"));
    Err(Failure::Partly)
}

/// The time of a block as a part of all blocks' time.
fn picture(block: &BlockMeta, from_ms: i64, to_ms: i64, sound: bool) -> String {
    let span = (i128::from(to_ms) - i128::from(from_ms)).max(1);
    let column = |ms: i64| ((i128::from(ms) - i128::from(from_ms)) * (WIDTH as i128 - 1) / span) as usize;
    let (first, last) = (column(block.min_ms), column(block.max_ms));
    let mark = if sound { '=' } else { '!' };
    let cell = |at: usize| if (first..=last).contains(&at) { mark } else { '.' };
    (0..WIDTH).map(cell).collect()
}

pub(super) fn repair(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &PLACE)?;
    let dir = directory(&arguments, 1)?;
    let env = Env::real();
    let done = place(&env, dir, &arguments)?.repair().map_err(anyhow::Error::from)?;
    for name in &done.rebuilt {
        println!("{name}: index made again from its sample file");
    }
    for (name, reason) in &done.set_aside {
        println!("{name}: set aside to {}: {reason}", done.aside);
    }
    println!(
        "{} blocks sound, {} indexes made again, {} blocks set aside",
        done.sound,
        done.rebuilt.len(),
        done.set_aside.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_drawn_where_they_are_in_time() {
        let block = |min_ms, max_ms| BlockMeta {
            name: String::new(),
            level: 0,
            min_ms,
            max_ms,
            series_count: 0,
            sample_count: 0,
            files: Vec::new(),
        };
        let drawn = |min_ms, max_ms, sound| picture(&block(min_ms, max_ms), 0, 470, sound);
        assert_eq!(drawn(0, 470, true), "=".repeat(WIDTH));
        assert_eq!(drawn(0, 9, true), format!("={}", ".".repeat(WIDTH - 1)));
        assert_eq!(drawn(470, 470, false), format!("{}!", ".".repeat(WIDTH - 1)));
        assert_eq!(picture(&block(i64::MIN, i64::MAX), i64::MIN, i64::MAX, true), "=".repeat(WIDTH));
    }
}
