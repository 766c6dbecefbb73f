//! A server whose blocks are in an object store, of each kind: killed, without its cache, beside others, and cut off.

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parking_lot::Mutex;
use pilaster_ingest::remote_write::{SeriesToSend, encode_v1};
use pilaster_model::Labels;
use pilaster_storage::env::Env;
use pilaster_storage::env::objects::open_url;
use server::{Pilaster, Program, binary, free_port, program, signal, wait};

const SERIES: usize = 20;
const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 8 * 3600 * 1000 / STEP_MS;

/// A server with one bucket, `metrics`.
struct Bucket {
    program: Program,
    scheme: &'static str,
    options: Vec<(&'static str, String)>,
    /// One of the options' values that nobody may see, and one that everybody may.
    secret: &'static str,
    shown: &'static str,
}

/// The key that Azurite knows; it is published with it.
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes a container in Azurite, which takes signed requests only: port and key are arguments.
const MAKE_CONTAINER: &str = r#"
import base64, hashlib, hmac, http.client, sys
from email.utils import formatdate
port, key = int(sys.argv[1]), base64.b64decode(sys.argv[2])
headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
lines = [f"{name}:{value}" for name, value in headers.items()] + ["/devstoreaccount1/devstoreaccount1/metrics", "restype:container"]
text = "PUT" + "\n" * 12 + "\n".join(lines)
sign = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
connection = http.client.HTTPConnection("127.0.0.1", port)
connection.request("PUT", "/devstoreaccount1/metrics?restype=container",
    headers=headers | {"Authorization": f"SharedKey devstoreaccount1:{sign}", "Content-Length": "0"})
sys.exit(connection.getresponse().status != 201)
"#;

impl Bucket {
    /// Of S3, as moto speaks it. `None`, with a message, where there is no moto; likewise below.
    fn s3() -> Option<Bucket> {
        let python = program("PILASTER_PYTHON", "python3")?;
        let there = Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            println!("skipped: {} has no moto; PILASTER_PYTHON may name one that has", python.display());
            return None;
        }
        let port = free_port();
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let program = start(&mut command);
        wait("S3 answers", || request(port, "PUT", "/metrics", "").contains("200 OK"));
        let options = vec![
            ("endpoint", format!("http://127.0.0.1:{port}")),
            ("region", "us-east-1".to_owned()),
            ("access_key_id", "ada".to_owned()),
            ("secret_access_key", "whisper".to_owned()),
        ];
        Some(Bucket { program, scheme: "s3", options, secret: "whisper", shown: "us-east-1" })
    }

    /// Of Azure Blob Storage, as Azurite speaks it.
    fn azure(dir: &Path) -> Option<Bucket> {
        let azurite = program("PILASTER_AZURITE", "azurite-blob")?;
        let python = program("PILASTER_PYTHON", "python3")?;
        let port = free_port();
        let mut command = Command::new(azurite);
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"]);
        command.args(["--blobPort", &port.to_string(), "--location"]).arg(dir.join("azurite"));
        let program = start(&mut command);
        let made = || Command::new(&python).args(["-c", MAKE_CONTAINER, &port.to_string(), AZURITE_KEY]).output();
        wait("Azurite has a container", || made().is_ok_and(|output| output.status.success()));
        let options = vec![
            ("endpoint", format!("http://127.0.0.1:{port}/devstoreaccount1")),
            ("account_name", "devstoreaccount1".to_owned()),
            ("account_key", AZURITE_KEY.to_owned()),
        ];
        Some(Bucket { program, scheme: "az", options, secret: AZURITE_KEY, shown: "devstoreaccount1" })
    }

    /// Of Google Cloud Storage, as a fake-gcs-server speaks it that has the XML API, such as that of
    /// github.com/tustvold/fake-gcs-server on its branch support-xml-api; the original has half of it.
    fn google(dir: &Path) -> Option<Bucket> {
        let server = program("PILASTER_FAKE_GCS", "fake-gcs-server-xml")?;
        let port = free_port();
        let mut command = Command::new(server);
        command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string(), "-filesystem-root"]);
        command.arg(dir.join("gcs")).args(["-public-host", &format!("127.0.0.1:{port}")]);
        let program = start(&mut command);
        let bucket = r#"{"name":"metrics"}"#;
        wait("Google's storage answers", || {
            request(port, "POST", "/storage/v1/b?project=p", bucket).contains("200 OK")
        });
        // A key that signs nothing: whoever has it wants no tokens.
        let base_url = format!("http://127.0.0.1:{port}");
        let key = r#"{"private_key":"whisper","private_key_id":"","client_email":"","disable_oauth":true}"#;
        let options = vec![("base_url", base_url), ("service_account_key", key.to_owned())];
        Some(Bucket { program, scheme: "gs", options, secret: "whisper", shown: "base_url" })
    }

    fn url(&self, prefix: &str) -> String {
        format!("{}://metrics/{prefix}", self.scheme)
    }

    fn options(&self) -> impl Iterator<Item = (String, String)> {
        let common = [("allow_http", "true".to_owned()), ("timeout", "2s".to_owned())];
        self.options.clone().into_iter().chain(common).map(|(key, value)| (key.to_owned(), value))
    }

    /// Names of all objects below a prefix, without it.
    fn objects(&self, prefix: &str) -> Vec<String> {
        let options: Vec<(String, String)> = self.options().collect();
        let objects = open_url(&self.url(prefix), &options, Env::real().files).unwrap();
        objects.list("").unwrap().into_iter().map(|listed| listed.name).collect()
    }

    /// A configuration with blocks below `prefix`.
    fn config(&self, dir: &Path, prefix: &str, more: &str) -> String {
        let options: Vec<String> = self.options().map(|(key, value)| format!("{key}: '{value}'")).collect();
        let options = format!("{{{}}}", options.join(", "));
        let more = more.replace("OPTIONS", &options);
        let path = dir.join(format!("{prefix}.yml"));
        let text = format!("storage:\n  blocks:\n    url: {}\n    options: {options}\n{more}", self.url(prefix));
        std::fs::write(&path, text).unwrap();
        format!("--config.file={}", path.display())
    }
}

