//! Promises of the state machine of sessions, over random histories from a small world, so that
//! commands meet each other's effects often.

use odeum_proto::session::{Commit, Write};
use odeum_proto::{codec, limits};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn entity(n: u8) -> EntityId {
    format!("firmware/f{n}").parse().expect("valid")
}

fn request(n: u16) -> RequestId {
    format!("r{n}").parse().expect("valid")
}

fn session(n: u8) -> SessionId {
    format!("f0/s{n}").parse().expect("valid")
}

fn set(key: &str, value: &[u8]) -> Write {
    Write::Set { key: key.into(), value: value.into() }
}

fn commit(epoch: u64, request_number: u16, writes: Vec<Write>) -> Commit {
    Commit {
        entity: entity(0),
        epoch: Epoch(epoch),
        request: request(request_number),
        session: session(0),
        writes,
        reply: vec![7],
    }
}

/// By an activation of an entity that was there from the start.
fn fence(e: u8, epoch: Epoch) -> DataCommand {
    DataCommand::Fence { entity: entity(e), epoch, born: Epoch(0) }
}

fn apply(data: &mut Data, revision: u64, command: DataCommand) -> DataOutcome {
    data.apply(Revision(revision), LogTime(revision), &command)
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let key = "[ab]";
    vec(
        prop_oneof![
            (key, vec(any::<u8>(), 0..4)).prop_map(|(key, value)| Write::Set { key, value }),
            key.prop_map(|key| Write::Delete { key }),
        ],
        0..4,
    )
}

fn command() -> impl Strategy<Value = DataCommand> {
    let epoch = || (1..6_u64).prop_map(Epoch);
    prop_oneof![
        8 => (0..3_u8, epoch(), 0..6_u16, 0..2_u8, writes(), vec(any::<u8>(), 0..3)).prop_map(
            |(e, epoch, r, s, writes, reply)| DataCommand::Commit(Commit {
                entity: entity(e),
                epoch,
                request: request(r),
                session: session(s),
                writes,
                reply,
            })
        ),
        2 => (0..3_u8, epoch()).prop_map(|(e, epoch)| fence(e, epoch)),
        1 => (0..3_u8, epoch())
            .prop_map(|(e, epoch)| DataCommand::Forget { entity: entity(e), epoch }),
        1 => (0..2_u8).prop_map(|n| DataCommand::DeleteSession { session: session(n) }),
    ]
}

fn replay<'a>(commands: impl IntoIterator<Item = &'a DataCommand>) -> (Data, Vec<DataOutcome>) {
    let mut data = Data::default();
    let outcomes = commands
        .into_iter()
        .zip(1..)
        .map(|(command, n)| apply(&mut data, n, command.clone()))
        .collect();
    (data, outcomes)
}

/// Counted anew, without the running total.
fn counted(data: &Data) -> u64 {
    let sessions: u64 = data.sessions.iter().map(|(id, session)| session.bytes(id)).sum();
    let windows: u64 = data.windows.values().map(Window::bytes).sum();
    sessions + windows
}

