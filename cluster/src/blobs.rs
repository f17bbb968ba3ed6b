//! Content-addressed bytes that outlive the node they came to: packages, checkpoints, backups.
//!
//! ```no_run
//! # async fn example(node: odeum_cluster::builder::RunningNode) -> Result<(), Box<dyn std::error::Error>> {
//! use odeum_proto::BlobOwner;
//!
//! let (blobs, owner) = (node.blobs(), "backup/monday".parse::<BlobOwner>()?);
//! let digest = blobs.put("many bytes".into(), owner.clone()).await?;
//! assert_eq!(blobs.get(digest).await?, "many bytes");
//! blobs.release(digest, owner).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The bytes are on the disks of `copies` nodes (2 by default), the **holders**; the log knows only
//! digests, lengths, holders and owners. A blob is kept while somebody owns it.
//!
//! # What is promised
//! * **What [`Blobs::put`] has acknowledged is on the disks of `copies` nodes**, or of all that take
//!   blobs when they are fewer, in different zones when there are several, and the index says so. It
//!   survives the loss of all of them but one, and of the power of all.
//! * **Bytes that come back are those that were put**: they are compared with the digest whenever
//!   they come from a disk or from a peer. A damaged file is set aside, named in the log, and replaced
//!   from another holder; one that nobody reads is found within a day.
//! * **A holder that is lost is replaced**: `lost_after` (30 s) after it was seen last, or at once when
//!   it was removed or is to leave, another node fetches the blob, has it on its disk, and is then
//!   noted. A node that leaves is let go only when others hold what it holds, if anybody can.
//! * **What nobody owns goes**: `unowned_for` (10 min) after its last owner let go it leaves the index,
//!   and after that its files leave the disks of all nodes, those that are back after years too. Nothing
//!   is removed that was put again in the meantime.
//! * **A node's disk is bounded**: by `quota`, with an error that says so; copies that were kept for
//!   convenience make room first.
//!
//! | promise | test |
//! |---|---|
//! | a killed holder is replaced, and the blob can be read throughout | `tests/blobs.rs` |
//! | released: the files vanish on all nodes | `tests/blobs.rs` |
//! | a damaged file is found and repaired | `tests/blobs.rs`, `blobs::shelf::tests` |
//! | a node that leaves gives away what it holds first | `tests/blobs.rs` |
//! | a full disk or quota refuses a blob and leaves nothing behind | `blobs::shelf::tests` |
//! | few moves when nodes come and go | `blobs::holders::tests`, `blobs::planner::tests` |
//!
//! # What is not promised
//! * When all holders of a blob are lost within the time it takes to replace one, it is lost, unless
//!   another node happens to have a copy (see [`Blobs::get_keeping_copy`]); those are asked as well.
//!   The blob stays in the index, and is whole again when one of its holders is back.
//! * After an error of `put` the bytes may be on some disks for a while. That harms nobody.
//! * Holders are not moved to where they would be chosen today: neither for balance nor for zones.
//!
//! # What it costs
//! A put: one transfer per holder that is not this node, a sync of each holder's disk, all holders at
//! once, then one log entry of 100 to 200 bytes. A get: a read and a hash (some GB/s) when it is here,
//! else one transfer. The index has some 200 bytes per blob in the memory of every replica. A blob is
//! whole in memory while it is on its way, on both sides, as every transfer of the bulk class is:
//! twice its length while it is encoded. Each file is read once a day.
//!
//! # Not done, and why
//! * **Parts.** Blobs have at most [`BLOB_BYTES`](limits::BLOB_BYTES), so a transfer that breaks is
//!   begun anew; parts would need a list of them under each digest to be checked one by one.
//! * **Erasure coding.** It halves the disk and makes each get need several nodes; packages and
//!   checkpoints are small and wanted soon.
//!
//! How it works: [`shelf`] keeps files; `holders` and `planner` decide, purely; `repair` carries out on
//! the node that leads `control` what the planner says; `keeper` brings each node's shelf in line with
//! the index.

mod config;
mod door;
mod error;
#[cfg(test)]
mod fixtures;
pub(crate) mod holders;
mod keeper;
pub(crate) mod planner;
mod repair;
pub mod shelf;
mod transfer;
mod vault;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use odeum_actors::ChildSpec;
use odeum_proto::{
    BlobOwner, Digest, NodeId, limits,
    store::{Command, Outcome},
};
use tokio::sync::watch;

pub use config::BlobsConfig;
pub(crate) use door::BlobDoor;
pub use error::BlobError;

use self::shelf::{Purpose, Shelf, ShelfError, Usage};
use crate::{
    membership::LiveSet,
    store::{BlobRecord, StoreHandle},
    transport::TransportHandle,
};

/// How long a change of the index may wait for a majority: an election and some more.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// The blobs of the cluster, as seen from one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    local: NodeId,
    store: StoreHandle,
    transport: TransportHandle,
    live: watch::Receiver<Arc<LiveSet>>,
    shelf: Shelf,
    config: BlobsConfig,
}

/// What blobs rely on.
#[derive(Debug)]
pub(crate) struct BlobsParts {
    /// The folder of the shelf, `<data-dir>/blobs`.
    pub(crate) folder: PathBuf,
    pub(crate) store: StoreHandle,
    pub(crate) transport: TransportHandle,
    pub(crate) live: watch::Receiver<Arc<LiveSet>>,
    pub(crate) config: BlobsConfig,
}

