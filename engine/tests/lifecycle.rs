//! Starting, stopping, giving up: locks, prefixes, timeouts, clients that go away.

mod server;

use std::process::Command;
use std::time::{Duration, Instant};

use server::{Pilaster, wait};

/// Many seconds of work on any machine.
const HEAVY: &str = "sum_over_time(vector(1)[12h:1s])";

fn heavy(server: &Pilaster, more: &[(&str, &str)]) -> serde_json::Value {
    let fields = [("query", HEAVY), ("start", "1000000"), ("end", "1110000"), ("step", "10")];
    let fields: Vec<_> = fields.into_iter().chain(more.iter().copied()).collect();
    server.form("/api/v1/query_range", &fields)
}

#[test]
fn work_ends_with_its_time_and_with_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Pilaster::start(&dir.path().join("data"), &["--query.max-concurrency=1", "--query.max-samples=2000000000"]);
    let started = Instant::now();
    let answer = heavy(&server, &[("timeout", "300ms")]);
    assert_eq!(answer["errorType"], "timeout", "{answer}");
    assert_eq!(answer["error"], "query timed out in expression evaluation");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    // The only place is taken by a client that goes away; the next one gets it.
    server.abandon("/api/v1/query_range", &format!("query={HEAVY}&start=1000000&end=1110000&step=10"));
    wait("the abandoned query ends", || server.metric("prometheus_engine_queries") == 0.0);
    let answer = server.form("/api/v1/query", &[("query", "1 + 1")]);
    assert_eq!(answer["data"]["result"][1], "2", "{answer}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_data_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Pilaster::start(&data, &["--web.enable-lifecycle"]);
    let second = Command::new(server::binary())
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .args(["--web.listen-address=127.0.0.1:0", "--sql.listen-address="])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("is in use by another process"), "{text}");
    let mut server = server;
    assert_eq!(server.post("/-/quit", "text/plain", "").1, "Requesting termination... Goodbye!");
    assert_eq!(server.program.wait(), Some(0));
}

