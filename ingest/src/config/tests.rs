use std::path::Path;

use super::yaml::{self, Fields};
use super::*;

/// Reads the scrape part of a whole file as the server does.
fn load(text: &str) -> Result<(GlobalConfig, Vec<ScrapeConfig>), Error> {
    let root = yaml::parse(text)?;
    let mut fields = Fields::of(&root, "config.plain")?;
    let global: Option<GlobalConfig> = fields.take("global")?;
    let jobs: Option<Vec<Option<ScrapeConfig>>> = fields.take_list("scrape_configs", "[]*config.ScrapeConfig")?;
    for other in ["rule_files", "alerting", "remote_write", "remote_read", "storage", "scrape_config_files"] {
        fields.take_node(other);
    }
    fields.finish()?;
    let global = global.unwrap_or_default();
    let mut configs = Vec::new();
    for job in jobs.unwrap_or_default() {
        let mut job = job.ok_or_else(|| Error::Invalid("empty or null scrape config section".to_owned()))?;
        job.validate(&global)?;
        configs.push(job);
    }
    check_unique_jobs(&configs)?;
    Ok((global, configs))
}

fn refusal(text: &str) -> String {
    load(text).map(|_| ()).expect_err(text).to_string()
}

const FULL: &str = r#"global:
  scrape_interval: 1m30s
  scrape_timeout: 10s
  evaluation_interval: 1m
  scrape_failure_log_file: fail.log
  external_labels:
    a: "true"
    c: x y
    e: "1.0"
  sample_limit: 100
  metric_name_validation_scheme: utf8
  scrape_native_histograms: false
  extra_scrape_metrics: false
scrape_configs:
- job_name: min
  honor_timestamps: true
  track_timestamps_staleness: false
  scrape_interval: 1m30s
  scrape_timeout: 10s
  scrape_protocols:
  - OpenMetricsText1.0.0
  - OpenMetricsText0.0.1
  - PrometheusText1.0.0
  - PrometheusText0.0.4
  scrape_native_histograms: false
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: false
  scrape_failure_log_file: fail.log
  metrics_path: /metrics
  scheme: http
  enable_compression: true
  sample_limit: 100
  metric_name_validation_scheme: utf8
  metric_name_escaping_scheme: allow-utf-8
  extra_scrape_metrics: false
  follow_redirects: true
  enable_http2: true
