//! The part of a log behind a head snapshot.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::segment::{self, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::env::Files;

/// Where a record of the log stands. Segments have random identities, so that this is the only record that ever stands
/// there: sequences may be given out again, after a failure or where a log was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    pub segment: u64,
    pub segment_id: u64,
    pub sequence: u64,
    /// Bytes of the segment before it.
    pub offset: u64,
}

/// Bytes of a segment that are in memory while a record is looked for.
const WINDOW_BYTES: u64 = 1 << 20;

impl LogPlace {
    /// Where the record with this sequence stands in a segment; `None` where it does not.
    pub(super) fn find(files: &dyn Files, path: &Path, segment: u64, sequence: u64) -> io::Result<Option<LogPlace>> {
        let Some(header) = header(files, path)? else { return Ok(None) };
        let len = files.len(path)?;
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        let (mut window, mut window_at) = (Vec::new(), 0);
        while offset + RECORD_HEADER_BYTES as u64 <= len {
            if offset + RECORD_HEADER_BYTES as u64 > window_at + window.len() as u64 {
                window_at = offset;
                window = files.read_range(path, offset, WINDOW_BYTES.min(len - offset) as usize)?;
            }
            let Some(head) = segment::record_head(&window[(offset - window_at) as usize..]) else { break };
            if head.sequence >= sequence {
                let place = LogPlace { segment, segment_id: header.id, sequence, offset };
                return Ok((head.sequence == sequence).then_some(place));
            }
            offset += head.total_bytes as u64;
        }
        Ok(None)
    }

    /// Where the record ends; `None` where it is not there, or damaged.
    fn end(&self, files: &dyn Files, path: &Path) -> io::Result<Option<u64>> {
        let len = files.len(path)?;
        let fits = |bytes: usize| self.offset.checked_add(bytes as u64).is_some_and(|end| end <= len);
        if !fits(RECORD_HEADER_BYTES) {
            return Ok(None);
        }
        let head = segment::record_head(&files.read_range(path, self.offset, RECORD_HEADER_BYTES)?);
        let Some(head) = head.filter(|head| fits(head.total_bytes)) else { return Ok(None) };
        let bytes = files.read_range(path, self.offset, head.total_bytes)?;
        let is_it = segment::record_at(&bytes, 0).is_some_and(|record| record.sequence == self.sequence);
        Ok(is_it.then_some(self.offset + head.total_bytes as u64))
    }
}

fn header(files: &dyn Files, path: &Path) -> io::Result<Option<SegmentHeader>> {
    match files.read_range(path, 0, SEGMENT_HEADER_BYTES) {
        Ok(bytes) => Ok(SegmentHeader::decode(&bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
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
    /// The last record, where nothing stands behind it that is to be replayed.
    pub(super) ended: Option<LogPlace>,
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
            let header = header(files, &path)?;
            headers.push((number, path, header));
        }
        headers.sort_by_key(|(number, ..)| *number);
        let of_last = headers.iter().find(|(number, ..)| *number == last.segment);
        let end = match of_last {
            Some((_, path, Some(header))) if header.id == last.segment_id => last.end(files, path)?,
            Some(_) | None => None,
        };
        let (Some(end), Some((newest, newest_path, _))) = (end, headers.last()) else { return Ok(None) };
        let first = |(_, _, header): &(u64, _, Option<SegmentHeader>)| header.map(|header| header.first_sequence);
        // The last segment that begins by then, and those before it of which that is not sure.
        let mut from =
            headers.iter().rposition(|segment| first(segment).is_some_and(|first| first <= sequence)).unwrap_or(0);
        let begins = headers.get(from).and_then(first);
        while from > 0 && (first(&headers[from - 1]).is_none() || first(&headers[from - 1]) == begins) {
            from -= 1;
        }
        let is_end = *newest == last.segment && end >= files.len(newest_path)? && sequence == last.sequence + 1;
        let (read, ended) = if is_end { (headers.len(), Some(*last)) } else { (from, None) };
        let left_out = headers[..read].iter().filter_map(|one| Some((one.0, first(one)?))).collect();
        Ok(Some(LogTail { sequence, segment: headers.get(from).map_or(0, |one| one.0), left_out, ended }))
    }

    /// Segments that are not read.
    pub fn segments_left_out(&self) -> u64 {
        self.left_out.len() as u64
    }
}
