//! Adding, subtracting and scaling histograms whose bucket layouts differ.

use std::sync::Arc;

use super::kahan::add_compensated;
use super::sparse::{Cell, Side, coarsen, merge};
use super::{CounterResetHint, Histogram, bounds};

/// One histogram has exponential buckets, the other custom ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct IncompatibleSchemas;

/// What an addition or subtraction had to reconcile, for annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddNotes {
    /// One operand says it follows a counter reset, the other that it does not.
    pub counter_reset_collision: bool,
    /// Custom bounds differed; the result has those that both have.
    pub bounds_reconciled: bool,
}

impl AddNotes {
    pub fn merge(&mut self, other: AddNotes) {
        self.counter_reset_collision |= other.counter_reset_collision;
        self.bounds_reconciled |= other.bounds_reconciled;
    }
}

/// How two numbers are combined: plainly, or keeping the rounding error for later.
pub(super) trait Combine: Copy {
    /// Adds `(count, compensation)` to a cell.
    fn add(self, to: &mut Cell, from: Cell);
}

#[derive(Clone, Copy)]
struct Plain;

impl Combine for Plain {
    fn add(self, to: &mut Cell, from: Cell) {
        to.count += from.count;
    }
}

impl Histogram {
    /// Adds `other`, at the coarser of both schemas and the wider of both zero buckets.
    ///
    /// # Errors
    /// A mix of exponential and custom buckets; `self` is unchanged then.
    ///
    /// Source: `FloatHistogram.Add`, Prometheus 3.14 `model/histogram`.
    pub fn add(&mut self, other: &Histogram) -> Result<AddNotes, IncompatibleSchemas> {
        self.add_scaled(other, 1.0)
    }

    /// Subtracts `other`; otherwise like [`Histogram::add`]. The result of PromQL's `-` is moreover a gauge.
    ///
    /// # Errors
    /// A mix of exponential and custom buckets; `self` is unchanged then.
    pub fn sub(&mut self, other: &Histogram) -> Result<AddNotes, IncompatibleSchemas> {
        self.add_scaled(other, -1.0)
    }

