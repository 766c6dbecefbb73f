//! A range function over the samples of one series: floats, native histograms, or both in turn.

use std::sync::{Arc, OnceLock};

use pilaster_model::{Histogram, Labels, ReducedWindows, Reduction, is_stale};

use crate::annotations::Place;
use crate::error::QueryError;
use crate::exec::query_state::QueryState;
use crate::exec::sample_counts::{WindowCounts, samples_in};
use crate::exec::scalar::Scalar;
use crate::grid::{GridBuilder, Steps};
use crate::kernels::{
    Extension, Param, RangeFunction, RangeGrid, RangeInput, RangeNotes, Windows, is_valid_quantile, range_function,
    without_stale_samples,
};

/// Samples of one series; the slices are parallel and hold staleness markers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Samples<'a> {
    pub timestamps_ms: &'a [i64],
    /// How many samples each stands for, where that is not one everywhere.
    pub weights: Option<&'a [u32]>,
    pub values: &'a [f64],
    pub histograms: Option<&'a [Option<Arc<Histogram>>]>,
    pub starts_ms: Option<&'a [i64]>,
}

/// A range function, its windows and its scalar arguments.
#[derive(Debug)]
pub(crate) struct RangeCall {
    pub name: &'static str,
    pub function: RangeFunction,
    /// Offset and `@` applied; with `@` all windows are the same.
    pub grid: RangeGrid,
    /// The evaluation times; they differ from the windows' ends by the offset, or by more with `@`.
    pub steps: Steps,
    pub extension: Extension,
    pub lookback_ms: i64,
    pub params: [Scalar; 2],
    /// Whether start timestamps count.
    pub use_starts: bool,
    /// Whether `__type__` says what is a counter, not the name.
    pub type_labels: bool,
    /// Where the first argument stands.
    pub argument_place: Place,
    /// Where all arguments stand.
    pub arguments_place: Place,
    /// The metric that the note about counters was last written for.
    pub noted: OnceLock<String>,
    /// Where samples are counted, if that is asked for.
    pub counts: Option<WindowCounts>,
}

impl RangeCall {
    /// Windows over a timeline; `weights` as in [`Samples`].
    pub fn windows(&self, timestamps_ms: &[i64], weights: Option<&[u32]>) -> Windows {
        match self.extension {
            Extension::None => {
                let windows = Windows::new(timestamps_ms, &self.grid);
                match weights {
                    Some(weights) => windows.weighted(weights),
                    None => windows,
                }
            }
            Extension::Anchored => Windows::extended(timestamps_ms, &self.grid, self.lookback_ms, 0),
            Extension::Smoothed => Windows::extended(timestamps_ms, &self.grid, self.lookback_ms, self.lookback_ms),
        }
    }

    /// What the function wants of samples, where that is less than all of them.
    pub fn reduced(&self) -> Option<ReducedWindows> {
        use RangeFunction::*;
        if self.extension != Extension::None || self.counts.is_some() {
            return None;
        }
        let reduction = match self.function {
            Count | Present | TsOfFirst | TsOfLast => Reduction::Times,
            Last => Reduction::Last,
            Max => Reduction::Largest,
            Min => Reduction::Smallest,
            Sum | Avg => Reduction::Sum,
            Rate | Increase | Delta | Resets => Reduction::Growth,
            Irate
            | Idelta
            | Changes
            | Deriv
            | PredictLinear
            | DoubleExponentialSmoothing
            | First
            | Stddev
            | Stdvar
            | Quantile
            | Mad
            | TsOfMin
            | TsOfMax => Reduction::Whole,
        };
        Some(ReducedWindows { windows: self.grid, reduction })
    }

    /// For EXPLAIN: `rate[300000ms]`.
    pub fn describe(&self) -> String {
        format!("{}[{}ms]", self.name, self.grid.width_ms)
    }

    /// Appends the row of one series; `windows` belong to `samples.timestamps_ms`.
    pub fn apply(
        &self,
        series: u32,
        labels: &Labels,
        samples: &Samples<'_>,
        windows: &Windows,
        out: &mut GridBuilder,
        query: &QueryState,
    ) -> Result<(), QueryError> {
        if let Some(histograms) = samples.histograms {
            self.count_with_histograms(samples, histograms);
            return self.apply_with_histograms(series, labels, samples, histograms, out, query);
        }
        let starts_ms = samples.starts_ms.filter(|_| self.use_starts);
        let live = without_stale_samples(samples.timestamps_ms, samples.values, starts_ms);
        if let Some(counts) = &self.counts {
            let timestamps_ms = live.as_ref().map_or(samples.timestamps_ms, |live| &live.timestamps_ms);
            counts.add(timestamps_ms, |at| at as u64, &self.grid);
        }
        let (cells, valid) = out.push(series);
        match &live {
            None => {
                self.floats(labels, samples.timestamps_ms, samples.values, starts_ms, windows, cells, valid, query)?
            }
            Some(live) => {
                let weights = samples.weights.map(|weights| {
                    let all = weights.iter().zip(samples.values);
                    all.filter(|(_, value)| !is_stale(**value)).map(|(weight, _)| *weight).collect::<Vec<u32>>()
                });
                let windows = self.windows(&live.timestamps_ms, weights.as_deref());
                let starts_ms = live.starts_ms.as_deref();
                self.floats(labels, &live.timestamps_ms, &live.values, starts_ms, &windows, cells, valid, query)?;
            }
        }
        self.note_non_counter(labels, valid, query);
        out.drop_empty();
        Ok(())
    }

