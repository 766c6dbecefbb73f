//! Which series carry which labels.
//!
//! Label pairs are interned: a series is a list of pair numbers, and a pair knows its series. So ten labels cost a
//! series forty bytes here and about as much in postings, however long their text is.

mod cardinality;
mod groups;
mod identity;
mod order;
mod postings;
mod resolve;
mod stored;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use parking_lot::Mutex;
use pilaster_model::Labels;
use roaring::RoaringBitmap;

use super::SeriesRef;
use order::Order;
use postings::Postings;

pub use cardinality::HeadCardinality;
pub use groups::Grouping;
pub use identity::{Identity, IdentityKey, SameHash};
pub use stored::{PairNumbers, PairTable, RestoredEntry};

#[derive(Debug)]
struct Pair {
    name: Arc<str>,
    value: Arc<str>,
    postings: Postings,
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
        self.texts(self.series.get(slot as usize).and_then(Option::as_ref).map_or(&[][..], |entry| &entry.pairs))
    }

    fn texts(&self, pairs: &[u32]) -> impl Iterator<Item = (&str, &str)> + Clone {
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

    /// The places in `series`, which ascend by slot and are not forgotten, in the order of labels.
    pub fn sorted(&self, series: &[SeriesRef]) -> Vec<u32> {
        let is_taken = |slot: u32| self.series.get(slot as usize).is_some_and(Option::is_some);
        self.order.lock().sort(series, is_taken, |a, b| self.compare(a, b), |slots| self.sort_by_labels(slots))
    }

    /// Sorts slots that are taken. Where there are many, pairs are sorted first, and series by the numbers of theirs.
    fn sort_by_labels(&self, slots: &mut [u32]) {
        if slots.len() < self.pairs.len() / 8 {
            slots.sort_unstable_by(|&a, &b| self.compare(a, b));
            return;
        }
        let mut pairs: Vec<(&str, &str, u32)> = (0..)
            .zip(&self.pairs)
            .filter_map(|(number, pair)| pair.as_ref().map(|pair| (&*pair.name, &*pair.value, number)))
            .collect();
        pairs.sort_unstable();
        // From 1: a missing pair comes before all.
        let mut ranks: Vec<u32> = vec![0; self.pairs.len()];
        for (rank, (_, _, number)) in (1..).zip(&pairs) {
            ranks[*number as usize] = rank;
        }
        let ranks_of = |slot: u32| {
            let entry = self.series.get(slot as usize).and_then(Option::as_ref);
            entry.map_or(&[][..], |entry| &entry.pairs).iter().map(|pair| ranks[*pair as usize])
        };
        let first_two = |&slot: &u32| {
            let mut ranks = ranks_of(slot);
            let mut next = || u64::from(ranks.next().unwrap_or(0));
            (next() << 32 | next(), slot)
        };
        let mut keyed: Vec<(u64, u32)> = slots.iter().map(first_two).collect();
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| ranks_of(a.1).skip(2).cmp(ranks_of(b.1).skip(2))));
        for (slot, (_, sorted)) in slots.iter_mut().zip(keyed) {
            *slot = sorted;
        }
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

    /// Whether a series has this label.
    pub fn has_name(&self, name: &str) -> bool {
        self.names.contains_key(name)
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

#[cfg(test)]
mod tests {
    use pilaster_model::Matcher;

    use super::*;

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
    fn many_series_are_sorted_as_few_are() {
        let (mut index, key) = (Index::default(), IdentityKey::default());
        // Some have a label or two, which others have with more behind them.
        let names = ["a", "aa", "b", "ä", "c"];
        for slot in 0..2000u32 {
            let mut pairs: Vec<(&str, String)> = vec![("z", format!("{}", slot * 7919 % 2003))];
            for (at, name) in names.into_iter().enumerate().filter(|(at, _)| slot >> at & 1 == 1) {
                pairs.push((name, format!("{}", slot as usize * (at + 13) % 11)));
            }
            if slot % 3 == 0 {
                pairs.remove(0);
                pairs.push(("b", format!("only {slot}")));
            }
            let labels = Labels::from_pairs(pairs);
            index.insert(SeriesRef::new(slot, 1), key.identity(labels.iter()), &labels);
        }
        (0..2000).filter(|slot| slot % 5 == 0).for_each(|slot| index.remove(slot));
        let mut slots: Vec<u32> = (0..2000).filter(|slot| slot % 5 != 0).collect();
        let mut expected = slots.clone();
        expected.sort_by_key(|&slot| index.labels_at(slot));
        index.sort_by_labels(&mut slots);
        assert!(slots.len() >= index.pairs.len() / 8);
        assert_eq!(slots, expected);
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
