//! Where an instance runs: its name, its bounds, and what its node gives to those whose manifests
//! ask for it.

use std::sync::Arc;

use odeum_proto::{Epoch, ReplicaId, store::FirmwareLimits};

use super::{
    bridge::BrokerAccess,
    chronicle::{Chronicles, GuestLog},
    limiter::{Bounds, Limiter},
    store::Meter,
    usage::Usage,
};
use crate::{
    package::manifest::{HostPath, Manifest, VariableName},
    tls::Authorities,
};

/// What a node gives to guests whose packages ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Folders; also what lies in them.
    pub folders: Vec<HostPath>,
    /// Variables of its own environment.
    pub environment: Vec<VariableName>,
    /// Authorities of the servers that guests reach by HTTPS.
    pub authorities: Authorities,
    /// Its MQTT broker, if it has one.
    pub broker: Option<BrokerAccess>,
}

/// Where an instance runs: under which name and bounds, with what the node gives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The replica of a firmware, which names it in log lines.
    pub firmware: ReplicaId,
    /// Where its lines are kept.
    pub log: GuestLog,
    /// The deployment's bounds.
    pub limits: FirmwareLimits,
    /// What the node gives.
    pub grants: Arc<Grants>,
    /// Where what it uses is counted.
    pub usage: Usage,
}

impl Setting {
    /// What `replica` runs with under `epoch`, and of which nothing is counted yet.
    pub(super) fn new(
        replica: ReplicaId,
        epoch: Epoch,
        limits: FirmwareLimits,
        chronicles: &Chronicles,
        grants: Arc<Grants>,
    ) -> Self {
        let log = GuestLog::new(replica.clone(), epoch, chronicles.of(&replica));
        Self { firmware: replica, log, limits, grants, usage: Usage::default() }
    }

    pub(super) fn meter(&self, manifest: &Manifest) -> Meter {
        let bounds = Bounds::new(self.limits.memory_bytes, &manifest.limits);
        Meter::new(self, Limiter::new(bounds), manifest.limits.clone())
    }
}
