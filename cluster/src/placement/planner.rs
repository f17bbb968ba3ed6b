//! Decides which firmware belongs on which node: a pure function of the table, the nodes and
//! nothing else.
//!
//! What has to go from a node that can still give it away moves with its state ([`crate::migration`]);
//! what is lost with its node begins anew elsewhere.
//!
//! It makes the fewest moves that leave every entity on a node that can run it: what is placed on
//! a node that is not known to be gone stays there, whatever the load elsewhere. A plan is only a
//! proposal; each step names the epoch it saw, and the log refuses a step whose table has changed.
//!
//! Where something goes is decided in this order ([`ranked`] tells it of every node):
//!
//! 1. **Whether it may be there**: the node is one of those that its deployment names, if it names
//!    any, has the labels that it wants, and takes things now ([`Host::takes`]). Where no node is left, it
//!    waits.
//! 2. **Apart**: on nodes with none of the firmware that it is to be [`Apart`] from, if there is one.
//! 3. **Zones**: in the zone that has the fewest replicas of the same firmware. A node without a zone
//!    is a zone of its own.
//! 4. **Nodes**: on the node that has the fewest of them.
//! 5. **Load**: on the one with the fewest entities for its capacity; ties to the smaller id.
//!
//! The first is a must and the second a preference, decided when something is placed: two of which each
//! is to be apart from the other run on a single node all the same, and whichever comes later is the
//! one that goes elsewhere. What is beside another already stays there, as it does with any load.
//! So being apart comes before being spread: three replicas go to one node when others are
//! on all the rest. What moves to spread replicas ([`even_out`]) or load ([`rebalance`]) makes none of
//! these worse: it goes where it may be, not beside what it is apart from now, and not into a
//! zone that has more replicas for it.
//!
//! Not done, and why: moving things apart that came beside each other while there was no room. Each
//! could be the one to go, and what goes for one may come beside another; who wants it has the one
//! `odeum migrate` away.

mod even;
mod rank;
mod rebalance;
mod wish;

use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::{
    EntityId, EntityKind, Epoch, NodeId,
    store::{Command, Move, NodeRecord, Placement},
};

use self::rank::{Crowd, Load};
pub use self::{
    even::even_out,
    rank::{Behind, Choice, ranked},
    rebalance::rebalance,
    wish::{Apart, Unfit, Wish},
};
use crate::store::KindState;

/// Moves of firmware from one node that are under way at the same time. More would not be faster,
/// since they share its link, and each holds up what it moves for a moment.
const MOVES_AT_ONCE: usize = 32;

/// Whether a node can be given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers probes, or is only suspected not to.
    Alive,
    /// It was never seen or not for long enough to say. It keeps what it has and gets nothing.
    Unknown,
    /// It is gone. What it had is placed elsewhere.
    Down,
}

/// A node of the cluster, as a planner sees it.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// What it says of itself.
    pub record: &'a NodeRecord,
    /// Whether it is there.
    pub health: Health,
    /// Whether it is about to leave.
    pub leaving: bool,
    /// Whether it is about to stop.
    pub stopping: bool,
    /// Whether it is to be empty and stay.
    pub draining: bool,
}

/// The nodes that have a lease, removed ones included: nothing is taken from them, because what is
/// placed on them may be active there, whoever can or cannot reach them.
pub type Leased = BTreeSet<NodeId>;

/// Whether what is placed on `node` can be placed elsewhere though that node does nothing for it.
#[must_use]
pub fn is_lost(node: &NodeId, hosts: &[Host<'_>], leased: &Leased) -> bool {
    let host = hosts.iter().find(|host| host.record.id == *node);
    let gone = host.is_none_or(|host| host.health == Health::Down);
    gone && !leased.contains(node)
}

impl Host<'_> {
    /// How much it takes on, in proportion to others; nothing while it is to be emptied or is not
    /// there.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let takes = self.health == Health::Alive && !self.is_to_be_empty();
        if takes { self.record.capacity } else { 0 }
    }

    /// Whether what it has is to go to others.
    #[must_use]
    pub fn is_to_be_empty(&self) -> bool {
        self.leaving || self.stopping || self.draining
    }

    /// How much it can be given now: without a lease it could not make use of it.
    #[must_use]
    pub fn takes(&self, leased: &Leased) -> u32 {
        if leased.contains(&self.record.id) { self.weight() } else { 0 }
    }

    /// Whether entities of `kind` can be active on it.
    #[must_use]
    pub fn can_host(&self, kind: &EntityKind) -> bool {
        self.record.kinds.contains_key(kind)
    }
}

/// How an entity comes from a node that could still give it away to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It moves, with its state.
    Move,
    /// Not now: a move of it has just failed.
    Wait,
    /// It begins anew there: moving it has failed too often.
    Anew,
}

/// Where firmware is, what of it is on its way, and what of it is to be apart.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Where it is.
    pub placements: &'a BTreeMap<EntityId, Placement>,
    /// What is on its way, or came by a move.
    pub moves: &'a BTreeMap<EntityId, Move>,
    /// What is to be apart.
    pub apart: &'a Apart<'a>,
}

impl Table<'_> {
    /// Whether an entity is on its way.
    fn is_moving(&self, entity: &EntityId) -> bool {
        self.moves.get(entity).is_some_and(Move::is_under_way)
    }

    /// Where what is placed there will be when it has moved.
    fn whereabouts<'b>(&'b self, entity: &EntityId, placement: &'b Placement) -> &'b NodeId {
        let made = self.moves.get(entity).filter(|made| made.is_under_way());
        made.map_or(&placement.node, |made| &made.to)
    }

    /// Moves from a node that are under way.
    fn moves_from(&self, node: &NodeId) -> usize {
        self.moves.values().filter(|made| made.is_under_way() && made.from == *node).count()
    }

    /// What a node has, and what is on its way there.
    fn load(&self, node: &NodeId) -> u64 {
        let here = self.placements.values().filter(|place| place.node == *node).count();
        let coming = self.moves.values().filter(|made| made.is_under_way() && made.to == *node);
        (here + coming.count()) as u64
    }
}

