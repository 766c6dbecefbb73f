//! Range functions over floats: one series, all steps in one call.

mod extended;
mod histogram;
mod mixed;
mod over_time;
mod rate;
mod regression;
mod sliding;

use pilaster_model::RangeGrid;

use super::windows::Windows;

pub(super) use extended::interpolate;
pub use histogram::{HistogramRangeInput, histogram_range_function};
pub use mixed::{MixedNotes, MixedRangeInput, mixed_range_function, mixed_smoothed_instant};
pub(super) use rate::{Extrapolation, seconds};
pub use rate::{start_time_overlaps, starts_anew};

/// The functions that take a range vector. `absent_over_time` is `Present`, inverted over all series by its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Last,
    First,
    Present,
    Stddev,
    Stdvar,
    Quantile,
    Mad,
    TsOfMin,
    TsOfMax,
    TsOfLast,
    TsOfFirst,
}

impl RangeFunction {
    /// By its PromQL name; `None` for any other function.
    pub fn from_name(name: &str) -> Option<RangeFunction> {
        use RangeFunction::*;
        Some(match name {
            "rate" => Rate,
            "increase" => Increase,
            "delta" => Delta,
            "irate" => Irate,
            "idelta" => Idelta,
            "changes" => Changes,
            "resets" => Resets,
            "deriv" => Deriv,
            "predict_linear" => PredictLinear,
            "double_exponential_smoothing" => DoubleExponentialSmoothing,
            "avg_over_time" => Avg,
            "min_over_time" => Min,
            "max_over_time" => Max,
            "sum_over_time" => Sum,
            "count_over_time" => Count,
            "last_over_time" => Last,
            "first_over_time" => First,
            "present_over_time" | "absent_over_time" => Present,
            "stddev_over_time" => Stddev,
            "stdvar_over_time" => Stdvar,
            "quantile_over_time" => Quantile,
            "mad_over_time" => Mad,
            "ts_of_min_over_time" => TsOfMin,
            "ts_of_max_over_time" => TsOfMax,
            "ts_of_last_over_time" => TsOfLast,
            "ts_of_first_over_time" => TsOfFirst,
            _ => return None,
        })
    }

    /// What becomes of a window that holds both floats and histograms.
    pub fn mixed_windows(self) -> MixedWindows {
        use RangeFunction::*;
        match self {
            Rate | Increase | Delta | Irate | Idelta | Avg | Sum => MixedWindows::Dropped,
            Deriv
            | PredictLinear
            | DoubleExponentialSmoothing
            | Min
            | Max
            | Stddev
            | Stdvar
            | Quantile
            | Mad
            | TsOfMin
            | TsOfMax => MixedWindows::FloatsOnly,
            Changes | Resets | Count | Last | First | Present | TsOfLast | TsOfFirst => MixedWindows::Whole,
        }
    }
}

/// How a range function treats a window with floats and histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixedWindows {
    /// No result, and the warning about mixed floats and histograms.
    Dropped,
    /// Computed from the floats, with the info about ignored histograms; nothing where there are only histograms.
    FloatsOnly,
    /// Both count.
    Whole,
}

/// A scalar argument, which may differ from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param<'a> {
    Const(f64),
    PerStep(&'a [f64]),
}

impl Param<'_> {
    #[inline(always)]
    pub fn at(&self, step: usize) -> f64 {
        match self {
            Param::Const(value) => *value,
            Param::PerStep(values) => values[step],
        }
    }
}

/// `anchored` and `smoothed` range selectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extension {
    #[default]
    None,
    Anchored,
    Smoothed,
}

