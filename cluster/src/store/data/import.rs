//! Brings a backup into a group, part by part.
//!
//! From the first step to the last the group takes nothing else, so that what is in it is a part of
//! the backup and nothing but that. Parts are numbered: one that is sent again, by whoever goes on
//! after a crash, is found to be there.
//!
//! * **Times.** Rows have ages. The group's time goes on from the latest of the old groups, so that
//!   every age has its place, and with the last step the sessions' lives are moved to it: the time
//!   that the import took is nobody's loss, and no remembered answer is forgotten for it.
//! * **Revisions.** Those of the rows stay as they are. The group's own go on far above them
//!   ([`Data::revision_at`]), and all below is forgotten: a watch with a revision of the old cluster
//!   is told so, and gets the state.
//! * **Bounds.** What was within them in the old cluster may be more than one group of this one
//!   should have. Whoever imports looks at that before the first step; a group that is over its
//!   bounds takes what frees, as one whose bounds were lowered.

mod brought;

use std::collections::BTreeSet;
use std::sync::Arc;

use odeum_proto::backup::{Import, ImportBegin, ImportStep, Row, SessionRow, VariableRow};
use odeum_proto::session::{DataOutcome, Quota, SessionRefusal};
use odeum_proto::{BackupId, Epoch, LogTime, Revision, SessionId};
use serde::{Deserialize, Serialize};

use super::draft::too_much;
use super::entity::Entity;
use super::request::Answers;
use super::{Data, Index, Past, Session, Variable};

use self::brought::Brought;

/// Highest revision that a backup may name: far more than any group has had, and with room for as
/// many again, since they must never begin anew.
const HIGHEST_REVISION: Revision = Revision(u64::MAX / 2);

/// Highest epoch that a backup may name, for the same reason.
const HIGHEST_EPOCH: Epoch = Epoch(u64::MAX / 2);

type Result<T = DataOutcome> = std::result::Result<T, SessionRefusal>;

/// The backup that was brought into the group, or is being brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Imported {
    backup: BackupId,
    /// When it began.
    began: LogTime,
    /// How it is divided into parts.
    division: u32,
    /// The part that must come next.
    next: u64,
    complete: bool,
}

impl Data {
    /// The backup that is being brought into the group.
    #[must_use]
    pub fn importing(&self) -> Option<BackupId> {
        let import = self.state.import.as_ref()?;
        (!import.complete).then_some(import.backup)
    }

    /// How many parts of `backup` are in the group; `None` when it was not begun.
    #[must_use]
    pub fn imported(&self, backup: BackupId) -> Option<u64> {
        let import = self.state.import.as_ref()?;
        (import.backup == backup).then_some(import.next)
    }

    /// Whether a backup can be brought into the group.
    ///
    /// # Errors
    /// [`SessionRefusal::NotEmpty`] or [`SessionRefusal::Restoring`].
    pub fn check_empty(&self) -> std::result::Result<(), SessionRefusal> {
        if let Some(backup) = self.importing() {
            return Err(SessionRefusal::Restoring { backup });
        }
        let sessions = self.state.sessions.len() as u64;
        // Of one that is gone there is only a name, which is no obstacle.
        let entities = self.state.entities.values().filter(|entity| !entity.gone).count() as u64;
        if sessions + entities > 0 {
            return Err(SessionRefusal::NotEmpty { sessions, entities });
        }
        Ok(())
    }

    pub(super) fn import(&mut self, revision: Revision, import: &Import) -> Result {
        let Import { backup, step } = import;
        match step {
            ImportStep::Begin(begin) => self.begin_import(revision, *backup, begin),
            ImportStep::Rows { number, rows } => {
                self.import_rows(*backup, *number, rows).map(|()| applied(revision))
            }
            ImportStep::Finish { parts } => self.finish_import(revision, *backup, *parts),
        }
    }

