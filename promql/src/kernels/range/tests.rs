//! Every range function against a twin that looks at one window at a time.

use proptest::prelude::*;

use super::*;
use crate::kernels::kahan::{Kahan, add_compensated};
use crate::kernels::order;

const ALL: [RangeFunction; 26] = [
    RangeFunction::Rate,
    RangeFunction::Increase,
    RangeFunction::Delta,
    RangeFunction::Irate,
    RangeFunction::Idelta,
    RangeFunction::Changes,
    RangeFunction::Resets,
    RangeFunction::Deriv,
    RangeFunction::PredictLinear,
    RangeFunction::DoubleExponentialSmoothing,
    RangeFunction::Avg,
    RangeFunction::Min,
    RangeFunction::Max,
    RangeFunction::Sum,
    RangeFunction::Count,
    RangeFunction::Last,
    RangeFunction::First,
    RangeFunction::Present,
    RangeFunction::Stddev,
    RangeFunction::Stdvar,
    RangeFunction::Quantile,
    RangeFunction::Mad,
    RangeFunction::TsOfMin,
    RangeFunction::TsOfMax,
    RangeFunction::TsOfLast,
    RangeFunction::TsOfFirst,
];

/// One window of one series, as the naive functions see it.
struct Window<'a> {
    timestamps_ms: &'a [i64],
    values: &'a [f64],
    starts_ms: Option<&'a [i64]>,
    start_ms: i64,
    end_ms: i64,
    params: [f64; 2],
}

