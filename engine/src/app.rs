//! What every request can reach: flags, configuration, metrics, and, once the log is replayed, the parts that answer.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use pilaster_ingest::scrape::ScrapeManager;
use pilaster_promql::Engine;
use pilaster_sql::SqlService;
use pilaster_storage::{RetentionLimits, Snapshot, Store};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::api::gzip::Packers;
use crate::config::Config;
use crate::flags::Flags;
use crate::metrics::ServerMetrics;
use crate::retention;
use crate::source::StoreSource;

/// How far the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the write-ahead log.
    Starting,
    Ready,
    Stopping,
}

/// Segments of the write-ahead log: first, last, and the one being read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replay {
    pub min: usize,
    pub max: usize,
    pub current: usize,
}

/// What a request may ask of the server itself.
#[derive(Debug)]
pub enum Control {
    Reload(oneshot::Sender<Result<(), String>>),
    Quit,
}

/// How the last attempt to load the configuration went.
#[derive(Debug, Clone, Copy)]
pub struct LastReload {
    pub successful: bool,
    pub at: SystemTime,
}

/// The parts that exist once the log is replayed.
pub struct Parts {
    pub store: Arc<Store>,
    pub scrapes: Arc<ScrapeManager>,
    pub engine: Arc<Engine>,
    pub sql: Arc<SqlService>,
}

/// What can be asked before: blocks, while the log is being replayed.
#[derive(Clone)]
pub struct Early {
    pub engine: Arc<Engine>,
    pub blocks: Snapshot,
}

/// The state behind all requests.
pub struct App {
    pub flags: Flags,
    pub metrics: ServerMetrics,
    pub started: SystemTime,
    /// Under which users reach the server, without a slash at its end.
    pub external_url: String,
    /// Stands before every route: empty, or `/prom`.
    pub prefix: String,
    pub cors: regex::Regex,
    /// Queries run on these threads, so that a heavy one never holds up `/-/healthy` or a scrape.
    pub queries: tokio::runtime::Handle,
    /// For threads that are done with something: gives back memory that they keep.
    pub thread_rests: fn(),
    pub gate: Semaphore,
    /// Compress answers.
    pub packers: Packers,
    config: RwLock<Arc<Config>>,
    last_reload: Mutex<LastReload>,
    replay: Mutex<Replay>,
    phase: AtomicU8,
    parts: OnceLock<Parts>,
    early: RwLock<Option<Early>>,
    control: mpsc::UnboundedSender<Control>,
}

/// What [`App::new`] needs besides the flags.
pub struct Setup {
    pub flags: Flags,
    pub config: Config,
    pub external_url: String,
    pub prefix: String,
    pub cors: regex::Regex,
    pub queries: tokio::runtime::Handle,
    pub thread_rests: fn(),
    pub control: mpsc::UnboundedSender<Control>,
}

impl App {
    pub fn new(setup: Setup) -> App {
        let now = SystemTime::now();
        let concurrency = setup.flags.count("query.max-concurrency").clamp(1, Semaphore::MAX_PERMITS);
        let app = App {
            metrics: ServerMetrics::default(),
            started: now,
            external_url: setup.external_url,
            prefix: setup.prefix,
            cors: setup.cors,
            queries: setup.queries,
            thread_rests: setup.thread_rests,
            gate: Semaphore::new(concurrency),
            packers: Packers::new(std::thread::available_parallelism().map_or(1, usize::from)),
            config: RwLock::new(Arc::new(setup.config)),
            last_reload: Mutex::new(LastReload { successful: true, at: now }),
            replay: Mutex::default(),
            phase: AtomicU8::new(0),
            parts: OnceLock::new(),
            early: RwLock::new(None),
            control: setup.control,
            flags: setup.flags,
        };
        app.metrics.queries_max.set(concurrency as f64);
        app.record_reload(true);
        app
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.read().clone()
    }

    /// How much is kept, as flags and configuration say now.
    pub fn retention(&self) -> RetentionLimits {
        retention::limits(&self.flags, &self.config())
    }

    pub fn set_config(&self, config: Config) {
        *self.config.write() = Arc::new(config);
    }

    pub fn last_reload(&self) -> LastReload {
        *self.last_reload.lock()
    }

    /// Notes how loading the configuration went; the time is that of the last success.
    pub fn record_reload(&self, successful: bool) {
        let mut last = self.last_reload.lock();
        last.successful = successful;
        self.metrics.reload_successful.set(f64::from(u8::from(successful)));
        if successful {
            last.at = SystemTime::now();
            self.metrics.reload_success_seconds.set(unix_seconds(last.at));
        }
    }

    pub fn replay(&self) -> Replay {
        *self.replay.lock()
    }

    pub fn set_replay(&self, replay: Replay) {
        *self.replay.lock() = replay;
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Stopping,
        }
    }

    /// Lets queries ask blocks until [`App::become_ready`].
    pub fn answer_early(&self, early: Early) {
        *self.early.write() = Some(early);
    }

    /// Whether the log is being replayed and blocks can be asked.
    pub fn answers_early(&self) -> bool {
        self.phase() == Phase::Starting && self.early.read().is_some()
    }

    /// Opens the doors: from here on [`App::parts`] answers.
    pub fn become_ready(&self, parts: Parts) {
        if self.parts.set(parts).is_ok() {
            // In this order: who finds the one gone finds the other.
            *self.early.write() = None;
            self.phase.store(1, Ordering::Release);
            self.metrics.ready.set(1.0);
        }
    }

    pub fn begin_stop(&self) {
        self.phase.store(2, Ordering::Release);
        self.metrics.ready.set(0.0);
    }

    /// `None` while the log is being replayed.
    pub fn parts(&self) -> Option<&Parts> {
        self.parts.get()
    }

    /// A consistent view of all samples, for one query; of those in blocks while the log is being replayed.
    pub fn source(&self) -> Option<Arc<StoreSource>> {
        let early = self.early.read().as_ref().map(|early| early.blocks.clone());
        let source = match early {
            Some(blocks) => StoreSource::early(blocks, self.replay()),
            None => StoreSource::new(self.parts()?.store.snapshot()),
        };
        Some(Arc::new(source))
    }

    /// What evaluates PromQL, as soon as there is anything to ask.
    pub fn engine(&self) -> Option<Arc<Engine>> {
        let early = self.early.read().as_ref().map(|early| early.engine.clone());
        early.or_else(|| Some(self.parts()?.engine.clone()))
    }

    /// Asks the server's main loop; false when it is gone.
    pub fn ask(&self, control: Control) -> bool {
        self.control.send(control).is_ok()
    }

    /// The longest time a query may take.
    pub fn query_timeout(&self) -> Duration {
        self.flags.duration("query.timeout")
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("phase", &self.phase())
            .field("external_url", &self.external_url)
            .finish_non_exhaustive()
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Seconds since the Unix epoch.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
