//! What the replicated log says: commands, their outcomes, and the records they keep.
//!
//! These bytes are on disk and in snapshots. Every command is safe to apply twice: it names the
//! state it expects (an epoch, a request id, a disk), so a retry after an unknown outcome either
//! finds its own effect or is refused.

mod firmware;
mod moves;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backup::Restore;
use crate::ids::{
    BlobOwner, ClusterId, Digest, DiskId, EntityId, EntityKind, Epoch, Incarnation, Label, Name,
    NodeId, ReplicaId, Revision,
};
use crate::session::{DataCommand, DataOutcome};

pub use firmware::{
    FirmwareLimits, FirmwarePolicy, FirmwareSpec, Liveness, Measure, Remedy, RestartBudget,
    RollbackBudget, Threshold,
};
pub use moves::Move;
pub use refusal::Refusal;

/// A node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub id: NodeId,
    /// The data folder it runs on.
    pub disk: DiskId,
    /// Its latest start.
    pub incarnation: Incarnation,
    /// Where its cluster endpoint listens (UDP).
    pub cluster_addr: SocketAddr,
    /// Where its HTTP API listens (TCP).
    pub api_addr: SocketAddr,
    /// The version of its binary.
    pub version: String,
    /// The kinds of entities it can host, and into how many shards each is divided. A kind's
    /// number is fixed by the first node that brings it: a record with another one is refused.
    pub kinds: BTreeMap<EntityKind, u16>,
    /// What its operator says of it.
    pub labels: BTreeMap<Label, Label>,
    /// What it shares its fate with: a rack, a building.
    pub zone: Option<Label>,
    /// How much it takes on, in proportion to others'; usually [`NodeRecord::CAPACITY`]. A node of
    /// capacity 0 hosts nothing.
    pub capacity: u32,
}

impl NodeRecord {
    /// The capacity of a node that says nothing of it: half of it is still a round number.
    pub const CAPACITY: u32 = 100;
}

/// Where an entity is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The node that owns it.
    pub node: NodeId,
    /// The fencing token of this activation.
    pub epoch: Epoch,
}

