//! Prometheus' own scripts, in place: the specification of PromQL's meaning.

use std::path::PathBuf;
use std::sync::Arc;

use pilaster_promql::engine::Engine;
use pilaster_promql::promqltest::{FileReport, MemoryWorld, engine_options, render_report, run};

/// Evaluations in all scripts of Prometheus 3.14: running fewer is a failure of the runner.
const EVALUATIONS: usize = 2214;

/// The least number of evaluations that must pass, for each script.
const FLOORS: [(&str, usize); 0] = [];

fn scripts() -> Option<Vec<PathBuf>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/promqltest");
    let entries = std::fs::read_dir(&dir).ok()?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    Some(paths)
}

fn run_all(paths: &[PathBuf]) -> Vec<FileReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_stack_size(8 << 20)
        .build()
        .expect("a runtime");
    let engine = Arc::new(Engine::new(engine_options()));
    let mut reports = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).expect("a script");
        let mut world = MemoryWorld::default();
        reports.push(runtime.block_on(run(&name, &text, &engine, &mut world)));
    }
    reports
}

#[test]
fn prometheus_scripts_pass() {
    let Some(paths) = scripts() else {
        println!("no folder ../../shared/promqltest: nothing to run");
        return;
    };
    let reports = run_all(&paths);
    let text = render_report(&reports);
    println!("{text}");
    if let Ok(path) = std::env::var("PROMQL_REPORT") {
        std::fs::write(path, &text).expect("a writable report");
    }
    assert_eq!(reports.iter().map(FileReport::total).sum::<usize>(), EVALUATIONS, "evaluations that ran");
    for (file, floor) in FLOORS {
        let passed = reports.iter().find(|report| report.file == file).map_or(0, |report| report.passed);
        assert!(passed >= floor, "{file}: {passed} evaluations passed, {floor} did before");
    }
}
