//! A run of series that fills pages, turned into them: what columns hold of each row.

use std::ops::Range;

use pilaster_model::{Histogram, stale_nan};

use super::column::{Candidate, PageCompressor};
use super::divide::{Divisor, Kind, Split};
use super::group::Layout;
use super::index::Counts;
use super::page::{DataPage, put_runs};
use super::schema::Column;
use super::summary::Summary;
use super::{BlockError, BlockSeries};

/// Rows of one series in one page.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Position in the row group.
    pub series: usize,
    pub rows: Range<usize>,
}

pub fn rows_of(page: &[Piece]) -> usize {
    page.iter().map(|piece| piece.rows.len()).sum()
}

/// Series that begin with a page and end with one: some that share a page, or one that is several pages long.
#[derive(Debug, Default)]
pub struct Run {
    /// Position of the first in the row group.
    pub first: usize,
    pub series: Vec<BlockSeries>,
    pub rows: usize,
}

/// A page of every column that has something of each row.
pub struct RowPages {
    pub ids: DataPage,
    /// The first id and the last.
    pub ends: (i32, i32),
    pub integers: DataPage,
    pub doubles: DataPage,
    pub starts: DataPage,
    /// Whole, their counts and their sums.
    pub histograms: [DataPage; 3],
}

impl RowPages {
    /// The page of `column`; `None` where it follows from labels and timestamps, or from all the group's series.
    pub fn of(&self, column: &Column) -> Option<&DataPage> {
        let [whole, count, sum] = &self.histograms;
        match column {
            Column::SeriesId => Some(&self.ids),
            Column::ValueInt => Some(&self.integers),
            Column::Value => Some(&self.doubles),
            Column::StartTs => Some(&self.starts),
            Column::Histogram => Some(whole),
            Column::HistogramCount => Some(count),
            Column::HistogramSum => Some(sum),
            Column::Metric | Column::Labels | Column::Promoted { .. } | Column::Ts | Column::ValueDiv => None,
        }
    }
}

/// A run as it stands in a file, and what the index says of its series.
pub struct EncodedRun {
    pub pages: Vec<RowPages>,
    pub counts: Vec<Counts>,
    pub divisors: Vec<Option<Divisor>>,
    /// Of the series that have one, with their rows.
    pub summaries: Vec<(u32, Summary)>,
}

/// What encoding runs takes, reused from run to run.
pub struct Tools {
    zstd: PageCompressor,
    split: Split,
    levels: Vec<u8>,
    starts: Vec<i64>,
    plain: Vec<u8>,
}

impl Tools {
    pub fn new(layout: Layout) -> Result<Tools, BlockError> {
        let zstd = PageCompressor::new(layout.compression_level)?;
        let (levels, starts, plain) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Tools { zstd, split: Split::default(), levels, starts, plain })
    }
}

