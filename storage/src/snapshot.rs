//! Reading: one consistent view of head and blocks.

mod from_blocks;
mod joined;
mod samples;
mod selection;
mod union;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use pilaster_model::{Columns, Labels, Matcher, ReducedWindows, Reduction, TimeRange};

use crate::block::{AT_ONCE, Block, BlockError, BlockMeta, LiveBlock};
use crate::head::{Head, HeadSelection, HeadView, Timelines};
use crate::store::View;
use crate::tombstone::{Source, about, hidden};
use crate::{Error, SeriesRef};
use samples::from_parts;
use selection::Places;
use union::SeriesUnion;

pub use crate::block::SeriesSamples;
pub(crate) use joined::{JoinedTimelines, Timeline};
pub use samples::ReducedSamples;
pub(crate) use samples::columns_of;
pub use selection::SeriesSelection;

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
                let samples = from_parts(parts, std::mem::take(&mut columns), &mut timelines);
                if from_blocks.left_out && samples.histograms.is_some() {
                    // What a histogram follows is looked at outside of windows, too.
                    out.extend(self.read_for(std::slice::from_ref(series), range, None)?);
                    continue;
                }
                out.push(whole(samples));
                continue;
            }
            if !columns.is_empty() {
                let last = from_blocks.timelines.last().and_then(|timeline| timeline.timestamps.last());
                if !columns.histograms.is_empty()
                    || !columns.starts_ms.is_empty()
                    || last.is_some_and(|last| columns.timestamps[0] <= *last)
                {
                    if from_blocks.reduced || from_blocks.left_out {
                        // What stands for many cannot be merged with what lies between them, and what a histogram follows
                        // is looked at outside of windows, too.
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
