//! Reading a block: the engine's own way, by the index, without the Parquet footer.
//!
//! A series' values stand at known positions of its row group's pages. Pages are decoded once per call, in file order,
//! only as far as somebody wants them; timestamps come from the timelines of the index and are shared.

mod reader;

use std::path::Path;
use std::sync::Arc;

use pilaster_model::{Histogram, Labels, Matcher, ReducedWindows, TimeRange};

use super::file::{CheckedFile, read_whole};
use super::index::{Index, Part};
use super::reduce::{Reduced, ReducedTimelines, is_reducible};
use super::shelf::{Decoders, Shared};
use super::source::{BlockFiles, Copy, LocalBlocks};
use super::{BlockError, BlockMeta, FileMeta, postings, rebuild, seal, verify};
use crate::env::Files;
use reader::{Item, Reader, is_plain};

/// Samples of one series, ascending by time, one per timestamp.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSamples {
    /// Series that were sampled at the same times share one list.
    pub timestamps: Arc<[i64]>,
    /// Bit for bit as they came; meaningless where the sample is a histogram.
    pub values: Vec<f64>,
    /// As long as `values`, where any sample is a histogram.
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
    /// As long as `values`, where any start timestamp is known; 0 means unknown.
    pub starts_ms: Option<Vec<i64>>,
}

/// A block, open for reading. Series have dense ids, which are their order in the file. Calls with an id that is not
/// one of the block's panic.
#[derive(Debug)]
pub struct Block {
    meta: BlockMeta,
    samples: CheckedFile,
    source: Arc<dyn BlockFiles>,
    index: Index,
    decoders: Arc<Decoders>,
}

impl Block {
    /// Opens the block that `meta` describes below `dir`, the data directory, and loads its index. An index that is lost
    /// or damaged is made again from the sample file, said in the log, and put back where that succeeds.
    ///
    /// # Errors
    /// A file is missing or is not the one that was written, and the index cannot be made again.
    pub fn open(files: Arc<dyn Files>, dir: &Path, meta: BlockMeta) -> Result<Block, BlockError> {
        Block::load(Arc::new(LocalBlocks::new(files, dir)), meta)
    }

    /// [`Block::open`] for a block that lies elsewhere.
    ///
    /// # Errors
    /// As [`Block::open`]; that the place cannot be reached, too.
    pub fn load(source: Arc<dyn BlockFiles>, meta: BlockMeta) -> Result<Block, BlockError> {
        Block::load_shared(source, meta, Shared::default())
    }

    /// [`Block::load`], with what it shares with other blocks.
    ///
    /// # Errors
    /// As [`Block::load`].
    pub(super) fn load_shared(
        source: Arc<dyn BlockFiles>,
        meta: BlockMeta,
        shared: Shared,
    ) -> Result<Block, BlockError> {
        let [samples_meta, index_meta] = meta.both_files()?;
        let path = source.path(index_meta);
        let load = |bytes: &[u8], samples: Option<CheckedFile>| {
            let (content, ranges) = seal::open(&path, bytes)?;
            let samples = match samples {
                Some(samples) => samples,
                None => CheckedFile::open(source.clone(), samples_meta.clone(), ranges)?,
            };
            Ok((Index::decode(&path, content, samples.len())?, samples))
        };
        let read = read_whole(&*source, index_meta, Copy::Nearest);
        let (mut index, samples) = match read.and_then(|bytes| load(&bytes, None)) {
            Ok(both) => both,
            // Who cannot be reached has no samples to tell either.
            Err(error) if source.is_far() && !error.is_corruption() && !error.is_missing() => return Err(error),
            Err(error) => {
                // The first error is the one to tell where the sample file is no better.
                let made = CheckedFile::measure(source.clone(), samples_meta.clone())
                    .and_then(|samples| Ok((rebuild::index_bytes(&samples)?, samples)));
                let Ok((bytes, samples)) = made else { return Err(error) };
                tracing::warn!(?path, %error, "made an index again from its sample file");
                if FileMeta::of(&index_meta.path, &bytes) == *index_meta
                    && let Err(error) = source.replace(index_meta, &bytes)
                {
                    tracing::warn!(?path, %error, "could not put the index back");
                }
                load(&bytes, Some(samples))?
            }
        };
        if index.series_count() as u64 != meta.series_count {
            let reason = format!("{} series instead of {}", index.series_count(), meta.series_count);
            return Err(BlockError::malformed(&path, reason));
        }
        index.charge_to(shared.charge, size_of::<Block>() + samples.memory_bytes());
        Ok(Block { meta, samples, source, index, decoders: shared.decoders })
    }

