//! What is written is what is read, by us and by others; what is damaged is said to be.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pilaster_model::histogram::Span;
use pilaster_model::{Labels, MatchOp, Matcher, RangeGrid, ReducedWindows, Reduction, TimeRange, stale_nan};
use proptest::prelude::*;

use super::*;
use crate::env::Files;
use crate::env::sim::{Fault, FaultKind, Sim};

const DIR: &str = "/data";

fn options() -> WriteOptions {
    WriteOptions { promoted_labels: ["job", "instance"].map(str::to_owned).to_vec() }
}

fn one(labels: &[(&str, &str)], timestamps: &[i64], values: &[f64]) -> BlockSeries {
    BlockSeries {
        labels: Labels::from_pairs(labels.iter().copied()),
        timestamps: timestamps.into(),
        values: values.to_vec(),
        histograms: None,
        starts_ms: None,
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Histograms as bytes, so that NaN equals itself.
fn encoded(histograms: Option<&[Option<Arc<Histogram>>]>) -> Option<Vec<Option<Vec<u8>>>> {
    let bytes = |histogram: &Arc<Histogram>| {
        let mut bytes = Vec::new();
        histogram.encode(&mut bytes);
        bytes
    };
    let all: Vec<Option<Vec<u8>>> = histograms?.iter().map(|histogram| histogram.as_ref().map(bytes)).collect();
    all.iter().any(Option::is_some).then_some(all)
}

/// Values as a block keeps them: none beside a histogram.
fn kept_values(series: &BlockSeries) -> Vec<f64> {
    let is_histogram = |row: usize| series.histograms.as_ref().is_some_and(|all| all[row].is_some());
    series.values.iter().enumerate().map(|(row, &value)| if is_histogram(row) { 0.0 } else { value }).collect()
}

/// A sample as a general reader sees it: labels as JSON, time, bits of the value.
type Row = (Arc<str>, i64, u64);

fn rows_by_parquet(bytes: Vec<u8>) -> Vec<Row> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
    let mut rows = Vec::new();
    let mut last_id = -1;
    let mut last_labels: Arc<str> = Arc::from("");
    for batch in reader {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let id = column("series_id").as_primitive::<arrow::datatypes::Int32Type>();
        let metric = column("metric").as_string::<i32>();
        let labels = column("labels").as_string::<i32>();
        let job = column("job").as_string::<i32>();
        let ts = column("ts").as_primitive::<TimestampMillisecondType>();
        let integer = column("value_int").as_primitive::<Int64Type>();
        let divisor = column("value_div").as_primitive::<Float64Type>();
        let double = column("value").as_primitive::<Float64Type>();
        let histogram = column("histogram").as_binary::<i32>();
        let count = column("histogram_count").as_primitive::<Float64Type>();
        let sum = column("histogram_sum").as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            if id.value(row) != last_id {
                assert_eq!(id.value(row), last_id + 1);
                last_id = id.value(row);
                last_labels = labels.value(row).into();
                let labels: BTreeMap<String, String> = serde_json::from_str(&last_labels).unwrap();
                assert_eq!(labels.get("__name__").map_or("", String::as_str), metric.value(row));
                assert_eq!(labels.get("job").map(String::as_str), job.is_valid(row).then(|| job.value(row)));
            }
            assert_eq!(labels.value(row), &*last_labels);
            assert_eq!((count.is_valid(row), sum.is_valid(row)), (histogram.is_valid(row), histogram.is_valid(row)));
            if histogram.is_valid(row) {
                let (whole, _) = Histogram::decode(histogram.value(row)).unwrap();
                assert_eq!(whole.count.to_bits(), count.value(row).to_bits());
                assert_eq!(whole.sum.to_bits(), sum.value(row).to_bits());
            }
            let value = if integer.is_valid(row) {
                integer.value(row) as f64 / divisor.value(row)
            } else if double.is_valid(row) {
                double.value(row)
            } else {
                stale_nan()
            };
            rows.push((last_labels.clone(), ts.value(row), value.to_bits()));
        }
    }
    rows
}

