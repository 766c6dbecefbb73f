//! The chunk files of a block.

use pilaster_model::Columns;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pilaster_storage::frame::crc32c;

use super::DataError;
use super::bytes::Bytes;
use super::chunk::{Encoding, decode};
use super::error::Malformed;
use super::index::ChunkRef;

const MAGIC: u32 = 0x85bd_40dd;
/// Read behind the begin of a chunk at first; most are shorter.
const USUAL_CHUNK_BYTES: u64 = 2048;
/// Read together at most.
const MOST_READ_BYTES: u64 = 4 << 20;
const HEADER_BYTES: u64 = 8;

pub struct Segments(Vec<Segment>);

struct Segment {
    path: PathBuf,
    /// Why it cannot be read, once and for all its chunks.
    file: Result<(File, u64), String>,
}

impl Segments {
    /// Opens the files 000001, 000002, ... below `dir`. One that is not what it should be is told to `damage`.
    pub fn open(dir: &Path, damage: &mut dyn FnMut(DataError)) -> Result<Segments, DataError> {
        let entries = std::fs::read_dir(dir).map_err(DataError::io("list", dir))?;
        let mut last = 0;
        for entry in entries {
            let name = entry.map_err(DataError::io("list", dir))?.file_name();
            last = last.max(name.to_str().and_then(|name| name.parse::<u32>().ok()).unwrap_or(0));
        }
        let mut segments = Vec::new();
        for number in 1..=last.min(1 << 20) {
            let path = dir.join(format!("{number:06}"));
            let file = match open(&path) {
                Ok(file) => Ok(file),
                Err(error) => {
                    let reason = error.to_string();
                    damage(error);
                    Err(reason)
                }
            };
            segments.push(Segment { path, file });
        }
        Ok(Segments(segments))
    }

    /// Appends the samples of `chunks`, ascending by time, to `out`. Damaged chunks are told to `damage`.
    pub fn read(&self, chunks: &[ChunkRef], out: &mut Columns, damage: &mut dyn FnMut(DataError)) {
        let mut rest = chunks;
        let mut buffer = Vec::new();
        while let Some(first) = rest.first() {
            let Some(segment) = self.0.get(first.segment as usize) else {
                let path = self.0.first().map_or(PathBuf::new(), |segment| segment.path.clone());
                let path = path.with_file_name(format!("{:06}", first.segment + 1));
                damage(DataError::unknown(&path, "the index names chunks in it, and there is no such file"));
                rest = rest.iter().position(|chunk| chunk.segment != first.segment).map_or(&[], |at| &rest[at..]);
                continue;
            };
            let near = |chunk: &ChunkRef| {
                let distance = u64::from(chunk.offset).checked_sub(u64::from(first.offset));
                chunk.segment == first.segment && distance.is_some_and(|distance| distance < MOST_READ_BYTES)
            };
            let together = rest.iter().take_while(|chunk| near(chunk)).count();
            let (now, later) = rest.split_at(together);
            rest = later;
            segment.read(now, &mut buffer, out, damage);
        }
    }
}

fn open(path: &Path) -> Result<(File, u64), DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let len = file.metadata().map_err(DataError::io("open", path))?.len();
    let mut head = [0; HEADER_BYTES as usize];
    if len < HEADER_BYTES {
        return Err(DataError::corrupt(path, 0, "cut short"));
    }
    file.read_exact_at(&mut head, 0).map_err(DataError::io("read", path))?;
    if Bytes(&head).be32() != Ok(MAGIC) {
        return Err(DataError::corrupt(path, 0, "does not begin as chunks do"));
    }
    if head[4] != 1 {
        return Err(DataError::unknown(path, format!("version {} of chunks is not known", head[4])));
    }
    Ok((file, len))
}

impl Segment {
    /// Chunks whose begins lie close together.
    fn read(&self, chunks: &[ChunkRef], buffer: &mut Vec<u8>, out: &mut Columns, damage: &mut dyn FnMut(DataError)) {
        // What is wrong with the file was told when it was opened.
        let (Ok((file, len)), Some(first), Some(last)) = (&self.file, chunks.first(), chunks.last()) else { return };
        let start = u64::from(first.offset);
        let read = |from: u64, to: u64, buffer: &mut Vec<u8>| {
            buffer.resize(to.min(*len).saturating_sub(from) as usize, 0);
            file.read_exact_at(buffer, from).map_err(DataError::io("read", &self.path))
        };
        if let Err(error) = read(start, u64::from(last.offset) + USUAL_CHUNK_BYTES, buffer) {
            return damage(error);
        }
        let mut long = Vec::new();
        for chunk in chunks {
            let offset = u64::from(chunk.offset);
            let there = buffer.get((offset - start) as usize..).unwrap_or_default();
            let mut found = parse(there);
            if let Err(Missing::Bytes(needed)) = found
                && offset.saturating_add(needed) <= *len
            {
                if let Err(error) = read(offset, offset + needed, &mut long) {
                    damage(error);
                    continue;
                }
                found = parse(&long);
            }
            let before = out.len();
            let decoded = match found {
                Ok((encoding, data)) => decode(encoding, data, out),
                Err(Missing::Bytes(_)) => Err(Malformed("the chunk is cut short")),
                Err(Missing::Whole(reason)) => Err(reason),
            };
            if let Err(Malformed(reason)) = decoded {
                let reason =
                    format!("{reason}; it holds [{}, {}], read are {}", chunk.min_ms, chunk.max_ms, out.len() - before);
                damage(DataError::corrupt(&self.path, offset, reason));
            }
        }
    }
}

enum Missing {
    /// So many bytes are needed in all.
    Bytes(u64),
    Whole(Malformed),
}

/// The chunk that begins `bytes`.
fn parse(bytes: &[u8]) -> Result<(Encoding, &[u8]), Missing> {
    let mut rest = Bytes(bytes);
    let Ok(len) = rest.uvarint() else {
        let short = Missing::Bytes(16);
        return Err(if bytes.len() < 16 { short } else { Missing::Whole(Malformed("a length leaves 64 bits")) });
    };
    let head = (bytes.len() - rest.0.len()) as u64;
    if len > u64::from(u32::MAX) {
        return Err(Missing::Whole(Malformed("the chunk is too long")));
    }
    let needed = head + 1 + len + 4;
    let (Ok(checked), Ok(checksum)) = (rest.take(1 + len as usize), rest.be32()) else {
        return Err(Missing::Bytes(needed));
    };
    if crc32c(checked) != checksum {
        return Err(Missing::Whole(Malformed("the checksum of a chunk does not match")));
    }
    let encoding = Encoding::from_byte(checked[0]);
    encoding.map(|encoding| (encoding, &checked[1..])).ok_or(Missing::Whole(Malformed("a chunk encoding is not known")))
}
