//! The replicated state machine of sessions: what the log of a group of them means.
//!
//! Pure, as [`State`](super::State) is. Each group has the sessions whose owners' hash is its own
//! ([`odeum_proto::shard::group_of`]); all sessions of one entity are in one group, and so is its
//! deduplication window, so that the effect of one message is one entry of one log.
//!
//! # Fencing
//! Which activation of an entity is the current one is decided in another group, so this one keeps
//! the latest epoch it has seen of each entity. A new activation writes a
//! [`Fence`](DataCommand::Fence) before it reads: what an older one still has under way is either
//! before that, and seen, or refused.

mod commit;
mod session;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use odeum_proto::session::{DataCommand, DataOutcome, SessionRefusal};
use odeum_proto::{EntityId, Epoch, LogTime, RequestId, Revision, SessionId};
use serde::{Deserialize, Serialize};

pub use session::Session;
pub use window::Remembered;

use window::Window;

/// The sessions of one group, and the requests that made them what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    now: LogTime,
    sessions: BTreeMap<SessionId, Session>,
    windows: BTreeMap<EntityId, Window>,
    /// Who speaks for each entity that has committed or fenced here.
    epochs: BTreeMap<EntityId, Life>,
    /// What is not in `epochs` is refused up to this one: it was forgotten.
    forgotten: Epoch,
    /// Bytes of sessions and windows, counted against
    /// [`limits::GROUP_BYTES`](odeum_proto::limits::GROUP_BYTES).
    bytes: u64,
}

/// The latest activation of an entity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    epoch: Epoch,
    /// The last epoch before the entity came to be, under whatever activation.
    born: Epoch,
}

impl Data {
    /// Carries out one command of the log, proposed `at` that time.
    pub fn apply(&mut self, revision: Revision, at: LogTime, command: &DataCommand) -> DataOutcome {
        self.now = self.now.max(at);
        let result = match command {
            DataCommand::Commit(commit) => self.commit(revision, commit),
            DataCommand::Fence { entity, epoch, born } => {
                let life = Life { epoch: *epoch, born: *born };
                self.fence(entity, life).map(|()| applied(revision))
            }
            DataCommand::Forget { entity, epoch } => {
                self.forget(entity, *epoch);
                Ok(applied(revision))
            }
            DataCommand::DeleteSession { session } => {
                self.delete_session(session);
                Ok(applied(revision))
            }
        };
        result.unwrap_or_else(DataOutcome::Refused)
    }

    /// The time of the last entry.
    #[must_use]
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// The sessions with their variables, by id.
    #[must_use]
    pub fn sessions(&self) -> &BTreeMap<SessionId, Session> {
        &self.sessions
    }

    /// The latest epoch under which `entity` has committed or fenced here.
    #[must_use]
    pub fn epoch(&self, entity: &EntityId) -> Option<Epoch> {
        self.epochs.get(entity).map(|life| life.epoch)
    }

    /// What is remembered of a request to an entity; `None` when it was never carried out or has
    /// left the deduplication window.
    #[must_use]
    pub fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<&Remembered> {
        self.windows.get(entity)?.get(request)
    }

    /// Bytes of session data and remembered replies, overhead included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn fence(&mut self, entity: &EntityId, life: Life) -> Result<(), SessionRefusal> {
        self.check_epoch(entity, life.epoch)?;
        let before = self.epochs.insert(entity.clone(), life);
        if before.is_some_and(|before| before.born < life.born) {
            self.drop_window(entity);
        }
        Ok(())
    }

    /// What speaks for `entity` must not be older than what was heard of it.
    fn check_epoch(&self, entity: &EntityId, claimed: Epoch) -> Result<(), SessionRefusal> {
        let stale = |is| SessionRefusal::StaleEpoch { entity: entity.clone(), is, claimed };
        match self.epochs.get(entity) {
            Some(is) if claimed < is.epoch => Err(stale(is.epoch)),
            None if claimed <= self.forgotten => Err(stale(self.forgotten)),
            _ => Ok(()),
        }
    }

    fn forget(&mut self, entity: &EntityId, epoch: Epoch) {
        // A later activation is another entity of that name; it was not meant.
        if self.epochs.get(entity).is_some_and(|is| is.epoch > epoch) {
            return;
        }
        self.epochs.remove(entity);
        self.forgotten = self.forgotten.max(epoch);
        self.drop_window(entity);
    }

    fn drop_window(&mut self, entity: &EntityId) {
        if let Some(window) = self.windows.remove(entity) {
            self.bytes -= window.bytes();
        }
    }

    fn delete_session(&mut self, session: &SessionId) {
        if let Some(gone) = self.sessions.remove(session) {
            self.bytes -= gone.bytes(session);
        }
    }
}

fn applied(revision: Revision) -> DataOutcome {
    DataOutcome::Applied { revision }
}

fn too_much(what: &str, got: u64, limit: u64) -> SessionRefusal {
    SessionRefusal::TooMuch { what: what.into(), got, limit }
}

fn at_most(what: &str, got: usize, limit: usize) -> Result<(), SessionRefusal> {
    if got <= limit { Ok(()) } else { Err(too_much(what, got as u64, limit as u64)) }
}
