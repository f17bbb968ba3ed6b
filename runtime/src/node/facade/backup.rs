//! Backups of the store through this node.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use odeum_cluster::store::{BackupError, BackupFile, ReplicaCompacted};
use tokio::{
    task::spawn_blocking,
    time::{error::Elapsed, timeout},
};

use super::{NodeFacade, store_problem};
use crate::api::{
    BackupFeed, Problem, Received,
    types::{CompactReport, CompactedLog, CompactedReplica, Restored},
};

/// How long all nodes may take to compact what they have.
const COMPACT_DEADLINE: Duration = Duration::from_secs(240);

/// Bytes that are written to the disk at a time.
const WRITE_BYTES: usize = 1 << 20;

/// How long nothing may come of a backup that is being received.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes that a backup which is being received leaves free, for what the node writes meanwhile.
const RESERVE: u64 = 256 << 20;

impl NodeFacade {
    pub(super) async fn backup(&self) -> Result<BackupFeed, Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let created_ms = super::millis(now);
        let backup = self.store.backup(Arc::new(self.blobs.clone()), created_ms).await;
        let backup = backup.map_err(|error| problem(&error))?;
        tracing::info!(backup = %backup.header().backup, "backup begun");
        let feed = stream::try_unfold(backup, |mut backup| async move {
            Ok::<_, BackupError>(backup.next().await?.map(|bytes| (bytes, backup)))
        });
        Ok(feed.boxed())
    }

    pub(super) async fn restore(
        &self,
        backup: Received,
        length: Option<u64>,
    ) -> Result<Restored, Problem> {
        // Before hours are spent on receiving it.
        self.store.check_restorable().await.map_err(|error| problem(&error))?;
        self.check_room(length.unwrap_or(0)).await?;
        let file = self.received(backup).await?;
        let restored = self.store.restore(file, &self.blobs).await;
        restored.map(|report| (&report).into()).map_err(|error| problem(&error))
    }

    pub(super) async fn compact(&self) -> Result<CompactReport, Problem> {
        let replicas = self.store.compact(COMPACT_DEADLINE).await;
        let replicas = replicas.map_err(|error| store_problem(&error))?;
        Ok(CompactReport { replicas: replicas.into_iter().map(compacted).collect() })
    }

    /// Whether the disk has room for a backup of `length` bytes beside what it needs.
    async fn check_room(&self, length: u64) -> Result<(), Problem> {
        let folder = self.places.data.clone();
        let looked = spawn_blocking(move || (rustix::fs::statvfs(&folder), folder)).await;
        let (disk, folder) = looked.map_err(stopping)?;
        // A file system that does not say what is free may have room.
        let Ok(disk) = disk else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if length.saturating_add(RESERVE) <= free {
            return Ok(());
        }
        let reason = format!(
            "{free} bytes are free in {}, of which {RESERVE} are to stay so, and the backup has \
             {length}: make room there, or send it to another node",
            folder.display()
        );
        Err(Problem::Unavailable { reason: reason.into() })
    }

    /// Writes what comes to a file without a name, which is gone when it is closed, in whatever way:
    /// nothing is restored before all of it was read once.
    async fn received(&self, mut backup: Received) -> Result<BackupFile, Problem> {
        let folder = self.places.data.clone();
        let failed = |reason: std::io::Error| Problem::Internal {
            reason: format!("cannot write what was received: {reason}").into(),
        };
        let mut file = spawn_blocking(move || tempfile::tempfile_in(folder))
            .await
            .map_err(stopping)?
            .map_err(failed)?;
        let (mut waiting, mut weight) = (Vec::<Bytes>::new(), 0);
        loop {
            let next = timeout(SILENCE, backup.next()).await.map_err(silent)?.transpose()?;
            let over = next.is_none();
            weight += next.as_ref().map_or(0, Bytes::len);
            waiting.extend(next);
            if weight >= WRITE_BYTES || over {
                let chunks = std::mem::take(&mut waiting);
                weight = 0;
                let write = move || {
                    chunks.iter().try_for_each(|chunk| file.write_all(chunk)).map(|()| file)
                };
                file = spawn_blocking(write).await.map_err(stopping)?.map_err(failed)?;
            }
            if over {
                return Ok(BackupFile { file, name: PathBuf::from("the backup") });
            }
        }
    }
}

fn silent(_: Elapsed) -> Problem {
    let reason = format!("nothing of the backup came for {} s", SILENCE.as_secs());
    Problem::BadRequest { reason: reason.into() }
}

fn stopping(_: tokio::task::JoinError) -> Problem {
    Problem::Unavailable { reason: "the node is stopping".into() }
}

fn compacted(replica: ReplicaCompacted) -> CompactedReplica {
    let ReplicaCompacted { node, group, result } = replica;
    let log = result.as_ref().ok().map(|log| CompactedLog {
        entries_before: log.entries_before,
        entries_after: log.entries_after,
        snapshot_bytes: log.snapshot_bytes,
        log_bytes: log.log_bytes,
    });
    CompactedReplica { node, group, log, error: result.err().map(|error| error.to_string()) }
}

fn problem(error: &BackupError) -> Problem {
    let reason = error.to_string().into();
    match error {
        error if error.is_damage() => Problem::BadBackup { reason },
        BackupError::Version { .. } => Problem::BadBackup { reason },
        BackupError::Store(error) => store_problem(error),
        BackupError::Cluster(refusal) => refusal.clone().into(),
        BackupError::Group { .. } if error.is_retryable() => Problem::Unavailable { reason },
        BackupError::Group { .. } | BackupError::Late { .. } | BackupError::TooMuch { .. } => {
            Problem::Conflict { reason }
        }
        BackupError::BlobMissing { .. }
        | BackupError::BlobNotKept { .. }
        | BackupError::Stopping => Problem::Unavailable { reason },
        _ => Problem::Internal { reason },
    }
}
