//! The part of a log behind a head snapshot.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::replay::next_record;
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::env::Files;

/// Where a record of the log stands. Segments have random identities, so that this is the only record that ever stands
/// there: sequences may be given out again, after a failure or where a log was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    pub segment: u64,
    pub segment_id: u64,
    pub sequence: u64,
}

/// What of a log is to be replayed.
#[derive(Debug, Default)]
pub struct LogTail {
    /// Records below it are left out, but for those that name series.
    pub(super) sequence: u64,
    /// Segments below it are not read at all.
    pub(super) segment: u64,
    /// First sequences of those.
    pub(super) left_out: BTreeMap<u64, u64>,
}

impl LogTail {
    /// Everything.
    pub fn whole() -> LogTail {
        LogTail::default()
    }

    /// The log in `dir` from `sequence` on. `None` where it does not have the record that `last` tells of: then it is not
    /// the log that somebody meant, or has lost its end.
    ///
    /// # Errors
    /// The operating system refuses to read.
    pub fn from(files: &dyn Files, dir: &Path, sequence: u64, last: &LogPlace) -> io::Result<Option<LogTail>> {
        let mut headers = Vec::new();
        for path in files.list(dir)? {
            let Some(number) = segment::number(&path) else { continue };
            let header = match files.read_range(&path, 0, SEGMENT_HEADER_BYTES) {
                Ok(bytes) => SegmentHeader::decode(&bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => return Err(error),
            };
            headers.push((number, path, header));
        }
        headers.sort_by_key(|(number, ..)| *number);
        let of_last = headers.iter().find(|(number, ..)| *number == last.segment);
        let has_last = match of_last {
            Some((_, path, Some(header))) if header.id == last.segment_id => {
                has_record(&files.read(path)?, last.sequence)
            }
            Some(_) | None => false,
        };
        if !has_last {
            return Ok(None);
        }
        let first = |(_, _, header): &(u64, _, Option<SegmentHeader>)| header.map(|header| header.first_sequence);
        // The last segment that begins by then, and those before it of which that is not sure.
        let mut from =
            headers.iter().rposition(|segment| first(segment).is_some_and(|first| first <= sequence)).unwrap_or(0);
        let begins = headers.get(from).and_then(first);
        while from > 0 && (first(&headers[from - 1]).is_none() || first(&headers[from - 1]) == begins) {
            from -= 1;
        }
        let left_out = headers[..from].iter().filter_map(|one| Some((one.0, first(one)?))).collect();
        Ok(Some(LogTail { sequence, segment: headers.get(from).map_or(0, |one| one.0), left_out }))
    }

    /// Segments that are not read.
    pub fn segments_left_out(&self) -> u64 {
        self.left_out.len() as u64
    }
}

fn has_record(segment: &[u8], sequence: u64) -> bool {
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some((start, record)) = next_record(segment, at) {
        if record.sequence >= sequence {
            return record.sequence == sequence;
        }
        at = start + segment::RawRecord::total_bytes(record.payload.len());
    }
    false
}
