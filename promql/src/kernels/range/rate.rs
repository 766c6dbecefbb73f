//! `rate`, `increase`, `delta`: growth extrapolated to the window's edges; `irate`, `idelta`: the last two samples.
//!
//! Everything that depends on timestamps alone is computed once per timeline ([`Extrapolation`]) and shared by the
//! series on it, which leaves a counter without resets two loads, a subtraction, a comparison and a product per step.

use super::{RangeFunction, RangeInput, RangeNotes};
use crate::kernels::windows::{RangeGrid, Windows};

/// Per step what extrapolation needs besides values. All durations in seconds.
#[derive(Debug, Default)]
pub(in crate::kernels) struct Extrapolation {
    /// Between first and last sample.
    sampled: Vec<f64>,
    /// From the window's start to the first sample, or half a sample spacing where that is too far.
    to_start: Vec<f64>,
    /// From the last sample to the window's end, likewise.
    to_end: Vec<f64>,
    /// `(sampled + to_start + to_end) / sampled`, and the same per second of window.
    factor: Vec<f64>,
    factor_per_second: Vec<f64>,
}

impl Extrapolation {
    fn new(timestamps_ms: &[i64], windows: &Windows, grid: &RangeGrid) -> Extrapolation {
        let mut all = Extrapolation::default();
        let width_seconds = width_seconds(grid);
        for step in 0..windows.len() {
            let range = windows.range(step);
            let (mut sampled, mut to_start, mut to_end) = (0.0, 0.0, 0.0);
            if range.len() >= 2 {
                let (first_ms, last_ms) = (timestamps_ms[range.start], timestamps_ms[range.end - 1]);
                sampled = seconds(last_ms - first_ms);
                let spacing = sampled / (range.len() - 1) as f64;
                to_start = reach(seconds(first_ms - grid.start_ms(step)), spacing);
                to_end = reach(seconds(grid.end_ms(step) - last_ms), spacing);
            }
            let factor = stretch(sampled, to_start, to_end);
            all.sampled.push(sampled);
            all.to_start.push(to_start);
            all.to_end.push(to_end);
            all.factor.push(factor);
            all.factor_per_second.push(factor / width_seconds);
        }
        all
    }
}

#[inline(always)]
pub(in crate::kernels) fn seconds(duration_ms: i64) -> f64 {
    duration_ms as f64 / 1000.0
}

/// A window's width in seconds, rounded as Go's `Duration.Seconds` does: whole seconds plus the fraction.
pub(super) fn width_seconds(grid: &RangeGrid) -> f64 {
    (grid.width_ms / 1000) as f64 + (grid.width_ms % 1000 * 1_000_000) as f64 / 1e9
}

/// How far to extrapolate over a gap at the edge: all of it where a sample was not due yet, else half a spacing.
#[inline(always)]
pub(super) fn reach(gap: f64, spacing: f64) -> f64 {
    if gap >= spacing * 1.1 { spacing / 2.0 } else { gap }
}

#[inline(always)]
pub(super) fn stretch(sampled: f64, to_start: f64, to_end: f64) -> f64 {
    if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled }
}

/// Growth over each window, extrapolated to its edges; `rate` per second. Nothing below two samples, except that with
/// start timestamps one sample suffices where the counter started inside the window.
///
/// Source: `extrapolatedRate`, Prometheus 3.14 `promql/functions.go` (float path).
pub(super) fn extrapolated(
    function: RangeFunction,
    input: &RangeInput,
    out: &mut [f64],
    valid: &mut [bool],
) -> RangeNotes {
    let is_counter = function != RangeFunction::Delta;
    let is_rate = function == RangeFunction::Rate;
    let plan =
        input.windows.extrapolation.get_or_init(|| Extrapolation::new(input.timestamps_ms, input.windows, input.grid));
    match input.starts_ms.filter(|_| is_counter) {
        Some(starts_ms) => with_start_times(input, starts_ms, is_rate, out, valid),
        None => {
            let factors = if is_rate { &plan.factor_per_second } else { &plan.factor };
            if is_counter {
                counter(input, plan, factors, is_rate, out, valid);
            } else {
                gauge(input, factors, out, valid);
            }
            RangeNotes::default()
        }
    }
}

fn gauge(input: &RangeInput, factors: &[f64], out: &mut [f64], valid: &mut [bool]) {
    super::per_window(input, 2, out, valid, |step, range| {
        (input.values[range.end - 1] - input.values[range.start]) * factors[step]
    });
}

fn counter(
    input: &RangeInput,
    plan: &Extrapolation,
    factors: &[f64],
    is_rate: bool,
    out: &mut [f64],
    valid: &mut [bool],
) {
    let values = input.values;
    let width_seconds = width_seconds(input.grid);
    // Positions whose value is below the one before: few, so each window walks only those inside it.
    let resets = positions_of_resets(values);
    let mut next_reset = 0;
    for step in 0..input.windows.len() {
        let range = input.windows.range(step);
        if range.len() < 2 {
            valid[step] = false;
            out[step] = 0.0;
            continue;
        }
        let first = values[range.start];
        let mut growth = values[range.end - 1] - first;
        while next_reset < resets.len() && resets[next_reset] as usize <= range.start {
            next_reset += 1;
        }
        for &reset in resets[next_reset..].iter().take_while(|&&reset| (reset as usize) < range.end) {
            growth += values[reset as usize - 1];
        }
        valid[step] = true;
        out[step] = growth * factors[step];
        // A counter cannot have been negative: where its line meets zero inside the window's edge, it starts there.
        // The product decides nearly all steps without the division that settles the rest exactly.
        let (sampled, to_start) = (plan.sampled[step], plan.to_start[step]);
        let bound = to_start * growth * (1.0 + 1e-12);
        if growth > 0.0 && first >= 0.0 && (first * sampled <= bound || bound < 1e-280) {
            let to_zero = sampled * (first / growth);
            if to_zero < to_start {
                let factor = stretch(sampled, to_zero, plan.to_end[step]);
                out[step] = growth * if is_rate { factor / width_seconds } else { factor };
            }
        }
    }
}

