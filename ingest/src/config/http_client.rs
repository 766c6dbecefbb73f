//! How an HTTP client proves who it is and whom it trusts; inline in scrape, discovery and Alertmanager sections.

use std::collections::BTreeMap;
use std::path::Path;

use super::yaml::{Fields, FromYaml, Node};
use super::{Error, OAuth2, Secret, join_directory};

/// The HTTP client keys. Files are read when a client is built and again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpClientConfig {
    pub basic_auth: Option<BasicAuth>,
    /// `bearer_token` and `bearer_token_file` end here too.
    pub authorization: Option<Authorization>,
    pub oauth2: Option<OAuth2>,
    pub tls_config: TlsConfig,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    /// Empty for none. May hold a password, so it is never printed with one.
    pub proxy_url: String,
    pub no_proxy: String,
    pub proxy_from_environment: bool,
    pub http_headers: BTreeMap<String, HeaderValues>,
}

/// `basic_auth`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasicAuth {
    pub username: String,
    pub username_file: String,
    pub password: Secret,
    pub password_file: String,
}

/// `authorization`: the header's scheme and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    pub kind: String,
    pub credentials: Secret,
    pub credentials_file: String,
}

/// `tls_config`. Inline material and files are alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    pub ca: String,
    pub cert: String,
    pub key: Secret,
    pub ca_file: String,
    pub cert_file: String,
    pub key_file: String,
    pub server_name: String,
    pub insecure_skip_verify: bool,
    pub min_version: String,
    pub max_version: String,
}

/// The values of one extra request header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderValues {
    pub values: Vec<String>,
    pub secrets: Vec<Secret>,
    pub files: Vec<String>,
}

impl Default for HttpClientConfig {
    fn default() -> HttpClientConfig {
        HttpClientConfig {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy_url: String::new(),
            no_proxy: String::new(),
            proxy_from_environment: false,
            http_headers: BTreeMap::new(),
        }
    }
}

/// Headers that the client sets itself; a configured one would fight with it.
const RESERVED_HEADERS: [&str; 20] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Www-Authenticate",
    "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
    "X-Prometheus-Remote-Write-Samples-Written",
    "X-Prometheus-Remote-Write-Histograms-Written",
];

impl HttpClientConfig {
    /// Takes the inline keys out of a section that has others too.
    ///
    /// # Errors
    /// Prometheus's texts for contradictions; [`Error::NotBuilt`] for `proxy_connect_header` and secret managers.
    pub fn take_from(fields: &mut Fields<'_>) -> Result<HttpClientConfig, Error> {
        let defaults = HttpClientConfig::default();
        let connect_header = fields.take_node("proxy_connect_header").filter(|node| !node.is_null());
        let bearer_token: Secret = fields.take_default("bearer_token")?;
        let bearer_token_file: String = fields.take_default("bearer_token_file")?;
        let mut config = HttpClientConfig {
            basic_auth: fields.take("basic_auth")?,
            authorization: fields.take("authorization")?,
            oauth2: fields.take("oauth2")?,
            tls_config: fields.take_default("tls_config")?,
            follow_redirects: fields.take_or("follow_redirects", defaults.follow_redirects)?,
            enable_http2: fields.take_or("enable_http2", defaults.enable_http2)?,
            proxy_url: fields.take_default("proxy_url")?,
            no_proxy: fields.take_default("no_proxy")?,
            proxy_from_environment: fields.take_default("proxy_from_environment")?,
            http_headers: fields.take_default("http_headers")?,
        };
        if let Some(address) = config.proxy_url.strip_prefix(':') {
            return Err(Error::Invalid(format!("parse \":{address}\": missing protocol scheme")));
        }
        config.validate(bearer_token, bearer_token_file)?;
        if connect_header.is_some() && config.proxy_url.is_empty() && !config.proxy_from_environment {
            let reason =
                "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured";
            return Err(Error::Invalid(reason.to_owned()));
        }
        if connect_header.is_some() {
            return Err(Error::NotBuilt("proxy_connect_header".to_owned()));
        }
        Ok(config)
    }

