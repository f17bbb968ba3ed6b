//! Topics between three nodes over real links on loopback.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use std::time::{Duration, Instant};

use odeum_actors::{Strategy, Supervisor, SupervisorSpec};
use odeum_cluster::membership::{MembershipConfig, MembershipHandle, membership};
use odeum_cluster::topic::{Reach, Subscription, SubscriptionError, Topic, TopicsHandle, topics};
use odeum_cluster::transport::pki::Authority;
use odeum_cluster::transport::{self, Services, TransportConfig, TransportHandle};
use odeum_proto::{Incarnation, NodeId};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

fn id(name: &str) -> NodeId {
    name.parse().expect("valid")
}

/// A node with its links, its failure detector and its topics.
struct Node {
    transport: TransportHandle,
    membership: MembershipHandle,
    topics: TopicsHandle,
    root: Supervisor,
}

impl Node {
    async fn start(realm: &TempDir, name: &str, life: u64, listen: &str) -> Self {
        let certs = realm.path().join(name);
        let listen = listen.parse().expect("an address");
        let config = TransportConfig::new(id(name), Incarnation(life), listen, certs);
        let (transport, links) = transport::start(config, Services::default()).expect("starts");
        let (membership, detector) = membership(MembershipConfig::default(), transport.clone());
        let (topics, spread) = topics(transport.clone(), membership.live());
        let root = SupervisorSpec::new("node", Strategy::RestForOne)
            .supervisor(links)
            .child(detector)
            .child(spread)
            .start()
            .await
            .expect("starts");
        Self { transport, membership, topics, root }
    }

