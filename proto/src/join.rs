//! How a node becomes a member: the messages between it and the member it was pointed at.
//!
//! It asks for the roster first and lets its transport know everybody, because the leader must be
//! able to reach it while it is admitted, and of two nodes only one dials the other.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ClusterId, Revision},
    store::{NodeRecord, Refusal},
};

/// What a joining node asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRequest {
    /// Which cluster is this, and who is in it?
    Roster,
    /// Take this node in.
    Admit(NodeRecord),
}

/// What the member answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// The cluster and its nodes.
    Roster {
        /// Its identity.
        cluster: ClusterId,
        /// The point in the history of the cluster that this is of.
        at: Revision,
        /// Everybody in it.
        nodes: Vec<NodeRecord>,
    },
    /// The node is a voter of every group it should be in.
    Admitted,
    /// The cluster will not have this node; asking again cannot help.
    Refused(Refusal),
    /// Not now: no leader, or the node that was asked is itself still joining. Ask again.
    Later {
        /// What is in the way.
        reason: Box<str>,
    },
}
