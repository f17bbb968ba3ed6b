//! The groups of the replicated store.

use odeum_proto::{GroupId, NodeId, Revision};
use serde::{Deserialize, Serialize};

use super::{displayed_as_in_json, text};

/// `GET /v1/store`: the groups of the store, as the asked node sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// The asked node.
    pub node: NodeId,
    /// Its groups: `control`, then those of sessions.
    pub groups: Vec<GroupReport>,
}

/// How a group of the store is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group.
    #[serde(with = "text")]
    pub group: GroupId,
    /// Whether it can write.
    pub health: GroupHealth,
    /// Who leads, as far as the asked node knows.
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// Its members, by name.
    pub members: Vec<MemberReport>,
    /// Index of the last entry in the asked node's log.
    pub last_log: Option<u64>,
    /// The last change that the asked node has applied, by its place in the log.
    pub applied: Option<Revision>,
    /// The last entry in the asked node's newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that was removed from the asked node's log.
    pub purged: Option<u64>,
    /// For how many milliseconds the asked node has heard nothing of a leader: what it reads
    /// locally may be behind by as much.
    pub leader_heard_ms: Option<u64>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// The node.
    pub node: NodeId,
    /// Whether it votes; else it only follows. While one set of voters takes the place of another,
    /// who is in both does.
    pub voter: bool,
    /// How far its log is known to match the leader's. Only the leader knows.
    pub matched: Option<u64>,
}

/// Whether a group can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupHealth {
    /// There is a leader with a majority.
    Good,
    /// A leader is being elected, or has just been lost.
    Electing,
    /// No majority is in sight: writes fail, local reads go on.
    NoQuorum,
    /// The asked node's disk is full.
    NoSpace,
    /// The asked node belongs to the group not yet, or no more.
    NotMember,
    /// The replica does not run on the asked node.
    Stopped,
}

displayed_as_in_json! {
    GroupHealth {
        Good => "good",
        Electing => "electing",
        NoQuorum => "no-quorum",
        NoSpace => "no-space",
        NotMember => "not-member",
        Stopped => "stopped",
    }
}
