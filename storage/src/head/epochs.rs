//! Which samples a snapshot sees: all of an append, or nothing of it.
//!
//! Time is cut into epochs. An append belongs to the epoch it ran in; a snapshot ends the current epoch and sees that
//! one and all before. A series notes what it held at the end of an epoch only while a snapshot lives that may ask.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

/// The clock of appends and snapshots.
#[derive(Debug)]
pub struct Epochs {
    /// Shared by appends, exclusive for what needs a moment without any.
    gate: RwLock<()>,
    current: AtomicU64,
    /// Epochs that snapshots see, with the number of those snapshots.
    live: Mutex<BTreeMap<u64, usize>>,
    /// Ends of `live`, for readers without the lock: `oldest > newest` while there is none.
    oldest: AtomicU64,
    newest: AtomicU64,
}

/// Held during an append.
#[derive(Debug)]
pub struct Epoch<'a> {
    pub number: u64,
    _gate: RwLockReadGuard<'a, ()>,
}

impl Default for Epochs {
    fn default() -> Epochs {
        Epochs {
            gate: RwLock::new(()),
            current: AtomicU64::new(1),
            live: Mutex::default(),
            oldest: AtomicU64::new(u64::MAX),
            newest: AtomicU64::new(0),
        }
    }
}

impl Epochs {
    /// Enters the current epoch for an append.
    pub fn enter(&self) -> Epoch<'_> {
        let gate = self.gate.read();
        Epoch { number: self.current(), _gate: gate }
    }

    pub fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// Runs `at_rest` while no append runs, and ends the epoch: what was appended so far is seen by the returned epoch
    /// until [`Epochs::release`].
    pub fn end_epoch<T>(&self, at_rest: impl FnOnce() -> T) -> (u64, T) {
        let _gate = self.gate.write();
        let epoch = self.current.fetch_add(1, Ordering::Relaxed);
        let live = &mut *self.live.lock();
        *live.entry(epoch).or_insert(0) += 1;
        self.note_ends(live);
        (epoch, at_rest())
    }

    /// Ends the epoch for a moment without appends; nobody will ask for what it saw.
    pub fn at_rest<T>(&self, at_rest: impl FnOnce() -> T) -> (u64, T) {
        let _gate = self.gate.write();
        let epoch = self.current.fetch_add(1, Ordering::Relaxed);
        (epoch, at_rest())
    }

    pub fn release(&self, epoch: u64) {
        let live = &mut *self.live.lock();
        if let Some(count) = live.get_mut(&epoch) {
            *count -= 1;
            if *count == 0 {
                live.remove(&epoch);
            }
        }
        self.note_ends(live);
    }

    fn note_ends(&self, live: &BTreeMap<u64, usize>) {
        self.oldest.store(live.first_key_value().map_or(u64::MAX, |(epoch, _)| *epoch), Ordering::Relaxed);
        self.newest.store(live.last_key_value().map_or(0, |(epoch, _)| *epoch), Ordering::Relaxed);
    }

    /// Whether a snapshot may live that sees `epoch` or a later one, but not the current.
    pub fn is_seen(&self, epoch: u64) -> bool {
        let newest = self.newest.load(Ordering::Relaxed);
        newest > 0 && newest >= epoch
    }

    /// The oldest epoch that a snapshot sees; `u64::MAX` where there is no snapshot.
    pub fn oldest_seen(&self) -> u64 {
        self.oldest.load(Ordering::Relaxed)
    }
}
