//! One row group: a run of series turned into column chunks.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use parquet::basic::BoundaryOrder;
use parquet::data_type::ByteArray;
use parquet::file::metadata::ColumnIndexBuilder;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use pilaster_model::{Histogram, Labels, stale_nan};

use super::column::{Candidate, Chunk, Dictionary, FinishedChunk, PageCompressor, PageIndexOrder, dictionary_chunk};
use super::divide::{Divisor, Kind, Split};
use super::index::{Counts, Part};
use super::page::put_runs;
use super::schema::Column;
use super::summary::Summary;
use super::timeline::Timelines;
use super::{BlockError, BlockSeries};

/// Text longer than this has no business in statistics.
const STATISTICS_TEXT_BYTES: usize = 128;

/// A page of timestamps ends after so many rows at the latest: its size must fit 31 bits.
const TIMESTAMP_PAGE_ROWS: usize = 4 << 20;

/// How pages are cut and packed; follows from the block's level.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// A page ends at the first series that starts after so many rows.
    pub page_rows: usize,
    pub compression_level: i32,
}

impl Layout {
    /// Small pages for short, young blocks, which are read for few series; large ones where samples stay.
    pub fn of_level(level: u8) -> Layout {
        Layout { page_rows: if level == 0 { 16_384 } else { 32_768 }, compression_level: 3 }
    }
}

/// Rows of one series in one page.
#[derive(Debug, Clone)]
struct Piece {
    /// Position in the group.
    series: usize,
    rows: Range<usize>,
}

/// A row group, ready to be appended to a file.
pub struct EncodedGroup {
    /// In schema order; offsets count from each chunk's start.
    pub chunks: Vec<(Option<Part>, FinishedChunk)>,
    pub counts: Vec<Counts>,
    pub divisors: Vec<Option<Divisor>>,
    pub summaries: Vec<(u32, Summary)>,
}

/// All values of the group, split, series after series.
#[derive(Default)]
struct Values {
    integers: Vec<i64>,
    doubles: Vec<f64>,
    /// Of each series; empty where all its samples are of one kind.
    kinds: Vec<Vec<Kind>>,
    counts: Vec<Counts>,
    divisors: Vec<Option<Divisor>>,
    /// Of the series that have one, with their rows.
    summaries: Vec<(u32, Summary)>,
}

impl Values {
    fn of(series: &[BlockSeries]) -> Values {
        let mut all = Values::default();
        let mut split = Split::default();
        let mut without_histograms = Vec::new();
        for series in series {
            let mut histograms = 0;
            let values = match &series.histograms {
                None => &series.values,
                Some(samples) => {
                    // Where there is a histogram there is no value: neither integer nor double, as a staleness marker.
                    without_histograms.clear();
                    without_histograms.extend(series.values.iter().zip(samples).map(|(&value, histogram)| {
                        histograms += u32::from(histogram.is_some());
                        if histogram.is_some() { stale_nan() } else { value }
                    }));
                    &without_histograms
                }
            };
            split.of(values);
            let counts = Counts {
                rows: values.len() as u32,
                integers: split.integers.len() as u32,
                doubles: split.doubles.len() as u32,
                starts: series.starts_ms.iter().flatten().filter(|&&start_ms| start_ms != 0).count() as u32,
                histograms,
            };
            if counts.has_summary() {
                all.summaries.push((counts.rows, Summary::of(&split.integers)));
            }
            all.counts.push(counts);
            all.integers.extend_from_slice(&split.integers);
            all.doubles.extend_from_slice(&split.doubles);
            all.kinds.push(std::mem::take(&mut split.kinds));
            all.divisors.push(split.divisor);
        }
        all
    }
}

/// Cuts the rows of `series` into pages: at series starts, and inside a series only where it alone is several pages long.
fn cut_pages(series: &[BlockSeries], page_rows: usize) -> Vec<Vec<Piece>> {
    let mut pages = Vec::new();
    let mut page: Vec<Piece> = Vec::new();
    let mut rows_in_page = 0;
    for (index, one) in series.iter().enumerate() {
        let rows = one.timestamps.len();
        if rows_in_page >= page_rows || (rows > 4 * page_rows && rows_in_page > 0) {
            pages.push(std::mem::take(&mut page));
            rows_in_page = 0;
        }
        if rows > 4 * page_rows {
            for start in (0..rows).step_by(page_rows) {
                pages.push(vec![Piece { series: index, rows: start..rows.min(start + page_rows) }]);
            }
        } else {
            page.push(Piece { series: index, rows: 0..rows });
            rows_in_page += rows;
        }
    }
    if !page.is_empty() {
        pages.push(page);
    }
    pages
}

fn rows_of(page: &[Piece]) -> usize {
    page.iter().map(|piece| piece.rows.len()).sum()
}

