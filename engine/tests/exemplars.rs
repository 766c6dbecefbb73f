//! Exemplars from scrapes and remote write, asked for beside a real Prometheus.

mod server;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use server::{Peer, Pilaster, free_port, prometheus_3, wait};

const BODY: &str = r#"# TYPE requests counter
requests_total{path="/a"} 5 # {trace_id="t1"} 1.5 1700000000.25
requests_total{path="/b"} 7 # {trace_id="t2",user="u\"x"} 0.1 1700000001
# TYPE latency histogram
latency_bucket{le="0.1"} 3 # {trace_id="t3"} 0.05 1700000002
latency_bucket{le="1"} 4 # {trace_id="t4"} 1e-7 1700000003.5
latency_bucket{le="+Inf"} 5 # {} 7 1700000004
latency_count 5
latency_sum 9
# EOF
"#;

/// Shows [`BODY`] for as long as the test runs.
fn target() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                while lines.by_ref().any(|line| line.is_empty()) {
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0";
                    let _ = write!(&stream, "{head}\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
                }
            });
        }
    });
    port
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | 2), out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A double and, in the field behind it, a timestamp.
fn number(field: u32, value: f64, timestamp_ms: u64) -> Vec<u8> {
    let mut out = vec![(field << 3 | 1) as u8];
    out.extend(value.to_le_bytes());
    out.push(((field + 1) << 3) as u8);
    varint(timestamp_ms, &mut out);
    out
}

fn label(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put(1, name.as_bytes(), &mut out);
    put(2, value.as_bytes(), &mut out);
    out
}

/// A remote write 1.0 request with one series, a sample and exemplars.
fn write_request(now_ms: u64, exemplars: &[(&str, f64, u64)]) -> Vec<u8> {
    let mut series = Vec::new();
    put(1, &label("__name__", "written_total"), &mut series);
    put(2, &number(1, 3.0, now_ms), &mut series);
    for (trace, value, timestamp_ms) in exemplars {
        let mut exemplar = Vec::new();
        put(1, &label("trace_id", trace), &mut exemplar);
        exemplar.extend(number(2, *value, *timestamp_ms));
        put(3, &exemplar, &mut series);
    }
    let mut request = Vec::new();
    put(1, &series, &mut request);
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

const QUERIES: [&str; 7] = [
    "rate(requests_total[5m])",
    "requests_total{path=\"/b\"} + on() latency_count",
    "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))",
    "written_total",
    "{__name__=~\"requests_total|written_total\"} or latency_bucket{le=\"1.0\"}",
    "nothing",
    "1 + 1",
];

#[test]
fn exemplars_are_those_of_a_real_prometheus_and_survive_a_kill() {
    let port = target();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let job = format!("- {{job_name: j, static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]}}");
    let text = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{job}\n");
    std::fs::write(&config, text).unwrap();
    let config = format!("--config.file={}", config.display());
    let flags = [&config, "--enable-feature=exemplar-storage", "--web.enable-remote-write-receiver"];
    let mut ours = Pilaster::start(&folder.path().join("ours"), &flags);
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    // The third is late, the fourth too long, the last there already.
    let long = "x".repeat(121);
    let exemplars = [
        ("w1", 1.0, now_ms - 9),
        ("w2", 2.0, now_ms - 8),
        ("w3", 3.0, now_ms - 20),
        (&long, 4.0, now_ms),
        ("w2", 2.0, now_ms - 8),
    ];
    let body = write_request(now_ms, &exemplars);
    let kind = "application/x-protobuf";
    assert_eq!(ours.post("/api/v1/write", kind, body.clone()).0, 204);
    let ask = |ours: &Pilaster, query: &str| {
        let path = format!("/api/v1/query_exemplars?{}", form(&[("query", query), ("start", "1600000000")]));
        ours.get(&path)
    };
    wait("the target is scraped", || ask(&ours, "requests_total").1.contains("t2"));
    let before: Vec<_> = QUERIES.iter().map(|query| ask(&ours, query)).collect();
    assert!(before[3].1.contains("w2") && !before[3].1.contains("w3"), "{}", before[3].1);
    assert!(before[1].1.contains("t2") && !before[1].1.contains("t1"), "{}", before[1].1);
    assert_eq!((before[5].0, before[5].1.as_str()), (200, "{\"status\":\"success\",\"data\":[]}"));
    assert_eq!((before[6].0, before[6].1.as_str()), (204, ""));
    let (status, text) = ours.get("/api/v1/query_exemplars?query=up&start=2&end=1");
    assert_eq!(status, 400, "{text}");
    // GET and POST are the same.
    let posted = ours.form("/api/v1/query_exemplars", &[("query", QUERIES[0]), ("start", "1600000000")]);
    assert_eq!(posted, serde_json::from_str::<Value>(&before[0].1).unwrap());
    if let Some(prometheus) = prometheus_3() {
        let port = free_port();
        let mut command = Command::new(prometheus);
        command.args(flags).arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("theirs").display()));
        let theirs = Peer::start(&mut command, port, "/-/ready");
        let ask_them = |query: &str| {
            let query = form(&[("query", query), ("start", "1600000000")]);
            theirs.get(&format!("/api/v1/query_exemplars?{query}"))
        };
        wait("the target is scraped there", || ask_them("requests_total").1.contains("t2"));
        assert_eq!(theirs.post("/api/v1/write", kind, &[("Content-Encoding", "snappy")], body).0, 204);
        for (query, ours) in QUERIES.iter().zip(&before) {
            let theirs = ask_them(query);
            assert_eq!((ours.0, unescaped(&ours.1)), (theirs.0, unescaped(&theirs.1)), "{query}");
        }
        let refused = theirs.get("/api/v1/query_exemplars?query=up&start=2&end=1");
        assert_eq!((status, text), refused);
    }
    // SIGKILL: the log has them.
    server::signal(ours.program.id(), "-KILL");
    ours.program.wait();
    drop(ours);
    let ours = Pilaster::start(&folder.path().join("ours"), &flags);
    let after: Vec<_> = QUERIES.iter().map(|query| ask(&ours, query)).collect();
    assert_eq!(after, before);
    // What is said of metrics is there before any target has been asked again.
    let (_, metadata) = ours.get("/api/v1/metadata?metric=latency");
    assert!(metadata.contains("histogram"), "{metadata}");
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Escapes in values of exemplars' labels stay as they are in Prometheus.
fn unescaped(text: &str) -> String {
    text.replace("u\\\\\\\"x", "u\\\"x")
}
