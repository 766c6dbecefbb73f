//! Which samples each step sees: index bounds into a timeline, swept once and shared by all its series.
//!
//! ```text
//! timeline   ·  ·   ·  ·  ·   ·  ·
//! step i        (---width----]          starts[i]..ends[i]
//! step i+1            (---width----]
//! ```

use std::sync::{Arc, OnceLock};

use pilaster_model::{Histogram, RangeGrid, is_stale};

use super::range::Extrapolation;
use super::vectorized::vectorized;

/// Per step the samples of a timeline inside its window, as the index range `starts[i]..ends[i]`.
///
/// Bounds never decrease from step to step. Belongs to the timeline and grid it was made from.
#[derive(Debug, Default)]
pub struct Windows {
    pub starts: Vec<u32>,
    pub ends: Vec<u32>,
    /// How many samples each step sees, where some of the timeline stand for several.
    pub(super) counts: Option<Vec<u32>>,
    /// What `increase` and `delta` need of the timestamps alone, computed by the first series that asks …
    pub(super) growth: OnceLock<Extrapolation>,
    /// … and what `rate` does.
    pub(super) growth_per_second: OnceLock<Extrapolation>,
}

impl Windows {
    /// Windows `(end - width, end]` over ascending `timestamps_ms`; one sweep over both.
    pub fn new(timestamps_ms: &[i64], grid: &RangeGrid) -> Windows {
        Windows::extended(timestamps_ms, grid, 0, 0)
    }

    /// Windows `(end - width - before, end + after]`, which `anchored` (`after` 0) and `smoothed` selectors look into.
    pub fn extended(timestamps_ms: &[i64], grid: &RangeGrid, before_ms: i64, after_ms: i64) -> Windows {
        let after_start_ms = |step: usize| grid.start_ms(step).saturating_sub(before_ms);
        // No window ends before it begins.
        let end_ms = |step: usize| grid.end_ms(step).saturating_add(after_ms).max(after_start_ms(step));
        vectorized(
            #[inline(always)]
            || Windows {
                starts: counts_until(timestamps_ms, grid, after_start_ms),
                ends: counts_until(timestamps_ms, grid, end_ms),
                ..Windows::default()
            },
        )
    }

    /// These windows over a timeline whose samples stand for so many each.
    pub fn weighted(mut self, weights: &[u32]) -> Windows {
        let mut before = 0u32;
        let mut running = Vec::with_capacity(weights.len() + 1);
        running.push(0);
        running.extend(weights.iter().map(|weight| {
            before += weight;
            before
        }));
        let count = |(start, end): (&u32, &u32)| running[*end as usize] - running[*start as usize];
        self.counts = Some(self.starts.iter().zip(&self.ends).map(count).collect());
        self
    }

    /// Steps.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// How many samples `step` sees, those counted that others stand for.
    #[inline(always)]
    pub fn count(&self, step: usize) -> u32 {
        match &self.counts {
            None => self.ends[step] - self.starts[step],
            Some(counts) => counts[step],
        }
    }

    /// The sample indices that `step` sees.
    #[inline(always)]
    pub fn range(&self, step: usize) -> std::ops::Range<usize> {
        self.starts[step] as usize..self.ends[step] as usize
    }
}

/// Steps that are tried at once in [`counts_until`].
const BLOCK: usize = 16;

