//! One row group: series on their way to column chunks.
//!
//! ```text
//! series -> runs that fill pages -> encoded, a few at a time on all threads ---> chunks, compressed
//!       \-> labels, timestamps ---------------------------------- at the end --> chunks
//! ```
//!
//! Values go as soon as they fill some pages, so a group in the making takes little more than its bytes in the file.
//! When it ends, its timestamps go series by series into a compressor that looks back as far as timelines repeat, 16 MiB at
//! most.

use std::sync::Arc;

use parking_lot::Mutex;
use parquet::basic::BoundaryOrder;
use parquet::file::metadata::ColumnIndexBuilder;
use parquet::file::statistics::Statistics;
use parquet::schema::types::SchemaDescriptor;
use pilaster_model::Labels;
use rayon::prelude::*;

use super::by_series::GroupSeries;
use super::column::{Chunk, FinishedChunk};
use super::divide::Divisor;
use super::index::{Counts, Part};
use super::run::{EncodedRun, Piece, Run, Tools};
use super::schema::Column;
use super::summary::Summary;
use super::{BlockError, BlockSeries};

/// A row group ends at the first series that starts after so many bytes of labels, which a reader holds in memory for it.
const GROUP_LABEL_BYTES: usize = 16 << 20;
/// The level of blocks of a day, in which series are long.
pub const DAY_LEVEL: u8 = 3;
/// Runs that wait to be encoded together, for each thread.
const RUNS_PER_THREAD: usize = 2;

/// How pages are cut and packed; follows from the block's level.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// A page ends at the first series that starts after so many rows.
    pub page_rows: usize,
    /// A row group ends at the first series that starts after so many.
    pub group_rows: usize,
    pub compression_level: i32,
}

impl Layout {
    /// Small pages for short, young blocks, which are read for few series; large ones where samples stay.
    pub fn of_level(level: u8) -> Layout {
        let page_rows = if level == 0 { 16_384 } else { 32_768 };
        // In a day a series is long, and a timeline is written once a row group: there have to be many series in it.
        let group_rows = if level < DAY_LEVEL { 1 << 20 } else { 4 << 20 };
        Layout { page_rows, group_rows, compression_level: 3 }
    }
}

/// A row group, ready to be appended to a file.
pub struct EncodedGroup {
    /// In schema order; offsets count from each chunk's start.
    pub chunks: Vec<(Option<Part>, FinishedChunk)>,
    pub counts: Vec<Counts>,
    pub divisors: Vec<Option<Divisor>>,
    pub summaries: Vec<(u32, Summary)>,
}

/// A row group in the making.
pub struct GroupWriter {
    columns: Arc<[Column]>,
    layout: Layout,
    /// Number of the first series in the file.
    first_series: u32,
    series_count: usize,
    rows: usize,
    label_bytes: usize,
    /// Series that do not fill a page yet.
    open: Run,
    /// Runs to be encoded together.
    full: Vec<Run>,
    /// Of all complete runs.
    pages: Vec<Vec<Piece>>,
    /// One a column; those that follow from labels and timestamps stay empty.
    chunks: Vec<Chunk>,
    ids: ColumnIndexBuilder,
    counts: Vec<Counts>,
    divisors: Vec<Option<Divisor>>,
    summaries: Vec<(u32, Summary)>,
    /// Of as many threads as were at work at once.
    tools: Mutex<Vec<Tools>>,
}

impl GroupWriter {
    pub fn new(columns: Arc<[Column]>, schema: &SchemaDescriptor, first_series: u32, layout: Layout) -> GroupWriter {
        let mut ids = ColumnIndexBuilder::new(parquet::basic::Type::INT32);
        ids.set_boundary_order(BoundaryOrder::ASCENDING);
        GroupWriter {
            layout,
            first_series,
            series_count: 0,
            rows: 0,
            label_bytes: 0,
            open: Run::default(),
            full: Vec::new(),
            pages: Vec::new(),
            chunks: (0..columns.len()).map(|index| Chunk::new(schema.column(index))).collect(),
            columns,
            ids,
            counts: Vec::new(),
            divisors: Vec::new(),
            summaries: Vec::new(),
            tools: Mutex::default(),
        }
    }

    pub fn series_count(&self) -> usize {
        self.series_count
    }

    /// Whether the next series belongs to the next group.
    pub fn is_full(&self) -> bool {
        self.rows >= self.layout.group_rows || self.label_bytes >= GROUP_LABEL_BYTES
    }

