//! The replicated state machine: what the log means.
//!
//! Pure, because every replica must come to the same state from the same log: no clock, no
//! randomness, no iteration over hash maps, no I/O. [`State::apply`] is the only way to change
//! it, and a command that is refused changes nothing at all.
//!
//! Epochs come from one counter for all entities and never from a Raft term (a restarted leader
//! keeps its term) nor from the placement itself (deleting a firmware forgets it). So whatever
//! happened to an entity before, its next epoch is higher than all it ever had.
//!
//! Firmware is placed one by one. Entities of other kinds are placed by shard: a row per shard of
//! the kind, however many entities there are.

mod commit;
mod kind;
mod node;
mod session;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::shard::shard_of;
use odeum_proto::store::{Command, FirmwareSpec, NodeRecord, Outcome, Placement, Refusal};
use odeum_proto::{
    ClusterId, DiskId, EntityId, EntityKind, Epoch, Name, NodeId, RequestId, Revision, SessionId,
    limits,
};
use serde::{Deserialize, Serialize};

pub use kind::KindState;
pub use session::Session;
pub use window::Remembered;

use window::Window;

/// Everything the cluster has agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    cluster: Option<ClusterId>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// The disk of every node id ever seen, removed nodes included.
    disks: BTreeMap<NodeId, DiskId>,
    /// Nodes that are about to leave; each is in `nodes`.
    leaving: BTreeSet<NodeId>,
    firmware: BTreeMap<Name, FirmwareSpec>,
    placements: BTreeMap<EntityId, Placement>,
    kinds: BTreeMap<EntityKind, KindState>,
    /// The highest epoch ever given to anything.
    last_epoch: Epoch,
    layout: Revision,
    sessions: BTreeMap<SessionId, Session>,
    windows: BTreeMap<EntityId, Window>,
    /// Bytes of sessions and windows, counted against [`limits::GROUP_BYTES`].
    bytes: u64,
}