#[test]
fn everything_stands_below_the_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--web.external-url=http://example.org/metrics/pilaster/",
        "--storage.tsdb.retention.size=1GB",
        "--rules.alert.resend-delay=1m",
        "--enable-feature=promql-experimental-functions,no-such-feature",
    ];
    let server = Pilaster::start_below("/metrics/pilaster", &dir.path().join("data"), &flags);
    assert_eq!(server.get("/-/healthy").0, 404);
    let prefix = "/metrics/pilaster";
    assert_eq!(server.get(&format!("{prefix}/-/healthy")).0, 200);
    let answer = server.form(&format!("{prefix}/api/v1/query"), &[("query", "sort_by_label(vector(1), \"a\")")]);
    assert_eq!(answer["status"], "success", "{answer}");
    let (status, page) = server.get("/");
    assert!(status == 200 && page.contains("href=\"/metrics/pilaster/assets/page.css\""), "{page}");
    assert_eq!(server.get(&format!("{prefix}/assets/graph.js")).0, 200);
    let (_, flags) = server.get(&format!("{prefix}/api/v1/status/flags"));
    assert!(flags.contains("\"storage.tsdb.min-block-duration\":\"2h\""), "{flags}");
    // The built-in configuration scrapes what stands below the prefix.
    wait("it scrapes itself", || {
        let answer = server.form(&format!("{prefix}/api/v1/query"), &[("query", "up == 1")]);
        answer["data"]["result"].as_array().is_some_and(|list| list.len() == 1)
    });
    let (_, metrics) = server.get(&format!("{prefix}/metrics"));
    assert!(metrics.contains("prometheus_http_requests_total{handler=\"/metrics\",code=\"200\"}"), "{metrics}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn deleted_series_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Pilaster::start(&data, &["--web.enable-admin-api"]);
    wait("it scrapes itself", || server.query("up").len() == 1 && server.query("pilaster_build_info").len() == 1);
    let (status, text) = server.post("/api/v1/admin/tsdb/delete_series", "text/plain", "");
    assert!(status == 400 && text.contains("no match[] parameter provided"), "{text}");
    let at = server.query("timestamp(up)")[0]["value"][1].as_str().unwrap().to_owned();
    let path = "/api/v1/admin/tsdb/delete_series?match[]=pilaster_build_info";
    assert_eq!(server.post(path, "text/plain", "").0, 204);
    assert_eq!(server.post("/api/v1/admin/tsdb/clean_tombstones", "text/plain", "").0, 204);
    // What is scraped later is there again.
    let then = |query: &str| server.form("/api/v1/query", &[("query", query), ("time", &at)]);
    assert_eq!(then("pilaster_build_info")["data"]["result"].as_array().unwrap().len(), 0);
    assert_eq!(then("up")["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(server.stop(), Some(0));
    let server = Pilaster::start(&data, &[]);
    let (status, text) = server.post(path, "text/plain", "");
    assert!(status == 500 && text.contains("admin APIs disabled"), "{text}");
    assert_eq!(server.stop(), Some(0));
}

/// What a browser and a data source ask besides queries.
#[test]
fn headers_of_answers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Pilaster::start(&dir.path().join("data"), &["--web.cors.origin=https?://(a|b)\\.org"]);
    let ask = |method: &str, path: &str, headers: &[&str]| -> (String, Vec<u8>) { server.raw(method, path, headers) };
    let (head, body) =
        ask("GET", "/api/v1/query?query=1", &["Origin: http://a.org", "Accept-Encoding: gzip, br, zstd"]);
    for line in ["HTTP/1.1 200", "access-control-allow-origin: http://a.org", "content-encoding: gzip"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert_eq!(body[..2], [0x1f, 0x8b]);
    let (head, _) = ask("GET", "/api/v1/query?query=1", &["Origin: http://c.org", "Accept-Encoding: zstd, deflate"]);
    assert!(!head.contains("access-control-allow-origin") && !head.contains("content-encoding"), "{head}");
    let (head, _) = ask("OPTIONS", "/api/v1/query", &["Origin: http://b.org"]);
    assert!(
        head.starts_with("HTTP/1.1 204") && head.contains("access-control-allow-methods: GET, POST, OPTIONS"),
        "{head}"
    );
    for path in ["/-/healthy", "/-/ready"] {
        let (head, body) = ask("HEAD", path, &[]);
        assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head}");
    }
    let (head, _) = ask("GET", "/", &[]);
    assert!(head.starts_with("HTTP/1.1 302") && head.contains("location: /query"), "{head}");
    let (head, _) = ask("GET", "/graph?g0.expr=up", &[]);
    assert!(head.contains("location: /query?g0.expr=up"), "{head}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_reload_changes_how_much_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let write = |retention: &str| std::fs::write(&config, format!("storage: {{tsdb: {retention}}}\n")).unwrap();
    write("{retention: {time: 3d}}");
    let flags = [&format!("--config.file={}", config.display()), "--web.enable-lifecycle"];
    let server = Pilaster::start(&folder.path().join("data"), &flags);
    let shown = || server.get("/api/v1/status/runtimeinfo").1;
    let reload = || server.post("/-/reload", "", "").0;
    assert!(shown().contains("\"storageRetention\":\"3d\""), "{}", shown());
    write("{retention: {size: 1GB, percentage: 50}, retention_rules: [{match: up, time: 1d}]}");
    assert_eq!(reload(), 200);
    assert!(shown().contains("1GiB or 50%"), "{}", shown());
    let limit = server.metric("prometheus_tsdb_retention_limit_bytes");
    assert!(limit > f64::from(1 << 30), "half of the disk goes before the size: {limit}");
    assert_eq!(server.metric("prometheus_tsdb_retention_limit_seconds"), 0.0);
    // What cannot be read changes nothing.
    write("{retention: {percentage: 101}}");
    assert_eq!(reload(), 500);
    assert!(shown().contains("1GiB or 50%"), "{}", shown());
}
