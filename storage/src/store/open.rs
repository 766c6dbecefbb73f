//! Taking a directory over: lock, manifest, blocks, log.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::mpsc::SyncSender;

use parking_lot::{Mutex, RwLock};
use pilaster_model::{Histogram, Labels, TimeRange};

use super::maintenance::{Maintenance, Mark};
use super::{Store, StoreOptions, View};
use crate::env::Env;
use crate::exemplars::ExemplarStore;
use crate::head::{Flushed, Head, Limits};
use crate::home::Home;
use crate::manifest::Manifest;
use crate::metadata::MetadataTable;
use crate::stats::Counters;
use crate::tombstone::{Tombstone, about_log};
use crate::wal::{Record, Wal, WalExemplar, WalOptions, WalSample};
use crate::{Error, SeriesRef};

/// How far the replay of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayProgress {
    pub segments_done: u64,
    pub segments_total: u64,
}

impl Store {
    /// Takes the directory of `options` over, which begins to exist where it did not, and replays the log.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process has it; [`Error::Corrupt`] where the manifest is damaged. Damage to the
    /// log is counted, not an error.
    pub fn open(options: StoreOptions, env: Env) -> Result<Arc<Store>, Error> {
        Store::open_with_progress(options, env, &|_| {})
    }

    /// [`Store::open`], telling `progress` about every segment of the log.
    pub fn open_with_progress(
        options: StoreOptions,
        env: Env,
        progress: &(dyn Fn(ReplayProgress) + Sync),
    ) -> Result<Arc<Store>, Error> {
        options.check()?;
        let dir = options.dir.clone();
        env.files.create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let lock = env.files.lock(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { dir: dir.clone() },
            _ => Error::io("lock", &dir)(error),
        })?;
        let (home, mut manifest) = Home::open(&options, &env)?;
        let (mut blocks, mut set_aside) = (Vec::new(), Vec::new());
        for meta in &manifest.blocks {
            let block = home.block(meta);
            // Far ones when somebody needs them.
            let opened = if home.is_far() { Ok(()) } else { block.open().map(drop) };
            match opened {
                Ok(()) => blocks.push(block),
                Err(error) if error.is_lost() => {
                    tracing::error!(block = meta.name, min_ms = meta.min_ms, max_ms = meta.max_ms, samples = meta.sample_count,
                        %error, "a block cannot be read: it is set aside, and everything else is served");
                    set_aside.push(meta.clone());
                }
                Err(error) => return Err(Error::block(&dir)(error)),
            }
        }
        let own = blocks.len();
        let sources = home.refresh_sources().unwrap_or_default();
        blocks.extend(sources.blocks.iter().cloned());
        let metadata = MetadataTable::load(&*env.files, &dir)?;
        let exemplars = ExemplarStore::new(options.max_exemplars, options.out_of_order_ms);

        let head = Head::new(options.shards);
        let wal_dir = dir.join("wal");
        let segments = env.files.list(&wal_dir).map_err(Error::io("read", &wal_dir))?;
        let segments_total = segments.iter().filter(|path| path.extension().is_some_and(|e| e == "wal")).count() as u64;
        let wal_options = WalOptions { segment_bytes: options.wal_segment_bytes, sync: options.wal_sync };
        let opened = std::thread::scope(|scope| {
            let beside = (&metadata, &exemplars);
            let mut replay = Replay::new(scope, &head, beside, &manifest, segments_total, progress);
            let opened = Wal::open(env.clone(), &wal_dir, wal_options, |segment, sequence, record| {
                replay.apply(segment, sequence, record);
            });
            opened.map(|(wal, found)| {
                let marks = replay.finish(found.last_sequence);
                (wal, found, marks)
            })
        });
        let (wal, found, marks) = opened?;
        // Segments that were removed may turn up again after a crash, some of them.
        let damages = || found.damage.iter().filter(|damage| damage.last_sequence >= manifest.log_from_sequence);
        for damage in damages() {
            tracing::error!(path = ?damage.path, start = damage.start, end = damage.end,
                first_sequence = damage.first_sequence, last_sequence = damage.last_sequence,
                "acknowledged records of the write-ahead log can no longer be read");
        }
        let damaged_ranges = damages().count() as u64;
        if let Some(torn) = &found.torn {
            tracing::warn!(path = ?torn.path, start = torn.start, end = torn.end,
                "the write-ahead log ends within a record: the rest was never acknowledged and is dropped");
        }
        let wal_torn_bytes = found.torn.as_ref().map_or(0, |torn| (torn.end - torn.start) as u64);
        // Sequences below are taken for flushed, whether the log still had them or not.
        wal.skip_to(manifest.flushed_sequence);

