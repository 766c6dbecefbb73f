//! `kubernetes_sd_configs`: targets from the objects of a cluster.
//!
//! The wanted objects are listed every [`REFRESH`]. Prometheus watches them; here a change is seen that much later at
//! most.

mod cluster;
mod objects;
mod roles;

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use self::cluster::Cluster;
use self::objects::{Kind, Objects};
use super::Found;
use crate::config::{KubernetesRole, KubernetesSdConfig, TargetGroup};
use crate::http::HttpError;

const REFRESH: Duration = Duration::from_secs(15);

pub(super) struct KubernetesSource {
    config: KubernetesSdConfig,
    cluster: Cluster,
    refresh: Duration,
}

impl KubernetesSource {
    pub fn new(config: &KubernetesSdConfig) -> Result<KubernetesSource, HttpError> {
        Ok(KubernetesSource { config: config.clone(), cluster: Cluster::new(config)?, refresh: REFRESH })
    }

    /// Keeps `found` in step with the cluster; what cannot be listed stays as it was.
    pub async fn run(self, found: Found) {
        let mut refresh = tokio::time::interval(self.refresh);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            refresh.tick().await;
            match self.groups().await {
                Ok(groups) => found.set(groups),
                Err(error) => tracing::error!(role = self.config.role.name(), err = %error, "Listing objects failed"),
            }
        }
    }

    /// The kinds of objects that the role and what is attached to it need.
    fn kinds(&self) -> Vec<Kind> {
        let attach = self.config.attach;
        let mut kinds = match self.config.role {
            KubernetesRole::Node => vec![Kind::Node],
            KubernetesRole::Pod => vec![Kind::Pod],
            KubernetesRole::Service => vec![Kind::Service],
            KubernetesRole::Endpoints => vec![Kind::Endpoints, Kind::Service, Kind::Pod],
            KubernetesRole::EndpointSlice => vec![Kind::EndpointSlice, Kind::Service, Kind::Pod],
            KubernetesRole::Ingress => vec![Kind::Ingress],
        };
        let with_pods = kinds.contains(&Kind::Pod);
        for (wanted, kind) in [
            (attach.node && with_pods, Kind::Node),
            (attach.namespace && self.config.role != KubernetesRole::Node, Kind::Namespace),
            (attach.deployment && with_pods, Kind::ReplicaSet),
            (attach.cronjob && with_pods, Kind::Job),
        ] {
            if wanted {
                kinds.push(kind);
            }
        }
        kinds
    }

    async fn groups(&self) -> Result<Vec<TargetGroup>, HttpError> {
        let mut objects = Objects::default();
        for kind in self.kinds() {
            objects.set(kind, self.cluster.list(&self.config, kind).await?);
        }
        Ok(roles::groups(&self.config, &objects))
    }
}

#[cfg(test)]
mod tests;
