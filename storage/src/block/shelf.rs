//! What the blocks of a store share: room for their indexes in memory, and decoders.
//!
//! An index of many series takes much more memory than its file, so those that nobody reads are dropped, those not
//! asked for longest first, while all together take more than they may. Blocks that somebody reads stay whole.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::page::PageDecoder;
use super::{Block, BlockError};

/// Decoders that are kept for the next reader: as many as read at the same time, about.
const DECODERS: usize = 32;
/// Bytes of a page that a decoder keeps room for at rest: pages of values are smaller, and one of timestamps may take
/// a hundred times as many.
const RESTING_BYTES: usize = 512 << 10;

/// Where open blocks stand.
#[derive(Debug)]
pub struct Shelf {
    limit_bytes: u64,
    held: Arc<AtomicU64>,
    /// Those that may be open, each once; the next to be dropped in front.
    slots: Mutex<VecDeque<Weak<Slot>>>,
    decoders: Arc<Decoders>,
}

/// The place of one block.
#[derive(Debug, Default)]
pub struct Slot {
    block: RwLock<Option<Arc<Block>>>,
    /// Whether somebody asked for it since it was looked at last.
    used: AtomicBool,
}

impl Slot {
    /// The block, where it is open.
    pub fn get(&self) -> Option<Arc<Block>> {
        let block = self.block.read().clone();
        if block.is_some() && !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        block
    }
}

impl Shelf {
    /// With room for indexes of `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Shelf {
        Shelf { limit_bytes, held: Arc::default(), slots: Mutex::default(), decoders: Arc::default() }
    }

    /// Bytes of memory that the indexes of open blocks take, about.
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// For a block that is about to be opened.
    pub fn share(&self) -> Shared {
        Shared { charge: Charge { held: self.held.clone(), own: AtomicU64::new(0) }, decoders: self.decoders.clone() }
    }

    /// Puts a block into its slot, which is empty, and others away where there is no room.
    pub fn put(&self, slot: &Arc<Slot>, block: &Arc<Block>) {
        *slot.block.write() = Some(block.clone());
        slot.used.store(true, Ordering::Relaxed);
        self.slots.lock().push_back(Arc::downgrade(slot));
        self.trim();
    }

    /// Puts away what nobody reads, until the rest has room.
    pub fn trim(&self) {
        let mut put_away = Vec::new();
        let mut slots = self.slots.lock();
        // At the first look it is only noted that nobody asked for it since.
        let mut looks = slots.len() * 2;
        while looks > 0 && self.held_bytes() > self.limit_bytes {
            looks -= 1;
            let Some(weak) = slots.pop_front() else { break };
            let Some(slot) = weak.upgrade() else { continue };
            if slot.used.swap(false, Ordering::Relaxed) {
                slots.push_back(weak);
                continue;
            }
            let mut place = slot.block.write();
            match place.take_if(|block| Arc::strong_count(block) == 1) {
                // Nobody has it, and nobody gets it: it is off the books at once, and gone when no lock is held.
                Some(block) => {
                    block.put_away();
                    put_away.push(block);
                }
                None => slots.push_back(weak),
            }
        }
        drop(slots);
        drop(put_away);
    }
}

/// What an open block has of its shelf; by default, of one of its own.
#[derive(Debug, Default)]
pub struct Shared {
    pub charge: Charge,
    pub decoders: Arc<Decoders>,
}

/// Decoders at rest: making one costs more than decoding a small page with it. Nobody waits for the list: a thread that
/// has it may be one that merges with what processor time is left over.
#[derive(Default)]
pub struct Decoders(Mutex<Vec<PageDecoder>>);

impl Decoders {
    /// # Errors
    /// There is no memory for one.
    pub fn take(&self) -> Result<PageDecoder, BlockError> {
        match self.0.try_lock().and_then(|mut decoders| decoders.pop()) {
            Some(decoder) => Ok(decoder),
            None => PageDecoder::new().map_err(BlockError::compression),
        }
    }

    /// Keeps a decoder for the next who wants one.
    pub fn give_back(&self, mut decoder: PageDecoder) {
        decoder.shrink_to(RESTING_BYTES);
        if let Some(mut decoders) = self.0.try_lock()
            && decoders.len() < DECODERS
        {
            decoders.push(decoder);
        }
    }
}

