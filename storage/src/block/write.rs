//! From series in memory to the two files of a block.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;
use pilaster_model::{Labels, TimeRange};
use rayon::prelude::*;

use super::divide::Divisor;
use super::file::RangeWriter;
use super::group::{EncodedGroup, GroupWriter, Layout};
use super::index::{Content, Counts, Group, Page};
use super::order::OrderKey;
use super::page::PageRef;
use super::schema::{self, Column};
use super::seal::seal;
use super::summary::Summary;
use super::timeline::Timelines;
use super::{BlockError, BlockMeta, BlockSeries, FileMeta, WriteOptions};
use crate::env::{Files, atomic_write};

/// The name and version of the format, in the footer of every sample file.
pub const FORMAT: (&str, &str) = ("pilaster.format", "1");
const MAGIC_BYTES: u64 = 4;

/// Writes a block into `dir`, the data directory: sample file and index file, durable when this returns.
///
/// `series` come in any order, each label set once. Where they do not fit into memory together, use [`BlockWriter`].
///
/// # Errors
/// [`BlockError::Refused`] if there is nothing to write or a series breaks the rules of [`BlockSeries`]. After any error
/// nothing stands under the final names; what stands under temporary ones (ending in `.tmp`) is removed if possible.
pub fn write_block(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    level: u8,
    series: Vec<BlockSeries>,
    options: &WriteOptions,
) -> Result<BlockMeta, BlockError> {
    series.par_iter().try_for_each(check)?;
    let mut keyed: Vec<(OrderKey, BlockSeries)> =
        series.into_par_iter().map(|one| (OrderKey::of(&one.labels), one)).collect();
    keyed.par_sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let twice = keyed.windows(2).find(|pair| pair[0].0 == pair[1].0);
    if let Some([(_, one), _]) = twice {
        return Err(BlockError::refused(format!("{} is there twice", one.labels)));
    }
    let Some(min_ms) = keyed.iter().map(|(_, one)| one.timestamps[0]).min() else {
        return Err(BlockError::refused("no series"));
    };
    let mut writer = BlockWriter::create(files, dir, name, level, min_ms, options)?;
    for (key, one) in keyed {
        writer.put(Arc::new(key), one)?;
    }
    writer.finish()
}

/// Writes a block series by series: in memory are a few pages, one row group as its bytes in the file, and what the index
/// says of all series.
///
/// Dropped before [`BlockWriter::finish`] it leaves nothing behind, if the file system allows.
pub struct BlockWriter<'f> {
    files: &'f dyn Files,
    dir: PathBuf,
    paths: BlockPaths,
    layout: Layout,
    columns: Arc<[Column]>,
    schema: SchemaDescriptor,
    /// `None` once finished, or failed: then rows are missing, and the block must not be finished.
    samples: Option<Samples>,
    meta: BlockMeta,
    last: Option<Arc<OrderKey>>,
    labels: Vec<Labels>,
    timestamps: Vec<Arc<[i64]>>,
    renamed: bool,
}

/// The sample file, and the row group that comes next.
struct Samples {
    file: SampleWriter,
    group: GroupWriter,
}

