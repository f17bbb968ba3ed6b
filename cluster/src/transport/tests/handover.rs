//! Two connections at once, with requests and messages under way on the one that goes, and peers that
//! do not see it out.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::BytesMut;
use odeum_proto::{Epoch, limits};
use quinn::{ConnectionError, RecvStream, SendStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::transport::handover::{DELIVERED, Lanes};
use crate::transport::lane::{LanePeer, LaneSink, Malformed, Outlet, Packet, Refused, packet};

/// Answers with the question, once it may.
struct Gate {
    asked: AtomicUsize,
    open: watch::Sender<bool>,
}

impl Gate {
    fn shut() -> Arc<Self> {
        Arc::new(Self { asked: AtomicUsize::new(0), open: watch::Sender::new(false) })
    }
}

impl Serve for Gate {
    fn serve(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.subscribe();
        Box::pin(async move {
            open.wait_for(|open| *open).await.map(drop).expect("open");
            Ok(body)
        })
    }
}

async fn ask_by_all_classes(node: &Node, peer: &str) {
    let asks = [Class::Consensus, Class::Lane, Class::Bulk].map(|class| {
        let (transport, peer) = (node.transport.clone(), id(peer));
        async move {
            let body = Bytes::from_static(b"under way");
            transport.request(&peer, Service::Call, class, body, PATIENCE).await
        }
    });
    for answer in futures::future::join_all(asks).await {
        assert_eq!(answer.expect("answered"), "under way");
    }
}

#[tokio::test]
async fn requests_under_way_are_answered_on_the_connection_that_gives_way() {
    let realm = Realm::new();
    let gates = [Gate::shut(), Gate::shut()];
    let a = realm.serving("a", Arc::clone(&gates[0]) as _).await;
    let b = realm.serving("b", Arc::clone(&gates[1]) as _).await;
    b.transport.dial(a.addr(), PATIENCE).await.expect("linked");
    let first = b.linked("a").await.generation;
    a.linked("b").await;
    let replacing = async {
        let asked = || gates.iter().all(|gate| gate.asked.load(Ordering::SeqCst) == 3);
        eventually("all are asked", asked).await;
        // One that the node with the smaller name has dialled is the higher.
        a.transport.dial(b.addr(), PATIENCE).await.expect("linked");
        eventually("it is replaced", || {
            b.transport.link(&id("a")).is_some_and(|link| link.generation != first)
        })
        .await;
        a.transport.services().insert(Service::Join, Arc::new(Echo));
        let body = Bytes::from_static(b"meanwhile");
        let meanwhile =
            b.transport.request(&id("a"), Service::Join, Class::Lane, body, PATIENCE).await;
        assert_eq!(meanwhile.expect("answered"), "meanwhile");
        for gate in &gates {
            gate.open.send_replace(true);
        }
    };
    tokio::join!(ask_by_all_classes(&a, "b"), ask_by_all_classes(&b, "a"), replacing);
    one_connection_is_left([&a, &b]).await;
}

/// Keeps the numbers that come by each lane, and whether the link was lost.
#[derive(Default)]
struct Record {
    came: Mutex<BTreeMap<String, Vec<u64>>>,
    losses: AtomicUsize,
}

impl LaneSink for Record {
    fn deliver(&self, _: &LanePeer, packets: &mut Vec<Packet>) -> Result<(), Malformed> {
        let mut came = self.came.lock().expect("not poisoned");
        for packet in packets.drain(..) {
            let Packet::Tell(tell) = packet else { panic!("{packet:?}") };
            let lane = String::from_utf8_lossy(tell.letter.entity()).into_owned();
            let number = codec::decode(&tell.letter.into_body()).expect("a number");
            came.entry(lane).or_default().push(number);
        }
        Ok(())
    }

    fn lost(&self, _: &NodeId, _: u64) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }
}

impl Record {
    fn of(node: &Node) -> Arc<Self> {
        let record = Arc::<Self>::default();
        node.transport.on_packets(Arc::clone(&record) as _);
        record
    }

    fn count(&self) -> usize {
        self.came.lock().expect("not poisoned").values().map(Vec::len).sum()
    }

    fn losses(&self) -> usize {
        self.losses.load(Ordering::SeqCst)
    }
}

/// Sends by all lanes until told to stop; returns how many messages.
async fn send(node: &Node, peer: &str, stop: &std::sync::atomic::AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        for lane in 0..settings::LANES as u64 {
            let lane_to = |lane| node.transport.lane(&id(peer), lane);
            let Some(outlet) = lane_to(lane) else { break };
            if let Some(full) = push(&outlet, lane, sent) {
                full.space().await;
                continue;
            }
            sent += 1;
        }
        tokio::task::yield_now().await;
    }
    sent
}

