//! How many samples a query looks at, step by step, as Prometheus counts them: who looks at a sample at two steps looks
//! twice, whatever is read in truth.
//!
//! Source: `util/stats`, Prometheus 3.14.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pilaster_model::{Histogram, RangeGrid};

use crate::grid::Steps;

/// Bytes of a histogram without spans, buckets and bounds in Prometheus, of which each takes eight more.
const HISTOGRAM_BYTES: usize = 168;

/// The counts of one evaluation: of the whole query, of what is evaluated once for all steps, or of a subquery.
#[derive(Debug)]
pub(crate) struct SampleCounts {
    steps: Steps,
    /// What each step looks at; empty in a subquery under a function, which counts that itself.
    seen: Vec<AtomicU64>,
    /// Without what the step before it has looked at already.
    read: Vec<AtomicU64>,
    outer: Option<(Arc<SampleCounts>, Share)>,
}

/// What an inner evaluation is to the outer one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Share {
    /// Its one step serves them all.
    Once,
    /// The samples of a range function, which counts what it looks at of them itself.
    Subquery { offset_ms: i64, range_ms: i64 },
    /// The query's value.
    Value,
}

/// Samples at each step of a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepCounts {
    /// The evaluation times, with what each looks at.
    pub seen: Vec<(i64, u64)>,
    /// The same without what the step before has looked at already.
    pub read: Vec<(i64, u64)>,
}

/// Where a range function counts.
#[derive(Debug, Clone)]
pub(crate) struct WindowCounts {
    pub counts: Arc<SampleCounts>,
    /// How far windows reach beyond those of the function's grid.
    pub before_ms: i64,
    pub after_ms: i64,
    /// Whether the samples come from series: those of a subquery were counted when they were made.
    pub stored: bool,
}

impl SampleCounts {
    pub fn new(steps: Steps, outer: Option<(Arc<SampleCounts>, Share)>) -> SampleCounts {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let is_seen = !matches!(outer, Some((_, Share::Subquery { .. })));
        SampleCounts { steps, seen: zeros(if is_seen { steps.count } else { 0 }), read: zeros(steps.count), outer }
    }

    /// `step` looks at `count` samples that no step before it has looked at.
    pub fn add(&self, step: usize, count: u64) {
        self.see(step, count);
        self.read[step].fetch_add(count, Ordering::Relaxed);
    }

