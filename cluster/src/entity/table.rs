//! Who owns which shard, as this node has seen it: what messages are routed by.

use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::store::Placement;
use odeum_proto::{EntityId, EntityKind, NodeId, shard::shard_of};

use crate::membership::{LiveSet, MemberState};
use crate::store::{KindState, State};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    kinds: BTreeMap<EntityKind, KindState>,
    down: BTreeSet<NodeId>,
}

/// What the table says of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// No node has registered its kind.
    NoKind,
    /// Its shard has no owner yet.
    Unplaced,
    /// Its owner is gone, and no other has the shard yet.
    OwnerDown(NodeId),
    /// Its owner is there.
    Owned(Placement),
}

impl Table {
    /// The table as it follows from the store and the live set.
    pub(super) fn of(state: &State, live: &LiveSet) -> Self {
        let down = live.members.iter().filter(|(_, member)| member.state == MemberState::Down);
        Self { kinds: state.kinds().clone(), down: down.map(|(node, _)| node.clone()).collect() }
    }

    /// The shards of a kind.
    pub(super) fn row(&self, kind: &EntityKind) -> Option<&KindState> {
        self.kinds.get(kind)
    }

    /// What is known of an entity.
    pub(super) fn sight(&self, id: &EntityId) -> Sight {
        let Some(row) = self.kinds.get(id.kind()) else { return Sight::NoKind };
        match row.shard(shard_of(id.key(), row.shards())) {
            None => Sight::Unplaced,
            Some(placement) if self.down.contains(&placement.node) => {
                Sight::OwnerDown(placement.node.clone())
            }
            Some(placement) => Sight::Owned(placement.clone()),
        }
    }
}
