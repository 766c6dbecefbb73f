//! Recent memory: every active series with the samples that no block holds yet.
//!
//! ```text
//! labels --index--> slot --shard--> series: chunks | open run      ascending in time
//!                                           late samples           what came out of order
//! ```
//!
//! * A series lives in one slot; `slot % shards` names its shard. A [`SeriesRef`] is slot and generation, so a slot can
//!   be used again and its old references stay dead.
//! * Lock order: gate (see [`epochs`]), shards ascending, write-ahead log, index. The index is never held while a shard
//!   is taken.
//! * The head knows no file. The caller logs what [`Locked::append`] accepted before it lets go of the shards.

mod chunk;
mod epochs;
mod index;
mod numbers;
mod open;
mod samples;
mod selection;
mod series;
mod stored;
mod timelines;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockWriteGuard};
use pilaster_model::{Columns, Histogram, Labels, METRIC_NAME, Matcher, TimeRange};

pub use epochs::Epochs;
pub use index::{HeadCardinality, Identity, SameHash};
pub use selection::HeadSelection;
pub use stored::{Copied, Copier, Restoring};
pub use timelines::Timelines;

use index::{IdentityKey, Index};
use samples::Scratch;
use series::HeadSeries;

use crate::wal::WalSample;

/// A series of the head. Never used for another one; the head may forget it when the series is long inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub(crate) u64);

impl SeriesRef {
    fn new(slot: u32, generation: u32) -> SeriesRef {
        SeriesRef(u64::from(generation) << 32 | u64::from(slot))
    }

    /// The reference with this number; the store says whether it knows it.
    pub fn from_raw(raw: u64) -> SeriesRef {
        SeriesRef(raw)
    }

    /// A number that stands for the reference, for the life of the store.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Why a sample was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// Older than the newest sample of its series.
    OutOfOrder,
    /// Older than the out-of-order window reaches, or than what is in blocks already.
    TooOld,
    /// The series has another value at this timestamp. The first write wins.
    DuplicateDifferentValue,
    /// The head does not know the reference (any more): ask for it again by labels.
    UnknownSeries,
}

/// What may still be appended.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Samples before it are late, whatever their series holds: their range is in blocks.
    pub closed_before_ms: i64,
    /// Late samples before it are too old; `None` takes no late samples at all.
    pub late_from_ms: Option<i64>,
    pub flushed: Flushed,
}

/// What blocks hold: every sample before `before_ms` that was appended in `epoch` or earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    pub before_ms: i64,
    pub epoch: u64,
}

/// Verdict on a sample that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    New,
    /// It was there already, bit for bit.
    Known,
    /// Blocks hold it, bit for bit. It is not logged again: it may be deleted, and a record behind the deletion would
    /// bring it back.
    InBlocks,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    series: Option<HeadSeries>,
}

/// Slots that are allocated together.
const PAGE: usize = 256;

#[derive(Debug, Default)]
struct Shard {
    /// Slots, [`PAGE`] a piece: they never move, and a series is one step away.
    pages: Vec<Box<[Slot]>>,
    /// Slots that were ever used: those at and behind it are empty.
    used: u32,
    free: Vec<u32>,
}

/// All active series.
#[derive(Debug)]
pub struct Head {
    shards: Box<[RwLock<Shard>]>,
    index: RwLock<Index>,
    key: IdentityKey,
    pub epochs: Epochs,
    /// Newest sample ever taken in this life, `i64::MIN` before the first.
    max_ms: AtomicI64,
    /// Samples in memory, and those of them that came late.
    sample_count: AtomicI64,
    late_count: AtomicI64,
    series_created: AtomicU64,
}

impl Head {
    pub fn new(shards: usize) -> Head {
        let shards = shards.clamp(1, 64).next_power_of_two();
        Head {
            shards: (0..shards).map(|_| RwLock::default()).collect(),
            index: RwLock::default(),
            key: IdentityKey::default(),
            epochs: Epochs::default(),
            max_ms: AtomicI64::new(i64::MIN),
            sample_count: AtomicI64::new(0),
            late_count: AtomicI64::new(0),
            series_created: AtomicU64::new(0),
        }
    }

    /// The reference of the series with `labels`, which begins to exist where it did not. Without labels there is no
    /// series: the reference is one that appends refuse.
    pub fn series(&self, labels: &Labels) -> SeriesRef {
        if labels.is_empty() {
            return SeriesRef(u64::MAX);
        }
        let identity = self.key.identity(labels.iter());
        let found = self.index.read().find(identity);
        found.unwrap_or_else(|| self.create(identity, labels))
    }

    /// [`Head::series`] for labels, of which there are some, whose series was not there when somebody looked. `identity`
    /// is theirs.
    pub fn create(&self, identity: Identity, labels: &Labels) -> SeriesRef {
        // The shard follows from the labels, so that two creators of one series meet at its lock.
        let shard_index = (identity.hash % self.shards.len() as u64) as usize;
        let shard = &mut *self.shards[shard_index].write();
        let mut index = self.index.write();
        if let Some(found) = index.find(identity) {
            return found;
        }
        let local = shard.free.pop().unwrap_or_else(|| shard.grow());
        let slot = local * self.shards.len() as u32 + shard_index as u32;
        let Some(entry) = shard.slot_mut(local as usize) else { unreachable!("free slots are slots") };
        entry.generation += 1;
        entry.series = Some(HeadSeries::default());
        let series = SeriesRef::new(slot, entry.generation);
        index.insert(series, identity, labels);
        self.series_created.fetch_add(1, Ordering::Relaxed);
        series
    }

