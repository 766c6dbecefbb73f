//! Range functions over a series with native histograms, among which there may be floats.

use std::sync::Arc;

use pilaster_model::{CounterResetHint, Histogram, RangeGrid};

use super::histogram::{HistogramRangeInput, histogram_range_function, interpolate_histograms};
use super::{
    Extension, MixedWindows, Param, RangeError, RangeFunction, RangeInput, interpolate, range_function, regression,
};
use super::{seconds, start_time_overlaps, starts_anew};
use crate::kernels::windows::{LiveSamples, Windows, live_samples, split};

/// One series as it is stored, and what to evaluate over it.
#[derive(Debug, Clone, Copy)]
pub struct MixedRangeInput<'a> {
    /// Strictly ascending; the other slices are parallel. Staleness markers may be among the values.
    pub timestamps_ms: &'a [i64],
    pub values: &'a [f64],
    /// `Some` where the sample is a histogram; the value beside it means nothing.
    pub histograms: &'a [Option<Arc<Histogram>>],
    pub starts_ms: Option<&'a [i64]>,
    pub grid: &'a RangeGrid,
    /// How far `anchored` and `smoothed` look past the window.
    pub lookback_ms: i64,
    pub params: [Param<'a>; 2],
    pub extension: Extension,
    pub eval_offset_ms: i64,
}

/// What happened at any step, for annotations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MixedNotes {
    /// A window holds floats and histograms, which gives no result.
    pub mixed_floats_histograms: bool,
    /// A window holds floats and histograms, of which the latter were ignored.
    pub histograms_ignored: bool,
    /// A window holds exponential and custom buckets, which gives no result.
    pub mixed_exponential_custom: bool,
    /// A function of counters met a gauge.
    pub not_counter: bool,
    /// A function of gauges met a counter.
    pub not_gauge: bool,
    /// Histograms of an aggregation over time both do and do not follow a reset.
    pub counter_reset_collision: bool,
    /// Custom bounds differed in an addition, a subtraction, an aggregation over time.
    pub bounds_reconciled_adding: bool,
    pub bounds_reconciled_subtracting: bool,
    pub bounds_reconciled_aggregating: bool,
    /// A sample's start timestamp lies before the previous sample without being that sample's own.
    pub start_time_overlap: bool,
}

impl MixedNotes {
    pub(super) fn merge(&mut self, other: MixedNotes) {
        self.mixed_floats_histograms |= other.mixed_floats_histograms;
        self.histograms_ignored |= other.histograms_ignored;
        self.mixed_exponential_custom |= other.mixed_exponential_custom;
        self.not_counter |= other.not_counter;
        self.not_gauge |= other.not_gauge;
        self.counter_reset_collision |= other.counter_reset_collision;
        self.bounds_reconciled_adding |= other.bounds_reconciled_adding;
        self.bounds_reconciled_subtracting |= other.bounds_reconciled_subtracting;
        self.bounds_reconciled_aggregating |= other.bounds_reconciled_aggregating;
        self.start_time_overlap |= other.start_time_overlap;
    }
}

impl MixedRangeInput<'_> {
    fn windows(&self, timestamps_ms: &[i64]) -> Windows {
        let (before_ms, after_ms) = match self.extension {
            Extension::None => (0, 0),
            Extension::Anchored => (self.lookback_ms, 0),
            Extension::Smoothed => (self.lookback_ms, self.lookback_ms),
        };
        Windows::extended(timestamps_ms, self.grid, before_ms, after_ms)
    }

    fn of_floats<'a>(
        &'a self,
        timestamps_ms: &'a [i64],
        values: &'a [f64],
        starts_ms: Option<&'a [i64]>,
        windows: &'a Windows,
    ) -> RangeInput<'a> {
        let MixedRangeInput { grid, params, extension, eval_offset_ms, .. } = *self;
        RangeInput { timestamps_ms, values, starts_ms, windows, grid, params, extension, eval_offset_ms }
    }
}

