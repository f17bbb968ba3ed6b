//! Watches over HTTP: every change once, in order, and where to go on.

use std::time::Duration;

use odeum_proto::{Revision, session::DataAction};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use super::{Served, id, made_up::GROUP};
use crate::api::{
    client::{WatchLines, Watched},
    types::{After, WatchLine, WatchWhat},
};

/// How long a line that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(lines: &mut WatchLines) -> WatchLine {
    let line = timeout(PATIENCE, lines.next()).await.expect("in time");
    line.expect("a line").expect("no end")
}

/// The values of `x` that the next line says were written, and its revision.
async fn values(lines: &mut WatchLines) -> (Vec<i64>, Revision) {
    let WatchLine::Changes { revision, changes, .. } = next(lines).await else {
        unreachable!("changes");
    };
    let value = |what: &WatchWhat| match what {
        WatchWhat::Set { value, .. } => value.as_i64().expect("an integer"),
        other => unreachable!("{other:?}"),
    };
    (changes.iter().map(|change| value(&change.what)).collect(), revision)
}

impl Served {
    async fn write(&self, value: i64) {
        self.ok(Method::PUT, "/v1/sessions/s/variables/x", Some(json!(value))).await;
    }
}

#[tokio::test]
async fn a_watch_tells_every_change_once_and_goes_on_where_it_was() {
    let served = Served::with_session().await;
    let watched = Watched::Session(id("s"));
    let mut lines = served.client.watch(&watched, None).await.expect("a watch");
    let begins = WatchLine::Progress { group: GROUP, revision: Revision(1) };
    assert_eq!(next(&mut lines).await, begins);
    for value in 1..=3 {
        served.write(value).await;
        served.ok(Method::PUT, "/v1/sessions/other", None).await;
    }
    let mut after = Revision(0);
    for value in 1..=2 {
        let (told, revision) = values(&mut lines).await;
        assert_eq!(told, [value]);
        after = revision;
    }
    drop(lines);
    served.write(4).await;

    let after = After::Revision(after);
    let mut lines = served.client.watch(&watched, Some(&after)).await.expect("a watch");
    assert!(matches!(next(&mut lines).await, WatchLine::Progress { .. }));
    for value in 3..=4 {
        assert_eq!(values(&mut lines).await.0, [value]);
    }
}

#[tokio::test]
async fn what_one_change_did_is_in_one_line() {
    let served = Served::with_session().await;
    let watched = Watched::Matching(id("s*"));
    let after: After = "data-0:1".parse().expect("valid");
    let mut lines = served.client.watch(&watched, Some(&after)).await.expect("a watch");
    let operations: Vec<_> = (1..=3).map(|n| json!({"set": {"key": "x", "value": n}})).collect();
    served.ok(Method::POST, "/v1/sessions/s/batch", Some(json!({"operations": operations}))).await;
    assert!(matches!(next(&mut lines).await, WatchLine::Progress { .. }));
    let WatchLine::Changes { changes, .. } = next(&mut lines).await else {
        unreachable!("changes");
    };
    let indices: Vec<_> = changes.iter().map(|change| change.index).collect();
    assert_eq!(indices, (0..changes.len() as u32).collect::<Vec<_>>());
    let WatchWhat::Set { value, version, .. } = &changes.last().expect("some").what else {
        unreachable!("a write");
    };
    assert_eq!(value, &json!(3));
    assert!(*version >= 1);
}

#[tokio::test]
async fn a_watch_of_what_is_forgotten_begins_with_what_is_there() {
    let served = Served::with_session().await;
    for value in 1..=3 {
        served.write(value).await;
    }
    served
        .node
        .sessions
        .change(DataAction::Compact { upto: Revision(3) }, None)
        .expect("forgotten");
    let (watched, after) = (Watched::Session(id("s")), After::Revision(Revision(1)));
    let mut lines = served.client.watch(&watched, Some(&after)).await.expect("a watch");
    assert!(matches!(next(&mut lines).await, WatchLine::Progress { revision: Revision(1), .. }));
    let at = Revision(5);
    assert_eq!(
        next(&mut lines).await,
        WatchLine::State { group: GROUP, revision: at, sessions: 1 }
    );
    let WatchLine::Session { revision, session, .. } = next(&mut lines).await else {
        unreachable!("a session");
    };
    assert_eq!((revision, &session.variables["x"].value), (at, &json!(3)));
    assert_eq!(next(&mut lines).await, WatchLine::Progress { group: GROUP, revision: at });
    served.write(4).await;
    assert_eq!(values(&mut lines).await.0, [4]);
}

#[tokio::test]
async fn a_watch_ends_with_a_last_line_when_the_node_stops() {
    let served = Served::with_session().await;
    let watched = Watched::Matching(id("*"));
    let mut lines = served.client.watch(&watched, None).await.expect("a watch");
    assert!(matches!(next(&mut lines).await, WatchLine::Progress { .. }));
    timeout(PATIENCE, served.root.shutdown()).await.expect("the watch holds nothing up");
    assert!(matches!(next(&mut lines).await, WatchLine::End { .. }));
    assert_eq!(lines.next().await.expect("an orderly end"), None);
}

#[tokio::test]
async fn browsers_get_events_and_go_on_by_the_id_of_the_last() {
    let served = Served::with_session().await;
    served.write(1).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = |last: &'static str| {
        http.get(format!("{}/v1/sessions/s/watch", served.url))
            .header("accept", "text/event-stream")
            .header("last-event-id", last)
            .send()
    };
    let mut answer = ask("1").await.expect("answered");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.contains("event: changes") || !text.ends_with("\n\n") {
        let chunk = timeout(PATIENCE, answer.chunk()).await.expect("in time").expect("answered");
        text.push_str(std::str::from_utf8(&chunk.expect("no end")).expect("UTF-8"));
    }
    assert!(text.starts_with("id: 1\nevent: progress\ndata: {\"event\":\"progress\""), "{text}");
    assert!(text.contains("id: 2\nevent: changes\ndata: {"), "{text}");
    assert_eq!(ask("soon").await.expect("answered").status(), 400);
}
