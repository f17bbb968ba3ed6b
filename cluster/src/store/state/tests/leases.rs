//! What the log knows of leases.

use super::*;

const TTL: Duration = Duration::from_secs(3);

fn renew(n: u8, incarnation: u64) -> Command {
    Command::RenewLease { node: node(n), incarnation: Incarnation(incarnation), ttl: TTL }
}

fn end(n: u8, epoch: Epoch, renewed: Option<u64>) -> Command {
    Command::EndLease { node: node(n), epoch, renewed: renewed.map(Revision) }
}

fn leased(state: &mut State, revision: u64, n: u8, incarnation: u64) -> Epoch {
    match state.apply(Revision(revision), &renew(n, incarnation)) {
        Outcome::Leased { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    }
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let revision = || proptest::option::of((0..40_u64).prop_map(Revision));
    prop_oneof![
        3 => (0..3_u8, 1..4_u64).prop_map(|(n, incarnation)| renew(n, incarnation)),
        1 => (0..3_u8, 0..9_u64).prop_map(|(n, epoch)| {
            Command::CloseLease { node: node(n), epoch: Epoch(epoch) }
        }),
        1 => (0..3_u8, 0..9_u64, revision()).prop_map(|(n, epoch, renewed)| {
            Command::EndLease { node: node(n), epoch: Epoch(epoch), renewed }
        }),
    ]
}

fn placed(state: &State) -> Epoch {
    state.placements().get(&entity(0)).expect("placed").epoch
}

#[test]
fn a_lease_is_the_same_while_it_is_renewed_and_another_when_it_was_over() {
    let mut state = ready();
    let first = leased(&mut state, 10, 0, 1);
    assert_eq!(leased(&mut state, 11, 0, 1), first);
    let layout = state.layout();
    state.apply(Revision(12), &end(0, first, Some(10)));
    assert!(state.is_leased(&node(0)) && state.layout() == layout, "it was renewed since");
    state.apply(Revision(13), &end(0, first, Some(11)));
    assert!(!state.is_leased(&node(0)) && state.layout() == Revision(13));
    let second = leased(&mut state, 14, 0, 1);
    assert!(second > first);
    state.apply(Revision(15), &end(0, first, None));
    assert!(state.is_leased(&node(0)), "that was the former one");
}

#[test]
fn a_new_lease_gives_its_epoch_to_what_is_placed_on_its_node() {
    let mut state = ready();
    let before = placed(&state);
    let first = leased(&mut state, 10, 0, 1);
    assert!(first > before && placed(&state) == first);
    leased(&mut state, 11, 0, 1);
    assert_eq!(placed(&state), first, "the same lease");
    // A plan of when nobody had a lease there is too late.
    state.apply(Revision(12), &end(0, first, None));
    leased(&mut state, 13, 0, 1);
    state.apply(Revision(14), &Command::PutNode(record(1, 1, 1)));
    let plan = Command::Place { entity: entity(0), node: node(1), expected: Some(first) };
    let refused = state.apply(Revision(15), &plan);
    assert!(matches!(refused, Outcome::Refused(Refusal::StaleEpoch { .. })), "{refused:?}");
}

#[test]
fn nothing_is_placed_on_a_node_whose_lease_is_over() {
    let mut state = ready();
    state.apply(Revision(9), &Command::PutNode(record(1, 1, 1)));
    let epoch = leased(&mut state, 10, 1, 1);
    state.apply(Revision(11), &end(1, epoch, None));
    let expected = Some(placed(&state));
    let place = Command::Place { entity: entity(0), node: node(1), expected };
    let refused = state.apply(Revision(12), &place);
    assert!(matches!(refused, Outcome::Refused(Refusal::NoLease { .. })), "{refused:?}");
    let moves = vec![ShardMove { shard: 0, node: node(1), expected: None }];
    let shards = Command::PlaceShards { kind: kind(), moves };
    let refused = state.apply(Revision(13), &shards);
    assert!(matches!(refused, Outcome::Refused(Refusal::NoLease { .. })), "{refused:?}");
    leased(&mut state, 14, 1, 1);
    assert!(matches!(state.apply(Revision(15), &place), Outcome::Placed { .. }));
    assert!(matches!(state.apply(Revision(16), &shards), Outcome::ShardsPlaced { .. }));
}

#[test]
fn nothing_more_is_placed_on_a_node_that_is_about_to_stop() {
    let mut state = ready();
    state.apply(Revision(9), &Command::PutNode(record(1, 1, 1)));
    let first = leased(&mut state, 10, 1, 1);
    let place = |state: &State| {
        let expected = Some(placed(state));
        Command::Place { entity: entity(0), node: node(1), expected }
    };
    state.apply(Revision(11), &Command::CloseLease { node: node(1), epoch: first });
    assert!(state.is_leased(&node(1)) && state.is_closing(&node(1)));
    let refused = state.apply(Revision(12), &place(&state.clone()));
    assert!(matches!(refused, Outcome::Refused(Refusal::Closing { .. })), "{refused:?}");
    leased(&mut state, 13, 1, 1);
    assert!(state.is_closing(&node(1)), "a renewal changes nothing of it");
    state.apply(Revision(14), &end(1, first, None));
    leased(&mut state, 15, 1, 1);
    state.apply(Revision(16), &Command::CloseLease { node: node(1), epoch: first });
    assert!(!state.is_closing(&node(1)), "that was the former one");
    assert!(matches!(state.apply(Revision(17), &place(&state.clone())), Outcome::Placed { .. }));
}

#[test]
fn a_lease_is_for_one_start_of_a_node_and_over_with_the_next() {
    let mut state = ready();
    let early = state.apply(Revision(9), &renew(0, 2));
    assert!(matches!(early, Outcome::Refused(Refusal::OtherIncarnation { .. })), "{early:?}");
    let first = leased(&mut state, 10, 0, 1);
    state.apply(Revision(11), &Command::PutNode(record(0, 0, 2)));
    assert!(!state.is_leased(&node(0)));
    let late = state.apply(Revision(12), &renew(0, 1));
    assert!(matches!(late, Outcome::Refused(Refusal::OtherIncarnation { .. })), "{late:?}");
    assert!(leased(&mut state, 13, 0, 2) > first);
}

#[test]
fn the_lease_of_a_removed_node_stays_until_it_is_over() {
    let mut state = ready();
    let epoch = leased(&mut state, 10, 0, 1);
    state.apply(Revision(11), &Command::RemoveNode { node: node(0) });
    assert!(state.is_leased(&node(0)));
    let refused = state.apply(Revision(12), &renew(0, 1));
    assert!(matches!(refused, Outcome::Refused(Refusal::UnknownNode { .. })), "{refused:?}");
    state.apply(Revision(13), &end(0, epoch, Some(10)));
    assert_eq!(state.lease(&node(0)), None);
}

#[test]
fn a_lease_is_never_made_shorter_nor_longer_than_is_allowed() {
    let mut state = ready();
    leased(&mut state, 10, 0, 1);
    let renew = |ttl| Command::RenewLease { node: node(0), incarnation: Incarnation(1), ttl };
    state.apply(Revision(11), &renew(TTL / 2));
    let renewal = state.lease(&node(0)).and_then(|lease| lease.renewed).expect("it has one");
    assert_eq!((renewal.at, renewal.ttl), (Revision(11), TTL));
    let refused = state.apply(Revision(12), &renew(limits::LEASE_TTL * 2));
    assert!(matches!(refused, Outcome::Refused(Refusal::TooMuch { .. })), "{refused:?}");
}

#[test]
fn a_node_that_is_about_to_stop_keeps_its_shards_under_another_epoch_if_it_says_so() {
    let mut state = ready();
    state.apply(Revision(9), &Command::PutNode(record(1, 1, 1)));
    let lease = leased(&mut state, 10, 1, 1);
    let shard = |expected| {
        let moves = vec![ShardMove { shard: 0, node: node(1), expected }];
        Command::PlaceShards { kind: kind(), moves }
    };
    let Outcome::ShardsPlaced { epoch, .. } = state.apply(Revision(11), &shard(None)) else {
        panic!("it is placed");
    };
    state.apply(Revision(12), &Command::CloseLease { node: node(1), epoch: lease });
    let kept = state.apply(Revision(13), &shard(Some(epoch)));
    let Outcome::ShardsPlaced { epoch: next, .. } = kept else { panic!("{kept:?}") };
    let row = &state.kinds()[&kind()];
    assert_eq!(row.shard(0).map(|place| place.epoch), Some(next));
    assert_eq!(row.epoch_before(0), Some(epoch));
}
