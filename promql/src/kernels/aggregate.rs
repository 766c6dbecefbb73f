//! Aggregations over the series of a group, step by step.
//!
//! An [`Accumulator`] takes the group's rows in series order and keeps a running state per step, laid out in columns, so
//! that adding a row is one pass over slices. The order of additions is Prometheus's, so the bits are too.

use pilaster_model::Labels;

use super::kahan::add_compensated;
use super::order;
use super::range::Param;
use super::vectorized::vectorized;

/// Aggregations that fold floats one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatAggregate {
    Sum,
    Avg,
    Count,
    Group,
    Min,
    Max,
    Stddev,
    Stdvar,
}

/// Whether there is a value, step by step.
trait Valid: Copy {
    /// From the step `first` on, for `count` steps at least.
    fn flags(self, first: usize, count: usize) -> impl Iterator<Item = bool>;
}

impl Valid for &[bool] {
    #[inline(always)]
    fn flags(self, first: usize, count: usize) -> impl Iterator<Item = bool> {
        self[first..first + count].iter().copied()
    }
}

/// There always is.
#[derive(Clone, Copy)]
struct AllValid;

impl Valid for AllValid {
    #[inline(always)]
    fn flags(self, _: usize, _: usize) -> impl Iterator<Item = bool> {
        std::iter::repeat(true)
    }
}

/// Steps handled per look at whether a mean is about to overflow.
const CHUNK: usize = 64;

/// The state of one group: one entry per step in every column its aggregation uses.
#[derive(Debug, Clone)]
pub struct Accumulator {
    op: FloatAggregate,
    /// Steps with any value so far.
    seen: Vec<bool>,
    /// Values added so far; only where the result depends on it.
    counts: Vec<f64>,
    /// Running sum, extreme, or (for variances, and a mean that overflowed as a sum) mean.
    main: Vec<f64>,
    /// Kahan compensation of `main`, or sum of squared differences.
    side: Vec<f64>,
    /// Steps whose mean is kept as a mean, because their sum overflowed.
    incremental: Vec<bool>,
    any_incremental: bool,
}

impl Accumulator {
    /// An empty group over `steps` cells.
    pub fn new(op: FloatAggregate, steps: usize) -> Accumulator {
        use FloatAggregate::*;
        let column = |used: bool| if used { vec![0.0; steps] } else { Vec::new() };
        let mut accumulator = Accumulator {
            op,
            seen: vec![false; steps],
            counts: column(matches!(op, Avg | Count | Stddev | Stdvar)),
            main: column(!matches!(op, Count | Group)),
            side: column(matches!(op, Sum | Avg | Stddev | Stdvar)),
            incremental: vec![false; if op == Avg { steps } else { 0 }],
            any_incremental: false,
        };
        accumulator.reset();
        accumulator
    }

    /// Empties the group, keeping its memory.
    pub fn reset(&mut self) {
        let start = if matches!(self.op, FloatAggregate::Min | FloatAggregate::Max) { f64::NAN } else { 0.0 };
        self.seen.fill(false);
        self.counts.fill(0.0);
        self.main.fill(start);
        self.side.fill(0.0);
        self.incremental.fill(false);
        self.any_incremental = false;
    }

    /// Adds one series: a value at every step where it is valid.
    pub fn add(&mut self, values: &[f64], valid: &[bool]) {
        debug_assert!(values.len() == self.seen.len() && valid.len() == values.len(), "one cell per step");
        // Most rows have a value everywhere: then nothing has to be left out.
        let all = !valid.contains(&false);
        vectorized(
            #[inline(always)]
            || if all { self.add_cells(values, AllValid) } else { self.add_cells(values, valid) },
        );
    }

    #[inline(always)]
    fn add_cells(&mut self, values: &[f64], valid: impl Valid) {
        match self.op {
            FloatAggregate::Sum => self.add_to_sums(values, valid, 0),
            FloatAggregate::Avg => self.add_to_means(values, valid),
            FloatAggregate::Count | FloatAggregate::Group => {}
            FloatAggregate::Min => self.keep_extremes(values, valid, |kept, value| kept > value),
            FloatAggregate::Max => self.keep_extremes(values, valid, |kept, value| kept < value),
            FloatAggregate::Stddev | FloatAggregate::Stdvar => self.add_to_variances(values, valid),
        }
        let steps = self.seen.len();
        for (seen, valid) in self.seen.iter_mut().zip(valid.flags(0, steps)) {
            *seen |= valid;
        }
        for (count, valid) in self.counts.iter_mut().zip(valid.flags(0, steps)) {
            *count += f64::from(u8::from(valid));
        }
    }

