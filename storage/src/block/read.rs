//! Reading a block: the engine's own way, by the index, without the Parquet footer.
//!
//! A series' values stand at known positions of its row group's pages. Pages are decoded once per call, in file order,
//! only as far as somebody wants them; timestamps come from the timelines of the index and are shared.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pilaster_model::{Histogram, Labels, Matcher, ReducedWindows, TimeRange, stale_nan};

use super::divide::Divisor;
use super::file::{CheckedFile, Window, read_whole};
use super::index::{Index, Page, Part};
use super::page::{PageDecoder, parse_runs};
use super::reduce::{Reduced, ReducedTimelines, is_reducible};
use super::source::{BlockFiles, Copy, LocalBlocks};
use super::{BlockError, BlockMeta, FileMeta, postings, rebuild, seal, verify};
use crate::env::Files;

/// Samples of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSamples {
    /// Ascending; the same `Arc` for series that share a timeline, within one call at least.
    pub timestamps: Arc<[i64]>,
    /// One a timestamp; 0.0 beside a histogram.
    pub values: Vec<f64>,
    /// One a timestamp, where the series has any.
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
    /// Start timestamps in milliseconds, one a timestamp, 0 where unknown; absent where none is known.
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
        let (index, samples) = match read.and_then(|bytes| load(&bytes, None)) {
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
        Ok(Block { meta, samples, source, index })
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.meta
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
    pub fn read_many(&self, ids: &[u32], range: TimeRange) -> Result<Vec<BlockSamples>, BlockError> {
        if ids.is_sorted() {
            let mut found = self.find(ids, range)?;
            return (0..ids.len()).map(|at| found.samples(at)).collect();
        }
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&at| ids[at]);
        let sorted: Vec<u32> = order.iter().map(|&at| ids[at]).collect();
        let mut found = self.find(&sorted, range)?;
        let read = order.into_iter().enumerate().map(|(nth, at)| Ok((at, found.samples(nth)?)));
        let mut samples: Vec<(usize, BlockSamples)> = read.collect::<Result<_, BlockError>>()?;
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

    /// [`Block::find`] for who will ask for [`FoundSamples::reduced`] samples.
    ///
    /// # Errors
    /// As [`Block::read`].
    pub fn find_for(
        &self,
        ids: &[u32],
        range: TimeRange,
        wanted: Option<&ReducedWindows>,
    ) -> Result<FoundSamples<'_>, BlockError> {
        let mut reader = Reader::new(self)?;
        if self.is_far() {
            reader.read_ahead(ids, range, wanted)?;
        }
        let items = reader.resolve(ids, range)?;
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
        &self.items[at].timestamps
    }

    /// Whether the whole series has floats and staleness markers only, without start timestamps.
    pub fn is_plain(&self, at: usize) -> bool {
        let (index, id) = (&self.reader.block.index, self.items[at].id);
        index.count(Part::Histograms, id) == 0 && index.count(Part::Starts, id) == 0
    }

    /// Samples that stand for those of the `at`th series, which has to be plain, where the index answers for them.
    pub fn reduced(&mut self, at: usize, wanted: &ReducedWindows) -> Option<Reduced> {
        let (index, item) = (&self.reader.block.index, &self.items[at]);
        let all = item.rows.len() == index.series(item.id).rows as usize;
        self.reduced.reduce(index, item.id, wanted, &item.timestamps, all)
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
    pub fn samples(&mut self, at: usize) -> Result<BlockSamples, BlockError> {
        let (item, ahead) = (&self.items[at], &self.items[at..]);
        let mut values = Vec::with_capacity(item.rows.len());
        self.reader.values(item, ahead, &mut values)?;
        let histograms = self.reader.sparse(Part::Histograms, item, ahead)?;
        let starts_ms = self.reader.starts(item, ahead)?;
        Ok(BlockSamples { timestamps: item.timestamps.clone(), values, histograms, starts_ms })
    }
}

/// What is wanted of one series.
#[derive(Debug, Clone)]
struct Item {
    id: u32,
    group: usize,
    /// Of the series, inside the time range.
    rows: Range<u32>,
    timestamps: Arc<[i64]>,
}

