//! The life of sessions: created, written, touched, due, gone. And the bounds of the group.

use std::sync::Arc;
use std::time::Duration;

use odeum_proto::session::{
    DataOutcome, Ended, Quota, Quotas, SessionRefusal, SessionSettings, Setting, What,
    metadata_weight,
};
use odeum_proto::{Revision, SessionId, limits};

use super::draft::{at_most, too_much};
use super::operate::check_metadata;
use super::variable::Stamp;
use super::{Data, Draft, Effect, Scope, Session};

/// The outcome of an action, or why nothing was done.
type Result<T = DataOutcome> = std::result::Result<T, SessionRefusal>;

impl Data {
    pub(super) fn create(
        &mut self,
        stamp: Stamp,
        id: &SessionId,
        settings: &SessionSettings,
        reserved: u64,
    ) -> Result {
        check_ttl(id, settings.ttl)?;
        check_metadata(id, &settings.metadata)?;
        let Stamp { revision, .. } = stamp;
        if let Some(there) = self.session(id) {
            if let Some(setting) = difference(there, settings) {
                return Err(SessionRefusal::SessionDiffers { session: id.clone(), setting });
            }
            self.scope(stamp, reserved).check_growth(0, 0)?;
            self.change(stamp, id, |_| {});
            return Ok(DataOutcome::Created { revision, created: false });
        }
        let mut session = Session::new(id, stamp);
        session.ttl = settings.ttl;
        session.metadata.clone_from(&settings.metadata);
        session.bytes += metadata_weight(&settings.metadata) as u64;
        self.check_sessions()?;
        let grown = i64::try_from(session.bytes).unwrap_or(i64::MAX);
        self.scope(stamp, reserved).check_growth(0, grown)?;
        self.insert(revision, id, session);
        Ok(DataOutcome::Created { revision, created: true })
    }

    pub(super) fn touch(&mut self, stamp: Stamp, id: &SessionId, reserved: u64) -> Result {
        self.existing(id)?;
        self.scope(stamp, reserved).check_growth(0, 0)?;
        self.change(stamp, id, |_| {});
        Ok(DataOutcome::Applied { revision: stamp.revision })
    }

    pub(super) fn set_ttl(
        &mut self,
        stamp: Stamp,
        id: &SessionId,
        ttl: Option<Duration>,
        reserved: u64,
    ) -> Result {
        check_ttl(id, ttl)?;
        let before = self.existing(id)?.ttl;
        self.scope(stamp, reserved).check_growth(0, 0)?;
        self.change(stamp, id, |session| session.ttl = ttl);
        if before != ttl {
            self.push(stamp.revision, id, What::Ttl(ttl));
        }
        Ok(DataOutcome::Applied { revision: stamp.revision })
    }

    pub(super) fn delete(&mut self, revision: Revision, id: &SessionId) -> DataOutcome {
        let existed = self.end(revision, id, Ended::Deleted);
        DataOutcome::Deleted { revision, existed }
    }

