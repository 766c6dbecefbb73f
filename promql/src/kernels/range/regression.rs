//! `deriv`, `predict_linear` (least squares) and `double_exponential_smoothing`.

use super::over_time::fold_windows;
use super::{Param, RangeError, RangeInput, per_window};
use crate::kernels::kahan::Kahan;

/// Sums for a least-squares line through the samples seen so far; x in seconds relative to `origin_ms`.
#[derive(Clone, Copy)]
struct Fit {
    origin_ms: i64,
    first: f64,
    constant: bool,
    x: Kahan,
    y: Kahan,
    xy: Kahan,
    xx: Kahan,
}

impl Fit {
    fn new(origin_ms: i64, first: f64) -> Fit {
        let zero = Kahan::default();
        Fit { origin_ms, first, constant: true, x: zero, y: zero, xy: zero, xx: zero }
    }

    #[inline(always)]
    fn add(&mut self, timestamp_ms: i64, y: f64, is_first: bool) {
        self.constant &= is_first || y == self.first;
        let x = (timestamp_ms - self.origin_ms) as f64 / 1e3;
        self.x.add(x);
        self.y.add(y);
        self.xy.add(x * y);
        self.xx.add(x * x);
    }

    /// Slope per second and value at the origin. A constant series is exact, without rounding noise.
    ///
    /// Source: `linearRegression`, Prometheus 3.14 `promql/functions.go`.
    fn line(&self, count: usize) -> (f64, f64) {
        if self.constant {
            return if self.first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, self.first) };
        }
        let n = count as f64;
        let (x, y, xy, xx) = (self.x.total(), self.y.total(), self.xy.total(), self.xx.total());
        let covariance = xy - x * y / n;
        let variance = xx - x * x / n;
        let slope = covariance / variance;
        (slope, y / n - slope * x / n)
    }
}

/// Slope per second of the least-squares line through each window; nothing below two samples.
pub(super) fn deriv(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let RangeInput { timestamps_ms, values, .. } = *input;
    // An origin near the samples keeps x small; relative to the epoch the squares would drown the differences.
    fold_windows(
        input,
        |start| Fit::new(timestamps_ms.get(start).copied().unwrap_or(0), values.get(start).copied().unwrap_or(0.0)),
        |fit, index, nth| fit.add(timestamps_ms[index], values[index], nth == 0),
        |fit, count| fit.line(count).0,
        out,
        valid,
    );
    drop_single_samples(input, out, valid);
}

/// The value that the line through each window reaches `params[0]` seconds after the evaluation time.
pub(super) fn predict_linear(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    let RangeInput { timestamps_ms, values, grid, .. } = *input;
    per_window(input, 2, out, valid, |step, range| {
        let mut fit = Fit::new(grid.end_ms(step) + input.eval_offset_ms, values[range.start]);
        let count = range.len();
        for (nth, index) in range.enumerate() {
            fit.add(timestamps_ms[index], values[index], nth == 0);
        }
        let (slope, intercept) = fit.line(count);
        slope * input.params[0].at(step) + intercept
    });
}

fn drop_single_samples(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) {
    for step in 0..input.windows.len() {
        if input.windows.range(step).len() < 2 {
            (out[step], valid[step]) = (0.0, false);
        }
    }
}

/// The last value of each window, smoothed exponentially in level (`params[0]`) and trend (`params[1]`).
///
/// Nothing below two samples.
///
/// # Errors
/// A factor outside (0, 1) at a step whose window has samples.
pub(super) fn smooth(input: &RangeInput, out: &mut [f64], valid: &mut [bool]) -> Result<(), RangeError> {
    for step in 0..input.windows.len() {
        let values = &input.values[input.windows.range(step)];
        (out[step], valid[step]) = (0.0, false);
        if values.is_empty() {
            continue;
        }
        let (level, trend) = factors(&input.params, step)?;
        if let [first, second, ..] = values {
            (out[step], valid[step]) = (smoothed(*first, second - first, &values[1..], level, trend), true);
        }
    }
    Ok(())
}

/// The smoothing and the trend factor at `step`.
pub(super) fn factors(params: &[Param; 2], step: usize) -> Result<(f64, f64), RangeError> {
    let (level, trend) = (params[0].at(step), params[1].at(step));
    if level <= 0.0 || level >= 1.0 {
        return Err(RangeError::SmoothingFactor(level));
    }
    if trend <= 0.0 || trend >= 1.0 {
        return Err(RangeError::TrendFactor(trend));
    }
    Ok((level, trend))
}

fn smoothed(first: f64, first_slope: f64, later: &[f64], level: f64, trend: f64) -> f64 {
    let (mut previous, mut current, mut slope) = (0.0, first, first_slope);
    for (nth, &value) in later.iter().enumerate() {
        if nth > 0 {
            slope = trend * (current - previous) + (1.0 - trend) * slope;
        }
        (previous, current) = (current, level * value + (1.0 - level) * (current + slope));
    }
    current
}