    fn begin_import(
        &mut self,
        revision: Revision,
        backup: BackupId,
        begin: &ImportBegin,
    ) -> Result {
        let ImportBegin { time, above, floor, quotas, division } = *begin;
        if let Some(import) = self.state.import.as_ref().filter(|import| import.backup == backup) {
            let is = import.division;
            if !import.complete && is != division {
                return Err(SessionRefusal::ImportDivision { backup, is, got: division });
            }
            return Ok(applied(revision));
        }
        self.check_empty()?;
        if above > HIGHEST_REVISION {
            let (got, limit) = (above.0, HIGHEST_REVISION.0);
            return Err(too_much(Quota::Revisions, "", got, limit));
        }
        if floor > HIGHEST_EPOCH {
            return Err(too_much(Quota::Epochs, "", floor.0, HIGHEST_EPOCH.0));
        }
        self.set_quotas(revision, quotas)?;
        let place = revision.0.saturating_sub(self.state.above.0);
        self.state.above = self.state.above.max(above);
        self.state.now = self.state.now.max(time);
        self.state.floor = self.state.floor.max(floor);
        let began = self.state.now;
        self.state.import = Some(Imported { backup, began, division, next: 0, complete: false });
        let revision = self.revision_at(Revision(place));
        self.state.ring.compact(&mut self.index.ring, revision);
        Ok(applied(revision))
    }

    fn import_rows(&mut self, backup: BackupId, number: u64, rows: &[Row]) -> Result<()> {
        let import = self.known_import(backup)?;
        let (expected, began) = (import.next, import.began);
        if import.complete || number < expected {
            return Ok(());
        }
        if number > expected {
            return Err(SessionRefusal::ImportOrder { backup, expected, got: number });
        }
        if let Some(row) = self.orphan(rows) {
            return Err(SessionRefusal::ImportRow { backup, number, row });
        }
        let mut sessions = BTreeSet::new();
        for row in rows {
            match session_of(row) {
                Some(session) => {
                    sessions.insert(session);
                    self.import_session(row, began);
                }
                None => self.import_entity(row, began),
            }
        }
        for id in sessions {
            if let Some(session) = self.state.sessions.get_mut(id).map(Arc::make_mut) {
                let (before, now) = (session.bytes, session.count(id));
                session.bytes = now;
                self.index.bytes = self.index.bytes + now - before;
            }
        }
        if let Some(import) = &mut self.state.import {
            import.next = number + 1;
        }
        Ok(())
    }

    /// The first of `rows` that belongs to nothing that is there or comes before it.
    fn orphan(&self, rows: &[Row]) -> Option<u64> {
        let mut brought = Brought::default();
        let at = rows.iter().position(|row| !brought.takes(row, &self.state));
        at.map(|at| at as u64)
    }

    /// A session, or something of one; what it counts is counted by the caller.
    fn import_session(&mut self, row: &Row, began: LogTime) {
        if let Row::Session(row) = row {
            let session = Arc::new(Session::imported(row, began));
            if let Some(former) = self.state.sessions.insert(row.id.clone(), session) {
                self.index.bytes -= former.bytes;
            }
            return;
        }
        let session = session_of(row).and_then(|id| self.state.sessions.get_mut(id));
        if let Some(session) = session {
            Arc::make_mut(session).import(row, began);
        }
    }

    /// An entity, or a request that it has carried out: as if that had been when the import began, and
    /// in the end as if it had been then, so that none is forgotten for the time of the backup.
    fn import_entity(&mut self, row: &Row, began: LogTime) {
        let bytes = &mut self.index.bytes;
        match row {
            Row::Entity { entity: id, epoch, born, gone } => {
                let entity = Entity { born: *born, gone: *gone, ..Entity::new(*epoch) };
                *bytes += entity.bytes(id);
                if let Some(former) = self.state.entities.insert(id.clone(), Arc::new(entity)) {
                    *bytes -= former.bytes(id);
                }
            }
            Row::Reply { entity: id, request, reply } => {
                if let Some(entity) = self.state.entities.get_mut(id).map(Arc::make_mut) {
                    *bytes -= entity.window.bytes();
                    let reply = reply.as_ref().map(|reply| reply.to_vec());
                    entity.window.insert(request.clone(), reply, began);
                    *bytes += entity.window.bytes();
                }
            }
            _ => {}
        }
    }

