//! Promises of the state machine, over random histories from a small world, so that commands
//! meet each other's effects often.

use std::time::Duration;

use odeum_proto::codec;
use odeum_proto::store::{Commit, FirmwareLimits, ShardMove, Write};
use odeum_proto::{Digest, Incarnation, Label};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod shards;

/// Of the kind of lamps.
const SHARDS: u16 = 3;

fn node(n: u8) -> NodeId {
    format!("n{n}").parse().expect("valid")
}

fn name(n: u8) -> Name {
    format!("f{n}").parse().expect("valid")
}

fn entity(n: u8) -> EntityId {
    EntityId::firmware(name(n))
}

fn kind() -> EntityKind {
    "lamp".parse().expect("valid")
}

/// An entity of a kind that is placed by shard.
fn lamp(n: u16) -> EntityId {
    format!("lamp/{n}").parse().expect("valid")
}

fn disk(n: u8) -> DiskId {
    format!("00000000-0000-4000-8000-0000000000{n:02}").parse().expect("valid")
}

fn cluster(n: u8) -> ClusterId {
    format!("00000000-0000-4000-8000-0000000000{n:02}").parse().expect("valid")
}

fn request(n: u16) -> RequestId {
    format!("r{n}").parse().expect("valid")
}

fn session(n: u8) -> SessionId {
    format!("f0/s{n}").parse().expect("valid")
}

fn record(id: u8, on: u8, incarnation: u64) -> NodeRecord {
    NodeRecord {
        id: node(id),
        disk: disk(on),
        incarnation: Incarnation(incarnation),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "127.0.0.1:7070".parse().expect("valid"),
        version: "0.1.0".into(),
        // Every node but the first hosts lamps.
        kinds: (id > 0).then(|| (kind(), SHARDS)).into_iter().collect(),
        labels: BTreeMap::new(),
        zone: None,
        capacity: NodeRecord::CAPACITY,
    }
}

fn spec(n: u8, content: u8) -> FirmwareSpec {
    FirmwareSpec {
        name: name(n),
        digest: Digest::of(&[content]),
        size: 1,
        limits: FirmwareLimits { memory_bytes: 1, message_time: Duration::from_secs(1) },
    }
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

fn command() -> impl Strategy<Value = Command> {
    let epoch = || (0..6_u64).prop_map(Epoch);
    prop_oneof![
        1 => (0..2_u8).prop_map(|n| Command::Found { cluster: cluster(n) }),
        2 => (0..3_u8, 0..2_u8, 1..4_u64)
            .prop_map(|(id, on, incarnation)| Command::PutNode(record(id, on, incarnation))),
        1 => (0..3_u8).prop_map(|n| Command::RemoveNode { node: node(n) }),
        2 => (0..2_u8, 0..2_u8).prop_map(|(n, content)| Command::PutFirmware(spec(n, content))),
        1 => (0..2_u8).prop_map(|n| Command::DeleteFirmware { name: name(n) }),
        4 => (0..2_u8, 0..3_u8, proptest::option::of(epoch())).prop_map(|(e, n, expected)| {
            Command::Place { entity: entity(e), node: node(n), expected }
        }),
        8 => (0..3_u8, epoch(), 0..6_u16, 0..2_u8, writes(), vec(any::<u8>(), 0..3)).prop_map(
            |(e, epoch, r, s, writes, reply)| Command::Commit(Commit {
                entity: if e < 2 { entity(e) } else { lamp(0) },
                epoch,
                request: request(r),
                session: session(s),
                writes,
                reply,
            })
        ),
        1 => (0..2_u8).prop_map(|n| Command::DeleteSession { session: session(n) }),
        4 => vec((0..=SHARDS, 0..3_u8, proptest::option::of(epoch())), 0..4).prop_map(|moves| {
            let step = |(shard, n, expected)| ShardMove { shard, node: node(n), expected };
            Command::PlaceShards { kind: kind(), moves: moves.into_iter().map(step).collect() }
        }),
        1 => (0..3_u8, any::<bool>())
            .prop_map(|(n, leaving)| Command::SetLeaving { node: node(n), leaving }),
    ]
}

fn replay<'a>(commands: impl IntoIterator<Item = &'a Command>) -> (State, Vec<Outcome>) {
    let mut state = State::default();
    let outcomes =
        commands.into_iter().zip(1..).map(|(c, n)| state.apply(Revision(n), c)).collect();
    (state, outcomes)
}

