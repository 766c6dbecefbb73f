//! A histogram as Prometheus prints it.

use std::fmt;

use super::number::format_g;
use super::sparse::Side;
use super::{Bucket, Histogram};

/// `{count:5, sum:18.4, [-4,-2):1, [-0.001,0.001]:2, (1,2]:2}`: populated buckets, ascending.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_g(self.count), format_g(self.sum))?;
        let mut negative: Vec<Bucket> = self.side_buckets(Side::Negative).collect();
        negative.reverse();
        // With custom buckets there is none, even where arithmetic has made a NaN of its count.
        let zero = (self.zero_count != 0.0 && !self.has_custom_buckets()).then(|| self.zero_bucket());
        for bucket in negative.into_iter().chain(zero).chain(self.side_buckets(Side::Positive)) {
            if bucket.count != 0.0 {
                write!(f, ", {bucket}")?;
            }
        }
        f.write_str("}")
    }
}