/// Sends a number; the lane when it is full.
fn push(outlet: &Arc<Outlet>, lane: u64, number: u64) -> Option<Arc<Outlet>> {
    let pushed =
        outlet.push(|out| packet::put_tell(out, Epoch(1), &format!("lane/{lane}"), &number));
    match pushed {
        Ok(()) | Err(Refused::Closed) => None,
        Err(Refused::Full) => Some(Arc::clone(outlet)),
        Err(refused) => panic!("{refused:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_keep_their_order_and_none_is_lost_when_another_connection_takes_over() {
    const TIMES: usize = 30;
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.node("b").await);
    let (at_a, at_b) = (Record::of(&a), Record::of(&b));
    b.transport.dial(a.addr(), PATIENCE).await.expect("linked");
    a.linked("b").await;
    b.linked("a").await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let dialling = async {
        for time in 0..TIMES {
            let before = at_a.count().min(at_b.count());
            let (from, to) = if time % 3 == 2 { (&b, &a) } else { (&a, &b) };
            from.transport.dial(to.addr(), PATIENCE).await.expect("linked");
            // Some messages between them, and often none: what goes last may itself still come.
            if time % 2 == 0 {
                eventually("messages go on", || at_a.count().min(at_b.count()) > before).await;
            }
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (from_a, from_b, ()) = tokio::join!(send(&a, "b", &stop), send(&b, "a", &stop), dialling);
    for (record, sent) in [(&at_b, from_a), (&at_a, from_b)] {
        eventually("all have come", || record.count() as u64 == sent).await;
        assert_eq!(record.losses(), 0);
        for (lane, numbers) in &*record.came.lock().expect("not poisoned") {
            assert!(numbers.is_sorted_by(|a, b| a < b), "{lane} is out of order");
        }
    }
    one_connection_is_left([&a, &b]).await;
}

/// Of what one side sends by a connection that the other never uses, it is told that it is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_simultaneous_connects_nothing_is_doubled_and_nothing_lost_unsaid() {
    for round in 0..20 {
        let realm = Realm::new();
        let (a, b) = (realm.node("a").await, realm.node("b").await);
        let (at_a, at_b) = (Record::of(&a), Record::of(&b));
        let stop = std::sync::atomic::AtomicBool::new(false);
        let dialling = async {
            let (by_a, by_b) = tokio::join!(
                a.transport.dial(b.addr(), PATIENCE),
                b.transport.dial(a.addr(), PATIENCE)
            );
            by_a.expect("linked");
            by_b.expect("linked");
            one_connection_is_left([&a, &b]).await;
            let before = (at_a.count(), at_b.count());
            eventually("messages go on both ways", || {
                at_a.count() > before.0 && at_b.count() > before.1
            })
            .await;
            stop.store(true, Ordering::SeqCst);
        };
        let (from_a, from_b, ()) =
            tokio::join!(send(&a, "b", &stop), send(&b, "a", &stop), dialling);
        for (at, sender, sent) in [(&at_b, &at_a, from_a), (&at_a, &at_b, from_b)] {
            if sender.losses() == 0 {
                eventually("all have come", || at.count() as u64 == sent).await;
            }
            for (lane, numbers) in &*at.came.lock().expect("not poisoned") {
                assert!(numbers.is_sorted_by(|a, b| a < b), "round {round}: {lane}: {numbers:?}");
            }
        }
    }
}

/// How long a [`hasty`] node waits for its peers.
const SOON: Duration = Duration::from_millis(300);

const NOT_IN_TIME: &str = "it gave way and was not done in time";

/// A node that has little time for connections that go.
async fn hasty(realm: &Realm) -> Node {
    let config = TransportConfig { yield_after: SOON, patience: SOON, ..realm.config("victim") };
    Node::start(config, Services::default()).await
}

/// Says that the rogue gives way, and nothing more.
async fn give_way(quic: &Connection, lanes: Lanes) -> SendStream {
    let mut send = quic.open_uni().await.expect("opens");
    send.write_all(&[settings::TAG_GIVE_WAY, lanes.to_wire()]).await.expect("sent");
    send
}

/// Waits until the node gives way; what it says of its lanes, and the stream for the rest.
async fn given_way(quic: &Connection) -> (u8, RecvStream) {
    loop {
        let stream = timeout(PATIENCE, quic.accept_uni()).await.expect("in time");
        let (mut stream, mut head) = (stream.expect("open"), [0; 2]);
        stream.read_exact(&mut head).await.expect("a tag, and what is said or which lane it is");
        if head[0] == settings::TAG_GIVE_WAY {
            return (head[1], stream);
        }
    }
}

/// Waits until the node closes the connection; why it did.
async fn why_closed(quic: &Connection) -> String {
    match timeout(PATIENCE, quic.closed()).await.expect("closed") {
        ConnectionError::ApplicationClosed(close) => {
            String::from_utf8_lossy(&close.reason).into_owned()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_connection_that_is_given_up_for_one_that_never_comes_is_used_for_a_while() {
    let realm = Realm::new();
    let victim = hasty(&realm).await;
    let quic = rogue(&realm, &victim).await;
    victim.linked("rogue").await;
    let told = Instant::now();
    let _telling = give_way(&quic, Lanes::GoOn).await;
    let (said, _stream) = given_way(&quic).await;
    assert!(told.elapsed() >= SOON, "{:?}", told.elapsed());
    assert_eq!(said, Lanes::End.to_wire());
    assert!(victim.transport.link(&id("rogue")).is_none());
    // It says no more of its own lanes, nor that it is done.
    assert_eq!(why_closed(&quic).await, NOT_IN_TIME);
    assert!(told.elapsed() >= 2 * SOON, "{:?}", told.elapsed());
}

#[tokio::test]
async fn who_does_not_give_way_in_turn_loses_the_connection_in_time_and_holds_up_nobody_after() {
    let realm = Realm::new();
    let victim = hasty(&realm).await;
    let record = Record::of(&victim);
    let first = rogue_as(&realm, &victim, 1).await;
    victim.linked("rogue").await;
    let replacing = async {
        let asked = timeout(PATIENCE, first.accept_bi()).await.expect("in time");
        let _not_answered = asked.expect("open");
        let begun = Instant::now();
        let second = rogue_as(&realm, &victim, 2).await;
        let mut lane = BytesMut::from(&[settings::TAG_ENTITY, 0][..]);
        packet::put_tell(&mut lane, Epoch(1), "lane/0", &7_u64).expect("a packet");
        let mut send = second.open_uni().await.expect("opens");
        send.write_all(&lane).await.expect("sent");
        let (said, _stream) = given_way(&first).await;
        assert_eq!(said, Lanes::GoOn.to_wire());
        eventually("what came by the next one is delivered", || record.count() == 1).await;
        assert!(begun.elapsed() >= SOON, "{:?}", begun.elapsed());
        assert_eq!(why_closed(&first).await, NOT_IN_TIME);
        assert!(second.close_reason().is_none());
    };
    let (answer, ()) = tokio::join!(victim.ask("rogue", b"under way"), replacing);
    assert!(matches!(answer, Err(TransportError::Unreachable { .. })), "{answer:?}");
    // What was sent by the lanes that went on may not have come.
    eventually("it is told", || record.losses() == 1).await;
}

#[tokio::test]
async fn who_holds_on_to_a_connection_that_is_not_used_loses_it_in_time() {
    let realm = Realm::new();
    let victim = hasty(&realm).await;
    let used = rogue_as(&realm, &victim, 2).await;
    let link = victim.linked("rogue").await;
    let begun = Instant::now();
    let unused = rogue_as(&realm, &victim, 1).await;
    let (said, mut stream) = given_way(&unused).await;
    assert_eq!(said, Lanes::Unused.to_wire());
    assert_eq!(stream.read_to_end(2).await.expect("the rest"), [DELIVERED]);
    assert_eq!(why_closed(&unused).await, NOT_IN_TIME);
    assert!(begun.elapsed() >= SOON, "{:?}", begun.elapsed());
    assert!(used.close_reason().is_none());
    assert_eq!(victim.linked("rogue").await.generation, link.generation);
}

/// It was told to nobody when the connection ended before the writers of its lanes had stopped.
#[tokio::test]
async fn what_the_peer_says_is_lost_is_told_though_the_connection_ends_before_it_is_written() {
    let realm = Realm::new();
    let victim = realm.node("victim").await;
    let record = Record::of(&victim);
    let first = rogue_as(&realm, &victim, 1).await;
    let link = victim.linked("rogue").await;
    let conn = victim.transport.shared.conn(&id("rogue")).expect("linked");
    // More than the peer lets come, so that the writer has to wait.
    let outlet = victim.transport.lane(&id("rogue"), 0).expect("linked");
    let large = vec![0_u8; limits::MESSAGE_BYTES / 2];
    for _ in 0..4 {
        let pushed = outlet.push(|out| packet::put_tell(out, Epoch(1), "lane/0", &large));
        pushed.expect("there is room");
    }
    eventually("the writer has it", || outlet.depth() == 0).await;
    let second = rogue_as(&realm, &victim, 2).await;
    eventually("it is replaced", || {
        victim.transport.link(&id("rogue")).is_some_and(|now| now.generation != link.generation)
    })
    .await;
    let _telling = give_way(&first, Lanes::End).await;
    // Of a connection that ends before, a loss is told whatever the word is.
    eventually("the word is read", || conn.handover().is_lost()).await;
    assert_eq!(record.losses(), 0);
    first.close(settings::CLOSE_ORDERLY, b"gone");
    eventually("it is told", || record.losses() == 1).await;
    assert!(second.close_reason().is_none());
    assert!(victim.transport.link(&id("rogue")).is_some());
}
