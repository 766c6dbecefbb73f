//! Blocks that other stores have put under prefixes of theirs: read here, changed by nobody but them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::ObjectStats;
use super::blocks::ObjectBlocks;
use crate::Error;
use crate::block::{LiveBlock, Shelf};
use crate::env::objects::{Counted, ObjectError, Objects, Version};
use crate::manifest::{FILE, Manifest};
use crate::tombstone::Tombstone;

/// Other prefixes.
#[derive(Debug)]
pub struct Sources(Vec<Source>);

#[derive(Debug)]
struct Source {
    objects: Arc<Counted>,
    files: Arc<ObjectBlocks>,
    shelf: Arc<Shelf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    version: Option<Version>,
    blocks: Vec<Arc<LiveBlock>>,
    tombstones: Vec<Tombstone>,
    readable: bool,
}

/// What all sources have, in their order.
#[derive(Debug, Clone, Default)]
pub struct SourceBlocks {
    pub blocks: Vec<Arc<LiveBlock>>,
    pub tombstones: Vec<Tombstone>,
}

impl Sources {
    pub fn new(
        places: &[Arc<dyn Objects>],
        shelf: &Arc<Shelf>,
        files: impl Fn(Arc<Counted>) -> Arc<ObjectBlocks>,
    ) -> Sources {
        let source = |place: &Arc<dyn Objects>| {
            let objects = Arc::new(Counted::new(place.clone()));
            Source { files: files(objects.clone()), shelf: shelf.clone(), objects, known: Mutex::default() }
        };
        Sources(places.iter().map(source).collect())
    }

    /// Looks at every manifest again. A source that cannot be read keeps the blocks it had, and is told of in the log.
    pub fn refresh(&self) -> Option<SourceBlocks> {
        let mut changed = false;
        for source in &self.0 {
            let refreshed = source.refresh();
            let known = &mut *source.known.lock();
            match refreshed {
                Ok(new) => {
                    if !std::mem::replace(&mut known.readable, true) {
                        tracing::info!(
                            place = source.objects.place(),
                            blocks = known.blocks.len(),
                            "reading blocks of"
                        );
                    }
                    changed |= new;
                }
                Err(error) => {
                    known.readable = false;
                    let error =
                        std::error::Error::source(&error).map_or(error.to_string(), |s| format!("{error}: {s}"));
                    tracing::error!(place = source.objects.place(), error, "blocks of another prefix cannot be read");
                }
            }
        }
        changed.then(|| {
            let mut all = SourceBlocks::default();
            for source in &self.0 {
                let known = source.known.lock();
                all.blocks.extend(known.blocks.iter().cloned());
                all.tombstones.extend(known.tombstones.iter().cloned());
            }
            all
        })
    }

    pub fn count(&self, stats: &mut ObjectStats) {
        for source in &self.0 {
            let known = source.known.lock();
            stats.requests = stats.requests.plus(source.objects.counts());
            stats.sources += 1;
            stats.sources_readable += u64::from(known.readable);
            stats.source_blocks += known.blocks.len() as u64;
        }
    }
}

impl Source {
    /// Reads the manifest unless it is the known one; whether it is new. Nothing is locked while it waits for an answer.
    fn refresh(&self) -> Result<bool, Error> {
        let seen = self.known.lock().version.clone();
        let (bytes, version) = match self.objects.get(FILE, seen.as_ref()) {
            Ok(Some(new)) => new,
            Ok(None) => return Ok(false),
            // Its server has not flushed yet.
            Err(ObjectError::NotFound { .. }) if seen.is_none() => return Ok(false),
            Err(error) => return Err(Error::Objects(error)),
        };
        let path = PathBuf::from(format!("{}/{FILE}", self.objects.place()));
        let manifest = Manifest::decode(&path, &bytes)?;
        let known = &mut *self.known.lock();
        let mut there: HashMap<String, Arc<LiveBlock>> =
            known.blocks.drain(..).map(|block| (block.meta().name.clone(), block)).collect();
        let live = |meta| Arc::new(LiveBlock::new(self.files.clone(), meta, self.shelf.clone()));
        known.blocks =
            manifest.blocks.into_iter().map(|meta| there.remove(&meta.name).unwrap_or_else(|| live(meta))).collect();
        for gone in there.values() {
            self.files.forget(&gone.meta().paths());
        }
        known.tombstones = manifest.tombstones;
        known.tombstones.iter_mut().for_each(Tombstone::leave_blocks_only);
        known.version = Some(version);
        Ok(true)
    }
}