proptest! {
    #[test]
    fn every_replica_comes_to_the_same_state(commands in vec(command(), 0..60)) {
        prop_assert_eq!(replay(&commands), replay(&commands));
    }

    #[test]
    fn a_refused_or_replayed_command_changes_nothing(commands in vec(command(), 0..60)) {
        let mut data = Data::default();
        for (n, command) in (1..).zip(&commands) {
            let before = Data { now: LogTime(n), ..data.clone() };
            match apply(&mut data, n, command.clone()) {
                DataOutcome::Refused(_) | DataOutcome::Replayed { .. } => {
                    prop_assert_eq!(&data, &before);
                }
                DataOutcome::Applied { revision } => prop_assert_eq!(revision, Revision(n)),
            }
        }
    }

    #[test]
    fn a_request_takes_effect_once_wherever_it_is_retried(commands in vec(command(), 0..80)) {
        let (data, outcomes) = replay(&commands);
        let mut applied: BTreeMap<(EntityId, RequestId), usize> = BTreeMap::new();
        for (command, outcome) in commands.iter().zip(&outcomes) {
            match (command, outcome) {
                // What comes after an entity was forgotten is another's.
                (DataCommand::Forget { entity, .. }, _) => {
                    applied.retain(|(of, _), _| of != entity);
                }
                (DataCommand::Commit(c), DataOutcome::Applied { .. }) => {
                    let key = (c.entity.clone(), c.request.clone());
                    *applied.entry(key).or_default() += 1;
                }
                _ => {}
            }
        }
        for ((entity, request), times) in applied {
            prop_assert_eq!(times, 1);
            prop_assert!(data.remembered(&entity, &request).is_some());
        }
    }

    #[test]
    fn no_activation_changes_anything_after_a_later_one_was_seen(
        commands in vec(command(), 0..80),
    ) {
        let mut data = Data::default();
        let mut latest: BTreeMap<EntityId, Epoch> = BTreeMap::new();
        for (n, command) in (1..).zip(&commands) {
            let outcome = apply(&mut data, n, command.clone());
            let (entity, epoch) = match command {
                DataCommand::Commit(c) => (&c.entity, c.epoch),
                DataCommand::Fence { entity, epoch, .. } => (entity, *epoch),
                _ => continue,
            };
            if matches!(outcome, DataOutcome::Applied { .. }) {
                let before = latest.insert(entity.clone(), epoch);
                prop_assert!(before.is_none_or(|before| before <= epoch));
            }
        }
    }

    #[test]
    fn a_snapshot_is_the_state_and_goes_on_like_it(
        before in vec(command(), 0..60), after in vec(command(), 0..20),
    ) {
        let (mut data, _) = replay(&before);
        let bytes = codec::encode(&data).expect("encodes");
        let mut copy: Data = codec::decode(&bytes).expect("decodes");
        prop_assert_eq!(&data, &copy);
        for command in &after {
            let outcome = apply(&mut data, 200, command.clone());
            prop_assert_eq!(outcome, apply(&mut copy, 200, command.clone()));
        }
        prop_assert_eq!(&data, &copy);
    }

    #[test]
    fn the_counted_bytes_are_those_that_are_there(commands in vec(command(), 0..80)) {
        let (data, _) = replay(&commands);
        prop_assert_eq!(data.bytes(), counted(&data));
        let snapshot = codec::encode(&(&data.sessions, &data.windows)).expect("encodes");
        prop_assert!(snapshot.len() as u64 <= data.bytes() + 64 + 32 * data.windows.len() as u64);
    }
}

#[test]
fn a_retry_gets_the_first_reply() {
    let mut data = Data::default();
    let first = commit(1, 1, vec![set("count", b"1")]);
    let outcome = apply(&mut data, 2, DataCommand::Commit(first));
    assert_eq!(outcome, DataOutcome::Applied { revision: Revision(2) });
    let retry = Commit { reply: vec![8], ..commit(1, 1, vec![set("count", b"2")]) };
    let outcome = apply(&mut data, 3, DataCommand::Commit(retry));
    assert_eq!(outcome, DataOutcome::Replayed { reply: Some(vec![7]) });
    assert_eq!(data.sessions[&session(0)].variables()["count"].value, b"1");
}

#[test]
fn a_retry_by_an_activation_that_is_over_is_still_answered() {
    let mut data = Data::default();
    let first = DataCommand::Commit(commit(1, 1, vec![]));
    apply(&mut data, 2, first.clone());
    apply(&mut data, 3, fence(0, Epoch(2)));
    assert_eq!(apply(&mut data, 4, first), DataOutcome::Replayed { reply: Some(vec![7]) });
    let new_by_the_old = DataCommand::Commit(commit(1, 2, vec![]));
    assert!(matches!(
        apply(&mut data, 5, new_by_the_old),
        DataOutcome::Refused(SessionRefusal::StaleEpoch { .. })
    ));
}

#[test]
fn the_window_forgets_the_oldest_request_first() {
    let mut data = Data::default();
    let window = u16::try_from(limits::DEDUPLICATION_WINDOW).expect("fits");
    for n in 0..=window {
        apply(&mut data, 2, DataCommand::Commit(commit(1, n, vec![])));
    }
    assert!(data.remembered(&entity(0), &request(0)).is_none());
    assert!(data.remembered(&entity(0), &request(1)).is_some());
    assert!(data.remembered(&entity(0), &request(window)).is_some());
    assert_eq!(data.bytes(), counted(&data));
}

#[test]
fn a_large_reply_is_not_remembered_but_its_request_is() {
    let mut data = Data::default();
    let reply = vec![0; limits::REMEMBERED_REPLY_BYTES + 1];
    let large = DataCommand::Commit(Commit { reply, ..commit(1, 1, vec![]) });
    assert!(matches!(apply(&mut data, 2, large.clone()), DataOutcome::Applied { .. }));
    assert_eq!(apply(&mut data, 3, large), DataOutcome::Replayed { reply: None });
}

