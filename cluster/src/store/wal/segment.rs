//! The files of the log: `<number>.wal`, numbered without gaps, the newest one written to.

use std::io;
use std::path::{Path, PathBuf};

use super::WalError;
use crate::store::disk::{Disk, DiskFile, Open};

/// Format of segments: header, frames, records. 3: sessions in groups of their own. 5: firmware has
/// replicas and moves, and a commit tells of several requests. 6: firmware names nodes, and others to be
/// apart from.
const VERSION: u32 = 6;
const MAGIC: [u8; 8] = *b"ODEUMWAL";

/// `magic, version, number, crc32` in front of the frames.
pub(super) const HEADER: usize = 24;

/// The file of segment `number`. Hexadecimal of fixed width, so that names sort as numbers.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

/// The header of segment `number`.
pub(super) fn header(number: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What the first bytes of a segment are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    Good,
    /// Of another format version.
    Other(u32),
    /// Incomplete or damaged.
    Bad,
}

/// Checks the first bytes of segment `number`.
pub(super) fn check_header(bytes: &[u8], number: u64) -> Header {
    let Some(found) = bytes.first_chunk::<HEADER>() else { return Header::Bad };
    let crc = crc32fast::hash(&found[..20]).to_le_bytes();
    if found[..8] != MAGIC || found[20..] != crc {
        return Header::Bad;
    }
    let [v0, v1, v2, v3] = [found[8], found[9], found[10], found[11]];
    match u32::from_le_bytes([v0, v1, v2, v3]) {
        VERSION if *found == header(number) => Header::Good,
        VERSION => Header::Bad,
        other => Header::Other(other),
    }
}

/// The format version that this program writes.
pub(super) fn version() -> u32 {
    VERSION
}

/// The numbers of the segments in `dir`, oldest first.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, WalError> {
    let names = disk.list(dir).map_err(|source| WalError::io(dir, "listing", source))?;
    let mut numbers = Vec::new();
    for name in names {
        let number = name.to_str().and_then(|name| name.strip_suffix(".wal"));
        if let Some(number) = number.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes segment `number` with `head` behind its header, on the disk when it returns. What is
/// left of a failed try is removed.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    head: &[u8],
) -> io::Result<Box<dyn DiskFile>> {
    let path = path(dir, number);
    let written = (|| {
        let mut file = disk.open(&path, Open::New)?;
        file.write_at(&header(number), 0)?;
        file.write_at(head, HEADER as u64)?;
        file.sync_all()?;
        disk.sync_dir(dir)?;
        Ok(file)
    })();
    if written.is_err() {
        // The caller reports the first error; a left-over is dealt with at the next open.
        let _ = disk.remove(&path);
    }
    written
}
