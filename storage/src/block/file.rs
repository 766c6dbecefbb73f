//! Files whose every range has a known checksum.
//!
//! Parquet pages as they are usually written carry no checksum, and most single bit flips in them decode into other
//! values without a complaint. So whoever keeps a block's [`FileMeta`] (the manifest) holds a CRC32C for every 64 KiB of
//! its files, and nothing is decoded that was not checked.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BlockError;
use super::source::{BlockFiles, Copy};
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
    source: Arc<dyn BlockFiles>,
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
    /// The file that `meta` describes in `source`, which is not looked at yet.
    pub fn new(source: Arc<dyn BlockFiles>, meta: FileMeta) -> CheckedFile {
        CheckedFile { path: source.path(&meta), source, meta }
    }

    /// # Errors
    /// The file is missing or has another length than `meta` says.
    pub fn open(source: Arc<dyn BlockFiles>, meta: FileMeta) -> Result<CheckedFile, BlockError> {
        let file = CheckedFile::new(source, meta);
        file.check_len()?;
        Ok(file)
    }

    fn check_len(&self) -> Result<(), BlockError> {
        let (path, meta) = (&self.path, &self.meta);
        let bytes = self.source.len(meta).map_err(BlockError::io("open", path))?;
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

    /// Whether a read may be a request over the network.
    pub fn is_far(&self) -> bool {
        self.source.is_far()
    }

    /// The whole ranges that `[offset, offset + len)` touches, every one checked.
    pub fn window(&self, offset: u64, len: usize) -> Result<Window, BlockError> {
        let range = self.whole_ranges(offset, len as u64)?;
        let mut windows = self.read_ranges(std::slice::from_ref(&range), Copy::Nearest)?;
        Ok(windows.pop().unwrap_or(Window { start: range.start, bytes: Bytes::new() }))
    }

    /// [`CheckedFile::window`] for several places at once, which are `(offset, length)` in any order; windows ascend
    /// and do not overlap.
    pub fn windows(&self, places: impl IntoIterator<Item = (u64, usize)>) -> Result<Vec<Window>, BlockError> {
        let ranges = places.into_iter().map(|(offset, len)| self.whole_ranges(offset, len as u64));
        let mut ranges: Vec<Range<u64>> = ranges.collect::<Result<_, _>>()?;
        ranges.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                Some(_) | None => apart.push(range),
            }
        }
        self.read_ranges(&apart, Copy::Nearest)
    }

    fn whole_ranges(&self, offset: u64, len: u64) -> Result<Range<u64>, BlockError> {
        let range = RANGE_BYTES as u64;
        let Some(end) = offset.checked_add(len).filter(|&end| end <= self.meta.bytes) else {
            return Err(BlockError::malformed(&self.path, format!("too short for {len} bytes at {offset}")));
        };
        let start = offset / range * range;
        Ok(start..end.div_ceil(range).saturating_mul(range).min(self.meta.bytes).max(start))
    }

    /// Whole ranges, every one checked. What a near copy has wrong is asked of the original.
    fn read_ranges(&self, ranges: &[Range<u64>], copy: Copy) -> Result<Vec<Window>, BlockError> {
        let read = self.source.read(&self.meta, ranges, copy).map_err(BlockError::io("read", &self.path))?;
        let mut windows = Vec::with_capacity(ranges.len());
        for (range, bytes) in ranges.iter().zip(read) {
            let window = Window { start: range.start, bytes };
            match self.check(&window, range) {
                Ok(()) => windows.push(window),
                Err(error) if copy == Copy::Nearest && self.source.is_far() => {
                    tracing::warn!(path = ?self.path, %error, "a cached copy is damaged: reading the original");
                    windows.extend(self.read_ranges(std::slice::from_ref(range), Copy::Original)?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(windows)
    }

    fn check(&self, window: &Window, range: &Range<u64>) -> Result<(), BlockError> {
        if window.bytes.len() as u64 != range.end - range.start {
            return Err(BlockError::malformed(&self.path, format!("gave {} bytes of {range:?}", window.bytes.len())));
        }
        let expected = self.meta.range_crc32c.iter().skip((range.start / RANGE_BYTES as u64) as usize);
        for (index, (piece, &expected)) in window.bytes.chunks(RANGE_BYTES).zip(expected).enumerate() {
            let got = crc32c::crc32c(piece);
            if got != expected {
                let offset = range.start + (index * RANGE_BYTES) as u64;
                return Err(BlockError::Checksum { path: self.path.clone(), offset, len: piece.len(), expected, got });
            }
        }
        Ok(())
    }

    /// All bytes, checked.
    pub fn read(&self) -> Result<Bytes, BlockError> {
        self.check_len()?;
        let len = usize::try_from(self.meta.bytes).map_err(|_| BlockError::malformed(&self.path, "too long"))?;
        Ok(self.window(0, len)?.bytes)
    }

    /// Reads and checks every byte of the original, a few ranges at a time.
    pub fn verify(&self) -> Result<(), BlockError> {
        self.check_len()?;
        let step = if self.is_far() { 128 } else { 16 } * RANGE_BYTES as u64;
        for offset in (0..self.meta.bytes).step_by(step as usize) {
            let range = offset..self.meta.bytes.min(offset + step);
            self.read_ranges(std::slice::from_ref(&range), Copy::Original)?;
        }
        Ok(())
    }
}
