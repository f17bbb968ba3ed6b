//! The introduction at the start of a connection: each side says who it is, checks the other,
//! and says why not if not.

use std::net::SocketAddr;

use bytes::Bytes;
use odeum_proto::codec;
use odeum_proto::wire::{
    self, Hello, HelloRefusal, PREAMBLE_BYTES, PreambleError, Welcome, WireVersion,
};
use odeum_proto::{Incarnation, NodeId};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::pki::CertificateInfo;
use super::plan::Rank;
use super::{TransportError, pki, settings};

/// What this side says of itself.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) version: WireVersion,
    pub(super) hello: Hello,
}

/// A connection whose both ends know and accept each other.
#[derive(Debug)]
pub(super) struct Introduced {
    pub(super) quic: Connection,
    pub(super) peer: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) rank: Rank,
}

/// What dialling came to.
#[derive(Debug)]
pub(super) enum Met {
    /// There is a connection.
    New(Introduced),
    /// The peer keeps another connection between the two nodes, and said so before its welcome
    /// was read.
    Linked(NodeId),
}

/// Introduces the dialling side; `expected` is whom the address book promises there.
pub(super) async fn as_dialler(
    quic: Connection,
    ours: &Introduction,
    expected: Option<&NodeId>,
) -> Result<Met, TransportError> {
    let outcome = async {
        let (mut send, mut recv) =
            quic.open_bi().await.map_err(|error| lost(quic.remote_address(), error))?;
        write(&quic, &mut send, &wire::preamble(ours.version, &ours.hello)?).await?;
        let (theirs, body) = read(&quic, &mut recv).await?;
        let addr = quic.remote_address();
        check_version(ours.version, theirs, addr)?;
        let welcome: Welcome = decode(&body, addr)?;
        check(&ours.hello, &welcome.hello, &certified(&quic)?, addr)?;
        if let Some(expected) = expected
            && *expected != welcome.hello.node
        {
            let claimed = expected.clone();
            return Err(TransportError::Identity { addr, certified: welcome.hello.node, claimed });
        }
        if let Some(refusal) = welcome.refusal {
            return Err(refused(refusal, &ours.hello, addr));
        }
        Ok(welcome.hello)
    };
    let theirs = match outcome.await {
        Ok(theirs) => theirs,
        Err(_) if is_duplicate(&quic) => return certified(&quic).map(Met::Linked),
        Err(error) => {
            quic.close(settings::CLOSE_REFUSED, error.to_string().as_bytes());
            return Err(error);
        }
    };
    let rank = Rank::new(
        (&ours.hello.node, ours.hello.incarnation),
        (&theirs.node, theirs.incarnation),
        ours.hello.attempt,
    );
    let (peer, incarnation) = (theirs.node, theirs.incarnation);
    Ok(Met::New(Introduced { quic, peer, incarnation, rank }))
}

/// Introduces the accepting side.
pub(super) async fn as_acceptor(
    quic: Connection,
    ours: &Introduction,
) -> Result<Introduced, TransportError> {
    let outcome = async {
        let addr = quic.remote_address();
        let (mut send, mut recv) = quic.accept_bi().await.map_err(|error| lost(addr, error))?;
        let (version, body) = read(&quic, &mut recv).await?;
        let verdict = check_version(ours.version, version, addr)
            .and_then(|()| decode::<Hello>(&body, addr))
            .and_then(|theirs| {
                check(&ours.hello, &theirs, &certified(&quic)?, addr).map(|()| theirs)
            });
        let refusal = verdict.as_ref().err().and_then(refusal);
        let welcome = Welcome { hello: ours.hello.clone(), refusal };
        write(&quic, &mut send, &wire::preamble(ours.version, &welcome)?).await?;
        verdict
    };
    let theirs = match outcome.await {
        Ok(theirs) => theirs,
        Err(error) => {
            // Closing discards what is under way: the peer first reads why and closes itself.
            let _ = timeout(settings::FAREWELL, quic.closed()).await;
            quic.close(settings::CLOSE_REFUSED, error.to_string().as_bytes());
            return Err(error);
        }
    };
    let rank = Rank::new(
        (&theirs.node, theirs.incarnation),
        (&ours.hello.node, ours.hello.incarnation),
        theirs.attempt,
    );
    Ok(Introduced { quic, peer: theirs.node, incarnation: theirs.incarnation, rank })
}

