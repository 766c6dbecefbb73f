//! All jobs together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilaster_model::Labels;
use pilaster_storage::Store;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::pool::{Pool, Prepared, Shared};
use super::stats::{ScrapeCounters, ScrapeStats};
use super::target::{MetricMetadata, Target};
use super::{Clock, ScrapeOptions};
use crate::config::{ScrapeConfig, check_unique_jobs};
use crate::discovery::Discovery;
use crate::http::HttpError;

/// How long a job waits for sources that are slow to speak before it goes on with what the others found.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// A target that relabelling dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTarget {
    pub job: String,
    pub discovered_labels: Labels,
}

/// What one target says about its metrics.
#[derive(Debug, Clone)]
pub struct TargetMetadata {
    pub target: Arc<Target>,
    pub metrics: Vec<MetricMetadata>,
}

/// Runs the jobs of a configuration.
pub struct ScrapeManager {
    shared: Shared,
    shutdown: watch::Sender<bool>,
    jobs: tokio::sync::Mutex<BTreeMap<String, RunningJob>>,
    /// The pools of `jobs`, for readers that must not wait for a reload.
    pools: Mutex<BTreeMap<String, Arc<Pool>>>,
}

struct RunningJob {
    config: Arc<ScrapeConfig>,
    pool: Arc<Pool>,
    discovery: Arc<Discovery>,
    follower: AbortHandle,
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl ScrapeManager {
    /// `clock` tells milliseconds since the Unix epoch; intervals are measured by the runtime's own time.
    pub fn new(store: Arc<Store>, clock: Clock, options: ScrapeOptions) -> ScrapeManager {
        let (shutdown, receiver) = watch::channel(false);
        let shared = Shared {
            store,
            clock,
            options: Arc::new(options),
            counters: Arc::new(ScrapeCounters::default()),
            failures: Arc::default(),
            shutdown: receiver,
        };
        ScrapeManager { shared, shutdown, jobs: tokio::sync::Mutex::default(), pools: Mutex::default() }
    }

    /// Runs `configs` from now on: validated, relative paths resolved. Jobs that did not change are left alone.
    ///
    /// # Errors
    /// Where one job cannot be run, nothing is changed.
    pub async fn apply(&self, configs: Vec<ScrapeConfig>) -> Result<(), HttpError> {
        check_unique_jobs(&configs).map_err(|error| HttpError(error.to_string()))?;
        let mut jobs = self.jobs.lock().await;
        // First make everything that may fail.
        let mut changes = Vec::new();
        let mut kept = Vec::new();
        for config in configs {
            let name = config.job_name.clone();
            let failed = |error: HttpError| {
                HttpError(format!("error creating new scrape pool for scrape config with job name {name:?}: {error}"))
            };
            match jobs.get(&config.job_name) {
                Some(job) if *job.config == config => kept.push(config.job_name),
                old => {
                    let same_sources = old.filter(|old| old.config.discoveries == config.discoveries);
                    let discovery = match same_sources {
                        Some(old) => old.discovery.clone(),
                        None => Arc::new(Discovery::start(&config.discoveries)),
                    };
                    changes.push((Prepared::new(config, &self.shared).map_err(failed)?, discovery));
                }
            }
        }
        // From here on nothing fails.
        let stays = |name: &String| {
            kept.contains(name) || changes.iter().any(|(prepared, _)| prepared.config.job_name == *name)
        };
        let gone: Vec<String> = jobs.keys().filter(|name| !stays(name)).cloned().collect();
        let gone: Vec<RunningJob> = gone.iter().filter_map(|name| jobs.remove(name)).collect();
        futures::future::join_all(gone.iter().map(|job| job.pool.stop())).await;
        for (prepared, discovery) in changes {
            let config = prepared.config.clone();
            let pool = match jobs.remove(&config.job_name) {
                Some(old) => {
                    old.pool.reload(prepared).await;
                    old.pool.clone()
                }
                None => Arc::new(Pool::new(self.shared.clone(), prepared)),
            };
            let mut seen = discovery.changes();
            seen.mark_unchanged();
            if let Some(groups) = discovery.groups() {
                pool.sync(groups).await;
            }
            let delay = self.shared.options.discovery_delay;
            let follower = tokio::spawn(follow(pool.clone(), discovery.clone(), seen, delay)).abort_handle();
            jobs.insert(config.job_name.clone(), RunningJob { config, pool, discovery, follower });
        }
        *self.pools.lock() = jobs.iter().map(|(name, job)| (name.clone(), job.pool.clone())).collect();
        Ok(())
    }

    fn pools(&self) -> Vec<(String, Arc<Pool>)> {
        self.pools.lock().iter().map(|(name, pool)| (name.clone(), pool.clone())).collect()
    }

    /// Names of the jobs, ascending.
    pub fn jobs(&self) -> Vec<String> {
        self.pools.lock().keys().cloned().collect()
    }

    /// Active targets, by job and URL.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.pools().iter().flat_map(|(_, pool)| pool.view.read().targets.clone()).collect()
    }

    /// Targets that relabelling dropped, as many as jobs keep.
    pub fn dropped_targets(&self) -> Vec<DroppedTarget> {
        let mut all = Vec::new();
        for (job, pool) in self.pools() {
            let dropped = pool.view.read().dropped.clone();
            all.extend(
                dropped.into_iter().map(|discovered_labels| DroppedTarget { job: job.clone(), discovered_labels }),
            );
        }
        all
    }

    /// How many targets relabelling dropped, by job.
    pub fn dropped_target_counts(&self) -> BTreeMap<String, usize> {
        self.pools().into_iter().map(|(job, pool)| (job, pool.view.read().dropped_count)).collect()
    }

    /// What the active targets say about their metrics.
    pub fn metadata(&self) -> Vec<TargetMetadata> {
        let targets = self.targets().into_iter();
        targets.map(|target| TargetMetadata { metrics: target.metadata(), target }).collect()
    }

    /// Numbers for the server's own metrics.
    pub fn stats(&self) -> ScrapeStats {
        let pools = self.pools().into_iter().map(|(job, pool)| {
            let view = pool.view.read();
            (job, view.targets.len(), view.dropped_count)
        });
        ScrapeStats { pools: pools.collect(), ..self.shared.counters.read() }
    }

    /// Stops scraping and waits for appends that are going on. There are no staleness markers: the next start goes on
    /// where this one ended.
    pub async fn stop(&self) {
        self.shutdown.send_replace(true);
        let mut jobs = self.jobs.lock().await;
        futures::future::join_all(jobs.values().map(|job| job.pool.stop())).await;
        jobs.clear();
        self.pools.lock().clear();
    }
}

/// Brings what discovery finds to the pool, until it is aborted.
async fn follow(pool: Arc<Pool>, discovery: Arc<Discovery>, mut changes: watch::Receiver<u64>, delay: Duration) {
    if discovery.groups().is_none() {
        let complete = async { while discovery.groups().is_none() && changes.changed().await.is_ok() {} };
        let in_time = tokio::time::timeout(FIRST_ANSWER, complete).await;
        tracing::debug!(complete = in_time.is_ok(), "first answer of discovery");
        pool.sync(discovery.groups_so_far()).await;
    }
    while changes.changed().await.is_ok() {
        tokio::time::sleep(delay).await;
        changes.mark_unchanged();
        pool.sync(discovery.groups_so_far()).await;
    }
}
