//! Grids: what flows between operators. A row is one series, a cell one step.
//!
//! ```text
//! series: UInt32 | cells: FixedSizeList<Float64, W>        | histograms: List<Struct<step: UInt32, histogram: Binary>>
//! 3              | 1.0  null  2.0 …  (null: no float here) | null, or the steps that hold a native histogram
//! ```
//!
//! A step whose cell is null and that has no histogram has no sample. Every series has at most one row per grid. Labels
//! never ride along: `series` is a position in the node's series table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, FixedSizeListArray, Float64Array, ListArray, RecordBatch,
    StructArray, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use pilaster_model::Histogram;

/// The evaluation times of a node: `start_ms + i * step_ms` for `i` in `[0, count)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Steps {
    pub start_ms: i64,
    /// At least 1.
    pub step_ms: i64,
    pub count: usize,
}

impl Steps {
    /// One evaluation at one time.
    pub fn instant(at_ms: i64) -> Steps {
        Steps { start_ms: at_ms, step_ms: 1, count: 1 }
    }

    /// All steps up to and including `end_ms`; none where it lies before `start_ms`.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Steps {
        let step_ms = step_ms.max(1);
        let count = if end_ms < start_ms { 0 } else { (end_ms.saturating_sub(start_ms) / step_ms) as usize + 1 };
        Steps { start_ms, step_ms, count }
    }

    pub fn at(&self, step: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(step as i64))
    }

    /// The last evaluation time.
    pub fn end_ms(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// The first evaluation only.
    pub fn first(&self) -> Steps {
        Steps { count: self.count.min(1), ..*self }
    }
}

/// A timestamp and a float.
const SAMPLE_BYTES: usize = 16;

/// A native histogram and the step it stands at.
pub type HistogramCell = (u32, Arc<Histogram>);

/// Several rows of a grid, unpacked from or to be packed into a [`RecordBatch`].
#[derive(Debug, Clone)]
pub struct GridBatch {
    width: usize,
    series: ScalarBuffer<u32>,
    values: ScalarBuffer<f64>,
    /// One flag per cell; absent where all cells hold a float.
    valid: Option<Vec<bool>>,
    /// One list per row, ascending by step; absent where no row has any.
    histograms: Option<Vec<Vec<HistogramCell>>>,
    /// `width` times true, lent out where `valid` is absent.
    ones: Arc<[bool]>,
}

/// One series of a grid.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub series: u32,
    /// One value per step; means nothing where `valid` is false.
    pub values: &'a [f64],
    /// Whether the step holds a float.
    pub valid: &'a [bool],
    pub histograms: &'a [HistogramCell],
}

impl<'a> Row<'a> {
    /// Whether any step holds a sample.
    pub fn has_samples(&self) -> bool {
        !self.histograms.is_empty() || self.valid.contains(&true)
    }

    /// Whether `step` holds a sample.
    pub fn is_present(&self, step: usize) -> bool {
        self.valid[step] || self.histogram(step).is_some()
    }

    pub fn histogram(&self, step: usize) -> Option<&'a Arc<Histogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let index = self.histograms.binary_search_by_key(&(step as u32), |(step, _)| *step).ok()?;
        Some(&self.histograms[index].1)
    }
}

/// The schema of grids of `width` steps.
pub fn schema(width: usize) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("series", DataType::UInt32, false),
        Field::new("cells", DataType::FixedSizeList(cell_field(), width as i32), false),
        Field::new("histograms", DataType::List(histogram_field()), true),
    ]))
}

fn cell_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

fn histogram_fields() -> Fields {
    Fields::from(vec![Field::new("step", DataType::UInt32, false), Field::new("histogram", DataType::Binary, false)])
}

fn histogram_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Struct(histogram_fields()), false))
}

