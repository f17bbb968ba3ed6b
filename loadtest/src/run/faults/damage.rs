//! What can happen to the files of a log while its node does not run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// How much of the end of a log is cut off at most.
const TAIL: usize = 4 << 10;

/// Starts every record in a segment, with its length behind it; see `wal/frame.rs` of the cluster.
const MAGIC: &[u8] = b"Odw1";

/// Bytes of a record in front of what it says.
const HEADER: usize = 20;

/// Where a file was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The file.
    pub(super) file: PathBuf,
    /// The offset.
    pub(super) offset: usize,
}

/// Cuts a log off, somewhere in the last 4 KiB that were written; where.
///
/// # Errors
/// If there is no log.
pub(super) fn tear(wal: &Path, rng: &mut StdRng) -> anyhow::Result<Place> {
    let file = segments(wal)?.pop().context("the log has no file")?;
    let bytes = fs::read(&file)?;
    // Zeros behind the last record are room for the next ones.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let first = records(&bytes).next().context("the log has no record")?.0;
    let offset = rng.random_range(first.max(end.saturating_sub(TAIL))..end);
    let log = File::options().write(true).open(&file)?;
    log.set_len(u64::try_from(offset)?)?;
    log.sync_all()?;
    Ok(Place { file, offset })
}

/// Changes a byte of a record that has half of all records behind it; where the record is.
///
/// # Errors
/// If there is no such record.
pub(super) fn flip(wal: &Path, rng: &mut StdRng) -> anyhow::Result<Place> {
    let file = segments(wal)?.into_iter().next().context("the log has no file")?;
    let mut bytes = fs::read(&file)?;
    let records: Vec<(usize, usize)> = records(&bytes).collect();
    anyhow::ensure!(records.len() >= 4, "{} has too few records", file.display());
    let &(offset, length) = records.get(rng.random_range(1..records.len() / 2)).context("none")?;
    let at = offset + HEADER + rng.random_range(0..length);
    let byte = bytes.get_mut(at).context("a record ends in its file")?;
    *byte ^= 1 << rng.random_range(0..8);
    fs::write(&file, bytes)?;
    Ok(Place { file, offset })
}

/// The files of a log, oldest first.
fn segments(wal: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = fs::read_dir(wal).with_context(|| wal.display().to_string())?;
    let files: Result<Vec<_>, _> = files.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files = files?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    Ok(files)
}

/// Where each record begins, and the bytes that it has behind its header.
fn records(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
    std::iter::from_fn(move || {
        let offset = at?;
        let length = bytes.get(offset + 4..offset + 8)?.try_into().ok()?;
        let length = u32::from_le_bytes(length) as usize;
        let next = offset + HEADER + length;
        at = bytes.get(next..).is_some_and(|rest| rest.starts_with(MAGIC)).then_some(next);
        Some((offset, length))
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    /// A log of ten records behind a header, with zeros behind them.
    fn log() -> (tempfile::TempDir, PathBuf, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = b"a header of the file".to_vec();
        let mut starts = Vec::new();
        for n in 1..=10_u8 {
            starts.push(bytes.len());
            bytes.extend_from_slice(MAGIC);
            bytes.extend_from_slice(&u32::from(n).to_le_bytes());
            bytes.extend_from_slice(&[7; 12]);
            bytes.extend(std::iter::repeat_n(n, usize::from(n)));
        }
        bytes.extend_from_slice(&[0; 500]);
        let file = dir.path().join("0000000000000001.wal");
        fs::write(&file, bytes).unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        (dir, file, starts)
    }

    #[test]
    fn a_byte_is_changed_in_what_a_record_says_and_nowhere_else() {
        for seed in 0..50 {
            let (dir, file, starts) = log();
            let before = fs::read(&file).unwrap();
            let place = flip(dir.path(), &mut StdRng::seed_from_u64(seed)).unwrap();
            let after = fs::read(&file).unwrap();
            let changed: Vec<usize> =
                (0..before.len()).filter(|&n| before[n] != after[n]).collect();
            let record = starts.iter().position(|start| *start == place.offset).unwrap();
            assert!((1..5).contains(&record));
            let said = place.offset + HEADER..starts[record + 1];
            assert!(matches!(changed[..], [at] if said.contains(&at)), "{changed:?} {said:?}");
        }
    }

    #[test]
    fn a_log_is_cut_within_what_was_written() {
        for seed in 0..50 {
            let (dir, file, starts) = log();
            let length = fs::metadata(&file).unwrap().len();
            let place = tear(dir.path(), &mut StdRng::seed_from_u64(seed)).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().len(), place.offset as u64);
            assert!((starts[0] as u64..length - 500).contains(&(place.offset as u64)));
        }
    }
}