/// Evaluates `function` for every step: a float where `valid`, else a histogram where there is one.
///
/// # Errors
/// A smoothing or trend factor outside (0, 1) at a step whose window has samples.
pub fn mixed_range_function(
    function: RangeFunction,
    input: &MixedRangeInput,
    out: &mut [f64],
    valid: &mut [bool],
    histograms: &mut [Option<Arc<Histogram>>],
) -> Result<MixedNotes, RangeError> {
    histograms.fill(None);
    if function.mixed_windows() == MixedWindows::Whole
        || matches!(function, RangeFunction::Irate | RangeFunction::Idelta)
    {
        return over_all_samples(function, input, out, valid, histograms);
    }
    let parts = split(input.timestamps_ms, input.values, input.histograms, input.starts_ms);
    let float_windows = input.windows(&parts.float_timestamps_ms);
    let histogram_windows = input.windows(&parts.histogram_timestamps_ms);
    let floats =
        input.of_floats(&parts.float_timestamps_ms, &parts.floats, parts.float_starts_ms.as_deref(), &float_windows);
    let mut notes = MixedNotes {
        start_time_overlap: range_function(function, &floats, out, valid)?.start_time_overlap,
        ..MixedNotes::default()
    };
    let has_floats: Vec<bool> = (0..out.len()).map(|step| !float_windows.range(step).is_empty()).collect();
    if function == RangeFunction::DoubleExponentialSmoothing {
        // Its factors are looked at before its floats.
        for step in (0..out.len()).filter(|step| !histogram_windows.range(*step).is_empty()) {
            regression::factors(&input.params, step)?;
        }
    }
    let is_mixed = |step: usize| has_floats[step] && !histogram_windows.range(step).is_empty();
    if function.mixed_windows() == MixedWindows::FloatsOnly {
        notes.histograms_ignored = (0..out.len()).any(is_mixed);
        return Ok(notes);
    }
    for step in (0..out.len()).filter(|step| is_mixed(*step)) {
        notes.mixed_floats_histograms = true;
        (out[step], valid[step]) = (0.0, false);
    }
    if let (true, true, Some(starts_ms)) =
        (notes.start_time_overlap, notes.mixed_floats_histograms, &parts.float_starts_ms)
    {
        // Windows without a result say nothing else.
        let t = &parts.float_timestamps_ms;
        let overlaps = |i: usize| start_time_overlaps(starts_ms[i - 1], t[i - 1], starts_ms[i]);
        let unmixed = (0..out.len()).filter(|step| !is_mixed(*step)).map(|step| float_windows.range(step));
        notes.start_time_overlap = unmixed.into_iter().any(|range| (range.start + 1..range.end).any(overlaps));
    }
    let input = HistogramRangeInput {
        timestamps_ms: &parts.histogram_timestamps_ms,
        histograms: &parts.histograms,
        starts_ms: parts.histogram_starts_ms.as_deref(),
        windows: &histogram_windows,
        grid: input.grid,
        extension: input.extension,
    };
    let of_histograms = histogram_range_function(function, &input, &has_floats, histograms);
    Ok(MixedNotes {
        mixed_floats_histograms: notes.mixed_floats_histograms,
        start_time_overlap: notes.start_time_overlap | of_histograms.start_time_overlap,
        ..of_histograms
    })
}

