//! Zones, nodes that a deployment names, and firmware that is to be apart.

use proptest::{collection::vec, option};

use super::*;

const NODES: u8 = 6;

/// A cluster, what two firmwares ask of it, and where they are. The first may name nodes, and either may
/// be to be apart from the other.
#[derive(Debug, Clone)]
struct Scene {
    records: Vec<NodeRecord>,
    /// Numbers of nodes that are gone.
    gone: BTreeSet<u8>,
    named: BTreeSet<NodeId>,
    said: BTreeMap<Name, BTreeSet<Name>>,
    /// Replicas of `shop` and of `stock`, with the numbers of their nodes.
    replicas: Vec<(EntityId, Option<u8>)>,
}

fn name(text: &str) -> Name {
    text.parse().expect("valid")
}

fn of(firmware: &str, n: u32) -> EntityId {
    odeum_proto::ReplicaId::new(name(firmware), n).expect("a replica").entity()
}

fn firmware(entity: &EntityId) -> Name {
    entity.replica().expect("a replica").firmware().clone()
}

fn zoned(n: u8, zone: u8) -> NodeRecord {
    let zone = (zone > 0).then(|| format!("zone-{zone}").parse().expect("valid"));
    NodeRecord { zone, ..record(n, 100) }
}

/// Its zone, or itself when it has none.
fn zone(record: &NodeRecord) -> String {
    record.zone.as_ref().map_or_else(|| record.id.to_string(), ToString::to_string)
}

fn scenes() -> impl Strategy<Value = Scene> {
    let places = || vec(option::of(1..=NODES), 0..7);
    let nodes = vec((0..4_u8, 1..300_u32, 0..5_u8, any::<bool>()), usize::from(NODES));
    (nodes, any::<bool>(), 0..3_u8, places(), places()).prop_map(
        |(nodes, names, says, shop, stock)| {
            let numbered = || (1..).zip(&nodes);
            let record = |(n, (zone, capacity, ..)): (u8, &(u8, u32, u8, bool))| NodeRecord {
                capacity: *capacity,
                ..zoned(n, *zone)
            };
            let named = numbered().filter(|(_, (.., is_named))| names && *is_named);
            let said = match says {
                0 => None,
                1 => Some((name("shop"), BTreeSet::from([name("stock")]))),
                _ => Some((name("stock"), BTreeSet::from([name("shop")]))),
            };
            let replica = |firmware, places: Vec<Option<u8>>| {
                (1..).zip(places).map(move |(n, place)| (of(firmware, n), place))
            };
            Scene {
                records: numbered().map(record).collect(),
                gone: numbered().filter(|(_, (.., n, _))| *n == 0).map(|(n, _)| n).collect(),
                named: named.map(|(n, _)| node(n)).collect(),
                said: said.into_iter().collect(),
                replicas: replica("shop", shop).chain(replica("stock", stock)).collect(),
            }
        },
    )
}

impl Scene {
    /// With all replicas on nodes that are there and may have them.
    fn settled(mut self) -> Self {
        self.gone.clear();
        let may: Vec<u8> = (1..=NODES).filter(|n| self.may("shop", &node(*n))).collect();
        for (at, (entity, place)) in self.replicas.iter_mut().enumerate() {
            let n = place.unwrap_or(1);
            let is_wrong = firmware(entity) == name("shop") && !may.contains(&n);
            *place = Some(if is_wrong { may[at % may.len()] } else { n });
        }
        self
    }

    fn may(&self, firmware: &str, node: &NodeId) -> bool {
        firmware != "shop" || self.named.is_empty() || self.named.contains(node)
    }

