//! The state machine of one data group: sessions with their variables, programs and metadata, and
//! what is remembered so that everything is done once.
//!
//! Pure, as the control group's: every replica must come to the same state from the same log, so
//! there is no clock, no randomness, no iteration over hash maps, no I/O. [`Data::apply`] is the
//! only way to change it. Time is what the leader stamped on the entries.
//!
//! # What a command does
//! 1. Time: the group's clock goes on, and a session that the command names and that is due ends.
//!    This is no effect of the command; it happens also when that is refused.
//! 2. Once: a command that its client sent before is answered with its first outcome, and a
//!    request that a user made before with its first answer.
//! 3. The command itself, all of it or, when it is refused, nothing.
//!
//! # What is replicated
//! [`Snapshot`] is; everything else ([`Data`]'s index) says where things in it are, is made anew
//! when a snapshot is read, and changes no answer.

mod client;
mod commit;
mod count;
mod draft;
mod entity;
mod export;
mod import;
mod lifecycle;
mod operate;
mod read;
mod request;
mod ring;
mod session;
mod variable;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use odeum_proto::session::{
    DataAction, DataCommand, DataOutcome, Patterns, Quotas, SessionRefusal, What,
};
use odeum_proto::{EntityId, Epoch, LogTime, Revision, SessionId};
use serde::{Deserialize, Serialize, Serializer};

pub(super) use count::counted;
pub(super) use export::Export;
pub use ring::{Compacted, Watched};
pub use session::Session;
pub use variable::{Past, Variable};
pub use window::Remembered;

use client::{Clients, Known};
use draft::{Draft, Effect, Scope};
use entity::Entity;
use import::Imported;
use ring::{Ring, RingIndex};
use variable::Stamp;

/// All that the replicas of a group agree on. A copy of it costs in proportion to the number of
/// sessions and not to what is in them, so it can be taken while commands wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    now: LogTime,
    quotas: Quotas,
    sessions: BTreeMap<SessionId, Arc<Session>>,
    entities: BTreeMap<EntityId, Arc<Entity>>,
    /// The highest epoch of an entity of which not even the name was kept.
    floor: Epoch,
    clients: Clients,
    ring: Ring,
    /// What the place of an entry in the log is short of its revision.
    above: Revision,
    import: Option<Imported>,
}

/// The state of one data group.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Snapshot")]
pub struct Data {
    state: Snapshot,
    index: Index,
    patterns: Patterns,
}

/// Where things are, and how much.
#[derive(Debug, Clone, Default)]
struct Index {
    /// Sessions with a time to live, the one that is due first in front.
    due: BTreeSet<(LogTime, SessionId)>,
    /// Entities that remember more requests than they need to once these are old.
    long_windows: BTreeSet<EntityId>,
    /// What sessions and entities count.
    bytes: u64,
    ring: RingIndex,
}

impl Data {
    /// Carries out one command of the log, which is at `place` in it.
    pub fn apply(&mut self, place: Revision, at: LogTime, command: &DataCommand) -> DataOutcome {
        let revision = self.revision_at(place);
        self.state.now = self.state.now.max(at);
        if let Some(session) = command.action.session().filter(|_| self.importing().is_none()) {
            self.end_if_due(revision, session);
        }
        let Some(origin) = &command.origin else {
            return self.apply_request(revision, command);
        };
        match self.state.clients.enter(origin, self.state.now) {
            Err(refusal) => DataOutcome::Refused(refusal),
            Ok(Known::Applied(outcome)) => outcome,
            Ok(Known::New) => {
                let outcome = self.apply_request(revision, command);
                self.state.clients.remember(origin, outcome.clone());
                outcome
            }
        }
    }

    /// The command itself, once per request of a user.
    fn apply_request(&mut self, revision: Revision, command: &DataCommand) -> DataOutcome {
        let action = &command.action;
        let (Some(request), Some(session)) = (&command.request, action.session()) else {
            return self.act(revision, action, 0);
        };
        let digest = request::digest(action);
        let known = self.session(session).and_then(|s| s.answers.get(request, self.state.now));
        if let Some(answer) = known {
            if answer.action == digest {
                return answer.outcome.clone();
            }
            let (session, request) = (session.clone(), request.clone());
            return DataOutcome::Refused(SessionRefusal::RequestReused { session, request });
        }
        let outcome = self.act(revision, action, request::least_bytes(request, action));
        if !matches!(outcome, DataOutcome::Refused(_))
            && let Some(kept) = self.state.sessions.get_mut(session).map(Arc::make_mut)
        {
            let grown = kept.answers.remember(request, digest, outcome.clone(), self.state.now);
            kept.bytes = kept.bytes.saturating_add_signed(grown);
            self.index.bytes = self.index.bytes.saturating_add_signed(grown);
        }
        outcome
    }

