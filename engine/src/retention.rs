//! How much is kept: so long, so many bytes, or so much of the disk.

use pilaster_ingest::config::{ByteSize, PromDuration};
use pilaster_storage::RetentionLimits;

use crate::config::Config;
use crate::flags::Flags;

/// Prometheus's, where neither flag nor file says anything.
const DEFAULT_MS: i64 = 15 * 86_400_000;

/// What the file says goes before what the flags say; zeros say nothing. At least one limit is set.
pub fn limits(flags: &Flags, config: &Config) -> RetentionLimits {
    let flag_ms = flags.duration_ms("storage.tsdb.retention.time");
    let flag_bytes = flags.bytes("storage.tsdb.retention.size");
    let ms = config.retention_ms.into_iter().chain([flag_ms]).find(|ms| *ms > 0);
    let bytes = config.retention_bytes.into_iter().chain([flag_bytes]).find(|bytes| *bytes > 0);
    let percent = Some(config.retention_percent).filter(|percent| *percent > 0.0);
    RetentionLimits {
        ms: if ms.is_none() && bytes.is_none() { Some(DEFAULT_MS) } else { ms },
        bytes,
        percent,
        rules: config.retention_rules.clone(),
    }
}

/// Limits as Prometheus shows them: `15d or 2GB`.
pub fn shown(limits: &RetentionLimits) -> String {
    let parts = [
        limits.ms.map(|ms| PromDuration(ms).to_string()),
        limits.bytes.map(|bytes| ByteSize(bytes).to_string()),
        limits.percent.map(|percent| format!("{percent}%")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::flags::{Command, parse};

    fn retention(words: &[&str], text: &str) -> Result<RetentionLimits, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let Ok(Command::Serve(flags)) = parse(&words) else { panic!("{words:?}") };
        let config = Config::parse(text, Path::new("p.yml")).map_err(|error| error.to_string())?;
        Ok(limits(&flags, &config))
    }

    #[test]
    fn the_file_goes_before_the_flags() {
        let shown = |words: &[&str], text: &str| shown(&retention(words, text).unwrap());
        let in_file = "storage: {tsdb: {retention: {time: 3d, size: 2GB}}}\n";
        assert_eq!(shown(&[], ""), "15d");
        assert_eq!(shown(&["--storage.tsdb.retention.time=0s"], ""), "15d");
        assert_eq!(shown(&["--storage.tsdb.retention.time=30d"], ""), "30d");
        assert_eq!(shown(&["--storage.tsdb.retention.time=30d"], in_file), format!("3d or {}", ByteSize(2 << 30)));
        assert_eq!(shown(&["--storage.tsdb.retention.size=1GB"], ""), ByteSize(1 << 30).to_string());
        assert_eq!(shown(&[], "storage: {tsdb: {retention: {percentage: 80}}}\n"), "15d or 80%");
        assert_eq!(shown(&[], "storage: {tsdb: {retention: {percentage: 2.5, time: 1d}}}\n"), "1d or 2.5%");
    }

    #[test]
    fn rules_are_read_and_wrong_ones_refused() {
        let rules = |text: &str| {
            let text = format!("storage:\n  tsdb:\n    retention_rules:\n    - {text}\n");
            retention(&[], &text).map(|retention| retention.rules)
        };
        let found = rules("{match: '{job=\"x\",__name__=~\"a.*\"}', time: 90d}").unwrap();
        assert_eq!((found[0].matchers.len(), found[0].ms), (2, 90 * 86_400_000));
        for (text, reason) in [
            ("{match: up}", "needs 'match' and 'time' (line 4)"),
            ("{match: 'up{', time: 1d}", "parse error"),
            ("{match: up, time: 0s}", "must be positive (line 4)"),
            ("{match: up, time: 1d, more: 1}", "field more not found"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = retention(&[], "storage: {tsdb: {retention: {percentage: 101}}}\n").unwrap_err();
        assert!(error.contains("must be in the range [0, 100], got 101"), "{error}");
    }
}
