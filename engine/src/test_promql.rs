//! `pilaster test promql`: runs scripts in Prometheus's test format.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use pilaster_promql::promqltest::{self, MemoryWorld, render_report};
use pilaster_promql::{Engine, EngineOptions};

const USAGE: &str = "usage: pilaster test promql [--server-defaults] FILE...\n\n\
    Runs scripts in the format of Prometheus's promqltest; of a directory, all its *.test files. Options are those that\n\
    Prometheus's own scripts are written for; --server-defaults takes those of a server without flags.\n";

/// Runs the command with the words behind `test`; fails when an evaluation did.
pub fn run(words: &[&str]) -> ExitCode {
    let ["promql", words @ ..] = words else {
        eprintln!("pilaster: error: expected command \"test promql\", try --help");
        return ExitCode::from(2);
    };
    let (mut options, mut paths) = (promqltest::engine_options(), Vec::new());
    for word in words {
        match *word {
            "--server-defaults" => options = EngineOptions::default(),
            "-h" | "--help" => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            flag if flag.starts_with('-') => {
                eprintln!("pilaster: error: unknown flag '{flag}'\n{USAGE}");
                return ExitCode::from(2);
            }
            path => paths.push(PathBuf::from(path)),
        }
    }
    if paths.is_empty() {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    }
    match run_files(options, &paths) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pilaster: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_files(options: EngineOptions, paths: &[PathBuf]) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let engine = Arc::new(Engine::new(options));
    let mut reports = Vec::new();
    for path in paths {
        for file in scripts(path)? {
            let text =
                std::fs::read_to_string(&file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
            let mut world = MemoryWorld::default();
            let name = file.to_string_lossy();
            reports.push(runtime.block_on(promqltest::run(&name, &text, &engine, &mut world)));
        }
    }
    print!("{}", render_report(&reports));
    Ok(reports.iter().all(|report| report.failed == 0))
}

fn scripts(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "test"))
        .collect();
    files.sort();
    Ok(files)
}
