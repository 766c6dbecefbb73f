//! Files whose every range has a known checksum.
//!
//! Parquet pages as they are usually written carry no checksum, and most single bit flips in them decode into other
//! values without a complaint. So whoever keeps a block's [`FileMeta`] (the manifest) holds a CRC32C for every 64 KiB of
//! its files, and nothing is decoded that was not checked.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BlockError;
use crate::env::{AppendFile, Files};

/// Bytes under one checksum; the last range of a file may be shorter.
pub const RANGE_BYTES: usize = 64 * 1024;

/// A file of a block, as the manifest knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Relative to the data directory, with `/`.
    pub path: String,
    pub bytes: u64,
    /// CRC32C of every [`RANGE_BYTES`], in order.
    pub range_crc32c: Vec<u32>,
}

impl FileMeta {
    /// Describes a file that lies whole in `bytes`.
    pub fn of(path: &str, bytes: &[u8]) -> FileMeta {
        let range_crc32c = bytes.chunks(RANGE_BYTES).map(crc32c::crc32c).collect();
        FileMeta { path: path.to_owned(), bytes: bytes.len() as u64, range_crc32c }
    }
}

/// Writes a file, one append and one checksum a range.
pub struct RangeWriter {
    file: Box<dyn AppendFile>,
    path: PathBuf,
    pending: Vec<u8>,
    bytes: u64,
    range_crc32c: Vec<u32>,
}

impl RangeWriter {
    pub fn create(files: &dyn Files, path: &Path) -> Result<RangeWriter, BlockError> {
        let file = files.create(path).map_err(BlockError::io("create", path))?;
        let pending = Vec::with_capacity(RANGE_BYTES);
        Ok(RangeWriter { file, path: path.to_owned(), pending, bytes: 0, range_crc32c: Vec::new() })
    }

    fn put_range(&mut self) -> io::Result<()> {
        self.file.append(&self.pending)?;
        self.range_crc32c.push(crc32c::crc32c(&self.pending));
        self.bytes += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Syncs the file; it is then known as `name`.
    pub fn finish(mut self, name: String) -> Result<FileMeta, BlockError> {
        if !self.pending.is_empty() {
            self.put_range().map_err(BlockError::io("write", &self.path))?;
        }
        self.file.sync().map_err(BlockError::io("sync", &self.path))?;
        Ok(FileMeta { path: name, bytes: self.bytes, range_crc32c: self.range_crc32c })
    }
}

impl Write for RangeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(RANGE_BYTES - self.pending.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        if self.pending.len() == RANGE_BYTES {
            self.put_range()?;
        }
        Ok(taken)
    }

    /// Nothing: ranges are written when they are full, and at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that gives out only bytes whose checksum is right.
#[derive(Debug)]
pub struct CheckedFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    meta: FileMeta,
}

/// Checked bytes and where in the file they begin.
#[derive(Debug, Clone, Default)]
pub struct Window {
    pub start: u64,
    pub bytes: Bytes,
}

impl Window {
    /// The bytes `[offset, offset + len)` of the file, where the window holds them all.
    pub fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}

impl CheckedFile {
    /// The file that `meta` describes below `dir`, which is not looked at yet.
    pub fn new(files: Arc<dyn Files>, dir: &Path, meta: FileMeta) -> CheckedFile {
        CheckedFile { files, path: dir.join(&meta.path), meta }
    }

    /// # Errors
    /// The file is missing or has another length than `meta` says.
    pub fn open(files: Arc<dyn Files>, dir: &Path, meta: FileMeta) -> Result<CheckedFile, BlockError> {
        let file = CheckedFile::new(files, dir, meta);
        file.check_len()?;
        Ok(file)
    }

    fn check_len(&self) -> Result<(), BlockError> {
        let (path, meta) = (&self.path, &self.meta);
        let bytes = self.files.len(path).map_err(BlockError::io("open", path))?;
        if bytes != meta.bytes {
            return Err(BlockError::malformed(path, format!("{bytes} bytes long instead of {}", meta.bytes)));
        }
        if meta.range_crc32c.len() as u64 != meta.bytes.div_ceil(RANGE_BYTES as u64) {
            return Err(BlockError::malformed(path, "has another number of checksums than of ranges"));
        }
        Ok(())
    }

    pub fn meta(&self) -> &FileMeta {
        &self.meta
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.meta.bytes
    }

    /// The whole ranges that `[offset, offset + len)` touches, every one checked.
    pub fn window(&self, offset: u64, len: usize) -> Result<Window, BlockError> {
        let range = RANGE_BYTES as u64;
        let Some(end) = offset.checked_add(len as u64).filter(|&end| end <= self.meta.bytes) else {
            return Err(BlockError::malformed(&self.path, format!("too short for {len} bytes at {offset}")));
        };
        let start = offset / range * range;
        let end = end.div_ceil(range).saturating_mul(range).min(self.meta.bytes).max(start);
        let bytes = self
            .files
            .read_range(&self.path, start, (end - start) as usize)
            .map_err(BlockError::io("read", &self.path))?;
        let expected = self.meta.range_crc32c.iter().skip((start / range) as usize);
        for (index, (piece, &expected)) in bytes.chunks(RANGE_BYTES).zip(expected).enumerate() {
            let got = crc32c::crc32c(piece);
            if got != expected {
                let offset = start + (index * RANGE_BYTES) as u64;
                return Err(BlockError::Checksum { path: self.path.clone(), offset, len: piece.len(), expected, got });
            }
        }
        Ok(Window { start, bytes: Bytes::from(bytes) })
    }

    /// All bytes, checked.
    pub fn read(&self) -> Result<Bytes, BlockError> {
        self.check_len()?;
        let len = usize::try_from(self.meta.bytes).map_err(|_| BlockError::malformed(&self.path, "too long"))?;
        Ok(self.window(0, len)?.bytes)
    }

    /// Reads and checks every byte, a few ranges at a time.
    pub fn verify(&self) -> Result<(), BlockError> {
        self.check_len()?;
        const STEP: u64 = 16 * RANGE_BYTES as u64;
        for offset in (0..self.meta.bytes).step_by(STEP as usize) {
            self.window(offset, STEP.min(self.meta.bytes - offset) as usize)?;
        }
        Ok(())
    }
}
