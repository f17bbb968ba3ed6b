//! Firmware on a real store of one node, with its log on disk: nothing that was acknowledged is
//! lost or doubled when guests trap and when the node stops and starts again.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream::BoxStream,
};
use odeum_actors::{Strategy, Supervisor, SupervisorSpec};
use odeum_cluster::{
    lease::{Lease, LeaseHandle},
    store::{
        StoreConfig, StoreHandle,
        rpc::{Purpose, Rpc, RpcError},
        store,
    },
};
use odeum_proto::{
    ClusterId, Digest, DiskId, EntityId, Epoch, GroupId, Incarnation, Name, NodeId, ReplicaId,
    RequestId,
    call::{CallError, CallReply, CallRequest},
    store::{
        Command, FirmwareLimits, FirmwarePolicy, FirmwareSpec, NodeRecord, Outcome, RestartBudget,
    },
};
use odeum_runtime::firmware::{
    Activate, Chronicles, Engine, FetchError, FirmwareHandle, FirmwareParts, Grants, HostHandle,
    Launcher, Message, PackageSource, Reach, firmware,
};
use odeum_runtime::package::{build, trust::Trust};
use tokio::sync::watch;

const COUNTER: &[u8] = include_bytes!("../../examples/guests/counter/counter.wasm");

/// Long enough for a machine that builds something beside the tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// There is nobody else.
struct Alone;

impl Rpc for Alone {
    fn ask(
        &self,
        peer: &NodeId,
        _group: GroupId,
        _purpose: Purpose,
        _body: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, RpcError>> {
        let peer = peer.clone();
        Box::pin(async { Err(RpcError::Unreachable { peer, reason: "there is nobody".into() }) })
    }
}

impl PackageSource for Alone {
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, FetchError>> {
        let name = "counter".parse().expect("valid");
        let built = build::of_module(name, COUNTER.into()).expect("a package");
        let file = built.package.file().clone();
        let found = (digest == Digest::of(&file)).then_some(file);
        Box::pin(async { found.ok_or(FetchError::Missing { asked: 0 }) })
    }
}

impl Reach for Alone {
    fn call(&self, message: Message) -> BoxFuture<'static, Result<CallReply, CallError>> {
        Box::pin(async { Err(CallError::NotFound { entity: message.call.entity }) })
    }

    fn handed_over(&self, _: ReplicaId, _: Epoch) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn publish(
        &self,
        _topic: String,
        _payload: Vec<u8>,
    ) -> BoxFuture<'static, Result<(), Box<str>>> {
        Box::pin(async { Ok(()) })
    }

    fn subscribe(
        &self,
        _topic: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, Box<str>>> {
        Box::pin(async { Ok(futures::stream::pending().boxed()) })
    }
}

#[derive(Default)]
struct Active(Mutex<Option<HostHandle>>);

impl Activate for Active {
    fn activate(&self, _entity: EntityId, _epoch: Epoch, host: HostHandle) {
        *self.0.lock().expect("not poisoned") = Some(host);
    }

    fn deactivate(&self, _entity: &EntityId, _epoch: Epoch) {
        *self.0.lock().expect("not poisoned") = None;
    }
}

struct Node {
    store: StoreHandle,
    firmware: FirmwareHandle,
    active: Arc<Active>,
    root: Supervisor,
    /// Kept, because firmware ends its watch over a lease that nobody keeps.
    _lease: watch::Sender<Lease>,
}

fn entity() -> EntityId {
    "firmware/counter".parse().expect("valid")
}

impl Node {
    async fn start(folder: &Path) -> Self {
        let id: NodeId = "n1".parse().expect("valid");
        let (store, store_spec) =
            store(StoreConfig::new(folder.join("store"), id.clone()), Arc::new(Alone));
        let active = Arc::<Active>::default();
        let until = tokio::time::Instant::now() + 10 * PATIENCE;
        let (lease, held) = watch::channel(Lease::Held { epoch: Epoch(1), until });
        let (firmware, firmware_spec) = firmware(FirmwareParts {
            node: id,
            life: Incarnation(1),
            engine: Engine::new().expect("an engine"),
            source: Arc::new(Alone),
            trust: Trust { allow_unsigned: true, ..Trust::default() },
            ledger: Arc::new(store.clone()),
            activate: Arc::clone(&active) as _,
            lease: LeaseHandle::of(held),
            grants: Grants::default(),
            reach: Arc::new(Alone),
            launcher: Launcher::program(env!("CARGO_BIN_EXE_odeum")),
            chronicles: Chronicles::default(),
        });
        let root = SupervisorSpec::new("node", Strategy::OneForOne)
            .supervisor(store_spec)
            .supervisor(firmware_spec)
            .start()
            .await
            .expect("starts");
        Self { store, firmware, active, root, _lease: lease }
    }

