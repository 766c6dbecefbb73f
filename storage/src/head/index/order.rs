//! The order of series by their labels, so that those of a large selection are sorted by a number each.
//!
//! Ranks are kept from one selection to the next. New series have none until a large selection gives them one; until then
//! their labels are compared.

use std::cmp::Ordering;

use super::SeriesRef;

/// Selections of fewer series are sorted by their labels: that costs less than ranks for new series.
const FEW: usize = 256;
/// One in so many of all series is worth going through all of them.
const WORTH_A_LIST: usize = 32;
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

    /// The places in `series` in the order of labels. They ascend by slot, and all slots are taken. `is_taken` tells
    /// whether a slot still is, `compare` and `sort_many` go by labels.
    pub fn sort(
        &mut self,
        series: &[SeriesRef],
        is_taken: impl Fn(u32) -> bool,
        compare: impl Fn(u32, u32) -> Ordering,
        sort_many: impl FnOnce(&mut [u32]),
    ) -> Vec<u32> {
        let all = self.sorted.len() + self.new.len();
        if series.len() >= FEW && !self.new.is_empty() {
            self.sorted_since += series.len();
            // Going through all series once must cost less than comparing the labels of these, and of those before.
            if self.sorted_since >= all / 16 {
                self.sorted_since = 0;
                self.give_ranks(&is_taken, &compare, sort_many);
            }
        }
        let ranks = series.iter().map(|series| self.rank(series.slot()));
        if series.len() < FEW || !self.new.is_empty() {
            let mut places: Vec<(u32, u32)> = ranks.zip(0..).collect();
            let slot = |place: u32| series[place as usize].slot();
            places.sort_unstable_by(|&(a, a_place), &(b, b_place)| match (a, b) {
                (NONE, _) | (_, NONE) => compare(slot(a_place), slot(b_place)),
                (a, b) => a.cmp(&b),
            });
            return places.into_iter().map(|(_, place)| place).collect();
        }
        if series.len() >= self.sorted.len() / WORTH_A_LIST {
            // A list of all ranks, of which many are there: nothing is compared.
            let mut place_at: Vec<u32> = vec![0; self.sorted.len()];
            for (rank, place) in ranks.zip(1..) {
                place_at[rank as usize] = place;
            }
            return place_at.into_iter().filter_map(|place| place.checked_sub(1)).collect();
        }
        let mut places: Vec<u64> =
            ranks.zip(0..).map(|(rank, place): (u32, u64)| u64::from(rank) << 32 | place).collect();
        places.sort_unstable();
        places.into_iter().map(|place| place as u32).collect()
    }

    fn give_ranks(
        &mut self,
        is_taken: impl Fn(u32) -> bool,
        compare: impl Fn(u32, u32) -> Ordering,
        sort_many: impl FnOnce(&mut [u32]),
    ) {
        let mut new = std::mem::take(&mut self.new);
        new.retain(|&slot| is_taken(slot) && self.rank(slot) == NONE);
        new.sort_unstable();
        new.dedup();
        sort_many(&mut new);
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

    fn check(
        order: &mut Order,
        labels: &BTreeMap<u32, (u16, u32)>,
        slots: impl Iterator<Item = u32>,
    ) -> Result<(), TestCaseError> {
        let series: Vec<SeriesRef> = slots.map(|slot| SeriesRef::new(slot, 1)).collect();
        let sort_many = |slots: &mut [u32]| slots.sort_by_key(|slot| labels[slot]);
        let is_taken = |slot| labels.contains_key(&slot);
        let sorted = order.sort(&series, is_taken, |a, b| labels[&a].cmp(&labels[&b]), sort_many);
        let mut expected: Vec<u32> = (0..series.len() as u32).collect();
        expected.sort_by_key(|&place| labels[&series[place as usize].slot()]);
        prop_assert_eq!(sorted, expected);
        Ok(())
    }

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
                        let some = labels.keys().copied().filter(|key| key % [1, 2, 3, 40][slot as usize / 20 % 4] == 0);
                        check(&mut order, &labels, some)?;
                    }
                    _ => if let std::collections::btree_map::Entry::Vacant(entry) = labels.entry(slot) {
                        entry.insert((label, slot));
                        order.insert(slot);
                    },
                }
            }
            check(&mut order, &labels, labels.keys().copied())?;
        }
    }

    #[test]
    fn one_in_many_is_sorted_by_ranks_alone() {
        let mut order = Order::default();
        let labels: BTreeMap<u32, (u16, u32)> =
            (0..12_000u32).map(|slot| (slot, ((slot * 7919 % 12_007) as u16, slot))).collect();
        labels.keys().for_each(|&slot| order.insert(slot));
        check(&mut order, &labels, labels.keys().copied()).unwrap();
        assert!(order.new.is_empty() && 12_000 / 40 >= FEW && 40 > WORTH_A_LIST);
        for one_in in [40, 30, 1] {
            check(&mut order, &labels, labels.keys().copied().filter(|slot| slot % one_in == 0)).unwrap();
        }
    }
}
