//! On what terms an instance runs: what its package asks for, and what its node gives.

use std::{collections::BTreeMap, sync::Arc};

use odeum_proto::{Name, store::FirmwareLimits};

use super::{
    bridge::BrokerAccess,
    limiter::{Bounds, Limiter},
    store::Meter,
};
use crate::package::manifest::{
    Abi, Capabilities, GuestText, HostPath, Limits, Manifest, Restart, VariableName,
};

/// What a package says of its module. A module without a manifest asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Its ABI; told from the module when `None`.
    pub abi: Option<Abi>,
    /// Arguments behind the program's name.
    pub args: Vec<GuestText>,
    /// Variables of its environment.
    pub environment: BTreeMap<VariableName, GuestText>,
    /// How much an instance may take.
    pub limits: Limits,
    /// What it may reach.
    pub capabilities: Capabilities,
    /// What follows its end.
    pub restart: Restart,
}

impl From<&Manifest> for Terms {
    fn from(manifest: &Manifest) -> Self {
        Self {
            abi: manifest.abi,
            args: manifest.args.clone(),
            environment: manifest.environment.clone(),
            limits: manifest.limits.clone(),
            capabilities: manifest.capabilities.clone(),
            restart: manifest.restart.clone(),
        }
    }
}

/// What a node gives to guests whose packages ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Folders; also what lies in them.
    pub folders: Vec<HostPath>,
    /// Variables of its own environment.
    pub environment: Vec<VariableName>,
    /// Its MQTT broker, if it has one.
    pub broker: Option<BrokerAccess>,
}

/// Where an instance runs: under which name and bounds, with what the node gives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The firmware, which names it in log lines.
    pub firmware: Name,
    /// The deployment's bounds.
    pub limits: FirmwareLimits,
    /// What the node gives.
    pub grants: Arc<Grants>,
}

impl Setting {
    pub(super) fn meter(&self, terms: &Terms) -> Meter {
        let bounds = Bounds::new(self.limits.memory_bytes, &terms.limits);
        Meter::new(self.firmware.clone(), Limiter::new(bounds))
    }
}