    /// Compensated sums of the steps from `first` on. A cell that is not valid adds 0, which changes no state.
    #[inline(always)]
    fn add_to_sums(&mut self, values: &[f64], valid: impl Valid, first: usize) {
        let state = self.main[first..].iter_mut().zip(&mut self.side[first..]);
        for (((sum, compensation), &value), valid) in state.zip(values).zip(valid.flags(first, values.len())) {
            let increment = if valid { value } else { 0.0 };
            (*sum, *compensation) = add_compensated(increment, *sum, *compensation);
        }
    }

    /// Sums for as long as they are finite; from a step's first overflow on its mean is updated instead.
    ///
    /// Source: `aggregation`, case AVG, Prometheus 3.14 `promql/engine.go`.
    #[inline(always)]
    fn add_to_means(&mut self, values: &[f64], valid: impl Valid) {
        for (nth, values) in values.chunks(CHUNK).enumerate() {
            let first = nth * CHUNK;
            let flags = || valid.flags(first, values.len());
            let cells = self.main[first..].iter().zip(values).zip(flags());
            let overflows = cells.fold(false, |any, ((sum, value), valid)| any | (valid & (sum + value).is_infinite()));
            if overflows || self.any_incremental {
                for ((offset, &value), _) in values.iter().enumerate().zip(flags()).filter(|(_, valid)| *valid) {
                    self.add_to_mean(first + offset, value);
                }
            } else {
                self.add_to_sums(values, valid, first);
            }
        }
    }

    fn add_to_mean(&mut self, step: usize, value: f64) {
        let count = self.counts[step];
        let (main, compensation) = (&mut self.main[step], &mut self.side[step]);
        if !self.incremental[step] {
            let longer = add_compensated(value, *main, *compensation);
            if longer.0.is_finite() || longer.0.is_nan() || count == 0.0 {
                (*main, *compensation) = longer;
                return;
            }
            self.incremental[step] = true;
            self.any_incremental = true;
            *main /= count;
            *compensation /= count;
        }
        let kept = count / (count + 1.0);
        (*main, *compensation) = add_compensated(value / (count + 1.0), kept * *main, kept * *compensation);
    }

    /// Starting from NaN, which any value replaces.
    #[inline(always)]
    fn keep_extremes(&mut self, values: &[f64], valid: impl Valid, beaten: impl Fn(f64, f64) -> bool) {
        for ((kept, &value), valid) in self.main.iter_mut().zip(values).zip(valid.flags(0, values.len())) {
            let replace = valid & (beaten(*kept, value) | kept.is_nan());
            *kept = if replace { value } else { *kept };
        }
    }

    /// Welford's running mean and sum of squared differences.
    #[inline(always)]
    fn add_to_variances(&mut self, values: &[f64], valid: impl Valid) {
        let state = self.main.iter_mut().zip(&mut self.side).zip(&self.counts);
        for ((((mean, squares), &count), &value), valid) in state.zip(values).zip(valid.flags(0, values.len())) {
            let delta = value - *mean;
            let new_mean = *mean + delta / (count + 1.0);
            let new_squares = *squares + delta * (value - new_mean);
            *mean = if valid { new_mean } else { *mean };
            *squares = if valid { new_squares } else { *squares };
        }
    }

    /// The group's value at every step where any series had one.
    pub fn finish(self, out: &mut [f64], valid: &mut [bool]) {
        self.write(out, valid);
    }

    /// Like [`Accumulator::finish`], leaving the state as it is.
    pub fn write(&self, out: &mut [f64], valid: &mut [bool]) {
        valid.copy_from_slice(&self.seen);
        for (step, out) in out.iter_mut().enumerate() {
            *out = if self.seen[step] { self.value(step) } else { 0.0 };
        }
    }

    #[inline(always)]
    fn value(&self, step: usize) -> f64 {
        match self.op {
            FloatAggregate::Count => self.counts[step],
            FloatAggregate::Group => 1.0,
            FloatAggregate::Min | FloatAggregate::Max => self.main[step],
            FloatAggregate::Sum => self.main[step] + self.side[step],
            FloatAggregate::Avg if self.incremental[step] => self.main[step] + self.side[step],
            FloatAggregate::Avg => self.main[step] / self.counts[step] + self.side[step] / self.counts[step],
            FloatAggregate::Stddev => (self.side[step] / self.counts[step]).sqrt(),
            FloatAggregate::Stdvar => self.side[step] / self.counts[step],
        }
    }
}

