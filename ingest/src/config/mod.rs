//! The part of `prometheus.yml` that says what is scraped and how.
//!
//! Every key of Prometheus's is known here: it works, or the configuration is refused with the reason. Decoding is
//! [`yaml::FromYaml`] over a tree that knows its lines, so errors name line and key as Prometheus's do. Decoding comes
//! first, then `validate` against the global section. Paths are as written until `set_directory`.

mod duration;
mod global;
mod http_client;
mod kubernetes_discovery;
mod oauth2;
mod remote_discovery;
mod scrape_config;
mod secret;
mod service_discovery;
pub mod yaml;

pub use duration::{ByteSize, PromDuration};
pub use global::{EscapingScheme, GlobalConfig, ScrapeLimits, ScrapeProtocol, ValidationScheme};
pub use http_client::{Authorization, BasicAuth, HeaderValues, HttpClientConfig, TlsConfig};
pub use kubernetes_discovery::{AttachMetadata, KubernetesRole, KubernetesSdConfig, KubernetesSelector};
pub use oauth2::OAuth2;
pub use remote_discovery::{ConsulSdConfig, DnsRecord, DnsSdConfig};
pub use scrape_config::{ScrapeConfig, check_target_address, check_unique_jobs};
pub use secret::Secret;
pub use service_discovery::{FileSdConfig, HttpSdConfig, ServiceDiscovery, TargetGroup};

/// Why a configuration cannot be used. The texts are Prometheus's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not YAML.
    #[error("yaml: line {line}: {reason}")]
    Syntax { line: usize, reason: String },
    /// Unknown keys and values of the wrong type, each with its line.
    #[error("yaml: unmarshal errors:\n  {}", .0.join("\n  "))]
    Type(Vec<String>),
    /// Well-formed, but it makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Prometheus can do this and Pilaster cannot yet.
    #[error("{0} is not built yet in Pilaster")]
    NotBuilt(String),
}

/// The path as the configuration file means it: relative to the file's directory.
pub fn join_directory(directory: &std::path::Path, path: &str) -> String {
    if path.is_empty() || std::path::Path::new(path).is_absolute() {
        return path.to_owned();
    }
    directory.join(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
