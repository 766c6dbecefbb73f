//! A series' identity: label names with their values.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use twox_hash::XxHash64;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: pairs sorted by name, names unique, no empty value (an empty value means "absent").
///
/// Cloning is one reference count, and all of it lies in one piece of memory: where names and values end, then
/// `name0 value0 name1 value1 …`. Each end is [`END_BYTES`] letters of seven bits, so that the whole is text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

/// Appends `name 0xff value 0xff …`, which tells label sets apart: no text holds the byte 0xff.
pub fn put_identity<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    for (name, value) in pairs {
        out.extend_from_slice(name.as_bytes());
        out.push(0xff);
        out.extend_from_slice(value.as_bytes());
        out.push(0xff);
    }
}

/// Bytes of an end, or of their number.
const END_BYTES: usize = 5;
/// All text of a label set is shorter, more than any machine has.
const MAX_TEXT_BYTES: usize = 1 << 35;

fn put_end(end: usize) -> [u8; END_BYTES] {
    std::array::from_fn(|place| (end >> (7 * place)) as u8 & 0x7f)
}

fn take_end([a, b, c, d, e]: [u8; END_BYTES]) -> usize {
    let raw = u32::from_le_bytes([a, b, c, d]);
    let low = raw & 0x7f | (raw >> 1 & 0x3f80) | (raw >> 2 & 0x1f_c000) | (raw >> 3 & 0x0fe0_0000);
    low as usize | usize::from(e) << 28
}

impl Labels {
    /// The empty label set.
    pub fn empty() -> Labels {
        Labels(Arc::from(""))
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
        // How many there are and how long they are must be known before the first byte: most sets fit here until then.
        let mut few = [("", ""); 16];
        let mut many: Vec<(&str, &str)> = Vec::new();
        let (mut count, mut text_bytes) = (0, 0);
        for pair in pairs {
            match few.get_mut(count) {
                Some(place) => *place = pair,
                None => {
                    if many.is_empty() {
                        many.extend_from_slice(&few);
                    }
                    many.push(pair);
                }
            }
            count += 1;
            text_bytes += pair.0.len() + pair.1.len();
        }
        if count == 0 {
            return Labels::empty();
        }
        assert!(text_bytes < MAX_TEXT_BYTES, "a label set is shorter than 32 GiB");
        let pairs = if many.is_empty() { &few[..count] } else { &many };
        let mut whole = String::with_capacity((2 * count + 1) * END_BYTES + text_bytes);
        // Seven bits a byte are text.
        let mut put = |end| whole.push_str(std::str::from_utf8(&put_end(end)).unwrap_or_default());
        put(2 * count);
        let mut end = 0;
        for piece in pairs.iter().flat_map(|(name, value)| [name, value]) {
            end += piece.len();
            put(end);
        }
        for piece in pairs.iter().flat_map(|(name, value)| [name, value]) {
            whole.push_str(piece);
        }
        let labels = Labels(whole.into());
        debug_assert!(labels.iter().zip(labels.iter().skip(1)).all(|(a, b)| a.0 < b.0), "pairs must ascend by name");
        labels
    }

    /// Number of names and values.
    fn piece_count(&self) -> usize {
        self.0.as_bytes().first_chunk().map_or(0, |count| take_end(*count))
    }

    /// Where the text begins.
    fn text_at(&self) -> usize {
        if self.0.is_empty() { 0 } else { (self.piece_count() + 1) * END_BYTES }
    }

    /// Where the text before piece `index` ends.
    fn end_before(&self, index: usize) -> usize {
        if index == 0 {
            return 0;
        }
        let at = index * END_BYTES;
        let bytes = self.0.as_bytes().get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| take_end(*bytes))
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.piece_count() / 2
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values together.
    pub fn text_bytes(&self) -> usize {
        self.0.len() - self.text_at()
    }

    /// The pair at `index`, in name order.
    pub fn pair(&self, index: usize) -> (&str, &str) {
        self.pair_in(&self.0[self.text_at()..], index)
    }

    fn pair_in<'a>(&self, text: &'a str, index: usize) -> (&'a str, &'a str) {
        let (start, middle, end) =
            (self.end_before(2 * index), self.end_before(2 * index + 1), self.end_before(2 * index + 2));
        (&text[start..middle], &text[middle..end])
    }

    /// Pairs in ascending order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + DoubleEndedIterator + Clone + '_ {
        let text = &self.0[self.text_at()..];
        (0..self.len()).map(move |index| self.pair_in(text, index))
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
        let mut bytes = Vec::with_capacity(self.0.len());
        put_identity(self.iter(), &mut bytes);
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
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.iter().cmp(other.iter()) }
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
    fn any_number_of_any_length_comes_back() {
        for count in [0, 1, 15, 16, 17, 200] {
            let pairs: Vec<(String, String)> =
                (0..count).map(|number: usize| (format!("n{number:04}"), "ä".repeat(1 + number * 13))).collect();
            let labels = Labels::from_pairs(pairs.iter().map(|(name, value)| (name, value)));
            assert_eq!((labels.len(), labels.is_empty()), (count, count == 0));
            assert_eq!(labels.text_bytes(), pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>());
            assert!(labels.iter().eq(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
            assert!(labels.iter().rev().eq(pairs.iter().rev().map(|(name, value)| (name.as_str(), value.as_str()))));
        }
        for end in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, MAX_TEXT_BYTES - 1] {
            assert_eq!(take_end(put_end(end)), end);
            assert!(put_end(end).is_ascii());
        }
        assert_eq!(size_of::<Labels>(), 16);
    }

    #[test]
    fn order_is_by_pairs_not_by_bytes() {
        let short = Labels::from_pairs([("a", "1")]);
        let long = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let other = Labels::from_pairs([("aa", "0")]);
        assert!(short < long && long < other);
    }
}
