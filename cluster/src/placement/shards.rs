//! Decides which shard of a kind belongs on which node. Pure.
//!
//! Two deciders, who never want the same shard:
//! * [`plan_shards`], for the leader: shards that nobody has, or whose node is lost and has no lease. It takes
//!   nothing from a node that is there, because only that node knows what its shards are busy with.
//! * [`surplus`], for each node: which of its own shards it should give to whom, so that all have
//!   their share. Empty ones go first; for the others the node has to hand over what is in them.
//!
//! Both aim at the same `Shares`, so that no shard moves twice. A share is the node's part of all
//! shards by weight, rounded down, and one more for as many nodes as it takes to have them all;
//! those that have one more already come first, so that nothing moves for the sake of rounding.
//! Surplus waits until no shard is lost: till then the leader is filling the same gaps.
//!
//! Not done, and why: zones. Each entity is active once, so a zone cannot hold a copy of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use odeum_proto::{
    EntityKind, NodeId,
    store::{Command, Placement, ShardMove},
};

use super::planner::{self, Health, Host, Leased};
use crate::store::KindState;

/// Nodes that can have shards of a kind and are there, each with its weight; 0 for one that is
/// to give up what it has.
pub type Weights = BTreeMap<NodeId, u32>;

/// The [`Weights`] of the hosts of `kind`. One that has no lease for the moment counts as ever: it
/// will have one, and its share should not go to others meanwhile.
#[must_use]
pub fn weights(kind: &EntityKind, hosts: &[Host<'_>]) -> Weights {
    weights_by(kind, hosts, |host| host.weight())
}

fn weights_by(kind: &EntityKind, hosts: &[Host<'_>], weight: impl Fn(&Host<'_>) -> u32) -> Weights {
    hosts
        .iter()
        .filter(|host| host.health == Health::Alive && host.can_host(kind))
        .map(|host| (host.record.id.clone(), weight(host)))
        .collect()
}

/// Whether the leader has to find another node for a shard at `place`. One that leaves keeps its
/// shards until it has given them up itself, or is gone.
fn is_lost(
    kind: &EntityKind,
    place: Option<&Placement>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> bool {
    let Some(Placement { node, .. }) = place else { return true };
    let host = hosts.iter().find(|host| host.record.id == *node);
    // A start that brings the kind no more cannot have any of it active.
    host.is_some_and(|host| !host.can_host(kind)) || planner::is_lost(node, hosts, leased)
}

/// The leader's part: places shards that are not placed or are lost, in one command; `None` when
/// there are none, or no node to take them.
#[must_use]
pub fn plan_shards(
    kind: &EntityKind,
    state: &KindState,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> Option<Command> {
    let is_lost = |place| is_lost(kind, place, hosts, leased);
    let lost: Vec<_> = state.iter().filter(|(_, place)| is_lost(*place)).collect();
    if lost.is_empty() {
        return None;
    }
    let weights = weights_by(kind, hosts, |host| host.takes(leased));
    let shares = Shares::new(state, &weights);
    let mut gaps: BinaryHeap<(u32, Reverse<&NodeId>)> = shares
        .0
        .iter()
        .filter(|share| share.owned < share.fair)
        .map(|share| (share.fair - share.owned, Reverse(share.node)))
        .collect();
    let mut moves = Vec::new();
    for (shard, place) in lost {
        let Some((gap, Reverse(node))) = gaps.pop() else { break };
        moves.push(ShardMove {
            shard,
            node: node.clone(),
            expected: place.map(|place| place.epoch),
        });
        if gap > 1 {
            gaps.push((gap - 1, Reverse(node)));
        }
    }
    (!moves.is_empty()).then(|| Command::PlaceShards { kind: kind.clone(), moves })
}

/// A node's own part: which of the shards of `me` should go to whom. Those in `empty`, which have
/// no active entity, come first, then by number.
///
/// Nodes decide each for itself and at different times, and yet fit together: whatever part of
/// their moves is made, in whatever order, the rest of them is what they would decide then.
#[must_use]
pub fn surplus(
    state: &KindState,
    me: &NodeId,
    weights: &Weights,
    empty: &BTreeSet<u16>,
) -> Vec<ShardMove> {
    let settled =
        |place: Option<&Placement>| place.is_some_and(|place| weights.contains_key(&place.node));
    if !state.iter().all(|(_, place)| settled(place)) {
        return Vec::new();
    }
    let shares = Shares::new(state, weights);
    let mut mine: Vec<_> = state.shards_of(me).collect();
    mine.sort_by_key(|(shard, _)| (!empty.contains(shard), *shard));
    let takers = shares.takers_of(me);
    mine.into_iter()
        .zip(takers)
        .map(|((shard, epoch), node)| ShardMove {
            shard,
            node: node.clone(),
            expected: Some(epoch),
        })
        .collect()
}

/// What a node has and should have.
struct Share<'a> {
    node: &'a NodeId,
    owned: u32,
    fair: u32,
}

/// Of every node with a weight, by id.
struct Shares<'a>(Vec<Share<'a>>);

impl<'a> Shares<'a> {
    fn new(state: &KindState, weights: &'a Weights) -> Self {
        let mut owned: BTreeMap<&NodeId, u32> = BTreeMap::new();
        for place in state.iter().filter_map(|(_, place)| place) {
            *owned.entry(&place.node).or_default() += 1;
        }
        let total: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
        let mut shares = Vec::new();
        // What rounding down left of each: the remainder, and its place in `shares`.
        let mut rests = Vec::new();
        for (at, (node, weight)) in weights.iter().enumerate() {
            let owned = owned.get(node).copied().unwrap_or_default();
            let part = u64::from(state.shards()) * u64::from(*weight);
            // Without any weight nobody takes anything, and all keep what they have.
            let fair =
                part.checked_div(total).map_or(owned, |fair| u32::try_from(fair).unwrap_or(owned));
            if let Some(rest) = part.checked_rem(total).filter(|rest| *rest > 0) {
                rests.push((owned <= fair, Reverse(rest), at));
            }
            shares.push(Share { node, owned, fair });
        }
        if total > 0 {
            let given: u32 = shares.iter().map(|share| share.fair).sum();
            let left = u32::from(state.shards()).saturating_sub(given);
            rests.sort_unstable();
            for (_, _, at) in rests.into_iter().take(left as usize) {
                if let Some(share) = shares.get_mut(at) {
                    share.fair += 1;
                }
            }
        }
        Self(shares)
    }

    /// Who gets the surplus of `me`, one entry per shard. All surplus and all gaps are laid side
    /// by side, both by id, and what is side by side belongs together: of that pairing any part
    /// can be made without changing the rest.
    fn takers_of(&self, me: &NodeId) -> impl Iterator<Item = &'a NodeId> {
        let over = |share: &Share<'_>| share.owned.saturating_sub(share.fair) as usize;
        let before = self.0.iter().take_while(|share| share.node < me).map(over).sum();
        let mine = self.0.iter().find(|share| share.node == me).map_or(0, over);
        let gaps = self.0.iter().flat_map(|share| {
            std::iter::repeat_n(share.node, share.fair.saturating_sub(share.owned) as usize)
        });
        gaps.skip(before).take(mine)
    }
}

#[cfg(test)]
mod tests;