/// Writes, opens, and compares everything there is to compare.
fn check(series: Vec<BlockSeries>, level: u8) -> (Sim, Block) {
    let sim = Sim::new(1);
    let meta = write_block(&sim, Path::new(DIR), "b", level, series.clone(), &options()).unwrap();
    sim.crash();
    let block = Block::open(Arc::new(sim.clone()), Path::new(DIR), meta.clone()).unwrap();
    block.verify().unwrap();
    assert_eq!(block.series_count(), series.len());
    assert_eq!(meta.sample_count as usize, series.iter().map(|one| one.timestamps.len()).sum::<usize>());

    let by_labels: BTreeMap<Labels, &BlockSeries> = series.iter().map(|one| (one.labels.clone(), one)).collect();
    let ids = block.select(&[]);
    let all = block.read_many(&ids, TimeRange::ALL).unwrap();
    let mut expected_rows = Vec::new();
    for (&id, read) in ids.iter().zip(&all) {
        let written = by_labels[&block.labels(id)];
        assert_eq!(read.timestamps, written.timestamps);
        assert_eq!(encoded(read.histograms.as_deref()), encoded(written.histograms.as_deref()));
        assert_eq!(bits(&read.values), bits(&kept_values(written)));
        let starts = written.starts_ms.clone().filter(|starts| starts.iter().any(|&start_ms| start_ms != 0));
        assert_eq!(read.starts_ms, starts);
        let (first, last) = (written.timestamps[0], written.timestamps[written.timestamps.len() - 1]);
        assert_eq!(block.series_range(id), TimeRange::new(first, last));
        let labels: BTreeMap<&str, &str> = written.labels.iter().collect();
        let labels: Arc<str> = serde_json::to_string(&labels).unwrap().into();
        for (row, (&timestamp, value)) in written.timestamps.iter().zip(&written.values).enumerate() {
            let histogram = written.histograms.as_ref().is_some_and(|all| all[row].is_some());
            let value = if histogram { stale_nan() } else { *value };
            expected_rows.push((labels.clone(), timestamp, value.to_bits()));
        }
    }
    let bytes = sim.read(&Path::new(DIR).join(&meta.files[0].path)).unwrap();
    assert!(rows_by_parquet(bytes) == expected_rows, "a general reader sees something else");

    let rebuilt = rebuild_index(Arc::new(LocalBlocks::new(Arc::new(sim.clone()), Path::new(DIR))), &meta).unwrap();
    assert_eq!(rebuilt, meta, "the rebuilt index is the one that was written");

    // Parts of time, and ids out of order.
    let middle =
        TimeRange::new(meta.min_ms + (meta.max_ms - meta.min_ms) / 3, meta.max_ms - (meta.max_ms - meta.min_ms) / 3);
    let backwards: Vec<u32> = ids.iter().rev().copied().collect();
    for (&id, read) in backwards.iter().zip(block.read_many(&backwards, middle).unwrap()) {
        let written = by_labels[&block.labels(id)];
        let inside: Vec<(i64, u64)> = written
            .timestamps
            .iter()
            .zip(&kept_values(written))
            .filter(|(timestamp, _)| middle.contains(**timestamp))
            .map(|(&timestamp, value)| (timestamp, value.to_bits()))
            .collect();
        let read: Vec<(i64, u64)> = read.timestamps.iter().copied().zip(bits(&read.values)).collect();
        assert_eq!(read, inside);
    }
    (sim, block)
}

fn histogram(row: usize) -> Histogram {
    Histogram {
        schema: if row.is_multiple_of(2) { 3 } else { -53 },
        sum: if row.is_multiple_of(7) { f64::NAN } else { row as f64 / 3.0 },
        count: row as f64,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: row as i32, length: 1 }],
        positive: vec![1.0, row as f64, 2.0],
        custom_bounds: if row.is_multiple_of(2) { Arc::from([]) } else { Arc::from([0.5, 1.0, 5.0]) },
        ..Histogram::default()
    }
}

