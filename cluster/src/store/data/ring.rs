//! The last changes of a group, for watchers.
//!
//! Replicated, and in snapshots, so that a watcher can go on at any replica, whatever became of
//! the one that it watched.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use odeum_proto::session::{Change, Glob, What};
use odeum_proto::{Revision, SessionId, limits};
use serde::{Deserialize, Serialize};

/// The changes after a revision are not all there any more. Read the state, and watch from the
/// revision it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes up to revision {at} are forgotten")]
pub struct Compacted {
    /// The first revision that can be watched from.
    pub at: Revision,
}

/// Whose changes are watched.
#[derive(Debug, Clone, Copy)]
pub enum Watched<'a> {
    /// Everybody's.
    All,
    /// One session's.
    Session(&'a SessionId),
    /// Those of the sessions that a pattern selects.
    Matching(&'a Glob),
}

/// Changes, oldest first. Each has a number; those that were forgotten had the numbers from 0 on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ring {
    changes: VecDeque<Arc<Change>>,
    /// The number of the first change that is there.
    first: u64,
    compacted: Revision,
}

/// Where the changes of each session are. Made anew from the ring when that is read from a
/// snapshot.
///
/// Every change knows the one before it of its session. So a watcher of one session walks through
/// the changes it gets and no other, and nothing has to be removed when old ones leave.
#[derive(Debug, Clone, Default)]
pub(super) struct RingIndex {
    /// The number of the last change of each session with a change in the ring.
    latest: BTreeMap<SessionId, u64>,
    /// For each change in the ring the number of the one before of its session; a number below
    /// the first for none.
    before: VecDeque<Option<u64>>,
    bytes: u64,
}

impl Ring {
    pub(super) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Notes a change; old ones leave when there is too much.
    pub(super) fn push(
        &mut self,
        index: &mut RingIndex,
        revision: Revision,
        session: &SessionId,
        what: What,
    ) {
        let last = self.changes.back().filter(|last| last.revision == revision);
        let number = last.map_or(0, |last| last.index + 1);
        let session = index.note(self.first + self.changes.len() as u64, session);
        let change = Change { revision, index: number, session, what };
        index.bytes += change.weight();
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > limits::RING_CHANGES || index.bytes > limits::RING_BYTES {
            let Some(oldest) = self.changes.front() else { break };
            // The whole entry: a part of it would be of no use.
            self.compact(index, oldest.revision);
        }
    }

    /// Forgets the changes up to `upto`, inclusive.
    pub(super) fn compact(&mut self, index: &mut RingIndex, upto: Revision) {
        self.compacted = self.compacted.max(upto);
        while let Some(oldest) = self.changes.pop_front_if(|change| change.revision <= upto) {
            index.forget(self.first, &oldest);
            self.first += 1;
        }
    }

    /// The changes after `revision`, oldest first.
    ///
    /// For one session the time is in proportion to what is given; else to all that is after
    /// `revision`, each looked at when it is asked for.
    pub(super) fn after<'a>(
        &'a self,
        index: &'a RingIndex,
        revision: Revision,
        watched: Watched<'a>,
    ) -> Result<Box<dyn Iterator<Item = &'a Arc<Change>> + 'a>, Compacted> {
        if revision < self.compacted {
            return Err(Compacted { at: self.compacted });
        }
        if let Watched::Session(session) = watched {
            return Ok(Box::new(self.of_session(index, revision, session).into_iter().rev()));
        }
        let from = self.changes.partition_point(|change| change.revision <= revision);
        let all = self.changes.range(from..);
        Ok(match watched {
            Watched::Matching(glob) => {
                Box::new(all.filter(|change| glob.matches(change.session.as_str())))
            }
            _ => Box::new(all),
        })
    }

    /// The changes of one session after `revision`, newest first.
    fn of_session(
        &self,
        index: &RingIndex,
        revision: Revision,
        session: &SessionId,
    ) -> Vec<&Arc<Change>> {
        let place = |number: u64| usize::try_from(number.checked_sub(self.first)?).ok();
        let mut found = Vec::new();
        let mut next = index.latest.get(session).copied();
        while let Some(at) = next.and_then(place)
            && let Some(change) = self.changes.get(at)
            && change.revision > revision
        {
            found.push(change);
            next = index.before.get(at).copied().flatten();
        }
        found
    }

    /// The index of what is there.
    pub(super) fn index(&self) -> RingIndex {
        let mut index = RingIndex::default();
        for (number, change) in (self.first..).zip(&self.changes) {
            index.note(number, &change.session);
            index.bytes += change.weight();
        }
        index
    }
}

impl RingIndex {
    /// Notes of whom the change with that number is. Gives the id that changes of that session share, so
    /// that not each keeps one of its own.
    fn note(&mut self, number: u64, session: &SessionId) -> SessionId {
        let (shared, before) = match self.latest.entry(session.clone()) {
            Entry::Occupied(mut latest) => (latest.key().clone(), Some(latest.insert(number))),
            Entry::Vacant(place) => {
                let shared = place.key().clone();
                place.insert(number);
                (shared, None)
            }
        };
        self.before.push_back(before);
        shared
    }

    fn forget(&mut self, number: u64, change: &Change) {
        self.bytes -= change.weight();
        self.before.pop_front();
        if self.latest.get(&change.session) == Some(&number) {
            self.latest.remove(&change.session);
        }
    }

    /// Whether it says the same as `other` of changes from `first` on.
    #[cfg(test)]
    pub(super) fn same(&self, other: &Self, ring: &Ring) -> bool {
        let there = |before: &Option<u64>| before.filter(|number| *number >= ring.first);
        self.latest == other.latest
            && self.bytes == other.bytes
            && self.before.iter().map(there).eq(other.before.iter().map(there))
    }
}
