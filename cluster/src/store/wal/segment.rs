//! The files of the log: `<number>.wal`, numbered without gaps, the newest one written to.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::WalError;

/// Format of segments: header, frames, records. 3: sessions in groups of their own.
const VERSION: u32 = 3;
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
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, WalError> {
    let failed = |source| WalError::io(dir, "listing", source);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
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
pub(super) fn create(dir: &Path, number: u64, head: &[u8]) -> io::Result<File> {
    let path = path(dir, number);
    let written = (|| {
        let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.write_all(&header(number))?;
        file.write_all(head)?;
        file.sync_all()?;
        sync_dir(dir)?;
        Ok(file)
    })();
    if written.is_err() {
        // The caller reports the first error; a left-over is dealt with at the next open.
        let _ = fs::remove_file(&path);
    }
    written
}

/// Makes what happened to names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
