//! Decides which firmware belongs on which node: a pure function of the table, the nodes and
//! nothing else.
//!
//! What has to go from a node that can still give it away moves with its state ([`crate::migration`]);
//! what is lost with its node begins anew elsewhere.
//!
//! It makes the fewest moves that leave every entity on a node that can run it: what is placed on
//! a node that is not known to be gone stays there, whatever the load elsewhere. A plan is only a
//! proposal; each step names the epoch it saw, and the log refuses a step whose table has changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::{
    EntityId, EntityKind, Epoch, Label, NodeId,
    store::{Command, Move, NodeRecord, Placement},
};

use crate::store::KindState;

/// Moves of firmware from one node that are under way at the same time. More would not be faster,
/// since they share its link, and each holds up what it moves for a moment.
const MOVES_AT_ONCE: usize = 16;

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

/// A deployed firmware that wants a node.
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
/// * An entity that is not placed goes to the node with the fewest entities for its weight, ties
///   to the smaller id.
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
    let mut loads: Vec<Load<'_>> = hosts
        .iter()
        .filter(|host| host.takes(leased) > 0)
        .map(|host| Load {
            record: host.record,
            count: table.load(&host.record.id),
            weight: host.takes(leased),
        })
        .collect();

    let mut under_way: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for wish in wishes {
        let placed = table.placements.get(&wish.entity);
        if placed.is_some_and(|placed| stays(wish, placed)) {
            continue;
        }
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
        let can = loads.iter_mut().filter(|load| wish.fits(load.record));
        let Some(load) = can.min_by(|a, b| a.compare(b)) else { continue };
        load.count += 1;
        let (entity, node) = (wish.entity.clone(), load.record.id.clone());
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

/// How busy a node is.
struct Load<'a> {
    record: &'a NodeRecord,
    count: u64,
    weight: u32,
}

