//! Where targets come from: lists in the configuration, files, HTTP endpoints.

use std::collections::BTreeMap;
use std::path::Path;

use super::http_client::push_list;
use super::yaml::{Fields, FromYaml, Node};
use super::{ConsulSdConfig, DnsSdConfig, Error, HttpClientConfig, KubernetesSdConfig, PromDuration, join_directory};

/// One source of targets of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceDiscovery {
    /// `static_configs`, all of them.
    Static(Vec<TargetGroup>),
    File(FileSdConfig),
    Http(Box<HttpSdConfig>),
    Dns(DnsSdConfig),
    Consul(Box<ConsulSdConfig>),
    Kubernetes(Box<KubernetesSdConfig>),
    /// A mechanism that Prometheus has and this server has not; refused by [`super::ScrapeConfig::validate`].
    NotBuilt {
        section: &'static str,
        line: usize,
    },
}

/// Addresses with the labels they share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Distinguishes the groups of one discovery: its index, its file and index, or its URL and index.
    pub source: String,
    /// Addresses as written: `host:port`.
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// One entry of `file_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSdConfig {
    /// Paths whose last element may hold `*`, `?` and `[a-z]`.
    pub files: Vec<String>,
    pub refresh_interval: PromDuration,
}

/// One entry of `http_sd_configs`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSdConfig {
    pub url: String,
    pub refresh_interval: PromDuration,
    pub http: HttpClientConfig,
}

/// Sections of Prometheus that are recognised and refused, with the Go type of their entries.
const NOT_BUILT: [(&str, &str); 31] = [
    ("aws_sd_configs", "aws"),
    ("azure_sd_configs", "azure"),
    ("digitalocean_sd_configs", "digitalocean"),
    ("docker_sd_configs", "moby.Docker"),
    ("dockerswarm_sd_configs", "moby.DockerSwarm"),
    ("ec2_sd_configs", "aws.EC2"),
    ("eureka_sd_configs", "eureka"),
    ("gce_sd_configs", "gce"),
    ("hetzner_sd_configs", "hetzner"),
    ("ionos_sd_configs", "ionos"),
    ("kuma_sd_configs", "xds.Kuma"),
    ("lightsail_sd_configs", "aws.Lightsail"),
    ("linode_sd_configs", "linode"),
    ("marathon_sd_configs", "marathon"),
    ("nerve_sd_configs", "zookeeper.Nerve"),
    ("nomad_sd_configs", "nomad"),
    ("oci_sd_configs", "oci"),
    ("openstack_sd_configs", "openstack"),
    ("outscale_sd_configs", "outscale"),
    ("ovhcloud_sd_configs", "ovhcloud"),
    ("puppetdb_sd_configs", "puppetdb"),
    ("scaleway_sd_configs", "scaleway"),
    ("serverset_sd_configs", "zookeeper.Serverset"),
    ("stackit_sd_configs", "stackit"),
    ("triton_sd_configs", "triton"),
    ("uyuni_sd_configs", "uyuni"),
    ("vultr_sd_configs", "vultr"),
    ("ecs_sd_configs", "aws.ECS"),
    ("elasticache_sd_configs", "aws.Elasticache"),
    ("msk_sd_configs", "aws.MSK"),
    ("rds_sd_configs", "aws.RDS"),
];