#[test]
fn a_commit_over_a_bound_changes_nothing_and_names_the_bound() {
    let value = vec![0; limits::VARIABLE_BYTES];
    let too_many = (0..=limits::WRITES_PER_MESSAGE).map(|n| set(&n.to_string(), b"")).collect();
    let too_large = (0..13).map(|n| set(&n.to_string(), &value)).collect();
    let cases: [(Vec<Write>, usize); 4] = [
        (too_many, limits::WRITES_PER_MESSAGE),
        (too_large, limits::COMMIT_BYTES),
        (vec![set("v", &vec![0; limits::VARIABLE_BYTES + 1])], limits::VARIABLE_BYTES),
        (vec![set(&"k".repeat(limits::KEY_BYTES + 1), b"")], limits::KEY_BYTES),
    ];
    for (writes, bound) in cases {
        let mut data = Data { now: LogTime(2), ..Data::default() };
        let before = data.clone();
        let outcome = apply(&mut data, 2, DataCommand::Commit(commit(1, 1, writes)));
        let DataOutcome::Refused(SessionRefusal::TooMuch { limit, .. }) = outcome else {
            panic!("not refused: {outcome:?}");
        };
        assert_eq!(limit, bound as u64);
        assert_eq!(data, before);
    }
}

#[test]
fn a_full_group_refuses_growth_and_takes_what_frees_it() {
    let mut data = Data::default();
    let value = vec![0; limits::VARIABLE_BYTES];
    let fill = |data: &mut Data, n: u16| {
        let writes = (0..8).map(|k| set(&format!("{n}-{k}"), &value)).collect();
        apply(data, 2, DataCommand::Commit(commit(1, n, writes)))
    };
    let too_much = |outcome: &DataOutcome| {
        matches!(outcome, DataOutcome::Refused(SessionRefusal::TooMuch { .. }))
    };
    let refused_at =
        (0..1000).find(|&n| too_much(&fill(&mut data, n))).expect("the group is bounded");
    assert!(data.bytes() <= limits::GROUP_BYTES);
    let free = (0..8).map(|k| Write::Delete { key: format!("0-{k}") }).collect();
    let outcome = apply(&mut data, 3, DataCommand::Commit(commit(1, 2000, free)));
    assert!(matches!(outcome, DataOutcome::Applied { .. }));
    assert!(matches!(fill(&mut data, refused_at), DataOutcome::Applied { .. }));
    let before = data.bytes();
    apply(&mut data, 4, DataCommand::DeleteSession { session: session(0) });
    assert!(data.bytes() < before / 100);
}

#[test]
fn what_was_forgotten_stays_over_until_a_later_activation() {
    let mut data = Data::default();
    apply(&mut data, 1, DataCommand::Commit(commit(3, 1, vec![])));
    apply(&mut data, 2, DataCommand::Forget { entity: entity(0), epoch: Epoch(5) });
    assert!(data.remembered(&entity(0), &request(1)).is_none());
    let late = apply(&mut data, 3, DataCommand::Commit(commit(3, 2, vec![])));
    assert!(matches!(late, DataOutcome::Refused(SessionRefusal::StaleEpoch { .. })), "{late:?}");
    let anew = apply(&mut data, 4, fence(0, Epoch(6)));
    assert!(matches!(anew, DataOutcome::Applied { .. }), "{anew:?}");
    apply(&mut data, 5, DataCommand::Forget { entity: entity(0), epoch: Epoch(5) });
    assert_eq!(data.epoch(&entity(0)), Some(Epoch(6)), "a late word about the former one");
}

#[test]
fn an_entity_does_not_remember_the_requests_of_a_former_one_of_its_name() {
    let mut data = Data::default();
    let request_1 = DataCommand::Commit(commit(3, 1, vec![]));
    apply(&mut data, 1, request_1.clone());
    let fence = |epoch, born| DataCommand::Fence { entity: entity(0), epoch: Epoch(epoch), born };
    apply(&mut data, 2, fence(4, Epoch(0)));
    assert!(data.remembered(&entity(0), &request(1)).is_some(), "another activation of it");
    apply(&mut data, 3, fence(6, Epoch(5)));
    assert!(data.remembered(&entity(0), &request(1)).is_none());
    assert_eq!(data.bytes(), counted(&data));
}
