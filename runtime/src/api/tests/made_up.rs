//! Sessions without a cluster: the state machine that every replica has, and nothing around it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use odeum_cluster::store::{Consistency, Data, WatchEvent, Watched};
use odeum_proto::{
    GroupId, LogTime, RequestId, Revision, SessionId,
    session::{Change, DataAction, DataCommand, DataOutcome},
};
use tokio::sync::watch;

use crate::api::{
    Feed, Listing, Problem, Sight, Subject, Told,
    types::{After, SessionPage, SessionSummary},
};

/// The one group there is.
pub(super) const GROUP: GroupId = GroupId::Data(0);

/// For how long a leader was not heard of.
pub(super) const LEADER_HEARD: Duration = Duration::from_millis(1_250);

#[derive(Default)]
pub(super) struct Sessions(Arc<Group>);

#[derive(Default)]
struct Group {
    data: Mutex<Data>,
    /// The last revision.
    last: watch::Sender<u64>,
}

impl Sessions {
    pub(super) fn change(
        &self,
        action: DataAction,
        request: Option<RequestId>,
    ) -> Result<DataOutcome, Problem> {
        let mut data = self.0.data.lock().expect("not poisoned");
        let revision = *self.0.last.borrow() + 1;
        let command = DataCommand { origin: None, request, action };
        let outcome = data.apply(Revision(revision), LogTime(revision), &command);
        self.0.last.send_replace(revision);
        match outcome {
            DataOutcome::Refused(refusal) => Err(refusal.into()),
            outcome => Ok(outcome),
        }
    }

    pub(super) fn look_at(&self, id: &SessionId, consistency: Consistency) -> Sight {
        let data = self.0.data.lock().expect("not poisoned");
        Sight {
            session: data.sessions().get(id).cloned(),
            at: Revision(*self.0.last.borrow()),
            leader_heard: (consistency == Consistency::Local).then_some(LEADER_HEARD),
        }
    }

    pub(super) fn list(&self, listing: &Listing) -> SessionPage {
        let data = self.0.data.lock().expect("not poisoned");
        let found = data.matching(&listing.matching, listing.after.as_ref());
        let mut found = found.map(|(id, session)| SessionSummary::of(id, session)).peekable();
        let sessions: Vec<_> = found.by_ref().take(listing.limit).collect();
        let more = found.peek().is_some();
        let next = sessions.last().filter(|_| more).map(|last| last.id.clone());
        SessionPage { sessions, next }
    }

    pub(super) fn watch(&self, subject: Subject, after: Option<&After>) -> Feed {
        let last = self.0.last.subscribe();
        let from = after.and_then(|after| after.of(GROUP, true));
        let from = from.unwrap_or(Revision(*last.borrow()));
        let watching = (Arc::clone(&self.0), last, subject, from);
        let happens = stream::unfold(watching, |(group, mut last, subject, from)| async move {
            loop {
                last.mark_unchanged();
                let (told, seen) = group.told(&subject, from);
                if let Some(told) = told {
                    return Some(((GROUP, told), (group, last, subject, seen)));
                }
                last.changed().await.ok()?;
            }
        });
        stream::iter([(GROUP, Told::Progress(from))]).chain(happens).boxed()
    }
}

impl Group {
    /// What there is behind `from`, and up to where.
    fn told(&self, subject: &Subject, from: Revision) -> (Option<Told>, Revision) {
        let data = self.data.lock().expect("not poisoned");
        let watched = match subject {
            Subject::Session(id) => Watched::Session(id),
            Subject::Matching(glob) => Watched::Matching(glob),
        };
        let Ok(changes) = data.changes_after(from, watched) else {
            let at = Revision(*self.last.borrow());
            let is_watched = |id: &SessionId| match subject {
                Subject::Session(one) => one == id,
                Subject::Matching(glob) => glob.matches(id.as_str()),
            };
            let there = data.sessions().iter().filter(|(id, _)| is_watched(id));
            let sessions = there.map(|(id, session)| (id.clone(), Arc::clone(session))).collect();
            return (Some(Told::Event(WatchEvent::State { at, sessions })), at);
        };
        let changes: Vec<Arc<Change>> = changes.cloned().collect();
        let seen = changes.last().map_or(from, |last| last.revision);
        let told = Told::Event(WatchEvent::Changes(changes.clone()));
        ((!changes.is_empty()).then_some(told), seen)
    }
}
