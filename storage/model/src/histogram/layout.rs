//! Which buckets are written down: dropping empty ones, coarser schemas.

use super::sparse::{Cell, Side, coarsen};
use super::{CounterResetHint, Histogram};

impl Histogram {
    /// Drops empty buckets and joins adjacent spans.
    pub fn compact(&mut self) -> &mut Histogram {
        for side in [Side::Positive, Side::Negative] {
            let (spans, counts) = self.side(side);
            let tidy = spans.iter().enumerate().all(|(nth, span)| span.length > 0 && (nth == 0 || span.offset > 0));
            if tidy && counts.iter().all(|count| *count != 0.0) {
                continue;
            }
            let cells: Vec<Cell> = self.cells(side).filter(|cell| cell.count != 0.0).collect();
            self.set_side(side, &cells);
        }
        self
    }

    /// Writes each side as one span, from its first to its last populated bucket.
    pub(super) fn fill_gaps(&mut self) {
        for side in [Side::Positive, Side::Negative] {
            let mut filled: Vec<Cell> = Vec::new();
            for cell in self.cells(side).filter(|cell| cell.count != 0.0) {
                let gap = filled.last().map_or(cell.index..cell.index, |last| last.index + 1..cell.index);
                filled.extend(gap.map(|index| Cell { index, ..Cell::default() }));
                filled.push(cell);
            }
            self.set_side(side, &filled);
        }
    }

    /// A copy in the coarser exponential `schema`; the same schema gives a plain copy, else the reset hint is lost.
    pub fn at_schema(&self, schema: i32) -> Histogram {
        debug_assert!(schema <= self.schema, "buckets cannot be split");
        let mut copy = self.clone();
        if schema < self.schema && !self.has_custom_buckets() {
            copy.reduce_to(schema);
            copy.counter_reset_hint = CounterResetHint::Unknown;
        }
        copy
    }

    /// Merges buckets into those of a coarser exponential schema.
    pub(super) fn reduce_to(&mut self, schema: i32) {
        for side in [Side::Positive, Side::Negative] {
            let merged = coarsen(self.cells(side).collect(), self.schema, schema, |to, from| to.count += from.count);
            self.set_side(side, &merged);
        }
        self.schema = schema;
    }
}
