//! Hosts as a node has them, with a store in memory that answers at once: what is measured is the
//! hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use odeum_actors::Supervisor;
use odeum_cluster::lease::{Lease, LeaseHandle};
use odeum_cluster::store::{Remembered, StoreError};
use odeum_proto::call::{CallError, CallReply, CallRequest};
use odeum_proto::session::{Commit, DataOutcome};
use odeum_proto::store::{
    FirmwareLimits, FirmwarePolicy, FirmwareSpec, Outcome, Placement, RestartBudget,
};
use odeum_proto::{
    Digest, EntityId, Epoch, Incarnation, Name, NodeId, ReplicaId, RequestId, Revision, SessionId,
};
use odeum_runtime::firmware::{
    Activate, Chronicles, Engine, FetchError, FirmwareHandle, FirmwareParts, Grants, HostHandle,
    Launcher, Ledger, Message, PackageSource, Reach, Wanted, firmware,
};
use odeum_runtime::package::{Package, trust::Trust};
use tokio::sync::watch;

use super::runs;

/// Longest wait for a guest that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a state is looked at: short beside what is measured by it.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// The lease outlasts the comparison.
const LEASE: Duration = Duration::from_secs(36_000);

/// The only epoch there is.
const EPOCH: Epoch = Epoch(1);

/// A node's firmware.
pub(super) struct Desk {
    shelf: Arc<Shelf>,
    handle: FirmwareHandle,
    root: Supervisor,
    /// Kept, because firmware ends its watch over a lease that nobody keeps.
    _lease: watch::Sender<Lease>,
}

/// What is deployed, and what runs.
struct Shelf {
    deployed: Mutex<BTreeMap<Name, FirmwareSpec>>,
    packages: Mutex<BTreeMap<Digest, Bytes>>,
    active: Mutex<BTreeMap<EntityId, HostHandle>>,
    revision: watch::Sender<Revision>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(super) async fn open() -> anyhow::Result<Self> {
        let shelf = Arc::new(Shelf {
            deployed: Mutex::default(),
            packages: Mutex::default(),
            active: Mutex::default(),
            revision: watch::Sender::new(Revision(0)),
        });
        let until = tokio::time::Instant::now() + LEASE;
        let (lease, held) = watch::channel(Lease::Held { epoch: EPOCH, until });
        let (handle, spec) = firmware(FirmwareParts {
            node: "n1".parse()?,
            life: Incarnation(1),
            engine: Engine::new()?,
            source: Arc::clone(&shelf) as _,
            trust: Trust { allow_unsigned: true, ..Trust::default() },
            ledger: Arc::clone(&shelf) as _,
            activate: Arc::clone(&shelf) as _,
            lease: LeaseHandle::of(held),
            grants: Grants::default(),
            reach: Arc::clone(&shelf) as _,
            launcher: Launcher::this_executable(),
            chronicles: Chronicles::default(),
        });
        let root = spec.start().await?;
        Ok(Self { shelf, handle, root, _lease: lease })
    }

    pub(super) async fn close(self) {
        self.root.shutdown().await;
    }

