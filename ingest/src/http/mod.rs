//! An HTTP client as configured: authentication, TLS, proxy, headers. Files are read again whenever they are used, so
//! rotated secrets and certificates need no reload.
//!
//! Error texts are those of Prometheus (of Go's client) where the cause is the same, because people search for them.

mod oauth2;
mod tls;

use std::error::Error as _;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;

use self::oauth2::TokenSource;
use self::tls::TlsMaterial;
use crate::config::HttpClientConfig;

/// Redirects followed for one request.
const MOST_REDIRECTS: usize = 10;

/// Why a request failed, worded as Prometheus words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(pub String);

/// Sends requests; keeps connections open between them.
#[derive(Debug)]
pub struct HttpClient {
    config: HttpClientConfig,
    /// Built from this material; built anew when the files say something else.
    current: Mutex<(TlsMaterial, reqwest::Client)>,
    tokens: Option<TokenSource>,
}

impl HttpClient {
    /// # Errors
    /// [`HttpError`] where certificates cannot be read or the proxy's URL is none.
    pub fn new(config: &HttpClientConfig) -> Result<HttpClient, HttpError> {
        let material = TlsMaterial::read(&config.tls_config)?;
        let client = build(config, &material)?;
        let tokens = match &config.oauth2 {
            None => None,
            Some(oauth2) => {
                let tokens = HttpClientConfig {
                    tls_config: oauth2.tls_config.clone(),
                    proxy_url: oauth2.proxy_url.clone(),
                    no_proxy: oauth2.no_proxy.clone(),
                    proxy_from_environment: oauth2.proxy_from_environment,
                    ..HttpClientConfig::default()
                };
                let client = build(&tokens, &TlsMaterial::read(&tokens.tls_config)?)?;
                Some(TokenSource::new(oauth2.clone(), client))
            }
        };
        Ok(HttpClient { config: config.clone(), current: Mutex::new((material, client)), tokens })
    }

    /// A request with authentication and configured headers. Asks for a token first where one is needed.
    ///
    /// # Errors
    /// [`HttpError`] where a file of secrets or certificates cannot be read, or there is no token to be had.
    pub async fn request(
        &self,
        method: reqwest::Method,
        url: reqwest::Url,
    ) -> Result<reqwest::RequestBuilder, HttpError> {
        let mut headers = self.headers()?;
        if let Some(tokens) = &self.tokens {
            headers.insert(AUTHORIZATION, secret_value(&tokens.header().await?)?);
        }
        Ok(self.client()?.request(method, url).headers(headers))
    }

    fn client(&self) -> Result<reqwest::Client, HttpError> {
        let tls = &self.config.tls_config;
        let in_files = !(tls.ca_file.is_empty() && tls.cert_file.is_empty() && tls.key_file.is_empty());
        let mut current = self.current.lock();
        if in_files {
            let material = TlsMaterial::read(tls)?;
            if material != current.0 {
                *current = (material.clone(), build(&self.config, &material)?);
            }
        }
        Ok(current.1.clone())
    }

    fn headers(&self) -> Result<HeaderMap, HttpError> {
        let mut headers = HeaderMap::new();
        for (name, header) in &self.config.http_headers {
            let name =
                HeaderName::try_from(name.as_str()).map_err(|_| HttpError(format!("invalid header {name:?}")))?;
            let secrets = header.secrets.iter().map(|secret| Ok(secret.expose().to_owned()));
            let files = header.files.iter().map(|path| read_secret("header", path));
            for value in header.values.iter().cloned().map(Ok).chain(secrets).chain(files) {
                headers.append(name.clone(), header_value(&value?)?);
            }
        }
        if let Some(basic) = &self.config.basic_auth {
            let username = match basic.username_file.as_str() {
                "" => basic.username.clone(),
                path => read_secret("basic auth username", path)?,
            };
            let password = match basic.password_file.as_str() {
                "" => basic.password.expose().to_owned(),
                path => read_secret("basic auth password", path)?,
            };
            let pair = base64(format!("{username}:{password}").as_bytes());
            headers.insert(AUTHORIZATION, secret_value(&format!("Basic {pair}"))?);
        }
        if let Some(authorization) = &self.config.authorization {
            let credentials = match authorization.credentials_file.as_str() {
                "" => authorization.credentials.expose().to_owned(),
                path => read_secret("authorization credentials", path)?,
            };
            headers.insert(AUTHORIZATION, secret_value(&format!("{} {credentials}", authorization.kind))?);
        }
        Ok(headers)
    }
}

fn build(config: &HttpClientConfig, material: &TlsMaterial) -> Result<reqwest::Client, HttpError> {
    let redirects = match config.follow_redirects {
        true => Policy::limited(MOST_REDIRECTS),
        false => Policy::none(),
    };
    let mut builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls::client_config(&config.tls_config, material)?)
        // Bodies are decompressed by whoever counts their bytes.
        .no_gzip()
        .redirect(redirects)
        .pool_idle_timeout(Duration::from_secs(300))
        .tcp_nodelay(true);
    if !config.proxy_url.is_empty() {
        let proxy = reqwest::Proxy::all(&config.proxy_url)
            .map_err(|error| HttpError(format!("invalid proxy_url: {}", deepest(&error))))?;
        builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(&config.no_proxy)));
    } else if !config.proxy_from_environment {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| HttpError(format!("error creating HTTP client: {}", deepest(&error))))
}

fn read_secret(what: &str, path: &str) -> Result<String, HttpError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => {
            Err(HttpError(format!("unable to read {what}: unable to read file {path}: {}", open_error(path, &error))))
        }
    }
}

