//! Backups of a cluster that is written to, and what becomes of them in another one.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use odeum_proto::backup::{JUMP, Piece, Row};
use odeum_proto::session::{
    Constraints, Definition, SessionRefusal, SessionSettings, Value, ValueType,
};
use odeum_proto::{BlobOwner, Name, Revision, SessionId};

use super::*;
use crate::store::backup::decoded;
use crate::store::{BackupError, BackupFile, Restored, SessionError, Vault, WatchEvent};

/// A cluster of one node with its own number of groups.
struct Lone {
    store: StoreHandle,
    supervisor: Supervisor,
    vault: Shelf,
    _dir: TempDir,
}

impl Lone {
    async fn of(groups: u16) -> Self {
        let dir = TempDir::new().expect("made");
        let node: NodeId = "m1".parse().expect("valid");
        let config =
            StoreConfig { groups, ..StoreConfig::new(dir.path().join("store"), node.clone()) };
        let port = Port { net: Net::default(), from: node.clone() };
        let (store, spec) = super::store(config, Arc::new(port));
        let supervisor = spec.start().await.expect("starts");
        let record = NodeRecord {
            id: node,
            disk: DiskId::random(),
            incarnation: Incarnation(1),
            cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
            api_addr: "127.0.0.1:7070".parse().expect("valid"),
            version: "0.1.0".into(),
            kinds: BTreeMap::new(),
            labels: BTreeMap::new(),
            zone: None,
            capacity: NodeRecord::CAPACITY,
        };
        store.found(ClusterId::random(), record).await.expect("founded");
        let vault = Shelf::new(store.clone(), "m1");
        Self { store, supervisor, vault, _dir: dir }
    }

    async fn restore(&self, backup: &[u8]) -> Result<bool, BackupError> {
        let report = self.store.restore(file(backup), &self.vault).await?;
        Ok(report.already)
    }

    /// The sessions and entities of all groups, in an order that no group decides.
    fn rows(&self) -> Vec<String> {
        let groups = self.store.data_groups().expect("known");
        let of_group = |group| self.store.view_at(group, |data, at| data.export(group, at).1);
        ageless(groups.into_iter().flat_map(of_group))
    }
}

/// Blobs in memory, noted in the index of a store.
#[derive(Clone)]
struct Shelf {
    store: StoreHandle,
    node: NodeId,
    bytes: Arc<Mutex<BTreeMap<Digest, Bytes>>>,
    /// Whether it takes no more.
    full: Arc<AtomicBool>,
}

impl Shelf {
    fn new(store: StoreHandle, node: &str) -> Self {
        let node = node.parse().expect("valid");
        Self { store, node, bytes: Arc::default(), full: Arc::default() }
    }
}

impl Vault for Shelf {
    fn get(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, Box<str>>> {
        let bytes = self.bytes.lock().expect("not poisoned").get(&digest).cloned();
        Box::pin(async move { bytes.ok_or_else(|| "nobody has it".into()) })
    }

    fn put(
        &self,
        bytes: Bytes,
        owners: Vec<BlobOwner>,
    ) -> BoxFuture<'static, Result<(), Box<str>>> {
        let shelf = self.clone();
        Box::pin(async move {
            if shelf.full.load(Ordering::SeqCst) {
                return Err("the disk is full".into());
            }
            let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
            shelf.bytes.lock().expect("not poisoned").insert(digest, bytes);
            for owner in owners {
                let holders = BTreeSet::from([shelf.node.clone()]);
                let put = Command::PutBlob { digest, size, holders, owner: Some(owner) };
                let outcome = shelf.store.write(put, PATIENCE).await.expect("written");
                assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
            }
            Ok(())
        })
    }
}

/// A backup as a file.
fn file(backup: &[u8]) -> BackupFile {
    let mut file = tempfile::tempfile().expect("made");
    file.write_all(backup).expect("written");
    BackupFile { file, name: "monday.backup".into() }
}

