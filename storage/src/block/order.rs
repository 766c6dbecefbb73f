//! The order of series in a sample file.

use pilaster_model::{Labels, METRIC_NAME};

/// Orders series as they stand in a file: by metric, job, instance and the other labels, `le` last. Selectors name a
/// metric, so its series are neighbours; so are those of one target in it, which share a timeline; so are the buckets
/// of one histogram. Different label sets have different keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderKey {
    metric: String,
    /// The other labels in that order, each text ending in NUL.
    rest: String,
    /// Tells apart what NULs inside texts make equal.
    labels: Labels,
}

impl OrderKey {
    pub fn of(labels: &Labels) -> OrderKey {
        let mut rest = String::with_capacity(labels.text_bytes() + 2 * labels.len() + 4);
        let mut put = |text: &str| {
            rest.push_str(text);
            // Sorts before all other text, so that a prefix comes first.
            rest.push('\0');
        };
        put(labels.get("job"));
        put(labels.get("instance"));
        for (name, value) in labels.iter().filter(|(name, _)| ![METRIC_NAME, "job", "instance", "le"].contains(name)) {
            put(name);
            put(value);
        }
        put("");
        put(labels.get("le"));
        OrderKey { metric: labels.metric_name().to_owned(), rest, labels: labels.clone() }
    }

    /// The labels that it orders.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_a_histogram_are_neighbours() {
        let labels = |code: &str, le: &str| {
            Labels::from_pairs([("__name__", "x_bucket"), ("code", code), ("le", le), ("z", code)])
        };
        let sorted = [labels("1", "1"), labels("1", "5"), labels("2", "0"), labels("2", "1")];
        let mut keys: Vec<OrderKey> = [3, 1, 2, 0].iter().map(|&at: &usize| OrderKey::of(&sorted[at])).collect();
        keys.sort();
        assert_eq!(keys, sorted.each_ref().map(OrderKey::of));
    }

    #[test]
    fn metrics_come_first_whatever_bytes_they_have() {
        let key = |metric: &str, job: &str| OrderKey::of(&Labels::from_pairs([("__name__", metric), ("job", job)]));
        assert!(key("a", "z") < key("a\0b", "a"));
        assert!(key("", "z") < key("a", "a"));
    }
}
