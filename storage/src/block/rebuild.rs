//! A lost or damaged index file, made again from the sample file.
//!
//! Everything that an index says follows from the rows and the pages of its sample file, so what comes out is, byte for
//! byte, the index that was written with it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use pilaster_model::{Labels, TimeRange};

use super::divide::Divisor;
use super::file::CheckedFile;
use super::index::{Content, Counts, Group, Page, Part};
use super::page::{PageDecoder, PageRef, parse_header, parse_runs};
use super::schema;
use super::seal::seal;
use super::summary::Summary;
use super::timeline::Timelines;
use super::varint::Cursor;
use super::write::{FORMAT, placed_pages};
use super::{BlockError, BlockFiles, BlockMeta, FileMeta};

/// Writes the index file of the block that `meta` describes in `source` anew; the old one is replaced at once or not at
/// all. Answers the description of the block with its new index.
///
/// # Errors
/// The sample file is damaged, or was not written by [`super::write_block`].
pub fn rebuild_index(source: Arc<dyn BlockFiles>, meta: &BlockMeta) -> Result<BlockMeta, BlockError> {
    let [samples, index] = meta.both_files()?;
    let bytes = index_bytes(&CheckedFile::measure(source.clone(), samples.clone())?)?;
    let written = FileMeta::of(&index.path, &bytes);
    source.replace(&written, &bytes).map_err(BlockError::io("write", &source.path(&written)))?;
    Ok(BlockMeta { files: vec![samples.clone(), written], ..meta.clone() })
}

/// The bytes of the index file that belongs to a sample file.
pub fn index_bytes(samples: &CheckedFile) -> Result<Vec<u8>, BlockError> {
    let rows = Rows::read(samples)?;
    let range_of = |timestamps: &Arc<[i64]>| TimeRange::new(timestamps[0], timestamps[timestamps.len() - 1]);
    let content = Content {
        labels: &rows.labels,
        counts: &rows.counts,
        divisors: &rows.divisors,
        summaries: &rows.summaries,
        ranges: &rows.timestamps.iter().map(range_of).collect::<Vec<_>>(),
        timelines: &Timelines::of(&rows.timestamps),
        groups: &rows.groups,
    };
    Ok(seal(content.encode()?, samples.ranges()))
}

/// What an index is made of.
#[derive(Default)]
struct Rows {
    labels: Vec<Labels>,
    counts: Vec<Counts>,
    divisors: Vec<Option<Divisor>>,
    summaries: Vec<(u32, Summary)>,
    timestamps: Vec<Arc<[i64]>>,
    groups: Vec<Group>,
}

/// A column chunk, its pages found.
struct ChunkPages {
    bytes: Bytes,
    /// Of the file.
    start: u64,
    nullable: bool,
    dictionary: Option<PageRef>,
    /// Rows of each page, and the page; offsets count from the start of the chunk.
    pages: Vec<(u32, PageRef)>,
}

impl Rows {
    fn read(file: &CheckedFile) -> Result<Rows, BlockError> {
        let malformed = |what: &str| BlockError::malformed(file.path(), format!("sample file without valid {what}"));
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(file)
            .map_err(|error| BlockError::malformed(file.path(), error.to_string()))?;
        let pairs = metadata.file_metadata().key_value_metadata();
        let ours = |pairs: &Vec<parquet::file::metadata::KeyValue>| {
            pairs.iter().any(|pair| pair.key == FORMAT.0 && pair.value.as_deref() == Some(FORMAT.1))
        };
        if !pairs.is_some_and(ours) {
            return Err(malformed("mark of its format"));
        }
        let mut rows = Rows::default();
        let mut known = HashSet::new();
        for group in metadata.row_groups() {
            rows.read_group(file, group, &mut known)?.ok_or_else(|| malformed("row group"))?;
        }
        Ok(rows)
    }

    /// The inner `None`: the bytes are not ours.
    fn read_group(
        &mut self,
        file: &CheckedFile,
        group: &RowGroupMetaData,
        known: &mut HashSet<Arc<[i64]>>,
    ) -> Result<Option<()>, BlockError> {
        let mut decoder = PageDecoder::new().map_err(BlockError::compression)?;
        let chunk_of = |name: &str| -> Result<Option<ChunkPages>, BlockError> {
            let column = group.columns().iter().find(|column| column.column_path().parts() == [name]);
            column.map_or(Ok(None), |column| ChunkPages::read(file, column))
        };
        let mut chunks = Vec::new();
        for name in [schema::LABELS, schema::VALUE_DIV] {
            let Some(chunk) = chunk_of(name)? else { return Ok(None) };
            chunks.push(chunk);
        }
        let mut parts = Vec::new();
        for name in [schema::TS, schema::VALUE_INT, schema::VALUE, schema::START_TS, schema::HISTOGRAM] {
            let Some(chunk) = chunk_of(name)? else { return Ok(None) };
            parts.push(chunk);
        }
        Ok(self.add_group(&mut decoder, &chunks[0], &chunks[1], &parts, known))
    }

