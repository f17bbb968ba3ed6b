//! Lost links, two links at once, and peers that send what they must not.

use quinn::ConnectionError;
use rand::RngExt;

use super::*;

#[tokio::test]
async fn simultaneous_connects_settle_on_one_link_at_both_ends() {
    let realm = Realm::new();
    for round in 0..5 {
        let (a, b) = (realm.node("a").await, realm.node("b").await);
        for (node, peer) in [(&a, &b), (&b, &a)] {
            node.transport.services().insert(Service::Call, Arc::new(Echo));
            node.know(&[peer]);
        }
        let dials = [(&a, &b), (&b, &a), (&a, &b), (&b, &a)].map(|(from, to)| {
            let (handle, addr) = (from.transport.clone(), to.addr());
            async move { handle.dial(addr, PATIENCE).await }
        });
        for outcome in futures::future::join_all(dials).await {
            outcome.expect("linked");
        }
        // One link: each side's is the one that the other side knows.
        let agreed = || {
            let (at_a, at_b) = (a.transport.link(&id("b"))?, b.transport.link(&id("a"))?);
            (at_a.dialled != at_b.dialled).then_some((at_a.generation, at_b.generation))
        };
        eventually("both agree", || agreed().is_some()).await;
        one_connection_is_left([&a, &b]).await;
        let settled = agreed();
        assert!(settled.is_some(), "round {round}");
        assert_eq!(a.ask("b", b"1").await.expect("answered"), "1");
        assert_eq!(b.ask("a", b"2").await.expect("answered"), "2");
        assert_eq!(agreed(), settled, "round {round}: the link that settled stays");
    }
}

#[tokio::test]
async fn a_later_start_of_a_peer_replaces_the_link_to_the_earlier_one() {
    let realm = Realm::new();
    let (a, old) = (realm.node("a").await, realm.node("b").await);
    a.know(&[&old]);
    assert_eq!(a.linked("b").await.incarnation, Incarnation(1));
    let mut config = realm.config("b");
    config.incarnation = Incarnation(2);
    let new = Node::start(config, Services::default()).await;
    new.transport.dial(a.addr(), PATIENCE).await.expect("linked");
    eventually("the later start is linked", || {
        a.transport.link(&id("b")).is_some_and(|link| link.incarnation == Incarnation(2))
    })
    .await;
    // The earlier one cannot take its place again.
    assert!(
        old.transport.link(&id("a")).is_none() || {
            eventually("the earlier one is dropped", || old.transport.link(&id("a")).is_none())
                .await;
            true
        }
    );
    let _ = old.transport.dial(a.addr(), PATIENCE).await;
    assert_eq!(a.linked("b").await.incarnation, Incarnation(2));
}

#[tokio::test]
async fn a_lost_link_fails_its_requests_at_once_and_is_made_again() {
    let realm = Realm::new();
    let silent = Arc::new(Silent::default());
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::clone(&silent) as _).await);
    let addr = b.addr();
    a.know(&[&b]);
    a.linked("b").await;
    let asks = (0..100).map(|_| a.ask("b", b"?"));
    let losing = async {
        eventually("all are asked", || silent.asked.load(Ordering::SeqCst) == 100).await;
        let lost = std::time::Instant::now();
        b.root.shutdown().await;
        lost
    };
    let (answers, lost) = tokio::join!(futures::future::join_all(asks), losing);
    assert!(lost.elapsed() < Duration::from_secs(2), "{:?}", lost.elapsed());
    for answer in answers {
        assert!(matches!(answer, Err(TransportError::Unreachable { .. })), "{answer:?}");
    }
    drop(b);
    let mut config = realm.config("b");
    config.listen = addr;
    config.incarnation = Incarnation(2);
    let services = Services::default().with(Service::Call, Arc::new(Echo));
    let _b = Node::start(config, services).await;
    assert_eq!(a.linked("b").await.incarnation, Incarnation(2));
    assert_eq!(a.ask("b", b"again").await.expect("answered"), "again");
}