impl GridBatch {
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn row_count(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub fn has_histograms(&self) -> bool {
        self.histograms.is_some()
    }

    pub fn row(&self, row: usize) -> Row<'_> {
        let cells = row * self.width..(row + 1) * self.width;
        Row {
            series: self.series[row],
            values: &self.values[cells.clone()],
            valid: match &self.valid {
                Some(valid) => &valid[cells],
                None => &self.ones,
            },
            histograms: match &self.histograms {
                Some(histograms) => &histograms[row],
                None => &[],
            },
        }
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.row_count()).map(|row| self.row(row))
    }

    /// All cells, row by row; a cell means nothing where no float stands.
    pub fn cells(&self) -> &[f64] {
        &self.values[..self.row_count() * self.width]
    }

    /// The same rows and flags with other cells.
    pub fn with_cells(self, cells: Vec<f64>) -> GridBatch {
        debug_assert_eq!(cells.len(), self.row_count() * self.width, "one value per cell");
        GridBatch { values: cells.into(), ..self }
    }

    /// The same rows without their histograms.
    pub fn without_histograms(self) -> GridBatch {
        GridBatch { histograms: None, ..self }
    }

    /// The same rows with each histogram replaced.
    pub fn map_histograms(self, change: impl Fn(&Histogram) -> Histogram) -> GridBatch {
        let histograms = self.histograms.map(|rows| {
            let changed = |cells: Vec<HistogramCell>| {
                cells.into_iter().map(|(step, histogram)| (step, Arc::new(change(&histogram)))).collect()
            };
            rows.into_iter().map(changed).collect()
        });
        GridBatch { histograms, ..self }
    }

    /// Samples in all rows, as limits count them: a histogram counts for as many floats as fit into its memory.
    pub fn sample_count(&self) -> usize {
        let floats = match &self.valid {
            Some(valid) => count_flags(valid),
            None => self.values.len(),
        };
        let histograms = self.histograms.iter().flatten().flatten();
        floats + histograms.map(|(_, histogram)| histogram.memory_bytes().div_ceil(SAMPLE_BYTES)).sum::<usize>()
    }

    /// Packs into Arrow; `schema` is [`schema`] of this width.
    pub fn to_record_batch(&self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let rows = self.row_count();
        let nulls = self.valid.as_deref().map(pack_flags);
        let cells = Float64Array::new(self.values.clone(), nulls);
        let cells =
            FixedSizeListArray::try_new_with_length(cell_field(), self.width as i32, Arc::new(cells), None, rows)?;
        let columns: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::new(self.series.clone(), None)), Arc::new(cells), self.pack_histograms()?];
        RecordBatch::try_new(Arc::clone(schema), columns)
    }

    fn pack_histograms(&self) -> Result<ArrayRef, ArrowError> {
        let rows = self.row_count();
        let Some(histograms) = &self.histograms else {
            return Ok(Arc::new(ListArray::new_null(histogram_field(), rows)));
        };
        let mut steps = Vec::new();
        let mut bytes = BinaryBuilder::new();
        let mut buffer = Vec::new();
        for (step, histogram) in histograms.iter().flatten() {
            steps.push(*step);
            buffer.clear();
            histogram.encode(&mut buffer);
            bytes.append_value(&buffer);
        }
        let cells = StructArray::try_new(
            histogram_fields(),
            vec![Arc::new(UInt32Array::from(steps)), Arc::new(bytes.finish())],
            None,
        )?;
        let offsets = OffsetBuffer::from_lengths(histograms.iter().map(Vec::len));
        let nulls = NullBuffer::from_iter(histograms.iter().map(|row| !row.is_empty()));
        Ok(Arc::new(ListArray::try_new(histogram_field(), offsets, Arc::new(cells), Some(nulls))?))
    }

    /// Unpacks a batch whose schema is [`schema`] of some width.
    pub fn from_record_batch(batch: &RecordBatch) -> Result<GridBatch, ArrowError> {
        let series = batch.column(0).as_primitive::<UInt32Type>().values().clone();
        let cells = batch.column(1).as_fixed_size_list();
        let width = cells.value_length() as usize;
        let floats = cells.values().as_primitive::<Float64Type>();
        let (from, length) = (cells.value_offset(0) as usize, series.len() * width);
        let floats = floats.slice(from, length);
        let valid = floats.nulls().filter(|nulls| nulls.null_count() > 0).map(unpack_flags);
        let lists = batch.column(2).as_list::<i32>();
        let histograms = if lists.null_count() == lists.len() { None } else { Some(unpack_histograms(lists)?) };
        let ones = ones(width);
        Ok(GridBatch { width, series, values: floats.values().clone(), valid, histograms, ones })
    }
}

/// How many are set.
fn count_flags(flags: &[bool]) -> usize {
    // Sums of bytes, which are added many at a time, cannot overflow in so many.
    flags.chunks(255).map(|flags| usize::from(flags.iter().fold(0_u8, |count, flag| count + u8::from(*flag)))).sum()
}

