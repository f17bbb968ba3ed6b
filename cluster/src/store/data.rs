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
mod draft;
mod entity;
mod lifecycle;
mod operate;
mod request;
mod ring;
mod session;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use odeum_proto::session::{
    Change, DataAction, DataCommand, DataOutcome, Glob, Patterns, Quotas, SessionRefusal, What,
};
use odeum_proto::{EntityId, Epoch, LogTime, RequestId, Revision, SessionId};
use serde::{Deserialize, Serialize, Serializer};

pub use ring::{Compacted, Watched};
pub use session::{Past, Session, Variable};
pub use window::Remembered;

use client::{Clients, Known};
use draft::{Draft, Effect, Scope};
use entity::Entity;
use ring::{Ring, RingIndex};
use session::Stamp;

/// All that the replicas of a group agree on. A copy of it costs in proportion to the number of
/// sessions and not to what is in them, so it can be taken while commands wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    now: LogTime,
    quotas: Quotas,
    sessions: BTreeMap<SessionId, Arc<Session>>,
    entities: BTreeMap<EntityId, Arc<Entity>>,
    /// The highest epoch of an entity that was forgotten.
    floor: Epoch,
    clients: Clients,
    ring: Ring,
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
    /// What sessions and entities count.
    bytes: u64,
    ring: RingIndex,
}

impl Data {
    /// Carries out one command of the log.
    pub fn apply(&mut self, revision: Revision, at: LogTime, command: &DataCommand) -> DataOutcome {
        self.state.now = self.state.now.max(at);
        if let Some(session) = command.action.session() {
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

    /// The time of the last command.
    #[must_use]
    pub fn now(&self) -> LogTime {
        self.state.now
    }

    /// The bounds in force.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.state.quotas
    }

    /// The sessions by id, those included that are due and not yet removed.
    #[must_use]
    pub fn sessions(&self) -> &BTreeMap<SessionId, Arc<Session>> {
        &self.state.sessions
    }

    /// A session, unless it is due: a command would not find it either.
    #[must_use]
    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        let there = |session: &&Session| session.due().is_none_or(|due| due > self.state.now);
        self.state.sessions.get(id).map(|session| &**session).filter(there)
    }

    /// The sessions whose ids `glob` selects, by id, from the first id after `after` on.
    pub fn matching<'a>(
        &'a self,
        glob: &'a Glob,
        after: Option<&'a SessionId>,
    ) -> impl Iterator<Item = (&'a SessionId, &'a Session)> {
        let prefix = glob.prefix();
        let from = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        self.state
            .sessions
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(id, session)| (id, &**session))
            .take_while(|(id, _)| id.as_str().starts_with(glob.prefix()))
            .filter(|(id, session)| {
                let there = session.due().is_none_or(|due| due > self.state.now);
                there && glob.matches(id.as_str())
            })
    }

    /// When the first session is due. A leader whose clock says so proposes
    /// [`DataAction::Expire`].
    #[must_use]
    pub fn next_expiry(&self) -> Option<LogTime> {
        self.index.due.first().map(|(due, _)| *due)
    }

    /// What is remembered of a request to an entity; `None` when it was never carried out or has
    /// left the deduplication window.
    #[must_use]
    pub fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<&Remembered> {
        self.state.entities.get(entity)?.window.get(request)
    }

    /// The highest epoch that the group has seen of an entity.
    #[must_use]
    pub fn epoch(&self, entity: &EntityId) -> Option<Epoch> {
        self.state.entities.get(entity).map(|entity| entity.epoch)
    }

    /// Bytes of sessions and of what is remembered, overhead included; what counts against
    /// [`Quotas::group_bytes`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index.bytes + self.state.clients.bytes()
    }

    /// The last revision whose changes may be forgotten: watches go on from here or from later.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.state.ring.compacted()
    }

    /// The changes after `revision`, oldest first: every one of them, once.
    ///
    /// For one session the time is in proportion to what is given. Else every change after
    /// `revision` is looked at as the iterator comes to it.
    ///
    /// # Errors
    /// [`Compacted`] when some of them are forgotten.
    pub fn changes_after<'a>(
        &'a self,
        revision: Revision,
        watched: Watched<'a>,
    ) -> Result<Box<dyn Iterator<Item = &'a Arc<Change>> + 'a>, Compacted> {
        self.state.ring.after(&self.index.ring, revision, watched)
    }

    /// A copy of all that is replicated, to be written while the state goes on.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state.clone()
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
    fn of(state: &Snapshot) -> Self {
        let sessions = &state.sessions;
        let due = |(id, session): (&SessionId, &Arc<Session>)| Some((session.due()?, id.clone()));
        Self {
            due: sessions.iter().filter_map(due).collect(),
            bytes: sessions.values().map(|session| session.bytes).sum::<u64>()
                + state.entities.iter().map(|(id, entity)| entity.bytes(id)).sum::<u64>(),
            ring: state.ring.index(),
        }
    }
}