/// One step of [`Command::PlaceShards`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMove {
    /// The shard, from 0.
    pub shard: u16,
    /// Its new owner.
    pub node: NodeId,
    /// The epoch the planner saw; `None` when it was not placed. The step is left out when this
    /// is not the current one any more.
    pub expected: Option<Epoch>,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a cluster: gives it its identity.
    Found {
        /// The new cluster.
        cluster: ClusterId,
        /// How many groups of sessions it has, for good: a session is found by the hash of its
        /// id. Without any, sessions are in the group of everything else.
        groups: u16,
    },
    /// Adds a node or records its new start. Refused when the id belongs to another disk.
    PutNode(NodeRecord),
    /// Forgets a node. What is placed on it stays so until the planner moves it.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// Deploys or updates a firmware. The package before it is kept until the next update. A single
    /// replica runs the new one at once; of several each goes on as it is until it is its turn
    /// ([`Advance`](Self::Advance)).
    PutFirmware(FirmwareSpec),
    /// Removes a firmware and the placements of its replicas; its sessions stay.
    DeleteFirmware {
        /// Its name.
        name: Name,
    },
    /// Places an entity on a node under a new epoch, if its epoch is still the expected one.
    Place {
        /// The entity.
        entity: EntityId,
        /// Its new owner.
        node: NodeId,
        /// The epoch the planner saw; `None` when it was not placed.
        expected: Option<Epoch>,
    },
    /// A change to the sessions of the group.
    Data(DataCommand),
    /// Places shards of a kind, all of them under one new epoch.
    PlaceShards {
        /// The kind.
        kind: EntityKind,
        /// Which shards, and where to.
        moves: Vec<ShardMove>,
    },
    /// Notes whether a node is about to leave: it gets nothing more, and what it has goes to
    /// others. A new start of the node changes nothing about that; its removal ends it.
    SetLeaving {
        /// The node.
        node: NodeId,
        /// Whether it is.
        leaving: bool,
    },
    /// Notes that these nodes have a blob on their disks, in addition to those that are known to.
    /// One that nobody owns is removed some time after the last of these.
    PutBlob {
        /// Its name.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Who has it.
        holders: BTreeSet<NodeId>,
        /// Who needs it. Without anybody it waits for a command that says so, such as
        /// [`PutFirmware`](Self::PutFirmware).
        owner: Option<BlobOwner>,
    },
    /// An owner needs a blob no more; it is no error when it never did.
    ReleaseBlob {
        /// The blob.
        digest: Digest,
        /// The owner.
        owner: BlobOwner,
    },
    /// Changes who holds a blob, if that is still what the planner saw.
    SetHolders {
        /// The blob.
        digest: Digest,
        /// Who holds it from now on; at least one.
        holders: BTreeSet<NodeId>,
        /// The last change of its holders that the planner saw.
        expected: Revision,
    },
    /// Forgets a blob that nobody owns, if nobody has asked for it since.
    RemoveBlob {
        /// The blob.
        digest: Digest,
        /// Since when the planner saw it without an owner.
        unowned_since: Revision,
    },
    /// Grants a node its lease, or makes the one that it has longer: what is placed on it may be
    /// active there until the lease is over, and nowhere else before.
    RenewLease {
        /// The node that asks.
        node: NodeId,
        /// Its start; refused when that is not the one on record.
        incarnation: Incarnation,
        /// How long, from when it is asked for: the node counts from before that moment, and
        /// whoever ends it from after.
        ttl: Duration,
    },
    /// The lease of a node is over. It is no error when it was before.
    EndLease {
        /// The node.
        node: NodeId,
        /// Which of its leases.
        epoch: Epoch,
        /// The last renewal, whose time has passed by the clock of whoever says so: when it was
        /// renewed since, it is not over. `None` when the node itself gives it back.
        renewed: Option<Revision>,
    },
    /// A node that has a lease is about to stop: it keeps what it has until it has given that away
    /// or the lease is over, and nothing more is placed on it. Means nothing to a later lease.
    CloseLease {
        /// The node.
        node: NodeId,
        /// Which of its leases.
        epoch: Epoch,
    },
    /// A step of bringing a backup into the cluster.
    Restore(Restore),
    /// Brings back what was deployed before, if `failed` is what is deployed now: an update like
    /// others, but for that nothing is kept to come back after it.
    RollBack {
        /// The firmware.
        name: Name,
        /// Its package that is not to be.
        failed: Digest,
    },
    /// A package has stood the test on a replica, if `kept` is what is deployed now. When it has on
    /// all of them, what was deployed before is forgotten.
    Settle {
        /// The replica.
        replica: ReplicaId,
        /// Its package.
        kept: Digest,
    },
    /// Changes how many replicas there are. The highest numbers go first; their sessions stay.
    Scale {
        /// The firmware.
        name: Name,
        /// How many.
        replicas: u32,
    },
    /// The next step of an update: a replica that runs what was deployed before runs what is
    /// deployed now, under a new epoch.
    Advance {
        /// The replica.
        replica: ReplicaId,
        /// The epoch that the planner saw; `None` when it was not placed.
        expected: Option<Epoch>,
        /// How many replicas the planner saw that had not been updated: somebody else may have
        /// taken a step since.
        behind: u32,
    },
    /// Begins to move an entity, if its epoch is still the expected one. It stays where it is until
    /// its node has it switched.
    BeginMove {
        /// The entity.
        entity: EntityId,
        /// Who is to take it in.
        to: NodeId,
        /// The activation that is to move.
        expected: Epoch,
    },
    /// The switch of a move that has begun: from here on the entity is on the node that took it in,
    /// under a new epoch.
    Switch {
        /// The entity.
        entity: EntityId,
        /// Who took it in.
        to: NodeId,
        /// The activation that moves.
        expected: Epoch,
    },
    /// Ends a move that is not switched: the entity stays where it is.
    CallOff {
        /// The entity.
        entity: EntityId,
        /// The activation that was to move.
        expected: Epoch,
    },
    /// Notes whether a node is to be empty: it gets nothing more, what it has moves to others, and
    /// it stays a member.
    SetDraining {
        /// The node.
        node: NodeId,
        /// Whether it is.
        draining: bool,
    },
}

