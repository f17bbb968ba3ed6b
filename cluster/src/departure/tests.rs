//! Who has left, and who may. The steps with real nodes are in `cluster/tests/departure.rs`.

use odeum_proto::{
    DiskId, EntityKind, Incarnation,
    store::{NodeRecord, ShardMove},
};

use super::*;

fn node(n: u8) -> NodeId {
    format!("n{n}").parse().expect("valid")
}

fn record(n: u8) -> NodeRecord {
    NodeRecord {
        id: node(n),
        disk: DiskId::random(),
        incarnation: Incarnation(3),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "127.0.0.1:7070".parse().expect("valid"),
        version: "0.1.0".into(),
        kinds: [("lamp".parse().expect("valid"), 4)].into(),
        labels: [].into(),
        zone: None,
        capacity: NodeRecord::CAPACITY,
    }
}

fn state(commands: impl IntoIterator<Item = Command>) -> State {
    let mut state = State::default();
    for (at, command) in (1..).zip(commands) {
        let outcome = state.apply(Revision(at), &command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    state
}

#[test]
fn only_who_knows_as_much_can_say_that_a_node_has_left() {
    let cluster = ClusterId::random();
    let own = state([Command::Found { cluster, groups: 0 }, Command::PutNode(record(1))]);
    let own = Sight::of(&own, &node(1), 3).expect("a member");
    let said = |cluster, at, nodes| JoinReply::Roster { cluster, at: Revision(at), nodes };
    assert!(own.is_outdated_by(&said(cluster, 2, vec![record(2)]), &node(1)));
    assert!(!own.is_outdated_by(&said(cluster, 1, vec![record(2)]), &node(1)), "it is behind");
    assert!(!own.is_outdated_by(&said(cluster, 2, vec![record(1)]), &node(1)));
    let other = said(ClusterId::random(), 9, vec![]);
    assert!(!own.is_outdated_by(&other, &node(1)), "another cluster");
    assert!(!own.is_outdated_by(&JoinReply::Admitted, &node(1)));
}

#[test]
fn a_node_that_comes_back_in_has_not_left_by_what_was_before() {
    let state = state([Command::PutNode(record(1))]);
    assert!(Sight::of(&state, &node(1), 3).is_some());
    assert!(Sight::of(&state, &node(1), 4).is_none(), "its new life is not on record here yet");
    assert!(Sight::of(&state, &node(1), NEVER).is_none(), "it is on its way in");
}

#[test]
fn a_node_is_not_held_up_by_what_nobody_else_can_take() {
    let lamp: EntityKind = "lamp".parse().expect("valid");
    let shard = |shard| ShardMove { shard, node: node(1), expected: None };
    let place = Command::PlaceShards { kind: lamp, moves: vec![shard(0), shard(1)] };
    let mut state = state([Command::PutNode(record(1)), Command::PutNode(record(2)), place]);
    assert_eq!(holdings(&state, &node(1)), (0, 2));
    assert_eq!(holdings(&state, &node(2)), (0, 0));
    let without_lamps =
        NodeRecord { kinds: [].into(), disk: state.nodes()[&node(2)].disk, ..record(2) };
    state.apply(Revision(9), &Command::PutNode(without_lamps));
    assert_eq!(holdings(&state, &node(1)), (0, 0));
}

#[test]
fn the_last_node_that_stays_cannot_leave() {
    let mut state = state([Command::PutNode(record(1)), Command::PutNode(record(2))]);
    assert!(!is_last(&state, &node(1)));
    assert!(!is_last(&state, &node(3)), "nobody of that name");
    state.apply(Revision(9), &Command::SetLeaving { node: node(2), leaving: true });
    assert!(is_last(&state, &node(1)));
}
