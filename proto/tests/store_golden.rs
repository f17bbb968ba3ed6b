//! The bytes of what is in logs, in snapshots and between replicas, pinned per wire version.
//!
//! When this fails, logs and peers of the released version would not be understood any more:
//! undo the change, add a new variant at the end instead, or raise `wire::MAJOR`. After such a
//! decision renew the file with
//!
//! ```text
//! ODEUM_RENEW_GOLDEN=1 cargo test -p odeum-proto --test store_golden
//! ```
//!
//! | wire version | why it was raised |
//! |---|---|
//! | 7 | a firmware names the nodes that may run it, and others that it is to be apart from |
//! | 6 | a firmware has replicas, each with a package of its own while an update is under way; it moves with what it has in memory; a commit tells of several requests |
//! | 3 | sessions have groups of their own in the store, with commands and outcomes of their own |
//! | 2 | the record of a node says which kinds it hosts, its labels, zone and capacity; logs and snapshots of version 1 are refused by their format number |

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use odeum_proto::log::{
    Ballot, Change, Compacted, Entry, Forward, LogId, Membership, Payload, Proposal, RaftReply,
    RaftRequest, Record, SnapshotMeta, StoreReply, StoreRequest, StoredMembership, Vote,
};
use odeum_proto::session::{
    Carried, Commit, DataAction, DataOutcome, Quota, SessionRefusal, Write,
};
use odeum_proto::store::{
    Command, FirmwareLimits, FirmwarePolicy, FirmwareSpec, Liveness, Measure, NodeRecord, Outcome,
    Refusal, Remedy, RestartBudget, RollbackBudget, ShardMove, Threshold,
};
use odeum_proto::{
    BlobOwner, ClusterId, Digest, DiskId, EntityId, EntityKind, Epoch, GroupId, Incarnation, Label,
    LogTime, Name, NodeId, ReplicaId, Revision, codec, wire,
};
use serde::{Serialize, de::DeserializeOwned};

#[path = "store_golden/backup.rs"]
mod backup;
#[path = "store_golden/sessions.rs"]
mod sessions;

const UUID: &str = "01234567-89ab-4cde-8f01-23456789abcd";

fn node() -> NodeId {
    "n1".parse().expect("valid")
}

fn name() -> Name {
    "counter".parse().expect("valid")
}

fn replica() -> ReplicaId {
    "counter.2".parse().expect("valid")
}

fn entity() -> EntityId {
    "firmware/counter".parse().expect("valid")
}

fn kind() -> EntityKind {
    "lamp".parse().expect("valid")
}

fn label(text: &str) -> Label {
    text.parse().expect("valid")
}

fn cluster() -> ClusterId {
    UUID.parse().expect("valid")
}

fn disk() -> DiskId {
    UUID.parse().expect("valid")
}

fn record() -> NodeRecord {
    NodeRecord {
        id: node(),
        disk: disk(),
        incarnation: Incarnation(3),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "[::1]:7070".parse().expect("valid"),
        version: "0.1.0".into(),
        kinds: BTreeMap::from([(kind(), 64)]),
        labels: BTreeMap::from([(label("disk"), label("ssd"))]),
        zone: Some(label("rack-1")),
        capacity: 300,
    }
}

fn data(action: DataAction) -> Command {
    Command::Data(action.into())
}

fn policy() -> FirmwarePolicy {
    FirmwarePolicy {
        restarts: RestartBudget {
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
            max_restarts: 12,
            within: Duration::from_secs(90),
            per_hour: 60,
        },
        boot_time: Duration::from_secs(30),
        idle: Some(Duration::from_secs(60)),
        rollback: RollbackBudget { crashes: 3, within: Duration::from_secs(300) },
        thresholds: vec![
            Threshold {
                of: Measure::Cpu,
                above: 90,
                lasting: Duration::from_secs(30),
                then: Remedy::Restart,
            },
            Threshold {
                of: Measure::Memory,
                above: 1 << 20,
                lasting: Duration::ZERO,
                then: Remedy::Warn,
            },
        ],
        labels: BTreeMap::from([(label("disk"), label("ssd"))]),
        max_unavailable: 2,
        liveness: Some(Liveness {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: 3,
            path: Some("/healthz".to_owned()),
        }),
        nodes: BTreeSet::from([node()]),
        apart: BTreeSet::from([name()]),
    }
}

