//! `sum` and `avg` of native histograms: one running histogram per step.

use std::sync::Arc;

use pilaster_model::CounterResetHint;
use pilaster_model::histogram::{HistogramMean, HistogramSum};

use crate::annotations::{HistogramOperation, Place};
use crate::exec::query_state::QueryState;
use crate::grid::HistogramCell;

/// The histograms of one group. A step without any costs a pointer.
#[derive(Debug)]
pub(crate) struct HistogramColumn {
    average: bool,
    steps: Vec<Option<Box<Running>>>,
}

#[derive(Debug)]
struct Running {
    total: Total,
    /// Exponential and custom buckets met: the step has no result.
    incompatible: bool,
    reset_seen: bool,
    not_reset_seen: bool,
}

#[derive(Debug)]
enum Total {
    Sum(HistogramSum),
    Mean(HistogramMean),
}

impl HistogramColumn {
    pub fn new(average: bool, width: usize) -> HistogramColumn {
        let mut steps = Vec::new();
        steps.resize_with(width, || None);
        HistogramColumn { average, steps }
    }

    /// Adds one series; `name` is its metric's.
    pub fn add(&mut self, cells: &[HistogramCell], name: &str, place: Place, query: &QueryState) {
        for (step, histogram) in cells {
            let slot = &mut self.steps[*step as usize];
            match slot {
                None => {
                    let first = histogram.as_ref().clone();
                    let total = if self.average {
                        Total::Mean(HistogramMean::new(first))
                    } else {
                        Total::Sum(HistogramSum::new(first))
                    };
                    *slot = Some(Box::new(Running {
                        total,
                        incompatible: false,
                        reset_seen: false,
                        not_reset_seen: false,
                    }));
                }
                Some(running) if running.incompatible => continue,
                Some(running) => {
                    let added = match &mut running.total {
                        Total::Sum(sum) => sum.add(histogram),
                        Total::Mean(mean) => mean.add(histogram),
                    };
                    match added {
                        Ok(notes) if notes.bounds_reconciled => {
                            query.note(|all| all.mismatched_custom_buckets(HistogramOperation::Aggregation, place));
                        }
                        Ok(_) => {}
                        Err(_) => {
                            query.note(|all| all.mixed_exponential_custom(name, place));
                            running.incompatible = true;
                        }
                    }
                }
            }
            if let Some(running) = slot {
                running.reset_seen |= histogram.counter_reset_hint == CounterResetHint::Reset;
                running.not_reset_seen |= histogram.counter_reset_hint == CounterResetHint::NotReset;
            }
        }
    }

    /// The results; a step that also has a float, as `floats` says, has no result of either kind.
    pub fn finish(self, floats: &mut [bool], place: Place, query: &QueryState) -> Vec<HistogramCell> {
        let mut cells = Vec::new();
        for (step, running) in self.steps.into_iter().enumerate() {
            let Some(running) = running else { continue };
            if floats[step] {
                floats[step] = false;
                query.note(|notes| notes.mixed_floats_histograms_in_aggregation(place));
                continue;
            }
            if running.incompatible {
                continue;
            }
            if running.reset_seen && running.not_reset_seen {
                query.note(|notes| notes.counter_reset_collision(HistogramOperation::Aggregation, place));
            }
            let total = match running.total {
                Total::Sum(sum) => sum.total(),
                Total::Mean(mean) => mean.total(),
            };
            cells.push((step as u32, Arc::new(total)));
        }
        cells
    }
}
