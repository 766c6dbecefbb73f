//! Operators: DataFusion `ExecutionPlan`s over grid batches (see [`crate::grid`]).
//!
//! An operator is plumbing: it takes batches, finds the rows it needs, calls a kernel on slices and builds rows. Three
//! shells carry them all: [`plan::StreamExec`] turns one batch into one batch and keeps the partitions of its input;
//! [`plan::GatherExec`] sees its inputs whole and has one partition; [`beside::BesideExec`] sees one input whole and lets the
//! batches of the other pass. Leaves have their own plans.
//!
//! Results do not depend on the number of partitions: series are dealt to partitions in fixed chunks, and
//! [`merge::SeriesMergeExec`] puts the chunks back in order before anything is reduced.

pub(crate) mod absent;
pub(crate) mod aggregate;
pub(crate) mod beside;
pub(crate) mod broadcast;
pub(crate) mod elementwise;
pub(crate) mod histogram_aggregate;
pub(crate) mod histogram_call;
pub(crate) mod histogram_cells;
pub(crate) mod histogram_value;
pub(crate) mod memory;
pub(crate) mod merge;
pub(crate) mod merge_series;
pub(crate) mod plan;
pub(crate) mod query_state;
pub(crate) mod range_call;
pub(crate) mod range_histograms;
pub(crate) mod rank;
pub(crate) mod sample_counts;
pub(crate) mod scalar;
pub(crate) mod select;
pub(crate) mod set_operation;
pub(crate) mod smoothed;
pub(crate) mod sort;
pub(crate) mod subquery;
pub(crate) mod vector_match;
