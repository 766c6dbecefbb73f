//! The index file as bytes. Reading answers `None` where the bytes are not an index.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use pilaster_model::TimeRange;

use super::timelines;
use super::{Content, Counts, Extras, Group, Index, Name, OWN, Page, Pairs, Part, Series, Summaries};
use crate::block::BlockError;
use crate::block::divide::Divisor;
use crate::block::page::{Encoding, PageRef};
use crate::block::shelf::Charge;
use crate::block::summary;
use crate::block::timeline::Place;
use crate::block::varint::{Cursor, put_svarint, put_uvarint};

pub(in crate::block) const MAGIC: &[u8; 8] = b"PILASIX3";
/// Of files whose timelines are differences of differences.
pub(in crate::block) const MAGIC_WITH_DIFFERENCES: &[u8; 8] = b"PILASIX2";
/// Of files that end before the section of summaries as well.
pub(in crate::block) const MAGIC_WITHOUT_SUMMARIES: &[u8; 8] = b"PILASIX1";
const COMPRESSION_LEVEL: i32 = 9;

impl Content<'_> {
    /// The bytes of the index file.
    pub fn encode(&self) -> Result<Vec<u8>, BlockError> {
        let mut out = MAGIC.to_vec();
        let (pairs, series_pairs) = self.encode_pairs();
        let (series, timelines, groups) =
            (self.encode_series(), timelines::encode(&self.timelines.list), self.encode_groups());
        for section in [pairs, series_pairs, series, timelines, groups, summary::encode(self.summaries)] {
            let packed = zstd::bulk::compress(&section, COMPRESSION_LEVEL).map_err(BlockError::compression)?;
            put_uvarint(&mut out, section.len() as u64);
            put_uvarint(&mut out, packed.len() as u64);
            out.extend_from_slice(&packed);
        }
        out.extend_from_slice(&checksum(&out).to_le_bytes());
        Ok(out)
    }

    fn encode_pairs(&self) -> (Vec<u8>, Vec<u8>) {
        let mut ids: HashMap<(&str, &str), u32> = HashMap::new();
        for labels in self.labels {
            for pair in labels.iter() {
                ids.insert(pair, 0);
            }
        }
        let mut sorted: Vec<(&str, &str)> = ids.keys().copied().collect();
        sorted.sort_unstable();
        for (id, &pair) in sorted.iter().enumerate() {
            ids.insert(pair, id as u32);
        }

        let mut out = Vec::new();
        put_uvarint(&mut out, sorted.chunk_by(|a, b| a.0 == b.0).count() as u64);
        for pairs in sorted.chunk_by(|a, b| a.0 == b.0) {
            put_text(&mut out, pairs[0].0);
            put_uvarint(&mut out, pairs.len() as u64);
            let mut previous = "";
            for (_, value) in pairs {
                // Front coding: a value is what it shares with the one before, and its own end.
                let shared = previous.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
                put_uvarint(&mut out, shared as u64);
                put_uvarint(&mut out, (value.len() - shared) as u64);
                out.extend_from_slice(&value.as_bytes()[shared..]);
                previous = value;
            }
        }

        let mut series = Vec::new();
        put_uvarint(&mut series, self.labels.len() as u64);
        let (mut previous, mut current): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for labels in self.labels {
            current.clear();
            current.extend(labels.iter().map(|pair| ids[&pair]));
            put_uvarint(&mut series, current.len() as u64);
            for (at, &id) in current.iter().enumerate() {
                // Neighbours mostly have the same names and most of their values in common.
                let before = previous.get(at).copied().unwrap_or(0);
                put_svarint(&mut series, i64::from(id) - i64::from(before));
            }
            std::mem::swap(&mut previous, &mut current);
        }
        (out, series)
    }

    fn encode_series(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let has_extras = self.counts.iter().any(|counts| counts.starts > 0 || counts.histograms > 0);
        out.push(u8::from(has_extras));
        for counts in self.counts {
            put_uvarint(&mut out, u64::from(counts.rows));
        }
        out.extend(self.divisors.iter().map(|&divisor| Divisor::code(divisor)));
        for counts in self.counts {
            put_uvarint(&mut out, u64::from(counts.rows - counts.integers));
            put_uvarint(&mut out, u64::from(counts.rows - counts.integers - counts.doubles));
        }
        if has_extras {
            for counts in self.counts {
                put_uvarint(&mut out, u64::from(counts.starts));
                put_uvarint(&mut out, u64::from(counts.histograms));
            }
        }
        for (place, range) in self.timelines.places.iter().zip(self.ranges) {
            match place {
                Some(place) => {
                    put_uvarint(&mut out, u64::from(place.timeline) + 1);
                    put_uvarint(&mut out, u64::from(place.at));
                }
                None => {
                    put_uvarint(&mut out, 0);
                    put_svarint(&mut out, range.min_ms);
                    put_uvarint(&mut out, range.max_ms.wrapping_sub(range.min_ms) as u64);
                }
            }
        }
        out
    }

    fn encode_groups(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uvarint(&mut out, self.groups.len() as u64);
        for group in self.groups {
            put_uvarint(&mut out, u64::from(group.series_count));
            for pages in &group.pages {
                put_uvarint(&mut out, pages.len() as u64);
                put_uvarint(&mut out, pages.first().map_or(0, |page| page.at.offset));
                for page in pages {
                    let at = &page.at;
                    for number in [page.rows, at.values, at.header_len, at.stored_len, at.raw_len, at.levels_len] {
                        put_uvarint(&mut out, u64::from(number));
                    }
                    out.push(at.encoding as u8 | u8::from(at.compressed) << 7);
                }
            }
        }
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The last bytes of an index file, of all before. Not a CRC32C: one over a file that ends in its own is the same for all
/// files, and the manifest, which holds such, could not tell two indexes apart.
pub(in crate::block) fn checksum(bytes: &[u8]) -> u32 {
    twox_hash::XxHash64::oneshot(0, bytes) as u32
}

impl Index {
    /// # Errors
    /// The bytes are not an index file, or not one of a sample file of `samples_bytes`.
    pub fn decode(path: &Path, bytes: &[u8], samples_bytes: u64) -> Result<Index, BlockError> {
        let malformed = |what: &str| BlockError::malformed(path, format!("index without valid {what}"));
        type Decode = fn(&[u8]) -> Option<Vec<Arc<[i64]>>>;
        let (has_summaries, decode_timelines, rest) = match bytes.split_first_chunk() {
            Some((MAGIC, rest)) => (true, timelines::decode as Decode, rest),
            Some((MAGIC_WITH_DIFFERENCES, rest)) => (true, timelines::decode_differences as Decode, rest),
            Some((MAGIC_WITHOUT_SUMMARIES, rest)) => (false, timelines::decode_differences as Decode, rest),
            Some(_) | None => return Err(malformed("beginning")),
        };
        let (body, expected) = rest.split_last_chunk::<4>().ok_or_else(|| malformed("end"))?;
        if checksum(&bytes[..bytes.len() - 4]) != u32::from_le_bytes(*expected) {
            return Err(malformed("checksum"));
        }
        let mut cursor = Cursor::new(body);
        let mut section = || unpack_section(&mut cursor);
        let pairs = section().and_then(|bytes| decode_pairs(&bytes)).ok_or_else(|| malformed("label pairs"))?;
        let (pair_ids, pair_ends) =
            section().and_then(|bytes| decode_series_pairs(&bytes, pairs.len())).ok_or_else(|| malformed("labels"))?;
        let series = section().and_then(|bytes| decode_series(&bytes, pair_ends.len()));
        let series = series.ok_or_else(|| malformed("series"))?;
        let timelines = section().and_then(|bytes| decode_timelines(&bytes)).ok_or_else(|| malformed("timelines"))?;
        let groups =
            section().and_then(|bytes| decode_groups(&bytes, samples_bytes)).ok_or_else(|| malformed("pages"))?;
        let summaries = match has_summaries {
            false => Some(Summaries::default()),
            true => packed_section(&mut cursor).map(|(raw_len, packed)| Summaries {
                packed: packed.to_vec(),
                raw_len,
                unpacked: OnceLock::new(),
            }),
        };
        let summaries = summaries.ok_or_else(|| malformed("summaries"))?;
        if !cursor.is_empty() {
            return Err(malformed("end"));
        }
        let postings = (0..pairs.name_count()).map(|_| OnceLock::new()).collect();
        let (series, extras, own_ranges, groups) =
            place(series, &timelines, groups).ok_or_else(|| malformed("positions"))?;
        let charge = Charge::default();
        Ok(Index {
            pairs,
            pair_ids,
            pair_ends,
            series,
            extras,
            own_ranges,
            timelines,
            groups,
            postings,
            summaries,
            charge,
        })
    }
}

fn unpack_section(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let (raw_len, packed) = packed_section(cursor)?;
    unpack(packed, raw_len)
}

/// The length of a section and its bytes, packed.
fn packed_section<'a>(cursor: &mut Cursor<'a>) -> Option<(u64, &'a [u8])> {
    let raw_len: u64 = cursor.uvarint()?;
    let packed_len: usize = cursor.number()?;
    Some((raw_len, cursor.bytes(packed_len)?))
}

