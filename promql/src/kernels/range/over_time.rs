//! `…_over_time` functions that fold a window in sample order, and those that only pick or count.

use super::{RangeFunction, RangeInput, per_window};
use crate::kernels::kahan::Kahan;
use crate::kernels::starts_anew;

/// Windows folded side by side. A compensated sum is one long chain of dependent additions; interleaving the chains of
/// neighbouring windows keeps the order inside each, so the bits stay those of a plain loop, at several times its speed.
const LANES: usize = 8;

/// Folds every window in sample order, several windows at once; `finish` gets the state and the number of samples.
///
/// Windows without samples are invalid.
#[inline(always)]
pub(super) fn fold_windows<S: Copy>(
    input: &RangeInput,
    initial: impl Fn(usize) -> S,
    step: impl Fn(&mut S, usize, usize),
    finish: impl Fn(S, usize) -> f64,
    out: &mut [f64],
    valid: &mut [bool],
) {
    let windows = input.windows;
    let mut first = 0;
    while first < windows.len() {
        let lanes = LANES.min(windows.len() - first);
        let ranges: [std::ops::Range<usize>; LANES] =
            std::array::from_fn(|lane| windows.range(first + lane.min(lanes - 1)));
        let mut states: [S; LANES] = std::array::from_fn(|lane| initial(ranges[lane].start));
        let shortest = ranges.iter().map(|range| range.len()).min().unwrap_or(0);
        for nth in 0..shortest {
            for lane in 0..LANES {
                step(&mut states[lane], ranges[lane].start + nth, nth);
            }
        }
        for lane in 0..lanes {
            let range = &ranges[lane];
            for nth in shortest..range.len() {
                step(&mut states[lane], range.start + nth, nth);
            }
            valid[first + lane] = !range.is_empty();
            let count = windows.count(first + lane) as usize;
            out[first + lane] = if range.is_empty() { 0.0 } else { finish(states[lane], count) };
        }
        first += lanes;
    }
}

/// Compensated sum of each window.
///
/// Source: `funcSumOverTime`, Prometheus 3.14 `promql/functions.go`.
pub(super) fn sum(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let values = input.values;
    let finish = |state: Kahan, _| if state.sum.is_infinite() { state.sum } else { state.total() };
    fold_windows(input, |_| Kahan::default(), |state, index, _| state.add(values[index]), finish, out, valid);
}

/// Mean of each window: compensated sum over count, or an incremental mean from where the sum would overflow.
///
/// Source: `funcAvgOverTime`, Prometheus 3.14 `promql/functions.go`.
pub(super) fn avg(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let values = input.values;
    // Overflow shows in the sum; such windows are rare and done again.
    fold_windows(
        input,
        |start| Kahan { sum: values.get(start).copied().unwrap_or(0.0), compensation: 0.0 },
        |state, index, nth| {
            if nth > 0 {
                state.add(values[index]);
            }
        },
        |state, count| match state.sum.is_finite() {
            true => state.sum / count as f64 + state.compensation / count as f64,
            false => f64::INFINITY,
        },
        out,
        valid,
    );
    for step in 0..input.windows.len() {
        if valid[step] && !out[step].is_finite() {
            out[step] = overflow_safe_mean(&values[input.windows.range(step)]);
        }
    }
}

/// The mean of `values`, of which there is at least one.
pub(super) fn overflow_safe_mean(values: &[f64]) -> f64 {
    let mut sum = Kahan { sum: values[0], compensation: 0.0 };
    let mut count = 1.0;
    for (index, &value) in values.iter().enumerate().skip(1) {
        let mut longer = sum;
        longer.add(value);
        if longer.sum.is_infinite() {
            return incremental_mean(sum, count, &values[index..]);
        }
        (sum, count) = (longer, count + 1.0);
    }
    sum.sum / count + sum.compensation / count
}

/// Goes on from a `sum` over `count` values with further `values`, as a running mean.
fn incremental_mean(sum: Kahan, mut count: f64, values: &[f64]) -> f64 {
    let mut mean = Kahan { sum: sum.sum / count, compensation: sum.compensation / count };
    for &value in values {
        count += 1.0;
        let kept = (count - 1.0) / count;
        mean = Kahan { sum: kept * mean.sum, compensation: kept * mean.compensation };
        mean.add(value / count);
    }
    mean.total()
}

/// Population variance of each window after Welford, compensated; `of_variance` makes the result of it.
///
/// Source: `varianceOverTime`, Prometheus 3.14 `promql/functions.go`.
pub(super) fn variance(input: &RangeInput, of_variance: impl Fn(f64) -> f64, out: &mut [f64], valid: &mut [bool]) {
    let values = input.values;
    fold_windows(
        input,
        |_| (Kahan::default(), Kahan::default()),
        |(mean, squares), index, nth| {
            let value = values[index];
            let delta = value - mean.total();
            mean.add(delta / (nth + 1) as f64);
            squares.add(delta * (value - mean.total()));
        },
        |(_, squares), count| of_variance(squares.total() / count as f64),
        out,
        valid,
    );
}

/// Functions that look at no more than one sample of the window.
pub(super) fn pick(function: RangeFunction, input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let RangeInput { timestamps_ms, values, .. } = *input;
    let seconds = |index: usize| timestamps_ms[index] as f64 / 1000.0;
    match function {
        RangeFunction::Count => per_window(input, 1, out, valid, |_, range| range.len() as f64),
        RangeFunction::Last => per_window(input, 1, out, valid, |_, range| values[range.end - 1]),
        RangeFunction::First => per_window(input, 1, out, valid, |_, range| values[range.start]),
        RangeFunction::TsOfLast => per_window(input, 1, out, valid, |_, range| seconds(range.end - 1)),
        RangeFunction::TsOfFirst => per_window(input, 1, out, valid, |_, range| seconds(range.start)),
        RangeFunction::Present => per_window(input, 1, out, valid, |_, _| 1.0),
        other => unreachable!("{other:?} needs more than one sample"),
    }
}

/// `changes` and `resets`: how often a sample differs from, or is below, the one before it in the window.
pub(super) fn transitions(function: RangeFunction, input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let counts = transition_counts(function, input);
    per_window(input, 1, out, valid, |_, range| f64::from(counts[range.end - 1] - counts[range.start]));
}

/// Running number of changes or resets: entry `i` counts those between samples 0 and `i`.
pub(super) fn transition_counts(function: RangeFunction, input: &RangeInput) -> Vec<u32> {
    let RangeInput { timestamps_ms, values, starts_ms, .. } = *input;
    let differs = |before: f64, after: f64| before != after && !(before.is_nan() && after.is_nan());
    let mut counts = Vec::with_capacity(values.len());
    let mut count = 0;
    for index in 0..values.len() {
        if index > 0 {
            let (before, after) = (values[index - 1], values[index]);
            let begun = |starts: &[i64]| {
                starts_anew(starts[index - 1], timestamps_ms[index - 1], starts[index], timestamps_ms[index])
            };
            count += u32::from(match function {
                RangeFunction::Changes => differs(before, after),
                _ => after < before || starts_ms.is_some_and(begun),
            });
        }
        counts.push(count);
    }
    counts
}