fn commands() -> Vec<Command> {
    let limits = FirmwareLimits { memory_bytes: 1 << 24, message_time: Duration::from_millis(500) };
    let spec = FirmwareSpec {
        name: name(),
        digest: Digest::of(b"wasm"),
        size: 4,
        limits,
        policy: policy(),
        replicas: 3,
    };
    let commit = Commit {
        entity: entity(),
        epoch: Epoch(7),
        request: "r-1".parse().expect("valid"),
        session: "counter/default".parse().expect("valid"),
        writes: vec![
            Write::Set { key: "count".into(), value: vec![1, 2] },
            Write::Delete { key: "old".into() },
        ],
        reply: vec![9],
        carried: vec![
            Carried { request: "r-0".parse().expect("valid"), reply: Some(vec![8].into()) },
            Carried { request: "r-2".parse().expect("valid"), reply: None },
        ],
    };
    vec![
        Command::Found { cluster: cluster(), groups: 2 },
        Command::PutNode(record()),
        Command::RemoveNode { node: node() },
        Command::PutFirmware(spec),
        Command::DeleteFirmware { name: name() },
        Command::Place { entity: entity(), node: node(), expected: Some(Epoch(6)) },
        data(DataAction::Commit(commit)),
        data(DataAction::Fence { entity: entity(), epoch: Epoch(7), born: Epoch(2) }),
        data(DataAction::Forget { entity: entity(), epoch: Epoch(8) }),
        data(DataAction::DeleteSession { session: "counter/default".parse().expect("valid") }),
        Command::PlaceShards {
            kind: kind(),
            moves: vec![
                ShardMove { shard: 0, node: node(), expected: None },
                ShardMove { shard: 300, node: node(), expected: Some(Epoch(6)) },
            ],
        },
        Command::SetLeaving { node: node(), leaving: true },
        Command::PutBlob {
            digest: Digest::of(b"wasm"),
            size: 300,
            holders: BTreeSet::from([node()]),
            owner: Some(BlobOwner::package(&name())),
        },
        Command::ReleaseBlob {
            digest: Digest::of(b"wasm"),
            owner: BlobOwner::checkpoint(&entity()),
        },
        Command::SetHolders {
            digest: Digest::of(b"wasm"),
            holders: BTreeSet::from([node()]),
            expected: Revision(300),
        },
        Command::RemoveBlob { digest: Digest::of(b"wasm"), unowned_since: Revision(300) },
        Command::RenewLease {
            node: node(),
            incarnation: Incarnation(3),
            ttl: Duration::from_millis(3_000),
        },
        Command::EndLease { node: node(), epoch: Epoch(7), renewed: Some(Revision(300)) },
        Command::CloseLease { node: node(), epoch: Epoch(7) },
        Command::RollBack { name: name(), failed: Digest::of(b"wasm") },
        Command::Settle { replica: replica(), kept: Digest::of(b"wasm") },
        Command::Scale { name: name(), replicas: 3 },
        Command::Advance { replica: replica(), expected: Some(Epoch(7)), behind: 2 },
        Command::BeginMove { entity: entity(), to: node(), expected: Epoch(7) },
        Command::Switch { entity: entity(), to: node(), expected: Epoch(7) },
        Command::CallOff { entity: entity(), expected: Epoch(7) },
        Command::SetDraining { node: node(), draining: true },
    ]
    .into_iter()
    .chain(backup::restores())
    .collect()
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::OtherCluster { is: cluster(), claimed: cluster() },
        Refusal::OtherDisk { node: node(), is: disk(), claimed: disk() },
        Refusal::OldIncarnation { node: node(), is: Incarnation(3), claimed: Incarnation(2) },
        Refusal::StaleEpoch { entity: entity(), is: Some(Epoch(7)), claimed: None },
        Refusal::UnknownFirmware { name: name() },
        Refusal::UnknownNode { node: node() },
        Refusal::TooMuch { what: "bytes".into(), got: 300, limit: 256 },
        Refusal::NotDeployed { entity: "lamp/hall/3".parse().expect("valid") },
        Refusal::UnknownKind { kind: kind() },
        Refusal::OtherShards { kind: kind(), is: 64, claimed: 300 },
        Refusal::ShardNumber { kind: kind(), got: 0, limit: 4_096 },
        Refusal::UnknownShard { kind: kind(), shards: 64, shard: 300 },
        Refusal::StaleShards { kind: kind() },
        Refusal::LosesQuorum { node: node(), others: 2, there: 1 },
        Refusal::UnknownBlob { digest: Digest::of(b"wasm") },
        Refusal::StaleBlob { digest: Digest::of(b"wasm") },
        Refusal::NoHolder { digest: Digest::of(b"wasm") },
        Refusal::OtherSize { digest: Digest::of(b"wasm"), is: 300, claimed: 7 },
        Refusal::OtherIncarnation { node: node(), is: Incarnation(3), claimed: Incarnation(2) },
        Refusal::NoLease { node: node() },
        Refusal::Closing { node: node() },
        Refusal::NotEmpty { what: "blobs".into(), number: 300 },
        Refusal::Restoring { backup: backup::id() },
        Refusal::OtherBackup { claimed: backup::id() },
        Refusal::NothingBefore { name: name() },
        Refusal::StaleUpdate { name: name() },
        Refusal::NoReplica,
        Refusal::Moving { entity: entity(), to: node() },
        Refusal::AlreadyThere { entity: entity(), node: node() },
        Refusal::NotMoving { entity: entity() },
    ]
}