pub(super) fn unpack(packed: &[u8], raw_len: u64) -> Option<Vec<u8>> {
    // Grows with what really comes out: a wrong length must not reserve memory.
    let mut raw = Vec::new();
    zstd::stream::read::Decoder::new(packed).ok()?.take(raw_len.checked_add(1)?).read_to_end(&mut raw).ok()?;
    (raw.len() as u64 == raw_len).then_some(raw)
}

fn decode_pairs(bytes: &[u8]) -> Option<Pairs> {
    let mut cursor = Cursor::new(bytes);
    let names: usize = cursor.number()?;
    let mut pairs = Pairs::default();
    let mut value: Vec<u8> = Vec::new();
    for _ in 0..names {
        let name_len = cursor.number()?;
        let name = std::str::from_utf8(cursor.bytes(name_len)?).ok()?;
        if pairs.name_count() > 0 && pairs.name(pairs.name_count() - 1) >= name {
            return None;
        }
        let start = pairs.text.len() as u32;
        pairs.text.push_str(name);
        let end = u32::try_from(pairs.text.len()).ok()?;
        pairs.names.push(Name { start, end, first_pair: pairs.values.len() as u32 });
        let values: usize = cursor.number()?;
        value.clear();
        for index in 0..values {
            let shared: usize = cursor.number()?;
            let own_len = cursor.number()?;
            let own = cursor.bytes(own_len)?;
            // Ascending: the first own byte is greater than the one it replaces.
            if shared > value.len() || own.is_empty() || (index > 0 && value.get(shared) >= own.first()) {
                return None;
            }
            value.truncate(shared);
            value.extend_from_slice(own);
            let start = pairs.text.len() as u32;
            pairs.text.push_str(std::str::from_utf8(&value).ok()?);
            pairs.values.push((start, u32::try_from(pairs.text.len()).ok()?));
        }
    }
    cursor.is_empty().then_some(pairs)
}

