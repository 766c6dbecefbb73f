//! prometheus.yml: strict reading with upstream's messages, defaults, and printing of what is in effect.
//!
//! `tree` reads YAML with lines, `schema` knows every key, `check` refuses what does not fit, `print` shows the whole.
//! Scrape configurations are handed to the ingest crate as JSON; it owns their meaning.

mod check;
mod print;
mod schema;
mod tree;

use std::path::{Path, PathBuf};

use self::check::Refusal;
use self::tree::{Node, Value};
use crate::duration::{format_duration, parse_duration_ms};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("open {}: {reason}", path.display())]
    Read { path: PathBuf, reason: String },
    /// The file is not a valid configuration; `reason` is Prometheus's, with the line where one is known.
    #[error("parsing YAML file {}: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },
}

/// A configuration in effect.
#[derive(Debug, Clone)]
pub struct Config {
    root: Node,
    /// How long to keep samples, where the file says so.
    pub retention_ms: Option<i64>,
    /// How far samples may be out of order.
    pub out_of_order_ms: i64,
    /// What the file asks for and is not built yet: one sentence each.
    pub notices: Vec<String>,
}

impl Config {
    /// Reads and checks the file at `path`, and the scrape files it names.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&read(path)?, path)
    }

    /// Reads and checks `text` as if it were the file at `path`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let refuse = |reason: String| ConfigError::Refused { path: path.to_owned(), reason };
        let mut root = match tree::parse(text).map_err(|error| refuse(error.to_string()))? {
            Some(root) => root,
            None => Node { line: 1, value: Value::Map(Vec::new()) },
        };
        check::check(&schema::ROOT, &root).map_err(|refusal| refuse(reason(refusal)))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        include_scrape_files(&mut root, directory)?;
        meaning(&root).map_err(refuse)?;
        resolve_paths(&mut root, directory);
        fill_scrape_defaults(&mut root);
        let tsdb = root.get("storage").and_then(|storage| storage.get("tsdb"));
        let duration = |node: Option<&Node>, key: &str| {
            node.and_then(|node| node.get(key)).and_then(Node::text).and_then(|text| parse_duration_ms(text).ok())
        };
        Ok(Config {
            retention_ms: duration(tsdb.and_then(|tsdb| tsdb.get("retention")), "time"),
            out_of_order_ms: duration(tsdb, "out_of_order_time_window").unwrap_or(0),
            notices: notices(&root),
            root,
        })
    }

    /// What runs when no file is given: the server scrapes itself at `address`.
    pub fn builtin(address: &str, metrics_path: &str) -> Config {
        let text = format!(
            "global:\n  scrape_interval: 5s\n  scrape_timeout: 5s\nscrape_configs:\n- job_name: pilaster\n  \
             metrics_path: {metrics_path}\n  static_configs:\n  - targets:\n    - {address:?}\n"
        );
        Config::parse(&text, Path::new("built-in")).expect("the built-in configuration is valid")
    }

    /// The effective configuration as Prometheus prints it.
    pub fn yaml(&self) -> String {
        print::print(&schema::ROOT, &self.root)
    }

    /// One scrape configuration as it is in effect; `None` when there is no such job.
    pub fn scrape_yaml(&self, job: &str) -> Option<String> {
        let jobs = self.root.get("scrape_configs")?;
        let node = jobs.items().iter().find(|node| node.get("job_name").and_then(Node::text) == Some(job))?;
        Some(print::print(&schema::SCRAPE, node))
    }

    /// `global` and `scrape_configs` with every key typed, for the scraper's own structs.
    pub fn scrape_json(&self) -> serde_json::Value {
        let mut whole = check::to_json(&schema::ROOT, &self.root);
        if let Some(object) = whole.as_object_mut() {
            object.retain(|key, _| matches!(key.as_str(), "global" | "scrape_configs"));
        }
        whole
    }

    /// `global.external_labels`, with environment variables expanded.
    pub fn external_labels(&self) -> Vec<(String, String)> {
        let labels = self.root.get("global").and_then(|global| global.get("external_labels"));
        let entries = labels.map_or(&[][..], Node::entries).iter();
        entries.filter_map(|(name, value)| Some((name.text()?.to_owned(), value.text()?.to_owned()))).collect()
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        ConfigError::Read { path: path.to_owned(), reason }
    })
}

