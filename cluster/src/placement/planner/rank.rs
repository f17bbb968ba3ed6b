//! Which of two nodes is the better one for a replica: the order in which a plan thinks of them, and in
//! which people are told of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::{EntityId, Name, NodeId, store::NodeRecord};

use super::{Apart, Host, Leased, Table, Unfit, Wish};
use crate::blobs::holders::Fate;

/// How well a node suits a replica: the least suits best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a> {
    /// Whether something is there that it is to be apart from.
    pub(super) beside: bool,
    /// How many replicas of the same firmware are in the zone.
    pub(super) in_zone: u64,
    /// How many of them are on the node.
    pub(super) on_node: u64,
    /// How busy it is.
    pub(super) load: Load<'a>,
}

/// How busy a node is. Of two the less is the one that would be less busy with one entity more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load<'a> {
    pub(super) record: &'a NodeRecord,
    pub(super) count: u64,
    pub(super) weight: u32,
}

impl<'a> Load<'a> {
    pub(super) fn of(host: &Host<'a>, table: Table<'_>, leased: &Leased) -> Self {
        let count = table.load(&host.record.id);
        Self { record: host.record, count, weight: host.takes(leased) }
    }

    /// Which of two would be less busy, whatever they are called.
    fn busy(&self, other: &Self) -> Ordering {
        let cross = |a: &Self, b: &Self| (a.count + 1).saturating_mul(b.weight.into());
        cross(self, other).cmp(&cross(other, self))
    }
}

impl Ord for Load<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.busy(other).then_with(|| self.record.id.cmp(&other.record.id))
    }
}

impl PartialOrd for Load<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load<'_> {}

/// How many replicas of each firmware are where, or will be when they have moved.
pub(super) struct Crowd<'a> {
    /// Of the nodes that are known.
    fates: BTreeMap<&'a NodeId, Fate<'a>>,
    of: BTreeMap<Name, Spread<'a>>,
}

/// Of one firmware.
#[derive(Default)]
struct Spread<'a> {
    on_node: BTreeMap<NodeId, u64>,
    in_zone: BTreeMap<Fate<'a>, u64>,
}

impl<'a> Crowd<'a> {
    /// All that is placed.
    pub(super) fn of(table: Table<'_>, hosts: &[Host<'a>]) -> Self {
        let mut crowd = Self::nobody(hosts);
        crowd.count(table, |_| true);
        crowd
    }

    /// What is placed of the firmware that an entity is to be apart from.
    pub(super) fn of_others(entity: &EntityId, table: Table<'_>, hosts: &[Host<'a>]) -> Self {
        let mut crowd = Self::nobody(hosts);
        let Some(replica) = entity.replica() else { return crowd };
        let others: BTreeSet<&Name> = table.apart.from(replica.firmware()).collect();
        // The whole table is looked through for it, so not when there is nothing.
        if !others.is_empty() {
            crowd.count(table, |it| it.replica().is_some_and(|it| others.contains(it.firmware())));
        }
        crowd
    }

    fn nobody(hosts: &[Host<'a>]) -> Self {
        let fates = hosts.iter().map(|host| (&host.record.id, Fate::of(host.record)));
        Self { fates: fates.collect(), of: BTreeMap::new() }
    }

    fn count(&mut self, table: Table<'_>, is_meant: impl Fn(&EntityId) -> bool) {
        for (entity, placement) in table.placements.iter().filter(|(entity, _)| is_meant(entity)) {
            self.change(entity, table.whereabouts(entity, placement), 1);
        }
    }

    /// A replica comes to a node, or goes from there.
    pub(super) fn change(&mut self, entity: &EntityId, node: &NodeId, by: i64) {
        let Some(replica) = entity.replica() else { return };
        let spread = self.of.entry(replica.firmware().clone()).or_default();
        let on_node = spread.on_node.entry(node.clone()).or_default();
        *on_node = on_node.saturating_add_signed(by);
        if let Some(fate) = self.fates.get(node) {
            let in_zone = spread.in_zone.entry(*fate).or_default();
            *in_zone = in_zone.saturating_add_signed(by);
        }
    }

    /// A replica is to go from a node, nobody knows yet whether it can: its zone does not count it any
    /// more. The node does while it is there.
    pub(super) fn leaves_zone(&mut self, entity: &EntityId, node: &NodeId) {
        let Some(replica) = entity.replica() else { return };
        let (spread, fate) = (self.of.get_mut(replica.firmware()), self.fates.get(node));
        let in_zone = spread.zip(fate).and_then(|(spread, fate)| spread.in_zone.get_mut(fate));
        if let Some(in_zone) = in_zone {
            *in_zone = in_zone.saturating_sub(1);
        }
    }

    /// It is known where it goes from that node.
    pub(super) fn leaves_node(&mut self, entity: &EntityId, node: &NodeId) {
        let Some(replica) = entity.replica() else { return };
        let spread = self.of.get_mut(replica.firmware());
        if let Some(on_node) = spread.and_then(|spread| spread.on_node.get_mut(node)) {
            *on_node = on_node.saturating_sub(1);
        }
    }

    /// The nodes as they look to an entity.
    pub(super) fn view<'b>(&'b self, entity: &EntityId, apart: &'b Apart<'_>) -> View<'b, 'a> {
        let replica = entity.replica();
        let firmware = replica.as_ref().map(odeum_proto::ReplicaId::firmware);
        let own = firmware.and_then(|name| self.of.get(name));
        let others = firmware.into_iter().flat_map(|name| apart.from(name));
        let others = others.filter_map(|name| self.of.get_key_value(name)).collect();
        View { own, others }
    }
}