/// Encodes `series`, sorted, of which the first is number `first_series` in the file.
pub fn encode(
    columns: &[Column],
    schema: &SchemaDescriptor,
    series: &[BlockSeries],
    first_series: u32,
    layout: Layout,
) -> Result<EncodedGroup, BlockError> {
    let values = Values::of(series);
    let pages = cut_pages(series, layout.page_rows);
    let mut zstd = PageCompressor::new(layout.compression_level)?;
    let mut group = Encoder { series, values: &values, pages: &pages, first_series, zstd: &mut zstd };
    let mut chunks = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        let descriptor = schema.column(index);
        chunks.push(match column {
            Column::SeriesId => (None, group.series_id(descriptor)?),
            Column::Metric => (None, group.metric(descriptor)?),
            Column::Labels => (None, group.labels(descriptor)?),
            Column::Promoted { label, .. } => (None, group.promoted(descriptor, label)?),
            Column::Ts => (Some(Part::Ts), group.timestamps(descriptor, layout)?),
            Column::ValueInt => (Some(Part::Integers), group.integers(descriptor)?),
            Column::ValueDiv => (None, group.divisors(descriptor)?),
            Column::Value => (Some(Part::Doubles), group.doubles(descriptor)?),
            Column::StartTs => (Some(Part::Starts), group.starts(descriptor)?),
            Column::Histogram => (Some(Part::Histograms), group.histograms(descriptor, put_whole)?),
            Column::HistogramCount => (None, group.histograms(descriptor, |one, out| put_double(one.count, out))?),
            Column::HistogramSum => (None, group.histograms(descriptor, |one, out| put_double(one.sum, out))?),
        });
    }
    Ok(EncodedGroup { chunks, counts: values.counts, divisors: values.divisors, summaries: values.summaries })
}

struct Encoder<'a> {
    series: &'a [BlockSeries],
    values: &'a Values,
    pages: &'a [Vec<Piece>],
    first_series: u32,
    zstd: &'a mut PageCompressor,
}

