//! The HTTP API.

pub mod error;
pub mod json;
pub mod output;
pub mod params;
