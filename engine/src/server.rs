//! The life of a server: listen, replay, become ready, keep house, reload, stop.
//!
//! HTTP is served from the first moment, so that `/-/healthy` and the progress of the replay can be asked for; queries
//! about blocks are answered as soon as those are open, everything else once the log is read. Requests, scrapes and receivers share one runtime, queries have another.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::ListenerExt;
use pilaster_ingest::scrape::{ScrapeManager, ScrapeOptions};
use pilaster_model::Labels;
use pilaster_promql::parser::ParseOptions;
use pilaster_promql::{Engine, EngineOptions};
use pilaster_sql::{SqlOptions, SqlService};
use pilaster_storage::env::Env;
use pilaster_storage::{Occasion, Priority, ReplayProgress, Store, StoreOptions, WalSync, Workers};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::app::{App, Control, Early, Parts, Replay, Setup, now_ms};
use crate::config::Config;
use crate::connection::Limited;
use crate::flags::Flags;
use crate::retention;
use crate::sql_source::StoreProvider;
use crate::upkeep::Upkeep;

const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(30);
/// Requests that are being answered get this long when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The words or values of the command line cannot be followed.
    #[error("{0}")]
    Flags(String),
    #[error("error loading config from {file:?}: {reason}")]
    Config { file: String, reason: String },
    #[error("unable to start web listener: listen tcp {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("opening storage failed: {0}")]
    Storage(String),
    #[error("{0}")]
    Start(String),
}

/// Runs until a signal or `/-/quit`. Threads that are done with something call `thread_rests`, which may come often.
///
/// # Errors
/// See [`ServerError`].
pub fn run(flags: Flags, thread_rests: fn()) -> Result<(), ServerError> {
    let start = |what: &str, error: std::io::Error| ServerError::Start(format!("could not start {what}: {error}"));
    let queries = tokio::runtime::Builder::new_multi_thread()
        .thread_name("query")
        // Parsing and planning recurse with the depth of the expression.
        .thread_stack_size(8 << 20)
        .on_thread_park(thread_rests)
        .enable_all()
        .build()
        .map_err(|error| start("query threads", error))?;
    let serving = tokio::runtime::Builder::new_multi_thread()
        .thread_name("serve")
        .on_thread_park(thread_rests)
        .enable_all()
        .build()
        .map_err(|error| start("server threads", error))?;
    let result = serving.block_on(serve(flags, queries.handle().clone(), thread_rests));
    // Queries that ignore their cancellation must not hold the process.
    queries.shutdown_timeout(Duration::from_secs(1));
    serving.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(flags: Flags, queries: tokio::runtime::Handle, thread_rests: fn()) -> Result<(), ServerError> {
    tracing::info!(version = crate::build::VERSION, prometheus = crate::build::PROMETHEUS_VERSION, "Starting Pilaster");
    refuse_flags(&flags)?;
    warn_of_flags(&flags);
    let cors = regex::Regex::new(&format!("^(?s:{})$", flags.get("web.cors.origin")))
        .map_err(|error| ServerError::Flags(format!("invalid CORS origin: {error}")))?;
    // A file that cannot be used must be known before any port is taken.
    let file = config_file(&flags);
    let loaded = file.map(load).transpose()?;

    let mut listeners = Vec::new();
    for address in flags.list("web.listen-address") {
        listeners.push(listen(address).await?);
    }
    let first = listeners.first().and_then(|listener| listener.local_addr().ok());
    let Some(first) = first else {
        return Err(ServerError::Flags("at least one --web.listen-address is needed".to_owned()));
    };
    let (external_url, prefix) = external_url(&flags, first)?;
    let config = match loaded {
        Some(config) => config,
        None => {
            tracing::info!("no configuration file: this server scrapes itself");
            Config::builtin(&reachable(first), &format!("{prefix}/metrics"))
        }
    };
    warn_of_config(&config);
    let (control, controls) = mpsc::unbounded_channel();
    let app = Arc::new(App::new(Setup { flags, config, external_url, prefix, cors, queries, thread_rests, control }));

    let (stop_serving, serving_stopped) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    let connections = Arc::new(Semaphore::new(app.flags.count("web.max-connections").clamp(1, Semaphore::MAX_PERMITS)));
    // A connection is quiet while its query runs.
    let patience = app.flags.duration("web.read-timeout").max(app.query_timeout() + GRACE);
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(address = %address, component = "web", "Listening on");
        }
        let routes = crate::api::router(&app);
        let listener = Limited::new(listener, connections.clone(), patience);
        servers.spawn(serve_http(listener, routes, serving_stopped.clone()));
    }

    let outcome = live(&app, controls, &serving_stopped, &stop_serving).await;
    stop_serving.send_replace(true);
    if tokio::time::timeout(GRACE, async { while servers.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("requests were still being answered; they are cut off");
    }
    outcome
}

