//! The list of live blocks, and how far the log is in them.
//!
//! ```text
//! manifest.jsonl   {"crc32c":"1a2b3c4d"}     over the second line
//!                  {"version":1,...}         the manifest
//! ```
//!
//! It is replaced in one step: a crash leaves the old list or the new one. Where blocks lie in an object store, the
//! manifest that counts lies there too, and the one beside the log is its copy (`src/home/record.rs`).

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::block::BlockMeta;
use crate::env::{Files, atomic_write};
use crate::tombstone::Tombstone;

pub const FILE: &str = "manifest.jsonl";
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    /// Samples before it that the log has under a sequence below `flushed_sequence` are in blocks.
    pub closed_before_ms: i64,
    pub flushed_sequence: u64,
    /// Below it the log has nothing that is not in blocks: what is missing there was removed.
    pub log_from_sequence: u64,
    /// Deletions that are not carried out yet.
    #[serde(default)]
    pub tombstones: Vec<Tombstone>,
    /// The log that the sequences count; empty where blocks and log are in one directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// How far logs were flushed that blocks were taken over from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_logs: Vec<LogPosition>,
    /// Tells this content from all others that were ever put into an object store; 0 elsewhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub put_number: u64,
    /// Blocks that are live no more, whose objects others may still read for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<RemovedBlock>,
    /// Oldest first: of two samples at one time the one in the earlier block counts.
    pub blocks: Vec<BlockMeta>,
}

/// What [`Manifest`] says of its own log, for another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogPosition {
    pub log: String,
    pub closed_before_ms: i64,
    pub flushed_sequence: u64,
    pub log_from_sequence: u64,
    /// What was deleted in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tombstones: Vec<Tombstone>,
}

/// A block on its way out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemovedBlock {
    pub name: String,
    /// Paths of its files.
    pub files: Vec<String>,
    pub at_ms: i64,
}

/// Logs whose positions are kept.
const EARLIER_LOGS: usize = 32;

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Checksum {
    crc32c: String,
}

impl Default for Manifest {
    fn default() -> Manifest {
        Manifest {
            version: VERSION,
            closed_before_ms: i64::MIN,
            flushed_sequence: 0,
            log_from_sequence: 0,
            tombstones: Vec::new(),
            log: String::new(),
            earlier_logs: Vec::new(),
            put_number: 0,
            removed: Vec::new(),
            blocks: Vec::new(),
        }
    }
}

impl Manifest {
    /// Whether `dir` has one.
    pub fn is_there(files: &dyn Files, dir: &Path) -> bool {
        files.len(&dir.join(FILE)).is_ok()
    }

    /// The manifest in `dir`; an empty one where there is none.
    ///
    /// # Errors
    /// It is damaged or of a later version.
    pub fn load(files: &dyn Files, dir: &Path) -> Result<Manifest, Error> {
        let path = dir.join(FILE);
        let bytes = match files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        Manifest::decode(&path, &bytes)
    }

    /// The manifest in `bytes`, which came from `path`.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest, Error> {
        let corrupt = |reason: &str| Error::Corrupt { path: path.to_owned(), reason: reason.to_owned() };
        let mut lines = bytes.splitn(2, |&byte| byte == b'\n');
        let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return Err(corrupt("cut short")) };
        let checksum: Checksum = serde_json::from_slice(first).map_err(|_| corrupt("has no checksum"))?;
        let body = second.strip_suffix(b"\n").unwrap_or(second);
        if checksum.crc32c != format!("{:08x}", crc32c::crc32c(body)) {
            return Err(corrupt("checksum does not match"));
        }
        let Versioned { version } = serde_json::from_slice(body).map_err(|error| corrupt(&error.to_string()))?;
        if version != VERSION {
            return Err(Error::TooNew { path: path.to_owned(), version });
        }
        let manifest: Manifest = serde_json::from_slice(body).map_err(|error| corrupt(&error.to_string()))?;
        Ok(manifest)
    }

    /// Replaces the manifest in `dir`, durably.
    pub fn store(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        atomic_write(files, &path, &self.encode()?).map_err(Error::io("write", &path))
    }

    /// The bytes that [`Manifest::decode`] reads.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let failed = |error: serde_json::Error| Error::io("encode", Path::new(FILE))(error.into());
        let body = serde_json::to_vec(self).map_err(failed)?;
        let checksum = Checksum { crc32c: format!("{:08x}", crc32c::crc32c(&body)) };
        let mut bytes = serde_json::to_vec(&checksum).map_err(failed)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The same blocks for another log: that one's own position where it was here before, else the beginning, so that
    /// nothing in it is taken for flushed.
    pub fn taken_over_by(self, log: &str) -> Manifest {
        let mut earlier_logs = self.earlier_logs;
        // Of that log we have nothing, and whoever comes back with it must not bring back what was deleted.
        let mut tombstones = self.tombstones;
        let in_log = tombstones.iter().filter(|tombstone| tombstone.head || tombstone.log_before > 0);
        let in_log = in_log.map(|tombstone| Tombstone { blocks: Vec::new(), ..tombstone.clone() }).collect();
        tombstones.iter_mut().for_each(Tombstone::leave_blocks_only);
        tombstones.retain(|tombstone| !tombstone.is_done());
        earlier_logs.push(LogPosition {
            log: self.log,
            closed_before_ms: self.closed_before_ms,
            flushed_sequence: self.flushed_sequence,
            log_from_sequence: self.log_from_sequence,
            tombstones: in_log,
        });
        let fresh = LogPosition {
            log: log.to_owned(),
            closed_before_ms: self.closed_before_ms,
            flushed_sequence: 0,
            log_from_sequence: 0,
            tombstones: Vec::new(),
        };
        let known = earlier_logs.iter().position(|position| position.log == log);
        let own = known.map_or(fresh, |at| earlier_logs.remove(at));
        tombstones.extend(own.tombstones);
        earlier_logs.drain(..earlier_logs.len().saturating_sub(EARLIER_LOGS));
        Manifest {
            log: own.log,
            closed_before_ms: own.closed_before_ms,
            flushed_sequence: own.flushed_sequence,
            log_from_sequence: own.log_from_sequence,
            earlier_logs,
            tombstones,
            ..self
        }
    }

    /// Newest timestamp in a block.
    pub fn max_ms(&self) -> Option<i64> {
        self.blocks.iter().map(|block| block.max_ms).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::Sim;

    #[test]
    fn a_manifest_comes_back_and_a_damaged_one_does_not() {
        let sim = Sim::new(1);
        let files = sim.env().files;
        let dir = Path::new("/data");
        assert_eq!(Manifest::load(&*files, dir).unwrap(), Manifest::default());
        let manifest = Manifest { closed_before_ms: 7, flushed_sequence: 3, ..Manifest::default() };
        manifest.store(&*files, dir).unwrap();
        assert_eq!(Manifest::load(&*files, dir).unwrap(), manifest);
        let length = files.len(&dir.join(FILE)).unwrap() as usize;
        for byte in 0..length - 1 {
            sim.flip_bit(&dir.join(FILE), byte, 2);
            assert!(Manifest::load(&*files, dir).is_err(), "byte {byte}");
            sim.flip_bit(&dir.join(FILE), byte, 2);
        }
    }
}