impl State {
    /// Carries out one command of the log.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Outcome {
        let result = match command {
            Command::Found { cluster } => self.found(*cluster).map(|()| applied(revision)),
            Command::PutNode(record) => {
                self.put_node(record).map(|changed| self.laid_out(revision, changed))
            }
            Command::RemoveNode { node } => {
                self.remove_node(node).map(|()| self.laid_out(revision, true))
            }
            Command::PutFirmware(spec) => {
                self.put_firmware(spec).map(|changed| self.laid_out(revision, changed))
            }
            Command::DeleteFirmware { name } => {
                self.delete_firmware(name).map(|()| self.laid_out(revision, true))
            }
            Command::Place { entity, node, expected } => {
                self.place(entity, node, *expected).map(|epoch| {
                    self.layout = revision;
                    Outcome::Placed { revision, epoch }
                })
            }
            Command::Commit(commit) => self.commit(revision, commit),
            Command::DeleteSession { session } => {
                self.delete_session(session);
                Ok(applied(revision))
            }
            Command::PlaceShards { kind, moves } => {
                self.place_shards(kind, moves).map(|(epoch, placed)| {
                    self.layout = revision;
                    Outcome::ShardsPlaced { revision, epoch, placed }
                })
            }
            Command::SetLeaving { node, leaving } => {
                self.set_leaving(node, *leaving).map(|changed| self.laid_out(revision, changed))
            }
        };
        result.unwrap_or_else(Outcome::Refused)
    }

    /// The cluster's identity, once it is founded.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The nodes that belong to the cluster, by id.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeRecord> {
        &self.nodes
    }

    /// The deployed firmware, by name.
    #[must_use]
    pub fn firmware(&self) -> &BTreeMap<Name, FirmwareSpec> {
        &self.firmware
    }

    /// The nodes that are about to leave.
    #[must_use]
    pub fn leaving(&self) -> &BTreeSet<NodeId> {
        &self.leaving
    }

    /// Kinds of entities that are placed by shard, and where their shards are.
    #[must_use]
    pub fn kinds(&self) -> &BTreeMap<EntityKind, KindState> {
        &self.kinds
    }

    /// Where an entity belongs: a firmware by its own row, another one by its shard.
    #[must_use]
    pub fn placement(&self, entity: &EntityId) -> Option<&Placement> {
        match self.kinds.get(entity.kind()) {
            Some(kind) => kind.shard(shard_of(entity.key(), kind.shards())),
            None => self.placements.get(entity),
        }
    }

    /// The last change of anything but sessions: of nodes, firmware, kinds and what is where. Who
    /// keeps in step with those need not look while this stays, however many commits go by.
    #[must_use]
    pub fn layout(&self) -> Revision {
        self.layout
    }

    /// Where firmware is active.
    #[must_use]
    pub fn placements(&self) -> &BTreeMap<EntityId, Placement> {
        &self.placements
    }

    /// The sessions with their variables, by id.
    #[must_use]
    pub fn sessions(&self) -> &BTreeMap<SessionId, Session> {
        &self.sessions
    }

    /// What is remembered of a request to an entity; `None` when it was never carried out or has
    /// left the deduplication window.
    #[must_use]
    pub fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<&Remembered> {
        self.windows.get(entity)?.get(request)
    }

    /// Bytes of session data and remembered replies, overhead included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn found(&mut self, claimed: ClusterId) -> Result<(), Refusal> {
        match self.cluster {
            Some(is) if is != claimed => Err(Refusal::OtherCluster { is, claimed }),
            _ => {
                self.cluster = Some(claimed);
                Ok(())
            }
        }
    }

    /// The outcome of a command that was not refused and may have changed the layout.
    fn laid_out(&mut self, revision: Revision, changed: bool) -> Outcome {
        if changed {
            self.layout = revision;
        }
        applied(revision)
    }

    /// Whether anything changed by it.
    fn put_firmware(&mut self, spec: &FirmwareSpec) -> Result<bool, Refusal> {
        let package = limits::PACKAGE_BYTES as u64;
        if spec.size > package {
            return Err(too_much("bytes of a package", spec.size, package));
        }
        if !self.firmware.contains_key(&spec.name) {
            at_most("firmwares", self.firmware.len() + 1, limits::FIRMWARES)?;
        }
        let before = self.firmware.insert(spec.name.clone(), spec.clone());
        let changed = before.as_ref() != Some(spec);
        if changed && before.is_some() {
            // Another program: what the former one left under way must not come late.
            let changed = EntityId::firmware(spec.name.clone());
            self.renew_placements(|entity, _| *entity == changed);
        }
        Ok(changed)
    }

    fn delete_firmware(&mut self, name: &Name) -> Result<(), Refusal> {
        if self.firmware.remove(name).is_none() {
            return Err(Refusal::UnknownFirmware { name: name.clone() });
        }
        let of_it = |entity: &EntityId| entity.firmware_name() == Some(name.as_str());
        self.placements.retain(|entity, _| !of_it(entity));
        let bytes = &mut self.bytes;
        self.windows.retain(|entity, window| {
            let gone = of_it(entity);
            if gone {
                *bytes -= window.bytes();
            }
            !gone
        });
        Ok(())
    }

    fn place(
        &mut self,
        entity: &EntityId,
        node: &NodeId,
        expected: Option<Epoch>,
    ) -> Result<Epoch, Refusal> {
        if !entity.firmware_name().is_some_and(|name| self.firmware.contains_key(name)) {
            return Err(Refusal::NotDeployed { entity: entity.clone() });
        }
        if !self.nodes.contains_key(node) {
            return Err(Refusal::UnknownNode { node: node.clone() });
        }
        self.check_epoch(entity, expected)?;
        let epoch = self.last_epoch.next();
        self.last_epoch = epoch;
        self.placements.insert(entity.clone(), Placement { node: node.clone(), epoch });
        Ok(epoch)
    }

    fn delete_session(&mut self, session: &SessionId) {
        if let Some(gone) = self.sessions.remove(session) {
            self.bytes -= gone.bytes(session);
        }
    }

    /// Fencing: what speaks for `entity` must hold its current epoch.
    fn check_epoch(&self, entity: &EntityId, claimed: Option<Epoch>) -> Result<(), Refusal> {
        let is = self.placement(entity).map(|placement| placement.epoch);
        if is == claimed {
            return Ok(());
        }
        Err(Refusal::StaleEpoch { entity: entity.clone(), is, claimed })
    }
}

fn applied(revision: Revision) -> Outcome {
    Outcome::Applied { revision }
}

fn too_much(what: &str, got: u64, limit: u64) -> Refusal {
    Refusal::TooMuch { what: what.into(), got, limit }
}

fn at_most(what: &str, got: usize, limit: usize) -> Result<(), Refusal> {
    if got <= limit { Ok(()) } else { Err(too_much(what, got as u64, limit as u64)) }
}
