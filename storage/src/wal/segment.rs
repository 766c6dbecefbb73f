//! Bytes of segments: headers, alignment, checksums.
//!
//! ```text
//! segment header (40 bytes)              record header (32 bytes)
//!  0 magic   u32 "PLWS"                   0 magic        u32 "PLWR"
//!  4 version u32                          4 version u8, type u8, flags u16
//!  8 id      u64 random                   8 payload length u32
//! 16 first sequence u64                  12 crc32c of the header without this field, and the payload
//! 24 id of the segment before, or 0      16 sequence u64
//! 32 crc32c of the above, 4 zero bytes   24 durable sequence u64
//! ```
//!
//! All integers are little endian. Payloads are padded with zeros to 8 bytes.

use std::path::{Path, PathBuf};

pub const SEGMENT_HEADER_BYTES: usize = 40;
pub const RECORD_HEADER_BYTES: usize = 32;
const SEGMENT_MAGIC: [u8; 4] = *b"PLWS";
const RECORD_MAGIC: [u8; 4] = *b"PLWR";
const VERSION: u8 = 1;

pub const TYPE_SERIES: u8 = 1;
pub const TYPE_SAMPLES: u8 = 2;
pub const TYPE_HISTOGRAMS: u8 = 3;
pub const TYPE_METADATA: u8 = 4;
pub const TYPE_EXEMPLARS: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub id: u64,
    pub first_sequence: u64,
    pub previous_id: u64,
}

/// Where the segment with `number` lies.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.wal"))
}

/// The number in a segment's file name; `None` for other files.
pub fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".wal")?.parse().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&u32::from(VERSION).to_le_bytes());
        for field in [self.id, self.first_sequence, self.previous_id] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let body = bytes.get(..SEGMENT_HEADER_BYTES - 8)?;
        let intact = body.starts_with(&SEGMENT_MAGIC)
            && u32_at(bytes, 4)? == u32::from(VERSION)
            && u32_at(bytes, 32)? == crc32c::crc32c(body);
        if !intact {
            return None;
        }
        Some(SegmentHeader {
            id: u64_at(bytes, 8)?,
            first_sequence: u64_at(bytes, 16)?,
            previous_id: u64_at(bytes, 24)?,
        })
    }
}

/// A record's header and payload, as they stand in a segment.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    pub kind: u8,
    pub flags: u16,
    pub sequence: u64,
    pub durable_sequence: u64,
    pub payload: &'a [u8],
}

impl RawRecord<'_> {
    /// Bytes that a record with `payload_bytes` takes in a segment.
    pub fn total_bytes(payload_bytes: usize) -> usize {
        (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(8)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&RECORD_MAGIC);
        out.extend_from_slice(&[VERSION, self.kind]);
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        let crc_at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.durable_sequence.to_le_bytes());
        out.extend_from_slice(self.payload);
        let crc = checksum(&out[start..]);
        out[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        out.resize(start + Self::total_bytes(self.payload.len()), 0);
    }
}

/// What the header of a record says, which may be damaged.
#[derive(Debug, Clone, Copy)]
pub struct RecordHead {
    pub sequence: u64,
    /// Bytes that the record takes in a segment.
    pub total_bytes: usize,
}

/// The header at the front of `bytes`; `None` where there is none.
pub fn record_head(bytes: &[u8]) -> Option<RecordHead> {
    if !bytes.starts_with(&RECORD_MAGIC) || bytes.get(4) != Some(&VERSION) {
        return None;
    }
    let total_bytes = RawRecord::total_bytes(u32_at(bytes, 8)? as usize);
    Some(RecordHead { sequence: u64_at(bytes, 16)?, total_bytes })
}

/// CRC32C over a record without its checksum field and padding.
fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..12]), &record[16..])
}

/// The record at `at`; `None` where there is no whole, intact one.
pub fn record_at(bytes: &[u8], at: usize) -> Option<RawRecord<'_>> {
    let bytes = bytes.get(at..)?;
    if !bytes.starts_with(&RECORD_MAGIC) || bytes.get(4) != Some(&VERSION) {
        return None;
    }
    let len = u32_at(bytes, 8)? as usize;
    let body = bytes.get(..RECORD_HEADER_BYTES + len)?;
    if checksum(body) != u32_at(bytes, 12)? {
        return None;
    }
    Some(RawRecord {
        kind: bytes[5],
        flags: u16::from_le_bytes([bytes[6], bytes[7]]),
        sequence: u64_at(bytes, 16)?,
        durable_sequence: u64_at(bytes, 24)?,
        payload: &body[RECORD_HEADER_BYTES..],
    })
}
