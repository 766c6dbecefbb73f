//! An object store as the home of blocks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::blocks::ObjectBlocks;
use super::cache::Cache;
use super::directory::{BLOCKS_DIR, remove_strangers};
use super::record::Record;
use super::sources::{SourceBlocks, Sources};
use super::{ObjectOptions, ObjectStats};
use crate::Error;
use crate::block::{BlockFiles, BlockMeta, Shelf};
use crate::env::Env;
use crate::env::objects::{Counted, Objects, Put};
use crate::manifest::Manifest;

const UPLOAD_DIR: &str = "upload";
const CACHE_DIR: &str = "cache";
const VIEWS: &str = "views.sql";
/// Blocks that are brought at the same time when a directory moves.
const MOVERS: usize = 4;

/// A prefix that is written by this data directory only.
#[derive(Debug)]
pub struct ObjectHome {
    env: Env,
    objects: Arc<Counted>,
    blocks: Arc<ObjectBlocks>,
    cache: Arc<Cache>,
    record: Mutex<Record>,
    sources: Sources,
    upload_dir: PathBuf,
    keep_removed_ms: i64,
    /// Whether nothing can lie there that the manifest does not know of.
    is_swept: AtomicBool,
    views_put: Mutex<bool>,
    /// Paths of what was brought and had no manifest yet.
    unnamed: Mutex<HashSet<String>>,
}

impl ObjectHome {
    pub fn open(
        env: &Env,
        dir: &Path,
        options: &ObjectOptions,
        shelf: &Arc<Shelf>,
    ) -> Result<(ObjectHome, Manifest), Error> {
        let objects = Arc::new(Counted::new(options.objects.clone()));
        if let Some(twice) = options.read_from.iter().find(|source| source.place() == objects.place()) {
            let reason = format!("{} is where blocks are written: it need not be read from as well", twice.place());
            return Err(Error::InvalidOptions { reason });
        }
        let (record, mut manifest) = Record::open(env, dir, objects.clone(), options.take_over)?;
        let cache_dir = options.cache_dir.clone().unwrap_or_else(|| dir.join(CACHE_DIR));
        let index_dir = cache_dir.join("index");
        env.files.create_dir_all(&index_dir).map_err(Error::io("create", &index_dir))?;
        let cache = Cache::open(env.files.clone(), &cache_dir.join(BLOCKS_DIR), options.cache_bytes)
            .map_err(Error::io("open", &cache_dir))?;
        let cache = Arc::new(cache);
        let of = |objects: Arc<Counted>| {
            Arc::new(ObjectBlocks::new(objects, cache.clone(), env.files.clone(), index_dir.clone()))
        };
        let upload_dir = dir.join(UPLOAD_DIR);
        env.files.create_dir_all(&upload_dir).map_err(Error::io("create", &upload_dir))?;
        let home = ObjectHome {
            env: env.clone(),
            blocks: of(objects.clone()),
            sources: Sources::new(&options.read_from, shelf, of),
            objects,
            cache: cache.clone(),
            record: Mutex::new(record),
            upload_dir,
            keep_removed_ms: options.keep_removed_ms,
            is_swept: AtomicBool::new(false),
            views_put: Mutex::new(false),
            unnamed: Mutex::default(),
        };
        remove_strangers(&*env.files, &home.upload_dir, &Manifest::default())?;
        if manifest.put_number == 0 && !manifest.blocks.is_empty() {
            home.move_blocks(dir, &mut manifest)?;
        }
        if manifest.put_number != 0 {
            remove_strangers(&*env.files, dir, &Manifest::default())?;
        }
        Ok((home, manifest))
    }