impl<'f> BlockWriter<'f> {
    /// Begins the block `name` (letters, digits, `-`, `_`) below `dir`, the data directory. `min_ms`, the time of its
    /// first sample, names the day in its path. Beside the directory of days stands `views.sql`, for DuckDB.
    ///
    /// # Errors
    /// As [`write_block`].
    pub fn create(
        files: &'f dyn Files,
        dir: &Path,
        name: &str,
        level: u8,
        min_ms: i64,
        options: &WriteOptions,
    ) -> Result<BlockWriter<'f>, BlockError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(BlockError::refused(format!("{name:?} is no name for a block")));
        }
        let paths = BlockPaths::of(name, min_ms);
        let day = dir.join(&paths.day);
        files.create_dir_all(&day).map_err(BlockError::io("create", &day))?;
        write_views(files, dir)?;
        let columns: Arc<[Column]> = schema::columns(&options.promoted_labels).into();
        let schema = SchemaDescriptor::new(schema::parquet_schema(&columns)?);
        let samples = SampleWriter::create(files, &temporary(dir, &paths.samples), &columns, &schema);
        if samples.is_err() {
            // Best effort: an empty file under a temporary name does no harm.
            let _ = files.remove(&temporary(dir, &paths.samples));
        }
        let layout = Layout::of_level(level);
        let group = GroupWriter::new(columns.clone(), &schema, 0, layout);
        Ok(BlockWriter {
            files,
            dir: dir.to_owned(),
            paths,
            layout,
            columns,
            schema,
            samples: Some(Samples { file: samples?, group }),
            meta: BlockMeta {
                name: name.to_owned(),
                level,
                min_ms: i64::MAX,
                max_ms: i64::MIN,
                series_count: 0,
                sample_count: 0,
                files: Vec::new(),
            },
            last: None,
            labels: Vec::new(),
            timestamps: Vec::new(),
            renamed: false,
        })
    }

    /// Adds a series; series come in the order of their [`OrderKey`]s.
    ///
    /// # Errors
    /// As [`write_block`]. The block cannot be finished after one.
    pub fn push(&mut self, series: BlockSeries) -> Result<(), BlockError> {
        self.push_keyed(Arc::new(OrderKey::of(&series.labels)), series)
    }

    /// [`BlockWriter::push`] where the key of the series is known.
    ///
    /// # Errors
    /// As [`BlockWriter::push`].
    pub fn push_keyed(&mut self, key: Arc<OrderKey>, series: BlockSeries) -> Result<(), BlockError> {
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(BlockError::refused(format!("{} comes out of order", series.labels)));
        }
        check(&series)?;
        self.put(key, series)
    }

    /// Adds a series that was checked and comes in order.
    fn put(&mut self, key: Arc<OrderKey>, series: BlockSeries) -> Result<(), BlockError> {
        let Samples { mut file, mut group } = self.samples.take().ok_or_else(failed_before)?;
        if group.is_full() {
            let next = GroupWriter::new(self.columns.clone(), &self.schema, self.labels.len() as u32, self.layout);
            file.append(self.finished(std::mem::replace(&mut group, next))?)?;
        }
        self.last = Some(key);
        let timestamps = &series.timestamps;
        self.meta.min_ms = self.meta.min_ms.min(timestamps[0]);
        self.meta.max_ms = self.meta.max_ms.max(timestamps[timestamps.len() - 1]);
        self.meta.series_count += 1;
        self.meta.sample_count += timestamps.len() as u64;
        self.labels.push(series.labels.clone());
        self.timestamps.push(timestamps.clone());
        group.push(series)?;
        self.samples = Some(Samples { file, group });
        Ok(())
    }

    /// The newest series as a row group.
    fn finished(&self, group: GroupWriter) -> Result<EncodedGroup, BlockError> {
        let first = self.labels.len() - group.series_count();
        group.finish(&self.schema, &self.labels[first..], &self.timestamps[first..])
    }

    /// Makes the block durable under its name.
    ///
    /// # Errors
    /// As [`write_block`].
    pub fn finish(mut self) -> Result<BlockMeta, BlockError> {
        if self.labels.is_empty() {
            return Err(BlockError::refused("no series"));
        }
        let Samples { mut file, group } = self.samples.take().ok_or_else(failed_before)?;
        file.append(self.finished(group)?)?;
        let written = file.finish(self.paths.samples.clone())?;
        let range_of = |timestamps: &Arc<[i64]>| TimeRange::new(timestamps[0], timestamps[timestamps.len() - 1]);
        let content = Content {
            labels: &self.labels,
            counts: &written.counts,
            divisors: &written.divisors,
            summaries: &written.summaries,
            ranges: &self.timestamps.iter().map(range_of).collect::<Vec<_>>(),
            timelines: &Timelines::of(&self.timestamps),
            groups: &written.groups,
        };
        let bytes = seal(content.encode()?, &written.ranges);
        let index = write_index(self.files, &self.dir, &self.paths.index, &bytes)?;
        // The index first: who lists sample files never sees one that is not ready.
        self.renamed = true;
        for name in [&self.paths.index, &self.paths.samples] {
            let (from, to) = (temporary(&self.dir, name), self.dir.join(name));
            self.files.rename(&from, &to).map_err(BlockError::io("rename", &from))?;
        }
        let day = self.dir.join(&self.paths.day);
        self.files.sync_dir(&day).map_err(BlockError::io("sync", &day))?;
        self.meta.files = vec![written.file, index];
        Ok(self.meta.clone())
    }
}