/// Whether the peer has closed it because it keeps another.
pub(super) fn is_duplicate(quic: &Connection) -> bool {
    matches!(
        quic.close_reason(),
        Some(ConnectionError::ApplicationClosed(close))
            if close.error_code == settings::CLOSE_DUPLICATE
    )
}

fn check_version(
    ours: WireVersion,
    theirs: WireVersion,
    addr: SocketAddr,
) -> Result<(), TransportError> {
    if ours.major == theirs.major {
        return Ok(());
    }
    Err(TransportError::Version { addr, ours, theirs })
}

/// Whether a peer that says `theirs` and has a certificate for `certified` fits.
fn check(
    ours: &Hello,
    theirs: &Hello,
    certified: &NodeId,
    addr: SocketAddr,
) -> Result<(), TransportError> {
    if theirs.node != *certified {
        let (certified, claimed) = (certified.clone(), theirs.node.clone());
        return Err(TransportError::Identity { addr, certified, claimed });
    }
    if theirs.node == ours.node {
        return Err(TransportError::SameNode { addr, node: ours.node.clone() });
    }
    match (ours.cluster, theirs.cluster) {
        (Some(ours), Some(cluster)) if ours != cluster => {
            let peer = theirs.node.clone();
            Err(TransportError::OtherCluster { peer, addr, ours, theirs: cluster })
        }
        _ => Ok(()),
    }
}

/// What the other side is told of an error that it cannot see from our hello.
fn refusal(error: &TransportError) -> Option<HelloRefusal> {
    match error {
        TransportError::OtherCluster { .. } => Some(HelloRefusal::OtherCluster),
        TransportError::SameNode { .. } => Some(HelloRefusal::SameNode),
        TransportError::Identity { certified, .. } => {
            Some(HelloRefusal::Identity { certified: certified.clone() })
        }
        _ => None,
    }
}

/// The refusal of the other side, as an error here. Most were found by our own check before.
fn refused(refusal: HelloRefusal, ours: &Hello, addr: SocketAddr) -> TransportError {
    match refusal {
        HelloRefusal::Identity { certified } => {
            TransportError::Identity { addr, certified, claimed: ours.node.clone() }
        }
        HelloRefusal::SameNode => TransportError::SameNode { addr, node: ours.node.clone() },
        HelloRefusal::OtherCluster => {
            TransportError::Connect { addr, reason: "it belongs to another cluster".into() }
        }
    }
}

/// What the peer's certificate says.
pub(super) fn certificate(quic: &Connection) -> Option<CertificateInfo> {
    pki::describe(&presented(quic)?)
}

/// The certificate that the peer has shown.
fn presented(quic: &Connection) -> Option<CertificateDer<'static>> {
    let chain = quic.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.first().cloned()
}

fn certified(quic: &Connection) -> Result<NodeId, TransportError> {
    let addr = quic.remote_address();
    let unfit = |reason: Box<str>| TransportError::Certificate { addr, reason };
    let cert = presented(quic).ok_or_else(|| unfit("the peer showed no certificate".into()))?;
    pki::node_id(&cert).map_err(unfit)
}

async fn write(
    quic: &Connection,
    send: &mut SendStream,
    bytes: &[u8],
) -> Result<(), TransportError> {
    let addr = quic.remote_address();
    if send.write_all(bytes).await.is_err() || send.finish().is_err() {
        return Err(lost_now(quic));
    }
    tracing::trace!(%addr, "introduced");
    Ok(())
}

async fn read(
    quic: &Connection,
    recv: &mut RecvStream,
) -> Result<(WireVersion, Bytes), TransportError> {
    let addr = quic.remote_address();
    let mut head = [0; PREAMBLE_BYTES];
    recv.read_exact(&mut head).await.map_err(|_| lost_now(quic))?;
    let (version, length) = wire::parse_preamble(&head).map_err(|error| odd(addr, &error))?;
    let mut body = vec![0; length];
    recv.read_exact(&mut body).await.map_err(|_| lost_now(quic))?;
    Ok((version, body.into()))
}

