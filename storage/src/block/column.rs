//! Column chunks: pages one behind the other, and the metadata that Parquet's footer keeps of them.

use arrow::datatypes::ToByteSlice;
use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::page::{DataPage, Encoding, PageRef, index_width, put_data_page, put_dictionary_page, put_runs};
use super::{BlockError, delta};

/// Places of a page that are looked at before all of it is tried, and integers in each.
const SAMPLES: usize = 4;
const SAMPLE: usize = 1024;

/// What came out smallest of what was tried so far, and its length before compression.
#[derive(Default)]
struct Trial {
    chosen: Option<(Candidate, usize)>,
}

/// Compresses pages; one for values and labels, one with a long window for timestamps.
pub struct PageCompressor {
    zstd: Compressor<'static>,
    best: Vec<u8>,
    spare: Vec<u8>,
    encoded: Vec<u8>,
}

impl PageCompressor {
    pub fn new(level: i32) -> Result<PageCompressor, BlockError> {
        let zstd = Compressor::new(level).map_err(BlockError::compression)?;
        Ok(PageCompressor { zstd, best: Vec::new(), spare: Vec::new(), encoded: Vec::new() })
    }

    /// Finds repetitions up to 2^`window_log` bytes back: a timeline recurs once per series of its target.
    pub fn with_long_window(level: i32, window_log: u32) -> Result<PageCompressor, BlockError> {
        let mut compressor = PageCompressor::new(level)?;
        for parameter in [CParameter::WindowLog(window_log), CParameter::EnableLongDistanceMatching(true)] {
            compressor.zstd.set_parameter(parameter).map_err(BlockError::compression)?;
        }
        Ok(compressor)
    }

    /// Compresses `raw` into `spare`.
    fn compress(&mut self, raw: &[u8]) -> Result<(), BlockError> {
        self.spare.clear();
        self.spare.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.zstd.compress_to_buffer(raw, &mut self.spare).map_err(BlockError::compression)?;
        Ok(())
    }

    /// A page in one encoding, compressed where that helps.
    fn pack(
        &mut self,
        rows: usize,
        values: usize,
        encoding: Encoding,
        levels: &[u8],
        raw: &[u8],
    ) -> Result<DataPage, BlockError> {
        self.compress(raw)?;
        let compressed = self.spare.len() < raw.len();
        let body = if compressed { self.spare.to_vec() } else { raw.to_vec() };
        Ok(DataPage { rows, values, encoding, levels: levels.to_vec(), raw_len: raw.len(), body, compressed })
    }

    /// A page of integers in the candidate that comes out smallest.
    pub fn integers(
        &mut self,
        rows: usize,
        levels: &[u8],
        integers: &[i64],
        candidates: &[Candidate],
    ) -> Result<DataPage, BlockError> {
        if integers.is_empty() {
            return Ok(DataPage::nulls(rows, levels));
        }
        let mut trial = Trial::default();
        for &candidate in candidates {
            self.attempt(candidate, integers, &mut trial)?;
        }
        self.chosen(rows, levels, integers, trial)
    }

    /// A page of values in the encoding that comes out smallest, as far as that is worth trying: integers as they are in
    /// memory take longest, and where differences are noise, neither they nor other blocks of differences are smaller.
    pub fn values(&mut self, rows: usize, levels: &[u8], integers: &[i64]) -> Result<DataPage, BlockError> {
        if integers.is_empty() {
            return Ok(DataPage::nulls(rows, levels));
        }
        let mut trial = Trial::default();
        let narrow = Candidate::Delta(4);
        self.attempt(narrow, integers, &mut trial)?;
        let is_noise = trial.chosen.is_some_and(|(_, raw_len)| self.best.len() > raw_len / 5 * 4);
        if !is_noise {
            self.attempt(Candidate::Delta(16), integers, &mut trial)?;
        }
        if integers.len() <= 2 * SAMPLES * SAMPLE || self.is_plain_promising(integers, narrow)? {
            self.attempt(Candidate::Plain, integers, &mut trial)?;
        }
        self.chosen(rows, levels, integers, trial)
    }

