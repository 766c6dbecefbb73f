//! Which series carry which labels.
//!
//! Label pairs are interned: a series is a list of pair numbers, and a pair knows its series. So ten labels cost a
//! series forty bytes here and about as much in postings, however long their text is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use pilaster_model::{Labels, METRIC_NAME, MatchOp, Matcher, put_identity};
use roaring::RoaringBitmap;
use twox_hash::XxHash64;

use super::SeriesRef;
use super::order::Order;
use super::postings::Postings;

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

/// Hashes of labels need no second hash.
#[derive(Debug, Default)]
pub struct SameHash(u64);

impl Hasher for SameHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Debug)]
struct Pair {
    name: Arc<str>,
    value: Arc<str>,
    postings: Postings,
}

/// What tells a label set from all others: two hashes of the same bytes, one of them with a key that nobody outside
/// knows. Equal means the same labels: 128 bits do not meet by chance, and nobody can make them meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// [`Labels::hash64`].
    pub hash: u64,
    check: u64,
}

/// The key of this process.
#[derive(Debug, Default)]
pub struct IdentityKey(RandomState);

impl IdentityKey {
    /// The identity of the label set with these pairs, ascending by name and none of them empty.
    pub fn identity<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Identity {
        let mut bytes = Vec::with_capacity(256);
        put_identity(pairs, &mut bytes);
        let mut check = self.0.build_hasher();
        check.write(&bytes);
        Identity { hash: XxHash64::oneshot(0, &bytes), check: check.finish() }
    }
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    check: u64,
    /// Pair numbers in the order of the labels.
    pairs: Box<[u32]>,
}

#[derive(Debug)]
struct Name {
    name: Arc<str>,
    values: HashMap<Arc<str>, u32>,
}

/// The index of the head.
#[derive(Debug, Default)]
pub struct Index {
    names: BTreeMap<Arc<str>, Name>,
    pairs: Vec<Option<Pair>>,
    free_pairs: Vec<u32>,
    /// By slot.
    series: Vec<Option<Entry>>,
    by_hash: HashMap<u64, u32, BuildHasherDefault<SameHash>>,
    /// Further series with a hash that is taken: about never.
    collisions: HashMap<u64, Vec<u32>>,
    all: RoaringBitmap,
    /// Shared by those who select: taken last, and only for as long as they sort.
    order: Mutex<Order>,
}

impl Index {
    /// The series with this identity.
    pub fn find(&self, identity: Identity) -> Option<SeriesRef> {
        let first = *self.by_hash.get(&identity.hash)?;
        let is_it = |slot: &u32| self.series[*slot as usize].as_ref().is_some_and(|e| e.check == identity.check);
        if is_it(&first) {
            return self.reference(first);
        }
        self.reference(self.collisions.get(&identity.hash)?.iter().copied().find(is_it)?)
    }

    /// The current reference of `slot`.
    pub fn reference(&self, slot: u32) -> Option<SeriesRef> {
        let entry = self.series.get(slot as usize)?.as_ref()?;
        Some(SeriesRef::new(slot, entry.generation))
    }