/// For each step how many of the ascending `timestamps_ms` are not after `bound_ms(step)`, which never decreases.
#[inline(always)]
fn counts_until(timestamps_ms: &[i64], grid: &RangeGrid, bound_ms: impl Fn(usize) -> i64) -> Vec<u32> {
    let mut counts = vec![0; grid.steps];
    // Entering a long timeline late is the common case for dashboards over recent data.
    let mut count = timestamps_ms.partition_point(|&t| t <= bound_ms(0));
    for (nth, block) in counts.chunks_mut(BLOCK).enumerate() {
        let mut until = |step: usize| {
            let bound_ms = bound_ms(step);
            while count < timestamps_ms.len() && timestamps_ms[count] <= bound_ms {
                count += 1;
            }
            count
        };
        let step = nth * BLOCK;
        let first = until(step);
        // Scrapes are regular: mostly each step lies as many samples behind the one before as the second behind the first.
        if block.len() == BLOCK {
            let (stride, bound_ms, last_ms) = (until(step + 1) - first, bound_ms(step), bound_ms(step + BLOCK - 1));
            let is_linear = last_ms == bound_ms.wrapping_add(grid.step_ms.wrapping_mul(BLOCK as i64 - 1));
            if is_linear && are_regular(timestamps_ms, first, stride, (bound_ms, grid.step_ms)) {
                for (nth, out) in block.iter_mut().enumerate() {
                    *out = (first + nth * stride) as u32;
                }
                count = first + (BLOCK - 1) * stride;
                continue;
            }
        }
        block[0] = first as u32;
        for (nth, out) in block.iter_mut().enumerate().skip(1) {
            *out = until(step + nth) as u32;
        }
    }
    counts
}

/// Whether of [`BLOCK`] bounds, given by the first and the distance, the first lies behind `first` samples and each other behind
/// `stride` more.
#[inline(always)]
fn are_regular(timestamps_ms: &[i64], first: usize, stride: usize, bounds_ms: (i64, i64)) -> bool {
    let until = first + (BLOCK - 1) * stride;
    if first == 0 || until >= timestamps_ms.len() {
        return false;
    }
    let (before, after) = (&timestamps_ms[first - 1..until], &timestamps_ms[first..=until]);
    let lies_between = |(nth, (before, after)): (usize, (&i64, &i64))| {
        let bound_ms = bounds_ms.0 + nth as i64 * bounds_ms.1;
        (*before <= bound_ms) & (bound_ms < *after)
    };
    match stride {
        0 => lies_between((BLOCK - 1, (&before[0], &after[0]))),
        1 => before.iter().zip(after).take(BLOCK).enumerate().fold(true, |all, sample| all & lies_between(sample)),
        _ => {
            let pairs = before.iter().step_by(stride).zip(after.iter().step_by(stride));
            pairs.enumerate().all(lies_between)
        }
    }
}

/// Whether any value is a staleness marker.
pub fn has_stale(values: &[f64]) -> bool {
    vectorized(
        #[inline(always)]
        || {
            // A branch per chunk, not per value, so that the scan runs at memory speed.
            values.chunks(64).any(
                #[inline(always)]
                |chunk| chunk.iter().fold(false, |any, &v| any | is_stale(v)),
            )
        },
    )
}

/// Samples of one series that are all floats, staleness markers removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatSamples {
    pub timestamps_ms: Vec<i64>,
    pub values: Vec<f64>,
    pub starts_ms: Option<Vec<i64>>,
}

/// The samples without staleness markers, or `None` where there are none and the originals serve.
///
/// A series that gets its own timeline here needs its own [`Windows`].
pub fn without_stale(timestamps_ms: &[i64], values: &[f64]) -> Option<(Vec<i64>, Vec<f64>)> {
    without_stale_samples(timestamps_ms, values, None).map(|samples| (samples.timestamps_ms, samples.values))
}

/// Like [`without_stale`], with start timestamps.
pub fn without_stale_samples(timestamps_ms: &[i64], values: &[f64], starts_ms: Option<&[i64]>) -> Option<FloatSamples> {
    if !has_stale(values) {
        return None;
    }
    let live = |index: &usize| !is_stale(values[*index]);
    let kept: Vec<usize> = (0..values.len()).filter(live).collect();
    Some(FloatSamples {
        timestamps_ms: kept.iter().map(|&i| timestamps_ms[i]).collect(),
        values: kept.iter().map(|&i| values[i]).collect(),
        starts_ms: starts_ms.map(|starts| kept.iter().map(|&i| starts[i]).collect()),
    })
}