/// Series of several metrics and targets, with shared, partial and own timelines.
fn fleet(targets: usize, rows: usize) -> Vec<BlockSeries> {
    let mut all = Vec::new();
    for target in 0..targets {
        let timeline: Arc<[i64]> =
            (0..rows as i64).map(|i| 1_795_000_000_000 + i * 15_000 + (i * 7 + target as i64) % 3).collect();
        for metric in 0..8 {
            for le in ["0.1", "1", "+Inf"] {
                let seed = (target * 31 + metric * 7) as f64;
                let values: Vec<f64> = (0..rows)
                    .map(|i| match metric {
                        0 => 1.0,
                        1 => i as f64 * seed,
                        2 => (i as f64 * 3.0 + seed) / 100.0,
                        3 => (i as f64 + seed).sqrt(),
                        4 if i % 50 == 49 => stale_nan(),
                        4 => 4096.0 * i as f64,
                        5 if i % 9 == 0 => f64::NAN,
                        5 => i as f64 / 10.0,
                        6 => -0.0,
                        _ => f64::INFINITY,
                    })
                    .collect();
                let instance = format!("host{target}:9100");
                let name = format!("metric_{metric}");
                let labels = [("__name__", name.as_str()), ("job", "node"), ("instance", &instance), ("le", le)];
                let mut series = one(&labels, &timeline, &values);
                series.timestamps = timeline.clone();
                if metric == 1 {
                    series.starts_ms = Some((0..rows).map(|i| if i % 10 == 0 { 0 } else { timeline[0] - 1 }).collect());
                }
                if metric == 7 && rows > 10 {
                    series.timestamps = timeline[3..rows - 2].into();
                    series.values.truncate(rows - 5);
                }
                all.push(series);
            }
        }
    }
    let timestamps: Vec<i64> = (0..rows as i64).map(|i| 1_795_000_000_000 + i * 15_000).collect();
    for (name, every) in [("histogram", 1), ("mixed", 3)] {
        let mut series = one(&[("__name__", name), ("job", "node")], &timestamps, &vec![2.5; rows]);
        let histogram = |row: usize| row.is_multiple_of(every).then(|| Arc::new(histogram(row)));
        series.histograms = Some((0..rows).map(histogram).collect());
        series.values[rows / 2] = stale_nan();
        all.push(series);
    }
    all.push(one(&[("own", "timeline")], &[1_795_000_000_001, 1_795_000_020_000], &[1.5, 2.5]));
    all
}

#[test]
fn the_manifest_tells_two_indexes_apart() {
    let sim = Sim::new(1);
    let index_of = |name: &str, hosts: usize| {
        write_block(&sim, Path::new(DIR), name, 0, fleet(hosts, 40), &options()).unwrap().files[1].crc32c
    };
    assert_ne!(index_of("a", 1), index_of("b", 2));
}

#[test]
fn what_the_manifest_keeps_of_a_block_does_not_grow_with_it() {
    let sim = Sim::new(1);
    let kept = |name: &str, rows: usize| {
        let meta = write_block(&sim, Path::new(DIR), name, 0, fleet(1, rows), &options()).unwrap();
        (meta.bytes(), serde_json::to_string(&meta).unwrap().len())
    };
    let (small, large) = (kept("a", 100), kept("b", 20_000));
    assert!(large.0 > 3 * RANGE_BYTES as u64 && small.0 < RANGE_BYTES as u64, "{small:?} {large:?}");
    assert!(large.1 < small.1 + 20, "{small:?} {large:?}");
}

#[test]
fn a_block_from_before_checksums_stood_in_its_index_is_read() {
    let sim = Sim::new(1);
    let mut meta = write_block(&sim, Path::new(DIR), "a", 0, fleet(2, 60), &options()).unwrap();
    let path = Path::new(DIR).join(&meta.files[1].path);
    let sealed = sim.read(&path).unwrap();
    let (content, _) = super::seal::open(&path, &sealed).unwrap();
    crate::env::atomic_write(&sim, &path, content).unwrap();
    for file in &mut meta.files {
        let bytes = sim.read(&Path::new(DIR).join(&file.path)).unwrap();
        *file =
            FileMeta { crc32c: 0, range_crc32c: super::file::checksums(&bytes), ..FileMeta::of(&file.path, &bytes) };
    }
    let meta: BlockMeta =
        serde_json::from_str(&serde_json::to_string(&meta).unwrap().replace("\"crc32c\":0,", "")).unwrap();
    let files: Arc<dyn Files> = Arc::new(sim.clone());
    let open = || Block::open(files.clone(), Path::new(DIR), meta.clone());
    let expected = open().unwrap().read_many(&[0, 3], TimeRange::ALL).unwrap();
    open().unwrap().verify().unwrap();
    sim.flip_bit(&path, 30, 1);
    assert!(verify(Arc::new(LocalBlocks::new(files.clone(), Path::new(DIR))), &meta).unwrap_err().is_corruption());
    assert_eq!(open().unwrap().read_many(&[0, 3], TimeRange::ALL).unwrap(), expected);
    let repaired = rebuild_index(Arc::new(LocalBlocks::new(files.clone(), Path::new(DIR))), &meta).unwrap();
    Block::open(files.clone(), Path::new(DIR), repaired).unwrap().verify().unwrap();
    sim.flip_bit(&Path::new(DIR).join(&meta.files[0].path), 900, 1);
    assert!(open().unwrap_err().is_corruption() || open().unwrap().read_many(&[0, 1, 2], TimeRange::ALL).is_err());
}

