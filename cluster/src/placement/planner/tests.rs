//! Where firmware goes, and where it stays.

use odeum_proto::{Label, Name, Revision};
use proptest::prelude::*;

use super::*;
use crate::placement::fixtures::{leases, node, record};

mod places;

fn host(record: &NodeRecord, health: Health) -> Host<'_> {
    Host { record, health, leaving: false, stopping: false, draining: false }
}

fn plan(
    wishes: &[Wish<'_>],
    placements: &BTreeMap<EntityId, Placement>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> Vec<Command> {
    let apart = Apart::default();
    let table = Table { placements, moves: &BTreeMap::new(), apart: &apart };
    super::plan(wishes, table, hosts, leased, |_| Way::Move)
}

fn even_out(
    wishes: &[Wish<'_>],
    placements: &BTreeMap<EntityId, Placement>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> Option<Command> {
    let apart = Apart::default();
    let table = Table { placements, moves: &BTreeMap::new(), apart: &apart };
    super::even_out(wishes, table, hosts, leased)
}

fn entity(n: u8) -> EntityId {
    format!("firmware/e{n}").parse().expect("valid")
}

static ALL: BTreeSet<NodeId> = BTreeSet::new();
static ANYWHERE: BTreeMap<Label, Label> = BTreeMap::new();

fn wishes(numbers: impl IntoIterator<Item = u8>) -> Vec<Wish<'static>> {
    let wish = |n| Wish { entity: entity(n), nodes: &ALL, labels: &ANYWHERE };
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
    let expected = Command::Place { entity: entity(1), node: node(3), expected: Some(Epoch(4)) };
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
    let apart = Apart::default();
    let table = Table { placements: &placements, moves: &moves, apart: &apart };
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
        Wish { entity: entity(1), nodes: &ALL, labels: &ssd },
        Wish { entity: entity(2), nodes: &ALL, labels: &tape },
        Wish { entity: entity(3), nodes: &ALL, labels: &ANYWHERE },
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
    (1..=count).map(|n| Wish { entity: replica(n), nodes: &ALL, labels: &ANYWHERE }).collect()
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
    let expected = Command::BeginMove { entity: replica(3), to: node(2), expected: Epoch(3) };
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
            let Command::BeginMove { entity, to: node, .. } = step else { panic!("only moves") };
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
            Host { record, health: health_of(n), leaving: leaves(n), stopping: false, draining: false }
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