fn start(command: &mut Command) -> Program {
    Program::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

/// The answer to a request, headers and all; empty where there is none.
fn request(port: u16, method: &str, path: &str, body: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: store\r\nContent-Type: application/json\r\nContent-Length: {length}"
    );
    let sent = write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}");
    let mut answer = String::new();
    match sent.and_then(|()| stream.read_to_string(&mut answer)) {
        Ok(_) | Err(_) => answer,
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
    let dir = tempfile::tempdir().unwrap();
    Bucket::s3().iter().for_each(|bucket| live_in(bucket, dir.path()));
}

#[test]
fn blocks_live_in_azure() {
    let dir = tempfile::tempdir().unwrap();
    Bucket::azure(dir.path()).iter().for_each(|bucket| live_in(bucket, dir.path()));
}

#[test]
fn blocks_live_in_google_cloud() {
    let dir = tempfile::tempdir().unwrap();
    Bucket::google(dir.path()).iter().for_each(|bucket| live_in(bucket, dir.path()));
}

/// One life at a time: stores that a small machine keeps waiting look as if they hung.
static ALIVE: Mutex<()> = Mutex::new(());

fn live_in(bucket: &Bucket, dir: &Path) {
    let _alone = ALIVE.lock();
    let data = dir.join("one");
    let config = bucket.config(dir, "one", "");
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
    assert!(shown.contains(bucket.shown) && shown.contains("<secret>") && !shown.contains(bucket.secret), "{shown}");
    kill(server, &data);

    // The next start finds complete ranges in the log and puts them. It is killed somewhere on the way, too.
    let server = Pilaster::start(&data, &flags);
    wait("something is put", || bucket.objects("one").iter().any(|name| name.starts_with("samples/")));
    kill(server, &data);
    let server = Pilaster::start(&data, &flags);
    wait("blocks are put", || server.metric("pilaster_block_samples") > (all / 2) as f64);
    assert_eq!(count(&server, now_ms), all);
    kill(server, &data);

    let server = Pilaster::start(&data, &flags);
    assert_eq!(count(&server, now_ms), all);
    let names = bucket.objects("one");
    assert!(names.contains(&"manifest.jsonl".to_owned()) && names.contains(&"views.sql".to_owned()), "{names:?}");
    assert!(names.iter().any(|name| name.ends_with(".parquet")), "{names:?}");
    // A block that is being merged is here until it is put.
    wait("nothing is left here", || files(&data, "parquet").is_empty());
    assert!(server.metric("pilaster_object_store_requests_total") > 0.0);
    let misses = server.metric("pilaster_block_cache_misses_total");
    assert!(misses > 0.0);
    assert_eq!(count(&server, now_ms), all);
    assert_eq!(server.metric("pilaster_block_cache_misses_total"), misses, "a warm query reads nothing from afar");

    // Nobody else writes there by mistake.
    let mut intruder = Command::new(binary());
    intruder.arg(&config).arg(format!("--storage.tsdb.path={}", dir.join("two").display()));
    intruder.args(["--web.listen-address=127.0.0.1:0", "--sql.listen-address="]);
    let refused = intruder.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("belong to another data directory"), "{said}");

    // Another server reads them beside its own.
    let other_data = dir.join("three");
    let reads = format!("    read_from: [{{url: \"{}\", options: OPTIONS}}]\n", bucket.url("one"));
    let other_config = bucket.config(dir, "three", &reads);
    let other = Pilaster::start(&other_data, &[&other_config, flags[1]]);
    let in_blocks = count(&other, now_ms);
    assert!(in_blocks > all / 2 && in_blocks < all, "{in_blocks} of {all}: the rest is in the other's memory");
    send(&other, first_ms, SAMPLES - 10..SAMPLES);
    assert_eq!(count(&other, now_ms), in_blocks + 10 * SERIES);
    assert_eq!(other.metric("pilaster_block_sources_readable"), 1.0);
    assert_eq!(other.stop(), Some(0));

    // The store hangs: what is in memory is served, what comes is taken, what is far away is an error, and a restart works.
    signal(bucket.program.id(), "-STOP");
    kill(server, &data);
    let server = Pilaster::start(&data, &flags);
    send(&server, first_ms, SAMPLES..SAMPLES + 4);
    let recent =
        server.form("/api/v1/query", &[("query", "count(trips_total)"), ("time", &format!("{}", now_ms / 1000))]);
    assert_eq!(recent["data"]["result"][0]["value"][1], SERIES.to_string().as_str(), "{recent}");
    let at = format!("{}", (first_ms + 600_000) / 1000);
    let far = server.form("/api/v1/query", &[("query", "count(trips_total)"), ("time", &at)]);
    assert_eq!(far["errorType"], "internal", "{far}");
    assert!(far["error"].as_str().is_some_and(|text| text.contains(&bucket.url("one"))), "{far}");
    signal(bucket.program.id(), "-CONT");
    wait("the store is heard of again", || count_or_zero(&server, now_ms + 4 * STEP_MS) == all + 4 * SERIES);
    assert_eq!(server.stop(), Some(0));
}

fn count_or_zero(server: &Pilaster, at_ms: i64) -> usize {
    let answer = server.form("/api/v1/query", &[("query", COUNT), ("time", &format!("{}", at_ms / 1000))]);
    answer["data"]["result"][0]["value"][1].as_str().map_or(0, |count| count.parse().unwrap())
}
