//! Shards move between nodes under load.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Sends to eight entities from a node until told to stop; how many each was sent.
async fn send_until(node: &RunningNode, sender: u32, stop: &AtomicBool) -> u32 {
    let entities: Vec<_> = (0..8).map(|n| note(node, &format!("k{n}"))).collect();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        for entity in &entities {
            entity.tell(Note::Tell { sender, n }).await.expect("sent");
        }
        n += 1;
        if n.is_multiple_of(16) {
            count(&entities[0]).await;
        }
    }
    for entity in &entities {
        count(entity).await;
    }
    n
}

fn nothing_lost_doubled_or_reordered(realm: &Realm, sent: &[u32]) {
    for key in 0..8 {
        let told = realm.told(&format!("note/k{key}"));
        for (sender, sent) in (0_u32..).zip(sent) {
            let got: Vec<u32> =
                told.iter().filter(|(by, _)| *by == sender).map(|(_, n)| *n).collect();
            let wrong = got.iter().zip(0..).find(|(got, expected)| **got != *expected);
            assert_eq!(wrong, None, "messages of {sender} to k{key}, {} of {sent}", got.len());
            assert_eq!(got.len(), usize::try_from(*sent).expect("small"), "of {sender} to k{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_reordered_while_a_node_joins_and_leaves() {
    let realm = Realm::new();
    // Idle, so that entities may be ended to move; long, so that nothing else ends them.
    let kind = || realm.notebooks().idle(Duration::from_secs(3_600));
    let nodes = realm.nodes(&["a", "b"], kind).await;
    let ended = AtomicBool::new(false);
    let joined = async {
        let third = realm.node("c", &[nodes[0].addr()], vec![kind()]).await;
        owns_some(&third, &id("c")).await;
        third.shutdown().await;
        ended.store(true, Ordering::Relaxed);
    };
    let (first, second, ()) =
        tokio::join!(send_until(&nodes[0], 0, &ended), send_until(&nodes[1], 1, &ended), joined);
    nothing_lost_doubled_or_reordered(&realm, &[first, second]);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_with_active_entities_stay_when_their_kind_keeps_state_in_memory() {
    let realm = Realm::new();
    let nodes = realm.nodes(&["a"], || realm.notebooks().shards(4.try_into().expect("some"))).await;
    let resident: Vec<_> = (0..64).map(|n| note(&nodes[0], &format!("k{n}"))).collect();
    for entity in &resident {
        entity.tell(Note::Tell { sender: 0, n: 0 }).await.expect("sent");
    }
    let second = realm
        .node("b", &[nodes[0].addr()], vec![realm.notebooks().shards(4.try_into().expect("some"))])
        .await;
    for n in 0..64 {
        assert_eq!(count(&note(&second, &format!("k{n}"))).await, 1);
    }
    second.root().shutdown().await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_of_a_node_that_crashed_are_active_elsewhere() {
    let realm = Realm::new();
    let kind = || realm.notebooks().idle(Duration::from_secs(3_600));
    let mut nodes = realm.nodes(&["a", "b", "c"], kind).await;
    owns_some(&nodes[0], &id("c")).await;
    let key = key_on(&nodes[0], &id("c")).await;
    let entity = note(&nodes[0], &key);
    let lost = nodes.pop().expect("three");
    lost.root().kill();
    let key = "r-1".parse().expect("valid");
    let answer = entity.ask_once(key, Note::Where, PATIENCE).await.expect("answers");
    assert_ne!(answer, Answer::Where(id("c")));
    stop(nodes).await;
}
