//! Side-by-side measurements: data sets, running servers, comparing their answers. Nothing depends on this crate.

pub mod answers;
pub mod dataset;
pub mod distant;
pub mod judge;
pub mod load;
pub mod random_query;
pub mod server;
pub mod table;
