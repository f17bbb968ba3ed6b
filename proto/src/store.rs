//! What the replicated log says: commands, their outcomes, and the records they keep.
//!
//! These bytes are on disk and in snapshots. Every command is safe to apply twice: it names the
//! state it expects (an epoch, a request id, a disk), so a retry after an unknown outcome either
//! finds its own effect or is refused.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{
    ClusterId, Digest, DiskId, EntityId, Epoch, Incarnation, Name, NodeId, RequestId, Revision,
    SessionId,
};

/// A node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub id: NodeId,
    /// The data folder it runs on.
    pub disk: DiskId,
    /// Its latest start.
    pub incarnation: Incarnation,
    /// Where its cluster endpoint listens (UDP).
    pub cluster_addr: SocketAddr,
    /// Where its HTTP API listens (TCP).
    pub api_addr: SocketAddr,
    /// The version of its binary.
    pub version: String,
}

/// Bounds on one firmware, from its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareLimits {
    /// Linear memory of an instance, in bytes.
    pub memory_bytes: u64,
    /// Time for one message.
    pub message_time: Duration,
}

/// A deployed firmware: which package, under which bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareSpec {
    /// Its name; the entity is `firmware/<name>`.
    pub name: Name,
    /// The package's content.
    pub digest: Digest,
    /// The package's length in bytes.
    pub size: u64,
    /// Its bounds.
    pub limits: FirmwareLimits,
}

/// Where an entity is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The node that owns it.
    pub node: NodeId,
    /// The fencing token of this activation.
    pub epoch: Epoch,
}

/// One variable of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its value.
    #[serde(with = "crate::codec::bytes")]
    pub value: Vec<u8>,
    /// How often it was written, from 1.
    pub version: u64,
    /// The change that wrote it last.
    pub revision: Revision,
}

/// One change to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Sets a variable.
    Set {
        /// Its name.
        key: String,
        /// Its new value.
        #[serde(with = "crate::codec::bytes")]
        value: Vec<u8>,
    },
    /// Removes a variable; removing what is not there is no error.
    Delete {
        /// Its name.
        key: String,
    },
}

/// Everything one message to an entity changed, applied whole or not at all, once per request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Whose activation this is.
    pub entity: EntityId,
    /// Its fencing token: refused unless it is the current one.
    pub epoch: Epoch,
    /// The request this is the effect of.
    pub request: RequestId,
    /// The session that is changed.
    pub session: SessionId,
    /// The changes, in order.
    pub writes: Vec<Write>,
    /// The reply, remembered for retries of the request.
    #[serde(with = "crate::codec::bytes")]
    pub reply: Vec<u8>,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a cluster: gives it its identity.
    Found {
        /// The new cluster.
        cluster: ClusterId,
    },
    /// Adds a node or records its new start. Refused when the id belongs to another disk.
    PutNode(NodeRecord),
    /// Forgets a node. Its placements stay until the planner moves them.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// Deploys or updates a firmware.
    PutFirmware(FirmwareSpec),
    /// Removes a firmware, its placement and its deduplication window; its sessions stay.
    DeleteFirmware {
        /// Its name.
        name: Name,
    },
    /// Places an entity on a node under a new epoch, if its epoch is still the expected one.
    Place {
        /// The entity.
        entity: EntityId,
        /// Its new owner.
        node: NodeId,
        /// The epoch the planner saw; `None` when it was not placed.
        expected: Option<Epoch>,
    },
    /// The effect of one message.
    Commit(Commit),
    /// Deletes a session with its variables; deleting what is not there is no error.
    DeleteSession {
        /// The session.
        session: SessionId,
    },
}

impl std::fmt::Display for Command {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found { cluster } => write!(f, "found {cluster}"),
            Self::PutNode(record) => {
                write!(f, "put node {} incarnation {}", record.id, record.incarnation)
            }
            Self::RemoveNode { node } => write!(f, "remove node {node}"),
            Self::PutFirmware(spec) => write!(f, "put firmware {} {}", spec.name, spec.digest),
            Self::DeleteFirmware { name } => write!(f, "delete firmware {name}"),
            Self::Place { entity, node, .. } => write!(f, "place {entity} on {node}"),
            Self::Commit(commit) => {
                write!(f, "commit {} of {} epoch {}", commit.request, commit.entity, commit.epoch)
            }
            Self::DeleteSession { session } => write!(f, "delete session {session}"),
        }
    }
}

impl Command {
    /// Roughly how many bytes it has on disk and on the wire; only commits can be large.
    #[must_use]
    pub fn weight(&self) -> usize {
        // Ids and lengths, generously.
        const SMALL: usize = 512;
        let of_write = |write: &Write| match write {
            Write::Set { key, value } => key.len() + value.len() + 16,
            Write::Delete { key } => key.len() + 16,
        };
        match self {
            Self::Commit(commit) => {
                SMALL + commit.reply.len() + commit.writes.iter().map(of_write).sum::<usize>()
            }
            _ => SMALL,
        }
    }
}

/// What applying a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The command changed the state, or found it as wished.
    Applied {
        /// Its place in history.
        revision: Revision,
    },
    /// An entity was placed.
    Placed {
        /// Its place in history.
        revision: Revision,
        /// The new epoch.
        epoch: Epoch,
    },
    /// The request was carried out before.
    Replayed {
        /// Its reply; `None` when it was too large to be remembered.
        reply: Option<Vec<u8>>,
    },
    /// Nothing was changed, for a reason that every replica agrees on.
    Refused(Refusal),
}

/// Why the state machine refused a command. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The cluster has an identity already.
    #[error("this is cluster {is}, not {claimed}")]
    OtherCluster {
        /// The cluster this log belongs to.
        is: ClusterId,
        /// The one that was claimed.
        claimed: ClusterId,
    },
    /// The node id belongs to another data folder. Choose another id: Raft counts votes by it, so
    /// it stays with its first disk even after the node was removed.
    #[error("node {node} runs on disk {is}; disk {claimed} cannot take its name")]
    OtherDisk {
        /// The node.
        node: NodeId,
        /// The disk on record.
        is: DiskId,
        /// The disk that came.
        claimed: DiskId,
    },
    /// An older start of a node spoke after a newer one.
    #[error("node {node} is at incarnation {is}; {claimed} is over")]
    OldIncarnation {
        /// The node.
        node: NodeId,
        /// The latest start on record.
        is: Incarnation,
        /// The start that spoke.
        claimed: Incarnation,
    },
    /// The entity was placed anew in the meantime; the activation that spoke is over.
    #[error("epoch {claimed:?} is over, {entity} is at {is:?}")]
    StaleEpoch {
        /// The entity.
        entity: EntityId,
        /// Its current epoch, if it is placed.
        is: Option<Epoch>,
        /// The epoch that was claimed.
        claimed: Option<Epoch>,
    },
    /// No such firmware is deployed.
    #[error("no firmware is called {name}")]
    UnknownFirmware {
        /// The name.
        name: Name,
    },
    /// No such node is known.
    #[error("no node is called {node}")]
    UnknownNode {
        /// The name.
        node: NodeId,
    },
    /// A bound would be exceeded.
    #[error("{what}: {got} where at most {limit} are allowed")]
    TooMuch {
        /// What is bounded, with its unit and its name.
        what: Box<str>,
        /// What it would be.
        got: u64,
        /// The bound.
        limit: u64,
    },
}