    /// Whether a few places of `integers` come out less than half as large again in memory's own form as in that of
    /// `other`. Both know less there than in the whole page, of what repeats from series to series.
    fn is_plain_promising(&mut self, integers: &[i64], other: Candidate) -> Result<bool, BlockError> {
        let starts = (1..2 * SAMPLES).step_by(2).map(|nth| (integers.len() - SAMPLE) * nth / (2 * SAMPLES));
        let sample: Vec<i64> = starts.flat_map(|start| &integers[start..start + SAMPLE]).copied().collect();
        let mut len_of = |candidate: Candidate| {
            let mut encoded = std::mem::take(&mut self.encoded);
            let done = self.compress(candidate.encode(&sample, &mut encoded));
            self.encoded = encoded;
            done.map(|()| self.spare.len())
        };
        Ok(len_of(Candidate::Plain)? < len_of(other)? / 2 * 3)
    }

    /// Encodes and compresses `integers`; into `best` where that is smaller than what stands there.
    fn attempt(&mut self, candidate: Candidate, integers: &[i64], trial: &mut Trial) -> Result<(), BlockError> {
        let mut encoded = std::mem::take(&mut self.encoded);
        let raw = candidate.encode(integers, &mut encoded);
        let (raw_len, done) = (raw.len(), self.compress(raw));
        self.encoded = encoded;
        done?;
        if trial.chosen.is_none() || self.spare.len() < self.best.len() {
            std::mem::swap(&mut self.best, &mut self.spare);
            trial.chosen = Some((candidate, raw_len));
        }
        Ok(())
    }

    /// The page that came out smallest.
    fn chosen(&mut self, rows: usize, levels: &[u8], integers: &[i64], trial: Trial) -> Result<DataPage, BlockError> {
        let Some((candidate, raw_len)) = trial.chosen else {
            return Err(BlockError::Refused { reason: "no encoding to choose from".into() });
        };
        let compressed = self.best.len() < raw_len;
        // Made again rather than kept: pages that do not compress are few.
        let body = if compressed { self.best.to_vec() } else { candidate.encode(integers, &mut self.encoded).to_vec() };
        let (values, encoding) = (integers.len(), candidate.encoding());
        Ok(DataPage { rows, values, encoding, levels: levels.to_vec(), raw_len, body, compressed })
    }

    /// A page of `runs` of equal integers, `(integer, rows)`.
    pub fn runs(&mut self, runs: &[(i64, usize)]) -> Result<DataPage, BlockError> {
        let rows = runs.iter().map(|(_, rows)| rows).sum();
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        delta::encode_runs(runs, 16, &mut encoded);
        let page = self.pack(rows, rows, Encoding::Delta, &[], &encoded);
        self.encoded = encoded;
        page
    }

    pub fn doubles(&mut self, rows: usize, levels: &[u8], doubles: &[f64]) -> Result<DataPage, BlockError> {
        self.plain(rows, levels, doubles.len(), doubles.to_byte_slice())
    }

    /// A page of values that are in their PLAIN encoding already.
    pub fn plain(&mut self, rows: usize, levels: &[u8], values: usize, plain: &[u8]) -> Result<DataPage, BlockError> {
        if values == 0 {
            return Ok(DataPage::nulls(rows, levels));
        }
        self.pack(rows, values, Encoding::Plain, levels, plain)
    }
}

/// The ways to write a page of integers, tried one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    Plain,
    /// Delta with this many miniblocks of 32 to a block.
    Delta(usize),
}

impl Candidate {
    pub fn encoding(self) -> Encoding {
        match self {
            Candidate::Plain => Encoding::Plain,
            Candidate::Delta(_) => Encoding::Delta,
        }
    }

    /// The bytes of `integers`, which are in `buffer` where they are not those in memory.
    fn encode<'a>(self, integers: &'a [i64], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            // As Arrow, this runs on machines that store the lowest byte first.
            Candidate::Plain => integers.to_byte_slice(),
            Candidate::Delta(miniblocks) => {
                buffer.clear();
                delta::encode(integers, miniblocks, buffer);
                buffer
            }
        }
    }
}

/// A column chunk in the making. Offsets count from its start.
pub struct Chunk {
    descriptor: ColumnDescPtr,
    bytes: Vec<u8>,
    offsets: OffsetIndexBuilder,
    raw_len: i64,
    rows: usize,
    nulls: usize,
    encodings: Vec<(Encoding, i32)>,
    dictionary: Option<PageRef>,
    /// Rows of each page, and the page.
    pages: Vec<(u32, PageRef)>,
}

