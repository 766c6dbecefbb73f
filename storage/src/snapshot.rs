//! Reading: one consistent view of head and blocks.

mod selection;
mod union;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use pilaster_model::{Columns, Histogram, Labels, Matcher, ReducedWindows, Reduction, TimeRange, is_stale};

use crate::block::{AT_ONCE, Block, BlockError, BlockMeta, BlockSamples, FoundSamples, LiveBlock, ReducedValues};
use crate::head::{Head, HeadSelection, HeadView, Timelines};
use crate::store::View;
use crate::tombstone::{Source, about, hidden};
use crate::{Error, SeriesRef};
use selection::Places;
use union::SeriesUnion;

pub use selection::SeriesSelection;

/// Threads that read blocks of an object store for one call.
const FAR_READERS: usize = 8;

/// A consistent view of a store. Clones are the same view.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    head: Arc<Head>,
    view: Arc<View>,
    head_view: HeadView,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.head.epochs.release(self.head_view.epoch);
    }
}

/// A series that a snapshot found. Means nothing to another snapshot.
#[derive(Debug, Clone)]
pub struct SelectedSeries {
    pub labels: Labels,
    head: Option<SeriesRef>,
    /// Positions of blocks and series in them, ascending.
    blocks: Vec<(u32, u32)>,
}

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

/// Samples of one series, some of which may stand for many.
#[derive(Debug, Clone, PartialEq)]
pub struct ReducedSamples {
    pub samples: SeriesSamples,
    /// How many samples each stands for, itself counted; absent where each stands for itself.
    pub weights: Option<Arc<[u32]>>,
}

/// What a select would touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectPlan {
    pub blocks_total: usize,
    /// Blocks that overlap the range.
    pub blocks_in_range: usize,
    /// Blocks of these that hold a selected series.
    pub blocks_read: usize,
    pub reads_head: bool,
    pub series: usize,
}

/// Some timestamp lists and all their timestamps. Holding the lists keeps their addresses taken.
struct Joined {
    _parts: Vec<Timeline>,
    whole: Timeline,
}

/// Timestamps, and how many samples stands at each where that is not one everywhere.
#[derive(Debug, Clone)]
struct Timeline {
    timestamps: Arc<[i64]>,
    weights: Option<Arc<[u32]>>,
}

/// Timestamps of consecutive parts, joined once for all series that share them in every part.
#[derive(Default)]
struct JoinedTimelines {
    /// By the addresses and lengths of the parts.
    known: HashMap<Vec<(*const i64, usize, *const u32)>, Joined>,
}

impl JoinedTimelines {
    fn join(&mut self, parts: &[Timeline], timelines: &mut Timelines) -> Timeline {
        let weights_at = |part: &Timeline| part.weights.as_ref().map_or(std::ptr::null(), |weights| weights.as_ptr());
        let key =
            parts.iter().map(|part| (part.timestamps.as_ptr(), part.timestamps.len(), weights_at(part))).collect();
        let join = || {
            let all: Vec<i64> = parts.iter().flat_map(|part| part.timestamps.iter().copied()).collect();
            let weights = parts.iter().any(|part| part.weights.is_some()).then(|| {
                let of_part = |part: &Timeline| match &part.weights {
                    Some(weights) => weights.to_vec(),
                    None => vec![1; part.timestamps.len()],
                };
                parts.iter().flat_map(of_part).collect()
            });
            let whole = Timeline { timestamps: timelines.share_arc(Arc::from(all)), weights };
            Joined { _parts: parts.to_vec(), whole }
        };
        self.known.entry(key).or_insert_with(join).whole.clone()
    }
}

/// What blocks gave of one series.
#[derive(Debug, Default)]
struct FromBlocks {
    /// Whether it is plain floats, each part later than the one before: then values are appended to one list.
    consecutive: bool,
    timelines: Vec<Timeline>,
    values: Vec<f64>,
    /// Whether some samples stand for others.
    reduced: bool,
    sums: Magnitude,
    /// In all other cases, each with the position of its block.
    parts: Vec<(u32, SeriesSamples)>,
}

/// Whether additions are exact, in whatever order.
#[derive(Debug, Clone, Copy, Default)]
struct Magnitude {
    /// Of all samples together, at most.
    total: f64,
    any_fraction: bool,
}

