//! A real server process on loopback.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub struct Server {
    child: Child,
    /// Empty until it is ready.
    pub url: String,
    /// Configuration and log: not on the disk that a test fills or cuts off.
    own: tempfile::TempDir,
}

/// How a server is started.
#[derive(Default)]
pub struct Setup<'a> {
    pub flags: &'a [&'a str],
    /// More of the configuration, as YAML.
    pub config: &'a str,
}

impl Server {
    pub fn start(dir: &Path) -> Server {
        Server::start_with(dir, &Setup::default())
    }

    pub fn start_with(dir: &Path, setup: &Setup) -> Server {
        Server::spawn(dir, setup, |command| command.spawn().unwrap())
    }

    /// Starts the server by `spawn`, which gets the command.
    pub fn spawn(dir: &Path, setup: &Setup, spawn: impl FnOnce(&mut Command) -> Child) -> Server {
        let own = tempfile::tempdir().unwrap();
        let child = spawn(&mut command(dir, setup, own.path()));
        Server { child, url: String::new(), own }
    }

    pub async fn wait_ready(&mut self, client: &reqwest::Client) {
        if let Err(status) = self.ready_or_ended(client).await {
            panic!("the server ended by itself: {status}\n{}", self.log());
        }
    }

    /// Waits until the server is ready, or gives how it ended.
    pub async fn ready_or_ended(&mut self, client: &reqwest::Client) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.url.is_empty() {
                self.url = listening(&self.log()).unwrap_or_default();
            }
            if !self.url.is_empty()
                && let Ok(answer) = client.get(format!("{}/-/ready", self.url)).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(Instant::now() < deadline, "the server is not ready after {PATIENCE:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL: nothing in the process runs after it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits.
    pub fn terminate(&mut self) -> ExitStatus {
        // SAFETY: the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end in {PATIENCE:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Everything it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.own.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the server listens, once its log says so: it chooses the port, since one that was free a moment ago may by then be
/// that of another test's server.
fn listening(log: &str) -> Option<String> {
    let (_, rest) = log.lines().find(|line| line.contains("component=web"))?.split_once("Listening on\" address=")?;
    Some(format!("http://{}", rest.split(' ').next()?))
}

/// Longest wait for a start or an end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes a head snapshot whenever it could.
pub const SNAPSHOTS: &str = "--storage.head-snapshot.min-samples=1";

static STARTED: AtomicU32 = AtomicU32::new(0);

/// The command of a server whose data lie in `dir/data`, and whose other files in `own`.
fn command(dir: &Path, setup: &Setup, own: &Path) -> Command {
    // Every other server does, where a test does not say.
    let takes_snapshots = !setup.flags.contains(&SNAPSHOTS) && STARTED.fetch_add(1, Ordering::Relaxed) % 2 == 1;
    let config = own.join("prometheus.yml");
    std::fs::write(&config, format!("global:\n  scrape_interval: 1m\n{}", setup.config)).unwrap();
    let other = std::env::var_os("PILASTER_UNDER_TEST");
    let mut command = Command::new(other.unwrap_or(env!("CARGO_BIN_EXE_pilaster").into()));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .arg("--sql.listen-address=127.0.0.1:0")
        .arg("--web.enable-remote-write-receiver")
        .arg("--web.enable-admin-api")
        // Samples are written with timestamps of weeks, so that ranges fill up and become blocks.
        .arg("--storage.tsdb.retention.time=400d")
        .args(setup.flags)
        .args(takes_snapshots.then_some(SNAPSHOTS))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(own.join("log")).unwrap());
    command
}
