//! Columns that follow from a series' labels and timestamps: a run of rows, or a timeline, for each series.

use std::collections::HashMap;
use std::sync::Arc;

use parquet::data_type::ByteArray;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use pilaster_model::Labels;

use super::BlockError;
use super::column::{Chunk, Dictionary, FinishedChunk, PageCompressor, PageIndexOrder, dictionary_chunk};
use super::divide::Divisor;
use super::group::Layout;
use super::page::{DataPage, put_runs};
use super::run::{Piece, rows_of};
use super::schema::Column;
use super::timestamps;

/// Text longer than this has no business in statistics.
const STATISTICS_TEXT_BYTES: usize = 128;

/// The series of a row group.
#[derive(Debug, Clone, Copy)]
pub struct GroupSeries<'a> {
    pub labels: &'a [Labels],
    pub timestamps: &'a [Arc<[i64]>],
    pub pages: &'a [Vec<Piece>],
    pub layout: Layout,
}

impl GroupSeries<'_> {
    /// The chunk of `column`; `None` where it takes more than labels and timestamps.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub fn chunk(&self, column: &Column, descriptor: ColumnDescPtr) -> Result<Option<FinishedChunk>, BlockError> {
        Ok(Some(match column {
            Column::Metric => self.metric(descriptor)?,
            Column::Labels => self.labels(descriptor)?,
            Column::Promoted { label, .. } => self.promoted(descriptor, label)?,
            Column::Ts => timestamps::chunk(self, descriptor)?,
            Column::SeriesId
            | Column::ValueInt
            | Column::ValueDiv
            | Column::Value
            | Column::StartTs
            | Column::Histogram
            | Column::HistogramCount
            | Column::HistogramSum => return Ok(None),
        }))
    }

    /// A run-length column: one dictionary entry, or null, for each series.
    fn by_series(
        &self,
        descriptor: ColumnDescPtr,
        dictionary: &Dictionary,
        entries: &[Option<u32>],
        index: Option<PageIndexOrder>,
        statistics: impl FnOnce(&Dictionary, u64) -> Option<Statistics>,
    ) -> Result<FinishedChunk, BlockError> {
        let pieces = self.pages.iter().flatten();
        let runs: Vec<(Option<u32>, usize)> = pieces.map(|piece| (entries[piece.series], piece.rows.len())).collect();
        let pages: Vec<usize> = self.pages.iter().map(Vec::len).collect();
        let mut zstd = PageCompressor::new(self.layout.compression_level)?;
        let (chunk, column_index) = dictionary_chunk(descriptor, dictionary, &runs, &pages, &mut zstd, index)?;
        let statistics = statistics(dictionary, chunk.nulls() as u64);
        chunk.finish(statistics, column_index)
    }

    fn text<'t>(
        &self,
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

    fn metric(&self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let names = self.labels.iter().map(|labels| Some(labels.metric_name()));
        self.text(descriptor, names, PageIndexOrder::Ascending)
    }

    fn promoted(&self, descriptor: ColumnDescPtr, label: &str) -> Result<FinishedChunk, BlockError> {
        let values = self.labels.iter().map(|labels| labels.find(label));
        self.text(descriptor, values, PageIndexOrder::Bytes)
    }

    fn labels(&self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut dictionary = Dictionary::default();
        let mut text = String::new();
        let entries: Vec<Option<u32>> = self
            .labels
            .iter()
            .map(|labels| {
                text.clear();
                put_json(labels, &mut text);
                Some(dictionary.push_text(text.as_bytes()))
            })
            .collect();
        self.by_series(descriptor, &dictionary, &entries, None, |_, _| None)
    }

    /// What integers are divided by.
    ///
    /// # Errors
    /// As [`GroupSeries::chunk`].
    pub fn divisors(
        &self,
        descriptor: ColumnDescPtr,
        divisors: &[Option<Divisor>],
    ) -> Result<FinishedChunk, BlockError> {
        let mut known: HashMap<u64, u32> = HashMap::new();
        let mut dictionary = Dictionary::default();
        let entries: Vec<Option<u32>> = divisors
            .iter()
            .map(|divisor| {
                let value = divisor.as_ref()?.value();
                let entry = || dictionary.push_fixed(&value.to_le_bytes());
                Some(*known.entry(value.to_bits()).or_insert_with(entry))
            })
            .collect();
        self.by_series(descriptor, &dictionary, &entries, None, |_, _| None)
    }

    /// A column without a single value: one page of nulls.
    ///
    /// # Errors
    /// As [`GroupSeries::chunk`].
    pub fn nulls(&self, descriptor: ColumnDescPtr) -> Result<FinishedChunk, BlockError> {
        let mut chunk = Chunk::new(descriptor);
        let rows = self.pages.iter().map(|page| rows_of(page)).sum();
        let mut levels = Vec::new();
        put_runs(&mut levels, 1, [(0, rows)]);
        chunk.put(&DataPage::nulls(rows, &levels));
        chunk.finish(None, None)
    }
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
