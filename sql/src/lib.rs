//! Metrics as SQL tables.
//!
//! Every metric is a table (`ts`, `value`, one column per label, `labels`), `samples` is the union of all, `series`
//! and `metrics` describe them, and `promql('expr', …)` runs PromQL inside SQL. [`SqlService`] runs one statement
//! against one snapshot; [`http`] and [`pg`] put it on the wire.
//!
//! SQL text is hostile input: it passes a size and nesting gate before it is parsed, only reading statements are let
//! through, functions that ignore the memory pool are bounded or absent, and planning and execution run on threads
//! of their own with large stacks. This crate does not know where samples are stored: it sees a
//! [`pilaster_promql::source::Source`] per statement.

mod catalog;
mod cell_text;
mod error;
mod functions;
mod gate;
pub mod http;
mod label_column;
mod metric_table;
mod output;
mod parameters;
pub mod pg;
mod pg_catalog;
mod pg_functions;
mod promql_function;
mod pushdown;
mod rewrite;
mod scan;
mod service;
mod session;
mod settings;
mod statement;
mod stop;
mod system_tables;
mod wire_type;

pub use error::{SqlError, sqlstate};
pub use output::{OutputColumn, QueryOutput};
pub use service::{MetricMetadata, RowStream, SourceProvider, SqlOptions, SqlService};
