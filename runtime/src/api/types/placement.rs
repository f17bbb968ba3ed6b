//! What is where, and why.

use odeum_proto::{EntityId, Epoch, Label, Name, NodeId};
use serde::{Deserialize, Serialize};

use super::text;

/// `GET /v1/placement`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementReport {
    /// The nodes, by name.
    pub nodes: Vec<NodeShare>,
    /// What is placed one by one, by name.
    pub entities: Vec<PlacedEntity>,
}

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The node.
    pub node: NodeId,
    /// How much it takes on in proportion to others.
    pub capacity: u32,
    /// How many entities it has that are placed one by one.
    pub entities: usize,
    /// How many shards of other kinds it has.
    pub shards: usize,
    /// Why it takes nothing more, when it does not.
    pub takes_nothing: Option<String>,
}

/// Where an entity is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedEntity {
    /// Which.
    #[serde(with = "text")]
    pub entity: EntityId,
    /// Where; `null` when it waits for a node.
    pub node: Option<NodeId>,
    /// Under which epoch.
    pub epoch: Option<Epoch>,
    /// Where it is on its way to.
    pub moves_to: Option<NodeId>,
}

/// `GET /v1/placement/explain`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which entity.
    #[serde(with = "text")]
    pub entity: EntityId,
    /// Where it is; `null` when it waits for a node.
    pub node: Option<NodeId>,
    /// Under which epoch.
    pub epoch: Option<Epoch>,
    /// Where it is on its way to.
    pub moves_to: Option<NodeId>,
    /// The nodes that its deployment names; none when all may have it.
    #[serde(default)]
    pub pinned: Vec<NodeId>,
    /// What its deployment asks of a node, as `label=value`.
    pub labels: Vec<String>,
    /// Firmware that it is to be apart from, whichever of the two says so.
    #[serde(default)]
    pub apart: Vec<Name>,
    /// Each node, the one that it would be placed on first: as the planner compares them.
    pub nodes: Vec<Possibility>,
}

/// Whether a node could have an entity, and what it is compared by, in this order: `beside`,
/// `zone_siblings`, `siblings`, and `entities` for its `capacity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Possibility {
    /// The node.
    pub node: NodeId,
    /// Its zone; a node without one is a zone of its own.
    #[serde(default)]
    pub zone: Option<Label>,
    /// What it has that the entity is to be apart from.
    #[serde(default)]
    pub beside: Vec<Name>,
    /// How many other replicas of the same firmware its zone has.
    #[serde(default)]
    pub zone_siblings: usize,
    /// How many other replicas of the same firmware it has.
    pub siblings: usize,
    /// How many entities it has for its capacity: these.
    pub entities: usize,
    /// How much it takes on in proportion to others.
    pub capacity: u32,
    /// Why it cannot, when it cannot.
    pub cannot: Option<String>,
    /// Why it comes behind the first one, when it can.
    #[serde(default)]
    pub later: Option<String>,
}