impl Magnitude {
    fn add(&mut self, values: &[f64]) {
        for value in values.iter().filter(|value| !is_stale(**value)) {
            self.total += value.abs();
            self.any_fraction |= value.fract() != 0.0;
        }
    }

    /// Whether sums over all samples so far and `more` are integers of 53 bits, which doubles add exactly.
    fn is_exact_with(self, more: f64) -> bool {
        // Half of what would do makes up for the rounding of the total.
        !self.any_fraction && self.total + more < (1u64 << 52) as f64
    }
}

impl SeriesSamples {
    /// The samples outside `ranges`.
    pub(crate) fn without(self, ranges: &[TimeRange]) -> SeriesSamples {
        if ranges.is_empty() || !self.timestamps.iter().any(|&ms| ranges.iter().any(|range| range.contains(ms))) {
            return self;
        }
        let mut columns = columns_of(vec![self]);
        columns.remove(ranges);
        from_columns(&columns, &mut Timelines::default())
    }
}

impl FromBlocks {
    /// The parts in the order of the list of blocks, in which the first to have a time counts.
    fn parts_by_block(&mut self) -> Vec<SeriesSamples> {
        self.parts.sort_by_key(|(number, _)| *number);
        self.parts.drain(..).map(|(_, part)| part).collect()
    }

    /// Appends what stands for the samples of the `at`th series, where the block's index answers for them.
    fn push_reduced(&mut self, found: &mut FoundSamples<'_>, at: usize, wanted: &ReducedWindows) -> bool {
        let Some(reduced) = found.reduced(at, wanted) else { return false };
        // What came before in its window decides how a sum is rounded.
        if wanted.reduction == Reduction::Sum && !self.sums.is_exact_with(reduced.magnitude) {
            return false;
        }
        self.sums.total += reduced.magnitude;
        match reduced.values {
            ReducedValues::Any => self.values.resize(self.values.len() + reduced.timestamps.len(), 0.0),
            ReducedValues::One(value) => self.values.push(value),
            ReducedValues::FirstAndLast(first, last) => self.values.extend([first, last]),
        }
        self.reduced |= reduced.weights.is_some();
        self.timelines.push(Timeline { timestamps: reduced.timestamps, weights: reduced.weights });
        true
    }

    /// Appends the samples of the `at`th series; there will be at most so many `rows` in all.
    fn push(
        &mut self,
        found: &mut FoundSamples<'_>,
        at: usize,
        wanted: Option<&ReducedWindows>,
        rows: usize,
    ) -> Result<(), Error> {
        self.timelines.push(Timeline { timestamps: found.timestamps(at).clone(), weights: None });
        if !self.reduced {
            self.values.reserve_exact(rows - self.values.len());
        }
        let before = self.values.len();
        found.push_values(at, &mut self.values).map_err(unreadable)?;
        if wanted.is_some_and(|wanted| wanted.reduction == Reduction::Sum) {
            self.sums.add(&self.values[before..]);
        }
        Ok(())
    }
}

impl Snapshot {
    pub(crate) fn new(head: Arc<Head>, view: Arc<View>, epoch: u64) -> Snapshot {
        let head_view = HeadView { epoch, flushed: view.flushed };
        Snapshot(Arc::new(Inner { head, view, head_view }))
    }

    /// What blocks hold, without any head.
    pub(crate) fn of_blocks(view: Arc<View>) -> Snapshot {
        let head = Head::new(1);
        let (epoch, ()) = head.epochs.end_epoch(|| ());
        Snapshot::new(Arc::new(head), view, epoch)
    }

    /// All blocks: our own, oldest first, then those of other stores that we read.
    pub fn blocks(&self) -> &[Arc<LiveBlock>] {
        &self.0.view.blocks
    }

    /// Live blocks with samples in `range` that could not be opened: what they hold is missing here. Of blocks that lie
    /// far away this is known once somebody has asked for something in `range`.
    pub fn missing(&self, range: TimeRange) -> impl Iterator<Item = &BlockMeta> {
        let lost = self.blocks().iter().filter(|block| block.is_lost()).map(|block| block.meta());
        let all = self.0.view.set_aside.iter().chain(lost);
        all.filter(move |meta| range.overlaps(&TimeRange::new(meta.min_ms, meta.max_ms)))
    }

