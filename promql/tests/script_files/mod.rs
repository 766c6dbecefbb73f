//! Where scripts are.

use std::path::{Path, PathBuf};

/// Prometheus's own scripts, sorted; says so where they are missing.
pub fn prometheus_scripts() -> Option<Vec<PathBuf>> {
    let paths = scripts_in("../../shared/promqltest");
    if paths.is_none() {
        println!("no folder ../../shared/promqltest: nothing to run");
    }
    paths
}

/// The scripts in `folder`, which is relative to the crate under test.
pub fn scripts_in(folder: &str) -> Option<Vec<PathBuf>> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).ok()?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    Some(paths)
}
