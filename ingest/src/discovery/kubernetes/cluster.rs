//! Where the API server is and how it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::super::http::get_json;
use super::objects::Kind;
use crate::config::yaml::{self, Node};
use crate::config::{
    Authorization, BasicAuth, HttpClientConfig, KubernetesRole, KubernetesSdConfig, Secret, TlsConfig, join_directory,
};
use crate::http::{HttpClient, HttpError, open_error};

/// What a pod is given to talk to its cluster.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const IN_CLUSTER: &str = "https://kubernetes.default.svc";

/// Objects in one answer.
const PAGE: &str = "500";
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Cluster {
    server: String,
    client: HttpClient,
    /// Empty: all.
    namespaces: Vec<String>,
}

impl Cluster {
    pub fn new(config: &KubernetesSdConfig) -> Result<Cluster, HttpError> {
        let (server, http) = if !config.kubeconfig_file.is_empty() {
            kubeconfig(&config.kubeconfig_file)?
        } else if config.api_server.is_empty() {
            let http = HttpClientConfig {
                authorization: Some(bearer(Secret::default(), format!("{ACCOUNT}/token"))),
                tls_config: TlsConfig { ca_file: format!("{ACCOUNT}/ca.crt"), ..TlsConfig::default() },
                ..HttpClientConfig::default()
            };
            (IN_CLUSTER.to_owned(), http)
        } else {
            (config.api_server.clone(), config.http.clone())
        };
        let mut namespaces = config.namespaces.clone();
        if config.own_namespace {
            let path = format!("{ACCOUNT}/namespace");
            let own = std::fs::read_to_string(&path).map_err(|error| {
                HttpError(format!("could not determine the pod's namespace: {}", open_error(&path, &error)))
            })?;
            namespaces.push(own);
        }
        Ok(Cluster { server: server.trim_end_matches('/').to_owned(), client: HttpClient::new(&http)?, namespaces })
    }

    /// All objects of `kind` that the configuration selects.
    pub async fn list(&self, config: &KubernetesSdConfig, kind: Kind) -> Result<Vec<Value>, HttpError> {
        let (group, plural) = kind.path();
        let role = match kind {
            Kind::Node => Some(KubernetesRole::Node),
            Kind::Pod => Some(KubernetesRole::Pod),
            Kind::Service => Some(KubernetesRole::Service),
            Kind::Endpoints => Some(KubernetesRole::Endpoints),
            Kind::EndpointSlice => Some(KubernetesRole::EndpointSlice),
            Kind::Ingress => Some(KubernetesRole::Ingress),
            Kind::Namespace | Kind::ReplicaSet | Kind::Job => None,
        };
        let selector = config.selectors.iter().find(|selector| Some(selector.role) == role);
        let mut paths: Vec<String> = Vec::new();
        if kind.is_namespaced() {
            paths.extend(self.namespaces.iter().map(|namespace| format!("{group}/namespaces/{namespace}/{plural}")));
        }
        if paths.is_empty() {
            paths.push(format!("{group}/{plural}"));
        }
        let mut objects = Vec::new();
        for path in paths {
            let mut next = String::new();
            loop {
                let text = format!("{}{path}", self.server);
                let mut url =
                    reqwest::Url::parse(&text).map_err(|error| HttpError(format!("parse {text:?}: {error}")))?;
                let (label, field) = selector.map_or(("", ""), |selector| (&selector.label, &selector.field));
                for (name, value) in
                    [("limit", PAGE), ("continue", &next), ("labelSelector", label), ("fieldSelector", field)]
                {
                    if !value.is_empty() {
                        url.query_pairs_mut().append_pair(name, value);
                    }
                }
                let body = tokio::time::timeout(TIMEOUT, get_json(&self.client, url.as_str(), &[])).await;
                let body =
                    body.unwrap_or_else(|_| Err(HttpError(format!("Get {text:?}: context deadline exceeded"))))?;
                let mut page: Value =
                    serde_json::from_slice(&body).map_err(|error| HttpError(format!("{path}: {error}")))?;
                if let Some(items) = page.get_mut("items").and_then(Value::as_array_mut) {
                    objects.append(items);
                }
                next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
                if next.is_empty() {
                    break;
                }
            }
        }
        Ok(objects)
    }
}

fn bearer(credentials: Secret, credentials_file: String) -> Authorization {
    Authorization { kind: "Bearer".to_owned(), credentials, credentials_file }
}