fn outcomes() -> Vec<Outcome> {
    let revision = Revision(300);
    vec![
        Outcome::Applied { revision },
        Outcome::Placed { revision, epoch: Epoch(7) },
        Outcome::Data(DataOutcome::Applied { revision: Revision(300) }),
        Outcome::Data(DataOutcome::Replayed { reply: Some(vec![1]) }),
        Outcome::Data(DataOutcome::Refused(SessionRefusal::StaleEpoch {
            entity: entity(),
            is: Epoch(8),
            claimed: Epoch(7),
        })),
        Outcome::Data(DataOutcome::Refused(SessionRefusal::TooMuch {
            quota: Quota::GroupBytes,
            what: "".into(),
            got: 2,
            limit: 1,
        })),
        Outcome::Refused(Refusal::UnknownNode { node: node() }),
        Outcome::ShardsPlaced { revision, epoch: Epoch(7), placed: vec![0, 300] },
        Outcome::Leased { revision, epoch: Epoch(7) },
    ]
}

fn id() -> LogId {
    LogId { term: 2, index: 300 }
}

fn vote() -> Vote {
    Vote { term: 2, voted_for: node(), committed: true }
}

fn membership() -> Membership {
    let nodes = BTreeSet::from([node()]);
    Membership { configs: vec![nodes.clone()], nodes }
}

fn entries() -> Vec<Entry> {
    let found = Command::Found { cluster: cluster(), groups: 2 };
    let command = codec::encode(&found).expect("encodes").into();
    let found = Payload::Command(Proposal { at: LogTime(1_000), command });
    [Payload::Blank, found, Payload::Membership(membership())]
        .map(|payload| Entry { id: id(), payload })
        .to_vec()
}

fn changes() -> Vec<Record> {
    let mut changes: Vec<Change> = entries().into_iter().map(Change::Entry).collect();
    changes.extend([
        Change::Vote(vote()),
        Change::Committed(Some(id())),
        Change::Truncate { from: 7 },
        Change::Purge(id()),
    ]);
    changes.into_iter().map(|change| Record { group: GroupId::Data(1), change }).collect()
}

fn meta() -> SnapshotMeta {
    let membership = StoredMembership { log_id: Some(id()), membership: membership() };
    SnapshotMeta { last: Some(id()), membership }
}

