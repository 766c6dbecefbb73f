//! Tokens by the client credentials grant, kept until they expire or the secret changes.
//!
//! Source: RFC 6749 section 4.4.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{HttpError, base64, describe, read_secret, secret_value};
use crate::config::OAuth2;

/// A token is given up this much before it expires.
const EARLY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct TokenSource {
    config: OAuth2,
    client: reqwest::Client,
    current: Mutex<Option<Token>>,
}

#[derive(Debug)]
struct Token {
    /// What the `Authorization` header says.
    header: String,
    /// `None`: never.
    expires: Option<Instant>,
    /// The secret that it was asked with.
    secret: String,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl TokenSource {
    pub fn new(config: OAuth2, client: reqwest::Client) -> TokenSource {
        TokenSource { config, client, current: Mutex::new(None) }
    }

    /// The value of the `Authorization` header.
    ///
    /// # Errors
    /// [`HttpError`] where there is no token to be had.
    pub async fn header(&self) -> Result<String, HttpError> {
        let secret = match self.config.client_secret_file.as_str() {
            "" => self.config.client_secret.expose().to_owned(),
            path => read_secret("oauth2 client secret", path)?,
        };
        // Held while asking: one request for all who wait.
        let mut current = self.current.lock().await;
        match &*current {
            Some(token)
                if token.secret == secret && token.expires.is_none_or(|expires| Instant::now() + EARLY < expires) =>
            {
                Ok(token.header.clone())
            }
            _ => {
                let token = self.ask(&secret).await?;
                let header = token.header.clone();
                *current = Some(token);
                Ok(header)
            }
        }
    }

    async fn ask(&self, secret: &str) -> Result<Token, HttpError> {
        // Servers differ in where they want the secret; most take it in the header.
        match self.request(secret, true).await {
            Ok(token) => Ok(token),
            Err(first) => self.request(secret, false).await.map_err(|_| first),
        }
    }

    async fn request(&self, secret: &str, in_header: bool) -> Result<Token, HttpError> {
        let config = &self.config;
        let text = &config.token_url;
        let url = reqwest::Url::parse(text).map_err(|error| HttpError(format!("parse {text:?}: {error}")))?;
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let form = self.form((!in_header).then_some(secret));
        let mut request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(form);
        if in_header {
            let pair = base64(format!("{}:{}", encoded(&config.client_id), encoded(secret)).as_bytes());
            request = request.header(AUTHORIZATION, secret_value(&format!("Basic {pair}"))?);
        }
        let response = request.send().await.map_err(|error| describe("Post", text, &url, &error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| describe("Post", text, &url, &error))?;
        if !status.is_success() {
            return Err(HttpError(format!("oauth2: cannot fetch token: {status}")));
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| HttpError(format!("oauth2: cannot parse json: {error}")))?;
        // The scheme is written in lower case by many, and wanted with a capital by some.
        let scheme = match answer.token_type.as_str() {
            "" => "Bearer",
            kind if kind.eq_ignore_ascii_case("bearer") => "Bearer",
            kind => kind,
        };
        let expires = answer.expires_in.filter(|seconds| *seconds > 0.0 && *seconds < 1e9);
        Ok(Token {
            header: format!("{scheme} {}", answer.access_token),
            expires: expires.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds)),
            secret: secret.to_owned(),
        })
    }

    /// The body of the request, with `secret` where it goes there.
    fn form(&self, secret: Option<&str>) -> String {
        let config = &self.config;
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !config.scopes.is_empty() {
            form.append_pair("scope", &config.scopes.join(" "));
        }
        for (name, value) in &config.endpoint_params {
            form.append_pair(name, value);
        }
        if let Some(secret) = secret {
            form.append_pair("client_id", &config.client_id).append_pair("client_secret", secret);
        }
        form.finish()
    }
}
