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
//! Each replica of a firmware is placed by itself. Entities of other kinds are placed by shard: a row per shard of
//! the kind, however many entities there are.

mod blob;
mod firmware;
mod kind;
mod lease;
mod moves;
mod node;
mod restore;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use odeum_proto::shard::shard_of;
use odeum_proto::store::{Command, FirmwareSpec, Move, NodeRecord, Outcome, Placement, Refusal};
use odeum_proto::{ClusterId, DiskId, EntityId, EntityKind, Epoch, Name, NodeId, Revision, limits};
use serde::{Deserialize, Serialize};

pub use blob::{BlobIndex, BlobRecord};
pub use firmware::Update;
pub use kind::KindState;
pub use lease::{NodeLease, Renewal};
pub use restore::Restored;

/// Everything the cluster has agreed on, but for its sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    cluster: Option<ClusterId>,
    /// Groups of sessions.
    groups: u16,
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// The disk of every node id ever seen, removed nodes included.
    disks: BTreeMap<NodeId, DiskId>,
    /// Nodes that are about to leave; each is in `nodes`.
    leaving: BTreeSet<NodeId>,
    /// Nodes that are to be empty and stay; each is in `nodes`.
    draining: BTreeSet<NodeId>,
    firmware: BTreeMap<Name, Arc<FirmwareSpec>>,
    /// What was deployed before under each name, with another package.
    former: BTreeMap<Name, Arc<FirmwareSpec>>,
    /// How far their last updates are, where there is something to tell.
    updates: BTreeMap<Name, Update>,
    /// The last epoch before each firmware came under its name.
    born: BTreeMap<Name, Epoch>,
    placements: BTreeMap<EntityId, Placement>,
    /// Moves that have begun, and of those that are over the last of each entity that has not been
    /// placed anew since.
    moves: BTreeMap<EntityId, Move>,
    kinds: BTreeMap<EntityKind, KindState>,
    blobs: BlobIndex,
    /// The highest epoch ever given to anything.
    last_epoch: Epoch,
    layout: Revision,
    /// The last lease of each node in `nodes`, and of removed ones those that are not over.
    leases: BTreeMap<NodeId, NodeLease>,
    restored: Option<Restored>,
}

