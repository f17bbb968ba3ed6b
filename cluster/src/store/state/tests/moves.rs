//! Promises about moves.

use super::*;

pub(super) fn command() -> impl Strategy<Value = Command> {
    let epoch = || (0..6_u64).prop_map(Epoch);
    prop_oneof![
        3 => (0..2_u8, 0..3_u8, epoch()).prop_map(|(e, n, expected)| {
            Command::BeginMove { entity: entity(e), to: node(n), expected }
        }),
        3 => (0..2_u8, 0..3_u8, epoch()).prop_map(|(e, n, expected)| {
            Command::Switch { entity: entity(e), to: node(n), expected }
        }),
        1 => (0..2_u8, epoch()).prop_map(|(e, expected)| {
            Command::CallOff { entity: entity(e), expected }
        }),
        1 => (0..3_u8, any::<bool>())
            .prop_map(|(n, draining)| Command::SetDraining { node: node(n), draining }),
    ]
}

fn at(state: &State) -> Placement {
    state.placements().get(&entity(0)).expect("placed").clone()
}

fn two_nodes() -> (State, Epoch) {
    let mut state = ready();
    state.apply(Revision(2), &Command::PutNode(record(1, 1, 1)));
    let epoch = at(&state).epoch;
    (state, epoch)
}

fn begin(expected: Epoch) -> Command {
    Command::BeginMove { entity: entity(0), to: node(1), expected }
}

fn switch(expected: Epoch) -> Command {
    Command::Switch { entity: entity(0), to: node(1), expected }
}

fn call_off(expected: Epoch) -> Command {
    Command::CallOff { entity: entity(0), expected }
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_is_under_way_is_of_the_present_epoch_and_what_was_switched_gave_it(
        commands in vec(super::command(), 0..120),
    ) {
        let mut state = State::default();
        for (n, command) in (1..).zip(&commands) {
            state.apply(Revision(n), command);
            for (entity, made) in state.moves() {
                let place = state.placements().get(entity).expect("what moves is placed");
                match made.switched {
                    None => prop_assert_eq!((&place.node, place.epoch), (&made.from, made.epoch)),
                    Some(epoch) => {
                        prop_assert_eq!((&place.node, place.epoch), (&made.to, epoch));
                        prop_assert!(made.epoch < epoch);
                    }
                }
            }
        }
    }
}

#[test]
fn an_entity_stays_where_it_is_until_it_is_switched() {
    let (mut state, epoch) = two_nodes();
    state.apply(Revision(3), &begin(epoch));
    assert_eq!(at(&state), Placement { node: node(0), epoch });
    let Outcome::Placed { epoch: next, .. } = state.apply(Revision(4), &switch(epoch)) else {
        panic!("not switched")
    };
    assert!(next > epoch);
    assert_eq!(at(&state), Placement { node: node(1), epoch: next });
    assert_eq!(state.moved_from(&entity(0), next), Some(epoch));
}

#[test]
fn a_switch_whose_outcome_was_not_heard_is_told_again() {
    let (mut state, epoch) = two_nodes();
    state.apply(Revision(3), &begin(epoch));
    let first = state.apply(Revision(4), &switch(epoch));
    let Outcome::Placed { epoch: next, .. } = first else { panic!("not switched") };
    let again = state.apply(Revision(5), &switch(epoch));
    assert_eq!(again, Outcome::Placed { revision: Revision(5), epoch: next });
    let late = refusal(state.apply(Revision(6), &call_off(epoch)));
    assert!(matches!(late, Refusal::StaleEpoch { .. }), "{late}");
}

#[test]
fn a_move_that_was_called_off_is_not_switched() {
    let (mut state, epoch) = two_nodes();
    state.apply(Revision(3), &begin(epoch));
    state.apply(Revision(4), &call_off(epoch));
    let refused = refusal(state.apply(Revision(5), &switch(epoch)));
    assert_eq!(refused, Refusal::NotMoving { entity: entity(0) });
    assert_eq!(at(&state), Placement { node: node(0), epoch });
}

#[test]
fn whatever_gives_an_entity_another_epoch_ends_its_move() {
    type Change = fn(Epoch) -> Command;
    let changes: [Change; 4] = [
        |_| Command::PutFirmware(spec(0, 1)),
        |_| Command::PutNode(record(0, 0, 2)),
        |_| Command::DeleteFirmware { name: name(0) },
        |expected| Command::Place { entity: entity(0), node: node(0), expected: Some(expected) },
    ];
    for change in changes {
        let (mut state, epoch) = two_nodes();
        state.apply(Revision(3), &begin(epoch));
        state.apply(Revision(4), &change(epoch));
        assert!(state.moves().is_empty(), "{}", change(epoch));
        let refused = refusal(state.apply(Revision(5), &switch(epoch)));
        assert!(matches!(refused, Refusal::StaleEpoch { .. }), "{refused}");
    }
}

#[test]
fn an_entity_moves_to_one_node_at_a_time_and_not_to_where_it_is() {
    let (mut state, epoch) = two_nodes();
    state.apply(Revision(3), &Command::PutNode(record(2, 2, 1)));
    let to = |n| Command::BeginMove { entity: entity(0), to: node(n), expected: epoch };
    let there = refusal(state.apply(Revision(4), &to(0)));
    assert_eq!(there, Refusal::AlreadyThere { entity: entity(0), node: node(0) });
    let unknown = refusal(state.apply(Revision(4), &to(7)));
    assert_eq!(unknown, Refusal::UnknownNode { node: node(7) });
    state.apply(Revision(5), &to(1));
    let moving = refusal(state.apply(Revision(6), &to(2)));
    assert_eq!(moving, Refusal::Moving { entity: entity(0), to: node(1) });
}
