//! Files whose every range has a known checksum.
//!
//! Parquet pages as they are usually written carry no checksum, and most single bit flips in them decode into other
//! values without a complaint. So there is a CRC32C for every 64 KiB of a sample file, at the end of its index file, and
//! nothing is decoded that was not checked. Whoever keeps a block's [`FileMeta`] (the manifest) holds one number over all
//! of them, and over those of the index file.

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
    /// CRC32C of the checksums of all ranges, each four bytes, little-endian.
    #[serde(default)]
    pub crc32c: u32,
    /// The checksums themselves, in manifests from before they stood at the end of index files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub range_crc32c: Vec<u32>,
}

impl FileMeta {
    /// Describes a file that lies whole in `bytes`.
    pub fn of(path: &str, bytes: &[u8]) -> FileMeta {
        FileMeta::with_ranges(path.to_owned(), bytes.len() as u64, &checksums(bytes))
    }

    /// Describes a file with these checksums of its ranges.
    pub fn with_ranges(path: String, bytes: u64, ranges: &[u32]) -> FileMeta {
        FileMeta { path, bytes, crc32c: over_all(ranges), range_crc32c: Vec::new() }
    }

    /// Whether these are the checksums of its ranges.
    fn has_ranges(&self, ranges: &[u32]) -> bool {
        if self.range_crc32c.is_empty() { self.crc32c == over_all(ranges) } else { self.range_crc32c == ranges }
    }

    /// # Errors
    /// The file at `path` has other checksums.
    pub fn check_ranges(&self, path: &Path, ranges: &[u32]) -> Result<(), BlockError> {
        if self.has_ranges(ranges) {
            return Ok(());
        }
        let (expected, got) = match self.range_crc32c.as_slice() {
            [] => (self.crc32c, over_all(ranges)),
            known => (over_all(known), over_all(ranges)),
        };
        Err(BlockError::Checksum { path: path.to_owned(), offset: 0, len: self.bytes as usize, expected, got })
    }
}

/// CRC32C of every [`RANGE_BYTES`] of `bytes`.
pub fn checksums(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(RANGE_BYTES).map(crc32c::crc32c).collect()
}

fn over_all(ranges: &[u32]) -> u32 {
    ranges.iter().fold(0, |crc, range| crc32c::crc32c_append(crc, &range.to_le_bytes()))
}

/// All bytes of a file that is read whole, checked. What a near copy has wrong is asked of the original.
///
/// # Errors
/// The file is missing, of another length, or damaged.
pub fn read_whole(source: &dyn BlockFiles, meta: &FileMeta, copy: Copy) -> Result<Bytes, BlockError> {
    let path = source.path(meta);
    check_len(source, &path, meta)?;
    let all = 0..meta.bytes;
    let mut read = source.read(meta, std::slice::from_ref(&all), copy).map_err(BlockError::io("read", &path))?;
    let bytes = read.pop().unwrap_or_default();
    match meta.check_ranges(&path, &checksums(&bytes)) {
        Ok(()) => Ok(bytes),
        Err(error) if copy == Copy::Nearest && source.is_far() => {
            tracing::warn!(?path, %error, "a cached copy is damaged: reading the original");
            read_whole(source, meta, Copy::Original)
        }
        Err(error) => Err(error),
    }
}

fn check_len(source: &dyn BlockFiles, path: &Path, meta: &FileMeta) -> Result<(), BlockError> {
    let bytes = source.len(meta).map_err(BlockError::io("open", path))?;
    if bytes != meta.bytes {
        return Err(BlockError::malformed(path, format!("{bytes} bytes long instead of {}", meta.bytes)));
    }
    Ok(())
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

    /// Syncs the file; it is then known as `name`. Beside its description, the checksums of its ranges.
    pub fn finish(mut self, name: String) -> Result<(FileMeta, Vec<u32>), BlockError> {
        if !self.pending.is_empty() {
            self.put_range().map_err(BlockError::io("write", &self.path))?;
        }
        self.file.sync().map_err(BlockError::io("sync", &self.path))?;
        Ok((FileMeta::with_ranges(name, self.bytes, &self.range_crc32c), self.range_crc32c))
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
    /// CRC32C of every range.
    ranges: Vec<u32>,
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
    /// The file that `meta` describes in `source`, by the checksums of its ranges where `meta` does not have them itself.
    ///
    /// # Errors
    /// The file is missing or has another length than `meta` says, or these are another file's checksums.
    pub fn open(
        source: Arc<dyn BlockFiles>,
        meta: FileMeta,
        ranges: Option<Vec<u32>>,
    ) -> Result<CheckedFile, BlockError> {
        let path = source.path(&meta);
        check_len(&*source, &path, &meta)?;
        let ranges = ranges.unwrap_or_else(|| meta.range_crc32c.clone());
        if ranges.len() as u64 != meta.bytes.div_ceil(RANGE_BYTES as u64) {
            return Err(BlockError::malformed(&path, "has another number of checksums than of ranges"));
        }
        meta.check_ranges(&path, &ranges)?;
        Ok(CheckedFile { source, path, meta, ranges })
    }

    /// The file that `meta` describes, whose every byte is read to know the checksums of its ranges.
    ///
    /// # Errors
    /// As [`CheckedFile::open`], or a byte is wrong.
    pub fn measure(source: Arc<dyn BlockFiles>, meta: FileMeta) -> Result<CheckedFile, BlockError> {
        let path = source.path(&meta);
        check_len(&*source, &path, &meta)?;
        let mut ranges = Vec::new();
        for part in parts(meta.bytes, source.is_far()) {
            let read = source.read(&meta, std::slice::from_ref(&part), Copy::Original);
            let read = read.map_err(BlockError::io("read", &path))?;
            ranges.extend(read.iter().flat_map(|bytes| checksums(bytes)));
        }
        CheckedFile::open(source, meta, Some(ranges))
    }

    /// CRC32C of every range.
    pub fn ranges(&self) -> &[u32] {
        &self.ranges
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of memory that what is known of the file takes, about.
    pub fn memory_bytes(&self) -> usize {
        self.ranges.len() * size_of::<u32>() + 2 * self.meta.path.len() + self.path.as_os_str().len()
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
        let expected = self.ranges.iter().skip((range.start / RANGE_BYTES as u64) as usize);
        for (index, (piece, &expected)) in window.bytes.chunks(RANGE_BYTES).zip(expected).enumerate() {
            let got = crc32c::crc32c(piece);
            if got != expected {
                let offset = range.start + (index * RANGE_BYTES) as u64;
                return Err(BlockError::Checksum { path: self.path.clone(), offset, len: piece.len(), expected, got });
            }
        }
        Ok(())
    }

    /// Reads and checks every byte of the original, a few ranges at a time.
    pub fn verify(&self) -> Result<(), BlockError> {
        check_len(&*self.source, &self.path, &self.meta)?;
        for part in parts(self.meta.bytes, self.is_far()) {
            self.read_ranges(std::slice::from_ref(&part), Copy::Original)?;
        }
        Ok(())
    }
}

/// A file of `bytes` in parts of whole ranges that are read at once.
fn parts(bytes: u64, far: bool) -> impl Iterator<Item = Range<u64>> {
    let step = if far { 128 } else { 16 } * RANGE_BYTES as u64;
    (0..bytes).step_by(step as usize).map(move |start| start..bytes.min(start + step))
}