    /// Carries out an action that is none of those that were carried out before. The group will
    /// grow by `reserved` bytes beside it.
    fn act(&mut self, revision: Revision, action: &DataAction, reserved: u64) -> DataOutcome {
        if let Some(backup) = self.importing()
            && !matches!(action, DataAction::Import(_))
        {
            return DataOutcome::Refused(SessionRefusal::Restoring { backup });
        }
        let stamp = Stamp { revision, at: self.state.now };
        let result = match action {
            DataAction::CreateSession { session, settings } => {
                self.create(stamp, session, settings, reserved)
            }
            DataAction::TouchSession { session } => self.touch(stamp, session, reserved),
            DataAction::DeleteSession { session } => Ok(self.delete(revision, session)),
            DataAction::SetTtl { session, ttl } => self.set_ttl(stamp, session, *ttl, reserved),
            DataAction::Operate { session, operation } => {
                self.drafted(stamp, session, reserved, action.weight(), 1, |draft| {
                    let done = draft.operate(operation)?;
                    Ok(DataOutcome::Operated { revision, done })
                })
            }
            DataAction::Batch { session, atomic, operations } => {
                let number = operations.len();
                self.drafted(stamp, session, reserved, action.weight(), number, |draft| {
                    let results = if *atomic {
                        draft.all(operations)?.into_iter().map(Ok).collect()
                    } else {
                        draft.each(operations)
                    };
                    Ok(DataOutcome::Batch { revision, results })
                })
            }
            DataAction::Transaction { session, compare, then, otherwise } => {
                let number = compare.len() + then.len() + otherwise.len();
                self.drafted(stamp, session, reserved, action.weight(), number, |draft| {
                    let succeeded = compare.iter().all(|compare| draft.holds(compare));
                    let results = draft.all(if succeeded { then } else { otherwise })?;
                    Ok(DataOutcome::Transaction { revision, succeeded, results })
                })
            }
            DataAction::SetQuotas(quotas) => self.set_quotas(revision, *quotas),
            DataAction::Expire { max } => Ok(self.expire(revision, *max)),
            DataAction::Compact { upto } => self.compact(revision, *upto),
            DataAction::Commit(commit) => self.commit(stamp, commit),
            DataAction::Fence { entity, epoch, born } => {
                self.fence(revision, entity, *epoch, *born)
            }
            DataAction::Forget { entity, epoch } => Ok(self.forget(revision, entity, *epoch)),
            DataAction::Import(import) => self.import(revision, import),
        };
        result.unwrap_or_else(DataOutcome::Refused)
    }

    /// What bounds a command.
    fn scope(&mut self, stamp: Stamp, reserved: u64) -> Scope<'_> {
        let (quotas, group_bytes) = (self.state.quotas, self.bytes());
        Scope { quotas, group_bytes, reserved, patterns: &mut self.patterns, stamp }
    }

    fn push(&mut self, revision: Revision, session: &SessionId, what: What) {
        self.state.ring.push(&mut self.index.ring, revision, session, what);
    }
}

impl Serialize for Data {
    /// As its [`Snapshot`].
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(to)
    }
}

impl PartialEq for Data {
    /// Whether the replicated state is the same; the rest follows from it.
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Eq for Data {}

impl From<Snapshot> for Data {
    fn from(mut state: Snapshot) -> Self {
        for (id, session) in &mut state.sessions {
            // Nobody else has it yet, when it comes from a reader.
            let session = Arc::make_mut(session);
            session.bytes = session.count(id);
        }
        let index = Index::of(&state);
        Self { state, index, patterns: Patterns::default() }
    }
}

impl Index {
    /// Notes whether the window of an entity is a long one.
    fn note_window(&mut self, id: &EntityId, is_long: bool) {
        if is_long != self.long_windows.contains(id) {
            match is_long {
                true => self.long_windows.insert(id.clone()),
                false => self.long_windows.remove(id),
            };
        }
    }

    fn of(state: &Snapshot) -> Self {
        let long = state.entities.iter().filter(|(_, entity)| entity.window.is_long());
        let sessions = &state.sessions;
        let due = |(id, session): (&SessionId, &Arc<Session>)| Some((session.due()?, id.clone()));
        Self {
            due: sessions.iter().filter_map(due).collect(),
            long_windows: long.map(|(id, _)| id.clone()).collect(),
            bytes: sessions.values().map(|session| session.bytes).sum::<u64>()
                + state.entities.iter().map(|(id, entity)| entity.bytes(id)).sum::<u64>(),
            ring: state.ring.index(),
        }
    }
}