    fn addr(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    fn numbers(&self, topic: &str) -> Topic<u32> {
        self.topics.topic(topic).expect("a name")
    }

    /// Waits until it is linked to `peers` and all of them are live.
    async fn meets(&self, peers: &[&str]) {
        let (mut links, mut live) = (self.transport.links(), self.membership.live());
        let met = async {
            links
                .wait_for(|links| peers.iter().all(|peer| links.contains_key(&id(peer))))
                .await
                .expect("runs");
            live.wait_for(|live| peers.iter().all(|peer| live.is_live(&id(peer))))
                .await
                .expect("runs");
        };
        tokio::time::timeout(PATIENCE, met).await.expect("in time");
    }
}

fn realm(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let authority = Authority::create(dir.path()).expect("authority");
    for name in names {
        authority.issue(&id(name), &dir.path().join(name)).expect("certificate");
    }
    dir
}

/// Nodes that are linked, each with each.
async fn cluster<const N: usize>(realm: &TempDir, names: [&str; N]) -> [Node; N] {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(Node::start(realm, name, 1, "127.0.0.1:0").await);
    }
    introduce(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.try_into().map_err(|_| "as many as names").expect("as many as names")
}

async fn introduce(nodes: &[&Node]) {
    let book: BTreeMap<_, _> =
        nodes.iter().map(|node| (node.transport.local().clone(), node.addr())).collect();
    for node in nodes {
        node.transport.set_peers(book.clone());
    }
    let names: Vec<_> = book.keys().map(NodeId::as_str).collect();
    for node in nodes {
        let local = node.transport.local().as_str();
        let others: Vec<_> = names.iter().copied().filter(|name| *name != local).collect();
        node.meets(&others).await;
    }
}

async fn next(subscription: &mut Subscription<u32>) -> Result<u32, SubscriptionError> {
    let next = tokio::time::timeout(PATIENCE, subscription.next());
    next.await.expect("in time").expect("the node runs")
}

#[tokio::test]
async fn a_message_reaches_every_subscriber_on_every_node_and_no_other_node() {
    let realm = realm(&["a", "b", "c"]);
    let [a, b, c] = cluster(&realm, ["a", "b", "c"]).await;
    let mut subscriptions = vec![
        a.numbers("news").subscribe().await.expect("subscribes"),
        b.numbers("news").subscribe().await.expect("subscribes"),
        b.numbers("news").subscribe().await.expect("subscribes"),
    ];
    let mut other = c.numbers("other").subscribe().await.expect("subscribes");
    let published = a.numbers("news").publish(&7).await.expect("published");
    assert_eq!(published, Reach { subscribers: 1, nodes: 1, lagging: 0 });
    let published = c.numbers("news").publish(&8).await.expect("published");
    assert_eq!(published, Reach { subscribers: 0, nodes: 2, lagging: 0 });
    for subscription in &mut subscriptions {
        let mut got = [next(subscription).await, next(subscription).await];
        got.sort_by_key(|got| got.clone().expect("a message"));
        assert_eq!(got, [Ok(7), Ok(8)]);
    }
    b.numbers("other").publish(&9).await.expect("published");
    assert_eq!(next(&mut other).await, Ok(9));
}

#[tokio::test]
async fn a_topic_that_nobody_wants_any_more_is_not_sent() {
    let realm = realm(&["a", "b"]);
    let [a, b] = cluster(&realm, ["a", "b"]).await;
    let subscription = b.numbers("news").subscribe().await.expect("subscribes");
    assert_eq!(a.numbers("news").publish(&1).await.expect("published").nodes, 1);
    drop(subscription);
    let start = Instant::now();
    while a.numbers("news").publish(&2).await.expect("published").nodes > 0 {
        assert!(start.elapsed() < PATIENCE, "the end of the interest is not told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_each_publisher_arrive_in_order_and_whole() {
    const MESSAGES: u32 = 5_000;
    let realm = realm(&["a", "b", "c"]);
    let [a, b, c] = cluster(&realm, ["a", "b", "c"]).await;
    let bound = 2 * MESSAGES as usize;
    let mut subscription = c.numbers("news").subscribe_with(bound).await.expect("subscribes");
    // Even numbers are of one publisher, odd ones of the other.
    let publish = |node: &Node, parity| {
        let topic = node.numbers("news");
        tokio::spawn(async move {
            for n in 0..MESSAGES {
                topic.publish(&(2 * n + parity)).await.expect("published");
            }
        })
    };
    let (evens, odds) = (publish(&a, 0), publish(&b, 1));
    let (mut even, mut odd) = (0, 1);
    for _ in 0..2 * MESSAGES {
        let got = next(&mut subscription).await.expect("nothing is missed");
        let expected = if got % 2 == 0 { &mut even } else { &mut odd };
        assert_eq!(got, *expected);
        *expected += 2;
    }
    evens.await.expect("published");
    odds.await.expect("published");
}

#[tokio::test]
async fn a_slow_subscriber_learns_what_it_missed_and_holds_up_nobody() {
    let realm = realm(&["a", "b"]);
    let [a, b] = cluster(&realm, ["a", "b"]).await;
    let mut slow = b.numbers("news").subscribe_with(10).await.expect("subscribes");
    let mut quick = b.numbers("news").subscribe().await.expect("subscribes");
    let topic = a.numbers("news");
    for n in 0..500 {
        assert_eq!(topic.publish(&n).await.expect("published").lagging, 0);
    }
    for n in 0..500 {
        assert_eq!(next(&mut quick).await, Ok(n));
    }
    assert_eq!(next(&mut slow).await, Err(SubscriptionError::Missed { count: 490 }));
    for n in 490..500 {
        assert_eq!(next(&mut slow).await, Ok(n));
    }
}

#[tokio::test]
async fn a_broadcast_reaches_nodes_whatever_is_known_of_them() {
    let realm = realm(&["a", "b", "c"]);
    let [a, b, c] = cluster(&realm, ["a", "b", "c"]).await;
    // The future that would wait until `a` knows is dropped at its first turn.
    let topic = b.numbers("news");
    let mut subscription = Box::pin(topic.subscribe());
    let first = futures::poll!(&mut subscription);
    let reached = a.numbers("news").broadcast(&5).await.expect("published");
    assert_eq!(reached.nodes, 2);
    let mut subscription = match first {
        std::task::Poll::Ready(subscription) => subscription.expect("subscribes"),
        std::task::Poll::Pending => subscription.await.expect("subscribes"),
    };
    assert_eq!(next(&mut subscription).await, Ok(5));
    drop(c);
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_again_with_its_new_subscriptions() {
    let realm = realm(&["a", "b"]);
    let [a, b] = cluster(&realm, ["a", "b"]).await;
    let old = b.numbers("old").subscribe().await.expect("subscribes");
    let mut at_a = a.numbers("news").subscribe().await.expect("subscribes");
    assert_eq!(a.numbers("old").publish(&1).await.expect("published").nodes, 1);
    let listen = b.addr().to_string();
    b.root.shutdown().await;
    drop((old, b));

    let b = Node::start(&realm, "b", 2, &listen).await;
    introduce(&[&a, &b]).await;
    let mut at_b = b.numbers("news").subscribe().await.expect("subscribes");
    let start = Instant::now();
    while b.numbers("news").publish(&0).await.expect("published").nodes == 0 {
        assert!(start.elapsed() < PATIENCE, "b does not learn what a wants");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(next(&mut at_a).await, Ok(0));
    assert_eq!(a.numbers("old").publish(&2).await.expect("published").nodes, 0);
    assert_eq!(a.numbers("news").publish(&3).await.expect("published").nodes, 1);
    while next(&mut at_b).await != Ok(3) {}
}

#[tokio::test]
async fn a_link_that_is_cut_and_made_anew_loses_nothing_untold() {
    const MESSAGES: u32 = 2_000;
    let realm = realm(&["a", "b"]);
    let [a, b] = cluster(&realm, ["a", "b"]).await;
    let mut subscription = b.numbers("news").subscribe_with(4_096).await.expect("subscribes");
    let topic = a.numbers("news");
    topic.publish(&0).await.expect("published");
    assert_eq!(next(&mut subscription).await, Ok(0));
    let cuts = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            // Closes the link; both still want it.
            let book = a.transport.peers();
            a.transport.set_peers(BTreeMap::from([(id("nobody"), ([127, 0, 0, 1], 1).into())]));
            a.transport.set_peers(BTreeMap::clone(&book));
        }
    };
    let publish = async {
        for n in 1..=MESSAGES {
            topic.publish(&n).await.expect("published");
            if n % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    tokio::join!(cuts, publish);
    let mut accounted = 0;
    while accounted < MESSAGES {
        match next(&mut subscription).await {
            Ok(n) => {
                assert_eq!(n, accounted + 1, "in order, and every gap is told");
                accounted = n;
            }
            Err(SubscriptionError::Missed { count }) => {
                accounted += u32::try_from(count).expect("few");
            }
            Err(error) => unreachable!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_message_of_another_type_is_an_error_in_its_place() {
    let realm = realm(&["a"]);
    let [a] = cluster(&realm, ["a"]).await;
    let mut subscription = a.numbers("news").subscribe().await.expect("subscribes");
    let other: Topic<Vec<String>> = a.topics.topic("news").expect("a name");
    other.publish(&vec!["no number".to_owned()]).await.expect("published");
    a.numbers("news").publish(&1).await.expect("published");
    let odd = next(&mut subscription).await;
    assert!(matches!(odd, Err(SubscriptionError::Undecodable(_))), "{odd:?}");
    assert_eq!(next(&mut subscription).await, Ok(1));
}

#[tokio::test]
async fn a_subscription_ends_with_its_node() {
    let realm = realm(&["a"]);
    let [a] = cluster(&realm, ["a"]).await;
    let topic = a.numbers("news");
    let mut subscription = topic.subscribe().await.expect("subscribes");
    let Node { root, .. } = a;
    root.shutdown().await;
    drop(root);
    let ended = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("in time");
    assert_eq!(ended, None);
    assert!(topic.subscribe().await.is_err());
}
