//! Reads a whole backup before anything is done with it: that it is undamaged, what is in it, and
//! how much of it would come into which group. Blocks on the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use odeum_proto::backup::{ClusterPart, Header, Piece, Row};
use odeum_proto::{Epoch, GroupId, limits};

use super::error::BackupError;
use super::format::Decoder;
use crate::store::data::counted;

/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// What it is a backup of.
    pub header: Header,
    /// Sessions of all groups.
    pub sessions: u64,
    /// Variables of all sessions.
    pub variables: u64,
    /// Entities with epochs and remembered requests.
    pub entities: u64,
    /// What was deployed, and kinds of entities.
    pub cluster: ClusterPart,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The highest epoch that anything in it names.
    pub(super) epoch: Epoch,
}

/// Reads and checks the backup in `file`.
///
/// # Errors
/// [`BackupError`] with the offset when it is damaged, another version's or no backup.
pub fn survey(file: &Path) -> Result<Survey, BackupError> {
    let open = File::open(file).map_err(|error| BackupError::io("opening", file, error))?;
    BackupFile { file: open, name: file.to_owned() }.survey(0).map(|(survey, _)| survey)
}

/// A file that may be a backup.
#[derive(Debug)]
pub struct BackupFile {
    /// The open file; where it is read from does not matter.
    pub file: File,
    /// What it is called in errors.
    pub name: PathBuf,
}

/// A backup that is being read.
pub(super) type Reader = Decoder<BufReader<File>>;

/// What would come into a group.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    bytes: u64,
    sessions: u64,
    entities: u64,
}

impl BackupFile {
    /// Reads it from its beginning.
    pub(super) fn reader(&self) -> Result<Reader, BackupError> {
        let again = self.file.try_clone().and_then(|mut file| {
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        });
        let file = again.map_err(|error| BackupError::io("reading", &self.name, error))?;
        let reader = BufReader::with_capacity(BUFFER, file);
        Decoder::new(reader).map_err(|fault| BackupError::of(fault, &self.name))
    }

    /// All that is in it, and what of that each of `groups` groups would get.
    pub(super) fn survey(
        &self,
        groups: u16,
    ) -> Result<(Survey, BTreeMap<GroupId, Share>), BackupError> {
        let mut reader = self.reader()?;
        let mut shares = BTreeMap::<GroupId, Share>::new();
        let (mut header, mut cluster) = (None, ClusterPart::default());
        let (mut variables, mut blobs, mut epoch) = (0, 0, Epoch::default());
        let fault = |fault| BackupError::of(fault, &self.name);
        while let Some(piece) = reader.next().map_err(fault)? {
            match piece {
                Piece::Header(first) => header = Some(first),
                Piece::Cluster(part) => cluster = part,
                Piece::Blob(_) => blobs += 1,
                Piece::Rows { rows, .. } => {
                    for row in rows {
                        variables += u64::from(matches!(row, Row::Variable(_)));
                        epoch = epoch.max(row.epoch());
                        shares.entry(row.group(groups)).or_default().add(&row);
                    }
                }
                Piece::Bytes(_) | Piece::End(_) => {}
            }
        }
        // The decoder lets nothing come before it, and nothing end without it.
        let header = header.ok_or_else(|| BackupError::NoBackup { file: self.name.clone() })?;
        let floors = header.groups.iter().map(|head| head.floor);
        let epoch = floors.fold(epoch.max(cluster.last_epoch), Epoch::max);
        let sum = |of: fn(&Share) -> u64| shares.values().map(of).sum();
        let survey = Survey {
            sessions: sum(|share| share.sessions),
            entities: sum(|share| share.entities),
            variables,
            cluster,
            blobs,
            bytes: reader.offset(),
            epoch,
            header,
        };
        Ok((survey, shares))
    }
}

/// All pieces of a backup.
#[cfg(test)]
pub(in crate::store) fn decoded(file: &BackupFile) -> Result<Vec<Piece>, BackupError> {
    let (mut reader, mut pieces) = (file.reader()?, Vec::new());
    while let Some(piece) = reader.next().map_err(|fault| BackupError::of(fault, &file.name))? {
        pieces.push(piece);
    }
    Ok(pieces)
}

impl Share {
    fn add(&mut self, row: &Row) {
        self.bytes += counted(row);
        match row {
            Row::Session(_) => self.sessions += 1,
            Row::Entity { .. } => self.entities += 1,
            _ => {}
        }
    }

    /// Whether `group` may have so much.
    pub(super) fn check(&self, group: GroupId) -> Result<(), BackupError> {
        for (what, got, limit) in [
            ("bytes", self.bytes, limits::GROUP_BYTES),
            ("sessions", self.sessions, limits::SESSIONS as u64),
            ("entities", self.entities, limits::ENTITIES as u64),
        ] {
            if got > limit {
                return Err(BackupError::TooMuch { group, what, got, limit });
            }
        }
        Ok(())
    }
}