impl ServiceDiscovery {
    /// Takes every discovery key out of a section that has others too.
    ///
    /// # Errors
    /// Prometheus's texts for empty entries and bad values.
    pub fn take_from(fields: &mut Fields<'_>) -> Result<Vec<ServiceDiscovery>, Error> {
        let mut found = Vec::new();
        for (section, go) in NOT_BUILT {
            let line = fields.line(section);
            let go_name = match go.contains('.') {
                true => format!("[]*{go}SDConfig"),
                false => format!("[]*{go}.SDConfig"),
            };
            let entries: Vec<Option<Node>> = fields.take_list(section, &go_name)?.unwrap_or_default();
            no_null(section, &entries)?;
            if !entries.is_empty() {
                found.push(ServiceDiscovery::NotBuilt { section, line });
            }
        }
        let agents: Vec<Option<ConsulSdConfig>> =
            fields.take_list("consul_sd_configs", "[]*consul.SDConfig")?.unwrap_or_default();
        no_null("consul_sd_configs", &agents)?;
        found.extend(agents.into_iter().flatten().map(|config| ServiceDiscovery::Consul(Box::new(config))));
        let names: Vec<Option<DnsSdConfig>> =
            fields.take_list("dns_sd_configs", "[]*dns.SDConfig")?.unwrap_or_default();
        no_null("dns_sd_configs", &names)?;
        found.extend(names.into_iter().flatten().map(ServiceDiscovery::Dns));
        let files: Vec<Option<FileSdConfig>> =
            fields.take_list("file_sd_configs", "[]*file.SDConfig")?.unwrap_or_default();
        no_null("file_sd_configs", &files)?;
        found.extend(files.into_iter().flatten().map(ServiceDiscovery::File));
        let endpoints: Vec<Option<HttpSdConfig>> =
            fields.take_list("http_sd_configs", "[]*http.SDConfig")?.unwrap_or_default();
        no_null("http_sd_configs", &endpoints)?;
        found.extend(endpoints.into_iter().flatten().map(|config| ServiceDiscovery::Http(Box::new(config))));
        let clusters: Vec<Option<KubernetesSdConfig>> =
            fields.take_list("kubernetes_sd_configs", "[]*kubernetes.SDConfig")?.unwrap_or_default();
        no_null("kubernetes_sd_configs", &clusters)?;
        found.extend(clusters.into_iter().flatten().map(|config| ServiceDiscovery::Kubernetes(Box::new(config))));
        let groups: Vec<Option<TargetGroup>> =
            fields.take_list("static_configs", "[]*targetgroup.Group")?.unwrap_or_default();
        no_null("static_configs", &groups)?;
        let groups = groups.into_iter().flatten().enumerate();
        let groups: Vec<TargetGroup> =
            groups.map(|(index, group)| TargetGroup { source: index.to_string(), ..group }).collect();
        if !groups.is_empty() {
            found.push(ServiceDiscovery::Static(groups));
        }
        Ok(found)
    }

    /// Makes relative paths relative to `directory`.
    pub fn set_directory(&mut self, directory: &Path) {
        match self {
            ServiceDiscovery::Static(_) | ServiceDiscovery::Dns(_) | ServiceDiscovery::NotBuilt { .. } => {}
            ServiceDiscovery::Consul(config) => config.http.set_directory(directory),
            ServiceDiscovery::Kubernetes(config) => config.set_directory(directory),
            ServiceDiscovery::File(config) => config.set_directory(directory),
            ServiceDiscovery::Http(config) => config.http.set_directory(directory),
        }
    }

    /// The sections as the configuration page shows them.
    pub(super) fn push_yaml(all: &[ServiceDiscovery], pairs: &mut Vec<(String, Node)>) {
        let agents = all.iter().filter_map(|discovery| match discovery {
            ServiceDiscovery::Consul(config) => Some(config.to_yaml()),
            _ => None,
        });
        push_list(pairs, "consul_sd_configs", agents);
        let names = all.iter().filter_map(|discovery| match discovery {
            ServiceDiscovery::Dns(config) => Some(config.to_yaml()),
            _ => None,
        });
        push_list(pairs, "dns_sd_configs", names);
        let files = all.iter().filter_map(|discovery| match discovery {
            ServiceDiscovery::File(config) => Some(config.to_yaml()),
            _ => None,
        });
        push_list(pairs, "file_sd_configs", files);
        let endpoints = all.iter().filter_map(|discovery| match discovery {
            ServiceDiscovery::Http(config) => Some(config.to_yaml()),
            _ => None,
        });
        push_list(pairs, "http_sd_configs", endpoints);
        let clusters = all.iter().filter_map(|discovery| match discovery {
            ServiceDiscovery::Kubernetes(config) => Some(config.to_yaml()),
            _ => None,
        });
        push_list(pairs, "kubernetes_sd_configs", clusters);
        let groups = all.iter().filter_map(|discovery| match discovery {
            ServiceDiscovery::Static(groups) => Some(groups.iter().map(TargetGroup::to_yaml)),
            _ => None,
        });
        push_list(pairs, "static_configs", groups.flatten());
    }
}

