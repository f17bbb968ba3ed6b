//! The check of a stopped node's folder.

use std::fs;
use std::path::{Path, PathBuf};

use odeum_proto::session::{SessionSettings, Value};

use super::*;
use crate::blobs::shelf::{Purpose, Shelf};
use crate::store::{DataFolder, FolderError, FolderReport, Found, check_folder};

/// The folder of a node that has a log, a snapshot and a blob, and does not run.
async fn stopped() -> TempDir {
    let dir = TempDir::new().expect("made");
    let node: NodeId = "n1".parse().expect("valid");
    let mut folder = DataFolder::open(dir.path(), &node).expect("opens");
    let config =
        StoreConfig { groups: 1, ..StoreConfig::new(dir.path().join("store"), node.clone()) };
    let (handle, spec) = store(config, Arc::new(Port { net: Net::default(), from: node.clone() }));
    let supervisor = spec.start().await.expect("starts");
    let running = check_folder(dir.path()).expect_err("it runs");
    assert!(matches!(running, FolderError::InUse { .. }), "{running}");

    let cluster = ClusterId::random();
    let record = NodeRecord {
        id: node,
        disk: folder.disk(),
        incarnation: folder.incarnation(),
        cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
        api_addr: "127.0.0.1:7070".parse().expect("valid"),
        version: "0.1.0".into(),
        kinds: BTreeMap::new(),
        labels: BTreeMap::new(),
        zone: None,
        capacity: NodeRecord::CAPACITY,
    };
    handle.found(cluster, record).await.expect("founded");
    folder.set_cluster(cluster).expect("set");
    let session = handle.session("s".parse().expect("valid")).deadline(PATIENCE);
    session.create(SessionSettings::default()).await.expect("created");
    for n in 0..60 {
        session.set("n", Value::Integer(n)).await.expect("written");
    }
    // Asked for, so that none is under way when the node stops.
    for replica in handle.compact(PATIENCE).await.expect("asked") {
        assert!(replica.result.is_ok_and(|log| log.entries_after == 0), "all is in snapshots");
    }
    for n in 0..20 {
        session.set("n", Value::Integer(n)).await.expect("written");
    }
    supervisor.shutdown().await;
    let shelf = Shelf::open(dir.path().join("blobs"), 1 << 20, 1 << 20).expect("opens");
    let bytes = b"a package";
    shelf.put(Digest::of(bytes), bytes, Purpose::Held).expect("put");
    dir
}

/// Every file with the digest of its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Digest> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("read") {
            let path = entry.expect("read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("read");
                found.insert(path, Digest::of(&bytes));
            }
        }
    }
    found
}

/// The one file that is not as it should be, and where.
fn fault(report: &FolderReport) -> (PathBuf, u64) {
    let faults: Vec<_> = report.faults().collect();
    let [one] = &faults[..] else { panic!("{faults:?}") };
    match &one.found {
        Found::Damaged { offset, .. } => (one.file.clone(), *offset),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_a_flipped_byte_in_any_file_and_changes_nothing() {
    let dir = stopped().await;
    let before = contents(dir.path());
    let good = check_folder(dir.path()).expect("it is a folder");
    assert_eq!(good.faults().count(), 0, "{good:?}");
    assert_eq!(good.node.as_str(), "n1");
    let ends = [".wal", "control.snapshot", "data-0.snapshot"];
    let has = |end: &str| good.files.iter().any(|file| file.file.to_string_lossy().ends_with(end));
    assert!(has(ends[0]) && has(ends[2]), "{good:?}");
    assert!(good.files.iter().any(|file| file.file.starts_with(dir.path().join("blobs"))));

    for report in &good.files {
        let file = &report.file;
        let bytes = &fs::read(file).expect("read");
        // Of the log the first third: behind it are zeros, and a tail that may be torn.
        let written = match file.extension().is_some_and(|end| end == "wal") {
            true => bytes.iter().rposition(|byte| *byte != 0).expect("some") / 3,
            false => bytes.len(),
        };
        for at in [0, written / 3, written / 2, written - 1] {
            let mut other = bytes.clone();
            other[at] ^= 0x10;
            fs::write(file, &other).expect("written");
            let report = check_folder(dir.path()).expect("it is a folder");
            // Bytes 8 to 11 of a snapshot are its format, which may be another.
            if report.faults().all(|fault| matches!(fault.found, Found::Damaged { .. })) {
                let (named, offset) = fault(&report);
                assert!(named == *file && offset <= at as u64, "{named:?} {offset} for {at}");
            } else {
                assert!((8..12).contains(&at), "{report:?}");
            }
        }
        fs::write(file, bytes).expect("written");
    }
    assert_eq!(contents(dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_misses_what_is_missing() {
    let dir = stopped().await;
    let snapshot = dir.path().join("store/snapshots/data-0.snapshot");
    let bytes = fs::read(&snapshot).expect("read");
    fs::remove_file(&snapshot).expect("removed");
    let report = check_folder(dir.path()).expect("it is a folder");
    assert_eq!(fault(&report).0, snapshot, "the log begins behind it");
    fs::write(&snapshot, bytes).expect("written");
    assert_eq!(check_folder(dir.path()).expect("it is a folder").faults().count(), 0);

    let wal = dir.path().join("store/wal");
    for file in fs::read_dir(&wal).expect("read") {
        fs::remove_file(file.expect("read").path()).expect("removed");
    }
    let report = check_folder(dir.path()).expect("it is a folder");
    assert_eq!(fault(&report), (wal.clone(), 0), "it was in a cluster");
    fs::remove_dir(&wal).expect("removed");
    assert_eq!(fault(&check_folder(dir.path()).expect("it is a folder")), (wal, 0));

    let none = check_folder(&dir.path().join("store")).expect_err("no folder of a node");
    assert!(matches!(none, FolderError::Missing { .. }), "{none}");
    assert!(!dir.path().join("store/lock").exists(), "nothing is made");
}