/// The φ-quantile over the group's series at every step where any has a value; NaN sorts lowest.
///
/// φ outside [0, 1] gives an infinity, φ = NaN gives NaN: see [`order::is_valid_quantile`].
pub fn quantile_cells(quantile: Param, rows: &[(&[f64], &[bool])], out: &mut [f64], valid: &mut [bool]) {
    // Rows lie far apart: read a cache line of each before moving on to the next row.
    const STEPS: usize = 8;
    let mut columns: [Vec<f64>; STEPS] = std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    let steps = out.len();
    for first in (0..steps).step_by(STEPS) {
        let some = STEPS.min(steps - first);
        columns.iter_mut().for_each(Vec::clear);
        for (values, valid) in rows {
            let cells = values[first..first + some].iter().zip(&valid[first..first + some]);
            for (column, (&value, &valid)) in columns.iter_mut().zip(cells) {
                if valid {
                    column.push(value);
                }
            }
        }
        for (offset, column) in columns[..some].iter_mut().enumerate() {
            let step = first + offset;
            valid[step] = !column.is_empty();
            out[step] = if valid[step] { order::quantile(quantile.at(step), column) } else { 0.0 };
        }
    }
}

/// Which series of a group `topk` (`largest`) or `bottomk` keeps at one step: at most `k`, best first, NaN last.
///
/// `column` has the group's series with a value at this step, in series order. Ties are broken as Prometheus's heap
/// breaks them: a newcomer must beat the worst one kept.
pub fn top_k(k: usize, largest: bool, column: &[(u32, f64)], out: &mut Vec<u32>) {
    out.clear();
    if k == 0 {
        return;
    }
    if k == 1 {
        // The common `topk(1, …)` needs no heap.
        let mut cells = column.iter();
        let Some(mut best) = cells.next() else { return };
        for cell in cells {
            if is_worse(best.1, cell.1, largest) || best.1.is_nan() && !cell.1.is_nan() {
                best = cell;
            }
        }
        out.push(best.0);
        return;
    }
    let mut heap = WorstFirst { cells: Vec::with_capacity(k.min(column.len())), largest };
    for &cell in column {
        if heap.cells.len() < k {
            heap.push(cell);
        } else if is_worse(heap.cells[0].1, cell.1, largest) || heap.cells[0].1.is_nan() && !cell.1.is_nan() {
            heap.cells[0] = cell;
            heap.sink(0);
        }
    }
    let before = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (true, _) | (_, true) => a.is_nan().cmp(&b.is_nan()),
        _ if largest => b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal),
        _ => a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal),
    };
    heap.cells.sort_by(|a, b| before(a.1, b.1));
    out.extend(heap.cells.iter().map(|cell| cell.0));
}

#[inline(always)]
fn is_worse(a: f64, b: f64, largest: bool) -> bool {
    if largest { a < b } else { a > b }
}

/// A binary heap with the worst cell on top; moves equal cells exactly as Go's `container/heap` does, since which of
/// several equal cells is evicted first shows in the result.
struct WorstFirst {
    cells: Vec<(u32, f64)>,
    largest: bool,
}

impl WorstFirst {
    fn less(&self, i: usize, j: usize) -> bool {
        let (a, b) = (self.cells[i].1, self.cells[j].1);
        a.is_nan() || is_worse(a, b, self.largest)
    }

    fn push(&mut self, cell: (u32, f64)) {
        self.cells.push(cell);
        let mut child = self.cells.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.less(child, parent) {
                break;
            }
            self.cells.swap(child, parent);
            child = parent;
        }
    }

    fn sink(&mut self, mut parent: usize) {
        loop {
            let left = 2 * parent + 1;
            if left >= self.cells.len() {
                return;
            }
            let right = left + 1;
            let child = if right < self.cells.len() && self.less(right, left) { right } else { left };
            if !self.less(child, parent) {
                return;
            }
            self.cells.swap(parent, child);
            parent = child;
        }
    }
}

/// Whether `limit_ratio` keeps a series: by its hash, the first `ratio` of all, or for a negative ratio the last.
///
/// A ratio beyond ±1 counts as ±1. The hash is XXH64 over the sorted labels, each text preceded by its length.
///
/// Source: `HashRatioSampler`, Prometheus 3.14 `promql/engine.go`.
pub fn limit_ratio_keeps(ratio: f64, labels: &Labels) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    let offset = sampling_hash(labels) as f64 / u64::MAX as f64;
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

fn sampling_hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(labels.text_bytes() + 2 * labels.len());
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match text.len() {
            length @ 0..255 => bytes.push(length as u8),
            length => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    twox_hash::XxHash64::oneshot(0, &bytes)
}

#[cfg(test)]
mod tests;
