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
    /// Seconds between first and last sample.
    sampled: Vec<f64>,
    /// Seconds from the window's start to the first sample, or half a sample spacing where that is too far.
    to_start: Vec<f64>,
    /// `(sampled + to_start + to_end) / sampled`, for rates per second of window.
    factor: Vec<f64>,
}

/// How a window lies over its samples; zeros for fewer than two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lie {
    samples: u32,
    sampled_ms: i64,
    to_start_ms: i64,
    to_end_ms: i64,
}

/// One step of an [`Extrapolation`]. All durations in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    sampled: f64,
    to_start: f64,
    to_end: f64,
}

/// Steps that are compared at once in [`Extrapolation::new`].
const BLOCK: usize = 16;

impl Extrapolation {
    fn new(timestamps_ms: &[i64], windows: &Windows, grid: &RangeGrid, is_rate: bool) -> Extrapolation {
        vectorized(
            #[inline(always)]
            || match &windows.counts {
                None => {
                    let lie =
                        |nth, start, end| Lie::new(timestamps_ms, grid, nth, (start, end), end.wrapping_sub(start));
                    Extrapolation::of_lies(windows, grid, is_rate, lie)
                }
                Some(counts) => {
                    let lie = |nth, start, end| Lie::new(timestamps_ms, grid, nth, (start, end), counts[nth]);
                    Extrapolation::of_lies(windows, grid, is_rate, lie)
                }
            },
        )
    }

    #[inline(always)]
    fn of_lies(
        windows: &Windows,
        grid: &RangeGrid,
        is_rate: bool,
        lie: impl Fn(usize, u32, u32) -> Lie,
    ) -> Extrapolation {
        let width_seconds = width_seconds(grid);
        let count = windows.len();
        let zeros = || vec![0.0; count];
        let (mut valid, mut sampled, mut to_start, mut factor) = (vec![false; count], zeros(), zeros(), zeros());
        let mut lies = [Lie::default(); BLOCK];
        let blocks = windows.starts.chunks(BLOCK).zip(windows.ends.chunks(BLOCK));
        let blocks = blocks.zip(valid.chunks_mut(BLOCK)).zip(sampled.chunks_mut(BLOCK));
        let blocks = blocks.zip(to_start.chunks_mut(BLOCK)).zip(factor.chunks_mut(BLOCK));
        for (block, (((((starts, ends), valid), sampled), to_start), factor)) in blocks.enumerate() {
            let mut are_alike = true;
            for (nth, (lie_out, (&start, &end))) in lies.iter_mut().zip(starts.iter().zip(ends)).enumerate() {
                *lie_out = lie(block * BLOCK + nth, start, end);
            }
            for lie in &lies[..starts.len()] {
                are_alike &= lie.is(&lies[0]);
            }
            // Scrapes are regular, so that most windows lie over their samples as the one before did.
            if are_alike {
                if lies[0].samples > 0 {
                    let step = Step::new(&lies[0]);
                    valid.fill(true);
                    sampled.fill(step.sampled);
                    to_start.fill(step.to_start);
                    factor.fill(step.factor(is_rate, width_seconds));
                }
                continue;
            }
            let columns = valid.iter_mut().zip(sampled).zip(to_start).zip(factor);
            for ((((valid, sampled), to_start), factor), lie) in columns.zip(&lies) {
                let (is_valid, step) = (lie.samples > 0, Step::new(lie));
                *valid = is_valid;
                *sampled = step.sampled;
                *to_start = if is_valid { step.to_start } else { 0.0 };
                *factor = if is_valid { step.factor(is_rate, width_seconds) } else { 0.0 };
            }
        }
        Extrapolation { valid, sampled, to_start, factor }
    }
}

impl Lie {
    #[inline(always)]
    fn new(timestamps_ms: &[i64], grid: &RangeGrid, nth: usize, (start, end): (u32, u32), samples: u32) -> Lie {
        if end < start + 2 {
            return Lie::default();
        }
        let (first_ms, last_ms) = (timestamps_ms[start as usize], timestamps_ms[end as usize - 1]);
        let (start_ms, end_ms) = (grid.start_ms(nth), grid.end_ms(nth));
        Lie { samples, sampled_ms: last_ms - first_ms, to_start_ms: first_ms - start_ms, to_end_ms: end_ms - last_ms }
    }

    /// Equal, without a branch.
    #[inline(always)]
    fn is(&self, other: &Lie) -> bool {
        (self.samples == other.samples)
            & (self.sampled_ms == other.sampled_ms)
            & (self.to_start_ms == other.to_start_ms)
            & (self.to_end_ms == other.to_end_ms)
    }
}