    /// Shows the blocks that overlap `range`, with their positions, open; without those that are lost. Only a few are in
    /// use at the same time.
    fn for_blocks_in(&self, range: TimeRange, mut show: impl FnMut(u32, &Block)) -> Result<(), Error> {
        let overlaps = |block: &LiveBlock| {
            let meta = block.meta();
            range.overlaps(&TimeRange::new(meta.min_ms, meta.max_ms))
        };
        let all = (0..).zip(self.blocks()).map(|(at, block)| (at, &**block));
        let (numbers, inside): (Vec<u32>, Vec<&LiveBlock>) = all.filter(|(_, block)| overlaps(block)).unzip();
        for (numbers, part) in numbers.chunks(AT_ONCE).zip(inside.chunks(AT_ONCE)) {
            let opened = LiveBlock::open_those_there(part).map_err(unreadable)?;
            for (number, block) in numbers.iter().zip(opened) {
                if let Some(block) = block {
                    show(*number, &block);
                }
            }
        }
        Ok(())
    }

    /// Series that satisfy `matchers` and may have samples in `range`, ascending by labels, each label set once.
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<SelectedSeries>, Error> {
        Ok(match self.places(matchers, range)? {
            Places::Head(in_head) => self.labelled(&in_head, range),
            Places::Anywhere(series) => series,
        })
    }

    fn places(&self, matchers: &[Matcher], range: TimeRange) -> Result<Places, Error> {
        let inner = &*self.0;
        let in_head = inner.head.select(matchers, range, inner.head_view);
        let with_labels = || SeriesUnion::of(self.labelled(&in_head, range));
        let mut union = self.has_deletions_in_head().then(with_labels);
        self.for_blocks_in(range, |number, block| {
            let ids = ids_in(block, matchers, range);
            if ids.is_empty() {
                return;
            }
            let tombstones = about(&inner.view.tombstones, Source::Block(&block.meta().name));
            union.get_or_insert_with(with_labels).add(number, block, ids, |id, labels| {
                let there = block.series_range(id);
                let there = TimeRange::new(there.min_ms.max(range.min_ms), there.max_ms.min(range.max_ms));
                is_covered(there, &hidden(&tombstones, labels))
            });
        })?;
        Ok(match union {
            None => Places::Head(in_head),
            Some(union) => Places::Anywhere(union.finish()),
        })
    }

    /// Whether something in the head was deleted.
    fn has_deletions_in_head(&self) -> bool {
        !about(&self.0.view.tombstones, Source::Head).is_empty()
    }

    /// Those that are not deleted.
    fn labelled(&self, in_head: &HeadSelection, range: TimeRange) -> Vec<SelectedSeries> {
        let inner = &*self.0;
        let tombstones = about(&inner.view.tombstones, Source::Head);
        let labels = inner.head.labels_of(in_head).into_iter();
        labels
            .zip(in_head.series())
            .filter(|(labels, _)| !is_covered(range, &hidden(&tombstones, labels)))
            .map(|(labels, &series)| SelectedSeries { labels, head: Some(series), blocks: Vec::new() })
            .collect()
    }

    /// Samples of a selected series in `range`.
    pub fn read(&self, series: &SelectedSeries, range: TimeRange) -> Result<SeriesSamples, Error> {
        let mut read = self.read_many([series], range)?;
        Ok(read.pop().unwrap_or_else(|| unreachable!("one series in, one out")))
    }