    /// The series with the label set of these pairs, ascending by name and none of them empty, where there is one.
    pub fn find(&self, pairs: &[(&str, &str)]) -> Option<SeriesRef> {
        let identity = self.key.identity(pairs.iter().copied());
        self.index.read().find(identity)
    }

    /// The identities of these label sets, and their series, where there are such.
    pub fn find_all(&self, labels: &[(u64, Labels)]) -> Vec<(Identity, Option<SeriesRef>)> {
        let identities: Vec<Identity> = labels.iter().map(|(_, labels)| self.key.identity(labels.iter())).collect();
        let index = self.index.read();
        identities.into_iter().map(|identity| (identity, index.find(identity))).collect()
    }

    /// Labels of a series; `None` when it is forgotten.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.index.read().labels(series)
    }

    /// Locks the shards of the series with these references for writing, in order.
    pub fn lock(&self, series: impl Iterator<Item = u64>) -> Locked<'_> {
        let mask = self.shards.len() as u64 - 1;
        let wanted = series.fold(0u64, |wanted, series| wanted | 1 << (series & mask));
        let guards =
            self.shards.iter().enumerate().map(|(i, shard)| (wanted >> i & 1 == 1).then(|| shard.write())).collect();
        Locked { head: self, guards, taken: 0, late: 0, max_ms: i64::MIN, scratch: Scratch::default() }
    }

    /// Newest sample taken in this life.
    pub fn max_ms(&self) -> Option<i64> {
        Some(self.max_ms.load(Ordering::Relaxed)).filter(|&ms| ms != i64::MIN)
    }

    /// Oldest sample that no block holds; it may be too low by less than a chunk. Visits every series.
    pub fn min_ms(&self, flushed: Flushed) -> Option<i64> {
        let of_shard = |shard: &RwLock<Shard>| shard.read().series().filter_map(|series| series.min_ms(flushed)).min();
        self.shards.iter().filter_map(of_shard).min()
    }

    pub fn sample_count(&self) -> u64 {
        self.sample_count.load(Ordering::Relaxed).max(0) as u64
    }

    pub fn late_count(&self) -> u64 {
        self.late_count.load(Ordering::Relaxed).max(0) as u64
    }

    pub fn series_count(&self) -> u64 {
        self.index.read().series_count()
    }

    /// Series that began to exist in this life.
    pub fn series_created(&self) -> u64 {
        self.series_created.load(Ordering::Relaxed)
    }

    fn shard_of(&self, series: SeriesRef) -> &RwLock<Shard> {
        &self.shards[series.slot() as usize % self.shards.len()]
    }

    /// Names of all labels on series that satisfy `matchers` and have samples in `range`; ascending. Without matchers
    /// those of all series.
    pub fn label_names(&self, matchers: &[Matcher], range: TimeRange, view: HeadView) -> Vec<String> {
        if matchers.is_empty() {
            return self.index.read().names();
        }
        let series = self.visible(matchers, range, view);
        self.index.read().names_of(&series)
    }

    /// Values of label `name` on such series; ascending.
    pub fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange, view: HeadView) -> Vec<String> {
        if matchers.is_empty() {
            return self.index.read().values(name);
        }
        let series = self.visible(matchers, range, view);
        self.index.read().values_of(name, &series)
    }

    /// Appends the samples of `series` in `range` for `view` to `out`, ascending. Nothing for a forgotten series.
    pub fn read(&self, series: SeriesRef, range: TimeRange, view: HeadView, out: &mut Columns) {
        let shard = self.shard_of(series).read();
        if let Some(series) = shard.find(series, self.shards.len()) {
            series.read(range, view.epoch, view.flushed, out);
        }
    }

    /// The most samples that [`Head::read`] may find of `series`.
    pub fn most_samples(&self, series: SeriesRef) -> usize {
        self.shard_of(series).read().find(series, self.shards.len()).map_or(0, HeadSeries::count)
    }

    /// The series of `metric` (of none, where it is empty) that may have samples in `range` for `view`, in no order that
    /// means anything.
    pub fn of_metric(&self, metric: &str, range: TimeRange, view: HeadView) -> Vec<SeriesRef> {
        self.visible(&[Matcher::equal(METRIC_NAME, metric)], range, view)
    }

    /// Frees what blocks hold now.
    pub fn drop_flushed(&self, flushed: Flushed) {
        for shard in &self.shards {
            let shard = &mut *shard.write();
            for series in shard.pages.iter_mut().flatten().filter_map(|slot| slot.series.as_mut()) {
                let (in_order, late) = series.drop_flushed(flushed);
                self.sample_count.fetch_sub((in_order + late) as i64, Ordering::Relaxed);
                self.late_count.fetch_sub(late as i64, Ordering::Relaxed);
            }
        }
    }

    /// Forgets the series that have had no sample in memory for `grace_ms`, as far as calls found them so. Returns how
    /// many. Who has just asked for a series has so long to append to it.
    pub fn forget_idle(&self, now_ms: i64, grace_ms: i64) -> usize {
        let mut forgotten = 0;
        for (shard_index, shard) in self.shards.iter().enumerate() {
            let shard = &mut *shard.write();
            let mut index: Option<RwLockWriteGuard<'_, Index>> = None;
            for local in 0..shard.used as usize {
                let Some(entry) = shard.slot_mut(local) else { break };
                let Some(series) = entry.series.as_mut().filter(|series| series.is_empty()) else { continue };
                let since_ms = series.idle_since(now_ms);
                if now_ms.saturating_sub(since_ms) < grace_ms {
                    continue;
                }
                entry.series = None;
                // A slot whose generations are used up stays empty.
                if entry.generation < u32::MAX {
                    shard.free.push(local as u32);
                }
                let slot = (local * self.shards.len() + shard_index) as u32;
                index.get_or_insert_with(|| self.index.write()).remove(slot);
                forgotten += 1;
            }
        }
        forgotten
    }

    /// What the index holds most of; at most `limit` entries per list.
    pub fn cardinality(&self, limit: usize) -> HeadCardinality {
        self.index.read().cardinality(limit)
    }

    /// Rough bytes of memory in series and samples.
    pub fn memory_bytes(&self) -> u64 {
        let of_shard = |shard: &RwLock<Shard>| {
            let shard = shard.read();
            shard.pages.len() * PAGE * size_of::<Slot>() + shard.series().map(HeadSeries::heap_bytes).sum::<usize>()
        };
        (self.shards.iter().map(of_shard).sum::<usize>() + self.index.read().memory_bytes()) as u64
    }
}

