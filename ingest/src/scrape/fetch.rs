//! Asks a target and brings its answer, still compressed.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};

use super::target::Target;
use crate::config::ScrapeConfig;
use crate::exposition::accept_header;
use crate::http::{HttpClient, HttpError, describe};

/// A target's answer.
#[derive(Debug)]
pub(super) struct Fetched {
    pub body: Vec<u8>,
    pub gzip: bool,
    pub content_type: String,
}

/// Why a target's answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Failed(String),
    #[error("body size limit exceeded")]
    BodyTooLarge,
}

impl From<HttpError> for FetchError {
    fn from(error: HttpError) -> FetchError {
        FetchError::Failed(error.0)
    }
}

/// Sends the request of a scrape and reads the answer; `limit` bytes are too many.
///
/// The caller puts a timeout around it.
pub(super) async fn fetch(
    client: &HttpClient,
    config: &ScrapeConfig,
    target: &Target,
    limit: u64,
) -> Result<Fetched, FetchError> {
    let text = target.url();
    let url = reqwest::Url::parse(text).map_err(|error| FetchError::Failed(format!("parse {text:?}: {error}")))?;
    let request = client
        .request(reqwest::Method::GET, url.clone())
        .await?
        .header(ACCEPT, accept_header(config.protocols().iter().copied(), config.escaping()))
        .header(ACCEPT_ENCODING, if config.enable_compression { "gzip" } else { "identity" })
        .header(USER_AGENT, crate::USER_AGENT)
        .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout().as_secs_f64().to_string());
    let mut response = request.send().await.map_err(|error| describe("Get", text, &url, &error))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Failed(format!("server returned HTTP status {}", response.status())));
    }
    let header =
        |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let gzip = header(CONTENT_ENCODING) == "gzip";
    let content_type = header(CONTENT_TYPE);
    // A length that is not true costs no more than this.
    let expected = response.content_length().unwrap_or_default().min(limit).min(1 << 20);
    let mut body = Vec::with_capacity(expected as usize);
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::Failed(body_error(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 >= limit {
            return Err(FetchError::BodyTooLarge);
        }
    }
    Ok(Fetched { body, gzip, content_type })
}

fn body_error(error: &reqwest::Error) -> String {
    match error.is_timeout() {
        true => "context deadline exceeded".to_owned(),
        false => "unexpected EOF".to_owned(),
    }
}

/// Decompresses `body`; `limit` bytes are too many.
pub(super) fn decompress(body: &[u8], limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut plain = Vec::with_capacity(body.len().saturating_mul(8).min(limit as usize).min(16 << 20));
    MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain).map_err(|error| {
        FetchError::Failed(match error.kind() {
            std::io::ErrorKind::UnexpectedEof if body.is_empty() => "EOF".to_owned(),
            std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            std::io::ErrorKind::InvalidInput => "gzip: invalid header".to_owned(),
            _ => format!("gzip: {error}"),
        })
    })?;
    if plain.len() as u64 >= limit { Err(FetchError::BodyTooLarge) } else { Ok(plain) }
}