/// The floats and the histograms of one series, each on its own timeline, staleness markers removed.
#[derive(Debug, Clone, Default)]
pub struct SplitSamples {
    pub float_timestamps_ms: Vec<i64>,
    pub floats: Vec<f64>,
    pub float_starts_ms: Option<Vec<i64>>,
    pub histogram_timestamps_ms: Vec<i64>,
    pub histograms: Vec<Arc<Histogram>>,
    pub histogram_starts_ms: Option<Vec<i64>>,
}

/// Splits a series that has histograms; the slices are parallel.
pub fn split(
    timestamps_ms: &[i64],
    values: &[f64],
    histograms: &[Option<Arc<Histogram>>],
    starts_ms: Option<&[i64]>,
) -> SplitSamples {
    let mut split = SplitSamples {
        float_starts_ms: starts_ms.map(|_| Vec::new()),
        histogram_starts_ms: starts_ms.map(|_| Vec::new()),
        ..SplitSamples::default()
    };
    for (index, &timestamp_ms) in timestamps_ms.iter().enumerate() {
        let start_ms = starts_ms.map_or(0, |starts| starts[index]);
        match &histograms[index] {
            Some(histogram) if !is_stale(histogram.sum) => {
                split.histogram_timestamps_ms.push(timestamp_ms);
                split.histograms.push(histogram.clone());
                split.histogram_starts_ms.iter_mut().for_each(|starts| starts.push(start_ms));
            }
            None if !is_stale(values[index]) => {
                split.float_timestamps_ms.push(timestamp_ms);
                split.floats.push(values[index]);
                split.float_starts_ms.iter_mut().for_each(|starts| starts.push(start_ms));
            }
            Some(_) | None => {}
        }
    }
    split
}

/// The samples of one series in order, staleness markers removed.
#[derive(Debug, Clone, Default)]
pub(super) struct LiveSamples {
    pub timestamps_ms: Vec<i64>,
    pub values: Vec<f64>,
    pub histograms: Vec<Option<Arc<Histogram>>>,
    pub starts_ms: Option<Vec<i64>>,
}

/// Like [`split`], leaving floats and histograms in one order.
pub(super) fn live_samples(
    timestamps_ms: &[i64],
    values: &[f64],
    histograms: &[Option<Arc<Histogram>>],
    starts_ms: Option<&[i64]>,
) -> LiveSamples {
    let is_live = |index: &usize| match &histograms[*index] {
        Some(histogram) => !histogram.is_stale(),
        None => !is_stale(values[*index]),
    };
    let kept: Vec<usize> = (0..timestamps_ms.len()).filter(is_live).collect();
    LiveSamples {
        timestamps_ms: kept.iter().map(|&i| timestamps_ms[i]).collect(),
        values: kept.iter().map(|&i| values[i]).collect(),
        histograms: kept.iter().map(|&i| histograms[i].clone()).collect(),
        starts_ms: starts_ms.map(|starts| kept.iter().map(|&i| starts[i]).collect()),
    }
}

