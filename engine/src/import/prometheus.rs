//! `pilaster import prometheus`: the data directory of another server, straight from its files.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Context, bail};
use pilaster_ingest::prometheus_data::{Block, DataError, Head};
use pilaster_model::TimeRange;
use pilaster_storage::block::BlockSeries;
use pilaster_storage::{Imported, Store};

use super::{
    Failure, Progress, STORE, block_series, bytes, grouped, import_series_where, open_store, rate, summary, time_text,
    window_of,
};
use crate::arguments::Arguments;

/// Samples of the head that are in memory together.
const PASS_SAMPLES: u64 = 24 << 20;
/// Samples that are decoded together.
const BATCH_SAMPLES: u64 = 2 << 20;
/// Series that one thread decodes at a time, at most and at least.
const MOST_SERIES: u64 = 8192;
const FEWEST_SERIES: u64 = 64;
/// Width of the blocks that the head becomes.
const HEAD_SPAN_MS: i64 = 0;
/// Damages that are told one by one.
const TOLD: u64 = 20;

/// Runs the command with the words behind `import prometheus`.
pub(super) fn run(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &STORE)?;
    let [dir] = arguments.words.as_slice() else {
        return Err("expected the data directory of a Prometheus".to_owned().into());
    };
    let dir = Path::new(dir);
    let _lock = lock(dir)?;
    let store = open_store(&arguments)?;
    let progress = Progress::new(expected_samples(dir)?);
    let (imported, damages) = import(dir, &store, &progress)?;
    progress.finish();
    println!("{}", summary(&imported, Some(size(dir)), &progress));
    if damages > 0 {
        println!("{damages} damaged pieces were left out; all others are imported");
        return Err(Failure::Partly);
    }
    Ok(())
}

/// Keeps a Prometheus from starting over `dir` meanwhile.
fn lock(dir: &Path) -> anyhow::Result<Option<File>> {
    if !dir.is_dir() {
        bail!("{} is not a directory", dir.display());
    }
    // A snapshot has no such file.
    let Ok(file) = File::open(dir.join("lock")) else { return Ok(None) };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "{} is in use by a running Prometheus: stop it, or import a snapshot that it made (POST \
             /api/v1/admin/tsdb/snapshot)",
            dir.display()
        ),
        // File systems without locks.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// What could not be read.
struct Damages<'p> {
    progress: &'p Progress,
    count: u64,
}

impl Damages<'_> {
    fn tell(&mut self, error: DataError) {
        self.count += 1;
        if self.count <= TOLD {
            self.progress.say(&format!("left out: {:#}", anyhow::Error::new(error)));
        } else if self.count == TOLD + 1 {
            self.progress.say("left out: more than that; only their number is told from here on");
        }
    }
}

/// Samples that the blocks below `dir` say they have.
fn expected_samples(dir: &Path) -> anyhow::Result<u64> {
    Ok(Block::list(dir)?.iter().filter_map(|dir| Some(Block::read_meta(dir).ok()?.stats.samples)).sum())
}

/// Imports everything below `dir`, and counts what could not be read.
pub(super) fn import(dir: &Path, store: &Store, progress: &Progress) -> anyhow::Result<(Imported, u64)> {
    let blocks = Block::list(dir)?;
    if blocks.is_empty() && !dir.join("wal").is_dir() {
        bail!("{} holds neither blocks nor a write-ahead log of a Prometheus", dir.display());
    }
    let mut damages = Damages { progress, count: 0 };
    let mut imported = Imported::default();
    for block in &blocks {
        match Block::open(block, &mut |error| damages.tell(error)) {
            Ok(block) => imported += import_block(&block, store, progress, &mut damages)?,
            Err(error) => damages.tell(error),
        }
    }
    imported += import_head(dir, store, progress, &mut damages)?;
    Ok((imported, damages.count))
}