/// The part of a timeline that is inside the time range.
#[derive(Debug, Clone)]
struct Cut {
    /// Counted from the start of the part that is the series'.
    rows: Range<u32>,
    timestamps: Arc<[i64]>,
}

/// The page of a column that was decoded last.
#[derive(Default)]
struct Decoded {
    window: Window,
    /// Group and page.
    page: Option<(usize, usize)>,
    integers: Vec<i64>,
    doubles: Vec<f64>,
    histograms: Vec<Arc<Histogram>>,
    /// Group and page whose levels are in `levels`.
    levels_page: Option<(usize, usize)>,
    levels: Vec<(u32, usize)>,
}

/// What a page can hold.
trait PageValue: Clone {
    /// Decodes the first `wanted` values of a page; `None` where it holds something else.
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()>;
    fn decoded(from: &Decoded) -> &[Self];
}

impl PageValue for i64 {
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()> {
        decoder.integers(&page.at, body, wanted, &mut into.integers)
    }

    fn decoded(from: &Decoded) -> &[i64] {
        &from.integers
    }
}

impl PageValue for f64 {
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()> {
        decoder.doubles(&page.at, body, wanted, &mut into.doubles)
    }

    fn decoded(from: &Decoded) -> &[f64] {
        &from.doubles
    }
}

impl PageValue for Arc<Histogram> {
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()> {
        into.histograms.clear();
        let mut bounds: Arc<[f64]> = Arc::from([]);
        decoder.byte_arrays(&page.at, body, wanted, |bytes| {
            let (mut histogram, len) = Histogram::decode(bytes).ok()?;
            // Bounds hardly ever change: keep them once.
            if histogram.custom_bounds == bounds {
                histogram.custom_bounds = bounds.clone();
            } else {
                bounds = histogram.custom_bounds.clone();
            }
            into.histograms.push(Arc::new(histogram));
            (len == bytes.len()).then_some(())
        })
    }

    fn decoded(from: &Decoded) -> &[Arc<Histogram>] {
        &from.histograms
    }
}

struct Reader<'a> {
    block: &'a Block,
    decoder: PageDecoder,
    /// By [`Part`].
    parts: [Decoded; 5],
    /// What was read ahead, ascending.
    ahead: Vec<Window>,
    integers: Vec<i64>,
    doubles: Vec<f64>,
}