#[tokio::test]
async fn a_transfer_that_is_given_up_leaves_the_link_as_it_is() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::<Silent>::default()).await);
    a.know(&[&b]);
    let link = a.linked("b").await;
    // Given up in mid-write, and while the answer is awaited.
    for (mib, deadline) in [(64, 20), (64, 50), (1, 100)] {
        let body = Bytes::from(vec![1; mib << 20]);
        let deadline = Duration::from_millis(deadline);
        let asked = a.transport.request(&id("b"), Service::Blob, Class::Bulk, body, deadline).await;
        assert!(matches!(asked, Err(TransportError::Deadline { .. })), "{asked:?}");
    }
    b.transport.services().insert(Service::Call, Arc::new(Echo));
    assert_eq!(a.ask("b", b"well").await.expect("answered"), "well");
    assert_eq!(a.linked("b").await.generation, link.generation);
}

/// A node in a runtime of its own, which can be killed: nothing in it runs any more, and nobody
/// is told.
struct Doomed {
    runtime: Option<tokio::runtime::Runtime>,
    node: Option<Node>,
}

impl Doomed {
    fn start(config: TransportConfig, services: Services) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let node = runtime.block_on(Node::start(config, services));
        Self { runtime: Some(runtime), node: Some(node) }
    }

    /// Leaks what it holds: dropping a connection would close it politely.
    fn kill(mut self) {
        std::mem::forget(self.node.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn a_killed_peer_fails_its_requests_within_the_idle_timeout() {
    let realm = Realm::new();
    let silent = Arc::new(Silent::default());
    let services = Services::default().with(Service::Call, Arc::clone(&silent) as _);
    let doomed = Doomed::start(realm.config("b"), services);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let a = realm.node("a").await;
        a.know(&[doomed.node.as_ref().expect("running")]);
        let killing = async {
            eventually("it is asked", || silent.asked.load(Ordering::SeqCst) == 1).await;
            doomed.kill();
            std::time::Instant::now()
        };
        let (answer, killed) = tokio::join!(a.ask("b", b"?"), killing);
        assert!(matches!(answer, Err(TransportError::Unreachable { .. })), "{answer:?}");
        assert!(killed.elapsed() < settings::IDLE * 2, "{:?}", killed.elapsed());
    });
}

async fn is_closed_for(quic: &Connection, what: &str) {
    let reason = tokio::time::timeout(PATIENCE, quic.closed()).await.expect("closed");
    match reason {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, settings::CLOSE_PROTOCOL, "{what}: {close}");
        }
        other => panic!("{what}: {other}"),
    }
}

#[tokio::test]
async fn garbage_on_any_stream_costs_its_sender_the_connection_and_nobody_else() {
    let realm = Realm::new();
    let victim = realm.serving("victim", Arc::new(Echo)).await;
    let friend = realm.node("friend").await;
    friend.know(&[&victim]);
    friend.linked("victim").await;
    let huge = u32::MAX.to_le_bytes();
    let good_tags =
        [settings::TAG_CONSENSUS, settings::TAG_LANE, settings::TAG_BULK].map(|tag| vec![tag]);
    let mut attacks: Vec<(String, Vec<u8>)> = vec![
        ("an unknown tag".into(), vec![0xff]),
        ("a bulk length that lies".into(), [&[4, 4, 0, 0][..], &[0xff; 16]].concat()),
    ];
    for tag in &good_tags {
        attacks
            .push((format!("a length that lies, {tag:?}"), [&tag[..], &huge, &[9; 40]].concat()));
        attacks.push((format!("a short frame, {tag:?}"), [&tag[..], &[1, 0, 0, 0, 1]].concat()));
        let mut noise = vec![0; 64 << 10];
        rand::rng().fill(&mut noise[..]);
        // A first length within bounds, so that the noise is read as a frame.
        attacks.push((format!("noise, {tag:?}"), [&tag[..], &[64, 0, 0, 0, 9], &noise].concat()));
    }
    for (what, bytes) in attacks {
        let quic = rogue(&realm, &victim).await;
        let (mut send, _recv) = quic.open_bi().await.expect("opens");
        // Closed in mid-write is what is wanted.
        let _ = send.write_all(&bytes).await;
        let _ = send.finish();
        is_closed_for(&quic, &what).await;
        assert_eq!(friend.ask("victim", b"alive").await.expect("answered"), "alive", "{what}");
    }
}