fn import_block(block: &Block, store: &Store, progress: &Progress, damages: &mut Damages) -> anyhow::Result<Imported> {
    let meta = &block.meta;
    let started = Instant::now();
    let mut imported = Imported::default();
    let (width_ms, level) = store.import_window(meta.end_ms.saturating_sub(meta.min_ms));
    let windows = (meta.end_ms.saturating_sub(meta.min_ms) / width_ms).max(0) as u64 + 1;
    let mut start_ms = meta.min_ms;
    while start_ms < meta.end_ms {
        let window = window_of(start_ms, width_ms);
        let range = TimeRange::new(window.min_ms.max(meta.min_ms), window.max_ms.min(meta.end_ms - 1));
        let mut import = store.import(range, level).context("cannot read what the data directory has")?;
        for_each_batch(block, range, windows, damages, &mut |batch| {
            progress.add(batch.iter().map(|series| series.timestamps.len() as u64).sum());
            Ok(import.push(batch)?)
        })?;
        imported += import.commit()?;
        start_ms = window.max_ms.saturating_add(1);
    }
    progress.say(&format!(
        "block {}  {} to {}  {} samples, {} series, {}: {:.1} s, {}",
        meta.ulid,
        time_text(meta.min_ms),
        time_text(meta.end_ms),
        grouped(imported.samples),
        grouped(block.series_count() as u64),
        bytes(size(&block.dir)),
        started.elapsed().as_secs_f64(),
        rate(imported.samples + imported.known_samples, started.elapsed())
    ));
    Ok(imported)
}

/// Decodes the samples of `range` on all cores and gives them to `take`, in the order of blocks.
fn for_each_batch(
    block: &Block,
    range: TimeRange,
    windows: u64,
    damages: &mut Damages,
    take: &mut dyn FnMut(Vec<BlockSeries>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let count = block.series_count();
    let samples_a_series = (block.meta.stats.samples / (windows * (count as u64).max(1))).max(1);
    let together = (BATCH_SAMPLES / samples_a_series).clamp(FEWEST_SERIES, MOST_SERIES) as usize;
    std::thread::scope(|scope| {
        let (send, batches) = sync_channel::<(Vec<BlockSeries>, Vec<DataError>)>(2);
        scope.spawn(move || {
            for from in (0..count).step_by(together) {
                let to = count.min(from + together);
                let part = (to - from).div_ceil(threads).max(1);
                let decode = |from: usize| {
                    let mut errors = Vec::new();
                    let read = block.read(from..to.min(from + part), range, &mut |error| errors.push(error));
                    let all = read.iter().filter_map(|(labels, samples)| block_series(labels, samples, range));
                    (all.collect::<Vec<_>>(), errors)
                };
                let (mut all, mut errors) = (Vec::with_capacity(to - from), Vec::new());
                std::thread::scope(|scope| {
                    let parts: Vec<_> =
                        (from..to).step_by(part).map(|from| scope.spawn(move || decode(from))).collect();
                    for part in parts {
                        let (series, damaged) = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                        all.extend(series);
                        errors.extend(damaged);
                    }
                });
                if send.send((all, errors)).is_err() {
                    // Nobody listens any more after an error.
                    return;
                }
            }
        });
        for (batch, errors) in batches {
            errors.into_iter().for_each(|error| damages.tell(error));
            take(batch)?;
        }
        Ok(())
    })
}

fn import_head(dir: &Path, store: &Store, progress: &Progress, damages: &mut Damages) -> anyhow::Result<Imported> {
    let started = Instant::now();
    let head = Head::open(dir, &mut |error| damages.tell(error))?;
    let found = head.summary();
    let mut imported = Imported::default();
    for run in head.passes(PASS_SAMPLES) {
        let series = head.read(run, &mut |error| damages.tell(error))?;
        progress.add(series.iter().map(|(_, samples)| samples.len() as u64).sum());
        imported += import_series_where(store, &series, HEAD_SPAN_MS, |range, import| {
            // What is in blocks is in them as a whole: what is missing there was deleted.
            let (new, known) = import.new_and_known();
            range.max_ms >= head.blocks_end_ms() || new > known
        })?;
    }
    // What the store was told itself is newer.
    let known: HashSet<String> = store.metadata().into_iter().map(|one| one.metric).collect();
    let unknown: Vec<_> = head.metadata().filter(|one| !known.contains(&one.metric)).cloned().collect();
    store.set_metadata(&unknown)?;
    if found.series > 0 {
        progress.say(&format!(
            "head  {} samples, {} series: {:.1} s, {}",
            grouped(imported.samples),
            grouped(found.series),
            started.elapsed().as_secs_f64(),
            rate(imported.samples + imported.known_samples, started.elapsed())
        ));
    }
    if found.nameless_samples > 0 {
        progress.say(&format!(
            "left out: {} samples of the head whose series the write-ahead log does not name",
            grouped(found.nameless_samples)
        ));
    }
    if found.skipped_records > 0 {
        progress
            .say(&format!("left out: {} records of exemplars, which no block holds", grouped(found.skipped_records)));
    }
    Ok(imported)
}

/// Bytes of all files below `dir`; what cannot be listed counts nothing.
fn size(dir: &Path) -> u64 {
    let mut open: Vec<PathBuf> = vec![dir.to_owned()];
    let mut bytes = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}