    async fn deploy(&self) {
        let any = "127.0.0.1:1".parse().expect("valid");
        let record = NodeRecord {
            id: "n1".parse().expect("valid"),
            disk: DiskId::random(),
            incarnation: Incarnation(1),
            cluster_addr: any,
            api_addr: any,
            version: "0".into(),
            kinds: BTreeMap::new(),
            labels: BTreeMap::new(),
            zone: None,
            capacity: NodeRecord::CAPACITY,
        };
        self.store.found(ClusterId::random(), record).await.expect("founds");
        let name: Name = "counter".parse().expect("valid");
        let checked = self.firmware.cache.check(name.clone(), COUNTER.into()).await;
        let package = checked.expect("it can run");
        let limits = FirmwareLimits { memory_bytes: 4 << 20, message_time: Duration::from_secs(1) };
        let (digest, size) = (package.digest, package.file.len() as u64);
        let pause = Duration::from_millis(20);
        let restarts = RestartBudget {
            first_pause: pause,
            longest_pause: pause,
            max_restarts: 1_000,
            per_hour: 1_000,
            ..RestartBudget::default()
        };
        let policy = FirmwarePolicy { restarts, ..FirmwarePolicy::default() };
        let spec = FirmwareSpec { name, digest, size, limits, policy, replicas: 1 };
        let node = "n1".parse().expect("valid");
        for command in
            [Command::PutFirmware(spec), Command::Place { entity: entity(), node, expected: None }]
        {
            let outcome = self.store.write(command, PATIENCE).await.expect("writes");
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
    }

    /// A call with its retries, as the router makes them.
    async fn call(&self, body: &str) -> Result<String, CallError> {
        let request = RequestId::random();
        let end = Instant::now() + PATIENCE;
        loop {
            let host = self.active.0.lock().expect("not poisoned").clone();
            let call = CallRequest {
                entity: entity(),
                request: request.clone(),
                session: None,
                body: body.as_bytes().to_vec(),
                remaining: PATIENCE,
            };
            let result = match host {
                Some(host) => host.deliver(call).await,
                None => Err(CallError::Unavailable { entity: entity(), reason: "starting".into() }),
            };
            match result {
                Err(error) if error.is_retryable() && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => {
                    return other.map(|reply| String::from_utf8(reply.body).expect("text"));
                }
            }
        }
    }

    async fn count(&self) -> u64 {
        self.call("get").await.expect("replies").parse().expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_count_is_there_once_though_the_guest_keeps_trapping() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path()).await;
    node.deploy().await;
    let counting = join_all((0..20).map(|_| async {
        for _ in 0..10 {
            node.call("add 1").await.expect("counts");
        }
    }));
    let trapping = async {
        for _ in 0..10 {
            let trapped = node.call("trap").await.expect_err("traps");
            assert!(matches!(trapped, CallError::Trapped { .. }), "{trapped:?}");
        }
    };
    tokio::join!(counting, trapping);
    assert_eq!(node.count().await, 200);
    node.root.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_goes_on_after_the_node_was_stopped_and_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path()).await;
    node.deploy().await;
    for _ in 0..3 {
        node.call("add 1").await.expect("counts");
    }
    node.root.shutdown().await;
    assert!(node.active.0.lock().expect("not poisoned").is_none(), "it said goodbye");
    drop(node);
    let node = Node::start(folder.path()).await;
    assert_eq!(node.call("add 1").await.expect("counts"), "4");
    node.root.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_shows_the_host_under_the_firmware_supervisor() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path()).await;
    node.deploy().await;
    node.count().await;
    let drawn = node.root.tree().await.to_string();
    let names =
        ["FirmwareSupervisor", "PackageCache", "Hosts", "counter", "Host counter", "Coordinator"];
    let places: Vec<_> = names.iter().map(|name| drawn.find(&format!("─ {name} "))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{drawn}");
    node.root.shutdown().await;
}
