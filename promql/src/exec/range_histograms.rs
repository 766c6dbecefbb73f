//! Range functions over series that hold native histograms, alone or in turn with floats.

use std::sync::Arc;

use pilaster_model::{Histogram, Labels};

use crate::error::QueryError;
use crate::exec::query_state::QueryState;
use crate::exec::range_call::{RangeCall, Samples};
use crate::grid::GridBuilder;

impl RangeCall {
    pub(super) fn apply_with_histograms(
        &self,
        _series: u32,
        _labels: &Labels,
        _samples: &Samples<'_>,
        _histograms: &[Option<Arc<Histogram>>],
        _out: &mut GridBuilder,
        _query: &QueryState,
    ) -> Result<(), QueryError> {
        Err(QueryError::Unsupported(format!("{} of native histograms is not supported yet", self.name)))
    }
}