fn no_null<T>(section: &str, entries: &[Option<T>]) -> Result<(), Error> {
    match entries.iter().all(Option::is_some) {
        true => Ok(()),
        false => Err(Error::Invalid(format!("empty or null section in {section}"))),
    }
}

impl TargetGroup {
    pub fn to_yaml(&self) -> Node {
        let targets = Node::sequence(self.targets.iter().map(Node::string));
        let mut pairs = vec![("targets".to_owned(), targets)];
        if !self.labels.is_empty() {
            let labels = self.labels.iter().map(|(name, value)| (name.clone(), Node::string(value)));
            pairs.push(("labels".to_owned(), Node::mapping(labels)));
        }
        Node::mapping(pairs)
    }
}

impl FromYaml for TargetGroup {
    fn type_name() -> String {
        "*targetgroup.Group".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<TargetGroup, Error> {
        const GO: &str = r#"struct { Targets []string "yaml:\"targets\""; Labels model.LabelSet "yaml:\"labels\"" }"#;
        let mut fields = Fields::of(node, GO)?;
        let targets = fields.take_default("targets")?;
        let labels: BTreeMap<String, String> = fields.take_map("labels", "model.LabelSet")?;
        fields.finish()?;
        if labels.contains_key("") {
            return Err(Error::Invalid("\"\" is not a valid label name".to_owned()));
        }
        Ok(TargetGroup { source: String::new(), targets, labels })
    }
}

impl FileSdConfig {
    pub fn set_directory(&mut self, directory: &Path) {
        for file in &mut self.files {
            *file = join_directory(directory, file);
        }
    }

    pub fn to_yaml(&self) -> Node {
        Node::mapping([
            ("files".to_owned(), Node::sequence(self.files.iter().map(Node::string))),
            ("refresh_interval".to_owned(), Node::plain(self.refresh_interval)),
        ])
    }
}

impl FromYaml for FileSdConfig {
    fn type_name() -> String {
        "*file.SDConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<FileSdConfig, Error> {
        let mut fields = Fields::of(node, "file.plain")?;
        let files: Vec<String> = fields.take_default("files")?;
        let refresh_interval =
            fields.take_default::<PromDuration>("refresh_interval")?.or(PromDuration::from_secs(300));
        fields.finish()?;
        if files.is_empty() {
            let reason = "file service discovery config must contain at least one path name";
            return Err(Error::Invalid(reason.to_owned()));
        }
        for path in &files {
            // Wildcards in the last element only, and a known ending, in any letter case as long as it is one case.
            let (stem, ending) = path.rsplit_once('.').unwrap_or((path, ""));
            let directory = stem.rsplit_once('/').map_or("", |(directory, _)| directory);
            let known = ["json", "yml", "yaml", "JSON", "YML", "YAML"].contains(&ending);
            if !known || directory.contains('*') {
                return Err(Error::Invalid(format!("path name {path:?} is not valid for file discovery")));
            }
        }
        Ok(FileSdConfig { files, refresh_interval })
    }
}

impl HttpSdConfig {
    pub fn to_yaml(&self) -> Node {
        let mut pairs = self.http.yaml_pairs();
        pairs.push(("refresh_interval".to_owned(), Node::plain(self.refresh_interval)));
        pairs.push(("url".to_owned(), Node::string(&self.url)));
        Node::mapping(pairs)
    }
}

impl FromYaml for HttpSdConfig {
    fn type_name() -> String {
        "*http.SDConfig".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<HttpSdConfig, Error> {
        let mut fields = Fields::of(node, "http.plain")?;
        let url: String = fields.take_default("url")?;
        let refresh_interval = fields.take_default::<PromDuration>("refresh_interval")?.or(PromDuration::from_secs(60));
        let http = HttpClientConfig::take_from(&mut fields);
        fields.finish()?;
        let refuse = |reason: &str| Err(Error::Invalid(reason.to_owned()));
        if url.is_empty() {
            return refuse("URL is missing");
        }
        let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
            return refuse("URL scheme must be 'http' or 'https'");
        };
        if rest.is_empty() || rest.starts_with('/') {
            return refuse("host is missing in URL");
        }
        Ok(HttpSdConfig { url, refresh_interval, http: http? })
    }
}