impl Encoder<'_> {
    /// A run-length column: one dictionary entry, or null, for each series.
    fn by_series(
        &mut self,
        descriptor: ColumnDescPtr,
        dictionary: &Dictionary,
        entries: &[Option<u32>],
        index: Option<PageIndexOrder>,
        statistics: impl FnOnce(&Dictionary, u64) -> Option<Statistics>,
    ) -> Result<FinishedChunk, BlockError> {
        let pieces = self.pages.iter().flatten();
        let runs: Vec<(Option<u32>, usize)> = pieces.map(|piece| (entries[piece.series], piece.rows.len())).collect();
        let pages: Vec<usize> = self.pages.iter().map(Vec::len).collect();
        let (chunk, column_index) = dictionary_chunk(descriptor, dictionary, &runs, &pages, self.zstd, index)?;
        let statistics = statistics(dictionary, chunk.nulls() as u64);
        chunk.finish(statistics, column_index)
    }

    /// Ascending numbers with long runs: differences take a third of what a dictionary of so many entries does.
    fn series_id(&mut self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut index = ColumnIndexBuilder::new(descriptor.physical_type());
        index.set_boundary_order(BoundaryOrder::ASCENDING);
        let mut chunk = Chunk::new(descriptor);
        let mut ids: Vec<i64> = Vec::new();
        let id_of = |piece: &Piece| self.first_series as i32 + piece.series as i32;
        for page in self.pages {
            ids.clear();
            page.iter().for_each(|piece| ids.resize(ids.len() + piece.rows.len(), i64::from(id_of(piece))));
            chunk.put_integers(ids.len(), &[], &ids, &[Candidate::Delta(16)], self.zstd)?;
            let bytes = |id: i64| (id as i32).to_le_bytes().to_vec();
            index.append(false, bytes(ids[0]), bytes(ids[ids.len() - 1]), 0);
        }
        let last = self.first_series as i32 + self.series.len() as i32 - 1;
        let statistics = Statistics::int32(Some(self.first_series as i32), Some(last), None, Some(0), false);
        chunk.finish(Some(statistics), Some(index))
    }

    fn text<'t>(
        &mut self,
        descriptor: ColumnDescPtr,
        texts: impl Iterator<Item = Option<&'t str>>,
        order: PageIndexOrder,
    ) -> Result<FinishedChunk, BlockError> {
        let mut known: HashMap<&str, u32> = HashMap::new();
        let mut dictionary = Dictionary::default();
        let mut longest = 0;
        let entries: Vec<Option<u32>> = texts
            .map(|text| {
                let text = text?;
                longest = longest.max(text.len());
                Some(*known.entry(text).or_insert_with(|| dictionary.push_text(text.as_bytes())))
            })
            .collect();
        if dictionary.is_empty() {
            return self.nulls(descriptor);
        }
        let indexed = longest <= STATISTICS_TEXT_BYTES;
        self.by_series(descriptor, &dictionary, &entries, indexed.then_some(order), |dictionary, nulls| {
            let (min, max) = dictionary.min_max().filter(|_| indexed)?;
            let bytes = |text: &[u8]| Some(ByteArray::from(text.to_vec()));
            Some(Statistics::byte_array(bytes(min), bytes(max), None, Some(nulls), false))
        })
    }

    fn metric(&mut self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let names = self.series.iter().map(|series| Some(series.labels.metric_name()));
        self.text(descriptor, names, PageIndexOrder::Ascending)
    }

    fn promoted(&mut self, descriptor: ColumnDescPtr, label: &str) -> Result<FinishedChunk, BlockError> {
        let values = self.series.iter().map(|series| series.labels.find(label));
        self.text(descriptor, values, PageIndexOrder::Bytes)
    }

    fn labels(&mut self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut dictionary = Dictionary::default();
        let mut text = String::new();
        let entries: Vec<Option<u32>> = self
            .series
            .iter()
            .map(|series| {
                text.clear();
                put_json(&series.labels, &mut text);
                Some(dictionary.push_text(text.as_bytes()))
            })
            .collect();
        self.by_series(descriptor, &dictionary, &entries, None, |_, _| None)
    }

    fn divisors(&mut self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut known: HashMap<u64, u32> = HashMap::new();
        let mut dictionary = Dictionary::default();
        let entries: Vec<Option<u32>> = self
            .values
            .divisors
            .iter()
            .map(|divisor| {
                let value = divisor.as_ref()?.value();
                let entry = || dictionary.push_fixed(&value.to_le_bytes());
                Some(*known.entry(value.to_bits()).or_insert_with(entry))
            })
            .collect();
        self.by_series(descriptor, &dictionary, &entries, None, |_, _| None)
    }

    /// Timelines repeat once per series, so one page with a long window shrinks them to almost nothing. Where many
    /// series have timestamps of their own, those are read from here: then pages are as small as those of values.
    fn timestamps(&mut self, descriptor: ColumnDescPtr, layout: Layout) -> Result<FinishedChunk, BlockError> {
        let all: Vec<Arc<[i64]>> = self.series.iter().map(|series| series.timestamps.clone()).collect();
        let places = Timelines::of(&all).places;
        let own: usize = all.iter().zip(&places).filter(|(_, place)| place.is_none()).map(|(own, _)| own.len()).sum();
        let all: usize = all.iter().map(|timestamps| timestamps.len()).sum();
        let mut chunk = Chunk::new(descriptor);
        let mut timestamps: Vec<i64> = Vec::with_capacity(all);
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        let mut zstd = PageCompressor::with_long_window(layout.compression_level)?;
        let candidates = [Candidate::Plain, Candidate::Delta(4)];
        for page in self.pages {
            for piece in page {
                let part = &self.series[piece.series].timestamps[piece.rows.clone()];
                min = min.min(part[0]);
                max = max.max(part[part.len() - 1]);
                timestamps.extend_from_slice(part);
            }
            if own > all / 8 || timestamps.len() >= TIMESTAMP_PAGE_ROWS {
                chunk.put_integers(timestamps.len(), &[], &timestamps, &candidates, &mut zstd)?;
                timestamps.clear();
            }
        }
        if !timestamps.is_empty() {
            chunk.put_integers(timestamps.len(), &[], &timestamps, &candidates, &mut zstd)?;
        }
        chunk.finish(Some(Statistics::int64(Some(min), Some(max), None, Some(0), false)), None)
    }

    fn integers(&mut self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut chunk = Chunk::new(descriptor);
        let mut rest = self.values.integers.as_slice();
        let mut levels = Vec::new();
        for page in self.pages {
            let count = self.put_kind_levels(page, Kind::Integer, &mut levels);
            let (here, after) = rest.split_at(count);
            rest = after;
            let candidates = [Candidate::Delta(4), Candidate::Delta(16), Candidate::Plain];
            chunk.put_integers(rows_of(page), &levels, here, &candidates, self.zstd)?;
        }
        chunk.finish(None, None)
    }

    fn doubles(&mut self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut chunk = Chunk::new(descriptor);
        let mut rest = self.values.doubles.as_slice();
        let mut levels = Vec::new();
        for page in self.pages {
            let count = self.put_kind_levels(page, Kind::Double, &mut levels);
            let (here, after) = rest.split_at(count);
            rest = after;
            chunk.put_doubles(rows_of(page), &levels, here, self.zstd)?;
        }
        chunk.finish(None, None)
    }

    fn put_kind_levels(&self, page: &[Piece], wanted: Kind, levels: &mut Vec<u8>) -> usize {
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for piece in page {
            let kinds = &self.values.kinds[piece.series];
            if kinds.is_empty() {
                let counts = &self.values.counts[piece.series];
                let there = match wanted {
                    Kind::Integer => counts.integers > 0,
                    Kind::Double => counts.doubles > 0,
                    Kind::Stale => false,
                };
                runs.push((u32::from(there), piece.rows.len()));
            } else {
                runs.extend(kinds[piece.rows.clone()].iter().map(|&kind| (u32::from(kind == wanted), 1)));
            }
        }
        levels.clear();
        let present = runs.iter().filter(|(level, _)| *level == 1).map(|(_, rows)| rows).sum();
        put_runs(levels, 1, runs);
        present
    }

    /// A column without a single value: one page of nulls.
    fn nulls(&self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut chunk = Chunk::new(descriptor);
        let rows = self.pages.iter().map(|page| rows_of(page)).sum();
        let mut levels = Vec::new();
        put_runs(&mut levels, 1, [(0, rows)]);
        chunk.put_nulls(rows, &levels);
        chunk.finish(None, None)
    }

    fn starts(&mut self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        if self.values.counts.iter().all(|counts| counts.starts == 0) {
            return self.nulls(descriptor);
        }
        let mut chunk = Chunk::new(descriptor);
        let (mut levels, mut starts) = (Vec::new(), Vec::new());
        for page in self.pages {
            starts.clear();
            let mut runs: Vec<(u32, usize)> = Vec::new();
            for piece in page {
                match &self.series[piece.series].starts_ms {
                    None => runs.push((0, piece.rows.len())),
                    Some(all) => {
                        for &start_ms in &all[piece.rows.clone()] {
                            runs.push((u32::from(start_ms != 0), 1));
                            starts.extend((start_ms != 0).then_some(start_ms));
                        }
                    }
                }
            }
            levels.clear();
            put_runs(&mut levels, 1, runs);
            let candidates = [Candidate::Delta(4), Candidate::Plain];
            chunk.put_integers(rows_of(page), &levels, &starts, &candidates, self.zstd)?;
        }
        chunk.finish(None, None)
    }

    /// A column that has something of every histogram; `put` appends it in PLAIN encoding.
    fn histograms(
        &mut self,
        descriptor: ColumnDescPtr,
        put: impl Fn(&Histogram, &mut Vec<u8>),
    ) -> Result<FinishedChunk, BlockError> {
        if self.values.counts.iter().all(|counts| counts.histograms == 0) {
            return self.nulls(descriptor);
        }
        let mut chunk = Chunk::new(descriptor);
        let (mut levels, mut plain) = (Vec::new(), Vec::new());
        for page in self.pages {
            plain.clear();
            let mut count = 0;
            let mut runs: Vec<(u32, usize)> = Vec::new();
            for piece in page {
                match &self.series[piece.series].histograms {
                    None => runs.push((0, piece.rows.len())),
                    Some(all) => {
                        for sample in &all[piece.rows.clone()] {
                            runs.push((u32::from(sample.is_some()), 1));
                            if let Some(histogram) = sample {
                                count += 1;
                                put(histogram, &mut plain);
                            }
                        }
                    }
                }
            }
            levels.clear();
            put_runs(&mut levels, 1, runs);
            chunk.put_plain(rows_of(page), &levels, count, &plain, self.zstd)?;
        }
        chunk.finish(None, None)
    }
}

/// A histogram as a byte array: its length, then its encoding.
fn put_whole(histogram: &Histogram, plain: &mut Vec<u8>) {
    let at = plain.len();
    plain.extend_from_slice(&[0; 4]);
    histogram.encode(plain);
    let len = (plain.len() - at - 4) as u32;
    plain[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_double(value: f64, plain: &mut Vec<u8>) {
    plain.extend_from_slice(&value.to_le_bytes());
}

/// The labels as one JSON object, the metric's name among them, ascending by name, without spaces.
fn put_json(labels: &Labels, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        put_json_text(name, out);
        out.push(':');
        put_json_text(value, out);
    }
    out.push('}');
}

fn put_json_text(text: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if (control as u32) < 0x20 => {
                // Writing into a String cannot fail.
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_json() {
        let labels = Labels::from_pairs([("__name__", "up"), ("path", "C:\\\n\"\u{1}é")]);
        let mut text = String::new();
        put_json(&labels, &mut text);
        assert_eq!(text, r#"{"__name__":"up","path":"C:\\\n\"\u0001é"}"#);
        let parsed: std::collections::BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["path"], "C:\\\n\"\u{1}é");
    }
}
