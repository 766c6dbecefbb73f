//! `rate`, `increase`, `delta`: growth extrapolated to the window's edges; `irate`, `idelta`: the last two samples.
//!
//! Everything that depends on timestamps alone is computed once per timeline ([`Extrapolation`]) and shared by the
//! series on it, which leaves a counter without resets two loads, a subtraction, a comparison and a product per step.

use std::ops::Range;

use pilaster_model::RangeGrid;

use super::{RangeFunction, RangeInput, RangeNotes};
use crate::kernels::vectorized::vectorized;
use crate::kernels::windows::Windows;

/// Per step what extrapolation needs besides values, column by column. A window with fewer than two samples is not
/// `valid`, and has zeros elsewhere.
#[derive(Debug, Default)]
pub(in crate::kernels) struct Extrapolation {
    valid: Vec<bool>,
    /// Indices of the windows' first and last samples.
    first: Vec<u32>,
    last: Vec<u32>,
    /// Seconds between first and last sample.
    sampled: Vec<f64>,
    /// Seconds from the window's start to the first sample, or half a sample spacing where that is too far.
    to_start: Vec<f64>,
    /// Seconds from the last sample to the window's end, likewise.
    to_end: Vec<f64>,
    /// `(sampled + to_start + to_end) / sampled`.
    factor: Vec<f64>,
    /// The same per second of window.
    factor_per_second: Vec<f64>,
}

/// One step of an [`Extrapolation`]. All durations in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    sampled: f64,
    to_start: f64,
    to_end: f64,
    factor: f64,
    factor_per_second: f64,
}

impl Extrapolation {
    fn new(timestamps_ms: &[i64], windows: &Windows, grid: &RangeGrid) -> Extrapolation {
        let width_seconds = width_seconds(grid);
        let count = windows.len();
        let zeros = || vec![0.0; count];
        let (mut valid, mut first, mut last) = (vec![false; count], vec![0; count], vec![0; count]);
        let (mut sampled, mut to_start, mut to_end) = (zeros(), zeros(), zeros());
        let (mut factor, mut factor_per_second) = (zeros(), zeros());
        // Scrapes are regular, so that most windows lie over their samples as the one before did: divisions are kept.
        let mut known = (None, Step::default());
        for (nth, (&start, &end)) in windows.starts.iter().zip(&windows.ends).enumerate() {
            if end.saturating_sub(start) < 2 {
                continue;
            }
            let (first_ms, last_ms) = (timestamps_ms[start as usize], timestamps_ms[end as usize - 1]);
            let lie =
                (windows.count(nth), last_ms - first_ms, first_ms - grid.start_ms(nth), grid.end_ms(nth) - last_ms);
            if known.0 != Some(lie) {
                known = (Some(lie), Step::new(lie, width_seconds));
            }
            let step = known.1;
            (valid[nth], first[nth], last[nth]) = (true, start, end - 1);
            (sampled[nth], to_start[nth], to_end[nth]) = (step.sampled, step.to_start, step.to_end);
            (factor[nth], factor_per_second[nth]) = (step.factor, step.factor_per_second);
        }
        Extrapolation { valid, first, last, sampled, to_start, to_end, factor, factor_per_second }
    }
}

impl Step {
    /// Of a window's number of samples, and milliseconds between them, before the first and behind the last.
    fn new((samples, sampled_ms, to_start_ms, to_end_ms): (u32, i64, i64, i64), width_seconds: f64) -> Step {
        let sampled = seconds(sampled_ms);
        let spacing = sampled / f64::from(samples - 1);
        let to_start = reach(seconds(to_start_ms), spacing);
        let to_end = reach(seconds(to_end_ms), spacing);
        let factor = stretch(sampled, to_start, to_end);
        Step { sampled, to_start, to_end, factor, factor_per_second: factor / width_seconds }
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
            match function {
                RangeFunction::Rate => counter(input, plan, &plan.factor_per_second, true, out, valid),
                RangeFunction::Increase => counter(input, plan, &plan.factor, false, out, valid),
                _ => {
                    let delta = |_: f64, growth: f64, factor: f64, _, _| (growth * factor, false);
                    grow(input.values, plan, &plan.factor, delta, out, valid);
                }
            }
            RangeNotes::default()
        }
    }
}

/// Cells that [`grow`] works on at once: few enough to stay in the nearest cache between its passes.
const LANES: usize = 64;

