//! TLS 1.3 for QUIC, mutual: both sides show a certificate of the cluster's authority.

use std::path::Path;
use std::sync::Arc;

use odeum_proto::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use super::pki::{self, CertificateInfo, Credentials, PkiError};

/// Told apart from every other protocol in the handshake. The wire version is not in it: a
/// mismatch here gives an alert without words, and both versions are to be named.
const ALPN: &[u8] = b"odeum";

/// Both roles of a node in the TLS handshake.
pub(super) struct Tls {
    pub(super) server: Arc<QuicServerConfig>,
    pub(super) client: Arc<QuicClientConfig>,
    /// Authorities whose certificates are accepted.
    pub(super) authorities: usize,
    /// What this node's own certificate says.
    pub(super) own: Option<CertificateInfo>,
}

/// Reads the certificates in `dir` and checks that a peer would accept them.
pub(super) fn load(dir: &Path, node: &NodeId) -> Result<Tls, PkiError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let credentials = Credentials::read(dir, node)?;
    let roots = Arc::new(roots(dir, &credentials)?);
    check_own(dir, &credentials, &roots, &provider)?;

    let authorities = credentials.authorities.len();
    let Credentials { cert, key, .. } = credentials;
    let own = pki::describe(&cert);
    let unfit = |error: &dyn std::error::Error| unfit(dir, error);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unfit(&error))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unfit(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert.clone()], key.clone_key())
        .map_err(|error| unfit(&error))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    // Without tickets every connection is a full handshake with both certificates checked.
    server.send_tls13_tickets = 0;

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unfit(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![cert], key)
        .map_err(|error| unfit(&error))?;
    client.alpn_protocols = vec![ALPN.to_vec()];

    Ok(Tls {
        authorities,
        own,
        server: Arc::new(QuicServerConfig::try_from(server).map_err(|error| unfit(&error))?),
        client: Arc::new(QuicClientConfig::try_from(client).map_err(|error| unfit(&error))?),
    })
}

fn roots(dir: &Path, credentials: &Credentials) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for authority in &credentials.authorities {
        roots.add(authority.clone()).map_err(|error| PkiError::Unfit {
            path: dir.join(pki::CA_CERT),
            reason: error.to_string().into(),
        })?;
    }
    Ok(roots)
}

/// What a peer will check, checked here, where the error can name the file.
fn check_own(
    dir: &Path,
    credentials: &Credentials,
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<(), PkiError> {
    let (cert_path, key_path) = (dir.join(pki::NODE_CERT), dir.join(pki::NODE_KEY));
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| unfit(dir, &error))?;
    let name = ServerName::try_from(pki::COMMON_NAME).map_err(|error| unfit(dir, &error))?;
    verifier.verify_server_cert(&credentials.cert, &[], &name, &[], UnixTime::now()).map_err(
        |error| match error {
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => PkiError::OtherAuthority { path: cert_path.clone(), ca: dir.join(pki::CA_CERT) },
            other => unfit(dir, &other),
        },
    )?;
    let key =
        provider.key_provider.load_private_key(credentials.key.clone_key()).map_err(|error| {
            PkiError::Malformed {
                path: key_path.clone(),
                expected: "private key",
                reason: error.to_string().into(),
            }
        })?;
    match CertifiedKey::new(vec![credentials.cert.clone()], key).keys_match() {
        Ok(()) => Ok(()),
        Err(_) => Err(PkiError::KeyMismatch { path: key_path, cert: cert_path }),
    }
}

/// Whether a node would accept this certificate, by this authority, now.
pub(super) fn is_signed_by(cert: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> bool {
    let mut roots = RootCertStore::empty();
    if roots.add(authority.clone().into_owned()).is_err() {
        return false;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let (Ok(verifier), Ok(name)) = (verifier, ServerName::try_from(pki::COMMON_NAME)) else {
        return false;
    };
    verifier.verify_server_cert(cert, &[], &name, &[], UnixTime::now()).is_ok()
}

fn unfit(dir: &Path, error: &dyn std::error::Error) -> PkiError {
    PkiError::Unfit { path: dir.join(pki::NODE_CERT), reason: error.to_string().into() }
}
