//! What the judge knows beside asking: its data, and why two answers may differ.

pub mod chance;
pub mod data;
pub mod known;
pub mod rewrite;
pub mod steps;