/// Functions that take floats and histograms as they come.
fn over_all_samples(
    function: RangeFunction,
    input: &MixedRangeInput,
    out: &mut [f64],
    valid: &mut [bool],
    histograms: &mut [Option<Arc<Histogram>>],
) -> Result<MixedNotes, RangeError> {
    let samples = live_samples(input.timestamps_ms, input.values, input.histograms, input.starts_ms);
    let windows = input.windows(&samples.timestamps_ms);
    let mut notes = MixedNotes::default();
    match function {
        RangeFunction::Last | RangeFunction::First => {
            for step in 0..out.len() {
                let range = windows.range(step);
                let index = if function == RangeFunction::Last { range.end.wrapping_sub(1) } else { range.start };
                histograms[step] = if range.is_empty() { None } else { samples.histograms[index].clone() };
                valid[step] = !range.is_empty() && histograms[step].is_none();
                out[step] = if valid[step] { samples.values[index] } else { 0.0 };
            }
        }
        RangeFunction::Changes | RangeFunction::Resets => transitions(function, input, &samples, &windows, out, valid),
        RangeFunction::Irate | RangeFunction::Idelta => {
            for step in 0..out.len() {
                (out[step], valid[step]) = (0.0, false);
                let range = windows.range(step);
                if range.len() < 2 {
                    continue;
                }
                match difference(function, &samples, range.end - 2, &mut notes) {
                    Some(Difference::Float(value)) => (out[step], valid[step]) = (value, true),
                    Some(Difference::Histogram(histogram)) => histograms[step] = Some(Arc::new(histogram)),
                    None => {}
                }
            }
        }
        // What is left looks at timestamps only.
        _ => {
            range_function(
                function,
                &input.of_floats(&samples.timestamps_ms, &samples.values, None, &windows),
                out,
                valid,
            )?;
        }
    }
    Ok(notes)
}

/// `changes` and `resets`: a switch between floats and histograms is both.
fn transitions(
    function: RangeFunction,
    input: &MixedRangeInput,
    samples: &LiveSamples,
    windows: &Windows,
    out: &mut [f64],
    valid: &mut [bool],
) {
    let mut counts = Vec::with_capacity(samples.timestamps_ms.len());
    let mut count = 0_u32;
    for index in 0..samples.timestamps_ms.len() {
        count += u32::from(index > 0 && is_transition(function, samples, index));
        counts.push(count);
    }
    for step in 0..out.len() {
        let range = windows.range(step);
        let start_ms = input.grid.start_ms(step);
        // An anchored window counts from the newest sample at or before its start, but needs one after that.
        let inside = range.start + samples.timestamps_ms[range.clone()].partition_point(|&t| t <= start_ms);
        let first = if inside > range.start { inside - 1 } else { inside };
        valid[step] = inside < range.end;
        out[step] = if valid[step] { f64::from(counts[range.end - 1] - counts[first]) } else { 0.0 };
    }
}

fn is_transition(function: RangeFunction, samples: &LiveSamples, index: usize) -> bool {
    let is_reset = function == RangeFunction::Resets;
    let t = &samples.timestamps_ms;
    let begun = || {
        samples
            .starts_ms
            .as_ref()
            .is_some_and(|starts| starts_anew(starts[index - 1], t[index - 1], starts[index], t[index]))
    };
    match (&samples.histograms[index - 1], &samples.histograms[index]) {
        (None, None) => {
            let (before, after) = (samples.values[index - 1], samples.values[index]);
            if is_reset { after < before || begun() } else { before != after && !(before.is_nan() && after.is_nan()) }
        }
        (Some(before), Some(after)) if is_reset => begun() || after.detect_reset(before),
        (Some(before), Some(after)) => !after.is_same_data(before),
        (Some(_), None) | (None, Some(_)) => true,
    }
}

enum Difference {
    Float(f64),
    Histogram(Histogram),
}