impl Drop for BlockWriter<'_> {
    fn drop(&mut self) {
        if !self.meta.files.is_empty() {
            return;
        }
        for name in [&self.paths.samples, &self.paths.index] {
            // Best effort: there is an error to tell already, and the manifest names none of these.
            let _ = self.files.remove(&temporary(&self.dir, name));
            if self.renamed {
                let _ = self.files.remove(&self.dir.join(name));
            }
        }
    }
}

fn failed_before() -> BlockError {
    BlockError::refused("an earlier call failed")
}

/// Whether `series` keeps the rules of [`BlockSeries`].
fn check(series: &BlockSeries) -> Result<(), BlockError> {
    let rows = series.timestamps.len();
    let refused = |what: &str| Err(BlockError::refused(format!("{} {what}", series.labels)));
    if rows == 0 || series.values.len() != rows || i32::try_from(rows).is_err() {
        return refused("has no samples, too many, or values for another number of timestamps");
    }
    if series.histograms.as_ref().is_some_and(|all| all.len() != rows)
        || series.starts_ms.as_ref().is_some_and(|all| all.len() != rows)
    {
        return refused("has histograms or start timestamps for another number of timestamps");
    }
    if series.timestamps.windows(2).any(|pair| pair[0] >= pair[1]) {
        return refused("has timestamps that do not ascend");
    }
    Ok(())
}

/// Where a block's files lie, relative to the data directory.
struct BlockPaths {
    day: String,
    samples: String,
    index: String,
}

impl BlockPaths {
    fn of(name: &str, min_ms: i64) -> BlockPaths {
        let (year, month, date) = civil_date(min_ms.div_euclid(86_400_000));
        let day = format!("samples/date={year:04}-{month:02}-{date:02}");
        BlockPaths { samples: format!("{day}/{name}.parquet"), index: format!("{day}/{name}.index"), day }
    }
}

/// Never ends in `.parquet`, so that no glob finds it.
fn temporary(dir: &Path, path: &str) -> PathBuf {
    dir.join(format!("{path}.tmp"))
}

/// Year, month and day of the day that is `days` after 1970-01-01, in the Gregorian calendar.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March, so that the leap day is their last.
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let date = day_of_year - (153 * march_month + 2) / 5 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, date)
}

/// Writes an index file under its temporary name.
fn write_index(files: &dyn Files, dir: &Path, name: &str, bytes: &[u8]) -> Result<FileMeta, BlockError> {
    use std::io::Write;
    let path = temporary(dir, name);
    let mut writer = RangeWriter::create(files, &path)?;
    writer.write_all(bytes).map_err(BlockError::io("write", &path))?;
    Ok(writer.finish(name.to_owned())?.0)
}

/// A sample file, finished, and what its index says of it.
struct Written {
    file: FileMeta,
    /// Checksums of the file's ranges.
    ranges: Vec<u32>,
    groups: Vec<Group>,
    counts: Vec<Counts>,
    divisors: Vec<Option<Divisor>>,
    summaries: Vec<(u32, Summary)>,
}

