//! prometheus.yml: strict reading with upstream's messages, defaults, and printing of what is in effect.
//!
//! YAML and the scrape part belong to the ingest crate. `schema` knows every other key, `check` refuses what does not
//! fit, `print` shows the whole.

mod blocks;
mod check;
mod print;
mod schema;

use std::path::{Path, PathBuf};

use pilaster_ingest::config::yaml::{self, FromYaml, Node, Scalar};
use pilaster_ingest::config::{ByteSize, GlobalConfig, PromDuration, ScrapeConfig, check_unique_jobs, join_directory};

use pilaster_storage::RetentionRule;

pub use self::blocks::{BlockPlace, BlocksConfig};
use self::check::Refusal;

/// Prometheus's.
const DEFAULT_MAX_EXEMPLARS: i64 = 100_000;

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
    pub global: GlobalConfig,
    pub scrape_configs: Vec<ScrapeConfig>,
    /// How long to keep samples, where the file says so.
    pub retention_ms: Option<i64>,
    /// How many bytes to keep, where the file says so.
    pub retention_bytes: Option<u64>,
    /// How many percent of the disk to use; 0 for no limit.
    pub retention_percent: f64,
    /// Series that are kept for a time of their own.
    pub retention_rules: Vec<RetentionRule>,
    /// How many exemplars to keep.
    pub max_exemplars: i64,
    /// How far samples may be out of order.
    pub out_of_order_ms: i64,
    /// Where blocks go.
    pub blocks: BlocksConfig,
    /// What the file asks for and is not built yet: one sentence each.
    pub notices: Vec<String>,
    root: Node,
    /// Paths in the file are relative to this.
    directory: PathBuf,
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
        let root = checked(text, path, &schema::ROOT)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut global = match given(&root, "global") {
            Some(node) => GlobalConfig::from_yaml(node).map_err(|error| refuse(error.to_string()))?,
            None => GlobalConfig::default(),
        };
        global.set_directory(directory);
        for value in global.external_labels.values_mut() {
            *value = expand(value, |name| std::env::var(name).unwrap_or_default());
        }
        meaning(&root).map_err(refuse)?;
        let mut scrape_configs = jobs(&root, path, directory, &global)?;
        for pattern in items(&root, "scrape_config_files").iter().filter_map(Node::text) {
            for file in glob(&directory.join(pattern)) {
                let more = checked(&read(&file)?, &file, &schema::SCRAPE_FILE)?;
                scrape_configs.extend(jobs(&more, &file, file.parent().unwrap_or(Path::new("")), &global)?);
            }
        }
        check_unique_jobs(&scrape_configs).map_err(|error| refuse(error.to_string()))?;
        let tsdb = given(&root, "storage").and_then(|storage| given(storage, "tsdb"));
        let retention = tsdb.and_then(|tsdb| given(tsdb, "retention"));
        let duration = |node: Option<&Node>, key: &str| {
            let text = node.and_then(|node| given(node, key)).and_then(Node::text)?;
            PromDuration::parse(text).ok().map(PromDuration::ms)
        };
        let percent = retention.and_then(|node| given(node, "percentage")).and_then(number).unwrap_or(0.0);
        if !(0.0..=100.0).contains(&percent) {
            let reason = "'storage.tsdb.retention.percentage' must be in the range [0, 100]";
            return Err(refuse(format!("{reason}, got {percent}")));
        }
        let exemplars = given(&root, "storage").and_then(|storage| given(storage, "exemplars"));
        let max_exemplars = exemplars.and_then(|node| given(node, "max_exemplars")).and_then(number);
        let blocks = given(&root, "storage").and_then(|storage| given(storage, "blocks"));
        let rules = tsdb.map_or(&[][..], |tsdb| items(tsdb, "retention_rules"));
        Ok(Config {
            retention_percent: percent,
            retention_rules: rules.iter().map(retention_rule).collect::<Result<_, _>>().map_err(refuse)?,
            max_exemplars: max_exemplars.map_or(DEFAULT_MAX_EXEMPLARS, |count| count as i64),
            retention_ms: duration(retention, "time"),
            retention_bytes: retention
                .and_then(|node| given(node, "size"))
                .and_then(Node::text)
                .and_then(|text| ByteSize::parse(text).ok())
                .map(|size| size.0),
            out_of_order_ms: duration(tsdb, "out_of_order_time_window").unwrap_or(0),
            blocks: BlocksConfig::read(blocks, directory).map_err(refuse)?,
            notices: notices(&root),
            global,
            scrape_configs,
            root,
            directory: directory.to_owned(),
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
        let owned = |key: &str| match key {
            "global" => Some(self.global.to_yaml()),
            "scrape_configs" if self.scrape_configs.is_empty() => None,
            "scrape_configs" => Some(Node::sequence(self.scrape_configs.iter().map(ScrapeConfig::to_yaml))),
            "rule_files" | "scrape_config_files" => {
                let paths: Vec<Node> = items(&self.root, key)
                    .iter()
                    .map(|node| Node::string(join_directory(&self.directory, node.text().unwrap_or_default())))
                    .collect();
                if paths.is_empty() { None } else { Some(Node::sequence(paths)) }
            }
            _ => None,
        };
        yaml::print(&print::effective(&schema::ROOT, &self.root, &owned))
    }

    /// `global.external_labels`, with environment variables expanded; ascending by name.
    pub fn external_labels(&self) -> Vec<(String, String)> {
        self.global.external_labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// A number, whole or not.
fn number(node: &Node) -> Option<f64> {
    match node.scalar() {
        Some(Scalar::Float(number)) => Some(number),
        _ => node.text().and_then(|text| text.parse().ok()),
    }
}

fn retention_rule(node: &Node) -> Result<RetentionRule, String> {
    let at = format!("(line {})", node.line);
    let of = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default();
    if of("match").is_empty() || of("time").is_empty() {
        return Err(format!("a rule in 'storage.tsdb.retention_rules' needs 'match' and 'time' {at}"));
    }
    let matchers = pilaster_promql::parser::parse_selector(of("match"))
        .map_err(|error| format!("'match' in 'storage.tsdb.retention_rules': {error} {at}"))?;
    let ms = PromDuration::parse(of("time")).map_or(0, PromDuration::ms);
    if ms <= 0 {
        return Err(format!("'time' in 'storage.tsdb.retention_rules' must be positive {at}"));
    }
    Ok(RetentionRule { matchers, ms })
}

/// The value under `key`, unless it is null.
fn given<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    node.get(key).filter(|value| !value.is_null())
}

fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    node.get(key).map_or(&[], Node::items)
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

/// The document in `text`, all of whose keys and types are right.
fn checked(text: &str, path: &Path, record: &'static schema::Record) -> Result<Node, ConfigError> {
    let refuse = |reason: String| ConfigError::Refused { path: path.to_owned(), reason };
    let mut root = yaml::parse(text).map_err(|error| refuse(error.to_string()))?;
    if root.is_null() {
        root = Node::mapping([]);
    }
    match check::check(record, &root) {
        Ok(()) => Ok(root),
        Err(Refusal::Keys(problems)) => Err(refuse(format!("yaml: unmarshal errors:\n  {}", problems.join("\n  ")))),
        Err(Refusal::Value { line, reason }) => Err(refuse(with_line(&reason, line))),
    }
}

/// Says where, unless the reason does.
fn with_line(reason: &str, line: usize) -> String {
    if reason.contains("line ") { reason.to_owned() } else { format!("{reason} (line {line})") }
}

/// The scrape configurations of a document, complete and checked.
fn jobs(root: &Node, path: &Path, directory: &Path, global: &GlobalConfig) -> Result<Vec<ScrapeConfig>, ConfigError> {
    let mut jobs = Vec::new();
    for node in items(root, "scrape_configs") {
        let refuse = |reason: String| ConfigError::Refused { path: path.to_owned(), reason };
        if node.is_null() {
            return Err(refuse("empty or null scrape config section".to_owned()));
        }
        let at_line = |error: pilaster_ingest::config::Error| refuse(with_line(&error.to_string(), node.line));
        let mut job = ScrapeConfig::from_yaml(node).map_err(at_line)?;
        job.validate(global).map_err(at_line)?;
        job.set_directory(directory);
        jobs.push(job);
    }
    Ok(jobs)
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

/// Refuses what has the right form and makes no sense; the scrape part has its own checks.
fn meaning(root: &Node) -> Result<(), String> {
    for key in ["rule_files", "scrape_config_files"] {
        for node in items(root, key) {
            let pattern = node.text().unwrap_or_default();
            let directory = Path::new(pattern).parent().map(|path| path.to_string_lossy().into_owned());
            if directory.is_some_and(|directory| directory.contains('*')) {
                let noun = if key == "rule_files" { "rule" } else { "scrape config" };
                return Err(format!("invalid {noun} file path {pattern:?} (line {})", node.line));
            }
        }
    }
    for key in ["remote_write", "remote_read"] {
        let mut names = Vec::new();
        for node in items(root, key) {
            let section = key.replace('_', " ");
            let at = node.line;
            if node.is_null() {
                return Err(format!("empty or null {section} config section"));
            }
            if node.get("url").and_then(Node::text).unwrap_or_default().is_empty() {
                return Err(format!("url for {key} is empty (line {at})"));
            }
            if let Some(name) = node.get("name").and_then(Node::text) {
                if names.contains(&name) {
                    return Err(format!("found multiple {section} configs with job name {name:?} (line {at})"));
                }
                names.push(name);
            }
            one_authentication(node)?;
        }
    }
    for node in given(root, "alerting").map_or(&[][..], |alerting| items(alerting, "alertmanagers")) {
        match node.get("api_version").and_then(Node::text) {
            None | Some("v2") => {}
            Some(other) => {
                return Err(format!(
                    "expected Alertmanager api version to be one of [v2] but got {other} (line {})",
                    node.line
                ));
            }
        }
        one_authentication(node)?;
    }
    match given(root, "tracing") {
        Some(tracing) if given(tracing, "endpoint").is_none() => Err("tracing endpoint must be set".to_owned()),
        _ => Ok(()),
    }
}

fn one_authentication(node: &Node) -> Result<(), String> {
    let count = |keys: &[&str]| keys.iter().filter(|key| given(node, key).is_some()).count();
    let refuse = |text: &str| Err(format!("{text} (line {})", node.line));
    if count(&["bearer_token", "bearer_token_file"]) > 1 {
        return refuse("at most one of bearer_token & bearer_token_file must be configured");
    }
    if count(&["basic_auth", "oauth2", "bearer_token", "bearer_token_file"]) > 1 {
        return refuse("at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured");
    }
    if count(&["authorization", "basic_auth", "oauth2", "bearer_token", "bearer_token_file"]) > 1 {
        return refuse("at most one of basic_auth, oauth2 & authorization must be configured");
    }
    Ok(())
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
    notices
}

/// Replaces `$NAME` and `${NAME}` by the environment's value, `$$` by a dollar sign.
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

#[cfg(test)]
mod tests;
