//! Ranges of files that lie far away, kept on the local disk.
//!
//! ```text
//! samples/0000000007.seg    record, record, …        written at the end of the newest segment only
//! record                    magic, file, first range, length, CRC32C of these     24 bytes, little-endian
//!                           the bytes of neighbouring ranges
//! ```
//!
//! Segments go oldest first when the cache is full; ranges of theirs that were asked for move to the newest. Nothing is
//! synced and nothing that stands here is trusted: readers compare the bytes with the manifest's checksums.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::block::RANGE_BYTES;
use crate::env::{AppendFile, Files};

const MAGIC: u32 = u32::from_le_bytes(*b"PILC");
const HEADER_BYTES: usize = 24;
/// The cache consists of about so many segments.
const SEGMENTS: u64 = 16;
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 2 * RANGE_BYTES as u64..=64 << 20;

/// What a cache did so far, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Ranges that were there, and that were not.
    pub hits: u64,
    pub misses: u64,
    pub bytes: u64,
    pub limit_bytes: u64,
}

/// A cache in one directory. A file is known by a hash of its name, a range by its position in it.
#[derive(Debug)]
pub struct Cache {
    files: Arc<dyn Files>,
    dir: PathBuf,
    limit_bytes: u64,
    segment_bytes: u64,
    state: Mutex<State>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<(u64, u32), Place>,
    /// Number and length, oldest first; the last one is being written where there is a writer.
    segments: VecDeque<(u64, u64)>,
    writer: Option<Box<dyn AppendFile>>,
    bytes: u64,
    /// A failure was told, and nothing has succeeded since.
    failing: bool,
}

/// Where a range stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    len: u32,
    asked_for: bool,
}

