//! When two histograms are the same data.

use super::Histogram;
use super::sparse::{Side, indices};

impl Histogram {
    /// Whether both hold the same data: equal numbers, bit by bit, in the same buckets, empty ones included. How spans
    /// are cut, and the counter reset hint, do not matter.
    ///
    /// This is what `==` means in PromQL; it holds for two NaN sums of equal bits.
    pub fn is_same_data(&self, other: &Histogram) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let same_side = |side| {
            let ((spans, counts), (other_spans, other_counts)) = (self.side(side), other.side(side));
            counts.len() == other_counts.len()
                && counts.iter().zip(other_counts).all(|(a, b)| same(*a, *b))
                && (spans == other_spans || indices(spans).eq(indices(other_spans)))
        };
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && (!self.has_custom_buckets() || self.has_same_bounds(other))
            && same_side(Side::Negative)
            && same_side(Side::Positive)
    }
}
