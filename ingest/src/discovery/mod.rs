//! Finds targets: the lists of the configuration, files that name them, HTTP endpoints, DNS and Consul.
//!
//! [`Discovery`] runs the sources of one job and always holds the groups they found last. A source that fails keeps
//! what it found before: targets disappear when a source says so, not when it is out of order.

mod consul;
mod dns;
mod file;
mod http;

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
    _tasks: JoinSet<()>,
}

/// Where a source puts what it found.
#[derive(Debug)]
struct Found {
    groups: watch::Sender<Option<Vec<TargetGroup>>>,
    changed: watch::Sender<u64>,
}

impl Found {
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
    /// Starts the sources of a job; must be called within a runtime.
    ///
    /// # Errors
    /// [`HttpError`] where a client for `http_sd_configs` cannot be made.
    pub fn start(configs: &[ServiceDiscovery]) -> Result<Discovery, HttpError> {
        let (changed, receiver) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let mut sources = Vec::with_capacity(configs.len());
        for config in configs {
            let (groups, source) = watch::channel(None);
            let found = Found { groups, changed: changed.clone() };
            match config {
                ServiceDiscovery::Static(groups) => found.set(groups.clone()),
                ServiceDiscovery::File(config) => {
                    tasks.spawn(file::run(config.clone(), found));
                }
                ServiceDiscovery::Http(config) => {
                    let source = http::HttpSource::new(config)?;
                    tasks.spawn(source.run(found));
                }
                ServiceDiscovery::Dns(config) => {
                    tasks.spawn(dns::run(config.clone(), dns::Resolver::default(), found));
                }
                ServiceDiscovery::Consul(config) => {
                    let source = consul::ConsulSource::new(config)?;
                    tasks.spawn(source.run(found));
                }
                // Refused when the configuration was checked.
                ServiceDiscovery::NotBuilt { .. } => found.set(Vec::new()),
            }
            sources.push(source);
        }
        Ok(Discovery { sources, changed: receiver, _tasks: tasks })
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

#[cfg(test)]
mod tests;