#[tokio::test]
async fn who_gives_way_in_other_words_or_twice_loses_the_connection() {
    let realm = Realm::new();
    let victim = realm.serving("victim", Arc::new(Echo)).await;
    let friend = realm.node("friend").await;
    friend.know(&[&victim]);
    friend.linked("victim").await;
    let tag = settings::TAG_GIVE_WAY;
    let attacks: [&[&[u8]]; 5] = [
        &[&[tag, 9]],
        &[&[tag, 0, 9]],
        &[&[tag, 0, 3, 3]],
        &[&[tag, 1], &[tag, 1]],
        &[&[tag, 1, 3], &[tag, 0]],
    ];
    for streams in attacks {
        let quic = rogue(&realm, &victim).await;
        // Kept, because a stream that is dropped is ended.
        let mut open = Vec::new();
        for words in streams {
            let mut send = quic.open_uni().await.expect("opens");
            let _ = send.write_all(words).await;
            open.push(send);
        }
        is_closed_for(&quic, &format!("{streams:?}")).await;
        assert_eq!(friend.ask("victim", b"alive").await.expect("answered"), "alive");
    }
}

#[tokio::test]
async fn garbage_in_datagrams_and_empty_streams_harm_nobody() {
    let realm = Realm::new();
    let victim = realm.serving("victim", Arc::new(Echo)).await;
    let quic = rogue(&realm, &victim).await;
    for length in 0..200 {
        quic.send_datagram(Bytes::from(vec![length; usize::from(length)])).expect("sent");
    }
    for _ in 0..200 {
        let (mut send, mut recv) = quic.open_bi().await.expect("opens");
        let _ = send.finish();
        let _ = recv.stop(quinn::VarInt::from_u32(0));
    }
    let friend = realm.node("friend").await;
    friend.know(&[&victim]);
    assert_eq!(friend.ask("victim", b"alive").await.expect("answered"), "alive");
}

#[tokio::test]
async fn who_does_not_introduce_itself_is_refused() {
    let realm = Realm::new();
    let victim = realm.serving("victim", Arc::new(Echo)).await;
    let certs = tls::load(&realm.certs("rogue"), &id("rogue")).expect("certificates");
    let mut endpoint =
        quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    endpoint.set_default_client_config(settings::client(&certs));
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"odeum\n\x01\x00\x00\x00\xff\xff", b"odeum"] {
        let quic = endpoint.connect(victim.addr(), pki::COMMON_NAME).expect("config").await;
        let quic = quic.expect("connects");
        let (mut send, _recv) = quic.open_bi().await.expect("opens");
        let _ = send.write_all(first).await;
        let _ = send.finish();
        tokio::time::timeout(PATIENCE, quic.closed()).await.expect("closed");
        assert!(victim.transport.links().borrow().is_empty());
    }
}

/// What was lost when it was not so, in `links.rs`, takes more luck than this has.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_in_no_address_book_can_come_back_as_often_as_it_likes() {
    let realm = Realm::new();
    let a = realm.node("a").await;
    for incarnation in 1..=50 {
        let config = TransportConfig { incarnation: Incarnation(incarnation), ..realm.config("b") };
        let b = Node::start(config, Services::default()).await;
        let met = b.transport.dial(a.addr(), PATIENCE).await;
        assert_eq!(met.expect("linked"), id("a"), "start {incarnation}");
        // The link is used, so that it is not only one end that has it.
        let answer = b.ask("a", b"?").await;
        let refused = answer.expect_err("nobody answers").to_string();
        assert!(refused.contains("the service does not run there"), "{refused}");
        b.root.shutdown().await;
    }
    a.root.shutdown().await;
}
