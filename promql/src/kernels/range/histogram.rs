//! Range functions over the native histograms of one series.
//!
//! Counter resets are looked for once per pair of neighbours, not once per window: what a window needs of them is a
//! short list.

use std::sync::Arc;

use pilaster_model::histogram::{AddNotes, HistogramMean, HistogramSum, IncompatibleSchemas};
use pilaster_model::{CounterResetHint, Histogram, RangeGrid};

use super::mixed::MixedNotes;
use super::rate::{reach, seconds, stretch, width_seconds};
use super::{Extension, RangeFunction, start_time_overlaps, starts_anew};
use crate::kernels::windows::Windows;

/// One series of histograms and the windows over it.
#[derive(Debug, Clone, Copy)]
pub struct HistogramRangeInput<'a> {
    /// Strictly ascending; parallel to `histograms`; staleness markers removed.
    pub timestamps_ms: &'a [i64],
    pub histograms: &'a [Arc<Histogram>],
    /// Start timestamps, 0 where unknown; given only where the query honours them.
    pub starts_ms: Option<&'a [i64]>,
    /// Made from `timestamps_ms` and `grid`, extended by the lookback for `anchored` and `smoothed`.
    pub windows: &'a Windows,
    pub grid: &'a RangeGrid,
    pub extension: Extension,
}

/// Evaluates `rate`, `increase`, `delta`, `avg_over_time` or `sum_over_time` for every step, `None` where it has no result.
///
/// Windows that are `skipped` give `None` without being looked at.
pub fn histogram_range_function(
    function: RangeFunction,
    input: &HistogramRangeInput,
    skipped: &[bool],
    out: &mut [Option<Arc<Histogram>>],
) -> MixedNotes {
    let mut notes = MixedNotes::default();
    let is_counter = matches!(function, RangeFunction::Rate | RangeFunction::Increase);
    let resets = if is_counter { Resets::new(input) } else { Resets::default() };
    for (step, out) in out.iter_mut().enumerate() {
        let range = input.windows.range(step);
        *out = None;
        if range.is_empty() || skipped[step] {
            continue;
        }
        let result = match (function, input.extension) {
            (RangeFunction::Avg, _) => mean(&input.histograms[range], &mut notes),
            (RangeFunction::Sum, _) => sum(&input.histograms[range], &mut notes),
            (_, Extension::None) => extrapolated(function, input, &resets, step, &mut notes),
            _ => extended(function, input, step, &mut notes),
        };
        *out = result.map(Arc::new);
    }
    notes
}

/// Where a counter histogram begins anew.
#[derive(Default)]
struct Resets {
    /// Positions `i > 0` with a reset between samples `i - 1` and `i`; ascending.
    positions: Vec<usize>,
}

impl Resets {
    fn new(input: &HistogramRangeInput) -> Resets {
        let is_reset =
            |i: &usize| begins_anew(input, *i) || input.histograms[*i].detect_reset(&input.histograms[i - 1]);
        Resets { positions: (1..input.histograms.len()).filter(is_reset).collect() }
    }

    fn inside(&self, range: std::ops::Range<usize>) -> &[usize] {
        let from = self.positions.partition_point(|&i| i < range.start);
        let to = self.positions.partition_point(|&i| i < range.end);
        &self.positions[from..to.max(from)]
    }
}

fn begins_anew(input: &HistogramRangeInput, i: usize) -> bool {
    let t = input.timestamps_ms;
    input.starts_ms.is_some_and(|starts| starts_anew(starts[i - 1], t[i - 1], starts[i], t[i]))
}

fn is_gauge(histogram: &Histogram) -> bool {
    histogram.counter_reset_hint == CounterResetHint::Gauge
}