/// One bit per flag, eight at a time.
fn pack_flags(flags: &[bool]) -> NullBuffer {
    let (eights, rest) = flags.as_chunks::<8>();
    let byte = |flags: &[bool; 8]| {
        let bytes = u64::from_le_bytes(flags.map(u8::from));
        // Byte k, moved to bit 56 + k; no two of the other products meet.
        (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    };
    let mut last = [false; 8];
    last[..rest.len()].copy_from_slice(rest);
    let bytes: Vec<u8> = eights.iter().chain((!rest.is_empty()).then_some(&last)).map(byte).collect();
    NullBuffer::new(BooleanBuffer::new(bytes.into(), 0, flags.len()))
}

/// One flag per bit, eight at a time.
fn unpack_flags(nulls: &NullBuffer) -> Vec<bool> {
    let words = nulls.inner().bit_chunks();
    let mut flags = Vec::with_capacity(nulls.len().next_multiple_of(64));
    for word in words.iter_padded() {
        for byte in word.to_le_bytes() {
            // Bit k of the byte alone in byte k, then whether there is any.
            let bits = u64::from(byte).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
            let ones = (bits + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101;
            flags.extend_from_slice(&ones.to_le_bytes().map(|byte| byte == 1));
        }
    }
    flags.truncate(nulls.len());
    flags
}

fn ones(width: usize) -> Arc<[bool]> {
    std::iter::repeat_n(true, width).collect()
}

fn unpack_histograms(lists: &ListArray) -> Result<Vec<Vec<HistogramCell>>, ArrowError> {
    let cells = lists.values().as_struct();
    let steps = cells.column(0).as_primitive::<UInt32Type>().values();
    let bytes: &BinaryArray = cells.column(1).as_binary::<i32>();
    let offsets: &[i32] = lists.value_offsets();
    (0..lists.len())
        .map(|row| {
            if lists.is_null(row) {
                return Ok(Vec::new());
            }
            (offsets[row] as usize..offsets[row + 1] as usize)
                .map(|index| {
                    let (histogram, _) = Histogram::decode(bytes.value(index))
                        .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
                    Ok((steps[index], Arc::new(histogram)))
                })
                .collect()
        })
        .collect()
}

/// Makes a [`GridBatch`] row by row.
#[derive(Debug)]
pub struct GridBuilder {
    width: usize,
    series: Vec<u32>,
    values: Vec<f64>,
    valid: Vec<bool>,
    histograms: Vec<Vec<HistogramCell>>,
    has_histograms: bool,
}

impl GridBuilder {
    pub fn new(width: usize, rows: usize) -> GridBuilder {
        GridBuilder {
            width,
            series: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows * width),
            valid: Vec::with_capacity(rows * width),
            histograms: Vec::new(),
            has_histograms: false,
        }
    }

    /// Appends a row without samples and lends its values (0.0) and flags (false).
    pub fn push(&mut self, series: u32) -> (&mut [f64], &mut [bool]) {
        let start = self.values.len();
        self.series.push(series);
        self.values.resize(start + self.width, 0.0);
        self.valid.resize(start + self.width, false);
        (&mut self.values[start..], &mut self.valid[start..])
    }

    /// Appends a copy of `row` under another number.
    pub fn push_row(&mut self, series: u32, row: Row<'_>) {
        self.series.push(series);
        self.values.extend_from_slice(row.values);
        self.valid.extend_from_slice(row.valid);
        if !row.histograms.is_empty() {
            self.set_histograms(row.histograms.to_vec());
        }
    }

    /// Values and flags of the row pushed last.
    pub fn last(&mut self) -> (&mut [f64], &mut [bool]) {
        let start = self.values.len() - self.width;
        (&mut self.values[start..], &mut self.valid[start..])
    }

    /// Sets the histograms of the row pushed last: ascending by step, where its flags are false.
    pub fn set_histograms(&mut self, histograms: Vec<HistogramCell>) {
        if histograms.is_empty() && self.histograms.len() < self.series.len() {
            return;
        }
        self.has_histograms |= !histograms.is_empty();
        self.histograms.resize(self.series.len(), Vec::new());
        if let Some(last) = self.histograms.last_mut() {
            *last = histograms;
        }
    }

    /// Takes the row pushed last away again where it has no sample.
    pub fn drop_empty(&mut self) {
        let rows = self.series.len();
        let has_histograms = self.histograms.len() == rows && self.histograms.last().is_some_and(|row| !row.is_empty());
        let start = self.values.len() - self.width;
        if has_histograms || self.valid[start..].contains(&true) {
            return;
        }
        self.series.pop();
        self.values.truncate(start);
        self.valid.truncate(start);
        self.histograms.truncate(rows - 1);
    }

    pub fn finish(mut self) -> GridBatch {
        let histograms = self.has_histograms.then(|| {
            self.histograms.resize(self.series.len(), Vec::new());
            self.histograms
        });
        // A branch per chunk, not per flag.
        let all = |flags: &[bool]| flags.iter().fold(true, |all, flag| all & flag);
        let valid = (!self.valid.chunks(64).all(all)).then_some(self.valid);
        GridBatch {
            width: self.width,
            series: self.series.into(),
            values: self.values.into(),
            valid,
            histograms,
            ones: ones(self.width),
        }
    }
}

/// All rows of a node's output, found by series.
#[derive(Debug)]
pub struct Grid {
    pub batches: Vec<GridBatch>,
    /// Batch and row per series.
    places: Vec<(u32, u32)>,
}

const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);

