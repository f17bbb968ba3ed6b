//! The store under its supervisor.

use std::collections::BTreeMap;
use std::fs;

use odeum_actors::Exit;

use super::*;
use crate::store::disk::System;
use crate::store::raft::{Machine, SnapshotFile};

async fn alone(dir: &TempDir) -> (StoreHandle, Supervisor) {
    let node: NodeId = "n1".parse().expect("valid");
    let config = StoreConfig::new(dir.path().join("store"), node.clone());
    let port = Port { net: Net::default(), from: node };
    let (handle, spec) = store(config, Arc::new(port));
    (handle, spec.start().await.expect("starts"))
}

fn record() -> NodeRecord {
    NodeRecord {
        id: "n1".parse().expect("valid"),
        disk: DiskId::random(),
        incarnation: Incarnation(1),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "127.0.0.1:7070".parse().expect("valid"),
        version: "0.1.0".into(),
        kinds: BTreeMap::new(),
        labels: BTreeMap::new(),
        zone: None,
        capacity: NodeRecord::CAPACITY,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_fails_is_restarted_and_the_handle_goes_on() {
    let dir = TempDir::new().expect("made");
    let (handle, supervisor) = alone(&dir).await;
    let mut status = handle.status_watch();
    handle.found(ClusterId::random(), record()).await.expect("founded");
    let good = status.wait_for(|status| status.health == Health::Good);
    tokio::time::timeout(PATIENCE, good).await.expect("in time").expect("published");

    // As after a failed write to its log: the core ends without the actor having asked for it.
    let group = handle.shared.control.running.borrow().clone().expect("it runs");
    group.shutdown().await;
    drop(group);
    let put = Command::PutNode(NodeRecord { incarnation: Incarnation(2), ..record() });
    let outcome = handle.write(put, PATIENCE).await.expect("written by the next replica");
    assert!(matches!(outcome, Outcome::Refused(Refusal::OtherDisk { .. })), "{outcome:?}");
    assert_eq!(handle.view(|state| state.nodes().len()), 1);

    supervisor.shutdown().await;
    assert_eq!(supervisor.finished().await, Exit::Shutdown);
    assert_eq!(handle.status().health, Health::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_never_goes_back_in_time_while_a_failed_replica_is_restarted() {
    let dir = TempDir::new().expect("made");
    let (handle, supervisor) = alone(&dir).await;
    handle.found(ClusterId::random(), record()).await.expect("founded");
    let seen = handle.changes().borrow().to_owned();

    // The next replica reads its files, and the core which applies its log has not begun.
    let group = handle.shared.control.running.borrow().clone().expect("it runs");
    group.shutdown().await;
    drop(group);
    supervisor.shutdown().await;
    let snapshots = dir.path().join("store/snapshots");
    let file = SnapshotFile::at(System::shared(), &snapshots, GroupId::Control);
    let replicated = Arc::clone(&handle.shared.control.replicated);
    let end = Some(seen.0);
    let (_machine, snapshot) = Machine::open(&file, replicated, end).expect("opens");
    assert_eq!(snapshot, None, "what it has is not from a snapshot");
    assert_eq!(*handle.changes().borrow(), seen);
    assert_eq!(handle.view(|state| state.nodes().len()), 1, "as this revision has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_stops_the_start_and_is_named() {
    let dir = TempDir::new().expect("made");
    let snapshots = dir.path().join("store/snapshots");
    fs::create_dir_all(&snapshots).expect("made");
    let file = snapshots.join("control.snapshot");
    fs::write(&file, [0; 64]).expect("written");
    let node: NodeId = "n1".parse().expect("valid");
    let config = StoreConfig::new(dir.path().join("store"), node.clone());
    let (_handle, spec) = store(config, Arc::new(Port { net: Net::default(), from: node }));
    let error = spec.start().await.expect_err("damaged").to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert!(error.contains("damaged at byte 0"), "{error}");
}
