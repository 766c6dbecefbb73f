//! The targets of one job and the loops that scrape them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use pilaster_model::Labels;
use pilaster_storage::Store;
use tokio::sync::{oneshot, watch};

use super::append::{Job, Taker};
use super::failures::{FailureLog, FailureLogs};
use super::run::{Control, ScrapeLoop};
use super::stats::{ScrapeCounters, add};
use super::target::{Candidate, Target, candidate};
use super::{Clock, ScrapeOptions};
use crate::config::{HttpClientConfig, PromDuration, ScrapeConfig, TargetGroup};
use crate::http::{HttpClient, HttpError};

/// What all pools share.
#[derive(Clone)]
pub(super) struct Shared {
    pub store: Arc<Store>,
    pub clock: Clock,
    pub options: Arc<ScrapeOptions>,
    pub counters: Arc<ScrapeCounters>,
    pub failures: Arc<FailureLogs>,
    pub shutdown: watch::Receiver<bool>,
}

/// What the API shows of a pool.
#[derive(Debug, Default)]
pub(super) struct View {
    pub targets: Vec<Arc<Target>>,
    /// At most `keep_dropped_targets`, with their labels as discovered.
    pub dropped: Vec<Labels>,
    pub dropped_count: usize,
}

/// One job's targets.
pub(super) struct Pool {
    shared: Shared,
    state: tokio::sync::Mutex<State>,
    pub view: RwLock<View>,
}

struct State {
    job: Arc<Job>,
    client: Arc<HttpClient>,
    loops: HashMap<u64, Running>,
    groups: Vec<TargetGroup>,
}

struct Running {
    target: Arc<Target>,
    control: Arc<Control>,
    stopped: oneshot::Receiver<Option<Taker>>,
}

impl Running {
    /// Stops the loop and waits for the scrape that is going on.
    async fn stop(self, handed_over: bool) -> Option<Taker> {
        self.control.stop(handed_over);
        self.stopped.await.ok().flatten()
    }
}

/// A configuration with what had to be made for it, so that applying it cannot fail.
pub(super) struct Prepared {
    pub config: Arc<ScrapeConfig>,
    client: Arc<HttpClient>,
    failures: Option<Arc<FailureLog>>,
}

impl Prepared {
    pub fn new(config: ScrapeConfig, shared: &Shared) -> Result<Prepared, HttpError> {
        let client = HttpClient::new(&config.http)?;
        let failures = shared.failures.open(&config.scrape_failure_log_file)?;
        Ok(Prepared { config: Arc::new(config), client: Arc::new(client), failures })
    }
}

impl Pool {
    pub fn new(shared: Shared, prepared: Prepared) -> Pool {
        let job = Arc::new(shared.job(prepared.config, prepared.failures));
        let state = State { job, client: prepared.client, loops: HashMap::new(), groups: Vec::new() };
        shared.counters.pools_created.fetch_add(1, Ordering::Relaxed);
        Pool { shared, state: tokio::sync::Mutex::new(state), view: RwLock::default() }
    }

    /// Takes over another configuration. Targets that stay keep their state, and their series where the
    /// configuration still makes the same ones.
    pub async fn reload(&self, prepared: Prepared) {
        let mut state = self.state.lock().await;
        self.shared.counters.pool_reloads.fetch_add(1, Ordering::Relaxed);
        let reuse = makes_same_series(&state.job.config, &prepared.config);
        state.job = Arc::new(self.shared.job(prepared.config, prepared.failures));
        state.client = prepared.client;
        let old: Vec<(u64, Running)> = state.loops.drain().collect();
        let stopping = old.into_iter().map(|(hash, running)| async move {
            let target = running.target.clone();
            (hash, target, running.stop(reuse).await)
        });
        for (hash, target, taker) in futures::future::join_all(stopping).await {
            let running = self.start(&state, target, taker);
            state.loops.insert(hash, running);
        }
        let groups = std::mem::take(&mut state.groups);
        self.sync_locked(&mut state, groups).await;
    }

    /// Makes targets of `groups`, starts what is new and stops what is gone.
    pub async fn sync(&self, groups: Vec<TargetGroup>) {
        let mut state = self.state.lock().await;
        self.sync_locked(&mut state, groups).await;
    }