/// Server and client of the current context of a kubeconfig file.
fn kubeconfig(path: &str) -> Result<(String, HttpClientConfig), HttpError> {
    let text = std::fs::read_to_string(path).map_err(|error| HttpError(open_error(path, &error)))?;
    let root = yaml::parse(&text).map_err(|error| HttpError(format!("{path}: {error}")))?;
    let missing = |what: &str| HttpError(format!("{path}: {what}"));
    let named = |section: &str, name: &str, inner: &str| -> Option<Node> {
        let entries = root.get(section)?.items();
        entries.iter().find(|entry| entry.get("name").and_then(Node::text) == Some(name))?.get(inner).cloned()
    };
    let current = root.get("current-context").and_then(Node::text).unwrap_or_default();
    let context = named("contexts", current, "context").ok_or_else(|| missing("no current context"))?;
    let field = |node: &Node, key: &str| node.get(key).and_then(Node::text).unwrap_or_default().to_owned();
    let cluster = named("clusters", &field(&context, "cluster"), "cluster").ok_or_else(|| missing("no cluster"))?;
    let user = named("users", &field(&context, "user"), "user").unwrap_or_else(|| Node::mapping(BTreeMap::new()));
    for unsupported in ["exec", "auth-provider"] {
        if user.get(unsupported).is_some() {
            return Err(missing(&format!("users with {unsupported} are not built yet in Pilaster")));
        }
    }
    let directory = std::path::Path::new(path).parent().unwrap_or(std::path::Path::new(""));
    let file = |node: &Node, key: &str| join_directory(directory, &field(node, key));
    let inline = |node: &Node, key: &str| match field(node, key).as_str() {
        "" => Ok(String::new()),
        text => from_base64(text).ok_or_else(|| missing(&format!("{key} is not base64"))),
    };
    let tls_config = TlsConfig {
        ca: inline(&cluster, "certificate-authority-data")?,
        ca_file: file(&cluster, "certificate-authority"),
        cert: inline(&user, "client-certificate-data")?,
        cert_file: file(&user, "client-certificate"),
        key: Secret::new(inline(&user, "client-key-data")?),
        key_file: file(&user, "client-key"),
        server_name: field(&cluster, "tls-server-name"),
        insecure_skip_verify: field(&cluster, "insecure-skip-tls-verify") == "true",
        ..TlsConfig::default()
    };
    let (token, token_file) = (field(&user, "token"), file(&user, "tokenFile"));
    let authorization = (!token.is_empty() || !token_file.is_empty()).then(|| bearer(Secret::new(token), token_file));
    let (username, password) = (field(&user, "username"), Secret::new(field(&user, "password")));
    let basic_auth = (!username.is_empty()).then(|| BasicAuth { username, password, ..BasicAuth::default() });
    let http = HttpClientConfig { authorization, basic_auth, tls_config, ..HttpClientConfig::default() };
    match field(&cluster, "server") {
        server if server.is_empty() => Err(missing("the cluster has no server")),
        server => Ok((server, http)),
    }
}

fn from_base64(text: &str) -> Option<String> {
    let (mut bits, mut count) = (0u32, 0);
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, expected) in
            [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj\n", "abc"), ("dXNlcjpwYXNz", "user:pass")]
        {
            assert_eq!(from_base64(text).as_deref(), Some(expected));
        }
        assert_eq!(from_base64("a?"), None);
    }

    #[test]
    fn kubeconfig_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config").to_string_lossy().into_owned();
        let text = "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n\
                    clusters: [{name: k, cluster: {server: 'https://h:1', certificate-authority: ca.pem}}]\n\
                    users: [{name: u, user: {token: t, client-key-data: YWJj, client-certificate-data: YWJj}}]\n";
        std::fs::write(&path, text).unwrap();
        let (server, http) = kubeconfig(&path).unwrap();
        assert_eq!(server, "https://h:1");
        assert_eq!(http.authorization.unwrap().credentials.expose(), "t");
        assert_eq!(http.tls_config.ca_file, folder.path().join("ca.pem").to_string_lossy());
        assert_eq!(http.tls_config.key.expose(), "abc");
        std::fs::write(&path, text.replace("token: t", "exec: {}")).unwrap();
        assert!(kubeconfig(&path).unwrap_err().to_string().contains("users with exec are not built yet"));
    }
}
