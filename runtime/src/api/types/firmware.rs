//! Deployed firmware.

use odeum_proto::{Digest, Epoch, Name, NodeId};
use serde::{Deserialize, Serialize};

use super::{FirmwareSettings, Replicas, displayed_as_in_json, text};

/// `GET /v1/firmware` and `GET /v1/firmware/{name}`: one deployed firmware. When it has several
/// replicas, numbers are those of all together, the epoch is the latest and the state that of the one
/// that there is most to worry about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareSummary {
    /// Its name.
    pub name: Name,
    /// The content of its package.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Length of its package in bytes.
    pub size: u64,
    /// Where it is placed; `None` while it waits for a node, and when it has several replicas.
    pub node: Option<NodeId>,
    /// The fencing token of that placement.
    pub epoch: Option<Epoch>,
    /// How it fares.
    pub state: FirmwareState,
    /// How often its instance was restarted in this placement; known where it is placed.
    pub restarts: Option<u32>,
    /// Linear memory of its instance; known where it is placed, while it runs.
    pub memory_bytes: Option<u64>,
    /// The time for which it computes, in percent of one core, smoothed over some ten seconds; known
    /// where it is placed.
    #[serde(default)]
    pub cpu_percent: Option<u32>,
    /// The process of its own that it runs in, where its package asks for `isolation = "process"`;
    /// known while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The exit code of a job that has completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it was restarted last, or why it does not run.
    pub last_error: Option<String>,
    /// How many replicas there should be.
    pub replicas: u32,
    /// How many of them are ready.
    pub ready: u32,
    /// How many of them run what is deployed: all of them, unless an update is under way.
    pub updated: u32,
    /// Each of them.
    pub instances: Vec<ReplicaSummary>,
}

impl FirmwareSummary {
    /// As if there were this replica only.
    #[must_use]
    pub fn of_one(&self, replica: u32) -> Option<Self> {
        let one = self.instances.iter().find(|one| one.replica == replica)?.clone();
        let is_updated = one.digest == self.digest;
        Some(Self {
            name: self.name.clone(),
            digest: one.digest,
            size: self.size,
            node: one.node.clone(),
            epoch: one.epoch,
            state: one.state,
            restarts: one.restarts,
            memory_bytes: one.memory_bytes,
            cpu_percent: one.cpu_percent,
            pid: one.pid,
            exit_code: one.exit_code,
            last_error: one.last_error.clone(),
            replicas: 1,
            ready: u32::from(one.state.is_ready()),
            updated: u32::from(is_updated),
            instances: vec![one],
        })
    }
}

/// One replica of a firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSummary {
    /// Which one, from 1: it is called `NAME.2`, the first one `NAME.1` or `NAME`.
    pub replica: u32,
    /// The content of the package that it runs: another one than the firmware's while an update has
    /// not reached it.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Where it is placed; `None` while it waits for a node.
    pub node: Option<NodeId>,
    /// The fencing token of that placement.
    pub epoch: Option<Epoch>,
    /// How it fares.
    pub state: FirmwareState,
    /// How often its instance was restarted in this placement.
    pub restarts: Option<u32>,
    /// Linear memory of its instance, while it runs.
    pub memory_bytes: Option<u64>,
    /// The time for which it computes, in percent of one core, smoothed over some ten seconds.
    pub cpu_percent: Option<u32>,
    /// The process of its own that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The exit code of a job that has completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it was restarted last, or why it does not run.
    pub last_error: Option<String>,
}

/// How a firmware fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareState {
    /// It takes messages.
    Running,
    /// It is being fetched, compiled or instantiated.
    Starting,
    /// It ended by an error and is started again after a pause.
    Restarting,
    /// It has no node yet.
    Waiting,
    /// It ended too often, or cannot be started.
    Failed,
    /// It is a job that ran to its end.
    Completed,
    /// It has had no message for a while; the next one starts its instance again.
    Idle,
    /// Its node does not answer.
    Unknown,
}

displayed_as_in_json! {
    FirmwareState {
        Running => "running",
        Starting => "starting",
        Restarting => "restarting",
        Waiting => "waiting",
        Failed => "failed",
        Completed => "completed",
        Idle => "idle",
        Unknown => "unknown",
    }
}

impl FirmwareState {
    /// Whether it does what it is for, or has done it.
    #[must_use]
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Running | Self::Idle | Self::Completed)
    }

    /// How much there is to worry about.
    pub(crate) fn worry(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Idle => 1,
            Self::Running => 2,
            Self::Starting => 3,
            Self::Waiting => 4,
            Self::Unknown => 5,
            Self::Restarting => 6,
            Self::Failed => 7,
        }
    }
}

/// Body of `POST /v1/firmware/{name}/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleBody {
    /// How many replicas there are to be.
    pub replicas: Replicas,
}

/// Answer of `POST /v1/firmware/{name}/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// The firmware.
    pub name: Name,
    /// How many replicas it had.
    pub from: u32,
    /// How many it has.
    pub to: u32,
}

/// Query of `PUT /v1/firmware/{name}`: bounds on the instance. What is left out is as the manifest
/// says, or the node's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployOptions {
    /// Linear memory, such as `16MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Time for one message, such as `250ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Everything else: not in the query but in the header [`SETTINGS_HEADER`](super::SETTINGS_HEADER).
    /// What the query says goes before it.
    #[serde(skip)]
    pub settings: FirmwareSettings,
}

/// Answer of `PUT /v1/firmware/{name}` (201): the package is stored on more than one node, when
/// there is more than one, and the cluster knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Its name.
    pub name: Name,
    /// The content of its package.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Length of its package in bytes.
    pub size: u64,
    /// Where it is placed, if that is decided.
    pub node: Option<NodeId>,
    /// Under which activation.
    #[serde(default)]
    pub epoch: Option<Epoch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_text_in_json() {
        let deployed = Deployed {
            name: "counter".parse().expect("a name"),
            digest: Digest::of(b"x"),
            size: 1,
            node: None,
            epoch: None,
        };
        let json = serde_json::to_value(&deployed).expect("serializes");
        assert_eq!(json["digest"], Digest::of(b"x").to_string());
        assert_eq!(serde_json::from_value::<Deployed>(json).expect("reads back"), deployed);
    }
}
