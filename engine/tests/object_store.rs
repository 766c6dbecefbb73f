//! A server whose blocks are in S3, as moto speaks it: killed, without its cache, beside others, and cut off.

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pilaster_ingest::remote_write::{SeriesToSend, encode_v1};
use pilaster_model::Labels;
use server::{Pilaster, Program, binary, free_port, program, signal, wait};

const SERIES: usize = 20;
const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 8 * 3600 * 1000 / STEP_MS;

/// An S3 server with one bucket, `metrics`.
struct S3 {
    program: Program,
    port: u16,
}

impl S3 {
    /// `None`, with a message, where there is no moto.
    fn start() -> Option<S3> {
        let python = program("PILASTER_PYTHON", "python3")?;
        let there = Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            println!("skipped: {} has no moto; PILASTER_PYTHON may name one that has", python.display());
            return None;
        }
        let port = free_port();
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let s3 = S3 { program: Program::start(command.stdout(Stdio::null()).stderr(Stdio::null())), port };
        wait("S3 answers", || s3.request("PUT", "/metrics").contains("200 OK"));
        Some(s3)
    }

    fn request(&self, method: &str, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return String::new() };
        let sent =
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: s3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        match sent.and_then(|()| stream.read_to_string(&mut answer)) {
            Ok(_) | Err(_) => answer,
        }
    }

    /// Names of all objects below a prefix.
    fn objects(&self, prefix: &str) -> Vec<String> {
        let answer = self.request("GET", &format!("/metrics?list-type=2&prefix={prefix}/"));
        let keys = answer.split("<Key>").skip(1);
        keys.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
    }

    /// A configuration with blocks below `prefix`.
    fn config(&self, dir: &Path, prefix: &str, more: &str) -> String {
        let options = format!(
            "{{endpoint: \"http://127.0.0.1:{}\", region: us-east-1, allow_http: true, access_key_id: ada, \
             secret_access_key: whisper, timeout: 2s}}",
            self.port
        );
        let more = more.replace("OPTIONS", &options);
        let path = dir.join(format!("{prefix}.yml"));
        let text = format!("storage:\n  blocks:\n    url: s3://metrics/{prefix}\n    options: {options}\n{more}");
        std::fs::write(&path, text).unwrap();
        format!("--config.file={}", path.display())
    }
}

fn send(server: &Pilaster, first_ms: i64, steps: std::ops::Range<i64>) {
    let series: Vec<(Labels, Vec<(i64, f64)>)> = (0..SERIES)
        .map(|line| {
            let labels = Labels::from_pairs([("__name__", "trips_total"), ("line", &line.to_string())]);
            let samples = steps.clone().map(|step| (first_ms + step * STEP_MS, (step * (line as i64 + 1)) as f64));
            (labels, samples.collect())
        })
        .collect();
    let message = encode_v1(series.iter().map(|(labels, samples)| SeriesToSend::floats(labels, samples)));
    let body = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    let (status, text) = server.post("/api/v1/write", "application/x-protobuf", body);
    assert_eq!(status, 204, "{text}");
}

/// How many samples there are, which indexes know; the deviation makes it read them.
const COUNT: &str = "sum(count_over_time(trips_total[12h]) + 0 * stddev_over_time(trips_total[12h]))";

fn count(server: &Pilaster, at_ms: i64) -> usize {
    let at = format!("{}.{:03}", at_ms / 1000, at_ms % 1000);
    let answer = server.form("/api/v1/query", &[("query", COUNT), ("time", &at)]);
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"]["result"][0]["value"][1].as_str().map_or(0, |count| count.parse().unwrap())
}

