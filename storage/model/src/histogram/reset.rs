//! Counter resets between two histograms of a series.

use super::arithmetic::outside_zero;
use super::sparse::{Cell, Side, coarsen};
use super::{CounterResetHint, Histogram};

impl Histogram {
    /// Whether a counter was reset between `previous` and this histogram: a count that fell, a bucket that vanished, or
    /// a change of layout that only a restart explains. A hint that settles it is believed.
    ///
    /// A finer schema or a narrower zero bucket is a reset; a coarser or wider one is reconciled first.
    ///
    /// Source: `FloatHistogram.DetectReset`, Prometheus 3.14 `model/histogram`.
    pub fn detect_reset(&self, previous: &Histogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => true,
            CounterResetHint::NotReset => false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => self.fell_since(previous),
        }
    }

    /// Whether a chunk of a store that ends with `previous` can go on with this histogram of a counter: then the store
    /// knows, and says when it is read, that there is no reset between them. Counts decide, except that a written reset
    /// is believed.
    ///
    /// Source: what Prometheus 3.14 gives back of the samples of one chunk (`tsdb/chunkenc/histogram.go`).
    pub fn continues(&self, previous: &Histogram) -> bool {
        self.counter_reset_hint != CounterResetHint::Reset
            && previous.counter_reset_hint != CounterResetHint::Gauge
            && self.schema == previous.schema
            && self.zero_threshold == previous.zero_threshold
            && !previous.is_stale()
            && !self.fell_since(previous)
    }

    /// [`Histogram::detect_reset`] without regard to hints.
    fn fell_since(&self, previous: &Histogram) -> bool {
        if self.count < previous.count {
            return true;
        }
        if self.has_same_layout(previous) {
            let fell = |now: &[f64], before: &[f64]| now.iter().zip(before).any(|(now, before)| now < before);
            return self.zero_count < previous.zero_count
                || fell(&self.positive, &previous.positive)
                || fell(&self.negative, &previous.negative);
        }
        if self.has_custom_buckets() {
            if !previous.has_custom_buckets() {
                return true;
            }
            if let Some(bounds) = self.common_bounds(previous) {
                let now = counts_between(self, &bounds);
                return now.iter().zip(counts_between(previous, &bounds)).any(|(now, before)| *now < before);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero, threshold) = previous.zero_count_at(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < previous_zero.count {
            return true;
        }
        [Side::Positive, Side::Negative].into_iter().any(|side| {
            let now: Vec<Cell> = self.cells(side).collect();
            let add = |to: &mut Cell, from: Cell| to.count += from.count;
            let before = coarsen(previous.cells(side).collect(), previous.schema, self.schema, add);
            let visible = |cells| match self.has_custom_buckets() {
                true => cells,
                false => outside_zero(cells, self.schema, self.zero_threshold),
            };
            has_fallen(visible(&now), visible(&before))
        })
    }
}

/// Whether a bucket has fewer observations than before, or is missing although it had some.
fn has_fallen(now: &[Cell], before: &[Cell]) -> bool {
    let mut now = now.iter().peekable();
    before.iter().any(|before| {
        while now.next_if(|cell| cell.index < before.index).is_some() {}
        match now.peek() {
            Some(cell) if cell.index == before.index => cell.count < before.count,
            _ => before.count != 0.0,
        }
    })
}

/// Counts between `bounds`, which are some of the histogram's own.
fn counts_between(histogram: &Histogram, bounds: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; bounds.len() + 1];
    for bucket in histogram.side_buckets(Side::Positive) {
        counts[bounds.partition_point(|bound| *bound < bucket.upper)] += bucket.count;
    }
    counts
}