/// For every step what `of` makes of the window's first value, its growth, and the plan's factor, `sampled` and
/// `to_start`. Returns the steps, some at a time, among which `of` said so of any.
#[inline(always)]
fn grow(
    values: &[f64],
    plan: &Extrapolation,
    factors: &[f64],
    of: impl Fn(f64, f64, f64, f64, f64) -> (f64, bool),
    out: &mut [f64],
    valid: &mut [bool],
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    valid.copy_from_slice(&plan.valid);
    if values.is_empty() {
        out.fill(0.0);
        return found;
    }
    let (mut firsts, mut lasts) = ([0.0; LANES], [0.0; LANES]);
    for (nth, out) in out.chunks_mut(LANES).enumerate() {
        let steps = nth * LANES..nth * LANES + out.len();
        let mut any = false;
        let indices = plan.first[steps.clone()].iter().zip(&plan.last[steps.clone()]);
        for ((first, last), (&from, &to)) in firsts.iter_mut().zip(&mut lasts).zip(indices) {
            (*first, *last) = (values[from as usize], values[to as usize]);
        }
        let planned =
            factors[steps.clone()].iter().zip(&plan.sampled[steps.clone()]).zip(&plan.to_start[steps.clone()]);
        for ((out, (&first, &last)), ((&factor, &sampled), &to_start)) in
            out.iter_mut().zip(firsts.iter().zip(&lasts)).zip(planned)
        {
            let (result, said) = of(first, last - first, factor, sampled, to_start);
            *out = result;
            any |= said;
        }
        if any {
            found.push(steps);
        }
    }
    if valid.contains(&false) {
        for (out, _) in out.iter_mut().zip(valid.iter()).filter(|(_, valid)| !**valid) {
            *out = 0.0;
        }
    }
    found
}

/// Whether a counter's line may meet zero between the window's start and its first sample. The products decide nearly all
/// steps; only where they do not rule it out is a division needed to settle it.
#[inline(always)]
fn may_start_inside(first: f64, growth: f64, sampled: f64, to_start: f64) -> bool {
    let bound = to_start * growth * (1.0 + 1e-12);
    (growth > 0.0) & (first >= 0.0) & ((first * sampled <= bound) | (bound < 1e-280))
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
    let may_start = vectorized(
        #[inline(always)]
        || {
            let of = |first: f64, growth: f64, factor: f64, sampled: f64, to_start: f64| {
                (growth * factor, may_start_inside(first, growth, sampled, to_start))
            };
            grow(values, plan, factors, of, out, valid)
        },
    );
    // A counter cannot have been negative: where its line meets zero inside the window's edge, it starts there.
    let extrapolate = |step: usize, first: f64, growth: f64| {
        let (sampled, to_start) = (plan.sampled[step], plan.to_start[step]);
        if may_start_inside(first, growth, sampled, to_start) {
            let to_zero = sampled * (first / growth);
            if to_zero < to_start {
                let factor = stretch(sampled, to_zero, plan.to_end[step]);
                return growth * if is_rate { factor / width_seconds(input.grid) } else { factor };
            }
        }
        growth * factors[step]
    };
    for step in may_start.into_iter().flatten().filter(|step| plan.valid[*step]) {
        let first = values[plan.first[step] as usize];
        out[step] = extrapolate(step, first, values[plan.last[step] as usize] - first);
    }
    // Resets are few: the windows that hold one are done again.
    let resets = positions_of_resets(values);
    let mut next_step = 0;
    for (nth, &reset) in resets.iter().enumerate() {
        let reset = reset as usize;
        let from = input.windows.ends.partition_point(|&end| end as usize <= reset).max(next_step);
        for (step, out) in out.iter_mut().enumerate().skip(from) {
            let range = input.windows.range(step);
            if range.start >= reset {
                break;
            }
            next_step = step + 1;
            // This is the first reset inside, since the steps of earlier ones are done.
            let first = values[range.start];
            let inside = resets[nth..].iter().take_while(|&&reset| (reset as usize) < range.end);
            let growth =
                inside.fold(values[range.end - 1] - first, |growth, &reset| growth + values[reset as usize - 1]);
            *out = extrapolate(step, first, growth);
        }
    }
}

/// Indices `i > 0` with `values[i] < values[i - 1]`.
fn positions_of_resets(values: &[f64]) -> Vec<u32> {
    const CHUNK: usize = 64;
    let mut resets = Vec::new();
    vectorized(
        #[inline(always)]
        || {
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
        },
    );
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
