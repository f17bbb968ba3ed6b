//! Sessions over several groups, as a program uses them.

use std::collections::BTreeMap;

use odeum_proto::session::{
    Change, Compare, Constraints, Definition, Done, Operation, SessionRefusal, SessionSettings,
    Test, Value, ValueType, What,
};
use odeum_proto::{Revision, SessionId};

use super::*;
use crate::store::{SessionError, SessionHandle, Watch, WatchEvent};

fn id(text: &str) -> SessionId {
    text.parse().expect("valid")
}

/// Ids in both groups.
fn spread() -> Vec<SessionId> {
    (0..8).map(|n| id(&format!("user-{n}"))).collect()
}

async fn created(node: &Node, session: &SessionId) -> SessionHandle {
    let session = node.store.session(session.clone()).deadline(PATIENCE);
    session.create(SessionSettings::default()).await.expect("created");
    session
}

async fn integer(session: &SessionHandle, key: &str) -> i64 {
    let variable = session.get(key, Consistency::Linearizable).await.expect("read");
    match variable.expect("it is there").value() {
        Value::Integer(value) => *value,
        other => panic!("{other:?}"),
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, SessionError>) -> SessionRefusal {
    match result {
        Err(SessionError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_every_node_reads_at_once() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    for (n, session) in (0..).zip(spread()) {
        let writer = created(&nodes[n % 3], &session).await;
        writer.set("score", Value::Integer(n as i64)).await.expect("written");
        for consistency in [Consistency::Linearizable, Consistency::Lease] {
            let reader = nodes[(n + 1) % 3].store.session(session.clone());
            let read = reader.get("score", consistency).await.expect("read").expect("there");
            assert_eq!((read.value(), read.version()), (&Value::Integer(n as i64), 1));
        }
    }
    let glob = "user-*".parse().expect("a pattern");
    let listed = nodes[2]
        .store
        .list_sessions(&glob, None, 5, Consistency::Linearizable, |_, s| s.variables().len());
    let listed = listed.await.expect("listed");
    let expected: Vec<_> = spread().into_iter().take(5).map(|session| (session, 1)).collect();
    assert_eq!(listed, expected, "over all groups, by id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_names_the_rule_and_both_values_and_changes_nothing() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let session = created(&nodes[0], &id("user-1")).await;
    let constraints = Constraints { max: Some(Value::Float(10.0)), ..Constraints::default() };
    let definition = Definition { constraints, ..Definition::untyped(ValueType::Float) };
    session.register("speed", definition, Value::Float(1.0)).await.expect("registered");
    let refused = refusal(session.set("speed", Value::Float(12.5)).await).to_string();
    for part in ["user-1", "speed", "12.5", "10"] {
        assert!(refused.contains(part), "{refused}");
    }
    let elsewhere = nodes[1].store.session(id("user-1"));
    let conflict = refusal(elsewhere.compare_and_set("speed", 7, Value::Float(2.0)).await);
    let conflict = conflict.to_string();
    assert!(conflict.contains('7') && conflict.contains('1'), "{conflict}");
    let read = elsewhere.get("speed", Consistency::Linearizable).await.expect("read");
    assert_eq!(read.map(|speed| speed.version()), Some(1));
    let unknown = refusal(nodes[2].store.session(id("user-2")).touch().await);
    assert!(matches!(unknown, SessionRefusal::UnknownSession { .. }), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_move_what_they_move_whole_or_not_at_all() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let session = created(&nodes[0], &id("bank")).await;
    session.set("a", Value::Integer(100)).await.expect("written");
    session.set("b", Value::Integer(0)).await.expect("written");
    // Every node moves one at a time, as often as it finds what it has read.
    let mut movers = tokio::task::JoinSet::new();
    for node in &nodes {
        let session = node.store.session(id("bank")).deadline(PATIENCE);
        movers.spawn(async move {
            let mut moved = 0;
            while moved < 10 {
                let (a, b) = (integer(&session, "a").await, integer(&session, "b").await);
                let is = |key: &str, value| Compare {
                    key: key.into(),
                    test: Test::Is(Value::Integer(value)),
                };
                let set = |key: &str, value| Operation::Set {
                    key: key.into(),
                    value: Value::Integer(value),
                    expected: None,
                    register: false,
                };
                let then = vec![set("a", a - 1), set("b", b + 1)];
                let compare = vec![is("a", a), is("b", b)];
                let (succeeded, done) =
                    session.transaction(compare, then, Vec::new()).await.expect("carried out");
                assert_eq!(done.len(), if succeeded { 2 } else { 0 });
                moved += i32::from(succeeded);
            }
        });
    }
    movers.join_all().await;
    let session = nodes[1].store.session(id("bank"));
    assert_eq!((integer(&session, "a").await, integer(&session, "b").await), (70, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_made_once_though_its_leader_dies_and_it_is_sent_again() {
    let net = Net::default();
    let mut nodes = three(&net, 10_000).await;
    let session = id("counter/default");
    created(&nodes[0], &session).await;
    let dead = nodes.iter().position(|node| node.status().is_leader()).expect("one leads");
    let store = nodes[(dead + 1) % 3].store.clone();
    let writer = tokio::spawn({
        let session = store.session(session.clone()).deadline(PATIENCE);
        async move {
            let mut versions = Vec::new();
            for n in 0..200 {
                versions.push(session.set("n", Value::Integer(n)).await.expect("written"));
            }
            versions
        }
    });
    eventually("writes are under way", || {
        store.view_data(group(), |data| {
            data.session(&session).is_some_and(|session| !session.variables().is_empty())
        })
    })
    .await;
    nodes[dead].kill().await;
    let versions = writer.await.expect("no panic");
    assert_eq!(versions, (1..=200).collect::<Vec<u64>>(), "one was made twice");
    nodes[dead].restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_carried_out_once_and_answered_twice_by_whichever_node() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let session = created(&nodes[0], &id("user-1")).await;
    let request: RequestId = "r-1".parse().expect("valid");
    let add = || {
        async |node: &Node| {
            let session = node.store.session(id("user-1")).request(request.clone());
            session.set("n", Value::Integer(1)).await
        }
    };
    assert_eq!(add()(&nodes[0]).await.expect("written"), 1);
    assert_eq!(add()(&nodes[1]).await.expect("answered"), 1);
    assert_eq!(session.set("n", Value::Integer(2)).await.expect("written"), 2);
    assert_eq!(add()(&nodes[2]).await.expect("answered"), 1, "the first answer");
    assert_eq!(integer(&session, "n").await, 2);
    let other = nodes[1].store.session(id("user-1")).request(request.clone());
    let reused = refusal(other.set("n", Value::Integer(3)).await);
    assert!(matches!(reused, SessionRefusal::RequestReused { .. }), "{reused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_after_its_time_to_live_and_never_before() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let ttl = Duration::from_millis(600);
    let session = nodes[0].store.session(id("user-1")).deadline(PATIENCE);
    let settings = SessionSettings { ttl: Some(ttl), ..SessionSettings::default() };
    session.create(settings).await.expect("created");
    let mut watch = session.watch(Revision::default()).expect("watched");
    let renewed = Instant::now();
    session.set("n", Value::Integer(1)).await.expect("written");
    let mut ended = None;
    while ended.is_none() {
        let event = tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time");
        let WatchEvent::Changes(changes) = event else { panic!("{event:?}") };
        let over = |change: &Arc<Change>| matches!(change.what, What::Deleted(_));
        ended = changes.iter().any(over).then(|| renewed.elapsed());
    }
    assert!(ended >= Some(ttl), "after {ended:?} of {ttl:?}");
    assert!(session.get("n", Consistency::Linearizable).await.expect("read").is_none());
}

/// Follows a watch until it has shown `n` writes; each as its session, key and version.
async fn follow(mut watch: Watch, n: usize) -> (Vec<(SessionId, u64)>, Revision) {
    let mut seen = Vec::new();
    while seen.len() < n {
        let event = tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time");
        let WatchEvent::Changes(changes) = event else { panic!("{event:?}") };
        for change in changes {
            if let What::Set { version, .. } = &change.what {
                seen.push((change.session.clone(), *version));
            }
        }
    }
    (seen, watch.seen())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_gets_every_change_once_and_in_order() {
    const WRITES: usize = 60;
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let session = created(&nodes[0], &id("user-1")).await;
    // Beside it, so that watchers are woken for nothing if they can be.
    let other = created(&nodes[0], &id("user-1/other")).await;
    let mut watchers = tokio::task::JoinSet::new();
    for n in 0..30 {
        let session = nodes[n % 3].store.session(id("user-1"));
        watchers.spawn(follow(session.watch(Revision::default()).expect("watched"), WRITES));
    }
    for n in 0..WRITES {
        session.set("n", Value::Integer(n as i64)).await.expect("written");
        other.set("n", Value::Integer(n as i64)).await.expect("written");
    }
    let expected: Vec<_> = (1..=WRITES as u64).map(|version| (id("user-1"), version)).collect();
    for (seen, _) in watchers.join_all().await {
        assert_eq!(seen, expected);
    }
    let group = nodes[0].store.group_of(&id("user-1")).expect("known");
    let all = nodes[1].store.watch_group(group, "user-1*".parse().expect("valid"), Revision(0));
    let (seen, _) = follow(all, 2 * WRITES).await;
    let mut of_each: BTreeMap<SessionId, Vec<u64>> = BTreeMap::new();
    for (session, version) in seen {
        of_each.entry(session).or_default().push(version);
    }
    assert!(of_each.values().all(|seen| *seen == (1..=WRITES as u64).collect::<Vec<_>>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_from_its_revision_at_another_node_after_a_restart_by_snapshot() {
    let net = Net::default();
    let mut nodes = three(&net, 20).await;
    let session = created(&nodes[0], &id("user-1")).await;
    let write = async |from: i64| {
        for n in from..from + 40 {
            session.set("n", Value::Integer(n)).await.expect("written");
        }
    };
    write(0).await;
    let watch = nodes[1].store.session(id("user-1")).watch(Revision::default()).expect("watched");
    let (seen, at) = follow(watch, 40).await;
    assert_eq!(seen.len(), 40);
    write(40).await;
    nodes[2].stop().await;
    nodes[2].restart().await;
    let again = nodes[2].store.session(id("user-1"));
    // Its cluster, and with it the session's group, is known when its log is applied.
    eventually("it knows the cluster", || again.watch(at).is_ok()).await;
    let (seen, _) = follow(again.watch(at).expect("watched"), 40).await;
    let expected: Vec<_> = (41..=80).map(|version| (id("user-1"), version)).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_atomic_tells_of_each_operation() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let session = created(&nodes[0], &id("user-1")).await;
    let set = |key: &str, expected| Operation::Set {
        key: key.into(),
        value: Value::Boolean(true),
        expected,
        register: true,
    };
    let operations = vec![set("a", Some(0)), set("a", Some(7)), set("b", None)];
    let each = session.each(operations.clone()).await.expect("carried out");
    assert!(matches!(each[..], [Ok(_), Err(SessionRefusal::VersionConflict { .. }), Ok(_)]));
    refusal(session.batch(operations).await);
    let done = session.batch(vec![set("a", Some(1)), set("c", Some(0))]).await.expect("done");
    assert_eq!(done, [Done::Written { version: 2 }, Done::Written { version: 1 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_of_the_groups_spread_over_the_nodes() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let leads =
        |node: usize, group: u16| nodes[node].store.status_of(GroupId::Data(group)).is_leader();
    eventually("each group is led where it prefers", || leads(1, 0) && leads(2, 1)).await;
}
