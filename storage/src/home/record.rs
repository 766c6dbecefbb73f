//! Which manifest counts, where several programs can write it.
//!
//! ```text
//! PREFIX/manifest.jsonl   in the object store: the manifest that counts, replaced only if it is still the one known
//! DATA/blocks.json        on the local disk: where the blocks are, the name of the log, what was last put or tried
//! DATA/manifest.jsonl     a copy, to start with while the store cannot be reached
//! ```
//!
//! Each content carries a number of its own, noted in `DATA/blocks.json` before it is put. So after a put without an
//! answer, and after a crash, what stands in the store is known to be ours or somebody else's. A manifest names the
//! log that its sequences count: another data directory's log is never taken for flushed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::recover;
use crate::Error;
use crate::env::objects::{ObjectError, Objects, Put, Version};
use crate::env::{Env, Files, atomic_write};
use crate::manifest::{FILE, Manifest};

pub const POINTER: &str = "blocks.json";
/// Puts that may still be on their way.
const ATTEMPTS: usize = 16;

/// What the data directory knows of its blocks elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pointer {
    pub url: String,
    pub log: String,
    /// Number of the content that was seen last, 0 where there was none.
    pub known: u64,
    /// Numbers of the contents that were tried since, and a few from before: they may still arrive.
    pub attempts: Vec<u64>,
}

impl Pointer {
    /// # Errors
    /// It is there and cannot be read.
    pub fn load(files: &dyn Files, dir: &Path) -> Result<Option<Pointer>, Error> {
        let path = dir.join(POINTER);
        match files.read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::Corrupt { path, reason: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    fn store(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        let path = dir.join(POINTER);
        let bytes = serde_json::to_vec(self).map_err(|error| Error::io("encode", &path)(error.into()))?;
        atomic_write(files, &path, &bytes).map_err(Error::io("write", &path))
    }
}

/// The manifest of record of one data directory.
#[derive(Debug)]
pub struct Record {
    env: Env,
    dir: PathBuf,
    objects: Arc<dyn Objects>,
    pointer: Pointer,
    /// Of the content that we know; `None` where we know of none.
    version: Option<Version>,
    /// Whether what stands in the store is what we know, and stays so: not after a put without an answer, nor before the
    /// first word from the store.
    settled: bool,
}

impl Record {
    /// Finds the manifest that counts. A directory whose blocks lie beside its log, and that names no other place yet, is
    /// given its name; `take_over` allows to go on with what another directory left.
    ///
    /// # Errors
    /// [`Error::Foreign`] where the manifest is another directory's; [`Error::Objects`] where the store cannot be reached
    /// and no copy is here.
    pub fn open(
        env: &Env,
        dir: &Path,
        objects: Arc<dyn Objects>,
        take_over: bool,
    ) -> Result<(Record, Manifest), Error> {
        let files = &*env.files;
        let pointer = match Pointer::load(files, dir)? {
            Some(pointer) if pointer.url == objects.place() => pointer,
            Some(pointer) => {
                let reason = format!("the blocks of {dir:?} are at {}, not at {}", pointer.url, objects.place());
                return Err(Error::InvalidOptions { reason });
            }
            None => {
                let log = format!("{:016x}", env.random.next_u64());
                let pointer = Pointer { url: objects.place().to_owned(), log, known: 0, attempts: Vec::new() };
                pointer.store(files, dir)?;
                pointer
            }
        };
        let copy = if pointer.known == 0 {
            // Nothing was brought there yet that it could name.
            recover::load_or_rebuild(env, dir)?
        } else {
            Manifest::load(files, dir).or_else(|error| match error {
                Error::Corrupt { .. } => {
                    tracing::error!(%error, "the local copy of the manifest is damaged");
                    Ok(Manifest::default())
                }
                other => Err(other),
            })?
        };
        let mut record =
            Record { env: env.clone(), dir: dir.to_owned(), objects, pointer, version: None, settled: false };
        let manifest = match record.fetch() {
            Ok(Some((manifest, version))) => record.accept(manifest, version, &copy, take_over)?,
            Ok(None) if record.pointer.known != 0 || copy.put_number != 0 => return Err(record.vanished()),
            Ok(None) => {
                record.settled = record.pointer.attempts.is_empty();
                Manifest { log: record.pointer.log.clone(), ..copy }
            }
            // Everything that is not in this copy is in the log: that is cut only once the copy is written.
            Err(Error::Objects(error)) if copy.log == record.pointer.log && copy.put_number != 0 => {
                tracing::error!(%error, "the object store cannot be reached: starting with the last manifest known");
                copy
            }
            // What came after the copy is in the log for the same reason.
            Err(error @ Error::Corrupt { .. })
                if copy.log == record.pointer.log && copy.put_number != 0 && record.is_ours(&copy) =>
            {
                tracing::error!(%error, "the manifest in the object store is damaged: putting the last one known there");
                record.version = record.stored()?.map(|(_, version)| version);
                record.settled = true;
                let mut manifest = copy;
                record.store(&mut manifest)?;
                manifest
            }
            Err(Error::Corrupt { reason, .. })
                if record.pointer.known != 0 || (take_over && copy.blocks.is_empty()) =>
            {
                record.rebuild(&reason)?
            }
            Err(Error::Corrupt { path, reason }) => {
                let reason = format!(
                    "{reason}; where no other data directory uses these blocks any more, take them over \
                     (storage.blocks.take-over) from an empty one: then it is made again from the blocks that are there"
                );
                return Err(Error::Corrupt { path, reason });
            }
            Err(error) => return Err(error),
        };
        Ok((record, manifest))
    }

    /// Puts a manifest in the place of the damaged one, which is kept under another name, made from the blocks there.
    fn rebuild(&mut self, reason: &str) -> Result<Manifest, Error> {
        let mut manifest = recover::rebuild_from_objects(&self.objects, reason)?;
        if let Some((damaged, version)) = self.stored()? {
            self.objects.put(&format!("{FILE}.damaged"), damaged, Put::Always).map_err(Error::Objects)?;
            self.version = Some(version);
        }
        self.settled = true;
        self.store(&mut manifest)?;
        Ok(manifest)
    }

    /// Whether what stands in the store is what we know.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    fn fetch(&self) -> Result<Option<(Manifest, Version)>, Error> {
        let Some((bytes, version)) = self.stored()? else { return Ok(None) };
        let path = PathBuf::from(format!("{}/{FILE}", self.objects.place()));
        Ok(Some((Manifest::decode(&path, &bytes)?, version)))
    }

    /// What stands in the store in the place of the manifest.
    fn stored(&self) -> Result<Option<(Bytes, Version)>, Error> {
        match self.objects.get(FILE, None) {
            Ok(there) => Ok(there),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::Objects(error)),
        }
    }