    /// No longer counts among what its shelf holds.
    pub(super) fn put_away(&self) {
        self.index.end_charge();
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    #[cfg(test)]
    pub(super) fn index_timelines(&self) -> &[Arc<[i64]>] {
        self.index.timelines()
    }

    /// Whether reading may take requests over the network.
    pub fn is_far(&self) -> bool {
        self.samples.is_far()
    }

    pub fn series_count(&self) -> usize {
        self.index.series_count()
    }

    /// From the first sample to the last.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.meta.min_ms, self.meta.max_ms)
    }

    /// Ids of the series that satisfy all `matchers` (all series when empty), ascending.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        postings::select(&self.index, matchers)
    }

    pub fn labels(&self, id: u32) -> Labels {
        self.index.labels(id)
    }

    /// Whether `labels` are those of a series; makes no label set.
    pub fn has_labels(&self, id: u32, labels: &Labels) -> bool {
        self.index.has_labels(id, labels)
    }

    /// Sorts ids by the labels of their series.
    pub fn sort_by_labels(&self, ids: &mut [u32]) {
        // Pair numbers are ranks, and those of a series ascend: comparing lists of them is comparing labels.
        ids.sort_unstable_by(|&a, &b| self.index.pair_ids(a).cmp(self.index.pair_ids(b)));
    }

    /// First and last timestamp of a series.
    pub fn series_range(&self, id: u32) -> TimeRange {
        self.index.range(id)
    }

    /// Samples of a series, histograms and staleness markers included.
    pub fn sample_count(&self, id: u32) -> usize {
        self.index.series(id).rows as usize
    }

    /// Names of all labels, ascending.
    pub fn label_names(&self) -> Vec<String> {
        (0..self.index.pairs.name_count()).map(|name| self.index.pairs.name(name).to_owned()).collect()
    }

    /// Values of a label, ascending; none where no series has it.
    pub fn label_values(&self, name: &str) -> Vec<String> {
        let Some(name) = self.index.pairs.find_name(name) else { return Vec::new() };
        self.index.pairs.of_name(name).map(|pair| self.index.pairs.value(pair).to_owned()).collect()
    }

    /// Names of the labels of some series, ascending.
    pub fn label_names_of(&self, ids: &[u32]) -> Vec<String> {
        let mut there = vec![false; self.index.pairs.name_count()];
        let mut seen = vec![false; self.index.pairs.len()];
        for &pair in ids.iter().flat_map(|&id| self.index.pair_ids(id)) {
            if !std::mem::replace(&mut seen[pair as usize], true) {
                there[self.index.pairs.name_of(pair)] = true;
            }
        }
        let names = there.iter().enumerate().filter(|(_, there)| **there);
        names.map(|(name, _)| self.index.pairs.name(name).to_owned()).collect()
    }

    /// Values of a label on some series, ascending.
    pub fn label_values_of(&self, name: &str, ids: &[u32]) -> Vec<String> {
        let Some(name) = self.index.pairs.find_name(name) else { return Vec::new() };
        let pairs = self.index.pairs.of_name(name);
        let mut there = vec![false; pairs.len()];
        for pair in ids.iter().filter_map(|&id| self.index.pair_among(id, &pairs)) {
            there[(pair - pairs.start) as usize] = true;
        }
        let values = pairs.zip(there).filter(|(_, there)| *there);
        values.map(|(pair, _)| self.index.pairs.value(pair).to_owned()).collect()
    }

    /// Timestamps and values of a series inside `range`.
    ///
    /// # Errors
    /// The file cannot be read or is not what was written.
    pub fn read(&self, id: u32, range: TimeRange) -> Result<(Arc<[i64]>, Vec<f64>), BlockError> {
        let samples = self.read_many(&[id], range)?.pop();
        Ok(samples.map_or_else(|| (Arc::from([]), Vec::new()), |samples| (samples.timestamps, samples.values)))
    }

    /// Samples of many series inside `range`, in the order of `ids`; cheapest when they ascend.
    ///
    /// # Errors
    /// As [`Block::read`].
    pub fn read_many(&self, ids: &[u32], range: TimeRange) -> Result<Vec<SeriesSamples>, BlockError> {
        if ids.is_sorted() {
            let mut found = self.find(ids, range)?;
            return (0..ids.len()).map(|at| found.samples(at)).collect();
        }
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&at| ids[at]);
        let sorted: Vec<u32> = order.iter().map(|&at| ids[at]).collect();
        let mut found = self.find(&sorted, range)?;
        let read = order.into_iter().enumerate().map(|(nth, at)| Ok((at, found.samples(nth)?)));
        let mut samples: Vec<(usize, SeriesSamples)> = read.collect::<Result<_, BlockError>>()?;
        samples.sort_unstable_by_key(|(at, _)| *at);
        Ok(samples.into_iter().map(|(_, samples)| samples).collect())
    }

    /// Finds the samples of series inside `range`, without decoding their values yet. `ids` ascend.
    ///
    /// # Errors
    /// As [`Block::read`].
    pub fn find(&self, ids: &[u32], range: TimeRange) -> Result<FoundSamples<'_>, BlockError> {
        self.find_for(ids, range, None)
    }

    /// [`Block::find`] for who looks into windows only, and may ask for [`FoundSamples::reduced`] samples. Samples of
    /// plain series that lie in no window may be left out.
    ///
    /// # Errors
    /// As [`Block::read`].
    pub fn find_for(
        &self,
        ids: &[u32],
        range: TimeRange,
        wanted: Option<&ReducedWindows>,
    ) -> Result<FoundSamples<'_>, BlockError> {
        let mut reader = Reader::new(self);
        if self.is_far() {
            reader.read_ahead(ids, range, wanted)?;
        }
        let items = reader.resolve(ids, range, wanted.map(|wanted| &wanted.windows))?;
        Ok(FoundSamples { reader, items, reduced: ReducedTimelines::default() })
    }

    /// Reads every byte of the block's files and compares checksums.
    ///
    /// # Errors
    /// The first range that differs.
    pub fn verify(&self) -> Result<(), BlockError> {
        verify(self.source.clone(), &self.meta)
    }
}

