//! Blobs: packages and other bytes that are kept on several nodes.

use odeum_proto::{BlobOwner, Digest, NodeId};
use serde::{Deserialize, Serialize};

use super::text;

/// `GET /v1/blobs`: a page of the cluster's blobs, by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobPage {
    /// The asked node.
    pub node: NodeId,
    /// What is on its disk.
    pub here: BlobUsage,
    /// The blobs.
    pub blobs: Vec<BlobSummary>,
    /// The `after` of the next page; `None` when this is the last.
    #[serde(with = "text::optional", default)]
    pub next: Option<Digest>,
}

/// How much of a node's disk blobs take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobUsage {
    /// How many files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those files that are merely copies: what the node needs and others hold.
    pub copies_bytes: u64,
    /// Bytes that blobs may take.
    pub quota_bytes: u64,
    /// Files that were found damaged and set aside since the node started.
    pub damaged: u64,
}

/// One blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobSummary {
    /// Its content.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The nodes that have it on their disks.
    pub holders: Vec<NodeId>,
    /// Who needs it, such as `package/counter`. Without any it is removed after a while.
    pub owners: Vec<BlobOwner>,
}