/// The valid cells of a row as samples at the steps' times: what a subquery hands to a range function.
pub fn samples_of_cells(timestamps_ms: &[i64], values: &[f64], valid: &[bool]) -> (Vec<i64>, Vec<f64>) {
    let live = || valid.iter().enumerate().filter(|&(_, &valid)| valid).map(|(index, _)| index);
    (live().map(|i| timestamps_ms[i]).collect(), live().map(|i| values[i]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(timestamps_ms: &[i64], grid: RangeGrid, before_ms: i64, after_ms: i64) {
        let windows = Windows::extended(timestamps_ms, &grid, before_ms, after_ms);
        assert_eq!(windows.len(), grid.steps);
        for step in 0..grid.steps {
            let inside = |t: i64| grid.start_ms(step) - before_ms < t && t <= grid.end_ms(step) + after_ms;
            let expected: Vec<i64> = timestamps_ms.iter().copied().filter(|&t| inside(t)).collect();
            assert_eq!(&timestamps_ms[windows.range(step)], expected, "step {step}");
        }
    }

    #[test]
    fn a_window_is_left_open() {
        let grid = RangeGrid { first_end_ms: 60, step_ms: 60, steps: 3, width_ms: 60 };
        check(&[0, 60, 120, 180, 240], grid, 0, 0);
        let windows = Windows::new(&[0, 60, 120, 180, 240], &grid);
        assert_eq!((windows.starts, windows.ends), (vec![1, 2, 3], vec![2, 3, 4]));
    }

    proptest! {
        #[test]
        fn windows_hold_what_is_inside(
            mut timestamps in prop::collection::vec(-500_i64..500, 0..60),
            first_end_ms in -600_i64..600, step_ms in 0_i64..90, steps in 0_usize..20, width_ms in 0_i64..200,
            before_ms in 0_i64..50, after_ms in 0_i64..50,
        ) {
            timestamps.sort_unstable();
            timestamps.dedup();
            check(&timestamps, RangeGrid { first_end_ms, step_ms, steps, width_ms }, before_ms, after_ms);
        }

        #[test]
        fn windows_over_scrapes_hold_what_is_inside(
            late_ms in prop::collection::vec(prop_oneof![40 => 0_i64..3, 1 => 15_i64..150], 0..300), steps in 0_usize..120,
            first_end_ms in -600_i64..1800, step_ms in prop::sample::select(vec![0_i64, 5, 15, 30, 45, 40]), width_ms in 0_i64..200,
        ) {
            let mut due_ms = 0;
            let timestamps: Vec<i64> = late_ms.iter().map(|late| { due_ms += 15 * (late / 15 + 1); due_ms + late % 15 }).collect();
            check(&timestamps, RangeGrid { first_end_ms, step_ms, steps, width_ms }, 0, 0);
        }
    }

    #[test]
    fn a_window_that_ends_before_it_begins_is_empty() {
        let grid = RangeGrid { first_end_ms: 60, step_ms: 60, steps: 20, width_ms: -200 };
        let windows = Windows::new(&(0..100).map(|at| at * 15).collect::<Vec<i64>>(), &grid);
        assert!((0..20).all(|step| windows.range(step).is_empty()));
    }

    #[test]
    fn stale_markers_go_and_other_nans_stay() {
        assert_eq!(without_stale(&[1, 2], &[1.0, f64::NAN]), None);
        let (timestamps, values) = without_stale(&[1, 2, 3], &[1.0, pilaster_model::stale_nan(), f64::NAN]).unwrap();
        assert_eq!(timestamps, [1, 3]);
        assert!(values[0] == 1.0 && values[1].is_nan());
        let samples = without_stale_samples(&[1, 2], &[pilaster_model::stale_nan(), 5.0], Some(&[0, 7])).unwrap();
        assert_eq!(samples, FloatSamples { timestamps_ms: vec![2], values: vec![5.0], starts_ms: Some(vec![7]) });
    }

    #[test]
    fn floats_and_histograms_part() {
        let histogram = Arc::new(Histogram { count: 3.0, ..Histogram::default() });
        let parts =
            split(&[1, 2, 3], &[9.0, 0.0, pilaster_model::stale_nan()], &[None, Some(histogram.clone()), None], None);
        assert_eq!((parts.float_timestamps_ms, parts.floats), (vec![1], vec![9.0]));
        assert_eq!((parts.histogram_timestamps_ms, parts.histograms), (vec![2], vec![histogram]));
        assert_eq!(
            samples_of_cells(&[10, 20, 30], &[1.0, 2.0, 3.0], &[true, false, true]),
            (vec![10, 30], vec![1.0, 3.0])
        );
    }
}
