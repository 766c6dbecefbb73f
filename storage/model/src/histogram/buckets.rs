//! Buckets with their bounds, in order of value.

use std::fmt;

use super::number::format_g;
use super::sparse::{Cell, Side};
use super::{Histogram, bounds};
use crate::go_math;

/// One bucket: a range of values and how many observations fell into it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

impl Bucket {
    /// Share of this bucket's width below `value`, which lies inside its finite bounds.
    ///
    /// Linear, or on a logarithmic scale, where all exponential buckets of a histogram are equally wide.
    pub(super) fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let [lower, upper, value_log] = [self.lower, self.upper, value].map(|bound| go_math::log2(bound.abs()));
        if value > 0.0 { (value_log - lower) / (upper - lower) } else { 1.0 - (value_log - upper) / (lower - upper) }
    }
}

/// `[-2,-1):3`
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let [lower, upper, count] = [self.lower, self.upper, self.count].map(format_g);
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

impl Histogram {
    /// All buckets, empty ones included, ascending by value; the zero bucket where it has observations.
    ///
    /// A bucket that reaches into the zero bucket is cut off at its threshold.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let mut negative: Vec<Cell> = self.cells(Side::Negative).collect();
        negative.reverse();
        let positive: Vec<Cell> = self.cells(Side::Positive).collect();
        let below = negative.into_iter().map(|cell| self.outside_zero(self.bucket(Side::Negative, cell)));
        let above = positive.into_iter().map(|cell| self.outside_zero(self.bucket(Side::Positive, cell)));
        below.chain((self.zero_count > 0.0).then(|| self.zero_bucket())).chain(above)
    }

    /// Buckets of one side, from zero outwards, with their full width.
    pub(super) fn side_buckets(&self, side: Side) -> impl Iterator<Item = Bucket> + '_ {
        self.cells(side).map(move |cell| self.bucket(side, cell))
    }

    pub(super) fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    fn bucket(&self, side: Side, cell: Cell) -> Bucket {
        let bound = |index| bounds::upper(index, self.schema, &self.custom_bounds);
        let (inner, outer) = (bound(cell.index.saturating_sub(1)), bound(cell.index));
        let (lower, upper) = if side == Side::Positive { (inner, outer) } else { (-outer, -inner) };
        let (lower_inclusive, upper_inclusive) = match self.has_custom_buckets() {
            true => (cell.index == 0, true),
            false => (lower < 0.0, upper > 0.0),
        };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count: cell.count }
    }

    fn outside_zero(&self, mut bucket: Bucket) -> Bucket {
        if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        } else if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        }
        bucket
    }
}
