//! Commands to a data group.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Carried, Commit, Key, Operation, Origin, Quotas, SessionSettings, Value, Write,
    metadata_weight, request_weight,
};
use crate::backup::Import;
use crate::ids::{EntityId, Epoch, RequestId, Revision, SessionId};

/// One entry of the log of a data group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataCommand {
    /// Which command of which client it is; `None` when its sender never sends it twice.
    pub origin: Option<Origin>,
    /// The idempotency key of the user's request, remembered with the session that the action
    /// names.
    pub request: Option<RequestId>,
    /// What to do.
    pub action: DataAction,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataAction {
    /// Creates a session. One that is there with the same settings stays as it is.
    CreateSession {
        /// Its id.
        session: SessionId,
        /// What it is created with.
        settings: SessionSettings,
    },
    /// Renews a session's time to live.
    TouchSession {
        /// The session.
        session: SessionId,
    },
    /// Deletes a session with all that is in it; deleting what is not there is no error.
    DeleteSession {
        /// The session.
        session: SessionId,
    },
    /// Changes a session's time to live, and renews it.
    SetTtl {
        /// The session.
        session: SessionId,
        /// The new one; `None` for ever.
        ttl: Option<Duration>,
    },
    /// Does one thing in a session.
    Operate {
        /// The session.
        session: SessionId,
        /// What to do.
        operation: Operation,
    },
    /// Does several things in a session, in order; a later one finds what an earlier one did.
    Batch {
        /// The session.
        session: SessionId,
        /// Whether all are done or none.
        atomic: bool,
        /// What to do.
        operations: Vec<Operation>,
    },
    /// Does one list of things when all comparisons hold, and another list when one does not; all
    /// of that list or nothing.
    Transaction {
        /// The session.
        session: SessionId,
        /// What must hold before anything is done.
        compare: Vec<Compare>,
        /// What is done when all of it holds.
        then: Vec<Operation>,
        /// What is done when something does not.
        otherwise: Vec<Operation>,
    },
    /// Changes the bounds of this group.
    SetQuotas(Quotas),
    /// Removes sessions that are due, the longest due first.
    Expire {
        /// At most so many; [`crate::limits::EXPIRED_PER_ENTRY`] at the most.
        max: u32,
    },
    /// Forgets the changes up to a revision, inclusive.
    Compact {
        /// The revision.
        upto: Revision,
    },
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
        /// The epoch of its last activation, which is over with this.
        epoch: Epoch,
    },
    /// A step of bringing a backup into the group.
    Import(Import),
}

/// What must hold of a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The variable.
    pub key: Key,
    /// What must hold.
    pub test: Test,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// It has this version; 0 when it must not be there.
    Version(u64),
    /// It is there, or is not.
    Exists(bool),
    /// It is there and has this value.
    Is(Value),
}

impl From<DataAction> for DataCommand {
    /// A command of a sender that never sends it twice.
    fn from(action: DataAction) -> Self {
        Self { origin: None, request: None, action }
    }
}

impl DataCommand {
    /// Roughly how many bytes its contents have on disk and on the wire.
    #[must_use]
    pub fn weight(&self) -> usize {
        request_weight(self.request.as_ref()) + self.action.weight()
    }
}

impl DataAction {
    /// The session it is about, if it is about one.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::CreateSession { session, .. }
            | Self::TouchSession { session }
            | Self::DeleteSession { session }
            | Self::SetTtl { session, .. }
            | Self::Operate { session, .. }
            | Self::Batch { session, .. }
            | Self::Transaction { session, .. } => Some(session),
            Self::Commit(commit) => Some(&commit.session),
            Self::SetQuotas(_)
            | Self::Expire { .. }
            | Self::Compact { .. }
            | Self::Fence { .. }
            | Self::Forget { .. }
            | Self::Import(_) => None,
        }
    }

    /// How many bytes its contents have, ids aside.
    #[must_use]
    pub fn weight(&self) -> usize {
        let sum = |operations: &[Operation]| operations.iter().map(Operation::weight).sum();
        match self {
            Self::CreateSession { settings, .. } => metadata_weight(&settings.metadata),
            Self::Operate { operation, .. } => operation.weight(),
            Self::Batch { operations, .. } => sum(operations),
            Self::Transaction { compare, then, otherwise, .. } => {
                let compared: usize = compare.iter().map(Compare::weight).sum();
                compared + sum(then) + sum(otherwise)
            }
            Self::Commit(commit) => {
                let writes: usize = commit.writes.iter().map(write_weight).sum();
                let carried: usize = commit.carried.iter().map(Carried::weight).sum();
                commit.reply.len() + writes + carried
            }
            _ => 0,
        }
    }
}

impl Compare {
    fn weight(&self) -> usize {
        let value = if let Test::Is(value) = &self.test { value.weight() } else { 0 };
        self.key.len() + value + 16
    }
}

fn write_weight(write: &Write) -> usize {
    match write {
        Write::Set { key, value } => key.len() + value.len() + 16,
        Write::Delete { key } => key.len() + 16,
    }
}

impl fmt::Display for DataCommand {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            DataAction::CreateSession { session, .. } => write!(f, "create session {session}"),
            DataAction::TouchSession { session } => write!(f, "touch session {session}"),
            DataAction::DeleteSession { session } => write!(f, "delete session {session}"),
            DataAction::SetTtl { session, .. } => write!(f, "set ttl of session {session}"),
            DataAction::Operate { session, operation } => {
                write!(f, "{operation} in session {session}")
            }
            DataAction::Batch { session, operations, .. } => {
                write!(f, "{} operations in session {session}", operations.len())
            }
            DataAction::Transaction { session, .. } => {
                write!(f, "transaction in session {session}")
            }
            DataAction::SetQuotas(_) => f.write_str("set quotas"),
            DataAction::Expire { max } => write!(f, "expire at most {max} sessions"),
            DataAction::Compact { upto } => write!(f, "compact up to {upto}"),
            DataAction::Commit(commit) => {
                write!(f, "commit {} of {} epoch {}", commit.request, commit.entity, commit.epoch)
            }
            DataAction::Fence { entity, epoch, .. } => write!(f, "fence {entity} epoch {epoch}"),
            DataAction::Forget { entity, epoch } => write!(f, "forget {entity} epoch {epoch}"),
            DataAction::Import(import) => import.fmt(f),
        }
    }
}
