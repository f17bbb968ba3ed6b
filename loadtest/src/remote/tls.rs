//! Mutual TLS 1.3 for the peers that are written in Rust, with the certificates of the stage:
//! the same authority, keys and ciphers as between our nodes.

use std::path::Path;
use std::sync::Arc;

use odeum_cluster::transport::pki;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certs;

/// The name in the certificate of every node.
pub(crate) const NAME: &str = "node.odeum";

/// The settings of process `name` as it accepts.
pub(crate) fn server(stage: &Path, name: &str, alpn: &[u8]) -> anyhow::Result<ServerConfig> {
    let Files { roots, cert, key } = read(stage, name)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert], key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// The settings of process `name` as it dials.
pub(crate) fn client(stage: &Path, name: &str, alpn: &[u8]) -> anyhow::Result<ClientConfig> {
    let Files { roots, cert, key } = read(stage, name)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![cert], key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

struct Files {
    roots: RootCertStore,
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn read(stage: &Path, name: &str) -> anyhow::Result<Files> {
    let dir = certs(stage, name);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join(pki::CA_CERT))?)?;
    Ok(Files {
        roots,
        cert: CertificateDer::from_pem_file(dir.join(pki::NODE_CERT))?,
        key: PrivateKeyDer::from_pem_file(dir.join(pki::NODE_KEY))?,
    })
}