/// Counted anew, without the running total.
fn counted(state: &State) -> u64 {
    let sessions: u64 = state.sessions.iter().map(|(id, session)| session.bytes(id)).sum();
    let windows: u64 = state.windows.values().map(Window::bytes).sum();
    sessions + windows
}

fn ready() -> State {
    let mut state = State::default();
    for command in [
        Command::PutNode(record(0, 0, 1)),
        Command::PutFirmware(spec(0, 0)),
        Command::Place { entity: entity(0), node: node(0), expected: None },
    ] {
        assert!(!matches!(state.apply(Revision(1), &command), Outcome::Refused(_)));
    }
    state
}

proptest! {
    #[test]
    fn every_replica_comes_to_the_same_state(commands in vec(command(), 0..60)) {
        prop_assert_eq!(replay(&commands), replay(&commands));
    }

    #[test]
    fn a_refused_or_replayed_command_changes_nothing(commands in vec(command(), 0..60)) {
        let mut state = State::default();
        for (n, command) in (1..).zip(&commands) {
            let before = state.clone();
            match state.apply(Revision(n), command) {
                Outcome::Refused(_) | Outcome::Replayed { .. } => prop_assert_eq!(&state, &before),
                Outcome::Applied { revision }
                | Outcome::Placed { revision, .. }
                | Outcome::ShardsPlaced { revision, .. } => {
                    prop_assert_eq!(revision, Revision(n));
                }
            }
        }
    }

    #[test]
    fn a_command_applied_twice_in_a_row_has_the_effect_of_once(
        commands in vec(command(), 0..40), last in command(),
    ) {
        let (mut state, _) = replay(&commands);
        let placed = matches!(last, Command::Place { .. } | Command::PlaceShards { .. });
        state.apply(Revision(100), &last);
        let once = state.clone();
        let again = state.apply(Revision(101), &last);
        // A second placement is refused, since it expected the epoch before its own.
        prop_assert_eq!(&state, &once);
        prop_assert!(!placed || matches!(again, Outcome::Refused(_)));
    }

    #[test]
    fn a_request_takes_effect_once_wherever_it_is_retried(commands in vec(command(), 0..80)) {
        let (state, outcomes) = replay(&commands);
        let mut applied: BTreeMap<(EntityId, RequestId), usize> = BTreeMap::new();
        for (command, outcome) in commands.iter().zip(&outcomes) {
            match (command, outcome) {
                // Deleting a firmware forgets its requests: what comes later is another's.
                (Command::DeleteFirmware { name }, Outcome::Applied { .. }) => {
                    applied.retain(|(entity, _), _| *entity != EntityId::firmware(name.clone()));
                }
                (Command::Commit(c), Outcome::Applied { .. }) => {
                    let key = (c.entity.clone(), c.request.clone());
                    *applied.entry(key).or_default() += 1;
                }
                _ => {}
            }
        }
        for ((entity, request), times) in applied {
            prop_assert_eq!(times, 1);
            prop_assert!(state.remembered(&entity, &request).is_some());
        }
    }

    #[test]
    fn only_the_current_epoch_changes_state(commands in vec(command(), 0..80)) {
        let mut state = State::default();
        for (n, command) in (1..).zip(&commands) {
            let current = |entity: &EntityId| state.placement(entity).map(|p| p.epoch);
            let holds = match command {
                Command::Commit(c) => current(&c.entity) == Some(c.epoch),
                Command::Place { entity, expected, .. } => current(entity) == *expected,
                _ => true,
            };
            let before = state.clone();
            state.apply(Revision(n), command);
            prop_assert!(holds || state == before);
        }
    }

    #[test]
    fn an_epoch_is_higher_than_all_before_it_even_after_a_redeploy(
        commands in vec(command(), 0..120),
    ) {
        let (_, outcomes) = replay(&commands);
        let epochs: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Placed { epoch, .. } | Outcome::ShardsPlaced { epoch, .. } => Some(*epoch),
                _ => None,
            })
            .collect();
        prop_assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_snapshot_is_the_state_and_goes_on_like_it(
        before in vec(command(), 0..60), after in vec(command(), 0..20),
    ) {
        let (mut state, _) = replay(&before);
        let bytes = codec::encode(&state).expect("encodes");
        let mut copy: State = codec::decode(&bytes).expect("decodes");
        prop_assert_eq!(&state, &copy);
        for command in &after {
            let outcome = state.apply(Revision(200), command);
            prop_assert_eq!(outcome, copy.apply(Revision(200), command));
        }
        prop_assert_eq!(&state, &copy);
    }

    #[test]
    fn the_counted_bytes_are_those_that_are_there(commands in vec(command(), 0..80)) {
        let (state, _) = replay(&commands);
        prop_assert_eq!(state.bytes(), counted(&state));
        let snapshot = codec::encode(&(&state.sessions, &state.windows)).expect("encodes");
        prop_assert!(snapshot.len() as u64 <= state.bytes() + 64 + 32 * state.windows.len() as u64);
    }
}