impl<'a> Reader<'a> {
    fn new(block: &'a Block) -> Result<Reader<'a>, BlockError> {
        let decoder = PageDecoder::new().map_err(BlockError::compression)?;
        let (integers, doubles) = (Vec::new(), Vec::new());
        Ok(Reader { block, decoder, parts: Default::default(), ahead: Vec::new(), integers, doubles })
    }

    /// Reads all pages that the series need, in as few requests as they lie in places. Where the index does not say which
    /// rows of a series are inside `range`, that is all its pages.
    fn read_ahead(&mut self, ids: &[u32], range: TimeRange, wanted: Option<&ReducedWindows>) -> Result<(), BlockError> {
        let index = &self.block.index;
        let mut places: Vec<(u64, usize)> = Vec::new();
        for &id in ids {
            let group = &index.groups()[index.group_of(id)];
            let (inside, own_timestamps) = match index.timestamps(id) {
                Ok((timeline, part)) => (rows_inside(&timeline[part], range), false),
                Err(whole) if !whole.overlaps(&range) => continue,
                Err(_) => (0..index.series(id).rows as usize, true),
            };
            if inside.is_empty() {
                continue;
            }
            let whole = index.range(id);
            let all = range.min_ms <= whole.min_ms && whole.max_ms <= range.max_ms;
            let reducible =
                wanted.is_some_and(|wanted| is_reducible(index, id, wanted, whole.min_ms, whole.max_ms, all));
            for part in Part::ALL {
                let count = index.count(part, id);
                if count == 0 || (reducible && part != Part::Ts) || (part == Part::Ts && !own_timestamps) {
                    continue;
                }
                let first = index.position(part, id);
                // One value a row: then the rows say which.
                let values = if count == index.series(id).rows {
                    first + inside.start as u32..first + inside.end as u32
                } else {
                    first..first + count
                };
                let pages = group.pages(part);
                let from = pages.partition_point(|page| page.first_value + page.at.values <= values.start);
                let wanted = pages[from..].iter().take_while(|page| page.first_value < values.end);
                for page in wanted {
                    let place = (page.at.offset, page.at.header_len as usize + page.at.stored_len as usize);
                    // Neighbouring series share pages.
                    if places.last() != Some(&place) {
                        places.push(place);
                    }
                }
            }
        }
        self.ahead = self.block.samples.windows(places)?;
        Ok(())
    }

    /// Finds the rows of every series inside `range`, and their timestamps.
    fn resolve(&mut self, ids: &[u32], range: TimeRange) -> Result<Vec<Item>, BlockError> {
        let index = &self.block.index;
        let nothing = Cut { rows: 0..0, timestamps: Arc::from([]) };
        let mut items = Vec::with_capacity(ids.len());
        // By timeline and the part of it that a series has.
        let mut cuts: HashMap<(*const i64, usize, usize), Cut> = HashMap::new();
        // Neighbours mostly share a timeline.
        let mut last = ((std::ptr::null(), 0, 0), nothing.clone());
        let mut group = 0;
        for &id in ids {
            if id >= index.groups()[group].first_series + index.groups()[group].series_count {
                group = index.group_of(id);
            }
            let Cut { rows, timestamps } = match index.timestamps(id) {
                Ok((timeline, part)) => {
                    let key = (timeline.as_ptr(), part.start, part.end);
                    if last.0 != key {
                        last = (key, cuts.entry(key).or_insert_with(|| cut_timeline(timeline, part, range)).clone());
                    }
                    last.1.clone()
                }
                Err(whole) if !whole.overlaps(&range) => nothing.clone(),
                Err(_) => self.cut_own(id, group, range)?,
            };
            items.push(Item { id, group, rows, timestamps });
        }
        Ok(items)
    }

    /// The timestamps inside `range` of a series that shares them with no one.
    fn cut_own(&mut self, id: u32, group: usize, range: TimeRange) -> Result<Cut, BlockError> {
        let series = *self.block.index.series(id);
        let wanted = series.first_row..series.first_row + series.rows;
        let mut timestamps = Vec::with_capacity(series.rows as usize);
        let last = self.block.index.groups()[group].rows;
        self.column::<i64>(Part::Ts, group, wanted, last, |part| timestamps.extend_from_slice(part))?;
        if timestamps.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(self.malformed("timestamps do not ascend"));
        }
        let rows = rows_inside(&timestamps, range);
        Ok(Cut { rows: rows.start as u32..rows.end as u32, timestamps: Arc::from(&timestamps[rows]) })
    }

    fn malformed(&self, reason: impl Into<String>) -> BlockError {
        BlockError::malformed(self.block.samples.path(), reason)
    }

    /// Appends the values of an item; `ahead` begins with it and says what else will be wanted.
    fn values(&mut self, item: &Item, ahead: &[Item], values: &mut Vec<f64>) -> Result<(), BlockError> {
        let series = *self.block.index.series(item.id);
        if item.rows.is_empty() {
            return Ok(());
        }
        match series.divisor {
            Some(divisor) if series.integers == series.rows => {
                let first = series.first_integer;
                let wanted = first + item.rows.start..first + item.rows.end;
                let last = self.last_wanted(Part::Integers, ahead);
                self.column::<i64>(Part::Integers, item.group, wanted, last, |integers| {
                    push_quotients(integers, divisor, values);
                })
            }
            Some(_) | None if series.doubles == series.rows => {
                let first = series.first_double;
                let wanted = first + item.rows.start..first + item.rows.end;
                let last = self.last_wanted(Part::Doubles, ahead);
                self.column::<f64>(Part::Doubles, item.group, wanted, last, |doubles| values.extend_from_slice(doubles))
            }
            Some(_) | None => self.mixed_values(item, ahead, values),
        }
    }

