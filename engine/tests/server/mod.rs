//! A running `pilaster` and other programs, each on a port of its own, ended when the test is.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod answers;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its owner.
pub struct Program {
    child: Child,
}

impl Program {
    pub fn start(command: &mut Command) -> Program {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Program { child }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits; its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        signal(self.child.id(), "-TERM");
        self.wait()
    }
}

impl Program {
    /// Waits for its end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        wait("the program ends", || !matches!(self.child.try_wait(), Ok(None)));
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of this test.
pub fn signal(id: u32, name: &str) {
    let _ = Command::new("kill").args([name, &id.to_string()]).status();
}

/// A server of ours with its data directory and its addresses.
pub struct Pilaster {
    pub program: Program,
    pub url: String,
    sql_port: Option<u16>,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// The program under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pilaster"))
}

impl Pilaster {
    /// Starts a server over `data` and waits until it is ready.
    pub fn start(data: &Path, flags: &[&str]) -> Pilaster {
        Pilaster::start_below("", data, flags)
    }

    /// The same for a server whose routes have a prefix.
    pub fn start_below(prefix: &str, data: &Path, flags: &[&str]) -> Pilaster {
        let mut command = Command::new(binary());
        command
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .args(["--web.listen-address=127.0.0.1:0", "--sql.listen-address=127.0.0.1:0"])
            .args(flags)
            .current_dir(data.parent().unwrap_or(Path::new("/")))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut program = Program::start(&mut command);
        let stderr = program.child.stderr.take().unwrap();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("pilaster: {line}");
                let _ = send.send(line);
            }
        });
        let (mut web, mut sql, started) = (None, None, Instant::now());
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let line = lines.recv_timeout(left).expect("the server says that it is ready");
            if line.contains("Server is ready") {
                break;
            }
            let Some((_, rest)) = line.split_once("msg=\"Listening on\" address=") else { continue };
            let address: std::net::SocketAddr = rest.split(' ').next().unwrap().parse().unwrap();
            let slot = if rest.contains("component=sql") { &mut sql } else { &mut web };
            *slot = Some(address.port());
        }
        // Nobody reads the lines any more; the thread goes on printing them.
        drop(lines);
        let url = format!("http://127.0.0.1:{}", web.unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = Pilaster { program, url, sql_port: sql, client: client(), runtime };
        wait("the server is ready", || server.get(&format!("{prefix}/-/ready")).0 == 200);
        server
    }

    /// Status and body of a GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(&self.runtime, &self.client, &format!("{}{path}", self.url))
    }

    /// Status and body of a POST.
    pub fn post(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
        let request = self.client.post(format!("{}{path}", self.url)).header("Content-Type", content_type);
        send(&self.runtime, request.body(body.into()))
    }

    /// Head and body of the answer to a request on a connection of its own.
    pub fn raw(&self, method: &str, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
        let mut stream = self.connect();
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let mut body = answer.split_off(end + 4);
        if head.contains("transfer-encoding: chunked") {
            // Only the first chunk, which is where the tests look.
            let size = body.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            body.drain(..size);
        }
        (head, body)
    }

    /// Sends a form and hangs up before the answer.
    pub fn abandon(&self, path: &str, form: &str) {
        let mut stream = self.connect();
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let length = form.len();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: test\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{form}")
            .unwrap();
        wait("the query runs", || self.metric("prometheus_engine_queries") == 1.0);
    }

    fn connect(&self) -> std::net::TcpStream {
        std::net::TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap()
    }

    /// The whole answer to a form.
    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        form(&self.runtime, &self.client, &format!("{}{path}", self.url), fields)
    }

    /// The result of an instant query now; panics on an error.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.form("/api/v1/query", &[("query", query)]);
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// One of the server's own numbers.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(f64::NAN)
    }

    /// What `psql` prints for a statement: no header, columns separated by `|`.
    pub fn psql(&self, statement: &str) -> Option<String> {
        let output = Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &self.sql_port?.to_string(), "-U", "test", "-d", "pilaster"])
            .args(["-X", "-A", "-t", "-c", statement])
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .ok()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{statement}: {error}");
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Ends the server by SIGTERM; its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.program.terminate()
    }
}

/// Another server that speaks the same API.
pub struct Peer {
    pub program: Program,
    pub url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Peer {
    pub fn start(command: &mut Command, port: u16, ready: &str) -> Peer {
        let program = Program::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let peer = Peer { program, url, client: client(), runtime };
        wait("the other server is ready", || peer.get(ready).0 == 200);
        peer
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        get(&self.runtime, &self.client, &format!("{}{path}", self.url))
    }

    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        form(&self.runtime, &self.client, &format!("{}{path}", self.url), fields)
    }

    /// Status and body of a POST.
    pub fn post(&self, path: &str, kind: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
        let mut request = self.client.post(format!("{}{path}", self.url)).header("Content-Type", kind);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&self.runtime, request.body(body))
    }
}

/// The HTTP client wants to be told whose cryptography it uses, even for plain HTTP.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

fn get(runtime: &tokio::runtime::Runtime, client: &reqwest::Client, url: &str) -> (u16, String) {
    send(runtime, client.get(url))
}

fn form(runtime: &tokio::runtime::Runtime, client: &reqwest::Client, url: &str, fields: &[(&str, &str)]) -> Value {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(body);
    let (status, text) = send(runtime, request);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{url} {fields:?}: {status} {text}"))
}

/// Status 0 stands for no answer.
fn send(runtime: &tokio::runtime::Runtime, request: reqwest::RequestBuilder) -> (u16, String) {
    runtime.block_on(async {
        match request.timeout(Duration::from_secs(30)).send().await {
            Ok(response) => (response.status().as_u16(), response.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    })
}

/// A port that nobody uses, for a program that has to be told one. No other call of this process gets it, nor does whoever
/// leaves the choice to the system, which begins at 32768 or above.
pub fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let of_this_process = std::process::id().wrapping_mul(101);
    loop {
        let port = of_this_process.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % 20_000 + 12_000;
        if TcpListener::bind(("127.0.0.1", port as u16)).is_ok() {
            return port as u16;
        }
    }
}

/// Waits until `done`, for [`PATIENCE`] at most.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited for this in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A program by its path in `variable`, or by its name in `PATH`; `None`, with a message, where there is none.
pub fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&directories).map(|directory| directory.join(name));
    let found = named.into_iter().chain(in_path).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: there is no {name} in PATH and {variable} names none");
    }
    found
}

/// A Prometheus with the formats of 3.x; older ones are packaged, and know less. `None`, with a message, where there is none.
pub fn prometheus_3() -> Option<PathBuf> {
    let path = program("PILASTER_PROMETHEUS", "prometheus")?;
    let version = Command::new(&path).arg("--version").output().unwrap();
    // Old ones print it to the one, new ones to the other.
    let version = String::from_utf8_lossy(&[version.stdout, version.stderr].concat()).into_owned();
    let word = version.split_whitespace().nth(2).unwrap_or_default();
    // One that was built from its Go module does not know its version, and is as new as that.
    let major: Option<u32> = word.split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major| major < 3) {
        println!("skipped: {} is version {word}, and 3 is needed", path.display());
        return None;
    }
    Some(path)
}
