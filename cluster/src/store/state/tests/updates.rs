//! Replicas, and updates that reach them one by one.

use super::*;

pub(super) fn command() -> impl Strategy<Value = Command> {
    let replica = || (0..2_u8, 1..5_u32).prop_map(|(n, number)| replica(n, number));
    prop_oneof![
        2 => (0..2_u8, 0..5_u32)
            .prop_map(|(n, replicas)| Command::Scale { name: name(n), replicas }),
        2 => (0..2_u8, 0..3_u8, 1..5_u32)
            .prop_map(|(n, content, replicas)| Command::PutFirmware(of(n, content, replicas))),
        3 => (replica(), proptest::option::of((0..9_u64).prop_map(Epoch)), 0..4_u32)
            .prop_map(|(replica, expected, behind)| Command::Advance { replica, expected, behind }),
        2 => (replica(), 0..3_u8)
            .prop_map(|(replica, content)| Command::Settle { replica, kept: Digest::of(&[content]) }),
        2 => (replica(), 0..3_u8, proptest::option::of((0..9_u64).prop_map(Epoch)))
            .prop_map(|(it, n, expected)| {
                Command::Place { entity: it.entity(), node: node(n), expected }
            }),
    ]
}

fn replica(n: u8, number: u32) -> ReplicaId {
    ReplicaId::new(name(n), number).expect("a replica")
}

fn of(n: u8, content: u8, replicas: u32) -> FirmwareSpec {
    FirmwareSpec { replicas, ..spec(n, content) }
}

fn digest(content: u8) -> Digest {
    Digest::of(&[content])
}

struct Story {
    state: State,
    last: u64,
}

impl Story {
    /// Three replicas of a firmware, placed.
    fn new() -> Self {
        let mut story = Self { state: ready(), last: 1 };
        story.put(0, 3);
        for number in 2..=3 {
            let entity = replica(0, number).entity();
            story.must(&Command::Place { entity, node: node(0), expected: None });
        }
        story
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.last += 1;
        self.state.apply(Revision(self.last), command)
    }

