//! Reading the log back after a start.

use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::codec::{Record, decode_histograms, decode_samples, unpack_series};
use super::extras::{decode_exemplars, decode_metadata};
use super::segment::{
    self, RawRecord, SEGMENT_HEADER_BYTES, SegmentHeader, TYPE_EXEMPLARS, TYPE_HISTOGRAMS, TYPE_METADATA, TYPE_SAMPLES,
    TYPE_SERIES,
};
use super::tail::LogTail;
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

/// Bytes of records that are decoded together: on all cores, and in memory at a time.
const WINDOW_BYTES: usize = 4 << 20;

/// Bytes of records below which one core is as fast as all.
const WORTH_THREADS: usize = 64 << 10;

/// Feeds all intact records of `tail` to `apply`, in the order they were written: segment number, and some of its records
/// with their sequences.
///
/// # Errors
/// Only where the operating system refuses to read; damage is reported, not an error.
pub fn replay(
    files: &dyn Files,
    dir: &Path,
    tail: &LogTail,
    mut apply: impl FnMut(u64, Vec<(u64, Record)>),
) -> io::Result<Replay> {
    if let Some(last) = &tail.ended {
        return Ok(Replay {
            last_sequence: last.sequence,
            last_segment_number: last.segment,
            last_segment_id: last.segment_id,
            ..Replay::default()
        });
    }
    let mut reader = Reader { from_sequence: tail.sequence, ..Reader::default() };
    let mut segments: Vec<(u64, PathBuf)> =
        files.list(dir)?.into_iter().filter_map(|path| Some((segment::number(&path)?, path))).collect();
    segments.retain(|(number, _)| *number >= tail.segment);
    segments.sort();
    let mut next = segments.first().map(|(_, path)| files.read(path));
    for (index, (number, path)) in segments.iter().enumerate() {
        let Some(bytes) = next.take() else { break };
        let bytes = bytes?;
        let following = segments.get(index + 1).map(|(_, path)| path);
        if bytes.len() < WINDOW_BYTES {
            reader.segment(*number, path, &bytes, &mut apply);
            next = following.map(|path| files.read(path));
            continue;
        }
        // The disk is read while the segment before is decoded.
        next = std::thread::scope(|scope| {
            let following = following.map(|path| scope.spawn(move || files.read(path)));
            reader.segment(*number, path, &bytes, &mut apply);
            following.map(|reading| reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
    }
    Ok(reader.finish())
}

/// What is known while segments are read.
#[derive(Default)]
struct Reader {
    found: Replay,
    /// Records below it are not wanted, but for those that name series of records that are.
    from_sequence: u64,
    durable: u64,
    /// Where reading stopped making sense, until the next intact record shows whether anything is missing.
    broken: Option<(PathBuf, usize, usize)>,
}

/// An intact record and where it stands.
struct Placed<'a> {
    start: usize,
    end: usize,
    record: RawRecord<'a>,
}

impl Reader {
    fn segment(&mut self, number: u64, path: &Path, bytes: &[u8], apply: &mut impl FnMut(u64, Vec<(u64, Record)>)) {
        let found = &mut self.found;
        found.segments += 1;
        found.last_segment_number = number;
        let mut at = 0;
        if let Some(header) = SegmentHeader::decode(bytes) {
            found.last_segment_id = header.id;
            let before = header.first_sequence.saturating_sub(1);
            // The first segment says where the log begins now. A later one that starts lower than the last record
            // read says that those records were given up, and their sequences are used again.
            if found.records == 0 || before < found.last_sequence {
                found.last_sequence = before;
            }
            self.durable = self.durable.max(before);
            at = SEGMENT_HEADER_BYTES;
        }
        let mut window: Vec<Placed<'_>> = Vec::new();
        let mut window_bytes = 0;
        let mut has_wanted = false;
        while at < bytes.len() {
            let Some((start, record)) = next_record(bytes, at) else {
                self.broken.get_or_insert((path.to_owned(), at, bytes.len()));
                break;
            };
            if start > at {
                self.broken.get_or_insert((path.to_owned(), at, start));
            }
            let found = &mut self.found;
            let end = start + RawRecord::total_bytes(record.payload.len());
            self.durable = self.durable.max(record.durable_sequence);
            // Without any header it is not known where the log begins.
            let headless = found.records == 0 && found.last_segment_id == 0;
            if record.sequence > found.last_sequence + 1 && !headless {
                let (path, start, end) = self.broken.take().unwrap_or((path.to_owned(), at, start));
                let (first_sequence, last_sequence) = (found.last_sequence + 1, record.sequence - 1);
                found.damage.push(Damage { path, start, end, first_sequence, last_sequence });
            }
            self.broken = None;
            found.last_sequence = found.last_sequence.max(record.sequence);
            found.records += 1;
            at = end;
            let is_wanted = record.sequence >= self.from_sequence;
            if !is_wanted && record.kind != TYPE_SERIES {
                continue;
            }
            // Names wait, as bytes of the file, until somebody needs them.
            has_wanted |= is_wanted && record.kind != TYPE_SERIES;
            window_bytes += record.payload.len();
            window.push(Placed { start, end, record });
            if window_bytes >= WINDOW_BYTES && has_wanted {
                self.decode(number, path, std::mem::take(&mut window), apply);
                window_bytes = 0;
            }
        }
        if !window.is_empty() && has_wanted {
            self.decode(number, path, window, apply);
        }
    }

    fn decode(
        &mut self,
        number: u64,
        path: &Path,
        window: Vec<Placed<'_>>,
        apply: &mut impl FnMut(u64, Vec<(u64, Record)>),
    ) {
        let decode = |placed: &Placed<'_>| match placed.record.kind {
            TYPE_SERIES => unpack_series(placed.record.payload, placed.record.flags),
            TYPE_SAMPLES => decode_samples(placed.record.payload, placed.record.flags),
            TYPE_HISTOGRAMS => decode_histograms(placed.record.payload, placed.record.flags),
            TYPE_METADATA => decode_metadata(placed.record.payload),
            TYPE_EXEMPLARS => decode_exemplars(placed.record.payload),
            _ => None,
        };
        let bytes: usize = window.iter().map(|placed| placed.record.payload.len()).sum();
        let decoded: Vec<Option<Record>> = if bytes < WORTH_THREADS {
            window.iter().map(decode).collect()
        } else {
            window.par_iter().map(decode).collect()
        };
        let mut records = Vec::with_capacity(window.len());
        for (Placed { start, end, record }, decoded) in window.iter().zip(decoded) {
            match decoded {
                Some(decoded) => records.push((record.sequence, decoded)),
                // Intact by its checksum yet not readable: written by a later version.
                None => self.found.damage.push(Damage {
                    path: path.to_owned(),
                    start: *start,
                    end: *end,
                    first_sequence: record.sequence,
                    last_sequence: record.sequence,
                }),
            }
        }
        if !records.is_empty() {
            apply(number, records);
        }
    }

    fn finish(self) -> Replay {
        let Reader { mut found, durable, broken, .. } = self;
        if durable > found.last_sequence {
            let (path, start, end) = broken.unwrap_or_default();
            let (first_sequence, last_sequence) = (found.last_sequence + 1, durable);
            found.damage.push(Damage { path, start, end, first_sequence, last_sequence });
            // Never give out a sequence again that was promised.
            found.last_sequence = durable;
        } else {
            found.torn = broken.map(|(path, start, end)| TornTail { path, start, end });
        }
        found
    }
}

/// The first intact record at or behind `at`.
fn next_record(bytes: &[u8], at: usize) -> Option<(usize, RawRecord<'_>)> {
    let aligned = at.next_multiple_of(8);
    (aligned..bytes.len()).step_by(8).find_map(|start| Some((start, segment::record_at(bytes, start)?)))
}
