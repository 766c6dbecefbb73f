//! What a timer does: flush, cut the log, expire, forget; and, beside all of that, merge and remove what nobody uses.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::options::RetentionLimits;
use super::retention::TrustedTime;
use super::{Store, View};
use crate::Error;
use crate::block::{BlockMeta, LiveBlock};
use crate::head::Flushed;
use crate::home::SourceBlocks;
use crate::manifest::{Manifest, RemovedBlock};

/// A series without samples in memory is kept for so long, for those who have its reference.
const IDLE_GRACE_MS: i64 = 60_000;

/// How far ahead of the clock a sample may be and still be one of now.
const FUTURE_MS: i64 = 3_600_000;

/// Records with sequences below `sequence` have no timestamp above `max_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub sequence: u64,
    pub max_ms: i64,
}

/// Held by the one who changes the list of blocks.
#[derive(Debug)]
pub(super) struct Maintenance {
    pub manifest: Manifest,
    /// Ascending.
    pub marks: VecDeque<Mark>,
    /// Samples that are in blocks, yet stay in the head for snapshots of this epoch and before.
    pub pending_drop: Option<(Flushed, u64)>,
    /// Windows (start and level) whose blocks cannot be read.
    pub unmergeable: HashSet<(i64, u8)>,
    /// Blocks that are off the manifest; their files go with the last snapshot that has them.
    pub doomed: Vec<Arc<LiveBlock>>,
    /// Blocks that the manifest remembers for their objects, which are gone by now.
    pub erased: HashSet<String>,
    /// Blocks of others.
    pub sources: SourceBlocks,
    pub sources_seen_ms: i64,
    pub trusted_time: TrustedTime,
    /// Per block, the retention rules that were applied to it.
    pub rules_applied: HashMap<String, Vec<bool>>,
    /// The limits that these rules are of.
    pub rules_of: Arc<RetentionLimits>,
}

impl Maintenance {
    pub fn new(manifest: Manifest, marks: Vec<Mark>, sources: SourceBlocks, now_ms: i64) -> Maintenance {
        Maintenance {
            manifest,
            marks: marks.into(),
            pending_drop: None,
            unmergeable: HashSet::new(),
            doomed: Vec::new(),
            trusted_time: TrustedTime::default(),
            rules_applied: HashMap::new(),
            rules_of: Arc::default(),
            erased: HashSet::new(),
            sources,
            sources_seen_ms: now_ms,
        }
    }
}

