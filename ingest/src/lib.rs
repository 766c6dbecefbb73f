//! From bytes on the wire to appended samples: exposition formats, scraping, discovery, relabelling, configuration.
//!
//! This crate knows storage's `append` and nothing of queries.

pub mod config;
pub mod exposition;
pub mod relabel;
pub mod remote_write;
