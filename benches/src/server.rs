//! Servers under measurement: started on loopback, loaded through remote write, asked over HTTP, ended by process id.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pilaster_ingest::remote_write::{SeriesToSend, encode_v1};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use serde_json::Value;

/// Everything of PromQL that is off by default, so that it is measured and compared too.
const FEATURES: &str = "promql-experimental-functions,promql-duration-expr,promql-extended-range-selectors,\
    promql-binop-fill-modifiers";

/// Which program it is; they differ in a few flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pilaster,
    Prometheus,
    VictoriaMetrics,
}

/// A running server. Dropping it ends the process.
pub struct Server {
    child: Child,
    program: PathBuf,
    home: PathBuf,
    /// Enabled besides the usual ones.
    features: String,
    pub kind: Kind,
    pub url: String,
    pub data_dir: PathBuf,
    client: reqwest::Client,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub resident_bytes: u64,
    pub peak_resident_bytes: u64,
    /// What is resident of files that are mapped, the program's own among them.
    pub resident_file_bytes: u64,
    pub cpu_seconds: f64,
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    /// Starts `program` on an empty directory below `dir` and waits until it is ready.
    pub async fn start(kind: Kind, program: &Path, dir: &Path) -> anyhow::Result<Server> {
        Server::start_with(kind, program, dir, "").await
    }

    /// The same with more features enabled, separated by commas.
    pub async fn start_with(kind: Kind, program: &Path, dir: &Path, features: &str) -> anyhow::Result<Server> {
        let home = dir.join(format!("{kind:?}").to_lowercase());
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("prometheus.yml"), "global:\n  scrape_interval: 1m\n")?;
        // The HTTP client wants to be told whose cryptography it uses, even for plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(600));
        let client = client.no_gzip().default_headers(headers).build()?;
        let port = free_port()?;
        let data_dir = home.join("data");
        let child = spawn(kind, program, &home, port, features)?;
        let url = format!("http://127.0.0.1:{port}");
        let (program, features) = (program.to_owned(), features.to_owned());
        let mut server = Server { child, program, home, features, kind, url, data_dir, client };
        server.wait_ready(Duration::from_secs(60)).await?;
        Ok(server)
    }

    /// Asks the process to end, waits until it has, and starts it again on its directory. Does not wait until it is
    /// ready: [`Server::wait_ready`] does. Returns how long ending took.
    pub fn restart(&mut self) -> anyhow::Result<Duration> {
        self.restart_after("-TERM")
    }

    /// [`Server::restart`] for a process that gets no time to end.
    pub fn kill_and_restart(&mut self) -> anyhow::Result<Duration> {
        self.restart_after("-KILL")
    }

    fn restart_after(&mut self, signal: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        Command::new("kill").arg(signal).arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        let took = begun.elapsed();
        let port = free_port()?;
        self.url = format!("http://127.0.0.1:{port}");
        self.child = spawn(self.kind, &self.program, &self.home, port, &self.features)?;
        Ok(took)
    }

    /// Returns when the server says that it is ready.
    pub async fn wait_ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let path = if self.kind == Kind::VictoriaMetrics { "/health" } else { "/-/ready" };
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("{:?} ended by itself: {status}", self.kind);
            }
            if let Ok(answer) = self.client.get(format!("{}{path}", self.url)).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{:?} is not ready after {patience:?}", self.kind)
    }

    /// Sends one remote-write request (version 1.0); returns when it was acknowledged.
    pub async fn write(&self, body: Vec<u8>) -> anyhow::Result<()> {
        self.writer().write(body).await
    }

    /// What another task needs to send to this server.
    pub fn writer(&self) -> Writer {
        Writer { kind: self.kind, url: format!("{}/api/v1/write", self.url), client: self.client.clone() }
    }

    /// What another task needs to ask this server.
    pub fn asker(&self) -> Asker {
        Asker { url: self.url.clone(), client: self.client.clone() }
    }

    /// The body of a GET with parameters, whatever its status.
    pub async fn get(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Body> {
        self.asker().get(path, parameters).await
    }

    /// The same, unpacked and parsed.
    pub async fn get_json(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        let body = self.get(path, parameters).await?.unpack()?;
        serde_json::from_slice(&body)
            .with_context(|| format!("{:?} answered {path} with {}", self.kind, String::from_utf8_lossy(&body)))
    }

    /// Memory and processor time of the process.
    pub fn usage(&self) -> Usage {
        usage_of(&self.child.id().to_string())
    }

    /// From here on, the peak of [`Server::usage`] counts anew.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        let file = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(&file, "5").with_context(|| format!("could not write {file}"))
    }

    /// Bytes of all files below the data directory.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.data_dir)
    }
}