#[test]
fn a_block_gives_back_what_was_written() {
    check(fleet(3, 100), 0);
    check(fleet(1, 1), 1);
}

#[test]
fn many_pages_and_long_series_round_trip() {
    let mut series = fleet(10, 2_000);
    let rows = 150_000;
    let timestamps: Vec<i64> = (0..rows).map(|i| 1_795_000_000_000 + i * 200).collect();
    let mixed: Vec<f64> = (0..rows).map(|i| if i % 1000 < 3 { f64::NAN } else { i as f64 }).collect();
    series.push(one(&[("__name__", "metric_3"), ("a", "long")], &timestamps, &mixed));
    let decimals: Vec<f64> = (0..rows).map(|i| i as f64 / 100.0).collect();
    series.push(one(&[("__name__", "metric_3"), ("b", "long")], &timestamps, &decimals));
    let (_, block) = check(series, 0);
    let timelines: Vec<Arc<[i64]>> = block
        .read_many(&block.select(&[Matcher::equal("__name__", "metric_2")]), TimeRange::ALL)
        .unwrap()
        .into_iter()
        .map(|samples| samples.timestamps)
        .collect();
    assert!(timelines.len() == 30 && Arc::ptr_eq(&timelines[0], &timelines[2]), "a target's series share a timeline");
}

#[test]
fn series_without_shared_timelines_round_trip() {
    let series = (0..50)
        .map(|s| {
            let timestamps: Vec<i64> =
                (0..700).map(|i| 1_795_000_000_000 + i * 10_000 + s * 13 + (i * i) % 97).collect();
            let values: Vec<f64> = (0..700).map(|i| (i * s) as f64).collect();
            one(&[("__name__", "pushed"), ("s", &s.to_string())], &timestamps, &values)
        })
        .collect();
    check(series, 0);
}

#[test]
fn all_of_time_fits_into_a_block() {
    let timestamps = [i64::MIN, -1, 0, i64::MAX];
    let series = |name: &str| one(&[("a", name)], &timestamps, &[1.0, 0.1, -0.0, stale_nan()]);
    for count in [1, 5] {
        let sim = Sim::new(1);
        let all = (0..count).map(|i| series(&i.to_string())).collect();
        let meta = write_block(&sim, Path::new(DIR), "b", 0, all, &options()).unwrap();
        let block = Block::open(Arc::new(sim), Path::new(DIR), meta).unwrap();
        assert_eq!(block.series_range(0), TimeRange::ALL);
        let (read, values) = block.read(0, TimeRange::ALL).unwrap();
        assert_eq!(*read, timestamps);
        assert_eq!(bits(&values), bits(&[1.0, 0.1, -0.0, stale_nan()]));
        assert_eq!(*block.read(0, TimeRange::new(-1, 5)).unwrap().0, [-1, 0]);
    }
}

#[test]
fn a_lost_or_damaged_index_is_made_again() {
    let (sim, block) = check(fleet(2, 30), 0);
    let meta = block.meta().clone();
    let files: Arc<dyn Files> = Arc::new(sim.clone());
    let (samples, index) = (Path::new(DIR).join(&meta.files[0].path), Path::new(DIR).join(&meta.files[1].path));
    let open = || Block::open(files.clone(), Path::new(DIR), meta.clone());

    sim.flip_bit(&index, 100, 3);
    assert!(block.verify().unwrap_err().is_corruption());
    open().unwrap().verify().unwrap();
    sim.remove(&index).unwrap();
    open().unwrap().verify().unwrap();
    sim.cut(&index, 10);
    assert_eq!(rebuild_index(Arc::new(LocalBlocks::new(files.clone(), Path::new(DIR))), &meta).unwrap(), meta);
    block.verify().unwrap();

    // A disk that takes no more: the block opens, its index stays as it is.
    sim.cut(&index, 10);
    sim.set_capacity_bytes(0);
    let read = open().unwrap().read_many(&[0, 1], TimeRange::ALL).unwrap();
    assert_eq!(read[1].timestamps.len(), 30);
    assert!(block.verify().is_err());

    sim.flip_bit(&samples, 1_000, 0);
    assert!(open().unwrap_err().is_corruption());
    assert!(
        rebuild_index(Arc::new(LocalBlocks::new(files.clone(), Path::new(DIR))), &meta).unwrap_err().is_corruption()
    );
}

