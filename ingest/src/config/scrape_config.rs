//! One entry of `scrape_configs`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::global::{parse_protocols, protocols_to_yaml, push_flag, push_number};
use super::http_client::{push_list, push_text};
use super::yaml::{Fields, FromYaml, Node};
use super::{
    Error, EscapingScheme, GlobalConfig, HttpClientConfig, PromDuration, ScrapeLimits, ScrapeProtocol,
    ServiceDiscovery, ValidationScheme, join_directory,
};
use crate::relabel::RelabelConfig;
use pilaster_model::histogram::{MAX_SCHEMA, MIN_SCHEMA};

/// A job: where its targets come from and how they are scraped.
///
/// After [`ScrapeConfig::validate`] every `None` that has a default is filled.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    /// Query parameters of the scrape's URL.
    pub params: BTreeMap<String, Vec<String>>,
    pub scrape_interval: PromDuration,
    pub scrape_timeout: PromDuration,
    /// Names as written; [`ScrapeConfig::protocols`] has them checked.
    scrape_protocols: Option<Vec<String>>,
    fallback_scrape_protocol: String,
    protocols: Vec<ScrapeProtocol>,
    fallback_protocol: Option<ScrapeProtocol>,
    pub scrape_native_histograms: Option<bool>,
    pub always_scrape_classic_histograms: Option<bool>,
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    pub scrape_failure_log_file: String,
    pub metrics_path: String,
    pub scheme: String,
    pub enable_compression: bool,
    pub limits: ScrapeLimits,
    pub native_histogram_bucket_limit: usize,
    pub native_histogram_min_bucket_factor: f64,
    pub keep_dropped_targets: usize,
    pub metric_name_validation_scheme: Option<ValidationScheme>,
    metric_name_escaping_scheme: String,
    escaping: EscapingScheme,
    pub extra_scrape_metrics: Option<bool>,
    pub http: HttpClientConfig,
    pub relabel_configs: Vec<RelabelConfig>,
    pub metric_relabel_configs: Vec<RelabelConfig>,
    pub discoveries: Vec<ServiceDiscovery>,
}

