//! One side's buckets as pairs of index and count, the form in which sides are merged.

use super::bounds::coarser_index;
use super::{Histogram, Span};

/// A count with what Kahan summation has lost of it so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Cell {
    pub index: i32,
    pub count: f64,
    pub compensation: f64,
}

/// Indices that spans name, ascending.
pub(super) fn indices(spans: &[Span]) -> impl Iterator<Item = i32> + '_ {
    let mut next = 0_i32;
    spans.iter().flat_map(move |span| {
        let first = next.saturating_add(span.offset);
        next = first.saturating_add_unsigned(span.length);
        first..next
    })
}

/// Index and count of each bucket, ascending.
pub(super) fn cells<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = Cell> + 'a {
    indices(spans).zip(counts).map(|(index, &count)| Cell { index, count, compensation: 0.0 })
}

/// Spans over ascending, distinct `indices`.
pub(super) fn spans(indices: impl IntoIterator<Item = i32>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0_i32;
    for index in indices {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(Span { offset: index.saturating_sub(next), length: 1 }),
        }
        next = index.saturating_add(1);
    }
    spans
}

/// Which side of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Positive,
    Negative,
}

impl Histogram {
    pub(super) fn side(&self, side: Side) -> (&[Span], &[f64]) {
        match side {
            Side::Positive => (&self.positive_spans, &self.positive),
            Side::Negative => (&self.negative_spans, &self.negative),
        }
    }

    pub(super) fn cells(&self, side: Side) -> impl Iterator<Item = Cell> + '_ {
        let (spans, counts) = self.side(side);
        cells(spans, counts)
    }

    /// Replaces one side; cells ascend by index, each index once.
    pub(super) fn set_side(&mut self, side: Side, cells: &[Cell]) {
        let layout = spans(cells.iter().map(|cell| cell.index));
        let counts = cells.iter().map(|cell| cell.count).collect();
        match side {
            Side::Positive => (self.positive_spans, self.positive) = (layout, counts),
            Side::Negative => (self.negative_spans, self.negative) = (layout, counts),
        }
    }
}

/// Merges cells into the buckets of a coarser schema with `add`, in ascending order.
pub(super) fn coarsen(cells: Vec<Cell>, from: i32, to: i32, add: impl Fn(&mut Cell, Cell)) -> Vec<Cell> {
    if from <= to {
        return cells;
    }
    let mut merged: Vec<Cell> = Vec::with_capacity(cells.len());
    for cell in cells {
        let index = coarser_index(cell.index, from, to);
        match merged.last_mut() {
            Some(last) if last.index == index => add(last, cell),
            _ => merged.push(Cell { index, ..cell }),
        }
    }
    merged
}

/// Merges two ascending sides; `add` where both have a bucket, `alone` makes a bucket of one that only `b` has.
pub(super) fn merge(a: &[Cell], b: &[Cell], add: impl Fn(&mut Cell, Cell), alone: impl Fn(Cell) -> Cell) -> Vec<Cell> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(left), Some(right)) if left.index == right.index => {
                let mut cell = *left;
                add(&mut cell, *right);
                merged.push(cell);
                a.next();
                b.next();
            }
            (Some(left), Some(right)) if left.index > right.index => merged.extend(b.next().map(&alone)),
            (None, Some(_)) => merged.extend(b.next().map(&alone)),
            (Some(_), _) => merged.extend(a.next()),
            (None, None) => return merged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_indices_are_two_spellings() {
        let layout = [Span { offset: -3, length: 2 }, Span { offset: 1, length: 1 }, Span { offset: 4, length: 2 }];
        let all: Vec<i32> = indices(&layout).collect();
        assert_eq!(all, [-3, -2, 0, 5, 6]);
        assert_eq!(spans(all), layout);
        let odd = [Span { offset: 2, length: 0 }, Span { offset: 1, length: 1 }, Span { offset: 0, length: 1 }];
        assert_eq!(spans(indices(&odd)), [Span { offset: 3, length: 2 }]);
        assert_eq!(indices(&[Span { offset: i32::MAX, length: u32::MAX }]).count(), 0);
    }
}