    /// Samples of selected series in `range`, in the same order. Series with equal timestamps share their list.
    pub fn read_many<'a>(
        &self,
        series: impl IntoIterator<Item = &'a SelectedSeries>,
        range: TimeRange,
    ) -> Result<Vec<SeriesSamples>, Error> {
        let series: Vec<&SelectedSeries> = series.into_iter().collect();
        Ok(self.read_for(&series, range, None)?.into_iter().map(|read| read.samples).collect())
    }

    /// See [`SeriesSelection::read_reduced`].
    fn read_reduced<'a>(
        &self,
        series: impl IntoIterator<Item = &'a SelectedSeries>,
        range: TimeRange,
        wanted: &ReducedWindows,
    ) -> Result<Vec<ReducedSamples>, Error> {
        let series: Vec<&SelectedSeries> = series.into_iter().collect();
        self.read_for(&series, range, Some(wanted))
    }

    fn read_for(
        &self,
        all_series: &[&SelectedSeries],
        range: TimeRange,
        wanted: Option<&ReducedWindows>,
    ) -> Result<Vec<ReducedSamples>, Error> {
        let inner = &*self.0;
        let from_blocks = self.read_blocks(all_series, range, wanted)?;
        let mut timelines = Timelines::default();
        let mut columns = Columns::default();
        let mut joined = JoinedTimelines::default();
        let in_head = about(&inner.view.tombstones, Source::Head);
        let mut out = Vec::with_capacity(all_series.len());
        let whole = |samples| ReducedSamples { samples, weights: None };
        for (series, mut from_blocks) in all_series.iter().zip(from_blocks) {
            columns.clear();
            if let Some(reference) = series.head {
                inner.head.read(reference, range, inner.head_view, &mut columns);
                columns.remove(&hidden(&in_head, &series.labels));
            }
            if !from_blocks.consecutive {
                let parts = from_blocks.parts_by_block();
                out.push(whole(from_parts(parts, std::mem::take(&mut columns), &mut timelines)));
                continue;
            }
            if !columns.is_empty() {
                let last = from_blocks.timelines.last().and_then(|timeline| timeline.timestamps.last());
                if !columns.histograms.is_empty()
                    || !columns.starts_ms.is_empty()
                    || last.is_some_and(|last| columns.timestamps[0] <= *last)
                {
                    if from_blocks.reduced {
                        // What stands for many cannot be merged with what lies between them.
                        out.extend(self.read_for(std::slice::from_ref(series), range, None)?);
                        continue;
                    }
                    let timestamps = joined.join(&from_blocks.timelines, &mut timelines).timestamps;
                    let part =
                        SeriesSamples { timestamps, values: from_blocks.values, histograms: None, starts_ms: None };
                    out.push(whole(from_parts(vec![part], std::mem::take(&mut columns), &mut timelines)));
                    continue;
                }
                let timestamps = timelines.share(&columns.timestamps);
                from_blocks.timelines.push(Timeline { timestamps, weights: None });
                from_blocks.values.extend_from_slice(&columns.values);
            }
            if from_blocks.reduced && wanted.is_some_and(|wanted| wanted.reduction == Reduction::Sum) {
                from_blocks.sums.add(&columns.values);
                if !from_blocks.sums.total.is_finite() {
                    // A mean that would overflow is computed in another way, from all samples.
                    out.extend(self.read_for(std::slice::from_ref(series), range, None)?);
                    continue;
                }
            }
            let Timeline { timestamps, weights } = match from_blocks.timelines.as_slice() {
                [] => Timeline { timestamps: timelines.share(&[]), weights: None },
                [one] => {
                    Timeline { timestamps: timelines.share_arc(one.timestamps.clone()), weights: one.weights.clone() }
                }
                several => joined.join(several, &mut timelines),
            };
            let samples = SeriesSamples { timestamps, values: from_blocks.values, histograms: None, starts_ms: None };
            out.push(ReducedSamples { samples, weights });
        }
        Ok(out)
    }

    /// What blocks hold of `series` in `range`, in the same order.
    fn read_blocks(
        &self,
        series: &[&SelectedSeries],
        range: TimeRange,
        wanted_windows: Option<&ReducedWindows>,
    ) -> Result<Vec<FromBlocks>, Error> {
        let mut out: Vec<FromBlocks> = Vec::with_capacity(series.len());
        out.resize_with(series.len(), || FromBlocks { consecutive: true, ..FromBlocks::default() });
        let mut by_block: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
        for (position, series) in series.iter().enumerate() {
            for &(block, id) in &series.blocks {
                by_block.entry(block).or_default().push((id, position));
            }
        }
        // First only found: then every list of values is as long as it has to be from the start.
        let live: Vec<&LiveBlock> =
            by_block.keys().filter_map(|&number| Some(&**self.blocks().get(number as usize)?)).collect();
        let opened = LiveBlock::open_all(&live).map_err(unreadable)?;
        let mut wanted_of = Vec::with_capacity(opened.len());
        for (block, (number, mut wanted)) in opened.into_iter().zip(by_block) {
            wanted.sort_unstable();
            wanted_of.push(WantedOf { number, block, wanted });
        }
        // Merged blocks come last in the list: in the order of time the parts of most series follow each other.
        wanted_of.sort_by_key(|of| of.block.meta().min_ms);
        let mut found = Vec::with_capacity(wanted_of.len());
        let mut rows = vec![0; series.len()];
        let mut last_ms = vec![i64::MIN; series.len()];
        let mut reducible_rows = vec![0; if wanted_windows.is_some() { series.len() } else { 0 }];
        for (of, samples) in wanted_of.iter().zip(find_in_blocks(&wanted_of, range, wanted_windows)) {
            let samples = samples?;
            let tombstones = about(&self.0.view.tombstones, Source::Block(&of.block.meta().name));
            for (at, &(_, position)) in of.wanted.iter().enumerate() {
                let (Some(first), Some(last)) = (samples.timestamps(at).first(), samples.timestamps(at).last()) else {
                    continue;
                };
                let follows = last_ms[position] < *first || rows[position] == 0;
                out[position].consecutive &=
                    follows && samples.is_plain(at) && hidden(&tombstones, &series[position].labels).is_empty();
                if wanted_windows.is_some_and(|wanted| out[position].consecutive && samples.is_reducible(at, wanted)) {
                    reducible_rows[position] += samples.timestamps(at).len();
                }
                last_ms[position] = *last;
                rows[position] += samples.timestamps(at).len();
            }
            found.push((of, samples, tombstones));
        }
        // A series that is reduced shares its timestamps with nobody: for less than half of its samples it is dearer.
        let wanted_of_series =
            |position: usize| wanted_windows.filter(|_| reducible_rows[position] * 2 > rows[position]);
        for (of, mut samples, tombstones) in found {
            for (at, &(_, position)) in of.wanted.iter().enumerate() {
                let timestamps = samples.timestamps(at).clone();
                if timestamps.is_empty() {
                    continue;
                }
                let from_blocks = &mut out[position];
                if from_blocks.consecutive {
                    let wanted = wanted_of_series(position);
                    if wanted.is_some_and(|wanted| from_blocks.push_reduced(&mut samples, at, wanted)) {
                        continue;
                    }
                    from_blocks.push(&mut samples, at, wanted, rows[position])?;
                } else {
                    let samples = samples_of(samples.samples(at).map_err(unreadable)?);
                    let samples = samples.without(&hidden(&tombstones, &series[position].labels));
                    if !samples.values.is_empty() {
                        from_blocks.parts.push((of.number, samples));
                    }
                }
            }
        }
        Ok(out)
    }

    /// Names of the labels of series that satisfy `matchers` and have samples in `range`, ascending.
    pub fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error> {
        let inner = &*self.0;
        let mut names: BTreeSet<String> =
            inner.head.label_names(matchers, range, inner.head_view).into_iter().collect();
        self.for_blocks_in(range, |_, block| match matchers {
            [] => names.extend(block.label_names()),
            some => names.extend(block.label_names_of(&ids_in(block, some, range))),
        })?;
        Ok(names.into_iter().collect())
    }

    /// Values of the label `name` on such series, ascending.
    pub fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error> {
        let inner = &*self.0;
        let mut values: BTreeSet<String> =
            inner.head.label_values(name, matchers, range, inner.head_view).into_iter().collect();
        self.for_blocks_in(range, |_, block| match matchers {
            [] => values.extend(block.label_values(name)),
            some => values.extend(block.label_values_of(name, &ids_in(block, some, range))),
        })?;
        Ok(values.into_iter().collect())
    }

    /// What [`Snapshot::select`] finds, without the series.
    pub fn plan(&self, matchers: &[Matcher], range: TimeRange) -> Result<SelectPlan, Error> {
        let series = self.select(matchers, range)?;
        let read: BTreeSet<u32> =
            series.iter().flat_map(|series| series.blocks.iter().map(|(block, _)| *block)).collect();
        let mut blocks_in_range = 0;
        self.for_blocks_in(range, |_, _| blocks_in_range += 1)?;
        Ok(SelectPlan {
            blocks_total: self.blocks().len(),
            blocks_in_range,
            blocks_read: read.len(),
            reads_head: series.iter().any(|series| series.head.is_some()),
            series: series.len(),
        })
    }
}

