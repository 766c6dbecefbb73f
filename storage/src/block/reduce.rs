//! Few samples in place of many, by the index alone.

use std::collections::HashMap;
use std::sync::Arc;

use pilaster_model::{ReducedWindows, Reduction};

use super::index::Index;

/// Samples that stand for all those of a series in a block.
#[derive(Debug, Clone)]
pub struct Reduced {
    /// Ascending; the same `Arc` for series that have the same timestamps, within one call.
    pub timestamps: Arc<[i64]>,
    /// How many samples each stands for; absent where each stands for itself.
    pub weights: Option<Arc<[u32]>>,
    pub values: ReducedValues,
    /// The sum of all samples' magnitudes is not above it, where sums are wanted.
    pub magnitude: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReducedValues {
    /// Nobody looks at them.
    Any,
    One(f64),
    FirstAndLast(f64, f64),
}

/// The timestamps of samples that stand for others, made once for all series with the same ones.
#[derive(Default)]
pub struct ReducedTimelines {
    /// By the address and length of the timestamps, which the caller holds.
    known: HashMap<(usize, usize), Weighted>,
}

/// Timestamps, and how many samples each stands for.
type Weighted = (Arc<[i64]>, Arc<[u32]>);

/// Whether the index answers for the samples of a series between two times, if `all` of its samples lie there.
pub fn is_reducible(index: &Index, id: u32, wanted: &ReducedWindows, first_ms: i64, last_ms: i64, all: bool) -> bool {
    let series = index.series(id);
    if wanted.reduction == Reduction::Times {
        // All rows have a value: no staleness markers.
        return series.integers + series.doubles == series.rows;
    }
    if wanted.reduction == Reduction::Whole {
        return false;
    }
    if !all || wanted.windows.cuts(first_ms, last_ms) {
        return false;
    }
    let (Some(summary), Some(divisor)) = (index.summary(id), series.divisor) else { return false };
    match wanted.reduction {
        Reduction::Whole => false,
        Reduction::Times | Reduction::Largest | Reduction::Smallest => true,
        Reduction::Last => summary.ascends,
        // Decimals are rounded at each addition.
        Reduction::Sum => summary.sum.is_some() && divisor.value() <= 1.0,
        Reduction::Growth => summary.ascends,
    }
}

impl ReducedTimelines {
    /// What stands for the samples at `timestamps` of a series, of which `all` says whether they are its all.
    pub fn reduce(
        &mut self,
        index: &Index,
        id: u32,
        wanted: &ReducedWindows,
        timestamps: &Arc<[i64]>,
        all: bool,
    ) -> Option<Reduced> {
        let (&first_ms, &last_ms) = (timestamps.first()?, timestamps.last()?);
        if !is_reducible(index, id, wanted, first_ms, last_ms, all) {
            return None;
        }
        if wanted.reduction == Reduction::Times {
            let (timestamps, weights) = (timestamps.clone(), None);
            return Some(Reduced { timestamps, weights, values: ReducedValues::Any, magnitude: 0.0 });
        }
        let (summary, divisor) = (index.summary(id)?, index.series(id).divisor?.value());
        let value = |integer: i64| integer as f64 / divisor;
        let values = match wanted.reduction {
            Reduction::Whole | Reduction::Times => ReducedValues::Any,
            Reduction::Largest | Reduction::Last => ReducedValues::One(value(summary.max)),
            Reduction::Smallest => ReducedValues::One(value(summary.min)),
            Reduction::Sum => ReducedValues::One(value(summary.sum?)),
            Reduction::Growth => ReducedValues::FirstAndLast(value(summary.min), value(summary.max)),
        };
        let (timestamps, weights) = self.timeline(timestamps, matches!(values, ReducedValues::FirstAndLast(..)));
        let rows = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
        let magnitude = rows * (summary.largest() as f64 / divisor);
        Some(Reduced { timestamps, weights: Some(weights), values, magnitude })
    }

    fn timeline(&mut self, timestamps: &Arc<[i64]>, both_ends: bool) -> Weighted {
        let made = self.known.entry((timestamps.as_ptr().addr(), timestamps.len())).or_insert_with(|| {
            let (first_ms, last_ms, rows) = (timestamps[0], timestamps[timestamps.len() - 1], timestamps.len() as u32);
            match both_ends {
                true => (Arc::from([first_ms, last_ms]), Arc::from([1, rows - 1])),
                false => (Arc::from([last_ms]), Arc::from([rows])),
            }
        });
        made.clone()
    }
}