impl Grid {
    pub fn new(batches: Vec<GridBatch>) -> Grid {
        let series_count =
            batches.iter().flat_map(|batch| batch.series.iter()).max().map_or(0, |max| *max as usize + 1);
        let mut places = vec![NOWHERE; series_count];
        for (index, batch) in batches.iter().enumerate() {
            for (row, series) in batch.series.iter().enumerate() {
                places[*series as usize] = (index as u32, row as u32);
            }
        }
        Grid { batches, places }
    }

    /// The row of `series`; `None` where it has no sample at any step.
    pub fn get(&self, series: u32) -> Option<Row<'_>> {
        let (batch, row) = *self.places.get(series as usize).filter(|place| **place != NOWHERE)?;
        Some(self.batches[batch as usize].row(row as usize))
    }

    /// Rows in order of arrival.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.batches.iter().flat_map(GridBatch::rows)
    }

    pub fn row_count(&self) -> usize {
        self.batches.iter().map(GridBatch::row_count).sum()
    }

    /// The rows that have a sample at `step`, one step wide.
    pub fn column(&self, step: usize) -> Grid {
        let mut out = GridBuilder::new(1, 0);
        for row in self.rows().filter(|row| row.is_present(step)) {
            let (values, valid) = out.push(row.series);
            (values[0], valid[0]) = (row.values[step], row.valid[step]);
            if let Some(histogram) = row.histogram(step) {
                out.set_histograms(vec![(0, Arc::clone(histogram))]);
            }
        }
        Grid::new(vec![out.finish()])
    }

    pub fn is_empty(&self) -> bool {
        self.row_count() == 0
    }

    /// Samples in all rows.
    pub fn sample_count(&self) -> usize {
        self.batches.iter().map(GridBatch::sample_count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_survive_arrow() {
        let flags: Vec<bool> = (0..1000_u32).map(|at| at.wrapping_mul(2_654_435_761) >> 30 == 1).collect();
        for length in (0..200).chain([511, 512, 1000]) {
            for start in [0, 1, 8, 77] {
                let flags = &flags[start.min(length)..length];
                let packed = pack_flags(flags);
                assert_eq!(packed, NullBuffer::from(flags.to_vec()), "{start}..{length}");
                assert_eq!(unpack_flags(&packed), flags, "{start}..{length}");
                assert_eq!(count_flags(flags), flags.iter().filter(|flag| **flag).count(), "{start}..{length}");
            }
        }
        let packed = pack_flags(&flags);
        assert_eq!(unpack_flags(&packed.slice(3, 500)), flags[3..503]);
        assert_eq!(count_flags(&[true; 1000]), 1000);
    }

    #[test]
    fn batches_survive_arrow() {
        let mut builder = GridBuilder::new(3, 2);
        let (values, valid) = builder.push(7);
        values.copy_from_slice(&[1.0, 0.0, f64::NAN]);
        valid.copy_from_slice(&[true, false, true]);
        let histogram = Arc::new(Histogram { count: 3.0, positive: vec![1.0, 2.0], ..Histogram::default() });
        builder.push(9);
        builder.set_histograms(vec![(1, Arc::clone(&histogram))]);
        builder.push(10);
        builder.drop_empty();
        let batch = builder.finish();
        assert_eq!(batch.row_count(), 2);
        assert_eq!(batch.sample_count(), 2 + histogram.memory_bytes().div_ceil(SAMPLE_BYTES));

        let packed = batch.to_record_batch(&schema(3)).expect("columns fit the schema");
        let unpacked = GridBatch::from_record_batch(&packed.slice(1, 1)).expect("schema is a grid's");
        assert_eq!(unpacked.row(0).series, 9);
        assert_eq!(unpacked.row(0).histogram(1), Some(&histogram));
        let unpacked = GridBatch::from_record_batch(&packed).expect("schema is a grid's");
        assert_eq!(unpacked.row(0).valid, [true, false, true]);
        assert!(unpacked.row(0).values[2].is_nan() && unpacked.row(0).histograms.is_empty());

        let grid = Grid::new(vec![unpacked]);
        assert!(grid.get(8).is_none());
        assert!(grid.get(9).is_some_and(|row| row.is_present(1) && !row.is_present(0)));
    }

    #[test]
    fn steps_end_at_or_before_the_end() {
        assert_eq!(Steps::range(0, 25, 10).count, 3);
        assert_eq!(Steps::range(0, 25, 10).end_ms(), 20);
        assert_eq!(Steps::range(10, 0, 10).count, 0);
        assert_eq!(Steps::instant(5).end_ms(), 5);
    }
}
