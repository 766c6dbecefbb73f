//! Samples of one series, as readers get them.

use std::sync::Arc;

use pilaster_model::{Columns, TimeRange};

use crate::block::SeriesSamples;
use crate::head::Timelines;

/// Samples of one series, some of which may stand for many.
#[derive(Debug, Clone, PartialEq)]
pub struct ReducedSamples {
    pub samples: SeriesSamples,
    /// How many samples each stands for, itself counted; absent where each stands for itself.
    pub weights: Option<Arc<[u32]>>,
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
pub(super) fn from_parts(mut parts: Vec<SeriesSamples>, head: Columns, timelines: &mut Timelines) -> SeriesSamples {
    if head.is_empty() && parts.len() == 1 {
        let mut part = parts.remove(0);
        part.timestamps = timelines.share_arc(part.timestamps);
        return part;
    }
    from_columns(&columns_of(parts).merged(head), timelines)
}

/// `columns` for readers.
pub(super) fn from_columns(columns: &Columns, timelines: &mut Timelines) -> SeriesSamples {
    let histograms = columns.histograms_in(0..columns.len());
    let starts_ms = columns.starts_ms.iter().any(|&start| start != 0).then(|| columns.starts_ms.clone());
    let timestamps = timelines.share(&columns.timestamps);
    SeriesSamples { timestamps, values: columns.values.clone(), histograms, starts_ms }
}