/// Everything between listening and the end of listening.
async fn live(
    app: &Arc<App>,
    mut controls: mpsc::UnboundedReceiver<Control>,
    serving_stopped: &watch::Receiver<bool>,
    stop_serving: &watch::Sender<bool>,
) -> Result<(), ServerError> {
    let mut signals =
        Signals::new().map_err(|error| ServerError::Start(format!("could not wait for signals: {error}")))?;
    let engine = Arc::new(Engine::new(engine_options(&app.flags)));
    let opening = {
        let (app, engine) = (app.clone(), engine.clone());
        tokio::task::spawn_blocking(move || {
            let opened = open_store(&app, &engine);
            (app.thread_rests)();
            opened
        })
    };
    tokio::pin!(opening);
    let store = loop {
        tokio::select! {
            opened = &mut opening => break opened.map_err(|error| ServerError::Storage(error.to_string()))??,
            asked = signals.next() => match asked {
                // Nothing was changed that another replay would miss.
                Asked::Terminate => {
                    tracing::warn!("stopped before the write-ahead log was read");
                    std::process::exit(0);
                }
                Asked::Reload => tracing::warn!("not reloading while the write-ahead log is read"),
            },
        }
    };
    let scrapes = start_scrapes(app, &store).await?;
    let sql = Arc::new(start_sql(app, &store, &scrapes, engine.clone())?);
    let sql_server = listen_for_sql(app, &sql, serving_stopped).await?;
    app.become_ready(Parts { store: store.clone(), scrapes: scrapes.clone(), engine, sql });
    crate::program::forget_start();
    tracing::info!("Server is ready to receive web requests.");

    let mut maintenance = tokio::time::interval(MAINTENANCE_INTERVAL);
    maintenance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut upkeep = Upkeep::default();
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Terminate => {
                    tracing::warn!("Received an OS signal, exiting gracefully...");
                    break;
                }
                // The log has the reason of a failure.
                Asked::Reload => drop(reload(app, &scrapes).await),
            },
            control = controls.recv() => match control {
                Some(Control::Reload(answer)) => {
                    // The client may be gone; the configuration is in effect all the same.
                    let _ = answer.send(reload(app, &scrapes).await);
                }
                Some(Control::Quit) | None => {
                    tracing::warn!("Received termination request via web service, exiting gracefully...");
                    break;
                }
            },
            _ = maintenance.tick() => upkeep.begin(app, &store),
        }
    }
    app.begin_stop();
    scrapes.stop().await;
    stop_serving.send_replace(true);
    // Requests that are still being answered go on meanwhile; what they bring stands in the log.
    let saving = tokio::task::spawn_blocking(move || crate::upkeep::save_head(&store, Occasion::End));
    if let Some(sql_server) = sql_server {
        let _ = tokio::time::timeout(GRACE, sql_server).await;
    }
    // A panic is in the log.
    let _ = saving.await;
    tracing::info!("See you next time!");
    Ok(())
}