fn unreadable(error: BlockError) -> Error {
    Error::block(Path::new("blocks"))(error)
}

/// What is wanted of a block.
struct WantedOf {
    /// The block's position in the list.
    number: u32,
    block: Arc<Block>,
    /// Ids of series and what they are for.
    wanted: Vec<(u32, usize)>,
}

/// Finds what is wanted, in the order of `wanted_of`; in far blocks several at the same time, for that is mostly waiting.
fn find_in_blocks<'a>(
    wanted_of: &'a [WantedOf],
    range: TimeRange,
    wanted_windows: Option<&'a ReducedWindows>,
) -> Box<dyn Iterator<Item = Result<FoundSamples<'a>, Error>> + 'a> {
    let find = move |of: &'a WantedOf| {
        let ids: Vec<u32> = of.wanted.iter().map(|(id, _)| *id).collect();
        of.block.find_for(&ids, range, wanted_windows).map_err(unreadable)
    };
    if wanted_of.iter().filter(|of| of.block.is_far()).count() < 2 {
        return Box::new(wanted_of.iter().map(find));
    }
    let per_thread = wanted_of.len().div_ceil(FAR_READERS);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted_of
            .chunks(per_thread)
            .map(|part| scope.spawn(move || part.iter().map(find).collect::<Vec<_>>()))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    Box::new(results.into_iter())
}

