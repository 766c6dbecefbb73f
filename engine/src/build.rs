//! Which build this is, and which Prometheus it stands in for.

use std::sync::OnceLock;

/// Our own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The Prometheus whose interfaces we have: clients switch features on by it.
pub const PROMETHEUS_VERSION: &str = "3.14.0";

/// The architecture as Go names it.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// When the program's file was written, as `YYYYMMDD-hh:mm:ss`; empty where nobody knows.
pub fn date() -> &'static str {
    static DATE: OnceLock<String> = OnceLock::new();
    DATE.get_or_init(|| {
        let written = std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified());
        written.map_or_else(
            |_| String::new(),
            |time| chrono::DateTime::<chrono::Utc>::from(time).format("%Y%m%d-%H:%M:%S").to_string(),
        )
    })
}

/// What `--version` prints.
pub fn describe() -> String {
    format!(
        "pilaster, version {VERSION} (interfaces of Prometheus {PROMETHEUS_VERSION})\n  platform:         {}/{}",
        std::env::consts::OS,
        go_arch()
    )
}
