//! How much is kept: so long, or so many bytes.

use pilaster_ingest::config::{ByteSize, PromDuration};

use crate::config::Config;
use crate::flags::Flags;

/// Prometheus's, where neither flag nor file says anything.
const DEFAULT_MS: i64 = 15 * 86_400_000;

/// Limits beyond which the oldest blocks go; at least one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub ms: Option<i64>,
    pub bytes: Option<u64>,
}

impl Retention {
    /// What the file says goes before what the flags say; zeros say nothing.
    pub fn new(flags: &Flags, config: &Config) -> Retention {
        let flag_ms = flags.duration_ms("storage.tsdb.retention.time");
        let flag_bytes = flags.bytes("storage.tsdb.retention.size");
        let ms = config.retention_ms.into_iter().chain([flag_ms]).find(|ms| *ms > 0);
        let bytes = config.retention_bytes.into_iter().chain([flag_bytes]).find(|bytes| *bytes > 0);
        Retention { ms: if ms.is_none() && bytes.is_none() { Some(DEFAULT_MS) } else { ms }, bytes }
    }
}

impl std::fmt::Display for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> =
            [self.ms.map(|ms| PromDuration(ms).to_string()), self.bytes.map(|bytes| ByteSize(bytes).to_string())]
                .into_iter()
                .flatten()
                .collect();
        f.write_str(&parts.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::flags::{Command, parse};

    #[test]
    fn the_file_goes_before_the_flags() {
        let retention = |words: &[&str], text: &str| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let Ok(Command::Serve(flags)) = parse(&words) else { panic!("{words:?}") };
            Retention::new(&flags, &Config::parse(text, Path::new("p.yml")).unwrap()).to_string()
        };
        let in_file = "storage: {tsdb: {retention: {time: 3d, size: 2GB}}}\n";
        assert_eq!(retention(&[], ""), "15d");
        assert_eq!(retention(&["--storage.tsdb.retention.time=0s"], ""), "15d");
        assert_eq!(retention(&["--storage.tsdb.retention.time=30d"], ""), "30d");
        assert_eq!(retention(&["--storage.tsdb.retention.time=30d"], in_file), format!("3d or {}", ByteSize(2 << 30)));
        assert_eq!(retention(&["--storage.tsdb.retention.size=1GB"], ""), ByteSize(1 << 30).to_string());
    }
}
