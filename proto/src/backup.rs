//! What a backup of the store holds, piece by piece, and how it comes into another cluster: as
//! commands of the logs there.
//!
//! A backup is read by clusters of other sizes and with other numbers of groups, so it is made of
//! rows, each about one session or one entity, and every row finds its group anew. Times are ages,
//! in milliseconds by the log time of the group that a row came from: groups count their time each
//! for itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{
    BackupId, BlobOwner, ClusterId, Digest, EntityId, EntityKind, Epoch, GroupId, LogTime,
    RequestId, Revision, SessionId,
};
use crate::session::{
    DataOutcome, Definition, Key, Metadata, Program, Quotas, Value, metadata_weight,
};
use crate::shard::{group_of, group_of_entity};
use crate::store::FirmwareSpec;

/// By how much revisions and epochs go up in a cluster that is restored: more than the old cluster
/// can have made after the backup (a hundred thousand a second for a hundred days), so that none
/// that somebody kept of it is ever taken for one of the new cluster. JSON has room for thousands
/// of such steps.
pub const JUMP: u64 = 1_000_000_000_000;

/// Bytes after which a piece of rows or of a blob is full, in a file as in a log entry. Behind the
/// largest row there is room for as much in a frame.
pub const PIECE_BYTES: usize = 512 << 10;

/// By which rule rows are divided into the parts that a group gets. It goes up with every change of
/// [`PIECE_BYTES`], of [`Row::weight`] and of what decides the order or the group of a row: the parts
/// of two rules do not fit together.
pub const DIVISION: u32 = 1;

/// One piece of a backup, in the order of a file: the header, the rows of all groups, the
/// cluster, each blob with its bytes behind it, the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// What it is a backup of.
    Header(Header),
    /// Some of what a group of sessions has.
    Rows {
        /// The group it comes from.
        group: GroupId,
        /// The rows. Each comes behind the one that it belongs to.
        rows: Vec<Row>,
    },
    /// What is no session.
    Cluster(ClusterPart),
    /// A blob, whose bytes are in the next pieces.
    Blob(BlobHead),
    /// The next bytes of a blob.
    Bytes(Bytes),
    /// Nothing comes behind it.
    End(End),
}

/// What a file is a backup of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub backup: BackupId,
    /// The cluster.
    pub cluster: ClusterId,
    /// When it was begun, in milliseconds since 1970, by the clock of the node that made it.
    pub created_ms: u64,
    /// The version of that node.
    pub version: Box<str>,
    /// As of which revision of the group `control` the cluster is.
    pub control: Revision,
    /// The groups with sessions.
    pub groups: Vec<GroupHead>,
}

/// A group at the moment of which a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHead {
    /// The group.
    pub group: GroupId,
    /// Its last revision: every write that was acknowledged before the backup began is at or
    /// before it.
    pub revision: Revision,
    /// Its time.
    pub time: LogTime,
    /// The highest epoch of an entity that the group has forgotten.
    pub floor: Epoch,
    /// Its bounds.
    pub quotas: Quotas,
    /// Sessions.
    pub sessions: u64,
    /// Entities.
    pub entities: u64,
}

/// What a cluster has agreed on beside its sessions, and another one can take over: nodes and what
/// is placed on them is its own matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPart {
    /// The highest epoch ever given to anything.
    pub last_epoch: Epoch,
    /// Into how many shards each kind of entities is divided.
    pub kinds: BTreeMap<EntityKind, u16>,
    /// What is deployed.
    pub firmware: Vec<KnownFirmware>,
}

/// A deployed firmware and the last epoch before it came under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFirmware {
    /// The firmware.
    pub spec: FirmwareSpec,
    /// The epoch; what is remembered of requests since then is its own.
    pub born: Epoch,
}

/// A blob that somebody needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobHead {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Who needs it.
    pub owners: Vec<BlobOwner>,
}

/// The end of a backup: how much there is before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Pieces before this one.
    pub pieces: u64,
    /// Rows in them.
    pub rows: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// The digest of all bytes of the file before this piece.
    pub digest: Digest,
}

/// One row: something of a session or of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    /// A session, whose contents come behind it.
    Session(SessionRow),
    /// A variable of it.
    Variable(VariableRow),
    /// An earlier value of a variable, oldest first.
    Past {
        /// The session.
        session: SessionId,
        /// The variable.
        key: Key,
        /// The value.
        value: Value,
        /// The version it had.
        version: u64,
        /// The change that wrote it.
        revision: Revision,
        /// How long ago that was.
        age: u64,
    },
    /// A program of a session.
    Program {
        /// The session.
        session: SessionId,
        /// The program's name.
        name: Box<str>,
        /// The program.
        program: Arc<Program>,
    },
    /// What a request with an idempotency key was answered, oldest first.
    Answer {
        /// The session.
        session: SessionId,
        /// The key.
        request: RequestId,
        /// How long ago it was.
        age: u64,
        /// The digest of what was asked for.
        action: Digest,
        /// The answer.
        outcome: DataOutcome,
    },
    /// An entity, for fencing.
    Entity {
        /// Its name.
        entity: EntityId,
        /// The highest epoch that was seen of it.
        epoch: Epoch,
        /// The last epoch before it came to be.
        born: Epoch,
        /// Whether it is no more.
        gone: bool,
    },
    /// A request that an entity has carried out, oldest first.
    Reply {
        /// The entity.
        entity: EntityId,
        /// The request.
        request: RequestId,
        /// The reply; `None` when it was too large to be remembered.
        reply: Option<Bytes>,
    },
}

