//! Entities and the lease of their node.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_pauses_without_the_lease_of_its_node_and_goes_on_as_it_was_with_the_next() {
    let realm = Realm::new();
    let mut nodes = realm.nodes(&["a", "b", "c"], || realm.notebooks()).await;
    let key = key_on(&nodes[0], &id("a")).await;
    let entity = note(&nodes[0], &key);
    entity.tell(Note::Tell { sender: 0, n: 0 }).await.expect("sent");
    assert_eq!(count(&entity).await, 1);
    // This one rests, too, but has something under way.
    let busy = note(&nodes[0], &key_from(1_000, &nodes[0], &id("a")).await);
    busy.ask(Note::Begin, PATIENCE).await.expect("answers");
    let tasks = || realm.log.lock().expect("not poisoned").tasks;
    assert_eq!(tasks(), 1);
    let lease = nodes[0].cluster().lease.clone();
    let holds = || lease.holds(tokio::time::Instant::now());
    assert!(holds());

    // Without the others nobody can renew a lease.
    for lost in nodes.drain(1..) {
        lost.root().shutdown().await;
    }
    let over = async {
        while holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.expect("in time");
    // What comes before the pause is noticed waits like what came before it.
    let told = async {
        loop {
            let refused = entity.ask(Note::Count, Duration::from_millis(500)).await;
            if refused.expect_err("it is paused").to_string().contains("lease") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it says why");
    let ended = async {
        while tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("nothing is under way without a lease");

    for name in ["b", "c"] {
        let back = realm.node(name, &[nodes[0].addr()], vec![realm.notebooks()]).await;
        nodes.push(back);
    }
    assert_eq!(count(&entity).await, 1, "it is as it was");
    let activated = realm.log.lock().expect("not poisoned").activated.clone();
    let own = activated.iter().filter(|(name, _)| *name == format!("note/{key}")).count();
    assert_eq!(own, 1, "it was made once");
    stop(nodes).await;
}