impl State {
    /// Carries out one command of the log.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Outcome {
        // Whether the layout is another one.
        let done = match command {
            Command::Found { cluster, groups } => self.found(*cluster, *groups).map(|()| false),
            Command::PutNode(record) => self.put_node(record),
            Command::RemoveNode { node } => self.remove_node(node).map(|()| true),
            Command::PutFirmware(spec) => {
                let done = self.put_firmware(spec);
                self.redeployed(revision, &spec.name, done)
            }
            Command::RollBack { name, failed } => {
                let done = self.roll_back(name, *failed);
                self.redeployed(revision, name, done)
            }
            Command::DeleteFirmware { name } => {
                let done = self.delete_firmware(name).map(|()| true);
                self.redeployed(revision, name, done)
            }
            Command::Settle { replica, kept } => {
                let done = Ok(self.settle(replica, *kept));
                self.redeployed(revision, replica.firmware(), done)
            }
            Command::Scale { name, replicas } => {
                let done = self.scale(name, *replicas);
                self.redeployed(revision, name, done)
            }
            Command::Advance { replica, expected, behind } => {
                let done = self.advance(replica, *expected, *behind).map(|()| true);
                self.redeployed(revision, replica.firmware(), done)
            }
            Command::Place { entity, node, expected } => {
                let placed = self.place(entity, node, *expected).map(|epoch| (epoch, true));
                return self.placed(revision, placed);
            }
            // Sessions have a state machine of their own.
            Command::Data(_) => return Outcome::Applied { revision },
            Command::PlaceShards { kind, moves } => {
                let placed = self.place_shards(kind, moves);
                return self.shards_placed(revision, placed);
            }
            Command::SetLeaving { node, leaving } => self.set_leaving(node, *leaving),
            Command::PutBlob { digest, size, holders, owner } => {
                self.put_blob(revision, (*digest, *size), holders, owner.as_ref()).map(|()| false)
            }
            Command::ReleaseBlob { digest, owner } => {
                self.release_blob(revision, *digest, owner);
                Ok(false)
            }
            Command::SetHolders { digest, holders, expected } => {
                self.set_holders(revision, *digest, holders, *expected).map(|()| false)
            }
            Command::RemoveBlob { digest, unowned_since } => {
                self.remove_blob(revision, *digest, *unowned_since).map(|()| false)
            }
            Command::RenewLease { node, incarnation, ttl } => {
                let leased = self.renew_lease(revision, node, *incarnation, *ttl);
                return leased.unwrap_or_else(Outcome::Refused);
            }
            Command::EndLease { node, epoch, renewed } => {
                Ok(self.end_lease(node, *epoch, *renewed))
            }
            Command::CloseLease { node, epoch } => Ok(self.close_lease(node, *epoch)),
            Command::BeginMove { entity, to, expected } => {
                self.begin_move(revision, entity, to, *expected)
            }
            Command::Switch { entity, to, expected } => {
                let switched = self.switch(entity, to, *expected);
                return self.placed(revision, switched);
            }
            Command::CallOff { entity, expected } => self.call_off(entity, *expected),
            Command::SetDraining { node, draining } => self.set_draining(node, *draining),
            Command::Restore(restore) => self.restore(revision, restore),
        };
        done.map_or_else(Outcome::Refused, |changed| self.laid_out(revision, changed))
    }

    /// The cluster's identity, once it is founded.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// How many groups of sessions the cluster has; 0 before it is founded, too.
    #[must_use]
    pub fn groups(&self) -> u16 {
        self.groups
    }

    /// The nodes that belong to the cluster, by id.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeRecord> {
        &self.nodes
    }

    /// The nodes that are about to leave.
    #[must_use]
    pub fn leaving(&self) -> &BTreeSet<NodeId> {
        &self.leaving
    }

    /// The nodes that are to be empty and stay.
    #[must_use]
    pub fn draining(&self) -> &BTreeSet<NodeId> {
        &self.draining
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

    /// The last change of nodes, firmware, kinds, what is where and who has a lease. Who keeps in
    /// step with those need not look while this stays.
    #[must_use]
    pub fn layout(&self) -> Revision {
        self.layout
    }

    /// Where firmware is active.
    #[must_use]
    pub fn placements(&self) -> &BTreeMap<EntityId, Placement> {
        &self.placements
    }

    /// The highest epoch ever given to anything.
    #[must_use]
    pub fn last_epoch(&self) -> Epoch {
        self.last_epoch
    }

    /// Once and for good; found again it is as it was.
    fn found(&mut self, claimed: ClusterId, groups: u16) -> Result<(), Refusal> {
        match self.cluster {
            Some(is) if is != claimed => Err(Refusal::OtherCluster { is, claimed }),
            Some(_) => Ok(()),
            None => {
                at_most("groups of sessions", groups.into(), limits::DATA_GROUPS.into())?;
                self.cluster = Some(claimed);
                self.groups = groups;
                Ok(())
            }
        }
    }

    /// What came of a command that may have changed what a firmware runs: it owns what it needs from
    /// then on.
    fn redeployed(
        &mut self,
        revision: Revision,
        name: &Name,
        done: Result<bool, Refusal>,
    ) -> Result<bool, Refusal> {
        done.inspect(|_| self.own_packages(revision, name))
    }

    /// The outcome of a command that places an entity, and may have changed the layout.
    fn placed(&mut self, revision: Revision, placed: Result<(Epoch, bool), Refusal>) -> Outcome {
        placed.map_or_else(Outcome::Refused, |(epoch, changed)| {
            self.laid_out(revision, changed);
            Outcome::Placed { revision, epoch }
        })
    }

    /// The outcome of a command that places shards.
    fn shards_placed(
        &mut self,
        revision: Revision,
        placed: Result<(Epoch, Vec<u16>), Refusal>,
    ) -> Outcome {
        placed.map_or_else(Outcome::Refused, |(epoch, placed)| {
            self.laid_out(revision, true);
            Outcome::ShardsPlaced { revision, epoch, placed }
        })
    }

    /// The outcome of a command that was not refused and may have changed the layout.
    fn laid_out(&mut self, revision: Revision, changed: bool) -> Outcome {
        if changed {
            self.layout = revision;
        }
        applied(revision)
    }

    fn place(
        &mut self,
        entity: &EntityId,
        node: &NodeId,
        expected: Option<Epoch>,
    ) -> Result<Epoch, Refusal> {
        if entity.replica().is_none_or(|replica| self.spec_of(&replica).is_none()) {
            return Err(Refusal::NotDeployed { entity: entity.clone() });
        }
        if !self.nodes.contains_key(node) {
            return Err(Refusal::UnknownNode { node: node.clone() });
        }
        self.check_lease(node)?;
        self.check_epoch(entity, expected)?;
        let epoch = self.last_epoch.next();
        self.last_epoch = epoch;
        self.placements.insert(entity.clone(), Placement { node: node.clone(), epoch });
        self.moves.remove(entity);
        Ok(epoch)
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
