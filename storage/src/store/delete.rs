//! Deleting samples: hidden at once, gone with the next flush and merge.

use pilaster_model::{Matcher, TimeRange};

use super::Store;
use super::maintenance::Maintenance;
use crate::Error;
use crate::block::{AT_ONCE, LiveBlock};
use crate::head::HeadView;
use crate::manifest::Manifest;
use crate::tombstone::Tombstone;

impl Store {
    /// Deletes the samples in `range` of the series that satisfy `matchers`. Snapshots from now on do not see them;
    /// their room is free after [`Store::clean_tombstones`] or when their blocks are merged.
    ///
    /// # Errors
    /// A block could not be read. Or the manifest could not be written: whether anything is deleted shows when the store
    /// is opened again.
    pub fn delete(&self, matchers: &[Matcher], range: TimeRange) -> Result<(), Error> {
        let maintenance = &mut *self.maintenance.lock();
        self.log_unlogged()?;
        let view = self.current_view();
        // What comes later is not deleted.
        let Some(newest_ms) = self.max_ms() else { return Ok(()) };
        let range = TimeRange::new(range.min_ms, range.max_ms.min(newest_ms));
        let in_range = |block: &&LiveBlock| range.overlaps(&TimeRange::new(block.meta().min_ms, block.meta().max_ms));
        let candidates: Vec<&LiveBlock> = view.own().iter().map(|block| &**block).filter(in_range).collect();
        let mut blocks: Vec<String> = Vec::new();
        for part in candidates.chunks(AT_ONCE) {
            let opened = LiveBlock::open_those_there(part).map_err(Error::block(&self.options.dir))?;
            for block in opened.into_iter().flatten() {
                if block.select(matchers).into_iter().any(|id| block.series_range(id).overlaps(&range)) {
                    blocks.push(block.meta().name.clone());
                }
            }
        }
        // What is set aside may come back.
        let unreadable = view.unreadable();
        let set_aside = unreadable.iter().filter(|meta| range.overlaps(&TimeRange::new(meta.min_ms, meta.max_ms)));
        blocks.extend(set_aside.map(|meta| meta.name.clone()));
        // Between appends: the log has exactly what the head was given.
        let (epoch, log_before) = self.head.epochs.end_epoch(|| self.wal.next_sequence());
        let head = self.head.has_any(matchers, range, HeadView { epoch, flushed: view.flushed });
        self.head.epochs.release(epoch);
        if !head && blocks.is_empty() {
            return Ok(());
        }
        let matchers = matchers.to_vec();
        let tombstone = Tombstone { matchers, min_ms: range.min_ms, max_ms: range.max_ms, head, blocks, log_before };
        let mut manifest = maintenance.manifest.clone();
        manifest.tombstones.push(tombstone);
        self.set_tombstones(maintenance, manifest)
    }

    /// Rewrites the blocks that hold deleted samples, without them. What is deleted in the head goes when it is flushed.
    ///
    /// # Errors
    /// The first block that could not be rewritten; those before it were.
    pub fn clean_tombstones(&self) -> Result<(), Error> {
        let _alone = self.merging.lock();
        let names = |manifest: &Manifest| {
            let set_aside = self.current_view().unreadable();
            let mut all = manifest.tombstones.iter().flat_map(|one| &one.blocks);
            all.find(|name| set_aside.iter().all(|meta| meta.name != **name)).cloned()
        };
        loop {
            let name = names(&self.maintenance.lock().manifest);
            let Some(name) = name else { break };
            self.rewrite(name, &|_| true)?;
        }
        self.remove_doomed(&mut self.maintenance.lock());
        Ok(())
    }

    fn set_tombstones(&self, maintenance: &mut Maintenance, manifest: Manifest) -> Result<(), Error> {
        self.store_manifest(maintenance, manifest)?;
        let flushed = self.current_view().flushed;
        self.publish(maintenance, Vec::new(), flushed);
        Ok(())
    }
}
