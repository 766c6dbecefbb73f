//! Looking at a data directory, and setting right what can be, without running a store over it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::block::{self, Block, BlockMeta, LocalBlocks};
use crate::env::Env;
use crate::home::set_aside;
use crate::manifest::Manifest;

/// The blocks of the data directory `dir`, oldest first. Takes no lock: a server may run over the directory.
///
/// # Errors
/// There is no manifest, or it is damaged.
pub fn list_blocks(env: &Env, dir: &Path) -> Result<Vec<BlockMeta>, Error> {
    if !Manifest::is_there(&*env.files, dir) {
        let source = io::Error::new(io::ErrorKind::NotFound, "the directory has no manifest");
        return Err(Error::Io { action: "read", path: dir.to_owned(), source });
    }
    Ok(Manifest::load(&*env.files, dir)?.blocks)
}

/// Refuses a directory whose blocks are elsewhere.
fn local(env: &Env, dir: &Path) -> Result<(), Error> {
    match crate::home::address(env, dir)? {
        None => Ok(()),
        Some(url) => {
            let reason = format!("the blocks of {dir:?} are at {url}, which this cannot look at");
            Err(Error::InvalidOptions { reason })
        }
    }
}

/// Opens one of them for reading.
///
/// # Errors
/// Its files are not what they should be.
pub fn open_block(env: &Env, dir: &Path, meta: &BlockMeta) -> Result<Block, Error> {
    local(env, dir)?;
    Block::open(env.files.clone(), dir, meta.clone()).map_err(Error::block(dir))
}

/// Reads every byte of a block and compares all checksums.
///
/// # Errors
/// The first wrong one, or a file that cannot be read.
pub fn verify_block(env: &Env, dir: &Path, meta: &BlockMeta) -> Result<(), Error> {
    local(env, dir)?;
    block::verify(Arc::new(LocalBlocks::new(env.files.clone(), dir)), meta).map_err(Error::block(dir))
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    pub sound: usize,
    /// Names of blocks whose index was made again.
    pub rebuilt: Vec<String>,
    /// Blocks that cannot be read: name, and what is wrong.
    pub set_aside: Vec<(String, String)>,
    /// Where those are now.
    pub aside: PathBuf,
}

