//! What a link says of itself.

use super::*;

fn stats(node: &Node, peer: &str) -> LinkStats {
    node.transport.stats(&id(peer)).expect("linked")
}

#[tokio::test]
async fn what_one_side_has_sent_the_other_has_received_by_class() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::new(Echo)).await);
    a.know(&[&b]);
    a.linked("b").await;
    b.linked("a").await;
    let ask = |service, class, bytes: usize| {
        let (transport, body) = (a.transport.clone(), Bytes::from(vec![1; bytes]));
        async move {
            let asked = transport.request(&id("b"), service, class, body, PATIENCE).await;
            assert_eq!(asked.expect("answered").len(), bytes);
        }
    };
    ask(Service::Call, Class::Lane, 10_000).await;
    ask(Service::Call, Class::Consensus, 20_000).await;
    ask(Service::Blob, Class::Bulk, 3_000_000).await;
    a.transport.send_datagram(&id("b"), Bytes::from_static(b"seven b"));

    eventually("both sides count the same", || {
        let (a, b) = (stats(&a, "b"), stats(&b, "a"));
        let pairs = [(a.lane, b.lane), (a.consensus, b.consensus), (a.bulk, b.bulk)];
        let agree = pairs
            .iter()
            .all(|(a, b)| (a.sent_bytes, a.received_bytes) == (b.received_bytes, b.sent_bytes));
        agree && b.datagram.received_bytes == 7
    })
    .await;
    let seen = stats(&a, "b");
    for (class, bytes) in [(seen.lane, 10_000), (seen.consensus, 20_000), (seen.bulk, 3_000_000)] {
        let header = class.sent_bytes - bytes;
        assert!(header > 0 && header < 64, "{class:?}");
        assert_eq!((class.waiting_frames, class.waiting_bytes), (0, 0), "{class:?}");
    }
    assert_eq!(seen.datagram.sent_bytes, 7);
    assert_eq!(seen.datagram.waiting_bytes, 0, "an empty queue counts nothing");
    assert_eq!(seen.certificate.as_ref().expect("a certificate").node, Some(id("b")));
    assert_eq!(a.transport.certificate().expect("a certificate").node, Some(id("a")));
    assert!(seen.mtu >= 1_200 && seen.congestion_window > 0 && seen.sent_packets > 0, "{seen:?}");
}

#[tokio::test]
async fn what_a_busy_peer_does_not_take_is_seen_waiting() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::<Silent>::default()).await);
    a.know(&[&b]);
    a.linked("b").await;
    // More than the peer's budget of work, the windows of QUIC and the sender's own queue take.
    let body = Bytes::from(vec![1; 1 << 20]);
    let asks = (0..60).map(|_| {
        a.transport.request(
            &b.transport.shared.local,
            Service::Call,
            Class::Lane,
            body.clone(),
            PATIENCE,
        )
    });
    let asks = futures::future::join_all(asks);
    let seen = eventually("frames wait", || {
        let lane = stats(&a, "b").lane;
        lane.waiting_frames > 16 && lane.waiting_bytes == lane.waiting_frames << 20
    });
    tokio::select! {
        _ = asks => unreachable!("nobody answers"),
        () = seen => {}
    }
}

#[tokio::test]
async fn links_that_were_lost_before_are_counted() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.node("b").await);
    for lost in 0..3 {
        a.know(&[&b]);
        a.linked("b").await;
        assert_eq!(stats(&a, "b").reconnects, lost);
        a.know(&[]);
        eventually("the link is closed", || a.transport.link(&id("b")).is_none()).await;
    }
    assert_eq!(a.transport.stats(&id("b")), None);
}
