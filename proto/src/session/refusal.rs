//! Why a command to a data group changed nothing.

use serde::{Deserialize, Serialize};

use super::{DefinitionFault, NameFault, Part, Quota, Setting, ValueFault, ValueType, Violation};
use crate::ids::{BackupId, EntityId, Epoch, Incarnation, NodeId, RequestId, Revision, SessionId};

/// A version for a message.
fn version(version: u64) -> String {
    if version == 0 { "not there".to_owned() } else { format!("at version {version}") }
}

/// Why the state machine of a data group refused a command. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SessionRefusal {
    /// No such session. Create it, or again when it has expired.
    #[error("no session is called {session}")]
    UnknownSession {
        /// The id.
        session: SessionId,
    },
    /// The session is there with other settings. Delete it first, or change it.
    #[error("session {session} is there with {setting}")]
    SessionDiffers {
        /// The session.
        session: SessionId,
        /// The first setting that differs.
        setting: Setting,
    },
    /// A time to live of nothing.
    #[error("the ttl of session {session} cannot be 0; none lives for ever")]
    NoTtl {
        /// The session.
        session: SessionId,
    },
    /// No such variable. Register it, or let the write do so.
    #[error("session {session} has no variable {key}")]
    UnknownVariable {
        /// The session.
        session: SessionId,
        /// The name.
        key: Box<str>,
    },
    /// A text that cannot be a name.
    #[error("{name:?} of session {session} cannot be the name of a {part}: {fault}")]
    Name {
        /// The session.
        session: SessionId,
        /// What it would be the name of.
        part: Part,
        /// The name, cut where it is too long.
        name: Box<str>,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// The value is of another type than the variable.
    #[error("{key} of session {session} is a {is}; a {got} cannot be its value")]
    TypeMismatch {
        /// The session.
        session: SessionId,
        /// The variable.
        key: Box<str>,
        /// The variable's type.
        is: ValueType,
        /// The value's.
        got: ValueType,
    },
    /// The value can be none of its type.
    #[error("{key} of session {session}: {fault}")]
    Value {
        /// The session.
        session: SessionId,
        /// The variable.
        key: Box<str>,
        /// What is wrong with it.
        fault: ValueFault,
    },
    /// The variable does not allow the value.
    #[error("{key} of session {session}: {violation}")]
    Violated {
        /// The session.
        session: SessionId,
        /// The variable.
        key: Box<str>,
        /// The constraint and both values.
        violation: Violation,
    },
    /// No variable can have the definition.
    #[error("{key} of session {session} cannot be registered: {fault}")]
    Definition {
        /// The session.
        session: SessionId,
        /// The variable.
        key: Box<str>,
        /// What is wrong with it.
        fault: DefinitionFault,
    },
    /// The variable is there with another definition. Ask for it to be replaced.
    #[error("{key} of session {session} is registered with another definition")]
    DefinitionDiffers {
        /// The session.
        session: SessionId,
        /// The variable.
        key: Box<str>,
    },
    /// Somebody else wrote the variable. Read it again.
    #[error("{key} of session {session} is {}, expected {}", version(*.is), version(*.expected))]
    VersionConflict {
        /// The session.
        session: SessionId,
        /// The variable.
        key: Box<str>,
        /// Its version; 0 when it is not there.
        is: u64,
        /// The version it was to have.
        expected: u64,
    },
    /// A bound would be exceeded. What frees passes.
    #[error("{quota}: {got} where at most {limit} are allowed{}", of(.what))]
    TooMuch {
        /// Which bound.
        quota: Quota,
        /// Whose: a session, a variable; empty for the group itself.
        what: Box<str>,
        /// What it would be.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// One operation of those that are done all or not at all.
    #[error("operation {index}: {refusal}")]
    Operation {
        /// Which one, from 0.
        index: u32,
        /// Why it was refused.
        refusal: Box<SessionRefusal>,
    },
    /// The idempotency key was used for something else. Use another one.
    #[error("request {request} of session {session} was something else")]
    RequestReused {
        /// The session.
        session: SessionId,
        /// The key.
        request: RequestId,
    },
    /// The entity was activated anew in the meantime; the activation that spoke is over.
    #[error("epoch {claimed} of {entity} is over, it is at {is}")]
    StaleEpoch {
        /// The entity.
        entity: EntityId,
        /// The latest epoch that was seen of it, or under which it was forgotten.
        is: Epoch,
        /// The epoch that was claimed.
        claimed: Epoch,
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
    /// The client said before that it has the outcome of this command.
    #[error("command {sequence} of node {node} is over; the lowest outstanding one is {lowest}")]
    Acknowledged {
        /// The client's node.
        node: NodeId,
        /// The command's number.
        sequence: u64,
        /// The lowest one without an outcome.
        lowest: u64,
    },
    /// Changes that have not happened cannot be forgotten.
    #[error("cannot compact up to {upto}: the last revision is {is}")]
    CompactsFuture {
        /// What was asked for.
        upto: Revision,
        /// This entry.
        is: Revision,
    },
    /// The cluster is being restored. Try again when that is complete. A restore that failed is gone
    /// on with by restoring the same backup again; to give it up, found the cluster anew.
    #[error(
        "the store is being restored from backup {backup}, which is not complete yet: if that \
         failed, restore the same backup again, or found the cluster anew with empty data folders"
    )]
    Restoring {
        /// The backup.
        backup: BackupId,
    },
    /// A backup is only brought into a cluster that is empty. Restore it into another one, or remove
    /// what is there.
    #[error("the store is not empty: the group has {sessions} sessions and {entities} entities")]
    NotEmpty {
        /// Sessions of the group.
        sessions: u64,
        /// Entities that it remembers requests of.
        entities: u64,
    },
    /// The step is of a backup that is not being imported. Begin with its first.
    #[error("backup {claimed} is not being imported")]
    OtherBackup {
        /// The backup of the step.
        claimed: BackupId,
    },
    /// A part of a backup is missing before this one.
    #[error("part {got} of backup {backup} came where part {expected} must come")]
    ImportOrder {
        /// The backup.
        backup: BackupId,
        /// The next part.
        expected: u64,
        /// The part that came, or how many there are.
        got: u64,
    },
    /// A row of a backup belongs to nothing that came before it.
    #[error("row {row} of part {number} of backup {backup} belongs to nothing before it")]
    ImportRow {
        /// The backup.
        backup: BackupId,
        /// The part.
        number: u64,
        /// Which row of it, from 0.
        row: u64,
    },
    /// Another version of Odeum, which divides backups otherwise, has begun. Go on with that one.
    #[error(
        "backup {backup} is being imported in division {is}, and this version makes division \
         {got}: go on from a node with the version that began"
    )]
    ImportDivision {
        /// The backup.
        backup: BackupId,
        /// The division that the import began with.
        is: u32,
        /// That of the step.
        got: u32,
    },
}

fn of(what: &str) -> String {
    if what.is_empty() { String::new() } else { format!(" ({what})") }
}

impl SessionRefusal {
    /// Whether the same command may be accepted later without anybody changing it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooMuch { quota, .. } => matches!(
                quota,
                Quota::Sessions | Quota::GroupBytes | Quota::Outstanding | Quota::Clients
            ),
            Self::Operation { refusal, .. } => refusal.is_retryable(),
            Self::Restoring { .. } => true,
            _ => false,
        }
    }

    /// Roughly how many bytes it has where it is remembered.
    #[must_use]
    pub fn weight(&self) -> usize {
        // Ids, names and cut values; the longest have some 300 bytes.
        const USUAL: usize = 256;
        match self {
            Self::Operation { refusal, .. } => 8 + refusal.weight(),
            Self::Definition { .. } | Self::SessionDiffers { .. } => 8 * USUAL,
            _ => USUAL,
        }
    }
}
