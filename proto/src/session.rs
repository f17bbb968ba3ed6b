//! What the log of a group of sessions says: its commands, their outcomes, and what they keep.
//!
//! These bytes are on disk and in snapshots, as those of [`store`](crate::store).

mod refusal;

use serde::{Deserialize, Serialize};

use crate::ids::{EntityId, Epoch, RequestId, Revision, SessionId};

pub use refusal::SessionRefusal;

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

/// One change to the sessions of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataCommand {
    /// The effect of one message to an entity.
    Commit(Commit),
    /// A new activation takes over the sessions of its entity: what an older one still has under
    /// way is refused from now on.
    Fence {
        /// The entity.
        entity: EntityId,
        /// The epoch of the new activation.
        epoch: Epoch,
        /// The last epoch before the entity came to be. What is remembered of requests to a former
        /// one of its name is forgotten.
        born: Epoch,
    },
    /// An entity is gone for good, and its deduplication window is of no more use; its sessions
    /// stay.
    Forget {
        /// The entity.
        entity: EntityId,
        /// The highest epoch it can ever have had.
        epoch: Epoch,
    },
    /// Deletes a session with its variables; deleting what is not there is no error.
    DeleteSession {
        /// The session.
        session: SessionId,
    },
}

impl std::fmt::Display for DataCommand {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Commit(commit) => {
                write!(f, "commit {} of {} epoch {}", commit.request, commit.entity, commit.epoch)
            }
            Self::Fence { entity, epoch, .. } => write!(f, "fence {entity} epoch {epoch}"),
            Self::Forget { entity, epoch } => write!(f, "forget {entity} epoch {epoch}"),
            Self::DeleteSession { session } => write!(f, "delete session {session}"),
        }
    }
}

impl DataCommand {
    /// Roughly how many bytes its contents have on disk and on the wire.
    #[must_use]
    pub fn weight(&self) -> usize {
        let of_write = |write: &Write| match write {
            Write::Set { key, value } => key.len() + value.len() + 16,
            Write::Delete { key } => key.len() + 16,
        };
        match self {
            Self::Commit(commit) => {
                commit.reply.len() + commit.writes.iter().map(of_write).sum::<usize>()
            }
            Self::Fence { .. } | Self::Forget { .. } | Self::DeleteSession { .. } => 0,
        }
    }
}

/// What became of a change to the sessions of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataOutcome {
    /// It changed the state, or found it as wished.
    Applied {
        /// Its place in history.
        revision: Revision,
    },
    /// The request was carried out before.
    Replayed {
        /// Its reply; `None` when it was too large to be remembered.
        reply: Option<Vec<u8>>,
    },
    /// Nothing was changed, for a reason that every replica agrees on.
    Refused(SessionRefusal),
}