/// One series and the windows over it.
#[derive(Debug, Clone, Copy)]
pub struct RangeInput<'a> {
    /// Strictly ascending; parallel to `values`; staleness markers removed.
    pub timestamps_ms: &'a [i64],
    pub values: &'a [f64],
    /// Start timestamps, 0 where unknown; given only where the query honours them.
    pub starts_ms: Option<&'a [i64]>,
    /// Made from `timestamps_ms` and `grid`, extended by the lookback for `anchored` and `smoothed`.
    pub windows: &'a Windows,
    pub grid: &'a RangeGrid,
    /// `quantile_over_time`: φ; `predict_linear`: seconds; `double_exponential_smoothing`: smoothing and trend factor.
    pub params: [Param<'a>; 2],
    pub extension: Extension,
    /// Evaluation time minus window end: the selector's offset. Only `predict_linear` looks at the evaluation time.
    pub eval_offset_ms: i64,
}

/// What a kernel noticed on the way, for annotations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeNotes {
    /// A sample's start timestamp lies before the previous sample without being that sample's own.
    pub start_time_overlap: bool,
}

/// A scalar argument was refused; the query fails. The texts are Prometheus's.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum RangeError {
    #[error("invalid smoothing factor. Expected: 0 < sf < 1, got: {}", super::format::format_f6(*.0))]
    SmoothingFactor(f64),
    #[error("invalid trend factor. Expected: 0 < tf < 1, got: {}", super::format::format_f6(*.0))]
    TrendFactor(f64),
}

/// Evaluates `function` for every step; `out[i]` is defined where `valid[i]`.
///
/// # Errors
/// A smoothing or trend factor outside (0, 1) at a step whose window has samples.
pub fn range_function(
    function: RangeFunction,
    input: &RangeInput,
    out: &mut [f64],
    valid: &mut [bool],
) -> Result<RangeNotes, RangeError> {
    use RangeFunction::*;
    debug_assert!(out.len() == input.windows.len() && valid.len() == out.len(), "one cell per step");
    let mut notes = RangeNotes::default();
    match (function, input.extension) {
        (Rate | Increase | Delta, Extension::Anchored | Extension::Smoothed) => {
            extended::rate(function, input, out, valid)
        }
        (Changes | Resets, Extension::Anchored | Extension::Smoothed) => {
            extended::transitions(function, input, out, valid)
        }
        (Rate | Increase | Delta, Extension::None) => notes = rate::extrapolated(function, input, out, valid),
        (Irate | Idelta, _) => rate::instant(function, input, out, valid),
        (Changes | Resets, Extension::None) => over_time::transitions(function, input, out, valid),
        (Deriv, _) => regression::deriv(input, out, valid),
        (PredictLinear, _) => regression::predict_linear(input, out, valid),
        (DoubleExponentialSmoothing, _) => regression::smooth(input, out, valid)?,
        (Avg, _) => over_time::avg(input, out, valid),
        (Sum, _) => over_time::sum(input, out, valid),
        (Stddev, _) => over_time::variance(input, f64::sqrt, out, valid),
        (Stdvar, _) => over_time::variance(input, |variance| variance, out, valid),
        (Count | Last | First | Present | TsOfLast | TsOfFirst, _) => over_time::pick(function, input, out, valid),
        (Min | Max | TsOfMin | TsOfMax, _) => sliding::extreme(function, input, out, valid),
        (Quantile, _) => sliding::quantile_over_time(input, out, valid),
        (Mad, _) => sliding::mad_over_time(input, out, valid),
    }
    Ok(notes)
}

/// Calls `of` for every step whose window holds at least `min_samples`, with the step and the window's bounds.
#[inline(always)]
fn per_window(
    input: &RangeInput,
    min_samples: usize,
    out: &mut [f64],
    valid: &mut [bool],
    mut of: impl FnMut(usize, std::ops::Range<usize>) -> f64,
) {
    let bounds = input.windows.starts.iter().zip(&input.windows.ends);
    for (step, ((&start, &end), (out, valid))) in bounds.zip(out.iter_mut().zip(valid)).enumerate() {
        let range = start as usize..end as usize;
        *valid = range.len() >= min_samples;
        *out = if *valid { of(step, range) } else { 0.0 };
    }
}

#[cfg(test)]
mod tests;
