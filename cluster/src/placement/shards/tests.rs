//! Promises of the placement of shards.

use odeum_proto::Epoch;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::placement::fixtures::{leases, node, record};

fn lamp() -> EntityKind {
    "lamp".parse().expect("a kind")
}

/// A kind whose shards are on these nodes; 0 for one that is not placed.
fn kind_on(nodes: &[u8]) -> KindState {
    let mut state = KindState::new(u16::try_from(nodes.len()).expect("few"));
    for (shard, n) in (0..).zip(nodes).filter(|(_, n)| **n > 0) {
        state.put(shard, Placement { node: node(*n), epoch: Epoch(1) });
    }
    state
}

fn owned(state: &KindState, n: u8) -> usize {
    state.shards_of(&node(n)).count()
}

/// Carries out the moves whose expectation holds, as the log does.
fn apply(state: &mut KindState, moves: &[ShardMove], epoch: u64) {
    for step in moves {
        assert_eq!(state.shard(step.shard).map(|place| place.epoch), step.expected);
        state.put(step.shard, Placement { node: step.node.clone(), epoch: Epoch(epoch) });
    }
}

fn planned(command: Option<Command>) -> Vec<ShardMove> {
    match command {
        Some(Command::PlaceShards { moves, .. }) => moves,
        None => Vec::new(),
        Some(other) => panic!("a plan only places: {other:?}"),
    }
}

/// A node that hosts lamps or does not.
struct Node {
    record: odeum_proto::store::NodeRecord,
    health: Health,
    leaving: bool,
}

impl Node {
    fn new(n: u8, capacity: u32) -> Self {
        let mut record = record(n, capacity);
        record.kinds.insert(lamp(), 64);
        Self { record, health: Health::Alive, leaving: false }
    }

    fn host(&self) -> Host<'_> {
        let (record, health, leaving) = (&self.record, self.health, self.leaving);
        Host { record, health, leaving, stopping: false, draining: false }
    }
}

fn hosts(nodes: &[Node]) -> Vec<Host<'_>> {
    nodes.iter().map(Node::host).collect()
}

