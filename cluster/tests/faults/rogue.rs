//! Peers with a certificate and bad manners, written against QUIC itself.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use odeum_proto::wire::{self, Hello, WireVersion};
use odeum_proto::{Incarnation, NodeId};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, SendStream};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::PATIENCE;

/// The name in every node's certificate.
const COMMON_NAME: &str = "node.odeum";

/// First byte of a stream of the control plane.
pub(crate) const CONTROL: u8 = 1;
/// First byte of a stream of requests of consensus.
pub(crate) const CONSENSUS: u8 = 2;
/// First byte of a stream of other requests.
pub(crate) const REQUESTS: u8 = 3;
/// First byte of a transfer.
pub(crate) const BULK: u8 = 4;
/// First byte of a lane, which goes one way.
pub(crate) const LANE: u8 = 5;

/// Why a node closes a connection: the peer broke the protocol.
const BROKE_PROTOCOL: u32 = 1;

/// Introductions so far: of two connections a node keeps the later attempt, should it not have
/// seen yet that the earlier one is over.
static ATTEMPTS: AtomicU64 = AtomicU64::new(1);

/// Where rogues come from, as whom.
pub(crate) struct Rogue {
    endpoint: Endpoint,
    name: NodeId,
}

impl Rogue {
    /// A peer that trusts the authority in the folder `authority` and shows the certificate in
    /// `certs`. Must be made within a runtime.
    pub(crate) fn new(name: &str, authority: &Path, certs: &Path) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(cert(&authority.join("ca.pem"))).expect("an authority");
        let key = fs::read(certs.join("node.key")).expect("a key");
        let key = PrivateKeyDer::from_pem_slice(&key).expect("a key");
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![cert(&certs.join("node.pem"))], key)
            .expect("a certificate with its key");
        tls.alpn_protocols = vec![b"odeum".to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("fit for QUIC");
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
        Self { endpoint, name: name.parse().expect("a name") }
    }

    /// A connection to a node that does not know yet who comes.
    pub(crate) async fn connect(&self, to: SocketAddr) -> Result<Connection, ConnectionError> {
        self.endpoint.connect(to, COMMON_NAME).expect("a good configuration").await
    }

    /// A connection to a node that takes this for a peer.
    pub(crate) async fn introduced(&self, to: SocketAddr) -> Connection {
        let quic = self.connect(to).await.expect("let in");
        let hello = Hello {
            node: self.name.clone(),
            incarnation: Incarnation(1),
            cluster: None,
            attempt: ATTEMPTS.fetch_add(1, Ordering::Relaxed),
        };
        let (mut send, mut recv) = quic.open_bi().await.expect("a stream");
        let hello = wire::preamble(WireVersion::CURRENT, &hello).expect("encodes");
        send.write_all(&hello).await.expect("sent");
        send.finish().expect("sent");
        let welcome = recv.read_to_end(wire::HELLO_BYTES * 2).await.expect("a welcome");
        assert!(welcome.starts_with(&wire::MAGIC), "{welcome:?}");
        quic
    }
}

fn cert(path: &Path) -> CertificateDer<'static> {
    let pem = fs::read(path).expect("a certificate");
    CertificateDer::from_pem_slice(&pem).expect("a certificate")
}

/// Writes a certificate for `name` into `certs` that the authority in the folder `authority` has
/// signed, and that was over yesterday.
pub(crate) fn issue_expired(name: &str, authority: &Path, certs: &Path) {
    let read = |file| fs::read_to_string(authority.join(file)).expect("an authority");
    let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), key).expect("an authority");
    let names = vec![COMMON_NAME.to_owned(), format!("{name}.{COMMON_NAME}")];
    let mut params = CertificateParams::new(names).expect("names");
    let now = OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(9);
    params.not_after = now - time::Duration::days(1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer).expect("signed");
    fs::create_dir_all(certs).expect("a folder");
    fs::write(certs.join("node.pem"), cert.pem()).expect("written");
    fs::write(certs.join("node.key"), key.serialize_pem()).expect("written");
}

/// Waits for the end of a connection; `None` when it stands for as long as `within`.
pub(crate) async fn end(quic: &Connection, within: Duration) -> Option<ConnectionError> {
    timeout(within, quic.closed()).await.ok()
}

/// Waits until the peer has closed the connection for a breach of the protocol.
pub(crate) async fn is_expelled(quic: &Connection, what: &str) {
    match end(quic, PATIENCE).await {
        Some(ConnectionError::ApplicationClosed(close)) => {
            assert_eq!(close.error_code, BROKE_PROTOCOL.into(), "{what}: {close}");
        }
        other => panic!("{what}: not expelled: {other:?}"),
    }
}

/// The TLS alert with which the peer ends a connection.
pub(crate) async fn alert(quic: &Connection) -> u64 {
    match end(quic, PATIENCE).await {
        Some(ConnectionError::ConnectionClosed(close)) => u64::from(close.error_code) & 0xff,
        other => panic!("not refused for its certificate: {other:?}"),
    }
}

/// Opens a stream that begins with `tag`; what is answered is never read. A lane goes one way.
pub(crate) async fn open(quic: &Connection, tag: u8) -> Result<SendStream, ConnectionError> {
    let mut send = match tag {
        LANE => quic.open_uni().await?,
        _ => {
            let (send, recv) = quic.open_bi().await?;
            // Dropped, it would tell the peer not to send: that would be reading, in a way.
            std::mem::forget(recv);
            send
        }
    };
    let tag: &[u8] = if tag == LANE { &[LANE, 0] } else { &[tag] };
    // One that is closed in mid-write has its reason in the connection.
    let _ = send.write_all(tag).await;
    Ok(send)
}