#[test]
fn a_retry_gets_the_first_reply() {
    let mut state = ready();
    let first = Command::Commit(commit(1, 1, vec![set("count", b"1")]));
    assert_eq!(state.apply(Revision(2), &first), Outcome::Applied { revision: Revision(2) });
    let retry = Commit { reply: vec![8], ..commit(1, 1, vec![set("count", b"2")]) };
    let outcome = state.apply(Revision(3), &Command::Commit(retry));
    assert_eq!(outcome, Outcome::Replayed { reply: Some(vec![7]) });
    assert_eq!(state.sessions[&session(0)].variables()["count"].value, b"1");
}

#[test]
fn a_retry_by_an_activation_that_is_over_is_still_answered() {
    let mut state = ready();
    let first = Command::Commit(commit(1, 1, vec![]));
    state.apply(Revision(2), &first);
    let elsewhere = Command::Place { entity: entity(0), node: node(0), expected: Some(Epoch(1)) };
    assert!(matches!(state.apply(Revision(3), &elsewhere), Outcome::Placed { .. }));
    assert_eq!(state.apply(Revision(4), &first), Outcome::Replayed { reply: Some(vec![7]) });
    let new_by_the_old = Command::Commit(commit(1, 2, vec![]));
    assert!(matches!(
        state.apply(Revision(5), &new_by_the_old),
        Outcome::Refused(Refusal::StaleEpoch { .. })
    ));
}

#[test]
fn the_window_forgets_the_oldest_request_first() {
    let mut state = ready();
    let window = u16::try_from(limits::DEDUPLICATION_WINDOW).expect("fits");
    for n in 0..=window {
        state.apply(Revision(2), &Command::Commit(commit(1, n, vec![])));
    }
    assert!(state.remembered(&entity(0), &request(0)).is_none());
    assert!(state.remembered(&entity(0), &request(1)).is_some());
    assert!(state.remembered(&entity(0), &request(window)).is_some());
    assert_eq!(state.bytes(), counted(&state));
}

#[test]
fn a_large_reply_is_not_remembered_but_its_request_is() {
    let mut state = ready();
    let reply = vec![0; limits::REMEMBERED_REPLY_BYTES + 1];
    let large = Command::Commit(Commit { reply, ..commit(1, 1, vec![]) });
    assert!(matches!(state.apply(Revision(2), &large), Outcome::Applied { .. }));
    assert_eq!(state.apply(Revision(3), &large), Outcome::Replayed { reply: None });
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
        let mut state = ready();
        let before = state.clone();
        let outcome = state.apply(Revision(2), &Command::Commit(commit(1, 1, writes)));
        let Outcome::Refused(Refusal::TooMuch { limit, .. }) = outcome else {
            panic!("not refused: {outcome:?}");
        };
        assert_eq!(limit, bound as u64);
        assert_eq!(state, before);
    }
}

