//! The links of a node to its peers, in detail.

use std::{collections::BTreeMap, net::SocketAddr};

use odeum_proto::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

/// `GET /v1/links`: the links of the asked node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinksReport {
    /// The asked node.
    pub node: NodeId,
    /// Its certificate, as new connections use it.
    pub certificate: Option<CertificateSummary>,
    /// A link to each other node of the cluster and to whoever else is linked, by name.
    pub links: Vec<LinkReport>,
}

/// The link to one peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The peer.
    pub peer: NodeId,
    /// What is known of the link; `None` while it is down.
    pub state: Option<LinkState>,
}

/// A link that is up. Counters are of this connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// Where the peer's packets come from (UDP).
    pub addr: SocketAddr,
    /// The peer's start.
    pub incarnation: Incarnation,
    /// Whether the asked node dialled; else the peer did.
    pub dialled: bool,
    /// For how long it has been up, in milliseconds.
    pub since_ms: u64,
    /// Links to this peer that were lost before, since the asked node started.
    pub reconnects: u64,
    /// Its smoothed round-trip time in microseconds.
    pub rtt_us: u64,
    /// The share of the sent packets that was lost, from 0 to 1.
    pub loss: f64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that were declared lost.
    pub lost_packets: u64,
    /// Largest UDP payload that the path carries, as far as is known, in bytes.
    pub mtu: u16,
    /// What may be under way without an acknowledgement, in bytes.
    pub congestion_window: u64,
    /// The peer's certificate.
    pub certificate: Option<CertificateSummary>,
    /// What was carried and what waits, by class: `control`, `consensus`, `lane`, `bulk`,
    /// `datagram`.
    pub classes: BTreeMap<String, ClassTraffic>,
}

/// What a link carried of one class, and what waits before it on the side of the asked node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassTraffic {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames or transfers that wait.
    pub waiting_frames: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

/// Until when a certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    /// Its last moment, UTC.
    pub valid_until: String,
    /// Whole days until then; negative when it is over.
    pub days_left: i64,
}
