//! A manifest made again from the blocks that are there, where the one that counted is damaged or gone.
//!
//! Blocks say themselves what they are. What only the manifest knew is lost: deletions that were not carried out yet, and
//! which of the blocks were on their way out. So samples that were deleted of late may be back, and the log is replayed
//! whole, over samples that are in blocks as well; nothing that was kept is lost, and nothing is read twice.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::PlainObjects;
use super::directory::BLOCKS_DIR;
use crate::Error;
use crate::block::{BlockFiles, BlockMeta, LocalBlocks, describe};
use crate::env::objects::{ObjectError, Objects, Put};
use crate::env::{Env, Files};
use crate::manifest::{FILE, Manifest};

/// Where files go that nobody can read, as they are.
pub const ASIDE_DIR: &str = "set-aside";
/// Blocks of an object store that are looked at at the same time, each mostly waiting for an answer.
const AT_ONCE: usize = 16;

/// The manifest of `dir`, whose blocks are in it; made again where it is damaged, or where there are blocks and no manifest.
///
/// # Errors
/// As [`rebuild`]; or it is of a later version.
pub fn load_or_rebuild(env: &Env, dir: &Path) -> Result<Manifest, Error> {
    let files = &*env.files;
    let is_there = Manifest::is_there(files, dir);
    match Manifest::load(files, dir) {
        Err(Error::Corrupt { reason, .. }) => rebuild(env, dir, &reason),
        // Without it every block would look dead.
        Ok(_) if !is_there && !pairs(files, dir)?.is_empty() => rebuild(env, dir, "is missing"),
        other => other,
    }
}

/// Paths of sample file and index file, by the name of their block; those that are there.
fn pairs(files: &dyn Files, dir: &Path) -> Result<BTreeMap<String, [Option<String>; 2]>, Error> {
    let blocks_dir = dir.join(BLOCKS_DIR);
    let mut pairs: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
    for path in files.list_tree(&blocks_dir).map_err(Error::io("list", &blocks_dir))? {
        let which = match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => 0,
            Some("index") => 1,
            Some(_) | None => continue,
        };
        let relative = path.strip_prefix(dir).ok().and_then(Path::to_str);
        let (Some(name), Some(relative)) = (path.file_stem().and_then(|name| name.to_str()), relative) else {
            continue;
        };
        pairs.entry(name.to_owned()).or_default()[which] = Some(relative.to_owned());
    }
    Ok(pairs)
}

/// The manifest of an object store made again from the blocks there. It is not put. The objects of blocks that cannot say
/// what they are get second names in `set-aside`; the first go with those of all that no manifest names.
///
/// # Errors
/// The store cannot be reached.
pub fn rebuild_from_objects(objects: &Arc<dyn Objects>, reason: &str) -> Result<Manifest, Error> {
    let mut pairs: BTreeMap<String, [Option<(String, u64)>; 2]> = BTreeMap::new();
    for object in objects.list(BLOCKS_DIR).map_err(Error::Objects)? {
        let path = Path::new(&object.name);
        let which = match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => 0,
            Some("index") => 1,
            Some(_) | None => continue,
        };
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        pairs.entry(name.to_owned()).or_default()[which] = Some((object.name.clone(), object.bytes));
    }
    let source: Arc<dyn BlockFiles> = Arc::new(PlainObjects(objects.clone()));
    let place = Path::new(objects.place());
    let look = |(name, pair): (&String, &[Option<(String, u64)>; 2])| -> Result<Option<BlockMeta>, Error> {
        let (samples, index) = match pair {
            [Some(samples), Some(index)] => (samples, index),
            // Put before the sample file, or removed after it.
            [None, _] => return Ok(None),
            [Some(samples), None] => {
                let reason = "its index is missing";
                tracing::error!(
                    block = name,
                    reason,
                    to = ASIDE_DIR,
                    "a block does not say what it is: it is set aside"
                );
                return set_objects_aside(objects, [&samples.0]).map(|()| None);
            }
        };
        let described = describe(source.clone(), name, (&samples.0, samples.1), (&index.0, index.1));
        match described {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.is_lost() => {
                tracing::error!(block = name, %error, to = ASIDE_DIR, "a block does not say what it is: it is set aside");
                set_objects_aside(objects, [&samples.0, &index.0]).map(|()| None)
            }
            Err(error) => Err(Error::block(place)(error)),
        }
    };
    let all: Vec<_> = pairs.iter().collect();
    let per_thread = all.len().div_ceil(AT_ONCE).max(1);
    let looked: Vec<Result<Option<BlockMeta>, Error>> = std::thread::scope(|scope| {
        let look = &look;
        let threads: Vec<_> = all
            .chunks(per_thread)
            .map(|part| scope.spawn(move || part.iter().map(|&pair| look(pair)).collect::<Vec<_>>()))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    let found = looked.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(manifest_of(found.into_iter().flatten().collect(), reason))
}

/// Gives objects second names in the folder for what cannot be read. One that is missing has none.
fn set_objects_aside<'p>(objects: &Arc<dyn Objects>, names: impl IntoIterator<Item = &'p String>) -> Result<(), Error> {
    for name in names {
        let file = Path::new(name).file_name().and_then(|file| file.to_str()).unwrap_or(name);
        match objects.get(name, None) {
            Ok(Some((bytes, _))) => {
                objects.put(&format!("{ASIDE_DIR}/{file}"), bytes, Put::Always).map_err(Error::Objects)?;
            }
            Ok(None) | Err(ObjectError::NotFound { .. }) => {}
            Err(error) => return Err(Error::Objects(error)),
        }
    }
    Ok(())
}

