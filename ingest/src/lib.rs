//! From bytes on the wire to appended samples: exposition formats, scraping, discovery, relabelling, configuration.
//!
//! This crate knows storage's `append` and nothing of queries.

pub mod config;
pub mod discovery;
pub mod exposition;
pub mod http;
pub mod prometheus_data;
mod protobuf;
pub mod relabel;
pub mod remote_read;
pub mod remote_write;
pub mod scrape;

/// How requests of this server introduce it.
pub const USER_AGENT: &str = concat!("Pilaster/", env!("CARGO_PKG_VERSION"));