#[test]
fn indexes_from_before_are_read() {
    let (sim, block) = check(fleet(2, 300), 1);
    let (files, dir): (Arc<dyn Files>, _) = (Arc::new(sim.clone()), Path::new(DIR));
    let mut meta = block.meta().clone();
    let path = dir.join(&meta.files[1].path);
    let sealed = sim.read(&path).unwrap();
    let (content, ranges) = super::seal::open(&path, &sealed).unwrap();

    // As they were written before: timelines as differences of differences, and before that, without summaries.
    let mut cursor = super::varint::Cursor::new(&content[8..content.len() - 4]);
    let mut sections = Vec::new();
    for _ in 0..6 {
        let (raw_len, packed_len) = (cursor.uvarint().unwrap(), cursor.number().unwrap());
        sections.push((raw_len, cursor.bytes(packed_len).unwrap().to_vec()));
    }
    let timelines = super::index::encode_differences(block.index_timelines());
    sections[3] = (timelines.len() as u64, zstd::bulk::compress(&timelines, 9).unwrap());
    let before = |magic: &[u8], sections: &[(u64, Vec<u8>)]| {
        let mut older = magic.to_vec();
        for (raw_len, packed) in sections {
            super::varint::put_uvarint(&mut older, *raw_len);
            super::varint::put_uvarint(&mut older, packed.len() as u64);
            older.extend_from_slice(packed);
        }
        older.extend_from_slice(&super::index::checksum(&older).to_le_bytes());
        super::seal::seal(older, ranges.as_ref().unwrap())
    };
    let mut open = |older: Vec<u8>| {
        crate::env::atomic_write(&sim, &path, &older).unwrap();
        meta.files[1] = FileMeta::of(&meta.files[1].path, &older);
        (Block::open(files.clone(), dir, meta.clone()).unwrap(), meta.clone())
    };
    let (second, _) = open(before(b"PILASIX2", &sections));
    second.verify().unwrap();
    let ids = block.select(&[]);
    let newest = block.read_many(&ids, TimeRange::ALL).unwrap();
    let same = |older: &Block| {
        let older = older.read_many(&ids, TimeRange::ALL).unwrap();
        newest.len() == older.len()
            && newest
                .iter()
                .zip(&older)
                .all(|(a, b)| a.timestamps == b.timestamps && bits(&a.values) == bits(&b.values))
    };
    assert!(same(&second));
    let counts = reduced_counts(&block);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    assert_eq!(reduced_counts(&second), counts);

    let (old, meta) = open(before(b"PILASIX1", &sections[..5]));
    old.verify().unwrap();
    assert!(same(&old));
    assert_eq!(reduced_counts(&old), [counts[0], 0, 0, 0, 0, 0], "summaries are what it has not");

    // Lost, it is made again with them.
    sim.remove(&path).unwrap();
    assert_eq!(reduced_counts(&Block::open(files, dir, meta).unwrap()), counts);
}

/// All of time as one window, and everything that can be wanted of it.
fn reductions() -> [ReducedWindows; 6] {
    use Reduction::*;
    let windows = RangeGrid { first_end_ms: i64::MAX, step_ms: 0, steps: 1, width_ms: i64::MAX };
    [Times, Last, Largest, Smallest, Sum, Growth].map(|reduction| ReducedWindows { windows, reduction })
}

/// How many series of a block have few samples that stand for all, by what is wanted of them in all of time. What
/// stands for them is that of the samples themselves.
fn reduced_counts(block: &Block) -> [usize; 6] {
    let ids: Vec<u32> = block.select(&[]);
    reductions().map(|wanted| {
        let mut found = block.find_for(&ids, TimeRange::ALL, Some(&wanted)).unwrap();
        let plain = (0..ids.len()).filter(|&at| found.is_plain(at)).collect::<Vec<_>>();
        let reduced = plain.into_iter().filter(|&at| {
            let Some(reduced) = found.reduced(at, &wanted) else { return false };
            let mut values = Vec::new();
            found.push_values(at, &mut values).unwrap();
            let ends = (found.timestamps(at)[0], found.timestamps(at)[values.len() - 1]);
            assert_eq!(reduced.timestamps.last(), Some(&ends.1));
            let [first, last] = [values[0], values[values.len() - 1]];
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
            let expected = match wanted.reduction {
                Reduction::Whole | Reduction::Times => ReducedValues::Any,
                Reduction::Last => ReducedValues::One(last),
                Reduction::Largest => ReducedValues::One(largest),
                Reduction::Smallest => ReducedValues::One(smallest),
                Reduction::Sum => ReducedValues::One(values.iter().sum()),
                Reduction::Growth => ReducedValues::FirstAndLast(first, last),
            };
            assert_eq!(reduced.values, expected, "{wanted:?}");
            true
        });
        reduced.count()
    })
}