        let flushed = Flushed { before_ms: manifest.closed_before_ms, epoch: 0 };
        // What they hid in the head has not come back to it.
        for tombstone in manifest.tombstones.iter_mut().filter(|tombstone| tombstone.log_before > 0) {
            tombstone.head = false;
        }
        let tombstones = manifest.tombstones.iter().chain(&sources.tombstones).cloned().collect();
        let store = Store {
            home,
            head: Arc::new(head),
            wal,
            view: RwLock::new(Arc::new(View { blocks, own, flushed, tombstones, set_aside })),
            closed_before_ms: AtomicI64::new(manifest.closed_before_ms),
            opened_max_ms: manifest.max_ms().unwrap_or(i64::MIN),
            unlogged: Mutex::default(),
            has_unlogged: AtomicBool::new(false),
            maintenance: Mutex::new(Maintenance::new(manifest, marks, sources, env.clock.now_ms())),
            metadata,
            metadata_gate: RwLock::default(),
            exemplars,
            counters: Counters::default(),
            wal_damaged_ranges: AtomicU64::new(damaged_ranges),
            wal_torn_bytes,
            options,
            env,
            _lock: lock,
        };
        Ok(Arc::new(store))
    }
}

/// References are small numbers: one multiplication spreads them.
#[derive(Default)]
struct ReferenceHash(u64);

impl Hasher for ReferenceHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, reference: u64) {
        self.0 = (self.0 ^ reference).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A series as a segment names it.
struct Named {
    labels: Labels,
    series: Option<SeriesRef>,
    /// What was deleted of it: samples in the range whose records stand below the sequence.
    deleted: Vec<(u64, TimeRange)>,
}

/// Threads that put samples into the head. Each has its own shards, so that they do not wait for each other, and a
/// series stays in order.
const LANES: usize = 4;
/// Samples that go to a lane together.
const LANE_BATCH: usize = 4096;

type Batch = Vec<(WalSample, Option<Arc<Histogram>>)>;

struct Lane {
    batch: Batch,
    sender: SyncSender<Batch>,
}

impl Lane {
    fn send(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(LANE_BATCH));
        // A lane ends early only when it panics, and then its scope panics too.
        let _ = self.sender.send(batch);
    }
}

/// Puts the log back into the head.
struct Replay<'a> {
    head: &'a Head,
    beside: (&'a MetadataTable, &'a ExemplarStore),
    limits: Limits,
    lanes: Vec<Lane>,
    tombstones: Vec<&'a Tombstone>,
    flushed_sequence: u64,
    segment: Option<u64>,
    named: HashMap<u64, Named, BuildHasherDefault<ReferenceHash>>,
    /// Per segment: first sequence and newest timestamp.
    seen: BTreeMap<u64, (u64, i64)>,
    segments_total: u64,
    progress: &'a (dyn Fn(ReplayProgress) + Sync),
}

