//! Brings a backup into a cluster.
//!
//! 1. All of the file is read: nothing of a damaged one, or of one that does not fit, is restored.
//! 2. The control group, then each group of sessions begins, which it does only if it is empty. A
//!    group that has not begun takes writes still. What was written in that moment keeps it from
//!    beginning, and can be deleted before the next try ([`BackupError::Late`]): it is for this
//!    that the control group, which has no such way back, begins first.
//! 3. The rows, by the groups that they have here, and the blobs.
//! 4. When all groups have all of theirs, each group of sessions finishes, one after the other; then
//!    the control group, and what is deployed starts.
//!
//! Every step is known by the backup's id, and finds its own effect when it is done again. There is
//! no way back from a restore that was begun but to found the cluster anew.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use odeum_proto::backup::{
    BlobHead, DIVISION, Import, ImportBegin, ImportStep, JUMP, PIECE_BYTES, Piece, Restore,
    RestoreStep, Row,
};
use odeum_proto::session::{DataAction, DataOutcome, Quotas, SessionRefusal};
use odeum_proto::store::{Command, Outcome};
use odeum_proto::{BackupId, Epoch, GroupId, LogTime, Revision};

use super::error::BackupError;
use super::survey::{BackupFile, Reader, Survey};
use super::{BARRIER, Vault};
use crate::store::front::StoreHandle;
use crate::store::rounds::Consistency;

/// How long one step may take: a leader that is lost and another one that is elected, on a disk
/// that is busy with the steps before it.
const STEP: Duration = Duration::from_secs(60);

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// What was in the backup.
    pub survey: Survey,
    /// Whether it had been restored before, so that nothing was to be done.
    pub already: bool,
}

impl StoreHandle {
    /// Restores the backup in `file` into this cluster, which must be empty. A try that failed is
    /// gone on with by the next one.
    ///
    /// # Errors
    /// [`BackupError`]; a file that is damaged or does not fit, and a cluster that is not empty,
    /// are found out before anything is changed.
    pub async fn restore(
        &self,
        file: BackupFile,
        vault: &dyn Vault,
    ) -> Result<RestoreReport, BackupError> {
        let groups = self.data_groups()?;
        let number = groups.iter().filter(|group| **group != GroupId::Control).count();
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let (file, surveyed) = blocking(move || {
            let surveyed = file.survey(number);
            (file, surveyed)
        })
        .await?;
        let (survey, shares) = surveyed?;
        let backup = survey.header.backup;
        self.barrier(BARRIER).await?;
        let known = self.view(crate::store::State::restored).filter(|is| is.backup == backup);
        if known.is_some_and(|is| is.complete) {
            return Ok(RestoreReport { survey, already: true });
        }
        if known.is_none() {
            for (group, share) in shares {
                share.check(group)?;
            }
            self.view(|state| state.check_kinds(&survey.cluster.kinds))?;
            self.check_empty(&groups).await?;
        }
        let mut restoring = Restoring::new(self, backup, number);
        restoring.begin(&groups, &survey).await?;
        restoring.pieces(&file, vault).await?;
        restoring.finish(&groups, &survey).await?;
        tracing::info!(%backup, sessions = survey.sessions, "cluster restored from a backup");
        Ok(RestoreReport { survey, already: false })
    }

    /// Whether a backup may be brought into this cluster, as far as that can be known without
    /// reading any: to be asked before a large one is sent.
    ///
    /// # Errors
    /// [`BackupError`] when the cluster is not empty, unless some backup was begun already, which
    /// may be the same.
    pub async fn check_restorable(&self) -> Result<(), BackupError> {
        let groups = self.data_groups()?;
        self.barrier(BARRIER).await?;
        match self.view(crate::store::State::restored) {
            Some(_) => Ok(()),
            None => self.check_empty(&groups).await,
        }
    }

    /// Whether the cluster is empty, before it is asked to take anything.
    async fn check_empty(&self, groups: &[GroupId]) -> Result<(), BackupError> {
        self.view(crate::store::State::check_empty)?;
        for &group in groups {
            self.barrier_of(group, Consistency::Linearizable, BARRIER).await?;
            let empty = self.view_data(group, crate::store::Data::check_empty);
            empty.map_err(|refusal| BackupError::Group { group, refusal })?;
        }
        Ok(())
    }
}

/// A restore under way.
struct Restoring<'a> {
    store: &'a StoreHandle,
    backup: BackupId,
    /// Groups of sessions beside the one of everything else.
    number: u16,
    parts: BTreeMap<GroupId, Part>,
}

/// The rows that a group gets next.
#[derive(Default)]
struct Part {
    number: u64,
    rows: Vec<Row>,
    weight: usize,
    /// Parts that an earlier try has brought.
    there: u64,
}

impl<'a> Restoring<'a> {
    fn new(store: &'a StoreHandle, backup: BackupId, number: u16) -> Self {
        Self { store, backup, number, parts: BTreeMap::new() }
    }

