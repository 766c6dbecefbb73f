//! One Parquet page: its header in compact Thrift, its levels, its compression.
//!
//! Only what a block uses: data pages v2 and dictionary pages, flat columns, zstd. Source: Apache Parquet format,
//! `parquet.thrift` (`PageHeader`) and `Encodings.md` ("RLE / bit-packing hybrid").

use super::delta;
use super::varint::{Cursor, put_svarint, put_uvarint};

/// How the values of a page are written; numbers are Parquet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    Plain = 0,
    Delta = 5,
    Dictionary = 8,
}

impl Encoding {
    pub fn from_number(number: u64) -> Option<Encoding> {
        match number {
            0 => Some(Encoding::Plain),
            5 => Some(Encoding::Delta),
            8 => Some(Encoding::Dictionary),
            _ => None,
        }
    }
}

/// A page in a file: all that a reader needs to decode it without parsing its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRef {
    /// Of the header, from the start of the file.
    pub offset: u64,
    pub header_len: u32,
    /// Bytes behind the header.
    pub stored_len: u32,
    /// Bytes of the body when decompressed, levels included.
    pub raw_len: u32,
    /// Definition levels stand before the values, never compressed.
    pub levels_len: u32,
    /// Values that are not null.
    pub values: u32,
    pub encoding: Encoding,
    pub compressed: bool,
}

const DATA_PAGE_V2: i64 = 3;
const DICTIONARY_PAGE: i64 = 2;
/// Compact Thrift: a 32-bit integer in the field right after the last one.
const NEXT_I32: u8 = 0x15;

/// A data page as it will stand in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPage {
    pub rows: usize,
    /// Values that are not null.
    pub values: usize,
    pub encoding: Encoding,
    pub levels: Vec<u8>,
    /// Bytes of the values before compression.
    pub raw_len: usize,
    /// The values, compressed or not.
    pub body: Vec<u8>,
    pub compressed: bool,
}

impl DataPage {
    /// A page without values.
    pub fn nulls(rows: usize, levels: &[u8]) -> DataPage {
        let levels = levels.to_vec();
        DataPage { rows, values: 0, encoding: Encoding::Plain, levels, raw_len: 0, body: Vec::new(), compressed: false }
    }
}

/// Appends header and body of a data page; the offset of what is returned counts from the start of `out`.
pub fn put_data_page(out: &mut Vec<u8>, page: &DataPage) -> PageRef {
    let DataPage { rows, values, encoding, ref levels, raw_len, ref body, compressed } = *page;
    let offset = out.len();
    let (raw_len, stored_len) = (levels.len() + raw_len, levels.len() + body.len());
    for number in [DATA_PAGE_V2, raw_len as i64, stored_len as i64] {
        out.push(NEXT_I32);
        put_svarint(out, number);
    }
    // Field 8, a structure: five behind field 3.
    out.push(0x5c);
    let nulls = rows - values;
    for number in [rows, nulls, rows, encoding as usize, levels.len(), 0] {
        out.push(NEXT_I32);
        put_svarint(out, number as i64);
    }
    out.push(if compressed { 0x11 } else { 0x12 });
    out.extend_from_slice(&[0, 0]);
    let header_len = (out.len() - offset) as u32;
    out.extend_from_slice(levels);
    out.extend_from_slice(body);
    PageRef {
        offset: offset as u64,
        header_len,
        stored_len: stored_len as u32,
        raw_len: raw_len as u32,
        levels_len: levels.len() as u32,
        values: values as u32,
        encoding,
        compressed,
    }
}

/// Appends header and body of a dictionary page, whose body is always compressed.
pub fn put_dictionary_page(out: &mut Vec<u8>, entries: usize, raw_len: usize, compressed: &[u8]) -> PageRef {
    let offset = out.len();
    for number in [DICTIONARY_PAGE, raw_len as i64, compressed.len() as i64] {
        out.push(NEXT_I32);
        put_svarint(out, number);
    }
    // Field 7, a structure: four behind field 3.
    out.push(0x4c);
    for number in [entries, Encoding::Plain as usize] {
        out.push(NEXT_I32);
        put_svarint(out, number as i64);
    }
    out.extend_from_slice(&[0, 0]);
    let header_len = (out.len() - offset) as u32;
    out.extend_from_slice(compressed);
    PageRef {
        offset: offset as u64,
        header_len,
        stored_len: compressed.len() as u32,
        raw_len: raw_len as u32,
        levels_len: 0,
        values: entries as u32,
        encoding: Encoding::Plain,
        compressed: true,
    }
}