    fn hosts(&self) -> Vec<Host<'_>> {
        let health = |n| if self.gone.contains(&n) { Health::Down } else { Health::Alive };
        (1..).zip(&self.records).map(|(n, record)| host(record, health(n))).collect()
    }

    fn wishes(&self, only: Option<&str>) -> Vec<Wish<'_>> {
        let is_meant =
            |it: &&(EntityId, _)| only.is_none_or(|name| firmware(&it.0).as_str() == name);
        let wish = |(entity, _): &(EntityId, _)| {
            let nodes = if firmware(entity) == name("shop") { &self.named } else { &ALL };
            Wish { entity: entity.clone(), nodes, labels: &ANYWHERE }
        };
        self.replicas.iter().filter(is_meant).map(wish).collect()
    }

    fn placements(&self) -> BTreeMap<EntityId, Placement> {
        let place = |(entity, n): &(EntityId, Option<u8>)| Some((entity.clone(), on((*n)?, 1)));
        self.replicas.iter().filter_map(place).collect()
    }

    /// What `look` says of it as a table.
    fn look<R>(&self, look: impl FnOnce(Table<'_>, &[Host<'_>], &Leased) -> R) -> R {
        let (placements, moves, hosts) = (self.placements(), BTreeMap::new(), self.hosts());
        let apart = Apart::of(&self.said);
        let table = Table { placements: &placements, moves: &moves, apart: &apart };
        look(table, &hosts, &leases(&hosts))
    }

    fn planned(&self) -> Vec<(EntityId, NodeId)> {
        let wishes = self.wishes(None);
        self.look(|table, hosts, leased| {
            targets(&super::super::plan(&wishes, table, hosts, leased, |_| Way::Move))
        })
    }

    fn put(&mut self, entity: &EntityId, to: &NodeId) {
        let n = to.as_str()[1..].parse().expect("a number");
        let replica = self.replicas.iter_mut().find(|(it, _)| it == entity);
        replica.expect("one of them").1 = Some(n);
    }

    fn at(&self, entity: &EntityId) -> Option<NodeId> {
        self.replicas.iter().find(|(it, _)| it == entity)?.1.map(node)
    }

    /// Whether one of `firmware` would be beside what it is to be apart from.
    fn is_beside(&self, firmware_of: &Name, at: &NodeId) -> bool {
        let is_there = |(entity, n): &(EntityId, Option<u8>)| {
            firmware(entity) != *firmware_of && n.map(node).as_ref() == Some(at)
        };
        !self.said.is_empty() && self.replicas.iter().any(is_there)
    }

    /// How many of `firmware` are in each zone that may have some, and on each node.
    fn counts(&self, of: &str) -> (BTreeMap<String, usize>, BTreeMap<NodeId, usize>) {
        let (mut zones, mut nodes) = (BTreeMap::new(), BTreeMap::new());
        for record in self.records.iter().filter(|record| self.may(of, &record.id)) {
            let is_here = |(entity, n): &&(EntityId, Option<u8>)| {
                firmware(entity).as_str() == of && n.map(node).as_ref() == Some(&record.id)
            };
            let here = self.replicas.iter().filter(is_here).count();
            *zones.entry(zone(record)).or_default() += here;
            nodes.insert(record.id.clone(), here);
        }
        (zones, nodes)
    }

    /// How unevenly they are spread over zones, and over nodes.
    fn unevenness(&self, of: &str) -> (usize, usize) {
        let (zones, nodes) = self.counts(of);
        let squared = |n: &usize| n * n;
        (zones.values().map(squared).sum(), nodes.values().map(squared).sum())
    }

    /// Whether zones differ by one at most, and the nodes of each.
    fn is_even(&self, of: &str) -> bool {
        let (zones, nodes) = self.counts(of);
        let by_one = |counts: &[usize]| {
            let (most, least) = (counts.iter().max(), counts.iter().min());
            most.zip(least).is_none_or(|(most, least)| most - least <= 1)
        };
        let of_zone = |name: &String| {
            let here = self.records.iter().filter(|record| zone(record) == *name);
            here.filter_map(|record| nodes.get(&record.id).copied()).collect::<Vec<usize>>()
        };
        by_one(&zones.values().copied().collect::<Vec<_>>())
            && zones.keys().all(|name| by_one(&of_zone(name)))
    }

    fn apart(self, says: bool) -> Self {
        let said = if says { self.said } else { BTreeMap::new() };
        Self { said, ..self }
    }
}

