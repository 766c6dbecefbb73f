//! The `global` section, and the kinds of values that it shares with scrape sections.

use std::collections::BTreeMap;
use std::path::Path;

use super::http_client::push_text;
use super::yaml::{Fields, FromYaml, Node};
use super::{ByteSize, Error, PromDuration, join_directory};

/// What a response may be written in, in the notation of `scrape_protocols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// Protobuf, the only one with native histograms.
    PrometheusProto,
    PrometheusText004,
    PrometheusText100,
    OpenMetricsText001,
    OpenMetricsText100,
}

impl ScrapeProtocol {
    /// What is offered where nothing is configured, best first.
    pub const DEFAULT: [ScrapeProtocol; 4] = [
        ScrapeProtocol::OpenMetricsText100,
        ScrapeProtocol::OpenMetricsText001,
        ScrapeProtocol::PrometheusText100,
        ScrapeProtocol::PrometheusText004,
    ];
    /// [`ScrapeProtocol::DEFAULT`] where native histograms are scraped.
    const DEFAULT_WITH_HISTOGRAMS: [ScrapeProtocol; 5] = [
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::OpenMetricsText100,
        ScrapeProtocol::OpenMetricsText001,
        ScrapeProtocol::PrometheusText100,
        ScrapeProtocol::PrometheusText004,
    ];

    const NAMES: [(&str, ScrapeProtocol); 5] = [
        ("OpenMetricsText0.0.1", ScrapeProtocol::OpenMetricsText001),
        ("OpenMetricsText1.0.0", ScrapeProtocol::OpenMetricsText100),
        ("PrometheusProto", ScrapeProtocol::PrometheusProto),
        ("PrometheusText0.0.4", ScrapeProtocol::PrometheusText004),
        ("PrometheusText1.0.0", ScrapeProtocol::PrometheusText100),
    ];

    /// The protocols to offer by default.
    pub fn defaults(native_histograms: bool) -> Vec<ScrapeProtocol> {
        match native_histograms {
            true => ScrapeProtocol::DEFAULT_WITH_HISTOGRAMS.to_vec(),
            false => ScrapeProtocol::DEFAULT.to_vec(),
        }
    }

    /// # Errors
    /// [`Error::Invalid`] listing the known names.
    pub fn parse(name: &str) -> Result<ScrapeProtocol, Error> {
        let known = ScrapeProtocol::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, protocol)| *protocol).ok_or_else(|| {
            let names = ScrapeProtocol::NAMES.map(|(name, _)| name).join(" ");
            Error::Invalid(format!("unknown scrape protocol {name}, supported: [{names}]"))
        })
    }

    pub fn name(self) -> &'static str {
        let entry = ScrapeProtocol::NAMES.iter().find(|(_, protocol)| *protocol == self);
        entry.map_or("", |(name, _)| name)
    }
}

/// Checks the names of a `scrape_protocols` list.
pub(super) fn parse_protocols(names: &[String]) -> Result<Vec<ScrapeProtocol>, Error> {
    if names.is_empty() {
        return Err(Error::Invalid("scrape_protocols cannot be empty".to_owned()));
    }
    let mut protocols = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        if names[..index].iter().any(|earlier| earlier.eq_ignore_ascii_case(name)) {
            let list = names.join(" ");
            return Err(Error::Invalid(format!("duplicated protocol in scrape_protocols, got [{list}]")));
        }
        let protocol = ScrapeProtocol::parse(name);
        protocols.push(protocol.map_err(|error| Error::Invalid(format!("scrape_protocols: {error}")))?);
    }
    Ok(protocols)
}

/// Which metric and label names are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValidationScheme {
    /// Letters, digits and underscores; colons in metric names.
    Legacy,
    /// Any UTF-8 text that is not empty.
    #[default]
    Utf8,
}

