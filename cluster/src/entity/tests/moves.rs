//! Shards move between nodes under load.

use std::sync::atomic::{AtomicBool, Ordering};

use odeum_proto::session::{SessionRefusal, SessionSettings, Value};

use super::*;
use crate::store::{Consistency, SessionError, SessionHandle};

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

/// Sends from both nodes while a third one joins, owns something and leaves; how many each sent.
async fn send_while_one_comes_and_goes(
    realm: &Realm,
    nodes: &[RunningNode],
    kind: impl Fn() -> Kind,
) -> [u32; 2] {
    let ended = AtomicBool::new(false);
    let joined = async {
        let third = realm.node("c", &[nodes[0].addr()], vec![kind()]).await;
        owns_some(&third, &id("c")).await;
        third.shutdown().await;
        ended.store(true, Ordering::Relaxed);
    };
    let (first, second, ()) =
        tokio::join!(send_until(&nodes[0], 0, &ended), send_until(&nodes[1], 1, &ended), joined);
    [first, second]
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
    let sent = send_while_one_comes_and_goes(&realm, &nodes, kind).await;
    nothing_lost_doubled_or_reordered(&realm, &sent);
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

/// Adds up in the replicated store.
struct Ledger(Option<SessionHandle>);

/// Answered by the sum, and the node that it was made on.
#[derive(Serialize, Deserialize)]
struct Add(i64);

impl EntityMessage for Add {
    type Reply = (i64, NodeId);
}

impl Entity for Ledger {
    type Message = Add;

    async fn activated(&mut self, ctx: &mut EntityContext<'_, Self>) -> Result<(), ActorError> {
        let store = ctx.store().ok_or_else(|| ActorError::msg("the node is stopping"))?;
        let session = store.session(ctx.id().key().as_str().parse()?);
        session.create(SessionSettings::default()).await?;
        self.0 = Some(session);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        Add(more): Add,
    ) -> Result<(i64, NodeId), ActorError> {
        let session = self.0.as_ref().ok_or_else(|| ActorError::msg("it was not activated"))?;
        loop {
            let known = session.get("sum", Consistency::Linearizable).await?;
            let version = known.as_ref().map_or(0, |sum| sum.version());
            let sum = match known.map(|sum| sum.value().clone()) {
                Some(Value::Integer(sum)) => sum + more,
                _ => more,
            };
            match session.compare_and_set("sum", version, Value::Integer(sum)).await {
                // What an activation before this one had under way came in between.
                Err(SessionError::Refused(SessionRefusal::VersionConflict { .. })) => {}
                written => {
                    written?;
                    return Ok((sum, ctx.node().clone()));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_entity_wrote_to_the_store_is_there_when_its_node_has_crashed() {
    let realm = Realm::new();
    let kind = || Kind::new("ledger".parse().expect("valid"), |_: &EntityId| Ledger(None));
    let mut nodes = realm.nodes(&["a", "b", "c"], kind).await;
    let ledger = |node: &RunningNode| node.entity::<Add>("ledger/k".parse().expect("valid"));
    let (sum, owner) = ledger(&nodes[0]).ask(Add(70), PATIENCE).await.expect("answers");
    assert_eq!(sum, 70);
    let place = nodes.iter().position(|node| *node.id() == owner).expect("one of them");
    let lost = nodes.remove(place);
    lost.root().kill();
    let key = "r-1".parse().expect("valid");
    let (sum, next) = ledger(&nodes[0]).ask_once(key, Add(1), PATIENCE).await.expect("answers");
    // Twice when the owner has added it, too, and died before it could answer: the key was remembered in
    // its memory alone.
    assert!(matches!(sum, 71 | 72), "{sum}");
    assert_ne!(next, owner);
    stop(nodes).await;
}

/// Tells entities so many notes in all, of different numbers, and under a key each of them one more.
async fn fill(realm: &Realm, node: &RunningNode) {
    for n in 0..64 {
        let entity = note(node, &format!("k{n}"));
        for told in 0..n {
            entity.tell(Note::Tell { sender: 0, n: told }).await.expect("sent");
        }
        once(&entity, n).await;
    }
    assert!(realm.log.lock().expect("not poisoned").thawed.is_empty());
}

/// Under the same key for the same entity: it counts once.
async fn once(entity: &EntityRef<Note>, n: u32) {
    let (key, tell) = ("once".parse().expect("valid"), Note::Tell { sender: 0, n });
    assert_eq!(entity.ask_once(key, tell, PATIENCE).await.expect("answers"), Answer::Done);
}

async fn have_all(node: &RunningNode) {
    for n in 0..64 {
        let entity = note(node, &format!("k{n}"));
        once(&entity, n).await;
        assert_eq!(count(&entity).await, n + 1, "k{n}");
    }
}

/// Waits until something was tried with the entities that were active, while they are asked.
async fn is_tried(realm: &Realm, node: &RunningNode) {
    let tried = async {
        while thawed(realm) == 0 {
            have_all(node).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("in time");
}

fn thawed(realm: &Realm) -> usize {
    realm.log.lock().expect("not poisoned").thawed.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_movable_entities_have_in_memory_and_have_answered_goes_with_them() {
    let realm = Realm::new();
    let kind = || realm.notebooks().movable();
    let nodes = realm.nodes(&["a"], kind).await;
    fill(&realm, &nodes[0]).await;
    let second = realm.node("b", &[nodes[0].addr()], vec![kind()]).await;
    owns_some(&nodes[0], &id("b")).await;
    have_all(&nodes[0]).await;
    assert!(thawed(&realm) > 0, "it takes some over with what they have");
    second.shutdown().await;
    have_all(&nodes[0]).await;
    let passivated = realm.log.lock().expect("not poisoned").passivated.clone();
    assert_eq!(passivated, Vec::<String>::new(), "none of them has ended");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_reordered_while_movable_entities_go_and_come() {
    let realm = Realm::new();
    let kind = || realm.notebooks().movable();
    let nodes = realm.nodes(&["a", "b"], kind).await;
    let sent = send_while_one_comes_and_goes(&realm, &nodes, kind).await;
    nothing_lost_doubled_or_reordered(&realm, &sent);
    for n in 0..8 {
        let all = sent.iter().sum::<u32>();
        assert_eq!(count(&note(&nodes[0], &format!("k{n}"))).await, all, "k{n}");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_cannot_be_frozen_stays_with_all_that_it_has_until_it_can() {
    let realm = Realm::new();
    let one = || realm.notebooks().shards(1.try_into().expect("some")).movable();
    let nodes = realm.nodes(&["a"], one).await;
    fill(&realm, &nodes[0]).await;
    let clings = note(&nodes[0], "k9");
    clings.ask(Note::Cling(true), PATIENCE).await.expect("answers");
    let second = realm.node("b", &[nodes[0].addr()], vec![one()]).await;
    // From then on it gives away what it can.
    nodes[0].entities().hand_off(Duration::from_millis(1)).await;
    is_tried(&realm, &second).await;
    have_all(&second).await;
    assert_eq!(place(&clings).await, id("a"));
    clings.ask(Note::Cling(false), PATIENCE).await.expect("answers");
    owns_some(&second, &id("b")).await;
    have_all(&second).await;
    second.root().shutdown().await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn movable_entities_go_on_where_they_are_when_the_other_node_does_not_take_them() {
    let realm = Realm::new();
    let one = || realm.notebooks().shards(1.try_into().expect("some"));
    let nodes = realm.nodes(&["a"], || one().movable()).await;
    fill(&realm, &nodes[0]).await;
    let second = realm.node("b", &[nodes[0].addr()], vec![one()]).await;
    nodes[0].entities().hand_off(Duration::from_millis(1)).await;
    is_tried(&realm, &second).await;
    have_all(&second).await;
    assert_eq!(place(&note(&second, "k9")).await, id("a"));
    second.root().shutdown().await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_of_a_movable_entity_goes_on_where_that_does() {
    let realm = Realm::new();
    let one = || realm.notebooks().shards(1.try_into().expect("some")).movable();
    let nodes = realm.nodes(&["a"], one).await;
    let entity = note(&nodes[0], "k");
    entity.ask(Note::Alarm(Duration::from_secs(2)), PATIENCE).await.expect("answers");
    let second = realm.node("b", &[nodes[0].addr()], vec![one()]).await;
    nodes[0].entities().hand_off(Duration::from_millis(1)).await;
    let gone_off = async {
        while count(&entity).await == 0 || place(&entity).await != id("b") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone_off).await.expect("in time");
    assert_eq!(realm.told("note/k"), [(99, 0)]);
    second.root().shutdown().await;
    stop(nodes).await;
}
