//! Mean and variance.

use super::Histogram;
use super::kahan::add_compensated;

impl Histogram {
    /// Mean of the observations.
    pub fn avg(&self) -> f64 {
        self.sum / self.count
    }

    /// Population variance, as if all observations of a bucket were at its middle: the geometric mean of an exponential
    /// bucket's bounds, the arithmetic one of a custom bucket's, 0 for the zero bucket.
    ///
    /// Source: `histogramVariance`, Prometheus 3.14 `promql/functions.go`.
    pub fn variance(&self) -> f64 {
        let mean = self.avg();
        let (mut sum, mut compensation) = (0.0, 0.0);
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            let middle = if self.has_custom_buckets() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = middle - mean;
            (sum, compensation) = add_compensated(bucket.count * delta * delta, sum, compensation);
        }
        (sum + compensation) / self.count
    }
}