impl ValidationScheme {
    pub fn name(self) -> &'static str {
        match self {
            ValidationScheme::Legacy => "legacy",
            ValidationScheme::Utf8 => "utf8",
        }
    }

    /// Whether `name` may name a label.
    pub fn accepts_label(self, name: &str) -> bool {
        match self {
            ValidationScheme::Utf8 => !name.is_empty(),
            ValidationScheme::Legacy => {
                let mut bytes = name.bytes();
                bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                    && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
            }
        }
    }

    /// Whether `name` may name a metric.
    pub fn accepts_metric(self, name: &str) -> bool {
        match self {
            ValidationScheme::Utf8 => !name.is_empty(),
            ValidationScheme::Legacy => {
                let mut bytes = name.bytes();
                bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b':'))
                    && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
            }
        }
    }
}

impl FromYaml for Option<ValidationScheme> {
    fn type_name() -> String {
        "string".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<Option<ValidationScheme>, Error> {
        match String::from_yaml(node)?.as_str() {
            "" => Ok(None),
            "legacy" => Ok(Some(ValidationScheme::Legacy)),
            "utf8" => Ok(Some(ValidationScheme::Utf8)),
            other => Err(Error::Invalid(format!("unrecognized ValidationScheme: {other:?}"))),
        }
    }
}

/// How a target is asked to write names that legacy systems cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapingScheme {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl EscapingScheme {
    /// The name in configurations and in the `Accept` header.
    pub fn name(self) -> &'static str {
        match self {
            EscapingScheme::AllowUtf8 => "allow-utf-8",
            EscapingScheme::Underscores => "underscores",
            EscapingScheme::Dots => "dots",
            EscapingScheme::Values => "values",
        }
    }

    /// What goes with `validation` where nothing is configured.
    pub(super) fn default_for(validation: ValidationScheme) -> EscapingScheme {
        match validation {
            ValidationScheme::Legacy => EscapingScheme::Underscores,
            ValidationScheme::Utf8 => EscapingScheme::AllowUtf8,
        }
    }

    /// `None` where `name` is empty. `whose` is `global` or `scrape config`.
    pub(super) fn parse(name: &str, whose: &str) -> Result<Option<EscapingScheme>, Error> {
        match name {
            "" => Ok(None),
            "allow-utf-8" => Ok(Some(EscapingScheme::AllowUtf8)),
            "underscores" => Ok(Some(EscapingScheme::Underscores)),
            "dots" => Ok(Some(EscapingScheme::Dots)),
            "values" => Ok(Some(EscapingScheme::Values)),
            other => Err(Error::Invalid(format!(
                "unknown {whose} name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', \
                 or 'values', got {other:?}"
            ))),
        }
    }
}

/// What a scrape may bring at most; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrapeLimits {
    /// Bytes of one response, decompressed.
    pub body_size: ByteSize,
    /// Samples of one scrape, after metric relabelling.
    pub samples: usize,
    /// Targets of one job, after relabelling.
    pub targets: usize,
    /// Labels of one series.
    pub labels: usize,
    /// Bytes of a label name.
    pub label_name_length: usize,
    /// Bytes of a label value.
    pub label_value_length: usize,
}

impl ScrapeLimits {
    pub(super) fn take_from(fields: &mut Fields<'_>) -> Result<ScrapeLimits, Error> {
        Ok(ScrapeLimits {
            body_size: fields.take_default("body_size_limit")?,
            samples: fields.take_default("sample_limit")?,
            targets: fields.take_default("target_limit")?,
            labels: fields.take_default("label_limit")?,
            label_name_length: fields.take_default("label_name_length_limit")?,
            label_value_length: fields.take_default("label_value_length_limit")?,
        })
    }

    /// Fills what is 0 from `defaults`.
    pub(super) fn inherit(&mut self, defaults: &ScrapeLimits) {
        if self.body_size.0 == 0 {
            self.body_size = defaults.body_size;
        }
        for (mine, default) in [
            (&mut self.samples, defaults.samples),
            (&mut self.targets, defaults.targets),
            (&mut self.labels, defaults.labels),
            (&mut self.label_name_length, defaults.label_name_length),
            (&mut self.label_value_length, defaults.label_value_length),
        ] {
            if *mine == 0 {
                *mine = default;
            }
        }
    }