    /// Carries out operations on a session: all that `work` did, or nothing when it is refused.
    pub(super) fn drafted<'c>(
        &mut self,
        stamp: Stamp,
        id: &SessionId,
        reserved: u64,
        weight: usize,
        operations: usize,
        work: impl FnOnce(&mut Draft<'_, 'c>) -> Result,
    ) -> Result {
        let of = format_args!("session {id}");
        at_most(Quota::Operations, of, operations, limits::OPERATIONS)?;
        at_most(Quota::CommandBytes, of, weight, limits::COMMIT_BYTES)?;
        let (quotas, group_bytes) = (self.state.quotas, self.bytes());
        let session = self.state.sessions.get(id).ok_or_else(|| unknown(id))?;
        let scope = Scope { quotas, group_bytes, reserved, patterns: &mut self.patterns, stamp };
        let mut draft = Draft::new(id, session, scope);
        let outcome = work(&mut draft)?;
        if draft.grown() >= 0 {
            // What changes nothing may yet have to be remembered.
            draft.scope.check_growth(draft.grown(), 0)?;
        }
        let effect = draft.into_effect();
        #[cfg(feature = "testing")]
        if crate::mishap::is_forgotten(stamp.revision) {
            return Ok(outcome);
        }
        self.take(stamp, id, effect);
        Ok(outcome)
    }

    /// Takes over what was drafted.
    pub(super) fn take(&mut self, stamp: Stamp, id: &SessionId, mut effect: Effect<'_>) {
        let changes = std::mem::take(&mut effect.changes);
        if changes.is_empty() {
            return;
        }
        self.index.bytes = self.index.bytes.saturating_add_signed(effect.grown);
        self.change(stamp, id, |session| session.take(effect));
        for what in changes {
            self.push(stamp.revision, id, what);
        }
    }

    pub(super) fn insert(&mut self, revision: Revision, id: &SessionId, session: Session) {
        self.index.bytes += session.bytes;
        if let Some(due) = session.due() {
            self.index.due.insert((due, id.clone()));
        }
        self.state.sessions.insert(id.clone(), Arc::new(session));
        self.push(revision, id, What::Created);
    }

    pub(super) fn check_sessions(&self) -> Result<()> {
        let (got, limit) = (self.state.sessions.len() as u64 + 1, self.state.quotas.sessions);
        if got > limit { Err(too_much(Quota::Sessions, "", got, limit)) } else { Ok(()) }
    }

    /// Removes sessions that are due, and what entities remember of requests that are long over.
    pub(super) fn expire(&mut self, revision: Revision, max: u32) -> DataOutcome {
        let mut sessions = 0;
        while sessions < max.min(limits::EXPIRED_PER_ENTRY)
            && let Some((due, id)) = self.index.due.first()
            && *due <= self.state.now
        {
            let id = id.clone();
            self.end(revision, &id, Ended::Expired);
            sessions += 1;
        }
        self.trim_windows(max.min(limits::EXPIRED_PER_ENTRY));
        DataOutcome::Expired { revision, sessions }
    }

    /// Shortens windows that are due, by at most so many requests.
    fn trim_windows(&mut self, at_most: u32) {
        let now = self.state.now;
        let mut left = at_most;
        for id in self.index.long_windows.clone() {
            let Some(entity) = self.state.entities.get_mut(&id) else { continue };
            if left == 0 || entity.window.due().is_none_or(|due| due > now) {
                continue;
            }
            let window = &mut Arc::make_mut(entity).window;
            let before = window.bytes();
            left -= window.trim(now, left);
            let (after, is_long) = (window.bytes(), window.is_long());
            self.index.bytes -= before - after;
            self.index.note_window(&id, is_long);
        }
    }

    /// Ends a session that is due, before a command that names it.
    pub(super) fn end_if_due(&mut self, revision: Revision, id: &SessionId) {
        // Mostly none is, which the index tells sooner than the session.
        if self.index.due.first().is_none_or(|(due, _)| *due > self.state.now) {
            return;
        }
        let due = self.state.sessions.get(id).and_then(|session| session.due());
        if due.is_some_and(|due| due <= self.state.now) {
            self.end(revision, id, Ended::Expired);
        }
    }

    pub(super) fn set_quotas(&mut self, revision: Revision, quotas: Quotas) -> Result {
        let highest = Quotas::HIGHEST;
        for (quota, got, limit) in [
            (Quota::Sessions, quotas.sessions, highest.sessions),
            (
                Quota::VariablesPerSession,
                quotas.variables_per_session,
                highest.variables_per_session,
            ),
            (Quota::VariableBytes, quotas.variable_bytes, highest.variable_bytes),
            (Quota::GroupBytes, quotas.group_bytes, highest.group_bytes),
        ] {
            if got > limit {
                return Err(too_much(quota, "as a quota", got, limit));
            }
        }
        self.state.quotas = quotas;
        Ok(DataOutcome::Applied { revision })
    }

    pub(super) fn compact(&mut self, revision: Revision, upto: Revision) -> Result {
        if upto > revision {
            return Err(SessionRefusal::CompactsFuture { upto, is: revision });
        }
        self.state.ring.compact(&mut self.index.ring, upto);
        Ok(DataOutcome::Applied { revision })
    }

    /// Changes a session and renews its time to live. The index of what is due follows.
    fn change(&mut self, stamp: Stamp, id: &SessionId, change: impl FnOnce(&mut Session)) {
        let Some(session) = self.state.sessions.get_mut(id).map(Arc::make_mut) else { return };
        let before = session.due();
        change(session);
        session.touched = stamp.at;
        session.changed = stamp.revision;
        let after = session.due();
        if before != after {
            if let Some(before) = before {
                self.index.due.remove(&(before, id.clone()));
            }
            if let Some(after) = after {
                self.index.due.insert((after, id.clone()));
            }
        }
    }

    /// Whether there was such a session.
    fn end(&mut self, revision: Revision, id: &SessionId, reason: Ended) -> bool {
        let Some(gone) = self.state.sessions.remove(id) else { return false };
        self.index.bytes -= gone.bytes;
        if let Some(due) = gone.due() {
            self.index.due.remove(&(due, id.clone()));
        }
        self.push(revision, id, What::Deleted(reason));
        true
    }

    fn existing(&self, id: &SessionId) -> Result<&Session> {
        self.session(id).ok_or_else(|| unknown(id))
    }
}

fn unknown(id: &SessionId) -> SessionRefusal {
    SessionRefusal::UnknownSession { session: id.clone() }
}

fn check_ttl(id: &SessionId, ttl: Option<Duration>) -> Result<()> {
    match ttl {
        Some(Duration::ZERO) => Err(SessionRefusal::NoTtl { session: id.clone() }),
        Some(ttl) if ttl > limits::SESSION_TTL => {
            let (got, limit) = (ttl.as_secs(), limits::SESSION_TTL.as_secs());
            Err(too_much(Quota::TtlSeconds, &format!("session {id}"), got, limit))
        }
        _ => Ok(()),
    }
}

/// The first setting in which a session differs from those it is asked to have.
fn difference(session: &Session, settings: &SessionSettings) -> Option<Setting> {
    if session.ttl != settings.ttl {
        return Some(Setting::Ttl { is: session.ttl, claimed: settings.ttl });
    }
    let (is, claimed) = (&session.metadata, &settings.metadata);
    let key = is.keys().chain(claimed.keys()).find(|key| is.get(*key) != claimed.get(*key))?;
    let (is, claimed) = (is.get(key).cloned(), claimed.get(key).cloned());
    Some(Setting::Metadata { key: key.clone(), is, claimed })
}
