//! Prometheus' scripts again, with other numbers of partitions and other tiles: every answer stays what it is.

use std::path::PathBuf;
use std::sync::Arc;

use pilaster_promql::engine::{Engine, EngineOptions};
use pilaster_promql::promqltest::{MemoryWorld, engine_options, render_report, run};

fn scripts() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/promqltest");
    let Ok(entries) = std::fs::read_dir(&dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    paths
}

fn report(options: EngineOptions) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_stack_size(8 << 20)
        .build()
        .expect("a runtime");
    let engine = Arc::new(Engine::new(options));
    let mut reports = Vec::new();
    for path in scripts() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a script");
        let mut world = MemoryWorld::default();
        reports.push(runtime.block_on(run(&name, &text, &engine, &mut world)));
    }
    render_report(&reports)
}

#[test]
fn partitions_and_tiles_change_no_answer() {
    if scripts().is_empty() {
        println!("no folder ../../shared/promqltest: nothing to run");
        return;
    }
    let expected = report(engine_options());
    for (partitions, tile) in [(2, 1024), (4, 3)] {
        let options = EngineOptions { partitions, tile, partition_cells: 1, ..engine_options() };
        assert_eq!(report(options), expected, "{partitions} partitions, tiles of {tile}");
    }
}
