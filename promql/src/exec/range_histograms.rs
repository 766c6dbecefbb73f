//! Range functions over series that hold native histograms, alone or in turn with floats.

use std::sync::Arc;

use pilaster_model::{Histogram, Labels};

use crate::annotations::{HistogramOperation, Place};
use crate::error::QueryError;
use crate::exec::query_state::QueryState;
use crate::exec::range_call::{RangeCall, Samples};
use crate::grid::{GridBuilder, HistogramCell};
use crate::kernels::{MixedNotes, MixedRangeInput, RangeFunction, RangeGrid, mixed_range_function};

impl RangeCall {
    pub(super) fn apply_with_histograms(
        &self,
        series: u32,
        labels: &Labels,
        samples: &Samples<'_>,
        histograms: &[Option<Arc<Histogram>>],
        out: &mut GridBuilder,
        query: &QueryState,
    ) -> Result<(), QueryError> {
        let input = MixedRangeInput {
            timestamps_ms: samples.timestamps_ms,
            values: samples.values,
            histograms,
            starts_ms: samples.starts_ms.filter(|_| self.use_starts),
            grid: &self.grid,
            lookback_ms: self.lookback_ms,
            params: [self.params[0].param(), self.params[1].param()],
            extension: self.extension,
            eval_offset_ms: self.steps.start_ms - self.grid.first_end_ms,
        };
        let mut found: Vec<Option<Arc<Histogram>>> = vec![None; self.steps.count];
        let (cells, valid) = out.push(series);
        let refused = |error: crate::kernels::RangeError| QueryError::execution(error.to_string());
        let fixed = self.grid.step_ms == 0 && self.grid.steps > 1;
        let notes = if fixed && self.function == RangeFunction::PredictLinear {
            // With `@` the window stays and the evaluation time moves: one call per step.
            let grid = RangeGrid { steps: 1, ..self.grid };
            let mut notes = MixedNotes::default();
            for step in 0..self.steps.count {
                let eval_offset_ms = self.steps.at(step) - grid.first_end_ms;
                let params = self.params_at(step);
                let input = MixedRangeInput { grid: &grid, params, eval_offset_ms, ..input };
                let (cells, valid) = (&mut cells[step..=step], &mut valid[step..=step]);
                notes = mixed_range_function(self.function, &input, cells, valid, &mut found[step..=step])
                    .map_err(refused)?;
            }
            notes
        } else {
            mixed_range_function(self.function, &input, cells, valid, &mut found).map_err(refused)?
        };
        self.note_quantiles(valid, query);
        self.note_non_counter(labels, valid, query);
        // `irate` and `idelta` point at all of their arguments, the others at the first.
        let place = match self.function {
            RangeFunction::Irate | RangeFunction::Idelta => self.arguments_place,
            _ => self.argument_place,
        };
        note_mixed(notes, labels.metric_name(), place, query);
        out.set_histograms(cells_of(found));
        out.drop_empty();
        Ok(())
    }
}

/// The steps that hold a histogram.
pub(super) fn cells_of(found: Vec<Option<Arc<Histogram>>>) -> Vec<HistogramCell> {
    found.into_iter().enumerate().filter_map(|(step, histogram)| Some((step as u32, histogram?))).collect()
}

/// Writes what a kernel noticed.
pub(super) fn note_mixed(notes: MixedNotes, name: &str, place: Place, query: &QueryState) {
    if notes == MixedNotes::default() {
        return;
    }
    query.note(|all| {
        if notes.mixed_floats_histograms {
            all.mixed_floats_histograms(name, place);
        }
        if notes.histograms_ignored {
            all.histogram_ignored_in_mixed_range(name, place);
        }
        if notes.mixed_exponential_custom {
            all.mixed_exponential_custom(name, place);
        }
        if notes.not_counter {
            all.histogram_not_counter(name, place);
        }
        if notes.not_gauge {
            all.histogram_not_gauge(name, place);
        }
        if notes.counter_reset_collision {
            all.counter_reset_collision(HistogramOperation::Aggregation, place);
        }
        if notes.bounds_reconciled_adding {
            all.mismatched_custom_buckets(HistogramOperation::Addition, place);
        }
        if notes.bounds_reconciled_subtracting {
            all.mismatched_custom_buckets(HistogramOperation::Subtraction, place);
        }
        if notes.bounds_reconciled_aggregating {
            all.mismatched_custom_buckets(HistogramOperation::Aggregation, place);
        }
        if notes.start_time_overlap {
            all.start_time_overlap(name, 1, place);
        }
    });
}
