//! Shares of observations between two values.

use super::{Bucket, Histogram};

/// A share with what there is to say about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FractionOutcome {
    pub value: f64,
    /// There are NaN observations, which are in no share.
    pub has_nan_observations: bool,
}

impl Histogram {
    /// The share of observations between `lower` and `upper`, interpolated like quantiles.
    ///
    /// NaN without observations or for a NaN bound; 0 where `lower >= upper`.
    ///
    /// Source: `HistogramFraction`, Prometheus 3.14 `promql/quantile.go`.
    pub fn fraction(&self, lower: f64, upper: f64) -> FractionOutcome {
        let certain = |value| FractionOutcome { value, has_nan_observations: false };
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return certain(f64::NAN);
        }
        if lower >= upper {
            return certain(0.0);
        }
        let buckets: Vec<Bucket> = self.buckets().collect();
        let total = if self.sum.is_nan() { buckets.iter().map(|bucket| bucket.count).sum() } else { self.count };
        let share = (self.rank(upper, &buckets, total) - self.rank(lower, &buckets, total)) / self.count;
        FractionOutcome { value: share, has_nan_observations: self.sum.is_nan() && total < self.count }
    }

    /// Estimated number of observations below `value`, at most `total`.
    fn rank(&self, value: f64, buckets: &[Bucket], total: f64) -> f64 {
        let mut below = 0.0;
        for bucket in buckets {
            let is_zero_bucket = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            let bucket = if is_zero_bucket { self.one_sided(*bucket) } else { *bucket };
            if bucket.lower >= value {
                return at_most(below, total);
            }
            if bucket.upper > value {
                let linear = self.has_custom_buckets() || is_zero_bucket;
                let rank = match linear && bucket.lower == f64::NEG_INFINITY {
                    // Nothing is known about how observations spread over a bucket without a lower end: all count.
                    true => bucket.count,
                    false => below + bucket.count * bucket.fraction_below(value, linear),
                };
                return at_most(rank, total);
            }
            below += bucket.count;
        }
        total
    }
}

fn at_most(rank: f64, total: f64) -> f64 {
    if rank > total { total } else { rank }
}
