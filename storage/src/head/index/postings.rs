//! The series that carry one label pair.

use roaring::RoaringBitmap;

/// Sets up to this size are plain lists: most label pairs stand on few series.
const FEW: usize = 32;

/// A set of slots.
#[derive(Debug, Clone)]
pub enum Postings {
    /// Ascending.
    Few(Vec<u32>),
    Many(Box<RoaringBitmap>),
}

impl Default for Postings {
    fn default() -> Postings {
        Postings::Few(Vec::new())
    }
}

impl Postings {
    /// These slots.
    pub fn of_ascending(slots: &[u32]) -> Postings {
        if slots.len() <= FEW {
            return Postings::Few(slots.to_vec());
        }
        Postings::Many(Box::new(slots.iter().copied().collect()))
    }

    pub fn insert(&mut self, slot: u32) {
        match self {
            Postings::Few(slots) => {
                if let Err(at) = slots.binary_search(&slot) {
                    slots.insert(at, slot);
                }
                if slots.len() > FEW {
                    *self = Postings::Many(Box::new(slots.iter().copied().collect()));
                }
            }
            Postings::Many(slots) => {
                slots.insert(slot);
            }
        }
    }

    pub fn remove(&mut self, slot: u32) {
        match self {
            Postings::Few(slots) => {
                if let Ok(at) = slots.binary_search(&slot) {
                    slots.remove(at);
                }
            }
            Postings::Many(slots) => {
                slots.remove(slot);
                // Half the limit, so that a set at the border does not change back and forth.
                if slots.len() <= FEW as u64 / 2 {
                    *self = Postings::Few(slots.iter().collect());
                }
            }
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Postings::Few(slots) => slots.len() as u64,
            Postings::Many(slots) => slots.len(),
        }
    }

    pub fn contains(&self, slot: u32) -> bool {
        match self {
            Postings::Few(slots) => slots.binary_search(&slot).is_ok(),
            Postings::Many(slots) => slots.contains(slot),
        }
    }

    pub fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Postings::Few(slots) => set.extend(slots.iter().copied()),
            Postings::Many(slots) => *set |= &**slots,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        match self {
            Postings::Few(slots) => slots.capacity() * 4,
            Postings::Many(slots) => slots.serialized_size() + 64,
        }
    }
}
