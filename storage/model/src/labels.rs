//! A series' identity: label names with their values.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use twox_hash::XxHash64;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: pairs sorted by name, names unique, no empty value (an empty value means "absent").
///
/// Cloning is two reference counts. All text lies in one buffer: `name0 value0 name1 value1 …`, cut by `ends`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    text: Arc<str>,
    ends: Arc<[u32]>,
}

impl Labels {
    /// The empty label set.
    pub fn empty() -> Labels {
        Labels { text: Arc::from(""), ends: Arc::from([]) }
    }

    /// Builds from pairs in any order; empty values are dropped, and of a repeated name the last value wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds from pairs that are already strictly ascending by name with no empty value; the hot path of ingestion.
    pub fn from_sorted_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut text = String::new();
        let mut ends = Vec::new();
        for (name, value) in pairs {
            text.push_str(name);
            ends.push(text.len() as u32);
            text.push_str(value);
            ends.push(text.len() as u32);
        }
        let labels = Labels { text: text.into(), ends: ends.into() };
        debug_assert!(labels.iter().zip(labels.iter().skip(1)).all(|(a, b)| a.0 < b.0), "pairs must ascend by name");
        labels
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all names and values together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    fn piece(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.text[start..self.ends[index] as usize]
    }

    /// The pair at `index`, in name order.
    pub fn pair(&self, index: usize) -> (&str, &str) {
        (self.piece(2 * index), self.piece(2 * index + 1))
    }

    /// Pairs in ascending order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + DoubleEndedIterator + Clone + '_ {
        (0..self.len()).map(move |index| self.pair(index))
    }

    /// The value of `name`; the empty string where the label is missing, as matchers see it.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or("")
    }

    /// The value of `name`, `None` where the label is missing.
    pub fn find(&self, name: &str) -> Option<&str> {
        // Label sets are short; a scan over one buffer beats a binary search.
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// The metric's name, empty where there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }

    /// The labels that `keep` accepts.
    pub fn filter(&self, keep: impl Fn(&str, &str) -> bool) -> Labels {
        Labels::from_sorted_pairs(self.iter().filter(|(name, value)| keep(name, value)))
    }

    /// The labels without the metric's name.
    pub fn without_metric_name(&self) -> Labels {
        self.filter(|name, _| name != METRIC_NAME)
    }

    /// A builder that starts with these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// xxHash64 over `name 0xff value 0xff …`, the same bytes and hash as Prometheus' `labels.Labels.Hash`
    /// without stringlabels, on which `limit_ratio` and `hashmod`-like choices rest.
    pub fn hash64(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.text.len() + self.ends.len());
        for (name, value) in self.iter() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0xff);
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0xff);
        }
        XxHash64::oneshot(0, &bytes)
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Pairwise by name, then value; a prefix sorts first. Source: Prometheus `labels.Compare`.
impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `{a="1", b="2"}`, the form of Prometheus' `labels.Labels.String`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

/// Collects pairs, keeping them sorted and unique.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: &str, value: &str) -> &mut LabelsBuilder {
        match self.pairs.binary_search_by(|(candidate, _)| candidate.as_str().cmp(name)) {
            Ok(index) if value.is_empty() => {
                self.pairs.remove(index);
            }
            Ok(index) => self.pairs[index].1 = value.to_owned(),
            Err(_) if value.is_empty() => {}
            Err(index) => self.pairs.insert(index, (name.to_owned(), value.to_owned())),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut LabelsBuilder {
        self.set(name, "")
    }

    /// The value of `name`, empty where missing.
    pub fn get(&self, name: &str) -> &str {
        match self.pairs.binary_search_by(|(candidate, _)| candidate.as_str().cmp(name)) {
            Ok(index) => &self.pairs[index].1,
            Err(_) => "",
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn build(&self) -> Labels {
        Labels::from_sorted_pairs(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_mean_absent() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(labels.get("c"), "");
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
    }

    #[test]
    fn order_is_by_pairs_not_by_bytes() {
        let short = Labels::from_pairs([("a", "1")]);
        let long = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let other = Labels::from_pairs([("aa", "0")]);
        assert!(short < long && long < other);
    }
}
