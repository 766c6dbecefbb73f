//! Exemplars in a file: what the log no longer has, for the next start and for readers of Parquet files.
//!
//! ```text
//! exemplars.parquet   metric · labels · ts · value · trace_id · span_id · exemplar_labels · has_timestamp
//!                     a row each, in the order in which they came; the footer has a CRC32C over the file
//! ```

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{Float64Type, TimestampMillisecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use pilaster_model::{Labels, METRIC_NAME};

use crate::env::{Files, atomic_write};
use crate::{Error, Exemplar};

const FILE: &str = "exemplars.parquet";
/// The key in the footer of the checksum over the whole file, and what stands for it while it is computed.
const CHECKSUM: &str = "pilaster.crc32c";
const NO_CHECKSUM: &str = "00000000";
const COLUMNS: [&str; 8] =
    ["metric", "labels", "ts", "value", "trace_id", "span_id", "exemplar_labels", "has_timestamp"];

/// Whether `dir` has the file.
pub fn is_there(files: &dyn Files, dir: &Path) -> bool {
    files.len(&dir.join(FILE)).is_ok()
}

/// Writes the file anew, at once or not at all.
///
/// # Errors
/// It cannot be written.
pub fn store(files: &dyn Files, dir: &Path, exemplars: &[(Labels, Exemplar)]) -> Result<(), Error> {
    let path = dir.join(FILE);
    let bytes = encode(exemplars).map_err(|error| Error::io("encode", &path)(io::Error::other(error)))?;
    atomic_write(files, &path, &bytes).map_err(Error::io("write", &path))
}

/// What [`store`] wrote last; `None` where there is no whole file. A damaged file is said in the log and passed over:
/// exemplars are examples.
///
/// # Errors
/// The operating system refuses to read.
pub fn load(files: &dyn Files, dir: &Path) -> Result<Option<Vec<(Labels, Exemplar)>>, Error> {
    let path = dir.join(FILE);
    let bytes = match files.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let exemplars = decode(bytes);
    if exemplars.is_none() {
        tracing::warn!(?path, "the file of exemplars is damaged: those in it are forgotten");
    }
    Ok(exemplars)
}

fn encode(exemplars: &[(Labels, Exemplar)]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let json = |labels: &Labels| {
        let pairs: std::collections::BTreeMap<&str, &str> = labels.iter().collect();
        serde_json::to_string(&pairs)
    };
    let series = exemplars.iter().map(|(series, _)| json(series)).collect::<Result<Vec<_>, _>>()?;
    let own = exemplars.iter().map(|(_, exemplar)| json(&exemplar.labels)).collect::<Result<Vec<_>, _>>()?;
    let all = || exemplars.iter().map(|(_, exemplar)| exemplar);
    let label = |name: &'static str| -> ArrayRef {
        let of = |exemplar: &Exemplar| Some(exemplar.labels.get(name).to_owned()).filter(|value| !value.is_empty());
        Arc::new(StringArray::from_iter(all().map(of)))
    };
    let metrics = exemplars.iter().map(|(series, _)| series.get(METRIC_NAME));
    let timestamps = TimestampMillisecondArray::from_iter_values(all().map(|exemplar| exemplar.timestamp_ms));
    let columns: [ArrayRef; 8] = [
        Arc::new(StringArray::from_iter_values(metrics)),
        Arc::new(StringArray::from_iter_values(&series)),
        Arc::new(timestamps.with_timezone("UTC")),
        Arc::new(Float64Array::from_iter_values(all().map(|exemplar| exemplar.value))),
        label("trace_id"),
        label("span_id"),
        Arc::new(StringArray::from_iter_values(&own)),
        Arc::new(BooleanArray::from_iter(all().map(|exemplar| Some(exemplar.has_timestamp)))),
    ];
    let batch = RecordBatch::try_from_iter(COLUMNS.into_iter().zip(columns))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_key_value_metadata(Some(vec![KeyValue::new(CHECKSUM.to_owned(), NO_CHECKSUM.to_owned())]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    let mut bytes = writer.into_inner()?;
    let place = checksum_place(&bytes).ok_or("the footer has no room for a checksum")?;
    let digits = checksum(&bytes, &place);
    bytes[place].copy_from_slice(digits.as_bytes());
    Ok(bytes)
}

/// `None`: these are not the bytes that were written.
fn decode(bytes: Vec<u8>) -> Option<Vec<(Labels, Exemplar)>> {
    let place = checksum_place(&bytes)?;
    // First of all: what reads Parquet files trusts the lengths in them.
    if bytes[place.clone()] != *checksum(&bytes, &place).as_bytes() {
        return None;
    }
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).ok()?;
    let parse = |json: &str| -> Option<Labels> {
        let pairs: std::collections::BTreeMap<String, String> = serde_json::from_str(json).ok()?;
        Some(Labels::from_pairs(pairs))
    };
    let mut exemplars = Vec::new();
    for batch in builder.build().ok()? {
        let batch = batch.ok()?;
        let series = batch.column_by_name("labels")?.as_string_opt::<i32>()?;
        let own = batch.column_by_name("exemplar_labels")?.as_string_opt::<i32>()?;
        let timestamps = batch.column_by_name("ts")?.as_primitive_opt::<TimestampMillisecondType>()?;
        let values = batch.column_by_name("value")?.as_primitive_opt::<Float64Type>()?;
        let timed = batch.column_by_name("has_timestamp")?.as_boolean_opt()?;
        if [series.null_count(), own.null_count(), timestamps.null_count(), values.null_count()] != [0; 4] {
            return None;
        }
        for row in 0..batch.num_rows() {
            let exemplar = Exemplar {
                labels: parse(own.value(row))?,
                value: values.value(row),
                timestamp_ms: timestamps.value(row),
                has_timestamp: timed.value(row),
            };
            exemplars.push((parse(series.value(row))?, exemplar));
        }
    }
    Some(exemplars)
}

/// Where in the file the digits of its checksum stand: behind their key, the type of a text and its length.
fn checksum_place(bytes: &[u8]) -> Option<Range<usize>> {
    let key = bytes.windows(CHECKSUM.len()).rposition(|window| window == CHECKSUM.as_bytes())?;
    let start = key + CHECKSUM.len() + 2;
    (start + NO_CHECKSUM.len() <= bytes.len()).then_some(start..start + NO_CHECKSUM.len())
}

/// Over all bytes, those of the checksum itself taken for zeros.
fn checksum(bytes: &[u8], place: &Range<usize>) -> String {
    let before = crc32c::crc32c_append(crc32c::crc32c(&bytes[..place.start]), NO_CHECKSUM.as_bytes());
    format!("{:08x}", crc32c::crc32c_append(before, &bytes[place.end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::Sim;

    #[test]
    fn exemplars_come_back_bit_by_bit_or_not_at_all() {
        let sim = Sim::new(1);
        let (files, dir) = (sim.env().files, Path::new("/data"));
        files.create_dir_all(dir).unwrap();
        assert_eq!(load(&*files, dir).unwrap(), None);
        let exemplar = |at: i64, value: f64, labels: &[(&str, &str)]| Exemplar {
            labels: Labels::from_pairs(labels.iter().copied()),
            value,
            timestamp_ms: at,
            has_timestamp: at % 2 == 0,
        };
        let series = |name: &str| Labels::from_pairs([("__name__", name), ("quoted", "\"\\ ü\n")]);
        let all = [
            (series("a"), exemplar(1_000, 0.25, &[("trace_id", "abc"), ("span_id", "1")])),
            (series("b"), exemplar(i64::MIN, -0.0, &[])),
            (series("a"), exemplar(2_001, f64::INFINITY, &[("user", "x")])),
        ];
        store(&*files, dir, &all).unwrap();
        let bits = |all: &[(Labels, Exemplar)]| -> Vec<(Labels, Labels, i64, u64, bool)> {
            let one = |(series, one): &(Labels, Exemplar)| {
                (series.clone(), one.labels.clone(), one.timestamp_ms, one.value.to_bits(), one.has_timestamp)
            };
            all.iter().map(one).collect()
        };
        assert_eq!(bits(&load(&*files, dir).unwrap().unwrap()), bits(&all));
        let path = dir.join(FILE);
        for byte in 0..files.len(&path).unwrap() as usize {
            sim.flip_bit(&path, byte, (byte % 8) as u8);
            let read = load(&*files, dir).unwrap();
            assert!(read.is_none(), "byte {byte}");
            sim.flip_bit(&path, byte, (byte % 8) as u8);
        }
        for len in 0..files.len(&path).unwrap() as usize {
            let bytes = files.read(&path).unwrap()[..len].to_vec();
            assert_eq!(decode(bytes), None);
        }
        store(&*files, dir, &[]).unwrap();
        assert_eq!(load(&*files, dir).unwrap(), Some(Vec::new()));
    }
}
