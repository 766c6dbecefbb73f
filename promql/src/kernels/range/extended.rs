//! Range functions over `anchored` and `smoothed` selectors, which look past the window's edges instead of extrapolating.

use super::{Extension, RangeFunction, RangeInput};

/// The value at `at_ms` on the line between two samples; a counter that fell is taken to have restarted from zero.
///
/// Source: `interpolate`, Prometheus 3.14 `promql/functions.go`.
pub(in crate::kernels) fn interpolate(from: (i64, f64), to: (i64, f64), at_ms: i64, is_counter: bool) -> f64 {
    let start = if is_counter && to.1 < from.1 { 0.0 } else { from.1 };
    start + (to.1 - start) * (at_ms - from.0) as f64 / (to.0 - from.0) as f64
}

/// Growth between the values at the window's two edges, resets added; `rate` per second of window.
///
/// Anchored: the value at an edge is that of the newest sample at or before it (at the start: else the first inside).
/// Smoothed: values at the edges are interpolated with the samples around them.
///
/// Source: `extendedRate`, Prometheus 3.14 `promql/functions.go`.
pub(super) fn rate(function: RangeFunction, input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    for step in 0..input.windows.len() {
        let growth = growth(function, input, step);
        valid[step] = growth.is_some();
        out[step] = match growth {
            Some(growth) if function == RangeFunction::Rate => growth / super::rate::width_seconds(input.grid),
            Some(growth) => growth,
            None => 0.0,
        };
    }
}

fn growth(function: RangeFunction, input: &RangeInput, step: usize) -> Option<f64> {
    let is_counter = function != RangeFunction::Delta;
    let smoothed = input.extension == Extension::Smoothed;
    let (start_ms, end_ms) = (input.grid.start_ms(step), input.grid.end_ms(step));
    let range = input.windows.range(step);
    let (timestamps_ms, values) = (&input.timestamps_ms[range.clone()], &input.values[range]);
    let mut last = timestamps_ms.len().checked_sub(1)?;
    let mut first = timestamps_ms[..last].partition_point(|&t| t <= start_ms).saturating_sub(1);
    if smoothed {
        last = timestamps_ms[..last].partition_point(|&t| t < end_ms);
    }
    if timestamps_ms[last] <= start_ms || (smoothed && timestamps_ms[first] > end_ms) {
        return None;
    }
    let sample = |index: usize| (timestamps_ms[index], values[index]);
    let left = if smoothed && timestamps_ms[first] < start_ms {
        interpolate(sample(first), sample(first + 1), start_ms, is_counter)
    } else {
        values[first]
    };
    let right = if smoothed && last > 0 && timestamps_ms[last] > end_ms {
        interpolate(sample(last - 1), sample(last), end_ms, is_counter)
    } else {
        values[last]
    };
    let mut growth = right - left;
    if is_counter {
        // Samples on or beyond an edge are represented by `left` and `right` already.
        first += usize::from(timestamps_ms[first] <= start_ms);
        let inside_end = if timestamps_ms[last] >= end_ms { last } else { last + 1 };
        growth += lost_in_resets(left, right, values.get(first..inside_end).unwrap_or_default());
    }
    Some(growth)
}

/// What a counter that went from `left` over `inside` to `right` lost in resets.
fn lost_in_resets(left: f64, right: f64, inside: &[f64]) -> f64 {
    let mut lost = 0.0;
    let mut previous = left;
    for &value in inside.iter().chain([&right]) {
        if value < previous {
            lost += previous;
        }
        previous = value;
    }
    lost
}

/// `changes` and `resets` of anchored selectors: the newest sample at or before the window's start counts as its first.
/// Nothing without a sample inside the window.
///
/// Source: `pickFirstSampleIndices`, Prometheus 3.14 `promql/functions.go`.
pub(super) fn transitions(function: RangeFunction, input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let counts = super::over_time::transition_counts(function, input);
    for step in 0..input.windows.len() {
        let range = input.windows.range(step);
        let start_ms = input.grid.start_ms(step);
        let inside = range.start + input.timestamps_ms[range.clone()].partition_point(|&t| t <= start_ms);
        let first = if inside > range.start { inside - 1 } else { inside };
        valid[step] = inside < range.end;
        out[step] = if valid[step] { f64::from(counts[range.end - 1] - counts[first]) } else { 0.0 };
    }
}
