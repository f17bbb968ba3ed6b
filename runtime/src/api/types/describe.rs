//! One firmware in all its particulars, and what is done to it by hand.

use std::collections::BTreeMap;

use odeum_proto::{Digest, Epoch, Name, NodeId};
use serde::{Deserialize, Serialize};

use super::{FirmwareEvent, FirmwareSummary, text};

/// `GET /v1/firmware/{name}/describe`: all that is known of a firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareDescription {
    /// What `GET /v1/firmware/{name}` says.
    #[serde(flatten)]
    pub summary: FirmwareSummary,
    /// What its package says of itself; `None` while the asked node cannot get it.
    pub package: Option<PackageReport>,
    /// Its settings in force, by the keys of a file for `odeum apply`.
    pub settings: BTreeMap<String, String>,
    /// The same in words.
    pub policy: Vec<String>,
    /// The package before it, which a rollback would bring back.
    #[serde(with = "text::optional", default)]
    pub former: Option<Digest>,
    /// How far an update is that has not reached all replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateReport>,
    /// Why it, or one of its replicas, has no node that runs it.
    pub waits_for: Option<String>,
    /// What became of it lately, the oldest first.
    pub events: Vec<FirmwareEvent>,
}

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageReport {
    /// Its name, which may be another one than the firmware's.
    pub name: Name,
    /// Its version.
    pub version: String,
    /// How its module is called; `None` when it cannot be compiled at present.
    pub abi: Option<String>,
    /// What it is for: `messages`, `a job` or `HTTP requests`; as `abi`.
    pub kind: Option<String>,
    /// Ids of the keys that signed it.
    pub signers: Vec<String>,
}

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// How many replicas run what is deployed.
    pub done: u32,
    /// Of how many.
    pub of: u32,
    /// Those that run what was deployed before.
    pub behind: Vec<u32>,
}

/// Answer of `POST /v1/firmware/{name}/restart`; of several replicas, of the last of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The firmware.
    pub name: Name,
    /// Where it is started anew.
    pub node: NodeId,
    /// Under which activation.
    pub epoch: Epoch,
}

/// Answer of `POST /v1/firmware/{name}/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The firmware.
    pub name: Name,
    /// The package that is undone.
    #[serde(with = "text")]
    pub from: Digest,
    /// The package that is back.
    #[serde(with = "text")]
    pub to: Digest,
    /// Where it is placed, if that is decided.
    pub node: Option<NodeId>,
    /// Under which activation.
    pub epoch: Option<Epoch>,
}
