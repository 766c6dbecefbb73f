//! The contract between PromQL (and SQL) and whatever keeps samples: a snapshot that answers selectors.
//!
//! The engine implements it over the store's snapshot, the test runner over memory. A `Source` is one consistent
//! snapshot: two selects on it see the same samples. Calls are synchronous and run on the query runtime's threads.

use std::fmt::Debug;
use std::sync::Arc;

use pilaster_model::{Histogram, LabelKey, Labels, Matcher, ReducedWindows, SeriesGroups, TimeRange};

/// Why a source could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Reading what is stored failed; the chain says what and where.
    #[error("could not read samples")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One consistent view of all samples.
pub trait Source: Send + Sync + Debug {
    /// The series that satisfy all `matchers` and may hold samples in `range`, ascending by labels, each once.
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, SourceError>;

    /// Names of all labels on series that satisfy `matchers` (all series when empty) and may hold samples in `range`; ascending.
    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError>;

    /// Values of label `name` on such series; ascending.
    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, SourceError>;
}

/// The answer to one selector.
pub trait Selection: Send + Sync + Debug {
    /// How many series there are.
    fn len(&self) -> usize {
        self.labels().len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Label sets, ascending; a series' position here is its index in [`SampleBatch`]. They may be made by the first who
    /// asks for them, and most queries can do without.
    fn labels(&self) -> &[Labels];

    /// Labels of the series at these positions, without making all.
    fn labels_at(&self, positions: &[u32]) -> Vec<Labels> {
        positions.iter().map(|&at| self.labels()[at as usize].clone()).collect()
    }

    /// The series in groups, where that is done at less cost than with all their [labels](Selection::labels).
    fn groups(&self, _key: LabelKey<'_>) -> Option<SeriesGroups> {
        None
    }

    /// Positions of all series in the order in which they are read at least cost, where that is not theirs.
    fn reading_order(&self) -> Option<Vec<u32>> {
        None
    }

    /// The samples inside the selected range of the series at these positions, each position once.
    ///
    /// May return fewer runs than series: a series without samples in the range has none. Runs come in the order of
    /// `series`.
    fn read(&self, series: &[u32]) -> Result<SampleBatch, SourceError>;

    /// [`Selection::read`], except that what is `wanted` comes out the same, bit for bit, from what is returned: fewer
    /// samples may stand for those that lie in all the same windows, those that lie in none may be left out, and values
    /// that nobody looks at may be anything.
    /// Who knows no shorter way reads all samples.
    fn read_reduced(&self, series: &[u32], _wanted: &ReducedWindows) -> Result<SampleBatch, SourceError> {
        self.read(series)
    }

    /// Only the newest sample inside the selected range of each of these series, for whom that is enough; `None` where
    /// it is not found at less cost than by [`Selection::read`], or is a native histogram.
    fn newest(&self, _series: &[u32]) -> Result<Option<NewestSamples>, SourceError> {
        Ok(None)
    }
}

/// One sample a series; columns are parallel.
#[derive(Debug, Clone, Default)]
pub struct NewestSamples {
    /// Positions in [`Selection::labels`], in the order asked for. Series without samples are left out.
    pub series: Vec<u32>,
    pub timestamps_ms: Vec<i64>,
    /// Staleness markers are present, bit-exact.
    pub values: Vec<f64>,
}

/// Samples of several series. Series of one target share a timeline, so windows are computed once per timeline.
#[derive(Debug, Clone, Default)]
pub struct SampleBatch {
    /// Strictly ascending timestamps in milliseconds.
    pub timelines: Vec<Arc<[i64]>>,
    /// How many samples each of a timeline stands for, itself counted; empty where every one stands for itself, otherwise
    /// as long as `timelines`, with `None` for such a timeline.
    pub weights: Vec<Option<Arc<[u32]>>>,
    /// At most one run per series.
    pub runs: Vec<SeriesRun>,
}

impl SampleBatch {
    /// How many samples each of a timeline stands for, where that is not one everywhere.
    pub fn weights(&self, timeline: u32) -> Option<&[u32]> {
        self.weights.get(timeline as usize)?.as_deref()
    }

    /// Samples of all runs, those counted that others stand for.
    pub fn sample_count(&self) -> usize {
        let of_run = |run: &SeriesRun| match self.weights(run.timeline) {
            None => run.values.len(),
            Some(weights) => weights.iter().map(|&weight| weight as usize).sum(),
        };
        self.runs.iter().map(of_run).sum()
    }
}

/// All selected samples of one series.
#[derive(Debug, Clone)]
pub struct SeriesRun {
    /// Position in [`Selection::labels`].
    pub series: u32,
    /// Index into [`SampleBatch::timelines`].
    pub timeline: u32,
    /// One value per timestamp of the timeline; staleness markers are present, bit-exact.
    pub values: arrow::buffer::ScalarBuffer<f64>,
    /// Present where the series has native histograms: `Some` at a timestamp whose sample is one; the value beside it
    /// means nothing. A staleness marker is always a value.
    pub histograms: Option<Arc<[Option<Arc<Histogram>>]>>,
    /// Start timestamps in milliseconds, one per timestamp, 0 where unknown; absent where none is known.
    pub starts_ms: Option<Arc<[i64]>>,
}
