//! The files of `scrape_failure_log_file`: one JSON object for each failed scrape.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::http::{HttpError, open_error};

/// One open file; jobs may share it.
#[derive(Debug)]
pub(super) struct FailureLog {
    file: Mutex<File>,
}

/// The open files by path, held weakly by those who come and go.
#[derive(Debug, Default)]
pub(super) struct FailureLogs {
    open: Mutex<HashMap<String, std::sync::Weak<FailureLog>>>,
}

impl FailureLogs {
    /// Opens `path`, or shares it with who has it open; `None` where `path` is empty.
    ///
    /// # Errors
    /// [`HttpError`] where the file cannot be written.
    pub fn open(&self, path: &str) -> Result<Option<Arc<FailureLog>>, HttpError> {
        if path.is_empty() {
            return Ok(None);
        }
        let mut open = self.open.lock();
        open.retain(|_, log| log.strong_count() > 0);
        if let Some(log) = open.get(path).and_then(std::sync::Weak::upgrade) {
            return Ok(Some(log));
        }
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file =
            file.map_err(|error| HttpError(format!("can't create json log file: {}", open_error(path, &error))))?;
        let log = Arc::new(FailureLog { file: Mutex::new(file) });
        open.insert(path.to_owned(), Arc::downgrade(&log));
        Ok(Some(log))
    }
}

impl FailureLog {
    /// Writes one failure; a disk that is full or gone costs the line and nothing else.
    pub fn write(&self, now_ms: i64, job: &str, target: &str, error: &str) {
        let mut line = serde_json::json!({
            "time": rfc3339(now_ms),
            "level": "ERROR",
            "msg": error,
            "job_name": job,
            "target": target,
        })
        .to_string();
        line.push('\n');
        if let Err(error) = self.file.lock().write_all(line.as_bytes()) {
            tracing::warn!(err = %error, "Writing the scrape failure log failed");
        }
    }
}

/// `2026-11-21T08:01:28.078Z`.
///
/// Source: the civil-from-days algorithm of H. Hinnant.
fn rfc3339(now_ms: i64) -> String {
    let (days, ms) = (now_ms.div_euclid(86_400_000), now_ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hours, minutes, seconds, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_248_088_078, "2026-11-21T08:01:28.078Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn a_file_is_shared_and_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fail.log").to_string_lossy().into_owned();
        let logs = FailureLogs::default();
        assert!(logs.open("").unwrap().is_none());
        let log = logs.open(&path).unwrap().unwrap();
        assert!(Arc::ptr_eq(&log, &logs.open(&path).unwrap().unwrap()));
        log.write(0, "j", "http://h:1/metrics", "say \"no\"");
        drop(log);
        logs.open(&path).unwrap().unwrap().write(1, "j", "t", "e");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["msg"], &lines[0]["level"]), (&"say \"no\"".into(), &"ERROR".into()));
        assert_eq!(lines[1]["job_name"], "j");
        assert!(
            logs.open("/nowhere/x").unwrap_err().to_string().contains("open /nowhere/x: no such file or directory")
        );
    }
}