    /// Adds a series. `identity` is that of `labels`.
    pub fn insert(&mut self, series: SeriesRef, identity: Identity, labels: &Labels) {
        let slot = series.slot();
        let Identity { hash, check } = identity;
        let pairs: Box<[u32]> = labels.iter().map(|(name, value)| self.pair(name, value)).collect();
        for &pair in &pairs {
            if let Some(pair) = &mut self.pairs[pair as usize] {
                pair.postings.insert(slot);
            }
        }
        if self.series.len() <= slot as usize {
            self.series.resize_with(slot as usize + 1, || None);
        }
        self.series[slot as usize] = Some(Entry { generation: series.generation(), check, pairs });
        match self.by_hash.entry(hash) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(slot);
            }
            std::collections::hash_map::Entry::Occupied(_) => self.collisions.entry(hash).or_default().push(slot),
        }
        self.all.insert(slot);
        self.order.get_mut().insert(slot);
    }

    /// The number of a pair, which begins to exist where it did not.
    fn pair(&mut self, name: &str, value: &str) -> u32 {
        if !self.names.contains_key(name) {
            let name: Arc<str> = name.into();
            self.names.insert(name.clone(), Name { name, values: HashMap::new() });
        }
        let Some(entry) = self.names.get_mut(name) else { unreachable!("inserted above") };
        if let Some(&pair) = entry.values.get(value) {
            return pair;
        }
        let value: Arc<str> = value.into();
        let number = self.free_pairs.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            (self.pairs.len() - 1) as u32
        });
        entry.values.insert(value.clone(), number);
        self.pairs[number as usize] = Some(Pair { name: entry.name.clone(), value, postings: Postings::default() });
        number
    }

    pub fn remove(&mut self, slot: u32) {
        let Some(labels) = self.labels_at(slot) else { return };
        let Some(entry) = self.series[slot as usize].take() else { return };
        for number in entry.pairs {
            let Some(pair) = &mut self.pairs[number as usize] else { continue };
            pair.postings.remove(slot);
            if pair.postings.len() == 0
                && let Some(pair) = self.pairs[number as usize].take()
            {
                self.free_pairs.push(number);
                if let Some(name) = self.names.get_mut(&pair.name) {
                    name.values.remove(&pair.value);
                    if name.values.is_empty() {
                        self.names.remove(&pair.name);
                    }
                }
            }
        }
        let hash = labels.hash64();
        match self.collisions.get_mut(&hash) {
            None => {
                self.by_hash.remove(&hash);
            }
            Some(others) => {
                match others.iter().position(|&other| other == slot) {
                    Some(at) => {
                        others.swap_remove(at);
                    }
                    // One of the others takes the main place.
                    None => {
                        if let Some(other) = others.pop() {
                            self.by_hash.insert(hash, other);
                        }
                    }
                }
                if others.is_empty() {
                    self.collisions.remove(&hash);
                }
            }
        }
        self.all.remove(slot);
        self.order.get_mut().remove(slot);
    }

    pub fn series_count(&self) -> u64 {
        self.all.len()
    }

    fn pairs_of(&self, slot: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        let pairs = self.series.get(slot as usize).and_then(Option::as_ref).map_or(&[][..], |entry| &entry.pairs);
        pairs.iter().filter_map(|&pair| self.pairs[pair as usize].as_ref()).map(|pair| (&*pair.name, &*pair.value))
    }

    fn labels_at(&self, slot: u32) -> Option<Labels> {
        self.reference(slot)?;
        Some(Labels::from_sorted_pairs(self.pairs_of(slot)))
    }

    /// Labels of a series; `None` when it is forgotten.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        if self.contains(series) { self.labels_at(series.slot()) } else { None }
    }

    pub fn contains(&self, series: SeriesRef) -> bool {
        self.reference(series.slot()) == Some(series)
    }

    /// Labels and references of those of `series` that are not forgotten, ascending by labels.
    pub fn sorted(&self, series: &[SeriesRef]) -> Vec<(Labels, SeriesRef)> {
        // They come ascending by slot. Neighbouring slots lie close together, neighbours by labels far apart: so labels
        // are made before they are sorted.
        let labels = |&series: &SeriesRef| Some((self.labels(series)?, series));
        let mut made: Vec<Option<(Labels, SeriesRef)>> = series.iter().map(labels).collect();
        let made_at = made.iter().zip(0..).filter_map(|(one, at)| Some((one.as_ref()?.1.slot(), at)));
        let mut sorted: Vec<(u32, u32)> = made_at.collect();
        let is_taken = |slot: u32| self.series.get(slot as usize).is_some_and(Option::is_some);
        self.order.lock().sort(&mut sorted, is_taken, |a, b| self.compare(a, b));
        sorted.into_iter().filter_map(|(_, at)| made[at as usize].take()).collect()
    }

    /// The order of the labels of two series.
    fn compare(&self, a: u32, b: u32) -> Ordering {
        let entry = |slot: u32| self.series.get(slot as usize).and_then(Option::as_ref);
        let (Some(left), Some(right)) = (entry(a), entry(b)) else { return a.cmp(&b) };
        match left.pairs.iter().zip(&right.pairs).find(|(left, right)| left != right) {
            None => left.pairs.len().cmp(&right.pairs.len()),
            Some((&left, &right)) => {
                let text = |pair: u32| self.pairs[pair as usize].as_ref().map(|pair| (&*pair.name, &*pair.value));
                text(left).cmp(&text(right))
            }
        }
    }

    /// The series that satisfy all `matchers`, ascending by slot.
    pub fn resolve(&self, matchers: &[Matcher]) -> Vec<SeriesRef> {
        self.resolve_slots(matchers).into_iter().filter_map(|slot| self.reference(slot)).collect()
    }

    fn resolve_slots(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // Conditions that name their values first: they are look-ups, and make the rest small.
        let (literal, mut rest): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| !m.matches_empty() && !is_negative(m) && literals(m).is_some());
        for matcher in literal {
            let mut set = RoaringBitmap::new();
            for value in literals(matcher).unwrap_or_default() {
                if let Some(postings) = self.postings(matcher.name(), value) {
                    postings.add_to(&mut set);
                }
            }
            let set = found.map_or_else(|| set.clone(), |found| found & &set);
            if set.is_empty() {
                return set;
            }
            found = Some(set);
        }
        // Of the others those that ask for a label come first: they do not begin with all series.
        rest.sort_by_key(|matcher| matcher.matches_empty());
        for matcher in rest {
            let value_count = self.names.get(matcher.name()).map_or(0, |name| name.values.len() as u64);
            let set = match found {
                Some(found) if found.len() < value_count => self.filter(found, matcher),
                Some(found) if matcher.matches_empty() => found - self.union(matcher, false),
                Some(found) => found & self.union(matcher, true),
                None if matcher.matches_empty() => &self.all - self.union(matcher, false),
                None => self.union(matcher, true),
            };
            if set.is_empty() {
                return set;
            }
            found = Some(set);
        }
        found.unwrap_or_else(|| self.all.clone())
    }

    fn postings(&self, name: &str, value: &str) -> Option<&Postings> {
        let pair = *self.names.get(name)?.values.get(value)?;
        self.pairs[pair as usize].as_ref().map(|pair| &pair.postings)
    }

    /// The series with a value of the label for which the matcher says `verdict`.
    fn union(&self, matcher: &Matcher, verdict: bool) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        let Some(name) = self.names.get(matcher.name()) else { return set };
        let mut add = |pair: u32| {
            if let Some(pair) = &self.pairs[pair as usize] {
                pair.postings.add_to(&mut set);
            }
        };
        // The negative forms refuse exactly the literals of the positive ones.
        match literals(matcher) {
            Some(values) if verdict != is_negative(matcher) => {
                for value in values {
                    name.values.get(value).into_iter().for_each(|&pair| add(pair));
                }
            }
            Some(_) | None => {
                for (value, &pair) in &name.values {
                    if matcher.matches(value) == verdict {
                        add(pair);
                    }
                }
            }
        }
        set
    }

    /// Asks series one by one; each value once.
    fn filter(&self, set: RoaringBitmap, matcher: &Matcher) -> RoaringBitmap {
        let Some(name) = self.names.get(matcher.name()) else {
            return if matcher.matches_empty() { set } else { RoaringBitmap::new() };
        };
        let mut verdicts: HashMap<u32, bool> = HashMap::new();
        let matches_empty = matcher.matches_empty();
        let verdict_of = |slot: &u32| {
            let entry = self.series.get(*slot as usize).and_then(Option::as_ref);
            let pairs = entry.map_or(&[][..], |entry| &entry.pairs);
            let value = pairs.iter().find_map(|&number| {
                let pair = self.pairs[number as usize].as_ref()?;
                Arc::ptr_eq(&pair.name, &name.name).then_some((number, &pair.value))
            });
            match value {
                Some((number, value)) => *verdicts.entry(number).or_insert_with(|| matcher.matches(value)),
                None => matches_empty,
            }
        };
        set.into_iter().filter(verdict_of).collect()
    }

    /// Names of all labels, ascending.
    pub fn names(&self) -> Vec<String> {
        self.names.keys().map(|name| name.to_string()).collect()
    }

    /// All values of a label, ascending.
    pub fn values(&self, name: &str) -> Vec<String> {
        let mut values: Vec<String> = self
            .names
            .get(name)
            .into_iter()
            .flat_map(|name| name.values.keys().map(|value| value.to_string()))
            .collect();
        values.sort_unstable();
        values
    }

    /// Names of the labels of `series`, ascending.
    pub fn names_of(&self, series: &[SeriesRef]) -> Vec<String> {
        let mut pairs: HashSet<u32> = HashSet::new();
        for reference in series {
            if let Some(Some(entry)) = self.series.get(reference.slot() as usize)
                && entry.generation == reference.generation()
            {
                pairs.extend(&entry.pairs);
            }
        }
        let mut names: Vec<&str> =
            pairs.into_iter().filter_map(|pair| self.pairs[pair as usize].as_ref()).map(|pair| &*pair.name).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Values of the label `name` on `series`, ascending.
    pub fn values_of(&self, name: &str, series: &[SeriesRef]) -> Vec<String> {
        let mut values: Vec<&str> = series
            .iter()
            .filter(|series| self.contains(**series))
            .filter_map(|series| self.pairs_of(series.slot()).find(|(candidate, _)| *candidate == name))
            .map(|(_, value)| value)
            .collect();
        values.sort_unstable();
        values.dedup();
        values.into_iter().map(str::to_owned).collect()
    }

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

    /// Rough bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let pairs: usize = self
            .pairs
            .iter()
            .flatten()
            .map(|pair| pair.value.len() + 16 + pair.postings.memory_bytes() + 2 * size_of::<(Arc<str>, u32)>())
            .sum();
        let series: usize = self.series.iter().flatten().map(|entry| entry.pairs.len() * 4 + 16).sum();
        pairs
            + series
            + self.pairs.capacity() * size_of::<Option<Pair>>()
            + self.series.capacity() * size_of::<Option<Entry>>()
            + self.by_hash.capacity() * 17
            + self.order.lock().memory_bytes()
            + self.all.serialized_size()
    }
}

