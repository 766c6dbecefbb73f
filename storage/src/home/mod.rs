//! Where blocks and the list of live ones are: below the data directory, or in an object store.
//!
//! ```text
//!                 directory               object store
//! written in      DATA/samples            DATA/upload, then put
//! read from       DATA/samples            the cache, else the store
//! manifest        DATA/manifest.jsonl     PREFIX/manifest.jsonl, and a copy of it
//! dead blocks     removed at once         removed after a while: other servers may read them
//! ```
//!
//! The log and the head are always in the data directory, and know nothing of this.

mod blocks;
mod cache;
mod directory;
mod objects;
mod plain;
mod record;
mod recover;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use cache::CacheStats;
pub(crate) use plain::PlainObjects;
pub(crate) use record::Record;
pub(crate) use recover::{ASIDE_DIR, set_aside};
pub(crate) use sources::SourceBlocks;

use crate::Error;
use crate::block::{BlockFiles, BlockMeta, LiveBlock, Shelf};
use crate::env::Env;
use crate::env::objects::{Objects, RequestCounts};
use crate::manifest::Manifest;
use crate::store::StoreOptions;
use directory::DirectoryHome;
use objects::ObjectHome;

/// Where the blocks of a store go that do not stay in its directory.
#[derive(Debug, Clone)]
pub struct ObjectOptions {
    pub objects: Arc<dyn Objects>,
    /// What other stores have put elsewhere: read, never changed.
    pub read_from: Vec<Arc<dyn Objects>>,
    /// How often to look for new blocks there.
    pub refresh_ms: i64,
    /// Where to keep what was read; by default a folder of the data directory.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of samples in the cache, about. Indexes of live blocks are kept whatever they take.
    pub cache_bytes: u64,
    /// Objects of dead blocks stay so long, for others who read them and have an older manifest.
    pub keep_removed_ms: i64,
    /// Whether to go on with blocks that another data directory has left there.
    pub take_over: bool,
}

impl ObjectOptions {
    pub fn new(objects: Arc<dyn Objects>) -> ObjectOptions {
        ObjectOptions {
            objects,
            read_from: Vec::new(),
            refresh_ms: 60_000,
            cache_dir: None,
            cache_bytes: 10 << 30,
            keep_removed_ms: 900_000,
            take_over: false,
        }
    }
}

/// What was asked of object stores, and what the cache spared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectStats {
    pub requests: RequestCounts,
    pub cache: CacheStats,
    /// Other prefixes to read, those that could be read last time, and their blocks.
    pub sources: u64,
    pub sources_readable: u64,
    pub source_blocks: u64,
}

/// The address of the blocks of `dir`, where they are not in it.
///
/// # Errors
/// What says so cannot be read.
pub fn address(env: &Env, dir: &Path) -> Result<Option<String>, Error> {
    Ok(record::Pointer::load(&*env.files, dir)?.map(|pointer| pointer.url))
}

/// Where blocks are.
#[derive(Debug)]
pub(crate) struct Home {
    place: Place,
    /// Where all that are open stand, those of other stores as well.
    shelf: Arc<Shelf>,
}

#[derive(Debug)]
enum Place {
    Directory(DirectoryHome),
    Objects(Box<ObjectHome>),
}

impl Home {
    /// Finds the home of the blocks of `options.dir` and the manifest that counts.
    ///
    /// # Errors
    /// The manifest is damaged, cannot be reached, or is another's.
    pub fn open(options: &StoreOptions, env: &Env) -> Result<(Home, Manifest), Error> {
        let shelf = Arc::new(Shelf::new(options.index_bytes));
        let (place, manifest) = match &options.blocks {
            None => {
                let (home, manifest) = DirectoryHome::open(env, &options.dir)?;
                (Place::Directory(home), manifest)
            }
            Some(objects) => {
                let (home, manifest) = ObjectHome::open(env, &options.dir, objects, &shelf)?;
                (Place::Objects(Box::new(home)), manifest)
            }
        };
        Ok((Home { place, shelf }, manifest))
    }

    /// Makes `manifest` the one that counts.
    ///
    /// # Errors
    /// Nobody knows then which one a crash would leave: what either names must stay.
    pub fn store(&self, manifest: &mut Manifest) -> Result<(), Error> {
        match &self.place {
            Place::Directory(home) => home.store(manifest),
            Place::Objects(home) => home.store(manifest),
        }
    }

    /// The directory that new blocks are written to.
    pub fn writing_dir(&self) -> &Path {
        match &self.place {
            Place::Directory(home) => home.dir(),
            Place::Objects(home) => home.upload_dir(),
        }
    }

    /// Brings a block home that was written to [`Home::writing_dir`].
    ///
    /// # Errors
    /// It is not there; what is there of it goes with [`Home::sweep`].
    pub fn bring(&self, meta: &BlockMeta) -> Result<(), Error> {
        match &self.place {
            Place::Directory(_) => Ok(()),
            Place::Objects(home) => home.bring(meta),
        }
    }

    /// The files of all blocks.
    pub fn blocks(&self) -> Arc<dyn BlockFiles> {
        match &self.place {
            Place::Directory(home) => home.blocks(),
            Place::Objects(home) => home.blocks(),
        }
    }

    /// A block of the manifest.
    pub fn block(&self, meta: &BlockMeta) -> Arc<LiveBlock> {
        Arc::new(LiveBlock::new(self.blocks(), meta.clone(), self.shelf.clone()))
    }

    /// Where open blocks stand.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Whether opening a block may take a request, and should wait until somebody needs it.
    pub fn is_far(&self) -> bool {
        matches!(self.place, Place::Objects(_))
    }

    /// How long the files of dead blocks stay.
    pub fn keep_removed_ms(&self) -> i64 {
        match &self.place {
            Place::Directory(_) => 0,
            Place::Objects(home) => home.keep_removed_ms(),
        }
    }

    /// Removes the files of a block that no manifest names; whether that could be done. Failures are told in the log, and
    /// [`Home::sweep`] comes later.
    pub fn remove(&self, paths: &[String]) -> bool {
        match &self.place {
            Place::Directory(home) => home.remove(paths),
            Place::Objects(home) => home.remove(paths),
        }
    }

    /// Removes what failures and crashes have left behind, if there can be anything.
    ///
    /// # Errors
    /// It could not be listed or removed. The next call tries again.
    pub fn sweep(&self, manifest: &Manifest) -> Result<(), Error> {
        match &self.place {
            Place::Directory(_) => Ok(()),
            Place::Objects(home) => home.sweep(manifest),
        }
    }

    /// The blocks of others, where anything about them is new since the last call.
    pub fn refresh_sources(&self) -> Option<SourceBlocks> {
        match &self.place {
            Place::Directory(_) => None,
            Place::Objects(home) => home.refresh_sources(),
        }
    }

    /// `None` where no object store is used.
    pub fn stats(&self) -> Option<ObjectStats> {
        match &self.place {
            Place::Directory(_) => None,
            Place::Objects(home) => Some(home.stats()),
        }
    }
}