impl Cache {
    /// Takes over what stands in `dir`, which is made where it is not there. No bytes may stand in for `limit_bytes`:
    /// then nothing is kept.
    ///
    /// # Errors
    /// The directory cannot be made or listed.
    pub fn open(files: Arc<dyn Files>, dir: &Path, limit_bytes: u64) -> io::Result<Cache> {
        files.create_dir_all(dir)?;
        let segment_bytes = (limit_bytes / SEGMENTS).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        let mut state = State::default();
        for path in files.list(dir)? {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            match number.filter(|_| path.extension().is_some_and(|extension| extension == "seg")) {
                Some(number) => state.take_over(&*files, &path, number),
                None => continue,
            }
        }
        let cache = Cache {
            files,
            dir: dir.to_owned(),
            limit_bytes,
            segment_bytes,
            state: Mutex::new(state),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        while cache.state.lock().bytes > limit_bytes {
            cache.drop_oldest(&mut cache.state.lock(), false);
        }
        Ok(cache)
    }

    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.state.lock().bytes,
            limit_bytes: self.limit_bytes,
        }
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:010}.seg"))
    }

    /// Those of the ranges `first..end` of a file that are here: runs of neighbours with the number of their first.
    pub fn get(&self, file: u64, first: u32, end: u32) -> Vec<(u32, Bytes)> {
        let mut runs: Vec<(u32, u64, u64, usize)> = Vec::new();
        let mut found = 0;
        {
            let state = &mut *self.state.lock();
            let mut next = None;
            for number in first..end {
                let Some(place) = state.places.get_mut(&(file, number)) else { continue };
                place.asked_for = true;
                found += 1;
                match runs.last_mut() {
                    Some((_, _, _, len)) if next == Some((number, place.segment, place.offset)) => {
                        *len += place.len as usize;
                    }
                    Some(_) | None => runs.push((number, place.segment, place.offset, place.len as usize)),
                }
                next = Some((number + 1, place.segment, place.offset + u64::from(place.len)));
            }
        }
        self.hits.fetch_add(found, Ordering::Relaxed);
        self.misses.fetch_add(u64::from(end - first) - found, Ordering::Relaxed);
        // A segment may go meanwhile: then its ranges are not here.
        let read = |(number, segment, offset, len)| {
            let bytes = self.files.read_range(&self.path(segment), offset, len).ok()?;
            Some((number, Bytes::from(bytes)))
        };
        runs.into_iter().filter_map(read).collect()
    }

    /// Keeps `bytes`, the ranges of a file from number `first` on. The last one may be shorter.
    pub fn put(&self, file: u64, first: u32, bytes: &[u8]) {
        let state = &mut *self.state.lock();
        let step = (self.segment_bytes as usize / RANGE_BYTES).max(1);
        for (index, part) in bytes.chunks(step * RANGE_BYTES).enumerate() {
            let first = first + (index * step) as u32;
            match self.append(state, file, first, part) {
                Ok(()) => state.failing = false,
                Err(error) => {
                    state.writer = None;
                    if !std::mem::replace(&mut state.failing, true) {
                        tracing::warn!(dir = ?self.dir, %error, "could not keep what was read in the local cache");
                    }
                    return;
                }
            }
        }
    }

    fn append(&self, state: &mut State, file: u64, first: u32, bytes: &[u8]) -> io::Result<()> {
        let len = (HEADER_BYTES + bytes.len()) as u64;
        if len > self.limit_bytes {
            return Ok(());
        }
        if state.segments.back().is_none_or(|(_, segment_bytes)| segment_bytes + len > self.segment_bytes) {
            state.writer = None;
        }
        while state.bytes + len > self.limit_bytes && !state.segments.is_empty() {
            self.drop_oldest(state, true);
        }
        if state.writer.is_none() || state.segments.is_empty() {
            let number = state.segments.back().map_or(0, |(number, _)| number + 1);
            state.writer = Some(self.files.create(&self.path(number))?);
            state.segments.push_back((number, 0));
        }
        let (Some(writer), Some((segment, segment_bytes))) = (&mut state.writer, state.segments.back_mut()) else {
            return Ok(());
        };
        let mut record = Vec::with_capacity(len as usize);
        record.extend_from_slice(&MAGIC.to_le_bytes());
        record.extend_from_slice(&file.to_le_bytes());
        record.extend_from_slice(&first.to_le_bytes());
        record.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        record.extend_from_slice(&crc32c::crc32c(&record).to_le_bytes());
        record.extend_from_slice(bytes);
        writer.append(&record)?;
        let (segment, offset) = (*segment, *segment_bytes + HEADER_BYTES as u64);
        *segment_bytes += len;
        state.bytes += len;
        state.place(file, first, segment, offset, bytes.len() as u64);
        Ok(())
    }

    /// Removes the oldest segment. Ranges of it that were asked for since they came are kept where `again` says so, up
    /// to half a segment.
    fn drop_oldest(&self, state: &mut State, again: bool) {
        let Some((segment, segment_bytes)) = state.segments.pop_front() else { return };
        if state.segments.is_empty() {
            state.writer = None;
        }
        state.bytes -= segment_bytes;
        let path = self.path(segment);
        let mut wanted: Vec<((u64, u32), Place)> = Vec::new();
        state.places.retain(|key, place| {
            if place.segment == segment && place.asked_for {
                wanted.push((*key, *place));
            }
            place.segment != segment
        });
        wanted.truncate(if again && segment_bytes < self.limit_bytes / 4 {
            (segment_bytes / 2) as usize / RANGE_BYTES
        } else {
            0
        });
        wanted.sort_unstable_by_key(|(key, _)| *key);
        let bytes = wanted.iter().map(|(_, place)| self.files.read_range(&path, place.offset, place.len as usize));
        let bytes: Vec<io::Result<Vec<u8>>> = bytes.collect();
        if let Err(error) = self.files.remove(&path) {
            tracing::warn!(?path, %error, "could not remove a segment of the local cache");
        }
        for ((file, number), bytes) in wanted.into_iter().map(|(key, _)| key).zip(bytes) {
            if let Ok(bytes) = bytes
                && self.append(state, file, number, &bytes).is_err()
            {
                return;
            }
        }
    }
}

impl State {
    /// Notes where the ranges of a record stand.
    fn place(&mut self, file: u64, first: u32, segment: u64, offset: u64, len: u64) {
        for (index, at) in (0..len).step_by(RANGE_BYTES).enumerate() {
            let place = Place {
                segment,
                offset: offset + at,
                len: (len - at).min(RANGE_BYTES as u64) as u32,
                asked_for: false,
            };
            self.places.insert((file, first.saturating_add(index as u32)), place);
        }
    }

