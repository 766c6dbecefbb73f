//! Looking at a data directory, and setting right what can be, without running a store over it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::Error;
use crate::block::{self, Block, BlockError, BlockFiles, BlockMeta, LocalBlocks};
use crate::env::Env;
use crate::env::objects::{ObjectError, Objects, Put};
use crate::home::{ASIDE_DIR, PlainObjects, Record, set_aside};
use crate::manifest::{FILE, Manifest};

pub use crate::home::address;

/// The blocks of a data directory, which are in it or in an object store. Takes no lock: a server may run over them.
#[derive(Debug)]
pub struct Place<'a> {
    env: &'a Env,
    dir: &'a Path,
    objects: Option<Arc<dyn Objects>>,
    files: Arc<dyn BlockFiles>,
}

impl<'a> Place<'a> {
    /// The blocks of `dir`, which are in `objects` where there are any.
    ///
    /// # Errors
    /// The directory says that its blocks are elsewhere.
    pub fn new(env: &'a Env, dir: &'a Path, objects: Option<Arc<dyn Objects>>) -> Result<Place<'a>, Error> {
        let elsewhere = |url: &String| objects.as_ref().is_none_or(|objects| objects.place() != url);
        if let Some(url) = address(env, dir)?.filter(elsewhere) {
            return Err(Error::InvalidOptions { reason: format!("the blocks of {dir:?} are at {url}") });
        }
        let files: Arc<dyn BlockFiles> = match &objects {
            Some(objects) => Arc::new(PlainObjects(objects.clone())),
            None => Arc::new(LocalBlocks::new(env.files.clone(), dir)),
        };
        Ok(Place { env, dir, objects, files })
    }

    /// The blocks, oldest first.
    ///
    /// # Errors
    /// There is no manifest, it is damaged, or it cannot be reached.
    pub fn blocks(&self) -> Result<Vec<BlockMeta>, Error> {
        let missing = |path: &Path| {
            let source = io::Error::new(io::ErrorKind::NotFound, "there is no manifest");
            Error::Io { action: "read", path: path.to_owned(), source }
        };
        let Some(objects) = &self.objects else {
            if !Manifest::is_there(&*self.env.files, self.dir) {
                return Err(missing(self.dir));
            }
            return Ok(Manifest::load(&*self.env.files, self.dir)?.blocks);
        };
        let path = format!("{}/{FILE}", objects.place().trim_end_matches('/'));
        match objects.get(FILE, None) {
            Ok(Some((bytes, _))) => Ok(Manifest::decode(Path::new(&path), &bytes)?.blocks),
            Ok(None) | Err(ObjectError::NotFound { .. }) => Err(missing(Path::new(&path))),
            Err(error) => Err(Error::Objects(error)),
        }
    }

    /// Opens one of them for reading.
    ///
    /// # Errors
    /// Its files are not what they should be.
    pub fn open(&self, meta: &BlockMeta) -> Result<Block, Error> {
        Block::load(self.files.clone(), meta.clone()).map_err(Error::block(self.dir))
    }

    /// Reads every byte of a block and compares all checksums.
    ///
    /// # Errors
    /// The first wrong one, or a file that cannot be read.
    pub fn verify(&self, meta: &BlockMeta) -> Result<(), Error> {
        block::verify(self.files.clone(), meta).map_err(Error::block(self.dir))
    }

    /// Verifies all blocks. Indexes are made again from their sample files; blocks whose sample file is damaged go to
    /// `set-aside`, off the manifest, as they are: nothing is cut or thrown away.
    ///
    /// # Errors
    /// [`Error::Locked`] while a server runs over the directory, [`Error::Foreign`] where the objects are another
    /// directory's; a manifest that is missing or damaged; or a file that cannot be read or written. Blocks are set aside
    /// in one step at the end.
    pub fn repair(&self) -> Result<Repaired, Error> {
        self.blocks()?;
        let _lock = self.env.files.lock(self.dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { dir: self.dir.to_owned() },
            _ => Error::io("lock", self.dir)(error),
        })?;
        let (mut record, mut manifest) = match &self.objects {
            None => (None, Manifest::load(&*self.env.files, self.dir)?),
            Some(_) if address(self.env, self.dir)?.is_none() => {
                let reason = format!("{:?} is not the data directory of these blocks", self.dir);
                return Err(Error::InvalidOptions { reason });
            }
            Some(objects) => {
                let (record, manifest) = Record::open(self.env, self.dir, objects.clone(), false)?;
                (Some(record), manifest)
            }
        };
        let mut repaired = Repaired::default();
        let mut kept = Vec::with_capacity(manifest.blocks.len());
        let mut bad = Vec::new();
        for meta in std::mem::take(&mut manifest.blocks) {
            let error = match block::verify(self.files.clone(), &meta) {
                Ok(()) => {
                    repaired.sound += 1;
                    kept.push(meta);
                    continue;
                }
                Err(error) if error.is_lost() => error,
                // Who cannot be reached is not damaged.
                Err(error) => return Err(Error::block(self.dir)(error)),
            };
            // From a sample file that is whole the same index follows.
            match block::rebuild_index(self.files.clone(), &meta) {
                Ok(meta) => {
                    repaired.rebuilt.push(meta.name.clone());
                    kept.push(meta);
                }
                Err(again) if again.is_lost() => {
                    repaired.set_aside.push((meta.name.clone(), with_causes(&error)));
                    bad.push(meta);
                }
                Err(again) => return Err(Error::block(self.dir)(again)),
            }
        }
        if repaired.rebuilt.is_empty() && bad.is_empty() {
            return Ok(repaired);
        }
        let paths: Vec<String> = bad.iter().flat_map(BlockMeta::paths).collect();
        if !bad.is_empty() {
            repaired.aside = self.set_aside(&paths)?;
        }
        manifest.blocks = kept;
        match &mut record {
            Some(record) => record.store(&mut manifest)?,
            None => manifest.store(&*self.env.files, self.dir)?,
        }
        self.remove(&paths)?;
        Ok(repaired)
    }

    /// Where they are then.
    fn set_aside(&self, paths: &[String]) -> Result<String, Error> {
        let Some(objects) = &self.objects else {
            return Ok(set_aside(&*self.env.files, self.dir, paths)?.display().to_string());
        };
        for path in paths {
            let bytes: Bytes = match objects.get(path, None) {
                Ok(Some((bytes, _))) => bytes,
                Ok(None) | Err(ObjectError::NotFound { .. }) => continue,
                Err(error) => return Err(Error::Objects(error)),
            };
            let name = path.rsplit('/').next().unwrap_or_default();
            objects.put(&format!("{ASIDE_DIR}/{name}"), bytes, Put::Always).map_err(Error::Objects)?;
        }
        Ok(format!("{}/{ASIDE_DIR}", objects.place().trim_end_matches('/')))
    }

    fn remove(&self, paths: &[String]) -> Result<(), Error> {
        if let Some(objects) = &self.objects {
            return objects.remove(paths).map_err(Error::Objects);
        }
        for path in paths.iter().map(|path| self.dir.join(path)) {
            match self.env.files.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
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
    pub aside: String,
}

fn with_causes(error: &BlockError) -> String {
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
    use crate::env::objects::open_url;
    use crate::{ObjectOptions, Sample, Store, StoreOptions};
    use pilaster_model::{Labels, TimeRange};

    fn filled(options: StoreOptions) -> Arc<Store> {
        let store = Store::open(options, Env::real()).unwrap();
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
        let place = Place::new(&env, dir.path(), None).unwrap();
        assert!(matches!(place.blocks(), Err(Error::Io { .. })));
        let store = filled(StoreOptions::new(dir.path()));
        assert!(matches!(place.repair(), Err(Error::Locked { .. })));
        drop(store);
        let flip = |path: &str, at: usize| {
            let path = dir.path().join(path);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
        };
        repair_three(&place, flip);
        let aside = std::fs::read_dir(dir.path().join(ASIDE_DIR)).unwrap().count();
        assert_eq!(aside, 2, "both files of the block are kept");
        let store = Store::open(StoreOptions::new(dir.path()), Env::real()).unwrap();
        assert_eq!(samples(&store), 100);
    }

    #[test]
    fn blocks_in_an_object_store_are_repaired_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let url = format!("file://{}", dir.path().join("objects").display());
        let objects = open_url(&url, &[], env.files.clone()).unwrap();
        let data = dir.path().join("data");
        let options = StoreOptions { blocks: Some(ObjectOptions::new(objects.clone())), ..StoreOptions::new(&data) };
        drop(filled(options.clone()));
        let refused = Place::new(&env, &data, None).unwrap_err().to_string();
        assert!(refused.contains("are at file://"), "{refused}");
        let place = Place::new(&env, &data, Some(objects.clone())).unwrap();
        let flip = |path: &str, at: usize| {
            let mut bytes = objects.get(path, None).unwrap().unwrap().0.to_vec();
            bytes[at] ^= 4;
            objects.put(path, bytes.into(), Put::Always).unwrap();
        };
        // Others may look, and leave it at that.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Place::new(&env, elsewhere.path(), Some(objects.clone())).unwrap();
        assert_eq!(other.blocks().unwrap().len(), 3);
        assert!(matches!(other.repair(), Err(Error::InvalidOptions { .. })));
        repair_three(&place, flip);
        assert_eq!(objects.list(ASIDE_DIR).unwrap().len(), 2);
        assert_eq!(objects.list("samples").unwrap().len(), 4);
        std::fs::remove_dir_all(data.join("cache")).unwrap();
        let store = Store::open(options, Env::real()).unwrap();
        assert_eq!((samples(&store), store.stats().blocks_set_aside), (100, 0));
    }

    /// Damages samples of the first block and the index of the second one.
    fn repair_three(place: &Place<'_>, flip: impl Fn(&str, usize)) {
        let blocks = place.blocks().unwrap();
        assert_eq!(blocks.len(), 3);
        assert_eq!(place.repair().unwrap().sound, 3);
        flip(&blocks[0].files[0].path, 100);
        flip(&blocks[1].files[1].path, 20);
        assert!(place.verify(&blocks[0]).unwrap_err().is_corruption());
        assert!(place.verify(&blocks[1]).unwrap_err().is_corruption());
        place.verify(&blocks[2]).unwrap();
        assert_eq!(place.open(&blocks[2]).unwrap().series_count(), 1);
        let repaired = place.repair().unwrap();
        assert_eq!((repaired.sound, &repaired.rebuilt), (1, &vec![blocks[1].name.clone()]));
        assert_eq!(repaired.set_aside[0].0, blocks[0].name);
        assert!(repaired.aside.ends_with(ASIDE_DIR), "{}", repaired.aside);
        assert_eq!(place.repair().unwrap().sound, 2);
        assert_eq!(place.blocks().unwrap().len(), 2);
    }

    #[test]
    fn a_snapshot_is_a_store_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(StoreOptions::new(dir.path()));
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
