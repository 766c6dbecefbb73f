//! Timelines: the timestamps that the series of one target share.
//!
//! A scrape stamps all its samples with one time, so thousands of series have one list of timestamps. The index file
//! holds each such list once; a series that began later or ended earlier than its fellows names a part of it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use twox_hash::XxHash64;

/// Fewer series than this do not make a timeline: their timestamps are read from the `ts` pages.
const SHARED_BY: usize = 4;
/// Positions of timelines that partial ones are looked up in, at most.
const INDEXED_POSITIONS: usize = 1 << 22;

/// Where a series' timestamps stand: `timelines[timeline][at..]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub timeline: u32,
    pub at: u32,
}

/// The timelines of a block and who uses them.
#[derive(Debug, Default)]
pub struct Timelines {
    pub list: Vec<Arc<[i64]>>,
    /// One a series; `None` where its timestamps are its own.
    pub places: Vec<Option<Place>>,
}

impl Timelines {
    /// Finds what is shared among `series`, the timestamps of each. Depends on their content only, not on who shares
    /// memory with whom.
    pub fn of(series: &[Arc<[i64]>]) -> Timelines {
        let mut distinct: Vec<(&Arc<[i64]>, usize)> = Vec::new();
        let mut by_hash: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut by_pointer: HashMap<(*const i64, usize), usize> = HashMap::new();
        let mut kinds: Vec<usize> = Vec::with_capacity(series.len());
        for timestamps in series {
            let known = *by_pointer.entry((timestamps.as_ptr(), timestamps.len())).or_insert_with(|| {
                let equals = by_hash.entry(hash(timestamps)).or_default();
                let known = equals.iter().copied().find(|&kind| distinct[kind].0 == timestamps);
                known.unwrap_or_else(|| {
                    distinct.push((timestamps, 0));
                    equals.push(distinct.len() - 1);
                    distinct.len() - 1
                })
            });
            distinct[known].1 += 1;
            kinds.push(known);
        }

        // Long ones first, so that a part finds its whole.
        let mut order: Vec<usize> = (0..distinct.len()).filter(|&kind| distinct[kind].1 >= SHARED_BY).collect();
        order.sort_by_key(|&kind| (std::cmp::Reverse(distinct[kind].0.len()), kind));
        let mut list: Vec<Arc<[i64]>> = Vec::new();
        // Parts are looked up by where they begin: nothing else needs a position.
        let starts: HashSet<i64, Plainly> = distinct.iter().filter_map(|(list, _)| list.first().copied()).collect();
        let mut positions: HashMap<i64, Place, Plainly> = HashMap::default();
        let mut place_of: Vec<Option<Place>> = vec![None; distinct.len()];
        let part_of = |timestamps: &[i64], list: &[Arc<[i64]>], positions: &HashMap<i64, Place, Plainly>| {
            let place = *positions.get(timestamps.first()?)?;
            let whole = list[place.timeline as usize].get(place.at as usize..)?;
            whole.starts_with(timestamps).then_some(place)
        };
        for kind in order {
            let timestamps = distinct[kind].0;
            place_of[kind] = part_of(timestamps, &list, &positions).or_else(|| {
                let timeline = list.len() as u32;
                for (at, &timestamp) in timestamps.iter().enumerate() {
                    if positions.len() >= INDEXED_POSITIONS {
                        break;
                    }
                    if starts.contains(&timestamp) {
                        positions.entry(timestamp).or_insert(Place { timeline, at: at as u32 });
                    }
                }
                list.push(timestamps.clone());
                Some(Place { timeline, at: 0 })
            });
        }
        for (kind, place) in place_of.iter_mut().enumerate() {
            if place.is_none() {
                *place = part_of(distinct[kind].0, &list, &positions);
            }
        }
        Timelines { list, places: kinds.into_iter().map(|kind| place_of[kind]).collect() }
    }
}

/// Spreads timestamps over a table. They are those of samples that were taken already: whoever would choose them so that
/// they collide can as well send more of them.
#[derive(Debug, Default)]
struct PlainHasher(u64);

type Plainly = BuildHasherDefault<PlainHasher>;

impl Hasher for PlainHasher {
    fn write_i64(&mut self, number: i64) {
        let product = u128::from(number as u64 ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_i64(self.0 as i64 ^ i64::from(byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(timestamps: &[i64]) -> u64 {
    let mut hasher = XxHash64::with_seed(0);
    for timestamp in timestamps {
        hasher.write(&timestamp.to_le_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_lists_are_kept_once_and_parts_point_into_them() {
        let whole: Arc<[i64]> = (0..100).map(|i| i * 15).collect();
        let copy: Arc<[i64]> = whole.to_vec().into();
        let part: Arc<[i64]> = whole[20..50].into();
        let own: Arc<[i64]> = Arc::from([15, 31]);
        let series = [&whole, &whole, &copy, &part, &own, &whole].map(Arc::clone);
        let timelines = Timelines::of(&series);
        assert_eq!(timelines.list, vec![whole]);
        let place = |at| Some(Place { timeline: 0, at });
        assert_eq!(timelines.places, [place(0), place(0), place(0), place(20), None, place(0)]);
    }

    #[test]
    fn a_few_series_make_no_timeline() {
        let series: Vec<Arc<[i64]>> = (0..3).map(|_| Arc::from([1, 2])).collect();
        let timelines = Timelines::of(&series);
        assert!(timelines.list.is_empty());
        assert_eq!(timelines.places, [None; 3]);
    }
}