impl FromYaml for ScrapeConfig {
    fn type_name() -> String {
        "*config.ScrapeConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<ScrapeConfig, Error> {
        let mut fields = Fields::of(node, "config.ScrapeConfig")?;
        let validation: Option<Option<ValidationScheme>> = fields.take("metric_name_validation_scheme")?;
        let discoveries = ServiceDiscovery::take_from(&mut fields)?;
        let relabel_configs: Vec<Option<RelabelConfig>> =
            fields.take_list("relabel_configs", "[]*relabel.Config")?.unwrap_or_default();
        let metric_relabel_configs: Vec<Option<RelabelConfig>> =
            fields.take_list("metric_relabel_configs", "[]*relabel.Config")?.unwrap_or_default();
        let http = HttpClientConfig::take_from(&mut fields);
        let config = ScrapeConfig {
            job_name: fields.take_default("job_name")?,
            honor_labels: fields.take_default("honor_labels")?,
            honor_timestamps: fields.take_or("honor_timestamps", true)?,
            track_timestamps_staleness: fields.take_default("track_timestamps_staleness")?,
            params: fields.take_map("params", "url.Values")?,
            scrape_interval: fields.take_default("scrape_interval")?,
            scrape_timeout: fields.take_default("scrape_timeout")?,
            scrape_protocols: fields.take_list("scrape_protocols", "[]config.ScrapeProtocol")?,
            fallback_scrape_protocol: fields.take_default("fallback_scrape_protocol")?,
            protocols: ScrapeProtocol::DEFAULT.to_vec(),
            fallback_protocol: None,
            scrape_native_histograms: fields.take("scrape_native_histograms")?,
            always_scrape_classic_histograms: fields.take("always_scrape_classic_histograms")?,
            convert_classic_histograms_to_nhcb: fields.take("convert_classic_histograms_to_nhcb")?,
            scrape_failure_log_file: fields.take_default("scrape_failure_log_file")?,
            metrics_path: fields.take_or("metrics_path", "/metrics".to_owned())?,
            scheme: fields.take_or("scheme", "http".to_owned())?,
            enable_compression: fields.take_or("enable_compression", true)?,
            limits: ScrapeLimits::take_from(&mut fields)?,
            native_histogram_bucket_limit: fields.take_default("native_histogram_bucket_limit")?,
            native_histogram_min_bucket_factor: fields.take_default("native_histogram_min_bucket_factor")?,
            keep_dropped_targets: fields.take_default("keep_dropped_targets")?,
            metric_name_validation_scheme: validation.flatten(),
            metric_name_escaping_scheme: fields.take_default("metric_name_escaping_scheme")?,
            escaping: EscapingScheme::AllowUtf8,
            extra_scrape_metrics: fields.take("extra_scrape_metrics")?,
            http: HttpClientConfig::default(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            discoveries,
        };
        fields.finish()?;
        let refuse = |reason: String| Err(Error::Invalid(reason));
        if config.job_name.is_empty() {
            return refuse("job_name is empty".to_owned());
        }
        let http = http?;
        if relabel_configs.is_empty() {
            check_static_targets(&config.discoveries)?;
        }
        let all_rules = |rules: Vec<Option<RelabelConfig>>, which: &str| -> Result<Vec<RelabelConfig>, Error> {
            let rules: Option<Vec<RelabelConfig>> = rules.into_iter().collect();
            rules.ok_or_else(|| Error::Invalid(format!("empty or null {which} relabeling rule in scrape config")))
        };
        Ok(ScrapeConfig {
            http,
            relabel_configs: all_rules(relabel_configs, "target")?,
            metric_relabel_configs: all_rules(metric_relabel_configs, "metric")?,
            ..config
        })
    }
}

/// People write URLs where addresses belong; relabelling may still repair them, so this holds only without it.
fn check_static_targets(discoveries: &[ServiceDiscovery]) -> Result<(), Error> {
    for discovery in discoveries {
        let ServiceDiscovery::Static(groups) = discovery else { continue };
        for address in groups.iter().flat_map(|group| &group.targets) {
            check_target_address(address)?;
        }
    }
    Ok(())
}

/// # Errors
/// [`Error::Invalid`] where `address` is a URL.
pub fn check_target_address(address: &str) -> Result<(), Error> {
    match address.contains('/') {
        true => Err(Error::Invalid(format!("{address:?} is not a valid hostname"))),
        false => Ok(()),
    }
}

/// # Errors
/// [`Error::Invalid`] where two jobs share a name.
pub fn check_unique_jobs(configs: &[ScrapeConfig]) -> Result<(), Error> {
    let mut names = HashSet::new();
    for config in configs {
        if !names.insert(&config.job_name) {
            return Err(Error::Invalid(format!("found multiple scrape configs with job name {:?}", config.job_name)));
        }
    }
    Ok(())
}

impl ScrapeConfig {
    /// Fills from `global` what the job leaves open, and checks the whole.
    ///
    /// # Errors
    /// Prometheus's texts; [`Error::NotBuilt`] for discovery mechanisms and protocols that are not built.
    ///
    /// Source: `ScrapeConfig.Validate`, Prometheus v3 `config/config.go`.
    pub fn validate(&mut self, global: &GlobalConfig) -> Result<(), Error> {
        let job = &self.job_name;
        if self.scrape_interval.ms() == 0 {
            self.scrape_interval = global.scrape_interval;
        }
        if self.scrape_timeout > self.scrape_interval {
            return Err(Error::Invalid(format!(
                "scrape timeout greater than scrape interval for scrape config with job name {job:?}"
            )));
        }
        if self.scrape_timeout.ms() == 0 {
            self.scrape_timeout = global.scrape_timeout.min(self.scrape_interval);
        }
        self.limits.inherit(&global.limits);
        if self.keep_dropped_targets == 0 {
            self.keep_dropped_targets = global.keep_dropped_targets;
        }
        if self.scrape_failure_log_file.is_empty() {
            self.scrape_failure_log_file.clone_from(&global.scrape_failure_log_file);
        }
        let histograms = *self.scrape_native_histograms.get_or_insert(global.scrape_native_histograms);
        self.extra_scrape_metrics.get_or_insert(global.extra_scrape_metrics);
        self.protocols = match (&self.scrape_protocols, &global.scrape_protocols) {
            (Some(names), _) => parse_protocols(names)
                .map_err(|error| Error::Invalid(format!("{error} for scrape config with job name {job:?}")))?,
            (None, Some(protocols)) => protocols.clone(),
            (None, None) => ScrapeProtocol::defaults(histograms),
        };
        if !self.fallback_scrape_protocol.is_empty() {
            let protocol = ScrapeProtocol::parse(&self.fallback_scrape_protocol);
            self.fallback_protocol = Some(protocol.map_err(|error| {
                let what = "invalid fallback_scrape_protocol for scrape config with job name";
                Error::Invalid(format!("{what} {job:?}: {error}"))
            })?);
        }
        self.validate_schemes(global)?;
        self.convert_classic_histograms_to_nhcb.get_or_insert(global.convert_classic_histograms_to_nhcb);
        self.always_scrape_classic_histograms.get_or_insert(global.always_scrape_classic_histograms);
        let validation = self.metric_name_validation_scheme.unwrap_or_default();
        for rule in self.relabel_configs.iter_mut().chain(&mut self.metric_relabel_configs) {
            rule.validate(validation)?;
        }
        self.refuse_what_is_not_built()
    }

