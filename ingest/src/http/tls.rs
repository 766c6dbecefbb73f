//! TLS as configured.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::{HttpError, open_error};
use crate::config::TlsConfig;

/// PEM texts, from the configuration or its files; empty where there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TlsMaterial {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl TlsMaterial {
    pub fn read(config: &TlsConfig) -> Result<TlsMaterial, HttpError> {
        let material = |what: &str, inline: &str, path: &str| match path {
            "" => Ok(inline.as_bytes().to_vec()),
            path => std::fs::read(path).map_err(|error| {
                HttpError(format!("unable to load specified {what} file {path}: {}", open_error(path, &error)))
            }),
        };
        Ok(TlsMaterial {
            ca: material("CA cert", &config.ca, &config.ca_file)?,
            cert: material("client cert", &config.cert, &config.cert_file)?,
            key: material("client key", config.key.expose(), &config.key_file)?,
        })
    }
}

pub(super) fn client_config(config: &TlsConfig, material: &TlsMaterial) -> Result<ClientConfig, HttpError> {
    let failure = |error: rustls::Error| HttpError(format!("error creating TLS configuration: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(config))
        .map_err(failure)?;
    let builder = if config.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer { provider }))
    } else {
        let roots = Arc::new(roots(config, material)?);
        match config.server_name.as_str() {
            "" => builder.with_root_certificates(roots),
            name => {
                let name = ServerName::try_from(name.to_owned())
                    .map_err(|_| HttpError(format!("invalid tls_config.server_name {name:?}")))?;
                let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| HttpError(format!("error creating TLS configuration: {error}")))?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(NamedServer { name, inner }))
            }
        }
    };
    if material.cert.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&material.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&material.key)
        .map_err(|error| HttpError(format!("unable to use specified client key: {error}")))?;
    builder.with_client_auth_cert(chain, key).map_err(failure)
}

fn versions(config: &TlsConfig) -> Vec<&'static SupportedProtocolVersion> {
    let allowed = |name: &str| {
        (config.min_version.is_empty() || config.min_version.as_str() <= name)
            && (config.max_version.is_empty() || name <= config.max_version.as_str())
    };
    let all = [("TLS13", &rustls::version::TLS13), ("TLS12", &rustls::version::TLS12)];
    all.into_iter().filter(|(name, _)| allowed(name)).map(|(_, version)| version).collect()
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| HttpError(format!("unable to use specified certificate: {error}")))
}

fn roots(config: &TlsConfig, material: &TlsMaterial) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    if material.ca.is_empty() {
        roots.add_parsable_certificates(system_roots().iter().cloned());
        return Ok(roots);
    }
    let (added, _) = roots.add_parsable_certificates(certificates(&material.ca)?);
    match added {
        0 => Err(HttpError(format!("unable to use specified CA cert {}", config.ca_file))),
        _ => Ok(roots),
    }
}

/// Read once: some systems keep them in hundreds of files.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: std::sync::OnceLock<Vec<CertificateDer<'static>>> = std::sync::OnceLock::new();
    ROOTS.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}

/// `insecure_skip_verify`: whoever answers is believed; signatures must still fit the certificate shown.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `server_name`: the certificate must be for this name, whatever the URL says.
#[derive(Debug)]
struct NamedServer {
    name: ServerName<'static>,
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
