//! Replicas in one process over a network that the test cuts.

mod backup;
mod check;
mod faults;
mod leases;
mod members;
mod quic;
mod sessions;
mod supervised;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_actors::{StartError, Supervisor};
use odeum_proto::session::{Commit, DataAction, DataOutcome, Write};
use odeum_proto::shard::group_of_entity;
use odeum_proto::store::{
    Command, FirmwareLimits, FirmwarePolicy, FirmwareSpec, NodeRecord, Outcome, Refusal,
};
use odeum_proto::{
    ClusterId, Digest, DiskId, EntityId, Epoch, GroupId, Incarnation, NodeId, RequestId,
};
use tempfile::TempDir;

use super::rpc::{Purpose, Rpc, RpcError};
use super::{
    Consistency, Health, StoreConfig, StoreError, StoreHandle, StoreStatus, Variable, store,
};

/// Long enough for a machine that builds something beside the tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which nodes run and which are cut off.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<NodeId, StoreHandle>,
    cut: BTreeSet<NodeId>,
    snapshots: usize,
}

impl Net {
    fn wires(&self) -> std::sync::MutexGuard<'_, Wires> {
        self.0.lock().expect("not poisoned")
    }

    fn cut(&self, node: &NodeId) {
        self.wires().cut.insert(node.clone());
    }

    fn heal(&self, node: &NodeId) {
        self.wires().cut.remove(node);
    }
}

/// One node's end of the network.
struct Port {
    net: Net,
    from: NodeId,
}

impl Rpc for Port {
    fn ask(
        &self,
        peer: &NodeId,
        group: GroupId,
        purpose: Purpose,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, RpcError>> {
        let peer = peer.clone();
        let target = {
            let mut wires = self.net.wires();
            let cut = wires.cut.contains(&peer) || wires.cut.contains(&self.from);
            if purpose == Purpose::Snapshot && !cut {
                wires.snapshots += 1;
            }
            (!cut).then(|| wires.nodes.get(&peer).cloned()).flatten()
        };
        Box::pin(async move {
            let Some(target) = target else {
                return Err(RpcError::Unreachable { peer, reason: "cut".into() });
            };
            let answer = async {
                match purpose {
                    Purpose::Forward => target.answer_forward(group, body).await,
                    Purpose::Consensus | Purpose::Snapshot => target.answer_raft(group, body).await,
                }
            };
            let after = deadline;
            tokio::time::timeout(deadline, answer)
                .await
                .map_err(|_| RpcError::Deadline { peer, after })
        })
    }
}

/// A node with its folder, running or not.
struct Node {
    id: NodeId,
    dir: TempDir,
    disk: DiskId,
    incarnation: u64,
    snapshot_every: u64,
    net: Net,
    store: StoreHandle,
    supervisor: Supervisor,
}

impl Node {
    async fn start(net: &Net, id: &str, snapshot_every: u64) -> Self {
        let id: NodeId = id.parse().expect("valid");
        let dir = TempDir::new().expect("made");
        let (store, supervisor) = start(net, &id, &dir, snapshot_every).await.expect("starts");
        let (disk, net) = (DiskId::random(), net.clone());
        Self { id, dir, disk, incarnation: 1, snapshot_every, net, store, supervisor }
    }

    /// A new handle on the old folder, as a new process has it.
    async fn restart(&mut self) {
        self.incarnation += 1;
        let started = start(&self.net, &self.id, &self.dir, self.snapshot_every).await;
        (self.store, self.supervisor) = started.expect("starts");
    }

    async fn stop(&self) {
        self.net.wires().nodes.remove(&self.id);
        self.supervisor.shutdown().await;
    }

    /// Cuts the node off at once, so that its last words reach nobody, and takes its files from
    /// it without any of the goodbyes of an orderly stop reaching the others.
    async fn kill(&self) {
        self.net.cut(&self.id);
        self.stop().await;
        self.net.heal(&self.id);
    }

    fn record(&self) -> NodeRecord {
        NodeRecord {
            id: self.id.clone(),
            disk: self.disk,
            incarnation: Incarnation(self.incarnation),
            cluster_addr: "127.0.0.1:7071".parse().expect("valid"),
            api_addr: "127.0.0.1:7070".parse().expect("valid"),
            version: "0.1.0".into(),
            kinds: BTreeMap::new(),
            labels: BTreeMap::new(),
            zone: None,
            capacity: NodeRecord::CAPACITY,
        }
    }

