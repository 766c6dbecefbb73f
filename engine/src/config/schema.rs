//! What prometheus.yml may hold: every key, its form, its default and the name of its type upstream.
//!
//! One table serves two readers: the check for unknown keys and wrong types, and the printing of the effective
//! configuration. Fields stand in the order in which Prometheus prints. `global` and `scrape_configs` belong to the ingest
//! crate, and so does all YAML.

use pilaster_ingest::config::yaml::{FromYaml, Node};
use pilaster_ingest::config::{Error, GlobalConfig, ScrapeConfig};

/// The form of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    Bool,
    /// An integer of the named Go type.
    Int(&'static str),
    Float,
    Duration,
    /// Shown as `<secret>`.
    Secret,
    /// A URL, whose password is not shown.
    Url,
    Bytes,
    /// Options of an object store, by name; those that may be secret are not shown.
    StoreOptions,
    /// Anything, printed as given: service discovery that is not built yet.
    Any,
    List(&'static Shape, &'static str),
    /// A list that Prometheus prints in brackets on one line.
    FlowList(&'static Shape, &'static str),
    Map(&'static Shape, &'static str),
    Record(&'static Record),
    /// Read by its owner in the ingest crate, which also prints it.
    Owned(fn(&Node) -> Result<(), Error>),
}

/// A map with known keys.
#[derive(Debug)]
pub(super) struct Record {
    /// The name of the type in Prometheus's messages.
    pub go: &'static str,
    pub groups: &'static [&'static [Field]],
}

impl Record {
    /// All keys, in the order in which Prometheus prints them.
    pub fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

/// One key of a record.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub shape: Shape,
    /// What an absent key stands for, as YAML in one line; empty where absent means absent.
    pub default: &'static str,
    /// Printed although it holds the zero value.
    pub always: bool,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, default: "", always: false }
}

const fn with_default(name: &'static str, shape: Shape, default: &'static str) -> Field {
    Field { name, shape, default, always: true }
}

use Shape::{Any, Bool, Bytes, Duration, Float, FlowList, Int, List, Map, Secret, Text, Url};

const TEXTS: Shape = List(&Text, "[]string");
const TEXT_MAP: Shape = Map(&Text, "map[string]string");
const HEADERS: Shape = Map(
    &Shape::Record(&Record {
        go: "config.Header",
        groups: &[&[field("values", TEXTS), field("secrets", List(&Secret, "[]config.Secret")), field("files", TEXTS)]],
    }),
    "map[string]config.Header",
);
const UINT64: Shape = Int("uint64");
const INT: Shape = Int("int");

const TLS: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[&[
        field("ca", Text),
        field("cert", Text),
        field("key", Secret),
        field("ca_file", Text),
        field("cert_file", Text),
        field("key_file", Text),
        field("ca_ref", Text),
        field("cert_ref", Text),
        field("key_ref", Text),
        field("server_name", Text),
        with_default("insecure_skip_verify", Bool, "false"),
        field("min_version", Text),
        field("max_version", Text),
    ]],
});
const BASIC_AUTH: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[&[
        field("username", Text),
        field("username_file", Text),
        field("username_ref", Text),
        field("password", Secret),
        field("password_file", Text),
        field("password_ref", Text),
    ]],
});
const AUTHORIZATION: Shape = Shape::Record(&Record {
    go: "config.Authorization",
    groups: &[&[
        with_default("type", Text, "Bearer"),
        field("credentials", Secret),
        field("credentials_file", Text),
        field("credentials_ref", Text),
    ]],
});
const OAUTH2: Shape = Shape::Record(&Record {
    go: "config.OAuth2",
    groups: &[&[
        field("client_id", Text),
        field("client_secret", Secret),
        field("client_secret_file", Text),
        field("client_secret_ref", Text),
        field("client_certificate_key_id", Text),
        field("client_certificate_key", Secret),
        field("client_certificate_key_file", Text),
        field("client_certificate_key_ref", Text),
        field("grant_type", Text),
        field("signature_algorithm", Text),
        field("iss", Text),
        field("audience", Text),
        field("claims", Any),
        field("scopes", TEXTS),
        field("token_url", Text),
        field("endpoint_params", TEXT_MAP),
        field("tls_config", TLS),
        field("proxy_url", Url),
        field("no_proxy", Text),
        field("proxy_from_environment", Bool),
        field("proxy_connect_header", Any),
    ]],
});

