//! Asking and answering between nodes that get along.

use super::*;

#[tokio::test]
async fn a_request_is_answered_by_the_peer_it_was_made_to() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::new(Echo)).await);
    a.know(&[&b]);
    assert_eq!(a.ask("b", b"hello").await.expect("answered"), "hello");
}

#[tokio::test]
async fn both_ends_of_a_link_can_ask() {
    let realm = Realm::new();
    let a = realm.serving("a", Arc::new(Echo)).await;
    let b = realm.serving("b", Arc::new(Echo)).await;
    a.know(&[&b]);
    b.linked("a").await;
    assert_eq!(b.ask("a", b"from the other side").await.expect("answered"), "from the other side");
    assert_eq!(a.ask("b", b"and back").await.expect("answered"), "and back");
}

/// Keeps the order in which it was asked, and answers nobody before all have asked.
struct Assembly {
    order: Mutex<Vec<u32>>,
    expected: usize,
    all: tokio::sync::watch::Sender<bool>,
}

impl Serve for Assembly {
    fn serve(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let number = u32::from_le_bytes(body[..4].try_into().expect("four bytes"));
        let mut order = self.order.lock().expect("not poisoned");
        order.push(number);
        if order.len() == self.expected {
            self.all.send_replace(true);
        }
        let mut all = self.all.subscribe();
        Box::pin(async move {
            all.wait_for(|all| *all).await.map(drop).expect("open");
            Ok(body)
        })
    }
}

#[tokio::test]
async fn requests_are_pipelined_and_start_in_the_order_they_were_made() {
    const REQUESTS: u32 = 1_000;
    let realm = Realm::new();
    let assembly = Arc::new(Assembly {
        order: Mutex::default(),
        expected: REQUESTS as usize,
        all: tokio::sync::watch::Sender::new(false),
    });
    let a = realm.node("a").await;
    let b = realm.serving("b", Arc::clone(&assembly) as _).await;
    a.know(&[&b]);
    a.linked("b").await;
    let (handle, peer) = (a.transport.clone(), id("b"));
    let asks = (0..REQUESTS).map(|n| {
        let body = Bytes::copy_from_slice(&n.to_le_bytes());
        let (handle, peer) = (handle.clone(), peer.clone());
        async move {
            let request = Request {
                service: Service::Call,
                class: Class::Lane,
                key: 7,
                body: body.clone(),
                deadline: PATIENCE,
            };
            assert_eq!(handle.send(&peer, request).await.expect("answered"), body);
        }
    });
    // Polled in turn, without tokio's fairness between them: that is the order they are made in.
    tokio::task::unconstrained(futures::future::join_all(asks)).await;
    let order = assembly.order.lock().expect("not poisoned").clone();
    assert!(order.is_sorted() && order.len() == REQUESTS as usize, "{order:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_transfer_of_64_mib_arrives_whole_both_ways() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::new(Echo)).await);
    a.know(&[&b]);
    let body: Bytes = (0..64 << 20).map(|n: u32| (n ^ (n >> 11)) as u8).collect::<Vec<_>>().into();
    let (peer, question) = (id("b"), body.clone());
    let asked = a.transport.request(&peer, Service::Blob, Class::Bulk, question, PATIENCE * 3);
    // A small request beside it does not wait for it.
    let small = async {
        for _ in 0..50 {
            a.ask("b", b"small").await.expect("answered");
        }
    };
    let (answer, ()) = tokio::join!(asked, small);
    assert!(answer.expect("answered") == body, "the transfer was damaged");
}

#[tokio::test]
async fn more_than_a_class_carries_is_refused_before_it_is_sent() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::new(Echo)).await);
    a.know(&[&b]);
    let limit = frame::body_limit();
    let ask = |length| {
        let body = Bytes::from(vec![1; length]);
        a.transport.request(&b.transport.shared.local, Service::Call, Class::Lane, body, PATIENCE)
    };
    assert_eq!(ask(limit).await.expect("answered").len(), limit);
    let error = ask(limit + 1).await.expect_err("refused");
    assert!(matches!(error, TransportError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_there_says_so_and_can_come_later() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.node("b").await);
    a.know(&[&b]);
    let error = a.ask("b", b"x").await.expect_err("nobody there");
    assert!(matches!(&error, TransportError::Remote { error: ServeError::NoService, .. }));
    assert!(error.is_retryable());
    b.transport.services().insert(Service::Call, Arc::new(Echo));
    assert_eq!(a.ask("b", b"x").await.expect("answered"), "x");
}

/// Panics, in its call or in its work.
struct Panics;

impl Serve for Panics {
    fn serve(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        assert_ne!(body, "now", "panic in the call");
        Box::pin(async { panic!("panic in the work") })
    }
}

#[tokio::test]
async fn a_panic_in_a_service_is_an_answer_and_harms_no_other_request() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::new(Panics)).await);
    a.know(&[&b]);
    for body in [b"now".as_slice(), b"later", b"now", b"later"] {
        let error = a.ask("b", body).await.expect_err("panicked");
        let failed =
            matches!(&error, TransportError::Remote { error: ServeError::Failed { .. }, .. });
        assert!(failed, "{error}");
    }
    b.transport.services().insert(Service::Call, Arc::new(Echo));
    assert_eq!(a.ask("b", b"fine").await.expect("answered"), "fine");
}

#[tokio::test]
async fn a_request_ends_by_its_deadline() {
    let realm = Realm::new();
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::<Silent>::default()).await);
    a.know(&[&b]);
    a.linked("b").await;
    let deadline = Duration::from_millis(50);
    let body = Bytes::from_static(b"?");
    let asked = a.transport.request(&id("b"), Service::Call, Class::Lane, body, deadline).await;
    assert!(matches!(asked, Err(TransportError::Deadline { .. })), "{asked:?}");
}

#[tokio::test]
async fn a_peer_that_nobody_knows_is_an_error_at_once() {
    let realm = Realm::new();
    let a = realm.node("a").await;
    let error = a.ask("b", b"?").await.expect_err("unknown");
    assert!(matches!(error, TransportError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn who_asks_faster_than_the_peer_works_waits() {
    let realm = Realm::new();
    let silent = Arc::new(Silent::default());
    let (a, b) = (realm.node("a").await, realm.serving("b", Arc::clone(&silent) as _).await);
    a.know(&[&b]);
    a.linked("b").await;
    let body = Bytes::from(vec![0; 1 << 20]);
    let asks = (0..80).map(|_| {
        let (handle, body) = (a.transport.clone(), body.clone());
        async move {
            let deadline = Duration::from_secs(3);
            handle.request(&id("b"), Service::Call, Class::Lane, body, deadline).await
        }
    });
    for answer in futures::future::join_all(asks).await {
        assert!(matches!(answer, Err(TransportError::Deadline { .. })), "{answer:?}");
    }
    let (started, most) = (silent.asked.load(Ordering::SeqCst), settings::WORK_BYTES >> 20);
    assert!((1..=most).contains(&started), "{started} of 80 were started, at most {most} may be");
}
