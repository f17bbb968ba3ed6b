//! Promises of the state machine, over random histories from a small world, so that commands
//! meet each other's effects often.

use std::time::Duration;

use odeum_proto::codec;
use odeum_proto::store::{FirmwareLimits, FirmwarePolicy, ShardMove};
use odeum_proto::{Digest, Incarnation, Label, ReplicaId, limits};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod blobs;
mod leases;
mod moves;
mod restore;
mod shards;
mod updates;

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
        policy: FirmwarePolicy::default(),
        replicas: 1,
    }
}

fn command() -> impl Strategy<Value = Command> {
    let epoch = || (0..6_u64).prop_map(Epoch);
    prop_oneof![
        1 => (0..2_u8).prop_map(|n| Command::Found { cluster: cluster(n), groups: 2 }),
        2 => (0..3_u8, 0..2_u8, 1..4_u64)
            .prop_map(|(id, on, incarnation)| Command::PutNode(record(id, on, incarnation))),
        1 => (0..3_u8).prop_map(|n| Command::RemoveNode { node: node(n) }),
        2 => (0..2_u8, 0..2_u8).prop_map(|(n, content)| Command::PutFirmware(spec(n, content))),
        1 => (0..2_u8, 0..2_u8).prop_map(|(n, content)| {
            Command::RollBack { name: name(n), failed: Digest::of(&[content]) }
        }),
        1 => (0..2_u8, 0..2_u8).prop_map(|(n, content)| {
            Command::Settle { replica: ReplicaId::first(name(n)), kept: Digest::of(&[content]) }
        }),
        1 => (0..2_u8).prop_map(|n| Command::DeleteFirmware { name: name(n) }),
        4 => (0..2_u8, 0..3_u8, proptest::option::of(epoch())).prop_map(|(e, n, expected)| {
            Command::Place { entity: entity(e), node: node(n), expected }
        }),
        4 => vec((0..=SHARDS, 0..3_u8, proptest::option::of(epoch())), 0..4).prop_map(|moves| {
            let step = |(shard, n, expected)| ShardMove { shard, node: node(n), expected };
            Command::PlaceShards { kind: kind(), moves: moves.into_iter().map(step).collect() }
        }),
        1 => (0..3_u8, any::<bool>())
            .prop_map(|(n, leaving)| Command::SetLeaving { node: node(n), leaving }),
        4 => updates::command(),
        6 => blobs::command(),
        4 => leases::command(),
        6 => moves::command(),
    ]
}

fn replay<'a>(commands: impl IntoIterator<Item = &'a Command>) -> (State, Vec<Outcome>) {
    let mut state = State::default();
    let outcomes =
        commands.into_iter().zip(1..).map(|(c, n)| state.apply(Revision(n), c)).collect();
    (state, outcomes)
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
    fn a_refused_command_changes_nothing(commands in vec(command(), 0..60)) {
        let mut state = State::default();
        for (n, command) in (1..).zip(&commands) {
            let before = state.clone();
            match state.apply(Revision(n), command) {
                Outcome::Refused(_) => prop_assert_eq!(&state, &before),
                Outcome::Data(_) => prop_assert!(false, "no change of a session"),
                Outcome::Applied { revision }
                | Outcome::Placed { revision, .. }
                | Outcome::ShardsPlaced { revision, .. }
                | Outcome::Leased { revision, .. } => {
                    prop_assert_eq!(revision, Revision(n));
                }
            }
        }
    }

    #[test]
    fn a_command_applied_twice_in_a_row_has_the_effect_of_once(
        commands in vec(command(), 0..40),
        // To put a blob that nobody owns gives it its time anew, as often as it is done, and so it is
        // with leases.
        last in command().prop_filter("", |command| {
            let renews = matches!(command, Command::RenewLease { .. });
            !renews && !matches!(command, Command::PutBlob { owner: None, .. })
        }),
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
    fn only_the_current_epoch_changes_state(commands in vec(command(), 0..80)) {
        let mut state = State::default();
        for (n, command) in (1..).zip(&commands) {
            let current = |entity: &EntityId| state.placement(entity).map(|p| p.epoch);
            let holds = match command {
                Command::Place { entity, expected, .. } => current(entity) == *expected,
                Command::BeginMove { entity, expected, .. }
                | Command::Switch { entity, expected, .. }
                | Command::CallOff { entity, expected } => current(entity) == Some(*expected),
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
        let (mut state, mut epochs) = (State::default(), Vec::new());
        for (n, command) in (1..).zip(&commands) {
            let before = state.clone();
            let outcome = state.apply(Revision(n), command);
            if let Outcome::Placed { epoch, .. } | Outcome::ShardsPlaced { epoch, .. } = outcome
                // A switch that is asked for again tells what it came to.
                && state != before
            {
                epochs.push(epoch);
            }
        }
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