fn decode_series_pairs(bytes: &[u8], pair_count: usize) -> Option<(Vec<u32>, Vec<u32>)> {
    let mut cursor = Cursor::new(bytes);
    let count: usize = cursor.number()?;
    let (mut ids, mut ends): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
    let mut previous = 0..0;
    for _ in 0..count {
        let len: usize = cursor.number()?;
        let start = ids.len();
        for at in 0..len {
            let before = if at < previous.len() { ids[previous.start + at] } else { 0 };
            let id = u32::try_from(i64::from(before).checked_add(cursor.svarint()?)?).ok()?;
            if id as usize >= pair_count || (at > 0 && ids[start + at - 1] >= id) {
                return None;
            }
            ids.push(id);
        }
        previous = start..ids.len();
        ends.push(u32::try_from(ids.len()).ok()?);
    }
    cursor.is_empty().then_some((ids, ends))
}

/// A series as its section has it, before positions are known.
struct Stored {
    counts: Counts,
    divisor: Option<Divisor>,
    time: Result<Place, TimeRange>,
}

fn decode_series(bytes: &[u8], count: usize) -> Option<(bool, Vec<Stored>)> {
    let mut cursor = Cursor::new(bytes);
    let has_extras = cursor.byte()? == 1;
    if count > bytes.len() {
        return None;
    }
    let mut counts = Vec::with_capacity(count);
    for _ in 0..count {
        let rows: u32 = cursor.number()?;
        counts.push(Counts { rows, ..Counts::default() });
    }
    let codes = cursor.bytes(count)?;
    for counts in &mut counts {
        let (not_integers, neither): (u32, u32) = (cursor.number()?, cursor.number()?);
        counts.integers = counts.rows.checked_sub(not_integers)?;
        counts.doubles = not_integers.checked_sub(neither)?;
    }
    if has_extras {
        for counts in &mut counts {
            counts.starts = cursor.number()?;
            counts.histograms = cursor.number()?;
            let free = counts.rows - counts.integers - counts.doubles;
            if counts.starts > counts.rows || counts.histograms > free {
                return None;
            }
        }
    }
    let mut series = Vec::with_capacity(count);
    for (counts, &code) in counts.into_iter().zip(codes) {
        let divisor = Divisor::from_code(code)?;
        if counts.rows == 0 || (divisor.is_none() && counts.integers > 0) {
            return None;
        }
        let time = match cursor.number::<u32>()? {
            0 => {
                let min_ms = cursor.svarint()?;
                // The span of two timestamps may need all 64 bits.
                let max_ms = min_ms.wrapping_add(cursor.uvarint()? as i64);
                if max_ms < min_ms {
                    return None;
                }
                Err(TimeRange::new(min_ms, max_ms))
            }
            timeline => Ok(Place { timeline: timeline - 1, at: cursor.number()? }),
        };
        series.push(Stored { counts, divisor, time });
    }
    cursor.is_empty().then_some((has_extras, series))
}

