//! `/v1/sessions/{id}/watch` and `/v1/watch`: changes as they happen, a line of JSON each.
//!
//! A watch has no queue: what its client does not read yet is not fetched from the store. It ends
//! when the client goes, which drops it, and with a last line when the node stops.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use odeum_cluster::store::WatchEvent;
use odeum_proto::{GroupId, SessionId, session::Glob};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Node,
    request::{glob, header, parsed},
};
use crate::api::{
    node::{Feed, Subject, Told},
    problem::Problem,
    types::{After, Session, WatchChange, WatchLine},
};

/// Most watches at once: a quarter of the connections that a node takes, so that they leave room
/// for requests.
const WATCHES: usize = 512;

/// Which event of a stream of server-sent events was the last that a client has seen.
const LAST_EVENT: &str = "last-event-id";

/// What all watches of a server share.
#[derive(Debug, Clone)]
pub(super) struct Watches {
    room: Arc<Semaphore>,
    /// When the server stops.
    pub(super) stop: CancellationToken,
}

impl Watches {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { room: Arc::new(Semaphore::new(WATCHES)), stop }
    }

    /// Room for one more, for as long as its client is there.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        room.map_err(|_| Problem::Overloaded { limit: WATCHES })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionQuery {
    after: Option<After>,
}

pub(super) async fn session(
    State(node): Node,
    Extension(watches): Extension<Watches>,
    id: Result<Path<SessionId>, PathRejection>,
    query: Result<Query<SessionQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (Path(id), Query(SessionQuery { after })) = (id?, query?);
    watch(node, &watches, Subject::Session(id), after, &headers).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchingQuery {
    #[serde(rename = "match")]
    matching: Option<Glob>,
    after: Option<After>,
}

pub(super) async fn matching(
    State(node): Node,
    Extension(watches): Extension<Watches>,
    query: Result<Query<MatchingQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(MatchingQuery { matching, after }) = query?;
    watch(node, &watches, Subject::Matching(glob(matching)), after, &headers).await
}

async fn watch(
    node: Arc<dyn crate::api::ApiNode>,
    watches: &Watches,
    subject: Subject,
    after: Option<After>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let permit = watches.enter()?;
    // A browser says by itself where it was when it comes back.
    let last = header(headers, LAST_EVENT)?.map(|text| parsed::<After>(LAST_EVENT, text));
    let after = last.transpose()?.or(after);
    let form = Form::asked_for(headers);
    let is_one = matches!(subject, Subject::Session(_));
    let told = match (&after, is_one) {
        (Some(after), _) => after.clone(),
        (None, true) => After::Revision(odeum_proto::Revision::default()),
        (None, false) => After::Groups([].into()),
    };
    let feed = node.watch(subject, after).await?;
    let lines = lines(feed, watches.stop.clone());
    // The permit is held as long as the client is there.
    let encoded = lines.scan((told, permit), move |(told, _permit), line| {
        told.advance(&line);
        let encoded = form.encode(&line, told);
        async move { Some(Ok::<_, Infallible>(encoded)) }
    });
    let kind = HeaderValue::from_static(form.content_type());
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Body::from_stream(encoded)).into_response())
}

/// What `feed` tells, line by line, until `stop`.
fn lines(feed: Feed, stop: CancellationToken) -> impl Stream<Item = WatchLine> + Send {
    let end = WatchLine::End { reason: "the node stops".to_owned() };
    feed.flat_map(|(group, told)| stream::iter(lines_of(group, told)))
        .take_until(stop.cancelled_owned())
        .chain(stream::iter([end]))
}

/// The lines of what was told of one group.
fn lines_of(group: GroupId, told: Told) -> Box<dyn Iterator<Item = WatchLine> + Send> {
    match told {
        Told::Progress(revision) => Box::new([WatchLine::Progress { group, revision }].into_iter()),
        Told::Event(WatchEvent::Changes(changes)) => {
            let mut changes = changes.into_iter().peekable();
            Box::new(std::iter::from_fn(move || {
                let first = changes.next()?;
                let revision = first.revision;
                let mut of_one = vec![WatchChange::from(&*first)];
                while let Some(next) = changes.next_if(|next| next.revision == revision) {
                    of_one.push(WatchChange::from(&*next));
                }
                Some(WatchLine::Changes { group, revision, changes: of_one })
            }))
        }
        Told::Event(WatchEvent::State { at: revision, sessions }) => {
            let state = WatchLine::State { group, revision, sessions: sessions.len() };
            // One at a time: all of them as JSON at once could be more than there is memory.
            let one = move |(id, session): (SessionId, Arc<_>)| WatchLine::Session {
                group,
                revision,
                session: Session::of(&id, &session),
            };
            let end = WatchLine::Progress { group, revision };
            Box::new(std::iter::once(state).chain(sessions.into_iter().map(one)).chain([end]))
        }
    }
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A line of JSON each.
    Lines,
    /// Server-sent events, as browsers read them.
    Events,
}

impl Form {
    fn asked_for(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut kinds = accepted.flat_map(|text| text.split(','));
        match kinds.any(|kind| kind.trim().starts_with("text/event-stream")) {
            true => Self::Events,
            false => Self::Lines,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    /// `line`, after which everything up to `told` was told.
    fn encode(self, line: &WatchLine, told: &After) -> Bytes {
        // It has no map with keys that are no texts, for which alone this fails.
        let json = serde_json::to_string(line).unwrap_or_default();
        match self {
            Self::Lines => format!("{json}\n").into(),
            Self::Events => {
                let id = line.told().map(|_| format!("id: {told}\n")).unwrap_or_default();
                format!("{id}event: {}\ndata: {json}\n\n", line.name()).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::{
        Revision,
        session::{Change, What},
    };

    use super::*;

    fn change(revision: u64, index: u32) -> Arc<Change> {
        let (revision, what) = (Revision(revision), What::Created);
        Arc::new(Change { revision, index, session: "s".parse().expect("an id"), what })
    }

    #[test]
    fn a_line_has_all_changes_of_its_revision_and_no_others() {
        let changes = vec![change(3, 0), change(5, 0), change(5, 4), change(6, 0)];
        let told = Told::Event(WatchEvent::Changes(changes));
        let lines: Vec<_> = lines_of(GroupId::Data(0), told)
            .map(|line| match line {
                WatchLine::Changes { revision, changes, .. } => (revision.0, changes.len()),
                other => unreachable!("{other:?}"),
            })
            .collect();
        assert_eq!(lines, [(3, 1), (5, 2), (6, 1)]);
    }

    #[test]
    fn an_event_has_an_id_only_where_a_watch_can_go_on() {
        let (group, revision) = (GroupId::Data(0), Revision(9));
        let told = After::Groups([(group, revision)].into());
        let progress = WatchLine::Progress { group, revision };
        let state = WatchLine::State { group, revision, sessions: 1 };
        let text =
            |line| String::from_utf8(Form::Events.encode(line, &told).into()).expect("UTF-8");
        assert!(text(&progress).starts_with("id: data-0:9\nevent: progress\ndata: {"));
        assert!(text(&state).starts_with("event: state\ndata: {"));
        assert!(text(&state).ends_with("}\n\n"));
    }
}
