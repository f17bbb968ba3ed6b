//! Decides which firmware belongs on which node: a pure function of the table, the nodes and
//! nothing else.
//!
//! What has to go from a node that can still give it away moves with its state ([`crate::migration`]);
//! what is lost with its node begins anew elsewhere.
//!
//! It makes the fewest moves that leave every entity on a node that can run it: what is placed on
//! a node that is not known to be gone stays there, whatever the load elsewhere. A plan is only a
//! proposal; each step names the epoch it saw, and the log refuses a step whose table has changed.

mod rebalance;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::{
    EntityId, EntityKind, Epoch, Label, Name, NodeId,
    store::{Command, Move, NodeRecord, Placement},
};

pub use self::rebalance::rebalance;
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

/// A replica of a deployed firmware that wants a node.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// It.
    pub entity: EntityId,
    /// Labels that the node must have, with these values.
    pub labels: &'a BTreeMap<Label, Label>,
}

impl Wish<'_> {
    /// Whether a node of that record can run it.
    #[must_use]
    pub fn fits(&self, record: &NodeRecord) -> bool {
        self.labels.iter().all(|(label, value)| record.labels.get(label) == Some(value))
    }
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

/// Where firmware is, and what of it is on its way.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Where it is.
    pub placements: &'a BTreeMap<EntityId, Placement>,
    /// What is on its way, or came by a move.
    pub moves: &'a BTreeMap<EntityId, Move>,
}

impl Table<'_> {
    /// Whether an entity is on its way.
    fn is_moving(&self, entity: &EntityId) -> bool {
        self.moves.get(entity).is_some_and(Move::is_under_way)
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
/// * An entity that is not placed goes to the node with the fewest replicas of the same firmware,
///   of those to the one with the fewest entities for its weight, ties to the smaller id.
/// * An entity on a node that is [`Health::Down`], or is not in `hosts`, is moved by the same rule
///   when the node has no lease any more.
/// * One on a node that leaves, stops or is drained, or that has not the labels that it wants, goes
///   from there as soon as there is one that can take it, so many at a time, in the way that `way`
///   says of it. Begun anew it has what it kept in the store, and its new epoch ends the old
///   activation wherever that is at work.
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
    let mut siblings = siblings(table);
    let mut loads: Vec<Load<'_>> = hosts
        .iter()
        .filter(|host| host.takes(leased) > 0)
        .map(|host| Load::of(host, table, leased))
        .collect();

    let mut under_way: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for wish in to_place {
        let placed = table.placements.get(&wish.entity);
        // One that is lost with its node can be given away by nobody.
        let giver = placed.filter(|placed| !is_lost(&placed.node, hosts, leased));
        let way = giver.map_or(Way::Anew, |_| way(&wish.entity));
        if let Some(giver) = giver.filter(|_| way != Way::Anew) {
            let moves = under_way.entry(&giver.node).or_insert_with_key(|it| table.moves_from(it));
            if way == Way::Wait || table.is_moving(&wish.entity) || *moves >= MOVES_AT_ONCE {
                continue;
            }
            *moves += 1;
        }
        let firmware = wish.entity.replica().map(|replica| replica.firmware().clone());
        let of_same = |load: &Load<'_>| {
            let on = firmware.clone().map(|name| (name, load.record.id.clone()));
            on.and_then(|on| siblings.get(&on).copied()).unwrap_or_default()
        };
        let can = loads.iter_mut().filter(|load| wish.fits(load.record));
        let least = can.min_by(|a, b| of_same(a).cmp(&of_same(b)).then_with(|| a.compare(b)));
        let Some(load) = least else { continue };
        load.count += 1;
        if let Some(name) = firmware {
            *siblings.entry((name, load.record.id.clone())).or_default() += 1;
        }
        let (entity, node) = (wish.entity.clone(), load.record.id.clone());
        let expected: Option<Epoch> = placed.map(|p| p.epoch);
        steps.push(match expected.filter(|_| way == Way::Move) {
            Some(expected) => Command::BeginMove { entity, to: node, expected },
            None => Command::Place { entity, node, expected },
        });
    }
    steps
}

/// The move that makes the replicas of one firmware more evenly spread, all of which are in `wishes`:
/// from the node that has most of them to one that has at least two fewer, because with one fewer
/// nothing would be gained. Nothing while one of them moves or is not where it can stay.
#[must_use]
pub fn even_out(
    wishes: &[Wish<'_>],
    table: Table<'_>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> Option<Command> {
    let takers: Vec<&Host<'_>> = hosts.iter().filter(|host| host.takes(leased) > 0).collect();
    let mut on: BTreeMap<&NodeId, Vec<(&Wish<'_>, Epoch)>> =
        takers.iter().map(|host| (&host.record.id, Vec::new())).collect();
    for wish in wishes {
        let placed =
            table.placements.get(&wish.entity).filter(|_| !table.is_moving(&wish.entity))?;
        on.get_mut(&placed.node)?.push((wish, placed.epoch));
    }
    let most = on.values().map(Vec::len).max()?;
    // The last of them: the first one is the one that most callers know.
    let crowded = on.values().filter(|here| here.len() == most).flat_map(|here| here.iter().rev());
    for (wish, epoch) in crowded {
        let has_room = |host: &&&Host<'_>| {
            on.get(&host.record.id).is_some_and(|here| here.len() + 2 <= most)
                && wish.fits(host.record)
        };
        let least = takers.iter().filter(has_room).min_by(|a, b| {
            let of_same = |host: &Host<'_>| on.get(&host.record.id).map_or(0, Vec::len);
            of_same(a)
                .cmp(&of_same(b))
                .then_with(|| Load::of(a, table, leased).compare(&Load::of(b, table, leased)))
        });
        if let Some(host) = least {
            let (entity, node) = (wish.entity.clone(), host.record.id.clone());
            return Some(Command::BeginMove { entity, to: node, expected: *epoch });
        }
    }
    None
}

/// How many replicas of each firmware are on each node.
fn siblings(table: Table<'_>) -> BTreeMap<(Name, NodeId), u64> {
    let mut siblings = BTreeMap::new();
    for (entity, placement) in table.placements {
        if let Some(replica) = entity.replica() {
            // Where it will be.
            let made = table.moves.get(entity).filter(|made| made.is_under_way());
            let node = made.map_or(&placement.node, |made| &made.to).clone();
            let on = (replica.firmware().clone(), node);
            *siblings.entry(on).or_default() += 1;
        }
    }
    siblings
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

/// How busy a node is.
struct Load<'a> {
    record: &'a NodeRecord,
    count: u64,
    weight: u32,
}

impl<'a> Load<'a> {
    fn of(host: &Host<'a>, table: Table<'_>, leased: &Leased) -> Self {
        let count = table.load(&host.record.id);
        Self { record: host.record, count, weight: host.takes(leased) }
    }

    /// Which of two would be less busy with one entity more.
    fn compare(&self, other: &Self) -> Ordering {
        let cross = |a: &Self, b: &Self| (a.count + 1).saturating_mul(b.weight.into());
        cross(self, other)
            .cmp(&cross(other, self))
            .then_with(|| self.record.id.cmp(&other.record.id))
    }
}

#[cfg(test)]
mod tests;