fn reason(refusal: Refusal) -> String {
    match refusal {
        Refusal::Keys(problems) => format!("yaml: unmarshal errors:\n  {}", problems.join("\n  ")),
        Refusal::Value { line, reason } => format!("{reason} (line {line})"),
    }
}

/// Appends the scrape configurations of the files that `scrape_config_files` names.
fn include_scrape_files(root: &mut Node, directory: &Path) -> Result<(), ConfigError> {
    let patterns: Vec<String> = root
        .get("scrape_config_files")
        .map_or(&[][..], Node::items)
        .iter()
        .filter_map(|node| node.text().map(str::to_owned))
        .collect();
    let mut added = Vec::new();
    for pattern in patterns {
        for path in glob(&directory.join(pattern)) {
            let refuse = |reason: String| ConfigError::Refused { path: path.clone(), reason };
            let Some(node) = tree::parse(&read(&path)?).map_err(|error| refuse(error.to_string()))? else { continue };
            check::check(&schema::SCRAPE_FILE, &node).map_err(|refusal| refuse(reason(refusal)))?;
            added.extend(node.get("scrape_configs").map_or(&[][..], Node::items).iter().cloned());
        }
    }
    if let (false, Value::Map(entries)) = (added.is_empty(), &mut root.value) {
        match entries.iter_mut().find(|(key, _)| key.text() == Some("scrape_configs")) {
            Some((_, Node { value: Value::List(items), .. })) => items.extend(added),
            Some((_, node)) => node.value = Value::List(added),
            None => entries.push((text_node("scrape_configs"), Node { line: 0, value: Value::List(added) })),
        }
    }
    Ok(())
}

/// Files that match a path whose last element may hold `*` and `?`; ascending.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !name.contains(['*', '?', '[']) {
        return vec![pattern.to_owned()];
    }
    let directory = pattern.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| wildcard(name.as_bytes(), entry.file_name().to_string_lossy().as_bytes()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => wildcard(&pattern[1..], name) || (!name.is_empty() && wildcard(pattern, &name[1..])),
        (Some(b'?'), Some(_)) => wildcard(&pattern[1..], &name[1..]),
        (Some(a), Some(b)) if a == b => wildcard(&pattern[1..], &name[1..]),
        _ => false,
    }
}

/// Refuses what has the right form and makes no sense. What a scrape configuration means is checked by its owner.
fn meaning(root: &Node) -> Result<(), String> {
    let list = |key: &str| root.get(key).map_or(&[][..], Node::items);
    let global = root.get("global");
    let global_interval = duration_of(global, "scrape_interval").filter(|ms| *ms > 0).unwrap_or(60_000);
    if let Some(timeout) = duration_of(global, "scrape_timeout")
        && timeout > global_interval
    {
        return Err("global scrape timeout greater than scrape interval".to_owned());
    }
    let mut jobs = Vec::new();
    for job in list("scrape_configs") {
        if job.is_null() {
            return Err("empty or null scrape config section".to_owned());
        }
        let name = job.get("job_name").and_then(Node::text).unwrap_or_default();
        if name.is_empty() {
            return Err(format!("job_name is empty (line {})", job.line));
        }
        if jobs.contains(&name) {
            return Err(format!("found multiple scrape configs with job name {name:?}"));
        }
        jobs.push(name);
        let interval = duration_of(Some(job), "scrape_interval").filter(|ms| *ms > 0).unwrap_or(global_interval);
        if duration_of(Some(job), "scrape_timeout").is_some_and(|timeout| timeout > interval) {
            return Err(format!(
                "scrape timeout greater than scrape interval for scrape config with job name {name:?}"
            ));
        }
    }
    for key in ["rule_files", "scrape_config_files"] {
        for node in list(key) {
            let pattern = node.text().unwrap_or_default();
            let directory = Path::new(pattern).parent().map(|path| path.to_string_lossy().into_owned());
            if directory.is_some_and(|directory| directory.contains('*')) {
                let noun = if key == "rule_files" { "rule" } else { "scrape config" };
                return Err(format!("invalid {noun} file path {pattern:?}"));
            }
        }
    }
    for key in ["remote_write", "remote_read"] {
        let mut names = Vec::new();
        for node in list(key) {
            if node.is_null() {
                return Err(format!("empty or null {} config section", key.replace('_', " ")));
            }
            if node.get("url").and_then(Node::text).unwrap_or_default().is_empty() {
                return Err(format!("url for {key} is empty"));
            }
            if let Some(name) = node.get("name").and_then(Node::text) {
                if names.contains(&name) {
                    return Err(format!("found multiple {} configs with job name {name:?}", key.replace('_', " ")));
                }
                names.push(name);
            }
            one_authentication(node)?;
        }
    }
    if let Some(alerting) = root.get("alerting") {
        for node in alerting.get("alertmanagers").map_or(&[][..], Node::items) {
            match node.get("api_version").and_then(Node::text) {
                None | Some("v2") => {}
                Some(other) => {
                    return Err(format!("expected Alertmanager api version to be one of [v2] but got {other}"));
                }
            }
            one_authentication(node)?;
        }
    }
    if let Some(tracing) = root.get("tracing")
        && tracing.get("endpoint").is_none()
    {
        return Err("tracing endpoint must be set".to_owned());
    }
    Ok(())
}