#[test]
fn a_full_store_refuses_growth_and_takes_what_frees_it() {
    let mut state = ready();
    let value = vec![0; limits::VARIABLE_BYTES];
    let fill = |state: &mut State, n: u16| {
        let writes = (0..8).map(|k| set(&format!("{n}-{k}"), &value)).collect();
        state.apply(Revision(2), &Command::Commit(commit(1, n, writes)))
    };
    let refused_at = (0..1000)
        .find(|&n| matches!(fill(&mut state, n), Outcome::Refused(Refusal::TooMuch { .. })))
        .expect("the store is bounded");
    assert!(state.bytes() <= limits::GROUP_BYTES);
    let free = (0..8).map(|k| Write::Delete { key: format!("0-{k}") }).collect();
    let outcome = state.apply(Revision(3), &Command::Commit(commit(1, 2000, free)));
    assert!(matches!(outcome, Outcome::Applied { .. }));
    assert!(matches!(fill(&mut state, refused_at), Outcome::Applied { .. }));
    let before = state.bytes();
    state.apply(Revision(4), &Command::DeleteSession { session: session(0) });
    assert!(state.bytes() < before / 100);
}

#[test]
fn a_node_id_stays_with_its_disk_even_after_removal() {
    let mut state = State::default();
    state.apply(Revision(1), &Command::PutNode(record(0, 0, 5)));
    state.apply(Revision(2), &Command::RemoveNode { node: node(0) });
    let thief = state.apply(Revision(3), &Command::PutNode(record(0, 1, 9)));
    assert!(matches!(thief, Outcome::Refused(Refusal::OtherDisk { .. })));
    let owner = state.apply(Revision(4), &Command::PutNode(record(0, 0, 6)));
    assert!(matches!(owner, Outcome::Applied { .. }));
    let older = state.apply(Revision(5), &Command::PutNode(record(0, 0, 5)));
    assert!(matches!(older, Outcome::Refused(Refusal::OldIncarnation { .. })));
}

#[test]
fn a_new_life_of_a_node_ends_the_epochs_of_its_former_one() {
    let mut state = ready();
    let epoch = |state: &State| state.placements().get(&entity(0)).expect("placed").epoch;
    let former = epoch(&state);
    state.apply(Revision(9), &Command::PutNode(record(0, 0, 1)));
    assert_eq!(epoch(&state), former, "the same life was recorded again");
    state.apply(Revision(10), &Command::PutNode(record(0, 0, 2)));
    assert!(epoch(&state) > former);
    let late = state.apply(Revision(11), &Command::Commit(commit(former.0, 1, vec![])));
    assert!(matches!(late, Outcome::Refused(Refusal::StaleEpoch { .. })), "{late:?}");
}

#[test]
fn another_program_under_a_name_is_another_activation() {
    let mut state = ready();
    let epoch = |state: &State| state.placements().get(&entity(0)).expect("placed").epoch;
    let former = epoch(&state);
    state.apply(Revision(9), &Command::PutFirmware(spec(0, 0)));
    assert_eq!(epoch(&state), former, "the same program was deployed again");
    state.apply(Revision(10), &Command::PutFirmware(spec(0, 1)));
    assert!(epoch(&state) > former);
}

#[test]
fn only_deployed_firmware_is_placed_and_only_on_known_nodes() {
    let mut state = ready();
    let place = |e: u8, n: u8| Command::Place { entity: entity(e), node: node(n), expected: None };
    assert!(matches!(
        state.apply(Revision(2), &place(1, 0)),
        Outcome::Refused(Refusal::NotDeployed { .. })
    ));
    assert!(matches!(
        state.apply(Revision(2), &place(0, 1)),
        Outcome::Refused(Refusal::UnknownNode { .. })
    ));
}