    fn see(&self, step: usize, count: u64) {
        if let Some(seen) = self.seen.get(step) {
            seen.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The cells of one row, each of which is one sample.
    pub fn add_present(&self, valid: &[bool]) {
        valid.iter().enumerate().filter(|(_, valid)| **valid).for_each(|(step, _)| self.add(step, 1));
    }

    /// Hands the counts on to the outer evaluation; inner ones go first.
    pub fn hand_on(&self) {
        let Some((outer, share)) = &self.outer else { return };
        let sum = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        let Some(last) = outer.steps.count.checked_sub(1) else { return };
        match *share {
            Share::Once => {
                let seen = sum(&self.seen);
                (0..=last).for_each(|step| outer.see(step, seen));
                outer.read[0].fetch_add(sum(&self.read), Ordering::Relaxed);
            }
            Share::Value => {
                outer.see(last, sum(&self.seen));
                outer.read[0].fetch_add(sum(&self.read), Ordering::Relaxed);
            }
            Share::Subquery { .. } if last == 0 => {
                outer.read[0].fetch_add(sum(&self.read), Ordering::Relaxed);
            }
            Share::Subquery { offset_ms, range_ms } => {
                for (step, count) in self.read.iter().enumerate() {
                    let at_ms = self.steps.at(step).saturating_add(offset_ms);
                    // The first step that this one could matter to …
                    let after_ms = at_ms.saturating_sub(outer.steps.start_ms).max(0);
                    let step_ms = outer.steps.step_ms.max(1);
                    let taker = (after_ms.saturating_add(step_ms - 1) / step_ms).min(last as i64) as usize;
                    // … unless it lies before its window, in a gap between two.
                    if at_ms > outer.steps.at(taker).saturating_sub(range_ms) {
                        outer.read[taker].fetch_add(count.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                }
            }
        }
    }

    pub fn finish(&self) -> StepCounts {
        let with_times = |counts: &[AtomicU64]| {
            counts
                .iter()
                .enumerate()
                .map(|(step, count)| (self.steps.at(step), count.load(Ordering::Relaxed)))
                .collect()
        };
        StepCounts { seen: with_times(&self.seen), read: with_times(&self.read) }
    }
}

impl WindowCounts {
    /// Counts what windows of `grid` hold of the samples of one series, none of them a staleness marker. `before` says how
    /// many samples, histograms by their size, come before the one at a position; it has one entry more than there are.
    pub fn add(&self, timestamps_ms: &[i64], before: impl Fn(usize) -> u64, grid: &RangeGrid) {
        for step in 0..grid.steps {
            let end_ms = grid.end_ms(step).saturating_add(self.after_ms);
            let start_ms = grid.start_ms(step).saturating_sub(self.before_ms);
            let until = timestamps_ms.partition_point(|&ms| ms <= end_ms);
            let from = timestamps_ms.partition_point(|&ms| ms <= start_ms);
            if from >= until {
                continue;
            }
            let count = before(until) - before(from);
            self.counts.see(step, count);
            let new = match step {
                0 => count,
                // With `@` the window of the first step stays.
                _ if grid.step_ms == 0 => 0,
                _ => {
                    let known = timestamps_ms.partition_point(|&ms| ms <= end_ms.saturating_sub(grid.step_ms));
                    before(until) - before(known.clamp(from, until))
                }
            };
            if self.stored {
                self.counts.read[step].fetch_add(new, Ordering::Relaxed);
            }
        }
    }
}

/// For how many samples a histogram counts: those of 16 bytes that would take as much.
pub(crate) fn samples_in(histogram: &Histogram) -> u64 {
    let Histogram { positive_spans, positive, negative_spans, negative, custom_bounds, .. } = histogram;
    let parts = positive_spans.len() + positive.len() + negative_spans.len() + negative.len() + custom_bounds.len();
    ((HISTOGRAM_BYTES + 8 * parts + 8) / 16) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(counts: &SampleCounts) -> Vec<u64> {
        counts.finish().read.iter().map(|(_, count)| *count).collect()
    }

    fn seen(counts: &SampleCounts) -> Vec<u64> {
        counts.finish().seen.iter().map(|(_, count)| *count).collect()
    }

    #[test]
    fn windows_that_overlap_read_a_sample_once() {
        let counts = Arc::new(SampleCounts::new(Steps::range(30, 60, 10), None));
        let window = WindowCounts { counts: Arc::clone(&counts), before_ms: 0, after_ms: 0, stored: true };
        let times: Vec<i64> = (0..=60).step_by(5).collect();
        window.add(&times, |at| at as u64, &RangeGrid { first_end_ms: 30, step_ms: 10, steps: 4, width_ms: 20 });
        assert_eq!((seen(&counts), read(&counts)), (vec![4, 4, 4, 4], vec![4, 2, 2, 2]));
        // Windows with gaps between them read all that they hold.
        let counts = Arc::new(SampleCounts::new(Steps::range(30, 60, 10), None));
        let window = WindowCounts { counts: Arc::clone(&counts), ..window };
        window.add(&times, |at| at as u64, &RangeGrid { first_end_ms: 30, step_ms: 10, steps: 4, width_ms: 5 });
        assert_eq!((seen(&counts), read(&counts)), (vec![1; 4], vec![1; 4]));
    }

    #[test]
    fn a_subquery_is_read_by_the_first_step_that_takes_it() {
        let outer = Arc::new(SampleCounts::new(Steps::range(100, 130, 10), None));
        let share = Share::Subquery { offset_ms: 5, range_ms: 6 };
        let inner = SampleCounts::new(Steps::range(80, 125, 5), Some((Arc::clone(&outer), share)));
        (0..10).for_each(|step| inner.add(step, 1 << step));
        inner.hand_on();
        // At 95 and 100 come 90 and 95 with the offset; what is before the first window is in none.
        assert_eq!(read(&outer), [1 << 2 | 1 << 3, 1 << 4 | 1 << 5, 1 << 6 | 1 << 7, 1 << 8 | 1 << 9]);
        assert_eq!(seen(&outer), [0; 4]);
    }

    #[test]
    fn what_is_evaluated_once_is_seen_by_all_steps() {
        let outer = Arc::new(SampleCounts::new(Steps::range(0, 20, 10), None));
        let inner = SampleCounts::new(Steps::instant(0), Some((Arc::clone(&outer), Share::Once)));
        inner.add(0, 7);
        inner.hand_on();
        assert_eq!((seen(&outer), read(&outer)), (vec![7; 3], vec![7, 0, 0]));
    }

    #[test]
    fn histograms_count_by_their_size() {
        assert_eq!(samples_in(&Histogram::default()), 11);
        let wide = Histogram { positive: vec![1.0; 20], ..Histogram::default() };
        assert_eq!(samples_in(&wide), 21);
    }
}
