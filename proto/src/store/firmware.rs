//! What is deployed: a firmware, its bounds, where it may be and what becomes of it over time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Label, Name, NodeId};

/// A deployed firmware: which package, under which bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareSpec {
    /// Its name; the entity of its first replica is `firmware/<name>`.
    pub name: Name,
    /// The package's content.
    pub digest: Digest,
    /// The package's length in bytes.
    pub size: u64,
    /// Its bounds.
    pub limits: FirmwareLimits,
    /// What becomes of it.
    pub policy: FirmwarePolicy,
    /// How many replicas of it there are, from 1 to [`limits::REPLICAS`](crate::limits::REPLICAS).
    pub replicas: u32,
}

impl FirmwareSpec {
    /// Whether a replica of this one is one of `other`, too: all that is told of it but how many
    /// there are and how they are updated.
    #[must_use]
    pub fn runs_like(&self, other: &Self) -> bool {
        let Self { name, digest, size, limits, policy, replicas: _ } = self;
        let FirmwarePolicy {
            restarts,
            boot_time,
            idle,
            rollback,
            thresholds,
            labels,
            max_unavailable: _,
            liveness,
            nodes,
            apart,
        } = policy;
        let of = &other.policy;
        (name, digest, size, limits) == (&other.name, &other.digest, &other.size, &other.limits)
            && (restarts, boot_time, idle) == (&of.restarts, &of.boot_time, &of.idle)
            && (rollback, thresholds) == (&of.rollback, &of.thresholds)
            && (labels, liveness) == (&of.labels, &of.liveness)
            && (nodes, apart) == (&of.nodes, &of.apart)
    }
}

/// Bounds on one firmware, from its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareLimits {
    /// Linear memory of an instance, in bytes.
    pub memory_bytes: u64,
    /// Time for one message.
    pub message_time: Duration,
}

/// What becomes of a firmware over time, and where it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwarePolicy {
    /// How it is started again after a crash.
    pub restarts: RestartBudget,
    /// How long it may take to start, once its package is there. Longer is a crash.
    pub boot_time: Duration,
    /// How long it has had no message when its instance is stopped until the next one; `None` when
    /// it keeps running.
    pub idle: Option<Duration>,
    /// When the package before it comes back.
    pub rollback: RollbackBudget,
    /// What of the machine it may use before something is done about it.
    pub thresholds: Vec<Threshold>,
    /// Labels that a node must have to run it, with these values.
    pub labels: BTreeMap<Label, Label>,
    /// Most replicas that an update has not ready at a time, from 1.
    pub max_unavailable: u32,
    /// How it is seen whether it is alive; `None` when that is not asked.
    pub liveness: Option<Liveness>,
    /// The nodes that may run it, at most [`limits::NODES_PER_FIRMWARE`](crate::limits::NODES_PER_FIRMWARE);
    /// all when there are none.
    pub nodes: BTreeSet<NodeId>,
    /// Firmware that it is not put beside while another node can have it, nor that beside it; at most
    /// [`limits::APART_PER_FIRMWARE`](crate::limits::APART_PER_FIRMWARE).
    pub apart: BTreeSet<Name>,
}

/// How it is seen whether a firmware is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// Time between two checks.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failed checks in a row that are a crash.
    pub failures: u32,
    /// What a guest that serves HTTP is asked for, and has to answer with a status of 2xx; it is
    /// not asked when `None`.
    pub path: Option<String>,
}

/// How often and how soon a crashed firmware is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartBudget {
    /// Pause before the first restart; it doubles with every crash in a row.
    pub first_pause: Duration,
    /// The longest of these pauses.
    pub longest_pause: Duration,
    /// Restarts within `within` after which it is given up.
    pub max_restarts: u32,
    /// The time in which those count.
    pub within: Duration,
    /// Restarts in an hour after which it is given up: what crashes slowly is found out, too.
    pub per_hour: u32,
}

impl Default for RestartBudget {
    /// With these pauses a guest that cannot run is given up after a minute, and one that crashes
    /// every minute after an hour. A pause shorter than the first nobody sees happen; callers wait
    /// for nothing in a longer one.
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
            max_restarts: 12,
            within: Duration::from_secs(90),
            per_hour: 60,
        }
    }
}

/// When the package that was deployed before comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackBudget {
    /// Crashes of the new one after which it does.
    pub crashes: u32,
    /// How long after the update they count.
    pub within: Duration,
}

impl Default for RollbackBudget {
    fn default() -> Self {
        Self { crashes: 3, within: Duration::from_secs(300) }
    }
}

/// How much of something a firmware may use for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Of what.
    pub of: Measure,
    /// How much: of [`Measure::Cpu`] in percent of one core, of [`Measure::Memory`] in bytes.
    pub above: u64,
    /// For how long without a break.
    pub lasting: Duration,
    /// What is done then.
    pub then: Remedy,
}

/// What is measured of a firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Measure {
    /// The time for which it computes, smoothed over some ten seconds.
    Cpu,
    /// Its linear memory.
    Memory,
}

/// What is done about a firmware that uses too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Remedy {
    /// The log and its events say so.
    Warn,
    /// It is started anew, which counts as a crash.
    Restart,
    /// It is given up.
    Stop,
}

impl Default for FirmwarePolicy {
    fn default() -> Self {
        Self {
            restarts: RestartBudget::default(),
            boot_time: Duration::from_secs(30),
            idle: None,
            rollback: RollbackBudget::default(),
            thresholds: Vec::new(),
            labels: BTreeMap::new(),
            max_unavailable: 1,
            liveness: None,
            nodes: BTreeSet::new(),
            apart: BTreeSet::new(),
        }
    }
}
