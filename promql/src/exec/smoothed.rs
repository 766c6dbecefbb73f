//! `selector smoothed` over native histograms.

use std::sync::Arc;

use pilaster_model::Histogram;

use crate::annotations::Place;
use crate::exec::query_state::QueryState;
use crate::exec::range_call::Samples;
use crate::exec::range_histograms::{cells_of, note_mixed};
use crate::grid::GridBuilder;
use crate::kernels::{Extension, MixedRangeInput, Param, RangeGrid, mixed_smoothed_instant};

/// Appends the row of a series that has histograms (see [`Samples::histograms`]); the width of `grid` is the lookback.
pub(super) fn smoothed_row(
    grid: &RangeGrid,
    series: u32,
    name: &str,
    samples: &Samples<'_>,
    place: Place,
    out: &mut GridBuilder,
    query: &QueryState,
) {
    let input = MixedRangeInput {
        timestamps_ms: samples.timestamps_ms,
        values: samples.values,
        histograms: samples.histograms.unwrap_or_default(),
        starts_ms: None,
        grid,
        lookback_ms: grid.width_ms,
        params: [Param::Const(0.0); 2],
        extension: Extension::Smoothed,
        eval_offset_ms: 0,
    };
    let mut found: Vec<Option<Arc<Histogram>>> = vec![None; grid.steps];
    let (cells, valid) = out.push(series);
    let notes = mixed_smoothed_instant(&input, cells, valid, &mut found);
    note_mixed(notes, name, place, query);
    out.set_histograms(cells_of(found));
    out.drop_empty();
}