/// A session without what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// The change that created it.
    pub created: Revision,
    /// How long ago that was.
    pub created_age: u64,
    /// The last change of anything in it.
    pub changed: Revision,
    /// How long ago it was written or touched last.
    pub touched_age: u64,
    /// How long it lives after that; `None` for ever.
    pub ttl: Option<Duration>,
    /// What its owner says of it.
    pub metadata: Metadata,
    /// The highest version that a deleted variable had.
    pub last_version: u64,
}

/// A variable without its past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableRow {
    /// The session.
    pub session: SessionId,
    /// Its name.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// Its version.
    pub version: u64,
    /// The change that wrote it last.
    pub revision: Revision,
    /// How long ago that was.
    pub age: u64,
    /// What it was registered with; `None` when that is nothing but the type of its value.
    pub definition: Option<Box<Definition>>,
}

impl Row {
    /// Its group in a cluster with so many groups of sessions.
    #[must_use]
    pub fn group(&self, groups: u16) -> GroupId {
        match self {
            Self::Session(row) => group_of(&row.id, groups),
            Self::Variable(VariableRow { session, .. })
            | Self::Past { session, .. }
            | Self::Program { session, .. }
            | Self::Answer { session, .. } => group_of(session, groups),
            Self::Entity { entity, .. } | Self::Reply { entity, .. } => {
                group_of_entity(entity, groups)
            }
        }
    }

    /// Roughly how many bytes it has in a file, in a log and in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Tags, numbers and lengths.
        const SMALL: usize = 64;
        let of = |entity: &EntityId| entity.kind().as_str().len() + entity.key().as_str().len();
        let contents = match self {
            Self::Session(row) => row.id.as_str().len() + metadata_weight(&row.metadata),
            Self::Variable(row) => {
                let definition = row.definition.as_ref().map_or(0, |known| known.weight());
                row.session.as_str().len() + row.key.len() + row.value.weight() + definition
            }
            Self::Past { session, key, value, .. } => {
                session.as_str().len() + key.len() + value.weight()
            }
            Self::Program { session, name, program } => {
                session.as_str().len() + name.len() + program.weight()
            }
            Self::Answer { session, request, outcome, .. } => {
                session.as_str().len() + request.as_str().len() + outcome.weight()
            }
            Self::Entity { entity, .. } => of(entity),
            Self::Reply { entity, request, reply } => {
                of(entity) + request.as_str().len() + reply.as_ref().map_or(0, Bytes::len)
            }
        };
        SMALL + contents
    }

    /// The highest epoch that it names.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Entity { epoch, born, .. } => (*epoch).max(*born),
            _ => Epoch::default(),
        }
    }
}

/// A step of bringing a backup into a group of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Which backup.
    pub backup: BackupId,
    /// The step.
    pub step: ImportStep,
}

/// What a step of an import does. Each finds its own effect when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportStep {
    /// The group, which must be empty, takes nothing but the backup from now on.
    Begin(ImportBegin),
    /// Some rows.
    Rows {
        /// Which part of those of the group it is, from 0. It is the same for every try, since it
        /// follows from the backup, the number of groups and the [division](ImportBegin::division).
        number: u64,
        /// The rows.
        rows: Vec<Row>,
    },
    /// All rows are there: the group is open, and its sessions go on to live from now on.
    Finish {
        /// How many parts there were.
        parts: u64,
    },
}

/// How a group begins to take a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportBegin {
    /// Its time is this at least, so that every age is after its beginning.
    pub time: LogTime,
    /// Its revisions are above this one from now on, and watches of earlier ones begin anew.
    pub above: Revision,
    /// The highest epoch of an entity that is not in the backup any more.
    pub floor: Epoch,
    /// Its bounds.
    pub quotas: Quotas,
    /// How its parts are divided: [`DIVISION`] of the version that began.
    pub division: u32,
}

/// A step of bringing a backup into the control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Which backup.
    pub backup: BackupId,
    /// The step.
    pub step: RestoreStep,
}

/// What a step does. Each finds its own effect when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreStep {
    /// The cluster, which must be empty, deploys nothing before the end.
    Begin {
        /// All epochs are above this one from now on.
        above: Epoch,
        /// Kinds of entities, each with its number of shards.
        kinds: BTreeMap<EntityKind, u16>,
    },
    /// The sessions and blobs are there: what is deployed can start.
    Finish {
        /// What is deployed.
        firmware: Vec<KnownFirmware>,
    },
}

impl fmt::Display for Import {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backup = self.backup;
        match &self.step {
            ImportStep::Begin(_) => write!(f, "begin to import backup {backup}"),
            ImportStep::Rows { number, rows } => {
                write!(f, "import part {number} of backup {backup}, {} rows", rows.len())
            }
            ImportStep::Finish { .. } => write!(f, "finish the import of backup {backup}"),
        }
    }
}

impl fmt::Display for Restore {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            RestoreStep::Begin { .. } => "begin",
            RestoreStep::Finish { .. } => "finish",
        };
        write!(f, "{step} to restore backup {}", self.backup)
    }
}
