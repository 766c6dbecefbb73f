//! What stands at the end of a head snapshot: what it is of, and where its frames are.

use std::sync::Arc;

use crate::block::varint::{Cursor, put_svarint, put_uvarint};
use crate::store::maintenance::Mark;
use crate::wal::LogPlace;

pub const MAGIC: &[u8; 8] = b"PILAHEA1";
const END_MAGIC: &[u8; 8] = b"PILAHEND";
pub const TRAILER_BYTES: usize = 32;

/// A frame has no more bytes: a series that takes more is not put into one.
pub const MOST_FRAME_BYTES: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Label pairs, behind those of frames before.
    Pairs,
    /// What slots `[first, end)` of a shard held when the log was about to give out `sequence`.
    Series { shard: u32, first: u32, end: u32, sequence: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    /// Pairs or series.
    pub count: u32,
    pub bytes: u32,
    pub crc32c: u32,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// The manifest's name for the log.
    pub log: String,
    /// How far the manifest says that the log was flushed.
    pub flushed_sequence: u64,
    pub closed_before_ms: i64,
    /// Hashes of the deletions that are carried out in what was copied, or had nothing there.
    pub deletions: Vec<u64>,
    /// Exemplars that were kept at most.
    pub max_exemplars: u64,
    /// Files beside the log that have what it says before `begin` of other things than samples: 1 metadata, 2 exemplars.
    pub beside: u8,
    /// Shards of the head that was copied; a power of two.
    pub shards: u32,
    /// What the log has below it is here, in files beside it, or in blocks.
    pub begin: u64,
    /// Nothing is here that the log has from this sequence on.
    pub end: u64,
    /// Where the record before `end` stands.
    pub last: LogPlace,
    /// How far the log was when, for it to be cut.
    pub marks: Vec<Mark>,
    /// Names of labels, by the numbers that pairs have for them.
    pub names: Vec<Arc<str>>,
    pub frames: Vec<Frame>,
}

impl Directory {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(&mut out, &self.log);
        put_uvarint(&mut out, self.flushed_sequence);
        put_svarint(&mut out, self.closed_before_ms);
        put_uvarint(&mut out, self.deletions.len() as u64);
        self.deletions.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
        put_uvarint(&mut out, self.max_exemplars);
        out.push(self.beside);
        put_uvarint(&mut out, u64::from(self.shards));
        put_uvarint(&mut out, self.begin);
        put_uvarint(&mut out, self.end);
        put_uvarint(&mut out, self.last.segment);
        out.extend_from_slice(&self.last.segment_id.to_le_bytes());
        put_uvarint(&mut out, self.last.offset);
        put_uvarint(&mut out, self.marks.len() as u64);
        for mark in &self.marks {
            put_uvarint(&mut out, mark.sequence);
            put_svarint(&mut out, mark.max_ms);
        }
        put_uvarint(&mut out, self.names.len() as u64);
        self.names.iter().for_each(|name| put_text(&mut out, name));
        put_uvarint(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            match frame.kind {
                FrameKind::Pairs => out.push(0),
                FrameKind::Series { shard, first, end, sequence } => {
                    out.push(1);
                    put_uvarint(&mut out, u64::from(shard));
                    put_uvarint(&mut out, u64::from(first));
                    put_uvarint(&mut out, u64::from(end));
                    put_uvarint(&mut out, sequence);
                }
            }
            put_uvarint(&mut out, u64::from(frame.count));
            put_uvarint(&mut out, u64::from(frame.bytes));
            out.extend_from_slice(&frame.crc32c.to_le_bytes());
        }
        out
    }

    /// `None` for bytes that nobody has encoded.
    pub fn decode(bytes: &[u8]) -> Option<Directory> {
        let mut bytes = Cursor::new(bytes);
        let bytes = &mut bytes;
        let directory = Directory {
            log: text(bytes)?.to_owned(),
            flushed_sequence: bytes.uvarint()?,
            closed_before_ms: bytes.svarint()?,
            deletions: list(bytes, fixed_u64)?,
            max_exemplars: bytes.uvarint()?,
            beside: bytes.byte()?,
            shards: bytes.number().filter(|shards: &u32| shards.is_power_of_two() && *shards <= 64)?,
            begin: bytes.uvarint()?,
            end: bytes.uvarint()?,
            last: LogPlace {
                segment: bytes.uvarint()?,
                segment_id: fixed_u64(bytes)?,
                sequence: 0,
                offset: bytes.uvarint()?,
            },
            marks: list(bytes, |bytes| Some(Mark { sequence: bytes.uvarint()?, max_ms: bytes.svarint()? }))?,
            names: list(bytes, |bytes| text(bytes).map(Arc::from))?,
            frames: list(bytes, frame)?,
        };
        let last = LogPlace { sequence: directory.end.checked_sub(1)?, ..directory.last };
        let is_sound = bytes.is_empty() && directory.begin <= directory.end;
        is_sound.then_some(Directory { last, ..directory })
    }

    /// What stands behind a directory of so many bytes, from `offset` of the file on.
    pub fn trailer(offset: u64, directory: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_BYTES);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&(directory.len() as u64).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(directory).to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(END_MAGIC);
        out
    }

    /// Offset, bytes and checksum of the directory of a file of so many bytes that ends in `trailer`.
    pub fn place(trailer: &[u8], file_bytes: u64) -> Option<(u64, usize, u32)> {
        let (body, rest) = trailer.split_at_checked(20)?;
        let is_whole = rest.first_chunk() == Some(&crc32c::crc32c(body).to_le_bytes()) && rest[4..] == *END_MAGIC;
        let mut body = Cursor::new(body);
        let (offset, len) = (fixed_u64(&mut body)?, fixed_u64(&mut body)?);
        let ends =
            offset >= MAGIC.len() as u64 && offset.checked_add(len)?.checked_add(TRAILER_BYTES as u64)? == file_bytes;
        (is_whole && ends).then_some(())?;
        Some((offset, usize::try_from(len).ok()?, fixed_u32(&mut body)?))
    }
}