proptest! {
    #[test]
    fn new_replicas_differ_by_one_at_most_in_zones_and_on_the_nodes_of_each(scene in scenes()) {
        let mut scene = scene.apart(false).settled();
        scene.replicas.iter_mut().for_each(|(_, place)| *place = None);
        let planned = scene.planned();
        prop_assert_eq!(planned.len(), scene.replicas.len());
        for (entity, to) in planned {
            prop_assert!(scene.may(firmware(&entity).as_str(), &to));
            scene.put(&entity, &to);
        }
        for of in ["shop", "stock"] {
            prop_assert!(scene.is_even(of), "{:?}", scene.counts(of));
        }
    }

    #[test]
    fn what_is_to_be_apart_is_so_whenever_a_node_is_there_for_it_and_named_nodes_are_kept_to(
        mut scene in scenes(),
    ) {
        let there: Vec<NodeId> =
            (1..=NODES).filter(|n| !scene.gone.contains(n)).map(node).collect();
        let before = scene.clone();
        for (entity, to) in scene.planned() {
            let name = firmware(&entity);
            let may = |node: &&NodeId| scene.may(name.as_str(), node);
            prop_assert!(may(&&to) && there.contains(&to));
            let free = there.iter().filter(may).find(|node| !scene.is_beside(&name, node));
            prop_assert!(free.is_none() || !scene.is_beside(&name, &to), "{free:?} was there");
            if let Some(at) = before.at(&entity) {
                prop_assert!(!there.contains(&at) || !scene.may(name.as_str(), &at), "it could stay");
            }
            scene.put(&entity, &to);
        }
    }

    #[test]
    fn evening_out_makes_zones_and_then_nodes_even_and_undoes_nothing(
        scene in scenes(), says in any::<bool>(),
    ) {
        let mut scene = scene.apart(says).settled();
        for of in ["shop", "stock"] {
            let next = |scene: &Scene| {
                let wishes = scene.wishes(Some(of));
                scene.look(|table, hosts, leased| {
                    super::super::even_out(&wishes, table, hosts, leased)
                })
            };
            let mut moved = BTreeSet::new();
            while let Some(step) = next(&scene) {
                let [(entity, to)] = &targets(&[step])[..] else { panic!("one step") };
                prop_assert!(scene.may(of, to));
                let from = scene.at(entity).expect("it is placed");
                let beside = |node| scene.is_beside(&name(of), node);
                prop_assert!(beside(&from) || !beside(to));
                let before = scene.unevenness(of);
                scene.put(entity, to);
                prop_assert!(scene.unevenness(of) < before, "zones first, then nodes");
                prop_assert!(moved.insert(entity.clone()), "it is moved once at most");
            }
            if scene.said.is_empty() {
                prop_assert!(scene.is_even(of), "{:?}", scene.counts(of));
            }
        }
    }

    #[test]
    fn moves_for_load_bring_replicas_no_closer_together_and_nothing_where_it_should_not_be(
        scene in scenes(),
    ) {
        let mut scene = scene.settled();
        let wishes = scene.wishes(None);
        let steps = scene.look(|table, hosts, leased| {
            targets(&rebalance(&wishes, table, hosts, leased, usize::MAX, |_| false))
        });
        for (entity, to) in steps {
            let name = firmware(&entity);
            prop_assert!(scene.may(name.as_str(), &to));
            let from = scene.at(&entity).expect("it is placed");
            prop_assert!(scene.is_beside(&name, &from) || !scene.is_beside(&name, &to));
            let before = scene.unevenness(name.as_str());
            scene.put(&entity, &to);
            let after = scene.unevenness(name.as_str());
            prop_assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?} {after:?}");
        }
    }

    #[test]
    fn the_first_that_can_have_it_by_rank_is_the_one_that_a_plan_takes(scene in scenes()) {
        let mut scene = scene;
        let Some((entity, _)) = scene.replicas.first().cloned() else { return Ok(()) };
        scene.replicas[0].1 = None;
        let wish = scene.wishes(None).remove(0);
        scene.look(|table, hosts, leased| {
            let choices = ranked(&wish, table, hosts, leased);
            let step = super::super::plan(std::slice::from_ref(&wish), table, hosts, leased, |_| Way::Move);
            let first = choices.first().filter(|first| first.can());
            let first = first.map(|first| (entity.clone(), first.host.record.id.clone()));
            prop_assert_eq!(targets(&step), Vec::from_iter(first));
            let is_later = |pair: &[Choice<'_>]| pair[1].behind(&pair[0]).is_some();
            let can: Vec<Choice<'_>> = choices.into_iter().filter(Choice::can).collect();
            prop_assert!(can.windows(2).all(is_later));
            Ok(())
        })?;
    }
}

#[test]
fn replicas_go_to_other_zones_first_and_a_node_without_one_is_a_zone() {
    let records = [zoned(1, 1), zoned(2, 1), zoned(3, 2), zoned(4, 0)];
    let hosts = records.each_ref().map(|record| host(record, Health::Alive));
    let steps = plan(&replicas(4), &BTreeMap::new(), &hosts, &leases(&hosts));
    let nodes: Vec<NodeId> = targets(&steps).into_iter().map(|(_, to)| to).collect();
    assert_eq!(nodes, [node(1), node(3), node(4), node(2)]);
    // The zone of a replica that is lost does not count it.
    let mut hosts = hosts;
    hosts[1].health = Health::Down;
    let table = (1..)
        .zip(&nodes)
        .map(|(n, at)| (replica(n), Placement { node: at.clone(), epoch: Epoch(1) }));
    let table: BTreeMap<_, _> = table.collect();
    let steps = plan(&replicas(4), &table, &hosts, &leases(&hosts));
    assert_eq!(targets(&steps), [(replica(4), node(1))]);
}

