//! The series of head and blocks, each label set once.
//!
//! Blocks mostly hold the same series in the same order, so a series of one block is looked for behind the series that
//! was found last, by comparing text. Only where that fails are labels put together and hashed.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pilaster_model::Labels;

use super::SelectedSeries;
use crate::block::Block;
use crate::head::SameHash;

/// A list of series that blocks are added to.
pub(super) struct SeriesUnion {
    series: Vec<SelectedSeries>,
    /// Positions in `series`, in the order in which the next block is expected to have them.
    expected: Vec<u32>,
    /// Made when something was not where it was expected.
    places: Option<Places>,
    /// Whether `series` ascend by labels.
    ascends: bool,
}

impl SeriesUnion {
    /// `in_head` ascend by labels.
    pub fn of(in_head: Vec<SelectedSeries>) -> SeriesUnion {
        SeriesUnion { series: in_head, expected: Vec::new(), places: None, ascends: true }
    }

    /// Adds series of the block at position `number`; `ids` ascend. Those that `is_hidden` are left out.
    pub fn add(&mut self, number: u32, block: &Block, mut ids: Vec<u32>, is_hidden: impl Fn(u32, &Labels) -> bool) {
        // The first block is walked through in the order of labels, as the head's series are.
        let is_first = self.expected.is_empty();
        if is_first {
            block.sort_by_labels(&mut ids);
            self.expected = (0..self.series.len() as u32).collect();
        }
        let was_empty = self.series.is_empty();
        let mut next = 0;
        // Where in `expected` a position stands.
        let mut place_of: Option<Vec<u32>> = None;
        let mut found: Vec<(u32, u32)> = Vec::with_capacity(ids.len());
        for id in ids {
            let guess = self.expected.get(next).map(|&at| at as usize);
            if let Some(at) = guess.filter(|&at| block.has_labels(id, &self.series[at].labels)) {
                next += 1;
                if !is_hidden(id, &self.series[at].labels) {
                    self.series[at].blocks.push((number, id));
                    found.push((id, at as u32));
                }
                continue;
            }
            let labels = block.labels(id);
            if is_hidden(id, &labels) {
                continue;
            }
            if was_empty {
                // The ids ascend by labels, so that none comes twice.
                found.push((id, self.series.len() as u32));
                self.series.push(SelectedSeries { labels, head: None, blocks: vec![(number, id)] });
                continue;
            }
            let places = self.places.get_or_insert_with(|| Places::of(&self.series));
            let at = places.find_or_insert(&labels, &self.series);
            found.push((id, at as u32));
            if let Some(series) = self.series.get_mut(at) {
                series.blocks.push((number, id));
                let place_of = place_of.get_or_insert_with(|| inverse(&self.expected, self.series.len()));
                next = place_of.get(at).filter(|&&place| place != NOWHERE).map_or(next, |&place| place as usize + 1);
            } else {
                self.series.push(SelectedSeries { labels, head: None, blocks: vec![(number, id)] });
                self.ascends = false;
            }
        }
        if is_first {
            found.sort_unstable();
        }
        self.expected = found.into_iter().map(|(_, at)| at).collect();
    }

    /// All series, ascending by labels.
    pub fn finish(mut self) -> Vec<SelectedSeries> {
        if !self.ascends {
            // Mostly in order already, with runs behind: what this sort is good at.
            self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        self.series
    }
}

const NOWHERE: u32 = u32::MAX;

/// Of each of `count` positions the place in `order`.
fn inverse(order: &[u32], count: usize) -> Vec<u32> {
    let mut places = vec![NOWHERE; count];
    for (place, &at) in order.iter().enumerate() {
        places[at as usize] = place as u32;
    }
    places
}

/// Where in a list a label set stands.
struct Places(HashMap<u64, usize, BuildHasherDefault<SameHash>>);

impl Places {
    fn of(series: &[SelectedSeries]) -> Places {
        let mut places = Places(HashMap::with_capacity_and_hasher(series.len(), BuildHasherDefault::default()));
        for (index, one) in series.iter().enumerate() {
            let mut hash = one.labels.hash64();
            // Another set with this hash is there: about never.
            while places.0.contains_key(&hash) {
                hash = hash.wrapping_add(1);
            }
            places.0.insert(hash, index);
        }
        places
    }

    /// The place of `labels` in `list`; its length, where they are about to be pushed.
    fn find_or_insert(&mut self, labels: &Labels, list: &[SelectedSeries]) -> usize {
        let mut hash = labels.hash64();
        loop {
            let index = *self.0.entry(hash).or_insert(list.len());
            if list.get(index).is_none_or(|series| series.labels == *labels) {
                return index;
            }
            hash = hash.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::block::{BlockSeries, WriteOptions, write_block};
    use crate::env::sim::Sim;

    fn labels(number: u32) -> Labels {
        // In another order than a block's, which goes by job before anything else.
        let pairs = [("__name__", "m".to_owned()), ("code", (number % 7).to_string())];
        Labels::from_pairs(pairs.into_iter().chain([("job", (number / 7 % 5).to_string()), ("x", number.to_string())]))
    }

    fn block(sim: &Sim, nth: usize, numbers: &[u32]) -> Block {
        let series = numbers.iter().map(|&number| BlockSeries {
            labels: labels(number),
            timestamps: [nth as i64].into(),
            values: vec![1.0],
            histograms: None,
            starts_ms: None,
        });
        let (files, dir) = (sim.env().files, Path::new("/data"));
        let options = WriteOptions { promoted_labels: Vec::new() };
        let meta = write_block(&*files, dir, &format!("block{nth}"), 0, series.collect(), &options).unwrap();
        Block::open(files, dir, meta).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_label_set_comes_once_with_all_its_places(
            in_head in prop::collection::btree_set(0..60u32, 0..40),
            in_blocks in prop::collection::vec(prop::collection::btree_set(0..60u32, 1..60), 1..5),
            hidden in prop::collection::btree_set(0..60u32, 0..4),
        ) {
            let sim = Sim::new(1);
            let mut expected: BTreeMap<Labels, Vec<u32>> = in_head.iter().map(|&n| (labels(n), Vec::new())).collect();
            let head = expected.keys().map(|labels| SelectedSeries { labels: labels.clone(), head: None, blocks: Vec::new() });
            let mut union = SeriesUnion::of(head.collect());
            let is_hidden = |labels: &Labels| hidden.contains(&labels.get("x").parse().unwrap());
            let mut blocks = Vec::new();
            for (nth, numbers) in in_blocks.iter().enumerate() {
                let block = block(&sim, nth, &numbers.iter().copied().collect::<Vec<_>>());
                union.add(nth as u32, &block, block.select(&[]), |_, labels| is_hidden(labels));
                for labels in numbers.iter().map(|&number| labels(number)).filter(|labels| !is_hidden(labels)) {
                    expected.entry(labels).or_default().push(nth as u32);
                }
                blocks.push(block);
            }
            let found = union.finish();
            prop_assert!(found.iter().map(|series| &series.labels).eq(expected.keys()));
            for (series, expected) in found.iter().zip(expected.values()) {
                prop_assert!(series.blocks.iter().map(|(number, _)| number).eq(expected));
                for &(number, id) in &series.blocks {
                    prop_assert_eq!(&blocks[number as usize].labels(id), &series.labels);
                }
            }
        }
    }
}
