//! The server: the only crate that knows all others.

pub mod api;
pub mod app;
pub mod build;
pub mod config;
mod connection;
pub mod flags;
pub mod logging;
pub mod metrics;
pub mod retention;
pub mod server;
pub mod source;
mod sql_source;
mod sql_tables;
pub mod test_promql;
mod web;