fn one_authentication(node: &Node) -> Result<(), String> {
    let given = |keys: &[&str]| keys.iter().filter(|key| node.get(key).is_some()).count();
    if given(&["bearer_token", "bearer_token_file"]) > 1 {
        return Err("at most one of bearer_token & bearer_token_file must be configured".to_owned());
    }
    if given(&["basic_auth", "oauth2", "bearer_token", "bearer_token_file"]) > 1 {
        return Err("at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured".to_owned());
    }
    if given(&["authorization", "basic_auth", "oauth2", "bearer_token", "bearer_token_file"]) > 1 {
        return Err("at most one of basic_auth, oauth2 & authorization must be configured".to_owned());
    }
    Ok(())
}

fn duration_of(node: Option<&Node>, key: &str) -> Option<i64> {
    node?.get(key).and_then(Node::text).and_then(|text| parse_duration_ms(text).ok())
}

/// What the file asks for and nothing here does yet.
fn notices(root: &Node) -> Vec<String> {
    let mut notices = Vec::new();
    for (key, what) in [
        ("rule_files", "recording and alerting rules are not built yet: no rule of these files is evaluated"),
        ("alerting", "alerting is not built yet: no alert is sent"),
        ("remote_write", "sending by remote write is not built yet: nothing is forwarded"),
        ("remote_read", "remote read is not built yet: queries see local samples only"),
        ("tracing", "tracing is not built yet: no span is sent"),
        ("otlp", "the OTLP receiver is not built yet"),
    ] {
        if root.get(key).is_some_and(|node| !node.items().is_empty() || !node.entries().is_empty()) {
            notices.push(format!("{key}: {what}"));
        }
    }
    let tsdb = root.get("storage").and_then(|storage| storage.get("tsdb"));
    let retention = tsdb.and_then(|tsdb| tsdb.get("retention"));
    for key in ["size", "percentage"] {
        if retention.is_some_and(|retention| retention.get(key).is_some()) {
            notices.push(format!("storage.tsdb.retention.{key}: not built yet: only retention by time works"));
        }
    }
    for job in root.get("scrape_configs").map_or(&[][..], Node::items) {
        let name = job.get("job_name").and_then(Node::text).unwrap_or_default();
        for (key, value) in job.entries() {
            let key = key.text().unwrap_or_default();
            if key.ends_with("_sd_configs") && key != "file_sd_configs" && !value.items().is_empty() {
                notices.push(format!("job {name:?}: {key} is not built yet: it finds no target"));
            }
        }
    }
    notices
}

/// Makes paths absolute where they are relative to the file.
fn resolve_paths(root: &mut Node, directory: &Path) {
    let Value::Map(entries) = &mut root.value else { return };
    for (key, node) in entries {
        match key.text() {
            Some("rule_files" | "scrape_config_files") => join_items(node, directory),
            Some(
                "scrape_configs" | "alerting" | "alertmanagers" | "remote_write" | "remote_read" | "tls_config"
                | "basic_auth" | "authorization" | "oauth2" | "tracing" | "file_sd_configs",
            ) => match &mut node.value {
                Value::List(items) => items.iter_mut().for_each(|item| resolve_paths(item, directory)),
                Value::Map(_) => resolve_paths(node, directory),
                Value::Scalar { .. } => {}
            },
            Some("files") => join_items(node, directory),
            Some(
                "ca_file"
                | "cert_file"
                | "key_file"
                | "password_file"
                | "username_file"
                | "bearer_token_file"
                | "credentials_file"
                | "client_secret_file"
                | "scrape_failure_log_file",
            ) => join(node, directory),
            _ => {}
        }
    }
}

