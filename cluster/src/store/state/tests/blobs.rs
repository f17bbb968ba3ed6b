//! The index of blobs: who holds them, who owns them, and when they may go.

use std::collections::BTreeSet;

use odeum_proto::BlobOwner;

use super::*;

fn digest(content: u8) -> Digest {
    Digest::of(&[content])
}

fn owner(n: u8) -> BlobOwner {
    // Two of them are of firmware that may be deployed.
    if n < 2 { BlobOwner::package(&name(n)) } else { BlobOwner::checkpoint(&lamp(n.into())) }
}

fn nodes(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<NodeId> {
    numbers.into_iter().map(node).collect()
}

fn put(content: u8, on: &[u8], by: Option<u8>) -> Command {
    let (holders, owner) = (nodes(on.iter().copied()), by.map(owner));
    Command::PutBlob { digest: digest(content), size: 1, holders, owner }
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let holders = || proptest::collection::btree_set(0..3_u8, 0..3).prop_map(nodes);
    let revision = || (0..60_u64).prop_map(Revision);
    prop_oneof![
        3 => (0..2_u8, holders(), proptest::option::of(0..3_u8)).prop_map(|(d, holders, o)| {
            Command::PutBlob { digest: digest(d), size: 1, holders, owner: o.map(owner) }
        }),
        2 => (0..2_u8, 0..3_u8)
            .prop_map(|(d, o)| Command::ReleaseBlob { digest: digest(d), owner: owner(o) }),
        1 => (0..2_u8, holders(), revision()).prop_map(|(d, holders, expected)| {
            Command::SetHolders { digest: digest(d), holders, expected }
        }),
        1 => (0..2_u8, revision()).prop_map(|(d, unowned_since)| {
            Command::RemoveBlob { digest: digest(d), unowned_since }
        }),
    ]
}

/// A state with three nodes.
fn three() -> State {
    let mut state = ready();
    for n in [1, 2] {
        apply(&mut state, 2, &Command::PutNode(record(n, n, 1)));
    }
    state
}

fn apply(state: &mut State, revision: u64, command: &Command) {
    let outcome = state.apply(Revision(revision), command);
    assert!(!matches!(outcome, Outcome::Refused(_)), "{command}: {outcome:?}");
}

fn refused(state: &mut State, revision: u64, command: &Command) -> Refusal {
    match state.apply(Revision(revision), command) {
        Outcome::Refused(reason) => reason,
        other => panic!("{command}: {other:?}"),
    }
}

fn owners(state: &State, content: u8) -> Vec<String> {
    let record = state.blobs().get(&digest(content)).expect("known");
    record.owners.iter().map(ToString::to_string).collect()
}

proptest! {
    #[test]
    fn every_blob_has_a_holder_and_a_time_when_it_has_no_owner(
        commands in vec(super::command(), 0..80),
    ) {
        let (state, _) = replay(&commands);
        let mut owners = 0;
        for record in state.blobs.records().values() {
            prop_assert!(!record.holders.is_empty());
            prop_assert_eq!(record.owners.is_empty(), record.unowned_since.is_some());
            owners += record.owners.len() as u64;
        }
        prop_assert_eq!(state.blobs().owners(), owners);
    }

    #[test]
    fn a_firmware_owns_what_its_replicas_run_the_one_before_and_no_other(
        commands in vec(super::command(), 0..80),
    ) {
        let mut state = State::default();
        for (n, command) in (1..).zip(&commands) {
            let outcome = state.apply(Revision(n), command);
            let Command::PutFirmware(spec) = command else { continue };
            if matches!(outcome, Outcome::Refused(_)) {
                continue;
            }
            let owner = BlobOwner::package(&spec.name);
            for (digest, record) in state.blobs().records() {
                let former = state.former(&spec.name).map(|former| former.digest);
                let does_run = state.replicas_of(&spec.name).any(|(_, it)| it.digest == *digest);
                let is_needed = *digest == spec.digest || former == Some(*digest) || does_run;
                prop_assert_eq!(record.owners.contains(&owner), is_needed);
            }
        }
    }
}

#[test]
fn a_package_is_owned_from_its_deployment_to_the_next_or_to_the_end() {
    let mut state = three();
    apply(&mut state, 10, &put(1, &[0, 1], None));
    assert_eq!(state.blobs().get(&digest(1)).expect("known").unowned_since, Some(Revision(10)));
    apply(&mut state, 11, &Command::PutFirmware(spec(0, 1)));
    assert_eq!(owners(&state, 1), ["package/f0"]);
    apply(&mut state, 12, &put(2, &[0, 1], None));
    apply(&mut state, 13, &Command::PutFirmware(spec(0, 2)));
    assert_eq!(owners(&state, 2), ["package/f0"]);
    assert_eq!(owners(&state, 1), ["package/f0"], "it may come back");
    apply(&mut state, 14, &Command::Settle { replica: ReplicaId::first(name(0)), kept: digest(1) });
    assert_eq!(owners(&state, 1), ["package/f0"], "something else is deployed");
    apply(&mut state, 15, &Command::Settle { replica: ReplicaId::first(name(0)), kept: digest(2) });
    assert_eq!(state.blobs().get(&digest(1)).expect("known").unowned_since, Some(Revision(15)));
    apply(&mut state, 16, &Command::DeleteFirmware { name: name(0) });
    assert_eq!(state.blobs().get(&digest(2)).expect("known").unowned_since, Some(Revision(16)));
}

#[test]
fn what_was_deployed_before_comes_back_once_and_under_a_new_epoch() {
    let mut state = three();
    for (n, digest) in [(10, 1), (11, 2)] {
        apply(&mut state, n, &put(digest, &[0, 1], None));
    }
    let roll_back = |failed| Command::RollBack { name: name(0), failed: digest(failed) };
    apply(&mut state, 12, &Command::PutFirmware(spec(0, 1)));
    apply(&mut state, 13, &Command::Settle { replica: ReplicaId::first(name(0)), kept: digest(1) });
    let refused = state.apply(Revision(13), &roll_back(1));
    assert!(matches!(refused, Outcome::Refused(Refusal::NothingBefore { .. })), "{refused:?}");
    apply(&mut state, 14, &Command::PutFirmware(spec(0, 2)));
    apply(&mut state, 15, &roll_back(1));
    assert_eq!(state.firmware()[&name(0)].digest, digest(2), "that one did not fail");
    apply(&mut state, 16, &roll_back(2));
    assert_eq!(state.firmware()[&name(0)].digest, digest(1));
    assert_eq!(owners(&state, 2), [""; 0]);
    apply(&mut state, 17, &roll_back(2));
    assert_eq!(state.firmware()[&name(0)].digest, digest(1), "again, it changes nothing");
}

#[test]
fn a_blob_that_is_put_again_is_not_removed_by_a_plan_made_before() {
    let mut state = three();
    apply(&mut state, 10, &put(1, &[0], None));
    apply(&mut state, 11, &put(1, &[0], None));
    let remove = |at| Command::RemoveBlob { digest: digest(1), unowned_since: Revision(at) };
    assert!(matches!(refused(&mut state, 12, &remove(10)), Refusal::StaleBlob { .. }));
    apply(&mut state, 13, &put(1, &[0], Some(2)));
    assert!(matches!(refused(&mut state, 14, &remove(11)), Refusal::StaleBlob { .. }));
    apply(&mut state, 15, &Command::ReleaseBlob { digest: digest(1), owner: owner(2) });
    apply(&mut state, 16, &remove(15));
    apply(&mut state, 17, &remove(15));
    assert!(state.blobs().records().is_empty());
}

#[test]
fn holders_are_added_by_a_put_and_changed_by_who_has_seen_the_last_change() {
    let mut state = three();
    apply(&mut state, 10, &put(1, &[0], Some(2)));
    apply(&mut state, 11, &put(1, &[1], Some(2)));
    let holders = |state: &State| state.blobs().get(&digest(1)).expect("known").holders.clone();
    assert_eq!(holders(&state), nodes([0, 1]));
    let set = |on: &[u8], expected| Command::SetHolders {
        digest: digest(1),
        holders: nodes(on.iter().copied()),
        expected: Revision(expected),
    };
    assert!(matches!(refused(&mut state, 12, &set(&[2], 10)), Refusal::StaleBlob { .. }));
    assert!(matches!(refused(&mut state, 12, &set(&[], 11)), Refusal::NoHolder { .. }));
    assert!(matches!(refused(&mut state, 12, &set(&[7], 11)), Refusal::UnknownNode { .. }));
    apply(&mut state, 13, &set(&[1, 2], 11));
    assert_eq!(holders(&state), nodes([1, 2]));
    apply(&mut state, 14, &Command::RemoveNode { node: node(2) });
    assert_eq!(holders(&state), nodes([1, 2]), "it is lost only when another holder is found");
}

#[test]
fn the_same_digest_with_another_length_is_refused() {
    let mut state = three();
    apply(&mut state, 10, &put(1, &[0], None));
    let other = Command::PutBlob { digest: digest(1), size: 2, holders: nodes([0]), owner: None };
    assert!(matches!(
        refused(&mut state, 11, &other),
        Refusal::OtherSize { is: 1, claimed: 2, .. }
    ));
}
