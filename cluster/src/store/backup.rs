//! Backups: all of a cluster in one file, and back into another cluster.
//!
//! # What is promised
//! * **Whole and of one moment per group.** Each group is in a backup as of one linearizable point:
//!   every write that was acknowledged before the backup was asked for is in it, and no later one
//!   of which an earlier one is missing. Groups have moments of their own, as they have orders of
//!   their own. Blobs that somebody needs are in it, compared with their digests.
//! * **A damaged file is refused**, with the offset, before anything is restored of it.
//! * **Into a cluster of any size** and with any number of groups, if it is empty. Sessions come
//!   with everything: versions, constraints, what is kept of the past, programs, metadata, answers
//!   to idempotency keys, and what they have left of their time to live, from the moment that all
//!   is there. What was deployed starts when all else is there, remembers the requests that it
//!   carried out, and has epochs above all of the old cluster.
//! * **Again after a failure.** Restoring the same file again goes on where an earlier try came to,
//!   from whichever node. Until all is there sessions are neither written nor, but for
//!   [`Consistency::Local`], read, and nothing is deployed; a watch tells what is there so far, and
//!   the whole state when the group is complete. With all there the groups open one after the
//!   other: for that moment a session of one can be used when one of the next cannot yet.
//! * **No watch goes on by mistake.** Revisions go on far above those of the old cluster; who
//!   watches from one of those is told that the changes since are forgotten, and gets the state.
//!
//! # What is not
//! * A restore that was begun is not taken back: who does not want to go on with it founds the
//!   cluster anew, with empty data folders.
//! * Nodes, members of groups, and what is placed where are the new cluster's own.
//! * What has happened after the backup is not known, in this as in any backup: an entity may do
//!   again what it did then.
//!
//! # What it costs
//! A copy of the index of sessions in the memory of one node, and a piece of half a megabyte, or a
//! blob, at a time. A backup reads local memory and disturbs nobody but by the barrier of each
//! group. A restore is a log entry per half a megabyte.

mod error;
mod format;
mod restore;
mod survey;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::backup::{BlobHead, ClusterPart, Header, KnownFirmware, PIECE_BYTES, Piece};
use odeum_proto::store::{FirmwareSpec, Refusal};
use odeum_proto::{BackupId, BlobOwner, Digest, GroupId};

pub use error::BackupError;
pub use restore::RestoreReport;
#[cfg(test)]
pub(super) use survey::decoded;
pub use survey::{BackupFile, Survey, survey};

use self::format::Encoder;
use super::data::Export;
use super::front::StoreHandle;
use super::rounds::Consistency;
use super::state::{Restored, State};

/// How long a group may take to say what was acknowledged: an election and some more.
const BARRIER: Duration = Duration::from_secs(10);

/// Where the bytes of blobs come from and go to.
pub trait Vault: Send + Sync + 'static {
    /// The bytes of a blob, which are what its digest says.
    fn get(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, Box<str>>>;

    /// Keeps a blob for its owners; done when it is on as many disks as it should be.
    fn put(&self, bytes: Bytes, owners: Vec<BlobOwner>)
    -> BoxFuture<'static, Result<(), Box<str>>>;
}

/// A backup in the making: its bytes, as they are asked for.
pub struct Backup {
    header: Header,
    vault: Arc<dyn Vault>,
    encoder: Option<Encoder>,
    /// What is there to be given.
    ready: VecDeque<Piece>,
    groups: VecDeque<(GroupId, Export)>,
    cluster: Option<ClusterPart>,
    blobs: VecDeque<BlobHead>,
    /// Whether the end was given.
    over: bool,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("header", &self.header).finish_non_exhaustive()
    }
}

