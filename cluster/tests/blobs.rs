//! Blobs across three nodes: kept, found, repaired, given away and forgotten.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use odeum_cluster::blobs::{BlobError, BlobsConfig};
use odeum_cluster::builder::RunningNode;
use odeum_cluster::departure::LeaveError;
use odeum_cluster::node::{ClusterNode, NodeError::Leave};
use odeum_cluster::transport::pki::Authority;
use odeum_proto::{BlobOwner, Digest, NodeId};
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn id(name: &str) -> NodeId {
    name.parse().expect("valid")
}

fn owner(name: &str) -> BlobOwner {
    name.parse().expect("valid")
}

/// Some bytes that no other number gives.
fn bytes(number: u8) -> Bytes {
    vec![number; 300_000].into()
}

struct Realm {
    dir: TempDir,
    authority: Authority,
    config: BlobsConfig,
}

impl Realm {
    fn new(config: BlobsConfig) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let authority = Authority::create(dir.path()).expect("authority");
        Self { dir, authority, config }
    }

    /// Starts a node on its folder, new or old.
    async fn start(&self, name: &str, by: Option<&RunningNode>) -> RunningNode {
        let certs = self.dir.path().join(format!("{name}-certs"));
        if !certs.exists() {
            self.authority.issue(&id(name), &certs).expect("certificate");
        }
        ClusterNode::builder(id(name))
            .data_dir(self.dir.path().join(name))
            .certs(certs)
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .join(by.map(|node| node.addr().to_string()))
            .blobs(self.config.clone())
            .start()
            .await
            .expect("starts")
    }

    async fn three(&self) -> Vec<RunningNode> {
        let first = self.start("n1", None).await;
        let second = self.start("n2", Some(&first)).await;
        let third = self.start("n3", Some(&first)).await;
        let nodes = vec![first, second, third];
        eventually("all see all", || {
            nodes.iter().all(|node| node.cluster().membership.now().live().count() == 3)
        })
        .await;
        nodes
    }

    fn file(&self, node: &str, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.path().join(node).join("blobs").join(&name[..2]).join(name)
    }

    /// Whether the bytes of a blob are on a node's disk.
    fn is_whole(&self, node: &str, digest: Digest) -> bool {
        fs::read(self.file(node, digest)).is_ok_and(|bytes| Digest::of(&bytes) == digest)
    }
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn stop(nodes: impl IntoIterator<Item = RunningNode>) {
    for node in nodes {
        node.shutdown().await;
    }
}

fn holders(node: &RunningNode, digest: Digest) -> BTreeSet<NodeId> {
    node.blobs().stat(digest).map(|known| known.holders).unwrap_or_default()
}

fn names(nodes: &[RunningNode]) -> BTreeSet<NodeId> {
    nodes.iter().map(|node| node.id().clone()).collect()
}