fn is_negative(matcher: &Matcher) -> bool {
    matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex)
}

/// The finite set of values that the matcher accepts, or refuses when it is negative.
fn literals(matcher: &Matcher) -> Option<Vec<&str>> {
    match matcher.op() {
        MatchOp::Equal | MatchOp::NotEqual => Some(vec![matcher.value()]),
        MatchOp::Regex | MatchOp::NotRegex => {
            matcher.literal_values().map(|values| values.iter().map(String::as_str).collect())
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

    #[test]
    fn series_come_and_go() {
        let mut index = Index::default();
        let key = IdentityKey::default();
        let sets: Vec<Labels> = (0..100)
            .map(|number: u32| {
                Labels::from_pairs([
                    ("__name__", "m".to_owned()),
                    ("n", number.to_string()),
                    ("odd", (number % 2).to_string()),
                ])
            })
            .collect();
        for (slot, labels) in sets.iter().enumerate() {
            index.insert(SeriesRef::new(slot as u32, 1), key.identity(labels.iter()), labels);
        }
        let odd = [Matcher::equal("odd", "1")];
        assert_eq!(index.resolve(&odd).len(), 50);
        assert_eq!(index.find(key.identity(sets[7].iter())), Some(SeriesRef::new(7, 1)));
        let cardinality = index.cardinality(1);
        assert_eq!(cardinality.values_by_label, [("n".to_owned(), 100)]);
        assert_eq!(cardinality.series_by_pair, [("__name__=m".to_owned(), 100)]);
        (0..100).filter(|slot| slot % 2 == 1).for_each(|slot| index.remove(slot));
        assert!(index.resolve(&odd).is_empty() && index.values("odd") == ["0"]);
        assert_eq!(index.find(key.identity(sets[7].iter())), None);
        (0..100).filter(|slot| slot % 2 == 0).for_each(|slot| index.remove(slot));
        assert_eq!((index.series_count(), index.names().len()), (0, 0));
    }

    #[test]
    fn equal_hashes_are_told_apart() {
        let mut index = Index::default();
        let sets = ["a", "b", "c"].map(|value| Labels::from_pairs([("x", value)]));
        for (slot, labels) in sets.iter().enumerate() {
            index.insert(SeriesRef::new(slot as u32, 1), Identity { hash: 42, check: slot as u64 }, labels);
        }
        for slot in 0..3 {
            assert_eq!(index.find(Identity { hash: 42, check: slot }), Some(SeriesRef::new(slot as u32, 1)));
        }
        assert_eq!(index.find(Identity { hash: 42, check: 3 }), None);
    }
}