/// Source: `extrapolatedRate` and `histogramRate`, Prometheus 3.14 `promql/functions.go`.
fn extrapolated(
    function: RangeFunction,
    input: &HistogramRangeInput,
    resets: &Resets,
    step: usize,
    notes: &mut MixedNotes,
) -> Option<Histogram> {
    let HistogramRangeInput { timestamps_ms, histograms, starts_ms, grid, .. } = *input;
    let range = input.windows.range(step);
    let (first, last) = (range.start, range.end - 1);
    let is_counter = function != RangeFunction::Delta;
    let mut growth = if last > first { Some(growth(input, range.clone(), is_counter, resets, notes)?) } else { None };

    let born_ms = starts_ms.filter(|_| is_counter).map_or(0, |starts| starts[first]);
    let mut sampled = seconds(timestamps_ms[last] - timestamps_ms[first]);
    let spacing = if last > first { sampled / (last - first) as f64 } else { 0.0 };
    let mut to_start = seconds(timestamps_ms[first] - grid.start_ms(step));
    if born_ms != 0 && born_ms > grid.start_ms(step) && born_ms < timestamps_ms[first] {
        // The counter was empty when it started, inside the window: no guess is needed on the left.
        to_start = 0.0;
        sampled = seconds(timestamps_ms[last] - born_ms);
        match &mut growth {
            None => growth = Some((*histograms[first]).clone()),
            Some(growth) => add(growth, &histograms[first], notes)?,
        }
    } else {
        let growth = growth.as_ref()?;
        to_start = reach(to_start, spacing);
        if is_counter && growth.count > 0.0 && histograms[first].count >= 0.0 {
            let to_zero = sampled * (histograms[first].count / growth.count);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
    }
    let to_end = reach(seconds(grid.end_ms(step) - timestamps_ms[last]), spacing);
    let factor = stretch(sampled, to_start, to_end);
    let mut growth = growth?;
    growth.mul(if function == RangeFunction::Rate { factor / width_seconds(grid) } else { factor });
    Some(growth)
}

/// Last minus first plus what was lost in resets, over at least two samples; a compact gauge.
fn growth(
    input: &HistogramRangeInput,
    range: std::ops::Range<usize>,
    is_counter: bool,
    resets: &Resets,
    all_notes: &mut MixedNotes,
) -> Option<Histogram> {
    let histograms = &input.histograms[range.clone()];
    let (first, last) = (&histograms[0], &histograms[histograms.len() - 1]);
    let resets = resets.inside(range.start + 1..range.end);
    let mut notes = MixedNotes::default();
    notes.not_counter |= is_counter && [first, last].iter().any(|histogram| is_gauge(histogram));
    // Before a reset right at the start there is nothing to subtract, whatever its layout; but the bounds of what follows
    // count.
    let begins_at_zero = resets.first() == Some(&(range.start + 1));
    let nothing = |like: &Histogram| Histogram {
        schema: like.schema,
        custom_bounds: like.custom_bounds.clone(),
        ..Histogram::default()
    };
    let base = if begins_at_zero { Arc::new(nothing(&histograms[1])) } else { first.clone() };
    if base.has_custom_buckets() != last.has_custom_buckets() {
        all_notes.mixed_exponential_custom = true;
        all_notes.not_counter |= notes.not_counter;
        return None;
    }
    let mut schema = base.schema.min(last.schema);
    // Between its ends, a gauge's histograms do not matter.
    let between = if is_counter { &histograms[1..histograms.len() - 1] } else { &[] };
    for histogram in between {
        notes.not_counter |= is_gauge(histogram);
        schema = schema.min(histogram.schema);
        if histogram.has_custom_buckets() != base.has_custom_buckets() {
            // Nothing else is said about such a window.
            all_notes.mixed_exponential_custom = true;
            return None;
        }
    }
    let mut growth = last.at_schema(schema);
    sub(&mut growth, &base, &mut notes)?;
    for &reset in resets {
        let second = range.start + 1;
        if reset > second {
            add(&mut growth, &input.histograms[reset - 1], &mut notes)?;
        } else if begins_anew(input, second) || histograms[1].counter_reset_hint == CounterResetHint::Reset {
            add(&mut growth, &base, &mut notes)?;
        }
    }
    if let Some(starts) = input.starts_ms.filter(|_| is_counter) {
        let overlaps = |i: usize| start_time_overlaps(starts[i - 1], input.timestamps_ms[i - 1], starts[i]);
        notes.start_time_overlap = (range.start + 1..range.end).any(overlaps);
    }
    notes.not_gauge = !is_counter && [first, last].iter().any(|histogram| !is_gauge(histogram));
    all_notes.merge(notes);
    growth.counter_reset_hint = CounterResetHint::Gauge;
    growth.compact();
    Some(growth)
}

fn add(to: &mut Histogram, other: &Histogram, notes: &mut MixedNotes) -> Option<()> {
    let reconciled = settle(to.add(other), notes)?;
    notes.bounds_reconciled_adding |= reconciled;
    Some(())
}

fn sub(from: &mut Histogram, other: &Histogram, notes: &mut MixedNotes) -> Option<()> {
    let reconciled = settle(from.sub(other), notes)?;
    notes.bounds_reconciled_subtracting |= reconciled;
    Some(())
}

/// Whether bounds were reconciled. Hints that contradict each other are no news here: resets are treated explicitly.
fn settle(outcome: Result<AddNotes, IncompatibleSchemas>, notes: &mut MixedNotes) -> Option<bool> {
    notes.mixed_exponential_custom |= outcome.is_err();
    outcome.ok().map(|notes| notes.bounds_reconciled)
}

/// Source: `extendedHistogramRate`, Prometheus 3.14 `promql/functions.go`.
fn extended(
    function: RangeFunction,
    input: &HistogramRangeInput,
    step: usize,
    notes: &mut MixedNotes,
) -> Option<Histogram> {
    let is_counter = function != RangeFunction::Delta;
    let smoothed = input.extension == Extension::Smoothed;
    let (start_ms, end_ms) = (input.grid.start_ms(step), input.grid.end_ms(step));
    let range = input.windows.range(step);
    let (timestamps_ms, histograms) = (&input.timestamps_ms[range.clone()], &input.histograms[range]);
    let mut last = timestamps_ms.len() - 1;
    let first = timestamps_ms[..last].partition_point(|&t| t <= start_ms).saturating_sub(1);
    if smoothed {
        last = timestamps_ms[..last].partition_point(|&t| t < end_ms);
    }
    if timestamps_ms[last] <= start_ms || (smoothed && timestamps_ms[first] > end_ms) {
        return None;
    }
    for histogram in &histograms[first..=last] {
        if histogram.has_custom_buckets() != histograms[first].has_custom_buckets() {
            notes.mixed_exponential_custom = true;
            return None;
        }
        notes.not_counter |= is_counter && is_gauge(histogram);
    }
    let sample = |index: usize| (timestamps_ms[index], &*histograms[index]);
    let left = if smoothed && timestamps_ms[first] < start_ms {
        interpolate_histograms(sample(first), sample(first + 1), start_ms, is_counter, notes)?
    } else {
        (*histograms[first]).clone()
    };
    let right = if smoothed && last > 0 && timestamps_ms[last] > end_ms {
        interpolate_histograms(sample(last - 1), sample(last), end_ms, is_counter, notes)?
    } else {
        (*histograms[last]).clone()
    };
    notes.not_gauge |= !is_counter && [&left, &right].iter().any(|histogram| !is_gauge(histogram));
    let mut growth = right.clone();
    sub(&mut growth, &left, notes)?;
    if is_counter {
        // A reset that the left interpolation spans is in `left` already.
        let spans_reset =
            smoothed && timestamps_ms[first] < start_ms && histograms[first + 1].detect_reset(&histograms[first]);
        let (mut previous, inside) =
            if spans_reset { (&*histograms[first + 1], first + 2..last) } else { (&left, first + 1..last) };
        // The last sample is represented by `right`.
        let later = histograms.get(inside.clone()).unwrap_or_default();
        let mut lost: Option<Histogram> = None;
        if inside.start <= last {
            for next in later.iter().map(|histogram| &**histogram).chain([&right]) {
                if next.detect_reset(previous) {
                    match &mut lost {
                        None => lost = Some(previous.clone()),
                        Some(lost) => add(lost, previous, notes)?,
                    }
                }
                previous = next;
            }
        }
        if let Some(lost) = lost {
            add(&mut growth, &lost, notes)?;
        }
    }
    if function == RangeFunction::Rate {
        growth.div(width_seconds(input.grid));
    }
    growth.counter_reset_hint = CounterResetHint::Gauge;
    growth.compact();
    Some(growth)
}

/// The histogram at `at_ms` on the line between two; a counter that was reset is taken to have restarted from nothing.
///
/// Source: `interpolateHistograms`, Prometheus 3.14 `promql/functions.go`.
pub(in crate::kernels) fn interpolate_histograms(
    from: (i64, &Histogram),
    to: (i64, &Histogram),
    at_ms: i64,
    is_counter: bool,
    notes: &mut MixedNotes,
) -> Option<Histogram> {
    if at_ms == from.0 {
        return Some(from.1.clone());
    }
    let mut between = to.1.clone();
    if at_ms == to.0 {
        return Some(between);
    }
    let fraction = (at_ms - from.0) as f64 / (to.0 - from.0) as f64;
    if is_counter && to.1.detect_reset(from.1) {
        between.mul(fraction);
        return Some(between);
    }
    sub(&mut between, from.1, notes)?;
    between.mul(fraction);
    add(&mut between, from.1, notes)?;
    Some(between)
}

fn sum(histograms: &[Arc<Histogram>], notes: &mut MixedNotes) -> Option<Histogram> {
    let mut sum = HistogramSum::new((*histograms[0]).clone());
    aggregate(histograms, notes, |histogram| sum.add(histogram)).then(|| sum.total_with_empty_buckets())
}

fn mean(histograms: &[Arc<Histogram>], notes: &mut MixedNotes) -> Option<Histogram> {
    let mut mean = HistogramMean::new((*histograms[0]).clone());
    aggregate(histograms, notes, |histogram| mean.add(histogram)).then(|| mean.total_with_empty_buckets())
}

/// Adds all but the first; false, with nothing else noted, where kinds of buckets are mixed.
fn aggregate(
    histograms: &[Arc<Histogram>],
    notes: &mut MixedNotes,
    mut add: impl FnMut(&Histogram) -> Result<AddNotes, IncompatibleSchemas>,
) -> bool {
    let mut reconciled = false;
    for histogram in &histograms[1..] {
        match add(histogram) {
            Ok(notes) => reconciled |= notes.bounds_reconciled,
            Err(IncompatibleSchemas) => {
                notes.mixed_exponential_custom = true;
                return false;
            }
        }
    }
    let has = |hint| histograms.iter().any(|histogram| histogram.counter_reset_hint == hint);
    notes.counter_reset_collision |= has(CounterResetHint::Reset) && has(CounterResetHint::NotReset);
    notes.bounds_reconciled_aggregating |= reconciled;
    true
}
