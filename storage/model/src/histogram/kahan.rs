//! Sums and means of many histograms, compensated for rounding number by number.

use super::arithmetic::{add_to_bounds, outside_zero, populated};
use super::sparse::{Cell, Side, coarsen, merge};
use super::{AddNotes, Histogram, IncompatibleSchemas, bounds};

/// Adds `increment` to `(sum, compensation)`; the true total is their sum. Neumaier's variant; an infinite sum has none.
#[inline(always)]
pub(super) fn add_compensated(increment: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + increment;
    let lost = if sum.abs() >= increment.abs() { (sum - total) + increment } else { (increment - total) + sum };
    (total, if total.is_infinite() { 0.0 } else { compensation + lost })
}

fn add_cell(to: &mut Cell, from: Cell) {
    (to.count, to.compensation) = add_compensated(from.count, to.count, to.compensation);
    if from.compensation != 0.0 {
        (to.count, to.compensation) = add_compensated(from.compensation, to.count, to.compensation);
    }
}

/// A running sum of histograms.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSum {
    sum: Histogram,
    /// Same layout as `sum`; its numbers are what `sum`'s have lost. `None` until there is a second summand.
    compensation: Option<Histogram>,
}

impl HistogramSum {
    /// A sum of one.
    pub fn new(first: Histogram) -> HistogramSum {
        HistogramSum { sum: first, compensation: None }
    }

    /// Adds one more.
    ///
    /// # Errors
    /// A mix of exponential and custom buckets; the sum is unchanged then.
    ///
    /// Source: `FloatHistogram.KahanAdd`, Prometheus 3.14 `model/histogram`.
    pub fn add(&mut self, other: &Histogram) -> Result<AddNotes, IncompatibleSchemas> {
        let sum = &mut self.sum;
        if sum.has_custom_buckets() != other.has_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let mut notes = AddNotes { counter_reset_collision: sum.merge_hint(other), bounds_reconciled: false };
        let lost = self.compensation.get_or_insert_with(|| nothing_lost(sum));
        lost.counter_reset_hint = sum.counter_reset_hint;
        let same_layout = sum.has_same_layout(other) && lost.positive.len() == sum.positive.len();
        if !sum.has_custom_buckets() {
            let theirs = match same_layout {
                true => Cell { index: 0, count: other.zero_count, compensation: 0.0 },
                false => reconcile_zero_buckets(sum, lost, other),
            };
            let mut zero = Cell { index: 0, count: sum.zero_count, compensation: lost.zero_count };
            add_cell(&mut zero, theirs);
            (sum.zero_count, lost.zero_count) = (zero.count, zero.compensation);
        }
        (sum.count, lost.count) = add_compensated(other.count, sum.count, lost.count);
        (sum.sum, lost.sum) = add_compensated(other.sum, sum.sum, lost.sum);
        if same_layout {
            add_counts(&mut sum.positive, &mut lost.positive, &other.positive);
            add_counts(&mut sum.negative, &mut lost.negative, &other.negative);
            return Ok(notes);
        }
        if sum.has_custom_buckets() {
            let (mine, theirs) =
                (both_cells(sum, lost, Side::Positive), other.cells(Side::Positive).collect::<Vec<_>>());
            let bounds = sum.common_bounds(other);
            notes.bounds_reconciled = bounds.is_some();
            let cells = match &bounds {
                None => merge(&mine, &theirs, add_cell, |cell| cell),
                Some(bounds) => {
                    let mut counts = vec![(0.0, 0.0); bounds.len() + 1];
                    add_to_bounds(&mut counts, bounds, &sum.custom_bounds, mine);
                    add_to_bounds(&mut counts, bounds, &other.custom_bounds, theirs);
                    populated(&counts)
                }
            };
            set_both(sum, lost, Side::Positive, &cells);
            if let Some(bounds) = bounds {
                sum.custom_bounds = bounds.clone();
                lost.custom_bounds = bounds;
            }
            return Ok(notes);
        }
        let schema = sum.schema.min(other.schema);
        for side in [Side::Positive, Side::Negative] {
            let mine = coarsen(both_cells(sum, lost, side), sum.schema, schema, add_cell);
            let theirs = coarsen(other.cells(side).collect(), other.schema, schema, add_cell);
            let theirs = outside_zero(&theirs, schema, sum.zero_threshold);
            set_both(sum, lost, side, &merge(&mine, theirs, add_cell, |cell| cell));
        }
        (sum.schema, lost.schema) = (schema, schema);
        (lost.zero_threshold, lost.custom_bounds) = (sum.zero_threshold, sum.custom_bounds.clone());
        Ok(notes)
    }

    /// The sum, compact.
    pub fn total(self) -> Histogram {
        let mut sum = self.total_with_empty_buckets();
        sum.compact();
        sum
    }