/// Series of a block that satisfy `matchers` and may have samples in `range`, ascending.
fn ids_in(block: &Block, matchers: &[Matcher], range: TimeRange) -> Vec<u32> {
    let mut ids = block.select(matchers);
    ids.retain(|&id| block.series_range(id).overlaps(&range));
    ids
}

/// Whether one of `ranges` holds all of `range`.
fn is_covered(range: TimeRange, ranges: &[TimeRange]) -> bool {
    ranges.iter().any(|hidden| hidden.min_ms <= range.min_ms && range.max_ms <= hidden.max_ms)
}

/// What a block gave, in the form that everyone reads.
pub(crate) fn samples_of(samples: BlockSamples) -> SeriesSamples {
    SeriesSamples {
        timestamps: samples.timestamps,
        values: samples.values,
        histograms: samples.histograms,
        starts_ms: samples.starts_ms,
    }
}

/// The union of parts of one series; of two samples at one time the one in the earlier part counts.
pub(crate) fn columns_of(mut parts: Vec<SeriesSamples>) -> Columns {
    let span = |part: &SeriesSamples| Some((*part.timestamps.first()?, *part.timestamps.last()?));
    let mut spans: Vec<(i64, i64)> = parts.iter().filter_map(span).collect();
    spans.sort_unstable();
    // Parts that do not overlap are joined in order without a look at each sample.
    if spans.windows(2).all(|pair| pair[0].1 < pair[1].0) {
        parts.sort_by_key(|part| part.timestamps.first().copied());
    }
    let columns = |part: SeriesSamples| Columns {
        timestamps: part.timestamps.to_vec(),
        values: part.values,
        starts_ms: part.starts_ms.unwrap_or_default(),
        histograms: part
            .histograms
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(at, histogram)| Some((at, histogram?)))
            .collect(),
    };
    parts.into_iter().map(columns).reduce(Columns::merged).unwrap_or_default()
}

/// The union of what blocks gave and what the head holds.
fn from_parts(mut parts: Vec<SeriesSamples>, head: Columns, timelines: &mut Timelines) -> SeriesSamples {
    if head.is_empty() && parts.len() == 1 {
        let mut part = parts.remove(0);
        part.timestamps = timelines.share_arc(part.timestamps);
        return part;
    }
    from_columns(&columns_of(parts).merged(head), timelines)
}

/// `columns` for readers.
fn from_columns(columns: &Columns, timelines: &mut Timelines) -> SeriesSamples {
    let histograms = columns.histograms_in(0..columns.len());
    let starts_ms = columns.starts_ms.iter().any(|&start| start != 0).then(|| columns.starts_ms.clone());
    let timestamps = timelines.share(&columns.timestamps);
    SeriesSamples { timestamps, values: columns.values.clone(), histograms, starts_ms }
}
