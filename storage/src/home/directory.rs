//! Blocks beside the log.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{POINTER, Pointer};
use super::recover;
use crate::Error;
use crate::block::{BlockFiles, LocalBlocks};
use crate::env::{Env, Files};
use crate::manifest::Manifest;

/// Where blocks lie, below the data directory or the prefix.
pub const BLOCKS_DIR: &str = "samples";

/// The data directory as the home of blocks.
#[derive(Debug)]
pub struct DirectoryHome {
    env: Env,
    dir: PathBuf,
    blocks: Arc<dyn BlockFiles>,
}

impl DirectoryHome {
    pub fn open(env: &Env, dir: &Path) -> Result<(DirectoryHome, Manifest), Error> {
        if let Some(pointer) = Pointer::load(&*env.files, dir)? {
            let reason =
                format!("the blocks of {dir:?} are at {}: name it as storage.blocks.url ({POINTER})", pointer.url);
            return Err(Error::InvalidOptions { reason });
        }
        let manifest = recover::load_or_rebuild(env, dir)?;
        if !Manifest::is_there(&*env.files, dir) {
            // Before any block is written: one that is missing later is lost, and blocks are not what an unfinished
            // first flush or import has left.
            manifest.store(&*env.files, dir)?;
        }
        // An earlier life may have failed to make its last manifest durable. It must be before anything it does not
        // name is removed.
        env.files.sync_dir(dir).map_err(Error::io("sync", dir))?;
        remove_strangers(&*env.files, dir, &manifest)?;
        let blocks = Arc::new(LocalBlocks::new(env.files.clone(), dir));
        Ok((DirectoryHome { env: env.clone(), dir: dir.to_owned(), blocks }, manifest))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn blocks(&self) -> Arc<dyn BlockFiles> {
        self.blocks.clone()
    }

    pub fn store(&self, manifest: &Manifest) -> Result<(), Error> {
        manifest.store(&*self.env.files, &self.dir)
    }

    pub fn remove(&self, paths: &[String]) -> bool {
        let mut removed = true;
        for path in paths {
            let path = self.dir.join(path);
            if let Err(error) = self.env.files.remove(&path) {
                tracing::warn!(?path, %error, "could not remove the file of a dead block");
                removed = false;
            }
        }
        removed
    }
}

/// Removes files below `dir` that look like those of blocks and that `manifest` does not name.
pub fn remove_strangers(files: &dyn Files, dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let known = manifest.blocks.iter().flat_map(|block| &block.files);
    let known: HashSet<PathBuf> = known.map(|file| dir.join(&file.path)).collect();
    let blocks_dir = dir.join(BLOCKS_DIR);
    let there = files.list_tree(&blocks_dir).map_err(Error::io("list", &blocks_dir))?;
    let of_a_block = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("parquet" | "index" | "tmp"))
    };
    for path in there.into_iter().filter(|path| of_a_block(path) && !known.contains(path)) {
        tracing::info!(?path, "removing a file that no block uses");
        files.remove(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}
