//! The list of live blocks, and how far the log is in them.
//!
//! ```text
//! manifest.jsonl   {"crc32c":"1a2b3c4d"}     over the second line
//!                  {"version":1,...}         the manifest
//! ```
//!
//! It is replaced in one step: a crash leaves the old list or the new one.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::block::BlockMeta;
use crate::env::{Files, atomic_write};
use crate::tombstone::Tombstone;

const FILE: &str = "manifest.jsonl";
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
    /// Oldest first: of two samples at one time the one in the earlier block counts.
    pub blocks: Vec<BlockMeta>,
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
            blocks: Vec::new(),
        }
    }
}

impl Manifest {
    /// The manifest in `dir`; an empty one where there is none.
    ///
    /// # Errors
    /// It is damaged or of a later version. Nothing is guessed: without it live and dead blocks look alike.
    pub fn load(files: &dyn Files, dir: &Path) -> Result<Manifest, Error> {
        let path = dir.join(FILE);
        let bytes = match files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let corrupt = |reason: &str| Error::Corrupt { path: path.clone(), reason: reason.to_owned() };
        let mut lines = bytes.splitn(2, |&byte| byte == b'\n');
        let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return Err(corrupt("cut short")) };
        let checksum: Checksum = serde_json::from_slice(first).map_err(|_| corrupt("has no checksum"))?;
        let body = second.strip_suffix(b"\n").unwrap_or(second);
        if checksum.crc32c != format!("{:08x}", crc32c::crc32c(body)) {
            return Err(corrupt("checksum does not match"));
        }
        let manifest: Manifest = serde_json::from_slice(body).map_err(|error| corrupt(&error.to_string()))?;
        if manifest.version != VERSION {
            return Err(corrupt(&format!("version {} is not known to this program", manifest.version)));
        }
        Ok(manifest)
    }

    /// Replaces the manifest in `dir`, durably.
    pub fn store(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let failed = |error: serde_json::Error| Error::io("encode", &path)(error.into());
        let body = serde_json::to_vec(self).map_err(failed)?;
        let checksum = Checksum { crc32c: format!("{:08x}", crc32c::crc32c(&body)) };
        let mut bytes = serde_json::to_vec(&checksum).map_err(failed)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        bytes.push(b'\n');
        atomic_write(files, &path, &bytes).map_err(Error::io("write", &path))
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
