//! A histogram in the HTTP API's JSON.

use super::number::push_json;
use super::{Bucket, Histogram};

impl Histogram {
    /// Appends `{"count":"4","sum":"2.5","buckets":[[0,"1","2","4"]]}`: populated buckets, ascending.
    ///
    /// The first number of a bucket says which bounds it includes: 0 the upper, 1 the lower, 2 none, 3 both. Without a
    /// populated bucket there is no `buckets`.
    ///
    /// Source: `MarshalHistogram`, Prometheus 3.14 `util/jsonutil`.
    pub fn write_json(&self, out: &mut String) {
        let quoted = |out: &mut String, value: f64| {
            out.push('"');
            push_json(value, out);
            out.push('"');
        };
        out.push_str("{\"count\":");
        quoted(out, self.count);
        out.push_str(",\"sum\":");
        quoted(out, self.sum);
        let mut any = false;
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            out.push_str(if any { ",[" } else { ",\"buckets\":[[" });
            any = true;
            out.push(boundary_rule(&bucket));
            for value in [bucket.lower, bucket.upper, bucket.count] {
                out.push(',');
                quoted(out, value);
            }
            out.push(']');
        }
        out.push_str(if any { "]}" } else { "}" });
    }
}

fn boundary_rule(bucket: &Bucket) -> char {
    match (bucket.lower_inclusive, bucket.upper_inclusive) {
        (false, true) => '0',
        (true, false) => '1',
        (false, false) => '2',
        (true, true) => '3',
    }
}