    fn add_group(
        &mut self,
        decoder: &mut PageDecoder,
        labels: &ChunkPages,
        divisors: &ChunkPages,
        parts: &[ChunkPages],
        known: &mut HashSet<Arc<[i64]>>,
    ) -> Option<()> {
        let first_series = self.labels.len();
        // A series is a run of one entry of the dictionary of labels.
        let entries = labels.entries(decoder, None)?;
        let runs = labels.runs(decoder)?;
        let mut starts = Vec::with_capacity(runs.len());
        let mut next = 0usize;
        for &(entry, rows) in &runs {
            let pairs: BTreeMap<String, String> = serde_json::from_slice(entries.get(entry? as usize)?).ok()?;
            self.labels.push(Labels::from_pairs(pairs));
            starts.push(next..next + rows);
            next += rows;
        }
        let row_count = next;

        let divisor_entries = divisors.entries(decoder, Some(8))?;
        let mut divisor_runs = Runs::new(divisors.runs(decoder)?);
        let mut present: Vec<Runs> = Vec::new();
        for part in parts {
            present.push(Runs::new(part.levels()?));
        }
        let timestamps = parts[Part::Ts as usize].integers(decoder)?;
        let integers = parts[Part::Integers as usize].integers(decoder)?;
        let mut next_integer = 0usize;

        for rows in starts {
            let own = timestamps.get(rows.clone())?;
            if own.windows(2).any(|pair| pair[0] >= pair[1]) {
                return None;
            }
            let shared = known.get(own).cloned().unwrap_or_else(|| Arc::from(own));
            known.insert(shared.clone());
            self.timestamps.push(shared);
            let mut count = |part: Part| present[part as usize].present(rows.clone());
            let counts = Counts {
                rows: u32::try_from(rows.len()).ok()?,
                integers: count(Part::Integers),
                doubles: count(Part::Doubles),
                starts: count(Part::Starts),
                histograms: count(Part::Histograms),
            };
            let divisor = match divisor_runs.at(rows.start) {
                None => None,
                Some(entry) => {
                    let bytes = divisor_entries.get(entry as usize)?.first_chunk::<8>()?;
                    Some(Divisor::from_value(f64::from_le_bytes(*bytes))?)
                }
            };
            // A row is an integer, a double, a histogram or none of them, never two.
            let kinds = u64::from(counts.integers) + u64::from(counts.doubles) + u64::from(counts.histograms);
            let possible = counts.rows > 0 && kinds <= u64::from(counts.rows) && counts.starts <= counts.rows;
            if !possible || (divisor.is_none() && counts.integers > 0) {
                return None;
            }
            let own_integers = integers.get(next_integer..next_integer + counts.integers as usize)?;
            next_integer += own_integers.len();
            if counts.has_summary() {
                self.summaries.push((counts.rows, Summary::of(own_integers)));
            }
            self.counts.push(counts);
            self.divisors.push(divisor);
        }

        let mut group = Group {
            first_series: u32::try_from(first_series).ok()?,
            series_count: runs.len() as u32,
            rows: u32::try_from(row_count).ok()?,
            ..Group::default()
        };
        for (part, chunk) in Part::ALL.into_iter().zip(parts) {
            let pages: Vec<Page> = placed_pages(&chunk.pages, chunk.start);
            group.pages[part as usize] = pages;
        }
        self.groups.push(group);
        Some(())
    }
}

impl ChunkPages {
    /// The inner `None`: the pages are not of the form that we write.
    fn read(file: &CheckedFile, column: &ColumnChunkMetaData) -> Result<Option<ChunkPages>, BlockError> {
        let (start, len) = column.byte_range();
        let Ok(len) = usize::try_from(len) else { return Ok(None) };
        let window = file.window(start, len)?;
        let from = (start - window.start) as usize;
        let nullable = column.column_descr().max_def_level() > 0;
        let mut chunk = ChunkPages {
            bytes: window.bytes.slice(from..from + len),
            start,
            nullable,
            dictionary: None,
            pages: Vec::new(),
        };
        let is_dictionary = column.dictionary_page_offset().is_some();
        Ok(chunk.find_pages(is_dictionary).map(|()| chunk))
    }

    fn find_pages(&mut self, is_dictionary: bool) -> Option<()> {
        let mut at = 0;
        while at < self.bytes.len() {
            let (rows, page) = parse_header(&self.bytes[at..], at as u64)?;
            let end = at.checked_add(page.header_len as usize)?.checked_add(page.stored_len as usize)?;
            if end > self.bytes.len() || end == at {
                return None;
            }
            match rows {
                None if is_dictionary && self.dictionary.is_none() && self.pages.is_empty() => {
                    self.dictionary = Some(page);
                }
                None => return None,
                Some(rows) => self.pages.push((rows, page)),
            }
            at = end;
        }
        Some(())
    }