/// A sample file in the making.
struct SampleWriter {
    path: PathBuf,
    file: SerializedFileWriter<RangeWriter>,
    offset: u64,
    groups: Vec<Group>,
    counts: Vec<Counts>,
    divisors: Vec<Option<Divisor>>,
    summaries: Vec<(u32, Summary)>,
}

impl SampleWriter {
    fn create(
        files: &dyn Files,
        path: &Path,
        columns: &[Column],
        schema: &SchemaDescriptor,
    ) -> Result<SampleWriter, BlockError> {
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_created_by(concat!("pilaster version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_sorting_columns(Some(schema::sorting(columns)))
            .set_key_value_metadata(Some(vec![KeyValue::new(FORMAT.0.to_owned(), FORMAT.1.to_owned())]))
            .build();
        let file = RangeWriter::create(files, path)?;
        let file = SerializedFileWriter::new(file, schema.root_schema_ptr(), Arc::new(properties))
            .map_err(BlockError::writing(path))?;
        Ok(SampleWriter {
            path: path.to_owned(),
            file,
            offset: MAGIC_BYTES,
            groups: Vec::new(),
            counts: Vec::new(),
            divisors: Vec::new(),
            summaries: Vec::new(),
        })
    }

    fn append(&mut self, encoded: EncodedGroup) -> Result<(), BlockError> {
        let mut group = Group {
            first_series: self.counts.len() as u32,
            series_count: encoded.counts.len() as u32,
            rows: encoded.counts.iter().map(|counts| counts.rows).sum(),
            ..Group::default()
        };
        debug_assert_eq!(self.file.bytes_written() as u64, self.offset, "nothing but chunks is written between groups");
        let mut row_group = self.file.next_row_group().map_err(BlockError::writing(&self.path))?;
        for (part, chunk) in encoded.chunks {
            if let Some(part) = part {
                group.pages[part as usize] = placed_pages(&chunk.pages, self.offset);
            }
            self.offset += chunk.bytes.len() as u64;
            row_group.append_column(&chunk.bytes, chunk.close).map_err(BlockError::writing(&self.path))?;
        }
        row_group.close().map_err(BlockError::writing(&self.path))?;
        self.groups.push(group);
        self.counts.extend(encoded.counts);
        self.divisors.extend(encoded.divisors);
        self.summaries.extend(encoded.summaries);
        Ok(())
    }

    fn finish(self, name: String) -> Result<Written, BlockError> {
        let file = self.file.into_inner().map_err(BlockError::writing(&self.path))?;
        let SampleWriter { groups, counts, divisors, summaries, .. } = self;
        let (file, ranges) = file.finish(name)?;
        Ok(Written { file, ranges, groups, counts, divisors, summaries })
    }
}

/// The pages of a chunk that begins at `offset` of the file.
pub(super) fn placed_pages(pages: &[(u32, PageRef)], offset: u64) -> Vec<Page> {
    let (mut first_row, mut first_value) = (0, 0);
    pages
        .iter()
        .map(|&(rows, page)| {
            let at = PageRef { offset: page.offset + offset, ..page };
            let placed = Page { first_row, rows, first_value, at };
            first_row += rows;
            first_value += page.values;
            placed
        })
        .collect()
}

const VIEWS: &str = include_str!("views.sql");

/// Puts `views.sql` into the data directory, unless it stands there already.
fn write_views(files: &dyn Files, dir: &Path) -> Result<(), BlockError> {
    let path = dir.join("views.sql");
    if files.read(&path).is_ok_and(|there| there == VIEWS.as_bytes()) {
        return Ok(());
    }
    atomic_write(files, &path, VIEWS.as_bytes()).map_err(BlockError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_778, (2026, 11, 21)),
            (-719_468, (0, 3, 1)),
        ] {
            assert_eq!(civil_date(days), date);
        }
    }
}
