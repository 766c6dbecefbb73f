//! One endpoint: its labels, its URL, and how its scrapes go.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use pilaster_model::{Labels, LabelsBuilder};
use twox_hash::XxHash64;

use crate::config::{PromDuration, ScrapeConfig, check_target_address};
use crate::exposition::{MetricKind, go_quote};
use crate::relabel;

/// How the last scrape went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not scraped yet.
    Unknown,
    Up,
    Down,
}

impl Health {
    /// The word in the targets API.
    pub fn name(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// The last scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetState {
    pub health: Health,
    /// Empty where the scrape succeeded.
    pub last_error: String,
    /// When it began; `None` before the first.
    pub last_scrape_ms: Option<i64>,
    pub last_duration: Duration,
}

/// What a target says about one of its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricMetadata {
    pub metric: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

/// [`MetricMetadata`] with the scrapes in which it was seen and changed last.
#[derive(Debug, Clone, Default)]
pub(super) struct MetadataEntry {
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
    pub seen: u64,
    pub changed: u64,
}

/// An endpoint to scrape.
#[derive(Debug)]
pub struct Target {
    job: String,
    /// With the labels that begin in `__`, which say how to scrape.
    all_labels: Labels,
    labels: Labels,
    discovered: Mutex<Labels>,
    url: String,
    interval: Duration,
    timeout: Duration,
    state: Mutex<TargetState>,
    pub(super) metadata: Mutex<HashMap<String, MetadataEntry>>,
}

/// What relabelling left of an address.
pub(super) enum Candidate {
    Target(Box<Target>),
    /// With the labels as discovered.
    Dropped(Labels),
}

const JOB: &str = "job";
const INSTANCE: &str = "instance";
const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAMETER: &str = "__param_";
const META: &str = "__meta_";
const SWITCHES: [(&str, &str); 3] = [
    ("__convert_classic_histograms_to_nhcb__", "convert classic histograms to nhcb"),
    ("__always_scrape_classic_histograms__", "always scrape classic histograms"),
    ("__scrape_native_histograms__", "scrape native histograms"),
];

/// Labels of an address before relabelling: its own, its group's, the job's defaults.
fn discovered_labels(config: &ScrapeConfig, address: &str, group: &BTreeMap<String, String>) -> LabelsBuilder {
    let mut labels = LabelsBuilder::default();
    for (name, value) in group {
        labels.set(name, value);
    }
    labels.set(ADDRESS, address);
    let switches = [
        config.convert_classic_histograms_to_nhcb,
        config.always_scrape_classic_histograms,
        config.scrape_native_histograms,
    ];
    let switches =
        SWITCHES.iter().zip(switches).map(|((name, _), on)| ((*name).to_owned(), on.unwrap_or(false).to_string()));
    let parameters =
        config.params.iter().filter_map(|(key, values)| Some((format!("{PARAMETER}{key}"), values.first()?.clone())));
    let defaults = [
        (JOB.to_owned(), config.job_name.clone()),
        (INTERVAL.to_owned(), config.scrape_interval.to_string()),
        (TIMEOUT.to_owned(), config.scrape_timeout.to_string()),
        (METRICS_PATH.to_owned(), config.metrics_path.clone()),
        (SCHEME.to_owned(), config.scheme.clone()),
    ];
    for (name, value) in defaults.into_iter().chain(switches).chain(parameters) {
        if labels.get(&name).is_empty() {
            labels.set(&name, &value);
        }
    }
    labels
}

/// Relabels an address and makes a target of it.
///
/// # Errors
/// Prometheus's text where the labels make no target.
///
/// Source: `PopulateLabels`, Prometheus v3 `scrape/target.go`.
pub(super) fn candidate(
    config: &ScrapeConfig,
    address: &str,
    group: &BTreeMap<String, String>,
) -> Result<Candidate, String> {
    let mut labels = discovered_labels(config, address, group);
    let discovered = labels.build();
    if !relabel::process(&mut labels, &config.relabel_configs) {
        return Ok(Candidate::Dropped(discovered));
    }
    let address = labels.get(ADDRESS).to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    check_target_address(&address).map_err(|error| error.to_string())?;
    let duration = |name: &str, what: &str| {
        let duration =
            PromDuration::parse(labels.get(name)).map_err(|error| format!("error parsing scrape {what}: {error}"))?;
        if duration.ms() == 0 { Err(format!("scrape {what} cannot be 0")) } else { Ok(duration) }
    };
    let (interval, timeout) = (duration(INTERVAL, "interval")?, duration(TIMEOUT, "timeout")?);
    if timeout > interval {
        let (timeout, interval) = (labels.get(TIMEOUT), labels.get(INTERVAL));
        return Err(format!("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})"));
    }
    for (name, what) in SWITCHES {
        let value = labels.get(name);
        let known = ["", "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
        if !known.contains(&value) {
            let value = go_quote(value.as_bytes());
            return Err(format!("error parsing {what}: strconv.ParseBool: parsing {value}: invalid syntax"));
        }
    }
    let meta: Vec<String> =
        labels.iter().map(|(name, _)| name).filter(|name| name.starts_with(META)).map(str::to_owned).collect();
    for name in meta {
        labels.remove(&name);
    }
    if labels.get(INSTANCE).is_empty() {
        labels.set(INSTANCE, &address);
    }
    let all_labels = labels.build();
    let public = all_labels.filter(|name, _| !name.starts_with("__"));
    if public.is_empty() {
        return Ok(Candidate::Dropped(discovered));
    }
    Ok(Candidate::Target(Box::new(Target {
        job: config.job_name.clone(),
        url: url_of(&all_labels, &config.params),
        labels: public,
        discovered: Mutex::new(discovered),
        all_labels,
        interval: interval.as_duration(),
        timeout: timeout.as_duration(),
        state: Mutex::new(TargetState {
            health: Health::Unknown,
            last_error: String::new(),
            last_scrape_ms: None,
            last_duration: Duration::ZERO,
        }),
        metadata: Mutex::new(HashMap::new()),
    })))
}

fn url_of(labels: &Labels, params: &BTreeMap<String, Vec<String>>) -> String {
    let mut params = params.clone();
    for (name, value) in labels.iter() {
        if let Some(key) = name.strip_prefix(PARAMETER) {
            let values = params.entry(key.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => *first = value.to_owned(),
                None => values.push(value.to_owned()),
            }
        }
    }
    let mut url = format!("{}://{}", labels.get(SCHEME), labels.get(ADDRESS));
    let path = labels.get(METRICS_PATH);
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    escape(path, b"-_.~$&+,/:;=@!*'()", false, &mut url);
    let mut separator = '?';
    for (key, values) in &params {
        for value in values {
            url.push(separator);
            separator = '&';
            escape(key, b"-_.~", true, &mut url);
            url.push('=');
            escape(value, b"-_.~", true, &mut url);
        }
    }
    url
}

/// Percent-encodes what is neither alphanumeric nor in `plain`; in queries a space is a plus.
fn escape(text: &str, plain: &[u8], query: bool, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' if query => out.push('+'),
            _ if byte.is_ascii_alphanumeric() || plain.contains(&byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

impl Target {
    /// The job, which is the name of the scrape pool.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The labels of its series.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its labels before relabelling.
    pub fn discovered_labels(&self) -> Labels {
        self.discovered.lock().clone()
    }

    pub(super) fn set_discovered_labels(&self, labels: Labels) {
        *self.discovered.lock() = labels;
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Interval and timeout as the targets API writes them.
    pub fn interval_text(&self) -> &str {
        self.all_labels.get(INTERVAL)
    }

    pub fn timeout_text(&self) -> &str {
        self.all_labels.get(TIMEOUT)
    }

    /// A switch that the job sets and relabelling may change.
    fn switch(&self, name: &str) -> bool {
        matches!(self.all_labels.get(name), "1" | "t" | "T" | "TRUE" | "true" | "True")
    }

    pub(super) fn converts_classic_histograms(&self) -> bool {
        self.switch(SWITCHES[0].0)
    }

    pub(super) fn keeps_classic_histograms(&self) -> bool {
        self.switch(SWITCHES[1].0)
    }

    pub(super) fn scrapes_native_histograms(&self) -> bool {
        self.switch(SWITCHES[2].0)
    }

    pub fn state(&self) -> TargetState {
        self.state.lock().clone()
    }

    pub(super) fn report(&self, started_ms: i64, duration: Duration, error: Option<&str>) {
        let mut state = self.state.lock();
        state.health = if error.is_some() { Health::Down } else { Health::Up };
        state.last_error = error.unwrap_or_default().to_owned();
        state.last_scrape_ms = Some(started_ms);
        state.last_duration = duration;
    }

    /// What the target says about its metrics, ascending by metric.
    pub fn metadata(&self) -> Vec<MetricMetadata> {
        let mut all: Vec<MetricMetadata> = self
            .metadata
            .lock()
            .iter()
            .map(|(metric, entry)| MetricMetadata {
                metric: metric.clone(),
                kind: entry.kind,
                help: entry.help.clone(),
                unit: entry.unit.clone(),
            })
            .collect();
        all.sort_by(|a, b| a.metric.cmp(&b.metric));
        all
    }

    /// What makes it this target and no other: labels and URL.
    pub(super) fn hash(&self) -> u64 {
        XxHash64::oneshot(self.all_labels.hash64(), self.url.as_bytes())
    }

    /// How long to wait at `now_ms` until its place in the interval comes; below one interval.
    ///
    /// The place is a point of absolute time, so that restarts do not move it.
    pub(super) fn offset(&self, now_ms: i64, seed: u64) -> Duration {
        let interval = self.interval.as_nanos().max(1) as u64;
        let now = (now_ms.max(0) as u64).wrapping_mul(1_000_000) % interval;
        let place = (self.hash() ^ seed) % interval;
        Duration::from_nanos((place + interval - now) % interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GlobalConfig;
    use crate::config::yaml::{self, FromYaml};

    fn make(job: &str, address: &str, group: &[(&str, &str)]) -> Result<Option<Target>, String> {
        let mut config = ScrapeConfig::from_yaml(&yaml::parse(job).unwrap()).unwrap();
        config.validate(&GlobalConfig::default()).unwrap();
        let group = group.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(match candidate(&config, address, &group)? {
            Candidate::Target(target) => Some(*target),
            Candidate::Dropped(_) => None,
        })
    }

    #[test]
    fn labels_and_url() {
        let target =
            make("{job_name: j, params: {module: [a b, c], x: ['/']}}", "h:1", &[("x", "1"), ("__meta_y", "2")])
                .unwrap()
                .unwrap();
        assert_eq!(target.labels().to_string(), r#"{instance="h:1", job="j", x="1"}"#);
        assert_eq!(target.url(), "http://h:1/metrics?module=a+b&module=c&x=%2F");
        assert_eq!((target.interval_text(), target.timeout_text()), ("1m", "10s"));
        assert_eq!(
            target.discovered_labels().to_string(),
            r#"{__address__="h:1", __always_scrape_classic_histograms__="false", __convert_classic_histograms_to_nhcb__="false", __meta_y="2", __metrics_path__="/metrics", __param_module="a b", __param_x="/", __scheme__="http", __scrape_interval__="1m", __scrape_native_histograms__="false", __scrape_timeout__="10s", job="j", x="1"}"#
        );
    }

    /// The way of the blackbox exporter: the address becomes a parameter.
    #[test]
    fn relabelling_says_how_to_scrape() {
        let job = "{job_name: probe, metrics_path: /probe, params: {module: [http_2xx]}, relabel_configs: [
            {source_labels: [__address__], target_label: __param_target},
            {source_labels: [__param_target], target_label: instance},
            {target_label: __address__, replacement: 'black:9115'},
            {target_label: __scheme__, replacement: https},
            {target_label: __scrape_interval__, replacement: 5s},
            {target_label: __scrape_timeout__, replacement: 3s}]}";
        let target = make(job, "https://example.org/x?y=1", &[]).unwrap().unwrap();
        assert_eq!(
            target.url(),
            "https://black:9115/probe?module=http_2xx&target=https%3A%2F%2Fexample.org%2Fx%3Fy%3D1"
        );
        assert_eq!(target.labels().to_string(), r#"{instance="https://example.org/x?y=1", job="probe"}"#);
        assert_eq!((target.interval(), target.timeout()), (Duration::from_secs(5), Duration::from_secs(3)));
    }

    #[test]
    fn what_makes_no_target() {
        let rule = |rule: &str| format!("{{job_name: j, relabel_configs: [{rule}]}}");
        for (job, message) in [
            (rule("{target_label: __address__, replacement: ''}"), "no address"),
            (rule("{target_label: __address__, replacement: 'http://a'}"), "\"http://a\" is not a valid hostname"),
            (
                rule("{target_label: __scrape_interval__, replacement: x}"),
                "error parsing scrape interval: not a valid duration string: \"x\"",
            ),
            (rule("{target_label: __scrape_timeout__, replacement: 0s}"), "scrape timeout cannot be 0"),
            (
                rule("{target_label: __scrape_timeout__, replacement: 2m}"),
                "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")",
            ),
            (
                rule("{target_label: __scrape_native_histograms__, replacement: x}"),
                "error parsing scrape native histograms: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(make(&job, "a", &[]).map(|_| ()).unwrap_err(), message);
        }
        assert!(make(&rule("{action: drop}"), "a", &[]).unwrap().is_none());
    }

    #[test]
    fn places_in_the_interval_do_not_move() {
        let target = make("{job_name: j, scrape_interval: 15s}", "h:1", &[]).unwrap().unwrap();
        let place = |now_ms: i64, seed| (now_ms + target.offset(now_ms, seed).as_millis() as i64) % 15_000;
        let first = place(1_700_000_000_000, 7);
        for later in [1, 4_999, 5_000, 14_999, 15_000, 123_456] {
            assert!((place(1_700_000_000_000 + later, 7) - first).abs() <= 1);
            assert!(target.offset(later, 7) < Duration::from_secs(15));
        }
        assert_ne!(first, place(1_700_000_000_000, 1 << 40));
    }
}
