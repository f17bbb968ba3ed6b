//! Making the logs as short as they can be, on every node, because somebody asks for it.
//!
//! It is never needed: replicas make snapshots and purge by themselves. It frees memory and disk at
//! once, and makes the next start fast.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use odeum_proto::codec;
use odeum_proto::log::{Compacted, Forward, StoreReply, StoreRequest};
use odeum_proto::{GroupId, NodeId};
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::{Instant, timeout};

use super::error::StoreError;
use super::front::StoreHandle;
use super::group::{Group, encoded};
use super::raft::{LogId, Metrics};
use super::rpc::Purpose;

/// How long a snapshot is waited for until one is asked for again: one that was under way already
/// may end before what is wanted.
const SNAPSHOT: Duration = Duration::from_secs(5);

/// How long a purge may be put off: by the batch that is on its way to a follower.
const PURGE: Duration = Duration::from_secs(2);

/// What a replica answered.
#[derive(Debug)]
pub struct ReplicaCompacted {
    /// Its node.
    pub node: NodeId,
    /// Its group.
    pub group: GroupId,
    /// What became of its log.
    pub result: Result<Compacted, StoreError>,
}

impl StoreHandle {
    /// Has every replica of every group make a snapshot and remove what it has from its log; those
    /// of one node one after the other. One that does not answer keeps none of the others up.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] while this node does not know its cluster.
    pub async fn compact(&self, deadline: Duration) -> Result<Vec<ReplicaCompacted>, StoreError> {
        let mut groups = self.data_groups()?;
        groups.retain(|group| *group != GroupId::Control);
        groups.insert(0, GroupId::Control);
        let end = Instant::now() + deadline;
        let nodes: Vec<NodeId> = self.view(|state| state.nodes().keys().cloned().collect());
        let asked = nodes.into_iter().map(async |node| {
            let mut answers = Vec::new();
            for &group in &groups {
                let result = self.compact_at(&node, group, end).await;
                answers.push(ReplicaCompacted { node: node.clone(), group, result });
            }
            answers
        });
        Ok(join_all(asked).await.into_iter().flatten().collect())
    }

    async fn compact_at(
        &self,
        node: &NodeId,
        group: GroupId,
        end: Instant,
    ) -> Result<Compacted, StoreError> {
        let (shared, remaining) = (&self.shared, end - Instant::now());
        let forward = Forward { remaining, request: StoreRequest::Compact };
        let reply = if *node == shared.config.node {
            shared.seat(group).running_until(end, remaining).await?.lead(forward).await
        } else {
            let body = encoded(&forward);
            let asked = shared.rpc.0.ask(node, group, Purpose::Forward, body, remaining).await;
            let body = asked.map_err(StoreError::stopped)?;
            codec::decode(&body).map_err(StoreError::broken)?
        };
        match reply {
            StoreReply::Compacted(compacted) => Ok(compacted),
            StoreReply::Unknown { reason } => {
                Err(StoreError::Deadline { after: remaining, reason })
            }
            StoreReply::Stopped { reason } => Err(StoreError::Stopped { reason }),
            StoreReply::NoSpace => Err(StoreError::NoSpace { node: node.clone() }),
            other => Err(StoreError::broken(format!("{other:?} to a compaction"))),
        }
    }
}

impl Group {
    /// Makes a snapshot of all that is applied, and removes that from the log.
    pub(super) async fn compact(&self) -> StoreReply {
        let before = entries(&self.raft.metrics().borrow_watched());
        if let Err(error) = self.shorten().await {
            return StoreReply::Stopped { reason: error.to_string().into() };
        }
        let entries_after = entries(&self.raft.metrics().borrow_watched());
        let (dir, group) = (self.dir.clone(), self.id());
        let sizes = tokio::task::spawn_blocking(move || sizes(&dir, group)).await;
        let (snapshot_bytes, log_bytes) = sizes.unwrap_or_default();
        StoreReply::Compacted(Compacted {
            entries_before: before,
            entries_after,
            snapshot_bytes,
            log_bytes,
        })
    }

    async fn shorten(&self) -> Result<(), StoreError> {
        let last = |id: &Option<LogId>| id.as_ref().map(LogId::index);
        let mut metrics = self.raft.metrics();
        let Some(applied) = last(&metrics.borrow_watched().last_applied) else { return Ok(()) };
        while last(&metrics.borrow_watched().snapshot) < Some(applied) {
            self.raft.trigger().snapshot().await.map_err(StoreError::stopped)?;
            let made = async {
                while last(&metrics.borrow_watched().snapshot) < Some(applied) {
                    metrics.changed().await.map_err(StoreError::stopped)?;
                }
                Ok::<_, StoreError>(())
            };
            if let Ok(ended) = timeout(SNAPSHOT, made).await {
                ended?;
            }
        }
        self.raft.trigger().purge_log(applied).await.map_err(StoreError::stopped)?;
        let purged = async {
            while last(&metrics.borrow_watched().purged) < Some(applied) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        // What is put off for longer is reported as still there.
        let _ = timeout(PURGE, purged).await;
        Ok(())
    }
}

/// Entries in the log.
fn entries(metrics: &Metrics) -> u64 {
    let next = metrics.last_log_index.map_or(0, |last| last + 1);
    let first = metrics.purged.as_ref().map_or(0, |purged| purged.index() + 1);
    next.saturating_sub(first)
}

/// Bytes of the snapshot of `group`, and of the log. Only told, so what cannot be read is nothing.
fn sizes(dir: &Path, group: GroupId) -> (u64, u64) {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let snapshot = length(&dir.join("snapshots").join(format!("{group}.snapshot")));
    let log = std::fs::read_dir(dir.join("wal"));
    let log = log.into_iter().flatten().flatten().map(|entry| length(&entry.path())).sum();
    (snapshot, log)
}