    /// Source: `HTTPClientConfig.Validate` of Prometheus's common library.
    fn validate(&mut self, bearer: Secret, bearer_file: String) -> Result<(), Error> {
        let oauth2 = self.oauth2.is_some();
        let refuse = |reason: &str| Err(Error::Invalid(reason.to_owned()));
        let bearers = usize::from(!bearer.is_empty()) + usize::from(!bearer_file.is_empty());
        if bearers > 1 {
            return refuse("at most one of bearer_token & bearer_token_file must be configured");
        }
        if usize::from(self.basic_auth.is_some()) + usize::from(oauth2) + bearers > 1 {
            return refuse("at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured");
        }
        if let Some(basic) = &self.basic_auth {
            if !basic.username.is_empty() && !basic.username_file.is_empty() {
                return refuse("at most one of basic_auth username, username_file & username_ref must be configured");
            }
            if !basic.password.is_empty() && !basic.password_file.is_empty() {
                return refuse("at most one of basic_auth password, password_file & password_ref must be configured");
            }
        }
        match &mut self.authorization {
            Some(authorization) => {
                if bearers > 0 {
                    return refuse("authorization is not compatible with bearer_token & bearer_token_file");
                }
                if !authorization.credentials.is_empty() && !authorization.credentials_file.is_empty() {
                    return refuse(
                        "at most one of authorization credentials, credentials_file & credentials_ref must be configured",
                    );
                }
                authorization.kind = authorization.kind.trim().to_owned();
                if authorization.kind.is_empty() {
                    authorization.kind = "Bearer".to_owned();
                }
                if authorization.kind.eq_ignore_ascii_case("basic") {
                    return refuse("authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
                }
                if self.basic_auth.is_some() || oauth2 {
                    return refuse("at most one of basic_auth, oauth2 & authorization must be configured");
                }
            }
            None if bearers > 0 => {
                self.authorization = Some(Authorization {
                    kind: "Bearer".to_owned(),
                    credentials: bearer,
                    credentials_file: bearer_file,
                });
            }
            None => {}
        }
        if let Some(oauth2) = &self.oauth2 {
            if self.basic_auth.is_some() {
                return refuse("at most one of basic_auth, oauth2 & authorization must be configured");
            }
            oauth2.validate()?;
        }
        if self.proxy_from_environment && !self.proxy_url.is_empty() {
            return refuse("if proxy_from_environment is configured, proxy_url must not be configured");
        }
        if self.proxy_from_environment && !self.no_proxy.is_empty() {
            return refuse("if proxy_from_environment is configured, no_proxy must not be configured");
        }
        if self.proxy_url.is_empty() && !self.no_proxy.is_empty() {
            return refuse("if no_proxy is configured, proxy_url must also be configured");
        }
        for name in self.http_headers.keys() {
            if RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
                return refuse(&format!("setting header {name:?} is not allowed"));
            }
        }
        Ok(())
    }

    /// Makes relative paths relative to `directory`.
    pub fn set_directory(&mut self, directory: &Path) {
        let join = |path: &mut String| *path = join_directory(directory, path);
        if let Some(basic) = &mut self.basic_auth {
            join(&mut basic.username_file);
            join(&mut basic.password_file);
        }
        if let Some(authorization) = &mut self.authorization {
            join(&mut authorization.credentials_file);
        }
        if let Some(oauth2) = &mut self.oauth2 {
            oauth2.set_directory(directory);
        }
        join(&mut self.tls_config.ca_file);
        join(&mut self.tls_config.cert_file);
        join(&mut self.tls_config.key_file);
        for header in self.http_headers.values_mut() {
            header.files.iter_mut().for_each(join);
        }
    }

