//! A range function over a subquery: the inner grid's rows are its samples.

use std::sync::{Arc, OnceLock};

use pilaster_model::{CounterResetHint, Histogram, Labels};

use crate::error::QueryError;
use crate::exec::plan::BatchOperator;
use crate::exec::query_state::QueryState;
use crate::exec::range_call::{RangeCall, Samples};
use crate::grid::{GridBatch, GridBuilder, Row, Steps};
use crate::kernels::{Windows, samples_of_cells};
use crate::series_table::SeriesTable;

/// Turns rows over the inner steps into rows over the outer ones.
#[derive(Debug)]
pub(crate) struct SubqueryCall {
    call: RangeCall,
    timestamps_ms: Vec<i64>,
    /// Windows over all inner steps, for rows without gaps.
    whole: OnceLock<Windows>,
    table: Arc<SeriesTable>,
}

impl SubqueryCall {
    /// `table` names the rows in notes.
    pub fn new(call: RangeCall, inner: Steps, table: Arc<SeriesTable>) -> SubqueryCall {
        let timestamps_ms = (0..inner.count).map(|step| inner.at(step)).collect();
        SubqueryCall { call, timestamps_ms, whole: OnceLock::new(), table }
    }

    fn row(&self, row: Row<'_>, out: &mut GridBuilder, query: &QueryState) -> Result<(), QueryError> {
        let labels = self.table.noted_labels(row.series);
        if !row.histograms.is_empty() {
            return self.histogram_row(row, labels, out, query);
        }
        if !row.valid.contains(&false) {
            let windows = self.whole.get_or_init(|| self.call.windows(&self.timestamps_ms, None));
            let samples = samples(&self.timestamps_ms, row.values, None);
            return self.call.apply(row.series, labels, &samples, windows, out, query);
        }
        let (timestamps_ms, values) = samples_of_cells(&self.timestamps_ms, row.values, row.valid);
        if timestamps_ms.is_empty() {
            return Ok(());
        }
        let windows = self.call.windows(&timestamps_ms, None);
        self.call.apply(row.series, labels, &samples(&timestamps_ms, &values, None), &windows, out, query)
    }

    fn histogram_row(
        &self,
        row: Row<'_>,
        labels: &Labels,
        out: &mut GridBuilder,
        query: &QueryState,
    ) -> Result<(), QueryError> {
        let present: Vec<usize> = (0..row.valid.len()).filter(|step| row.is_present(*step)).collect();
        let timestamps_ms: Vec<i64> = present.iter().map(|step| self.timestamps_ms[*step]).collect();
        let values: Vec<f64> = present.iter().map(|step| row.values[*step]).collect();
        let histograms: Vec<Option<Arc<Histogram>>> =
            present.iter().map(|step| row.histogram(*step).map(without_reset_hint)).collect();
        let windows = self.call.windows(&timestamps_ms, None);
        let samples = samples(&timestamps_ms, &values, Some(&histograms));
        self.call.apply(row.series, labels, &samples, &windows, out, query)
    }
}

fn samples<'a>(
    timestamps_ms: &'a [i64],
    values: &'a [f64],
    histograms: Option<&'a [Option<Arc<Histogram>>]>,
) -> Samples<'a> {
    Samples { timestamps_ms, weights: None, values, histograms, starts_ms: None }
}

/// A subquery may skip or repeat samples, so what a hint says of a histogram's predecessor no longer holds.
pub(crate) fn without_reset_hint(histogram: &Arc<Histogram>) -> Arc<Histogram> {
    match histogram.counter_reset_hint {
        CounterResetHint::Unknown | CounterResetHint::Gauge => Arc::clone(histogram),
        CounterResetHint::Reset | CounterResetHint::NotReset => {
            Arc::new(Histogram { counter_reset_hint: CounterResetHint::Unknown, ..Histogram::clone(histogram) })
        }
    }
}

impl BatchOperator for SubqueryCall {
    fn name(&self) -> &'static str {
        "SubqueryExec"
    }

    fn arguments(&self) -> String {
        format!("{}, inner steps={}", self.call.describe(), self.timestamps_ms.len())
    }

    fn apply(&self, batch: GridBatch, query: &QueryState) -> Result<GridBatch, QueryError> {
        let mut out = GridBuilder::new(self.call.steps.count, batch.row_count());
        for row in batch.rows() {
            self.row(row, &mut out, query)?;
        }
        let result = out.finish();
        query.hold_samples(result.sample_count())?;
        query.release_samples(batch.sample_count());
        Ok(result)
    }
}