/// What a finished chunk is for the footer, and where its pages are for the index file.
pub struct FinishedChunk {
    pub bytes: Bytes,
    pub close: ColumnCloseResult,
    /// Rows of each page, and the page; offsets count from the start of the chunk.
    pub pages: Vec<(u32, PageRef)>,
}

impl Chunk {
    pub fn new(descriptor: ColumnDescPtr) -> Chunk {
        Chunk {
            descriptor,
            bytes: Vec::new(),
            offsets: OffsetIndexBuilder::new(),
            raw_len: 0,
            rows: 0,
            nulls: 0,
            encodings: Vec::new(),
            dictionary: None,
            pages: Vec::new(),
        }
    }

    fn put_dictionary(&mut self, entries: usize, plain: &[u8], zstd: &mut PageCompressor) -> Result<(), BlockError> {
        zstd.compress(plain)?;
        let page = put_dictionary_page(&mut self.bytes, entries, plain.len(), &zstd.spare);
        self.raw_len += i64::from(page.header_len) + i64::from(page.raw_len);
        self.dictionary = Some(page);
        Ok(())
    }

    pub fn put(&mut self, page: &DataPage) {
        let placed = put_data_page(&mut self.bytes, page);
        self.offsets.append_row_count(page.rows as i64);
        self.offsets.append_offset_and_size(placed.offset as i64, (placed.header_len + placed.stored_len) as i32);
        self.raw_len += i64::from(placed.header_len) + i64::from(placed.raw_len);
        self.rows += page.rows;
        self.nulls += page.rows - page.values;
        match self.encodings.iter_mut().find(|(known, _)| *known == page.encoding) {
            Some((_, count)) => *count += 1,
            None => self.encodings.push((page.encoding, 1)),
        }
        self.pages.push((page.rows as u32, placed));
    }

    /// The chunk as the footer wants it. Parquet's own encoding of levels counts as one.
    pub fn finish(
        self,
        statistics: Option<Statistics>,
        column_index: Option<ColumnIndexBuilder>,
    ) -> Result<FinishedChunk, BlockError> {
        let parquet_encoding = |encoding| match encoding {
            Encoding::Plain => parquet::basic::Encoding::PLAIN,
            Encoding::Delta => parquet::basic::Encoding::DELTA_BINARY_PACKED,
            Encoding::Dictionary => parquet::basic::Encoding::RLE_DICTIONARY,
        };
        let mut encodings: Vec<parquet::basic::Encoding> =
            self.encodings.iter().map(|(encoding, _)| parquet_encoding(*encoding)).collect();
        encodings.push(parquet::basic::Encoding::RLE);
        let mut page_stats: Vec<PageEncodingStats> = self
            .encodings
            .iter()
            .map(|&(encoding, count)| PageEncodingStats {
                page_type: parquet::basic::PageType::DATA_PAGE_V2,
                encoding: parquet_encoding(encoding),
                count,
            })
            .collect();
        if self.dictionary.is_some() {
            page_stats.push(PageEncodingStats {
                page_type: parquet::basic::PageType::DICTIONARY_PAGE,
                encoding: parquet::basic::Encoding::PLAIN,
                count: 1,
            });
            if !encodings.contains(&parquet::basic::Encoding::PLAIN) {
                encodings.push(parquet::basic::Encoding::PLAIN);
            }
        }
        let first = self.pages.first().map_or(0, |(_, page)| page.offset);
        let mut metadata = ColumnChunkMetaData::builder(self.descriptor)
            .set_encodings(encodings)
            .set_page_encoding_stats(page_stats)
            .set_num_values(self.rows as i64)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_total_compressed_size(self.bytes.len() as i64)
            .set_total_uncompressed_size(self.raw_len)
            .set_data_page_offset(first as i64)
            .set_dictionary_page_offset(self.dictionary.map(|page| page.offset as i64));
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: self.bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: column_index.map(ColumnIndexBuilder::build).transpose()?,
            offset_index: Some(self.offsets.build()),
        };
        Ok(FinishedChunk { bytes: Bytes::from(self.bytes), close, pages: self.pages })
    }

    pub fn nulls(&self) -> usize {
        self.nulls
    }

    /// Whether no page has a value.
    pub fn is_all_null(&self) -> bool {
        self.nulls == self.rows
    }
}

