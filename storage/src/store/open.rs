//! Taking a directory over: lock, manifest, blocks, log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};

use parking_lot::{Mutex, RwLock};

use super::head_snapshot::{self, Beside};
use super::maintenance::Maintenance;
use super::replay::Replay;
use super::{Store, StoreOptions, View};
use crate::block::LiveBlock;
use crate::env::Env;
use crate::exemplars::ExemplarStore;
use crate::head::{Flushed, Head};
use crate::home::Home;
use crate::metadata::MetadataTable;
use crate::stats::Counters;
use crate::wal::{LogTail, Wal, WalOptions};
use crate::{Error, Snapshot};

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
        Store::open_with_progress(options, env, &|_| {}, &|_| {})
    }

    /// [`Store::open`], telling `progress` about every segment of the log. Before the first, `early` is given all that is
    /// in blocks; the files of what it keeps stay until it is dropped.
    pub fn open_with_progress(
        options: StoreOptions,
        env: Env,
        progress: &(dyn Fn(ReplayProgress) + Sync),
        early: &dyn Fn(Snapshot),
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
        let all: Vec<Arc<LiveBlock>> = manifest.blocks.iter().map(|meta| home.block(meta)).collect();
        if home.is_far() {
            // When somebody needs them.
            blocks = all;
        } else {
            let each: Vec<&LiveBlock> = all.iter().map(|block| &**block).collect();
            let opened = LiveBlock::open_each(&each, |opened| opened.map(drop));
            for (block, opened) in all.iter().zip(opened) {
                match opened {
                    Ok(()) => blocks.push(block.clone()),
                    Err(error) if error.is_lost() => set_aside.push(block.meta().clone()),
                    Err(error) => return Err(Error::block(&dir)(error)),
                }
            }
        }
        let own = blocks.len();
        let sources = home.refresh_sources().unwrap_or_default();
        blocks.extend(sources.blocks.iter().cloned());
        let flushed = Flushed { before_ms: manifest.closed_before_ms, epoch: 0 };
        // What they hid in the head does not come back to it.
        for tombstone in manifest.tombstones.iter_mut().filter(|tombstone| tombstone.log_before > 0) {
            tombstone.head = false;
        }
        let tombstones = manifest.tombstones.iter().chain(&sources.tombstones).cloned().collect();
        let view = Arc::new(View { blocks, own, flushed, tombstones, set_aside });
        early(Snapshot::of_blocks(view.clone()));
        let (metadata, metadata_is_whole) = MetadataTable::load(&*env.files, &dir)?;
        let exemplars = ExemplarStore::new(options.max_exemplars, options.out_of_order_ms);
        let exemplars_are_whole = exemplars.load(&*env.files, &dir)?;

        let wal_dir = dir.join("wal");
        let segments = env.files.list(&wal_dir).map_err(Error::io("read", &wal_dir))?;
        let segments_total = segments.iter().filter(|path| path.extension().is_some_and(|e| e == "wal")).count() as u64;
        let wal_options = WalOptions { segment_bytes: options.wal_segment_bytes, sync: options.wal_sync };
        progress(ReplayProgress { segments_done: 0, segments_total });
        let beside = Beside { whole: u8::from(metadata_is_whole) | u8::from(exemplars_are_whole) << 1 };
        let loaded = head_snapshot::load(&*env.files, &wal_dir, &options, &manifest, beside)?;
        let (head, base, tail) = match loaded {
            Some((head, base, tail)) => (head, Some(base), tail),
            None => (Head::new(options.shards), None, LogTail::whole()),
        };
        let restored_samples = head.sample_count();
        let mut replay =
            Replay::new(&head, (&metadata, &exemplars), &manifest, base.as_ref(), segments_total, progress);
        let (wal, found) =
            Wal::open(env.clone(), &wal_dir, wal_options, &tail, |segment, records| replay.apply(segment, records))?;
        let marks = replay.finish(found.last_sequence);
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

        let replayed_samples = head.sample_count().saturating_sub(restored_samples);
        let store = Store {
            home,
            head: Arc::new(head),
            wal,
            view: RwLock::new(view),
            closed_before_ms: AtomicI64::new(manifest.closed_before_ms),
            opened_max_ms: manifest.max_ms().unwrap_or(i64::MIN),
            unlogged: Mutex::default(),
            has_unlogged: AtomicBool::new(false),
            merging: Mutex::default(),
            merging_wanted: AtomicUsize::new(0),
            maintenance: Mutex::new(Maintenance::new(manifest, marks, sources, env.clock.now_ms())),
            metadata,
            retention: RwLock::new(Arc::new(options.retention.clone())),
            beside_gate: RwLock::default(),
            exemplars,
            counters: Counters::default(),
            saved: Mutex::default(),
            snapshot_bytes: AtomicU64::new(env.files.len(&head_snapshot::path(&wal_dir)).unwrap_or(0)),
            restored_samples,
            replayed_samples,
            wal_damaged_ranges: AtomicU64::new(damaged_ranges),
            wal_torn_bytes,
            options,
            env,
            _lock: lock,
        };
        Ok(Arc::new(store))
    }
}