    fn count_with_histograms(&self, samples: &Samples<'_>, histograms: &[Option<Arc<Histogram>>]) {
        let Some(counts) = &self.counts else { return };
        let (mut timestamps_ms, mut before, mut total) = (Vec::new(), vec![0], 0);
        for ((timestamp_ms, value), histogram) in samples.timestamps_ms.iter().zip(samples.values).zip(histograms) {
            total += match histogram {
                Some(histogram) if histogram.is_stale() => continue,
                Some(histogram) => samples_in(histogram),
                None if is_stale(*value) => continue,
                None => 1,
            };
            timestamps_ms.push(*timestamp_ms);
            before.push(total);
        }
        counts.add(&timestamps_ms, |at| before[at], &self.grid);
    }

    /// Evaluates over floats without staleness markers and writes notes.
    #[expect(clippy::too_many_arguments, reason = "the parallel slices of one series and of one row")]
    pub(super) fn floats(
        &self,
        labels: &Labels,
        timestamps_ms: &[i64],
        values: &[f64],
        starts_ms: Option<&[i64]>,
        windows: &Windows,
        cells: &mut [f64],
        valid: &mut [bool],
        query: &QueryState,
    ) -> Result<(), QueryError> {
        let input = RangeInput {
            timestamps_ms,
            values,
            starts_ms,
            windows,
            grid: &self.grid,
            params: [self.params[0].param(), self.params[1].param()],
            extension: self.extension,
            eval_offset_ms: self.steps.start_ms - self.grid.first_end_ms,
        };
        let fixed = self.grid.step_ms == 0 && self.grid.steps > 1;
        if fixed && self.function == RangeFunction::PredictLinear {
            return self.predict_from_fixed_window(&input, cells, valid);
        }
        let notes = range_function(self.function, &input, cells, valid)
            .map_err(|error| QueryError::execution(error.to_string()))?;
        self.note(notes, labels, valid, query);
        Ok(())
    }

    /// With `@` the window stays and the evaluation time moves: one call per step.
    fn predict_from_fixed_window(
        &self,
        input: &RangeInput<'_>,
        cells: &mut [f64],
        valid: &mut [bool],
    ) -> Result<(), QueryError> {
        let grid = RangeGrid { steps: 1, ..self.grid };
        let windows = Windows::new(input.timestamps_ms, &grid);
        for step in 0..self.steps.count {
            let eval_offset_ms = self.steps.at(step) - grid.first_end_ms;
            let params = self.params_at(step);
            let input = RangeInput { windows: &windows, grid: &grid, params, eval_offset_ms, ..*input };
            range_function(self.function, &input, &mut cells[step..=step], &mut valid[step..=step])
                .map_err(|error| QueryError::execution(error.to_string()))?;
        }
        Ok(())
    }

    fn note(&self, notes: RangeNotes, labels: &Labels, valid: &[bool], query: &QueryState) {
        if notes.start_time_overlap {
            query.note(|all| all.start_time_overlap(labels.metric_name(), 1, self.argument_place));
        }
        self.note_quantiles(valid, query);
    }

    /// The arguments at one step.
    pub(super) fn params_at(&self, step: usize) -> [Param<'static>; 2] {
        [Param::Const(self.params[0].at(step)), Param::Const(self.params[1].at(step))]
    }

    pub(super) fn note_quantiles(&self, valid: &[bool], query: &QueryState) {
        if self.function != RangeFunction::Quantile {
            return;
        }
        match &self.params[0] {
            Scalar::Const(quantile) if is_valid_quantile(*quantile) => {}
            quantiles => {
                for step in (0..valid.len()).filter(|step| valid[*step]) {
                    let quantile = quantiles.at(step);
                    if !is_valid_quantile(quantile) {
                        query.note(|all| all.invalid_quantile(quantile, self.argument_place));
                    }
                    if quantiles.as_const().is_some() {
                        break;
                    }
                }
            }
        }
    }

    /// `rate` and `increase` say so where their argument does not look like a counter.
    pub(super) fn note_non_counter(&self, labels: &Labels, valid: &[bool], query: &QueryState) {
        if !matches!(self.function, RangeFunction::Rate | RangeFunction::Increase) || !valid.contains(&true) {
            return;
        }
        let name = labels.metric_name();
        if name.is_empty() {
            return;
        }
        if self.type_labels {
            let kind = labels.get("__type__");
            if !matches!(kind, "counter" | "histogram") {
                query.note(|all| all.possible_non_counter_label(name, kind, self.argument_place));
            }
            return;
        }
        let named_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
        if named_counter || self.noted.get().is_some_and(|noted| noted == name) {
            return;
        }
        query.note(|all| all.possible_non_counter(name, self.argument_place));
        // Only the first name is remembered: most selectors name one metric, and notes of equal text are one.
        let _ = self.noted.set(name.to_owned());
    }
}