    async fn begin(&mut self, groups: &[GroupId], survey: &Survey) -> Result<(), BackupError> {
        let above = Epoch(survey.epoch.0.saturating_add(JUMP));
        let kinds = survey.cluster.kinds.clone();
        self.control(RestoreStep::Begin { above, kinds }).await?;
        let heads = &survey.header.groups;
        let highest = heads.iter().map(|head| head.revision).max().unwrap_or_default();
        let begin = ImportBegin {
            time: heads.iter().map(|head| head.time).max().unwrap_or(LogTime(0)),
            above: Revision(highest.0.saturating_add(JUMP)),
            floor: heads.iter().map(|head| head.floor).max().unwrap_or_default(),
            quotas: heads.iter().map(|head| head.quotas).reduce(widest).unwrap_or_default(),
            division: DIVISION,
        };
        for &group in groups {
            self.import(group, ImportStep::Begin(begin)).await.map_err(late)?;
            let backup = self.backup;
            let there = self.store.view_data(group, |data| data.imported(backup));
            // A part that is there already and is sent again changes nothing.
            let there = there.unwrap_or_default();
            self.parts.insert(group, Part { there, ..Part::default() });
        }
        Ok(())
    }

    /// Brings all rows and blobs.
    async fn pieces(&mut self, file: &BackupFile, vault: &dyn Vault) -> Result<(), BackupError> {
        let mut reader = file.reader()?;
        let mut blob: Option<(BlobHead, BytesMut)> = None;
        loop {
            let (back, piece) = read(reader).await?;
            reader = back;
            match piece.map_err(|fault| BackupError::of(fault, &file.name))? {
                Some(Piece::Rows { rows, .. }) => {
                    for row in rows {
                        self.add(row).await?;
                    }
                }
                Some(Piece::Blob(head)) => {
                    let bytes = BytesMut::with_capacity(usize::try_from(head.size).unwrap_or(0));
                    blob = put_if_whole((head, bytes), vault).await?;
                }
                Some(Piece::Bytes(more)) => {
                    // It comes behind its head: the decoder sees to that.
                    if let Some((head, mut bytes)) = blob.take() {
                        bytes.extend_from_slice(&more);
                        blob = put_if_whole((head, bytes), vault).await?;
                    }
                }
                Some(Piece::Header(_) | Piece::Cluster(_) | Piece::End(_)) => {}
                None => return Ok(()),
            }
        }
    }

    async fn add(&mut self, row: Row) -> Result<(), BackupError> {
        let group = row.group(self.number);
        let part = self.parts.entry(group).or_default();
        part.weight += row.weight();
        part.rows.push(row);
        if part.weight >= PIECE_BYTES { self.send(group).await } else { Ok(()) }
    }

    /// Brings what was collected for `group`.
    async fn send(&mut self, group: GroupId) -> Result<(), BackupError> {
        let part = self.parts.entry(group).or_default();
        let (number, rows) = (part.number, std::mem::take(&mut part.rows));
        part.number += 1;
        part.weight = 0;
        if number < part.there {
            return Ok(());
        }
        self.import(group, ImportStep::Rows { number, rows }).await
    }

    async fn finish(&mut self, groups: &[GroupId], survey: &Survey) -> Result<(), BackupError> {
        for &group in groups {
            if self.parts.get(&group).is_some_and(|part| !part.rows.is_empty()) {
                self.send(group).await?;
            }
        }
        // No group opens before every other one has all that it should have.
        for &group in groups {
            let parts = self.parts.get(&group).map_or(0, |part| part.number);
            self.import(group, ImportStep::Finish { parts }).await?;
        }
        let firmware = survey.cluster.firmware.clone();
        self.control(RestoreStep::Finish { firmware }).await
    }

    async fn control(&self, step: RestoreStep) -> Result<(), BackupError> {
        let command = Command::Restore(Restore { backup: self.backup, step });
        match self.store.write(command, STEP).await? {
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    async fn import(&self, group: GroupId, step: ImportStep) -> Result<(), BackupError> {
        let action = DataAction::Import(Import { backup: self.backup, step });
        match self.store.write_data(group, action, STEP).await? {
            DataOutcome::Refused(refusal) => Err(BackupError::Group { group, refusal }),
            _ => Ok(()),
        }
    }
}

/// What became of a group that was empty when it was looked at.
fn late(error: BackupError) -> BackupError {
    match error {
        BackupError::Group { group, refusal: SessionRefusal::NotEmpty { sessions, entities } } => {
            BackupError::Late { group, sessions, entities }
        }
        error => error,
    }
}

/// Keeps a blob when all of its bytes are there; else it is given back.
async fn put_if_whole(
    (head, bytes): (BlobHead, BytesMut),
    vault: &dyn Vault,
) -> Result<Option<(BlobHead, BytesMut)>, BackupError> {
    if (bytes.len() as u64) < head.size {
        return Ok(Some((head, bytes)));
    }
    let BlobHead { digest, owners, .. } = head;
    let kept = vault.put(bytes.freeze(), owners).await;
    kept.map_err(|reason| BackupError::BlobNotKept { digest, reason })?;
    Ok(None)
}

/// Of both the wider bounds, within those of this version.
fn widest(a: Quotas, b: Quotas) -> Quotas {
    let highest = Quotas::HIGHEST;
    Quotas {
        sessions: a.sessions.max(b.sessions).min(highest.sessions),
        variables_per_session: a
            .variables_per_session
            .max(b.variables_per_session)
            .min(highest.variables_per_session),
        variable_bytes: a.variable_bytes.max(b.variable_bytes).min(highest.variable_bytes),
        group_bytes: a.group_bytes.max(b.group_bytes).min(highest.group_bytes),
    }
}

async fn read(
    mut reader: Reader,
) -> Result<(Reader, Result<Option<Piece>, super::format::Fault>), BackupError> {
    blocking(move || {
        let piece = reader.next();
        (reader, piece)
    })
    .await
}

/// Runs what waits for the disk where it stalls no actor.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BackupError::Stopping)
}
