//! Samples from elsewhere, straight into blocks: neither logged nor kept in the head.
//!
//! ```text
//! series in the order of blocks -> without what the store has -> block files -> manifest, once -> visible
//! ```
//!
//! A sample at a time at which the store has one already is not taken. So an import that is repeated adds nothing, and
//! one that was cut short goes on where it stopped: what was committed is known, what was not has left nothing behind.

use std::collections::HashMap;
use std::sync::Arc;

use pilaster_model::{Labels, TimeRange};

use super::Store;
use super::output::NewBlocks;
use crate::block::{BlockSeries, OrderKey};
use crate::snapshot::{SelectedSeries, SeriesSamples, Snapshot};
use crate::{Error, block::BlockError};

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    pub blocks: u64,
    /// In all blocks together; a series in two of them counts twice.
    pub series: u64,
    pub samples: u64,
    /// Samples left out because the store has one of that series at that time.
    pub known_samples: u64,
    /// Of the new blocks.
    pub bytes: u64,
}

impl std::ops::AddAssign for Imported {
    fn add_assign(&mut self, other: Imported) {
        self.blocks += other.blocks;
        self.series += other.series;
        self.samples += other.samples;
        self.known_samples += other.known_samples;
        self.bytes += other.bytes;
    }
}

/// Blocks of one time range in the making. Dropped before [`BlockImport::commit`] it leaves nothing behind.
pub struct BlockImport<'s> {
    store: &'s Store,
    range: TimeRange,
    /// What the store has in the range.
    known: Option<Known>,
    output: NewBlocks<'s>,
    known_samples: u64,
    new_samples: u64,
}

struct Known {
    snapshot: Snapshot,
    series: HashMap<Labels, SelectedSeries>,
}

impl Store {
    /// Begins blocks of `level` that hold samples in `range`, both ends included.
    ///
    /// # Errors
    /// What the store has in the range cannot be listed.
    pub fn import(&self, range: TimeRange, level: u8) -> Result<BlockImport<'_>, Error> {
        let snapshot = self.snapshot();
        let found = snapshot.select(&[], range)?;
        let known = (!found.is_empty()).then(|| {
            let series = found.into_iter().map(|series| (series.labels.clone(), series)).collect();
            Known { snapshot, series }
        });
        Ok(BlockImport {
            store: self,
            range,
            known,
            output: NewBlocks::new(self, range.min_ms, level),
            known_samples: 0,
            new_samples: 0,
        })
    }

    /// The width of the widest blocks that the store makes of a range of `span_ms`, and their level: a block range, three
    /// or twelve of them.
    pub fn import_window(&self, span_ms: i64) -> (i64, u8) {
        super::compaction::window_for(self.options.block_ms, span_ms)
    }
}

impl BlockImport<'_> {
    /// Adds series, in the order of their [`crate::block::OrderKey`]s, within and between calls. Samples outside the
    /// range of the import are refused, and so are timestamps that do not ascend.
    ///
    /// # Errors
    /// [`Error::Block`] for series that are refused, and whatever writing and reading blocks may end in. The import cannot
    /// be committed after one.
    pub fn push(&mut self, batch: Vec<BlockSeries>) -> Result<(), Error> {
        for series in self.unknown(batch)? {
            let (Some(&first), Some(&last)) = (series.timestamps.first(), series.timestamps.last()) else { continue };
            if !self.range.contains(first) || !self.range.contains(last) {
                let reason = format!("{} has samples outside the range of the import", series.labels);
                return Err(Error::Block(BlockError::Refused { reason }));
            }
            self.new_samples += series.timestamps.len() as u64;
            self.output.push(Arc::new(OrderKey::of(&series.labels)), series)?;
        }
        Ok(())
    }

    /// Samples so far that the store did not have, and that it had.
    pub fn new_and_known(&self) -> (u64, u64) {
        (self.new_samples, self.known_samples)
    }

    /// The samples of `batch` that the store does not have.
    fn unknown(&mut self, mut batch: Vec<BlockSeries>) -> Result<Vec<BlockSeries>, Error> {
        let Some(known) = &self.known else { return Ok(batch) };
        let found = |(at, series): (usize, &BlockSeries)| Some((at, known.series.get(&series.labels)?.clone()));
        let (places, selected): (Vec<usize>, Vec<SelectedSeries>) = batch.iter().enumerate().filter_map(found).unzip();
        let there = known.snapshot.read_many(&selected, self.range)?;
        for (place, there) in places.into_iter().zip(there) {
            self.known_samples += remove_known(&mut batch[place], &there);
        }
        Ok(batch)
    }

    /// Makes the blocks live, all in one step.
    ///
    /// # Errors
    /// As [`BlockImport::push`]. Then nothing of this import is live.
    pub fn commit(self) -> Result<Imported, Error> {
        let BlockImport { store, output, known_samples, .. } = self;
        let metas = output.finish()?;
        let mut imported = Imported { known_samples, ..Imported::default() };
        if metas.is_empty() {
            return Ok(imported);
        }
        for meta in &metas {
            imported.blocks += 1;
            imported.series += meta.series_count;
            imported.samples += meta.sample_count;
            imported.bytes += meta.bytes();
        }
        let opened =
            store.open_blocks(&metas).inspect_err(|_| metas.iter().for_each(|meta| store.remove_files(meta)))?;
        let maintenance = &mut *store.maintenance.lock();
        let mut blocks = maintenance.manifest.blocks.clone();
        // After a failed write of the manifest nobody knows which one a crash would leave: the files stay until then.
        for meta in metas {
            // By time, so that a series that continues is joined without a merge.
            let place = blocks.partition_point(|block| block.min_ms <= meta.min_ms);
            blocks.insert(place, meta);
        }
        store.replace_blocks(maintenance, blocks, opened)?;
        Ok(imported)
    }
}

/// Takes out the samples at the timestamps of `there`; how many.
fn remove_known(series: &mut BlockSeries, there: &SeriesSamples) -> u64 {
    let mut rest = there.timestamps.iter().copied().peekable();
    let keep: Vec<bool> = series
        .timestamps
        .iter()
        .map(|&ms| {
            while rest.next_if(|&known| known < ms).is_some() {}
            rest.peek() != Some(&ms)
        })
        .collect();
    let known = keep.iter().filter(|keep| !**keep).count() as u64;
    if known > 0 {
        series.timestamps = kept(&series.timestamps, &keep).into();
        series.values = kept(&series.values, &keep);
        series.histograms = series.histograms.as_deref().map(|all| kept(all, &keep));
        series.starts_ms = series.starts_ms.as_deref().map(|all| kept(all, &keep));
    }
    known
}

fn kept<T: Clone>(all: &[T], keep: &[bool]) -> Vec<T> {
    all.iter().zip(keep).filter(|(_, keep)| **keep).map(|(one, _)| one.clone()).collect()
}