    pub(super) fn push_yaml(&self, pairs: &mut Vec<(String, Node)>) {
        if self.body_size.0 > 0 {
            pairs.push(("body_size_limit".to_owned(), Node::plain(self.body_size)));
        }
        push_number(pairs, "sample_limit", self.samples);
        push_number(pairs, "target_limit", self.targets);
        push_number(pairs, "label_limit", self.labels);
        push_number(pairs, "label_name_length_limit", self.label_name_length);
        push_number(pairs, "label_value_length_limit", self.label_value_length);
    }
}

pub(super) fn push_number(pairs: &mut Vec<(String, Node)>, key: &str, number: usize) {
    if number > 0 {
        pairs.push((key.to_owned(), Node::plain(number)));
    }
}

pub(super) fn push_flag(pairs: &mut Vec<(String, Node)>, key: &str, flag: bool) {
    pairs.push((key.to_owned(), Node::plain(flag)));
}

pub(super) fn protocols_to_yaml(protocols: &[ScrapeProtocol]) -> Node {
    Node::sequence(protocols.iter().map(|protocol| Node::string(protocol.name())))
}

/// `global`: what holds for every job that does not say otherwise, and what rules and the server take from here.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalConfig {
    pub scrape_interval: PromDuration,
    pub scrape_timeout: PromDuration,
    /// `None` where not configured: each job has its own default then.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    pub evaluation_interval: PromDuration,
    pub rule_query_offset: PromDuration,
    pub query_log_file: String,
    pub scrape_failure_log_file: String,
    /// As written: references to environment variables are not expanded.
    pub external_labels: BTreeMap<String, String>,
    pub limits: ScrapeLimits,
    pub keep_dropped_targets: usize,
    pub metric_name_validation_scheme: ValidationScheme,
    /// Empty where not configured; checked by [`super::ScrapeConfig::validate`], as Prometheus does.
    pub metric_name_escaping_scheme: String,
    pub scrape_native_histograms: bool,
    pub convert_classic_histograms_to_nhcb: bool,
    pub always_scrape_classic_histograms: bool,
    pub extra_scrape_metrics: bool,
}

impl Default for GlobalConfig {
    fn default() -> GlobalConfig {
        GlobalConfig {
            scrape_interval: PromDuration::from_secs(60),
            scrape_timeout: PromDuration::from_secs(10),
            scrape_protocols: None,
            evaluation_interval: PromDuration::from_secs(60),
            rule_query_offset: PromDuration::default(),
            query_log_file: String::new(),
            scrape_failure_log_file: String::new(),
            external_labels: BTreeMap::new(),
            limits: ScrapeLimits::default(),
            keep_dropped_targets: 0,
            metric_name_validation_scheme: ValidationScheme::default(),
            metric_name_escaping_scheme: String::new(),
            scrape_native_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
        }
    }
}

