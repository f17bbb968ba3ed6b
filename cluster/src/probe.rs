//! Looks at a place from a node that does not run: who is there, would it take this node, and
//! what is the way like. What `odeum doctor` and `odeum join` ask before they say or do anything.
//!
//! The certificates are those of the node and the connection is a real one, so what stands in the
//! node's way stands in the probe's. The probe calls itself the node's start number 0, which is
//! before every real one: where the node itself is linked, its link stays.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use odeum_proto::join::{JoinReply, JoinRequest};
use odeum_proto::store::NodeRecord;
use odeum_proto::{ClusterId, Incarnation, NodeId};

use crate::clock::{self, ClockOffset};
use crate::transport::{
    self, Class, ClusterCell, LinkStats, Service, Services, TransportConfig, TransportError,
    TransportHandle,
};

/// How long one question to a peer may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// A peer keeps the link to the node itself, and lets go of the probe's. Of a node that was killed
/// it notices after two seconds that it is gone, and later when its machine is busy.
const LINGER: Duration = Duration::from_secs(6);

/// Pause before a place is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// How often, and how many times, it is looked whether QUIC has found out how large packets may be.
const MTU_LOOK: Duration = Duration::from_millis(20);
/// See [`MTU_LOOK`].
const MTU_LOOKS: usize = 25;

/// For whom to look.
#[derive(Debug, Clone)]
pub struct ProbeConfig<'a> {
    /// The node.
    pub node: &'a NodeId,
    /// Its cluster, if its folder says one.
    pub cluster: Option<ClusterId>,
    /// The folder with its certificate.
    pub certs: &'a Path,
}

/// Who is at a place, and what the way is like.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The node that answered.
    pub peer: NodeId,
    /// Where.
    pub addr: SocketAddr,
    /// The link to it.
    pub link: LinkStats,
    /// How far its clock is ahead; `None` when it does not tell.
    pub clock: Option<ClockOffset>,
    /// Its cluster with the nodes in it; `None` while it has none or cannot say.
    pub cluster: Option<(ClusterId, Vec<NodeRecord>)>,
}

/// Looks at each of `places` (each an address), one after the other.
///
/// # Errors
/// [`TransportError::Pki`] when the certificates cannot be used, [`TransportError::Stopped`] when
/// the probe itself does not run; what stands in the way to a place is in the result of that place.
pub async fn look(
    config: &ProbeConfig<'_>,
    places: &[SocketAddr],
) -> Result<Vec<Result<Sight, TransportError>>, TransportError> {
    let any = SocketAddr::from(match places.iter().any(SocketAddr::is_ipv6) {
        true => (std::net::Ipv6Addr::UNSPECIFIED.into(), 0),
        false => (std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED), 0),
    });
    let cluster = config.cluster.map_or_else(ClusterCell::default, ClusterCell::known);
    let transport = TransportConfig {
        cluster,
        ..TransportConfig::new(config.node.clone(), Incarnation(0), any, config.certs)
    };
    let (transport, spec) = transport::start(transport, Services::default())?;
    let root = spec.start().await.map_err(|_| TransportError::Stopped)?;
    let mut seen = Vec::with_capacity(places.len());
    for place in places {
        seen.push(look_again(&transport, *place).await);
    }
    root.shutdown().await;
    Ok(seen)
}

/// Looks at a place until it does not let go of the link at once.
async fn look_again(
    transport: &TransportHandle,
    addr: SocketAddr,
) -> Result<Sight, TransportError> {
    let start = Instant::now();
    loop {
        // A look may itself take longer than that: what counts is when it began.
        let is_last = start.elapsed() > LINGER;
        match look_at(transport, addr).await {
            Err(TransportError::Unreachable { peer, .. }) if is_last => {
                let node = transport.local();
                let reason = format!("it has a link to a node {node}, which runs").into();
                return Err(TransportError::Unreachable { peer, reason });
            }
            Err(TransportError::Unreachable { .. }) => tokio::time::sleep(LOOK_AGAIN).await,
            other => return other,
        }
    }
}

async fn look_at(transport: &TransportHandle, addr: SocketAddr) -> Result<Sight, TransportError> {
    let peer = transport.dial(addr, DEADLINE).await?;
    let gone =
        || TransportError::Unreachable { peer: peer.clone(), reason: "the link was lost".into() };
    let roster =
        transport.call(&peer, Service::Join, Class::Lane, &JoinRequest::Roster, DEADLINE).await;
    let cluster = match roster {
        Ok(JoinReply::Roster { cluster, nodes, .. }) => Some((cluster, nodes)),
        Err(TransportError::Unreachable { .. } | TransportError::Unknown { .. }) => {
            return Err(gone());
        }
        Ok(_) | Err(_) => None,
    };
    let clock = clock::compare(transport, &peer, DEADLINE).await.ok();
    let mut link = transport.stats(&peer).ok_or_else(gone)?;
    for _ in 0..MTU_LOOKS {
        tokio::time::sleep(MTU_LOOK).await;
        let mtu = link.mtu;
        link = transport.stats(&peer).ok_or_else(gone)?;
        // It grows by steps, the first of which comes after a round trip.
        if link.mtu > GUARANTEED_MTU && link.mtu == mtu {
            break;
        }
    }
    Ok(Sight { peer, addr, link, clock, cluster })
}

/// The UDP payload that every path of QUIC carries, in bytes (RFC 9000 §14).
pub const GUARANTEED_MTU: u16 = 1_200;
