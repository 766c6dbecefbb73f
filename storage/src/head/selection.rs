//! Series of the head that a reader found, and what it asks of many of them at once.
//!
//! A reader's series are not forgotten while its epoch is held: what it can see keeps them from being empty. So labels need
//! not be made before somebody asks for them.

use parking_lot::RwLockReadGuard;
use pilaster_model::{Columns, LabelKey, Labels, MatchOp, Matcher, SeriesGroups, TimeRange};

use super::index::Grouping;
use super::series::{HeadSeries, Newest};
use super::{Head, HeadView, SeriesRef, Shard};

/// Series that are looked at under one lock: writers wait so long.
const TOGETHER: usize = 1024;

/// Some series of the head, ascending by labels.
#[derive(Debug, Clone, Default)]
pub struct HeadSelection {
    series: Vec<SeriesRef>,
    /// Positions in `series`, ascending by slot: neighbours lie close together in memory.
    by_slot: Vec<u32>,
    /// Names whose values are the same on all series, because they were asked for.
    given: Vec<String>,
}

impl HeadSelection {
    pub fn series(&self) -> &[SeriesRef] {
        &self.series
    }

    /// Positions in the order in which the head reads them at least cost.
    pub fn by_slot(&self) -> &[u32] {
        &self.by_slot
    }

    fn at<'a>(&'a self, positions: &'a [u32]) -> impl Iterator<Item = (u32, SeriesRef)> + 'a {
        positions.iter().map(|&position| (position, self.series[position as usize]))
    }
}

impl Head {
    /// Series that satisfy `matchers` and have samples in `range` for `view`.
    pub fn select(&self, matchers: &[Matcher], range: TimeRange, view: HeadView) -> HeadSelection {
        let by_slot = self.visible(matchers, range, view);
        let places = self.index.read().sorted(&by_slot);
        let series = places.iter().map(|&place| by_slot[place as usize]).collect();
        let mut positions = vec![0; places.len()];
        for (position, &place) in (0..).zip(&places) {
            positions[place as usize] = position;
        }
        let is_given = |matcher: &&Matcher| matcher.op() == MatchOp::Equal && !matcher.value().is_empty();
        let given = matchers.iter().filter(is_given).map(|matcher| matcher.name().to_owned()).collect();
        HeadSelection { series, by_slot: positions, given }
    }

    /// Whether there are such series.
    pub fn has_any(&self, matchers: &[Matcher], range: TimeRange, view: HeadView) -> bool {
        !self.visible(matchers, range, view).is_empty()
    }

    /// Such series, ascending by slot.
    pub(super) fn visible(&self, matchers: &[Matcher], range: TimeRange, view: HeadView) -> Vec<SeriesRef> {
        let found = self.index.read().resolve(matchers);
        let mut visible = Vec::with_capacity(found.len());
        self.look_at(&found, |reference, series| {
            if series.may_overlap(range, view.epoch, view.flushed) {
                visible.push(reference);
            }
        });
        visible
    }

    /// Labels of `selection`, in its order.
    pub fn labels_of(&self, selection: &HeadSelection) -> Vec<Labels> {
        let mut labels = vec![Labels::empty(); selection.series.len()];
        for positions in selection.by_slot.chunks(TOGETHER) {
            let index = self.index.read();
            for (position, series) in selection.at(positions) {
                labels[position as usize] = index.labels(series).unwrap_or_default();
            }
        }
        labels
    }

    /// Labels of the series at these positions.
    pub fn labels_at(&self, selection: &HeadSelection, positions: &[u32]) -> Vec<Labels> {
        let index = self.index.read();
        selection.at(positions).map(|(_, series)| index.labels(series).unwrap_or_default()).collect()
    }

    /// Groups the series of `selection`.
    pub fn groups_of(&self, selection: &HeadSelection, key: LabelKey<'_>) -> SeriesGroups {
        if let LabelKey::With(names) = key {
            let index = self.index.read();
            let is_same = |name: &String| selection.given.contains(name) || !index.has_name(name);
            if names.iter().all(is_same) {
                let count = selection.series.len();
                return SeriesGroups { group_of: vec![0; count], firsts: vec![0; count.min(1)] };
            }
        }
        let mut grouping = Grouping::new(key, selection.series.len());
        for positions in selection.by_slot.chunks(TOGETHER) {
            grouping.add(&self.index.read(), selection.at(positions));
        }
        grouping.finish()
    }

    /// Shows the samples in `range` for `view` of each of `series`, in their order: none where the head has none.
    pub fn read_each(&self, series: &[SeriesRef], range: TimeRange, view: HeadView, mut show: impl FnMut(&Columns)) {
        let mut columns = Columns::default();
        for some in series.chunks(TOGETHER) {
            let shards = self.shards_of(some);
            for &reference in some {
                columns.clear();
                if let Some(series) = self.find_in(&shards, reference) {
                    series.read(range, view.epoch, view.flushed, &mut columns);
                }
                show(&columns);
            }
        }
    }

    /// Shows the newest sample in `range` for `view` of each of these numbered series; `false` where one of them is a
    /// histogram.
    pub fn newest(
        &self,
        series: &[(u32, SeriesRef)],
        range: TimeRange,
        view: HeadView,
        mut found: impl FnMut(u32, i64, f64),
    ) -> bool {
        let mut columns = Columns::default();
        let mut any_histogram = false;
        let references: Vec<SeriesRef> = series.iter().map(|(_, reference)| *reference).collect();
        for (some, references) in series.chunks(TOGETHER).zip(references.chunks(TOGETHER)) {
            let shards = self.shards_of(references);
            for &(number, reference) in some {
                let Some(series) = self.find_in(&shards, reference) else { continue };
                match series.newest(range, view.epoch, view.flushed, &mut columns) {
                    Newest::Float(timestamp_ms, value) => found(number, timestamp_ms, value),
                    Newest::Histogram => any_histogram = true,
                    Newest::None => {}
                }
            }
            if any_histogram {
                return false;
            }
        }
        true
    }

    /// Shows those of `series` that are not forgotten.
    fn look_at(&self, series: &[SeriesRef], mut show: impl FnMut(SeriesRef, &HeadSeries)) {
        for some in series.chunks(TOGETHER) {
            let shards = self.shards_of(some);
            for &reference in some {
                if let Some(series) = self.find_in(&shards, reference) {
                    show(reference, series);
                }
            }
        }
    }

    /// The shards of these series, locked for reading.
    fn shards_of(&self, series: &[SeriesRef]) -> Vec<Option<RwLockReadGuard<'_, Shard>>> {
        let mask = self.shards.len() as u64 - 1;
        let wanted = series.iter().fold(0u64, |wanted, series| wanted | 1 << (series.to_raw() & mask));
        self.shards.iter().enumerate().map(|(i, shard)| (wanted >> i & 1 == 1).then(|| shard.read())).collect()
    }

    fn find_in<'a>(
        &self,
        shards: &'a [Option<RwLockReadGuard<'_, Shard>>],
        reference: SeriesRef,
    ) -> Option<&'a HeadSeries> {
        shards[reference.slot() as usize & (shards.len() - 1)].as_ref()?.find(reference, self.shards.len())
    }
}