impl FromYaml for GlobalConfig {
    fn type_name() -> String {
        "config.plain".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<GlobalConfig, Error> {
        let mut fields = Fields::of(node, "config.plain")?;
        let defaults = GlobalConfig::default();
        let protocols: Option<Vec<String>> = fields.take_list("scrape_protocols", "[]config.ScrapeProtocol")?;
        let validation: Option<Option<ValidationScheme>> = fields.take("metric_name_validation_scheme")?;
        let mut config = GlobalConfig {
            scrape_interval: fields.take_default("scrape_interval")?,
            scrape_timeout: fields.take_default("scrape_timeout")?,
            scrape_protocols: None,
            evaluation_interval: fields.take_default("evaluation_interval")?,
            rule_query_offset: fields.take_default("rule_query_offset")?,
            query_log_file: fields.take_default("query_log_file")?,
            scrape_failure_log_file: fields.take_default("scrape_failure_log_file")?,
            external_labels: fields.take_default("external_labels")?,
            limits: ScrapeLimits::take_from(&mut fields)?,
            keep_dropped_targets: fields.take_default("keep_dropped_targets")?,
            metric_name_validation_scheme: validation.flatten().unwrap_or_default(),
            metric_name_escaping_scheme: fields.take_default("metric_name_escaping_scheme")?,
            scrape_native_histograms: fields.take_default("scrape_native_histograms")?,
            convert_classic_histograms_to_nhcb: fields.take_default("convert_classic_histograms_to_nhcb")?,
            always_scrape_classic_histograms: fields.take_default("always_scrape_classic_histograms")?,
            extra_scrape_metrics: fields.take_default("extra_scrape_metrics")?,
        };
        fields.finish()?;
        for name in config.external_labels.keys() {
            if !config.metric_name_validation_scheme.accepts_label(name) {
                return Err(Error::Invalid(format!("{name:?} is not a valid label name")));
            }
        }
        if config.scrape_interval.ms() == 0 {
            config.scrape_interval = defaults.scrape_interval;
        }
        if config.scrape_timeout > config.scrape_interval {
            return Err(Error::Invalid("global scrape timeout greater than scrape interval".to_owned()));
        }
        if config.scrape_timeout.ms() == 0 {
            config.scrape_timeout = defaults.scrape_timeout.min(config.scrape_interval);
        }
        if config.evaluation_interval.ms() == 0 {
            config.evaluation_interval = defaults.evaluation_interval;
        }
        if let Some(names) = protocols {
            let checked = parse_protocols(&names);
            config.scrape_protocols =
                Some(checked.map_err(|error| Error::Invalid(format!("{error} for global config")))?);
        }
        Ok(config)
    }
}

impl GlobalConfig {
    /// Makes relative paths relative to `directory`.
    pub fn set_directory(&mut self, directory: &Path) {
        self.query_log_file = join_directory(directory, &self.query_log_file);
        self.scrape_failure_log_file = join_directory(directory, &self.scrape_failure_log_file);
    }

    /// The section as the configuration page shows it.
    pub fn to_yaml(&self) -> Node {
        let mut pairs = vec![
            ("scrape_interval".to_owned(), Node::plain(self.scrape_interval)),
            ("scrape_timeout".to_owned(), Node::plain(self.scrape_timeout)),
        ];
        if let Some(protocols) = &self.scrape_protocols {
            pairs.push(("scrape_protocols".to_owned(), protocols_to_yaml(protocols)));
        }
        pairs.push(("evaluation_interval".to_owned(), Node::plain(self.evaluation_interval)));
        if self.rule_query_offset.ms() > 0 {
            pairs.push(("rule_query_offset".to_owned(), Node::plain(self.rule_query_offset)));
        }
        push_text(&mut pairs, "query_log_file", &self.query_log_file);
        push_text(&mut pairs, "scrape_failure_log_file", &self.scrape_failure_log_file);
        if !self.external_labels.is_empty() {
            let labels = self.external_labels.iter().map(|(name, value)| (name.clone(), Node::string(value)));
            pairs.push(("external_labels".to_owned(), Node::mapping(labels)));
        }
        self.limits.push_yaml(&mut pairs);
        push_number(&mut pairs, "keep_dropped_targets", self.keep_dropped_targets);
        push_text(&mut pairs, "metric_name_validation_scheme", self.metric_name_validation_scheme.name());
        push_text(&mut pairs, "metric_name_escaping_scheme", &self.metric_name_escaping_scheme);
        push_flag(&mut pairs, "scrape_native_histograms", self.scrape_native_histograms);
        for (key, flag) in [
            ("convert_classic_histograms_to_nhcb", self.convert_classic_histograms_to_nhcb),
            ("always_scrape_classic_histograms", self.always_scrape_classic_histograms),
        ] {
            if flag {
                push_flag(&mut pairs, key, true);
            }
        }
        push_flag(&mut pairs, "extra_scrape_metrics", self.extra_scrape_metrics);
        Node::mapping(pairs)
    }
}
