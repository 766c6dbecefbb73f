//! `oauth2`: a token from somewhere else proves who the client is.

use std::collections::BTreeMap;
use std::path::Path;

use super::http_client::{push_list, push_secret, push_text};
use super::yaml::{Fields, FromYaml, Node};
use super::{Error, Secret, TlsConfig, join_directory};

const CLIENT_CREDENTIALS: &str = "client_credentials";

/// The client credentials grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Secret,
    pub client_secret_file: String,
    /// As written; no other grant than this one.
    grant_type: String,
    pub scopes: Vec<String>,
    pub token_url: String,
    pub endpoint_params: BTreeMap<String, String>,
    pub tls_config: TlsConfig,
    pub proxy_url: String,
    pub no_proxy: String,
    pub proxy_from_environment: bool,
}

impl FromYaml for OAuth2 {
    fn type_name() -> String {
        "config.plain".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<OAuth2, Error> {
        let mut fields = Fields::of(node, "config.plain")?;
        let jwt = [
            "client_certificate_key_id",
            "client_certificate_key",
            "client_certificate_key_file",
            "client_certificate_key_ref",
            "signature_algorithm",
            "iss",
            "audience",
            "claims",
            "client_secret_ref",
            "proxy_connect_header",
        ];
        let not_built: Vec<&str> =
            jwt.into_iter().filter(|key| fields.take_node(key).is_some_and(|node| !node.is_null())).collect();
        let config = OAuth2 {
            client_id: fields.take_default("client_id")?,
            client_secret: fields.take_default("client_secret")?,
            client_secret_file: fields.take_default("client_secret_file")?,
            grant_type: fields.take_default("grant_type")?,
            scopes: fields.take_default("scopes")?,
            token_url: fields.take_default("token_url")?,
            endpoint_params: fields.take_map("endpoint_params", "map[string]string")?,
            tls_config: fields.take_default("tls_config")?,
            proxy_url: fields.take_default("proxy_url")?,
            no_proxy: fields.take_default("no_proxy")?,
            proxy_from_environment: fields.take_default("proxy_from_environment")?,
        };
        fields.finish()?;
        if let Some(key) = not_built.first() {
            return Err(Error::NotBuilt(format!("oauth2.{key}")));
        }
        if !config.grant_type.is_empty() && config.grant_type != CLIENT_CREDENTIALS {
            return Err(Error::NotBuilt(format!("oauth2.grant_type {}", config.grant_type)));
        }
        Ok(config)
    }
}

impl OAuth2 {
    /// # Errors
    /// Prometheus's texts for what is missing or there twice.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Invalid(reason.to_owned()));
        if self.client_id.is_empty() {
            return refuse("oauth2 client_id must be configured");
        }
        if self.token_url.is_empty() {
            return refuse("oauth2 token_url must be configured");
        }
        if !self.client_secret.is_empty() && !self.client_secret_file.is_empty() {
            return refuse(
                "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials",
            );
        }
        Ok(())
    }

    pub(super) fn set_directory(&mut self, directory: &Path) {
        for path in [
            &mut self.client_secret_file,
            &mut self.tls_config.ca_file,
            &mut self.tls_config.cert_file,
            &mut self.tls_config.key_file,
        ] {
            *path = join_directory(directory, path);
        }
    }

    pub(super) fn to_yaml(&self) -> Node {
        let mut pairs = Vec::new();
        push_text(&mut pairs, "client_id", &self.client_id);
        push_secret(&mut pairs, "client_secret", &self.client_secret);
        push_text(&mut pairs, "client_secret_file", &self.client_secret_file);
        push_text(&mut pairs, "grant_type", &self.grant_type);
        push_list(&mut pairs, "scopes", self.scopes.iter().map(Node::string));
        push_text(&mut pairs, "token_url", &self.token_url);
        if !self.endpoint_params.is_empty() {
            let params = self.endpoint_params.iter().map(|(name, value)| (name.clone(), Node::string(value)));
            pairs.push(("endpoint_params".to_owned(), Node::mapping(params)));
        }
        if self.tls_config != TlsConfig::default() {
            pairs.push(("tls_config".to_owned(), self.tls_config.to_yaml()));
        }
        push_text(&mut pairs, "proxy_url", &self.proxy_url);
        push_text(&mut pairs, "no_proxy", &self.no_proxy);
        Node::mapping(pairs)
    }
}
