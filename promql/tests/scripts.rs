//! Scripts: Prometheus' own, in place, which are the specification of PromQL's meaning, and ours beside them.

mod script_files;

use std::path::PathBuf;
use std::sync::Arc;

use pilaster_promql::engine::{Engine, EngineOptions};
use pilaster_promql::promqltest::{Failure, FileReport, MemoryWorld, engine_options, render_report, run};
use script_files::{prometheus_scripts, scripts_in};

/// Evaluations in all scripts of Prometheus 3.14: running fewer is a failure of the runner.
const EVALUATIONS: usize = 2214;

/// The least number of evaluations that must pass, for each script.
const FLOORS: [(&str, usize); 21] = [
    ("aggregators.test", 160),
    ("at_modifier.test", 78),
    ("collision.test", 2),
    ("duration_expression.test", 59),
    ("extended_vectors.test", 169),
    ("fill-modifier.test", 46),
    ("functions.test", 431),
    ("histograms.test", 185),
    ("info.test", 53),
    ("limit.test", 37),
    ("literals.test", 25),
    ("name_label_dropping.test", 30),
    ("native_histograms.test", 522),
    ("operators.test", 214),
    ("range_queries.test", 18),
    ("selectors.test", 31),
    ("staleness.test", 17),
    ("start_timestamps.test", 26),
    ("subquery.test", 34),
    ("trig_functions.test", 19),
    ("type_and_unit.test", 58),
];

fn run_all(paths: &[PathBuf], options: EngineOptions) -> Vec<FileReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_stack_size(8 << 20)
        .build()
        .expect("a runtime");
    let engine = Arc::new(Engine::new(options));
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
    let Some(paths) = prometheus_scripts() else {
        return;
    };
    let reports = run_all(&paths, engine_options());
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

/// How a query is cut into tiles and partitions must not show in its answer.
#[test]
fn tiles_and_partitions_change_nothing() {
    let Some(paths) = prometheus_scripts() else {
        return;
    };
    let whole = run_all(&paths, EngineOptions { partitions: 1, ..engine_options() });
    let cut = run_all(&paths, EngineOptions { tile: 64, partitions: 4, partition_cells: 1, ..engine_options() });
    let failures = |reports: &[FileReport]| -> Vec<(String, usize)> {
        let lines = |report: &FileReport| -> Vec<(String, usize)> {
            report.failures.iter().map(|failure| (report.file.clone(), failure.line)).collect()
        };
        reports.iter().flat_map(lines).collect()
    };
    assert_eq!(failures(&cut), failures(&whole), "{}", render_report(&cut));
}

#[test]
fn our_scripts_pass() {
    let paths = scripts_in("tests/scripts").expect("a folder beside this file");
    let reports = run_all(&paths, engine_options());
    let text = render_report(&reports);
    println!("{text}");
    assert!(reports.iter().all(|report| report.failed == 0 && report.passed > 0), "{text}");
}

