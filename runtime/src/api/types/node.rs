//! A node, its neighbours, its actors.

use std::{collections::BTreeMap, net::SocketAddr};

use odeum_proto::{ClusterId, Epoch, Incarnation, Label, NodeId, Revision};
use serde::{Deserialize, Serialize};

use super::displayed_as_in_json;

/// `GET /v1/status`: one node, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeId,
    /// Its cluster; `None` until it has founded or joined one.
    pub cluster: Option<ClusterId>,
    /// How often it has started on its data folder.
    pub incarnation: Incarnation,
    /// The version of its binary.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Time since its start, in milliseconds.
    pub uptime_ms: u64,
    /// Where its HTTP API listens (TCP).
    pub api_addr: SocketAddr,
    /// Where its cluster endpoint listens (UDP).
    pub cluster_addr: SocketAddr,
    /// Its replica of the store.
    pub store: StoreSummary,
}

/// A node's replica of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSummary {
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// Index of the last entry in its log; 0 when it is empty.
    pub last_log: u64,
    /// The last change its state contains; 0 when it is empty.
    pub applied: Revision,
    /// The last change in its latest snapshot.
    pub snapshot: Option<u64>,
    /// Nodes with a vote.
    pub voters: Vec<NodeId>,
    /// Nodes that copy the log without a vote.
    pub learners: Vec<NodeId>,
    /// Whether a majority answers, so that writes go through.
    pub quorum: bool,
}

/// `GET /v1/nodes`: one node, as the asked node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// Its name.
    pub id: NodeId,
    /// Whether it is there.
    pub state: NodeState,
    /// For how long it has been in this state, in milliseconds; `None` when the asked node has
    /// not seen a change.
    pub since_ms: Option<u64>,
    /// How often it has started on its data folder.
    pub incarnation: Incarnation,
    /// Its lease; `None` when it has none, so that nothing may be active on it.
    #[serde(default)]
    pub lease: Option<LeaseSummary>,
    /// Where its cluster endpoint listens (UDP).
    pub cluster_addr: SocketAddr,
    /// Where its HTTP API listens (TCP).
    pub api_addr: SocketAddr,
    /// Its part in the store; `None` when it has none yet.
    pub role: Option<StoreRole>,
    /// The link from the asked node to it; `None` for the asked node itself.
    pub link: Option<LinkSummary>,
    /// The version of its binary.
    pub version: String,
    /// Whether it is about to leave for good.
    #[serde(default)]
    pub leaving: bool,
    /// Whether it is to be empty, and stays a member.
    #[serde(default)]
    pub draining: bool,
    /// What it shares its fate with, such as its rack.
    #[serde(default)]
    pub zone: Option<Label>,
    /// What its operator says of it.
    #[serde(default)]
    pub labels: BTreeMap<Label, Label>,
    /// How much it takes on in proportion to others.
    #[serde(default)]
    pub capacity: u32,
    /// How busy it is; `None` when it has not told within the last seconds.
    #[serde(default)]
    pub load: Option<LoadSummary>,
}

/// A node that was told to begin anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRestart {
    /// It.
    pub node: NodeId,
    /// The life that ended.
    pub former: Incarnation,
    /// The life that has begun; `None` when it was not waited for, because the asked node is it.
    pub incarnation: Option<Incarnation>,
}

/// The lease of a node, as the asked node has seen it granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSummary {
    /// Which one: another number than before means that it was over in between.
    pub epoch: Epoch,
    /// What is left of it unless it is renewed, in milliseconds.
    pub remaining_ms: u64,
}

/// How busy a node is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadSummary {
    /// Entities that are active on it.
    pub entities: u64,
    /// Processor time of its process, in cores.
    pub process_cpu: f64,
    /// The share of its machine's processor time that is in use, from 0 to 1.
    pub machine_cpu: f64,
    /// Memory of its process that is resident, in bytes.
    pub memory_bytes: u64,
    /// Memory of its machine, in bytes.
    pub machine_memory_bytes: u64,
}

/// Whether a node is there, by the failure detector of the asked node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It answers probes.
    Alive,
    /// It missed probes and may still defend itself.
    Suspect,
    /// It is gone.
    Down,
    /// It is known to the cluster and was not heard of yet.
    Joining,
}

/// A node's part in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreRole {
    /// Orders the writes.
    Leader,
    /// Votes and copies the log.
    Voter,
    /// Copies the log.
    Learner,
}

/// The QUIC connection between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSummary {
    /// Whether it stands.
    pub up: bool,
    /// Its smoothed round-trip time in microseconds, when it stands.
    pub rtt_us: Option<u64>,
    /// Whether the control plane's session runs over it: remote calls between the cluster-level
    /// actors of the two nodes work.
    pub control: bool,
}

displayed_as_in_json! {
    NodeState { Alive => "alive", Suspect => "suspect", Down => "down", Joining => "joining" }
}

displayed_as_in_json! {
    StoreRole { Leader => "leader", Voter => "voter", Learner => "learner" }
}

/// `GET /v1/actors`: an actor or supervisor with what is beneath it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorNode {
    /// Its name among its siblings.
    pub name: String,
    /// `supervisor` or `actor`.
    pub kind: String,
    /// How it fares, such as `running`.
    pub state: String,
    /// How often it was restarted.
    pub restarts: u64,
    /// Messages that wait in its mailbox.
    pub mailbox: usize,
    /// Messages it has handled, over all its restarts.
    pub handled: u64,
    /// Time it was at work, over all its restarts, in microseconds.
    pub busy_us: u64,
    /// What it supervises, in start order.
    pub children: Vec<ActorNode>,
}
