//! Certificates from PEM files.

use std::path::Path;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use convgroups_host::settings::InvalidSetting;

use super::ServerError;
use super::files::{self, FileProblem, Secrecy, UnusableFile};
use crate::settings::ServerSettings;

/// The configuration in force, which connections take from here.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) config: RustlsConfig,
    pub(super) digests: Digests,
}

/// TLS as the settings say; nothing for plain HTTP.
pub(super) fn configured(settings: &ServerSettings) -> Result<Option<InForce>, ServerError> {
    let (certificate, key) = (&settings.tls_certificate, &settings.tls_key);
    match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, false) => {
            let loaded = load(certificate, key, None).map_err(ServerError::Certificate)?;
            Ok(loaded.map(|Loaded { config, digests }| InForce { config: RustlsConfig::from_config(config), digests }))
        }
        _ => {
            let reason = "goes together with server.tls_key: set both, or neither".to_owned();
            Err(InvalidSetting { key: "server.tls_certificate", reason }.into())
        }
    }
}

/// A certificate chain and its private key.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// By which it is known whether the files have changed.
    pub(super) digests: Digests,
}

/// What the files contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digests([[u8; 32]; 2]);

/// Reads a certificate chain and its private key; nothing if the files are those that were read before.
pub(super) fn load(certificate: &Path, key: &Path, before: Option<Digests>) -> Result<Option<Loaded>, UnusableFile> {
    let chain = files::read(certificate, Secrecy::Public)?;
    let private = files::read(key, Secrecy::Secret)?;
    let digests = Digests([Sha256::digest(&chain).into(), Sha256::digest(&private).into()]);
    if before == Some(digests) {
        return Ok(None);
    }
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| FileProblem::from(error).of(certificate))?;
    if chain.is_empty() {
        return Err(FileProblem::NoCertificate.of(certificate));
    }
    let private = PrivateKeyDer::from_pem_slice(&private).map_err(|error| FileProblem::from(error).of(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileProblem::from(error).of(certificate))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| FileProblem::from(error).of(key))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Loaded { config: Arc::new(config), digests }))
}
