//! Whether a histogram from outside is one.

use super::{CUSTOM_BUCKETS_SCHEMA, Histogram, MAX_SCHEMA, MIN_SCHEMA, Span};

/// What is wrong with a histogram. Texts are close to Prometheus's, which clients log.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Invalid {
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    Schema(i32),
    #[error("span number {number} with offset {offset}: histogram has a span whose offset is negative")]
    NegativeOffset { number: usize, offset: i32 },
    #[error(
        "spans need {wanted} buckets, have {found} buckets: histogram spans specify different number of buckets than provided"
    )]
    BucketCount { wanted: u64, found: usize },
    #[error("bucket indices leave the range of 32 bits")]
    IndexRange,
    #[error("histogram has a bucket whose observation count is negative")]
    NegativeBucket,
    #[error("histogram's observation count is negative")]
    NegativeCount,
    #[error("histogram custom bounds must be finite and in strictly increasing order")]
    Bounds,
    #[error("histogram custom bounds are too few")]
    TooFewBounds,
    #[error("custom buckets: must not have a zero bucket or negative buckets")]
    NotCustom,
    #[error("histogram with exponential schema must not have custom bounds")]
    NotExponential,
}

impl Histogram {
    /// Checks that spans and counts agree, that no count is negative and that only the schema's own fields are used.
    ///
    /// Whether buckets add up to the count is not checked: NaN observations are in no bucket.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_as(self.schema)
    }

    /// Like [`Histogram::validate`], for a histogram that is going to have `schema`.
    pub(super) fn validate_as(&self, schema: i32) -> Result<(), Invalid> {
        if schema == CUSTOM_BUCKETS_SCHEMA {
            self.validate_custom()?;
        } else if (MIN_SCHEMA..=MAX_SCHEMA).contains(&schema) {
            if !self.custom_bounds.is_empty() {
                return Err(Invalid::NotExponential);
            }
            check_spans(&self.negative_spans, self.negative.len(), false)?;
            check_spans(&self.positive_spans, self.positive.len(), false)?;
        } else {
            return Err(Invalid::Schema(schema));
        }
        if self.positive.iter().chain(&self.negative).chain([&self.zero_count]).any(|count| *count < 0.0) {
            return Err(Invalid::NegativeBucket);
        }
        if self.count < 0.0 {
            return Err(Invalid::NegativeCount);
        }
        Ok(())
    }

    fn validate_custom(&self) -> Result<(), Invalid> {
        let ascending = self.custom_bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || self.custom_bounds.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY) {
            return Err(Invalid::Bounds);
        }
        if self.zero_count != 0.0
            || self.zero_threshold != 0.0
            || !self.negative.is_empty()
            || !self.negative_spans.is_empty()
        {
            return Err(Invalid::NotCustom);
        }
        let last = check_spans(&self.positive_spans, self.positive.len(), true)?;
        if last > self.custom_bounds.len() as i64 + 1 {
            return Err(Invalid::TooFewBounds);
        }
        Ok(())
    }
}

/// Checks one side and returns the index behind its last bucket.
fn check_spans(spans: &[Span], found: usize, from_zero: bool) -> Result<i64, Invalid> {
    let (mut wanted, mut next) = (0_u64, 0_i64);
    for (nth, span) in spans.iter().enumerate() {
        if span.offset < 0 && (nth > 0 || from_zero) {
            return Err(Invalid::NegativeOffset { number: nth + 1, offset: span.offset });
        }
        wanted += u64::from(span.length);
        next += i64::from(span.offset) + i64::from(span.length);
        // Margins for the neighbours that bounds and merges look at.
        if next.abs() > i64::from(i32::MAX / 2) {
            return Err(Invalid::IndexRange);
        }
    }
    if wanted != found as u64 {
        return Err(Invalid::BucketCount { wanted, found });
    }
    Ok(next)
}
