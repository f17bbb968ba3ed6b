//! Content-addressed bytes between nodes, on the bulk class.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// What one node asks another about a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobRequest {
    /// Send it.
    Get(Digest),
    /// Keep it: acknowledged when it is on disk.
    Put {
        /// Its name, checked against the bytes by the receiver.
        digest: Digest,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// What the other node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobReply {
    /// The bytes asked for.
    Found(Vec<u8>),
    /// It is not there.
    Missing,
    /// It is on disk now.
    Kept,
    /// It could not be kept.
    Failed {
        /// Why: bytes that are not what their digest says, a full disk.
        reason: Box<str>,
    },
}