fn join_items(node: &mut Node, directory: &Path) {
    if let Value::List(items) = &mut node.value {
        items.iter_mut().for_each(|item| join(item, directory));
    }
}

fn join(node: &mut Node, directory: &Path) {
    if let Value::Scalar { text, .. } = &mut node.value
        && !text.is_empty()
        && Path::new(text).is_relative()
    {
        *text = directory.join(&*text).to_string_lossy().into_owned();
    }
}

/// Gives every scrape configuration what it inherits from `global`, and expands external labels.
fn fill_scrape_defaults(root: &mut Node) {
    let global = root.get("global").cloned();
    let interval = duration_of(global.as_ref(), "scrape_interval").filter(|ms| *ms > 0).unwrap_or(60_000);
    let timeout = duration_of(global.as_ref(), "scrape_timeout").filter(|ms| *ms > 0).unwrap_or(interval.min(10_000));
    let Value::Map(entries) = &mut root.value else { return };
    for (key, node) in entries.iter_mut() {
        match key.text() {
            Some("global") => {
                let Value::Map(global) = &mut node.value else { continue };
                if !global.iter().any(|(key, _)| key.text() == Some("scrape_timeout")) {
                    global.push((text_node("scrape_timeout"), text_node(&format_duration(timeout))));
                }
                for (key, node) in global {
                    if key.text() == Some("external_labels") {
                        expand_values(node);
                    }
                }
            }
            Some("scrape_configs") => {
                let Value::List(jobs) = &mut node.value else { continue };
                for job in jobs {
                    inherit(job, global.as_ref(), interval, timeout);
                }
            }
            _ => {}
        }
    }
}

fn inherit(job: &mut Node, global: Option<&Node>, interval: i64, timeout: i64) {
    let own_interval = duration_of(Some(job), "scrape_interval").filter(|ms| *ms > 0);
    let own_timeout = duration_of(Some(job), "scrape_timeout").filter(|ms| *ms > 0);
    let effective = own_interval.unwrap_or(interval);
    let mut inherited = vec![
        (text_node("scrape_interval"), text_node(&format_duration(effective))),
        (text_node("scrape_timeout"), text_node(&format_duration(own_timeout.unwrap_or(timeout.min(effective))))),
    ];
    for key in [
        "scrape_protocols",
        "body_size_limit",
        "sample_limit",
        "target_limit",
        "label_limit",
        "label_name_length_limit",
        "label_value_length_limit",
        "keep_dropped_targets",
        "metric_name_validation_scheme",
        "metric_name_escaping_scheme",
        "scrape_native_histograms",
        "convert_classic_histograms_to_nhcb",
        "always_scrape_classic_histograms",
        "extra_scrape_metrics",
        "scrape_failure_log_file",
    ] {
        match (job.get(key), global.and_then(|global| global.get(key))) {
            (None, Some(node)) => inherited.push((text_node(key), node.clone())),
            (None, None) if key == "scrape_protocols" => {
                if let Some(node) = default_protocols() {
                    inherited.push((text_node(key), node));
                }
            }
            _ => {}
        }
    }
    let Value::Map(entries) = &mut job.value else { return };
    for (key, node) in inherited {
        entries.retain(|(name, _)| name.text() != key.text());
        entries.push((key, node));
    }
}

fn default_protocols() -> Option<Node> {
    tree::parse(schema::PROTOCOLS).ok().flatten()
}

/// Replaces `$NAME` and `${NAME}` by the environment's value, `$$` by a dollar sign.
fn expand_values(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else { return };
    for (_, value) in entries {
        if let Value::Scalar { text, plain } = &mut value.value
            && text.contains('$')
        {
            *text = expand(text, |name| std::env::var(name).unwrap_or_default());
            *plain = false;
        }
    }
}

fn expand(text: &str, variable: impl Fn(&str) -> String) -> String {
    let (mut rest, mut expanded) = (text, String::new());
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            expanded.push_str(&variable(name));
            rest = after;
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            expanded.push_str(&variable(&after[..end]));
            rest = &after[end..];
        }
    }
    expanded + rest
}

fn text_node(text: &str) -> Node {
    Node { line: 0, value: Value::Scalar { text: text.to_owned(), plain: true } }
}

#[cfg(test)]
mod tests;
