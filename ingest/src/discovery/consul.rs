//! `consul_sd_configs`: the instances of services that a Consul catalog knows.
//!
//! The catalog and the health of each wanted service are asked at every refresh. Prometheus holds requests open until
//! something changes; here changes are seen a refresh interval later at most.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use super::Found;
use super::http::get_json;
use crate::config::{ConsulSdConfig, TargetGroup};
use crate::http::{HttpClient, HttpError};

/// Services asked about at the same time.
const CONCURRENT: usize = 8;

/// One request.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct ConsulSource {
    config: ConsulSdConfig,
    client: HttpClient,
    /// Known after the agent was asked.
    datacenter: String,
    /// What was found last, by service.
    services: BTreeMap<String, Vec<TargetGroup>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: NodeEntry,
    service: ServiceEntry,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeEntry {
    #[serde(default)]
    node: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    tagged_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceEntry {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    partition: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID", default)]
    id: String,
    #[serde(default)]
    status: String,
}

impl ConsulSource {
    pub fn new(config: &ConsulSdConfig) -> Result<ConsulSource, HttpError> {
        let client = HttpClient::new(&config.http)?;
        let datacenter = config.datacenter.clone();
        Ok(ConsulSource { config: config.clone(), client, datacenter, services: BTreeMap::new() })
    }

    /// Keeps `found` in step with the catalog; what cannot be asked stays as it was.
    pub async fn run(mut self, found: Found) {
        let period = self.config.refresh_interval.as_duration().max(Duration::from_millis(1));
        let mut refresh = tokio::time::interval(period);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            refresh.tick().await;
            match self.refresh().await {
                Ok(()) => found.set(self.services.values().flatten().cloned().collect()),
                Err(error) => {
                    let server = &self.config.server;
                    tracing::error!(server, err = %error, "Error refreshing service list");
                }
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), HttpError> {
        if self.datacenter.is_empty() {
            let agent: serde_json::Value = self.get("/v1/agent/self", &[]).await?;
            let datacenter = agent.pointer("/Config/Datacenter").and_then(serde_json::Value::as_str);
            let missing = || HttpError("invalid value for Config.Datacenter".to_owned());
            self.datacenter = datacenter.ok_or_else(missing)?.to_owned();
        }
        let names = self.names().await?;
        let this = &*self;
        let asked = futures::stream::iter(names.iter().cloned())
            .map(|name| async move {
                let instances = this.instances(&name).await;
                (name, instances)
            })
            .buffer_unordered(CONCURRENT)
            .collect::<Vec<_>>()
            .await;
        self.services.retain(|name, _| names.contains(name));
        for (service, instances) in asked {
            match instances {
                Ok(instances) => {
                    let groups = instances.iter().enumerate();
                    let groups = groups.map(|(index, instance)| self.group(&service, index, instance)).collect();
                    self.services.insert(service, groups);
                }
                Err(error) => tracing::error!(service, err = %error, "Error refreshing service"),
            }
        }
        Ok(())
    }

    /// The services to ask about.
    async fn names(&self) -> Result<Vec<String>, HttpError> {
        let config = &self.config;
        if !config.services.is_empty() && config.tags.is_empty() && config.filter.is_empty() {
            return Ok(config.services.clone());
        }
        let filter = [("filter", config.filter.as_str())];
        let all: BTreeMap<String, Vec<String>> = self.get("/v1/catalog/services", &filter).await?;
        let wanted = |(name, tags): &(String, Vec<String>)| {
            (config.services.is_empty() || config.services.contains(name))
                && config.tags.iter().all(|tag| tags.contains(tag))
        };
        Ok(all.into_iter().filter(wanted).map(|(name, _)| name).collect())
    }

    async fn instances(&self, service: &str) -> Result<Vec<Instance>, HttpError> {
        let mut query: Vec<(&str, &str)> = self.config.tags.iter().map(|tag| ("tag", tag.as_str())).collect();
        query.push(("filter", &self.config.health_filter));
        let mut path = "/v1/health/service/".to_owned();
        for byte in service.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => path.push(char::from(byte)),
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
        self.get(&path, &query).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str, more: &[(&str, &str)]) -> Result<T, HttpError> {
        let config = &self.config;
        let text = format!("{}://{}{}{path}", config.scheme, config.server, config.path_prefix);
        let mut url = reqwest::Url::parse(&text).map_err(|error| HttpError(format!("parse {text:?}: {error}")))?;
        {
            let mut query = url.query_pairs_mut();
            let own = [("dc", &config.datacenter), ("ns", &config.namespace), ("partition", &config.partition)];
            let own = own.iter().map(|(name, value)| (*name, value.as_str()));
            for (name, value) in own.chain(more.iter().copied()).filter(|(_, value)| !value.is_empty()) {
                query.append_pair(name, value);
            }
            for (name, value) in &config.node_meta {
                query.append_pair("node-meta", &format!("{name}:{value}"));
            }
            if config.allow_stale {
                query.append_key_only("stale");
            }
        }
        let token = [("X-Consul-Token", config.token.expose())];
        let headers = if config.token.is_empty() { &[][..] } else { &token };
        let body = tokio::time::timeout(TIMEOUT, get_json(&self.client, url.as_str(), headers)).await;
        let body = body.unwrap_or_else(|_| Err(HttpError(format!("Get {text:?}: context deadline exceeded"))))?;
        serde_json::from_slice(&body).map_err(|error| HttpError(format!("{path}: {error}")))
    }

    fn group(&self, service: &str, index: usize, instance: &Instance) -> TargetGroup {
        let Instance { node, service: entry, checks } = instance;
        let host = if entry.address.is_empty() { &node.address } else { &entry.address };
        let separator = &self.config.tag_separator;
        // The separator stands around all tags, so that a rule need not care for the first and the last.
        let tags = entry.tags.as_deref().unwrap_or_default().join(separator);
        let mut labels = BTreeMap::new();
        for (name, value) in [
            ("service", service),
            ("dc", &self.datacenter),
            ("address", &node.address),
            ("node", &node.node),
            ("namespace", &entry.namespace),
            ("partition", &entry.partition),
            ("tags", &format!("{separator}{tags}{separator}")),
            ("service_address", &entry.address),
            ("service_port", &entry.port.to_string()),
            ("service_id", &entry.id),
            ("health", aggregated_status(checks)),
        ] {
            labels.insert(format!("__meta_consul_{name}"), value.to_owned());
        }
        for (prefix, pairs) in
            [("metadata", &node.meta), ("service_metadata", &entry.meta), ("tagged_address", &node.tagged_addresses)]
        {
            for (name, value) in pairs.iter().flatten() {
                labels.insert(format!("__meta_consul_{prefix}_{}", sanitize(name)), value.clone());
            }
        }
        let targets = vec![join_host_port(host, entry.port)];
        TargetGroup { source: format!("{service}:{index}"), targets, labels }
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn join_host_port(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// `name` as a part of a label's name.
pub(super) fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// The worst of all checks.
fn aggregated_status(checks: &[Check]) -> &'static str {
    let maintenance = |check: &Check| check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:");
    let any = |status: &str| checks.iter().any(|check| check.status == status);
    if checks.iter().any(maintenance) {
        "maintenance"
    } else if any("critical") {
        "critical"
    } else if any("warning") {
        "warning"
    } else {
        "passing"
    }
}