/// The keys that every HTTP client section has; they stand between the section's own keys.
const HTTP_CLIENT: &[Field] = &[
    field("basic_auth", BASIC_AUTH),
    field("authorization", AUTHORIZATION),
    field("oauth2", OAUTH2),
    field("bearer_token", Secret),
    field("bearer_token_file", Text),
    field("tls_config", TLS),
    with_default("follow_redirects", Bool, "true"),
    with_default("enable_http2", Bool, "true"),
    field("proxy_url", Url),
    field("no_proxy", Text),
    field("proxy_from_environment", Bool),
    field("proxy_connect_header", Any),
    field("http_headers", HEADERS),
];
/// The same for remote write, where HTTP/2 is off by default.
const HTTP_CLIENT_1: &[Field] = &[
    field("basic_auth", BASIC_AUTH),
    field("authorization", AUTHORIZATION),
    field("oauth2", OAUTH2),
    field("bearer_token", Secret),
    field("bearer_token_file", Text),
    field("tls_config", TLS),
    with_default("follow_redirects", Bool, "true"),
    with_default("enable_http2", Bool, "false"),
    field("proxy_url", Url),
    field("no_proxy", Text),
    field("proxy_from_environment", Bool),
    field("proxy_connect_header", Any),
    field("http_headers", HEADERS),
];

const SIGV4: Shape = Shape::Record(&Record {
    go: "sigv4.plain",
    groups: &[&[
        field("region", Text),
        field("access_key", Text),
        field("secret_key", Secret),
        field("profile", Text),
        field("role_arn", Text),
        field("external_id", Text),
        field("use_fips_sts_endpoint", Bool),
        field("service_name", Text),
    ]],
});

const RELABEL: Shape = Shape::Record(&Record {
    go: "relabel.plain",
    groups: &[&[
        field("source_labels", FlowList(&Text, "model.LabelNames")),
        with_default("separator", Text, ";"),
        with_default("regex", Text, "(.*)"),
        field("modulus", UINT64),
        field("target_label", Text),
        with_default("replacement", Text, "$1"),
        with_default("action", Text, "replace"),
    ]],
});
const RELABELS: Shape = List(&RELABEL, "[]*relabel.Config");

const STATIC: Shape = Shape::Record(&Record {
    go: "struct { Targets []string \"yaml:\\\"targets\\\"\"; Labels model.LabelSet \"yaml:\\\"labels\\\"\" }",
    groups: &[&[field("targets", TEXTS), field("labels", Map(&Text, "model.LabelSet"))]],
});
const FILE_SD: Shape = Shape::Record(&Record {
    go: "file.plain",
    groups: &[&[field("files", TEXTS), with_default("refresh_interval", Duration, "5m")]],
});
const HTTP_SD: Shape = Shape::Record(&Record {
    go: "http.plain",
    groups: &[HTTP_CLIENT, &[with_default("refresh_interval", Duration, "1m"), field("url", Url)]],
});
const DNS_SD: Shape = Shape::Record(&Record {
    go: "dns.plain",
    groups: &[&[
        field("names", TEXTS),
        with_default("refresh_interval", Duration, "30s"),
        with_default("type", Text, "SRV"),
        field("port", INT),
    ]],
});

