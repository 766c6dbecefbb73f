//! The shared vocabulary: labels, matchers, sample values, time ranges.
//!
//! Everything here is plain data. This crate knows no file, no clock, no query and no Arrow; it exists so
//! that `storage` and `promql` mean the same thing by a series without depending on each other.

mod columns;
pub mod go_math;
mod go_regex;
pub mod histogram;
mod label_key;
mod labels;
mod matcher;
mod time_range;
mod value;
mod windows;

pub use columns::Columns;
pub use go_regex::{GoRegex, RegexError};
pub use histogram::{CounterResetHint, Histogram, Span};
pub use label_key::{LabelKey, SeriesGroups};
pub use labels::{Labels, LabelsBuilder, METRIC_NAME, put_identity};
pub use matcher::{MatchOp, Matcher};
pub use time_range::TimeRange;
pub use value::{STALE_NAN_BITS, is_stale, stale_nan};
pub use windows::{RangeGrid, ReducedWindows, Reduction};