fn kill(server: Pilaster, data: &Path) {
    signal(server.program.id(), "-KILL");
    drop(server);
    let _ = std::fs::remove_dir_all(data.join("cache"));
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn blocks_live_in_s3() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("one");
    let config = s3.config(dir.path(), "one", "");
    let flags = [config.as_str(), "--web.enable-remote-write-receiver"];
    let server = Pilaster::start(&data, &flags);
    let now_ms = server.form("/api/v1/query", &[("query", "1")])["data"]["result"][0].as_f64().unwrap() as i64 * 1000;
    let first_ms = now_ms / STEP_MS * STEP_MS - SAMPLES * STEP_MS;
    for part in 0..8 {
        send(&server, first_ms, part * SAMPLES / 8..(part + 1) * SAMPLES / 8);
    }
    let all = SERIES * SAMPLES as usize;
    assert_eq!(count(&server, now_ms), all);
    let shown = server.get("/api/v1/status/config").1;
    assert!(shown.contains("us-east-1") && shown.contains("<secret>") && !shown.contains("whisper"), "{shown}");
    kill(server, &data);

    // The next start finds complete ranges in the log and puts them. It is killed somewhere on the way, too.
    let server = Pilaster::start(&data, &flags);
    wait("something is put", || s3.objects("one").iter().any(|name| name.contains("/samples/")));
    kill(server, &data);
    let server = Pilaster::start(&data, &flags);
    wait("blocks are put", || server.metric("pilaster_block_samples") > (all / 2) as f64);
    assert_eq!(count(&server, now_ms), all);
    kill(server, &data);

    let server = Pilaster::start(&data, &flags);
    assert_eq!(count(&server, now_ms), all);
    let names = s3.objects("one");
    assert!(
        names.contains(&"one/manifest.jsonl".to_owned()) && names.contains(&"one/views.sql".to_owned()),
        "{names:?}"
    );
    assert!(names.iter().any(|name| name.ends_with(".parquet")), "{names:?}");
    assert_eq!(files(&data, "parquet"), Vec::<PathBuf>::new());
    assert!(server.metric("pilaster_object_store_requests_total") > 0.0);
    let misses = server.metric("pilaster_block_cache_misses_total");
    assert!(misses > 0.0);
    assert_eq!(count(&server, now_ms), all);
    assert_eq!(server.metric("pilaster_block_cache_misses_total"), misses, "a warm query reads nothing from afar");

    // Nobody else writes there by mistake.
    let mut intruder = Command::new(binary());
    intruder.arg(&config).arg(format!("--storage.tsdb.path={}", dir.path().join("two").display()));
    intruder.args(["--web.listen-address=127.0.0.1:0", "--sql.listen-address="]);
    let refused = intruder.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("belong to another data directory"), "{said}");

    // Another server reads them beside its own.
    let other_data = dir.path().join("three");
    let reads = "    read_from: [{url: \"s3://metrics/one\", options: OPTIONS}]\n";
    let other_config = s3.config(dir.path(), "three", reads);
    let other = Pilaster::start(&other_data, &[&other_config, flags[1]]);
    let in_blocks = count(&other, now_ms);
    assert!(in_blocks > all / 2 && in_blocks < all, "{in_blocks} of {all}: the rest is in the other's memory");
    send(&other, first_ms, SAMPLES - 10..SAMPLES);
    assert_eq!(count(&other, now_ms), in_blocks + 10 * SERIES);
    assert_eq!(other.metric("pilaster_block_sources_readable"), 1.0);
    assert_eq!(other.stop(), Some(0));

    // S3 hangs: what is in memory is served, what comes is taken, what is far away is an error, and a restart works.
    signal(s3.program.id(), "-STOP");
    kill(server, &data);
    let server = Pilaster::start(&data, &flags);
    send(&server, first_ms, SAMPLES..SAMPLES + 4);
    let recent =
        server.form("/api/v1/query", &[("query", "count(trips_total)"), ("time", &format!("{}", now_ms / 1000))]);
    assert_eq!(recent["data"]["result"][0]["value"][1], SERIES.to_string().as_str(), "{recent}");
    let at = format!("{}", (first_ms + 600_000) / 1000);
    let far = server.form("/api/v1/query", &[("query", "count(trips_total)"), ("time", &at)]);
    assert_eq!(far["errorType"], "internal", "{far}");
    assert!(far["error"].as_str().is_some_and(|text| text.contains("s3://metrics/one")), "{far}");
    signal(s3.program.id(), "-CONT");
    wait("S3 is heard of again", || count_or_zero(&server, now_ms + 4 * STEP_MS) == all + 4 * SERIES);
    assert_eq!(server.stop(), Some(0));
}

fn count_or_zero(server: &Pilaster, at_ms: i64) -> usize {
    let answer = server.form("/api/v1/query", &[("query", COUNT), ("time", &format!("{}", at_ms / 1000))]);
    answer["data"]["result"][0]["value"][1].as_str().map_or(0, |count| count.parse().unwrap())
}
