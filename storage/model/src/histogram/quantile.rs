//! Quantiles of native histograms.

use super::{Bucket, Histogram};
use crate::go_math;

/// Why a quantile is less certain than it looks, for annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantileNote {
    /// It falls among NaN observations: the result is NaN.
    NanResult,
    /// NaN observations count as the largest, which skews the result upwards.
    NanSkew,
}

/// A quantile with what there is to say about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileOutcome {
    pub value: f64,
    pub note: Option<QuantileNote>,
}

impl Histogram {
    /// The φ-quantile of the observations: -Inf below φ = 0, +Inf above 1, NaN for φ = NaN or without observations.
    ///
    /// Interpolates exponentially in exponential buckets, linearly in custom buckets and in the zero bucket, which is
    /// taken to lie on one side of zero if only that side has buckets.
    ///
    /// Source: `HistogramQuantile`, Prometheus 3.14 `promql/quantile.go`.
    pub fn quantile(&self, quantile: f64) -> QuantileOutcome {
        let certain = |value| QuantileOutcome { value, note: None };
        if quantile < 0.0 {
            return certain(f64::NEG_INFINITY);
        }
        if quantile > 1.0 {
            return certain(f64::INFINITY);
        }
        if self.count == 0.0 || quantile.is_nan() {
            return certain(f64::NAN);
        }
        // NaN observations are in `count` but in no bucket, above all of them: then ranks only hold from below. Else
        // the shorter way is also the more precise one.
        let has_nan = self.sum.is_nan();
        let from_below = has_nan || quantile < 0.5;
        let rank = if from_below { quantile * self.count } else { (1.0 - quantile) * self.count };
        let mut buckets: Vec<Bucket> = self.buckets().collect();
        if !from_below {
            buckets.reverse();
        }
        let (mut bucket, mut seen) = (Bucket::default(), 0.0);
        let mut rest = buckets.iter();
        for next in rest.by_ref() {
            bucket = *next;
            seen += next.count;
            if next.count != 0.0 && seen >= rank {
                break;
            }
        }
        if self.has_custom_buckets() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return certain(bucket.upper);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return certain(bucket.lower);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            bucket = self.one_sided(bucket);
        }
        seen = if seen > self.count { self.count } else { seen };
        if seen < rank {
            return match has_nan {
                true => QuantileOutcome { value: f64::NAN, note: Some(QuantileNote::NanResult) },
                // Rounding, or counts that do not add up.
                false => certain(bucket.upper),
            };
        }
        let in_buckets = rest.fold(seen, |sum, bucket| sum + bucket.count);
        let note = (has_nan && in_buckets < self.count).then_some(QuantileNote::NanSkew);
        let rank_in_bucket = if from_below { rank - (seen - bucket.count) } else { seen - rank };
        QuantileOutcome { value: self.inside(&bucket, rank_in_bucket / bucket.count), note }
    }

    /// The zero bucket without the side on which the histogram has no buckets, if it has any on the other.
    pub(super) fn one_sided(&self, mut zero_bucket: Bucket) -> Bucket {
        match (self.negative.is_empty(), self.positive.is_empty()) {
            (true, false) => zero_bucket.lower = 0.0,
            (false, true) => zero_bucket.upper = 0.0,
            _ => {}
        }
        zero_bucket
    }

    /// The value that lies `fraction` of the way through a bucket.
    fn inside(&self, bucket: &Bucket, fraction: f64) -> f64 {
        if self.has_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            return bucket.lower + (bucket.upper - bucket.lower) * fraction;
        }
        let (lower, upper) = (go_math::log2(bucket.lower.abs()), go_math::log2(bucket.upper.abs()));
        if bucket.lower > 0.0 {
            go_math::exp2(lower + (upper - lower) * fraction)
        } else {
            -go_math::exp2(upper + (lower - upper) * (1.0 - fraction))
        }
    }
}
