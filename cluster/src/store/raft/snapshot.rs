//! The newest snapshot of a group on disk: one file, replaced whole.
//!
//! Written to a temporary name, synced, renamed, and the folder synced, so that at every moment
//! one complete snapshot has the name. `magic, version, crc32` stand in front of the content; a
//! file that does not match them is refused by name, because the log before it is gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use odeum_proto::log::{LogId, SnapshotMeta};
use odeum_proto::{GroupId, codec};

use crate::store::disk::{Disk, Open};
use crate::store::wal::WalError;

const MAGIC: [u8; 8] = *b"ODEUMSNP";
/// Format of snapshots, their state included. 3: sessions in groups of their own; 4: leases of nodes,
/// and what backup the state was restored from; 7: the epoch of a shard before its present one;
/// 8: firmware names nodes, and others to be apart from; 9: when entities carried out their requests.
const VERSION: u32 = 9;
const HEADER: usize = 16;

/// The last entry of what this process has saved or found, by whichever way: one that was made here
/// and one that came from the leader may be ready at the same time, and the newer one stays. Held
/// by whoever writes or reads the file.
pub(in crate::store) type Saved = Arc<Mutex<Option<LogId>>>;

/// Where a group's snapshot is.
#[derive(Debug, Clone)]
pub(in crate::store) struct SnapshotFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    newest: Saved,
}

impl SnapshotFile {
    /// The file of `group` in `dir`, which is made if it is not there.
    pub(in crate::store) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        group: GroupId,
        newest: Saved,
    ) -> Result<Self, WalError> {
        disk.make_dir(dir).map_err(|source| WalError::io(dir, "making", source))?;
        Ok(Self { newest, ..Self::at(disk, dir, group) })
    }

    /// The file of `group` in `dir`, for who only looks.
    pub(in crate::store) fn at(disk: Arc<dyn Disk>, dir: &Path, group: GroupId) -> Self {
        Self { disk, path: dir.join(format!("{group}.snapshot")), newest: Arc::default() }
    }

    /// What it is on.
    pub(in crate::store) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Its path.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds: the meta data and the encoded state; `None` when there is no file.
    pub(in crate::store) fn load(&self) -> Result<Option<(SnapshotMeta, Bytes)>, WalError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.read()?;
        if let Some((meta, _)) = &loaded {
            *newest = meta.last.max(*newest);
        }
        Ok(loaded)
    }

    fn read(&self) -> Result<Option<(SnapshotMeta, Bytes)>, WalError> {
        let corrupt = |offset: usize, reason: Box<str>| WalError::Corrupt {
            file: self.path.clone(),
            offset: offset as u64,
            reason,
        };
        let bytes = match self.disk.read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| WalError::io(&self.path, "reading", source))?,
        };
        let header: &[u8; HEADER] =
            bytes.first_chunk().ok_or_else(|| corrupt(0, "the file is too short".into()))?;
        if header[..8] != MAGIC {
            return Err(corrupt(0, "this is no snapshot".into()));
        }
        let [v0, v1, v2, v3] = [header[8], header[9], header[10], header[11]];
        let found = u32::from_le_bytes([v0, v1, v2, v3]);
        if found != VERSION {
            return Err(WalError::Version { file: self.path.clone(), found, ours: VERSION });
        }
        if checksum(&bytes[HEADER..]) != header[12..] {
            return Err(corrupt(HEADER, "the checksum does not match".into()));
        }
        codec::decode(&bytes[HEADER..])
            .map(Some)
            .map_err(|error| corrupt(HEADER, error.to_string().into()))
    }

    /// Replaces the snapshot, unless that is of a later state; on the disk when it returns.
    pub(in crate::store) fn save(&self, meta: &SnapshotMeta, state: &Bytes) -> io::Result<()> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest > meta.last {
            return Ok(());
        }
        let mut bytes = vec![0; HEADER];
        codec::encode_into(&(meta, state), &mut bytes).map_err(io::Error::other)?;
        let crc = checksum(&bytes[HEADER..]);
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..HEADER].copy_from_slice(&crc);

        let temporary = self.path.with_extension("tmp");
        let mut file = self.disk.open(&temporary, Open::Anew)?;
        file.write_at(&bytes, 0)?;
        file.sync_all()?;
        self.disk.rename(&temporary, &self.path)?;
        if let Some(dir) = self.path.parent() {
            self.disk.sync_dir(dir)?;
        }
        *newest = meta.last;
        Ok(())
    }
}

fn checksum(content: &[u8]) -> [u8; 4] {
    crc32fast::hash(content).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use odeum_proto::log::{Membership, StoredMembership};
    use proptest::prelude::*;

    use super::*;
    use crate::store::disk::System;

    fn file_in(dir: &Path) -> SnapshotFile {
        let saved = Saved::default();
        SnapshotFile::new(System::shared(), dir, GroupId::Control, saved).expect("made")
    }

    fn meta() -> SnapshotMeta {
        let membership = Membership { configs: Vec::new(), nodes: Default::default() };
        let log_id = Some(LogId { term: 1, index: 0 });
        SnapshotMeta {
            last: Some(LogId { term: 2, index: 7 }),
            membership: StoredMembership { log_id, membership },
        }
    }

    #[test]
    fn the_last_saved_snapshot_is_the_one_that_is_loaded() {
        let dir = tempfile::tempdir().expect("made");
        let file = file_in(dir.path());
        assert!(file.load().expect("no file is fine").is_none());
        file.save(&meta(), &b"old"[..].into()).expect("saved");
        file.save(&meta(), &b"new"[..].into()).expect("saved");
        assert_eq!(file.load().expect("loads"), Some((meta(), b"new"[..].into())));
    }

    #[test]
    fn an_older_snapshot_that_is_ready_late_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().expect("made");
        let file = file_in(dir.path());
        let of = |index| SnapshotMeta { last: Some(LogId { term: 2, index }), ..meta() };
        file.save(&of(9), &b"came"[..].into()).expect("saved");
        file.clone().save(&of(7), &b"made"[..].into()).expect("left as it is");
        assert_eq!(file.load().expect("loads"), Some((of(9), b"came"[..].into())));
    }

    proptest! {
        #[test]
        fn any_changed_or_missing_byte_is_refused_by_name(
            at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<bool>(),
        ) {
            let dir = tempfile::tempdir().expect("made");
            let file = file_in(dir.path());
            file.save(&meta(), &b"state"[..].into()).expect("saved");
            let mut bytes = fs::read(file.path()).expect("read");
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            fs::write(file.path(), bytes).expect("written");
            let refused = match file.load() {
                Err(WalError::Corrupt { file: named, .. } | WalError::Version { file: named, .. }) => {
                    named == file.path()
                }
                _ => false,
            };
            prop_assert!(refused);
        }
    }
}
