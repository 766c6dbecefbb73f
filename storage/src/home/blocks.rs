//! Blocks in an object store, read through the local cache.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use twox_hash::XxHash64;

use super::cache::Cache;
use crate::block::{BlockFiles, Copy, FileMeta, RANGE_BYTES};
use crate::env::objects::{ObjectError, Objects, Put};
use crate::env::{AppendFile, Files};

const RANGE: u64 = RANGE_BYTES as u64;
/// Bytes that nobody asked for between two places that are read in one request: a request costs as much time as they do.
const GAP_BYTES: u64 = 8 * RANGE;
/// A longer place is read by several requests at the same time.
const REQUEST_BYTES: u64 = 128 * RANGE;

/// The blocks below one prefix.
#[derive(Debug)]
pub struct ObjectBlocks {
    objects: Arc<dyn Objects>,
    cache: Arc<Cache>,
    files: Arc<dyn Files>,
    /// Index files that were read, whole.
    index_dir: PathBuf,
}

impl ObjectBlocks {
    pub fn new(
        objects: Arc<dyn Objects>,
        cache: Arc<Cache>,
        files: Arc<dyn Files>,
        index_dir: PathBuf,
    ) -> ObjectBlocks {
        ObjectBlocks { objects, cache, files, index_dir }
    }

    fn key(&self, path: &str) -> u64 {
        XxHash64::oneshot(0, format!("{}/{path}", self.objects.place()).as_bytes())
    }

    /// Where an index file is kept.
    fn index_path(&self, path: &str) -> PathBuf {
        self.index_dir.join(format!("{:016x}.index", self.key(path)))
    }

    /// Keeps a file that is on the local disk for another reason.
    pub fn keep(&self, file: &FileMeta, bytes: &[u8]) {
        if is_index(&file.path) {
            self.keep_index(file, bytes);
        } else if file.bytes < self.cache.stats().limit_bytes / 4 {
            self.cache.put(self.key(&file.path), 0, bytes);
        }
    }

    /// Forgets the index of a block that is gone. Its samples go when the cache needs their place.
    pub fn forget(&self, paths: &[String]) {
        for path in paths.iter().filter(|path| is_index(path)) {
            // Mostly it is not there.
            let _ = self.files.remove(&self.index_path(path));
        }
    }

    fn keep_index(&self, file: &FileMeta, bytes: &[u8]) {
        let path = self.index_path(&file.path);
        let write = || -> io::Result<()> {
            let mut copy: Box<dyn AppendFile> = self.files.create(&path)?;
            copy.append(bytes)
        };
        if let Err(error) = write() {
            tracing::warn!(?path, %error, "could not keep an index in the local cache");
        }
    }

    /// An index file: always whole, and kept as long as its block lives.
    fn read_index(&self, file: &FileMeta, copy: Copy) -> io::Result<Bytes> {
        if copy == Copy::Nearest
            && let Ok(bytes) = self.files.read(&self.index_path(&file.path))
            && bytes.len() as u64 == file.bytes
        {
            return Ok(bytes.into());
        }
        let Some((bytes, _)) = self.objects.get(&file.path, None)? else {
            return Err(io::Error::other("an object without a version was not sent"));
        };
        self.keep_index(file, &bytes);
        Ok(bytes)
    }

    /// The pieces of a sample file that cover `ranges`, ascending.
    fn pieces(&self, file: &FileMeta, ranges: &[Range<u64>], copy: Copy) -> Result<Vec<(u64, Bytes)>, ObjectError> {
        let key = self.key(&file.path);
        let mut pieces: Vec<(u64, Bytes)> = Vec::new();
        let mut missing: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            let mut from = range.start;
            if copy == Copy::Nearest {
                let (first, end) = ((range.start / RANGE) as u32, range.end.div_ceil(RANGE) as u32);
                for (number, bytes) in self.cache.get(key, first, end) {
                    let start = u64::from(number) * RANGE;
                    if from < start {
                        missing.push(from..start);
                    }
                    from = start + bytes.len() as u64;
                    pieces.push((start, bytes));
                }
            }
            if from < range.end {
                missing.push(from..range.end);
            }
        }
        let requests = requests(&missing);
        if !requests.is_empty() {
            let got = self.objects.get_ranges(&file.path, &requests)?;
            for (request, bytes) in requests.iter().zip(got) {
                self.cache.put(key, (request.start / RANGE) as u32, &bytes);
                pieces.push((request.start, bytes));
            }
            pieces.sort_unstable_by_key(|(start, _)| *start);
        }
        Ok(pieces)
    }
}