impl<'a> Replay<'a> {
    fn new<'scope>(
        scope: &'scope std::thread::Scope<'scope, 'a>,
        head: &'a Head,
        beside: (&'a MetadataTable, &'a ExemplarStore),
        manifest: &'a Manifest,
        segments_total: u64,
        progress: &'a (dyn Fn(ReplayProgress) + Sync),
    ) -> Replay<'a> {
        progress(ReplayProgress { segments_done: 0, segments_total });
        // It was accepted once, so nothing is too old.
        let flushed = Flushed { before_ms: manifest.closed_before_ms, epoch: 0 };
        let limits = Limits { closed_before_ms: manifest.closed_before_ms, late_from_ms: Some(i64::MIN), flushed };
        let lane = |_| {
            let (sender, receiver) = std::sync::mpsc::sync_channel::<Batch>(8);
            scope.spawn(move || receiver.into_iter().for_each(|batch| put(head, limits, &batch)));
            Lane { batch: Vec::new(), sender }
        };
        Replay {
            head,
            beside,
            limits,
            tombstones: about_log(&manifest.tombstones),
            lanes: (0..LANES).map(lane).collect(),
            flushed_sequence: manifest.flushed_sequence,
            segment: None,
            named: HashMap::default(),
            seen: BTreeMap::new(),
            segments_total,
            progress,
        }
    }

    fn apply(&mut self, segment: u64, sequence: u64, record: Record) {
        if self.segment != Some(segment) {
            self.named.clear();
            self.segment = Some(segment);
            let segments_done = (self.seen.len() as u64).min(self.segments_total);
            (self.progress)(ReplayProgress { segments_done, segments_total: self.segments_total });
            self.seen.insert(segment, (sequence, i64::MIN));
        }
        match record {
            Record::Series(series) => {
                for (key, labels) in series {
                    let matching = self.tombstones.iter().filter(|tombstone| tombstone.matches(&labels));
                    let deleted = matching.map(|tombstone| (tombstone.log_before, tombstone.range())).collect();
                    self.named.insert(key, Named { labels, series: None, deleted });
                }
            }
            Record::Samples(samples) => self.take(sequence, samples.into_iter().map(|sample| (sample, None))),
            Record::Histograms(samples) => {
                self.take(sequence, samples.into_iter().map(|(s, h)| (s, Some(Arc::new(h)))))
            }
            Record::Metadata(metadata) => self.beside.0.apply(metadata),
            Record::Exemplars(exemplars) => {
                for WalExemplar { series, exemplar } in exemplars {
                    if let Some(named) = self.named.get(&series).filter(|named| !named.labels.is_empty()) {
                        self.beside.1.add(&named.labels, exemplar);
                    }
                }
            }
        }
    }

    fn take(&mut self, sequence: u64, samples: impl Iterator<Item = (WalSample, Option<Arc<Histogram>>)>) {
        let mut max_ms = i64::MIN;
        for (mut sample, histogram) in samples {
            max_ms = max_ms.max(sample.timestamp_ms);
            if sequence < self.flushed_sequence && sample.timestamp_ms < self.limits.closed_before_ms {
                continue;
            }
            // Unnamed where the naming record is lost: damage, which is reported.
            let Some(named) = self.named.get_mut(&sample.series).filter(|named| !named.labels.is_empty()) else {
                continue;
            };
            let is_about =
                |(before, range): &(u64, TimeRange)| sequence < *before && range.contains(sample.timestamp_ms);
            if named.deleted.iter().any(is_about) {
                continue;
            }
            sample.series = named.series.get_or_insert_with(|| self.head.series(&named.labels)).0;
            let lane = &mut self.lanes[sample.series as usize % LANES];
            lane.batch.push((sample, histogram));
            if lane.batch.len() >= LANE_BATCH {
                lane.send();
            }
        }
        if let Some((_, newest)) = self.segment.and_then(|segment| self.seen.get_mut(&segment)) {
            *newest = (*newest).max(max_ms);
        }
    }

    /// What each segment may be removed for.
    fn finish(mut self, last_sequence: u64) -> Vec<Mark> {
        self.lanes.iter_mut().for_each(Lane::send);
        (self.progress)(ReplayProgress { segments_done: self.segments_total, segments_total: self.segments_total });
        let mut marks = Vec::new();
        let mut end = last_sequence + 1;
        for (first, newest_ms) in self.seen.into_values().rev() {
            marks.push(Mark { sequence: end, max_ms: newest_ms });
            end = end.min(first);
        }
        marks.reverse();
        let mut newest_ms = i64::MIN;
        for mark in &mut marks {
            newest_ms = newest_ms.max(mark.max_ms);
            mark.max_ms = newest_ms;
        }
        marks
    }
}

/// Puts samples into the head.
fn put(head: &Head, limits: Limits, batch: &Batch) {
    let epoch = head.epochs.enter();
    let mut locked = head.lock(batch.iter().map(|(sample, _)| sample.series));
    for (sample, histogram) in batch {
        // The only refusal left is another value at the same timestamp, where the first write wins.
        let _ = locked.append(sample, histogram.as_ref(), limits, epoch.number);
    }
}
