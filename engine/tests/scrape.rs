//! The server scrapes a real node exporter and itself; PromQL and SQL read the same numbers.

mod server;

use std::path::Path;
use std::process::{Command, Stdio};

use server::{Pilaster, Program, free_port, program, wait};

#[test]
fn a_node_exporter_and_the_server_itself() {
    let Some(exporter) = program("PILASTER_NODE_EXPORTER", "prometheus-node-exporter") else { return };
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(exporter);
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut node = Program::start(&mut command);

    // Our own port is known only after the start, and the configuration must name it: a reload brings it.
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config(port, None)).unwrap();
    let flag = format!("--config.file={}", file.display());
    let server = Pilaster::start(&dir.path().join("data"), &[&flag, "--web.enable-lifecycle"]);
    std::fs::write(&file, config(port, Some(&server.url))).unwrap();
    assert_eq!(server.post("/-/reload", "text/plain", "").0, 200);
    wait("three scrapes of both", || server.query("count_over_time(up[1m]) >= 3").len() == 2);

    let up = server.query("up");
    let mut jobs: Vec<_> =
        up.iter().map(|one| (one["metric"]["job"].as_str().unwrap(), one["value"][1].as_str().unwrap())).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, [("node", "1"), ("pilaster", "1")], "{up:?}");
    let cpu = server.query("rate(node_cpu_seconds_total[1m])");
    assert!(cpu.len() >= 8 && cpu.iter().all(|one| one["metric"].get("__name__").is_none()), "{} series", cpu.len());
    let per_cpu = server.query("sum by (cpu) (rate(node_cpu_seconds_total[1m]))");
    for one in &per_cpu {
        let seconds: f64 = one["value"][1].as_str().unwrap().parse().unwrap();
        assert!((0.0..1.6).contains(&seconds), "{one}");
    }
    assert!(!server.query("node_filesystem_avail_bytes / node_filesystem_size_bytes <= 1").is_empty());
    let joined = server.query("node_uname_info * on (instance) group_left (version) node_exporter_build_info");
    assert_eq!(joined.len(), 1, "{joined:?}");
    assert!(joined[0]["metric"].get("version").is_some());
    let own = server.query("pilaster_build_info * on (instance) group_left up{job=\"pilaster\"}");
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(!server.query("rate(prometheus_http_requests_total{handler=\"/metrics\"}[1m])").is_empty());

    let targets = server.form("/api/v1/query", &[("query", "count(scrape_samples_scraped > 100)")]);
    assert_eq!(targets["data"]["result"][0]["value"][1], "2", "{targets}");
    let (_, metadata) = server.get("/api/v1/metadata?metric=node_cpu_seconds_total");
    assert!(metadata.contains("\"type\":\"counter\""), "{metadata}");

    psql_reads_the_same(&server);

    // The exporter goes away: the target is down and its series end.
    node.terminate();
    wait("the target is down", || {
        server.query("up{job=\"node\"} == 0").len() == 1 && server.query("node_load1").is_empty()
    });
    let (_, targets) = server.get("/api/v1/targets?scrapePool=node");
    assert!(targets.contains("connection refused"), "{targets}");

    // A broken file is refused and changes nothing.
    std::fs::write(&file, "scrape_configs: [{job: x}]\n").unwrap();
    let (status, text) = server.post("/-/reload", "text/plain", "");
    assert_eq!(status, 500);
    assert!(text.contains("line 1: field job not found in type config.ScrapeConfig"), "{text}");
    assert_eq!(server.metric("prometheus_config_last_reload_successful"), 0.0);
    assert_eq!(server.query("up").len(), 2);

    // SIGHUP reads the file too.
    std::fs::write(&file, config(port, None)).unwrap();
    server::signal(server.program.id(), "-HUP");
    wait("one job is left", || server.get("/api/v1/scrape_pools").1.contains("[\"node\"]"));
    assert_eq!(server.stop(), Some(0));
    assert!(Path::new(&dir.path().join("data")).is_dir());
}

fn config(port: u16, own: Option<&str>) -> String {
    let mut text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    if let Some(address) = own.and_then(|url| url.strip_prefix("http://")) {
        text.push_str(&format!("- job_name: pilaster\n  static_configs: [{{targets: ['{address}']}}]\n"));
    }
    text
}

fn psql_reads_the_same(server: &Pilaster) {
    // A moment that lies behind both, so that nothing is added between two questions.
    let at = server.query("min(timestamp(up))")[0]["value"][1].as_str().unwrap().to_owned();
    let promql = |query: &str| -> f64 {
        let answer = server.form("/api/v1/query", &[("query", query), ("time", &at)]);
        answer["data"]["result"][0]["value"][1].as_str().unwrap_or("NaN").parse().unwrap()
    };
    let sql = |statement: &str| -> Option<f64> { Some(server.psql(statement)?.parse().unwrap()) };
    let at_ms = (at.parse::<f64>().unwrap() * 1000.0).round() as i64;
    let until = format!("ts <= to_timestamp_millis({at_ms})");
    let Some(total) = sql(&format!("select sum(value) from node_cpu_seconds_total where {until}")) else {
        println!("not compared with SQL: there is no psql");
        return;
    };
    let same = |one: f64, other: f64| assert!((one - other).abs() <= 1e-9 * one.abs(), "{one} {other}");
    same(total, promql("sum(sum_over_time(node_cpu_seconds_total[1h]))"));
    same(
        sql(&format!("select count(*) from node_cpu_seconds_total where mode = 'idle' and {until}")).unwrap(),
        promql("sum(count_over_time(node_cpu_seconds_total{mode=\"idle\"}[1h]))"),
    );
    same(
        sql(&format!("select max(value) from node_filesystem_avail_bytes where {until}")).unwrap(),
        promql("max(max_over_time(node_filesystem_avail_bytes[1h]))"),
    );
    same(
        sql(&format!(
            "select sum(value) from promql('rate(node_cpu_seconds_total[1m])', to_timestamp_millis({at_ms}))"
        ))
        .unwrap(),
        promql("sum(rate(node_cpu_seconds_total[1m]))"),
    );
}