/// `irate` and `idelta` of the samples at `index` and the one after.
///
/// Source: `instantValue`, Prometheus 3.14 `promql/functions.go`.
fn difference(
    function: RangeFunction,
    samples: &LiveSamples,
    index: usize,
    notes: &mut MixedNotes,
) -> Option<Difference> {
    let is_rate = function == RangeFunction::Irate;
    let t = &samples.timestamps_ms;
    let interval = seconds(t[index + 1] - t[index]);
    let begun = samples
        .starts_ms
        .as_ref()
        .is_some_and(|starts| starts_anew(starts[index], t[index], starts[index + 1], t[index + 1]));
    match (&samples.histograms[index], &samples.histograms[index + 1]) {
        (None, None) => {
            let (before, after) = (samples.values[index], samples.values[index + 1]);
            let growth = if is_rate && (after < before || begun) { after } else { after - before };
            Some(Difference::Float(if is_rate { growth / interval } else { growth }))
        }
        (Some(before), Some(after)) => {
            let gauges = [before, after].map(|histogram| histogram.counter_reset_hint == CounterResetHint::Gauge);
            notes.not_counter |= is_rate && gauges.contains(&true);
            notes.not_gauge |= !is_rate && gauges.contains(&false);
            let mut growth = (**after).clone();
            if !is_rate || !(begun || after.detect_reset(before)) {
                match growth.sub(before) {
                    Ok(sub) => notes.bounds_reconciled_subtracting |= sub.bounds_reconciled,
                    Err(_) => {
                        notes.mixed_exponential_custom = true;
                        return None;
                    }
                }
            }
            growth.counter_reset_hint = CounterResetHint::Gauge;
            growth.compact();
            if is_rate {
                growth.div(interval);
            }
            Some(Difference::Histogram(growth))
        }
        (Some(_), None) | (None, Some(_)) => {
            notes.mixed_floats_histograms = true;
            None
        }
    }
}

/// `selector smoothed` over a series with histograms: a float where `valid`, else a histogram where there is one.
///
/// `grid` has the steps' (offset) times as ends; only `input`'s samples, grid and lookback are looked at. Histograms
/// count as counters unless both neighbours say that they are gauges.
///
/// Source: `smoothSeries`, Prometheus 3.14 `promql/engine.go`.
pub fn mixed_smoothed_instant(
    input: &MixedRangeInput,
    out: &mut [f64],
    valid: &mut [bool],
    histograms: &mut [Option<Arc<Histogram>>],
) -> MixedNotes {
    let mut notes = MixedNotes::default();
    let samples = live_samples(input.timestamps_ms, input.values, input.histograms, input.starts_ms);
    let t = &samples.timestamps_ms;
    let around = RangeGrid { width_ms: 0, ..*input.grid };
    let windows = Windows::extended(t, &around, input.lookback_ms, input.lookback_ms);
    for step in 0..out.len() {
        (out[step], valid[step], histograms[step]) = (0.0, false, None);
        let at_ms = input.grid.end_ms(step);
        let range = windows.range(step);
        if range.is_empty() {
            continue;
        }
        let is_histogram = samples.histograms[range.start].is_some();
        if samples.histograms[range.clone()].iter().any(|histogram| histogram.is_some() != is_histogram) {
            notes.mixed_floats_histograms = true;
            continue;
        }
        let next = range.start + t[range.clone()].partition_point(|&t| t < at_ms);
        if next < range.end && t[next] == at_ms {
            histograms[step] = samples.histograms[next].clone();
            (out[step], valid[step]) = if is_histogram { (0.0, false) } else { (samples.values[next], true) };
            continue;
        }
        let Some(before) = next.checked_sub(1).filter(|before| *before >= range.start) else { continue };
        let after = (next < range.end).then_some(next);
        match (&samples.histograms[before], after) {
            (None, None) => (out[step], valid[step]) = (samples.values[before], true),
            (None, Some(after)) => {
                let (from, to) = ((t[before], samples.values[before]), (t[after], samples.values[after]));
                (out[step], valid[step]) = (interpolate(from, to, at_ms, false), true);
            }
            (Some(histogram), None) => {
                // The hint is about two neighbouring samples, of which this is none.
                let held = Histogram { counter_reset_hint: CounterResetHint::Unknown, ..(**histogram).clone() };
                histograms[step] = Some(Arc::new(held));
            }
            (Some(from), Some(after)) => {
                let Some(to) = &samples.histograms[after] else { continue };
                if from.has_custom_buckets() != to.has_custom_buckets() {
                    notes.mixed_exponential_custom = true;
                    continue;
                }
                let is_counter = [from, to].iter().any(|h| h.counter_reset_hint != CounterResetHint::Gauge);
                histograms[step] =
                    interpolate_histograms((t[before], from), (t[after], to), at_ms, is_counter, &mut notes)
                        .map(Arc::new);
            }
        }
    }
    notes
}

#[cfg(test)]
mod tests;