/// Reads back a header that [`put_data_page`] or [`put_dictionary_page`] wrote at `offset`, with the rows of a data page;
/// `None` for any other form.
pub fn parse_header(bytes: &[u8], offset: u64) -> Option<(Option<u32>, PageRef)> {
    let mut cursor = Cursor::new(bytes);
    let next_i32 = |cursor: &mut Cursor<'_>| (cursor.byte()? == NEXT_I32).then(|| cursor.svarint())?;
    let kind = next_i32(&mut cursor)?;
    let raw_len = u32::try_from(next_i32(&mut cursor)?).ok()?;
    let stored_len = u32::try_from(next_i32(&mut cursor)?).ok()?;
    let (rows, levels_len, values, encoding, compressed) = match (kind, cursor.byte()?) {
        (DATA_PAGE_V2, 0x5c) => {
            let rows = u32::try_from(next_i32(&mut cursor)?).ok()?;
            let nulls = u32::try_from(next_i32(&mut cursor)?).ok()?;
            next_i32(&mut cursor)?;
            let encoding = Encoding::from_number(next_i32(&mut cursor)?.try_into().ok()?)?;
            let levels_len = u32::try_from(next_i32(&mut cursor)?).ok()?;
            next_i32(&mut cursor)?;
            let compressed = match cursor.byte()? {
                0x11 => true,
                0x12 => false,
                _ => return None,
            };
            (Some(rows), levels_len, rows.checked_sub(nulls)?, encoding, compressed)
        }
        (DICTIONARY_PAGE, 0x4c) => {
            let entries = u32::try_from(next_i32(&mut cursor)?).ok()?;
            next_i32(&mut cursor)?;
            (None, 0, entries, Encoding::Plain, true)
        }
        _ => return None,
    };
    (cursor.bytes(2)? == [0, 0]).then_some(())?;
    let header_len = cursor.position() as u32;
    Some((rows, PageRef { offset, header_len, stored_len, raw_len, levels_len, values, encoding, compressed }))
}

/// Appends runs of the hybrid encoding, each value in as many whole bytes as `width` bits need.
pub fn put_runs(out: &mut Vec<u8>, width: u32, runs: impl IntoIterator<Item = (u32, usize)>) {
    let bytes = width.div_ceil(8) as usize;
    let mut pending: Option<(u32, usize)> = None;
    let mut put = |(value, len): (u32, usize)| {
        if len > 0 {
            put_uvarint(out, (len as u64) << 1);
            out.extend_from_slice(&value.to_le_bytes()[..bytes]);
        }
    };
    for (value, len) in runs {
        match &mut pending {
            Some((last, total)) if *last == value => *total += len,
            _ => {
                if let Some(done) = pending.replace((value, len)) {
                    put(done);
                }
            }
        }
    }
    if let Some(done) = pending {
        put(done);
    }
}

/// Decodes runs that [`put_runs`] wrote, `(value, length)` each, until `rows` are covered.
pub fn parse_runs(bytes: &[u8], width: u32, rows: usize) -> Option<Vec<(u32, usize)>> {
    let width = width.div_ceil(8) as usize;
    let mut cursor = Cursor::new(bytes);
    let mut runs = Vec::new();
    let mut covered = 0usize;
    while covered < rows {
        let head: usize = cursor.number()?;
        let len = head >> 1;
        // Bit-packed groups are legal Parquet, but we never write them.
        if head & 1 == 1 || len == 0 || len > rows - covered {
            return None;
        }
        let mut value = [0; 4];
        value.get_mut(..width)?.copy_from_slice(cursor.bytes(width)?);
        runs.push((u32::from_le_bytes(value), len));
        covered += len;
    }
    Some(runs)
}

/// The bits needed for dictionary indices; at least one, for readers that know no width of zero.
pub fn index_width(entries: usize) -> u32 {
    (usize::BITS - entries.saturating_sub(1).leading_zeros()).max(1)
}

/// Decompresses and decodes page bodies, reusing its buffers.
pub struct PageDecoder {
    zstd: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
}

impl PageDecoder {
    pub fn new() -> std::io::Result<PageDecoder> {
        Ok(PageDecoder { zstd: zstd::bulk::Decompressor::new()?, raw: Vec::new() })
    }

