//! Entities are made, fail, end and come back.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_fails_is_made_anew_and_its_asker_is_told() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a", "b"], || realm.notebooks()).await;
    for node in &nodes {
        let entity = note(node, "frail");
        entity.tell(Note::Tell { sender: 0, n: 0 }).await.expect("sent");
        let failed = entity.ask(Note::Fail, PATIENCE).await;
        let error = failed.expect_err("fails");
        assert!(matches!(error, CallError::Failed { .. }) && error.to_string().contains("as told"));
        assert_eq!(count(&entity).await, 0, "made anew");
        let panicked = entity.ask(Note::Panic, PATIENCE).await;
        assert!(matches!(panicked, Err(CallError::Unavailable { .. })), "{panicked:?}");
        assert_eq!(count(&entity).await, 0, "made anew");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_behind_one_that_fails_are_not_lost() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a"], || realm.notebooks()).await;
    let entity = note(&nodes[0], "frail");
    entity.tell(Note::Fail).await.expect("sent");
    for n in 0..10 {
        entity.tell(Note::Tell { sender: 0, n }).await.expect("sent");
    }
    assert_eq!(count(&entity).await, 10);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_cannot_start_tells_who_asks_why() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a", "b"], || realm.notebooks()).await;
    for node in &nodes {
        let answer = note(node, "broken").ask(Note::Count, PATIENCE).await;
        let error = answer.expect_err("cannot start").to_string();
        assert!(error.contains("it cannot start"), "{error}");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_entity_ends_and_its_next_message_makes_it_anew() {
    let realm = Realm::new();
    let kind = || realm.notebooks().idle(Duration::from_secs(1));
    let nodes = realm.nodes(&["a"], kind).await;
    let entity = note(&nodes[0], "sleepy");
    entity.tell(Note::Tell { sender: 0, n: 0 }).await.expect("sent");
    let ended = async {
        while nodes[0].residents().values().any(|count| *count > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("in time");
    assert_eq!(realm.log.lock().expect("not poisoned").passivated, ["note/sleepy"]);
    assert_eq!(count(&entity).await, 0);
    entity.ask(Note::End, PATIENCE).await.expect("ends");
    assert_eq!(count(&entity).await, 0);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_singleton_is_active_unasked_and_follows_when_its_node_stops() {
    let realm = Realm::new();
    let log = Arc::clone(&realm.log);
    let kind = move || {
        let log = Arc::clone(&log);
        Kind::singleton("solo".parse().expect("valid"), move |_: &EntityId| Notebook {
            log: Arc::clone(&log),
            count: 0,
            clings: false,
            alarm: None,
        })
    };
    let mut nodes = realm.nodes(&["a", "b", "c"], kind).await;
    let active = |count: usize| {
        let log = Arc::clone(&realm.log);
        let looked = async move {
            while log.lock().expect("not poisoned").activated.len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looked)
    };
    active(1).await.expect("active without a message");
    let name = || "solo".parse().expect("valid");
    let from_b: EntityRef<Note> = nodes[1].singleton(name());
    assert_eq!(place(&from_b).await, id("a"));
    nodes.remove(0).shutdown().await;
    active(2).await.expect("follows");
    assert_ne!(place(&from_b).await, id("a"));
    stop(nodes).await;
}