- job_name: "123"
  honor_labels: true
  honor_timestamps: false
  track_timestamps_staleness: true
  params:
    match[]:
    - '{job="x"}'
    module:
    - a
    - b
  scrape_interval: 30s
  scrape_timeout: 10s
  scrape_protocols:
  - PrometheusText0.0.4
  - OpenMetricsText1.0.0
  fallback_scrape_protocol: PrometheusText0.0.4
  scrape_native_histograms: true
  always_scrape_classic_histograms: true
  convert_classic_histograms_to_nhcb: true
  scrape_failure_log_file: fail.log
  metrics_path: /probe
  scheme: https
  enable_compression: false
  body_size_limit: 1MiB476KiB
  sample_limit: 1
  target_limit: 2
  label_limit: 3
  label_name_length_limit: 4
  label_value_length_limit: 5
  native_histogram_bucket_limit: 6
  native_histogram_min_bucket_factor: 1.1
  keep_dropped_targets: 7
  metric_name_validation_scheme: legacy
  metric_name_escaping_scheme: underscores
  extra_scrape_metrics: true
  basic_auth:
    username: u
    password: <secret>
  tls_config:
    ca_file: ca
    insecure_skip_verify: true
    min_version: TLS12
  follow_redirects: false
  enable_http2: false
  proxy_url: http://u:xxxxx@h:1/
  no_proxy: a,b
  http_headers:
    X-A:
      values:
      - a
      secrets:
      - <secret>
      files:
      - c
  relabel_configs:
  - source_labels: [a, b c]
    separator: ""
    regex: (.+):\d+
    target_label: x
    replacement: $1:9100
    action: replace
  - source_labels: [a]
    separator: ;
    modulus: 5
    target_label: t
    replacement: $1
    action: hashmod
  - separator: ;
    regex: __meta_(.+)
    replacement: $1
    action: labelmap
  - separator: ;
    target_label: x
    replacement: ""
    action: replace
  - source_labels: [__name__]
    separator: ;
    regex: "5"
    replacement: $1
    action: keep
  metric_relabel_configs:
  - source_labels: [__name__]
    separator: ;
    regex: go_.*
    replacement: $1
    action: drop
  consul_sd_configs:
  - server: c:8500
    token: <secret>
    tag_separator: ','
    scheme: http
    allow_stale: true
    refresh_interval: 30s
    services:
    - web
    follow_redirects: true
    enable_http2: true
  dns_sd_configs:
  - names:
    - _x._tcp.example.org
    refresh_interval: 30s
    type: SRV
    port: 0
  file_sd_configs:
  - files:
    - a.json
    - b/*.yml
    refresh_interval: 5m
  http_sd_configs:
  - follow_redirects: true
    enable_http2: true
    refresh_interval: 1m
    url: http://u:pw@x/y
  static_configs:
  - targets:
    - a:1
    - b
    labels:
      "y": abc
      z: "1"
  - targets: []
"#;

/// The text is what a Prometheus 3.14 prints; read again and printed it must be the same.
#[test]
fn the_effective_configuration_prints_as_prometheus_prints_it() {
    let (global, jobs) = load(FULL).unwrap();
    let printed = yaml::print(&yaml::Node::mapping([
        ("global".to_owned(), global.to_yaml()),
        ("scrape_configs".to_owned(), yaml::Node::sequence(jobs.iter().map(ScrapeConfig::to_yaml))),
    ]));
    assert_eq!(printed, FULL);
}

#[test]
fn a_small_file_gets_the_defaults() {
    let (global, jobs) = load("scrape_configs: [{job_name: a, scrape_interval: 5s}]").unwrap();
    assert_eq!(global, GlobalConfig::default());
    let job = &jobs[0];
    assert_eq!((job.scrape_interval.ms(), job.scrape_timeout.ms()), (5000, 5000));
    assert_eq!((job.metrics_path.as_str(), job.scheme.as_str()), ("/metrics", "http"));
    assert_eq!(job.protocols(), ScrapeProtocol::DEFAULT);
    assert!(job.honor_timestamps && !job.honor_labels && job.enable_compression);
    let (_, jobs) = load("global: {scrape_interval: 5s}\nscrape_configs: [{job_name: a}]").unwrap();
    assert_eq!(jobs[0].scrape_timeout.ms(), 5000);
}

#[test]
fn every_wrong_key_and_type_is_named() {
    let text = r#"global:
  xa: 1
  scrape_interval: [1]
scrape_configs:
- job_name: a
  xb: 1
  sample_limit: abc
  body_size_limit: [x]
  honor_labels: zzz
  params: 3
  scrape_protocols: x
  basic_auth: {xc: 1, username: [a]}
  authorization: {xd: 1}
  tls_config: {xe: 1, insecure_skip_verify: 7}
  http_headers: {A: {xg: 1}}
  static_configs:
  - xh: 1
    targets: a
  file_sd_configs:
  - {xi: 1, files: [a.json]}
  - files: x
  http_sd_configs:
  - {xk: 1, url: 'http://a'}
  relabel_configs:
  - xj: 1
    source_labels: a
    modulus: -1
  - 5
  kubernetes_sd_configs: 5
  static_configs: []
"#;
    assert_eq!(
        refusal(text),
        r#"yaml: unmarshal errors:
  line 2: field xa not found in type config.plain
  line 3: cannot unmarshal !!seq into string
  line 6: field xb not found in type config.ScrapeConfig
  line 7: cannot unmarshal !!str `abc` into uint
  line 8: cannot unmarshal !!seq into units.Base2Bytes
  line 9: cannot unmarshal !!str `zzz` into bool
  line 10: cannot unmarshal !!int `3` into url.Values
  line 11: cannot unmarshal !!str `x` into []config.ScrapeProtocol
  line 12: field xc not found in type config.plain
  line 12: cannot unmarshal !!seq into string
  line 13: field xd not found in type config.Authorization
  line 14: field xe not found in type config.plain
  line 14: cannot unmarshal !!int `7` into bool
  line 15: field xg not found in type config.Header
  line 17: field xh not found in type struct { Targets []string "yaml:\"targets\""; Labels model.LabelSet "yaml:\"labels\"" }
  line 18: cannot unmarshal !!str `a` into []string
  line 20: field xi not found in type file.plain
  line 21: cannot unmarshal !!str `x` into []string
  line 23: field xk not found in type http.plain
  line 25: field xj not found in type relabel.plain
  line 26: cannot unmarshal !!str `a` into model.LabelNames
  line 27: cannot unmarshal !!int `-1` into uint64
  line 28: cannot unmarshal !!int `5` into relabel.plain
  line 29: cannot unmarshal !!int `5` into []*kubernetes.SDConfig
  line 30: field static_configs already set in type config.ScrapeConfig"#
    );
    assert_eq!(
        refusal("scrape_configs: {a: 1}\nglobal: 5\n"),
        "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!map into []*config.ScrapeConfig\n  \
         line 2: cannot unmarshal !!int `5` into config.plain"
    );
}

/// One line of a job and what Prometheus 3.14 says to it.
#[test]
fn refusals_of_one_job() {
    for (line, message) in [
        ("scrape_interval: 5", "not a valid duration string: \"5\""),
        ("scrape_interval: 1x", "unknown unit \"x\" in duration \"1x\""),
        ("body_size_limit: 10", "units: unknown unit  in 10"),
        ("body_size_limit: 5XB", "units: unknown unit XB in 5XB"),
        (
            "scrape_protocols: [a]",
            "scrape_protocols: unknown scrape protocol a, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0] for scrape config with job name \"a\"",
        ),
        ("scrape_protocols: []", "scrape_protocols cannot be empty for scrape config with job name \"a\""),
        (
            "scrape_protocols: [PrometheusText0.0.4,PrometheusText0.0.4]",
            "duplicated protocol in scrape_protocols, got [PrometheusText0.0.4 PrometheusText0.0.4] for scrape config with job name \"a\"",
        ),
        (
            "fallback_scrape_protocol: x",
            "invalid fallback_scrape_protocol for scrape config with job name \"a\": unknown scrape protocol x, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0]",
        ),
        ("relabel_configs: [~]", "empty or null target relabeling rule in scrape config"),
        ("metric_relabel_configs: [~]", "empty or null metric relabeling rule in scrape config"),
        ("static_configs: [{targets: ['http://a']}]", "\"http://a\" is not a valid hostname"),
        ("static_configs: [~]", "empty or null section in static_configs"),
        ("file_sd_configs: [{files: [x]}]", "path name \"x\" is not valid for file discovery"),
        ("file_sd_configs: [{files: ['*/x.json']}]", "path name \"*/x.json\" is not valid for file discovery"),
        ("file_sd_configs: [{}]", "file service discovery config must contain at least one path name"),
        ("file_sd_configs: [~]", "empty or null section in file_sd_configs"),
        ("http_sd_configs: [{}]", "URL is missing"),
        ("http_sd_configs: [{url: x}]", "URL scheme must be 'http' or 'https'"),
        ("proxy_url: ':x'", "parse \":x\": missing protocol scheme"),
        ("metric_name_validation_scheme: x", "unrecognized ValidationScheme: \"x\""),
        (
            "metric_name_escaping_scheme: x",
            "unknown scrape config name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', got \"x\"",
        ),
        ("static_configs: [{targets: [a], labels: {'': x}}]", "\"\" is not a valid label name"),
        ("tls_config: {min_version: X}", "unknown TLS version: X"),
        ("http_headers: {Authorization: {values: [a]}}", "setting header \"Authorization\" is not allowed"),
        ("params: {a: [1], b: x}", "yaml: unmarshal errors:\n  line 3: cannot unmarshal !!str `x` into []string"),
        ("sample_limit: '5'", "yaml: unmarshal errors:\n  line 3: cannot unmarshal !!str `5` into uint"),
        ("scrape_timeout: 2h", "scrape timeout greater than scrape interval for scrape config with job name \"a\""),
        ("authorization: {type: basic}", "authorization type cannot be set to \"basic\", use \"basic_auth\" instead"),
        (
            "proxy_connect_header: {a: [x]}",
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
        ),
        ("kubernetes_sd_configs: [{role: x}]", "unknown Kubernetes SD role \"x\""),
        ("kubernetes_sd_configs: [{}]", "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)"),
        (
            "kubernetes_sd_configs: [{role: pod, basic_auth: {username: x}}]",
            "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
        ),
        (
            "kubernetes_sd_configs: [{role: service, selectors: [{role: pod}]}]",
            "service role supports only service selectors",
        ),
        ("ec2_sd_configs: [{region: x}]", "ec2_sd_configs (line 3, job \"a\") is not built yet in Pilaster"),
        ("dns_sd_configs: [{}]", "DNS-SD config must contain at least one SRV record name"),
        ("dns_sd_configs: [{names: [a], type: X}]", "invalid DNS-SD records type X"),
        (
            "dns_sd_configs: [{names: [a], type: A}]",
            "a port is required in DNS-SD configs for all record types except SRV",
        ),
        ("consul_sd_configs: [{server: ''}]", "consul SD configuration requires a server address"),
        (
            "consul_sd_configs: [{token: x, authorization: {credentials: y}}]",
            "at most one of consul SD token, authorization, or oauth2 can be configured",
        ),
        ("oauth2: {client_id: x}", "oauth2 token_url must be configured"),
        ("oauth2: {xf: 1}", "yaml: unmarshal errors:\n  line 3: field xf not found in type config.plain"),
        ("oauth2: {client_id: x, token_url: y, claims: {a: b}}", "oauth2.claims is not built yet in Pilaster"),
    ] {
        assert_eq!(refusal(&format!("scrape_configs:\n- job_name: a\n  {line}\n")), message, "{line}");
    }
    for line in [
        "sample_limit: 1.0",
        "honor_labels: ~",
        "scheme: ftp",
        "kubernetes_sd_configs: []",
        "params: {a: ~}",
        "scrape_protocols: [PrometheusProto]",
    ] {
        load(&format!("scrape_configs:\n- job_name: a\n  {line}\n")).unwrap();
    }
}