/// The file to read: the one named, or `prometheus.yml` where there is one.
fn config_file(flags: &Flags) -> Option<&Path> {
    let file = Path::new(flags.get("config.file"));
    if flags.given("config.file") || file.exists() { Some(file) } else { None }
}

fn load(file: &Path) -> Result<Config, ServerError> {
    Config::load(file)
        .map_err(|error| ServerError::Config { file: file.to_string_lossy().into_owned(), reason: error.to_string() })
}

/// Flags that must not be passed over: what they ask for protects somebody, or replaces what we do.
fn refuse_flags(flags: &Flags) -> Result<(), ServerError> {
    if !flags.get("web.config.file").is_empty() {
        let text =
            "--web.config.file is not built yet: this server would be open where the file asks for TLS or passwords";
        return Err(ServerError::Flags(text.to_owned()));
    }
    if flags.on("agent") {
        let text = "--agent is not built yet: this server forwards nothing by remote write";
        return Err(ServerError::Flags(text.to_owned()));
    }
    Ok(())
}

fn warn_of_flags(flags: &Flags) {
    let without_effect = flags.without_effect();
    if !without_effect.is_empty() {
        let names: Vec<String> = without_effect.iter().map(|name| format!("--{name}")).collect();
        tracing::warn!(flags = names.join(" "), "flags of Prometheus that have no effect in Pilaster yet");
    }
    let unknown: Vec<&str> = flags.features().filter(|name| !KNOWN_FEATURES.contains(name)).collect();
    if !unknown.is_empty() {
        tracing::warn!(features = unknown.join(","), "features that have no effect in Pilaster");
    }
}

fn warn_of_config(config: &Config) {
    for notice in &config.notices {
        tracing::warn!(component = "config", "{notice}");
    }
}

/// Names of `--enable-feature` that change something, or that ask for what is always on.
const KNOWN_FEATURES: &[&str] = &[
    "promql-experimental-functions",
    "promql-duration-expr",
    "promql-delayed-name-removal",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
    "promql-per-step-stats",
    "use-start-timestamps",
    "type-and-unit-labels",
    "st-storage",
    "exemplar-storage",
    "metadata-wal-records",
    "memory-snapshot-on-shutdown",
];

fn engine_options(flags: &Flags) -> EngineOptions {
    let on = |name: &str| flags.features().any(|feature| feature == name);
    EngineOptions {
        lookback_ms: flags.duration_ms("query.lookback-delta"),
        max_samples: flags.count("query.max-samples"),
        timeout: flags.duration("query.timeout"),
        delayed_name_removal: on("promql-delayed-name-removal"),
        start_timestamps: on("use-start-timestamps"),
        type_and_unit_labels: on("type-and-unit-labels"),
        parse: ParseOptions {
            experimental_functions: on("promql-experimental-functions"),
            duration_expressions: true,
            extended_range_selectors: on("promql-extended-range-selectors"),
            fill_modifiers: on("promql-binop-fill-modifiers"),
        },
        ..EngineOptions::default()
    }
}

/// Listens at an address as Go writes it: `:9090`, `localhost:9090`, `[::]:9090`.
async fn listen(address: &str) -> Result<TcpListener, ServerError> {
    let refused = |source| ServerError::Listen { address: address.to_owned(), source };
    if let Some(port) = address.strip_prefix(':') {
        // Both families; machines without IPv6 have the other one.
        return match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await.map_err(refused),
        };
    }
    TcpListener::bind(address).await.map_err(refused)
}

/// Where a client on this machine reaches a listener.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

