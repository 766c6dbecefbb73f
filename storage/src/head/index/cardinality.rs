//! What the head holds most of.

use pilaster_model::METRIC_NAME;

use super::{Index, Name};

/// What the head holds most of; lists descend by count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadCardinality {
    pub series: u64,
    pub label_pairs: u64,
    /// Distinct values of a label name.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of the distinct values of a label name.
    pub bytes_by_label: Vec<(String, u64)>,
    pub series_by_metric: Vec<(String, u64)>,
    /// Under `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

impl Index {
    pub fn cardinality(&self, limit: usize) -> HeadCardinality {
        let pairs = || self.pairs.iter().flatten();
        let names = || self.names.values();
        let bytes = |name: &Name| name.values.keys().map(|value| value.len() as u64).sum();
        let by_metric = pairs().filter(|pair| &*pair.name == METRIC_NAME);
        let text = |(name, count): (&str, u64)| (name.to_owned(), count);
        let pair_text = |((name, value), count): ((&str, &str), u64)| (format!("{name}={value}"), count);
        let values_by_label = largest(names().map(|name| (&*name.name, name.values.len() as u64)), limit);
        let bytes_by_label = largest(names().map(|name| (&*name.name, bytes(name))), limit);
        let series_by_metric = largest(by_metric.map(|pair| (&*pair.value, pair.postings.len())), limit);
        let series_by_pair = largest(pairs().map(|pair| ((&*pair.name, &*pair.value), pair.postings.len())), limit);
        HeadCardinality {
            series: self.series_count(),
            label_pairs: pairs().count() as u64,
            values_by_label: values_by_label.into_iter().map(text).collect(),
            bytes_by_label: bytes_by_label.into_iter().map(text).collect(),
            series_by_metric: series_by_metric.into_iter().map(text).collect(),
            series_by_pair: series_by_pair.into_iter().map(pair_text).collect(),
        }
    }
}

/// The `limit` largest counts, descending; equal ones in the order of their keys.
fn largest<K: Ord>(counts: impl Iterator<Item = (K, u64)>, limit: usize) -> Vec<(K, u64)> {
    let order = |a: &(K, u64), b: &(K, u64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    let mut counts: Vec<_> = counts.collect();
    if limit < counts.len() {
        counts.select_nth_unstable_by(limit, order);
        counts.truncate(limit);
    }
    counts.sort_unstable_by(order);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let counts = [("b", 2), ("a", 2), ("c", 9), ("d", 1)];
        for (limit, expected) in
            [(0, &[][..]), (2, &[("c", 9), ("a", 2)]), (9, &[("c", 9), ("a", 2), ("b", 2), ("d", 1)])]
        {
            assert_eq!(largest(counts.into_iter(), limit), expected);
        }
    }
}
