//! From series in memory to the two files of a block.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;
use pilaster_model::{Labels, METRIC_NAME, TimeRange};
use rayon::prelude::*;

use super::divide::Divisor;
use super::file::RangeWriter;
use super::group::{self, EncodedGroup, Layout};
use super::index::{Content, Counts, Group, Page};
use super::page::PageRef;
use super::schema::{self, Column};
use super::timeline::Timelines;
use super::{BlockError, BlockMeta, BlockSeries, FileMeta, WriteOptions};
use crate::env::{Files, atomic_write};

/// A row group ends at the first series that starts after so many rows …
const GROUP_ROWS: usize = 1 << 20;
/// … or after so many bytes of labels, which a reader holds in memory for it.
const GROUP_LABEL_BYTES: usize = 16 << 20;
/// The name and version of the format, in the footer of every sample file.
pub const FORMAT: (&str, &str) = ("pilaster.format", "1");
const MAGIC_BYTES: u64 = 4;

/// Writes a block into `dir`, the data directory: sample file and index file, durable when this returns.
///
/// `series` come in any order, each label set once. The block's day in the path is that of its first sample, in UTC.
/// Beside the directory of days stands `views.sql`, for DuckDB.
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
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(BlockError::refused(format!("{name:?} is no name for a block")));
    }
    let series = sorted(series)?;
    let range =
        series.iter().map(range_of).reduce(|a, b| TimeRange::new(a.min_ms.min(b.min_ms), a.max_ms.max(b.max_ms)));
    let Some(range) = range else { return Err(BlockError::refused("no series")) };

    let paths = BlockPaths::of(name, range.min_ms);
    let day = dir.join(&paths.day);
    files.create_dir_all(&day).map_err(BlockError::io("create", &day))?;
    write_views(files, dir)?;
    let written = write_files(files, dir, &paths, level, &series, options).and_then(|metas| {
        // The index first: who lists sample files never sees one that is not ready.
        for meta in metas.iter().rev() {
            let (from, to) = (temporary(dir, &meta.path), dir.join(&meta.path));
            files.rename(&from, &to).map_err(BlockError::io("rename", &from))?;
        }
        files.sync_dir(&day).map_err(BlockError::io("sync", &day))?;
        Ok(metas)
    });
    let metas = match written {
        Ok(metas) => metas,
        Err(error) => {
            for path in [&paths.samples, &paths.index] {
                for path in [temporary(dir, path), dir.join(path)] {
                    // Best effort: the first error is the one to tell, and leftovers are not in the manifest.
                    let _ = files.remove(&path);
                }
            }
            return Err(error);
        }
    };
    Ok(BlockMeta {
        name: name.to_owned(),
        level,
        min_ms: range.min_ms,
        max_ms: range.max_ms,
        series_count: series.len() as u64,
        sample_count: series.iter().map(|one| one.timestamps.len() as u64).sum(),
        files: metas,
    })
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
pub(super) fn temporary(dir: &Path, path: &str) -> PathBuf {
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

fn range_of(series: &BlockSeries) -> TimeRange {
    let timestamps = &series.timestamps;
    TimeRange::new(timestamps[0], timestamps[timestamps.len() - 1])
}

/// Checks `series` and sorts them by metric, job, instance and the other labels, `le` last.
fn sorted(series: Vec<BlockSeries>) -> Result<Vec<BlockSeries>, BlockError> {
    for one in &series {
        let rows = one.timestamps.len();
        let refused = |what: &str| Err(BlockError::refused(format!("{} {what}", one.labels)));
        if rows == 0 || one.values.len() != rows || u32::try_from(rows).is_err() {
            return refused("has no samples, too many, or values for another number of timestamps");
        }
        if one.histograms.as_ref().is_some_and(|all| all.len() != rows)
            || one.starts_ms.as_ref().is_some_and(|all| all.len() != rows)
        {
            return refused("has histograms or start timestamps for another number of timestamps");
        }
        if one.timestamps.windows(2).any(|pair| pair[0] >= pair[1]) {
            return refused("has timestamps that do not ascend");
        }
    }
    let mut keyed: Vec<(String, BlockSeries)> =
        series.into_par_iter().map(|one| (sort_key(&one.labels), one)).collect();
    keyed.par_sort_unstable_by(|a, b| compare_metrics(&a.1, &b.1).then_with(|| a.0.cmp(&b.0)));
    // Equal labels have equal keys, so they are neighbours.
    if let Some(pair) = keyed.windows(2).find(|pair| pair[0].1.labels == pair[1].1.labels) {
        return Err(BlockError::refused(format!("{} is there twice", pair[0].1.labels)));
    }
    Ok(keyed.into_iter().map(|(_, one)| one).collect())
}

fn compare_metrics(a: &BlockSeries, b: &BlockSeries) -> Ordering {
    a.labels.metric_name().cmp(b.labels.metric_name())
}

/// Text that orders the series of one metric. Names and values end in NUL, which sorts before all other text.
fn sort_key(labels: &Labels) -> String {
    let mut key = String::with_capacity(labels.text_bytes() + 2 * labels.len() + 4);
    let mut put = |text: &str| {
        key.push_str(text);
        key.push('\0');
    };
    put(labels.get("job"));
    put(labels.get("instance"));
    for (name, value) in labels.iter().filter(|(name, _)| ![METRIC_NAME, "job", "instance", "le"].contains(name)) {
        put(name);
        put(value);
    }
    // Behind the other labels, so that the buckets of one histogram are neighbours.
    put("");
    put(labels.get("le"));
    key
}

/// Series of each row group.
fn cut_groups(series: &[BlockSeries]) -> Vec<&[BlockSeries]> {
    let mut groups = Vec::new();
    let (mut start, mut rows, mut label_bytes) = (0, 0, 0);
    for (index, one) in series.iter().enumerate() {
        if rows >= GROUP_ROWS || label_bytes >= GROUP_LABEL_BYTES {
            groups.push(&series[start..index]);
            (start, rows, label_bytes) = (index, 0, 0);
        }
        rows += one.timestamps.len();
        label_bytes += one.labels.text_bytes();
    }
    groups.push(&series[start..]);
    groups
}

fn write_files(
    files: &dyn Files,
    dir: &Path,
    paths: &BlockPaths,
    level: u8,
    series: &[BlockSeries],
    options: &WriteOptions,
) -> Result<Vec<FileMeta>, BlockError> {
    let timestamps: Vec<Arc<[i64]>> = series.iter().map(|one| Arc::clone(&one.timestamps)).collect();
    let timelines = Timelines::of(&timestamps);
    let columns = schema::columns(&options.promoted_labels);
    let path = temporary(dir, &paths.samples);
    let schema = SchemaDescriptor::new(schema::parquet_schema(&columns)?);
    let mut writer = SampleWriter::create(files, &path, &columns, &schema)?;
    let own_time: Vec<bool> = timelines.places.iter().map(Option::is_none).collect();
    let layout = Layout::of_level(level);
    let mut encoded_series = 0;
    // As many row groups in memory as there are threads to encode them.
    for batch in cut_groups(series).chunks(rayon::current_num_threads()) {
        let starts: Vec<usize> = batch
            .iter()
            .map(|group| {
                encoded_series += group.len();
                encoded_series - group.len()
            })
            .collect();
        let encoded: Vec<EncodedGroup> = batch
            .par_iter()
            .zip(starts)
            .map(|(group, start)| {
                let own_time = &own_time[start..start + group.len()];
                group::encode(&columns, &schema, group, start as u32, own_time, layout)
            })
            .collect::<Result<_, _>>()?;
        for group in encoded {
            writer.append(group)?;
        }
    }
    let (samples, groups, counts, divisors) = writer.finish(paths.samples.clone())?;

    let labels: Vec<Labels> = series.iter().map(|one| one.labels.clone()).collect();
    let ranges: Vec<TimeRange> = series.iter().map(range_of).collect();
    let content = Content {
        labels: &labels,
        counts: &counts,
        divisors: &divisors,
        ranges: &ranges,
        timelines: &timelines,
        groups: &groups,
    };
    let index = write_index(files, dir, &paths.index, &content)?;
    Ok(vec![samples, index])
}

/// Writes an index file under its temporary name.
pub(super) fn write_index(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    content: &Content<'_>,
) -> Result<FileMeta, BlockError> {
    use std::io::Write;
    let path = temporary(dir, name);
    let bytes = content.encode()?;
    let mut writer = RangeWriter::create(files, &path)?;
    writer.write_all(&bytes).map_err(BlockError::io("write", &path))?;
    writer.finish(name.to_owned())
}

type Written = (FileMeta, Vec<Group>, Vec<Counts>, Vec<Option<Divisor>>);

/// A sample file in the making.
struct SampleWriter {
    path: PathBuf,
    file: SerializedFileWriter<RangeWriter>,
    offset: u64,
    groups: Vec<Group>,
    counts: Vec<Counts>,
    divisors: Vec<Option<Divisor>>,
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
        Ok(())
    }

    fn finish(self, name: String) -> Result<Written, BlockError> {
        let file = self.file.into_inner().map_err(BlockError::writing(&self.path))?;
        Ok((file.finish(name)?, self.groups, self.counts, self.divisors))
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

    #[test]
    fn buckets_of_a_histogram_are_neighbours() {
        let labels = |code: &str, le: &str| {
            Labels::from_pairs([("__name__", "x_bucket"), ("code", code), ("le", le), ("z", code)])
        };
        let mut keys = [labels("2", "1"), labels("1", "5"), labels("2", "0"), labels("1", "1")].map(|l| sort_key(&l));
        keys.sort();
        assert_eq!(
            keys,
            [labels("1", "1"), labels("1", "5"), labels("2", "0"), labels("2", "1")].map(|l| sort_key(&l))
        );
    }
}