/// Service discovery sections of scrape and Alertmanager configurations, in the order in which they are printed.
const DISCOVERY: &[Field] = &[
    field("azure_sd_configs", List(&Any, "[]*azure.SDConfig")),
    field("consul_sd_configs", List(&Any, "[]*consul.SDConfig")),
    field("digitalocean_sd_configs", List(&Any, "[]*digitalocean.SDConfig")),
    field("dns_sd_configs", List(&DNS_SD, "[]*dns.SDConfig")),
    field("docker_sd_configs", List(&Any, "[]*moby.DockerSDConfig")),
    field("dockerswarm_sd_configs", List(&Any, "[]*moby.DockerSwarmSDConfig")),
    field("ec2_sd_configs", List(&Any, "[]*aws.EC2SDConfig")),
    field("aws_sd_configs", List(&Any, "[]*aws.SDConfig")),
    field("eureka_sd_configs", List(&Any, "[]*eureka.SDConfig")),
    field("file_sd_configs", List(&FILE_SD, "[]*file.SDConfig")),
    field("gce_sd_configs", List(&Any, "[]*gce.SDConfig")),
    field("hetzner_sd_configs", List(&Any, "[]*hetzner.SDConfig")),
    field("http_sd_configs", List(&HTTP_SD, "[]*http.SDConfig")),
    field("ionos_sd_configs", List(&Any, "[]*ionos.SDConfig")),
    field("kubernetes_sd_configs", List(&Any, "[]*kubernetes.SDConfig")),
    field("kuma_sd_configs", List(&Any, "[]*xds.SDConfig")),
    field("lightsail_sd_configs", List(&Any, "[]*aws.LightsailSDConfig")),
    field("linode_sd_configs", List(&Any, "[]*linode.SDConfig")),
    field("marathon_sd_configs", List(&Any, "[]*marathon.SDConfig")),
    field("nerve_sd_configs", List(&Any, "[]*zookeeper.NerveSDConfig")),
    field("nomad_sd_configs", List(&Any, "[]*nomad.SDConfig")),
    field("oci_sd_configs", List(&Any, "[]*oci.SDConfig")),
    field("openstack_sd_configs", List(&Any, "[]*openstack.SDConfig")),
    field("outscale_sd_configs", List(&Any, "[]*outscale.SDConfig")),
    field("ovhcloud_sd_configs", List(&Any, "[]*ovhcloud.SDConfig")),
    field("puppetdb_sd_configs", List(&Any, "[]*puppetdb.SDConfig")),
    field("scaleway_sd_configs", List(&Any, "[]*scaleway.SDConfig")),
    field("serverset_sd_configs", List(&Any, "[]*zookeeper.ServersetSDConfig")),
    field("stackit_sd_configs", List(&Any, "[]*stackit.SDConfig")),
    field("triton_sd_configs", List(&Any, "[]*triton.SDConfig")),
    field("uyuni_sd_configs", List(&Any, "[]*uyuni.SDConfig")),
    field("vultr_sd_configs", List(&Any, "[]*vultr.SDConfig")),
    field("static_configs", List(&STATIC, "[]*targetgroup.Group")),
];

const ALERTING: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[&[
        field("alert_relabel_configs", RELABELS),
        field("alertmanagers", List(&ALERTMANAGER, "config.AlertmanagerConfigs")),
    ]],
});
const ALERTMANAGER: Shape = Shape::Record(&Record {
    go: "config.AlertmanagerConfig",
    groups: &[
        HTTP_CLIENT,
        &[
            field("sigv4", SIGV4),
            with_default("scheme", Text, "http"),
            field("path_prefix", Text),
            with_default("timeout", Duration, "10s"),
            with_default("api_version", Text, "v2"),
            field("relabel_configs", RELABELS),
            field("alert_relabel_configs", RELABELS),
        ],
        DISCOVERY,
    ],
});

const REMOTE_WRITE: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[
        &[
            field("url", Url),
            with_default("remote_timeout", Duration, "30s"),
            field("headers", TEXT_MAP),
            field("write_relabel_configs", RELABELS),
            field("name", Text),
            field("send_exemplars", Bool),
            field("send_native_histograms", Bool),
            field("round_robin_dns", Bool),
            with_default("protobuf_message", Text, "prometheus.WriteRequest"),
        ],
        HTTP_CLIENT_1,
        &[
            with_default("queue_config", QUEUE, "{}"),
            with_default("metadata_config", METADATA, "{}"),
            field("sigv4", SIGV4),
            field("azuread", Any),
            field("google_iam", Any),
        ],
    ],
});
const QUEUE: Shape = Shape::Record(&Record {
    go: "config.QueueConfig",
    groups: &[&[
        with_default("capacity", INT, "10000"),
        with_default("max_shards", INT, "50"),
        with_default("min_shards", INT, "1"),
        with_default("max_samples_per_send", INT, "2000"),
        with_default("batch_send_deadline", Duration, "5s"),
        with_default("min_backoff", Duration, "30ms"),
        with_default("max_backoff", Duration, "5s"),
        field("retry_on_http_429", Bool),
        field("sample_age_limit", Duration),
    ]],
});
const METADATA: Shape = Shape::Record(&Record {
    go: "config.MetadataConfig",
    groups: &[&[
        with_default("send", Bool, "true"),
        with_default("send_interval", Duration, "1m"),
        with_default("max_samples_per_send", INT, "2000"),
    ]],
});
const REMOTE_READ: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[
        &[
            field("url", Url),
            with_default("remote_timeout", Duration, "1m"),
            with_default("chunked_read_limit", UINT64, "50000000"),
            field("headers", TEXT_MAP),
            field("read_recent", Bool),
            field("name", Text),
        ],
        HTTP_CLIENT,
        &[
            field("required_matchers", Map(&Text, "model.LabelSet")),
            with_default("filter_external_labels", Bool, "true"),
        ],
    ],
});

