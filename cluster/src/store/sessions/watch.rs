//! Watches: every change after a revision, once and in order.
//!
//! A watch has no queue. The changes are in a ring that is part of the replicated state; a watch
//! knows how far it has come and takes what is behind that when it is asked. So a slow watcher
//! costs nothing and holds nobody up; one that is so slow that the ring has gone on without it is
//! told so, with the state to go on from.
//!
//! A watch of one session is woken by changes of that session alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use odeum_proto::session::{Change, Glob};
use odeum_proto::{Revision, SessionId};
use tokio::sync::watch;

use crate::store::data::{Compacted, Data, Session, Watched};
use crate::store::seat::Seat;

/// Changes after which an event is full: what a slow watcher gets at once is bounded. An entry of
/// the log is never divided.
const BATCH: usize = 1_024;

/// What a watcher is told.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// Changes, oldest first. All that one entry of the log made are in one event.
    Changes(Vec<Arc<Change>>),
    /// The changes from where the watcher stood are not all there any more: it has been too slow,
    /// or named a revision that is too old. This is what it watches, as of `at`, and the watch
    /// goes on from there.
    State {
        /// As of when.
        at: Revision,
        /// The sessions, by id; those that are not among them are not there.
        sessions: Vec<(SessionId, Arc<Session>)>,
    },
}

/// A watch, of one session or of many. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    seat: Arc<Seat>,
    subject: Subject,
    seen: Revision,
    /// Woken when there may be something new.
    bell: watch::Receiver<Revision>,
}

#[derive(Debug)]
enum Subject {
    Session(SessionId),
    Matching(Glob),
}

impl Watch {
    pub(super) fn session(seat: Arc<Seat>, id: SessionId, after: Revision) -> Self {
        let bell = seat.replicated.bells().listen(&id);
        Self { seat, subject: Subject::Session(id), seen: after, bell }
    }

    pub(super) fn matching(seat: Arc<Seat>, glob: Glob, after: Revision) -> Self {
        let bell = seat.replicated.changes();
        Self { seat, subject: Subject::Matching(glob), seen: after, bell }
    }

    /// The revision up to which everything was told.
    #[must_use]
    pub fn seen(&self) -> Revision {
        self.seen
    }

    /// The next changes, as soon as there are any. Cancelling it loses nothing.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            self.bell.mark_unchanged();
            if let Some(event) = self.look() {
                return event;
            }
            if self.bell.changed().await.is_err() {
                // The store is gone, and nothing will change any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What there is behind what was told, if anything.
    fn look(&mut self) -> Option<WatchEvent> {
        let seat = Arc::clone(&self.seat);
        seat.replicated.view_data_at(|data, at| match self.changes(data) {
            Ok(changes) if changes.is_empty() => {
                // Nothing that is watched has changed up to here.
                self.seen = self.seen.max(at);
                None
            }
            Ok(changes) => Some(WatchEvent::Changes(changes)),
            Err(Compacted { .. }) => {
                self.seen = at;
                Some(WatchEvent::State { at, sessions: self.state(data) })
            }
        })
    }

    /// Whole entries of the log, until there are enough.
    fn changes(&mut self, data: &Data) -> Result<Vec<Arc<Change>>, Compacted> {
        let watched = match &self.subject {
            Subject::Session(id) => Watched::Session(id),
            Subject::Matching(glob) => Watched::Matching(glob),
        };
        let mut changes: Vec<Arc<Change>> = Vec::new();
        for change in data.changes_after(self.seen, watched)? {
            let begins = changes.last().is_none_or(|last| last.revision != change.revision);
            if changes.len() >= BATCH && begins {
                break;
            }
            changes.push(Arc::clone(change));
        }
        if let Some(last) = changes.last() {
            self.seen = last.revision;
        }
        #[cfg(feature = "testing")]
        crate::mishap::omit(&mut changes);
        Ok(changes)
    }

    fn state(&self, data: &Data) -> Vec<(SessionId, Arc<Session>)> {
        let there = |id: &SessionId| {
            data.session(id)?;
            data.sessions().get(id).cloned()
        };
        match &self.subject {
            Subject::Session(id) => {
                there(id).map(|session| (id.clone(), session)).into_iter().collect()
            }
            Subject::Matching(glob) => data
                .matching(glob, None)
                .filter_map(|(id, _)| Some((id.clone(), there(id)?)))
                .collect(),
        }
    }
}

/// Wakes the watchers of single sessions.
#[derive(Debug, Default)]
pub(in crate::store) struct Bells(Mutex<Tower>);

#[derive(Debug, Default)]
struct Tower {
    bells: HashMap<SessionId, watch::Sender<Revision>>,
    /// When all bells were rung the last two times.
    sweeps: [Revision; 2],
}

impl Bells {
    fn listen(&self, id: &SessionId) -> watch::Receiver<Revision> {
        let mut tower = self.tower();
        // Those that nobody hears any more go when there are as many as there is room for.
        if tower.bells.len() == tower.bells.capacity() {
            tower.bells.retain(|_, bell| !bell.is_closed());
        }
        tower.bells.entry(id.clone()).or_default().subscribe()
    }

    /// Wakes who watches what has changed after `from`, up to `at`.
    pub(in crate::store) fn ring(&self, data: &Data, from: Revision, at: Revision) {
        let mut tower = self.tower();
        if tower.bells.is_empty() {
            return;
        }
        // Watchers whose session does not change learn from time to time how far they have come,
        // before changes are forgotten that they, for all they know, have not seen.
        let [before_last, last] = tower.sweeps;
        let changes = data.changes_after(from, Watched::All);
        match changes {
            Ok(changes) if data.compacted() <= before_last => {
                for change in changes {
                    if let Some(bell) = tower.bells.get(&change.session) {
                        bell.send_replace(change.revision);
                    }
                }
            }
            _ => {
                tower.sweeps = [last, at];
                for bell in tower.bells.values() {
                    bell.send_replace(at);
                }
            }
        }
    }

    fn tower(&self) -> MutexGuard<'_, Tower> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