    /// The sum with the empty buckets of its summands: multiplied by an infinity, they are NaN.
    pub fn total_with_empty_buckets(self) -> Histogram {
        let HistogramSum { mut sum, compensation } = self;
        if let Some(lost) = compensation {
            // Both have one kind of buckets, so this cannot fail.
            let _same_kind = sum.add(&lost);
        }
        sum
    }

    fn has_overflown(&self) -> bool {
        let sum = &self.sum;
        let scalars = [&sum.zero_count, &sum.count, &sum.sum];
        scalars.into_iter().chain(&sum.positive).chain(&sum.negative).any(|number| number.is_infinite())
    }

    fn scale(&mut self, of: impl Fn(&mut Histogram)) {
        of(&mut self.sum);
        self.compensation.iter_mut().for_each(of);
    }
}

/// A running mean of histograms: a sum for as long as it is finite, then a mean that is updated.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramMean {
    running: HistogramSum,
    count: f64,
    /// Whether `running` is the mean already.
    incremental: bool,
}

impl HistogramMean {
    /// The mean of one.
    pub fn new(first: Histogram) -> HistogramMean {
        HistogramMean { running: HistogramSum::new(first), count: 1.0, incremental: false }
    }

    /// Adds one more.
    ///
    /// # Errors
    /// A mix of exponential and custom buckets.
    ///
    /// Source: `aggregation`, case AVG, Prometheus 3.14 `promql/engine.go`.
    pub fn add(&mut self, other: &Histogram) -> Result<AddNotes, IncompatibleSchemas> {
        self.count += 1.0;
        if !self.incremental {
            let mut longer = self.running.clone();
            let notes = longer.add(other)?;
            if !longer.has_overflown() {
                self.running = longer;
                return Ok(notes);
            }
            self.incremental = true;
            let before = self.count - 1.0;
            self.running.scale(|histogram| {
                histogram.div(before);
            });
        }
        let kept = (self.count - 1.0) / self.count;
        self.running.scale(|histogram| {
            histogram.mul(kept);
        });
        let mut share = other.clone();
        share.div(self.count);
        self.running.add(&share)
    }

    /// The mean, compact.
    pub fn total(self) -> Histogram {
        let mut mean = self.total_with_empty_buckets();
        mean.compact();
        mean
    }

    /// The mean with the empty buckets of the histograms it is of.
    pub fn total_with_empty_buckets(mut self) -> Histogram {
        if !self.incremental {
            let count = self.count;
            self.running.scale(|histogram| {
                histogram.div(count);
            });
        }
        self.running.total_with_empty_buckets()
    }
}

fn nothing_lost(sum: &Histogram) -> Histogram {
    Histogram {
        zero_count: 0.0,
        count: 0.0,
        sum: 0.0,
        positive: vec![0.0; sum.positive.len()],
        negative: vec![0.0; sum.negative.len()],
        ..sum.clone()
    }
}

fn add_counts(sums: &mut [f64], lost: &mut [f64], counts: &[f64]) {
    for ((sum, lost), &count) in sums.iter_mut().zip(lost).zip(counts) {
        (*sum, *lost) = add_compensated(count, *sum, *lost);
    }
}

fn both_cells(sum: &Histogram, lost: &Histogram, side: Side) -> Vec<Cell> {
    sum.cells(side).zip(lost.side(side).1).map(|(cell, &compensation)| Cell { compensation, ..cell }).collect()
}

fn set_both(sum: &mut Histogram, lost: &mut Histogram, side: Side, cells: &[Cell]) {
    sum.set_side(side, cells);
    let lost_cells: Vec<Cell> = cells.iter().map(|cell| Cell { count: cell.compensation, ..*cell }).collect();
    lost.set_side(side, &lost_cells);
}

/// Like [`Histogram::reconcile_zero_buckets`], moving the compensation of swallowed buckets along.
fn reconcile_zero_buckets(sum: &mut Histogram, lost: &mut Histogram, other: &Histogram) -> Cell {
    let before = sum.zero_threshold;
    let swallowed_from = sum.clone();
    let zero = (sum.zero_count, lost.zero_count);
    let their_zero = sum.reconcile_zero_buckets(other);
    if sum.zero_threshold == before {
        return their_zero;
    }
    let inside =
        |cell: &Cell| bounds::exponential(cell.index.saturating_sub(1), swallowed_from.schema) < sum.zero_threshold;
    let mut cell = Cell { index: 0, count: zero.0, compensation: zero.1 };
    let mut remaining = Vec::new();
    for side in [Side::Positive, Side::Negative] {
        let cells = both_cells(&swallowed_from, lost, side);
        cells.iter().filter(|cell| inside(cell)).for_each(|swallowed| add_cell(&mut cell, *swallowed));
        remaining.push((side, cells.into_iter().filter(|cell| !inside(cell)).collect::<Vec<_>>()));
    }
    for (side, cells) in remaining {
        set_both(sum, lost, side, &cells);
    }
    (sum.zero_count, lost.zero_count) = (cell.count, cell.compensation);
    lost.zero_threshold = sum.zero_threshold;
    their_zero
}