/// All values of a run, split, series after series.
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
    fn of(series: &[BlockSeries], split: &mut Split) -> Values {
        let mut all = Values::default();
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

impl Run {
    /// Whether a series of so many rows makes pages of its own.
    pub fn is_long(rows: usize, layout: Layout) -> bool {
        rows > 4 * layout.page_rows
    }

    /// The pages: one, or as many as a long series needs.
    pub fn pages(&self, layout: Layout) -> Vec<Vec<Piece>> {
        match self.series.as_slice() {
            [] => Vec::new(),
            [long] if Run::is_long(long.timestamps.len(), layout) => {
                let (rows, step) = (long.timestamps.len(), layout.page_rows);
                let piece = |start: usize| Piece { series: self.first, rows: start..rows.min(start + step) };
                (0..rows).step_by(step).map(|start| vec![piece(start)]).collect()
            }
            all => {
                let piece = |(nth, one): (usize, &BlockSeries)| Piece {
                    series: self.first + nth,
                    rows: 0..one.timestamps.len(),
                };
                vec![all.iter().enumerate().map(piece).collect()]
            }
        }
    }

    /// Encodes the run in a row group whose first series is number `group_first` in the file.
    pub fn encode(&self, group_first: u32, layout: Layout, tools: &mut Tools) -> Result<EncodedRun, BlockError> {
        let values = Values::of(&self.series, &mut tools.split);
        let (mut integers, mut doubles) = (values.integers.as_slice(), values.doubles.as_slice());
        let mut pages = Vec::new();
        for page in self.pages(layout) {
            let (ids, ends) = put_ids(&page, group_first, tools)?;
            let here = self.put_kind_levels(&values, &page, Kind::Integer, &mut tools.levels);
            let taken = integers.split_off(..here).unwrap_or_default();
            let integers = tools.zstd.values(rows_of(&page), &tools.levels, taken)?;
            let here = self.put_kind_levels(&values, &page, Kind::Double, &mut tools.levels);
            let taken = doubles.split_off(..here).unwrap_or_default();
            let doubles = tools.zstd.doubles(rows_of(&page), &tools.levels, taken)?;
            let starts = self.starts(&page, tools)?;
            let histograms = [
                self.histograms(&page, tools, put_whole)?,
                self.histograms(&page, tools, |one, out| put_double(one.count, out))?,
                self.histograms(&page, tools, |one, out| put_double(one.sum, out))?,
            ];
            pages.push(RowPages { ids, ends, integers, doubles, starts, histograms });
        }
        Ok(EncodedRun { pages, counts: values.counts, divisors: values.divisors, summaries: values.summaries })
    }

    fn of(&self, piece: &Piece) -> &BlockSeries {
        &self.series[piece.series - self.first]
    }

    fn put_kind_levels(&self, values: &Values, page: &[Piece], wanted: Kind, levels: &mut Vec<u8>) -> usize {
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for piece in page {
            let nth = piece.series - self.first;
            let kinds = &values.kinds[nth];
            if kinds.is_empty() {
                let counts = &values.counts[nth];
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

    fn starts(&self, page: &[Piece], tools: &mut Tools) -> Result<DataPage, BlockError> {
        let Tools { starts, levels, zstd, .. } = tools;
        starts.clear();
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for piece in page {
            match &self.of(piece).starts_ms {
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
        put_runs(levels, 1, runs);
        zstd.integers(rows_of(page), levels, starts, &[Candidate::Delta(4), Candidate::Plain])
    }

    /// A page that has something of every histogram; `put` appends it in PLAIN encoding.
    fn histograms(
        &self,
        page: &[Piece],
        tools: &mut Tools,
        put: impl Fn(&Histogram, &mut Vec<u8>),
    ) -> Result<DataPage, BlockError> {
        let Tools { plain, levels, zstd, .. } = tools;
        plain.clear();
        let mut count = 0;
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for piece in page {
            match &self.of(piece).histograms {
                None => runs.push((0, piece.rows.len())),
                Some(all) => {
                    for sample in &all[piece.rows.clone()] {
                        runs.push((u32::from(sample.is_some()), 1));
                        if let Some(histogram) = sample {
                            count += 1;
                            put(histogram, plain);
                        }
                    }
                }
            }
        }
        levels.clear();
        put_runs(levels, 1, runs);
        zstd.plain(rows_of(page), levels, count, plain)
    }
}

/// Ascending numbers with long runs: differences take a third of what a dictionary of so many entries does.
fn put_ids(page: &[Piece], group_first: u32, tools: &mut Tools) -> Result<(DataPage, (i32, i32)), BlockError> {
    let runs: Vec<(i64, usize)> =
        page.iter().map(|piece| (i64::from(group_first) + piece.series as i64, piece.rows.len())).collect();
    let packed = tools.zstd.runs(&runs)?;
    Ok((packed, (runs[0].0 as i32, runs[runs.len() - 1].0 as i32)))
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
