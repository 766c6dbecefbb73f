//! `http_sd_configs`: an endpoint that answers with target groups in JSON.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use tokio::time::MissedTickBehavior;

use super::Found;
use super::file::parse_groups;
use crate::config::{HttpSdConfig, TargetGroup};
use crate::http::{HttpClient, HttpError, describe};

const URL_LABEL: &str = "__meta_url";

/// An answer longer than this is not a list of targets.
const MOST_BYTES: usize = 256 << 20;

pub(super) struct HttpSource {
    config: HttpSdConfig,
    client: HttpClient,
}

impl HttpSource {
    pub fn new(config: &HttpSdConfig) -> Result<HttpSource, HttpError> {
        Ok(HttpSource { config: config.clone(), client: HttpClient::new(&config.http)? })
    }

    /// Keeps `found` in step with the endpoint; after a failure what was found before stays.
    pub async fn run(self, found: Found) {
        let period = self.config.refresh_interval.as_duration().max(Duration::from_millis(1));
        let mut refresh = tokio::time::interval(period);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            refresh.tick().await;
            let groups = tokio::time::timeout(period, self.fetch()).await;
            let groups = groups
                .unwrap_or_else(|_| Err(HttpError(format!("Get {:?}: context deadline exceeded", self.config.url))));
            match groups {
                Ok(groups) => found.set(groups),
                Err(error) => tracing::error!(url = self.config.url, err = %error, "Unable to refresh target groups"),
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<TargetGroup>, HttpError> {
        let url = &self.config.url;
        let seconds = self.config.refresh_interval.ms() as f64 / 1000.0;
        let seconds = seconds.to_string();
        let headers = [("X-Prometheus-Refresh-Interval-Seconds", seconds.as_str())];
        let body = get_json(&self.client, url, &headers).await?;
        let mut groups = parse_groups(&String::from_utf8_lossy(&body), true).map_err(|error| HttpError(error.0))?;
        for (index, group) in groups.iter_mut().enumerate() {
            group.source = format!("{url}:{index}");
            group.labels.insert(URL_LABEL.to_owned(), url.clone());
        }
        Ok(groups)
    }
}

/// The body of an answer that must be 200 and JSON.
pub(super) async fn get_json(client: &HttpClient, url: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>, HttpError> {
    let parsed = reqwest::Url::parse(url).map_err(|error| HttpError(format!("parse {url:?}: {error}")))?;
    let mut request = client
        .request(reqwest::Method::GET, parsed.clone())
        .await?
        .header(USER_AGENT, crate::USER_AGENT)
        .header(ACCEPT, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send().await.map_err(|error| describe("Get", url, &parsed, &error))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(HttpError(format!("server returned HTTP status {}", response.status())));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(HttpError(format!("unsupported content type {content_type:?}")));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe("Get", url, &parsed, &error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err(HttpError(format!("answer is longer than {MOST_BYTES} bytes")));
        }
    }
    Ok(body)
}