    /// Adds a series. A page ends at the first one that starts after so many rows, and inside of one only where it alone
    /// is several pages long.
    ///
    /// # Errors
    /// It cannot be compressed. The group is lost then.
    pub fn push(&mut self, series: BlockSeries) -> Result<(), BlockError> {
        let rows = series.timestamps.len();
        let is_long = Run::is_long(rows, self.layout);
        if is_long || self.open.rows >= self.layout.page_rows {
            self.end_run();
        }
        self.series_count += 1;
        self.rows += rows;
        self.label_bytes += series.labels.text_bytes();
        self.open.rows += rows;
        self.open.series.push(series);
        if is_long {
            self.end_run();
        }
        if self.full.len() >= RUNS_PER_THREAD * rayon::current_num_threads() {
            let full = std::mem::take(&mut self.full);
            let encoded = self.encode(full)?;
            self.append(encoded);
        }
        Ok(())
    }

    fn end_run(&mut self) {
        let next = Run { first: self.series_count, ..Run::default() };
        let run = std::mem::replace(&mut self.open, next);
        if !run.series.is_empty() {
            self.pages.extend(run.pages(self.layout));
            self.full.push(run);
        }
    }

    /// Encodes runs on all threads.
    fn encode(&self, runs: Vec<Run>) -> Result<Vec<EncodedRun>, BlockError> {
        let encode = |run: Run| {
            let known = self.tools.lock().pop();
            let mut tools = known.map_or_else(|| Tools::new(self.layout), Ok)?;
            let encoded = run.encode(self.first_series, self.layout, &mut tools);
            self.tools.lock().push(tools);
            encoded
        };
        runs.into_par_iter().map(encode).collect()
    }

    fn append(&mut self, runs: Vec<EncodedRun>) {
        for run in runs {
            self.counts.extend(run.counts);
            self.divisors.extend(run.divisors);
            self.summaries.extend(run.summaries);
            for pages in run.pages {
                let bytes = |id: i32| id.to_le_bytes().to_vec();
                self.ids.append(false, bytes(pages.ends.0), bytes(pages.ends.1), 0);
                for (column, chunk) in self.columns.iter().zip(&mut self.chunks) {
                    if let Some(page) = pages.of(column) {
                        chunk.put(page);
                    }
                }
            }
        }
    }

    /// The complete group, whose series have these labels and timestamps.
    ///
    /// # Errors
    /// As [`GroupWriter::push`].
    pub fn finish(
        mut self,
        schema: &SchemaDescriptor,
        labels: &[Labels],
        timestamps: &[Arc<[i64]>],
    ) -> Result<EncodedGroup, BlockError> {
        self.end_run();
        let full = std::mem::take(&mut self.full);
        let pages = std::mem::take(&mut self.pages);
        let series = GroupSeries { labels, timestamps, pages: &pages, layout: self.layout };
        let columns = self.columns.clone();
        let by_series = || {
            let chunk = |(index, column): (usize, &Column)| series.chunk(column, schema.column(index));
            columns.par_iter().enumerate().map(chunk).collect::<Result<Vec<_>, _>>()
        };
        let (by_series, encoded) = rayon::join(by_series, || self.encode(full));
        let by_series = by_series?;
        self.append(encoded?);

        let first = self.first_series as i32;
        let mut ids = Some(self.ids);
        let mut chunks = Vec::with_capacity(columns.len());
        for (index, (by_rows, by_series)) in self.chunks.into_iter().zip(by_series).enumerate() {
            let descriptor = schema.column(index);
            let part = match &columns[index] {
                Column::Ts => Some(Part::Ts),
                Column::ValueInt => Some(Part::Integers),
                Column::Value => Some(Part::Doubles),
                Column::StartTs => Some(Part::Starts),
                Column::Histogram => Some(Part::Histograms),
                Column::SeriesId
                | Column::Metric
                | Column::Labels
                | Column::Promoted { .. }
                | Column::ValueDiv
                | Column::HistogramCount
                | Column::HistogramSum => None,
            };
            let chunk = match (&columns[index], by_series) {
                (_, Some(chunk)) => chunk,
                (Column::SeriesId, None) => {
                    let last = first + labels.len() as i32 - 1;
                    let statistics = Statistics::int32(Some(first), Some(last), None, Some(0), false);
                    by_rows.finish(Some(statistics), ids.take())?
                }
                (Column::ValueDiv, None) => series.divisors(descriptor, &self.divisors)?,
                // Sparse columns without a single value are one page.
                (Column::StartTs | Column::Histogram | Column::HistogramCount | Column::HistogramSum, None)
                    if by_rows.is_all_null() =>
                {
                    series.nulls(descriptor)?
                }
                (_, None) => by_rows.finish(None, None)?,
            };
            chunks.push((part, chunk));
        }
        Ok(EncodedGroup { chunks, counts: self.counts, divisors: self.divisors, summaries: self.summaries })
    }
}