    /// How far the page in which the first item's values end will be needed by the items after it.
    fn last_wanted(&self, part: Part, ahead: &[Item]) -> u32 {
        let index = &self.block.index;
        let group = ahead[0].group;
        let end_of = |item: &Item| index.position(part, item.id) + index.count(part, item.id);
        let end = end_of(&ahead[0]);
        let pages = index.groups()[group].pages(part);
        let reaches = |page: &Page| page.first_value + page.at.values >= end;
        if self.parts[part as usize].page.is_some_and(|(known, page)| known == group && reaches(&pages[page])) {
            // When that page was decoded, this was asked.
            return end;
        }
        let page_end =
            pages.get(pages.partition_point(|page| page.first_value < end)).map_or(u32::MAX, |next| next.first_value);
        let same_page = |item: &&Item| item.group == group && index.position(part, item.id) < page_end;
        ahead[1..].iter().take_while(same_page).last().map_or(end, end_of)
    }

    /// Values of a series whose samples are not all of one kind.
    fn mixed_values(&mut self, item: &Item, ahead: &[Item], values: &mut Vec<f64>) -> Result<(), BlockError> {
        let series = *self.block.index.series(item.id);
        let (mut integers, mut doubles) = (std::mem::take(&mut self.integers), std::mem::take(&mut self.doubles));
        integers.clear();
        doubles.clear();
        let last = self.last_wanted(Part::Integers, ahead);
        let wanted = series.first_integer..series.first_integer + series.integers;
        self.column::<i64>(Part::Integers, item.group, wanted, last, |part| integers.extend_from_slice(part))?;
        let last = self.last_wanted(Part::Doubles, ahead);
        let wanted = series.first_double..series.first_double + series.doubles;
        self.column::<f64>(Part::Doubles, item.group, wanted, last, |part| doubles.extend_from_slice(part))?;
        let rows = series.first_row..series.first_row + series.rows;
        let is_integer = self.present(Part::Integers, item.group, rows.clone(), series.integers)?;
        let is_double = self.present(Part::Doubles, item.group, rows.clone(), series.doubles)?;
        let histograms = self.block.index.count(Part::Histograms, item.id);
        let is_histogram = self.present(Part::Histograms, item.group, rows, histograms)?;

        let (mut next_integer, mut next_double) = (integers.iter(), doubles.iter());
        for row in 0..series.rows as usize {
            let value = if is_integer[row] {
                next_integer.next().zip(series.divisor).map(|(&integer, divisor)| integer as f64 / divisor.value())
            } else if is_double[row] {
                next_double.next().copied()
            } else if is_histogram[row] {
                Some(0.0)
            } else {
                Some(stale_nan())
            };
            let value = value.ok_or_else(|| self.malformed("more values than the index says"))?;
            if item.rows.contains(&(row as u32)) {
                values.push(value);
            }
        }
        (self.integers, self.doubles) = (integers, doubles);
        Ok(())
    }

    fn starts(&mut self, item: &Item, ahead: &[Item]) -> Result<Option<Vec<i64>>, BlockError> {
        let starts = self.sparse::<i64>(Part::Starts, item, ahead)?;
        Ok(starts.map(|starts| starts.into_iter().map(|start_ms| start_ms.unwrap_or(0)).collect()))
    }

    /// A column that most series have nothing in; `None` where nothing is in the item's rows.
    fn sparse<T: PageValue>(
        &mut self,
        part: Part,
        item: &Item,
        ahead: &[Item],
    ) -> Result<Option<Vec<Option<T>>>, BlockError> {
        let count = self.block.index.count(part, item.id);
        if count == 0 || item.rows.is_empty() {
            return Ok(None);
        }
        let series = *self.block.index.series(item.id);
        let rows = series.first_row..series.first_row + series.rows;
        let present = self.present(part, item.group, rows, count)?;
        let (before, after) = present.split_at(item.rows.start as usize);
        let inside = &after[..item.rows.len()];
        let positions = |present: &[bool]| present.iter().filter(|&&there| there).count() as u32;
        let first = self.block.index.position(part, item.id) + positions(before);
        let wanted = first..first + positions(inside);
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(wanted.len());
        let last = self.last_wanted(part, ahead);
        self.column::<T>(part, item.group, wanted, last, |piece| values.extend_from_slice(piece))?;
        let mut next = values.into_iter();
        Ok(Some(inside.iter().map(|&there| if there { next.next() } else { None }).collect()))
    }

