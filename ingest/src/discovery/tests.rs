use std::time::Duration;

use axum::routing::get;

use super::*;
use crate::config::yaml::{self, Fields};

fn start(text: &str) -> Discovery {
    let root = yaml::parse(text).unwrap();
    let mut fields = Fields::of(&root, "t").unwrap();
    let configs = ServiceDiscovery::take_from(&mut fields).unwrap();
    fields.finish().unwrap();
    Discovery::start(&configs)
}

/// Waits until the groups, as `targets|label=value` texts, are `expected`.
async fn wait_for(discovery: &Discovery, expected: &[&str]) {
    let mut seen = Vec::new();
    for _ in 0..500 {
        if let Some(groups) = discovery.groups() {
            seen = groups
                .iter()
                .map(|group| {
                    let labels = group.labels.iter().filter(|(name, _)| !name.starts_with("__"));
                    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
                    format!("{}|{}", group.targets.join(","), labels.join(","))
                })
                .collect();
            if seen == expected {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{seen:?} is not {expected:?}");
}

#[tokio::test]
async fn lists_of_the_configuration() {
    let discovery = start("static_configs: [{targets: [a, b], labels: {x: '1'}}, {targets: [c]}]");
    let groups = discovery.groups().unwrap();
    assert_eq!((groups[0].source.as_str(), groups[1].source.as_str()), ("0", "1"));
    wait_for(&discovery, &["a,b|x=1", "c|"]).await;
}

#[tokio::test]
async fn files_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.json"), r#"[{"targets": ["h:1"], "labels": {"x": "1"}}]"#).unwrap();
    let directory = folder.path().display();
    let discovery = start(&format!("file_sd_configs: [{{files: ['{directory}/*.json', '{directory}/b.yml']}}]"));
    wait_for(&discovery, &["h:1|x=1"]).await;
    let group = discovery.groups().unwrap().remove(0);
    assert_eq!(group.labels["__meta_filepath"], path("a.json").to_string_lossy());
    std::fs::write(path("b.yml"), "- targets: [h:2, 'h:3']\n").unwrap();
    wait_for(&discovery, &["h:1|x=1", "h:2,h:3|"]).await;
    // Half a file changes nothing; the whole one does.
    std::fs::write(path("a.json"), r#"[{"targets": ["#).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    wait_for(&discovery, &["h:1|x=1", "h:2,h:3|"]).await;
    std::fs::write(path("a.json"), "[]").unwrap();
    wait_for(&discovery, &["h:2,h:3|"]).await;
    std::fs::remove_file(path("b.yml")).unwrap();
    wait_for(&discovery, &[]).await;
}

#[tokio::test]
async fn files_are_read_again_without_events() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing to watch yet: the directory comes later.
    let inner = folder.path().join("later");
    let discovery =
        start(&format!("file_sd_configs: [{{files: ['{}/x.json'], refresh_interval: 50ms}}]", inner.display()));
    wait_for(&discovery, &[]).await;
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("x.json"), r#"[{"targets": ["h:1"]}]"#).unwrap();
    wait_for(&discovery, &["h:1|"]).await;
}

#[tokio::test]
async fn endpoints_are_asked_again_and_failures_change_nothing() {
    let answers = std::sync::Arc::new(std::sync::Mutex::new(vec![
        (200, r#"[{"targets": ["h:1"], "labels": {"x": "1"}}]"#),
        (500, "broken"),
        (200, r#"[{"targets": ["h:2"]}]"#),
    ]));
    let shared = answers.clone();
    let app = axum::Router::new().route(
        "/sd",
        get(move || async move {
            let mut answers = shared.lock().unwrap();
            let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            (status, [("content-type", "application/json; charset=utf-8")], body)
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let discovery = start(&format!("http_sd_configs: [{{url: 'http://{address}/sd', refresh_interval: 100ms}}]"));
    wait_for(&discovery, &["h:1|x=1"]).await;
    assert_eq!(discovery.groups().unwrap()[0].labels["__meta_url"], format!("http://{address}/sd"));
    wait_for(&discovery, &["h:2|"]).await;
    assert_eq!(answers.lock().unwrap().len(), 1);
    server.abort();
}

#[tokio::test]
async fn consul_services() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let requests = seen.clone();
    let app = axum::Router::new().fallback(move |request: axum::extract::Request| async move {
        let token = request.headers().get("x-consul-token").map(|value| value.to_str().unwrap().to_owned());
        requests.lock().unwrap().push((request.uri().to_string(), token));
        let body = match request.uri().path() {
            "/v1/agent/self" => r#"{"Config": {"Datacenter": "dc1"}}"#,
            "/v1/catalog/services" => r#"{"web": ["prod", "x"], "db": ["test"], "consul": []}"#,
            "/v1/health/service/web" => {
                r#"[{"Node": {"Node": "n1", "Address": "10.0.0.1", "Meta": {"a-b": "c"}, "TaggedAddresses": {"lan": "10.0.0.1"}},
                     "Service": {"ID": "web-1", "Service": "web", "Tags": ["prod", "x"], "Address": "", "Port": 80, "Meta": {"v": "2"}},
                     "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "c", "Status": "warning"}]},
                    {"Node": {"Node": "n2", "Address": "10.0.0.2"}, "Service": {"ID": "web-2", "Tags": null, "Address": "fd00::1", "Port": 81}}]"#
            }
            _ => "no",
        };
        let status = if body == "no" { 404 } else { 200 };
        (axum::http::StatusCode::from_u16(status).unwrap(), [("content-type", "application/json")], body)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let discovery =
        start(&format!("consul_sd_configs: [{{server: '{address}', token: t, tags: [prod], refresh_interval: 50ms}}]"));
    wait_for(&discovery, &["10.0.0.1:80|", "[fd00::1]:81|"]).await;
    let groups = discovery.groups().unwrap();
    for (name, value) in [
        ("service", "web"),
        ("dc", "dc1"),
        ("node", "n1"),
        ("address", "10.0.0.1"),
        ("tags", ",prod,x,"),
        ("service_id", "web-1"),
        ("service_port", "80"),
        ("health", "warning"),
        ("metadata_a_b", "c"),
        ("service_metadata_v", "2"),
        ("tagged_address_lan", "10.0.0.1"),
    ] {
        assert_eq!(groups[0].labels[&format!("__meta_consul_{name}")], value, "{name}");
    }
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&("/v1/health/service/web?tag=prod&stale".to_owned(), Some("t".to_owned()))), "{seen:?}");
    assert!(!seen.iter().any(|(uri, _)| uri.contains("service/db")));
    server.abort();
}

#[tokio::test]
async fn a_source_that_cannot_start_finds_nothing() {
    let discovery =
        start("kubernetes_sd_configs: [{role: pod, kubeconfig_file: /nowhere}]\nstatic_configs: [{targets: [a]}]");
    assert_eq!(discovery.failed(), 1);
    wait_for(&discovery, &["a|"]).await;
}
