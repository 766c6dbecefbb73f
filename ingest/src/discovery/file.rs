//! `file_sd_configs`: JSON or YAML files with target groups, read when they change and at every refresh.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, MissedTickBehavior};

use super::Found;
use crate::config::yaml::{self, FromYaml, Node, Value};
use crate::config::{FileSdConfig, TargetGroup};
use crate::http::open_error;

const FILE_PATH_LABEL: &str = "__meta_filepath";

/// Events of one change come in bursts.
const SETTLE: Duration = Duration::from_millis(50);

/// A file that holds no target groups. What it held before stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FileError(pub String);

/// Reads the groups of one file; each gets the label `__meta_filepath`.
///
/// # Errors
/// [`FileError`] where the file cannot be read or is not in the format.
pub fn read_groups(path: &Path) -> Result<Vec<TargetGroup>, FileError> {
    let shown = path.to_string_lossy();
    let text = std::fs::read_to_string(path).map_err(|error| FileError(open_error(&shown, &error)))?;
    let json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let mut groups = parse_groups(&text, json)?;
    for (index, group) in groups.iter_mut().enumerate() {
        group.source = format!("{shown}:{index}");
        group.labels.insert(FILE_PATH_LABEL.to_owned(), shown.clone().into_owned());
    }
    Ok(groups)
}

/// Target groups in JSON or YAML.
pub(super) fn parse_groups(text: &str, json: bool) -> Result<Vec<TargetGroup>, FileError> {
    let root = if json {
        serde_json::from_str::<Node>(text).map_err(|error| FileError(error.to_string()))?
    } else {
        yaml::parse(text).map_err(|error| FileError(error.to_string()))?
    };
    if !matches!(root.value, Value::Sequence(_) | Value::Null) {
        return Err(FileError(root.type_error("[]*targetgroup.Group").to_string()));
    }
    let groups = Vec::<Option<TargetGroup>>::from_yaml(&root).map_err(|error| FileError(error.to_string()))?;
    let groups: Option<Vec<TargetGroup>> = groups.into_iter().collect();
    groups.ok_or_else(|| FileError("nil target group item found".to_owned()))
}

/// The files that `patterns` name, ascending, each once. Wildcards stand in the last element of a path.
pub fn expand_globs(patterns: &[String]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let pattern = Path::new(pattern);
        let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.contains(['*', '?', '[']) {
            if pattern.exists() {
                paths.push(pattern.to_owned());
            }
            continue;
        }
        for entry in std::fs::read_dir(directory_of(pattern)).into_iter().flatten().flatten() {
            if matches_wildcard(name.as_bytes(), entry.file_name().as_encoded_bytes()) {
                // Joined to what was written, so that a path reads as the pattern does.
                paths.push(pattern.with_file_name(entry.file_name()));
            }
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `*`, `?`, `[a-z]`, `[^a-z]` and `\x` as in Go's `filepath.Match`; a malformed pattern matches nothing.
fn matches_wildcard(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| matches_wildcard(rest, &name[skipped..])),
        Some((b'?', rest)) => !name.is_empty() && matches_wildcard(rest, &name[1..]),
        Some((b'[', rest)) => {
            let Some((first, tail)) = name.split_first() else { return false };
            let (negated, mut set) = match rest.split_first() {
                Some((b'^', set)) => (true, set),
                _ => (false, rest),
            };
            let mut found = false;
            loop {
                match set {
                    [b']', after @ ..] => return found != negated && matches_wildcard(after, tail),
                    [low, b'-', high, after @ ..] if *high != b']' => {
                        found |= (low..=high).contains(&first);
                        set = after;
                    }
                    [one, after @ ..] => {
                        found |= one == first;
                        set = after;
                    }
                    [] => return false,
                }
            }
        }
        Some((b'\\', rest)) if !rest.is_empty() => {
            name.first() == rest.first() && matches_wildcard(&rest[1..], &name[1..])
        }
        Some((byte, rest)) => name.first() == Some(byte) && matches_wildcard(rest, &name[1..]),
    }
}

/// Keeps `found` in step with the files until it is dropped.
pub(super) async fn run(config: FileSdConfig, found: Found) {
    let (events, mut changes) = mpsc::unbounded_channel();
    let _watcher = watch(&config, events);
    let interval = config.refresh_interval.as_duration().max(Duration::from_millis(1));
    let mut refresh = tokio::time::interval_at(Instant::now() + interval, interval);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: BTreeMap<PathBuf, Vec<TargetGroup>> = BTreeMap::new();
    loop {
        let patterns = config.files.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = |path: PathBuf| (path.clone(), read_groups(&path));
            expand_globs(&patterns).into_iter().map(read).collect::<Vec<_>>()
        });
        // Only a panic could fail it, and there is none to be had.
        if let Ok(files) = read.await {
            let mut next = BTreeMap::new();
            for (path, groups) in files {
                match groups {
                    Ok(groups) => {
                        next.insert(path, groups);
                    }
                    Err(error) => {
                        tracing::error!(file = %path.display(), err = %error, "Error reading file");
                        // A file that is half written must not take its targets away.
                        next.extend(known.remove_entry(&path));
                    }
                }
            }
            known = next;
            found.set(known.values().flatten().cloned().collect());
        }
        tokio::select! {
            _ = refresh.tick() => {}
            Some(()) = changes.recv() => {
                tokio::time::sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
            }
        }
    }
}

/// Watches the directories of the patterns; without a watcher the refresh interval is what remains.
fn watch(config: &FileSdConfig, events: mpsc::UnboundedSender<()>) -> Option<RecommendedWatcher> {
    let patterns = config.files.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        let concerns = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            patterns.iter().any(|pattern| {
                let pattern = Path::new(pattern).file_name().unwrap_or_default();
                matches_wildcard(pattern.as_encoded_bytes(), name)
            })
        };
        match event {
            Ok(event) if event.kind.is_access() => {}
            // `..data` is the link that Kubernetes moves when a mounted file changes.
            Ok(event) if !event.paths.iter().any(|path| concerns(path) || path.ends_with("..data")) => {}
            Ok(_) | Err(_) => {
                let _ = events.send(());
            }
        }
    };
    let mut watcher = match notify::recommended_watcher(handler) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::error!(err = %error, "Error adding file watcher");
            return None;
        }
    };
    let directories: HashSet<&Path> = config.files.iter().map(|file| directory_of(Path::new(file))).collect();
    for directory in directories {
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            tracing::error!(path = %directory.display(), err = %error, "Error adding file watch");
        }
    }
    Some(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*.json", "a.json", true),
            ("*.json", "a.jsonx", false),
            ("a?.yml", "ab.yml", true),
            ("a?.yml", "a.yml", false),
            ("[a-c]*.yml", "b1.yml", true),
            ("[^a-c]*.yml", "b1.yml", false),
            ("[^a-c]*.yml", "x.yml", true),
            ("a\\*.yml", "a*.yml", true),
            ("a\\*.yml", "ab.yml", false),
            ("[a", "a", false),
        ] {
            assert_eq!(matches_wildcard(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_that_are_refused() {
        for (text, json, message) in [
            ("[{\"targets\": [\"a\"], \"x\": 1}]", true, "field x not found"),
            ("{}", true, "cannot unmarshal !!map into []*targetgroup.Group"),
            ("[null]", true, "nil target group item found"),
            ("- targets: a\n", false, "cannot unmarshal !!str `a` into []string"),
            ("[{", true, "EOF"),
        ] {
            let error = parse_groups(text, json).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        assert_eq!(parse_groups("", false), Ok(Vec::new()));
    }
}
