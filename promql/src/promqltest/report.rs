//! What became of the evaluations of scripts.

use std::fmt::Write;

/// One script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    pub file: String,
    /// Evaluations that gave what is expected.
    pub passed: usize,
    /// Evaluations, and loads, that did not.
    pub failed: usize,
    pub failures: Vec<Failure>,
}

/// One evaluation that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// From 1; 0 for the script as a whole.
    pub line: usize,
    pub query: String,
    pub expected: String,
    pub got: String,
}

impl FileReport {
    pub(super) fn fail(&mut self, line: usize, query: &str, expected: &str, got: &str) {
        let (query, expected, got) = (query.to_owned(), expected.to_owned(), got.to_owned());
        self.failures.push(Failure { line, query, expected, got });
        self.failed = self.failures.len();
    }

    /// All evaluations.
    pub fn total(&self) -> usize {
        self.passed + self.failed
    }
}

/// A table of the scripts, each failure, and a last line `N passed, M failed`.
pub fn render_report(reports: &[FileReport]) -> String {
    let width = reports.iter().map(|report| report.file.len()).max().unwrap_or(0).max(4);
    let mut out = format!("{:width$}  passed  failed\n", "file");
    for FileReport { file, passed, failed, .. } in reports {
        let _ = writeln!(out, "{file:width$}  {passed:6}  {failed:6}");
    }
    for report in reports {
        for Failure { line, query, expected, got } in &report.failures {
            let _ = write!(out, "\n{}:{line}: {query}\n  expected {expected}\n  got      {got}\n", report.file);
        }
    }
    let passed: usize = reports.iter().map(|report| report.passed).sum();
    let failed: usize = reports.iter().map(|report| report.failed).sum();
    let _ = write!(out, "\n{passed} passed, {failed} failed\n");
    out
}
