//! The operators `</` and `>/`: what is left of a histogram below or above a value.

use super::sparse::Side;
use super::{Bucket, Histogram};

/// Which observations stay.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    Below,
    Above,
}

impl Histogram {
    /// Keeps the observations below `limit` (`</`). Count and sum are estimated anew if that removes any.
    pub fn trim_upper(&mut self, limit: f64) -> &mut Histogram {
        self.trim(limit, Keep::Below)
    }

    /// Keeps the observations above `limit` (`>/`). Count and sum are estimated anew if that removes any.
    pub fn trim_lower(&mut self, limit: f64) -> &mut Histogram {
        self.trim(limit, Keep::Above)
    }

    /// Source: `FloatHistogram.TrimBuckets`, Prometheus 3.14 `model/histogram`.
    fn trim(&mut self, limit: f64, keep: Keep) -> &mut Histogram {
        let (mut count, mut sum, mut trimmed) = (0.0, 0.0, false);
        let linear = self.has_custom_buckets();
        let mut populated = [false; 2];
        for (nth, side) in [Side::Positive, Side::Negative].into_iter().enumerate() {
            let kept: Vec<(f64, f64)> = self
                .side_buckets(side)
                .map(|bucket| what_stays(&bucket, limit, keep, side == Side::Positive, linear))
                .collect();
            let counts = if side == Side::Positive { &mut self.positive } else { &mut self.negative };
            for (bucket_count, (kept_count, middle)) in counts.iter_mut().zip(kept).filter(|(count, _)| **count != 0.0)
            {
                populated[nth] = true;
                if kept_count != 0.0 || kept_count.is_nan() {
                    count += kept_count;
                    sum += middle * kept_count;
                }
                trimmed |= *bucket_count != kept_count;
                *bucket_count = kept_count;
            }
        }
        if self.zero_count > 0.0 {
            let [has_positive, has_negative] = populated;
            let mut bucket = self.zero_bucket();
            match (has_positive, has_negative) {
                (true, false) => bucket.lower = 0.0,
                (false, true) => bucket.upper = 0.0,
                _ => {}
            }
            let (kept_count, middle) = what_stays_of_zero(&bucket, limit, keep);
            trimmed |= self.zero_count != kept_count;
            self.zero_count = kept_count;
            sum += middle * kept_count;
            count += kept_count;
        }
        if trimmed {
            (self.count, self.sum) = (count, sum);
            self.compact();
        }
        self
    }
}

/// How many of a bucket's observations stay, and the value they are taken to have.
fn what_stays(bucket: &Bucket, limit: f64, keep: Keep, positive: bool, linear: bool) -> (f64, f64) {
    let whole = (bucket.count, middle(bucket.lower, bucket.upper, positive, linear));
    match keep {
        Keep::Below if bucket.upper <= limit => whole,
        Keep::Above if bucket.lower >= limit => whole,
        _ if !(bucket.lower < limit && limit < bucket.upper) => (0.0, 0.0),
        _ if bucket.lower == f64::NEG_INFINITY => part_of_lowest(bucket, limit, keep),
        // How far observations reach into an endless bucket is unknown: it goes with `</` and stays with `>/`.
        Keep::Below if bucket.upper == f64::INFINITY => (0.0, 0.0),
        Keep::Above if bucket.upper == f64::INFINITY => (bucket.count, limit),
        Keep::Below => {
            (bucket.count * bucket.fraction_below(limit, linear), middle(bucket.lower, limit, positive, linear))
        }
        Keep::Above => {
            let below = bucket.count * bucket.fraction_below(limit, linear);
            (bucket.count - below, middle(limit, bucket.upper, positive, linear))
        }
    }
}

/// The lowest custom bucket begins at 0 if it ends above, else nowhere in particular.
fn part_of_lowest(bucket: &Bucket, limit: f64, keep: Keep) -> (f64, f64) {
    let begins_at_zero = bucket.upper.is_finite() && bucket.upper > 0.0;
    match keep {
        Keep::Below if limit > 0.0 && begins_at_zero => (bucket.count * limit / bucket.upper, limit / 2.0),
        Keep::Below if bucket.upper <= 0.0 => (bucket.count, limit),
        Keep::Above if limit >= 0.0 && begins_at_zero => {
            (bucket.count * (1.0 - limit / bucket.upper), (limit + bucket.upper) / 2.0)
        }
        _ => (0.0, 0.0),
    }
}

/// Observations in the zero bucket spread evenly.
fn what_stays_of_zero(bucket: &Bucket, limit: f64, keep: Keep) -> (f64, f64) {
    let (lower, upper) = (bucket.lower, bucket.upper);
    let whole = (bucket.count, (lower + upper) / 2.0);
    match keep {
        Keep::Below if limit <= lower => (0.0, 0.0),
        Keep::Below if limit >= upper => whole,
        Keep::Below => (bucket.count * ((limit - lower) / (upper - lower)), (lower + limit) / 2.0),
        Keep::Above if limit <= lower => whole,
        Keep::Above if limit >= upper => (0.0, 0.0),
        Keep::Above => (bucket.count * ((upper - limit) / (upper - lower)), (limit + upper) / 2.0),
    }
}

/// The value that stands for observations between two bounds.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => (lower * upper).abs().sqrt() * if positive { 1.0 } else { -1.0 },
    }
}