    fn add_scaled(&mut self, other: &Histogram, sign: f64) -> Result<AddNotes, IncompatibleSchemas> {
        if self.has_custom_buckets() != other.has_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let mut notes = AddNotes { counter_reset_collision: self.merge_hint(other), bounds_reconciled: false };
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.has_same_layout(other) {
            self.zero_count += sign * other.zero_count;
            let sides = [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)];
            for (to, from) in sides {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += sign * from);
            }
            return Ok(notes);
        }
        let signed = |mut cell: Cell| {
            cell.count *= sign;
            cell
        };
        if self.has_custom_buckets() {
            let bounds = self.common_bounds(other);
            notes.bounds_reconciled = bounds.is_some();
            let mine: Vec<Cell> = self.cells(Side::Positive).collect();
            let theirs: Vec<Cell> = other.cells(Side::Positive).map(signed).collect();
            let sum = match &bounds {
                // Between equal bounds buckets keep their numbers.
                None => merge(&mine, &theirs, |to, from| Plain.add(to, from), |cell| cell),
                Some(bounds) => {
                    let mut counts = vec![(0.0, 0.0); bounds.len() + 1];
                    add_to_bounds(&mut counts, bounds, &self.custom_bounds, mine);
                    add_to_bounds(&mut counts, bounds, &other.custom_bounds, theirs);
                    populated(&counts)
                }
            };
            self.set_side(Side::Positive, &sum);
            self.custom_bounds = bounds.unwrap_or_else(|| self.custom_bounds.clone());
            return Ok(notes);
        }
        let their_zero = self.reconcile_zero_buckets(other);
        self.zero_count += sign * their_zero.count;
        let schema = self.schema.min(other.schema);
        for side in [Side::Positive, Side::Negative] {
            let add = |to: &mut Cell, from: Cell| Plain.add(to, from);
            let mine = coarsen(self.cells(side).collect(), self.schema, schema, add);
            let theirs = coarsen(other.cells(side).map(signed).collect(), other.schema, schema, add);
            let theirs = outside_zero(&theirs, schema, self.zero_threshold);
            self.set_side(side, &merge(&mine, theirs, add, |cell| cell));
        }
        self.schema = schema;
        Ok(notes)
    }

    /// Whether all buckets of both are the same, so that counts can be added one by one.
    pub(super) fn has_same_layout(&self, other: &Histogram) -> bool {
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && self.positive.len() == other.positive.len()
            && self.negative.len() == other.negative.len()
            && self.has_same_bounds(other)
            && [Side::Positive, Side::Negative].into_iter().all(|side| self.is_outside_zero(side))
    }

    /// Whether no bucket of a side ends inside the zero bucket; those that do are left out of sums.
    fn is_outside_zero(&self, side: Side) -> bool {
        let first = self.side(side).0.first();
        self.zero_threshold == 0.0
            || first
                .is_none_or(|span| bounds::upper(span.offset, self.schema, &self.custom_bounds) > self.zero_threshold)
    }

    pub(super) fn has_same_bounds(&self, other: &Histogram) -> bool {
        Arc::ptr_eq(&self.custom_bounds, &other.custom_bounds) || self.custom_bounds == other.custom_bounds
    }

    /// The bounds that both have, or `None` where they are the same anyway.
    pub(super) fn common_bounds(&self, other: &Histogram) -> Option<Arc<[f64]>> {
        if self.has_same_bounds(other) {
            return None;
        }
        Some(self.custom_bounds.iter().copied().filter(|bound| other.custom_bounds.contains(bound)).collect())
    }

    /// What the sum of two hints is; `true` where they contradict each other.
    pub(super) fn merge_hint(&mut self, other: &Histogram) -> bool {
        use CounterResetHint::*;
        let (mine, collision) = match (self.counter_reset_hint, other.counter_reset_hint) {
            (mine, theirs) if mine == theirs => (mine, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.counter_reset_hint = mine;
        collision
    }

    /// The zero count this histogram would have with a zero bucket of at least `threshold`, and the threshold that takes:
    /// where it falls into a populated bucket, that bucket's outer bound.
    pub(super) fn zero_count_at(&self, threshold: f64) -> (Cell, f64) {
        let mut threshold = threshold;
        let own = Cell { index: 0, count: self.zero_count, compensation: 0.0 };
        if threshold == self.zero_threshold {
            return (own, threshold);
        }
        'again: loop {
            let mut zero = own;
            for side in [Side::Positive, Side::Negative] {
                for bucket in self.side_buckets(side) {
                    let (inner, outer) = match side {
                        Side::Positive => (bucket.lower, bucket.upper),
                        Side::Negative => (-bucket.upper, -bucket.lower),
                    };
                    if inner >= threshold {
                        break;
                    }
                    (zero.count, zero.compensation) = add_compensated(bucket.count, zero.count, zero.compensation);
                    if outer > threshold {
                        if bucket.count == 0.0 {
                            break;
                        }
                        threshold = outer;
                        if side == Side::Negative {
                            // The positive side was counted against a smaller threshold.
                            continue 'again;
                        }
                        break;
                    }
                }
            }
            return (zero, threshold);
        }
    }

    /// Widens the zero bucket until both histograms could have it, and returns what `other`'s count in it would be.
    pub(super) fn reconcile_zero_buckets(&mut self, other: &Histogram) -> Cell {
        let mut theirs = Cell { index: 0, count: other.zero_count, compensation: 0.0 };
        let mut their_threshold = other.zero_threshold;
        while their_threshold != self.zero_threshold {
            if self.zero_threshold > their_threshold {
                (theirs, their_threshold) = other.zero_count_at(self.zero_threshold);
            }
            if their_threshold > self.zero_threshold {
                let (mine, threshold) = self.zero_count_at(their_threshold);
                (self.zero_count, self.zero_threshold) = (mine.count, threshold);
                self.drop_buckets_in_zero();
            }
            if their_threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        theirs
    }

    /// Removes the buckets that a widened zero bucket has swallowed.
    fn drop_buckets_in_zero(&mut self) {
        for side in [Side::Positive, Side::Negative] {
            let (schema, threshold) = (self.schema, self.zero_threshold);
            let kept: Vec<Cell> = self
                .cells(side)
                .filter(|cell| {
                    cell.count != 0.0 && bounds::exponential(cell.index.saturating_sub(1), schema) >= threshold
                })
                .collect();
            self.set_side(side, &kept);
        }
    }

    /// Multiplies all counts and the sum. A negative factor makes a gauge.
    pub fn mul(&mut self, factor: f64) -> &mut Histogram {
        self.for_each_number(|number| *number *= factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    /// Divides all counts and the sum. Zero leaves no buckets; a negative divisor makes a gauge.
    pub fn div(&mut self, divisor: f64) -> &mut Histogram {
        self.for_each_number(|number| *number /= divisor);
        if divisor == 0.0 {
            self.set_side(Side::Positive, &[]);
            self.set_side(Side::Negative, &[]);
        } else if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    fn for_each_number(&mut self, mut of: impl FnMut(&mut f64)) {
        let scalars = [&mut self.zero_count, &mut self.count, &mut self.sum];
        scalars.into_iter().chain(&mut self.positive).chain(&mut self.negative).for_each(&mut of);
    }
}

/// The part of an ascending side that lies outside the zero bucket.
pub(super) fn outside_zero(cells: &[Cell], schema: i32, threshold: f64) -> &[Cell] {
    if threshold == 0.0 {
        return cells;
    }
    &cells[cells.partition_point(|cell| bounds::exponential(cell.index, schema) <= threshold)..]
}

/// Adds custom buckets to those between `bounds`, a subset of `own_bounds`; `counts` has one entry more than `bounds`.
pub(super) fn add_to_bounds(counts: &mut [(f64, f64)], bounds: &[f64], own_bounds: &[f64], cells: Vec<Cell>) {
    let mut target = 0;
    for cell in cells {
        let own = usize::try_from(cell.index).ok().and_then(|index| own_bounds.get(index));
        target = match own {
            Some(own) => target + bounds[target..].partition_point(|bound| bound < own),
            None => bounds.len(),
        };
        let (count, compensation) = &mut counts[target];
        (*count, *compensation) = add_compensated(cell.count, *count, *compensation);
        if cell.compensation != 0.0 {
            (*count, *compensation) = add_compensated(cell.compensation, *count, *compensation);
        }
    }
}

/// The buckets of a dense list that hold anything.
pub(super) fn populated(counts: &[(f64, f64)]) -> Vec<Cell> {
    let cells = counts.iter().enumerate().map(|(index, &(count, compensation))| Cell {
        index: index as i32,
        count,
        compensation,
    });
    cells.filter(|cell| cell.count != 0.0 || cell.compensation != 0.0).collect()
}
