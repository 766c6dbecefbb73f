//! Finds targets: the lists of the configuration, files that name them, HTTP endpoints, DNS, Consul and
//! Kubernetes.
//!
//! [`Discovery`] runs the sources of one job and always holds the groups they found last. A source that fails keeps
//! what it found before: targets disappear when a source says so, not when it is out of order.

mod consul;
mod dns;
mod file;
mod http;
mod kubernetes;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use file::{FileError, expand_globs, read_groups};

use crate::config::{ServiceDiscovery, TargetGroup};
use crate::http::HttpError;

/// The running sources of one job. Dropping it stops them.
#[derive(Debug)]
pub struct Discovery {
    sources: Vec<watch::Receiver<Option<Vec<TargetGroup>>>>,
    changed: watch::Receiver<u64>,
    failed: usize,
    _tasks: JoinSet<()>,
}

/// Where a source puts what it found.
#[derive(Debug)]
struct Found {
    groups: watch::Sender<Option<Vec<TargetGroup>>>,
    changed: watch::Sender<u64>,
}

impl Found {
    /// As if the source had not spoken yet.
    fn silent(self) -> Found {
        self.groups.send_replace(None);
        self
    }

    fn set(&self, groups: Vec<TargetGroup>) {
        let changed = self.groups.send_if_modified(|current| {
            let differs = current.as_ref() != Some(&groups);
            *current = Some(groups);
            differs
        });
        if changed {
            self.changed.send_modify(|version| *version += 1);
        }
    }
}

impl Discovery {
    /// Starts the sources of a job; must be called within a runtime. A source that cannot be started, because a
    /// certificate is missing or this is no pod of a cluster, is logged and finds nothing, as in Prometheus.
    pub fn start(configs: &[ServiceDiscovery]) -> Discovery {
        let (changed, receiver) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let mut sources = Vec::with_capacity(configs.len());
        let mut failed = 0;
        for config in configs {
            let (groups, source) = watch::channel(None);
            let found = Found { groups, changed: changed.clone() };
            if let Err(error) = spawn(config, found, &mut tasks) {
                tracing::error!(err = %error, "Cannot create service discovery");
                failed += 1;
            }
            sources.push(source);
        }
        Discovery { sources, changed: receiver, failed, _tasks: tasks }
    }

    /// How many sources could not be started.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// What all sources found, in the order of the configuration; `None` until each has spoken once.
    pub fn groups(&self) -> Option<Vec<TargetGroup>> {
        let found: Option<Vec<Vec<TargetGroup>>> = self.sources.iter().map(|source| source.borrow().clone()).collect();
        found.map(|found| found.into_iter().flatten().collect())
    }

    /// What the sources that have spoken found.
    pub fn groups_so_far(&self) -> Vec<TargetGroup> {
        self.sources.iter().filter_map(|source| source.borrow().clone()).flatten().collect()
    }

    /// Counts up whenever [`Discovery::groups`] changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }
}

fn spawn(config: &ServiceDiscovery, found: Found, tasks: &mut JoinSet<()>) -> Result<(), HttpError> {
    // What a source that fails below leaves behind: it has spoken, and found nothing.
    found.set(Vec::new());
    match config {
        ServiceDiscovery::Static(groups) => found.set(groups.clone()),
        ServiceDiscovery::File(config) => {
            tasks.spawn(file::run(config.clone(), found.silent()));
        }
        ServiceDiscovery::Http(config) => {
            tasks.spawn(http::HttpSource::new(config)?.run(found.silent()));
        }
        ServiceDiscovery::Dns(config) => {
            tasks.spawn(dns::run(config.clone(), dns::Resolver::default(), found.silent()));
        }
        ServiceDiscovery::Consul(config) => {
            tasks.spawn(consul::ConsulSource::new(config)?.run(found.silent()));
        }
        ServiceDiscovery::Kubernetes(config) => {
            tasks.spawn(kubernetes::KubernetesSource::new(config)?.run(found.silent()));
        }
        // Refused when the configuration was checked.
        ServiceDiscovery::NotBuilt { .. } => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
