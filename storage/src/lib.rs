//! Series and samples that last. This crate knows no query language.

pub mod env;
pub mod wal;
