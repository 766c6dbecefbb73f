//! What a query answers with.

use std::sync::Arc;
use std::time::Duration;

use pilaster_model::{Histogram, Labels};

use crate::annotations::Annotations;
use crate::exec::sample_counts::StepCounts;

/// A query's value and what was noticed on the way.
#[derive(Debug, Clone)]
pub struct Output {
    pub value: QueryValue,
    pub annotations: Annotations,
    pub stats: QueryStats,
}

/// The value of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    Scalar {
        timestamp_ms: i64,
        value: f64,
    },
    String {
        timestamp_ms: i64,
        value: String,
    },
    /// In the order that the query gives; of an instant query.
    Vector(Vec<VectorSample>),
    /// Ascending by labels.
    Matrix(Vec<MatrixSeries>),
}

/// One series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    /// The evaluation time, not the sample's.
    pub timestamp_ms: i64,
    pub value: Value,
}

/// A float or a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// One series over time; floats and histograms each ascend by time, and no time has both.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    pub labels: Labels,
    pub points: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

/// What a query cost.
#[derive(Debug, Clone, Default)]
pub struct QueryStats {
    /// Samples that came from the source.
    pub samples_read: usize,
    /// Most samples held at once.
    pub peak_samples: usize,
    /// What each step looks at, where that was asked for.
    pub steps: Option<StepCounts>,
    pub elapsed: Duration,
}