#[test]
fn refusals_of_a_file() {
    for (text, message) in [
        ("scrape_configs: [~]", "empty or null scrape config section"),
        ("scrape_configs: [{}]", "job_name is empty"),
        ("scrape_configs: [{job_name: a}, {job_name: a}]", "found multiple scrape configs with job name \"a\""),
        ("global: {scrape_interval: 5s, scrape_timeout: 6s}", "global scrape timeout greater than scrape interval"),
        ("global: {scrape_protocols: []}", "scrape_protocols cannot be empty for global config"),
        (
            "global: {external_labels: {'a b': x}, metric_name_validation_scheme: legacy}",
            "\"a b\" is not a valid label name",
        ),
        (
            "global: {metric_name_validation_scheme: legacy}\nscrape_configs: [{job_name: a, metric_name_escaping_scheme: allow-utf-8}]",
            "utf8 metric names requested but validation scheme is not set to UTF8",
        ),
    ] {
        assert_eq!(refusal(text), message, "{text}");
    }
}

/// Complete scrape sections of the user's examples load, or name what Prometheus or this server refuses.
#[test]
fn the_users_examples() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/examples");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no examples at {}", folder.display());
        return;
    };
    let mut loaded = 0;
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        // What is refused, the engine's tests compare with Prometheus.
        let Ok((_, jobs)) = load(&text) else { continue };
        loaded += jobs.len();
        for job in jobs {
            // Printed with all defaults, it says the same again.
            let printed = yaml::print(&job.to_yaml());
            let indented: Vec<String> = printed.lines().map(|line| format!("  {line}")).collect();
            let again = format!("scrape_configs:\n- {}\n", indented.join("\n").trim_start());
            let (_, again) = load(&again).unwrap_or_else(|error| panic!("{}: {error}\n{again}", path.display()));
            assert_eq!(yaml::print(&again[0].to_yaml()), printed, "{}", path.display());
        }
    }
    assert!(loaded > 20, "{loaded} jobs");
}

#[test]
fn paths_are_relative_to_the_file() {
    let (_, mut jobs) = load(FULL).unwrap();
    jobs[1].set_directory(Path::new("/etc/p"));
    let printed = yaml::print(&jobs[1].to_yaml());
    for path in ["ca_file: /etc/p/ca", "- /etc/p/c\n", "- /etc/p/b/*.yml", "scrape_failure_log_file: /etc/p/fail.log"] {
        assert!(printed.contains(path), "{path} in {printed}");
    }
}

#[test]
fn histogram_schemas_for_bucket_factors() {
    for (factor, schema) in [("0", 8), ("1.002", 8), ("1.1", 2), ("1.5", 0), ("2", 0), ("4", -1), ("1e9", -4)] {
        let text = format!("scrape_configs: [{{job_name: a, native_histogram_min_bucket_factor: {factor}}}]");
        assert_eq!(load(&text).unwrap().1[0].finest_histogram_schema(), schema, "{factor}");
    }
}