fn frame(bytes: &mut Cursor<'_>) -> Option<Frame> {
    let kind = match bytes.byte()? {
        0 => FrameKind::Pairs,
        1 => FrameKind::Series {
            shard: bytes.number()?,
            first: bytes.number()?,
            end: bytes.number()?,
            sequence: bytes.uvarint()?,
        },
        _ => return None,
    };
    let (count, len) = (bytes.number()?, bytes.number()?);
    Some(Frame { kind, count, bytes: len, crc32c: fixed_u32(bytes)? })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn text<'a>(bytes: &mut Cursor<'a>) -> Option<&'a str> {
    let len = bytes.number()?;
    std::str::from_utf8(bytes.bytes(len)?).ok()
}

fn fixed_u64(bytes: &mut Cursor<'_>) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.bytes(8)?.first_chunk()?))
}

fn fixed_u32(bytes: &mut Cursor<'_>) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.bytes(4)?.first_chunk()?))
}

/// A list behind its length. Each thing takes at least a byte: a longer one than there are bytes is none.
fn list<T>(bytes: &mut Cursor<'_>, take: impl Fn(&mut Cursor<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count: usize = bytes.number().filter(|&count: &usize| count <= bytes.rest().len())?;
    (0..count).map(|_| take(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let series = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>());
        let series = series.prop_map(|(shard, first, end, sequence)| FrameKind::Series { shard, first, end, sequence });
        let kind = prop_oneof![Just(FrameKind::Pairs), series];
        let frame = (kind, any::<u32>(), any::<u32>(), any::<u32>());
        frame.prop_map(|(kind, count, bytes, crc32c)| Frame { kind, count, bytes, crc32c })
    }

    proptest! {
        #[test]
        fn a_directory_comes_back_and_no_bytes_make_it_panic(
            texts in prop::collection::vec(".{0,9}", 1..5), numbers in prop::collection::vec(any::<u64>(), 8),
            marks in prop::collection::vec((any::<u64>(), any::<i64>()), 0..4),
            frames in prop::collection::vec(any_frame(), 0..5), (at, byte) in (any::<usize>(), any::<u8>())
        ) {
            let (begin, end) = (numbers[0] / 2, numbers[0] / 2 + numbers[1] / 2 + 1);
            let directory = Directory {
                log: texts[0].clone(),
                flushed_sequence: numbers[2],
                closed_before_ms: numbers[3] as i64,
                deletions: numbers[4..].to_vec(),
                max_exemplars: numbers[4],
                beside: numbers[5] as u8,
                shards: 1 << (numbers[6] % 7),
                begin,
                end,
                last: LogPlace { segment: numbers[7], segment_id: numbers[2], sequence: end - 1, offset: numbers[3] },
                marks: marks.into_iter().map(|(sequence, max_ms)| Mark { sequence, max_ms }).collect(),
                names: texts.iter().map(|text| text.as_str().into()).collect(),
                frames,
            };
            let mut bytes = directory.encode();
            prop_assert_eq!(Directory::decode(&bytes), Some(directory));
            for len in 0..bytes.len() {
                prop_assert_eq!(Directory::decode(&bytes[..len]), None);
            }
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Directory::decode(&bytes);
            let trailer = Directory::trailer(8, &bytes);
            let file_bytes = 8 + bytes.len() as u64 + 32;
            prop_assert_eq!(Directory::place(&trailer, file_bytes), Some((8, bytes.len(), crc32c::crc32c(&bytes))));
            prop_assert_eq!(Directory::place(&trailer, file_bytes + 1), None);
        }
    }

    /// What says that there is more than there are bytes asks for no memory.
    #[test]
    fn a_length_that_cannot_be_is_refused() {
        for len in [1u64 << 20, 1 << 40, u64::MAX] {
            let mut bytes = vec![0, 0, 0];
            put_uvarint(&mut bytes, len);
            bytes.resize(bytes.len() + 100, 1);
            assert_eq!(Directory::decode(&bytes), None);
        }
    }
}