/// A manifest of `blocks`, of which nothing else is known.
fn manifest_of(mut blocks: Vec<BlockMeta>, reason: &str) -> Manifest {
    // Where ranges overlap, what was merged holds the earlier samples.
    blocks.sort_by_key(|block: &BlockMeta| (block.min_ms, Reverse(block.level)));
    let manifest = Manifest { blocks, ..Manifest::default() };
    tracing::error!(
        reason,
        blocks = manifest.blocks.len(),
        samples = manifest.blocks.iter().map(|b| b.sample_count).sum::<u64>(),
        "the manifest was made again from the blocks that are there: samples that were deleted of late may be back"
    );
    manifest
}

/// Makes the manifest of `dir` again, and keeps what stands in its place as `manifest.jsonl.damaged`. `reason` is what is
/// wrong with it. Blocks that cannot say what they are go to `set-aside`.
///
/// # Errors
/// A file cannot be read or written. The next try begins anew.
fn rebuild(env: &Env, dir: &Path, reason: &str) -> Result<Manifest, Error> {
    let files = &*env.files;
    let source = Arc::new(LocalBlocks::new(env.files.clone(), dir));
    let mut blocks = Vec::new();
    for (name, paths) in pairs(files, dir)? {
        let len = |path: &str| files.len(&dir.join(path)).map_err(Error::io("open", &dir.join(path)));
        let described = match &paths {
            [Some(samples), Some(index)] => {
                describe(source.clone(), &name, (samples, len(samples)?), (index, len(index)?))
                    .map_err(Error::block(dir))
            }
            [Some(samples), None] => {
                Err(Error::Corrupt { path: dir.join(samples), reason: "its index is missing".to_owned() })
            }
            // The rest of a block that was on its way out.
            [None, _] => continue,
        };
        match described {
            Ok(meta) => blocks.push(meta),
            Err(error) if error.is_lost() => {
                tracing::error!(block = name, %error, to = ASIDE_DIR, "a block does not say what it is: it is set aside");
                set_aside(files, dir, paths.iter().flatten())?;
            }
            Err(error) => return Err(error),
        }
    }
    let manifest = manifest_of(blocks, reason);
    let (path, kept) = (dir.join(FILE), dir.join(format!("{FILE}.damaged")));
    if files.len(&path).is_ok() {
        files.rename(&path, &kept).map_err(Error::io("rename", &path))?;
    }
    manifest.store(files, dir)?;
    Ok(manifest)
}

/// Gives files below `dir` second names in its folder for what cannot be read. One that is missing has none.
///
/// # Errors
/// They could not be given, or not durably.
pub fn set_aside<'p>(
    files: &dyn Files,
    dir: &Path,
    paths: impl IntoIterator<Item = &'p String>,
) -> Result<PathBuf, Error> {
    let aside = dir.join(ASIDE_DIR);
    files.create_dir_all(&aside).map_err(Error::io("create", &aside))?;
    for path in paths {
        let from = dir.join(path);
        let to = aside.join(from.file_name().unwrap_or_default());
        match files.link_or_copy(&from, &to) {
            // An earlier try came as far as this.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(Error::io("copy", &from)(error)),
            Ok(()) => {}
        }
    }
    files.sync_dir(&aside).map_err(Error::io("sync", &aside))?;
    Ok(aside)
}