    fn accept(
        &mut self,
        there: Manifest,
        version: Version,
        copy: &Manifest,
        take_over: bool,
    ) -> Result<Manifest, Error> {
        let place = || self.objects.place().to_owned();
        let ours = there.log == self.pointer.log && self.is_ours(&there);
        if !ours && !take_over {
            return Err(Error::Foreign { place: place(), log: there.log });
        }
        if !ours && copy.log.is_empty() && !copy.blocks.is_empty() {
            let reason = format!("blocks are both in {:?} and at {}", self.dir, place());
            return Err(Error::InvalidOptions { reason });
        }
        self.version = Some(version);
        self.pointer.known = there.put_number;
        // A later attempt may still be on its way. While nothing is put after it, it can arrive.
        self.settled = self.pointer.attempts.last().is_none_or(|last| *last == there.put_number);
        if ours {
            if there.put_number != copy.put_number {
                // An earlier life ended right after its put.
                self.write_copy(&there.encode()?)?;
            }
            return Ok(there);
        }
        // The version just seen is the one to replace, whosever it is.
        self.settled = true;
        tracing::warn!(place = place(), log = there.log, "taking blocks over from another data directory");
        let mut manifest = if there.log == self.pointer.log { there } else { there.taken_over_by(&self.pointer.log) };
        self.store(&mut manifest)?;
        Ok(manifest)
    }

    fn is_ours(&self, manifest: &Manifest) -> bool {
        manifest.put_number == self.pointer.known || self.pointer.attempts.contains(&manifest.put_number)
    }

    fn vanished(&self) -> Error {
        let reason =
            format!("it was there and is gone; to begin anew, remove {POINTER} and {FILE} from {:?}", self.dir);
        Error::Corrupt { path: PathBuf::from(format!("{}/{FILE}", self.objects.place())), reason }
    }

    /// Makes `manifest` the one that counts, and gives it its number.
    ///
    /// # Errors
    /// [`Error::Foreign`] where somebody else has written it meanwhile. After any other error it may count or not, and
    /// what it says anew must not be relied on, nor what it no longer says be removed.
    pub fn store(&mut self, manifest: &mut Manifest) -> Result<(), Error> {
        if !self.settled {
            // Nothing more is sent after what may be on its way before it is known what arrived.
            self.look(0)?;
        }
        self.settled = false;
        manifest.put_number = self.env.random.next_u64() | 1;
        manifest.log.clone_from(&self.pointer.log);
        let bytes = Bytes::from(manifest.encode()?);
        self.pointer.attempts.push(manifest.put_number);
        let spare = self.pointer.attempts.len().saturating_sub(ATTEMPTS);
        self.pointer.attempts.drain(..spare);
        self.pointer.store(&*self.env.files, &self.dir)?;
        // Another attempt of ours can arrive late, each once.
        for _ in 0..=ATTEMPTS {
            let condition = self.version.as_ref().map_or(Put::Absent, Put::Unchanged);
            match self.objects.put(FILE, bytes.clone(), condition) {
                Ok(version) => {
                    self.version = Some(version);
                    self.pointer.known = manifest.put_number;
                    return self.keep_copy(&bytes);
                }
                Err(ObjectError::Conflict { .. }) => {}
                // It may have happened: ask, once.
                Err(error) => match self.look(manifest.put_number) {
                    Ok(true) => return self.keep_copy(&bytes),
                    Ok(false) | Err(_) => return Err(Error::Objects(error)),
                },
            }
            if self.look(manifest.put_number)? {
                return self.keep_copy(&bytes);
            }
        }
        Err(Error::Foreign { place: self.objects.place().to_owned(), log: self.pointer.log.clone() })
    }

    /// Learns what stands in the store; whether it is the content with this number.
    fn look(&mut self, put_number: u64) -> Result<bool, Error> {
        let Some((there, version)) = self.fetch()? else {
            return if self.pointer.known != 0 { Err(self.vanished()) } else { Ok(false) };
        };
        if there.log != self.pointer.log || !self.is_ours(&there) {
            return Err(Error::Foreign { place: self.objects.place().to_owned(), log: there.log });
        }
        self.version = Some(version);
        self.pointer.known = there.put_number;
        Ok(there.put_number == put_number)
    }

    /// The copy comes after the original and before anything is cut from the log.
    fn keep_copy(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_copy(bytes)?;
        self.settled = true;
        Ok(())
    }

    fn write_copy(&self, bytes: &[u8]) -> Result<(), Error> {
        let path = self.dir.join(FILE);
        atomic_write(&*self.env.files, &path, bytes).map_err(Error::io("write", &path))
    }
}
