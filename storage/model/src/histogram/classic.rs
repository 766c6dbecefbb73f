//! Classic histograms, one series per bucket, as one histogram with custom buckets.

use super::sparse::{Cell, Side};
use super::{CUSTOM_BUCKETS_SCHEMA, Histogram};

/// Why classic buckets make no histogram.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ClassicBucketsError {
    #[error("bucket boundary le cannot be NaN")]
    NanBound,
    #[error("bucket count must be non-negative: le={}, count={}", super::format_g(*.bound), super::format_g(*.count))]
    NegativeBucket { bound: f64, count: f64 },
    #[error("count must be non-negative: count={}", super::format_g(*.0))]
    NegativeCount(f64),
    #[error("count is not cumulative: {} < {}", super::format_g(*.upper), super::format_g(*.lower))]
    NotCumulative { lower: f64, upper: f64 },
    #[error("count mismatch: count={} != le=+Inf count={}", super::format_g(*.count), super::format_g(*.bucket))]
    CountMismatch { count: f64, bucket: f64 },
}

/// Collects the `_bucket`, `_count` and `_sum` samples of one classic histogram at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassicBuckets {
    /// Upper bounds with cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl ClassicBuckets {
    /// A `_bucket` sample; of equal bounds the first one counts.
    ///
    /// # Errors
    /// A NaN bound or a negative count.
    pub fn set_bucket(&mut self, bound: f64, count: f64) -> Result<(), ClassicBucketsError> {
        if bound.is_nan() {
            return Err(ClassicBucketsError::NanBound);
        }
        if count < 0.0 {
            return Err(ClassicBucketsError::NegativeBucket { bound, count });
        }
        let position = self.buckets.partition_point(|bucket| bucket.0 < bound);
        if self.buckets.get(position).is_none_or(|bucket| bucket.0 != bound) {
            self.buckets.insert(position, (bound, count));
        }
        Ok(())
    }

    /// The `_count` sample.
    ///
    /// # Errors
    /// A negative count.
    pub fn set_count(&mut self, count: f64) -> Result<(), ClassicBucketsError> {
        if count < 0.0 {
            return Err(ClassicBucketsError::NegativeCount(count));
        }
        self.count = Some(count);
        Ok(())
    }

    /// The `_sum` sample; 0 without one.
    pub fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The histogram. Without a `_count` the highest bucket's count is it; without a `+Inf` bucket that holds the rest.
    ///
    /// # Errors
    /// Counts that fall towards higher bounds, or a `+Inf` bucket that differs from the count.
    pub fn into_histogram(self) -> Result<Histogram, ClassicBucketsError> {
        let ClassicBuckets { mut buckets, count, sum } = self;
        let count = count.or(buckets.last().map(|bucket| bucket.1)).unwrap_or(0.0);
        if buckets.last().is_none_or(|bucket| bucket.0 != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let mut cells = Vec::with_capacity(buckets.len());
        for (index, &(_, cumulative)) in buckets.iter().enumerate() {
            if cumulative < below {
                return Err(ClassicBucketsError::NotCumulative { lower: below, upper: cumulative });
            }
            cells.push(Cell { index: index as i32, count: cumulative - below, compensation: 0.0 });
            below = cumulative;
        }
        if count != below {
            return Err(ClassicBucketsError::CountMismatch { count, bucket: below });
        }
        let mut histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum,
            custom_bounds: buckets[..buckets.len() - 1].iter().map(|bucket| bucket.0).collect(),
            ..Histogram::default()
        };
        histogram.set_side(Side::Positive, &cells);
        histogram.compact();
        Ok(histogram)
    }
}