    /// Notes the records of a segment of an earlier life, as far as they are whole.
    fn take_over(&mut self, files: &dyn Files, path: &Path, number: u64) {
        let Ok(length) = files.len(path) else { return };
        let mut offset = 0;
        while let Ok(header) = files.read_range(path, offset, HEADER_BYTES) {
            let word =
                |at: usize| header.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
            let len = u64::from(word(16));
            let start = offset + HEADER_BYTES as u64;
            let whole = word(0) == MAGIC && word(20) == crc32c::crc32c(&header[..20]) && start + len <= length;
            if !whole || len == 0 {
                break;
            }
            self.place(u64::from(word(4)) | u64::from(word(8)) << 32, word(12), number, start, len);
            offset = start + len;
        }
        self.segments.push_back((number, length));
        self.bytes += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::Sim;

    const LEN: usize = RANGE_BYTES;

    fn range(file: u64, number: u32) -> Vec<u8> {
        (0..LEN).map(|at| (at as u64 * 31 + file * 7 + u64::from(number)) as u8).collect()
    }

    fn put(cache: &Cache, file: u64, numbers: std::ops::Range<u32>) {
        let bytes: Vec<u8> = numbers.clone().flat_map(|number| range(file, number)).collect();
        cache.put(file, numbers.start, &bytes);
    }

    /// Numbers of the ranges that are there, their bytes checked.
    fn there(cache: &Cache, file: u64) -> Vec<u32> {
        let mut numbers = Vec::new();
        for (first, bytes) in cache.get(file, 0, 100) {
            for (number, bytes) in (first..).zip(bytes.chunks(LEN)) {
                assert_eq!(bytes, range(file, number));
                numbers.push(number);
            }
        }
        numbers
    }

    #[test]
    fn ranges_come_back_also_after_a_restart_and_a_torn_end() {
        let sim = Sim::new(1);
        let open = || Cache::open(sim.env().files, Path::new("/c"), 64 << 20).unwrap();
        let cache = open();
        put(&cache, 1, 0..3);
        put(&cache, 2, 5..6);
        put(&cache, 1, 7..9);
        assert_eq!((there(&cache, 1), there(&cache, 2), there(&cache, 3)), (vec![0, 1, 2, 7, 8], vec![5], vec![]));
        // Neighbours of one record are one read.
        assert_eq!(cache.get(1, 0, 9).len(), 2);
        assert_eq!(cache.get(1, 1, 2)[0], (1, range(1, 1).into()));
        drop(cache);
        let first = Path::new("/c/0000000000.seg");
        sim.cut(first, sim.env().files.len(first).unwrap() as usize - 1);
        let cache = open();
        assert_eq!((there(&cache, 1), there(&cache, 2)), (vec![0, 1, 2], vec![5]));
        put(&cache, 1, 7..9);
        assert_eq!((there(&cache, 1), there(&open(), 1)), (vec![0, 1, 2, 7, 8], vec![0, 1, 2, 7, 8]));
    }

    #[test]
    fn the_oldest_goes_first_unless_it_was_asked_for() {
        let sim = Sim::new(1);
        let limit = 32 * (LEN + HEADER_BYTES) as u64;
        let cache = Cache::open(sim.env().files, Path::new("/c"), limit).unwrap();
        for number in 0..100 {
            put(&cache, 1, number..number + 1);
            assert_eq!(cache.get(1, 0, 1).len(), 1, "the favourite is still there after {number}");
            assert!(cache.stats().bytes <= limit && sim.used_bytes() == cache.stats().bytes);
        }
        let left = there(&cache, 1);
        assert!(left.len() >= 28 && left[1] > 65, "{left:?}");
        assert!(there(&Cache::open(sim.env().files, Path::new("/c"), limit / 2).unwrap(), 1).len() <= 16);
        let nothing = Cache::open(sim.env().files, Path::new("/none"), 0).unwrap();
        put(&nothing, 1, 0..3);
        assert!(there(&nothing, 1).is_empty());
    }

    #[test]
    fn a_full_disk_keeps_nothing_and_breaks_nothing() {
        let sim = Sim::new(1);
        let cache = Cache::open(sim.env().files, Path::new("/c"), 64 << 20).unwrap();
        put(&cache, 1, 0..2);
        sim.set_capacity_bytes(sim.used_bytes() + 100);
        put(&cache, 1, 2..4);
        assert_eq!(there(&cache, 1), [0, 1]);
        sim.set_capacity_bytes(u64::MAX);
        put(&cache, 1, 4..5);
        assert_eq!(there(&cache, 1), [0, 1, 4]);
    }

    #[test]
    fn damaged_headers_end_a_segment() {
        let sim = Sim::new(1);
        let cache = Cache::open(sim.env().files, Path::new("/c"), 64 << 20).unwrap();
        put(&cache, 1, 0..1);
        put(&cache, 1, 1..2);
        let segment = Path::new("/c/0000000000.seg");
        for byte in 0..HEADER_BYTES {
            sim.flip_bit(segment, HEADER_BYTES + LEN + byte, 3);
            let damaged = Cache::open(sim.env().files, Path::new("/c"), 64 << 20).unwrap();
            assert_eq!(there(&damaged, 1), [0], "byte {byte}");
            sim.flip_bit(segment, HEADER_BYTES + LEN + byte, 3);
        }
    }
}