/// A runner that passes everything is worse than none.
#[test]
fn wrong_expectations_fail() {
    let load = "load 1m\n a{x=\"1\"} 1 2 3\n a{x=\"2\"} 10 20 30\n h {{count:3 sum:5 buckets:[1 2]}}x2\n\n";
    let cases = [
        ("eval instant at 1m a\n a{x=\"1\"} 2\n a{x=\"2\"} 20", ""),
        ("eval instant at 1m a\n a{x=\"1\"} 2.0000001\n a{x=\"2\"} 20", ""),
        ("eval instant at 1m a\n a{x=\"1\"} 2.00001\n a{x=\"2\"} 20", "a{x=\"1\"} 2"),
        ("eval instant at 1m a\n a{x=\"1\"} 2", "a{x=\"2\"} 20"),
        ("eval instant at 1m a{x=\"1\"}\n a{x=\"1\"} 2\n a{x=\"2\"} 20", "no such series"),
        ("eval instant at 1m a{x=\"1\"}\n {x=\"1\"} 2", "a{x=\"1\"} 2"),
        ("eval instant at 1m sort_desc(a)\n expect ordered\n a{x=\"1\"} 2\n a{x=\"2\"} 20", "position"),
        ("eval instant at 1m a + on() a\n expect fail", ""),
        ("eval instant at 1m a + on() a\n expect fail msg: another", "duplicate series"),
        ("eval instant at 1m a + on() a\n expect fail regex: many-to-many", ""),
        ("eval instant at 1m a{x=\"1\"}\n expect fail", "an answer"),
        ("eval instant at 1m a + on() a", "duplicate series"),
        ("eval instant at 1m quantile(2, a)\n expect no_warn\n {} Inf", "quantile value"),
        ("eval instant at 1m quantile(2, a)\n expect warn msg: something\n {} Inf", "quantile value"),
        ("eval instant at 1m quantile(2, a)\n expect warn\n expect no_info\n {} Inf", ""),
        ("eval instant at 1m quantile(1, a)\n expect warn\n {} 20", "no warning"),
        ("eval_warn instant at 1m quantile(1, a)\n {} 20", "no warning"),
        ("eval_fail instant at 1m a + on() a", ""),
        ("eval instant at 1m 1 + 1\n 2", ""),
        ("eval instant at 1m 1 + 1\n 3", "scalar 2"),
        ("eval instant at 1m 1 + 1\n {} 2", "scalar 2"),
        ("eval instant at 1m \"a\"\n expect string \"a\"", ""),
        ("eval instant at 1m \"a\"\n expect string `b`", "string \"a\""),
        ("eval range from 0 to 2m step 1m sum(a)\n {} 11 22 33", ""),
        ("eval range from 0 to 2m step 1m sum(a)\n {} 11 22", "33"),
        ("eval range from 0 to 2m step 1m sum(a)\n {} 11 _ 33", "22"),
        ("eval range from 0 to 2m step 1m sum(a)\n {} 11 22 33 44", "too short"),
        ("eval instant at 1m a{x=\"1\"}[2m]\n expect range vector from 0 to 1m step 1m\n a{x=\"1\"} 1 2", ""),
        ("eval instant at 1m a{x=\"1\"}[2m]\n expect range vector from 0 to 1m step 1m\n a{x=\"1\"} 1 3", "2"),
        ("eval instant at 1m h\n h {{count:3 sum:5 buckets:[1 2]}}", ""),
        ("eval instant at 1m h\n h {{count:3 sum:5 buckets:[1 2 0]}}", ""),
        ("eval instant at 1m h\n h {{count:3 sum:5 buckets:[2 1]}}", "buckets:[1 2]"),
        ("eval instant at 1m h\n h {{count:3 sum:5 offset:1 buckets:[1 2]}}", "buckets:[1 2]"),
        ("eval instant at 1m h\n h {{count:3 sum:5 buckets:[1 2] counter_reset_hint:gauge}}", "buckets:[1 2]"),
        ("eval instant at 1m h\n h 3", "buckets:[1 2]"),
        ("eval instant at 1m rate(a)", "expected type range vector"),
        ("eval instant at 1m", "invalid evaluation command"),
        ("evaluate 1", "invalid evaluation command"),
        ("what", "invalid command"),
        ("load 1x\n a 1", "invalid step"),
        ("load 1m\n a 1 2y", "invalid series"),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    let engine = Arc::new(Engine::new(engine_options()));
    for (case, expected) in cases {
        let mut world = MemoryWorld::default();
        let report = runtime.block_on(run("case", &format!("{load}{case}\n"), &engine, &mut world));
        match (expected, report.failures.first()) {
            ("", None) => assert_eq!(report.passed, 1, "{case}"),
            ("", Some(failure)) => panic!("{case}\n{failure:?}"),
            (_, None) => panic!("{case} passed"),
            (expected, Some(failure)) => assert!(failure.got.contains(expected), "{case}\n{failure:?}"),
        }
    }
}

#[test]
fn a_report_ends_with_the_counts() {
    let failure =
        Failure { line: 3, query: "up".to_owned(), expected: "up 1".to_owned(), got: "no such series".to_owned() };
    let reports = [
        FileReport { file: "a.test".to_owned(), passed: 2, failed: 0, failures: vec![] },
        FileReport { file: "long_name.test".to_owned(), passed: 1, failed: 1, failures: vec![failure] },
    ];
    let expected = "\
file            passed  failed
a.test               2       0
long_name.test       1       1

long_name.test:3: up
  expected up 1
  got      no such series

3 passed, 1 failed
";
    assert_eq!(render_report(&reports), expected);
}