#[test]
fn a_zone_that_is_back_gets_its_share_from_the_fullest() {
    let records = [zoned(1, 1), zoned(2, 1), zoned(3, 2)];
    let hosts = records.each_ref().map(|record| host(record, Health::Alive));
    let wishes = replicas(3);
    let table =
        BTreeMap::from([(replica(1), on(1, 1)), (replica(2), on(2, 2)), (replica(3), on(2, 3))]);
    let step = even_out(&wishes, &table, &hosts, &leases(&hosts));
    let expected = Command::BeginMove { entity: replica(3), to: node(3), expected: Epoch(3) };
    assert_eq!(step, Some(expected));
    // Two in one zone and one in the other are even, but not two on one of three nodes.
    let table =
        BTreeMap::from([(replica(1), on(1, 1)), (replica(2), on(3, 2)), (replica(3), on(3, 3))]);
    let step = even_out(&wishes, &table, &hosts, &leases(&hosts));
    let expected = Command::BeginMove { entity: replica(3), to: node(2), expected: Epoch(3) };
    assert_eq!(step, Some(expected));
}

#[test]
fn a_firmware_runs_on_the_nodes_that_are_named_and_waits_when_none_is_there() {
    let records = [record(1, 100), record(2, 100), record(3, 100)];
    let mut hosts = records.each_ref().map(|record| host(record, Health::Alive));
    let named = BTreeSet::from([node(2), node(9)]);
    let wishes = [Wish { entity: entity(1), nodes: &named, labels: &ANYWHERE }];
    let steps = plan(&wishes, &BTreeMap::new(), &hosts, &leases(&hosts));
    assert_eq!(targets(&steps), [(entity(1), node(2))]);
    // Others were named before.
    let table = BTreeMap::from([(entity(1), on(1, 4))]);
    let steps = plan(&wishes, &table, &hosts, &leases(&hosts));
    let moves = Command::BeginMove { entity: entity(1), to: node(2), expected: Epoch(4) };
    assert_eq!(steps, [moves]);
    hosts[1].health = Health::Down;
    assert!(plan(&wishes, &BTreeMap::new(), &hosts, &leases(&hosts)).is_empty());
    // Nobody else can have it, so it does not keep its node.
    let table = BTreeMap::from([(entity(1), on(2, 4))]);
    hosts[1] = Host { leaving: true, ..host(&records[1], Health::Alive) };
    assert_eq!(departures(&wishes, &table, &BTreeMap::new(), &hosts), [node(2)]);
}

#[test]
fn what_is_to_be_apart_comes_together_only_where_nothing_else_is_left() {
    let said = BTreeMap::from([(name("shop"), BTreeSet::from([name("stock")]))]);
    let scene = |places: &[(EntityId, Option<u8>)], nodes: u8| Scene {
        records: (1..=nodes).map(|n| record(n, 100)).collect(),
        gone: BTreeSet::new(),
        named: BTreeSet::new(),
        said: said.clone(),
        replicas: places.to_vec(),
    };
    let (shop, stock) = (of("shop", 1), of("stock", 1));
    // Whichever is there first.
    let planned = scene(&[(shop.clone(), Some(1)), (stock.clone(), None)], 2).planned();
    assert_eq!(planned, [(stock.clone(), node(2))]);
    let planned = scene(&[(shop.clone(), None), (stock.clone(), Some(1))], 2).planned();
    assert_eq!(planned, [(shop.clone(), node(2))]);
    let planned = scene(&[(shop.clone(), None), (stock.clone(), None)], 2).planned();
    assert_eq!(planned, [(shop.clone(), node(1)), (stock.clone(), node(2))]);
    let alone = scene(&[(shop.clone(), None), (stock.clone(), None)], 1).planned();
    assert_eq!(alone, [(shop.clone(), node(1)), (stock.clone(), node(1))]);
    // Being apart comes before being spread.
    let two = [(stock, Some(1)), (shop, None), (of("shop", 2), None)];
    let planned = scene(&two, 2).planned();
    assert!(planned.iter().all(|(_, to)| *to == node(2)), "{planned:?}");
}
