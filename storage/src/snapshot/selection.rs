//! What a reader selected: series whose labels are made when somebody asks for them.

use std::sync::OnceLock;

use pilaster_model::{LabelKey, Labels, Matcher, ReducedWindows, SeriesGroups, TimeRange};

use super::samples::from_columns;
use super::{ReducedSamples, SelectedSeries, SeriesSamples, Snapshot};
use crate::Error;
use crate::head::{HeadSelection, SeriesRef, Timelines};

/// Series of a snapshot, ascending by labels, each label set once. A series is known by its position.
#[derive(Debug)]
pub struct SeriesSelection {
    snapshot: Snapshot,
    places: Places,
    labels: OnceLock<Vec<Labels>>,
}

/// Where the series are.
#[derive(Debug)]
pub(super) enum Places {
    /// All of them are in the head, in no block, and nothing of them is deleted.
    Head(HeadSelection),
    Anywhere(Vec<SelectedSeries>),
}

impl Snapshot {
    /// Series that satisfy `matchers` and may have samples in `range`.
    pub fn find(&self, matchers: &[Matcher], range: TimeRange) -> Result<SeriesSelection, Error> {
        let places = self.places(matchers, range)?;
        Ok(SeriesSelection { snapshot: self.clone(), places, labels: OnceLock::new() })
    }
}

impl SeriesSelection {
    pub fn len(&self) -> usize {
        match &self.places {
            Places::Head(selection) => selection.series().len(),
            Places::Anywhere(series) => series.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ascending.
    pub fn labels(&self) -> &[Labels] {
        self.labels.get_or_init(|| match &self.places {
            Places::Head(selection) => self.snapshot.0.head.labels_of(selection),
            Places::Anywhere(series) => series.iter().map(|one| one.labels.clone()).collect(),
        })
    }

    /// Labels of the series at these positions.
    pub fn labels_at(&self, positions: &[u32]) -> Vec<Labels> {
        match (&self.places, self.labels.get()) {
            (Places::Head(selection), None) => self.snapshot.0.head.labels_at(selection, positions),
            (_, _) => positions.iter().map(|&at| self.labels()[at as usize].clone()).collect(),
        }
    }

    /// The series in groups, where that costs less than a look at all labels.
    pub fn groups(&self, key: LabelKey<'_>) -> Option<SeriesGroups> {
        match &self.places {
            Places::Head(selection) => Some(self.snapshot.0.head.groups_of(selection, key)),
            Places::Anywhere(_) => None,
        }
    }

    /// Positions of all series in the order that reads at least cost, where that is not theirs: neighbours in a block share
    /// pages, neighbours in the head lie close together.
    pub fn reading_order(&self) -> Option<Vec<u32>> {
        let order = match &self.places {
            Places::Head(selection) => selection.by_slot().to_vec(),
            Places::Anywhere(series) => {
                let place = |series: &SelectedSeries| match (series.blocks.last(), series.head) {
                    (Some(&place), _) => place,
                    (None, head) => (u32::MAX, head.map_or(0, SeriesRef::slot)),
                };
                let mut order: Vec<((u32, u32), u32)> = series.iter().map(place).zip(0..).collect();
                order.sort_unstable();
                order.into_iter().map(|(_, position)| position).collect()
            }
        };
        (!order.is_sorted()).then_some(order)
    }

    /// Shows the newest sample in `range` of each of the series at `positions`; `false` where some are not told without
    /// reading more, or are histograms.
    pub fn newest(&self, positions: &[u32], range: TimeRange, found: impl FnMut(u32, i64, f64)) -> bool {
        let head = match &self.places {
            Places::Head(selection) => positions.iter().map(|&at| (at, selection.series()[at as usize])).collect(),
            Places::Anywhere(_) if self.snapshot.has_deletions_in_head() => return false,
            Places::Anywhere(series) => {
                let in_head = |&at: &u32| {
                    let series = &series[at as usize];
                    Some((at, series.head.filter(|_| series.blocks.is_empty())?))
                };
                match positions.iter().map(in_head).collect::<Option<Vec<_>>>() {
                    Some(in_head) => in_head,
                    None => return false,
                }
            }
        };
        self.snapshot.0.head.newest(&head, range, self.snapshot.0.head_view, found)
    }

    /// Samples in `range` of the series at `positions`, in this order. Series with equal timestamps share their list.
    pub fn read(&self, positions: &[u32], range: TimeRange) -> Result<Vec<SeriesSamples>, Error> {
        match &self.places {
            Places::Head(selection) => Ok(self.read_head(selection, positions, range, |samples| samples)),
            Places::Anywhere(series) => {
                self.snapshot.read_many(positions.iter().map(|&at| &series[at as usize]), range)
            }
        }
    }

    /// [`SeriesSelection::read`], except that what is `wanted` of floats comes out the same, bit for bit, from what is
    /// returned: by the indexes of blocks, where they answer for all that a block has of a series, and without samples
    /// that lie in no window. Where timestamps alone are wanted, values may be anything but staleness markers.
    pub fn read_reduced(
        &self,
        positions: &[u32],
        range: TimeRange,
        wanted: &ReducedWindows,
    ) -> Result<Vec<ReducedSamples>, Error> {
        match &self.places {
            Places::Head(selection) => {
                let whole = |samples| ReducedSamples { samples, weights: None };
                Ok(self.read_head(selection, positions, range, whole))
            }
            Places::Anywhere(series) => {
                self.snapshot.read_reduced(positions.iter().map(|&at| &series[at as usize]), range, wanted)
            }
        }
    }

    fn read_head<T>(
        &self,
        selection: &HeadSelection,
        positions: &[u32],
        range: TimeRange,
        form: impl Fn(SeriesSamples) -> T,
    ) -> Vec<T> {
        let series: Vec<SeriesRef> = positions.iter().map(|&at| selection.series()[at as usize]).collect();
        let mut timelines = Timelines::default();
        let mut out = Vec::with_capacity(series.len());
        self.snapshot.0.head.read_each(&series, range, self.snapshot.0.head_view, |columns| {
            out.push(form(from_columns(columns, &mut timelines)));
        });
        out
    }
}
