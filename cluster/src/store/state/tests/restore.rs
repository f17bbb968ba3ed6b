//! A backup comes into the cluster: epochs go above it, and nothing starts before the end.

use odeum_proto::backup::{KnownFirmware, Restore, RestoreStep};
use odeum_proto::{BackupId, BlobOwner};

use super::*;

const ABOVE: Epoch = Epoch(1_000);

fn begin(backup: BackupId) -> Command {
    let kinds = BTreeMap::from([(kind(), SHARDS), ("door".parse().expect("valid"), 7)]);
    Command::Restore(Restore { backup, step: RestoreStep::Begin { above: ABOVE, kinds } })
}

fn finish(backup: BackupId) -> Command {
    let firmware = vec![KnownFirmware { spec: spec(0, 0), born: Epoch(3) }];
    Command::Restore(Restore { backup, step: RestoreStep::Finish { firmware } })
}

/// A cluster of nodes that host lamps, all shards of which are placed.
fn empty() -> State {
    let mut state = State::default();
    let moves = (0..SHARDS).map(|shard| ShardMove { shard, node: node(1), expected: None });
    for command in [
        Command::PutNode(record(1, 1, 1)),
        Command::PutNode(record(2, 2, 1)),
        Command::PlaceShards { kind: kind(), moves: moves.collect() },
    ] {
        assert!(!matches!(state.apply(Revision(1), &command), Outcome::Refused(_)));
    }
    state
}

#[test]
fn every_epoch_is_above_those_of_the_backup_from_the_first_step_on() {
    let (mut state, backup) = (empty(), BackupId::random());
    let revision = Revision(9);
    assert!(matches!(state.apply(revision, &begin(backup)), Outcome::Applied { .. }));
    let shards = |state: &State| -> Vec<Epoch> {
        state.kinds()[&kind()].iter().filter_map(|(_, at)| Some(at?.epoch)).collect()
    };
    assert_eq!(shards(&state).len(), usize::from(SHARDS));
    assert!(shards(&state).iter().all(|epoch| *epoch > ABOVE), "{:?}", shards(&state));
    assert_eq!(state.kinds().len(), 2, "a kind that no node here hosts");
    assert_eq!(state.layout(), revision);

    // Again, by whoever goes on with it.
    let before = state.clone();
    state.apply(Revision(10), &begin(backup));
    assert_eq!(state, before);

    state.apply(Revision(11), &finish(backup));
    let placed = Command::Place { entity: entity(0), node: node(2), expected: None };
    match state.apply(Revision(12), &placed) {
        Outcome::Placed { epoch, .. } => assert!(epoch > ABOVE),
        other => panic!("{other:?}"),
    }
    assert_eq!(state.born(&name(0)), Some(Epoch(3)), "what it remembers is its own");
}

#[test]
fn nothing_is_deployed_before_the_last_step_and_all_of_it_with_that() {
    let (mut state, backup) = (empty(), BackupId::random());
    let (digest, owner) = (spec(0, 0).digest, BlobOwner::package(&name(0)));
    state.apply(Revision(9), &begin(backup));
    let refused = state.apply(Revision(10), &Command::PutFirmware(spec(1, 1)));
    assert!(matches!(refused, Outcome::Refused(Refusal::Restoring { .. })), "{refused:?}");
    let put =
        Command::PutBlob { digest, size: 1, holders: [node(1)].into(), owner: Some(owner.clone()) };
    assert!(matches!(state.apply(Revision(11), &put), Outcome::Applied { .. }));
    let other = state.apply(Revision(12), &finish(BackupId::random()));
    assert!(matches!(other, Outcome::Refused(Refusal::OtherBackup { .. })), "{other:?}");
    let other = state.apply(Revision(12), &begin(BackupId::random()));
    assert!(matches!(other, Outcome::Refused(Refusal::Restoring { .. })), "{other:?}");
    assert!(state.firmware().is_empty());

    state.apply(Revision(13), &finish(backup));
    assert_eq!(state.firmware().len(), 1);
    assert!(state.blobs().get(&digest).is_some_and(|blob| blob.owners.contains(&owner)));
    assert_eq!(state.restored(), Some(Restored { backup, complete: true }));
    let before = state.clone();
    state.apply(Revision(14), &finish(backup));
    assert_eq!(state, before);
    let deployed = state.apply(Revision(15), &Command::PutFirmware(spec(1, 1)));
    assert!(matches!(deployed, Outcome::Applied { .. }), "{deployed:?}");
}

#[test]
fn a_cluster_with_firmware_blobs_or_other_shards_takes_no_backup() {
    let refused = |command: Command| {
        let mut state = empty();
        let done = state.apply(Revision(9), &command);
        assert!(matches!(done, Outcome::Applied { .. }), "{done:?}");
        let before = state.clone();
        let outcome = state.apply(Revision(10), &begin(BackupId::random()));
        assert_eq!(state, before);
        match outcome {
            Outcome::Refused(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(Command::PutFirmware(spec(0, 0))).contains("1 deployed firmware"));
    let put = |owner| Command::PutBlob {
        digest: Digest::of(b"blob"),
        size: 4,
        holders: [node(1)].into(),
        owner,
    };
    assert!(refused(put(Some(BlobOwner::package(&name(0))))).contains("1 blobs"));
    let doors = BTreeMap::from([("door".parse().expect("valid"), 9)]);
    let other = NodeRecord { kinds: doors, ..record(3, 3, 1) };
    assert!(refused(Command::PutNode(other)).contains("door has 9 shards, not 7"));
    // What nobody needs any more is about to go.
    let mut state = empty();
    state.apply(Revision(9), &put(None));
    let begun = state.apply(Revision(10), &begin(BackupId::random()));
    assert!(matches!(begun, Outcome::Applied { .. }), "{begun:?}");
}

#[test]
fn a_backup_with_impossible_epochs_is_refused_and_epochs_go_on() {
    let mut state = empty();
    let before = state.clone();
    for above in [Epoch(u64::MAX), Epoch(u64::MAX / 2 + 1)] {
        let step = RestoreStep::Begin { above, kinds: BTreeMap::new() };
        let restore = Command::Restore(Restore { backup: BackupId::random(), step });
        let outcome = state.apply(Revision(9), &restore);
        assert!(matches!(outcome, Outcome::Refused(Refusal::TooMuch { .. })), "{outcome:?}");
        assert_eq!(state, before);
    }
}