const STORAGE: Shape = Shape::Record(&Record {
    go: "config.StorageConfig",
    groups: &[&[with_default("tsdb", TSDB, "{}"), field("exemplars", EXEMPLARS), field("blocks", BLOCKS)]],
});
/// Not in Prometheus.
const BLOCKS: Shape = Shape::Record(&Record {
    go: "config.BlocksConfig",
    groups: &[
        BLOCK_PLACE,
        &[
            field(
                "cache",
                Shape::Record(&Record {
                    go: "config.BlocksCacheConfig",
                    groups: &[&[field("path", Text), field("max_bytes", Bytes)]],
                }),
            ),
            field(
                "read_from",
                List(
                    &Shape::Record(&Record { go: "config.BlocksPlace", groups: &[BLOCK_PLACE] }),
                    "[]config.BlocksPlace",
                ),
            ),
            field("refresh_interval", Duration),
            field("take_over", Bool),
        ],
    ],
});
const BLOCK_PLACE: &[Field] = &[field("url", Url), field("options", Shape::StoreOptions)];
const TSDB: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[&[
        field("out_of_order_time_window", Duration),
        field("stale_series_compaction_threshold", Float),
        field("chunk_encoding", CHUNKS),
        with_default("retention", RETENTION, "{}"),
        field("retention_rules", List(&RETENTION_RULE, "[]config.RetentionRule")),
    ]],
});
/// Not in Prometheus.
const RETENTION_RULE: Shape =
    Shape::Record(&Record { go: "config.RetentionRule", groups: &[&[field("match", Text), field("time", Duration)]] });
const CHUNKS: Shape = Shape::Record(&Record { go: "config.plain", groups: &[&[field("floats", Text)]] });
const RETENTION: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[&[with_default("time", Duration, "15d"), field("size", Bytes), field("percentage", Float)]],
});
const EXEMPLARS: Shape = Shape::Record(&Record {
    go: "config.ExemplarsConfig",
    groups: &[&[with_default("max_exemplars", Int("int64"), "100000")]],
});
const TRACING: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[&[
        with_default("client_type", Text, "grpc"),
        field("endpoint", Text),
        field("sampling_fraction", Float),
        field("insecure", Bool),
        field("tls_config", TLS),
        field("headers", TEXT_MAP),
        field("compression", Text),
        field("timeout", Duration),
        field("http_headers", HEADERS),
    ]],
});
const OTLP: Shape = Shape::Record(&Record {
    go: "config.plain",
    groups: &[&[
        field("promote_all_resource_attributes", Bool),
        field("promote_resource_attributes", TEXTS),
        field("ignore_resource_attributes", TEXTS),
        with_default("translation_strategy", Text, "UnderscoreEscapingWithSuffixes"),
        field("keep_identifying_resource_attributes", Bool),
        field("convert_histograms_to_nhcb", Bool),
        field("promote_scope_metadata", Bool),
        with_default("label_name_underscore_sanitization", Bool, "true"),
        with_default("label_name_preserve_multiple_underscores", Bool, "true"),
    ]],
});
const RUNTIME: Shape =
    Shape::Record(&Record { go: "config.RuntimeConfig", groups: &[&[with_default("gogc", INT, "75")]] });

const JOB: Shape = Shape::Owned(|node| ScrapeConfig::from_yaml(node).map(drop));

/// A file named by `scrape_config_files`.
pub(super) static SCRAPE_FILE: Record =
    Record { go: "config.ScrapeConfigs", groups: &[&[field("scrape_configs", List(&JOB, "[]*config.ScrapeConfig"))]] };

/// The whole file.
pub(super) static ROOT: Record = Record {
    go: "config.plain",
    groups: &[&[
        field("global", Shape::Owned(|node| GlobalConfig::from_yaml(node).map(drop))),
        with_default("runtime", RUNTIME, "{}"),
        field("alerting", ALERTING),
        field("rule_files", TEXTS),
        field("scrape_config_files", TEXTS),
        field("scrape_configs", List(&JOB, "[]*config.ScrapeConfig")),
        with_default("storage", STORAGE, "{}"),
        field("tracing", TRACING),
        field("remote_write", List(&REMOTE_WRITE, "[]*config.RemoteWriteConfig")),
        field("remote_read", List(&REMOTE_READ, "[]*config.RemoteReadConfig")),
        with_default("otlp", OTLP, "{}"),
    ]],
};