    async fn write(&self, command: Command) -> Outcome {
        self.store.write(command, PATIENCE).await.expect("written")
    }

    async fn commit(&self, command: DataAction) -> DataOutcome {
        self.store.write_data(group(), command, PATIENCE).await.expect("written")
    }

    /// Waits until this node has every acknowledged commit of the counter.
    async fn barrier(&self) {
        let fresh = self.store.barrier_of(group(), Consistency::Linearizable, PATIENCE).await;
        fresh.expect("a majority is there");
    }

    /// How the group of the counter is doing.
    fn status(&self) -> StoreStatus {
        self.store.status_of(group())
    }

    fn count(&self) -> u64 {
        self.store.view_data(group(), |data| {
            let session = data.sessions().get("counter/default");
            let variable = session.and_then(|session| session.variables().get("count"));
            variable.map_or(0, Variable::version)
        })
    }
}

/// A new process on the folder.
async fn start(
    net: &Net,
    id: &NodeId,
    dir: &TempDir,
    snapshot_every: u64,
) -> Result<(StoreHandle, Supervisor), StartError> {
    let config =
        StoreConfig { snapshot_every, ..StoreConfig::new(dir.path().join("store"), id.clone()) };
    let port = Port { net: net.clone(), from: id.clone() };
    let (store, spec) = store(config, Arc::new(port));
    let supervisor = spec.start().await?;
    net.wires().nodes.insert(id.clone(), store.clone());
    Ok((store, supervisor))
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn entity() -> EntityId {
    "firmware/counter".parse().expect("valid")
}

/// The group of the counter's sessions.
fn group() -> GroupId {
    group_of_entity(&entity(), StoreConfig::GROUPS)
}

/// Deploys the counter on `node` and places it there.
async fn deploy(node: &Node) -> Epoch {
    let spec = FirmwareSpec {
        name: "counter".parse().expect("valid"),
        digest: Digest::of(b"counter"),
        size: 7,
        limits: FirmwareLimits { memory_bytes: 1 << 20, message_time: Duration::from_secs(1) },
        policy: FirmwarePolicy::default(),
        replicas: 1,
    };
    node.write(Command::PutFirmware(spec)).await;
    let place = Command::Place { entity: entity(), node: node.id.clone(), expected: None };
    match node.write(place).await {
        Outcome::Placed { epoch, .. } => epoch,
        other => panic!("not placed: {other:?}"),
    }
}

fn count(request: &str, epoch: Epoch) -> DataAction {
    DataAction::Commit(Commit {
        entity: entity(),
        epoch,
        request: request.parse().expect("valid"),
        session: "counter/default".parse().expect("valid"),
        writes: vec![Write::Set { key: "count".into(), value: request.as_bytes().to_vec() }],
        reply: request.as_bytes().to_vec(),
        carried: Vec::new(),
    })
}

/// Three founded and admitted nodes, all of them voters.
async fn three(net: &Net, snapshot_every: u64) -> [Node; 3] {
    let nodes = [
        Node::start(net, "n1", snapshot_every).await,
        Node::start(net, "n2", snapshot_every).await,
        Node::start(net, "n3", snapshot_every).await,
    ];
    let [first, second, third] = &nodes;
    first.store.found(ClusterId::random(), first.record()).await.expect("founded");
    // Concurrently, and one of them through a node that may not lead.
    let (a, b) = tokio::join!(
        first.store.admit(second.record(), PATIENCE),
        first.store.admit(third.record(), PATIENCE),
    );
    a.expect("admitted");
    b.expect("admitted");
    let all_vote = |status: StoreStatus| {
        status.leader.is_some() && status.members.iter().filter(|member| member.voter).count() == 3
    };
    let whole = || {
        nodes.iter().map(|node| node.store.statuses()).all(|groups| {
            // One that a node has not heard of yet follows nobody.
            groups.len() > usize::from(StoreConfig::GROUPS) && groups.into_iter().all(all_vote)
        })
    };
    eventually("the groups of sessions follow", whole).await;
    nodes
}

/// Who leads the group of the counter.
fn leader(nodes: &[Node]) -> Option<&Node> {
    nodes.iter().find(|node| node.status().is_leader())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_founds_writes_and_has_all_of_it_after_a_restart() {
    let net = Net::default();
    let mut node = Node::start(&net, "n1", 10_000).await;
    assert!(matches!(
        node.store.write(Command::RemoveNode { node: node.id.clone() }, PATIENCE).await,
        Err(StoreError::NotMember { .. })
    ));
    assert_eq!(node.store.status().health, Health::NotMember);
    let cluster = ClusterId::random();
    node.store.found(cluster, node.record()).await.expect("founded");
    let epoch = deploy(&node).await;
    for n in 0..20 {
        assert!(matches!(
            node.commit(count(&format!("r{n}"), epoch)).await,
            DataOutcome::Applied { .. }
        ));
    }
    node.stop().await;
    let restarted = Instant::now();
    node.restart().await;
    node.barrier().await;
    println!("single node serves {:?} after its restart", restarted.elapsed());
    assert_eq!(node.count(), 20);
    assert_eq!(node.store.view(super::State::cluster), Some(cluster));
    let replayed = node.commit(count("r7", epoch)).await;
    assert_eq!(replayed, DataOutcome::Replayed { reply: Some(b"r7".to_vec()) });
    // Founding it again is harmless, another cluster on the same folder is refused.
    node.store.found(cluster, node.record()).await.expect("founded already");
    let other = node.store.found(ClusterId::random(), node.record()).await;
    assert!(matches!(other, Err(StoreError::Refused(Refusal::OtherCluster { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_any_node_is_seen_at_every_node_after_a_barrier() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    for n in 0..30 {
        let writer = &nodes[n % 3];
        writer.commit(count(&format!("r{n}"), epoch)).await;
        assert_eq!(writer.count() as usize, n + 1, "a writer sees its own write");
        let reader = &nodes[(n + 1) % 3];
        reader.barrier().await;
        assert_eq!(reader.count() as usize, n + 1);
    }
    let status = nodes[1].status();
    assert_eq!(status.health, Health::Good);
    assert_eq!(status.members.iter().filter(|member| member.voter).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_within_two_seconds_of_a_leaders_death_and_nothing_is_lost_or_doubled() {
    let net = Net::default();
    let mut nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    for n in 0..10 {
        nodes[0].commit(count(&format!("a{n}"), epoch)).await;
    }
    let dead = nodes.iter().position(|node| node.status().is_leader()).expect("one leads");
    let writer = nodes[(dead + 1) % 3].store.clone();
    // Sent to a leader that dies with it, perhaps before, perhaps after it was committed.
    let in_flight = tokio::spawn({
        let writer = writer.clone();
        async move { writer.write_data(group(), count("in-flight", epoch), PATIENCE).await }
    });
    let died = Instant::now();
    nodes[dead].kill().await;
    in_flight.await.expect("no panic").expect("written after all");
    let gap = died.elapsed();
    assert!(gap < Duration::from_secs(5), "no writes for {gap:?}");
    println!("write gap {gap:?}");
    for n in 0..10 {
        // Each is sent twice, as a caller does who did not see the first answer.
        for _ in 0..2 {
            writer
                .write_data(group(), count(&format!("b{n}"), epoch), PATIENCE)
                .await
                .expect("written");
        }
    }
    nodes[dead].restart().await;
    let record = nodes[dead].record();
    nodes[dead].write(Command::PutNode(record)).await;
    for node in &nodes {
        node.barrier().await;
        assert_eq!(node.count(), 21);
        let incarnation = node.store.view(|state| state.nodes()[&nodes[dead].id].incarnation);
        assert_eq!(incarnation, Incarnation(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_long_catches_up_by_a_snapshot() {
    let net = Net::default();
    let mut nodes = three(&net, 40).await;
    let epoch = deploy(&nodes[0]).await;
    let away = nodes.iter().position(|node| !node.status().is_leader()).expect("two do not lead");
    nodes[away].stop().await;
    let writer = &nodes[(away + 1) % 3];
    for n in 0..200 {
        writer.commit(count(&format!("r{n}"), epoch)).await;
    }
    // Each replica purges by its own snapshots; the leader's log is what the returning one gets.
    let purged = || leader(&nodes).is_some_and(|node| node.status().purged > Some(50));
    eventually("the leader's log is purged", purged).await;
    let sent = net.wires().snapshots;
    nodes[away].restart().await;
    nodes[away].barrier().await;
    assert_eq!(nodes[away].count(), 200);
    assert!(net.wires().snapshots > sent, "it came by entries");
    // And from its own files, snapshot and log.
    nodes[away].stop().await;
    nodes[away].restart().await;
    nodes[away].barrier().await;
    assert_eq!(nodes[away].count(), 200);
    let replayed = nodes[away].commit(count("r7", epoch)).await;
    assert!(matches!(replayed, DataOutcome::Replayed { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_writes_fail_by_their_deadline_and_go_on_when_it_is_back() {
    let net = Net::default();
    let mut nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    nodes[1].stop().await;
    nodes[2].stop().await;
    let deadline = Duration::from_secs(5);
    let started = Instant::now();
    let error = nodes[0]
        .store
        .write_data(group(), count("lost", epoch), deadline)
        .await
        .expect_err("alone");
    assert!(started.elapsed() < deadline + Duration::from_secs(2));
    assert!(matches!(error, StoreError::NoQuorum { .. }), "{error}");
    assert!(error.is_retryable());
    assert_eq!(nodes[0].status().health, Health::NoQuorum);
    assert_eq!(nodes[0].count(), 0, "a local look goes on");
    nodes[1].restart().await;
    nodes[0].commit(count("lost", epoch)).await;
    nodes[0].barrier().await;
    assert_eq!(nodes[0].count(), 1);
    nodes[2].restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_follows_when_it_is_back() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    let old = leader(&nodes).expect("one leads");
    let other = nodes.iter().find(|node| node.id != old.id).expect("two others");
    net.cut(&old.id);
    let alone =
        old.store.write_data(group(), count("alone", epoch), Duration::from_millis(300)).await;
    assert!(alone.is_err(), "acknowledged without a majority");
    assert!(
        old.store
            .barrier_of(group(), Consistency::Linearizable, Duration::from_millis(300))
            .await
            .is_err()
    );
    other.commit(count("majority", epoch)).await;
    net.heal(&old.id);
    old.barrier().await;
    old.commit(count("alone", epoch)).await;
    for node in &nodes {
        node.barrier().await;
        assert_eq!(node.count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_on_another_disk_is_not_admitted() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let thief =
        NodeRecord { disk: DiskId::random(), incarnation: Incarnation(9), ..nodes[1].record() };
    let refused = nodes[2].store.admit(thief, PATIENCE).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::OtherDisk { .. }))), "{refused:?}");
    nodes[2].store.admit(nodes[1].record(), PATIENCE).await.expect("a member already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_counts_no_longer() {
    let net = Net::default();
    let nodes = three(&net, 10_000).await;
    let epoch = deploy(&nodes[0]).await;
    nodes[2].stop().await;
    nodes[0].store.remove_node(&nodes[2].id, PATIENCE).await.expect("removed");
    nodes[0].barrier().await;
    let members: Vec<_> = nodes[0].status().members.into_iter().map(|m| m.node).collect();
    assert_eq!(members, [nodes[0].id.clone(), nodes[1].id.clone()]);
    let again = nodes[1].write(Command::RemoveNode { node: nodes[2].id.clone() }).await;
    assert!(matches!(again, Outcome::Refused(Refusal::UnknownNode { .. })));
    nodes[1].commit(count("r1", epoch)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_on_the_same_folder_is_refused() {
    let net = Net::default();
    let node = Node::start(&net, "n1", 10_000).await;
    let twin = start(&net, &node.id, &node.dir, 10_000).await;
    let error = twin.map(drop).expect_err("the folder is in use");
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_made_once_however_many_writers_retry_them() {
    let net = Net::default();
    let nodes = three(&net, 100).await;
    let epoch = deploy(&nodes[0]).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..60_usize {
        let store = nodes[n % 3].store.clone();
        writers.spawn(async move {
            let request = format!("r{}", n % 20);
            store.write_data(group(), count(&request, epoch), PATIENCE).await
        });
    }
    let outcomes = writers.join_all().await;
    let applied = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(DataOutcome::Applied { .. })))
        .count();
    assert_eq!(applied, 20);
    nodes[1].barrier().await;
    assert_eq!(nodes[1].count(), 20);
    let known: RequestId = "r3".parse().expect("valid");
    assert!(nodes[1].store.view_data(group(), |data| data.remembered(&entity(), &known).is_some()));
}
