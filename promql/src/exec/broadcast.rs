//! What does not depend on the step is evaluated once and repeated.

use std::sync::Arc;

use crate::error::QueryError;
use crate::exec::plan::BatchOperator;
use crate::exec::query_state::QueryState;
use crate::grid::{GridBatch, GridBuilder, HistogramCell};

/// Repeats the one step of its input.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub width: usize,
}

impl BatchOperator for Broadcast {
    fn name(&self) -> &'static str {
        "BroadcastExec"
    }

    fn arguments(&self) -> String {
        format!("steps={}", self.width)
    }

    fn apply(&self, batch: GridBatch, query: &QueryState) -> Result<GridBatch, QueryError> {
        debug_assert_eq!(batch.width(), 1, "step-invariant input has one step");
        query.hold_samples(batch.sample_count() * self.width.saturating_sub(1))?;
        let mut out = GridBuilder::new(self.width, batch.row_count());
        for row in batch.rows() {
            let (values, valid) = out.push(row.series);
            values.fill(row.values[0]);
            valid.fill(row.valid[0]);
            if let Some((_, histogram)) = row.histograms.first() {
                let repeated: Vec<HistogramCell> =
                    (0..self.width as u32).map(|step| (step, Arc::clone(histogram))).collect();
                out.set_histograms(repeated);
            }
        }
        Ok(out.finish())
    }
}
