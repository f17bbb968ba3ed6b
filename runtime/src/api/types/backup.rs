//! Backups of the store, and what else is done to it as a whole.

use odeum_cluster::store::{RestoreReport, Survey};
use odeum_proto::{BackupId, ClusterId, GroupId, NodeId, Revision};
use serde::{Deserialize, Serialize};

use super::text;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// Its name.
    #[serde(with = "text")]
    pub backup: BackupId,
    /// The cluster that it is of.
    #[serde(with = "text")]
    pub cluster: ClusterId,
    /// When it was begun, in milliseconds since 1970, by the clock of the node that made it.
    pub created_ms: u64,
    /// The version of that node.
    pub version: String,
    /// Up to which revision each group is in it.
    pub groups: Vec<BackupGroup>,
    /// Sessions.
    pub sessions: u64,
    /// Their variables.
    pub variables: u64,
    /// Entities whose epochs and requests are remembered.
    pub entities: u64,
    /// Deployed firmware.
    pub firmware: usize,
    /// Packages and other blobs that somebody needs.
    pub blobs: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A group of the store in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupGroup {
    /// The group.
    #[serde(with = "text")]
    pub group: GroupId,
    /// The last change of it that is in the backup.
    pub revision: Revision,
}

/// `PUT /v1/store/restore`: what was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What was in the backup.
    #[serde(flatten)]
    pub backup: BackupSummary,
    /// Whether the cluster had been restored from it before, so that nothing was done.
    pub already: bool,
}

/// `POST /v1/store/compact`: what became of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactReport {
    /// The replicas, by node and group.
    pub replicas: Vec<CompactedReplica>,
}

/// The log of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactedReplica {
    /// Its node.
    pub node: NodeId,
    /// Its group.
    #[serde(with = "text")]
    pub group: GroupId,
    /// What became of it, unless the node did not say.
    #[serde(flatten)]
    pub log: Option<CompactedLog>,
    /// Why there is no word of it.
    pub error: Option<String>,
}

/// How long a log was and is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactedLog {
    /// Entries that it had.
    pub entries_before: u64,
    /// Entries that it has.
    pub entries_after: u64,
    /// Bytes of the snapshot that has what was removed.
    pub snapshot_bytes: u64,
    /// Bytes of the files in which the node has the logs of all groups.
    pub log_bytes: u64,
}

impl From<&Survey> for BackupSummary {
    fn from(survey: &Survey) -> Self {
        let header = &survey.header;
        let control = BackupGroup { group: GroupId::Control, revision: header.control };
        let of_sessions = header.groups.iter().filter(|head| head.group != GroupId::Control);
        let of_sessions =
            of_sessions.map(|head| BackupGroup { group: head.group, revision: head.revision });
        Self {
            backup: header.backup,
            cluster: header.cluster,
            created_ms: header.created_ms,
            version: header.version.to_string(),
            groups: std::iter::once(control).chain(of_sessions).collect(),
            sessions: survey.sessions,
            variables: survey.variables,
            entities: survey.entities,
            firmware: survey.cluster.firmware.len(),
            blobs: survey.blobs,
            bytes: survey.bytes,
        }
    }
}

impl From<&RestoreReport> for Restored {
    fn from(report: &RestoreReport) -> Self {
        Self { backup: (&report.survey).into(), already: report.already }
    }
}