#[test]
fn series_can_be_pushed_one_by_one_in_order_only() {
    let mut series = fleet(2, 20);
    let sim = Sim::new(1);
    let at_once = write_block(&sim, Path::new(DIR), "b", 0, series.clone(), &options()).unwrap();
    series.sort_by_key(|one| OrderKey::of(&one.labels));
    let other = Sim::new(2);
    let min_ms = at_once.min_ms;
    let mut writer = BlockWriter::create(&other, Path::new(DIR), "b", 0, min_ms, &options()).unwrap();
    series.iter().for_each(|one| writer.push(one.clone()).unwrap());
    assert_eq!(writer.finish().unwrap(), at_once);

    let mut writer = BlockWriter::create(&other, Path::new(DIR), "c", 0, min_ms, &options()).unwrap();
    writer.push(series[1].clone()).unwrap();
    for wrong in [&series[0], &series[1]] {
        assert!(matches!(writer.push(wrong.clone()).unwrap_err(), BlockError::Refused { .. }));
    }
    drop(writer);
    let day = Path::new(DIR).join(&at_once.files[0].path);
    assert_eq!(other.list(day.parent().unwrap()).unwrap().len(), 2, "an unfinished block leaves nothing");
}

#[test]
fn what_a_block_holds_does_not_depend_on_threads() {
    let on_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let write = || write_block(&Sim::new(1), Path::new(DIR), "b", 0, fleet(20, 1000), &options());
        pool.install(write).unwrap()
    };
    let alone = on_threads(1);
    assert!(alone.sample_count > 400_000, "it takes several batches of pages");
    assert_eq!(on_threads(3), alone);
}

#[test]
fn matchers_select_as_they_do_on_labels() {
    let (_, block) = check(fleet(3, 2), 0);
    let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
    let conditions = [
        matcher(MatchOp::Equal, "__name__", "metric_1"),
        matcher(MatchOp::Equal, "__name__", "nothing"),
        matcher(MatchOp::Equal, "instance", ""),
        matcher(MatchOp::Equal, "nothing", ""),
        matcher(MatchOp::Equal, "nothing", "x"),
        matcher(MatchOp::NotEqual, "instance", "host1:9100"),
        matcher(MatchOp::NotEqual, "instance", ""),
        matcher(MatchOp::NotEqual, "nothing", ""),
        matcher(MatchOp::NotEqual, "nothing", "x"),
        matcher(MatchOp::Regex, "instance", "host[12].*"),
        matcher(MatchOp::Regex, "__name__", "metric_2|metric_5|none"),
        matcher(MatchOp::Regex, "le", ".*"),
        matcher(MatchOp::Regex, "le", ".+"),
        matcher(MatchOp::Regex, "own", "timeline|"),
        matcher(MatchOp::NotRegex, "le", "1|0.1"),
        matcher(MatchOp::NotRegex, "le", ".+"),
        matcher(MatchOp::NotRegex, "instance", "host[12].*"),
    ];
    let all: Vec<Labels> = (0..block.series_count() as u32).map(|id| block.labels(id)).collect();
    let mut sets: Vec<Vec<Matcher>> = Vec::new();
    for a in &conditions {
        sets.push(vec![a.clone()]);
        for b in &conditions {
            sets.push(vec![a.clone(), b.clone()]);
            sets.push(vec![a.clone(), b.clone(), conditions[9].clone()]);
        }
    }
    for matchers in sets {
        let naive: Vec<u32> = (0..all.len() as u32)
            .filter(|&id| matchers.iter().all(|matcher| matcher.matches_labels(&all[id as usize])))
            .collect();
        assert_eq!(block.select(&matchers), naive, "{matchers:?}");
    }
    assert_eq!(block.label_names(), ["__name__", "instance", "job", "le", "own"]);
    assert_eq!(block.label_values("own"), ["timeline"]);
    assert!(block.label_values("nothing").is_empty());
    let ids = block.select(&[matcher(MatchOp::Equal, "instance", "host2:9100")]);
    assert_eq!(block.label_names_of(&ids), ["__name__", "instance", "job", "le"]);
    assert_eq!(block.label_values_of("instance", &ids), ["host2:9100"]);
    assert_eq!(block.label_values_of("own", &ids), [""; 0]);
}