impl Window<'_> {
    fn new_counter(&self, i: usize) -> bool {
        self.starts_ms.is_some_and(|starts| {
            starts_anew(starts[i - 1], self.timestamps_ms[i - 1], starts[i], self.timestamps_ms[i])
        })
    }

    fn extrapolated(&self, is_counter: bool, is_rate: bool) -> Option<f64> {
        let n = self.values.len();
        let (first, last) = (0, n.checked_sub(1)?);
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let mut growth = self.values[last] - self.values[first];
        for i in 1..n {
            if is_counter && (self.values[i] < self.values[i - 1] || self.new_counter(i)) {
                growth += self.values[i - 1];
            }
        }
        let born = self.starts_ms.filter(|_| is_counter).map_or(0, |starts| starts[first]);
        let mut sampled = seconds(self.timestamps_ms[last] - self.timestamps_ms[first]);
        let spacing = if n > 1 { sampled / (n - 1) as f64 } else { 0.0 };
        let mut to_start = seconds(self.timestamps_ms[first] - self.start_ms);
        let mut to_end = seconds(self.end_ms - self.timestamps_ms[last]);
        let known_start = born != 0 && born > self.start_ms && born < self.timestamps_ms[first];
        if known_start {
            to_start = 0.0;
            sampled = seconds(self.timestamps_ms[last] - born);
            growth += self.values[first];
        } else if n < 2 {
            return None;
        }
        if to_start >= spacing * 1.1 && !known_start {
            to_start = spacing / 2.0;
        }
        if is_counter && growth > 0.0 && self.values[first] >= 0.0 && !known_start {
            let to_zero = sampled * (self.values[first] / growth);
            to_start = if to_zero < to_start { to_zero } else { to_start };
        }
        if to_end >= spacing * 1.1 {
            to_end = spacing / 2.0;
        }
        let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        if is_rate {
            // As Go's `Duration.Seconds`: whole seconds plus the fraction.
            let width_ms = self.end_ms - self.start_ms;
            factor /= (width_ms / 1000) as f64 + (width_ms % 1000 * 1_000_000) as f64 / 1e9;
        }
        Some(growth * factor)
    }

    fn line(&self, origin_ms: i64) -> Option<(f64, f64)> {
        if self.values.len() < 2 {
            return None;
        }
        if self.values.iter().all(|v| *v == self.values[0]) {
            return Some(if self.values[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, self.values[0]) });
        }
        let (mut x_sum, mut y_sum, mut xy, mut xx) =
            (Kahan::default(), Kahan::default(), Kahan::default(), Kahan::default());
        for (t, y) in self.timestamps_ms.iter().zip(self.values) {
            let x = (t - origin_ms) as f64 / 1e3;
            x_sum.add(x);
            y_sum.add(*y);
            xy.add(x * y);
            xx.add(x * x);
        }
        let n = self.values.len() as f64;
        let slope = (xy.total() - x_sum.total() * y_sum.total() / n) / (xx.total() - x_sum.total() * x_sum.total() / n);
        Some((slope, y_sum.total() / n - slope * x_sum.total() / n))
    }

    fn variance(&self) -> f64 {
        let (mut mean, mut squares, mut count) = (Kahan::default(), Kahan::default(), 0.0);
        for value in self.values {
            count += 1.0;
            let delta = value - mean.total();
            mean.add(delta / count);
            squares.add(delta * (value - mean.total()));
        }
        squares.total() / count
    }

    fn mean(&self) -> f64 {
        let (mut sum, mut compensation, mut as_mean, mut count) = (self.values[0], 0.0, false, 1.0);
        for value in &self.values[1..] {
            count += 1.0;
            if !as_mean {
                let longer = add_compensated(*value, sum, compensation);
                if !longer.0.is_infinite() {
                    (sum, compensation) = longer;
                    continue;
                }
                as_mean = true;
                sum /= count - 1.0;
                compensation /= count - 1.0;
            }
            let kept = (count - 1.0) / count;
            (sum, compensation) = add_compensated(value / count, kept * sum, kept * compensation);
        }
        if as_mean { sum + compensation } else { sum / count + compensation / count }
    }

    /// Position of the extreme: a later sample replaces the kept one where `beats(new, kept)`, or the kept one is NaN.
    fn extreme(&self, beats: fn(f64, f64) -> bool) -> usize {
        let mut kept = 0;
        for (i, value) in self.values.iter().enumerate() {
            if beats(*value, self.values[kept]) || self.values[kept].is_nan() {
                kept = i;
            }
        }
        kept
    }

    fn evaluate(&self, function: RangeFunction) -> Option<f64> {
        use RangeFunction::*;
        let n = self.values.len();
        let enough = match function {
            Rate | Increase => 1,
            Delta | Irate | Idelta | Deriv | PredictLinear | DoubleExponentialSmoothing => 2,
            _ => 1,
        };
        if n < enough {
            return None;
        }
        let v = self.values;
        let seconds = |i: usize| self.timestamps_ms[i] as f64 / 1000.0;
        Some(match function {
            Rate => return self.extrapolated(true, true),
            Increase => return self.extrapolated(true, false),
            Delta => return self.extrapolated(false, false),
            Irate => {
                let reset = v[n - 1] < v[n - 2] || self.new_counter(n - 1);
                let growth = if reset { v[n - 1] } else { v[n - 1] - v[n - 2] };
                growth / ((self.timestamps_ms[n - 1] - self.timestamps_ms[n - 2]) as f64 / 1000.0)
            }
            Idelta => v[n - 1] - v[n - 2],
            Changes => (1..n).filter(|&i| v[i] != v[i - 1] && !(v[i].is_nan() && v[i - 1].is_nan())).count() as f64,
            Resets => (1..n).filter(|&i| v[i] < v[i - 1] || self.new_counter(i)).count() as f64,
            Deriv => return self.line(self.timestamps_ms[0]).map(|line| line.0),
            PredictLinear => {
                return self.line(self.end_ms + 7).map(|(slope, intercept)| slope * self.params[0] + intercept);
            }
            DoubleExponentialSmoothing => {
                let (sf, tf) = (self.params[0], self.params[1]);
                let (mut level, mut trend) = (v[0], v[1] - v[0]);
                let mut previous = 0.0;
                for (i, value) in v.iter().enumerate().skip(1) {
                    if i > 1 {
                        trend = tf * (level - previous) + (1.0 - tf) * trend;
                    }
                    previous = level;
                    level = sf * value + (1.0 - sf) * (level + trend);
                }
                level
            }
            Avg => self.mean(),
            Sum => {
                let mut sum = Kahan::default();
                v.iter().for_each(|value| sum.add(*value));
                if sum.sum.is_infinite() { sum.sum } else { sum.total() }
            }
            Min => v[self.extreme(|new, kept| new < kept)],
            Max => v[self.extreme(|new, kept| new > kept)],
            TsOfMin => seconds(self.extreme(|new, kept| new <= kept)),
            TsOfMax => seconds(self.extreme(|new, kept| new >= kept)),
            Count => n as f64,
            Last => v[n - 1],
            First => v[0],
            Present => 1.0,
            TsOfLast => seconds(n - 1),
            TsOfFirst => seconds(0),
            Stdvar => self.variance(),
            Stddev => self.variance().sqrt(),
            Quantile => order::quantile(self.params[0], &mut v.to_vec()),
            Mad => {
                let mut values = v.to_vec();
                let median = order::quantile(0.5, &mut values);
                let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
                if v.iter().any(|value| value.is_nan()) { f64::NAN } else { order::quantile(0.5, &mut deviations) }
            }
        })
    }
}

