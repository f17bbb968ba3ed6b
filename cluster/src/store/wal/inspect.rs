//! Looking at the files of a log that nobody has open, without changing anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use odeum_proto::GroupId;

use super::open::{Segment, check_sequence, is_half_made, replay};
use super::{GroupLog, WalError, segment};
use crate::store::disk::Disk;

/// What a log is made of.
#[derive(Debug)]
pub(in crate::store) struct Inspected {
    /// Its segments, oldest first.
    pub(in crate::store) segments: Vec<(PathBuf, Result<SegmentSight, WalError>)>,
    /// What they say together; `None` when one of them cannot be read.
    pub(in crate::store) groups: Option<Result<BTreeMap<GroupId, GroupLog>, WalError>>,
}

/// A segment that can be read.
#[derive(Debug)]
pub(in crate::store) struct SegmentSight {
    /// Records.
    pub(in crate::store) records: usize,
    /// Bytes behind the last of them that were written in part, and which is the first of them.
    pub(in crate::store) torn: Option<(u64, u64)>,
    /// Whether nothing was ever written to it, so that it goes at the next start.
    pub(in crate::store) half_made: bool,
}

/// Reads the log in `dir` as a node does that opens it.
///
/// # Errors
/// [`WalError`] when the folder cannot be read.
pub(in crate::store) fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Inspected, WalError> {
    let mut numbers = segment::list(disk, dir)?;
    let mut found = Vec::new();
    let sequence = check_sequence(dir, &numbers);
    let mut whole = sequence.is_ok();
    if let Err(WalError::Corrupt { file, offset, reason }) = sequence {
        found.push((file.clone(), Err(WalError::Corrupt { file, offset, reason })));
    }
    let mut half_made = None;
    if let Some(&newest) = numbers.last() {
        let path = segment::path(dir, newest);
        let bytes = disk.read(&path).map_err(|source| WalError::io(&path, "reading", source))?;
        if is_half_made(&bytes, newest, numbers.len() > 1) {
            half_made = Some(path);
            numbers.pop();
        }
    }
    let mut segments = Vec::new();
    for (position, &number) in numbers.iter().enumerate() {
        let newest = position + 1 == numbers.len();
        let read = Segment::read(disk, dir, number, newest).map(|segment| {
            let torn = segment.torn.map(|_| (segment.end, segment.length - segment.end));
            let sight = SegmentSight { records: segment.records.len(), torn, half_made: false };
            segments.push(segment);
            sight
        });
        whole &= read.is_ok();
        found.push((segment::path(dir, number), read));
    }
    let sight = SegmentSight { records: 0, torn: None, half_made: true };
    found.extend(half_made.map(|path| (path, Ok(sight))));
    let groups = whole.then(|| replay(&mut segments));
    Ok(Inspected { segments: found, groups })
}