    /// The keys as the configuration page shows them, secrets hidden.
    pub fn yaml_pairs(&self) -> Vec<(String, Node)> {
        let mut pairs = Vec::new();
        if let Some(basic) = &self.basic_auth {
            let mut inner = Vec::new();
            push_text(&mut inner, "username", &basic.username);
            push_text(&mut inner, "username_file", &basic.username_file);
            push_secret(&mut inner, "password", &basic.password);
            push_text(&mut inner, "password_file", &basic.password_file);
            pairs.push(("basic_auth".to_owned(), Node::mapping(inner)));
        }
        if let Some(authorization) = &self.authorization {
            let mut inner = Vec::new();
            push_text(&mut inner, "type", &authorization.kind);
            push_secret(&mut inner, "credentials", &authorization.credentials);
            push_text(&mut inner, "credentials_file", &authorization.credentials_file);
            pairs.push(("authorization".to_owned(), Node::mapping(inner)));
        }
        if let Some(oauth2) = &self.oauth2 {
            pairs.push(("oauth2".to_owned(), oauth2.to_yaml()));
        }
        if self.tls_config != TlsConfig::default() {
            pairs.push(("tls_config".to_owned(), self.tls_config.to_yaml()));
        }
        pairs.push(("follow_redirects".to_owned(), Node::plain(self.follow_redirects)));
        pairs.push(("enable_http2".to_owned(), Node::plain(self.enable_http2)));
        push_text(&mut pairs, "proxy_url", &hide_password(&self.proxy_url));
        push_text(&mut pairs, "no_proxy", &self.no_proxy);
        if self.proxy_from_environment {
            pairs.push(("proxy_from_environment".to_owned(), Node::plain(true)));
        }
        if !self.http_headers.is_empty() {
            let headers = self.http_headers.iter().map(|(name, header)| {
                let mut inner = Vec::new();
                push_list(&mut inner, "values", header.values.iter().map(Node::string));
                push_list(&mut inner, "secrets", header.secrets.iter().map(Secret::to_yaml));
                push_list(&mut inner, "files", header.files.iter().map(Node::string));
                (name.clone(), Node::mapping(inner))
            });
            pairs.push(("http_headers".to_owned(), Node::mapping(headers)));
        }
        pairs
    }

    pub fn to_yaml(&self) -> Node {
        Node::mapping(self.yaml_pairs())
    }
}

/// `user:password@` becomes `user:xxxxx@`, as Go prints a redacted URL.
fn hide_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, host)) = rest.split_once('@') else { return url.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:xxxxx@{host}"),
        None => url.to_owned(),
    }
}

pub(super) fn push_text(pairs: &mut Vec<(String, Node)>, key: &str, text: &str) {
    if !text.is_empty() {
        pairs.push((key.to_owned(), Node::string(text)));
    }
}

pub(super) fn push_secret(pairs: &mut Vec<(String, Node)>, key: &str, secret: &Secret) {
    if !secret.is_empty() {
        pairs.push((key.to_owned(), secret.to_yaml()));
    }
}

pub(super) fn push_list(pairs: &mut Vec<(String, Node)>, key: &str, items: impl Iterator<Item = Node>) {
    let items: Vec<Node> = items.collect();
    if !items.is_empty() {
        pairs.push((key.to_owned(), Node::sequence(items)));
    }
}