    fn must(&mut self, command: &Command) {
        let outcome = self.apply(command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{command}: {outcome:?}");
    }

    fn put(&mut self, content: u8, replicas: u32) {
        self.must(&Command::PutFirmware(of(0, content, replicas)));
    }

    fn advance(&mut self, number: u32, behind: u32) -> Outcome {
        let replica = replica(0, number);
        let expected = self.epoch(number);
        self.apply(&Command::Advance { replica, expected, behind })
    }

    fn epoch(&self, number: u32) -> Option<Epoch> {
        self.state.placement(&replica(0, number).entity()).map(|at| at.epoch)
    }

    fn epochs(&self) -> Vec<Option<Epoch>> {
        (1..=3).map(|number| self.epoch(number)).collect()
    }

    fn runs(&self) -> Vec<Digest> {
        self.state.replicas_of(&name(0)).map(|(_, spec)| spec.digest).collect()
    }

    fn behind(&self) -> Vec<u32> {
        let update = self.state.update(&name(0));
        update.map(|it| it.behind().keys().copied().collect()).unwrap_or_default()
    }
}

#[test]
fn an_update_reaches_one_replica_after_the_other_and_each_under_a_new_epoch() {
    let mut story = Story::new();
    let before = story.epochs();
    story.put(1, 3);
    assert_eq!(story.runs(), [digest(0); 3], "nothing has changed for any of them");
    assert_eq!((story.epochs(), story.behind()), (before.clone(), vec![1, 2, 3]));
    assert!(matches!(story.advance(2, 3), Outcome::Applied { .. }));
    assert_eq!(story.runs(), [digest(0), digest(1), digest(0)]);
    assert!(story.epoch(2) > before[1] && story.epoch(1) == before[0]);
    // Another leader has planned the same step, or one beside it.
    assert!(matches!(story.advance(2, 3), Outcome::Refused(Refusal::StaleUpdate { .. })));
    assert!(matches!(story.advance(3, 3), Outcome::Refused(Refusal::StaleUpdate { .. })));
    story.advance(1, 2);
    story.advance(3, 1);
    assert_eq!((story.runs(), story.behind()), (vec![digest(1); 3], vec![]));
}

#[test]
fn a_rollback_brings_back_all_that_were_updated_and_leaves_the_others_alone() {
    let mut story = Story::new();
    story.put(1, 3);
    story.advance(1, 3);
    let before = story.epochs();
    story.must(&Command::RollBack { name: name(0), failed: digest(1) });
    assert_eq!((story.behind(), story.epochs()), (vec![1], before.clone()));
    assert_eq!(story.state.former(&name(0)), None, "it is not undone again");
    story.advance(1, 1);
    assert_eq!(story.runs(), [digest(0); 3]);
    assert_eq!(story.epochs()[1..], before[1..]);
}

#[test]
fn what_comes_back_is_what_ran_everywhere_last() {
    let mut story = Story::new();
    story.put(1, 3);
    story.advance(1, 3);
    story.put(2, 3);
    assert_eq!(story.state.former(&name(0)).map(|it| it.digest), Some(digest(0)));
    assert_eq!(story.runs(), [digest(1), digest(0), digest(0)]);
    assert_eq!(story.behind(), [1, 2, 3]);
    story.put(0, 3);
    assert_eq!(story.state.former(&name(0)), None, "it is deployed by hand");
    assert_eq!(story.behind(), [1], "two of them never ran anything else");
}

#[test]
fn a_replica_that_was_not_updated_or_has_stood_the_test_undoes_nothing() {
    let mut story = Story::new();
    story.put(1, 3);
    let former = |story: &Story, number| story.state.former_of(&replica(0, number)).is_some();
    assert!(!former(&story, 1));
    for (number, behind) in [(1, 3), (2, 2), (3, 1)] {
        story.advance(number, behind);
        assert!(former(&story, number));
    }
    for number in 1..=3 {
        assert!(story.state.former(&name(0)).is_some(), "it is on trial");
        story.must(&Command::Settle { replica: replica(0, number), kept: digest(1) });
        assert!(!former(&story, number));
    }
    assert_eq!((story.state.former(&name(0)), story.state.update(&name(0))), (None, None));
}

#[test]
fn with_fewer_replicas_the_highest_numbers_go_and_with_more_nobody_is_disturbed() {
    let mut story = Story::new();
    let before = story.epochs();
    story.must(&Command::Scale { name: name(0), replicas: 1 });
    assert_eq!(story.epochs(), [before[0], None, None]);
    story.must(&Command::Scale { name: name(0), replicas: 3 });
    assert_eq!(story.epoch(1), before[0]);
    let place = |entity| Command::Place { entity, node: node(0), expected: None };
    story.must(&place(replica(0, 3).entity()));
    assert!(story.epoch(3) > before[2], "what the one before it left under way comes too late");
    let fourth = story.apply(&place(replica(0, 4).entity()));
    assert!(matches!(fourth, Outcome::Refused(Refusal::NotDeployed { .. })));
    let none = story.apply(&Command::Scale { name: name(0), replicas: 0 });
    assert_eq!(none, Outcome::Refused(Refusal::NoReplica));
    let many = story.apply(&Command::Scale { name: name(0), replicas: limits::REPLICAS + 1 });
    assert!(matches!(many, Outcome::Refused(Refusal::TooMuch { .. })));
}

#[test]
fn a_single_replica_is_updated_and_rolled_back_at_once() {
    let mut story = Story::new();
    story.must(&Command::Scale { name: name(0), replicas: 1 });
    let before = story.epoch(1);
    story.put(1, 1);
    assert_eq!((story.runs(), story.behind()), (vec![digest(1)], vec![]));
    assert!(story.epoch(1) > before);
    story.must(&Command::RollBack { name: name(0), failed: digest(1) });
    assert_eq!((story.runs(), story.behind()), (vec![digest(0)], vec![]));
}

proptest! {
    #[test]
    fn each_replica_has_something_to_run_and_its_package_is_kept(commands in vec(super::command(), 0..80)) {
        let mut state = State::default();
        for (n, command) in (1..).zip(&commands) {
            state.apply(Revision(n), command);
            for (replica, spec) in state.replicas() {
                prop_assert_eq!(state.spec_of(&replica), Some(spec));
                let deployed = &state.firmware()[replica.firmware()];
                let update = state.update(replica.firmware());
                let is_behind = update.is_some_and(|it| it.behind().contains_key(&replica.number()));
                prop_assert_eq!(is_behind, !spec.runs_like(deployed));
                prop_assert!(state.packages_of(replica.firmware()).contains(&spec.digest));
            }
            for entity in state.placements().keys() {
                let replica = entity.replica().expect("a replica");
                prop_assert!(state.spec_of(&replica).is_some(), "{} is placed", entity);
            }
            for (name, update) in state.updates() {
                prop_assert!(state.firmware().contains_key(name));
                prop_assert!(update.behind().keys().all(|it| *it <= state.firmware()[name].replicas));
            }
        }
    }
}

#[test]
fn the_nodes_and_the_others_that_a_firmware_names_are_bounded() {
    let mut state = ready();
    let mut put = |policy| {
        let spec = FirmwareSpec { policy, ..spec(0, 1) };
        matches!(
            state.apply(Revision(9), &Command::PutFirmware(spec)),
            Outcome::Refused(Refusal::TooMuch { .. })
        )
    };
    let named = |most: usize| (0..most).map(|n| format!("n{n}"));
    let nodes = |most| named(most).map(|id| id.parse().expect("valid")).collect();
    let apart = |most| named(most).map(|id| id.parse().expect("valid")).collect();
    let usual = FirmwarePolicy::default;
    assert!(!put(FirmwarePolicy { nodes: nodes(limits::NODES_PER_FIRMWARE), ..usual() }));
    assert!(put(FirmwarePolicy { nodes: nodes(limits::NODES_PER_FIRMWARE + 1), ..usual() }));
    assert!(!put(FirmwarePolicy { apart: apart(limits::APART_PER_FIRMWARE), ..usual() }));
    assert!(put(FirmwarePolicy { apart: apart(limits::APART_PER_FIRMWARE + 1), ..usual() }));
}
