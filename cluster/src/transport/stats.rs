//! What is known of a link beyond that it is up: what it carried, how its path fares, and until
//! when the peer's certificate is valid.

use super::LinkInfo;
use super::pki::CertificateInfo;

/// What a link has carried of one class since it came up, and what waits for it on this side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Bytes handed to QUIC.
    pub sent_bytes: u64,
    /// Bytes taken from QUIC.
    pub received_bytes: u64,
    /// Frames (bulk: transfers) that wait for room, are queued or being written. Those of the
    /// control class are in ractor's queues and not counted, datagrams and messages to entities
    /// only by their bytes.
    pub waiting_frames: u64,
    /// The bytes of their bodies.
    pub waiting_bytes: u64,
}

/// A link with its counters, as of when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStats {
    /// Its ends and its round trip.
    pub link: LinkInfo,
    /// Links to this peer that were lost before this one, since this node started.
    pub reconnects: u64,
    /// Packets sent, those lost among them.
    pub sent_packets: u64,
    /// Packets that QUIC declared lost. Late ones count too.
    pub lost_packets: u64,
    /// Largest UDP payload that the path carries, as far as QUIC has found out, in bytes.
    pub mtu: u16,
    /// What may be under way without an acknowledgement, in bytes.
    pub congestion_window: u64,
    /// The peer's certificate.
    pub certificate: Option<CertificateInfo>,
    /// The control plane's session.
    pub control: ClassStats,
    /// Consensus.
    pub consensus: ClassStats,
    /// Entity messages and other small things.
    pub lane: ClassStats,
    /// Transfers.
    pub bulk: ClassStats,
    /// Probes of the failure detector.
    pub datagram: ClassStats,
}

impl LinkStats {
    /// The share of the sent packets that was lost, from 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        match self.sent_packets {
            0 => 0.0,
            sent => self.lost_packets as f64 / sent as f64,
        }
    }
}
