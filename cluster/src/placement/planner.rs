//! Decides which firmware belongs on which node: a pure function of the table, the nodes and
//! nothing else.
//!
//! It makes the fewest moves that leave every entity on a node that can run it: what is placed on
//! a node that is not known to be gone stays there, whatever the load elsewhere. A plan is only a
//! proposal; each step names the epoch it saw, and the log refuses a step whose table has changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::{
    EntityId, EntityKind, Epoch, Label, Name, NodeId,
    store::{Command, NodeRecord, Placement},
};

use crate::store::KindState;

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
    /// How much it takes on, in proportion to others; nothing while it leaves, stops or is not
    /// there.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let takes = self.health == Health::Alive && !self.leaving && !self.stopping;
        if takes { self.record.capacity } else { 0 }
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

/// Firmware to place anew, in the order of the entities' names.
///
/// * An entity that is not placed goes to the node with the fewest replicas of the same firmware,
///   of those to the one with the fewest entities for its weight, ties to the smaller id.
/// * An entity on a node that is [`Health::Down`], or is not in `hosts`, is moved by the same rule
///   when the node has no lease any more.
/// * So is one on a node that leaves, or that has not the labels that it wants, as soon as there is
///   one that can take it: its state is in the store, and its new epoch ends the old activation
///   wherever that is at work.
/// * Without a node of any weight that can run it nothing is planned.
#[must_use]
pub fn plan(
    wishes: &[Wish<'_>],
    table: &BTreeMap<EntityId, Placement>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> Vec<Command> {
    let stays = |wish: &Wish<'_>, placement: &Placement| {
        let host = hosts.iter().find(|host| host.record.id == placement.node);
        // One that cannot be seen may not see that it is to leave.
        let sees =
            |host: &Host<'_>| host.health == Health::Alive || !leased.contains(&placement.node);
        let is_wrong = |host: &Host<'_>| host.leaving || !wish.fits(host.record);
        let leaves = host.is_some_and(|host| is_wrong(host) && sees(host));
        !leaves && !is_lost(&placement.node, hosts, leased)
    };
    let is_to_place = |wish: &&Wish<'_>| table.get(&wish.entity).is_none_or(|it| !stays(wish, it));
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

    let mut steps = Vec::new();
    for wish in to_place {
        let placed = table.get(&wish.entity);
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
        steps.push(Command::Place { entity, node, expected });
    }
    steps
}

/// The move that makes the replicas of one firmware more evenly spread, all of which are in `wishes`:
/// from the node that has most of them to one that has at least two fewer, because with one fewer
/// nothing would be gained. Nothing while one of them is not where it can stay.
#[must_use]
pub fn even_out(
    wishes: &[Wish<'_>],
    table: &BTreeMap<EntityId, Placement>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> Option<Command> {
    let takers: Vec<&Host<'_>> = hosts.iter().filter(|host| host.takes(leased) > 0).collect();
    let mut on: BTreeMap<&NodeId, Vec<(&Wish<'_>, Epoch)>> =
        takers.iter().map(|host| (&host.record.id, Vec::new())).collect();
    for wish in wishes {
        let placed = table.get(&wish.entity)?;
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
            of_same(a).cmp(&of_same(b)).then_with(|| {
                Load::of(a, table, leased).compare(&Load::of(b, table, leased))
            })
        });
        if let Some(host) = least {
            let (entity, node) = (wish.entity.clone(), host.record.id.clone());
            return Some(Command::Place { entity, node, expected: Some(*epoch) });
        }
    }
    None
}

/// How many replicas of each firmware are on each node.
fn siblings(table: &BTreeMap<EntityId, Placement>) -> BTreeMap<(Name, NodeId), u64> {
    let mut siblings = BTreeMap::new();
    for (entity, placement) in table {
        if let Some(replica) = entity.replica() {
            let on = (replica.firmware().clone(), placement.node.clone());
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
    fn of(host: &Host<'a>, table: &BTreeMap<EntityId, Placement>, leased: &Leased) -> Self {
        let is_here = |place: &&Placement| place.node == host.record.id;
        let count = table.values().filter(is_here).count() as u64;
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement::fixtures::{leases, node, record};

    fn host(record: &NodeRecord, health: Health) -> Host<'_> {
        Host { record, health, leaving: false, stopping: false }
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

    fn replica(n: u32) -> EntityId {
        let name = "shop".parse().expect("valid");
        odeum_proto::ReplicaId::new(name, n).expect("a replica").entity()
    }

    fn replicas(count: u32) -> Vec<Wish<'static>> {
        (1..=count).map(|n| Wish { entity: replica(n), labels: &ANYWHERE }).collect()
    }

    #[test]
    fn replicas_of_one_firmware_go_to_nodes_that_have_none_of_them_however_busy_those_are() {
        let records = [record(1, 100), record(2, 300), record(3, 100)];
        let hosts = records.each_ref().map(|record| host(record, Health::Alive));
        let busy: BTreeMap<_, _> = (0..9).map(|e| (entity(e), on(3, e.into()))).collect();
        let mut wishes = wishes(0..9);
        wishes.extend(replicas(4));
        let steps = plan(&wishes, &busy, &hosts, &leases(&hosts));
        let mut nodes: Vec<_> = targets(&steps).into_iter().map(|(_, to)| to).collect();
        nodes.sort();
        assert_eq!(nodes, [node(1), node(2), node(2), node(3)], "the fourth by capacity");
    }

    #[test]
    fn replicas_are_evened_out_one_by_one_when_a_node_has_two_fewer() {
        let records = [record(1, 100), record(2, 100), record(3, 0)];
        let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
        let mut table: BTreeMap<_, _> = (1..=3).map(|n| (replica(n), on(1, n.into()))).collect();
        let leased = leases(&hosts);
        let wishes = replicas(3);
        let step = even_out(&wishes, &table, &hosts, &leased);
        let expected =
            Command::Place { entity: replica(3), node: node(2), expected: Some(Epoch(3)) };
        assert_eq!(step, Some(expected));
        table.insert(replica(3), on(2, 4));
        assert_eq!(even_out(&wishes, &table, &hosts, &leased), None, "two and one");
        table.insert(replica(3), on(1, 5));
        hosts[1].stopping = true;
        assert_eq!(even_out(&wishes, &table, &hosts, &leased), None, "nobody else takes any");
        hosts[1].stopping = false;
        table.remove(&replica(2));
        assert_eq!(even_out(&wishes, &table, &hosts, &leased), None, "one is to be placed first");
    }

    proptest! {
        #[test]
        fn evening_out_ends_with_a_difference_of_one_and_never_moves_more_than_it_must(
            at in proptest::collection::vec(1_u8..6, 1..12),
        ) {
            let records: Vec<NodeRecord> = (1..6).map(|n| record(n, 100)).collect();
            let hosts: Vec<_> = records.iter().map(|record| host(record, Health::Alive)).collect();
            let wishes = replicas(u32::try_from(at.len()).expect("few"));
            let mut table: BTreeMap<EntityId, Placement> =
                wishes.iter().zip(&at).map(|(wish, n)| (wish.entity.clone(), on(*n, 1))).collect();
            let counts = |table: &BTreeMap<EntityId, Placement>| {
                (1..6).map(|n| table.values().filter(|it| it.node == node(n)).count()).collect()
            };
            let before: Vec<usize> = counts(&table);
            let mut moves = 0;
            while let Some(step) = even_out(&wishes, &table, &hosts, &leases(&hosts)) {
                let Command::Place { entity, node, .. } = step else { panic!("only places") };
                table.insert(entity, Placement { node, epoch: Epoch(2) });
                moves += 1;
                prop_assert!(moves <= at.len());
            }
            let after: Vec<usize> = counts(&table);
            let (most, least) = (after.iter().max().expect("5"), after.iter().min().expect("5"));
            prop_assert!(most - least <= 1, "{after:?}");
            let mut wanted: Vec<usize> = (0..5).map(|n| (at.len() + n) / 5).collect();
            wanted.sort_unstable();
            let mut sorted = before.clone();
            sorted.sort_unstable();
            let fewest: usize = sorted.iter().zip(&wanted).map(|(is, to)| is.saturating_sub(*to)).sum();
            prop_assert_eq!(moves, fewest);
        }

        #[test]
        fn new_replicas_differ_by_one_at_most_on_nodes_that_can_take_them(
            count in 1_u32..12, nodes in 1_u8..6, capacities in proptest::collection::vec(1_u32..400, 5),
        ) {
            let records: Vec<NodeRecord> =
                (1..=nodes).zip(&capacities).map(|(n, capacity)| record(n, *capacity)).collect();
            let hosts: Vec<_> = records.iter().map(|record| host(record, Health::Alive)).collect();
            let steps = plan(&replicas(count), &BTreeMap::new(), &hosts, &leases(&hosts));
            let on = |n| targets(&steps).iter().filter(|(_, to)| *to == node(n)).count();
            let counts: Vec<usize> = (1..=nodes).map(on).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), count as usize);
            let spread = counts.iter().max().expect("some") - counts.iter().min().expect("some");
            prop_assert!(spread <= 1, "{:?}", counts);
        }
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
                Host { record, health: health_of(n), leaving: leaves(n), stopping: false }
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
