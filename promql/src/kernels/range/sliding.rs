//! `min`, `max`, `quantile` and `mad` over time: order statistics of windows that overlap.

use std::collections::VecDeque;

use super::{RangeFunction, RangeInput, per_window};
use crate::kernels::order;
use crate::kernels::vectorized::vectorized;
use crate::kernels::windows::Windows;

/// How often windows may look at a sample each before keeping a queue of candidates costs less.
const LOOKS: usize = 32;

/// Extreme value of each window, or the time in seconds at which it stands (`ts_of_…`: the latest such time).
///
/// NaN counts only where a window has nothing else.
///
/// Source: `compareOverTime`, Prometheus 3.14 `promql/functions.go`.
pub(super) fn extreme(function: RangeFunction, input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let RangeInput { timestamps_ms, values, windows, .. } = *input;
    let seconds = |index: usize| timestamps_ms[index] as f64 / 1000.0;
    match function {
        RangeFunction::Max if overlap_little(windows) => each_window(input, |new, old| new > old, out, valid),
        RangeFunction::Min if overlap_little(windows) => each_window(input, |new, old| new < old, out, valid),
        RangeFunction::Max => positions(input, |new, old| new > old, out, valid, |index| values[index]),
        RangeFunction::Min => positions(input, |new, old| new < old, out, valid, |index| values[index]),
        RangeFunction::TsOfMax => positions(input, |new, old| new >= old, out, valid, seconds),
        _ => positions(input, |new, old| new <= old, out, valid, seconds),
    }
}

fn overlap_little(windows: &Windows) -> bool {
    let looks: usize = windows.starts.iter().zip(&windows.ends).map(|(start, end)| (end - start) as usize).sum();
    let seen = windows.ends.last().zip(windows.starts.first()).map_or(0, |(end, start)| end.saturating_sub(*start));
    looks <= LOOKS * seen as usize
}

/// Looks through each window on its own.
fn each_window(input: &RangeInput, beats: impl Fn(f64, f64) -> bool, out: &mut [f64], valid: &mut [bool]) {
    vectorized(
        #[inline(always)]
        || per_window(input, 1, out, valid, |_, range| best_of(&input.values[range], &beats)),
    );
}

/// The value that no other `beats`; of zeros, which are equal, the first. `values` are not empty.
#[inline(always)]
fn best_of(values: &[f64], beats: &impl Fn(f64, f64) -> bool) -> f64 {
    const LANES: usize = 8;
    let better = |kept: f64, value: f64| if beats(value, kept) { value } else { kept };
    let (rows, rest) = values.as_chunks::<LANES>();
    let mut best = [values[0]; LANES];
    for row in rows {
        for (kept, value) in best.iter_mut().zip(row) {
            *kept = better(*kept, *value);
        }
    }
    let best = best.iter().chain(rest).copied().fold(values[0], better);
    // Nothing beats NaN; and lanes do not tell which of two zeros comes first.
    if best.is_nan() || best == 0.0 { first_best_of(values, beats) } else { best }
}

/// [`best_of`] in order.
#[inline(never)]
fn first_best_of(values: &[f64], beats: &impl Fn(f64, f64) -> bool) -> f64 {
    values.iter().fold(f64::NAN, |kept, &value| if beats(value, kept) || kept.is_nan() { value } else { kept })
}

/// Finds each window's extreme position with a queue of candidates: a sample leaves it when a later one `beats` it.
#[inline(always)]
fn positions(
    input: &RangeInput,
    beats: impl Fn(f64, f64) -> bool,
    out: &mut [f64],
    valid: &mut [bool],
    result: impl Fn(usize) -> f64,
) {
    let values = input.values;
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut seen = 0;
    per_window(input, 1, out, valid, |_, range| {
        // Samples in a gap between two windows never become candidates.
        for index in seen.max(range.start)..range.end {
            if values[index].is_nan() {
                continue;
            }
            while candidates.back().is_some_and(|&back| beats(values[index], values[back])) {
                candidates.pop_back();
            }
            candidates.push_back(index);
        }
        seen = range.end;
        while candidates.front().is_some_and(|&front| front < range.start) {
            candidates.pop_front();
        }
        result(candidates.front().copied().unwrap_or(range.end - 1))
    });
}

/// φ-quantile (`params[0]`) of each window, with linear interpolation between order statistics; NaN sorts lowest.
///
/// φ below 0 gives -Inf, above 1 +Inf, NaN gives NaN.
pub(super) fn quantile_over_time(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let mut sorted = SortedWindow::default();
    per_window(input, 1, out, valid, |step, range| {
        sorted.advance(input.values, range);
        order::quantile_of_sorted(input.params[0].at(step), &sorted.values)
    });
}

/// The values of a moving window, ascending, NaN first.
#[derive(Default)]
struct SortedWindow {
    range: std::ops::Range<usize>,
    values: Vec<f64>,
}

impl SortedWindow {
    /// Moves on to `range`, whose bounds are at or after the current ones.
    fn advance(&mut self, all: &[f64], range: std::ops::Range<usize>) {
        let leaving = range.start.saturating_sub(self.range.start);
        let entering = range.end.saturating_sub(self.range.end);
        // Keeping order costs a search and a move per change; past some share of changes, sorting afresh is cheaper.
        if (leaving + entering) * 4 > range.len() || range.start >= self.range.end {
            self.values.clear();
            self.values.extend_from_slice(&all[range.clone()]);
            self.values.sort_unstable_by(order::nan_lowest);
        } else {
            for &value in &all[self.range.start..range.start] {
                let position = self.values.partition_point(|held| order::nan_lowest(held, &value).is_lt());
                self.values.remove(position);
            }
            for &value in &all[self.range.end..range.end] {
                let position = self.values.partition_point(|held| order::nan_lowest(held, &value).is_le());
                self.values.insert(position, value);
            }
        }
        self.range = range;
    }
}

/// Median absolute deviation from the median of each window; NaN where the window has one.
pub(super) fn mad_over_time(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let mut values = Vec::new();
    per_window(input, 1, out, valid, |_, range| {
        values.clear();
        values.extend_from_slice(&input.values[range]);
        if values.iter().any(|value| value.is_nan()) {
            return f64::NAN;
        }
        let median = order::quantile(0.5, &mut values);
        values.iter_mut().for_each(|value| *value = (*value - median).abs());
        order::quantile(0.5, &mut values)
    });
}
