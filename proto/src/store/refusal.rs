//! Why a command changed nothing.

use serde::{Deserialize, Serialize};

use crate::ids::{
    BackupId, ClusterId, Digest, DiskId, EntityId, EntityKind, Epoch, Incarnation, Name, NodeId,
};

/// Why the state machine refused a command. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The cluster has an identity already.
    #[error("this is cluster {is}, not {claimed}")]
    OtherCluster {
        /// The cluster this log belongs to.
        is: ClusterId,
        /// The one that was claimed.
        claimed: ClusterId,
    },
    /// The node id belongs to another data folder. Choose another id: Raft counts votes by it, so
    /// it stays with its first disk even after the node was removed.
    #[error("node {node} runs on disk {is}; disk {claimed} cannot take its name")]
    OtherDisk {
        /// The node.
        node: NodeId,
        /// The disk on record.
        is: DiskId,
        /// The disk that came.
        claimed: DiskId,
    },
    /// An older start of a node spoke after a newer one.
    #[error("node {node} is at incarnation {is}; {claimed} is over")]
    OldIncarnation {
        /// The node.
        node: NodeId,
        /// The latest start on record.
        is: Incarnation,
        /// The start that spoke.
        claimed: Incarnation,
    },
    /// The entity was placed anew in the meantime; the activation that spoke is over.
    #[error("epoch {claimed:?} is over, {entity} is at {is:?}")]
    StaleEpoch {
        /// The entity.
        entity: EntityId,
        /// Its current epoch, if it is placed.
        is: Option<Epoch>,
        /// The epoch that was claimed.
        claimed: Option<Epoch>,
    },
    /// No such firmware is deployed.
    #[error("no firmware is called {name}")]
    UnknownFirmware {
        /// The name.
        name: Name,
    },
    /// No such node is known.
    #[error("no node is called {node}")]
    UnknownNode {
        /// The name.
        node: NodeId,
    },
    /// A bound would be exceeded.
    #[error("{what}: {got} where at most {limit} are allowed")]
    TooMuch {
        /// What is bounded, with its unit and its name.
        what: Box<str>,
        /// What it would be.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// Nothing of that name can be placed: it is no firmware, or none that is deployed.
    #[error("{entity} is no deployed firmware")]
    NotDeployed {
        /// Its name.
        entity: EntityId,
    },
    /// No node ever brought such a kind.
    #[error("no node ever hosted entities of kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: EntityKind,
    },
    /// The number of shards of a kind is another one, for good: each entity's state is in the
    /// shard that this number gave it. Start the node with the number on record.
    #[error(
        "kind {kind} has {is} shards, not {claimed}: the number is fixed by the first node that \
         hosts the kind"
    )]
    OtherShards {
        /// The kind.
        kind: EntityKind,
        /// The number on record.
        is: u16,
        /// The number that was claimed.
        claimed: u16,
    },
    /// A kind cannot have so many shards, or a kind of that name cannot have any.
    #[error("kind {kind} cannot have {got} shards: at least 1, at most {limit}")]
    ShardNumber {
        /// The kind.
        kind: EntityKind,
        /// The number that was claimed.
        got: u16,
        /// The most there can be: 0 for the kind of firmware, which is placed one by one.
        limit: u16,
    },
    /// The kind has fewer shards.
    #[error("kind {kind} has {shards} shards and no shard {shard}")]
    UnknownShard {
        /// The kind.
        kind: EntityKind,
        /// How many there are.
        shards: u16,
        /// Which one was named.
        shard: u16,
    },
    /// Every shard was placed by somebody else since the plan was made.
    #[error("none of the shards of {kind} is where the plan saw it")]
    StaleShards {
        /// The kind.
        kind: EntityKind,
    },
    /// The group would be left without a majority. Bring other voters back, or add some, first.
    #[error(
        "{node} cannot leave: of the {others} other voters {there} are there, which is no majority"
    )]
    LosesQuorum {
        /// Who was to be removed.
        node: NodeId,
        /// How many voters there would be without it.
        others: u64,
        /// How many of them the leader can reach.
        there: u64,
    },
    /// No such blob is known.
    #[error("no blob {digest} is known")]
    UnknownBlob {
        /// The name.
        digest: Digest,
    },
    /// The blob was changed by somebody else since it was looked at. Look again.
    #[error("blob {digest} was changed in the meantime")]
    StaleBlob {
        /// The blob.
        digest: Digest,
    },
    /// A blob must be somewhere.
    #[error("blob {digest} would have no holder")]
    NoHolder {
        /// The blob.
        digest: Digest,
    },
    /// The same digest came with another length, which one of both got wrong.
    #[error("blob {digest} has {is} bytes, not {claimed}")]
    OtherSize {
        /// The blob.
        digest: Digest,
        /// The length on record, in bytes.
        is: u64,
        /// The length that was claimed.
        claimed: u64,
    },
    /// The node's start is not on record yet, or a later one is: a lease is for one start.
    #[error("node {node} is at incarnation {is}; {claimed} gets no lease")]
    OtherIncarnation {
        /// The node.
        node: NodeId,
        /// The start on record.
        is: Incarnation,
        /// The start that asked.
        claimed: Incarnation,
    },
    /// The node's lease is over, so nothing can be placed on it until it has a new one.
    #[error("the lease of node {node} is over")]
    NoLease {
        /// The node.
        node: NodeId,
    },
    /// The node is about to stop. Choose another one.
    #[error("node {node} is about to stop and takes nothing more")]
    Closing {
        /// The node.
        node: NodeId,
    },
    /// A backup is only brought into a cluster that is empty. Restore it into another one, or remove
    /// what is there.
    #[error("the cluster is not empty: it has {number} {what}")]
    NotEmpty {
        /// What is there.
        what: Box<str>,
        /// How many.
        number: u64,
    },
    /// The cluster is being restored. Try again when that is complete. A restore that failed is gone
    /// on with by restoring the same backup again; to give it up, found the cluster anew.
    #[error(
        "the cluster is being restored from backup {backup}, which is not complete yet: if that \
         failed, restore the same backup again, or found the cluster anew with empty data folders"
    )]
    Restoring {
        /// The backup.
        backup: BackupId,
    },
    /// The step is of a backup that this cluster is not being restored from. Begin with its first.
    #[error("the cluster is not being restored from backup {claimed}")]
    OtherBackup {
        /// The backup of the step.
        claimed: BackupId,
    },
    /// Only what was updated can be rolled back, and only once.
    #[error("nothing was deployed as {name} before this package")]
    NothingBefore {
        /// The firmware.
        name: Name,
    },
    /// A step of an update whose plan is not true any more. Look again.
    #[error("the update of {name} has gone on since the step was planned")]
    StaleUpdate {
        /// The firmware.
        name: Name,
    },
    /// A firmware has at least one replica. Delete it to have none.
    #[error("a firmware has at least 1 replica: delete it to have none")]
    NoReplica,
    /// It moves already. Wait until that has ended.
    #[error("{entity} is on its way to {to}")]
    Moving {
        /// The entity.
        entity: EntityId,
        /// Where to.
        to: NodeId,
    },
    /// There is no need to move it.
    #[error("{entity} is on {node} already")]
    AlreadyThere {
        /// The entity.
        entity: EntityId,
        /// The node.
        node: NodeId,
    },
    /// The move was called off, or never began.
    #[error("{entity} does not move")]
    NotMoving {
        /// The entity.
        entity: EntityId,
    },
}
