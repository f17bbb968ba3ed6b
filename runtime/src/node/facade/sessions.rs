//! Sessions: read as fresh as wished, changed once, watched.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use odeum_cluster::store::{Consistency, SessionError, StoreError, Watch};
use odeum_proto::{
    GroupId, RequestId, Revision, SessionId,
    session::{DataAction, DataOutcome, SessionRefusal},
};
use tokio::time::timeout;

use super::{NodeFacade, READ_DEADLINE, WRITE_DEADLINE, store_problem};
use crate::api::{
    Feed, Listing, Problem, Sight, Subject, Told,
    types::{After, SessionPage, SessionSummary},
};

/// How often a watch says how far it is while nothing changes. Within three of these a client
/// knows that its node is gone, and within one the node that its client is.
const PROGRESS: Duration = Duration::from_secs(15);

impl NodeFacade {
    pub(super) async fn list(&self, listing: Listing) -> Result<SessionPage, Problem> {
        let Listing { matching, after, limit, consistency } = listing;
        let found = self
            .store
            // One more, to know whether there are more.
            .list_sessions(&matching, after.as_ref(), limit + 1, consistency, |id, session| {
                SessionSummary::of(id, session)
            })
            .await
            .map_err(problem)?;
        let mut sessions: Vec<_> = found.into_iter().map(|(_, summary)| summary).collect();
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| more).map(|last| last.id.clone());
        Ok(SessionPage { sessions, next })
    }

    pub(super) async fn look_at(
        &self,
        id: &SessionId,
        consistency: Consistency,
    ) -> Result<Sight, Problem> {
        let group = self.store.group_of(id).map_err(|error| store_problem(&error))?;
        // Before the look: what is heard of later may not be in it.
        let heard = (consistency == Consistency::Local).then(|| self.store.silence_of(group));
        let asked = self.store.barrier_of(group, consistency, READ_DEADLINE).await;
        asked.map_err(|error| store_problem(&error))?;
        self.store.view_at(group, |data, at| {
            // Half of a backup is not the truth.
            if consistency != Consistency::Local
                && let Some(backup) = data.importing()
            {
                return Err(Box::new(SessionRefusal::Restoring { backup }).into());
            }
            // One that is due is not there, even before it is removed.
            let session = data.session(id).and_then(|_| data.sessions().get(id).cloned());
            Ok(Sight { session, at, leader_heard: heard.flatten() })
        })
    }

    pub(super) async fn change(
        &self,
        action: DataAction,
        request: Option<RequestId>,
    ) -> Result<DataOutcome, Problem> {
        let Some(id) = action.session().cloned() else {
            let reason = format!("{action:?} names no session").into();
            return Err(Problem::Internal { reason });
        };
        let session = self.store.session(id).deadline(WRITE_DEADLINE);
        let session = match request {
            Some(request) => session.request(request),
            None => session,
        };
        session.act(|_| action).await.map_err(|error| match error {
            // Unlike a read, it may have been made.
            SessionError::Store(StoreError::Deadline { after, .. }) => Problem::Deadline { after },
            error => problem(error),
        })
    }

    pub(super) async fn watch(
        &self,
        subject: Subject,
        after: Option<After>,
    ) -> Result<Feed, Problem> {
        let store = |error: StoreError| store_problem(&error);
        let groups = match &subject {
            Subject::Session(id) => vec![self.store.group_of(id).map_err(store)?],
            Subject::Matching(_) => self.store.data_groups().map_err(store)?,
        };
        let only = groups.len() == 1;
        if let (Some(After::Revision(revision)), false) = (&after, only) {
            let (a, b) = (groups.first(), groups.get(1));
            let example: Vec<_> =
                a.into_iter().chain(b).map(|group| format!("{group}:{revision}")).collect();
            let reason = format!(
                "revision {revision} of which group? Each of {} groups has its own: name them, \
                 as in {}",
                groups.len(),
                example.join(",")
            );
            return Err(Problem::BadRequest { reason: reason.into() });
        }
        if let Some(After::Groups(given)) = &after
            && let Some(other) = given.keys().find(|group| !groups.contains(group))
        {
            let all: Vec<_> = groups.iter().map(ToString::to_string).collect();
            let reason = format!("group {other} is not watched here, but {}", all.join(", "));
            return Err(Problem::BadRequest { reason: reason.into() });
        }
        let mut feeds = Vec::new();
        for group in groups {
            let given = after.as_ref().and_then(|after| after.of(group, only));
            let from = self.watched_from(group, given).await?;
            let watch = match &subject {
                Subject::Session(id) => {
                    self.store.session(id.clone()).watch(from).map_err(problem)?
                }
                Subject::Matching(glob) => self.store.watch_group(group, glob.clone(), from),
            };
            feeds.push(feed(group, watch));
        }
        Ok(stream::select_all(feeds).boxed())
    }

    /// Where a watch of `group` begins: where it is told to, if the group has come so far, else
    /// now.
    async fn watched_from(
        &self,
        group: GroupId,
        given: Option<Revision>,
    ) -> Result<Revision, Problem> {
        let here = self.store.view_at(group, |_, at| at);
        if let Some(given) = given.filter(|given| *given <= here) {
            return Ok(given);
        }
        let asked = self.store.barrier_of(group, Consistency::Linearizable, READ_DEADLINE).await;
        asked.map_err(|error| store_problem(&error))?;
        let last = self.store.view_at(group, |_, at| at);
        match given {
            Some(given) if given > last => {
                let reason = format!("revision {given} is yet to come: {group} is at {last}");
                Err(Problem::BadRequest { reason: reason.into() })
            }
            Some(given) => Ok(given),
            None => Ok(last),
        }
    }
}

/// What `watch` says: first where it begins, then what happens.
fn feed(group: GroupId, watch: Watch) -> Feed {
    let begins = Told::Progress(watch.seen());
    let happens = stream::unfold(watch, move |mut watch| async move {
        let told = match timeout(PROGRESS, watch.next()).await {
            Ok(event) => Told::Event(event),
            Err(_) => Told::Progress(watch.seen()),
        };
        Some(((group, told), watch))
    });
    stream::iter([(group, begins)]).chain(happens).boxed()
}

fn problem(error: SessionError) -> Problem {
    match error {
        SessionError::Refused(refusal) => refusal.into(),
        SessionError::Store(error) => store_problem(&error),
    }
}
