//! Sample files as readers of other makes see them: every timestamp, label and bit of every value.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pilaster_model::{Labels, TimeRange, stale_nan};
use pilaster_storage::block::{Block, BlockSeries, WriteOptions, write_block};
use pilaster_storage::env::Env;

const START_MS: i64 = 1_795_000_000_000;

/// Values of one kind: each class of series, each encoding, and what breaks readers.
fn value(kind: usize, row: usize) -> f64 {
    let noise = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(kind as u32);
    match kind {
        0 => 1.0,
        1 => (row * 7) as f64,
        2 => (noise % 100_000) as f64 / 100.0,
        3 => (noise % 1_000) as f64 * 4096.0,
        4 => f64::from_bits(noise >> 12 | 0x3ff0_0000_0000_0000),
        // Any bits at all: NaN with payloads, infinities, subnormals.
        5 => f64::from_bits(noise),
        6 if (row + 1).is_multiple_of(9) => stale_nan(),
        6 => row as f64,
        7 if row.is_multiple_of(5) => f64::from_bits(0x7ff8_0000_0000_0000 | (noise >> 40)),
        7 => -0.0,
        8 => [f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE][row % 4],
        9 => ((1i64 << 53) - 1 - row as i64) as f64,
        10 => -(row as f64) / 1e15,
        11 => (noise as i64 >> 12) as f64,
        _ => stale_nan(),
    }
}

fn series(rows: usize) -> Vec<BlockSeries> {
    let timestamps: Arc<[i64]> = (0..rows as i64).map(|row| START_MS + row * 15_000 + row % 3).collect();
    let one = |kind: usize, instance: usize| BlockSeries {
        labels: Labels::from_pairs([
            ("__name__", format!("metric_{kind}").as_str()),
            ("instance", format!("host{instance}:9100").as_str()),
            ("quoted", "\"back\\slash\" ü 日本"),
        ]),
        timestamps: if instance == 0 { timestamps[..rows / 2 + 1].into() } else { timestamps.clone() },
        values: (0..if instance == 0 { rows / 2 + 1 } else { rows }).map(|row| value(kind, row)).collect(),
        histograms: None,
        starts_ms: None,
    };
    (0..13).flat_map(|kind| (0..3).map(move |instance| (kind, instance))).map(|(kind, at)| one(kind, at)).collect()
}

/// The series of a block in the order of its file, as `readers.py` wants them.
fn expected(block: &Block, written: &[BlockSeries]) -> String {
    let mut lines = String::new();
    for id in block.select(&[]) {
        let labels = block.labels(id);
        let series = written.iter().find(|series| series.labels == labels).unwrap();
        let (read_timestamps, _) = block.read(id, TimeRange::ALL).unwrap();
        assert_eq!(read_timestamps, series.timestamps);
        let pairs: std::collections::BTreeMap<&str, &str> = labels.iter().collect();
        let text = serde_json::to_string(&serde_json::to_string(&pairs).unwrap()).unwrap();
        let bits = |value: &f64| match value.to_bits() == stale_nan().to_bits() {
            true => "null".to_owned(),
            false => format!("\"{}\"", value.to_bits()),
        };
        let bits: Vec<String> = series.values.iter().map(bits).collect();
        let bits = bits.join(",");
        writeln!(lines, "{{\"labels\":{text},\"ts\":{:?},\"bits\":[{bits}]}}", &series.timestamps[..]).unwrap();
    }
    lines
}

#[test]
fn other_readers_see_every_bit() {
    let named = std::env::var_os("PILASTER_PYTHON");
    let python = named.clone().unwrap_or_else(|| "python3".into());
    if !Command::new(&python).args(["-c", "import numpy, pyarrow"]).output().is_ok_and(|done| done.status.success()) {
        assert!(named.is_none(), "{} has no numpy and pyarrow", python.display());
        println!("skipped: PILASTER_PYTHON does not name an interpreter with pyarrow");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = Env::real().files;
    let options = WriteOptions { promoted_labels: vec!["instance".to_owned()] };
    let mut lines = String::new();
    // A young block, a merged one, and one whose series have pages of their own.
    for (name, level, rows) in [("a", 0, 700), ("b", 1, 3_000), ("c", 2, 140_000)] {
        let mut series = series(rows);
        if rows > 100_000 {
            series.retain(|series| ["metric_2", "metric_5", "metric_6"].contains(&series.labels.metric_name()));
        }
        let meta = write_block(&*files, dir.path(), name, level, series.clone(), &options).unwrap();
        let block = Block::open(files.clone(), dir.path(), meta).unwrap();
        lines.push_str(&expected(&block, &series));
    }
    let expected = dir.path().join("expected.jsonl");
    std::fs::write(&expected, &lines).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers.py");
    let run = || Command::new(&python).arg(&script).arg(dir.path()).arg(&expected).output().unwrap();
    let output = run();
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}");
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    for library in ["pyarrow", "polars", "duckdb", "pandas"] {
        let agreed = printed.matches(&format!("rows, {library} ")).count();
        let missing = printed.contains(&format!("{library} is not installed"));
        assert!(agreed == 3 || missing, "{library} read {agreed} of 3 files");
    }

    // The comparison itself notices a single bit.
    std::fs::write(&expected, lines.replacen(&value(1, 5).to_bits().to_string(), "7", 1)).unwrap();
    assert!(!run().status.success());
}