impl Shard {
    /// `shard_count` is a power of two.
    fn find(&self, series: SeriesRef, shard_count: usize) -> Option<&HeadSeries> {
        let local = series.slot() as usize >> shard_count.trailing_zeros();
        let entry = self.pages.get(local / PAGE)?.get(local % PAGE)?;
        entry.series.as_ref().filter(|_| entry.generation == series.generation())
    }

    fn series(&self) -> impl Iterator<Item = &HeadSeries> {
        self.pages.iter().flatten().filter_map(|slot| slot.series.as_ref())
    }

    fn slot_mut(&mut self, local: usize) -> Option<&mut Slot> {
        self.pages.get_mut(local / PAGE)?.get_mut(local % PAGE)
    }

    /// A slot that was never used.
    fn grow(&mut self) -> u32 {
        if self.used as usize == self.pages.len() * PAGE {
            self.pages.push((0..PAGE).map(|_| Slot::default()).collect());
        }
        self.used += 1;
        self.used - 1
    }
}

/// What a reader of the head sees.
#[derive(Debug, Clone, Copy)]
pub struct HeadView {
    pub epoch: u64,
    /// Samples that it finds in blocks instead.
    pub flushed: Flushed,
}

/// Shards held for one append.
pub struct Locked<'a> {
    head: &'a Head,
    guards: Vec<Option<RwLockWriteGuard<'a, Shard>>>,
    taken: i64,
    late: i64,
    max_ms: i64,
    scratch: Scratch,
}

impl Locked<'_> {
    /// Takes `sample`, or says why not. `epoch` comes from the [`epochs::Epoch`] guard that the caller holds. With
    /// `histogram` the sample's value is not looked at.
    ///
    /// A sample that was there already counts as taken: whoever sent it again may rely on it from now on. Returns whether
    /// it must be logged for that. What is in blocks must not: deleted there, it would come back from the log.
    pub fn append(
        &mut self,
        sample: &WalSample,
        histogram: Option<&Arc<Histogram>>,
        limits: Limits,
        epoch: u64,
    ) -> Result<bool, RejectReason> {
        let reference = SeriesRef(sample.series);
        let count = self.guards.len();
        let shard = self.guards.get_mut(reference.slot() as usize & (count - 1)).and_then(Option::as_mut);
        let entry = shard.and_then(|shard| shard.slot_mut(reference.slot() as usize >> count.trailing_zeros()));
        let series = entry.filter(|entry| entry.generation == reference.generation()).and_then(|e| e.series.as_mut());
        let Some(series) = series else { return Err(RejectReason::UnknownSeries) };
        let late_before = series.late_len();
        match series.append(sample, histogram, limits, epoch, &self.head.epochs, &mut self.scratch)? {
            Taken::New => {
                self.taken += 1;
                self.late += (series.late_len() - late_before) as i64;
                self.max_ms = self.max_ms.max(sample.timestamp_ms);
            }
            Taken::Known => {}
            Taken::InBlocks => return Ok(false),
        }
        Ok(true)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.head.sample_count.fetch_add(self.taken, Ordering::Relaxed);
        self.head.late_count.fetch_add(self.late, Ordering::Relaxed);
        self.head.max_ms.fetch_max(self.max_ms, Ordering::Relaxed);
    }
}