    /// Brings the blocks of a directory that was their home until now.
    fn move_blocks(&self, dir: &Path, manifest: &mut Manifest) -> Result<(), Error> {
        tracing::info!(
            blocks = manifest.blocks.len(),
            place = self.objects.place(),
            "moving blocks to the object store"
        );
        let per_thread = manifest.blocks.len().div_ceil(MOVERS);
        std::thread::scope(|scope| {
            let bring = |part: &[BlockMeta]| part.iter().try_for_each(|meta| self.put_files(dir, meta));
            let threads: Vec<_> =
                manifest.blocks.chunks(per_thread).map(|part| scope.spawn(move || bring(part))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().try_for_each(join)
        })?;
        self.store(manifest)
    }

    pub fn upload_dir(&self) -> &Path {
        &self.upload_dir
    }

    pub fn blocks(&self) -> Arc<dyn BlockFiles> {
        self.blocks.clone()
    }

    pub fn keep_removed_ms(&self) -> i64 {
        self.keep_removed_ms
    }

    pub fn store(&self, manifest: &mut Manifest) -> Result<(), Error> {
        let stored = self.record.lock().store(manifest);
        let unnamed = &mut *self.unnamed.lock();
        if !unnamed.is_empty() {
            let named: HashSet<&String> =
                manifest.blocks.iter().flat_map(|block| &block.files).map(|file| &file.path).collect();
            unnamed.retain(|path| !named.contains(path));
        }
        if stored.is_err() {
            self.is_swept.store(false, Ordering::Relaxed);
        }
        stored
    }

    pub fn bring(&self, meta: &BlockMeta) -> Result<(), Error> {
        self.unnamed.lock().extend(meta.paths());
        let put = self.put_files(&self.upload_dir, meta);
        if put.is_err() {
            self.unnamed.lock().retain(|path| !meta.files.iter().any(|file| file.path == *path));
            self.is_swept.store(false, Ordering::Relaxed);
        }
        for file in &meta.files {
            let path = self.upload_dir.join(&file.path);
            if let Err(error) = self.env.files.remove(&path) {
                tracing::warn!(?path, %error, "could not remove a file that was uploaded");
            }
        }
        put
    }

    /// Puts the files of a block below `dir`, the index first: who lists sample files never sees one that is not ready.
    fn put_files(&self, dir: &Path, meta: &BlockMeta) -> Result<(), Error> {
        self.put_views(dir)?;
        for file in meta.files.iter().rev() {
            let path = dir.join(&file.path);
            let bytes = Bytes::from(self.env.files.read(&path).map_err(Error::io("read", &path))?);
            self.objects.put(&file.path, bytes.clone(), Put::Always).map_err(Error::Objects)?;
            self.blocks.keep(file, &bytes);
        }
        Ok(())
    }

    /// Puts the views for DuckDB once a life, as they are for this place.
    fn put_views(&self, dir: &Path) -> Result<(), Error> {
        // Held meanwhile: blocks are brought by several threads, and each would put them.
        let mut is_put = self.views_put.lock();
        if *is_put {
            return Ok(());
        }
        let path = dir.join(VIEWS);
        let text = self.env.files.read(&path).map_err(Error::io("read", &path))?;
        let here = format!("'{}/{BLOCKS_DIR}/", self.objects.place().trim_end_matches('/'));
        let text = String::from_utf8_lossy(&text).replace(&format!("'{BLOCKS_DIR}/"), &here);
        self.objects.put(VIEWS, text.into(), Put::Always).map_err(Error::Objects)?;
        *is_put = true;
        Ok(())
    }

    pub fn remove(&self, paths: &[String]) -> bool {
        let removed = self.objects.remove(paths);
        if let Err(error) = &removed {
            self.is_swept.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "could not remove the objects of a dead block");
        }
        self.blocks.forget(paths);
        self.unnamed.lock().retain(|path| !paths.contains(path));
        removed.is_ok()
    }

    /// Only while the store has the manifest that we have: what another one names must stay until it is overwritten.
    pub fn sweep(&self, manifest: &Manifest) -> Result<(), Error> {
        if self.is_swept.load(Ordering::Relaxed) || !self.record.lock().is_settled() {
            return Ok(());
        }
        let live = manifest.blocks.iter().flat_map(|block| &block.files).map(|file| &file.path);
        let known: HashSet<&String> = live.chain(manifest.removed.iter().flat_map(|block| &block.files)).collect();
        let there = self.objects.list(BLOCKS_DIR).map_err(Error::Objects)?;
        let unnamed = self.unnamed.lock().clone();
        let is_stranger = |name: &String| !known.contains(name) && !unnamed.contains(name);
        let strangers: Vec<String> = there.into_iter().map(|object| object.name).filter(is_stranger).collect();
        if !strangers.is_empty() {
            tracing::info!(objects = strangers.len(), "removing objects that no block uses");
            self.objects.remove(&strangers).map_err(Error::Objects)?;
        }
        self.is_swept.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub fn refresh_sources(&self) -> Option<SourceBlocks> {
        self.sources.refresh()
    }

    pub fn stats(&self) -> ObjectStats {
        let mut stats = ObjectStats { cache: self.cache.stats(), ..ObjectStats::default() };
        self.sources.count(&mut stats);
        stats.requests = stats.requests.plus(self.objects.counts());
        stats
    }
}