/// Samples of some series of a block: where they are. They are decoded on demand, cheapest in order.
pub struct FoundSamples<'a> {
    reader: Reader<'a>,
    items: Vec<Item>,
    reduced: ReducedTimelines,
}

impl FoundSamples<'_> {
    /// Timestamps of the `at`th series that was asked for.
    pub fn timestamps(&self, at: usize) -> &Arc<[i64]> {
        self.items[at].timestamps()
    }

    /// Whether samples of the `at`th series are left out, because they lie in no window.
    pub fn leaves_out(&self, at: usize) -> bool {
        self.items[at].leaves_out()
    }

    /// Whether the whole series has floats and staleness markers only, without start timestamps.
    pub fn is_plain(&self, at: usize) -> bool {
        is_plain(&self.reader.block.index, self.items[at].id)
    }

    /// Whether [`FoundSamples::reduced`] answers for the `at`th series, which has to be plain.
    pub fn is_reducible(&self, at: usize, wanted: &ReducedWindows) -> bool {
        let (index, item, all) = (&self.reader.block.index, &self.items[at], self.has_all(at));
        let ends = item.timestamps().first().zip(item.timestamps().last());
        ends.is_some_and(|(&first_ms, &last_ms)| is_reducible(index, item.id, wanted, first_ms, last_ms, all))
    }

    /// Samples that stand for those of the `at`th series, which has to be plain, where the index answers for them.
    pub fn reduced(&mut self, at: usize, wanted: &ReducedWindows) -> Option<Reduced> {
        let (index, item, all) = (&self.reader.block.index, &self.items[at], self.has_all(at));
        self.reduced.reduce(index, item.id, wanted, item.timestamps(), all)
    }

    /// Whether the samples of the `at`th series are all that the block has of it.
    fn has_all(&self, at: usize) -> bool {
        let item = &self.items[at];
        !item.leaves_out() && item.rows().len() == self.reader.block.index.series(item.id).rows as usize
    }

    /// Appends the values of the `at`th series, one a timestamp; 0.0 beside a histogram.
    ///
    /// # Errors
    /// As [`Block::read`].
    pub fn push_values(&mut self, at: usize, out: &mut Vec<f64>) -> Result<(), BlockError> {
        self.reader.values(&self.items[at], &self.items[at..], out)
    }

    /// All that is known of the `at`th series.
    ///
    /// # Errors
    /// As [`Block::read`].
    pub fn samples(&mut self, at: usize) -> Result<SeriesSamples, BlockError> {
        let (item, ahead) = (&self.items[at], &self.items[at..]);
        let mut values = Vec::with_capacity(item.timestamps().len());
        self.reader.values(item, ahead, &mut values)?;
        let histograms = self.reader.sparse(Part::Histograms, item, ahead)?;
        let starts_ms = self.reader.starts(item, ahead)?;
        Ok(SeriesSamples { timestamps: item.timestamps().clone(), values, histograms, starts_ms })
    }
}