    fn validate_schemes(&mut self, global: &GlobalConfig) -> Result<(), Error> {
        let global_escaping = EscapingScheme::parse(&global.metric_name_escaping_scheme, "global")?
            .unwrap_or(EscapingScheme::default_for(global.metric_name_validation_scheme));
        let local_validation = self.metric_name_validation_scheme;
        let validation = *self.metric_name_validation_scheme.get_or_insert(global.metric_name_validation_scheme);
        let escaping = EscapingScheme::parse(&self.metric_name_escaping_scheme, "scrape config")?;
        // A job that only asks for legacy names must not inherit a global scheme that contradicts it.
        self.escaping = escaping.unwrap_or(match local_validation {
            Some(validation) => EscapingScheme::default_for(validation),
            None => global_escaping,
        });
        if self.escaping == EscapingScheme::AllowUtf8 && validation != ValidationScheme::Utf8 {
            let reason = "utf8 metric names requested but validation scheme is not set to UTF8";
            return Err(Error::Invalid(reason.to_owned()));
        }
        Ok(())
    }

    fn refuse_what_is_not_built(&self) -> Result<(), Error> {
        let job = &self.job_name;
        for discovery in &self.discoveries {
            if let ServiceDiscovery::NotBuilt { section, line } = discovery {
                return Err(Error::NotBuilt(format!("{section} (line {line}, job {job:?})")));
            }
        }
        Ok(())
    }

    /// The configured protocols, best first; set by [`ScrapeConfig::validate`].
    pub fn protocols(&self) -> &[ScrapeProtocol] {
        &self.protocols
    }

    /// The finest schema in which native histograms are kept, from `native_histogram_min_bucket_factor`.
    pub fn finest_histogram_schema(&self) -> i32 {
        let factor = self.native_histogram_min_bucket_factor;
        // The factor of schema 8, a little less than exactly.
        let factor = if factor <= 1.0 { 1.00271 } else { factor };
        (-factor.log2().log2()).floor().clamp(f64::from(MIN_SCHEMA), f64::from(MAX_SCHEMA)) as i32
    }

