//! The windows of a range selector, and what of the samples in them matters to a function.

use std::ops::Range;

/// The evaluation times of a range selector: window `i` is `(end_ms(i) - width_ms, end_ms(i)]`, offset and `@` applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeGrid {
    pub first_end_ms: i64,
    pub step_ms: i64,
    pub steps: usize,
    pub width_ms: i64,
}

impl RangeGrid {
    /// The last millisecond inside the window of `step`.
    #[inline(always)]
    pub fn end_ms(&self, step: usize) -> i64 {
        self.first_end_ms + step as i64 * self.step_ms
    }

    /// The last millisecond before the window of `step`.
    #[inline(always)]
    pub fn start_ms(&self, step: usize) -> i64 {
        self.end_ms(step) - self.width_ms
    }

    /// Whether a window begins or ends in `[first_ms, last_ms)`: if none does, each holds all of the times from
    /// `first_ms` to `last_ms` or none of them.
    pub fn cuts(&self, first_ms: i64, last_ms: i64) -> bool {
        let first_start_ms = i128::from(self.first_end_ms) - i128::from(self.width_ms);
        self.any_between(i128::from(self.first_end_ms), first_ms, last_ms)
            || self.any_between(first_start_ms, first_ms, last_ms)
    }

    /// Which of ascending `timestamps_ms` lie in windows: ranges of indices, ascending, none of them empty. `None` where
    /// that is more than three quarters of them.
    pub fn parts_inside(&self, timestamps_ms: &[i64]) -> Option<Vec<Range<usize>>> {
        let (&first_ms, &last_ms) = (timestamps_ms.first()?, timestamps_ms.last()?);
        if self.step_ms <= self.width_ms {
            // All of them from the first window's start to the last one's end.
            return None;
        }
        let before = i128::from(first_ms) - i128::from(self.first_end_ms);
        let first_step = (before + i128::from(self.step_ms) - 1).div_euclid(i128::from(self.step_ms)).max(0);
        let first_step = usize::try_from(first_step).unwrap_or(usize::MAX).min(self.steps);
        let (mut parts, mut at, mut kept) = (Vec::new(), 0, 0);
        for step in first_step..self.steps {
            if self.start_ms(step) >= last_ms {
                break;
            }
            let start = at + timestamps_ms[at..].partition_point(|&timestamp_ms| timestamp_ms <= self.start_ms(step));
            at = start + timestamps_ms[start..].partition_point(|&timestamp_ms| timestamp_ms <= self.end_ms(step));
            if start < at {
                parts.push(start..at);
                kept += at - start;
            }
        }
        (kept * 4 <= timestamps_ms.len() * 3).then_some(parts)
    }

    /// Whether `first_ms`, moved by any number of steps that there is, lies in `[from_ms, until_ms)`.
    fn any_between(&self, first_ms: i128, from_ms: i64, until_ms: i64) -> bool {
        let (from_ms, until_ms, step_ms) = (i128::from(from_ms), i128::from(until_ms), i128::from(self.step_ms));
        if step_ms <= 0 {
            return self.steps > 0 && (from_ms..until_ms).contains(&first_ms);
        }
        let step = (from_ms - first_ms + step_ms - 1).div_euclid(step_ms).max(0);
        step < self.steps as i128 && first_ms + step * step_ms < until_ms
    }
}

/// What a function makes of the samples of a window, where few samples can stand for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// It may look at all of them.
    Whole,
    /// It looks at timestamps, and at values only to leave out staleness markers.
    Times,
    /// It looks at the newest sample.
    Last,
    Largest,
    Smallest,
    /// It adds values up, earliest first, with compensation; it may divide by how many there are.
    Sum,
    /// It looks at the first and the last sample, at how many there are, and at those below the one before them.
    Growth,
}

/// The windows in which samples are wanted, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReducedWindows {
    pub windows: RangeGrid,
    pub reduction: Reduction,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow twin looks at every window and every time.
    #[test]
    fn parts_inside_are_what_any_window_holds() {
        let mut cut = 0;
        for (first_end_ms, step_ms, steps, width_ms) in
            [(10, 7, 5, 4), (10, 30, 4, 20), (0, 0, 3, 6), (-9, 5, 6, 2), (5, 9, 0, 3), (3, 2, 100, 1), (-50, 11, 9, 1)]
        {
            let grid = RangeGrid { first_end_ms, step_ms, steps, width_ms };
            for first_ms in -30..50 {
                for (count, spacing_ms) in [(0, 1), (1, 1), (3, 1), (40, 1), (20, 3), (9, 17)] {
                    let timestamps_ms: Vec<i64> = (0..count).map(|at| first_ms + at * spacing_ms).collect();
                    let inside = |ms: i64| (0..steps).any(|step| grid.start_ms(step) < ms && ms <= grid.end_ms(step));
                    let expected: Vec<usize> =
                        (0..timestamps_ms.len()).filter(|&at| inside(timestamps_ms[at])).collect();
                    let Some(parts) = grid.parts_inside(&timestamps_ms) else {
                        let few = expected.len() * 4 <= timestamps_ms.len() * 3;
                        assert!(timestamps_ms.is_empty() || step_ms <= width_ms || !few, "{grid:?} {first_ms}");
                        continue;
                    };
                    cut += 1;
                    assert!(parts.iter().all(|part| !part.is_empty()));
                    assert_eq!(parts.into_iter().flatten().collect::<Vec<usize>>(), expected, "{grid:?} {first_ms}");
                }
            }
        }
        assert!(cut > 100);
        let all = RangeGrid { first_end_ms: i64::MAX - 1, step_ms: 10, steps: 1, width_ms: 5 };
        assert_eq!(all.parts_inside(&[i64::MIN, 0, i64::MAX]), Some(vec![]));
    }

    /// The slow twin looks at every window and every time.
    #[test]
    fn windows_that_cut_nothing_hold_all_or_nothing() {
        for (first_end_ms, step_ms, steps, width_ms) in
            [(10, 7, 5, 4), (10, 3, 4, 20), (0, 0, 3, 6), (-9, 5, 6, 5), (5, 1, 0, 3), (3, 2, 1, 1)]
        {
            let grid = RangeGrid { first_end_ms, step_ms, steps, width_ms };
            for first_ms in -30..50 {
                for last_ms in first_ms..50 {
                    let cut = (0..steps).any(|step| {
                        let inside = |ms: &i64| grid.start_ms(step) < *ms && *ms <= grid.end_ms(step);
                        let held = (first_ms..=last_ms).filter(inside).count() as i64;
                        0 < held && held < last_ms - first_ms + 1
                    });
                    assert_eq!(grid.cuts(first_ms, last_ms), cut, "{grid:?} {first_ms} {last_ms}");
                }
            }
        }
        let all = RangeGrid { first_end_ms: i64::MAX, step_ms: i64::MAX, steps: usize::MAX, width_ms: i64::MAX };
        assert!(all.cuts(i64::MIN, i64::MAX) && !all.cuts(1, i64::MAX));
    }
}
