//! The `ts` column of a row group: timelines, each once for every series that has it.
//!
//! One page with a long window shrinks them to almost nothing, and such a page is never in memory: timestamps go series
//! by series into the compressor, which keeps as much as it looks back on.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use arrow::datatypes::ToByteSlice;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::{self, ZSTD_e_continue, ZSTD_e_end};
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::BlockError;
use super::by_series::GroupSeries;
use super::column::{Candidate, Chunk, FinishedChunk, PageCompressor};
use super::delta;
use super::page::DataPage;
use super::timeline::{Place, Timelines};

/// A page ends after so many rows at the latest: its size must fit 31 bits.
const PAGE_ROWS: usize = 4 << 20;
/// A page of fewer rows is laid out in memory.
const SMALL_ROWS: usize = 1 << 16;
/// Repetitions are looked for up to 16 MiB back.
const WINDOW_LOGS: RangeInclusive<u32> = 18..=24;
const CANDIDATES: [Candidate; 2] = [Candidate::Plain, Candidate::Delta(4)];

/// The chunk of timestamps. Where many series have timestamps of their own, those are read from here: then pages are as
/// small as those of values.
///
/// # Errors
/// It cannot be compressed.
pub fn chunk(group: &GroupSeries<'_>, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
    let places = Timelines::of(group.timestamps).places;
    let all: usize = group.timestamps.iter().map(|timestamps| timestamps.len()).sum();
    let own = group.timestamps.iter().zip(&places).filter(|(_, place)| place.is_none());
    let own: usize = own.map(|(own, _)| own.len()).sum();
    let window_log = window_log(group, &places);
    let has_small_pages = own > all / 8;
    let mut chunk = Chunk::new(descriptor);
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    let mut page: Vec<&[i64]> = Vec::new();
    let mut rows = 0;
    for pieces in group.pages {
        for piece in pieces {
            let part = &group.timestamps[piece.series][piece.rows.clone()];
            min = min.min(part[0]);
            max = max.max(part[part.len() - 1]);
            rows += part.len();
            page.push(part);
        }
        if has_small_pages || rows >= PAGE_ROWS {
            chunk.put(&packed(&page, rows, group.layout.compression_level, window_log)?);
            page.clear();
            rows = 0;
        }
    }
    if rows > 0 {
        chunk.put(&packed(&page, rows, group.layout.compression_level, window_log)?);
    }
    chunk.finish(Some(Statistics::int64(Some(min), Some(max), None, Some(0), false)), None)
}

/// How far a compressor has to look back to find each timeline again where it came last.
fn window_log(group: &GroupSeries<'_>, places: &[Option<Place>]) -> u32 {
    let mut last_starts: HashMap<u32, usize> = HashMap::new();
    let (mut row, mut farthest) = (0, 0);
    for (timestamps, place) in group.timestamps.iter().zip(places) {
        if let Some(place) = place
            && let Some(last) = last_starts.insert(place.timeline, row)
        {
            farthest = farthest.max(row - last);
        }
        row += timestamps.len();
    }
    (farthest * size_of::<i64>()).next_power_of_two().ilog2().clamp(*WINDOW_LOGS.start(), *WINDOW_LOGS.end())
}

/// A page of the timestamps in `slices`, in the encoding that comes out smallest.
fn packed(slices: &[&[i64]], rows: usize, level: i32, window_log: u32) -> Result<DataPage, BlockError> {
    if rows <= SMALL_ROWS {
        let mut zstd = PageCompressor::with_long_window(level, window_log)?;
        return zstd.integers(rows, &[], &slices.concat(), &CANDIDATES);
    }
    let mut streams = Vec::with_capacity(CANDIDATES.len());
    for candidate in CANDIDATES {
        streams.push(Stream::new(candidate, slices, rows, level, window_log)?);
    }
    loop {
        // Whichever is ahead goes on: the first to come to its end is the smallest, and the others end there as well.
        let ahead = streams.iter_mut().min_by_key(|stream| stream.out.len());
        let Some(ahead) = ahead else { return Err(BlockError::refused("no encoding to choose from")) };
        if ahead.is_done {
            let (encoding, raw_len) = (ahead.candidate.encoding(), ahead.raw_len);
            let body = std::mem::take(&mut ahead.out);
            return Ok(DataPage { rows, values: rows, encoding, levels: Vec::new(), raw_len, body, compressed: true });
        }
        ahead.go_on()?;
    }
}

/// A page on its way through a compressor.
struct Stream<'s> {
    candidate: Candidate,
    /// What is still to come.
    rest: std::slice::Iter<'s, &'s [i64]>,
    delta: Option<delta::Encoder>,
    encoded: Vec<u8>,
    raw_len: usize,
    zstd: CCtx<'static>,
    out: Vec<u8>,
    is_done: bool,
}