impl Store {
    /// [`Store::maintain_head`] and, where the place of the blocks can be reached, [`Store::maintain_blocks`].
    ///
    /// # Errors
    /// The first thing that failed; the others were done. The next call tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        let result = self.maintain_head();
        // Without the object store there is nothing to be done about blocks, and every attempt is a long wait.
        match result {
            Err(error) if error.is_of_objects() => Err(error),
            other => other.and(self.maintain_blocks()),
        }
    }

    /// Flushes complete block ranges, cuts the log, removes blocks that are too old, forgets idle series, and looks at
    /// what other stores have put. For a timer; every 30 seconds is right.
    ///
    /// # Errors
    /// The first thing that failed; the others were done. The next call tries again.
    pub fn maintain_head(&self) -> Result<(), Error> {
        let maintenance = &mut *self.maintenance.lock();
        let newest_ms = self.max_ms().unwrap_or(i64::MAX);
        let trusted_ms = maintenance.trusted_time.look(self.env.clock.now_ms(), newest_ms);
        let mut result = self.log_unlogged();
        result = result.and(self.mark(maintenance));
        // Not while a part of it is not in the log: that would bring back what was deleted meanwhile.
        if result.is_ok()
            && let Some(cut_ms) = self.complete_before(trusted_ms)
        {
            result = self.flush_before(maintenance, Some(cut_ms));
        }
        self.free(maintenance);
        self.home.shelf().trim();
        let forgotten = self.head.forget_idle(self.env.clock.now_ms(), IDLE_GRACE_MS) as u64;
        self.counters.series_forgotten.fetch_add(forgotten, Ordering::Relaxed);
        if !result.as_ref().is_err_and(Error::is_of_objects) {
            result = result.and(self.expire(maintenance));
            self.remove_doomed(maintenance);
        }
        self.refresh_sources(maintenance);
        result
    }

    /// Merges small blocks, applies retention rules and removes what nobody uses any more. It may take long, and holds up
    /// neither [`Store::maintain_head`] nor deletions; after that one, and in a thread of its own, is right.
    ///
    /// # Errors
    /// As [`Store::maintain_head`].
    pub fn maintain_blocks(&self) -> Result<(), Error> {
        let _alone = self.merging.lock();
        let mut result = self.compact();
        result = result.and(self.apply_retention_rules());
        let maintenance = &mut *self.maintenance.lock();
        self.remove_doomed(maintenance);
        result.and(self.home.sweep(&maintenance.manifest))
    }

    /// Moves everything in memory to blocks. Samples that come later and are older than what was flushed are late.
    pub fn flush(&self) -> Result<(), Error> {
        let maintenance = &mut *self.maintenance.lock();
        self.log_unlogged()?;
        let result = self.flush_before(maintenance, None);
        self.free(maintenance);
        self.remove_doomed(maintenance);
        result
    }

    /// The end of the block ranges that are complete, where the head has any sample of them. Half a range more than a
    /// whole one stays, for samples that are on their way. A sample from the future completes nothing: what comes after
    /// it would all be too old.
    fn complete_before(&self, trusted_ms: i64) -> Option<i64> {
        let block_ms = self.options.block_ms;
        let newest_ms = self.head.max_ms()?.min(trusted_ms.saturating_add(FUTURE_MS));
        let settled_ms = newest_ms.saturating_sub(block_ms / 2);
        let cut_ms = settled_ms.div_euclid(block_ms).saturating_mul(block_ms);
        let flushed = self.view.read().flushed;
        (flushed.before_ms < cut_ms && self.head.min_ms(flushed)? < cut_ms).then_some(cut_ms)
    }

    /// Looks at what others have put, where it is time.
    fn refresh_sources(&self, maintenance: &mut Maintenance) {
        let Some(options) = &self.options.blocks else { return };
        let now_ms = self.env.clock.now_ms();
        // A clock that was set back does not stop it.
        if (0..options.refresh_ms).contains(&now_ms.saturating_sub(maintenance.sources_seen_ms)) {
            return;
        }
        maintenance.sources_seen_ms = now_ms;
        if let Some(sources) = self.home.refresh_sources() {
            maintenance.sources = sources;
            let flushed = self.view.read().flushed;
            self.publish(maintenance, Vec::new(), flushed);
        }
    }

    /// Notes how far the log is, and the head's newest timestamp with it.
    pub(super) fn mark(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        let rest = || (self.wal.next_sequence(), self.wal.barrier(), self.head.max_ms());
        let (_, (sequence, barrier, max_ms)) = self.head.epochs.at_rest(rest);
        let Some(max_ms) = max_ms else { return Ok(()) };
        if maintenance.marks.back().is_some_and(|mark| mark.sequence >= sequence) {
            return Ok(());
        }
        // After a failure sequences are given out again: only what is written keeps its place.
        self.wal.wait(barrier)?;
        maintenance.marks.push_back(Mark { sequence, max_ms });
        Ok(())
    }

    /// Frees the memory of flushed samples, unless a snapshot from before the flush may still read it.
    pub(super) fn free(&self, maintenance: &mut Maintenance) {
        if let Some((flushed, epoch)) = maintenance.pending_drop
            && self.head.epochs.oldest_seen() > epoch
        {
            self.head.drop_flushed(flushed);
            maintenance.pending_drop = None;
        }
    }

    /// Removes the segments of the log that blocks hold in full.
    pub(super) fn cut_log(&self, maintenance: &mut Maintenance) {
        let sequence = maintenance.manifest.log_from_sequence;
        while maintenance.marks.front().is_some_and(|mark| mark.sequence <= sequence) {
            maintenance.marks.pop_front();
        }
        // What the log says of metrics, and its exemplars, must stand elsewhere before it goes.
        let _alone = self.beside_gate.write();
        let (files, dir) = (&*self.env.files, &self.options.dir);
        let stored = self.metadata.store(files, dir).and_then(|()| self.exemplars.store(files, dir));
        let cut = stored.and_then(|()| self.wal.truncate_before(sequence).map_err(Error::from));
        if let Err(error) = cut {
            // Nothing is lost but room; the next flush tries again.
            tracing::warn!(%error, "could not remove old segments of the write-ahead log");
        }
    }

    /// Makes `metas` the live blocks: first in the manifest, then for snapshots. `new` are those not open yet.
    pub(super) fn replace_blocks(
        &self,
        maintenance: &mut Maintenance,
        metas: Vec<BlockMeta>,
        new: Vec<Arc<LiveBlock>>,
    ) -> Result<(), Error> {
        let manifest = Manifest { blocks: metas, ..maintenance.manifest.clone() };
        self.replace_manifest(maintenance, manifest, new)
    }

    /// [`Store::replace_blocks`] for a manifest that says something else anew as well.
    pub(super) fn replace_manifest(
        &self,
        maintenance: &mut Maintenance,
        mut manifest: Manifest,
        new: Vec<Arc<LiveBlock>>,
    ) -> Result<(), Error> {
        let live: HashSet<&String> = manifest.blocks.iter().map(|block| &block.name).collect();
        for tombstone in &mut manifest.tombstones {
            tombstone.blocks.retain(|name| live.contains(name));
        }
        manifest.tombstones.retain(|tombstone| !tombstone.is_done());
        if self.home.is_far() {
            let at_ms = self.env.clock.now_ms();
            let gone = maintenance.manifest.blocks.iter().filter(|block| !live.contains(&block.name));
            manifest.removed.extend(gone.map(|block| RemovedBlock {
                name: block.name.clone(),
                files: block.paths(),
                at_ms,
            }));
        }
        self.store_manifest(maintenance, manifest)?;
        let flushed = self.view.read().flushed;
        self.publish(maintenance, new, flushed);
        Ok(())
    }

    /// Makes `manifest` the one that counts, here and at home.
    pub(super) fn store_manifest(&self, maintenance: &mut Maintenance, mut manifest: Manifest) -> Result<(), Error> {
        manifest.removed.retain(|block| !maintenance.erased.contains(&block.name));
        self.home.store(&mut manifest)?;
        maintenance.erased.clear();
        maintenance.manifest = manifest;
        Ok(())
    }

    /// Shows the blocks of the manifest to snapshots from now on. Returns the last epoch that does not see them.
    pub(super) fn publish(&self, maintenance: &mut Maintenance, new: Vec<Arc<LiveBlock>>, flushed: Flushed) -> u64 {
        let old = self.view.read().clone();
        let there: HashMap<&str, &Arc<LiveBlock>> =
            old.own().iter().chain(&new).map(|block| (block.meta().name.as_str(), block)).collect();
        let open = |meta: &BlockMeta| there.get(meta.name.as_str()).map(|block| Arc::clone(block));
        let mut blocks: Vec<_> = maintenance.manifest.blocks.iter().filter_map(open).collect();
        let own = blocks.len();
        let is_live = |meta: &&BlockMeta| maintenance.manifest.blocks.iter().any(|live| live.name == meta.name);
        let set_aside: Vec<_> = old.set_aside.iter().filter(is_live).cloned().collect();
        let live_count = maintenance.manifest.blocks.len();
        debug_assert_eq!(own + set_aside.len(), live_count, "every live block is there or set aside");
        let live: HashSet<*const LiveBlock> = blocks.iter().map(Arc::as_ptr).collect();
        maintenance.doomed.extend(old.own().iter().filter(|block| !live.contains(&Arc::as_ptr(block))).cloned());
        blocks.extend(maintenance.sources.blocks.iter().cloned());
        let tombstones = maintenance.manifest.tombstones.iter().chain(&maintenance.sources.tombstones);
        let tombstones = tombstones.cloned().collect();
        let view = Arc::new(View { blocks, own, flushed, tombstones, set_aside });
        let (epoch, ()) = self.head.epochs.at_rest(|| *self.view.write() = view);
        epoch
    }

    /// Removes the files of dead blocks that no snapshot has any more.
    pub(super) fn remove_doomed(&self, maintenance: &mut Maintenance) {
        let far = self.home.is_far();
        maintenance.doomed.retain(|block| {
            if Arc::strong_count(block) > 1 {
                return true;
            }
            if !far {
                self.remove_files(block.meta());
            }
            false
        });
        let now_ms = self.env.clock.now_ms();
        for block in &maintenance.manifest.removed {
            let is_old = now_ms.saturating_sub(block.at_ms) >= self.home.keep_removed_ms();
            let in_use = maintenance.doomed.iter().any(|doomed| doomed.meta().name == block.name);
            if !is_old || in_use || maintenance.erased.contains(&block.name) {
                continue;
            }
            if !self.home.remove(&block.files) {
                break;
            }
            maintenance.erased.insert(block.name.clone());
        }
    }

    /// Removes the files of a block that is not in the manifest. What stays is removed when the store is opened.
    pub(super) fn remove_files(&self, meta: &BlockMeta) {
        self.home.remove(&meta.paths());
    }
}
