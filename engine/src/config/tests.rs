use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Config, expand};

fn refusal(text: &str) -> String {
    match Config::parse(text, Path::new("b.yml")) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_unknown_key_is_named_with_its_line() {
    let text = "global:\n  scrape_interval: 15s\n  foo: 1\n  scrape_timeout: [a]\nscrape_configs:\n  - job_name: x\n    bar: 2\n    \
                static_configs: [{targets: [a], x: 1}]\n    relabel_configs: [{source: a}]\n    basic_auth: {user: a}\n";
    assert_eq!(
        refusal(text),
        "parsing YAML file b.yml: yaml: unmarshal errors:\n  line 3: field foo not found in type config.plain\n  \
         line 4: cannot unmarshal !!seq into string\n  line 7: field bar not found in type config.ScrapeConfig\n  \
         line 8: field x not found in type struct { Targets []string \"yaml:\\\"targets\\\"\"; Labels model.LabelSet \
         \"yaml:\\\"labels\\\"\" }\n  line 9: field source not found in type relabel.plain\n  \
         line 10: field user not found in type config.plain"
    );
}

#[test]
fn reasons_are_upstreams() {
    for (text, reason) in [
        ("global:\n  scrape_interval: 15\n", "not a valid duration string: \"15\" (line 2)"),
        (
            "global:\n  scrape_interval: 5s\n  scrape_timeout: 10s\n",
            "global scrape timeout greater than scrape interval (line 2)",
        ),
        (
            "scrape_configs: 5\n",
            "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!int `5` into []*config.ScrapeConfig",
        ),
        (
            "scrape_configs: [{job_name: a, honor_labels: maybe}]\n",
            "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `maybe` into bool",
        ),
        ("scrape_configs: [{job_name: a},{job_name: a}]\n", "found multiple scrape configs with job name \"a\""),
        ("scrape_configs: [null]\n", "empty or null scrape config section"),
        ("remote_write: [{}]\n", "url for remote_write is empty (line 1)"),
        ("rule_files: [\"a*b/c.yml\"]\n", "invalid rule file path \"a*b/c.yml\" (line 1)"),
        (
            "global:\n  scrape_interval: 1s\n  scrape_interval: 2s\n",
            "yaml: unmarshal errors:\n  line 3: field scrape_interval already set in type config.plain",
        ),
        ("[]\n", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!seq into config.plain"),
        ("tracing: {sampling_fraction: 1}\n", "tracing endpoint must be set"),
    ] {
        assert_eq!(refusal(text), format!("parsing YAML file b.yml: {reason}"), "{text}");
    }
}

#[test]
fn the_effective_configuration_has_defaults_and_no_secrets() {
    let text = "global: {external_labels: {a: b}}\nscrape_configs:\n- job_name: x\n  basic_auth: {username: a, password: b}\n  \
                static_configs: [{targets: ['localhost:9090'], labels: {a: b}}]\n  relabel_configs: [{source_labels: [a], regex: x, \
                action: keep}, {target_label: q, replacement: ''}]\nremote_write: [{url: 'http://u:p@a/b'}]\n";
    let yaml = Config::parse(text, Path::new("/etc/p.yml")).unwrap().yaml();
    let expected = "global:\n  scrape_interval: 1m\n  scrape_timeout: 10s\n  evaluation_interval: 1m\n  external_labels:\n    a: b\n";
    assert!(yaml.starts_with(expected), "{yaml}");
    for part in [
        "  basic_auth:\n    username: a\n    password: <secret>\n",
        "  relabel_configs:\n  - source_labels: [a]\n    separator: ;\n    regex: x\n    replacement: $1\n    action: keep\n",
        "  static_configs:\n  - targets:\n    - localhost:9090\n    labels:\n      a: b\n",
        "remote_write:\n- url: http://u:xxxxx@a/b\n  remote_timeout: 30s\n",
        "  queue_config:\n    capacity: 10000\n",
    ] {
        assert!(yaml.contains(part), "{part}\nnot in\n{yaml}");
    }
    // What was printed is a configuration that means the same.
    let again = Config::parse(&yaml, Path::new("/etc/p.yml")).unwrap();
    assert_eq!(again.yaml(), yaml);
}

#[test]
fn notices_name_what_is_not_built() {
    let config = Config::parse("rule_files: [a.yml]\n", Path::new("/d/p.yml")).unwrap();
    assert_eq!(config.notices.len(), 1, "{:?}", config.notices);
    assert!(config.notices[0].starts_with("rule_files: "));
    assert!(config.yaml().contains("rule_files:\n- /d/a.yml\n"), "{}", config.yaml());
    let text = "scrape_configs: [{job_name: k, ec2_sd_configs: [{region: x}]}]\n";
    assert_eq!(
        refusal(text),
        "parsing YAML file b.yml: ec2_sd_configs (line 1, job \"k\") is not built yet in Pilaster"
    );
}

#[test]
fn external_labels_are_expanded() {
    let home = |name: &str| if name == "POD" { "p-0".to_owned() } else { String::new() };
    assert_eq!(expand("a-$POD-${POD}x-$$-$NONE", home), "a-p-0-p-0x-$-");
}

/// Every given configuration is read as Prometheus reads it: accepted, or refused for the same first reason.
#[test]
fn example_files_are_accepted_or_refused_as_upstream_does() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/examples");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        eprintln!("skipped: {} is missing", directory.display());
        return;
    };
    let promtool = std::env::var_os("PILASTER_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let (mut accepted, mut refused, mut unsure, mut not_built) = (0, 0, 0, 0);
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"))
    {
        let ours = Config::load(&path);
        let Ok(theirs) = Command::new(&promtool).args(["check", "config", "--syntax-only"]).arg(&path).output() else {
            eprintln!("compared with nothing: promtool is missing");
            return;
        };
        let printed = String::from_utf8_lossy(&[theirs.stdout, theirs.stderr].concat()).into_owned();
        // Debian's build lacks discovery by Kubernetes and Consul, and 2.42 lacks keys that came later.
        let reasons: Vec<&str> =
            printed.lines().filter(|line| line.trim().starts_with("line ") && !line.contains("_sd_configs")).collect();
        let known_late = reasons.is_empty() && printed.contains("_sd_configs not found");
        match ours {
            Ok(_) => {
                assert!(printed.contains("SUCCESS") || known_late, "{}: we accept, {printed}", path.display());
                accepted += 1;
            }
            Err(error) if error.to_string().contains("not built yet") => not_built += 1,
            Err(error) => {
                let error = error.to_string();
                assert!(!printed.contains("SUCCESS"), "{}: we refuse: {error}", path.display());
                match reasons.first() {
                    Some(reason) => assert!(error.contains(reason.trim()), "{}:\n{error}\n{printed}", path.display()),
                    None => unsure += 1,
                }
                refused += 1;
            }
        }
    }
    eprintln!(
        "{accepted} accepted, {refused} refused, {unsure} of them as not YAML; {not_built} ask for what is not built"
    );
    assert!(accepted > 10 && unsure < 4);
}
