//! Series by what their labels have in common, without looking at the text of labels: equal pairs have equal numbers.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pilaster_model::{LabelKey, SeriesGroups};

use super::{Index, SameHash, SeriesRef};

/// Whether a pair is part of the key, once somebody has looked: 0 means that nobody has.
const HELD: u8 = 1;
const LEFT_OUT: u8 = 2;

/// Numbers groups while series are shown to it, in whatever order.
#[derive(Debug)]
pub struct Grouping<'a> {
    key: LabelKey<'a>,
    /// By pair number.
    verdicts: Vec<u8>,
    by_hash: HashMap<u64, u32, BuildHasherDefault<SameHash>>,
    groups: Vec<Group>,
    /// The pairs of all groups, one after another.
    pairs: Vec<u32>,
    /// Those of the series at hand.
    held: Vec<u32>,
    /// The group of the series before: neighbours mostly share theirs.
    last: Option<u32>,
    /// By position.
    group_of: Vec<u32>,
}

#[derive(Debug)]
struct Group {
    /// Where its pairs end.
    end: usize,
    /// The lowest of its positions.
    first: u32,
}

impl<'a> Grouping<'a> {
    /// Of `count` series.
    pub fn new(key: LabelKey<'a>, count: usize) -> Grouping<'a> {
        Grouping {
            key,
            verdicts: Vec::new(),
            by_hash: HashMap::default(),
            groups: Vec::new(),
            pairs: Vec::new(),
            held: Vec::new(),
            last: None,
            group_of: vec![0; count],
        }
    }

    /// Adds the series at each position; every position comes once. Pairs must keep their numbers from the first call to
    /// the last.
    pub fn add(&mut self, index: &Index, series: impl Iterator<Item = (u32, SeriesRef)>) {
        if self.verdicts.len() < index.pairs.len() {
            self.verdicts.resize(index.pairs.len(), 0);
        }
        for (position, series) in series {
            self.held.clear();
            let entry = index.series.get(series.slot() as usize).and_then(Option::as_ref);
            for &pair in entry.map_or(&[][..], |entry| &entry.pairs) {
                let verdict = &mut self.verdicts[pair as usize];
                if *verdict == 0 {
                    let name = index.pairs[pair as usize].as_ref().map(|pair| &*pair.name);
                    let is_held = name.is_some_and(|name| self.key.holds(name));
                    *verdict = if is_held { HELD } else { LEFT_OUT };
                }
                if *verdict == HELD {
                    self.held.push(pair);
                }
            }
            let group = self.group();
            self.last = Some(group);
            let first = &mut self.groups[group as usize].first;
            *first = position.min(*first);
            self.group_of[position as usize] = group;
        }
    }

    fn pairs_of(&self, group: u32) -> &[u32] {
        let start = group.checked_sub(1).map_or(0, |before| self.groups[before as usize].end);
        &self.pairs[start..self.groups[group as usize].end]
    }

    /// The group of the pairs at hand.
    fn group(&mut self) -> u32 {
        if let Some(last) = self.last.filter(|last| self.pairs_of(*last) == self.held) {
            return last;
        }
        let mut hash = spread(&self.held);
        while let Some(&group) = self.by_hash.get(&hash) {
            if self.pairs_of(group) == self.held {
                return group;
            }
            // Another group has this hash: about never.
            hash = hash.wrapping_add(1);
        }
        let group = self.groups.len() as u32;
        self.by_hash.insert(hash, group);
        self.pairs.extend_from_slice(&self.held);
        self.groups.push(Group { end: self.pairs.len(), first: u32::MAX });
        group
    }

    /// The groups, numbered in the order of their lowest positions.
    pub fn finish(self) -> SeriesGroups {
        let mut order: Vec<u32> = (0..self.groups.len() as u32).collect();
        order.sort_unstable_by_key(|&group| self.groups[group as usize].first);
        let mut number_of = vec![0; order.len()];
        for (number, &group) in order.iter().enumerate() {
            number_of[group as usize] = number as u32;
        }
        let firsts = order.iter().map(|&group| self.groups[group as usize].first).collect();
        let group_of = self.group_of.iter().map(|&group| number_of[group as usize]).collect();
        SeriesGroups { group_of, firsts }
    }
}

/// A hash of pair numbers.
fn spread(pairs: &[u32]) -> u64 {
    let fold = |hash: u64, pair: &u32| {
        let wide = u128::from(hash ^ u64::from(*pair)) * 0x9e37_79b9_7f4a_7c15;
        (wide >> 64) as u64 ^ wide as u64
    };
    pairs.iter().fold(0x243f_6a88_85a3_08d3, fold)
}