    fn body(&self, page: &PageRef) -> Option<&[u8]> {
        let from = page.offset as usize + page.header_len as usize;
        self.bytes.get(from..from + page.stored_len as usize)
    }

    /// All values of a column of integers.
    fn integers(&self, decoder: &mut PageDecoder) -> Option<Vec<i64>> {
        let (mut all, mut of_page) = (Vec::new(), Vec::new());
        for (_, page) in &self.pages {
            if page.values > 0 {
                decoder.integers(page, self.body(page)?, page.values as usize, &mut of_page)?;
                all.extend_from_slice(&of_page);
            }
        }
        Some(all)
    }

    /// Dictionary entries: of `fixed_len` bytes, or texts.
    fn entries(&self, decoder: &mut PageDecoder, fixed_len: Option<usize>) -> Option<Vec<Vec<u8>>> {
        let Some(page) = &self.dictionary else { return Some(Vec::new()) };
        let mut entries = Vec::new();
        let raw = decoder.raw(page, self.body(page)?)?;
        let mut cursor = Cursor::new(raw);
        for _ in 0..page.values {
            let len = match fixed_len {
                Some(len) => len,
                None => u32::from_le_bytes(*cursor.bytes(4)?.first_chunk()?) as usize,
            };
            entries.push(cursor.bytes(len)?.to_vec());
        }
        Some(entries)
    }

    /// Definition levels of all rows.
    fn levels(&self) -> Option<Vec<(Option<u32>, usize)>> {
        let mut all = Vec::new();
        for (rows, page) in &self.pages {
            if self.nullable {
                let levels = self.body(page)?.get(..page.levels_len as usize)?;
                let runs = parse_runs(levels, 1, *rows as usize)?;
                all.extend(runs.into_iter().map(|(level, len)| ((level == 1).then_some(1), len)));
            } else {
                all.push((Some(1), *rows as usize));
            }
        }
        Some(all)
    }

    /// Dictionary entries of all rows, as runs; equal neighbours are one run.
    fn runs(&self, decoder: &mut PageDecoder) -> Option<Vec<(Option<u32>, usize)>> {
        let mut levels = Runs::new(self.levels()?);
        let mut all: Vec<(Option<u32>, usize)> = Vec::new();
        let mut put = |entry: Option<u32>, len: usize| match all.last_mut() {
            Some((last, total)) if *last == entry => *total += len,
            _ if len > 0 => all.push((entry, len)),
            _ => {}
        };
        let mut row = 0;
        for (rows, page) in &self.pages {
            let page_end = row + *rows as usize;
            let entries = if page.values == 0 { Vec::new() } else { decoder.index_runs(page, self.body(page)?)? };
            let mut entries = entries.into_iter();
            let (mut entry, mut left) = (0, 0);
            while row < page_end {
                let (level, until) = levels.run_at(row)?;
                let len = until.min(page_end) - row;
                if level.is_none() {
                    put(None, len);
                    row += len;
                    continue;
                }
                if left == 0 {
                    (entry, left) = entries.next()?;
                }
                let len = len.min(left);
                put(Some(entry), len);
                left -= len;
                row += len;
            }
        }
        Some(all)
    }
}

/// Runs, read forward by row.
struct Runs {
    runs: Vec<(Option<u32>, usize)>,
    at: usize,
    /// First row of the run at `at`.
    start: usize,
}

impl Runs {
    fn new(runs: Vec<(Option<u32>, usize)>) -> Runs {
        Runs { runs, at: 0, start: 0 }
    }

    /// The value of a row and where its run ends. Rows must not go back.
    fn run_at(&mut self, row: usize) -> Option<(Option<u32>, usize)> {
        loop {
            let (value, len) = *self.runs.get(self.at)?;
            if row < self.start + len {
                return Some((value, self.start + len));
            }
            self.start += len;
            self.at += 1;
        }
    }

    fn at(&mut self, row: usize) -> Option<u32> {
        self.run_at(row)?.0
    }

    /// How many of `rows` have a value.
    fn present(&mut self, rows: Range<usize>) -> u32 {
        let (mut row, mut present) = (rows.start, 0);
        while row < rows.end
            && let Some((value, end)) = self.run_at(row)
        {
            let end = end.min(rows.end);
            present += if value.is_some() { end - row } else { 0 };
            row = end;
        }
        present as u32
    }
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        CheckedFile::len(self)
    }
}

/// For the footer, which the parquet crate parses.
impl ChunkReader for CheckedFile {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        use bytes::Buf;
        let len = usize::try_from(CheckedFile::len(self).saturating_sub(start)).unwrap_or(usize::MAX);
        Ok(self.get_bytes(start, len)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let window = self.window(start, length).map_err(|error| ParquetError::External(Box::new(error)))?;
        let from = (start - window.start) as usize;
        Ok(window.bytes.slice(from..from + length))
    }
}