#[test]
fn wrong_series_are_refused() {
    let refused = |series: Vec<BlockSeries>| {
        let sim = Sim::new(1);
        let error = write_block(&sim, Path::new(DIR), "b", 0, series, &options()).unwrap_err();
        assert!(matches!(error, BlockError::Refused { .. }), "{error}");
        assert!(sim.list(Path::new("/data/samples/date=1970-01-01")).unwrap().is_empty());
    };
    refused(vec![]);
    refused(vec![one(&[("a", "1")], &[], &[])]);
    refused(vec![one(&[("a", "1")], &[1, 1], &[1.0, 2.0])]);
    refused(vec![one(&[("a", "1")], &[2, 1], &[1.0, 2.0])]);
    refused(vec![one(&[("a", "1")], &[1, 2], &[1.0])]);
    refused(vec![one(&[("a", "1")], &[1], &[1.0]), one(&[("b", "1")], &[1], &[1.0]), one(&[("a", "1")], &[2], &[1.0])]);
    let mut starts = one(&[("a", "1")], &[1], &[1.0]);
    starts.starts_ms = Some(vec![]);
    refused(vec![starts]);
    let error = write_block(&Sim::new(1), Path::new(DIR), "../b", 0, fleet(1, 1), &options()).unwrap_err();
    assert!(matches!(error, BlockError::Refused { .. }));
}

#[test]
fn a_full_disk_and_failing_calls_leave_nothing_behind() {
    let whole = Sim::new(1);
    write_block(&whole, Path::new(DIR), "b", 0, fleet(2, 50), &options()).unwrap();
    let calls = whole.calls();
    for at_call in 1..=calls {
        let sim = Sim::new(1);
        sim.set_fault(Some(Fault { at_call, kind: FaultKind::Error }));
        let written = write_block(&sim, Path::new(DIR), "b", 0, fleet(2, 50), &options());
        assert!(matches!(written, Err(BlockError::Io { .. })), "call {at_call}: {written:?}");
        let left: Vec<_> = sim.list(Path::new("/data/samples/date=2026-11-18")).unwrap();
        assert!(left.is_empty(), "call {at_call} left {left:?}");
    }
    for capacity in (0..whole.used_bytes()).step_by(997) {
        let sim = Sim::new(1);
        sim.set_capacity_bytes(capacity);
        let error = write_block(&sim, Path::new(DIR), "b", 0, fleet(2, 50), &options()).unwrap_err();
        assert!(error.is_disk_full(), "{error:?}");
    }
}