    /// Whether each of `rows` of a group has a value in a column, in which `count` of them have one.
    fn present(&mut self, part: Part, group: usize, rows: Range<u32>, count: u32) -> Result<Vec<bool>, BlockError> {
        if count == 0 || count as usize == rows.len() {
            return Ok(vec![count > 0; rows.len()]);
        }
        let block = self.block;
        let pages = block.index.groups()[group].pages(part);
        let mut present = Vec::with_capacity(rows.len());
        let first = pages.partition_point(|page| page.first_row + page.rows <= rows.start);
        for (at, page) in pages.iter().enumerate().skip(first).take_while(|(_, page)| page.first_row < rows.end) {
            if self.parts[part as usize].levels_page != Some((group, at)) {
                self.load_window(part, page)?;
                let decoded = &mut self.parts[part as usize];
                let levels = decoded
                    .window
                    .slice(page.at.offset + u64::from(page.at.header_len), page.at.levels_len as usize)
                    .and_then(|levels| parse_runs(levels, 1, page.rows as usize))
                    .ok_or_else(|| malformed_page(block, page, "definition levels"))?;
                decoded.levels = levels;
                decoded.levels_page = Some((group, at));
            }
            let mut row = page.first_row;
            for &(level, len) in &self.parts[part as usize].levels {
                let run = row..row + len as u32;
                let inside = run.end.min(rows.end).saturating_sub(run.start.max(rows.start));
                present.resize(present.len() + inside as usize, level == 1);
                row = run.end;
            }
        }
        if present.len() != rows.len() || present.iter().filter(|&&there| there).count() != count as usize {
            return Err(self.malformed("definition levels are not those that the index counts"));
        }
        Ok(present)
    }

    /// Makes sure that the whole page is in the column's window.
    fn load_window(&mut self, part: Part, page: &Page) -> Result<(), BlockError> {
        let len = page.at.header_len as usize + page.at.stored_len as usize;
        let window = &mut self.parts[part as usize].window;
        if window.slice(page.at.offset, len).is_none() {
            let at = self.ahead.partition_point(|window| window.start <= page.at.offset);
            let ahead = self.ahead[..at].last().filter(|window| window.slice(page.at.offset, len).is_some());
            *window = match ahead {
                Some(window) => window.clone(),
                None => self.block.samples.window(page.at.offset, len)?,
            };
        }
        Ok(())
    }

    /// Hands the values at positions `wanted` of a group's column to `take`, in pieces. Pages are decoded up to
    /// position `last`, which is not before the end of `wanted`.
    #[inline]
    fn column<T: PageValue>(
        &mut self,
        part: Part,
        group: usize,
        wanted: Range<u32>,
        last: u32,
        mut take: impl FnMut(&[T]),
    ) -> Result<(), BlockError> {
        let block = self.block;
        let pages = block.index.groups()[group].pages(part);
        let mut from = wanted.start;
        // The page decoded last is mostly the right one.
        let mut at = match self.parts[part as usize].page {
            Some((known, page)) if known == group && pages[page].first_value <= from => page,
            _ => 0,
        };
        while from < wanted.end {
            let ends_before = |page: &Page| page.first_value + page.at.values <= from;
            if pages.get(at).is_some_and(ends_before) {
                at += pages[at..].partition_point(ends_before);
            }
            let Some(page) = pages.get(at) else { return Err(self.malformed("fewer values than the index says")) };
            let to = wanted.end.min(page.first_value + page.at.values);
            let decoded = &self.parts[part as usize];
            let there = if decoded.page == Some((group, at)) { T::decoded(decoded).len() as u32 } else { 0 };
            if page.first_value + there < to {
                self.load_window(part, page)?;
                let decoded = &mut self.parts[part as usize];
                let wanted = last.max(to).min(page.first_value + page.at.values) - page.first_value;
                let window = decoded.window.clone();
                decoded.page = None;
                window
                    .slice(page.at.offset + u64::from(page.at.header_len), page.at.stored_len as usize)
                    .and_then(|body| T::decode(&mut self.decoder, page, body, wanted as usize, decoded))
                    .ok_or_else(|| malformed_page(block, page, "values"))?;
                decoded.page = Some((group, at));
            }
            let decoded = T::decoded(&self.parts[part as usize]);
            take(&decoded[(from - page.first_value) as usize..(to - page.first_value) as usize]);
            from = to;
        }
        Ok(())
    }
}