    /// How a response without a usable content type is read; `None`: not at all.
    pub fn fallback_protocol(&self) -> Option<ScrapeProtocol> {
        self.fallback_protocol
    }

    /// How targets are asked to escape names; set by [`ScrapeConfig::validate`].
    pub fn escaping(&self) -> EscapingScheme {
        self.escaping
    }

    pub fn validation(&self) -> ValidationScheme {
        self.metric_name_validation_scheme.unwrap_or_default()
    }

    /// Makes relative paths relative to `directory`.
    pub fn set_directory(&mut self, directory: &Path) {
        self.http.set_directory(directory);
        self.discoveries.iter_mut().for_each(|discovery| discovery.set_directory(directory));
        self.scrape_failure_log_file = join_directory(directory, &self.scrape_failure_log_file);
    }

    /// The job as the configuration page shows it: with defaults, secrets hidden.
    pub fn to_yaml(&self) -> Node {
        let mut pairs = vec![("job_name".to_owned(), Node::string(&self.job_name))];
        if self.honor_labels {
            push_flag(&mut pairs, "honor_labels", true);
        }
        push_flag(&mut pairs, "honor_timestamps", self.honor_timestamps);
        push_flag(&mut pairs, "track_timestamps_staleness", self.track_timestamps_staleness);
        if !self.params.is_empty() {
            let params = self.params.iter();
            let params = params.map(|(key, values)| (key.clone(), Node::sequence(values.iter().map(Node::string))));
            pairs.push(("params".to_owned(), Node::mapping(params)));
        }
        pairs.push(("scrape_interval".to_owned(), Node::plain(self.scrape_interval)));
        pairs.push(("scrape_timeout".to_owned(), Node::plain(self.scrape_timeout)));
        pairs.push(("scrape_protocols".to_owned(), protocols_to_yaml(&self.protocols)));
        push_text(&mut pairs, "fallback_scrape_protocol", &self.fallback_scrape_protocol);
        push_optional(&mut pairs, "scrape_native_histograms", self.scrape_native_histograms);
        push_optional(&mut pairs, "always_scrape_classic_histograms", self.always_scrape_classic_histograms);
        push_optional(&mut pairs, "convert_classic_histograms_to_nhcb", self.convert_classic_histograms_to_nhcb);
        push_text(&mut pairs, "scrape_failure_log_file", &self.scrape_failure_log_file);
        push_text(&mut pairs, "metrics_path", &self.metrics_path);
        push_text(&mut pairs, "scheme", &self.scheme);
        push_flag(&mut pairs, "enable_compression", self.enable_compression);
        self.limits.push_yaml(&mut pairs);
        push_number(&mut pairs, "native_histogram_bucket_limit", self.native_histogram_bucket_limit);
        if self.native_histogram_min_bucket_factor != 0.0 {
            let factor = Node::plain(self.native_histogram_min_bucket_factor);
            pairs.push(("native_histogram_min_bucket_factor".to_owned(), factor));
        }
        push_number(&mut pairs, "keep_dropped_targets", self.keep_dropped_targets);
        push_text(&mut pairs, "metric_name_validation_scheme", self.validation().name());
        push_text(&mut pairs, "metric_name_escaping_scheme", self.escaping.name());
        push_optional(&mut pairs, "extra_scrape_metrics", self.extra_scrape_metrics);
        pairs.extend(self.http.yaml_pairs());
        push_list(&mut pairs, "relabel_configs", self.relabel_configs.iter().map(RelabelConfig::to_yaml));
        push_list(&mut pairs, "metric_relabel_configs", self.metric_relabel_configs.iter().map(RelabelConfig::to_yaml));
        ServiceDiscovery::push_yaml(&self.discoveries, &mut pairs);
        Node::mapping(pairs)
    }
}

fn push_optional(pairs: &mut Vec<(String, Node)>, key: &str, flag: Option<bool>) {
    if let Some(flag) = flag {
        push_flag(pairs, key, flag);
    }
}
