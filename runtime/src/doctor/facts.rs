//! What there is to know before something can be said.

use std::{net::SocketAddr, path::PathBuf};

use odeum_cluster::{clock::ClockOffset, transport::LinkStats};
use odeum_proto::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

/// `GET /v1/doctor`: what was found on the machine of a node. `None` stands for what could not be
/// found out, such as a setting that the kernel does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The node, while it runs.
    pub node: Option<NodeFacts>,
    /// Its certificates.
    pub certificates: CertificateFacts,
    /// The ports it listens on, or would.
    pub ports: Vec<PortFacts>,
    /// The other nodes, or the places it is to join by.
    pub peers: Vec<PeerFacts>,
    /// Its data folder.
    pub folder: FolderFacts,
    /// The machine, as far as its process may use it.
    pub machine: MachineFacts,
    /// What the kernel gives to keep firmware in processes of its own.
    pub isolation: IsolationFacts,
}

/// How a process is shut in that hosts a firmware, tried out: what `odeum host --check` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationFacts {
    /// Why it was not tried.
    pub problem: Option<String>,
    /// What was tried and was denied, as it should be.
    pub denied: Vec<String>,
    /// What was tried and went well, as it should not.
    pub allowed: Vec<String>,
}

/// A node that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its name.
    pub node: NodeId,
    /// Its process.
    pub pid: u32,
    /// The version of its binary.
    pub version: String,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// Why it takes no requests; `None` when it does.
    pub not_ready: Option<String>,
}

/// The files by which a node is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// Their folder.
    pub folder: PathBuf,
    /// Whether the node makes them at its next start, for development.
    pub made_at_start: bool,
    /// Why the node cannot use them.
    pub problem: Option<String>,
    /// Whole days until the node's is over.
    pub days_left: Option<i64>,
    /// Whole days until the last of the authorities is over.
    pub authority_days_left: Option<i64>,
    /// The permissions of the key's file, as in `chmod`.
    pub key_mode: Option<u32>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFacts {
    /// What it is for, such as `API (TCP)`.
    pub what: String,
    /// The flag that sets it.
    pub flag: String,
    /// The address.
    pub addr: SocketAddr,
    /// How it was found.
    pub state: PortState,
}

/// How a port was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortState {
    /// The node listens there.
    Held,
    /// It can be listened on.
    Free,
    /// It cannot.
    Taken {
        /// What the system said.
        reason: String,
        /// The node that listens there, if one does.
        by: Option<NodeId>,
    },
}

/// Another node, or a place where one should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerFacts {
    /// The node's name, or the place as it was given.
    pub place: String,
    /// Why it is not reached.
    pub problem: Option<String>,
    /// The path to it.
    pub path: Option<PathFacts>,
    /// How its clock differs.
    pub clock: Option<ClockFacts>,
}

/// The path to a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathFacts {
    /// Where it leads (UDP).
    pub addr: SocketAddr,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets lost.
    pub lost_packets: u64,
    /// Largest UDP payload that it carries, as far as is known, in bytes.
    pub mtu: u16,
    /// Links that were lost since the node started.
    pub reconnects: u64,
    /// For how long the link has been up, in milliseconds.
    pub since_ms: u64,
    /// Whole days until the peer's certificate is over.
    pub days_left: Option<i64>,
}

/// How a peer's clock differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFacts {
    /// It is ahead by so many microseconds; negative when it is behind.
    pub ahead_us: i64,
    /// The comparison is exact to so many microseconds.
    pub within_us: u64,
}

/// The data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderFacts {
    /// Where it is, or will be.
    pub folder: PathBuf,
    /// Why nothing can be written there.
    pub problem: Option<String>,
    /// Free bytes on its disk.
    pub free_bytes: Option<u64>,
    /// Microseconds until a small write is on the disk, the median of several.
    pub sync_us: Option<u64>,
}

/// What a process may use of its machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Files and sockets it may have open (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Memory mappings it may have (`vm.max_map_count`).
    pub mappings: Option<u64>,
    /// Largest receive buffer of a socket, in bytes (`net.core.rmem_max`).
    pub receive_buffer: Option<u64>,
    /// Largest send buffer of a socket, in bytes (`net.core.wmem_max`).
    pub send_buffer: Option<u64>,
    /// What a node asks of both, in bytes.
    pub wanted_buffer: u64,
    /// Bytes of memory that are free or can be freed.
    pub memory_available: Option<u64>,
    /// Bytes that the control group of the process may use, if it is bounded.
    pub memory_limit: Option<u64>,
    /// Bytes that it uses.
    pub memory_used: Option<u64>,
}

impl PathFacts {
    /// What a link tells of its path.
    pub(crate) fn of(link: &LinkStats) -> Self {
        let number = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        Self {
            addr: link.link.addr,
            rtt_us: number(link.link.rtt.as_micros()),
            sent_packets: link.sent_packets,
            lost_packets: link.lost_packets,
            mtu: link.mtu,
            reconnects: link.reconnects,
            since_ms: number(link.link.since.elapsed().as_millis()),
            days_left: link.certificate.as_ref().map(|certificate| certificate.days_left),
        }
    }
}

impl From<ClockOffset> for ClockFacts {
    fn from(offset: ClockOffset) -> Self {
        Self {
            ahead_us: offset.ahead_us,
            within_us: u64::try_from(offset.within.as_micros()).unwrap_or(u64::MAX),
        }
    }
}