/// `open a/b: no such file or directory`.
pub(crate) fn open_error(path: &str, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("open {path}: {reason}")
}

fn header_value(text: &str) -> Result<HeaderValue, HttpError> {
    HeaderValue::from_str(text).map_err(|_| HttpError("invalid header field value".to_owned()))
}

fn secret_value(text: &str) -> Result<HeaderValue, HttpError> {
    let mut value = header_value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            if position <= chunk.len() {
                out.push(char::from(ALPHABET[(word >> (18 - 6 * position)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Go's words for the failures of a handshake that people meet.
fn tls_reason(reason: String) -> String {
    const UNVERIFIED: &str = "tls: failed to verify certificate";
    if let Some(alert) = reason.strip_prefix("received fatal alert: ") {
        let mut words = String::new();
        for c in alert.chars() {
            if c.is_ascii_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.push(c.to_ascii_lowercase());
        }
        return format!("remote error: tls: {words}");
    }
    match reason.strip_prefix("invalid peer certificate: ") {
        Some("UnknownIssuer") => format!("{UNVERIFIED}: x509: certificate signed by unknown authority"),
        Some(other) => format!("{UNVERIFIED}: x509: {other}"),
        None => reason,
    }
}

/// What happened to a request for `url`, written `text`, in Go's words; `method` is `Get` or `Post`.
pub fn describe(method: &str, text: &str, url: &reqwest::Url, error: &reqwest::Error) -> HttpError {
    let host = url.host_str().unwrap_or_default();
    let address = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let mut system = None;
    let mut source = error.source();
    while let Some(inner) = source {
        system = inner.downcast_ref::<io::Error>().or(system);
        source = inner.source();
    }
    let kind = system.map(io::Error::kind);
    let reason = if error.is_timeout() {
        "context deadline exceeded".to_owned()
    } else if error.is_redirect() {
        format!("stopped after {MOST_REDIRECTS} redirects")
    } else {
        let deepest = deepest(error);
        let dns = deepest.contains("failed to lookup address") || deepest.contains("dns error");
        match kind {
            Some(io::ErrorKind::ConnectionRefused) => format!("dial tcp {address}: connect: connection refused"),
            Some(io::ErrorKind::HostUnreachable) => format!("dial tcp {address}: connect: no route to host"),
            Some(io::ErrorKind::NetworkUnreachable) => format!("dial tcp {address}: connect: network is unreachable"),
            Some(io::ErrorKind::ConnectionReset) => "read: connection reset by peer".to_owned(),
            _ if dns => format!("dial tcp: lookup {host}: no such host"),
            Some(io::ErrorKind::UnexpectedEof) => "EOF".to_owned(),
            _ if deepest.contains("connection closed before message completed") => "EOF".to_owned(),
            _ if deepest == "URL scheme is not allowed" => format!("unsupported protocol scheme {:?}", url.scheme()),
            _ => tls_reason(deepest),
        }
    };
    HttpError(format!("{method} {text:?}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (text, expected) in
            [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("user:pass", "dXNlcjpwYXNz")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn secrets_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token").to_string_lossy().into_owned();
        let text = format!("authorization: {{credentials_file: {path}}}\nhttp_headers: {{X-A: {{values: [b]}}}}");
        let config = crate::config::yaml::FromYaml::from_yaml(&crate::config::yaml::parse(&text).unwrap()).unwrap();
        let client = HttpClient::new(&config).unwrap();
        assert_eq!(
            client.headers().unwrap_err().to_string(),
            format!(
                "unable to read authorization credentials: unable to read file {path}: open {path}: no such file or directory"
            )
        );
        for token in ["one", "two"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            let headers = client.headers().unwrap();
            assert_eq!(headers[AUTHORIZATION], format!("Bearer {token}"));
            assert_eq!(headers["x-a"], "b");
        }
    }

    #[tokio::test]
    async fn tokens_are_kept_until_they_expire_or_the_secret_changes() {
        let requests = std::sync::Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let app = axum::Router::new().fallback(move |headers: HeaderMap, body: String| async move {
            let mut seen = seen.lock();
            let basic = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
            seen.push((basic.clone(), body));
            let count = seen.len();
            // Only the form is good enough for this server.
            let status = if basic.is_some() { 401 } else { 200 };
            let answer =
                format!("{{\"access_token\": \"t{count}\", \"token_type\": \"bearer\", \"expires_in\": 3600}}");
            (axum::http::StatusCode::from_u16(status).unwrap(), answer)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret").to_string_lossy().into_owned();
        std::fs::write(&path, "s 1\n").unwrap();
        let text = format!(
            "oauth2: {{client_id: me, client_secret_file: {path}, token_url: 'http://{address}/', scopes: [a, b], endpoint_params: {{x: y}}}}"
        );
        let config = crate::config::yaml::FromYaml::from_yaml(&crate::config::yaml::parse(&text).unwrap()).unwrap();
        let client = HttpClient::new(&config).unwrap();
        let header = || async {
            let url = reqwest::Url::parse("http://h/").unwrap();
            let request = client.request(reqwest::Method::GET, url).await.unwrap().build().unwrap();
            request.headers()[AUTHORIZATION].to_str().unwrap().to_owned()
        };
        assert_eq!(header().await, "Bearer t2");
        assert_eq!(header().await, "Bearer t2");
        std::fs::write(&path, "s2").unwrap();
        assert_eq!(header().await, "Bearer t4");
        let requests = requests.lock();
        assert_eq!(requests[0].0.as_deref(), Some("Basic bWU6cysx"));
        assert_eq!(requests[1].1, "grant_type=client_credentials&scope=a+b&x=y&client_id=me&client_secret=s+1");
    }
}