/// Takes the node of that name out of `nodes`.
fn take(nodes: &mut Vec<RunningNode>, name: &NodeId) -> RunningNode {
    let at = nodes.iter().position(|node| node.id() == name).expect("it runs");
    nodes.remove(at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_on_two_nodes_read_from_all_and_a_lost_holder_is_replaced() {
    let lost_after = Duration::from_millis(500);
    let realm = Realm::new(BlobsConfig { lost_after, ..BlobsConfig::default() });
    let mut nodes = realm.three().await;
    let mut digests = Vec::new();
    for n in 0..6 {
        let put = nodes[usize::from(n) % 3].blobs().put(bytes(n), owner("test/one")).await;
        digests.push(put.expect("is kept"));
    }
    for (n, digest) in (0..).zip(&digests) {
        let held = holders(&nodes[0], *digest);
        assert_eq!(held.len(), 2);
        assert!(held.iter().all(|node| realm.is_whole(node.as_str(), *digest)));
        for node in &nodes {
            assert_eq!(node.blobs().get(*digest).await.expect("is found"), bytes(n));
        }
    }
    let lost = holders(&nodes[0], digests[0]).pop_last().expect("two");
    take(&mut nodes, &lost).shutdown().await;
    for (n, digest) in (0..).zip(&digests) {
        assert_eq!(nodes[1].blobs().get(*digest).await.expect("is found"), bytes(n));
    }
    let left = names(&nodes);
    for digest in &digests {
        eventually("others hold it", || holders(&nodes[0], *digest) == left).await;
        assert!(left.iter().all(|node| realm.is_whole(node.as_str(), *digest)));
    }
    let back = realm.start(lost.as_str(), Some(&nodes[0])).await;
    nodes.push(back);
    assert_eq!(nodes[2].blobs().get(digests[0]).await.expect("is found"), bytes(0));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_owns_any_more_leaves_the_index_and_all_disks() {
    let soon = Duration::from_millis(300);
    let realm =
        Realm::new(BlobsConfig { unowned_for: soon, stray_for: soon, ..BlobsConfig::default() });
    let nodes = realm.three().await;
    let digest = nodes[0].blobs().put(bytes(1), owner("test/one")).await.expect("is kept");
    let same = nodes[1].blobs().put(bytes(1), owner("test/two")).await.expect("is kept");
    assert_eq!(digest, same);
    let kept = nodes[0].blobs().put(bytes(2), owner("test/one")).await.expect("is kept");
    for node in &nodes {
        node.blobs().get_keeping_copy(digest).await.expect("is found");
    }
    assert!(NAMES.iter().all(|name| realm.is_whole(name, digest)), "each has a copy at least");

    nodes[2].blobs().release(digest, owner("test/one")).await.expect("is noted");
    // Releases of others and of strangers change nothing.
    nodes[2].blobs().release(digest, owner("test/three")).await.expect("is noted");
    assert_eq!(nodes[2].blobs().stat(digest).expect("known").owners.len(), 1);
    nodes[2].blobs().release(digest, owner("test/two")).await.expect("is noted");
    eventually("the index forgets it", || {
        nodes.iter().all(|node| node.blobs().stat(digest).is_none())
    })
    .await;
    eventually("its files are gone", || {
        NAMES.iter().all(|name| !realm.file(name, digest).exists())
    })
    .await;
    let missing = nodes[0].blobs().get(digest).await;
    assert!(matches!(missing, Err(BlobError::Missing { asked: 2, .. })), "{missing:?}");
    assert_eq!(nodes[2].blobs().get(kept).await.expect("is found"), bytes(2));
    assert_eq!(nodes[0].blobs().list(None, 10).len(), 1);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_found_unread_and_fetched_again() {
    let verify_every = Duration::from_millis(200);
    let realm = Realm::new(BlobsConfig { verify_every, ..BlobsConfig::default() });
    let nodes = realm.three().await;
    let digest = nodes[0].blobs().put(bytes(1), owner("test/one")).await.expect("is kept");
    let held = holders(&nodes[0], digest);
    for name in &held {
        fs::write(realm.file(name.as_str(), digest), b"damaged").expect("damages");
        eventually("it is repaired", || realm.is_whole(name.as_str(), digest)).await;
        let aside = realm.dir.path().join(name.as_str()).join("blobs/damaged");
        let aside = aside.join(digest.to_string());
        assert_eq!(fs::read(aside).expect("is set aside"), b"damaged");
    }
    assert_eq!(holders(&nodes[0], digest), held);
    let damaged: u64 = nodes.iter().map(|node| node.blobs().usage().damaged).sum();
    assert_eq!(damaged, 2);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_gives_away_what_it_holds_first() {
    let realm = Realm::new(BlobsConfig::default());
    let mut nodes = realm.three().await;
    let digest = nodes[0].blobs().put(bytes(1), owner("test/one")).await.expect("is kept");
    let leaving = holders(&nodes[0], digest).pop_first().expect("two");
    let mut leaver = take(&mut nodes, &leaving);
    // On a busy machine the leader may miss the others for a moment, and says so.
    while let Err(refused) = leaver.leave(PATIENCE).await {
        let Leave(LeaveError::Refused(_)) = refused else { panic!("{refused}") };
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = names(&nodes);
    for node in &nodes {
        eventually("others hold it", || holders(node, digest) == left).await;
    }
    assert!(left.iter().all(|node| realm.is_whole(node.as_str(), digest)));
    leaver.shutdown().await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_only_node_holds_is_on_two_when_a_second_comes() {
    let realm = Realm::new(BlobsConfig::default());
    let first = realm.start("n1", None).await;
    let digest = first.blobs().put(bytes(1), owner("test/one")).await.expect("is kept");
    assert_eq!(holders(&first, digest), BTreeSet::from([id("n1")]));
    let second = realm.start("n2", Some(&first)).await;
    eventually("both hold it", || holders(&second, digest).len() == 2).await;
    assert!(realm.is_whole("n2", digest));
    stop([second, first]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_does_not_fit_is_refused_with_the_reason_and_put_when_it_does() {
    let realm = Realm::new(BlobsConfig { quota: 500_000, ..BlobsConfig::default() });
    let node = realm.start("n1", None).await;
    let first = node.blobs().put(bytes(1), owner("test/one")).await.expect("is kept");
    let refused = node.blobs().put(bytes(2), owner("test/one")).await;
    let Err(BlobError::TooFew { kept: 0, wanted: 1, reason, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("300000 bytes of the 500000"), "{reason}");
    assert!(node.blobs().stat(Digest::of(&bytes(2))).is_none());
    assert_eq!(node.blobs().get(first).await.expect("is found"), bytes(1));
    let large = node.blobs().put(vec![0; 256 << 20].into(), owner("test/one")).await;
    assert!(matches!(large, Err(BlobError::TooLarge { .. })), "{large:?}");
    stop([node]).await;
}
