//! Checks the files of a node that does not run: the log, the snapshots, the blobs. Changes nothing.
//!
//! It reads them as the node does at its start, and goes on where that would refuse: each file is
//! reported. Not covered is what no reader of one disk can know, such as whether the log of another
//! replica is longer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use odeum_proto::{ClusterId, GroupId, NodeId};

use super::disk::System;
use super::folder::{DataFolder, FolderError};
use super::group::check_gap;
use super::raft::{Machine, Replicated, SnapshotFile};
use super::wal::{self, GroupLog, WalError};
use crate::blobs::shelf::{self, ShelfError};

/// What is found of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is what was written.
    Good {
        /// What is in it, in words.
        what: Box<str>,
    },
    /// It is not.
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: Box<str>,
    },
    /// It cannot be read, or not by this version.
    Unreadable {
        /// Why.
        reason: Box<str>,
    },
}

/// A file and what is found of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes; 0 when it is missing.
    pub bytes: u64,
    /// What is found of it.
    pub found: Found,
}

/// What is found of a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderReport {
    /// Whose it is.
    pub node: NodeId,
    /// The cluster of that node.
    pub cluster: Option<ClusterId>,
    /// Its files: the segments of the log, the snapshots, the blobs.
    pub files: Vec<FileReport>,
}

impl FolderReport {
    /// The files that are not as they should be.
    pub fn faults(&self) -> impl Iterator<Item = &FileReport> {
        self.files.iter().filter(|report| !matches!(report.found, Found::Good { .. }))
    }
}

/// Checks the data folder `dir`, which no node uses meanwhile. Blocks on the disk, and needs as much
/// memory as the start of the node does.
///
/// # Errors
/// [`FolderError::InUse`] when the node runs; others when `dir` is no data folder, or is described
/// by a damaged file. What is wrong with other files is in the report.
pub fn check_folder(dir: &Path) -> Result<FolderReport, FolderError> {
    let folder = DataFolder::inspect(dir)?;
    let store = dir.join("store");
    let mut files = Vec::new();
    let (wal, snapshots) = (store.join("wal"), store.join("snapshots"));
    let logs = check_log(&wal, &mut files);
    // A node has a log before it is in a cluster, and before there is anything to be in a snapshot.
    if files.is_empty() && (folder.cluster().is_some() || !snapshots_in(&snapshots).is_empty()) {
        let found = Found::Damaged { offset: 0, reason: "the log is missing".into() };
        files.push(FileReport { file: wal, bytes: 0, found });
    }
    check_snapshots(&snapshots, logs.as_ref(), &mut files);
    check_blobs(&dir.join("blobs"), &mut files);
    Ok(FolderReport { node: folder.node().clone(), cluster: folder.cluster(), files })
}

type Logs = std::collections::BTreeMap<GroupId, GroupLog>;

/// What the log says of each group, if all of it can be read.
fn check_log(dir: &Path, files: &mut Vec<FileReport>) -> Option<Logs> {
    if !dir.exists() {
        return Some(Logs::new());
    }
    let inspected = match wal::inspect(&System, dir) {
        Ok(inspected) => inspected,
        Err(error) => {
            files.push(faulty(dir, &error));
            return None;
        }
    };
    for (file, sight) in inspected.segments {
        files.push(match sight {
            Ok(sight) => good(&file, segment_text(&sight)),
            Err(error) => faulty(&file, &error),
        });
    }
    match inspected.groups? {
        Ok(logs) => Some(logs),
        Err(error) => {
            let report = faulty(dir, &error);
            files.retain(|known| known.file != report.file);
            files.push(report);
            None
        }
    }
}

fn segment_text(sight: &wal::SegmentSight) -> String {
    let records = sight.records;
    match sight.torn {
        _ if sight.half_made => "nothing yet: it goes at the next start".to_owned(),
        Some((offset, bytes)) => format!(
            "{records} records; {bytes} bytes from byte {offset} on were written in part, and go \
             at the next start"
        ),
        None => format!("{records} records"),
    }
}

/// Each group's snapshot, and that its log begins where that ends. A group whose log cannot be read
/// is looked at without it.
fn check_snapshots(dir: &Path, logs: Option<&Logs>, files: &mut Vec<FileReport>) {
    let mut groups: BTreeSet<GroupId> =
        logs.into_iter().flat_map(|logs| logs.keys()).copied().collect();
    if !dir.exists() {
        // A snapshot that should be there is missed below.
        groups.retain(|group| logs.is_some_and(|logs| logs[group].purged.is_some()));
    }
    groups.extend(snapshots_in(dir));
    for group in groups {
        let path = dir.join(format!("{group}.snapshot"));
        let log = logs.and_then(|logs| logs.get(&group));
        match check_snapshot(dir, group, log) {
            Ok(Some(what)) => files.push(good(&path, what)),
            Ok(None) => {}
            Err(error) => files.push(faulty(&path, &error)),
        }
    }
}

/// The groups with a snapshot in `dir`.
fn snapshots_in(dir: &Path) -> BTreeSet<GroupId> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.strip_suffix(".snapshot")?.parse().ok()).collect()
}

/// What the snapshot of a group has; `None` when there is none and need not be.
fn check_snapshot(
    dir: &Path,
    group: GroupId,
    log: Option<&GroupLog>,
) -> Result<Option<String>, WalError> {
    let file = SnapshotFile::at(System::shared(), dir, group);
    let replicated = Replicated::new();
    let (_, last) = Machine::open(&file, std::sync::Arc::clone(&replicated), None)?;
    if let Some(log) = log {
        check_gap(&file, last, log)?;
    }
    let sessions = replicated.view_data(|data| data.sessions().len());
    Ok(last.map(|last| format!("entries up to {last}, {sessions} sessions")))
}

fn check_blobs(dir: &Path, files: &mut Vec<FileReport>) {
    if !dir.exists() {
        return;
    }
    let seen = match shelf::check(dir) {
        Ok(seen) => seen,
        Err(error) => return files.push(unreadable(dir, &error)),
    };
    for (file, is) in seen {
        files.push(match is {
            Ok(true) => good(&file, "a blob".to_owned()),
            Ok(false) => {
                let reason = "its bytes are others than its name says".into();
                let (bytes, found) = (length(&file), Found::Damaged { offset: 0, reason });
                FileReport { file, bytes, found }
            }
            Err(error) => unreadable(&file, &error),
        });
    }
}

fn good(file: &Path, what: String) -> FileReport {
    FileReport {
        file: file.to_owned(),
        bytes: length(file),
        found: Found::Good { what: what.into() },
    }
}

fn unreadable(file: &Path, error: &ShelfError) -> FileReport {
    let found = Found::Unreadable { reason: error.to_string().into() };
    FileReport { file: file.to_owned(), bytes: length(file), found }
}

/// The file that an error is about, which is `file` when it does not say.
fn faulty(file: &Path, error: &WalError) -> FileReport {
    let (file, found) = match error {
        WalError::Corrupt { file, offset, reason } => {
            (&**file, Found::Damaged { offset: *offset, reason: reason.clone() })
        }
        other => (file, Found::Unreadable { reason: other.to_string().into() }),
    };
    FileReport { file: file.to_owned(), bytes: length(file), found }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}