/// Indices `i > 0` with `values[i] < values[i - 1]`.
fn positions_of_resets(values: &[f64]) -> Vec<u32> {
    const CHUNK: usize = 64;
    let mut resets = Vec::new();
    let mut start = 1;
    while start < values.len() {
        let end = (start + CHUNK).min(values.len());
        let (before, after) = (&values[start - 1..end - 1], &values[start..end]);
        // Counters grow: ask once per chunk, at vector speed, before looking at single values.
        if before.iter().zip(after).fold(false, |any, (before, after)| any | (after < before)) {
            resets.extend((start..end).filter(|&i| values[i] < values[i - 1]).map(|i| i as u32));
        }
        start = end;
    }
    resets
}

fn with_start_times(
    input: &RangeInput,
    starts_ms: &[i64],
    is_rate: bool,
    out: &mut [f64],
    valid: &mut [bool],
) -> RangeNotes {
    let RangeInput { timestamps_ms, values, grid, .. } = *input;
    let mut notes = RangeNotes::default();
    for step in 0..input.windows.len() {
        let range = input.windows.range(step);
        valid[step] = false;
        out[step] = 0.0;
        if range.is_empty() {
            continue;
        }
        let (first, last) = (range.start, range.end - 1);
        let mut growth = values[last] - values[first];
        for i in first + 1..=last {
            notes.start_time_overlap |= start_time_overlaps(starts_ms[i - 1], timestamps_ms[i - 1], starts_ms[i]);
            if values[i] < values[i - 1]
                || starts_anew(starts_ms[i - 1], timestamps_ms[i - 1], starts_ms[i], timestamps_ms[i])
            {
                growth += values[i - 1];
            }
        }
        let mut sampled = seconds(timestamps_ms[last] - timestamps_ms[first]);
        let spacing = if range.len() > 1 { sampled / (range.len() - 1) as f64 } else { 0.0 };
        let mut to_start = seconds(timestamps_ms[first] - grid.start_ms(step));
        let born_ms = starts_ms[first];
        if born_ms != 0 && born_ms > grid.start_ms(step) && born_ms < timestamps_ms[first] {
            // The counter was zero when it started, inside the window: no guess is needed on the left.
            to_start = 0.0;
            sampled = seconds(timestamps_ms[last] - born_ms);
            growth += values[first];
        } else if range.len() == 1 {
            continue;
        } else {
            to_start = reach(to_start, spacing);
            if growth > 0.0 && values[first] >= 0.0 {
                let to_zero = sampled * (values[first] / growth);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        let to_end = reach(seconds(grid.end_ms(step) - timestamps_ms[last]), spacing);
        let factor = stretch(sampled, to_start, to_end);
        valid[step] = true;
        out[step] = growth * if is_rate { factor / width_seconds(grid) } else { factor };
    }
    notes
}

/// Whether start timestamps say that the counter began anew between two consecutive samples.
///
/// A start of 0 is unknown, one at or after its own sample is invalid. A start at the previous sample's time is a reset
/// for delta series only, which show by having a known start before.
///
/// Source: `isStartTimestampReset`, Prometheus 3.14 `promql/functions.go`.
pub fn starts_anew(previous_start_ms: i64, previous_ms: i64, start_ms: i64, timestamp_ms: i64) -> bool {
    if start_ms == 0 || start_ms >= timestamp_ms || start_ms < previous_ms {
        return false;
    }
    start_ms > previous_ms || (previous_start_ms < previous_ms && previous_start_ms != 0)
}

/// Whether a sample claims to have started before the previous sample, at a time that is not the previous start.
///
/// Source: `checkStartTimeOverlap`, Prometheus 3.14 `promql/functions.go`.
pub fn start_time_overlaps(previous_start_ms: i64, previous_ms: i64, start_ms: i64) -> bool {
    start_ms != 0 && start_ms < previous_ms && start_ms != previous_start_ms
}

/// Difference of the last two samples of each window; `irate` per second, taking a reset's new value as growth.
///
/// Source: `instantValue`, Prometheus 3.14 `promql/functions.go` (float path).
pub(super) fn instant(function: RangeFunction, input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let RangeInput { timestamps_ms, values, starts_ms, .. } = *input;
    let is_rate = function == RangeFunction::Irate;
    super::per_window(input, 2, out, valid, |_, range| {
        let (last, previous) = (range.end - 1, range.end - 2);
        let begun = |starts_ms: &[i64]| {
            starts_anew(starts_ms[previous], timestamps_ms[previous], starts_ms[last], timestamps_ms[last])
        };
        let reset = is_rate && (values[last] < values[previous] || starts_ms.is_some_and(begun));
        let growth = if reset { values[last] } else { values[last] - values[previous] };
        if is_rate { growth / seconds(timestamps_ms[last] - timestamps_ms[previous]) } else { growth }
    });
}
