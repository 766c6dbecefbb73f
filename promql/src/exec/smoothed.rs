//! `selector smoothed` over native histograms.

use std::sync::Arc;

use pilaster_model::{Histogram, Labels};

use crate::ast::Span;
use crate::error::QueryError;
use crate::exec::query_state::QueryState;
use crate::exec::range_call::Samples;
use crate::grid::GridBuilder;
use crate::kernels::RangeGrid;

/// Appends the row of a series that has histograms.
pub(crate) fn smoothed_row(
    _grid: RangeGrid,
    _series: u32,
    _labels: &Labels,
    _samples: &Samples<'_>,
    _histograms: &[Option<Arc<Histogram>>],
    _span: Span,
    _out: &mut GridBuilder,
    _query: &QueryState,
) -> Result<(), QueryError> {
    Err(QueryError::Unsupported("smoothed selectors over native histograms are not supported yet".to_owned()))
}