/// What the leader does when all that may be there have their leases.
fn plan(state: &KindState, hosts: &[Host<'_>]) -> Option<Command> {
    plan_shards(&lamp(), state, hosts, &leases(hosts))
}

#[test]
fn the_shards_of_a_new_kind_are_spread_by_capacity() {
    let mut nodes = [Node::new(1, 200), Node::new(2, 100), Node::new(3, 0), Node::new(4, 900)];
    nodes[3].record.kinds.clear();
    let mut state = kind_on(&[0; 64]);
    let moves = planned(plan(&state, &hosts(&nodes)));
    apply(&mut state, &moves, 1);
    assert_eq!((owned(&state, 1), owned(&state, 2)), (43, 21));
    assert_eq!(plan(&state, &hosts(&nodes)), None);
}

#[test]
fn only_the_shards_of_a_lost_node_are_placed_by_the_leader() {
    let mut nodes = [Node::new(1, 100), Node::new(2, 100), Node::new(3, 100)];
    let state = kind_on(&[1, 1, 1, 1, 2, 2, 3]);
    assert_eq!(plan(&state, &hosts(&nodes)), None, "however uneven");
    nodes[1].health = Health::Unknown;
    assert_eq!(plan(&state, &hosts(&nodes)), None, "it may be there");
    nodes[1].health = Health::Down;
    let moves = planned(plan(&state, &hosts(&nodes)));
    let expected = [4, 5].map(|shard| ShardMove { shard, node: node(3), expected: Some(Epoch(1)) });
    assert_eq!(moves, expected);
    nodes[1].health = Health::Alive;
    nodes[1].record.kinds.clear();
    let moves = planned(plan(&state, &hosts(&nodes)));
    assert_eq!(moves, expected, "it is back with a program that has no lamps");
}

#[test]
fn a_leaving_node_keeps_its_shards_until_it_gave_them_up_or_is_gone() {
    let mut nodes = [Node::new(1, 100), Node::new(2, 100)];
    nodes[0].leaving = true;
    let mut state = kind_on(&[1, 2, 1, 1]);
    assert_eq!(plan(&state, &hosts(&nodes)), None);
    let weights = weights(&lamp(), &hosts(&nodes));
    let moves = surplus(&state, &node(1), &weights, &BTreeSet::new());
    apply(&mut state, &moves, 2);
    assert_eq!((owned(&state, 1), owned(&state, 2)), (0, 4));

    nodes[0].health = Health::Down;
    let state = kind_on(&[1, 2, 1, 1]);
    assert_eq!(planned(plan(&state, &hosts(&nodes))).len(), 3);
}

#[test]
fn shards_go_nowhere_before_the_lease_of_their_node_is_over_and_only_to_who_has_one() {
    let mut nodes = [Node::new(1, 100), Node::new(2, 100), Node::new(3, 100)];
    nodes[0].health = Health::Down;
    let (state, nodes) = (kind_on(&[1, 1, 2, 3]), hosts(&nodes));
    let with = |leased: &[u8]| {
        let leased = leased.iter().map(|n| node(*n)).collect();
        planned(plan_shards(&lamp(), &state, &nodes, &leased))
    };
    assert_eq!(with(&[1, 2, 3]), []);
    let moved: Vec<_> = with(&[2, 3]).into_iter().map(|step| step.node).collect();
    assert_eq!(moved, [node(2), node(3)]);
    let moved: Vec<_> = with(&[3]).into_iter().map(|step| step.node).collect();
    assert_eq!(moved, [node(3), node(3)], "and nothing of the other, which is there");
}

#[test]
fn nothing_moves_while_nobody_can_take_it() {
    let mut nodes = [Node::new(1, 100), Node::new(2, 0)];
    nodes[0].leaving = true;
    let state = kind_on(&[1, 2, 0]);
    let all = hosts(&nodes);
    assert_eq!(plan(&state, &all), None);
    assert_eq!(surplus(&kind_on(&[1, 2]), &node(1), &weights(&lamp(), &all), &BTreeSet::new()), []);
}

#[test]
fn empty_shards_are_given_first() {
    let weights = Weights::from([(node(1), 100), (node(2), 100)]);
    let state = kind_on(&[1, 1, 1, 1, 1, 1]);
    let moves = surplus(&state, &node(1), &weights, &BTreeSet::from([4, 5]));
    assert_eq!(moves.iter().map(|step| step.shard).collect::<Vec<_>>(), [4, 5, 0]);
    assert!(moves.iter().all(|step| step.node == node(2)));
}

#[test]
fn nothing_is_given_away_while_a_shard_is_lost() {
    let weights = Weights::from([(node(1), 100), (node(2), 100)]);
    assert_eq!(surplus(&kind_on(&[1, 1, 1, 0]), &node(1), &weights, &BTreeSet::new()), []);
    assert_eq!(surplus(&kind_on(&[1, 1, 1, 3]), &node(1), &weights, &BTreeSet::new()), []);
}

/// Shards on the nodes 1 to 5, the nodes' weights, empty shards.
fn worlds() -> impl Strategy<Value = (Vec<u8>, Vec<u32>, BTreeSet<u16>)> {
    let weight = prop_oneof![Just(0_u32), Just(100), 1..400_u32];
    (vec(1..6_u8, 1..40), vec(weight, 5), btree_set(0..40_u16, 0..20))
}

fn weights_of(weights: &[u32]) -> Weights {
    (1..).map(node).zip(weights.iter().copied()).collect()
}

/// How many moves it takes to bring everybody within one of the ideal.
fn fewest_moves(state: &KindState, weights: &Weights) -> usize {
    let shares = Shares::new(state, weights);
    shares.0.iter().map(|share| share.owned.saturating_sub(share.fair) as usize).sum()
}

proptest! {
    #[test]
    fn giving_away_ends_with_everybody_within_one_of_the_ideal(
        (places, weights, empty) in worlds(),
        order in vec((0..5_u8, 1..4_usize), 0..60),
    ) {
        let weights = weights_of(&weights);
        let total: u32 = weights.values().sum();
        let mut state = kind_on(&places);
        let needed = fewest_moves(&state, &weights);
        let mut moved = 0;
        // Each in its turn moves a part of what it should, and then all of it.
        let last = (0..5).map(|at| (at, usize::MAX));
        for (epoch, (at, part)) in (2..).zip(order.into_iter().chain(last)) {
            let moves = surplus(&state, &node(at + 1), &weights, &empty);
            let part = moves.get(..part.min(moves.len())).unwrap_or_default();
            moved += part.len();
            apply(&mut state, part, epoch);
        }
        prop_assert_eq!(moved, needed, "no shard moved twice, and none was left");
        for n in 1..6 {
            prop_assert_eq!(surplus(&state, &node(n), &weights, &empty), []);
            if total > 0 {
                let ideal = f64::from(weights[&node(n)]) * places.len() as f64 / f64::from(total);
                prop_assert!((owned(&state, n) as f64 - ideal).abs() < 1.0);
            }
        }
    }

    #[test]
    fn nobody_gives_below_its_share_nor_to_one_that_has_its_share(
        (places, weights, empty) in worlds(),
    ) {
        let weights = weights_of(&weights);
        let total: u32 = weights.values().sum();
        let mut state = kind_on(&places);
        let all: Vec<_> =
            (1..6).flat_map(|n| surplus(&state, &node(n), &weights, &empty)).collect();
        let floor = |n| {
            let part = places.len() * weights[&node(n)] as usize;
            part.checked_div(total as usize).unwrap_or_default()
        };
        let before: Vec<_> = (1..6).map(|n| owned(&state, n)).collect();
        apply(&mut state, &all, 2);
        for (n, before) in (1..6).zip(before) {
            let after = owned(&state, n);
            prop_assert!(after >= floor(n).min(before), "{} of {}", after, floor(n));
            prop_assert!(after <= before || after <= floor(n) + 1);
        }
    }

    #[test]
    fn what_the_leader_places_needs_no_second_move(
        (places, weights, _) in worlds(), lost in btree_set(1..6_u8, 0..5),
    ) {
        let nodes: Vec<Node> = (1..)
            .zip(&weights)
            .map(|(n, weight)| {
                let health = if lost.contains(&n) { Health::Down } else { Health::Alive };
                Node { health, ..Node::new(n, *weight) }
            })
            .collect();
        let all = hosts(&nodes);
        let weights = super::weights(&lamp(), &all);
        let mut state = kind_on(&places);
        let needed = fewest_moves(&state, &weights);
        let moves = planned(plan(&state, &all));
        for step in &moves {
            let from = &state.shard(step.shard).expect("placed").node;
            prop_assert!(!weights.contains_key(from) && weights[&step.node] > 0);
        }
        apply(&mut state, &moves, 2);
        if weights.values().any(|weight| *weight > 0) {
            prop_assert!(state.iter().all(|(_, place)| !is_lost(&lamp(), place, &all, &leases(&all))));
            prop_assert_eq!(fewest_moves(&state, &weights), needed);
        } else {
            prop_assert!(moves.is_empty());
        }
    }
}