impl std::fmt::Display for Command {
    /// In few words, for logs: contents are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found { cluster, .. } => write!(f, "found {cluster}"),
            Self::PutNode(record) => {
                write!(f, "put node {} incarnation {}", record.id, record.incarnation)
            }
            Self::RemoveNode { node } => write!(f, "remove node {node}"),
            Self::PutFirmware(spec) => write!(f, "put firmware {} {}", spec.name, spec.digest),
            Self::DeleteFirmware { name } => write!(f, "delete firmware {name}"),
            Self::Place { entity, node, .. } => write!(f, "place {entity} on {node}"),
            Self::Data(command) => command.fmt(f),
            Self::PlaceShards { kind, moves } => {
                write!(f, "place {} shards of {kind}", moves.len())
            }
            Self::SetLeaving { node, leaving: true } => write!(f, "let node {node} leave"),
            Self::SetLeaving { node, leaving: false } => write!(f, "let node {node} stay"),
            Self::PutBlob { digest, holders, .. } => {
                write!(f, "put blob {digest} on {} nodes", holders.len())
            }
            Self::ReleaseBlob { digest, owner } => write!(f, "release blob {digest} of {owner}"),
            Self::SetHolders { digest, holders, .. } => {
                write!(f, "set {} holders of blob {digest}", holders.len())
            }
            Self::RemoveBlob { digest, .. } => write!(f, "remove blob {digest}"),
            Self::RenewLease { node, ttl, .. } => write!(f, "renew lease of {node} for {ttl:?}"),
            Self::EndLease { node, epoch, .. } => write!(f, "end lease {epoch} of {node}"),
            Self::CloseLease { node, epoch } => write!(f, "close lease {epoch} of {node}"),
            Self::Restore(restore) => restore.fmt(f),
            Self::Settle { replica, kept } => write!(f, "settle {replica} with {kept}"),
            Self::Scale { name, replicas } => write!(f, "scale {name} to {replicas}"),
            Self::Advance { replica, .. } => write!(f, "update {replica}"),
            Self::RollBack { name, failed } => write!(f, "roll back {name} from {failed}"),
            Self::BeginMove { entity, to, .. } => write!(f, "begin to move {entity} to {to}"),
            Self::Switch { entity, to, .. } => write!(f, "switch {entity} to {to}"),
            Self::CallOff { entity, .. } => write!(f, "call off the move of {entity}"),
            Self::SetDraining { node, draining: true } => write!(f, "drain node {node}"),
            Self::SetDraining { node, draining: false } => write!(f, "use node {node} again"),
        }
    }
}

/// What applying a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The command changed the state, or found it as wished.
    Applied {
        /// Its place in history.
        revision: Revision,
    },
    /// An entity was placed.
    Placed {
        /// Its place in history.
        revision: Revision,
        /// The new epoch.
        epoch: Epoch,
    },
    /// What became of a change to sessions.
    Data(DataOutcome),
    /// Nothing was changed, for a reason that every replica agrees on.
    Refused(Refusal),
    /// Shards were placed.
    ShardsPlaced {
        /// Its place in history.
        revision: Revision,
        /// The new epoch of all of them.
        epoch: Epoch,
        /// Which ones, in the order of the command. The others were placed by somebody else
        /// since the plan was made.
        placed: Vec<u16>,
    },
    /// A node has a lease.
    Leased {
        /// Its place in history.
        revision: Revision,
        /// Which one: as long as it is renewed in time it is the same. With a new one everything
        /// that is placed on the node has this epoch.
        epoch: Epoch,
    },
}
