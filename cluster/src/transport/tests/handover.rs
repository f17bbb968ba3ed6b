//! Two connections at once, with requests and messages under way on the one that goes.

use std::collections::BTreeMap;

use odeum_proto::Epoch;
use tokio::sync::watch;

use super::*;
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

async fn one_connection_is_left(nodes: [&Node; 2]) {
    eventually("one connection is left", || {
        nodes.iter().all(|node| {
            let quic = node.transport.shared.quic.load();
            quic.as_ref().map(|quic| quic.open_connections()) == Some(1)
        })
    })
    .await;
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