    /// Gives memory back beyond so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.raw.clear();
        self.raw.shrink_to(bytes);
    }

    /// The values part of `body`, uncompressed, with [`delta::PADDING`] bytes behind it.
    fn values(&mut self, page: &PageRef, body: &[u8]) -> Option<&[u8]> {
        let stored = body.get(page.levels_len as usize..)?;
        let raw_len = page.raw_len.checked_sub(page.levels_len)? as usize;
        // Both must say the same before memory is taken for it.
        let really = match page.compressed {
            true => zstd::zstd_safe::get_frame_content_size(stored).ok()??,
            false => stored.len() as u64,
        };
        (really == raw_len as u64).then_some(())?;
        // Written into spare capacity: what is overwritten anyway is not zeroed before.
        self.raw.clear();
        self.raw.reserve(raw_len + delta::PADDING);
        if page.compressed {
            let written = self.zstd.decompress_to_buffer(stored, &mut self.raw).ok()?;
            (written == raw_len).then_some(())?;
        } else {
            self.raw.extend_from_slice(stored);
        }
        self.raw.extend_from_slice(&[0; delta::PADDING]);
        Some(&self.raw)
    }

    /// The values part of a page, uncompressed.
    pub fn raw(&mut self, page: &PageRef, body: &[u8]) -> Option<&[u8]> {
        self.values(page, body).map(|values| &values[..values.len() - delta::PADDING])
    }

    /// The first `wanted` values that are not null.
    pub fn integers(&mut self, page: &PageRef, body: &[u8], wanted: usize, out: &mut Vec<i64>) -> Option<()> {
        out.clear();
        if wanted == 0 {
            return Some(());
        }
        let encoding = page.encoding;
        let values = self.values(page, body)?;
        match encoding {
            Encoding::Delta => delta::decode(values, wanted, out),
            Encoding::Plain => {
                let plain = values.get(..values.len() - delta::PADDING)?.get(..wanted.checked_mul(8)?)?;
                out.extend(plain.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)));
                Some(())
            }
            Encoding::Dictionary => None,
        }
    }

    /// The first `wanted` doubles that are not null.
    pub fn doubles(&mut self, page: &PageRef, body: &[u8], wanted: usize, out: &mut Vec<f64>) -> Option<()> {
        out.clear();
        if wanted == 0 {
            return Some(());
        }
        let encoding = page.encoding;
        let values = self.values(page, body)?;
        match encoding {
            Encoding::Plain => {
                let plain = values.get(..values.len() - delta::PADDING)?.get(..wanted.checked_mul(8)?)?;
                out.extend(plain.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
                Some(())
            }
            Encoding::Delta | Encoding::Dictionary => None,
        }
    }

    /// The first `wanted` byte arrays that are not null, each handed to `take`, which may refuse one.
    pub fn byte_arrays(
        &mut self,
        page: &PageRef,
        body: &[u8],
        wanted: usize,
        mut take: impl FnMut(&[u8]) -> Option<()>,
    ) -> Option<()> {
        if page.encoding != Encoding::Plain {
            return None;
        }
        let values = self.values(page, body)?;
        let mut cursor = Cursor::new(values.get(..values.len() - delta::PADDING)?);
        for _ in 0..wanted {
            let len = u32::from_le_bytes(*cursor.bytes(4)?.first_chunk()?);
            take(cursor.bytes(len as usize)?)?;
        }
        Some(())
    }

    /// The dictionary indices of a page, as runs; `rows` without the nulls.
    pub fn index_runs(&mut self, page: &PageRef, body: &[u8]) -> Option<Vec<(u32, usize)>> {
        if page.encoding != Encoding::Dictionary {
            return None;
        }
        let count = page.values as usize;
        let values = self.values(page, body)?;
        let (&width, runs) = values.get(..values.len() - delta::PADDING)?.split_first()?;
        if width > 32 { None } else { parse_runs(runs, u32::from(width), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let mut out = Vec::new();
        let page = DataPage {
            rows: 100,
            values: 90,
            encoding: Encoding::Delta,
            levels: vec![1, 2, 3],
            raw_len: 50,
            body: vec![7; 20],
            compressed: true,
        };
        let data = put_data_page(&mut out, &page);
        assert_eq!(parse_header(&out, 0), Some((Some(100), data)));
        let at = out.len();
        assert_eq!(at, data.header_len as usize + data.stored_len as usize);
        let dictionary = put_dictionary_page(&mut out, 5, 40, &[1; 10]);
        assert_eq!(parse_header(&out[at..], at as u64), Some((None, dictionary)));
        for len in 0..data.header_len as usize {
            assert_eq!(parse_header(&out[..len], 0), None);
        }
    }

    #[test]
    fn a_large_page_leaves_no_large_room_behind() {
        let rows = 1 << 20;
        let body = zstd::bulk::compress(&vec![0; 8 * rows], 3).unwrap();
        let page = PageRef {
            offset: 0,
            header_len: 0,
            stored_len: body.len() as u32,
            raw_len: 8 * rows as u32,
            levels_len: 0,
            values: rows as u32,
            encoding: Encoding::Plain,
            compressed: true,
        };
        let mut decoder = PageDecoder::new().unwrap();
        let mut values = Vec::new();
        for wanted in [rows, 5] {
            decoder.integers(&page, &body, wanted, &mut values).unwrap();
            assert!(values.len() == wanted && values.iter().all(|&value| value == 0));
            assert!(decoder.raw.capacity() >= 8 * rows);
            decoder.shrink_to(4096);
            assert!(decoder.raw.capacity() <= 4096);
        }
    }

    #[test]
    fn runs_round_trip_and_merge() {
        let mut out = Vec::new();
        put_runs(&mut out, 9, [(300, 5), (300, 2), (0, 0), (1, 1000)]);
        assert_eq!(parse_runs(&out, 9, 1007), Some(vec![(300, 7), (1, 1000)]));
        assert_eq!(parse_runs(&out, 9, 1008), None);
        assert_eq!(parse_runs(&out, 9, 1000), None);
        assert_eq!(
            (index_width(0), index_width(1), index_width(2), index_width(256), index_width(257)),
            (1, 1, 1, 8, 9)
        );
    }
}