impl Load<'_> {
    /// Which of two would be less busy with one entity more.
    fn compare(&self, other: &Self) -> Ordering {
        let cross = |a: &Self, b: &Self| (a.count + 1).saturating_mul(b.weight.into());
        cross(self, other)
            .cmp(&cross(other, self))
            .then_with(|| self.record.id.cmp(&other.record.id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use odeum_proto::Revision;

    use super::*;
    use crate::placement::fixtures::{leases, node, record};

    fn host(record: &NodeRecord, health: Health) -> Host<'_> {
        Host { record, health, leaving: false, stopping: false, draining: false }
    }

    fn plan(
        wishes: &[Wish<'_>],
        placements: &BTreeMap<EntityId, Placement>,
        hosts: &[Host<'_>],
        leased: &Leased,
    ) -> Vec<Command> {
        let table = Table { placements, moves: &BTreeMap::new() };
        super::plan(wishes, table, hosts, leased, |_| Way::Move)
    }

    fn entity(n: u8) -> EntityId {
        format!("firmware/e{n}").parse().expect("valid")
    }

    static ANYWHERE: BTreeMap<Label, Label> = BTreeMap::new();

    fn wishes(numbers: impl IntoIterator<Item = u8>) -> Vec<Wish<'static>> {
        let wish = |n| Wish { entity: entity(n), labels: &ANYWHERE };
        numbers.into_iter().map(wish).collect()
    }

    fn on(n: u8, epoch: u64) -> Placement {
        Placement { node: node(n), epoch: Epoch(epoch) }
    }

    fn targets(steps: &[Command]) -> Vec<(EntityId, NodeId)> {
        steps
            .iter()
            .map(|step| match step {
                Command::Place { entity, node, .. } => (entity.clone(), node.clone()),
                Command::BeginMove { entity, to, .. } => (entity.clone(), to.clone()),
                other => panic!("a plan only places: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn new_entities_are_spread_by_capacity() {
        let records = [record(1, 300), record(2, 100), record(3, 0)];
        let hosts = records.each_ref().map(|record| host(record, Health::Alive));
        let steps = plan(&wishes(0..8), &BTreeMap::new(), &hosts, &leases(&hosts));
        let on = |n| targets(&steps).iter().filter(|(_, to)| *to == node(n)).count();
        assert_eq!((on(1), on(2), on(3)), (6, 2, 0));
    }

    #[test]
    fn a_down_node_loses_its_entities_and_an_unknown_one_keeps_them() {
        let records = [record(1, 100), record(2, 100), record(3, 100)];
        let hosts = [
            host(&records[0], Health::Down),
            host(&records[1], Health::Unknown),
            host(&records[2], Health::Alive),
        ];
        let table = BTreeMap::from([(entity(1), on(1, 4)), (entity(2), on(2, 9))]);
        let steps = plan(&wishes([1, 2]), &table, &hosts, &leases(&hosts));
        let expected =
            Command::Place { entity: entity(1), node: node(3), expected: Some(Epoch(4)) };
        assert_eq!(steps, [expected]);
    }

    #[test]
    fn nothing_is_taken_from_a_node_before_its_lease_is_over_though_it_is_down_or_removed() {
        let records = [record(1, 100), record(2, 100)];
        let hosts = [host(&records[0], Health::Down), host(&records[1], Health::Alive)];
        // The third is on record no more.
        let table = BTreeMap::from([(entity(1), on(1, 4)), (entity(3), on(3, 5))]);
        let mut leased = Leased::from([node(1), node(2), node(3)]);
        let planned = |leased: &Leased| targets(&plan(&wishes([1, 3]), &table, &hosts, leased));
        assert_eq!(planned(&leased), []);
        leased.remove(&node(3));
        assert_eq!(planned(&leased), [(entity(3), node(2))]);
        leased.remove(&node(1));
        assert_eq!(planned(&leased), [(entity(1), node(2)), (entity(3), node(2))]);
        leased.remove(&node(2));
        assert_eq!(planned(&leased), [], "nobody can take them");
    }

    #[test]
    fn a_leaving_node_gives_its_entities_to_those_that_stay() {
        let records = [record(1, 100), record(2, 100)];
        let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
        hosts[0].leaving = true;
        let table = BTreeMap::from([(entity(1), on(1, 4))]);
        let steps = plan(&wishes([1, 2]), &table, &hosts, &leases(&hosts));
        assert_eq!(targets(&steps), [(entity(1), node(2)), (entity(2), node(2))]);
        hosts[1].leaving = true;
        let steps = plan(&wishes([1]), &table, &hosts, &leases(&hosts));
        assert!(steps.is_empty(), "nobody stays");
    }

    #[test]
    fn what_its_node_can_give_away_moves_and_what_is_lost_begins_anew() {
        let records = [record(1, 100), record(2, 100), record(3, 100)];
        let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
        hosts[2].health = Health::Down;
        let table = BTreeMap::from([(entity(1), on(1, 4)), (entity(3), on(3, 6))]);
        let leased = Leased::from([node(1), node(2)]);
        let moves = Command::BeginMove { entity: entity(1), to: node(2), expected: Epoch(4) };
        let anew = Command::Place { entity: entity(3), node: node(2), expected: Some(Epoch(6)) };
        let empty: [fn(&mut Host<'_>); 3] =
            [|it| it.leaving = true, |it| it.stopping = true, |it| it.draining = true];
        for empty in empty {
            let mut hosts = hosts;
            empty(&mut hosts[0]);
            let steps = plan(&wishes([1, 3]), &table, &hosts, &leased);
            assert_eq!(steps, [moves.clone(), anew.clone()]);
        }
    }

    #[test]
    fn what_is_on_its_way_or_could_not_move_waits_and_some_day_begins_anew() {
        let records = [record(1, 100), record(2, 100)];
        let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
        hosts[0].draining = true;
        let placements = BTreeMap::from([(entity(1), on(1, 4)), (entity(2), on(1, 5))]);
        let (from, to, epoch, began) = (node(1), node(2), Epoch(4), Revision(9));
        let made = Move { from, to, epoch, began, switched: None };
        let moves = BTreeMap::from([(entity(1), made)]);
        let table = Table { placements: &placements, moves: &moves };
        let steps = |way| super::plan(&wishes([1, 2]), table, &hosts, &leases(&hosts), |_| way);
        let second = Command::BeginMove { entity: entity(2), to: node(2), expected: Epoch(5) };
        assert_eq!(steps(Way::Move), [second]);
        assert_eq!(steps(Way::Wait), []);
        assert_eq!(targets(&steps(Way::Anew)), [(entity(1), node(2)), (entity(2), node(2))]);
    }

    #[test]
    fn a_node_gives_so_many_away_at_a_time() {
        let records = [record(1, 100), record(2, 100)];
        let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
        hosts[0].draining = true;
        let table: BTreeMap<_, _> = (0..40).map(|n| (entity(n), on(1, u64::from(n) + 1))).collect();
        let steps = plan(&wishes(0..40), &table, &hosts, &leases(&hosts));
        assert_eq!(steps.len(), MOVES_AT_ONCE);
    }

    #[test]
    fn a_leaving_node_goes_when_it_holds_nothing_and_others_stay() {
        let lamp: EntityKind = "lamp".parse().expect("valid");
        let mut records = [record(1, 100), record(2, 100), record(3, 100)];
        records[2].kinds.insert(lamp.clone(), 2);
        let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
        let mut table = BTreeMap::from([(entity(1), on(1, 4))]);
        let mut kinds = BTreeMap::from([(lamp, KindState::new(2))]);
        assert!(departures(&wishes([1]), &table, &kinds, &hosts).is_empty());
        for host in &mut hosts[..2] {
            host.leaving = true;
        }
        assert_eq!(departures(&wishes([1]), &table, &kinds, &hosts), [node(2)]);
        kinds.values_mut().for_each(|kind| kind.put(0, on(2, 5)));
        assert!(departures(&wishes([1]), &table, &kinds, &hosts).is_empty());
        let no_lamps = record(3, 100);
        let others = [hosts[0], hosts[1], host(&no_lamps, Health::Alive)];
        assert_eq!(
            departures(&wishes([1]), &table, &kinds, &others),
            [node(2)],
            "nobody can take its shard"
        );
        table.clear();
        hosts[2].leaving = true;
        assert!(departures(&wishes([1]), &table, &kinds, &hosts).is_empty(), "nobody would stay");
    }

    #[test]
    fn a_firmware_goes_where_its_labels_are_and_waits_where_there_are_none() {
        let label = |text: &str| text.parse::<Label>().expect("valid");
        let mut records = [record(1, 100), record(2, 100)];
        records[1].labels.insert(label("disk"), label("ssd"));
        let ssd = BTreeMap::from([(label("disk"), label("ssd"))]);
        let tape = BTreeMap::from([(label("disk"), label("tape"))]);
        let wishes = [
            Wish { entity: entity(1), labels: &ssd },
            Wish { entity: entity(2), labels: &tape },
            Wish { entity: entity(3), labels: &ANYWHERE },
        ];
        let table = BTreeMap::from([(entity(1), on(1, 4))]);
        let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
        let steps = plan(&wishes, &table, &hosts, &leases(&hosts));
        assert_eq!(targets(&steps), [(entity(1), node(2)), (entity(3), node(1))]);
        // Nobody can take it, so it goes with its node and does not keep it.
        let table = BTreeMap::from([(entity(1), on(2, 4))]);
        hosts[1].leaving = true;
        assert!(plan(&wishes[..1], &table, &hosts, &leases(&hosts)).is_empty());
        assert_eq!(departures(&wishes, &table, &BTreeMap::new(), &hosts), [node(2)]);
    }

    #[test]
    fn nothing_is_planned_while_nobody_is_alive() {
        let table = BTreeMap::from([(entity(1), on(1, 1))]);
        let (gone, leased) = (record(1, 100), Leased::new());
        assert!(plan(&wishes([1]), &table, &[host(&gone, Health::Down)], &leased).is_empty());
    }

    proptest! {
        #[test]
        fn only_the_unplaced_and_the_lost_move_and_only_to_the_alive_with_a_lease(
            placed in proptest::collection::btree_map(0_u8..12, (1_u8..6, 1_u64..9), 0..12),
            health in proptest::collection::vec((0_u8..3, any::<bool>(), any::<bool>()), 5),
        ) {
            let health_of = |n: u8| match health[usize::from(n - 1)].0 {
                0 => Health::Alive,
                1 => Health::Unknown,
                _ => Health::Down,
            };
            let leaves = |n: u8| health[usize::from(n - 1)].1;
            let records: Vec<NodeRecord> = (1..6).map(|n| record(n, 100)).collect();
            let hosts: Vec<_> = (1..).zip(&records).map(|(n, record)| {
                let (health, leaving) = (health_of(n), leaves(n));
                Host { record, health, leaving, stopping: false, draining: false }
            }).collect();
            let table: BTreeMap<_, _> =
                placed.iter().map(|(e, (n, epoch))| (entity(*e), on(*n, *epoch))).collect();
            let has_lease = |n: u8| health[usize::from(n - 1)].2;
            let leased: Leased = (1..6).filter(|n| has_lease(*n)).map(node).collect();
            let steps = plan(&wishes(0..12), &table, &hosts, &leased);
            let number = |node: &NodeId| node.as_str()[1..].parse::<u8>().expect("a number");
            for (moved, to) in targets(&steps) {
                let to = number(&to);
                prop_assert!(health_of(to) == Health::Alive && !leaves(to) && has_lease(to));
                if let Some(at) = table.get(&moved) {
                    let from = number(&at.node);
                    let knows = health_of(from) == Health::Alive && leaves(from);
                    let may_not = !has_lease(from) && (health_of(from) == Health::Down || leaves(from));
                    prop_assert!(knows || may_not, "it may be at work there");
                }
            }
        }
    }
}