impl<'s> Stream<'s> {
    fn new(
        candidate: Candidate,
        slices: &'s [&'s [i64]],
        rows: usize,
        level: i32,
        window_log: u32,
    ) -> Result<Stream<'s>, BlockError> {
        let mut encoded = Vec::new();
        let (delta, raw_len) = match candidate {
            Candidate::Plain => (None, rows * size_of::<i64>()),
            Candidate::Delta(miniblocks) => {
                let raw_len = delta::encoded_len(slices, rows, miniblocks);
                (Some(delta::Encoder::new(rows, miniblocks, &mut encoded)), raw_len)
            }
        };
        let mut zstd = CCtx::try_create().ok_or_else(|| failed("no memory for a compressor"))?;
        let parameters = [
            CParameter::CompressionLevel(level),
            CParameter::WindowLog(window_log),
            CParameter::EnableLongDistanceMatching(true),
        ];
        for parameter in parameters {
            zstd.set_parameter(parameter).map_err(named)?;
        }
        zstd.set_pledged_src_size(Some(raw_len as u64)).map_err(named)?;
        let rest = slices.iter();
        Ok(Stream { candidate, rest, delta, encoded, raw_len, zstd, out: Vec::new(), is_done: false })
    }

    /// Takes the next slice, or ends.
    fn go_on(&mut self) -> Result<(), BlockError> {
        let mut encoded = std::mem::take(&mut self.encoded);
        match (self.rest.next(), &mut self.delta) {
            (Some(slice), None) => self.compress(slice.to_byte_slice(), ZSTD_e_continue)?,
            (Some(slice), Some(delta)) => {
                delta.push(slice, &mut encoded);
                self.compress(&encoded, ZSTD_e_continue)?;
            }
            (None, delta) => {
                if let Some(delta) = delta.take() {
                    delta.finish(&mut encoded);
                }
                self.compress(&encoded, ZSTD_e_end)?;
                self.is_done = true;
            }
        }
        encoded.clear();
        self.encoded = encoded;
        Ok(())
    }

    fn compress(&mut self, raw: &[u8], directive: ZSTD_EndDirective) -> Result<(), BlockError> {
        let mut input = InBuffer::around(raw);
        loop {
            self.out.reserve(CCtx::out_size());
            let at = self.out.len();
            let mut output = OutBuffer::around_pos(&mut self.out, at);
            let left = self.zstd.compress_stream2(&mut output, &mut input, directive).map_err(named)?;
            let is_taken = input.pos() == raw.len();
            if is_taken && (directive == ZSTD_e_continue || left == 0) {
                return Ok(());
            }
        }
    }
}

fn named(code: usize) -> BlockError {
    failed(zstd::zstd_safe::get_error_name(code))
}

fn failed(what: &'static str) -> BlockError {
    BlockError::compression(std::io::Error::other(what))
}

#[cfg(test)]
mod tests {
    use super::super::page::{Encoding, PageDecoder, PageRef};
    use super::*;

    /// Packs `lists`, one behind the other, and looks whether they come back, and are in the encoding that is smallest when
    /// all is laid out at once.
    fn check(lists: &[Vec<i64>]) -> Encoding {
        let slices: Vec<&[i64]> = lists.iter().map(Vec::as_slice).collect();
        let all = slices.concat();
        let page = packed(&slices, all.len(), 3, 20).unwrap();
        let at = PageRef {
            offset: 0,
            header_len: 0,
            stored_len: page.body.len() as u32,
            raw_len: page.raw_len as u32,
            levels_len: 0,
            values: page.values as u32,
            encoding: page.encoding,
            compressed: page.compressed,
        };
        let mut back = Vec::new();
        PageDecoder::new().unwrap().integers(&at, &page.body, all.len(), &mut back).unwrap();
        assert!(back == all && page.rows == all.len());
        let mut whole = PageCompressor::with_long_window(3, 20).unwrap();
        let whole = whole.integers(all.len(), &[], &all, &CANDIDATES).unwrap();
        assert_eq!(page.encoding, whole.encoding);
        assert!(page.body.len() <= whole.body.len() + whole.body.len() / 50, "{} bytes", page.body.len());
        page.encoding
    }

    #[test]
    fn timelines_come_back_in_the_encoding_that_is_smallest() {
        let mut state = 1u64;
        let mut late_ms = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 57) as i64
        };
        let mut timeline = |len: i64| -> Vec<i64> { (0..len).map(|at| at * 15_000 + late_ms()).collect() };
        let few: Vec<Vec<i64>> = (0..10).map(|_| timeline(157)).collect();
        check(&few);
        let repeated = |lists: &[Vec<i64>], times: usize| lists.iter().cycle().take(times).cloned().collect::<Vec<_>>();
        // 157 values never stand alike in blocks of 128.
        assert_eq!(check(&repeated(&few, 1000)), Encoding::Plain);
        let long: Vec<Vec<i64>> = (0..4).map(|_| timeline(5760)).collect();
        check(&repeated(&long, 20));
        assert_eq!(check(&[timeline(200_000)]), Encoding::Delta);
    }
}