fn is_index(path: &str) -> bool {
    path.ends_with(".index")
}

/// What to ask for so that all of `missing` (ascending) comes.
fn requests(missing: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut together: Vec<Range<u64>> = Vec::new();
    for range in missing {
        match together.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES => last.end = last.end.max(range.end),
            Some(_) | None => together.push(range.clone()),
        }
    }
    let parts = |range: Range<u64>| {
        let starts = (range.start..range.end).step_by(REQUEST_BYTES as usize);
        starts.map(move |start| start..range.end.min(start + REQUEST_BYTES))
    };
    together.into_iter().flat_map(parts).collect()
}

/// The bytes of `range` out of `pieces`, which ascend and may overlap; short where they leave a gap.
fn cut(pieces: &[(u64, Bytes)], range: &Range<u64>) -> Bytes {
    let mut out = BytesMut::new();
    let mut at = range.start;
    for (start, bytes) in pieces {
        let end = start + bytes.len() as u64;
        if end <= at || *start > at {
            continue;
        }
        let to = end.min(range.end);
        let part = bytes.slice((at - start) as usize..(to - start) as usize);
        if at == range.start && to == range.end {
            return part;
        }
        out.extend_from_slice(&part);
        at = to;
        if at == range.end {
            break;
        }
    }
    out.freeze()
}

impl BlockFiles for ObjectBlocks {
    fn path(&self, file: &FileMeta) -> PathBuf {
        PathBuf::from(format!("{}/{}", self.objects.place().trim_end_matches('/'), file.path))
    }

    fn is_far(&self) -> bool {
        true
    }

    /// As the manifest says: asking would be a request.
    fn len(&self, file: &FileMeta) -> io::Result<u64> {
        Ok(file.bytes)
    }

    fn read(&self, file: &FileMeta, ranges: &[Range<u64>], copy: Copy) -> io::Result<Vec<Bytes>> {
        if is_index(&file.path) {
            let bytes = self.read_index(file, copy)?;
            let all = 0..bytes.len() as u64;
            let part = |range: &Range<u64>| cut(&[(0, bytes.clone())], &(range.start..range.end.min(all.end)));
            return Ok(ranges.iter().map(part).collect());
        }
        let pieces = self.pieces(file, ranges, copy)?;
        Ok(ranges.iter().map(|range| cut(&pieces, range)).collect())
    }

    fn replace(&self, file: &FileMeta, bytes: &[u8]) -> io::Result<()> {
        self.objects.put(&file.path, Bytes::copy_from_slice(bytes), Put::Always)?;
        self.keep(file, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_places_are_one_request_and_long_ones_are_several() {
        let asked = |ranges: &[(u64, u64)]| -> Vec<(u64, u64)> {
            let missing: Vec<_> = ranges.iter().map(|(start, end)| start * RANGE..end * RANGE).collect();
            requests(&missing).into_iter().map(|range| (range.start / RANGE, range.end / RANGE)).collect()
        };
        assert_eq!(asked(&[]), []);
        assert_eq!(asked(&[(0, 1), (2, 3), (11, 12), (21, 22)]), [(0, 12), (21, 22)]);
        assert_eq!(asked(&[(5, 300)]), [(5, 133), (133, 261), (261, 300)]);
    }

    #[test]
    fn ranges_are_cut_out_of_what_there_is() {
        let pieces =
            [(0, Bytes::from_static(b"0123")), (2, Bytes::from_static(b"2345")), (8, Bytes::from_static(b"89"))];
        for (range, expected) in [(0..4, "0123"), (1..6, "12345"), (3..4, "3"), (5..10, "5"), (8..10, "89"), (9..9, "")]
        {
            assert_eq!(cut(&pieces, &range), expected, "{range:?}");
        }
    }
}
