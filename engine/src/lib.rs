//! The server: the only crate that knows all others.

pub mod api;
pub mod build;
pub mod config;
pub mod flags;
pub mod logging;
pub mod metrics;
pub mod source;
pub mod test_promql;
