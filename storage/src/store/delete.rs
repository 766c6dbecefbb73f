//! Deleting samples: hidden at once, gone with the next flush and merge.

use std::sync::atomic::Ordering;

use pilaster_model::{Matcher, TimeRange};

use super::Store;
use super::maintenance::Maintenance;
use super::merge::Haste;
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
    /// A merge that is going on stops for it, and begins anew with the next [`Store::maintain_blocks`].
    ///
    /// # Errors
    /// The first block that could not be rewritten; those before it were.
    pub fn clean_tombstones(&self) -> Result<(), Error> {
        self.merging_wanted.fetch_add(1, Ordering::Relaxed);
        let _alone = self.merging.lock();
        self.merging_wanted.fetch_sub(1, Ordering::Relaxed);
        let names = |manifest: &Manifest| {
            let set_aside = self.current_view().unreadable();
            let mut all = manifest.tombstones.iter().flat_map(|one| &one.blocks);
            all.find(|name| set_aside.iter().all(|meta| meta.name != **name)).cloned()
        };
        loop {
            let name = names(&self.maintenance.lock().manifest);
            let Some(name) = name else { break };
            self.rewrite(name, &|_| true, Haste::Request)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pilaster_model::Labels;

    use super::*;
    use crate::env::sim::Sim;
    use crate::{Sample, StoreOptions};

    /// A range of time in two blocks, of which one has something deleted, and the samples that are left.
    fn two_blocks() -> (Arc<Store>, usize) {
        let options = StoreOptions { block_ms: 1000, out_of_order_ms: 9000, ..StoreOptions::new("/data") };
        let store = Store::open(options, Sim::new(1).env()).unwrap();
        for times in [[100, 200, 5000], [300, 400, 5001]] {
            let series = store.series(&Labels::from_pairs([("__name__", "m")]));
            let sample = |timestamp_ms| Sample { series, timestamp_ms, value: 1.0, start_ms: None };
            assert_eq!(store.append(&times.map(sample)).unwrap().appended, 3);
            store.flush().unwrap();
        }
        store.delete(&[], TimeRange::new(200, 300)).unwrap();
        (store, 4)
    }

    fn samples(store: &Store) -> usize {
        let snapshot = store.snapshot();
        let series = snapshot.select(&[], TimeRange::ALL).unwrap();
        let read = snapshot.read_many(&series, TimeRange::ALL).unwrap();
        read.iter().map(|samples| samples.values.len()).sum()
    }

    #[test]
    fn a_merge_stops_for_who_wants_to_clean_and_comes_again() {
        let (store, left) = two_blocks();
        let before = store.stats();
        store.merging_wanted.fetch_add(1, Ordering::Relaxed);
        store.maintain_blocks().unwrap();
        let stopped = store.stats();
        assert_eq!((stopped.compactions, stopped.compactions_failed, stopped.blocks), (0, 0, before.blocks));
        assert_eq!(samples(&store), left);
        // What a request asked for does not stop for the next.
        let alone = store.merging.lock();
        let cleaning = std::thread::spawn({
            let store = store.clone();
            move || store.clean_tombstones()
        });
        while store.merging_wanted.load(Ordering::Relaxed) < 2 {
            std::thread::yield_now();
        }
        drop(alone);
        cleaning.join().unwrap().unwrap();
        assert_eq!(store.merging_wanted.load(Ordering::Relaxed), 1);
        assert!(store.maintenance.lock().manifest.tombstones.iter().all(|one| one.blocks.is_empty()));
        assert_eq!(store.stats().block_samples as usize, left);
        store.merging_wanted.fetch_sub(1, Ordering::Relaxed);
        store.maintain_blocks().unwrap();
        let merged = store.stats();
        assert!(merged.compactions > 0 && merged.blocks < before.blocks, "{merged:?}");
        assert_eq!(samples(&store), left);
    }
}
