//! The windows of a range selector, and what of the samples in them matters to a function.

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