/// Memory and processor time of this process, with all its threads.
pub fn own_usage() -> Usage {
    usage_of("self")
}

/// Of a process by its folder in `/proc`; zeros where that does not tell.
fn usage_of(process: &str) -> Usage {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let status = read("status");
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let stat = read("stat");
    // Fields behind the program's name: user and system time are the 12th and 13th, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Usage {
        resident_bytes: kib("VmRSS:") * 1024,
        peak_resident_bytes: kib("VmHWM:") * 1024,
        resident_file_bytes: kib("RssFile:") * 1024,
        cpu_seconds: (ticks(11) + ticks(12)) / 100.0,
    }
}

/// Bytes of all files below `dir`; 0 where there is no such directory.
pub fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Asks a server.
#[derive(Debug, Clone)]
pub struct Asker {
    url: String,
    client: reqwest::Client,
}

impl Asker {
    /// The body of a GET with parameters, whatever its status.
    pub async fn get(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Body> {
        let answer = self.client.get(format!("{}{path}", self.url)).query(parameters).send().await?;
        let packed = answer.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
        Ok(Body { bytes: answer.bytes().await?.into(), packed })
    }
}

/// The body of an answer as it was sent: who measures a server does not wait for its own unpacking.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    packed: bool,
}

impl Body {
    /// What was packed.
    pub fn unpack(self) -> anyhow::Result<Vec<u8>> {
        if !self.packed {
            return Ok(self.bytes);
        }
        let mut text = Vec::with_capacity(self.bytes.len() * 4);
        flate2::read::MultiGzDecoder::new(self.bytes.as_slice()).read_to_end(&mut text)?;
        Ok(text)
    }
}

/// Sends to a server.
#[derive(Debug, Clone)]
pub struct Writer {
    kind: Kind,
    url: String,
    client: reqwest::Client,
}

impl Writer {
    /// Sends one remote-write request (version 1.0); returns when it was acknowledged.
    pub async fn write(&self, body: Vec<u8>) -> anyhow::Result<()> {
        let request = self
            .client
            .post(&self.url)
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(body);
        let answer = request.send().await?;
        if !answer.status().is_success() {
            bail!("{:?} refused a write: {} {}", self.kind, answer.status(), answer.text().await?);
        }
        Ok(())
    }
}

fn spawn(kind: Kind, program: &Path, home: &Path, port: u16, features: &str) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(home.join("log"))?;
    let data_dir = home.join("data");
    let mut command = Command::new(program);
    if kind == Kind::VictoriaMetrics {
        command
            .arg(format!("-storageDataPath={}", data_dir.display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .arg("-retentionPeriod=10y")
            // Its defaults hide the newest samples, remember answers, and refuse selectors of many series.
            .arg("-search.latencyOffset=0s")
            .arg("-search.disableCache")
            .arg("-search.maxUniqueTimeseries=30000000");
    } else {
        command
            .arg(format!("--config.file={}", home.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data_dir.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.enable-remote-write-receiver")
            .arg("--web.enable-admin-api")
            .arg("--storage.tsdb.retention.time=10y")
            .arg(format!("--enable-feature={FEATURES},{features}"));
    }
    if kind == Kind::Pilaster {
        command.arg("--sql.listen-address=127.0.0.1:0");
    }
    command.stdout(Stdio::null()).stderr(log).spawn().with_context(|| format!("could not start {program:?}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The compressed body of a remote-write request.
pub fn write_request<'a>(series: impl IntoIterator<Item = SeriesToSend<'a>>) -> anyhow::Result<Vec<u8>> {
    Ok(snap::raw::Encoder::new().compress_vec(&encode_v1(series))?)
}