fn malformed_page(block: &Block, page: &Page, what: &str) -> BlockError {
    BlockError::malformed(block.samples.path(), format!("page at {} has no valid {what}", page.at.offset))
}

/// Positions of the timestamps inside `range`.
fn rows_inside(timestamps: &[i64], range: TimeRange) -> Range<usize> {
    let start = timestamps.partition_point(|&timestamp| timestamp < range.min_ms);
    let end = timestamps.partition_point(|&timestamp| timestamp <= range.max_ms);
    start..end.max(start)
}

fn cut_timeline(timeline: &Arc<[i64]>, part: Range<usize>, range: TimeRange) -> Cut {
    let own = &timeline[part];
    let rows = rows_inside(own, range);
    // The whole timeline needs no copy, and is then the same for all calls.
    let timestamps = if rows.len() == timeline.len() { timeline.clone() } else { Arc::from(&own[rows.clone()]) };
    Cut { rows: rows.start as u32..rows.end as u32, timestamps }
}

/// Appends the values of `integers` over `divisor`.
fn push_quotients(integers: &[i64], divisor: Divisor, out: &mut Vec<f64>) {
    let divisor = divisor.value();
    if divisor == 1.0 {
        push_converted(integers, |value| value, out);
    } else if divisor < 1.0 {
        // A power of two: the product is exact, as the quotient is, and cheaper.
        let unit = 1.0 / divisor;
        push_converted(integers, |value| value * unit, out);
    } else {
        push_converted(integers, |value| value / divisor, out);
    }
}

/// Appends what `of` makes of every integer, as a double.
#[inline(always)]
fn push_converted(integers: &[i64], of: impl Fn(f64) -> f64, out: &mut Vec<f64>) {
    const SMALL: i64 = 1 << 51;
    /// 1.5 times 2^52: the doubles from 2^52 to 2^53 are the integers there, and differ by one in their last bit.
    const OFFSET: f64 = (3_i64 << 51) as f64;
    if integers.iter().fold(0, |all, &integer| all | (integer.wrapping_add(SMALL) as u64)) < 2 * SMALL as u64 {
        // Vector instructions know no conversion from 64 bits, but can add and take away.
        let converted = |&integer: &i64| f64::from_bits(OFFSET.to_bits().wrapping_add(integer as u64)) - OFFSET;
        out.extend(integers.iter().map(|integer| of(converted(integer))));
    } else {
        out.extend(integers.iter().map(|&integer| of(integer as f64)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quotients_are_those_of_one_integer_at_a_time(
            integers in prop::collection::vec(any::<i64>(), 0..100), shift in 0..64u32, code in 0..=15u8
        ) {
            let integers: Vec<i64> = integers.iter().map(|integer| integer >> shift).collect();
            for code in [code, 65 + code] {
                let divisor = Divisor::from_code(code).unwrap().unwrap();
                let mut quotients = vec![0.5];
                push_quotients(&integers, divisor, &mut quotients);
                let slowly = integers.iter().map(|&integer| (integer as f64 / divisor.value()).to_bits());
                prop_assert!(quotients[1..].iter().map(|value| value.to_bits()).eq(slowly));
            }
        }
    }

    #[test]
    fn the_widest_integers_convert() {
        let edges = [1_i64 << 51, (1 << 51) - 1, -(1 << 51), -(1 << 51) - 1, 0, -1, (1 << 53) - 1, 1 - (1 << 53)];
        for edge in edges {
            let mut out = Vec::new();
            push_quotients(&[edge, 1], Divisor::from_code(0).unwrap().unwrap(), &mut out);
            assert_eq!(out, [edge as f64, 1.0]);
        }
    }
}