async fn backup(store: &StoreHandle, vault: &Shelf) -> Result<Vec<u8>, BackupError> {
    let mut backup = store.backup(Arc::new(vault.clone()), 0).await?;
    let mut bytes = Vec::new();
    while let Some(more) = backup.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

/// Rows as text, without what goes on by itself, sorted.
fn ageless(rows: impl Iterator<Item = Row>) -> Vec<String> {
    let text = |mut row: Row| {
        match &mut row {
            Row::Session(row) => (row.created_age, row.touched_age) = (0, 0),
            Row::Variable(row) => row.age = 0,
            Row::Past { age, .. } | Row::Answer { age, .. } => *age = 0,
            _ => {}
        }
        format!("{row:?}")
    };
    let mut rows: Vec<String> = rows.map(text).collect();
    rows.sort();
    rows
}

fn rows_of(backup: &[u8]) -> Vec<String> {
    let pieces = decoded(&file(backup)).expect("it is whole");
    ageless(pieces.into_iter().flat_map(|piece| match piece {
        Piece::Rows { rows, .. } => rows,
        _ => Vec::new(),
    }))
}

fn id(text: &str) -> SessionId {
    text.parse().expect("valid")
}

/// A cluster of three with a deployed counter, its package, and sessions of all sorts.
async fn furnished(net: &Net) -> ([Node; 3], Shelf, Epoch) {
    let nodes = three(net, 10_000).await;
    let vault = Shelf::new(nodes[0].store.clone(), "n1");
    let owner = BlobOwner::package(&"counter".parse::<Name>().expect("valid"));
    let others: BlobOwner = "backup/monday".parse().expect("valid");
    vault.put(b"counter"[..].into(), vec![owner]).await.expect("put");
    vault.put(vec![7; 2_000_000].into(), vec![others]).await.expect("put");
    let epoch = deploy(&nodes[0]).await;
    for n in 0..10 {
        nodes[n % 3].commit(count(&format!("r{n}"), epoch)).await;
    }
    let typed = nodes[1].store.session(id("typed")).deadline(PATIENCE);
    let ttl = Some(Duration::from_secs(3_600));
    typed.create(SessionSettings { ttl, ..SessionSettings::default() }).await.expect("created");
    let constraints = Constraints { max: Some(Value::Integer(100)), ..Constraints::default() };
    let definition =
        Definition { constraints, history: 4, ..Definition::untyped(ValueType::Integer) };
    typed.register("score", definition, Value::Integer(0)).await.expect("registered");
    for n in 0..9 {
        typed.set("score", Value::Integer(n)).await.expect("written");
    }
    let large = nodes[2].store.session(id("large")).deadline(PATIENCE);
    large.create(SessionSettings::default()).await.expect("created");
    for n in 0..12 {
        large.set(&format!("v{n}"), Value::bytes(&vec![n; 200_000])).await.expect("written");
    }
    (nodes, vault, epoch)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_every_write_that_was_acknowledged_before_it_began() {
    let net = Net::default();
    let (nodes, vault, _) = furnished(&net).await;
    let stop = Arc::new(AtomicBool::new(false));
    let known: Vec<Arc<AtomicU64>> = (0..6).map(|_| Arc::default()).collect();
    let mut writers = tokio::task::JoinSet::new();
    for (n, known) in known.iter().cloned().enumerate() {
        let session = nodes[n % 3].store.session(id(&format!("user-{n}"))).deadline(PATIENCE);
        let stop = Arc::clone(&stop);
        writers.spawn(async move {
            session.create(SessionSettings::default()).await.expect("created");
            while !stop.load(Ordering::SeqCst) {
                let version = session.set("n", Value::Integer(1)).await.expect("written");
                known.store(version, Ordering::SeqCst);
            }
        });
    }
    eventually("all write", || known.iter().all(|known| known.load(Ordering::SeqCst) > 5)).await;
    let before: Vec<u64> = known.iter().map(|known| known.load(Ordering::SeqCst)).collect();
    let saved = backup(&nodes[2].store, &vault).await.expect("saved");
    let after: Vec<u64> = known.iter().map(|known| known.load(Ordering::SeqCst)).collect();
    stop.store(true, Ordering::SeqCst);
    writers.join_all().await;

    // Into another size, other groups, and none but the one of everything else.
    for groups in [0, 1, 5] {
        let lone = Lone::of(groups).await;
        assert!(!lone.restore(&saved).await.expect("restored"));
        assert_eq!(lone.rows(), rows_of(&saved), "{groups} groups");
        for (n, (before, after)) in before.iter().zip(&after).enumerate() {
            let session = lone.store.session(id(&format!("user-{n}")));
            let n = session.get("n", Consistency::Linearizable).await.expect("read");
            let version = n.expect("it is there").version();
            // One more may have been acknowledged to a writer that had not noted it yet.
            assert!((*before..=after + 1).contains(&version), "{version} of {before} to {after}");
        }
        lone.supervisor.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_goes_on_where_the_old_one_was() {
    let net = Net::default();
    let (nodes, vault, epoch) = furnished(&net).await;
    let saved = backup(&nodes[0].store, &vault).await.expect("saved");
    let old: BTreeMap<GroupId, Revision> = [0, 1]
        .map(|number| {
            (GroupId::Data(number), nodes[0].store.view_at(GroupId::Data(number), |_, at| at))
        })
        .into();
    let lone = Lone::of(3).await;
    lone.restore(&saved).await.expect("restored");

    let (of_old, of_new) = (
        nodes[0].store.view(|state| (state.firmware().clone(), state.last_epoch())),
        lone.store.view(|state| (state.firmware().clone(), state.last_epoch())),
    );
    assert_eq!(of_new.0, of_old.0);
    assert!(of_new.1 > of_old.1);
    assert_eq!(lone.store.view(|state| state.blobs().owners()), 2);
    assert_eq!(*lone.vault.bytes.lock().expect("whole"), *vault.bytes.lock().expect("whole"));

    let node: NodeId = "m1".parse().expect("valid");
    let place = Command::Place { entity: entity(), node, expected: None };
    let placed = lone.store.write(place, PATIENCE).await.expect("written");
    let Outcome::Placed { epoch: new, .. } = placed else { panic!("{placed:?}") };
    assert!(new > epoch, "{new} after {epoch}");
    let group = lone.store.group_of_entity(&entity()).expect("known");
    let again = lone.store.write_data(group, count("r7", new), PATIENCE).await.expect("asked");
    assert_eq!(again, DataOutcome::Replayed { reply: Some(b"r7".to_vec()) });

    let typed = lone.store.session(id("typed"));
    let refused = typed.set("score", Value::Integer(101)).await.expect_err("above the bound");
    assert!(refused.to_string().contains("100"), "{refused}");
    assert_eq!(typed.compare_and_set("score", 10, Value::Integer(10)).await.expect("written"), 11);

    // Whatever a watcher saw of the old cluster, also after the backup, it begins anew.
    for (group, revision) in old {
        for later in [0, 1, 1_000_000] {
            let mut watch = typed.watch(Revision(revision.0 + later)).expect("watched");
            let event = tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time");
            let WatchEvent::State { at, sessions } = event else { panic!("{group}: {event:?}") };
            assert!(at.0 > JUMP && sessions.len() == 1, "{at}");
        }
    }
    lone.supervisor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_failed_is_gone_on_with_and_a_second_one_changes_nothing() {
    let net = Net::default();
    let (nodes, vault, _) = furnished(&net).await;
    let saved = backup(&nodes[0].store, &vault).await.expect("saved");
    let lone = Lone::of(2).await;
    lone.vault.full.store(true, Ordering::SeqCst);
    let failed = lone.restore(&saved).await.expect_err("no room for blobs");
    assert!(matches!(failed, BackupError::BlobNotKept { .. }), "{failed}");
    assert!(failed.is_retryable() && failed.to_string().contains("the disk is full"), "{failed}");

    // Until it is complete nothing is deployed and no session written.
    assert!(lone.store.view(|state| state.firmware().is_empty()));
    let spec = nodes[0].store.view(|state| state.firmware().values().next().cloned());
    let put = Command::PutFirmware((*spec.expect("deployed")).clone());
    let refused = lone.store.write(put, PATIENCE).await.expect("answered");
    assert!(matches!(refused, Outcome::Refused(Refusal::Restoring { .. })), "{refused:?}");
    let refused = lone.store.session(id("new")).create(SessionSettings::default()).await;
    let restoring = |error: &SessionError| {
        matches!(error, SessionError::Refused(SessionRefusal::Restoring { .. }))
    };
    assert!(refused.as_ref().is_err_and(restoring), "{refused:?}");
    let other = backup(&nodes[0].store, &vault).await.expect("saved");
    let other = lone.restore(&other).await.expect_err("another one");
    assert!(matches!(other, BackupError::Cluster(Refusal::Restoring { .. })), "{other}");

    let half = backup(&lone.store, &lone.vault).await.expect_err("half of it is none");
    assert!(half.to_string().contains("not complete yet"), "{half}");

    lone.vault.full.store(false, Ordering::SeqCst);
    assert!(!lone.restore(&saved).await.expect("gone on with"));
    let rows = lone.rows();
    assert_eq!(rows, rows_of(&saved));
    assert!(lone.restore(&saved).await.expect("there already"));
    assert_eq!(lone.rows(), rows);
    lone.supervisor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_empty_and_a_damaged_backup_are_refused_and_nothing_changes() {
    let net = Net::default();
    let (nodes, vault, _) = furnished(&net).await;
    let saved = backup(&nodes[0].store, &vault).await.expect("saved");
    let lone = Lone::of(2).await;
    for at in [3, 20, saved.len() / 2, saved.len() - 1] {
        let mut damaged = saved.clone();
        damaged[at] ^= 1;
        let error = lone.restore(&damaged).await.expect_err("damaged");
        assert!(error.is_damage() && error.to_string().contains("monday.backup"), "{error}");
    }
    assert_eq!(lone.store.view(crate::store::State::restored), None);

    let session = lone.store.session(id("mine"));
    session.create(SessionSettings::default()).await.expect("created");
    let error = lone.restore(&saved).await.expect_err("not empty");
    assert!(matches!(error, BackupError::Group { .. }), "{error}");
    assert!(error.to_string().contains("not empty"), "{error}");
    session.delete().await.expect("deleted");

    lone.restore(&saved).await.expect("restored");
    let other = backup(&nodes[0].store, &vault).await.expect("saved");
    let error = lone.restore(&other).await.expect_err("not empty");
    assert!(matches!(error, BackupError::Cluster(Refusal::NotEmpty { .. })), "{error}");
    let restored = lone.store.view(crate::store::State::restored);
    assert!(matches!(restored, Some(Restored { complete: true, .. })), "{restored:?}");
    lone.supervisor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_restored_cluster_is_as_good() {
    let net = Net::default();
    let (nodes, vault, _) = furnished(&net).await;
    let saved = backup(&nodes[1].store, &vault).await.expect("saved");
    let (second, third) = (Lone::of(1).await, Lone::of(4).await);
    second.restore(&saved).await.expect("restored");
    let again = backup(&second.store, &second.vault).await.expect("saved");
    third.restore(&again).await.expect("restored");
    assert_eq!(third.rows(), rows_of(&saved));
    second.supervisor.shutdown().await;
    third.supervisor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_nobody_has_fails_the_backup_and_is_named() {
    let net = Net::default();
    let (nodes, vault, _) = furnished(&net).await;
    vault.bytes.lock().expect("not poisoned").remove(&Digest::of(b"counter"));
    let error = backup(&nodes[0].store, &vault).await.expect_err("it is missing");
    assert!(error.to_string().contains(&Digest::of(b"counter").to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_shortens_the_log_of_every_replica_and_loses_nothing() {
    let net = Net::default();
    let (mut nodes, ..) = furnished(&net).await;
    let compacted = nodes[1].store.compact(PATIENCE).await.expect("asked");
    assert_eq!(compacted.len(), 9, "three groups on three nodes");
    for replica in compacted {
        let (node, group) = (&replica.node, replica.group);
        let log = replica.result.unwrap_or_else(|error| panic!("{node} {group}: {error}"));
        assert!(log.entries_before > log.entries_after, "{node} {group}: {log:?}");
        assert!(log.snapshot_bytes > 0 && log.log_bytes > 0, "{node} {group}: {log:?}");
    }
    nodes[2].stop().await;
    nodes[2].restart().await;
    nodes[2].barrier().await;
    assert_eq!(nodes[2].count(), 10);
    nodes[0].stop().await;
    let compacted = nodes[1].store.compact(PATIENCE).await.expect("asked");
    let failed: Vec<_> = compacted.iter().filter(|one| one.result.is_err()).collect();
    assert!(failed.iter().all(|one| one.node == nodes[0].id) && failed.len() == 3, "{failed:?}");
}