impl Step {
    #[inline(always)]
    fn new(lie: &Lie) -> Step {
        let sampled = seconds(lie.sampled_ms);
        let spacing = sampled / (f64::from(lie.samples) - 1.0);
        let to_start = reach(seconds(lie.to_start_ms), spacing);
        let to_end = reach(seconds(lie.to_end_ms), spacing);
        Step { sampled, to_start, to_end }
    }

    #[inline(always)]
    fn factor(&self, is_rate: bool, width_seconds: f64) -> f64 {
        let factor = stretch(self.sampled, self.to_start, self.to_end);
        if is_rate { factor / width_seconds } else { factor }
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
    let windows = input.windows;
    let kept = if is_rate { &windows.growth_per_second } else { &windows.growth };
    let plan = kept.get_or_init(|| Extrapolation::new(input.timestamps_ms, windows, input.grid, is_rate));
    match input.starts_ms.filter(|_| is_counter) {
        Some(starts_ms) => with_start_times(input, starts_ms, is_rate, out, valid),
        None => {
            if is_counter {
                counter(input, plan, is_rate, out, valid);
            } else {
                let delta = |_: f64, growth: f64, factor: f64, _, _| (growth * factor, false);
                grow(input, plan, delta, out, valid);
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
    input: &RangeInput,
    plan: &Extrapolation,
    of: impl Fn(f64, f64, f64, f64, f64) -> (f64, bool),
    out: &mut [f64],
    valid: &mut [bool],
) -> Vec<Range<usize>> {
    let RangeInput { values, windows, .. } = *input;
    let mut found = Vec::new();
    valid.copy_from_slice(&plan.valid);
    if values.is_empty() {
        out.fill(0.0);
        return found;
    }
    // For a window without samples any will do.
    let last_index = values.len() - 1;
    let (mut firsts, mut lasts) = ([0.0; LANES], [0.0; LANES]);
    for (nth, out) in out.chunks_mut(LANES).enumerate() {
        let steps = nth * LANES..nth * LANES + out.len();
        let mut any = false;
        let indices = windows.starts[steps.clone()].iter().zip(&windows.ends[steps.clone()]);
        for ((first, last), (&start, &end)) in firsts.iter_mut().zip(&mut lasts).zip(indices) {
            *first = values[(start as usize).min(last_index)];
            *last = values[(end as usize).wrapping_sub(1).min(last_index)];
        }
        let planned =
            plan.factor[steps.clone()].iter().zip(&plan.sampled[steps.clone()]).zip(&plan.to_start[steps.clone()]);
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

fn counter(input: &RangeInput, plan: &Extrapolation, is_rate: bool, out: &mut [f64], valid: &mut [bool]) {
    let RangeInput { timestamps_ms, values, windows, grid, .. } = *input;
    let may_start = vectorized(
        #[inline(always)]
        || {
            let of = |first: f64, growth: f64, factor: f64, sampled: f64, to_start: f64| {
                (growth * factor, may_start_inside(first, growth, sampled, to_start))
            };
            grow(input, plan, of, out, valid)
        },
    );
    // A counter cannot have been negative: where its line meets zero inside the window's edge, it starts there.
    let extrapolate = |step: usize, first: f64, growth: f64| {
        let (sampled, to_start) = (plan.sampled[step], plan.to_start[step]);
        if may_start_inside(first, growth, sampled, to_start) {
            let to_zero = sampled * (first / growth);
            if to_zero < to_start {
                let bounds = (windows.starts[step], windows.ends[step]);
                let as_planned = Step::new(&Lie::new(timestamps_ms, grid, step, bounds, windows.count(step)));
                let from_zero = Step { to_start: to_zero, ..as_planned };
                return growth * from_zero.factor(is_rate, width_seconds(grid));
            }
        }
        growth * plan.factor[step]
    };
    for step in may_start.into_iter().flatten().filter(|step| plan.valid[*step]) {
        let range = windows.range(step);
        let first = values[range.start];
        out[step] = extrapolate(step, first, values[range.end - 1] - first);
    }
    // Resets are few: the windows that hold one are done again.
    let resets = positions_of_resets(values);
    let mut next_step = 0;
    for (nth, &reset) in resets.iter().enumerate() {
        let reset = reset as usize;
        let from = windows.ends.partition_point(|&end| end as usize <= reset).max(next_step);
        for (step, out) in out.iter_mut().enumerate().skip(from) {
            let range = windows.range(step);
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