#[test]
fn a_power_cut_at_any_call_leaves_a_whole_block_or_none() {
    let whole = Sim::new(1);
    let meta = write_block(&whole, Path::new(DIR), "b", 0, fleet(2, 50), &options()).unwrap();
    for seed in 0..10 {
        for at_call in 1..=whole.calls() + 1 {
            let sim = Sim::new(seed);
            sim.set_fault(Some(Fault { at_call, kind: FaultKind::PowerCut }));
            let done = write_block(&sim, Path::new(DIR), "b", 0, fleet(2, 50), &options());
            sim.crash();
            let path = Path::new(DIR).join(&meta.files[0].path);
            if done.is_ok() || sim.len(&path).is_ok() {
                assert_eq!(sim.read(&path).unwrap(), whole.read(&path).unwrap(), "seed {seed} call {at_call}");
            }
            if let Ok(meta) = done {
                Block::open(Arc::new(sim.clone()), Path::new(DIR), meta).unwrap().verify().unwrap();
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let sim = Sim::new(1);
    let meta = write_block(&sim, Path::new(DIR), "b", 0, fleet(2, 300), &options()).unwrap();
    let files: Arc<dyn Files> = Arc::new(sim.clone());
    let intact = Block::open(files.clone(), Path::new(DIR), meta.clone()).unwrap();
    let ids = intact.select(&[]);
    for (which, file) in meta.files.iter().enumerate() {
        let path = Path::new(DIR).join(&file.path);
        for byte in (0..file.bytes as usize).step_by(37) {
            sim.flip_bit(&path, byte, byte as u8);
            // As opened before the damage: opening makes an index again.
            let error = intact.verify().unwrap_err();
            assert!(matches!(&error, BlockError::Checksum { path: at, .. } if *at == path), "{error}");
            assert_eq!(intact.read_many(&ids, TimeRange::ALL).is_err(), which == 0);
            sim.flip_bit(&path, byte, byte as u8);
        }
    }
    let path = Path::new(DIR).join(&meta.files[0].path);
    sim.cut(&path, meta.files[0].bytes as usize - 1);
    assert!(Block::open(files, Path::new(DIR), meta).is_err());
}

/// Damage under a right checksum: nothing promises what is read, but nothing panics.
fn damaged(flips: &[(usize, usize, u8)]) {
    let sim = Sim::new(1);
    let mut meta = write_block(&sim, Path::new(DIR), "b", 0, fleet(1, 280), &options()).unwrap();
    let read = |file: &FileMeta| sim.read(&Path::new(DIR).join(&file.path)).unwrap();
    let mut samples = read(&meta.files[0]);
    let mut content = read(&meta.files[1]);
    content.truncate(super::seal::open(Path::new(DIR), &content).unwrap().0.len());
    for &(which, at, bit) in flips {
        let bytes = if which % 2 == 0 { &mut samples } else { &mut content };
        let at = at % bytes.len();
        bytes[at] ^= 1 << (bit % 8);
    }
    // The index guards itself as well.
    let body = content.len() - 4;
    let checksum = super::index::checksum(&content[..body]).to_le_bytes();
    content[body..].copy_from_slice(&checksum);
    let index = super::seal::seal(content, &super::file::checksums(&samples));
    for (file, bytes) in meta.files.iter_mut().zip([samples, index]) {
        crate::env::atomic_write(&sim, &Path::new(DIR).join(&file.path), &bytes).unwrap();
        *file = FileMeta::of(&file.path, &bytes);
    }
    if let Ok(block) = Block::open(Arc::new(sim.clone()), Path::new(DIR), meta.clone()) {
        let _ = block.read_many(&block.select(&[]), TimeRange::ALL);
        let _ = block.read_many(&block.select(&[]), TimeRange::new(1_795_000_100_000, 1_795_000_300_000));
        let _ = block.label_names();
        let ids = block.select(&[]);
        for wanted in reductions() {
            if let Ok(mut found) = block.find_for(&ids, TimeRange::ALL, Some(&wanted)) {
                (0..ids.len()).for_each(|at| drop(found.reduced(at, &wanted)));
            }
        }
    }
}

/// Floats that break naive storage.
fn nasty() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        Just(stale_nan()),
        Just(f64::from_bits(0x7ff8_0000_0000_0001)),
        Just(f64::from_bits(0xfff0_0000_0000_0002)),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(f64::MIN_POSITIVE / 2.0),
        any::<i32>().prop_map(f64::from),
        any::<i32>().prop_map(|n| f64::from(n) / 1000.0),
        any::<i64>().prop_map(|n| n as f64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_series_round_trip(
        series in prop::collection::btree_map(
            prop::collection::btree_map("[a-c]|__name__|le|job", ".{0,3}", 0..4),
            (0..3i64, prop::collection::vec((1..30_000i64, prop_oneof![4 => Just(None), 1 => nasty().prop_map(Some)]), 1..40), nasty()),
            1..30,
        ),
        level in 0..2u8,
    ) {
        let mut seen = std::collections::BTreeSet::new();
        let series: Vec<BlockSeries> = series
            .into_iter()
            .filter_map(|(labels, (start, samples, base))| {
                let labels = Labels::from_pairs(labels);
                seen.insert(labels.clone()).then_some(())?;
                let mut at = start;
                let timestamps = samples.iter().map(|(step, _)| { at += step; at }).collect();
                let values = samples.iter().map(|(_, odd)| odd.unwrap_or(base)).collect();
                Some(BlockSeries { labels, timestamps, values, histograms: None, starts_ms: None })
            })
            .collect();
        check(series, level);
    }

    #[test]
    fn damage_never_panics(flips in prop::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 1..4)) {
        damaged(&flips);
    }
}
