//! The server: the only crate that knows all others.

pub mod api;
pub mod app;
pub mod build;
pub mod config;
pub mod flags;
pub mod logging;
pub mod metrics;
pub mod server;
pub mod source;
mod sql_source;
pub mod test_promql;
mod web;
