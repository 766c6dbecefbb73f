//! The notebook over blocks that this test writes: it runs from top to bottom, and its forecast is right.
//!
//! `PILASTER_PYTHON` names an interpreter with `notebooks/requirements.txt` installed; without it the test says so.

use std::path::Path;
use std::process::Command;

use pilaster_model::Labels;
use pilaster_storage::env::Env;
use pilaster_storage::{Sample, Store, StoreOptions};

const DAY_MS: i64 = 86_400_000;
const STEP_MS: i64 = 600_000;
const START_MS: i64 = 1_760_000_400_000;

/// Eight days of a file system that fills by five percent a day, from 40 %: 80 % at the end, full four days later.
fn write_data(dir: &Path) {
    let store = Store::open(StoreOptions::new(dir), Env::real()).unwrap();
    let series = |name: &str, mountpoint: &str| {
        store.series(&Labels::from_pairs([
            ("__name__", name),
            ("device", "/dev/sda1"),
            ("instance", "a:9100"),
            ("job", "node"),
            ("mountpoint", mountpoint),
        ]))
    };
    let size_bytes = 1e12;
    for (mountpoint, percent_per_day) in [("/", 5.0), ("/var", 0.5)] {
        let (size, available) =
            (series("node_filesystem_size_bytes", mountpoint), series("node_filesystem_avail_bytes", mountpoint));
        for timestamp_ms in (START_MS..START_MS + 8 * DAY_MS).step_by(STEP_MS as usize) {
            let days = (timestamp_ms - START_MS) as f64 / DAY_MS as f64;
            let free = (size_bytes * (0.6 - percent_per_day * days / 100.0)).round();
            let sample = |series, value| Sample { series, timestamp_ms, value, start_ms: None };
            let outcome = store.append(&[sample(size, size_bytes), sample(available, free)]).unwrap();
            assert_eq!(outcome.rejected.len(), 0);
        }
    }
    store.flush().unwrap();
}

#[test]
fn the_disk_forecast_runs_without_a_server() {
    let Some(python) = std::env::var_os("PILASTER_PYTHON") else {
        println!("skipped: PILASTER_PYTHON does not name an interpreter");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    write_data(&data);
    let notebooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../notebooks");
    let output = Command::new(python)
        .arg("run.py")
        .arg("disk_forecast.ipynb")
        .arg(dir.path().join("executed.ipynb"))
        .current_dir(notebooks)
        .env("PILASTER_DATA", &data)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let root = text.lines().find(|line| line.contains("/ ") && line.contains("4.0"));
    assert!(root.is_some(), "the root file system is full in four days:\n{text}");
}
