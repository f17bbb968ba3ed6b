//! What can be asked of a group. Nothing here changes anything.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use odeum_proto::session::{Change, Glob, Quotas};
use odeum_proto::{EntityId, Epoch, LogTime, RequestId, Revision, SessionId};

use super::{Compacted, Data, Remembered, Session, Snapshot, Watched};

impl Data {
    /// The time of the last command.
    #[must_use]
    pub fn now(&self) -> LogTime {
        self.state.now
    }

    /// The revision of the entry at `place` of the log: the same, unless a backup was brought into
    /// the group, which has revisions of its own below those of everything after it.
    #[must_use]
    pub fn revision_at(&self, place: Revision) -> Revision {
        Revision(place.0.saturating_add(self.state.above.0))
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

    /// When the first session is due, or the window of an entity that has had no request for a while. A
    /// leader whose clock says so proposes [`Expire`](odeum_proto::session::DataAction::Expire).
    #[must_use]
    pub fn next_expiry(&self) -> Option<LogTime> {
        if self.importing().is_some() {
            return None;
        }
        let windows = self.index.long_windows.iter();
        let window = windows.filter_map(|id| self.state.entities.get(id)?.window.due()).min();
        let session = self.index.due.first().map(|(due, _)| *due);
        session.into_iter().chain(window).min()
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
}
