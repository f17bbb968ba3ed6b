//! The replicated state machine: what the log means.
//!
//! Pure, because every replica must come to the same state from the same log: no clock, no
//! randomness, no iteration over hash maps, no I/O. [`State::apply`] is the only way to change
//! it, and a command that is refused changes nothing at all.
//!
//! Epochs come from one counter for all entities and never from a Raft term (a restarted leader
//! keeps its term) nor from the placement itself (deleting a firmware forgets it). So whatever
//! happened to an entity before, its next epoch is higher than all it ever had.

mod commit;
mod session;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use odeum_proto::store::{Command, FirmwareSpec, NodeRecord, Outcome, Placement, Refusal};
use odeum_proto::{
    ClusterId, DiskId, EntityId, EntityKind, Epoch, Name, NodeId, RequestId, Revision, SessionId,
    limits,
};
use serde::{Deserialize, Serialize};

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
    firmware: BTreeMap<Name, FirmwareSpec>,
    placements: BTreeMap<EntityId, Placement>,
    /// The highest epoch ever given to any entity.
    last_epoch: Epoch,
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
            Command::PutNode(record) => self.put_node(record).map(|()| applied(revision)),
            Command::RemoveNode { node } => self.remove_node(node).map(|()| applied(revision)),
            Command::PutFirmware(spec) => self.put_firmware(spec).map(|()| applied(revision)),
            Command::DeleteFirmware { name } => {
                self.delete_firmware(name).map(|()| applied(revision))
            }
            Command::Place { entity, node, expected } => {
                self.place(entity, node, *expected).map(|epoch| Outcome::Placed { revision, epoch })
            }
            Command::Commit(commit) => self.commit(revision, commit),
            Command::DeleteSession { session } => {
                self.delete_session(session);
                Ok(applied(revision))
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

    /// Where entities are active.
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

    fn put_node(&mut self, record: &NodeRecord) -> Result<(), Refusal> {
        let node = || record.id.clone();
        at_most("bytes of a version text", record.version.len(), limits::VERSION_BYTES)?;
        match self.disks.get(&record.id) {
            Some(&is) if is != record.disk => {
                return Err(Refusal::OtherDisk { node: node(), is, claimed: record.disk });
            }
            Some(_) => {}
            None => at_most("node ids ever", self.disks.len() + 1, limits::NODE_IDS_EVER)?,
        }
        match self.nodes.get(&record.id) {
            Some(known) if known.incarnation > record.incarnation => {
                return Err(Refusal::OldIncarnation {
                    node: node(),
                    is: known.incarnation,
                    claimed: record.incarnation,
                });
            }
            Some(_) => {}
            None => at_most("nodes", self.nodes.len() + 1, limits::NODES)?,
        }
        self.disks.insert(node(), record.disk);
        let before = self.nodes.insert(node(), record.clone());
        if before.is_some_and(|before| before.incarnation < record.incarnation) {
            // What its former life left under way must not come late.
            self.renew_placements(|_, placement| placement.node == record.id);
        }
        Ok(())
    }

    /// Gives new epochs to placements where they are: a commit under an old one is refused from
    /// now on.
    fn renew_placements(&mut self, which: impl Fn(&EntityId, &Placement) -> bool) {
        for (entity, placement) in &mut self.placements {
            if which(entity, placement) {
                self.last_epoch = self.last_epoch.next();
                placement.epoch = self.last_epoch;
            }
        }
    }

    fn remove_node(&mut self, node: &NodeId) -> Result<(), Refusal> {
        match self.nodes.remove(node) {
            Some(_) => Ok(()),
            None => Err(Refusal::UnknownNode { node: node.clone() }),
        }
    }

    fn put_firmware(&mut self, spec: &FirmwareSpec) -> Result<(), Refusal> {
        let package = limits::PACKAGE_BYTES as u64;
        if spec.size > package {
            return Err(too_much("bytes of a package", spec.size, package));
        }
        if !self.firmware.contains_key(&spec.name) {
            at_most("firmwares", self.firmware.len() + 1, limits::FIRMWARES)?;
        }
        let before = self.firmware.insert(spec.name.clone(), spec.clone());
        if before.is_some_and(|before| before != *spec) {
            // Another program: what the former one left under way must not come late.
            let changed = EntityId::firmware(spec.name.clone());
            self.renew_placements(|entity, _| *entity == changed);
        }
        Ok(())
    }

    fn delete_firmware(&mut self, name: &Name) -> Result<(), Refusal> {
        if self.firmware.remove(name).is_none() {
            return Err(Refusal::UnknownFirmware { name: name.clone() });
        }
        let of_it = |entity: &EntityId| {
            entity.kind().as_str() == EntityKind::FIRMWARE && entity.key() == name
        };
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
        let deployed = entity.kind().as_str() == EntityKind::FIRMWARE
            && self.firmware.contains_key(entity.key());
        if !deployed {
            return Err(Refusal::UnknownFirmware { name: entity.key().clone() });
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
        let is = self.placements.get(entity).map(|placement| placement.epoch);
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
