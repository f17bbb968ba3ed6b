//! Why a blob is not on the shelf.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use odeum_proto::Digest;

/// Why a blob is not on the shelf.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The bytes are others than the digest says. Nothing was kept.
    #[error("these bytes are blob {is}, not {claimed}")]
    OtherDigest {
        /// Their digest.
        is: Digest,
        /// The digest they came under.
        claimed: Digest,
    },
    /// It does not fit into this node's quota. Raise it, or release blobs.
    #[error(
        "a blob of {needed} bytes does not fit: {used} bytes of the {quota} that blobs may take on \
         this node are in use"
    )]
    Quota {
        /// The blob's length.
        needed: u64,
        /// What cannot make room for it, in bytes.
        used: u64,
        /// The quota in bytes.
        quota: u64,
    },
    /// The disk is full. Free some space.
    #[error("no space left for {}", file.display())]
    NoSpace {
        /// What could not be written.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("{operation} {} failed: {source}", file.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// To which file or folder.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(super) fn io_error(
    operation: &'static str,
    file: &Path,
) -> impl FnOnce(io::Error) -> ShelfError {
    let file = file.to_owned();
    move |source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ShelfError::NoSpace { file },
        _ => ShelfError::Io { operation, file, source },
    }
}
