//! A real Prometheus scrapes, sends everything here by remote write, and both give the same answers.

mod server;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use server::answers::differences;
use server::{Peer, Pilaster, free_port, prometheus_3, wait};

/// Questions for both; `$T` is a time that both have reached.
const QUERIES: &[&str] = &[
    "up",
    "count(up)",
    "{job=\"prometheus\", __name__=~\"prometheus_tsdb_head.*\"}",
    "prometheus_http_requests_total",
    "sum by (code) (prometheus_http_requests_total)",
    "rate(prometheus_http_requests_total[10s])",
    "increase(prometheus_http_requests_total[10s])",
    "irate(process_cpu_seconds_total[10s])",
    "delta(go_goroutines[10s])",
    "idelta(go_goroutines[10s])",
    "deriv(go_memstats_alloc_bytes[10s])",
    "predict_linear(go_memstats_alloc_bytes[10s], 60)",
    "avg_over_time(go_goroutines[10s])",
    "min_over_time(go_goroutines[10s])",
    "max_over_time(go_goroutines[10s])",
    "sum_over_time(go_goroutines[10s])",
    "count_over_time(go_goroutines[10s])",
    "stddev_over_time(go_memstats_alloc_bytes[10s])",
    "quantile_over_time(0.5, go_memstats_alloc_bytes[10s])",
    "last_over_time(up[10s])",
    "changes(go_goroutines[10s])",
    "resets(go_goroutines[10s])",
    "histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[10s]))",
    "histogram_quantile(0.5, sum by (le) (prometheus_http_request_duration_seconds_bucket))",
    // Which of equals are kept depends on the order of series.
    "sum(topk(3, prometheus_http_request_duration_seconds_count))",
    "bottomk(2, go_memstats_alloc_bytes)",
    "quantile(0.7, prometheus_http_response_size_bytes_sum)",
    "stddev(prometheus_http_response_size_bytes_sum)",
    "count_values(\"version\", go_goroutines)",
    "group by (handler) (prometheus_http_requests_total)",
    "avg without (le) (prometheus_http_request_duration_seconds_bucket)",
    "max by (quantile) (go_gc_duration_seconds)",
    "go_memstats_alloc_bytes / go_memstats_sys_bytes",
    "prometheus_http_requests_total / on (handler) group_left prometheus_http_request_duration_seconds_count",
    "go_goroutines > 5 and on (job) up == 1",
    "go_goroutines > bool 5",
    "up or go_goroutines",
    "go_info unless up",
    "prometheus_build_info * on (instance) group_right (version) go_info",
    "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(up, \"both\", \"-\", \"job\", \"instance\")",
    "absent(nothing_has_this_name)",
    "absent_over_time(up[10s])",
    "sort_desc(prometheus_http_response_size_bytes_sum)",
    "clamp_max(go_goroutines, 10)",
    "abs(-go_goroutines)",
    "round(go_memstats_alloc_bytes, 1000)",
    "max_over_time(rate(prometheus_http_requests_total[6s])[8s:2s])",
    "go_goroutines offset 4s",
    "go_goroutines @ $T",
    "timestamp(up)",
    "time() - process_start_time_seconds",
    "hour(vector($T))",
    "scalar(go_goroutines{job=\"prometheus\"})",
    "vector(1) + 2 ^ 3 ^ 2 % 5",
    "up[10s]",
    "sum(rate(prometheus_http_requests_total{code=~\"2..\"}[10s])) by (handler) > 0",
];

const PER_STEP: &str = "--enable-feature=promql-per-step-stats";

/// What `stats=all` says of samples, but for the most that are held at once, which is another matter here.
const COUNTS: [&str; 4] =
    ["totalQueryableSamples", "totalQueryableSamplesPerStep", "samplesRead", "samplesReadPerStep"];

#[test]
fn answers_are_those_of_the_prometheus_that_sends() {
    let Some(prometheus) = prometheus_3() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Without a file it would scrape itself.
    let empty = dir.path().join("empty.yml");
    std::fs::write(&empty, "global: {}\n").unwrap();
    let config = format!("--config.file={}", empty.display());
    let ours = Pilaster::start(&dir.path().join("data"), &[&config, "--web.enable-remote-write-receiver", PER_STEP]);
    let port = free_port();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: prometheus\n  static_configs: [{{targets: \
         ['127.0.0.1:{port}']}}]\nremote_write:\n- url: {}/api/v1/write\n  queue_config: {{batch_send_deadline: 200ms}}\n",
        ours.url
    );
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let theirs = Peer::start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("theirs").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(PER_STEP),
        port,
        "/-/ready",
    );
    wait("25 scrapes have arrived", || {
        let counted = ours.query("count_over_time(up[5m])");
        counted.first().and_then(|one| one["value"][1].as_str()?.parse().ok()).unwrap_or(0) >= 25
    });
    // Everything up to then is on both sides: the newest samples may still be on their way.
    let newest = ours.query("max(timestamp(up))")[0]["value"][1].as_str().unwrap().parse::<f64>().unwrap();
    let at = (newest - 1.0).floor();
    let mut wrong = Vec::new();
    let mut asked = 0;
    let mut compare = |path: &str, fields: &[(&str, &str)]| {
        asked += 1;
        let (one, other) = (ours.form(path, fields), theirs.form(path, fields));
        let mut differences = differences(&one, &other);
        let (one, other) = (&one["data"]["stats"]["samples"], &other["data"]["stats"]["samples"]);
        // Counted so since 3.13.
        if other.get("samplesRead").is_some() && COUNTS.iter().any(|name| one[name] != other[name]) {
            differences.push(format!("samples\n  ours   {one}\n  theirs {other}"));
        }
        if !differences.is_empty() {
            wrong.push(format!("{path} {fields:?}\n {}", differences.join("\n ")));
        }
    };
    for query in QUERIES {
        let query = query.replace("$T", &at.to_string());
        compare("/api/v1/query", &[("query", query.as_str()), ("time", &at.to_string()), ("stats", "all")]);
        if !query.ends_with(']') {
            let (start, end) = ((at - 15.0).to_string(), at.to_string());
            let range =
                [("query", query.as_str()), ("start", &start), ("end", &end), ("step", "1.5"), ("stats", "all")];
            compare("/api/v1/query_range", &range);
        }
    }
    for path in ["/api/v1/labels", "/api/v1/label/handler/values", "/api/v1/label/__name__/values"] {
        let fields = [("end", at.to_string())];
        let path = format!("{path}?end={}", fields[0].1);
        let (one, other) = (ours.get(&path), theirs.get(&path));
        if one != other {
            wrong.push(format!("{path}\n  ours   {one:?}\n  theirs {other:?}"));
        }
    }
    let fields = [("match[]", "{__name__=~\"prometheus_http.*\"}"), ("match[]", "up")];
    let (one, other) = (ours.form("/api/v1/series", &fields), theirs.form("/api/v1/series", &fields));
    let set = |answer: &Value| -> BTreeSet<String> {
        answer["data"].as_array().into_iter().flatten().map(|labels| labels.to_string()).collect()
    };
    // New handlers may have been asked for between the two requests.
    let missing: Vec<_> = set(&one).into_iter().filter(|labels| !set(&other).contains(labels)).collect();
    assert!(missing.is_empty() && set(&one).len() > 50, "{missing:?}");
    println!("{asked} queries, {} differ", wrong.len());
    assert!(wrong.is_empty(), "{} of {asked} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked >= 80);
}
