//! PromQL: the language and its execution over a [`source::Source`] of samples.
//!
//! `parser` turns text into an [`ast::Expr`] with positions; `prepare` resolves selectors and runs all label
//! algebra once per query; `exec` holds the operators (DataFusion `ExecutionPlan`s over grid batches); `kernels`
//! holds arithmetic over slices. This crate does not know where samples are stored, nor HTTP.

pub mod annotations;
pub mod ast;
pub mod ast_json;
pub mod engine;
pub mod error;
mod exec;
pub mod functions;
mod grid;
pub mod kernels;
pub mod parser;
mod prepare;
pub mod pretty;
pub mod printer;
pub mod promqltest;
mod series_table;
pub mod source;

pub use annotations::Annotations;
pub use engine::{
    Engine, EngineOptions, MatrixSeries, Output, QueryLimits, QueryStats, QueryValue, StepCounts, Value, VectorSample,
};
pub use error::QueryError;