fn check(timestamps_ms: &[i64], values: &[f64], starts_ms: Option<&[i64]>, grid: RangeGrid) {
    let windows = Windows::new(timestamps_ms, &grid);
    let params = [0.3, 0.7];
    for function in ALL {
        let input = RangeInput {
            timestamps_ms,
            values,
            starts_ms,
            windows: &windows,
            grid: &grid,
            params: params.map(Param::Const),
            extension: Extension::None,
            eval_offset_ms: 7,
        };
        let (mut out, mut valid) = (vec![9.0; grid.steps], vec![true; grid.steps]);
        range_function(function, &input, &mut out, &mut valid).unwrap();
        for step in 0..grid.steps {
            let range = windows.range(step);
            let window = Window {
                timestamps_ms: &timestamps_ms[range.clone()],
                values: &values[range.clone()],
                starts_ms: starts_ms.map(|starts| &starts[range]),
                start_ms: grid.start_ms(step),
                end_ms: grid.end_ms(step),
                params,
            };
            let expected = window.evaluate(function);
            assert_eq!(valid[step], expected.is_some(), "{function:?} step {step} of {:?}", window.values);
            let expected = expected.unwrap_or(0.0);
            // Order statistics take zeros of both signs for equal.
            let signs_matter = !matches!(function, RangeFunction::Quantile | RangeFunction::Mad);
            let same = out[step].to_bits() == expected.to_bits()
                || out[step] == expected && !signs_matter
                || out[step].is_nan() && expected.is_nan();
            assert!(
                same,
                "{function:?} step {step} of {:?} at {:?}: {} instead of {expected}",
                window.values, window.timestamps_ms, out[step]
            );
        }
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0..20_i32).prop_map(f64::from),
        6 => -1e3..1e3_f64,
        1 => prop::sample::select(vec![0.0, -0.0, 1e-300, 1.7e308, -1.7e308, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ]
}

fn timeline(gaps: &[i64]) -> Vec<i64> {
    gaps.iter()
        .scan(-300_000, |at, gap| {
            *at += gap;
            Some(*at)
        })
        .collect()
}

proptest! {
    #[test]
    fn any_series_is_its_windows(
        samples in prop::collection::vec((1_i64..40_000, value()), 0..60), step_ms in 1_i64..70_000, width_ms in 1_i64..300_000, first_end_ms in -400_000_i64..400_000,
    ) {
        let (gaps, values): (Vec<i64>, Vec<f64>) = samples.into_iter().unzip();
        check(&timeline(&gaps), &values, None, RangeGrid { first_end_ms, step_ms, steps: 21, width_ms });
    }

    #[test]
    fn windows_that_overlap_much_are_windows(
        values in prop::collection::vec(value(), 50..120), step_ms in 1_i64..40_000, width_ms in 600_000_i64..1_800_000,
    ) {
        let timestamps_ms: Vec<i64> = (0..values.len() as i64).map(|at| at * 15_000).collect();
        check(&timestamps_ms, &values, None, RangeGrid { first_end_ms: 750_000, step_ms, steps: 40, width_ms });
    }

    #[test]
    fn counters_are_their_windows(
        samples in prop::collection::vec((prop_oneof![25 => Just(15_000_i64), 1 => Just(14_990), 1 => Just(45_000)], prop_oneof![20 => 0_u32..50, 1 => Just(u32::MAX)]), 0..120),
        first_end_ms in -310_000_i64..10_000, step_ms in prop::sample::select(vec![5_000_i64, 15_000, 30_000]), width_ms in 10_000_i64..130_000,
    ) {
        let mut total = 3.0;
        let (gaps, values): (Vec<i64>, Vec<f64>) = samples
            .into_iter()
            .map(|(gap, growth)| { total = if growth == u32::MAX { 1.0 } else { total + f64::from(growth) }; (gap, total) })
            .unzip();
        check(&timeline(&gaps), &values, None, RangeGrid { first_end_ms, step_ms, steps: 150, width_ms });
    }

    #[test]
    fn start_times_are_honoured(
        samples in prop::collection::vec((1_i64..40_000, 0_u32..50, prop::sample::select(vec![-1_i64, 0, 1, 500, 15_000, 60_000])), 0..40),
        first_end_ms in -310_000_i64..10_000, width_ms in 10_000_i64..130_000,
    ) {
        let gaps: Vec<i64> = samples.iter().map(|sample| sample.0).collect();
        let timestamps = timeline(&gaps);
        let values: Vec<f64> = samples.iter().map(|sample| f64::from(sample.1)).collect();
        let starts: Vec<i64> = samples.iter().zip(&timestamps).map(|(sample, t)| if sample.2 < 0 { 0 } else { t - sample.2 }).collect();
        check(&timestamps, &values, Some(&starts), RangeGrid { first_end_ms, step_ms: 15_000, steps: 30, width_ms });
    }
}

fn one(function: RangeFunction, extension: Extension, samples: &[(i64, f64)], grid: RangeGrid) -> Option<f64> {
    let (timestamps_ms, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    let after_ms = if extension == Extension::Smoothed { 300_000 } else { 0 };
    let windows = Windows::extended(&timestamps_ms, &grid, 300_000, after_ms);
    let params = [Param::Const(0.5); 2];
    let input = RangeInput {
        timestamps_ms: &timestamps_ms,
        values: &values,
        starts_ms: None,
        windows: &windows,
        grid: &grid,
        params,
        extension,
        eval_offset_ms: 0,
    };
    let (mut out, mut valid) = ([9.0], [true]);
    range_function(function, &input, &mut out, &mut valid).unwrap();
    valid[0].then_some(out[0])
}

#[test]
fn extended_selectors_look_past_the_edges() {
    use RangeFunction::*;
    let grid = RangeGrid { first_end_ms: 60_000, step_ms: 1, steps: 1, width_ms: 60_000 };
    let samples = [(-10_000, 1.0), (20_000, 4.0), (50_000, 2.0), (70_000, 8.0)];
    // 1 at the left edge; 4, then a reset to 2 at the right one.
    assert_eq!(one(Increase, Extension::Anchored, &samples, grid), Some(5.0));
    assert_eq!(one(Delta, Extension::Anchored, &samples, grid), Some(1.0));
    assert_eq!(one(Resets, Extension::Anchored, &samples, grid), Some(1.0));
    assert_eq!(one(Changes, Extension::Anchored, &samples, grid), Some(2.0));
    // 2 at the left edge, 5 at the right one.
    assert_eq!(one(Delta, Extension::Smoothed, &samples, grid), Some(3.0));
    assert_eq!(one(Rate, Extension::Smoothed, &samples, grid), Some(7.0 / 60.0));
    assert_eq!(one(Increase, Extension::Anchored, &samples[..1], grid), None);
    assert_eq!(one(Increase, Extension::Smoothed, &samples[3..], grid), None);
}

#[test]
fn factors_outside_the_unit_interval_fail_the_query() {
    let windows = Windows::new(&[0], &RangeGrid { first_end_ms: 0, step_ms: 1, steps: 1, width_ms: 1 });
    let grid = RangeGrid { first_end_ms: 0, step_ms: 1, steps: 1, width_ms: 1 };
    let mut input = RangeInput {
        timestamps_ms: &[0],
        values: &[1.0],
        starts_ms: None,
        windows: &windows,
        grid: &grid,
        params: [Param::Const(1.0), Param::Const(0.5)],
        extension: Extension::None,
        eval_offset_ms: 0,
    };
    let fails = |input: &RangeInput| {
        range_function(RangeFunction::DoubleExponentialSmoothing, input, &mut [0.0], &mut [false])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(fails(&input), "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000");
    input.params = [Param::Const(0.5), Param::PerStep(&[0.0])];
    assert_eq!(fails(&input), "invalid trend factor. Expected: 0 < tf < 1, got: 0.000000");
}