    /// Deploys a guest and waits until it takes messages.
    pub(super) async fn deploy(&self, name: &str, package: &Package) -> anyhow::Result<HostHandle> {
        self.put(name, package)?;
        let entity = EntityId::firmware(name.parse()?);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(host) = locked(&self.shelf.active).get(&entity).cloned() {
                return Ok(host);
            }
            anyhow::ensure!(Instant::now() < end, "{name} does not run");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Deploys a job and waits until it runs.
    pub(super) async fn deploy_job(&self, name: &str, package: &Package) -> anyhow::Result<()> {
        self.put(name, package)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let all = self.handle.coordinator.list().await?;
            if all.iter().any(|it| it.name.firmware().as_str() == name && runs(it.state)) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "{name} does not run");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The process that a guest runs in, once it is ready and not `former`.
    pub(super) async fn process(&self, name: &str, former: Option<u32>) -> anyhow::Result<u32> {
        let end = Instant::now() + PATIENCE;
        loop {
            let all = self.handle.coordinator.list().await?;
            let ready = all.iter().find(|it| it.name.firmware().as_str() == name && runs(it.state));
            if let Some(pid) = ready.and_then(|it| it.pid).filter(|pid| Some(*pid) != former) {
                return Ok(pid);
            }
            anyhow::ensure!(Instant::now() < end, "{name} has no process");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn put(&self, name: &str, package: &Package) -> anyhow::Result<()> {
        let digest = Digest::of(package.file());
        locked(&self.shelf.packages).insert(digest, package.file().clone());
        let at_once = RestartBudget {
            first_pause: Duration::ZERO,
            longest_pause: Duration::ZERO,
            max_restarts: 1_000_000,
            per_hour: 1_000_000,
            ..RestartBudget::default()
        };
        let spec = FirmwareSpec {
            name: name.parse()?,
            digest,
            size: package.file().len() as u64,
            limits: FirmwareLimits {
                memory_bytes: 64 << 20,
                message_time: Duration::from_secs(60),
            },
            policy: FirmwarePolicy { restarts: at_once, ..FirmwarePolicy::default() },
            replicas: 1,
        };
        locked(&self.shelf.deployed).insert(spec.name.clone(), spec);
        self.shelf.revision.send_modify(|revision| *revision = revision.next());
        Ok(())
    }
}

/// Nanoseconds of a message to a host and its reply. Asked by a task, as callers are: the thread that
/// waits for the whole is none of those that tasks run on.
pub(super) async fn messages(host: &HostHandle, count: u64) -> anyhow::Result<f64> {
    let host = host.clone();
    let asked = tokio::spawn(async move {
        let began = Instant::now();
        for _ in 0..count {
            message(&host).await?;
        }
        Ok(began.elapsed().as_nanos() as f64 / count as f64)
    });
    asked.await?
}

pub(super) async fn message(host: &HostHandle) -> anyhow::Result<()> {
    let call = CallRequest {
        entity: EntityId::firmware("echo".parse()?),
        request: RequestId::random(),
        session: None,
        body: b"hello".to_vec(),
        remaining: PATIENCE,
    };
    let reply = host.deliver(call).await?;
    anyhow::ensure!(reply.body == b"hello", "another reply");
    Ok(())
}

impl Activate for Shelf {
    fn activate(&self, entity: EntityId, _epoch: Epoch, host: HostHandle) {
        locked(&self.active).insert(entity, host);
    }

    fn deactivate(&self, entity: &EntityId, _epoch: Epoch) {
        locked(&self.active).remove(entity);
    }
}

impl PackageSource for Shelf {
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, FetchError>> {
        let found = locked(&self.packages).get(&digest).cloned();
        Box::pin(async move { found.ok_or(FetchError::Missing { asked: 0 }) })
    }
}

/// Nobody calls anybody here.
impl Reach for Shelf {
    fn call(&self, message: Message) -> BoxFuture<'static, Result<CallReply, CallError>> {
        Box::pin(async move { Err(CallError::NotFound { entity: message.call.entity }) })
    }

    fn handed_over(&self, _: ReplicaId, _: Epoch) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn publish(&self, _: String, _: Vec<u8>) -> BoxFuture<'static, Result<(), Box<str>>> {
        Box::pin(async { Ok(()) })
    }

    fn subscribe(
        &self,
        _: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, Box<str>>> {
        Box::pin(async { Err("there are no topics".into()) })
    }
}

impl Shelf {
    fn applied(&self) -> Outcome {
        Outcome::Applied { revision: *self.revision.borrow() }
    }

    fn changed(&self) -> DataOutcome {
        DataOutcome::Applied { revision: *self.revision.borrow() }
    }
}

impl Ledger for Shelf {
    fn wanted(&self, _node: &NodeId, _life: Incarnation) -> Vec<Wanted> {
        let deployed = locked(&self.deployed);
        let wanted = |spec: &FirmwareSpec| Wanted {
            replica: ReplicaId::first(spec.name.clone()),
            spec: Arc::new(spec.clone()),
            epoch: Some(EPOCH),
            former: None,
        };
        deployed.values().map(wanted).collect()
    }

    fn wanted_of(&self, replica: &ReplicaId, node: &NodeId, life: Incarnation) -> Option<Wanted> {
        self.wanted(node, life).into_iter().find(|wanted| wanted.replica == *replica)
    }

    fn layout(&self) -> Revision {
        *self.revision.borrow()
    }

    fn epoch(&self, _entity: &EntityId) -> Option<Epoch> {
        Some(EPOCH)
    }

    fn placement(&self, _entity: &EntityId) -> Option<Placement> {
        None
    }

    fn moved_from(&self, _entity: &EntityId, _epoch: Epoch) -> Option<Epoch> {
        None
    }

    fn variable(&self, _session: &SessionId, _key: &str) -> Option<Vec<u8>> {
        None
    }

    fn remembered(&self, _entity: &EntityId, _request: &RequestId) -> Option<Remembered> {
        None
    }

    fn changes(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    fn fence(
        &self,
        _entity: &EntityId,
        _epoch: Epoch,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>> {
        Box::pin(async { Ok(self.changed()) })
    }

    fn confirm(
        &self,
        _entity: &EntityId,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Option<Epoch>, StoreError>> {
        Box::pin(async { Ok(Some(EPOCH)) })
    }

    fn known(&self, _entity: &EntityId) -> Option<Revision> {
        Some(*self.revision.borrow())
    }

    fn commit(
        &self,
        _commit: Commit,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>> {
        Box::pin(async { Ok(self.changed()) })
    }

    fn renew(
        &self,
        _entity: &EntityId,
        _node: &NodeId,
        _epoch: Epoch,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async { Ok(self.applied()) })
    }

    fn roll_back(
        &self,
        _name: &Name,
        _failed: Digest,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async { Ok(self.applied()) })
    }

    fn settle(
        &self,
        _replica: &ReplicaId,
        _kept: Digest,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async { Ok(self.applied()) })
    }
}