fn decode<T: serde::de::DeserializeOwned>(
    body: &[u8],
    addr: SocketAddr,
) -> Result<T, TransportError> {
    codec::decode(body).map_err(|error| odd(addr, &PreambleError::from(error)))
}

fn odd(addr: SocketAddr, error: &PreambleError) -> TransportError {
    TransportError::Connect { addr, reason: error.to_string().into() }
}

/// The error of a connection on which a stream failed.
fn lost_now(quic: &Connection) -> TransportError {
    let addr = quic.remote_address();
    match quic.close_reason() {
        Some(error) => lost(addr, error),
        None => {
            TransportError::Connect { addr, reason: "the peer broke off the introduction".into() }
        }
    }
}

/// A connection's end as an error that says whose certificate was refused, if it was that.
pub(super) fn lost(addr: SocketAddr, error: ConnectionError) -> TransportError {
    let reason = match &error {
        ConnectionError::TransportError(ours) => tls_alert(ours.code.into())
            .map(|_| format!("this node refused the peer's ({})", ours.reason)),
        ConnectionError::ConnectionClosed(theirs) => tls_alert(theirs.error_code.into())
            .map(|alert| format!("the peer refused this node's ({})", alert_meaning(alert))),
        _ => None,
    };
    if let Some(reason) = reason {
        return TransportError::Certificate { addr, reason: reason.into() };
    }
    let reason = match error {
        ConnectionError::TimedOut => format!("nobody answers within {:?}", settings::IDLE),
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the peer: {}", String::from_utf8_lossy(&close.reason))
        }
        other => other.to_string(),
    };
    TransportError::Connect { addr, reason: reason.into() }
}

/// The TLS alert in a QUIC error code (RFC 9001 §4.8).
fn tls_alert(code: u64) -> Option<u8> {
    (code & !0xff == 0x100).then_some((code & 0xff) as u8)
}

/// TLS alerts (RFC 8446 §6.2) that certificates cause.
fn alert_meaning(alert: u8) -> &'static str {
    match alert {
        45 => "expired",
        48 => "signed by another authority",
        51 => "wrong signature",
        116 => "missing",
        120 => "another protocol",
        _ => "not valid for it",
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::ClusterId;

    use super::*;

    fn hello(node: &str, cluster: Option<ClusterId>) -> Hello {
        let node = node.parse().expect("valid");
        Hello { node, incarnation: Incarnation(1), cluster, attempt: 1 }
    }

    fn addr() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[test]
    fn a_node_without_a_cluster_is_accepted_by_any_and_accepts_any() {
        let (joined, new) = (hello("a", Some(ClusterId::random())), hello("b", None));
        assert!(check(&joined, &new, &new.node, addr()).is_ok());
        assert!(check(&new, &joined, &joined.node, addr()).is_ok());
    }

    #[test]
    fn another_cluster_is_refused_and_both_are_named() {
        let (one, other) = (ClusterId::random(), ClusterId::random());
        let (ours, theirs) = (hello("a", Some(one)), hello("b", Some(other)));
        let error = check(&ours, &theirs, &theirs.node, addr()).expect_err("refused").to_string();
        assert!(error.contains(&one.to_string()) && error.contains(&other.to_string()), "{error}");
    }

    #[test]
    fn a_claim_that_the_certificate_does_not_carry_is_refused() {
        let (ours, theirs) = (hello("a", None), hello("b", None));
        let certified = "mallory".parse().expect("valid");
        let error = check(&ours, &theirs, &certified, addr()).expect_err("refused");
        assert!(matches!(error, TransportError::Identity { .. }));
    }

    #[test]
    fn two_nodes_of_one_name_refuse_each_other() {
        let (ours, theirs) = (hello("a", None), hello("a", None));
        let error = check(&ours, &theirs, &theirs.node, addr()).expect_err("refused");
        assert!(matches!(error, TransportError::SameNode { .. }));
    }
}
