//! Discovery that asks DNS servers or Consul.

use std::collections::BTreeMap;

use super::http_client::{push_list, push_text};
use super::yaml::{Fields, FromYaml, Node};
use super::{BasicAuth, Error, HttpClientConfig, PromDuration, Secret};

/// What DNS is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRecord {
    Srv,
    A,
    Aaaa,
    Mx,
    Ns,
}

/// One entry of `dns_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSdConfig {
    pub names: Vec<String>,
    pub refresh_interval: PromDuration,
    /// As written; [`DnsSdConfig::record`] is what it means.
    kind: String,
    pub record: DnsRecord,
    /// For records that have none of their own.
    pub port: u16,
}

impl FromYaml for DnsSdConfig {
    fn type_name() -> String {
        "*dns.SDConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<DnsSdConfig, Error> {
        let mut fields = Fields::of(node, "dns.plain")?;
        let names: Vec<String> = fields.take_default("names")?;
        let refresh_interval = fields.take_default::<PromDuration>("refresh_interval")?.or(PromDuration::from_secs(30));
        let kind = fields.take_or("type", "SRV".to_owned())?;
        let port: i64 = fields.take_default("port")?;
        fields.finish()?;
        let refuse = |reason: String| Err(Error::Invalid(reason));
        if names.is_empty() {
            return refuse("DNS-SD config must contain at least one SRV record name".to_owned());
        }
        let record = match kind.to_uppercase().as_str() {
            "SRV" => DnsRecord::Srv,
            "A" => DnsRecord::A,
            "AAAA" => DnsRecord::Aaaa,
            "MX" => DnsRecord::Mx,
            "NS" => DnsRecord::Ns,
            _ => return refuse(format!("invalid DNS-SD records type {kind}")),
        };
        if record != DnsRecord::Srv && port == 0 {
            return refuse("a port is required in DNS-SD configs for all record types except SRV".to_owned());
        }
        let Ok(port) = u16::try_from(port) else { return refuse(format!("invalid DNS-SD port {port}")) };
        Ok(DnsSdConfig { names, refresh_interval, kind, record, port })
    }
}

impl DnsSdConfig {
    pub fn to_yaml(&self) -> Node {
        Node::mapping([
            ("names".to_owned(), Node::sequence(self.names.iter().map(Node::string))),
            ("refresh_interval".to_owned(), Node::plain(self.refresh_interval)),
            ("type".to_owned(), Node::string(&self.kind)),
            ("port".to_owned(), Node::plain(self.port)),
        ])
    }
}

/// One entry of `consul_sd_configs`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsulSdConfig {
    pub server: String,
    pub path_prefix: String,
    pub token: Secret,
    /// Empty: the one of the agent that is asked.
    pub datacenter: String,
    pub namespace: String,
    pub partition: String,
    pub tag_separator: String,
    pub scheme: String,
    /// Another way to write `basic_auth`, where these are found again.
    username: String,
    password: Secret,
    pub allow_stale: bool,
    pub refresh_interval: PromDuration,
    /// Empty: all.
    pub services: Vec<String>,
    pub tags: Vec<String>,
    pub node_meta: BTreeMap<String, String>,
    pub filter: String,
    pub health_filter: String,
    pub http: HttpClientConfig,
}

impl FromYaml for ConsulSdConfig {
    fn type_name() -> String {
        "*consul.SDConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<ConsulSdConfig, Error> {
        let mut fields = Fields::of(node, "consul.plain")?;
        let http = HttpClientConfig::take_from(&mut fields);
        let username: String = fields.take_default("username")?;
        let password: Secret = fields.take_default("password")?;
        let mut config = ConsulSdConfig {
            server: fields.take_or("server", "localhost:8500".to_owned())?,
            path_prefix: fields.take_default("path_prefix")?,
            token: fields.take_default("token")?,
            datacenter: fields.take_default("datacenter")?,
            namespace: fields.take_default("namespace")?,
            partition: fields.take_default("partition")?,
            tag_separator: fields.take_or("tag_separator", ",".to_owned())?,
            scheme: fields.take_or("scheme", "http".to_owned())?,
            username,
            password,
            allow_stale: fields.take_or("allow_stale", true)?,
            refresh_interval: fields.take_default::<PromDuration>("refresh_interval")?.or(PromDuration::from_secs(30)),
            services: fields.take_default("services")?,
            tags: fields.take_default("tags")?,
            node_meta: fields.take_map("node_meta", "map[string]string")?,
            filter: fields.take_default("filter")?,
            health_filter: fields.take_default("health_filter")?,
            http: HttpClientConfig::default(),
        };
        fields.finish()?;
        config.http = http?;
        let refuse = |reason: &str| Err(Error::Invalid(reason.to_owned()));
        if config.server.trim().is_empty() {
            return refuse("consul SD configuration requires a server address");
        }
        if !config.username.is_empty() || !config.password.is_empty() {
            if config.http.basic_auth.is_some() {
                return refuse(
                    "at most one of consul SD configuration username and password and basic auth can be configured",
                );
            }
            let (username, password) = (config.username.clone(), config.password.clone());
            config.http.basic_auth = Some(BasicAuth { username, password, ..BasicAuth::default() });
        }
        if !config.token.is_empty() && config.http.authorization.is_some() {
            return refuse("at most one of consul SD token, authorization, or oauth2 can be configured");
        }
        Ok(config)
    }
}

impl ConsulSdConfig {
    pub fn to_yaml(&self) -> Node {
        let mut pairs = Vec::new();
        push_text(&mut pairs, "server", &self.server);
        push_text(&mut pairs, "path_prefix", &self.path_prefix);
        if !self.token.is_empty() {
            pairs.push(("token".to_owned(), self.token.to_yaml()));
        }
        push_text(&mut pairs, "datacenter", &self.datacenter);
        push_text(&mut pairs, "namespace", &self.namespace);
        push_text(&mut pairs, "partition", &self.partition);
        push_text(&mut pairs, "tag_separator", &self.tag_separator);
        push_text(&mut pairs, "scheme", &self.scheme);
        push_text(&mut pairs, "username", &self.username);
        if !self.password.is_empty() {
            pairs.push(("password".to_owned(), self.password.to_yaml()));
        }
        pairs.push(("allow_stale".to_owned(), Node::plain(self.allow_stale)));
        pairs.push(("refresh_interval".to_owned(), Node::plain(self.refresh_interval)));
        push_list(&mut pairs, "services", self.services.iter().map(Node::string));
        push_list(&mut pairs, "tags", self.tags.iter().map(Node::string));
        if !self.node_meta.is_empty() {
            let meta = self.node_meta.iter().map(|(name, value)| (name.clone(), Node::string(value)));
            pairs.push(("node_meta".to_owned(), Node::mapping(meta)));
        }
        push_text(&mut pairs, "filter", &self.filter);
        push_text(&mut pairs, "health_filter", &self.health_filter);
        pairs.extend(self.http.yaml_pairs());
        Node::mapping(pairs)
    }
}