    async fn sync_locked(&self, state: &mut State, groups: Vec<TargetGroup>) {
        let config = state.job.config.clone();
        let counters = self.shared.counters.clone();
        counters.pool_syncs.fetch_add(1, Ordering::Relaxed);
        let made = tokio::task::spawn_blocking(move || {
            let made = make_targets(&config, &groups, &counters);
            (made, groups)
        });
        let Ok(((targets, dropped), groups)) = made.await else {
            tracing::error!(job = state.job.config.job_name, "Making targets panicked");
            return;
        };
        state.groups = groups;
        let mut wanted: HashMap<u64, Arc<Target>> = HashMap::with_capacity(targets.len());
        for target in targets {
            match state.loops.get(&target.hash()) {
                Some(running) => {
                    running.target.set_discovered_labels(target.discovered_labels());
                    wanted.entry(target.hash()).or_insert_with(|| running.target.clone());
                }
                // A target that is found twice is scraped once.
                None => {
                    wanted.entry(target.hash()).or_insert_with(|| Arc::new(target));
                }
            }
        }
        let gone: Vec<u64> = state.loops.keys().filter(|hash| !wanted.contains_key(hash)).copied().collect();
        let gone: Vec<Running> = gone.iter().filter_map(|hash| state.loops.remove(hash)).collect();
        for (hash, target) in &wanted {
            if !state.loops.contains_key(hash) {
                let running = self.start(state, target.clone(), None);
                state.loops.insert(*hash, running);
            }
        }
        self.force_target_limit(state);
        let mut targets: Vec<Arc<Target>> = wanted.into_values().collect();
        targets.sort_by(|a, b| (a.url(), a.labels()).cmp(&(b.url(), b.labels())));
        let keep = match state.job.config.keep_dropped_targets {
            0 => dropped.len(),
            keep => keep.min(dropped.len()),
        };
        let dropped_count = dropped.len();
        let dropped = dropped.into_iter().take(keep).collect();
        *self.view.write() = View { targets, dropped, dropped_count };
        // Waiting covers targets that flap: the old loop may still be appending what the new one is about to scrape.
        futures::future::join_all(gone.into_iter().map(|running| running.stop(false))).await;
    }

    fn force_target_limit(&self, state: &State) {
        let (count, limit) = (state.loops.len(), state.job.config.limits.targets);
        let exceeded = limit > 0 && count > limit;
        let error = exceeded.then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"));
        add(&self.shared.counters.exceeded_target_limit, usize::from(exceeded));
        for running in state.loops.values() {
            running.control.set_forced_error(error.clone());
        }
    }

    fn start(&self, state: &State, target: Arc<Target>, taker: Option<Taker>) -> Running {
        let control = Control::new();
        let (sender, stopped) = oneshot::channel();
        let scrape_loop = ScrapeLoop {
            target: target.clone(),
            job: state.job.clone(),
            client: state.client.clone(),
            clock: self.shared.clock.clone(),
            control: control.clone(),
            shutdown: self.shared.shutdown.clone(),
            taker: Some(taker.unwrap_or_default()),
        };
        tokio::spawn(scrape_loop.run(sender));
        Running { target, control, stopped }
    }

    /// Stops all loops without markers: at shutdown, or when the job is gone from the configuration.
    pub async fn stop(&self) {
        let mut state = self.state.lock().await;
        let loops: Vec<Running> = state.loops.drain().map(|(_, running)| running).collect();
        futures::future::join_all(loops.into_iter().map(|running| running.stop(true))).await;
        *self.view.write() = View::default();
    }
}

impl Shared {
    fn job(&self, config: Arc<ScrapeConfig>, failures: Option<Arc<FailureLog>>) -> Job {
        Job {
            config,
            store: self.store.clone(),
            counters: self.counters.clone(),
            options: self.options.clone(),
            failures,
        }
    }
}

fn make_targets(
    config: &ScrapeConfig,
    groups: &[TargetGroup],
    counters: &ScrapeCounters,
) -> (Vec<Target>, Vec<Labels>) {
    let (mut targets, mut dropped) = (Vec::new(), Vec::new());
    for group in groups {
        for (index, address) in group.targets.iter().enumerate() {
            match candidate(config, address, &group.labels) {
                Ok(Candidate::Target(target)) => targets.push(*target),
                Ok(Candidate::Dropped(labels)) => dropped.push(labels),
                Err(error) => {
                    counters.targets_refused.fetch_add(1, Ordering::Relaxed);
                    let (job, source) = (&config.job_name, &group.source);
                    tracing::error!(
                        scrape_pool = job,
                        "Creating target failed: instance {index} in group {source}: {error}"
                    );
                }
            }
        }
    }
    (targets, dropped)
}

/// Whether two configurations make the same series of the same bodies, so that caches stay right.
fn makes_same_series(old: &ScrapeConfig, new: &ScrapeConfig) -> bool {
    let plain = |config: &ScrapeConfig| {
        let mut config = config.clone();
        config.scrape_interval = PromDuration::default();
        config.scrape_timeout = PromDuration::default();
        config.limits.samples = 0;
        config.http = HttpClientConfig::default();
        // Where targets come from makes no series.
        config.discoveries = Vec::new();
        config
    };
    plain(old) == plain(new)
}