/// Distinct values in order of first use, with what Parquet wants of a dictionary page.
#[derive(Debug, Default)]
pub struct Dictionary {
    /// PLAIN encoding of all entries.
    pub plain: Vec<u8>,
    /// Where each entry's own bytes stand in `plain`.
    entries: Vec<(usize, usize)>,
}

impl Dictionary {
    pub fn push_text(&mut self, text: &[u8]) -> u32 {
        self.plain.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.push_fixed(text)
    }

    /// An entry whose length its type implies.
    pub fn push_fixed(&mut self, bytes: &[u8]) -> u32 {
        let start = self.plain.len();
        self.plain.extend_from_slice(bytes);
        self.entries.push((start, self.plain.len()));
        (self.entries.len() - 1) as u32
    }

    pub fn entry(&self, index: u32) -> &[u8] {
        let (start, end) = self.entries[index as usize];
        &self.plain[start..end]
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Smallest and largest entry by bytes; `None` for an empty dictionary.
    pub fn min_max(&self) -> Option<(&[u8], &[u8])> {
        let entries = || (0..self.len() as u32).map(|index| self.entry(index));
        Some((entries().min()?, entries().max()?))
    }
}

/// A dictionary column from runs, `(entry or null, rows)`: the cost is per run, not per row.
///
/// `pages` cuts the runs: the number of runs in each page. With `index`, the smallest and largest entry of every page go
/// into the page index.
pub fn dictionary_chunk(
    descriptor: ColumnDescPtr,
    dictionary: &Dictionary,
    runs: &[(Option<u32>, usize)],
    pages: &[usize],
    zstd: &mut PageCompressor,
    index: Option<PageIndexOrder>,
) -> Result<(Chunk, Option<ColumnIndexBuilder>), BlockError> {
    let nullable = descriptor.max_def_level() > 0;
    let mut column_index = index.map(|_| ColumnIndexBuilder::new(descriptor.physical_type()));
    let mut chunk = Chunk::new(descriptor);
    if !dictionary.is_empty() {
        chunk.put_dictionary(dictionary.len(), &dictionary.plain, zstd)?;
    }
    let width = index_width(dictionary.len());
    let mut rest = runs;
    let (mut levels, mut raw) = (Vec::new(), Vec::new());
    for &count in pages {
        let (page, after) = rest.split_at(count);
        rest = after;
        let rows: usize = page.iter().map(|(_, rows)| rows).sum();
        let present = || page.iter().filter_map(|&(entry, rows)| Some((entry?, rows)));
        let values: usize = present().map(|(_, rows)| rows).sum();
        levels.clear();
        raw.clear();
        if nullable {
            put_runs(&mut levels, 1, page.iter().map(|&(entry, rows)| (u32::from(entry.is_some()), rows)));
        }
        if values == 0 {
            chunk.put(&DataPage::nulls(rows, &levels));
        } else {
            raw.push(width as u8);
            put_runs(&mut raw, width, present());
            chunk.put(&zstd.pack(rows, values, Encoding::Dictionary, &levels, &raw)?);
        }
        if let (Some(column_index), Some(order)) = (&mut column_index, index) {
            let (min, max) = match order {
                PageIndexOrder::Bytes => {
                    let entries = || present().map(|(entry, _)| dictionary.entry(entry));
                    (entries().min(), entries().max())
                }
                PageIndexOrder::Ascending => {
                    let entry = |found: Option<(u32, usize)>| found.map(|(entry, _)| dictionary.entry(entry));
                    (entry(present().next()), entry(present().next_back()))
                }
            };
            let bytes = |entry: Option<&[u8]>| entry.unwrap_or_default().to_vec();
            column_index.append(min.is_none(), bytes(min), bytes(max), (rows - values) as i64);
        }
    }
    if let (Some(column_index), Some(PageIndexOrder::Ascending)) = (&mut column_index, index) {
        column_index.set_boundary_order(parquet::basic::BoundaryOrder::ASCENDING);
    }
    Ok((chunk, column_index))
}

/// How a page's smallest and largest entry are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageIndexOrder {
    /// By comparing bytes, as text is ordered.
    Bytes,
    /// The runs ascend, within pages and from page to page.
    Ascending,
}
