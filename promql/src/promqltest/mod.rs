//! Scripts that load samples, evaluate queries and say what must come out: the format of Prometheus' `promqltest`.
//!
//! ```text
//! load 30s
//!   http_requests_total{job="api"} 0+15x4
//!
//! eval instant at 2m increase(http_requests_total[2m])
//!   {job="api"} 60
//! ```
//!
//! [`run`] takes a script, an engine and a [`World`] that keeps the samples: memory here, a real store in the engine's
//! tests. [`series`] is also what rule unit tests write their input in.

mod expectation;
mod nhcb;
mod report;
mod run;
mod script;
pub mod series;
mod world;

pub use expectation::{almost_equal, histograms_equal};
pub use report::{Failure, FileReport, render_report};
pub use run::{engine_options, run};
pub use script::{Command, CommandKind, Eval, EvalTime, ScriptError, parse_script};
pub use world::{LoadedSample, LoadedSeries, LoadedValue, MemorySource, MemoryWorld, World};
