//! The order of series by their labels, so that those of a large selection are sorted by a number each.
//!
//! Ranks are kept from one selection to the next. New series have none until a large selection gives them one; until then
//! their labels are compared.

use std::cmp::Ordering;

/// Selections of fewer series are sorted by their labels: that costs less than ranks for new series.
const FEW: usize = 256;
/// A slot without a rank.
const NONE: u32 = u32::MAX;

/// See the module. Slots are those of [`super::Head`].
#[derive(Debug, Default)]
pub struct Order {
    /// Slots, ascending by labels; some are out of date, and then have no rank.
    sorted: Vec<u32>,
    /// By slot.
    ranks: Vec<u32>,
    /// Slots without a rank that are or were taken.
    new: Vec<u32>,
    /// Series sorted since ranks were given last, in selections of some size.
    sorted_since: usize,
}

impl Order {
    pub fn insert(&mut self, slot: u32) {
        self.new.push(slot);
    }

    pub fn remove(&mut self, slot: u32) {
        if let Some(rank) = self.ranks.get_mut(slot as usize) {
            *rank = NONE;
        }
    }

    fn rank(&self, slot: u32) -> u32 {
        self.ranks.get(slot as usize).copied().unwrap_or(NONE)
    }

    /// Sorts slots, all of them taken, by labels; each carries a number of the caller's. `is_taken` tells whether a slot
    /// still is, and `compare` by labels.
    pub fn sort(
        &mut self,
        slots: &mut [(u32, u32)],
        is_taken: impl Fn(u32) -> bool,
        compare: impl Fn(u32, u32) -> Ordering,
    ) {
        let all = self.sorted.len() + self.new.len();
        if slots.len() >= FEW && !self.new.is_empty() {
            self.sorted_since += slots.len();
            // Going through all series once must cost less than comparing the labels of these, and of those before.
            if self.sorted_since >= all / 16 {
                self.sorted_since = 0;
                self.give_ranks(&is_taken, &compare);
            }
        }
        if slots.len() >= FEW && self.new.is_empty() {
            slots.sort_unstable_by_key(|&(slot, _)| self.rank(slot));
            return;
        }
        slots.sort_unstable_by(|&(a, _), &(b, _)| match (self.rank(a), self.rank(b)) {
            (NONE, _) | (_, NONE) => compare(a, b),
            (a, b) => a.cmp(&b),
        });
    }

    fn give_ranks(&mut self, is_taken: impl Fn(u32) -> bool, compare: impl Fn(u32, u32) -> Ordering) {
        let mut new = std::mem::take(&mut self.new);
        new.retain(|&slot| is_taken(slot) && self.rank(slot) == NONE);
        new.sort_unstable();
        new.dedup();
        new.sort_unstable_by(|&a, &b| compare(a, b));
        let old = std::mem::take(&mut self.sorted);
        let mut sorted = Vec::with_capacity(old.len() + new.len());
        let mut new = new.into_iter().peekable();
        for slot in old.into_iter().filter(|&slot| self.rank(slot) != NONE) {
            while let Some(before) = new.next_if(|&new| compare(new, slot) == Ordering::Less) {
                sorted.push(before);
            }
            sorted.push(slot);
        }
        sorted.extend(new);
        for (rank, &slot) in sorted.iter().enumerate() {
            if self.ranks.len() <= slot as usize {
                self.ranks.resize(slot as usize + 1, NONE);
            }
            self.ranks[slot as usize] = rank as u32;
        }
        self.sorted = sorted;
    }

    pub fn memory_bytes(&self) -> usize {
        (self.sorted.capacity() + self.ranks.capacity() + self.new.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts_as_labels_do(steps in prop::collection::vec((0..2000u32, any::<u16>(), 0..8u8), 1..3000)) {
            let mut order = Order::default();
            let mut labels: BTreeMap<u32, (u16, u32)> = BTreeMap::new();
            for (slot, label, kind) in steps {
                match kind {
                    // A slot is given back before it is taken again.
                    0 => if labels.remove(&slot).is_some() { order.remove(slot) },
                    1 if slot % 20 == 0 => {
                        let some = labels.keys().copied().filter(|key| key % (1 + slot / 20 % 3) == 0);
                        let mut slots: Vec<(u32, u32)> = some.map(|slot| (slot, slot + 1)).collect();
                        order.sort(&mut slots, |slot| labels.contains_key(&slot), |a, b| labels[&a].cmp(&labels[&b]));
                        prop_assert!(slots.is_sorted_by_key(|(slot, _)| labels[slot]));
                        prop_assert!(slots.iter().all(|(slot, number)| slot + 1 == *number));
                    }
                    _ => if let std::collections::btree_map::Entry::Vacant(entry) = labels.entry(slot) {
                        entry.insert((label, slot));
                        order.insert(slot);
                    },
                }
            }
            let mut slots: Vec<(u32, u32)> = labels.keys().map(|&slot| (slot, 0)).collect();
            order.sort(&mut slots, |slot| labels.contains_key(&slot), |a, b| labels[&a].cmp(&labels[&b]));
            prop_assert!(slots.is_sorted_by_key(|(slot, _)| labels[slot]));
        }
    }
}