/// Firmware to place anew or to move, in the order of the entities' names.
///
/// * An entity that is not placed goes to a node in the order of this [module](self).
/// * An entity on a node that is [`Health::Down`], or is not in `hosts`, is moved by the same rule
///   when the node has no lease any more.
/// * One on a node that leaves, stops or is drained, or where it may not be, goes from there as soon
///   as there is one that can take it, so many at a time, in the way that `way` says of it. Begun anew
///   it has what it kept in the store, and its new epoch ends the old activation wherever that is at
///   work.
/// * Without a node of any weight that can run it nothing is planned.
#[must_use]
pub fn plan(
    wishes: &[Wish<'_>],
    table: Table<'_>,
    hosts: &[Host<'_>],
    leased: &Leased,
    way: impl Fn(&EntityId) -> Way,
) -> Vec<Command> {
    let stays = |wish: &Wish<'_>, placement: &Placement| {
        let host = hosts.iter().find(|host| host.record.id == placement.node);
        // One that cannot be seen may not see that it is to leave.
        let sees =
            |host: &Host<'_>| host.health == Health::Alive || !leased.contains(&placement.node);
        let is_wrong = |host: &Host<'_>| host.is_to_be_empty() || !wish.fits(host.record);
        let leaves = host.is_some_and(|host| is_wrong(host) && sees(host));
        !leaves && !is_lost(&placement.node, hosts, leased)
    };
    let is_to_place =
        |wish: &&Wish<'_>| table.placements.get(&wish.entity).is_none_or(|it| !stays(wish, it));
    let to_place: Vec<&Wish<'_>> = wishes.iter().filter(is_to_place).collect();
    if to_place.is_empty() {
        return Vec::new();
    }
    let mut crowd = Crowd::of(table, hosts);
    for wish in to_place.iter().filter(|wish| !table.is_moving(&wish.entity)) {
        if let Some(placed) = table.placements.get(&wish.entity) {
            crowd.leaves_zone(&wish.entity, &placed.node);
        }
    }
    let mut loads: Vec<Load<'_>> = hosts
        .iter()
        .filter(|host| host.takes(leased) > 0)
        .map(|host| Load::of(host, table, leased))
        .collect();

    let mut under_way: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for wish in to_place {
        let placed = table.placements.get(&wish.entity);
        let is_moving = table.is_moving(&wish.entity);
        // One that is lost with its node can be given away by nobody.
        let giver = placed.filter(|placed| !is_lost(&placed.node, hosts, leased));
        let way = giver.map_or(Way::Anew, |_| way(&wish.entity));
        if let Some(giver) = giver.filter(|_| way != Way::Anew) {
            let moves = under_way.entry(&giver.node).or_insert_with_key(|it| table.moves_from(it));
            if way == Way::Wait || is_moving || *moves >= MOVES_AT_ONCE {
                continue;
            }
            *moves += 1;
        }
        if let Some(placed) = placed.filter(|_| is_moving) {
            crowd.change(&wish.entity, table.whereabouts(&wish.entity, placed), -1);
        }
        let view = crowd.view(&wish.entity, table.apart);
        let can = loads.iter_mut().filter(|load| wish.fits(load.record));
        let ranks = can.map(|load| (view.rank(*load), load));
        let Some((_, load)) = ranks.min_by_key(|(rank, _)| *rank) else { continue };
        load.count += 1;
        let (entity, node) = (wish.entity.clone(), load.record.id.clone());
        crowd.change(&entity, &node, 1);
        if let Some(placed) = placed.filter(|_| !is_moving) {
            crowd.leaves_node(&entity, &placed.node);
        }
        let expected: Option<Epoch> = placed.map(|p| p.epoch);
        steps.push(match expected.filter(|_| way == Way::Move) {
            Some(expected) => Command::BeginMove { entity, to: node, expected },
            None => Command::Place { entity, node, expected },
        });
    }
    steps
}

/// Nodes that are to leave and hold nothing any more that others can take, to be removed one after
/// the other. None while nobody would stay.
#[must_use]
pub fn departures(
    wishes: &[Wish<'_>],
    table: &BTreeMap<EntityId, Placement>,
    kinds: &BTreeMap<EntityKind, KindState>,
    hosts: &[Host<'_>],
) -> Vec<NodeId> {
    if hosts.iter().all(|host| host.leaving) {
        return Vec::new();
    }
    let takers = || hosts.iter().filter(|host| host.weight() > 0);
    let holds = |node: &NodeId| {
        let is_here =
            |wish: &&Wish<'_>| table.get(&wish.entity).is_some_and(|place| place.node == *node);
        let mut firmware = wishes.iter().filter(is_here);
        let mut shards = kinds.iter().filter(|(_, row)| row.shards_of(node).next().is_some());
        firmware.any(|wish| takers().any(|taker| wish.fits(taker.record)))
            || shards.any(|(kind, _)| takers().any(|taker| taker.can_host(kind)))
    };
    let leaving = hosts.iter().filter(|host| host.leaving).map(|host| &host.record.id);
    leaving.filter(|node| !holds(node)).cloned().collect()
}

#[cfg(test)]
mod tests;
