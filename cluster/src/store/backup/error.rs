//! Why there is no backup, or why one was not restored.

use std::io;
use std::path::{Path, PathBuf};

use odeum_proto::codec::EncodeError;
use odeum_proto::session::SessionRefusal;
use odeum_proto::store::Refusal;
use odeum_proto::{Digest, GroupId};

use super::format::{Fault, VERSION};
use crate::store::error::StoreError;

/// Why a backup was not made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is none. Name another one.
    #[error("{} is no backup", file.display())]
    NoBackup {
        /// The file.
        file: PathBuf,
    },
    /// The file is not what was written. Use another backup; nothing of this one was restored.
    #[error("{} is damaged at byte {offset}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the part of it begins that is at fault.
        offset: u64,
        /// What is wrong there.
        reason: Box<str>,
    },
    /// Another version of Odeum made it. Restore it with that one.
    #[error("{} has format {found}, this version reads format {VERSION}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The operating system refused.
    #[error("{operation} {} failed: {source}", file.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A blob that the cluster needs is nowhere. Bring back the nodes that have it.
    #[error("blob {digest} cannot be saved: {reason}")]
    BlobMissing {
        /// The blob.
        digest: Digest,
        /// What the nodes said.
        reason: Box<str>,
    },
    /// A blob could not be kept here. What has been restored stays; restore the same backup again
    /// when the reason is gone.
    #[error("blob {digest} cannot be kept: {reason}; restore the same backup again to go on")]
    BlobNotKept {
        /// The blob.
        digest: Digest,
        /// What the nodes said.
        reason: Box<str>,
    },
    /// What would be in one group is more than a group may have. Found a cluster with more groups.
    #[error(
        "{got} {what} would come into group {group}, which may have {limit}: restore it into a \
         cluster with more groups"
    )]
    TooMuch {
        /// The group.
        group: GroupId,
        /// What of.
        what: &'static str,
        /// How many.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// The cluster refuses it: it is not empty, another backup is being restored, or a kind of
    /// entities has another number of shards.
    #[error(transparent)]
    Cluster(#[from] Refusal),
    /// A group of sessions refuses it.
    #[error("{group}: {refusal}")]
    Group {
        /// The group.
        group: GroupId,
        /// Why.
        refusal: SessionRefusal,
    },
    /// Somebody wrote to the group when the others had begun already. It takes deletions still; an
    /// entity goes with its placement only, or when the cluster is founded anew.
    #[error(
        "{group} got {sessions} sessions and {entities} entities while the restore began: delete \
         them and restore the same backup again, or found the cluster anew with empty data folders"
    )]
    Late {
        /// The group.
        group: GroupId,
        /// Sessions in it.
        sessions: u64,
        /// Entities that it remembers requests of.
        entities: u64,
    },
    /// The store did not answer in time. What has been restored stays; restore the same backup
    /// again to go on.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something is larger than it can be: a programming error.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// This node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl BackupError {
    pub(super) fn of(fault: Fault, file: &Path) -> Self {
        let file = file.to_owned();
        match fault {
            Fault::Foreign => Self::NoBackup { file },
            Fault::Version(found) => Self::Version { file, found },
            Fault::Damaged { offset, reason } => Self::Damaged { file, offset, reason },
            Fault::Read(source) => Self::Io { operation: "reading", file, source },
        }
    }

    pub(super) fn io(operation: &'static str, file: &Path, source: io::Error) -> Self {
        Self::Io { operation, file: file.to_owned(), source }
    }

    /// Whether the file itself is at fault, so that no other try will help. One of another version
    /// is not: that version can read it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NoBackup { .. } | Self::Damaged { .. })
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Group { refusal, .. } => refusal.is_retryable(),
            Self::BlobMissing { .. } | Self::BlobNotKept { .. } => true,
            _ => false,
        }
    }
}
