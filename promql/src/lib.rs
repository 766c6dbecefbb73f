//! PromQL: the language and its execution over a [`source::Source`] of samples.
//!
//! `parser` turns text into an [`ast::Expr`] with positions; `prepare` resolves selectors and runs all label
//! algebra once per query; `exec` holds the operators (DataFusion `ExecutionPlan`s over grid batches); `kernels`
//! holds arithmetic over slices. This crate does not know where samples are stored, nor HTTP.

pub mod ast;
pub mod ast_json;
pub mod functions;
pub mod kernels;
pub mod parser;
pub mod pretty;
pub mod printer;
pub mod source;
