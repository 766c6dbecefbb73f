//! Instant selectors: what a step sees of one series.

use pilaster_model::{RangeGrid, is_stale};

use super::range::interpolate;
use super::windows::Windows;

/// The newest value in each lookback window; a staleness marker there means no value.
///
/// `windows` has the lookback as width; `values` keeps its staleness markers. For a series with histograms use
/// [`latest_index`].
pub fn latest(values: &[f64], windows: &Windows, out: &mut [f64], valid: &mut [bool]) {
    let bounds = windows.starts.iter().zip(&windows.ends);
    for ((&start, &end), (out, valid)) in bounds.zip(out.iter_mut().zip(valid.iter_mut())) {
        let value = if start < end { values[end as usize - 1] } else { pilaster_model::stale_nan() };
        *valid = !is_stale(value);
        *out = if *valid { value } else { 0.0 };
    }
}

/// The index of the newest sample in each window, `u32::MAX` where the window is empty.
pub fn latest_index(windows: &Windows, out: &mut [u32]) {
    for ((&start, &end), out) in windows.starts.iter().zip(&windows.ends).zip(out) {
        *out = if start < end { end - 1 } else { u32::MAX };
    }
}

/// `selector smoothed`: the value at each step's time, on the line between its neighbours at most `lookback_ms` away.
///
/// Without a later neighbour the earlier one's value holds; without an earlier one there is no value. `grid` has the
/// steps' (offset) times as ends; `values` has no staleness markers.
///
/// Source: `smoothSeries`, Prometheus 3.14 `promql/engine.go`.
pub fn smoothed_instant(
    timestamps_ms: &[i64],
    values: &[f64],
    grid: &RangeGrid,
    lookback_ms: i64,
    is_counter: bool,
    out: &mut [f64],
    valid: &mut [bool],
) {
    for step in 0..grid.steps {
        let at_ms = grid.end_ms(step);
        let next = timestamps_ms.partition_point(|&t| t < at_ms);
        let before = (next > 0 && timestamps_ms[next - 1] > at_ms.saturating_sub(lookback_ms)).then(|| next - 1);
        let after =
            (next < timestamps_ms.len() && timestamps_ms[next] <= at_ms.saturating_add(lookback_ms)).then_some(next);
        let value = match (before, after) {
            (_, Some(after)) if timestamps_ms[after] == at_ms => Some(values[after]),
            (Some(before), Some(after)) => {
                let (from, to) = ((timestamps_ms[before], values[before]), (timestamps_ms[after], values[after]));
                Some(interpolate(from, to, at_ms, is_counter))
            }
            (Some(before), None) => Some(values[before]),
            (None, _) => None,
        };
        valid[step] = value.is_some();
        out[step] = value.unwrap_or(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_counts_unless_stale() {
        let timestamps = [0, 30, 60, 90];
        let values = [1.0, 2.0, pilaster_model::stale_nan(), 4.0];
        let windows = Windows::new(&timestamps, &RangeGrid { first_end_ms: 30, step_ms: 30, steps: 5, width_ms: 31 });
        let (mut out, mut valid) = ([9.0; 5], [true; 5]);
        latest(&values, &windows, &mut out, &mut valid);
        assert_eq!((out, valid), ([2.0, 0.0, 4.0, 4.0, 0.0], [true, false, true, true, false]));
        let mut index = [0; 5];
        latest_index(&windows, &mut index);
        assert_eq!(index, [1, 2, 3, 3, u32::MAX]);
    }

    #[test]
    fn smoothing_interpolates_between_neighbours() {
        let grid = RangeGrid { first_end_ms: -10, step_ms: 10, steps: 6, width_ms: 0 };
        let (mut out, mut valid) = ([0.0; 6], [true; 6]);
        smoothed_instant(&[0, 20], &[1.0, 5.0], &grid, 20, false, &mut out, &mut valid);
        assert_eq!(out, [0.0, 1.0, 3.0, 5.0, 5.0, 0.0]);
        assert_eq!(valid, [false, true, true, true, true, false]);
        smoothed_instant(&[0, 20], &[5.0, 1.0], &grid, 20, true, &mut out, &mut valid);
        assert_eq!(out[2], 0.5);
    }
}