/// The URL under which users reach us, and the prefix of all routes.
fn external_url(flags: &Flags, first: SocketAddr) -> Result<(String, String), ServerError> {
    let given = flags.get("web.external-url").trim_matches(['"', '\'']).trim_end_matches('/').to_owned();
    let url = if given.is_empty() {
        format!("http://{}:{}", crate::api::host_name(), first.port())
    } else if given.starts_with("http://") || given.starts_with("https://") {
        given
    } else {
        return Err(ServerError::Flags(format!(
            "parse external URL {given:?}: it starts with neither http:// nor https://"
        )));
    };
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let prefix = if flags.given("web.route-prefix") { flags.get("web.route-prefix") } else { path };
    let prefix = prefix.trim_matches('/');
    if prefix.contains(['{', '}', '*']) {
        return Err(ServerError::Flags(format!("invalid route prefix {prefix:?}")));
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    Ok((url, prefix))
}

fn open_store(app: &App, engine: &Arc<Engine>) -> Result<Arc<Store>, ServerError> {
    let started = Instant::now();
    let flags = &app.flags;
    let blocks = crate::blocks::object_options(flags, &app.config().blocks, &Env::real())
        .map_err(|error| ServerError::Storage(format!("storage.blocks: {error}")))?;
    let options = StoreOptions {
        retention: app.retention(),
        max_exemplars: max_exemplars(flags, &app.config()),
        out_of_order_ms: app.config().out_of_order_ms,
        wal_sync: if flags.get("storage.tsdb.wal-sync") == "written" { WalSync::Written } else { WalSync::Commit },
        wal_segment_bytes: usize::try_from(flags.bytes("storage.tsdb.wal-segment-size")).unwrap_or(usize::MAX),
        snapshot_samples: match flags.count("storage.head-snapshot.min-samples") {
            0 => u64::MAX,
            samples => samples as u64,
        },
        index_bytes: flags.bytes("storage.blocks.index.max-memory"),
        blocks,
        flush_workers: workers("flush", Priority::Low)?,
        merge_workers: workers("merge", Priority::Idle)?,
        ..StoreOptions::new(flags.get("storage.tsdb.path"))
    };
    let progress = |progress: ReplayProgress| {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        app.set_replay(Replay { min: 0, max: count(progress.segments_total), current: count(progress.segments_done) });
    };
    let early = |blocks| app.answer_early(Early { engine: engine.clone(), blocks });
    let store = Store::open_with_progress(options, Env::real(), &progress, &early)
        .map_err(|error| ServerError::Storage(crate::api::with_causes(&error)))?;
    let took = started.elapsed();
    app.metrics.replay_seconds.set(took.as_secs_f64());
    let stats = store.stats();
    let restored_samples = stats.restored_samples;
    tracing::info!(duration = ?took, series = stats.series, restored_samples, blocks = stats.blocks, "Storage opened");
    if stats.wal_damaged_ranges > 0 {
        tracing::error!(ranges = stats.wal_damaged_ranges, "parts of the write-ahead log were damaged and are lost");
    }
    Ok(store)
}

/// Threads for upkeep: half of the cores, so that queries always find one.
fn workers(name: &'static str, priority: Priority) -> Result<Workers, ServerError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Workers::new(name, cores / 2, priority)
        .map_err(|error| ServerError::Start(format!("could not start {name} threads: {error}")))
}

/// How many exemplars to keep: none unless the feature is on, as in Prometheus.
fn max_exemplars(flags: &Flags, config: &Config) -> usize {
    let on = flags.features().any(|feature| feature == "exemplar-storage");
    if on { usize::try_from(config.max_exemplars).unwrap_or(0) } else { 0 }
}

fn host_label() -> (String, String) {
    ("__host__".to_owned(), crate::api::host_name())
}

async fn start_scrapes(app: &App, store: &Arc<Store>) -> Result<Arc<ScrapeManager>, ServerError> {
    let config = app.config();
    let on = |name: &str| app.flags.features().any(|feature| feature == name);
    let options = ScrapeOptions {
        // Servers with other names or labels ask the same targets at other moments.
        offset_seed: Labels::from_pairs(config.external_labels().into_iter().chain([host_label()])).hash64(),
        start_timestamps: on("use-start-timestamps") || on("st-storage"),
        ..ScrapeOptions::default()
    };
    let scrapes = Arc::new(ScrapeManager::new(store.clone(), Arc::new(now_ms), options));
    scrapes
        .apply(config.scrape_configs.clone())
        .await
        .map_err(|error| ServerError::Start(format!("could not start scraping: {error}")))?;
    Ok(scrapes)
}

fn start_sql(
    app: &App,
    store: &Arc<Store>,
    scrapes: &Arc<ScrapeManager>,
    engine: Arc<Engine>,
) -> Result<SqlService, ServerError> {
    let options = SqlOptions {
        memory_bytes: usize::try_from(app.flags.bytes("sql.max-memory")).unwrap_or(usize::MAX),
        timeout: app.flags.duration("query.timeout"),
        max_concurrent: app.flags.count("query.max-concurrency").max(1),
        promoted_labels: store.options().promoted_labels.clone(),
        ..SqlOptions::default()
    };
    let provider = Arc::new(StoreProvider::new(store.clone(), scrapes.clone()));
    SqlService::new(provider, engine, options).map_err(|error| ServerError::Start(error.to_string()))
}

async fn listen_for_sql(
    app: &App,
    sql: &Arc<SqlService>,
    stopped: &watch::Receiver<bool>,
) -> Result<Option<tokio::task::JoinHandle<()>>, ServerError> {
    let address = app.flags.get("sql.listen-address");
    if address.is_empty() {
        return Ok(None);
    }
    let listener = match listen(address).await {
        Ok(listener) => listener,
        // The default port may be another server's: whoever did not ask for SQL gets the rest of this one.
        Err(error) if !app.flags.given("sql.listen-address") => {
            tracing::error!(%error, "SQL over the PostgreSQL protocol is off; name another --sql.listen-address");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(address = %address, component = "sql", "Listening on");
    }
    let (sql, stopped) = (sql.clone(), stopped.clone());
    Ok(Some(tokio::spawn(async move {
        pilaster_sql::pg::serve(sql, listener, until_stopped(stopped)).await;
    })))
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Puts the configuration file into effect; on an error everything stays as it was.
async fn reload(app: &Arc<App>, scrapes: &Arc<ScrapeManager>) -> Result<(), String> {
    let result = try_reload(app, scrapes).await;
    app.record_reload(result.is_ok());
    match &result {
        Ok(()) => tracing::info!("Completed loading of configuration file"),
        Err(error) => tracing::error!(error, "Error reloading config"),
    }
    result
}

async fn try_reload(app: &Arc<App>, scrapes: &Arc<ScrapeManager>) -> Result<(), String> {
    let Some(file) = config_file(&app.flags) else { return Ok(()) };
    let reason =
        |error: String| format!("couldn't load configuration (--config.file={:?}): {error}", file.to_string_lossy());
    let config = Config::load(file).map_err(|error| reason(error.to_string()))?;
    warn_of_config(&config);
    let limits = retention::limits(&app.flags, &config);
    if config.out_of_order_ms != app.config().out_of_order_ms || config.blocks != app.config().blocks {
        tracing::warn!("changed storage settings take effect when the server is started again");
    }
    scrapes.apply(config.scrape_configs.clone()).await.map_err(|error| reason(error.to_string()))?;
    if let Some(parts) = app.parts() {
        parts.store.resize_exemplars(max_exemplars(&app.flags, &config));
        parts.store.set_retention(limits).map_err(|error| reason(error.to_string()))?;
    }
    app.set_config(config);
    Ok(())
}

async fn serve_http(listener: Limited, routes: Router, stopped: watch::Receiver<bool>) {
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay() {
            tracing::debug!(%error, "could not switch off delays of small packets");
        }
    });
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(until_stopped(stopped)).await {
        tracing::error!(%error, "the HTTP server ended");
    }
}

/// What the operating system may ask for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Asked {
    Terminate,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Terminate,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