/// Verifies all blocks of `dir`. Indexes are made again from their sample files; blocks whose sample file is damaged go to
/// `set-aside`, off the manifest, as they are: nothing is cut or thrown away.
///
/// # Errors
/// [`Error::Locked`] while a server runs over `dir`; a manifest that is missing or damaged; or a file that cannot be
/// written. Blocks are set aside in one step at the end.
pub fn repair(env: &Env, dir: &Path) -> Result<Repaired, Error> {
    list_blocks(env, dir)?;
    local(env, dir)?;
    let lock = env.files.lock(dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_owned() },
        _ => Error::io("lock", dir)(error),
    })?;
    let mut manifest = Manifest::load(&*env.files, dir)?;
    let mut repaired = Repaired::default();
    let mut kept = Vec::with_capacity(manifest.blocks.len());
    let mut bad = Vec::new();
    for meta in std::mem::take(&mut manifest.blocks) {
        let Err(error) = verify_block(env, dir, &meta) else {
            repaired.sound += 1;
            kept.push(meta);
            continue;
        };
        // From a sample file that is whole the same index follows.
        match block::verify_samples(Arc::new(LocalBlocks::new(env.files.clone(), dir)), &meta)
            .and_then(|()| block::rebuild_index(env.files.clone(), dir, &meta))
        {
            Ok(meta) => {
                repaired.rebuilt.push(meta.name.clone());
                kept.push(meta);
            }
            Err(_) => {
                repaired.set_aside.push((meta.name.clone(), with_causes(&error)));
                bad.push(meta);
            }
        }
    }
    if repaired.rebuilt.is_empty() && bad.is_empty() {
        return Ok(repaired);
    }
    repaired.aside = set_aside(&*env.files, dir, bad.iter().flat_map(|meta| &meta.files).map(|file| &file.path))?;
    manifest.blocks = kept;
    manifest.store(&*env.files, dir)?;
    for file in bad.iter().flat_map(|meta| &meta.files) {
        let path = dir.join(&file.path);
        match env.files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    drop(lock);
    Ok(repaired)
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Store, StoreOptions};
    use pilaster_model::{Labels, TimeRange};

    fn filled(dir: &Path) -> Arc<Store> {
        let store = Store::open(StoreOptions::new(dir), Env::real()).unwrap();
        for hour in [0, 2, 4] {
            let series = store.series(&Labels::from_pairs([("__name__", "m"), ("hour", &format!("{hour}"))]));
            let samples: Vec<Sample> = (0..50)
                .map(|n| Sample { series, timestamp_ms: hour * 3_600_000 + n * 1000, value: n as f64, start_ms: None })
                .collect();
            store.append_batch(&samples, &[]).unwrap();
            store.flush().unwrap();
        }
        store
    }

    fn samples(store: &Store) -> usize {
        let snapshot = store.snapshot();
        let series = snapshot.select(&[], TimeRange::ALL).unwrap();
        snapshot.read_many(&series, TimeRange::ALL).unwrap().iter().map(|read| read.values.len()).sum()
    }

    #[test]
    fn a_damaged_block_is_set_aside_and_an_index_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        assert!(matches!(list_blocks(&env, dir.path()), Err(Error::Io { .. })));
        let store = filled(dir.path());
        assert!(matches!(repair(&env, dir.path()), Err(Error::Locked { .. })));
        drop(store);
        let blocks = list_blocks(&env, dir.path()).unwrap();
        assert_eq!(blocks.len(), 3);
        assert_eq!(repair(&env, dir.path()).unwrap().sound, 3);
        let flip = |path: &str, at: usize| {
            let path = dir.path().join(path);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
        };
        flip(&blocks[0].files[0].path, 100);
        flip(&blocks[1].files[1].path, 20);
        assert!(verify_block(&env, dir.path(), &blocks[0]).unwrap_err().is_corruption());
        assert!(verify_block(&env, dir.path(), &blocks[1]).unwrap_err().is_corruption());
        verify_block(&env, dir.path(), &blocks[2]).unwrap();
        let repaired = repair(&env, dir.path()).unwrap();
        assert_eq!((repaired.sound, &repaired.rebuilt), (1, &vec![blocks[1].name.clone()]));
        assert_eq!(repaired.set_aside[0].0, blocks[0].name);
        let aside = std::fs::read_dir(&repaired.aside).unwrap().count();
        assert_eq!(aside, 2, "both files of the block are kept");
        assert_eq!(repair(&env, dir.path()).unwrap().sound, 2);
        let store = Store::open(StoreOptions::new(dir.path()), env).unwrap();
        assert_eq!(samples(&store), 100);
    }

    #[test]
    fn a_snapshot_is_a_store_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path());
        let series = store.series(&Labels::from_pairs([("__name__", "m"), ("hour", "6")]));
        let sample = Sample { series, timestamp_ms: 6 * 3_600_000, value: 1.0, start_ms: None };
        store.append_batch(&[sample], &[]).unwrap();
        for (name, with_head, expected) in [("a", true, 151), ("b", false, 150)] {
            let to = dir.path().join("snapshots").join(name);
            store.snapshot_into(&to, with_head).unwrap();
            assert!(store.snapshot_into(&to, with_head).is_err(), "it is there already");
            let copy = Store::open(StoreOptions::new(&to), Env::real()).unwrap();
            assert_eq!(samples(&copy), expected);
        }
        assert_eq!(samples(&store), 151);
        // What the store does later is not the snapshot's business.
        store.delete(&[], TimeRange::ALL).unwrap();
        store.clean_tombstones().unwrap();
        let copy = Store::open(StoreOptions::new(dir.path().join("snapshots/a")), Env::real()).unwrap();
        assert_eq!(samples(&copy), 151);
    }
}