impl FromYaml for HttpClientConfig {
    fn type_name() -> String {
        "config.plain".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<HttpClientConfig, Error> {
        let mut fields = Fields::of(node, "config.plain")?;
        let config = HttpClientConfig::take_from(&mut fields)?;
        fields.finish()?;
        Ok(config)
    }
}

/// Secret managers are not part of a plain server: their references are refused by name.
fn refuse_reference(fields: &mut Fields<'_>, key: &str) -> Result<(), Error> {
    match fields.take_node(key) {
        Some(node) if !node.is_null() => Err(Error::NotBuilt(key.to_owned())),
        Some(_) | None => Ok(()),
    }
}

impl FromYaml for BasicAuth {
    fn type_name() -> String {
        "config.plain".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<BasicAuth, Error> {
        let mut fields = Fields::of(node, "config.plain")?;
        refuse_reference(&mut fields, "username_ref")?;
        refuse_reference(&mut fields, "password_ref")?;
        let config = BasicAuth {
            username: fields.take_default("username")?,
            username_file: fields.take_default("username_file")?,
            password: fields.take_default("password")?,
            password_file: fields.take_default("password_file")?,
        };
        fields.finish()?;
        Ok(config)
    }
}

impl FromYaml for Authorization {
    fn type_name() -> String {
        "config.Authorization".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<Authorization, Error> {
        let mut fields = Fields::of(node, "config.Authorization")?;
        refuse_reference(&mut fields, "credentials_ref")?;
        let config = Authorization {
            kind: fields.take_default("type")?,
            credentials: fields.take_default("credentials")?,
            credentials_file: fields.take_default("credentials_file")?,
        };
        fields.finish()?;
        Ok(config)
    }
}

const TLS_VERSIONS: [&str; 4] = ["TLS10", "TLS11", "TLS12", "TLS13"];

impl TlsConfig {
    pub(super) fn to_yaml(&self) -> Node {
        let mut pairs = Vec::new();
        push_text(&mut pairs, "ca", &self.ca);
        push_text(&mut pairs, "cert", &self.cert);
        push_secret(&mut pairs, "key", &self.key);
        push_text(&mut pairs, "ca_file", &self.ca_file);
        push_text(&mut pairs, "cert_file", &self.cert_file);
        push_text(&mut pairs, "key_file", &self.key_file);
        push_text(&mut pairs, "server_name", &self.server_name);
        pairs.push(("insecure_skip_verify".to_owned(), Node::plain(self.insecure_skip_verify)));
        push_text(&mut pairs, "min_version", &self.min_version);
        push_text(&mut pairs, "max_version", &self.max_version);
        Node::mapping(pairs)
    }
}

impl FromYaml for TlsConfig {
    fn type_name() -> String {
        "config.plain".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<TlsConfig, Error> {
        let mut fields = Fields::of(node, "config.plain")?;
        refuse_reference(&mut fields, "ca_ref")?;
        refuse_reference(&mut fields, "cert_ref")?;
        refuse_reference(&mut fields, "key_ref")?;
        let config = TlsConfig {
            ca: fields.take_default("ca")?,
            cert: fields.take_default("cert")?,
            key: fields.take_default("key")?,
            ca_file: fields.take_default("ca_file")?,
            cert_file: fields.take_default("cert_file")?,
            key_file: fields.take_default("key_file")?,
            server_name: fields.take_default("server_name")?,
            insecure_skip_verify: fields.take_default("insecure_skip_verify")?,
            min_version: fields.take_default("min_version")?,
            max_version: fields.take_default("max_version")?,
        };
        fields.finish()?;
        let refuse = |reason: &str| Err(Error::Invalid(reason.to_owned()));
        for version in [&config.min_version, &config.max_version] {
            if !version.is_empty() && !TLS_VERSIONS.contains(&version.as_str()) {
                return refuse(&format!("unknown TLS version: {version}"));
            }
        }
        if !config.max_version.is_empty() && config.max_version < config.min_version {
            return refuse(
                "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified",
            );
        }
        if matches!(config.max_version.as_str(), "TLS10" | "TLS11") {
            return Err(Error::NotBuilt(format!("tls_config.max_version {}", config.max_version)));
        }
        if !config.ca.is_empty() && !config.ca_file.is_empty() {
            return refuse("at most one of ca, ca_file & ca_ref must be configured");
        }
        if !config.cert.is_empty() && !config.cert_file.is_empty() {
            return refuse("at most one of cert, cert_file & cert_ref must be configured");
        }
        if !config.key.is_empty() && !config.key_file.is_empty() {
            return refuse("at most one of key, key_file & key_ref must be configured");
        }
        let has_cert = !config.cert.is_empty() || !config.cert_file.is_empty();
        let has_key = !config.key.is_empty() || !config.key_file.is_empty();
        if has_cert && !has_key {
            return refuse(
                "exactly one of key, key_file or key_ref must be configured when a client certificate is configured",
            );
        }
        if has_key && !has_cert {
            return refuse(
                "exactly one of cert, cert_file or cert_ref must be configured when a client key is configured",
            );
        }
        Ok(config)
    }
}

impl FromYaml for HeaderValues {
    fn type_name() -> String {
        "config.Header".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<HeaderValues, Error> {
        let mut fields = Fields::of(node, "config.Header")?;
        let values = HeaderValues {
            values: fields.take_default("values")?,
            secrets: fields.take_default("secrets")?,
            files: fields.take_default("files")?,
        };
        fields.finish()?;
        Ok(values)
    }
}
