//! Arithmetic over slices: range functions, elementwise functions, operators, aggregations, classic histograms.
//!
//! Everything here is a pure, synchronous function over the samples or cells of one series (or one group). A cell is
//! one step's value; `valid` says at which steps there is one. Kernels write every cell of their outputs, 0.0 where
//! `valid` is false, and may compute on cells that are not valid. No kernel knows Arrow, a plan, a label or a clock.
//!
//! Results are those of Prometheus 3.14 to the last bit wherever that engine's own order of operations is fixed; the
//! transcendental functions are the platform's and may differ from Go's in the last place.

mod aggregate;
mod binary;
mod classic;
mod date;
mod elementwise;
mod format;
mod instant;
mod kahan;
mod order;
mod range;
mod vectorized;
mod windows;

pub use pilaster_model::RangeGrid;

pub use aggregate::{Accumulator, FloatAggregate, limit_ratio_keeps, quantile_cells, top_k};
pub use binary::{Operand, and_valid, arithmetic, compare, compare_bool, scalar};
pub use classic::{
    BucketRow, ForcedMonotonicity, QuantileNotes, bucket_fraction_cells, bucket_quantile_cells, parse_le,
};
pub use elementwise::{UnaryFunction, clamp, go_max, go_min, round, unary, unary_in_place};
pub use format::{format_f6, format_float, format_g, format_json, format_openmetrics, parse_float};
pub use instant::{latest, latest_index, smoothed_instant};
pub use kahan::{Kahan, add_compensated};
pub use order::{is_valid_quantile, quantile};
pub use range::{
    Extension, HistogramRangeInput, MixedNotes, MixedRangeInput, MixedWindows, Param, RangeError, RangeFunction,
    RangeInput, RangeNotes, histogram_range_function, mixed_range_function, mixed_smoothed_instant, range_function,
    start_time_overlaps, starts_anew,
};
pub use windows::{
    FloatSamples, SplitSamples, Windows, has_stale, samples_of_cells, split, without_stale, without_stale_samples,
};