impl StoreHandle {
    /// Begins a backup of the whole cluster: what was acknowledged before this call is in it.
    /// `created_ms` is the time of day, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`BackupError::Store`] when a group has no majority, or this node does not know its cluster;
    /// [`BackupError::Cluster`] while it is being restored itself.
    pub async fn backup(
        &self,
        vault: Arc<dyn Vault>,
        created_ms: u64,
    ) -> Result<Backup, BackupError> {
        let (mut heads, mut groups) = (Vec::new(), VecDeque::new());
        for group in self.data_groups()? {
            self.barrier_of(group, Consistency::Linearizable, BARRIER).await?;
            let (importing, (head, export)) =
                self.view_at(group, |data, at| (data.importing(), data.export(group, at)));
            if let Some(backup) = importing {
                return Err(Refusal::Restoring { backup }.into());
            }
            heads.push(head);
            groups.push_back((group, export));
        }
        // The cluster last: no session knows of an epoch that it does not have.
        let control = self.barrier(BARRIER).await?;
        let (cluster, part, blobs) =
            self.view(|state| (state.cluster(), cluster_part(state), needed(state)));
        if let Some(Restored { backup, complete: false }) = self.view(State::restored) {
            return Err(Refusal::Restoring { backup }.into());
        }
        let header = Header {
            backup: BackupId::random(),
            cluster: cluster.ok_or(super::StoreError::Unknown)?,
            created_ms,
            version: env!("CARGO_PKG_VERSION").into(),
            control,
            groups: heads,
        };
        let ready = VecDeque::from([Piece::Header(header.clone())]);
        Ok(Backup {
            header,
            vault,
            encoder: None,
            ready,
            groups,
            cluster: Some(part),
            blobs,
            over: false,
        })
    }
}

impl Backup {
    /// What it is a backup of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next bytes; `None` when that was all. After an error there is nothing more, and what
    /// there was is no backup.
    ///
    /// # Errors
    /// [`BackupError::BlobMissing`] when no node has the bytes of a blob.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Some(encoder) = &mut self.encoder else {
            let (encoder, preamble) = Encoder::new();
            self.encoder = Some(encoder);
            return Ok(Some(preamble.into()));
        };
        if let Some(piece) = self.ready.pop_front() {
            return Ok(Some(encoder.piece(&piece)?.into()));
        }
        if let Some(piece) = next_rows(&mut self.groups) {
            return Ok(Some(encoder.piece(&piece)?.into()));
        }
        if let Some(cluster) = self.cluster.take() {
            return Ok(Some(encoder.piece(&Piece::Cluster(cluster))?.into()));
        }
        if let Some(head) = self.blobs.pop_front() {
            let digest = head.digest;
            let bytes = self.vault.get(digest).await;
            let bytes = bytes.map_err(|reason| BackupError::BlobMissing { digest, reason })?;
            self.ready.extend(format::parts(&bytes).map(Piece::Bytes));
            return Ok(Some(encoder.piece(&Piece::Blob(head))?.into()));
        }
        if self.over {
            return Ok(None);
        }
        self.over = true;
        Ok(Some(encoder.end()?.into()))
    }
}

/// The next rows of the first group that has any left.
fn next_rows(groups: &mut VecDeque<(GroupId, Export)>) -> Option<Piece> {
    while let Some((group, export)) = groups.front_mut() {
        let (mut rows, mut weight) = (Vec::new(), 0);
        while weight < PIECE_BYTES
            && let Some(row) = export.next()
        {
            weight += row.weight();
            rows.push(row);
        }
        if !rows.is_empty() {
            return Some(Piece::Rows { group: *group, rows });
        }
        groups.pop_front();
    }
    None
}

/// What of the cluster another one can take over.
fn cluster_part(state: &State) -> ClusterPart {
    let known = |spec: &Arc<FirmwareSpec>| KnownFirmware {
        spec: FirmwareSpec::clone(spec),
        born: state.born(&spec.name).unwrap_or_default(),
    };
    ClusterPart {
        last_epoch: state.last_epoch(),
        kinds: state.kinds().iter().map(|(kind, row)| (kind.clone(), row.shards())).collect(),
        firmware: state.firmware().values().map(known).collect(),
    }
}

/// The blobs that somebody needs.
fn needed(state: &State) -> VecDeque<BlobHead> {
    let owned = state.blobs().records().iter().filter(|(_, record)| !record.owners.is_empty());
    let head = |(digest, record): (&Digest, &super::BlobRecord)| BlobHead {
        digest: *digest,
        size: record.size,
        owners: record.owners.iter().cloned().collect(),
    };
    owned.map(head).collect()
}
