//! Reading the log back after a start.

use std::io;
use std::path::{Path, PathBuf};

use super::codec::{Record, decode_histograms, decode_samples, unpack_series};
use super::extras::{decode_exemplars, decode_metadata};
use super::segment::{
    self, RawRecord, SEGMENT_HEADER_BYTES, SegmentHeader, TYPE_EXEMPLARS, TYPE_HISTOGRAMS, TYPE_METADATA, TYPE_SAMPLES,
    TYPE_SERIES,
};
use crate::env::Files;

/// Acknowledged records that can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// Bytes `[start, end)` of the file.
    pub start: usize,
    pub end: usize,
    /// Sequences `[first, last]` that are missing.
    pub first_sequence: u64,
    pub last_sequence: u64,
}

/// What a replay found.
#[derive(Debug, Default)]
pub struct Replay {
    pub records: u64,
    pub segments: u64,
    /// The highest sequence read; the next record gets one more.
    pub last_sequence: u64,
    pub last_segment_number: u64,
    pub last_segment_id: u64,
    /// In order. Empty for every log that only crashed.
    pub damage: Vec<Damage>,
    /// Bytes at the end that are no whole record.
    pub torn: Option<TornTail>,
}

/// The end of a log that was being written when the machine stopped: nobody was promised what it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub path: PathBuf,
    /// Bytes `[start, end)` of the file.
    pub start: usize,
    pub end: usize,
}

/// Feeds all intact records to `apply`, in the order they were written: segment number, sequence, record.
///
/// # Errors
/// Only where the operating system refuses to read; damage is reported, not an error.
pub fn replay(files: &dyn Files, dir: &Path, mut apply: impl FnMut(u64, u64, Record)) -> io::Result<Replay> {
    let mut found = Replay::default();
    let mut durable = 0;
    // Where reading stopped making sense, until the next intact record shows whether anything is missing.
    let mut broken: Option<(PathBuf, usize, usize)> = None;
    let mut segments: Vec<(u64, PathBuf)> =
        files.list(dir)?.into_iter().filter_map(|path| Some((segment::number(&path)?, path))).collect();
    segments.sort();
    for (number, path) in segments {
        let bytes = files.read(&path)?;
        found.segments += 1;
        found.last_segment_number = number;
        let mut at = 0;
        if let Some(header) = SegmentHeader::decode(&bytes) {
            found.last_segment_id = header.id;
            let before = header.first_sequence.saturating_sub(1);
            // The first segment says where the log begins now. A later one that starts lower than the last record
            // read says that those records were given up, and their sequences are used again.
            if found.records == 0 || before < found.last_sequence {
                found.last_sequence = before;
            }
            durable = durable.max(before);
            at = SEGMENT_HEADER_BYTES;
        }
        while at < bytes.len() {
            let Some((start, record)) = next_record(&bytes, at) else {
                broken.get_or_insert((path.clone(), at, bytes.len()));
                break;
            };
            if start > at {
                broken.get_or_insert((path.clone(), at, start));
            }
            let end = start + RawRecord::total_bytes(record.payload.len());
            durable = durable.max(record.durable_sequence);
            // Without any header it is not known where the log begins.
            let headless = found.records == 0 && found.last_segment_id == 0;
            if record.sequence > found.last_sequence + 1 && !headless {
                let (path, start, end) = broken.take().unwrap_or((path.clone(), at, start));
                let (first_sequence, last_sequence) = (found.last_sequence + 1, record.sequence - 1);
                found.damage.push(Damage { path, start, end, first_sequence, last_sequence });
            }
            broken = None;
            let decoded = match record.kind {
                TYPE_SERIES => unpack_series(record.payload, record.flags),
                TYPE_SAMPLES => decode_samples(record.payload, record.flags),
                TYPE_HISTOGRAMS => decode_histograms(record.payload, record.flags),
                TYPE_METADATA => decode_metadata(record.payload),
                TYPE_EXEMPLARS => decode_exemplars(record.payload),
                _ => None,
            };
            match decoded {
                Some(decoded) => apply(number, record.sequence, decoded),
                // Intact by its checksum yet not readable: written by a later version.
                None => found.damage.push(Damage {
                    path: path.clone(),
                    start,
                    end,
                    first_sequence: record.sequence,
                    last_sequence: record.sequence,
                }),
            }
            found.last_sequence = found.last_sequence.max(record.sequence);
            found.records += 1;
            at = end;
        }
    }
    if durable > found.last_sequence {
        let (path, start, end) = broken.unwrap_or_default();
        let (first_sequence, last_sequence) = (found.last_sequence + 1, durable);
        found.damage.push(Damage { path, start, end, first_sequence, last_sequence });
        // Never give out a sequence again that was promised.
        found.last_sequence = durable;
    } else {
        found.torn = broken.map(|(path, start, end)| TornTail { path, start, end });
    }
    Ok(found)
}

/// The first intact record at or behind `at`.
fn next_record(bytes: &[u8], at: usize) -> Option<(usize, RawRecord<'_>)> {
    let aligned = at.next_multiple_of(8);
    (aligned..bytes.len()).step_by(8).find_map(|start| Some((start, segment::record_at(bytes, start)?)))
}