fn raft_requests() -> Vec<RaftRequest> {
    let ballot = || Ballot { vote: vote(), last: Some(id()), transfer: false };
    vec![
        RaftRequest::Append {
            vote: vote(),
            previous: Some(id()),
            entries: entries(),
            committed: None,
        },
        RaftRequest::Vote(ballot()),
        RaftRequest::PreVote(ballot()),
        RaftRequest::Snapshot { vote: vote(), meta: meta(), state: vec![1, 2, 3].into() },
        RaftRequest::Transfer { vote: vote(), to: node(), last: Some(id()) },
    ]
}

fn raft_replies() -> Vec<RaftReply> {
    vec![
        RaftReply::Appended,
        RaftReply::AppendedUpTo(Some(id())),
        RaftReply::Conflict,
        RaftReply::HigherVote(vote()),
        RaftReply::Ballot { vote: vote(), last: Some(id()), granted: true },
        RaftReply::Snapshot { vote: vote() },
        RaftReply::Stopped { reason: "starting".into() },
        RaftReply::Transfer { taken: true },
    ]
}

fn forwards() -> Vec<Forward> {
    let write = StoreRequest::Write(Command::Found { cluster: cluster(), groups: 2 });
    [
        write,
        StoreRequest::Propose(vec![vec![1, 2].into()]),
        StoreRequest::Barrier,
        StoreRequest::LeaseBarrier,
        StoreRequest::Admit(record()),
        StoreRequest::Release { node: node() },
        StoreRequest::Compact,
    ]
    .map(|request| Forward { remaining: Duration::from_millis(1500), request })
    .to_vec()
}

fn store_replies() -> Vec<StoreReply> {
    let outcome = Outcome::Applied { revision: Revision(300) };
    vec![
        StoreReply::Written { outcome, at: Revision(300) },
        StoreReply::Proposed(vec![(Outcome::Applied { revision: Revision(300) }, Revision(300))]),
        StoreReply::Barrier(Revision(300)),
        StoreReply::Admitted,
        StoreReply::Released,
        StoreReply::NotAdmitted(Refusal::UnknownNode { node: node() }),
        StoreReply::NotLeader { leader: Some(node()) },
        StoreReply::Unknown { reason: "x".into() },
        StoreReply::NoSpace,
        StoreReply::Stopped { reason: "x".into() },
        StoreReply::Compacted(Compacted {
            entries_before: 300,
            entries_after: 7,
            snapshot_bytes: 70_000,
            log_bytes: 300,
        }),
    ]
}

/// One line per value; also checks that each is read back as it was.
fn lines<T>(text: &mut String, what: &str, values: Vec<T>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    for (number, value) in values.into_iter().enumerate() {
        let bytes = codec::encode(&value).expect("encodes");
        assert_eq!(codec::decode::<T>(&bytes).as_ref(), Ok(&value));
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = writeln!(text, "{what}.{number} {hex}");
    }
}

#[test]
fn the_bytes_on_disk_and_between_replicas_are_those_of_this_wire_version() {
    let mut text = String::new();
    lines(&mut text, "command", commands());
    lines(&mut text, "refusal", refusals());
    lines(&mut text, "outcome", outcomes());
    lines(&mut text, "data-command", sessions::commands());
    lines(&mut text, "data-outcome", sessions::outcomes());
    lines(&mut text, "data-refusal", sessions::refusals());
    lines(&mut text, "change", sessions::changes());
    lines(&mut text, "record", changes());
    lines(&mut text, "snapshot-meta", vec![meta()]);
    lines(&mut text, "raft-request", raft_requests());
    lines(&mut text, "raft-reply", raft_replies());
    lines(&mut text, "forward", forwards());
    lines(&mut text, "store-reply", store_replies());
    lines(&mut text, "backup-import", backup::imports());
    lines(&mut text, "backup-refusal", backup::refusals());
    lines(&mut text, "backup-piece", backup::pieces());

    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/golden/store.v{}.txt", wire::MAJOR));
    if std::env::var_os("ODEUM_RENEW_GOLDEN").is_some() {
        fs::write(&file, &text).expect("written");
    }
    let golden = fs::read_to_string(&file).expect("the golden file is there");
    for (ours, golden) in text.lines().zip(golden.lines()) {
        assert_eq!(ours, golden, "the bytes have changed; see the top of this file");
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
