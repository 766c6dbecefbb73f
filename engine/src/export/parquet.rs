//! `pilaster export parquet`: the files that blocks are made of, for a selection.

use std::collections::BTreeMap;
use std::path::Path;

use pilaster_storage::block::{BlockSeries, WriteOptions, write_block};
use pilaster_storage::env::Env;
use pilaster_storage::inspect::Place;

use super::{OWN, selection};
use crate::arguments::Arguments;
use crate::import::{Failure, STORE, bytes, grouped};

const DAY_MS: i64 = 86_400_000;
/// Samples in memory, and so in a file, about.
const MOST_SAMPLES: usize = 16 << 20;

/// Runs the command with the words behind `export parquet`.
pub(super) fn run(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &[&STORE[..], &OWN, &[("--output", true)]].concat())?;
    let Some(output) = arguments.get("--output") else {
        return Err("required flag --output not provided".to_owned().into());
    };
    if Place::new(&Env::real(), Path::new(output), None).is_ok_and(|place| place.blocks().is_ok()) {
        return Err(format!("{output} is a data directory itself").into());
    }
    let selection = selection(&arguments)?;
    let mut files = Files { dir: Path::new(output), days: BTreeMap::new(), samples: 0, written: Written::default() };
    selection.for_each(|series, samples| {
        let mut from = 0;
        while let Some(&first) = samples.timestamps.get(from) {
            let day = first.div_euclid(DAY_MS);
            let to = from + samples.timestamps[from..].partition_point(|ms| ms.div_euclid(DAY_MS) == day);
            let places = from..to;
            files.take(
                day,
                BlockSeries {
                    labels: series.labels.clone(),
                    timestamps: samples.timestamps[places.clone()].into(),
                    values: samples.values[places.clone()].to_vec(),
                    histograms: samples.histograms.as_ref().map(|all| all[places.clone()].to_vec()),
                    starts_ms: samples.starts_ms.as_ref().map(|all| all[places].to_vec()),
                },
            )?;
            from = to;
        }
        Ok(())
    })?;
    files.write()?;
    let Written { files, samples, bytes: size } = files.written;
    println!("exported {} samples to {files} files below {output}, {}", grouped(samples), bytes(size));
    Ok(())
}

#[derive(Default)]
struct Written {
    files: u64,
    samples: u64,
    bytes: u64,
}

/// Files on their way, one a day at a time.
struct Files<'d> {
    dir: &'d Path,
    days: BTreeMap<i64, Vec<BlockSeries>>,
    samples: usize,
    written: Written,
}

impl Files<'_> {
    fn take(&mut self, day: i64, series: BlockSeries) -> anyhow::Result<()> {
        self.samples += series.timestamps.len();
        self.days.entry(day).or_default().push(series);
        if self.samples >= MOST_SAMPLES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let env = Env::real();
        for series in std::mem::take(&mut self.days).into_values() {
            let first = series.iter().filter_map(|one| one.timestamps.first()).min().copied().unwrap_or(0);
            let name = format!("export-{first}-{}", self.written.files);
            let options =
                WriteOptions { promoted_labels: pilaster_storage::StoreOptions::new(self.dir).promoted_labels };
            let meta = write_block(&*env.files, self.dir, &name, 1, series, &options)?;
            // An index is for the engine alone.
            for file in meta.files.iter().skip(1) {
                env.files.remove(&self.dir.join(&file.path))?;
            }
            self.written.files += 1;
            self.written.samples += meta.sample_count;
            self.written.bytes += meta.files.first().map_or(0, |file| file.bytes);
        }
        self.samples = 0;
        Ok(())
    }
}