impl std::fmt::Debug for Decoders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} decoders", self.0.lock().len())
    }
}

/// Bytes of one index, as part of those of all, until it is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    held: Arc<AtomicU64>,
    own: AtomicU64,
}

impl Charge {
    pub fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes as u64, Ordering::Relaxed);
        self.held.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes its bytes back, all of them.
    pub fn end(&self) {
        self.held.fetch_sub(self.own.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pilaster_model::Labels;

    use super::*;
    use crate::block::{BlockSeries, LiveBlock, LocalBlocks, WriteOptions, write_block};
    use crate::env::sim::Sim;

    /// Four blocks of the same size, on one shelf, none of them open.
    fn four(limit_bytes: u64) -> (Arc<Shelf>, Vec<LiveBlock>) {
        let files = Sim::new(1).env().files;
        let (shelf, dir) = (Arc::new(Shelf::new(limit_bytes)), Path::new("/data"));
        let source = Arc::new(LocalBlocks::new(files.clone(), dir));
        let block = |number: usize| {
            let series = BlockSeries {
                labels: Labels::from_pairs([("__name__", "m")]),
                timestamps: (0..100).collect(),
                values: vec![1.5; 100],
                histograms: None,
                starts_ms: None,
            };
            let name = format!("block-{number}");
            let meta = write_block(&*files, dir, &name, 0, vec![series], &WriteOptions::default()).unwrap();
            LiveBlock::new(source.clone(), meta, shelf.clone())
        };
        let blocks = (0..4).map(block).collect();
        (shelf, blocks)
    }

    fn open_ones(blocks: &[LiveBlock]) -> Vec<bool> {
        blocks.iter().map(|block| block.slot().block.read().is_some()).collect()
    }

    #[test]
    fn what_nobody_asked_for_goes_first_and_what_is_read_stays() {
        let (shelf, blocks) = four(u64::MAX);
        blocks[0].open().unwrap();
        let one = shelf.held_bytes();
        assert!(one > 0);
        drop((shelf, blocks));

        let (shelf, blocks) = four(2 * one);
        blocks[..2].iter().for_each(|block| drop(block.open().unwrap()));
        assert_eq!(shelf.held_bytes(), 2 * one);
        blocks[2].open().unwrap();
        assert_eq!(open_ones(&blocks), [false, true, true, false]);
        blocks[1].open().unwrap();
        blocks[3].open().unwrap();
        assert_eq!((open_ones(&blocks), shelf.held_bytes()), (vec![false, true, false, true], 2 * one));

        // All that are read stay, and each is the one that the others read.
        let read: Vec<Arc<Block>> = blocks.iter().map(|block| block.open().unwrap()).collect();
        assert_eq!((open_ones(&blocks), shelf.held_bytes()), (vec![true; 4], 4 * one));
        assert!(blocks.iter().zip(&read).all(|(block, read)| Arc::ptr_eq(&block.open().unwrap(), read)));
        drop(read);
        shelf.trim();
        assert_eq!(shelf.held_bytes(), 2 * one);
        drop(blocks);
        assert_eq!(shelf.held_bytes(), 0);
    }

    #[test]
    fn without_room_blocks_are_open_while_somebody_has_them() {
        let (shelf, blocks) = four(0);
        for block in &blocks {
            let open = block.open().unwrap();
            assert_eq!(open.read(0, pilaster_model::TimeRange::ALL).unwrap().1, [1.5; 100]);
            drop(open);
        }
        shelf.trim();
        assert_eq!((open_ones(&blocks), shelf.held_bytes()), (vec![false; 4], 0));
    }

    #[test]
    fn what_is_made_later_counts_as_well() {
        let (shelf, blocks) = four(u64::MAX);
        let block = blocks[0].open().unwrap();
        let before = shelf.held_bytes();
        block.select(&[pilaster_model::Matcher::equal("__name__", "m")]);
        let after = shelf.held_bytes();
        assert!(after > before);
        block.select(&[pilaster_model::Matcher::equal("__name__", "m")]);
        assert_eq!(shelf.held_bytes(), after);
        drop((block, blocks));
        assert_eq!(shelf.held_bytes(), 0);
    }
}
