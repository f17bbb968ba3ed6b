//! Opening the log: read every segment, cut a torn tail, refuse damage.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use odeum_proto::GroupId;
use odeum_proto::log::{Change, Record};

use super::segment::{self, Header};
use super::writer::{Current, Sealed, Tops, Writer};
use super::{GroupLog, WalConfig, WalError, frame};
use crate::store::disk::{Disk, DiskFile, Held, Open};

/// The writer of the log in `config.dir`, and what the log holds.
pub(super) fn open(
    shared: &Arc<dyn Disk>,
    config: &WalConfig,
) -> Result<(Writer, BTreeMap<GroupId, GroupLog>), WalError> {
    let (disk, dir) = (&**shared, &config.dir);
    disk.make_dir(dir).map_err(|source| WalError::io(dir, "making", source))?;
    let lock = lock(disk, dir)?;
    let mut numbers = segment::list(disk, dir)?;
    check_sequence(dir, &numbers)?;
    remove_half_made(disk, dir, &mut numbers)?;

    let mut segments = Vec::new();
    for (position, &number) in numbers.iter().enumerate() {
        let segment = Segment::read(disk, dir, number, position + 1 == numbers.len())?;
        segment.tell_torn();
        segments.push(segment);
    }
    let groups = replay(&mut segments)?;
    let newest = segments.pop();
    let sealed = segments.into_iter().map(|s| Sealed { number: s.number, tops: s.tops }).collect();
    let current = newest
        .map(|s| {
            let file = reopen(disk, dir, s.number, s.end)?;
            Ok(Current { file, number: s.number, end: s.end, length: s.end, tops: s.tops })
        })
        .transpose()?;
    let current = match current {
        Some(current) => current,
        None => Current::first(disk, dir)
            .map_err(|source| WalError::io(&segment::path(dir, 1), "making", source))?,
    };
    let writer = Writer::new(Arc::clone(shared), config.clone(), lock, current, sealed, &groups);
    Ok((writer, groups))
}

/// Held as long as the log is open: two writers would destroy it.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<Held, WalError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error {
        TryLockError::WouldBlock => WalError::InUse { dir: dir.to_owned() },
        TryLockError::Error(source) => WalError::io(&path, "locking", source),
    })
}

pub(super) fn check_sequence(dir: &Path, numbers: &[u64]) -> Result<(), WalError> {
    let gap = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]);
    gap.map_or(Ok(()), |pair| {
        Err(WalError::Corrupt {
            file: segment::path(dir, pair[0] + 1),
            offset: 0,
            reason: "the file is missing".into(),
        })
    })
}

/// Removes the newest segment if nothing was written to it but the head that repeats what the
/// others say: its predecessor still has everything, and the head may be there in part only.
fn remove_half_made(disk: &dyn Disk, dir: &Path, numbers: &mut Vec<u64>) -> Result<(), WalError> {
    let Some(&newest) = numbers.last() else { return Ok(()) };
    let path = segment::path(dir, newest);
    let bytes = disk.read(&path).map_err(|source| WalError::io(&path, "reading", source))?;
    if !is_half_made(&bytes, newest, numbers.len() > 1) {
        return Ok(());
    }
    tracing::info!(file = %path.display(), bytes = bytes.len(), "log segment with nothing in it removed");
    disk.remove(&path).map_err(|source| WalError::io(&path, "removing", source))?;
    disk.sync_dir(dir).map_err(|source| WalError::io(dir, "syncing", source))?;
    numbers.pop();
    Ok(())
}

/// Whether nothing was written to the newest segment but its head, if that; it may be one that
/// `follows` another.
pub(super) fn is_half_made(bytes: &[u8], number: u64, follows: bool) -> bool {
    let header = segment::check_header(bytes, number);
    let other = matches!(header, Header::Other(_));
    !other && (header == Header::Bad || follows) && !frame::proves_synced(bytes, 0)
}

/// A segment as it was read.
pub(super) struct Segment {
    pub(super) number: u64,
    path: PathBuf,
    pub(super) records: Vec<(u64, Record)>,
    pub(super) end: u64,
    /// How long the file is.
    pub(super) length: u64,
    /// What stands behind the end, if it is more than room.
    pub(super) torn: Option<&'static str>,
    tops: Tops,
}

impl Segment {
    pub(super) fn read(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        newest: bool,
    ) -> Result<Self, WalError> {
        let path = segment::path(dir, number);
        let corrupt = |offset, reason| WalError::Corrupt { file: path.clone(), offset, reason };
        let bytes = disk.read(&path).map_err(|source| WalError::io(&path, "reading", source))?;
        match segment::check_header(&bytes, number) {
            Header::Good => {}
            Header::Bad => return Err(corrupt(0, "the file's header is damaged".into())),
            Header::Other(found) => {
                let ours = segment::version();
                return Err(WalError::Version { file: path, found, ours });
            }
        }
        let scanned = frame::scan(&bytes, segment::HEADER, newest)
            .map_err(|damage| corrupt(damage.offset, damage.reason))?;
        let mut tops = Tops::default();
        for (_, record) in &scanned.records {
            if let Change::Entry(entry) = &record.change {
                tops.note(record.group, entry.id.index);
            }
        }
        let (length, torn) = (bytes.len() as u64, scanned.torn);
        Ok(Self { number, path, records: scanned.records, end: scanned.end, length, torn, tops })
    }

    /// Says that what stands behind the end is about to be cut.
    fn tell_torn(&self) {
        if let Some(reason) = self.torn {
            tracing::warn!(
                file = %self.path.display(), offset = self.end, bytes = self.length - self.end,
                reason, "torn tail of the log cut"
            );
        }
    }
}

/// Applies the records of all segments in order.
pub(super) fn replay(segments: &mut [Segment]) -> Result<BTreeMap<GroupId, GroupLog>, WalError> {
    let mut groups: BTreeMap<GroupId, GroupLog> = BTreeMap::new();
    // The last purge comes first: removed segments leave gaps, and only it says that what is
    // missing there is not missed.
    for (_, record) in segments.iter().flat_map(|segment| &segment.records) {
        if let Change::Purge(upto) = record.change {
            let log = groups.entry(record.group).or_default();
            log.purged = log.purged.max(Some(upto));
        }
    }
    for segment in segments {
        for (offset, Record { group, change }) in std::mem::take(&mut segment.records) {
            groups.entry(group).or_default().apply(change).map_err(|reason| WalError::Corrupt {
                file: segment.path.clone(),
                offset,
                reason,
            })?;
        }
    }
    Ok(groups)
}

/// Opens the newest segment for writing behind `end`. What was read is synced first: after a mere
/// crash of the process it may be in the system's cache only, and it is about to be relied on.
fn reopen(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    end: u64,
) -> Result<Box<dyn DiskFile>, WalError> {
    let path = segment::path(dir, number);
    let reopened = (|| {
        let mut file = disk.open(&path, Open::There)?;
        file.set_len(end)?;
        file.sync_all()?;
        Ok(file)
    })();
    reopened.map_err(|source| WalError::io(&path, "reopening", source))
}