    fn finish_import(&mut self, revision: Revision, backup: BackupId, parts: u64) -> Result {
        let import = self.known_import(backup)?;
        let (began, expected) = (import.began, import.next);
        if import.complete {
            return Ok(applied(revision));
        }
        if parts != expected {
            return Err(SessionRefusal::ImportOrder { backup, expected, got: parts });
        }
        let took = self.state.now.0.saturating_sub(began.0);
        for session in self.state.sessions.values_mut() {
            let lives = session.ttl.is_some();
            if lives || !session.answers.is_empty() {
                let session = Arc::make_mut(session);
                session.answers.rejuvenate(took);
                if lives {
                    session.touched = LogTime(session.touched.0.saturating_add(took));
                }
            }
        }
        for entity in self.state.entities.values_mut() {
            if entity.window.bytes() > 0 {
                Arc::make_mut(entity).window.rejuvenate(took);
            }
        }
        if let Some(import) = &mut self.state.import {
            import.complete = true;
        }
        self.state.ring.compact(&mut self.index.ring, revision);
        self.index = Index::of(&self.state);
        Ok(applied(revision))
    }

    fn known_import(&self, backup: BackupId) -> Result<&Imported> {
        let import = self.state.import.as_ref().filter(|import| import.backup == backup);
        import.ok_or(SessionRefusal::OtherBackup { claimed: backup })
    }
}

impl Session {
    /// As it was in a backup that is imported since `began`; what is in it comes behind it.
    fn imported(row: &SessionRow, began: LogTime) -> Self {
        let at = |age: u64| LogTime(began.0.saturating_sub(age));
        Self {
            created: row.created,
            created_at: at(row.created_age),
            changed: row.changed,
            touched: at(row.touched_age),
            ttl: row.ttl,
            metadata: row.metadata.clone(),
            variables: Default::default(),
            programs: Default::default(),
            answers: Answers::default(),
            last_version: row.last_version,
            bytes: 0,
        }
    }

    /// Takes back something that was in it.
    fn import(&mut self, row: &Row, began: LogTime) {
        let at = |age: u64| LogTime(began.0.saturating_sub(age));
        match row {
            Row::Variable(row) => {
                let variable = Variable::imported(row, at(row.age));
                self.variables.insert(row.key.clone(), variable);
            }
            Row::Past { key, value, version, revision, age, .. } => {
                if let Some(variable) = self.variables.get_mut(key) {
                    let (value, version, revision) = (value.clone(), *version, *revision);
                    variable.import_past(Past { value, version, revision, at: at(*age) });
                }
            }
            Row::Program { name, program, .. } => {
                self.programs.insert(name.clone(), Arc::clone(program));
            }
            Row::Answer { request, age, action, outcome, .. } => {
                self.answers.import(request.clone(), at(*age), *action, outcome.clone());
            }
            Row::Session(_) | Row::Entity { .. } | Row::Reply { .. } => {}
        }
    }
}

/// The session that a row is about.
fn session_of(row: &Row) -> Option<&SessionId> {
    match row {
        Row::Session(SessionRow { id, .. }) => Some(id),
        Row::Variable(VariableRow { session, .. })
        | Row::Past { session, .. }
        | Row::Program { session, .. }
        | Row::Answer { session, .. } => Some(session),
        Row::Entity { .. } | Row::Reply { .. } => None,
    }
}

fn applied(revision: Revision) -> DataOutcome {
    DataOutcome::Applied { revision }
}
