//! Messages arrive once, in order, and are answered once.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_each_node_arrive_once_and_in_their_order() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a", "b", "c"], || realm.notebooks()).await;
    let senders = nodes.iter().zip(0_u32..).map(|(node, sender)| {
        let entities: Vec<_> = (0..8).map(|n| note(node, &format!("k{n}"))).collect();
        async move {
            for n in 0..500 {
                for entity in &entities {
                    entity.tell(Note::Tell { sender, n }).await.expect("sent");
                }
            }
            for entity in &entities {
                count(entity).await;
            }
        }
    });
    futures::future::join_all(senders).await;
    for key in 0..8 {
        let told = realm.told(&format!("note/k{key}"));
        assert_eq!(told.len(), 1_500);
        for sender in 0..3 {
            let of_sender = told.iter().filter(|(by, _)| *by == sender).map(|(_, n)| *n);
            assert!(of_sender.eq(0..500), "messages of {sender} to k{key} in order");
        }
    }
    let activated = realm.log.lock().expect("not poisoned").activated.len();
    assert_eq!(activated, 8, "each entity is active once");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_again_with_the_same_key_the_effect_happens_once() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a", "b"], || realm.notebooks()).await;
    for node in &nodes {
        let entity = note(node, "once");
        for _ in 0..3 {
            let key = "order-17".parse().expect("valid");
            let answer = entity.ask_once(key, Note::Count, PATIENCE).await;
            assert_eq!(answer, Ok(Answer::Count(0)));
        }
    }
    assert_eq!(realm.log.lock().expect("not poisoned").asked, 1);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_entity_makes_its_senders_wait_and_loses_nothing() {
    let realm = Realm::new();
    let kind = || realm.notebooks().mailbox(16);
    let nodes = realm.nodes(&["a", "b"], kind).await;
    owns_some(&nodes[0], &id("a")).await;
    let key = key_on(&nodes[0], &id("a")).await;
    let entity = format!("note/{key}");
    let senders = nodes.iter().zip(0_u32..).map(|(node, sender)| {
        let slow = note(node, &key);
        async move {
            slow.tell(Note::Wait(Duration::from_millis(50))).await.expect("sent");
            for n in 0..5_000 {
                slow.tell(Note::Tell { sender, n }).await.expect("sent");
            }
            count(&slow).await
        }
    });
    futures::future::join_all(senders).await;
    let told = realm.told(&entity);
    for sender in 0..2 {
        let of_sender = told.iter().filter(|(by, _)| *by == sender).map(|(_, n)| *n);
        assert!(of_sender.eq(0..5_000), "messages of {sender} in order");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_whose_time_is_up_is_an_error_and_is_not_started() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a", "b"], || realm.notebooks()).await;
    for node in &nodes {
        let entity = note(node, "late");
        entity.tell(Note::Wait(Duration::from_millis(300))).await.expect("sent");
        let answer = entity.ask(Note::Count, Duration::from_millis(50)).await;
        assert!(matches!(answer, Err(CallError::DeadlineExceeded { .. })), "{answer:?}");
        // Answered behind it: by then the late one has had its turn.
        place(&entity).await;
    }
    assert_eq!(realm.log.lock().expect("not poisoned").asked, 0);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_hosts_is_an_error_that_says_so() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a"], || realm.notebooks()).await;
    let nobody: EntityRef<Note> = nodes[0].entity("nothing/x".parse().expect("valid"));
    let answer = nobody.ask(Note::Count, Duration::from_millis(100)).await;
    let error = answer.expect_err("nobody is there").to_string();
    assert!(error.contains("no node hosts entities of kind nothing"), "{error}");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_where_it_is_sent() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Blob(Vec<u8>);
    impl EntityMessage for Blob {
        type Reply = ();
    }
    let realm = Realm::new();
    let nodes = realm.nodes(&["a", "b"], || realm.notebooks()).await;
    owns_some(&nodes[1], &id("a")).await;
    let key = key_on(&nodes[1], &id("a")).await;
    let entity: EntityRef<Blob> = nodes[1].entity(format!("note/{key}").parse().expect("valid"));
    let too_much = vec![0; odeum_proto::limits::MESSAGE_BYTES + 1];
    let refused = entity.tell(Blob(too_much)).await;
    assert!(matches!(refused, Err(CallError::TooLarge { .. })), "{refused:?}");
    stop(nodes).await;
}
