//! The server: the only crate that knows all others.

pub mod api;
pub mod app;
mod arguments;
pub mod blocks;
pub mod build;
pub mod config;
mod connection;
pub mod export;
pub mod flags;
pub mod import;
pub mod logging;
pub mod metrics;
mod program;
pub mod retention;
pub mod server;
pub mod source;
mod sql_source;
mod sql_tables;
pub mod test_promql;
pub mod tsdb;
mod upkeep;
mod web;
