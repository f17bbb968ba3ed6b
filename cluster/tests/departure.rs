//! Nodes that leave their cluster: by their own word, by another's, and while they are down.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::departure::LeaveError;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, Kind};
use odeum_cluster::node::{ClusterNode, Entry, NodeError};
use odeum_cluster::transport::pki::Authority;
use odeum_proto::{EntityId, NodeId, store::Refusal};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

const SHARDS: NonZeroU16 = NonZeroU16::new(16).unwrap();

/// Asks a lamp where it is.
#[derive(Debug, Serialize, Deserialize)]
struct Where;

impl EntityMessage for Where {
    type Reply = NodeId;
}

struct Lamp;

impl Entity for Lamp {
    type Message = Where;

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        _: Where,
    ) -> Result<NodeId, ActorError> {
        Ok(ctx.node().clone())
    }
}

fn id(name: &str) -> NodeId {
    name.parse().expect("valid")
}

struct Realm {
    dir: TempDir,
    authority: Authority,
}

impl Realm {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let authority = Authority::create(dir.path()).expect("authority");
        Self { dir, authority }
    }

    /// Starts a node on its folder, new or old.
    async fn start(&self, name: &str, by: Option<&RunningNode>) -> Result<RunningNode, NodeError> {
        let certs = self.dir.path().join(format!("{name}-certs"));
        if !certs.exists() {
            self.authority.issue(&id(name), &certs).expect("certificate");
        }
        ClusterNode::builder(id(name))
            .data_dir(self.dir.path().join(name))
            .certs(certs)
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .join(by.map(|node| node.addr().to_string()))
            .kind(Kind::new("lamp".parse().expect("valid"), |_| Lamp).shards(SHARDS))
            .start()
            .await
    }

    async fn three(&self) -> [RunningNode; 3] {
        let first = self.start("n1", None).await.expect("founds");
        let second = self.start("n2", Some(&first)).await.expect("joins");
        let third = self.start("n3", Some(&first)).await.expect("joins");
        [first, second, third]
    }
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect(what)
}

fn knows(node: &RunningNode, name: &str) -> bool {
    node.cluster().store.view(|state| state.nodes().contains_key(&id(name)))
}

fn shards_on(node: &RunningNode, name: &str) -> usize {
    let name = id(name);
    node.cluster()
        .store
        .view(|state| state.kinds().values().map(|kind| kind.shards_of(&name).count()).sum())
}

/// Asks every of some lamps where it is.
async fn lamps_are_on(node: &RunningNode) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    for n in 0..24 {
        let lamp = node.entity::<Where>(format!("lamp/{n}").parse::<EntityId>().expect("valid"));
        nodes.push(lamp.ask(Where, PATIENCE).await.expect("answers"));
    }
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_hands_over_what_it_has_and_comes_back_only_by_a_member() {
    let realm = Realm::new();
    let [first, second, mut third] = realm.three().await;
    eventually("all have shards", || {
        ["n1", "n2", "n3"].iter().all(|name| shards_on(&first, name) > 0)
    })
    .await;
    assert!(lamps_are_on(&first).await.contains(&id("n3")));

    third.leave(PATIENCE).await.expect("leaves");
    eventually("it is off the record", || !knows(&first, "n3") && !knows(&second, "n3")).await;
    assert_eq!(shards_on(&first, "n3"), 0);
    third.shutdown().await;
    assert!(!lamps_are_on(&second).await.contains(&id("n3")));

    let alone = realm.start("n3", None).await.expect_err("it has left");
    assert!(matches!(alone, NodeError::Left { .. }), "{alone}");
    let third = realm.start("n3", Some(&second)).await.expect("its disk is its own");
    assert_eq!(third.entry(), Entry::Joined);
    eventually("it has its share", || shards_on(&first, "n3") > 0).await;
    for node in [first, second, third] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_can_let_any_node_leave_the_leader_too_and_it_learns_of_it() {
    let realm = Realm::new();
    let mut nodes: Vec<_> = realm.three().await.into();
    let leads = |node: &RunningNode| node.cluster().store.status().is_leader();
    let mut leader = nodes.remove(nodes.iter().position(leads).expect("one leads"));
    let name = leader.id().clone();
    let asked = nodes[0].cluster().departure.leave(&name, PATIENCE);
    let (asked, left) = tokio::join!(asked, in_time("it learns of it", leader.left()));
    asked.expect("it leaves");
    left.expect("noted");
    eventually("it is off the record", || !knows(&nodes[1], name.as_str())).await;
    let unknown = nodes[0].cluster().departure.leave(&name, PATIENCE).await;
    assert!(matches!(unknown, Err(LeaveError::Unknown { .. })), "{unknown:?}");
    leader.shutdown().await;
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_while_it_was_down_learns_of_it_when_it_is_back() {
    let realm = Realm::new();
    let [first, second, third] = realm.three().await;
    third.shutdown().await;
    first.cluster().departure.leave(&id("n3"), PATIENCE).await.expect("it is let go");
    let mut third = realm.start("n3", None).await.expect("it does not know yet");
    assert_eq!(third.entry(), Entry::Resumed);
    in_time("it learns of it", third.left()).await.expect("noted");
    third.shutdown().await;
    for node in [first, second] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_node_stays() {
    let realm = Realm::new();
    let mut only = realm.start("n1", None).await.expect("founds");
    let refused = only.leave(PATIENCE).await;
    let reason = Refusal::LosesQuorum { node: id("n1"), others: 0, there: 0 };
    assert!(
        matches!(&refused, Err(NodeError::Leave(LeaveError::Refused(r))) if *r == reason),
        "{refused:?}"
    );
    only.shutdown().await;
}