/// How many there are of what matters to one entity.
pub(super) struct View<'b, 'a> {
    /// Of its own firmware.
    own: Option<&'b Spread<'a>>,
    /// Of those that it is to be apart from.
    others: Vec<(&'b Name, &'b Spread<'a>)>,
}

impl View<'_, '_> {
    pub(super) fn on_node(&self, node: &NodeId) -> u64 {
        self.own.and_then(|own| own.on_node.get(node)).copied().unwrap_or_default()
    }

    fn in_zone(&self, fate: Fate<'_>) -> u64 {
        self.own.and_then(|own| own.in_zone.get(&fate)).copied().unwrap_or_default()
    }

    /// What is on a node that it is to be apart from.
    pub(super) fn beside(&self, node: &NodeId) -> impl Iterator<Item = &Name> {
        let is_there = |spread: &Spread<'_>| spread.on_node.get(node).is_some_and(|n| *n > 0);
        self.others.iter().filter(move |(_, spread)| is_there(spread)).map(|(name, _)| *name)
    }

    pub(super) fn rank<'r>(&self, load: Load<'r>) -> Rank<'r> {
        Rank {
            beside: self.beside(&load.record.id).next().is_some(),
            in_zone: self.in_zone(Fate::of(load.record)),
            on_node: self.on_node(&load.record.id),
            load,
        }
    }

    /// By how much the replicas of its firmware come closer together when it goes from one node to
    /// another: in zones, and on nodes. Below zero they are spread more evenly, at zero as evenly as
    /// before.
    pub(super) fn closer(&self, from: &NodeRecord, to: &NodeRecord) -> (i64, i64) {
        let by = |from: u64, to: u64| (to + 1).cast_signed() - from.cast_signed();
        let (from_fate, to_fate) = (Fate::of(from), Fate::of(to));
        let zones = match from_fate == to_fate {
            true => 0,
            false => by(self.in_zone(from_fate), self.in_zone(to_fate)),
        };
        (zones, by(self.on_node(&from.id), self.on_node(&to.id)))
    }

    /// Whether it would come beside something there that it is to be apart from, and is not now.
    pub(super) fn comes_beside(&self, from: &NodeId, to: &NodeId) -> bool {
        self.beside(to).next().is_some() && self.beside(from).next().is_none()
    }
}

/// A node, as a place for an entity.
#[derive(Debug, Clone)]
pub struct Choice<'a> {
    /// The node.
    pub host: Host<'a>,
    /// Why it may not be there.
    pub unfit: Option<Unfit>,
    /// What is there that it is to be apart from, by name.
    pub beside: Vec<Name>,
    /// How many other replicas of the same firmware are in the zone.
    pub in_zone: u64,
    /// How many of them are on the node.
    pub on_node: u64,
    takes: bool,
    load: Load<'a>,
}

/// What puts a node behind another one, of several things the one that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Something is there that the entity is to be apart from.
    Beside,
    /// There are more replicas in its zone.
    Zone,
    /// There are more replicas on it.
    Replicas,
    /// It is busier for its capacity.
    Busy,
    /// Nothing but its id.
    Id,
}

impl<'a> Choice<'a> {
    /// Whether the entity could be placed there now.
    #[must_use]
    pub fn can(&self) -> bool {
        self.takes && self.unfit.is_none()
    }

    /// What puts it behind `first`; `None` when nothing does.
    #[must_use]
    pub fn behind(&self, first: &Self) -> Option<Behind> {
        let (a, b) = (self.rank(), first.rank());
        let behind = [
            (a.beside && !b.beside, Behind::Beside),
            (a.in_zone > b.in_zone, Behind::Zone),
            (a.on_node > b.on_node, Behind::Replicas),
            (a.load.busy(&b.load).is_gt(), Behind::Busy),
            (true, Behind::Id),
        ];
        (a > b).then_some(())?;
        behind.into_iter().find_map(|(is_so, behind)| is_so.then_some(behind))
    }

    fn rank(&self) -> Rank<'a> {
        let (in_zone, on_node, load) = (self.in_zone, self.on_node, self.load);
        Rank { beside: !self.beside.is_empty(), in_zone, on_node, load }
    }
}

/// All nodes in the order in which [`plan`](super::plan) would think of them if the entity were placed
/// anew, those that cannot have it last.
#[must_use]
pub fn ranked<'a>(
    wish: &Wish<'_>,
    table: Table<'_>,
    hosts: &[Host<'a>],
    leased: &Leased,
) -> Vec<Choice<'a>> {
    let mut crowd = Crowd::of(table, hosts);
    let placed = table.placements.get(&wish.entity);
    let here = placed.map(|placed| table.whereabouts(&wish.entity, placed));
    if let Some(here) = here {
        crowd.change(&wish.entity, here, -1);
    }
    let view = crowd.view(&wish.entity, table.apart);
    let choice = |host: &Host<'a>| {
        let mut load = Load::of(host, table, leased);
        let id = &load.record.id;
        // Where it is and where it is on its way to it counts itself.
        let is_own = |node: &NodeId| node == id;
        let own =
            [placed.map(|placed| &placed.node), here.filter(|_| table.is_moving(&wish.entity))];
        let own = own.into_iter().flatten().filter(|node| is_own(node)).count();
        load.count = load.count.saturating_sub(own as u64);
        let Rank { in_zone, on_node, .. } = view.rank(load);
        Choice {
            host: *host,
            unfit: wish.unfit(host.record),
            beside: view.beside(id).cloned().collect(),
            in_zone,
            on_node,
            takes: load.weight > 0,
            load,
        }
    };
    let mut choices: Vec<Choice<'a>> = hosts.iter().map(choice).collect();
    choices.sort_by(|a, b| (!a.can(), a.rank()).cmp(&(!b.can(), b.rank())));
    choices
}
