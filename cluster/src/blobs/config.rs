//! How a node keeps blobs.

use std::time::Duration;

use odeum_proto::limits;

/// How a node keeps blobs. What is said of the whole cluster should be the same on all nodes: the
/// node that leads goes by its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobsConfig {
    /// On how many nodes a blob is, or on all when there are fewer. More survives the loss of more
    /// nodes at a time, and costs as many times the disk and the transfers. At least 1, at most
    /// [`MOST_COPIES`](Self::MOST_COPIES).
    pub copies: usize,
    /// Bytes on this node's disk that blobs may take, those it merely has copies of included.
    pub quota: u64,
    /// Bytes of that for copies of blobs that are at home on other nodes, kept because they were
    /// fetched once. More saves transfers.
    pub spare: u64,
    /// How long a node may be away until its blobs are copied to others. Less is sooner safe again,
    /// more saves transfers when nodes are merely restarted.
    pub lost_after: Duration,
    /// How long a blob without owner is kept. It must be longer than it takes from putting a blob
    /// to saying who owns it.
    pub unowned_for: Duration,
    /// How long a file is kept that the index knows nothing of. It must be longer than it takes
    /// from writing a blob's files to the entry in the log that says so.
    pub stray_for: Duration,
    /// How often each file is read and compared with its digest, if nobody reads it anyway.
    pub verify_every: Duration,
}

impl BlobsConfig {
    /// Most copies of a blob: twice as many nodes hold it for a moment when it is put again while
    /// its holders are away.
    pub const MOST_COPIES: usize = limits::HOLDERS_PER_BLOB / 2;
}

impl Default for BlobsConfig {
    fn default() -> Self {
        Self {
            copies: 2,
            quota: 16 << 30,
            spare: 512 << 20,
            lost_after: Duration::from_secs(30),
            // The largest transfer, some times.
            unowned_for: Duration::from_secs(600),
            stray_for: Duration::from_secs(600),
            // Disks lose bits in months.
            verify_every: Duration::from_secs(24 * 3600),
        }
    }
}
