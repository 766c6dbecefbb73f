//! Label pairs and series of the index as a head snapshot keeps them.
//!
//! ```text
//! pair   uvarint number of its name, uvarint bytes of its value, those
//! labels uvarint number, of each svarint distance of its pair to the one at the same place of the series before, or to 0
//! ```
//!
//! Pairs get numbers of their own, in the order in which series first have them, and each is written once.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::order::Order;
use super::postings::Postings;
use super::{Entry, Identity, IdentityKey, Index, Name, Pair};
use crate::block::varint::{Cursor, put_svarint, put_uvarint};
use crate::head::SeriesRef;

/// Most labels of a series that is read back: more than any sender may have.
const MOST_LABELS: usize = 1 << 16;

/// What has a number in a snapshot that is being written.
#[derive(Debug, Default)]
pub struct PairNumbers {
    /// By number in the index: that in the snapshot and one, 0 where it has none.
    numbers: Vec<u32>,
    names: HashMap<Arc<str>, u32>,
    /// In the order of their numbers.
    pub name_list: Vec<Arc<str>>,
    pub pair_count: u32,
}

impl PairNumbers {
    fn number(&mut self, index: &Index, pair: u32, pairs: &mut Vec<u8>) -> u32 {
        let place = pair as usize;
        if self.numbers.len() <= place {
            self.numbers.resize(index.pairs.len(), 0);
        }
        if let Some(number) = self.numbers[place].checked_sub(1) {
            return number;
        }
        let number = self.pair_count;
        self.pair_count += 1;
        self.numbers[place] = number + 1;
        if let Some(Pair { name, value, .. }) = &index.pairs[place] {
            let next = self.name_list.len() as u32;
            let name_number = *self.names.entry(name.clone()).or_insert(next);
            if name_number == next {
                self.name_list.push(name.clone());
            }
            put_uvarint(pairs, u64::from(name_number));
            put_uvarint(pairs, value.len() as u64);
            pairs.extend_from_slice(value.as_bytes());
        }
        number
    }
}

/// The label pairs of a snapshot that is being read, by number.
#[derive(Debug, Default)]
pub struct PairTable {
    names: Vec<Arc<str>>,
    /// By name: its place among all names in order.
    ranks: Vec<u32>,
    pairs: Vec<(u32, Arc<str>)>,
}

impl PairTable {
    /// `None` where a name stands there twice.
    pub fn new(names: Vec<Arc<str>>) -> Option<PairTable> {
        let mut order: Vec<u32> = (0..names.len() as u32).collect();
        order.sort_unstable_by_key(|&name| &names[name as usize]);
        if order.windows(2).any(|two| names[two[0] as usize] == names[two[1] as usize]) {
            return None;
        }
        let mut ranks = vec![0; names.len()];
        for (rank, name) in (0..).zip(order) {
            ranks[name as usize] = rank;
        }
        Some(PairTable { names, ranks, pairs: Vec::new() })
    }

    /// So many pairs, which are all of `bytes`.
    pub fn decode(&self, bytes: &[u8], count: usize) -> Option<Vec<(u32, Arc<str>)>> {
        let mut cursor = Cursor::new(bytes);
        // A pair takes three bytes at least.
        let mut pairs = Vec::with_capacity(count.min(bytes.len() / 3));
        for _ in 0..count {
            let name: u32 = cursor.number().filter(|&name: &u32| (name as usize) < self.names.len())?;
            let len = cursor.number()?;
            let value = std::str::from_utf8(cursor.bytes(len)?).ok().filter(|value| !value.is_empty())?;
            pairs.push((name, value.into()));
        }
        cursor.is_empty().then_some(pairs)
    }

    pub fn extend(&mut self, pairs: Vec<(u32, Arc<str>)>) {
        self.pairs.extend(pairs);
    }

    /// The pair numbers of a label set, behind those of the series before, which they replace.
    pub fn labels(&self, bytes: &mut Cursor<'_>, before: &mut Vec<u32>) -> Option<()> {
        let count = bytes.number().filter(|count| (1..=MOST_LABELS).contains(count))?;
        before.resize(count, 0);
        let mut last_rank = None;
        for number in before {
            *number = u32::try_from(i64::from(*number).checked_add(bytes.svarint()?)?).ok()?;
            let (name, _) = self.pairs.get(*number as usize)?;
            let rank = Some(self.ranks[*name as usize]);
            if last_rank >= rank {
                return None;
            }
            last_rank = rank;
        }
        Some(())
    }

    pub fn identity(&self, numbers: &[u32], key: &IdentityKey) -> Identity {
        let text = |&number: &u32| {
            let (name, value) = &self.pairs[number as usize];
            (&*self.names[*name as usize], &**value)
        };
        key.identity(numbers.iter().map(text))
    }
}

/// A series that was read back.
#[derive(Debug)]
pub struct RestoredEntry {
    pub series: SeriesRef,
    pub identity: Identity,
    /// Numbers in a [`PairTable`].
    pub pairs: Box<[u32]>,
}

