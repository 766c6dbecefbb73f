//! Series and samples that last. This crate knows no query language.

pub mod block;
pub mod env;
pub mod wal;
