//! `histogram_count` and its siblings: one number of each native histogram. Floats disappear.

use pilaster_model::Histogram;

use crate::error::QueryError;
use crate::exec::plan::BatchOperator;
use crate::exec::query_state::QueryState;
use crate::grid::{GridBatch, GridBuilder};

/// What is taken from a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistogramMeasure {
    Count,
    Sum,
    Average,
    Stddev,
    Stdvar,
}

impl HistogramMeasure {
    /// By its PromQL name.
    pub fn from_name(name: &str) -> Option<HistogramMeasure> {
        Some(match name {
            "histogram_count" => HistogramMeasure::Count,
            "histogram_sum" => HistogramMeasure::Sum,
            "histogram_avg" => HistogramMeasure::Average,
            "histogram_stddev" => HistogramMeasure::Stddev,
            "histogram_stdvar" => HistogramMeasure::Stdvar,
            _ => return None,
        })
    }

    fn of(self, histogram: &Histogram) -> f64 {
        match self {
            HistogramMeasure::Count => histogram.count,
            HistogramMeasure::Sum => histogram.sum,
            HistogramMeasure::Average => histogram.avg(),
            HistogramMeasure::Stddev => histogram.variance().sqrt(),
            HistogramMeasure::Stdvar => histogram.variance(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct HistogramValue {
    pub measure: HistogramMeasure,
}

impl BatchOperator for HistogramValue {
    fn name(&self) -> &'static str {
        "HistogramValueExec"
    }

    fn arguments(&self) -> String {
        format!("{:?}", self.measure).to_lowercase()
    }

    fn apply(&self, batch: GridBatch, _: &QueryState) -> Result<GridBatch, QueryError> {
        let mut out = GridBuilder::new(batch.width(), batch.row_count());
        for row in batch.rows().filter(|row| !row.histograms.is_empty()) {
            let (values, valid) = out.push(row.series);
            for (step, histogram) in row.histograms {
                values[*step as usize] = self.measure.of(histogram);
                valid[*step as usize] = true;
            }
        }
        Ok(out.finish())
    }
}
