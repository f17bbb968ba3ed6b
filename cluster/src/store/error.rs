//! Why the store did not do what was asked.

use std::time::Duration;

use odeum_proto::store::Refusal;
use odeum_proto::{GroupId, NodeId};

use super::wal::WalError;

/// Why a request to the store failed. A command that the state machine refused is no error: it
/// was carried out, and its outcome is a refusal.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No majority of the group answered in time. The effect is unknown; the same command can be
    /// sent again when enough nodes are back.
    #[error("no majority of group {group} of the store answered within {after:?}: {reason}")]
    NoQuorum {
        /// The group.
        group: GroupId,
        /// How long was waited.
        after: Duration,
        /// What was seen last.
        reason: Box<str>,
    },
    /// The deadline passed. The effect is unknown; the same command can be sent again.
    #[error("the store did not answer within {after:?}: {reason}")]
    Deadline {
        /// How long was waited.
        after: Duration,
        /// What was seen last.
        reason: Box<str>,
    },
    /// The cluster is not known here yet, and so not where sessions are. Retry.
    #[error("this node does not know its cluster yet: it starts or joins")]
    Unknown,
    /// This node belongs to no cluster yet. Found one, or join one.
    #[error("{node} is not a member of the store")]
    NotMember {
        /// This node.
        node: NodeId,
    },
    /// The replica on this node does not run: it starts, restarts or was stopped. Retry.
    #[error("the replica of the store does not run: {reason}")]
    Stopped {
        /// Why.
        reason: Box<str>,
    },
    /// The disk of the leader is full; this try wrote nothing. Free space, then retry.
    #[error("no space left on {node}")]
    NoSpace {
        /// The node with the full disk.
        node: NodeId,
    },
    /// The node was not taken in, or the cluster not founded: every replica refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The files of the store are damaged, of another version, or cannot be used.
    #[error(transparent)]
    Files(#[from] WalError),
    /// Something that must not happen did: a message or a setting that cannot be.
    #[error("the store is broken: {reason}")]
    Broken {
        /// What.
        reason: Box<str>,
    },
}

impl StoreError {
    /// Whether the same request may succeed a moment later. Commands are safe to send twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NoQuorum { .. }
                | Self::Deadline { .. }
                | Self::Stopped { .. }
                | Self::NoSpace { .. }
                | Self::Unknown
        )
    }

    pub(super) fn broken(reason: impl ToString) -> Self {
        Self::Broken { reason: reason.to_string().into() }
    }

    pub(super) fn stopped(reason: impl ToString) -> Self {
        Self::Stopped { reason: reason.to_string().into() }
    }
}