impl Index {
    /// Appends the labels of the series in `slot`, which is taken, to `out`, and pairs that have no number yet to `pairs`.
    /// `before` are the pairs of the series before.
    pub fn store_labels(
        &self,
        slot: u32,
        numbers: &mut PairNumbers,
        before: &mut Vec<u32>,
        (pairs, out): (&mut Vec<u8>, &mut Vec<u8>),
    ) {
        let entry = self.series.get(slot as usize).and_then(Option::as_ref);
        let own = entry.map_or(&[][..], |entry| &entry.pairs);
        put_uvarint(out, own.len() as u64);
        before.resize(own.len(), 0);
        for (before, &pair) in before.iter_mut().zip(own) {
            let number = numbers.number(self, pair, pairs);
            put_svarint(out, i64::from(number) - i64::from(*before));
            *before = number;
        }
    }

    /// The index of these series: lists of them, each ascending by slot, with the pairs of `table`. `None` where two series
    /// or two pairs are the same.
    pub fn restore(table: PairTable, lists: Vec<Vec<RestoredEntry>>) -> Option<Index> {
        let slots = lists.iter().filter_map(|list| list.last()).map(|last| last.series.slot() as usize + 1).max();
        let mut series: Vec<Option<Entry>> = Vec::new();
        series.resize_with(slots.unwrap_or(0), || None);
        let mut hashes: Vec<(Identity, u32)> = Vec::with_capacity(lists.iter().map(Vec::len).sum());
        for RestoredEntry { series: reference, identity, pairs } in lists.into_iter().flatten() {
            hashes.push((identity, reference.slot()));
            let entry = Entry { generation: reference.generation(), check: identity.check, pairs };
            series[reference.slot() as usize] = Some(entry);
        }
        let by_slot = || (0..).zip(&series).filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)));
        let (postings, found) = rayon::join(|| postings(table.pairs.len(), by_slot), || by_hash(hashes, &series));
        let (by_hash, collisions) = found?;
        let all = RoaringBitmap::from_sorted_iter(by_slot().map(|(slot, _)| slot)).ok()?;
        let mut order = Order::default();
        by_slot().for_each(|(slot, _)| order.insert(slot));

        // Pairs that no series has any more are no pairs.
        let mut of_names: Vec<Vec<u32>> = vec![Vec::new(); table.names.len()];
        let mut pairs = Vec::with_capacity(postings.len());
        let mut free_pairs = Vec::new();
        for ((number, (name, value)), postings) in (0..).zip(table.pairs).zip(postings) {
            if postings.len() == 0 {
                free_pairs.push(number);
                pairs.push(None);
                continue;
            }
            of_names[name as usize].push(number);
            pairs.push(Some(Pair { name: table.names[name as usize].clone(), value, postings }));
        }
        let value = |&number: &u32| Some((pairs[number as usize].as_ref()?.value.clone(), number));
        let values: Vec<HashMap<Arc<str>, u32>> =
            of_names.par_iter().map(|numbers| numbers.iter().filter_map(value).collect()).collect();
        let mut names = BTreeMap::new();
        for ((name, values), numbers) in table.names.into_iter().zip(values).zip(of_names) {
            if values.len() != numbers.len() {
                return None;
            }
            if !values.is_empty() {
                names.insert(name.clone(), Name { name, values });
            }
        }
        Some(Index { names, pairs, free_pairs, series, by_hash, collisions, all, order: order.into() })
    }
}

/// Of each pair the slots of its series.
fn postings<'a, I: Iterator<Item = (u32, &'a Entry)>>(pair_count: usize, by_slot: impl Fn() -> I) -> Vec<Postings> {
    // Where each pair's slots end, first as counts.
    let mut ends = vec![0u32; pair_count];
    for (_, entry) in by_slot() {
        entry.pairs.iter().for_each(|&pair| ends[pair as usize] += 1);
    }
    let mut total = 0;
    for end in &mut ends {
        total += std::mem::replace(end, total);
    }
    let mut slots = vec![0u32; total as usize];
    for (slot, entry) in by_slot() {
        for &pair in &entry.pairs {
            let end = &mut ends[pair as usize];
            slots[*end as usize] = slot;
            *end += 1;
        }
    }
    let start = |pair: usize| pair.checked_sub(1).map_or(0, |before| ends[before] as usize);
    let of_pair = |pair: usize| Postings::of_ascending(&slots[start(pair)..ends[pair] as usize]);
    (0..pair_count).into_par_iter().map(of_pair).collect()
}

type ByHash = (HashMap<u64, u32, std::hash::BuildHasherDefault<super::SameHash>>, HashMap<u64, Vec<u32>>);

/// `None` where two series are the same.
fn by_hash(hashes: Vec<(Identity, u32)>, series: &[Option<Entry>]) -> Option<ByHash> {
    let mut by_hash = HashMap::with_capacity_and_hasher(hashes.len(), Default::default());
    let mut collisions: HashMap<u64, Vec<u32>> = HashMap::new();
    for (Identity { hash, check }, slot) in hashes {
        match by_hash.entry(hash) {
            MapEntry::Vacant(entry) => {
                entry.insert(slot);
            }
            MapEntry::Occupied(first) => {
                let others = collisions.entry(hash).or_default();
                let is_it = |slot: &u32| series[*slot as usize].as_ref().is_some_and(|entry| entry.check == check);
                if is_it(first.get()) || others.iter().any(is_it) {
                    return None;
                }
                others.push(slot);
            }
        }
    }
    Some((by_hash, collisions))
}