fn decode_groups(bytes: &[u8], samples_bytes: u64) -> Option<Vec<Group>> {
    let mut cursor = Cursor::new(bytes);
    let count: usize = cursor.number()?;
    let mut groups = Vec::new();
    for _ in 0..count {
        let mut group = Group { series_count: cursor.number()?, ..Group::default() };
        for pages in &mut group.pages {
            let count: usize = cursor.number()?;
            let mut offset = cursor.uvarint()?;
            let (mut first_row, mut first_value) = (0u32, 0u32);
            for _ in 0..count {
                let [rows, values, header_len, stored_len, raw_len, levels_len] = {
                    let mut numbers = [0u32; 6];
                    for number in &mut numbers {
                        *number = cursor.number()?;
                    }
                    numbers
                };
                let flags = cursor.byte()?;
                let encoding = Encoding::from_number(u64::from(flags & 0x7f))?;
                let compressed = flags & 0x80 != 0;
                let at = PageRef { offset, header_len, stored_len, raw_len, levels_len, values, encoding, compressed };
                offset = offset.checked_add(u64::from(header_len))?.checked_add(u64::from(stored_len))?;
                if offset > samples_bytes || values > rows || levels_len > stored_len || levels_len > raw_len {
                    return None;
                }
                pages.push(Page { first_row, rows, first_value, at });
                first_row = first_row.checked_add(rows)?;
                first_value = first_value.checked_add(values)?;
            }
        }
        groups.push(group);
    }
    cursor.is_empty().then_some(groups)
}

type Placed = (Vec<Series>, Vec<Extras>, Vec<TimeRange>, Vec<Group>);

/// Sums counts up to positions, and checks that series, timelines and pages fit each other.
fn place(stored: (bool, Vec<Stored>), timelines: &[Arc<[i64]>], mut groups: Vec<Group>) -> Option<Placed> {
    let (has_extras, stored) = stored;
    let mut series = Vec::with_capacity(stored.len());
    let mut extras = Vec::new();
    let mut own_ranges = Vec::new();
    let mut rest = stored.as_slice();
    for group in &mut groups {
        group.first_series = series.len() as u32;
        let (here, after) = rest.split_at_checked(group.series_count as usize)?;
        rest = after;
        if here.is_empty() {
            return None;
        }
        let mut sums = [0u32; 5];
        for Stored { counts, divisor, time } in here {
            let [first_row, first_integer, first_double, first_start, first_histogram] = sums;
            for (sum, part) in sums.iter_mut().zip(Part::ALL) {
                *sum = sum.checked_add(counts.of(part))?;
            }
            let (time, at) = match time {
                Ok(Place { timeline, at }) => {
                    let whole = timelines.get(*timeline as usize)?;
                    whole.get(*at as usize..)?.get(..counts.rows as usize)?;
                    (*timeline, *at)
                }
                Err(range) => {
                    own_ranges.push(*range);
                    (OWN | (own_ranges.len() - 1) as u32, 0)
                }
            };
            series.push(Series {
                first_row,
                rows: counts.rows,
                first_integer,
                integers: counts.integers,
                first_double,
                doubles: counts.doubles,
                time,
                at,
                divisor: *divisor,
            });
            if has_extras {
                let (starts, histograms) = (counts.starts, counts.histograms);
                extras.push(Extras { first_start, starts, first_histogram, histograms });
            }
        }
        group.rows = sums[0];
        for (pages, sum) in group.pages.iter().zip(sums) {
            let rows = pages.last().map_or(0, |page| page.first_row + page.rows);
            let values = pages.last().map_or(0, |page| page.first_value + page.at.values);
            if rows != group.rows || values != sum {
                return None;
            }
        }
    }
    rest.is_empty().then_some((series, extras, own_ranges, groups))
}
