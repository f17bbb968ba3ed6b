//! A message to an entity and what comes back, as it crosses between nodes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{EntityId, Epoch, NodeId, RequestId};

/// One ask on its way to the node where the entity is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRequest {
    /// The receiver.
    pub entity: EntityId,
    /// The idempotency key: within the deduplication window the effect happens once, and a retry
    /// gets the first reply.
    pub request: RequestId,
    /// Name of the session the message is about; the entity's default session when `None`.
    pub session: Option<String>,
    /// The message.
    #[serde(with = "crate::codec::bytes")]
    pub body: Vec<u8>,
    /// What is left of the caller's deadline. Relative, because clocks differ between machines.
    pub remaining: Duration,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReply {
    /// The reply's bytes.
    #[serde(with = "crate::codec::bytes")]
    pub body: Vec<u8>,
    /// The node that answered.
    pub node: NodeId,
    /// The activation that answered.
    pub epoch: Epoch,
    /// Whether the effect had happened at an earlier try and this is the remembered reply.
    pub replayed: bool,
}

/// Why a call has no reply. A [retryable](CallError::is_retryable) one had no effect that a retry
/// with the same request id would double.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CallError {
    /// Nothing of that name is deployed. Deploy it, or correct the name.
    #[error("there is no {entity}")]
    NotFound {
        /// Who was asked for.
        entity: EntityId,
    },
    /// The entity is not active on the node that was asked. Look it up again and retry there.
    #[error("{entity} is not active on {node}")]
    NotHere {
        /// Who was asked for.
        entity: EntityId,
        /// Who was asked.
        node: NodeId,
    },
    /// The entity has moved. Retry there.
    #[error("{entity} has moved to {to}")]
    Moved {
        /// Who was asked for.
        entity: EntityId,
        /// The node that has it now.
        to: NodeId,
        /// Under this epoch.
        epoch: Epoch,
    },
    /// The entity is starting, restarting or moving. Retry after a moment.
    #[error("{entity} is unavailable: {reason}")]
    Unavailable {
        /// Who was asked for.
        entity: EntityId,
        /// What it is busy with.
        reason: Box<str>,
    },
    /// The node that holds the entity cannot be reached, or was lost while it worked. Retry with
    /// the same request id.
    #[error("{node} cannot be reached: {reason}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What the transport said.
        reason: Box<str>,
    },
    /// The store has no majority. Retry when enough nodes are back.
    #[error("the store has no majority: {reason}")]
    NoQuorum {
        /// What the store said.
        reason: Box<str>,
    },
    /// Too many messages wait for this entity. Slow down and retry.
    #[error("{entity} has {queued} messages waiting, its limit")]
    Overloaded {
        /// Who was asked for.
        entity: EntityId,
        /// How many wait.
        queued: usize,
    },
    /// The deadline passed. The effect may or may not have happened: retry with the same request
    /// id to learn the reply.
    #[error("no reply from {entity} within {after:?}")]
    DeadlineExceeded {
        /// Who was asked for.
        entity: EntityId,
        /// The deadline that was given.
        after: Duration,
    },
    /// The guest trapped on this message; nothing of it was kept and the guest is restarted.
    /// Retrying the same message will likely trap again.
    #[error("{entity} trapped: {reason}")]
    Trapped {
        /// Who was asked for.
        entity: EntityId,
        /// The trap and where it happened.
        reason: Box<str>,
    },
    /// The guest exceeded a limit on this message (time, memory, output); nothing of it was kept.
    #[error("{entity} exceeded its limit: {reason}")]
    LimitExceeded {
        /// Who was asked for.
        entity: EntityId,
        /// Which limit, with both values.
        reason: Box<str>,
    },
    /// The message is larger than allowed.
    #[error("the message has {got} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Bytes given.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// The effect happened at an earlier try, but the reply was too large to be remembered.
    #[error("request {request} was carried out; its reply was too large to be remembered")]
    ReplyForgotten {
        /// The request.
        request: RequestId,
    },
    /// The entity refused the message.
    #[error("{entity} refused the message: {reason}")]
    Refused {
        /// Who refused.
        entity: EntityId,
        /// Its reason.
        reason: Box<str>,
    },
    /// The entity failed on this message, or did not start for it, and is made anew. Retrying the
    /// same message will likely fail again.
    #[error("{entity} failed: {reason}")]
    Failed {
        /// Who was asked for.
        entity: EntityId,
        /// The error it gave.
        reason: Box<str>,
    },
}

impl CallError {
    /// Whether the same call, with the same request id, may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotHere { .. }
                | Self::Moved { .. }
                | Self::Unavailable { .. }
                | Self::Unreachable { .. }
                | Self::NoQuorum { .. }
                | Self::Overloaded { .. }
        )
    }

    /// A short fixed word for machines: the `error` field of the HTTP API.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::NotHere { .. } => "not-here",
            Self::Moved { .. } => "moved",
            Self::Unavailable { .. } => "unavailable",
            Self::Unreachable { .. } => "unreachable",
            Self::NoQuorum { .. } => "no-quorum",
            Self::Overloaded { .. } => "overloaded",
            Self::DeadlineExceeded { .. } => "deadline-exceeded",
            Self::Trapped { .. } => "trapped",
            Self::LimitExceeded { .. } => "limit-exceeded",
            Self::TooLarge { .. } => "too-large",
            Self::ReplyForgotten { .. } => "reply-forgotten",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
        }
    }
}