impl Blobs {
    /// Opens the shelf. Blocks on the disk.
    pub(crate) fn open(parts: BlobsParts) -> Result<Self, ShelfError> {
        let BlobsParts { folder, store, transport, live, mut config } = parts;
        config.copies = config.copies.clamp(1, BlobsConfig::MOST_COPIES);
        let shelf = Shelf::open(folder, config.quota, config.spare)?;
        let local = transport.local().clone();
        Ok(Self { inner: Arc::new(Inner { local, store, transport, live, shelf, config }) })
    }

    /// The actors that keep the promises: children of the `ClusterSupervisor`.
    pub(crate) fn children(&self) -> [ChildSpec; 2] {
        [repair::spec(self.clone()), keeper::spec(self.clone())]
    }

    /// Keeps `bytes` for `owner` until it [releases](Self::release) them. Acknowledged when they
    /// are on the disks of as many nodes as they should be. Putting the same bytes again, for the
    /// same owner or another, is cheap and does no harm.
    ///
    /// # Errors
    /// [`BlobError`]; after [`BlobError::Store`] it is unknown whether they are kept.
    pub async fn put(&self, bytes: Bytes, owner: BlobOwner) -> Result<Digest, BlobError> {
        self.put_for(bytes, Some(owner)).await
    }

    /// As [`put`](Self::put), for an owner who says so by a command of its own, as a deployment
    /// does. Until then, and for no longer than
    /// [`unowned_for`](BlobsConfig::unowned_for), it is kept without one.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub async fn put_unowned(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        self.put_for(bytes, None).await
    }

    /// The bytes of a blob: from this node's disk, from a holder, or from any node that happens to
    /// have them.
    ///
    /// # Errors
    /// [`BlobError::Missing`] when nobody who can be reached has them.
    pub async fn get(&self, digest: Digest) -> Result<Bytes, BlobError> {
        match self.if_here(digest).await {
            Some(bytes) => Ok(bytes),
            None => self.fetch(digest, &[]).await,
        }
    }

    /// As [`get`](Self::get), and leaves a copy on this node's disk for the next time, as long as
    /// there is room. It makes this node no holder: the copy may go at any time.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn get_keeping_copy(&self, digest: Digest) -> Result<Bytes, BlobError> {
        if let Some(bytes) = self.if_here(digest).await {
            return Ok(bytes);
        }
        let bytes = self.fetch(digest, &[]).await?;
        let copy = bytes.clone();
        let kept = self.on_shelf(move |shelf| shelf.put(digest, &copy, Purpose::Copy)).await;
        if let Err(error) = kept {
            tracing::debug!(%digest, %error, "no copy kept");
        }
        Ok(bytes)
    }

    /// `owner` needs a blob no more. The last one to say so lets it go.
    ///
    /// # Errors
    /// [`BlobError::Store`] when it is unknown whether that was noted.
    pub async fn release(&self, digest: Digest, owner: BlobOwner) -> Result<(), BlobError> {
        self.commit(Command::ReleaseBlob { digest, owner }).await
    }

    /// What this node knows of a blob. It may be behind, as every
    /// [view](StoreHandle::view) without a barrier.
    #[must_use]
    pub fn stat(&self, digest: Digest) -> Option<BlobRecord> {
        self.inner.store.view(|state| state.blobs().get(&digest).cloned())
    }

    /// At most `limit` blobs that this node knows of behind `after`, by digest.
    #[must_use]
    pub fn list(&self, after: Option<Digest>, limit: usize) -> Vec<(Digest, BlobRecord)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.inner.store.view(|state| {
            let behind = state.blobs().records().range((from, Unbounded));
            behind.take(limit).map(|(digest, record)| (*digest, record.clone())).collect()
        })
    }

    /// How much is on this node's disk.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner.shelf.usage()
    }

    /// On how many nodes a blob is to be.
    pub(crate) fn copies(&self) -> usize {
        self.inner.config.copies
    }

    async fn put_for(&self, bytes: Bytes, owner: Option<BlobOwner>) -> Result<Digest, BlobError> {
        let (got, limit) = (bytes.len(), limits::BLOB_BYTES);
        if got > limit {
            return Err(BlobError::TooLarge { got, limit });
        }
        let content = bytes.clone();
        let digest = blocking(move || Ok(Digest::of(&content))).await?;
        let size = bytes.len() as u64;
        let holders = self.spread(digest, bytes).await?;
        self.commit(Command::PutBlob { digest, size, holders, owner }).await?;
        tracing::debug!(%digest, bytes = size, "blob put");
        Ok(digest)
    }

    async fn commit(&self, command: Command) -> Result<(), BlobError> {
        match self.inner.store.write(command, WRITE_DEADLINE).await? {
            Outcome::Refused(refusal) => Err(BlobError::Refused(refusal)),
            _ => Ok(()),
        }
    }

    async fn on_shelf<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf) -> Result<T, ShelfError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let shelf = self.inner.shelf.clone();
        blocking(move || Ok(work(&shelf)?)).await
    }
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    // It fails only when it panicked or the runtime is ending.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BlobError::Stopping))
}
