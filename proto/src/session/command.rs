//! Commands to a data group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Commit, Constraints, LENGTH, Metadata, Origin, Quotas, SessionSettings, Value, ValueType,
    Write, metadata_weight, request_weight,
};
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
        /// The highest epoch it can ever have had. An entity of which the group knows nothing
        /// needs a higher one from here on, so that nothing late comes after the end.
        epoch: Epoch,
    },
}

/// One thing to do in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Makes a variable. One that is there with the same definition stays as it is.
    Register {
        /// Its name.
        key: Box<str>,
        /// What it may be.
        definition: Box<Definition>,
        /// Its first value.
        initial: Value,
        /// Whether another definition of the same type takes the place of the present one, if the
        /// present value satisfies it. The value stays.
        replace: bool,
    },
    /// Writes a variable.
    Set {
        /// Its name.
        key: Box<str>,
        /// Its new value.
        value: Value,
        /// The version it must have: 0 when it must not be there.
        expected: Option<u64>,
        /// Whether a variable that is not there is made, with the value's type and without
        /// constraints.
        register: bool,
    },
    /// Removes a variable; removing what is not there is no error.
    Delete {
        /// Its name.
        key: Box<str>,
        /// The version it must have: 0 when it must not be there.
        expected: Option<u64>,
    },
    /// Sets an entry of the session's metadata, or removes it.
    Note {
        /// The entry.
        key: Box<str>,
        /// What it says; `None` removes it.
        value: Option<Box<str>>,
    },
    /// Stores a program.
    PutProgram {
        /// Its name.
        name: Box<str>,
        /// The program.
        program: Arc<Program>,
    },
    /// Removes a program; removing what is not there is no error.
    DeleteProgram {
        /// Its name.
        name: Box<str>,
    },
}

/// What a variable may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its type.
    pub kind: ValueType,
    /// What it allows beyond its type.
    pub constraints: Constraints,
    /// How many earlier values are kept, at most [`crate::limits::HISTORY_DEPTH`].
    pub history: u8,
    /// What its owner says of it.
    pub metadata: Metadata,
}

impl Definition {
    /// A type alone.
    #[must_use]
    pub fn untyped(kind: ValueType) -> Self {
        Self { kind, constraints: Constraints::default(), history: 0, metadata: Metadata::new() }
    }

    /// What it counts against quotas, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.constraints.weight() + metadata_weight(&self.metadata)
    }
}

/// A program that a session keeps for whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The language it is written in, in its users' words.
    pub language: Box<str>,
    /// Its text or code.
    #[serde(with = "crate::codec::shared_bytes")]
    pub content: Arc<[u8]>,
    /// What its owner says of it.
    pub metadata: Metadata,
}

impl Program {
    /// What it counts against quotas, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.language.len() + self.content.len() + metadata_weight(&self.metadata) + 3 * LENGTH
    }
}

/// What must hold of a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The variable.
    pub key: Box<str>,
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
    /// The session it is about, if it is about one. A firmware's commit is not: it is remembered
    /// by its entity.
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
            | Self::Forget { .. } => None,
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
                commit.reply.len() + commit.writes.iter().map(write_weight).sum::<usize>()
            }
            _ => 0,
        }
    }
}

impl Operation {
    /// How many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Tags, numbers and lengths.
        const SMALL: usize = 24;
        let contents = match self {
            Self::Register { key, definition, initial, .. } => {
                key.len() + definition.weight() + initial.weight()
            }
            Self::Set { key, value, .. } => key.len() + value.weight(),
            Self::Delete { key, .. } => key.len(),
            Self::Note { key, value } => key.len() + value.as_ref().map_or(0, |text| text.len()),
            Self::PutProgram { name, program } => name.len() + program.weight(),
            Self::DeleteProgram { name } => name.len(),
        };
        SMALL + contents
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
        }
    }
}

impl fmt::Display for Operation {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { key, definition, .. } => {
                write!(f, "register {} {key}", definition.kind)
            }
            Self::Set { key, .. } => write!(f, "set {key}"),
            Self::Delete { key, .. } => write!(f, "delete {key}"),
            Self::Note { key, .. } => write!(f, "note {key}"),
            Self::PutProgram { name, .. } => write!(f, "put program {name}"),
            Self::DeleteProgram { name } => write!(f, "delete program {name}"),
        }
    }
}
