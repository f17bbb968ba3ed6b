//! One node's firmware over the real state machine, with a store that fails when it is told to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use odeum_actors::Supervisor;
use odeum_cluster::{
    lease::{Lease, LeaseHandle},
    store::{Data, Remembered, State, StoreError},
};
use odeum_proto::{
    Digest, DiskId, EntityId, Epoch, GroupId, Incarnation, LogTime, Name, NodeId, ReplicaId,
    RequestId, Revision, SessionId,
    call::{CallError, CallReply, CallRequest},
    session::{Commit, DataAction, DataOutcome},
    store::{
        Command, FirmwareLimits, FirmwarePolicy, FirmwareSpec, NodeRecord, Outcome, Placement,
        RestartBudget,
    },
};
use tokio::sync::{broadcast, watch};

use crate::firmware::{
    Activate, Checked, Chronicles, Engine, FetchError, FirmwareHandle, FirmwareParts,
    FirmwareStatus, Grants, HostHandle, HostState, Launcher, Ledger, Message, PackageSource, Reach,
    Wanted, firmware,
};
use crate::package::trust::Trust;

/// Long enough for a machine that builds something beside the tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How the store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Nothing is written, and nobody knows it.
    Lost,
    /// All is written, and nobody knows it.
    InDoubt,
    /// Commits are on their way, and nobody knows it; they are written by [`Shelf::arrive`].
    Late,
    /// As `Late`, and who commits is never answered, not even that it took too long.
    Mute,
}

/// The store of one node: the real state machine, applied at once.
pub(super) struct Shelf {
    inner: Mutex<(State, Data, Mood)>,
    on_the_way: Mutex<Vec<Commit>>,
    revision: watch::Sender<Revision>,
}

impl Shelf {
    fn new() -> Self {
        Self {
            inner: Mutex::new((State::default(), Data::default(), Mood::Well)),
            on_the_way: Mutex::default(),
            revision: watch::Sender::new(Revision(0)),
        }
    }

    pub(super) fn set(&self, mood: Mood) {
        self.inner().2 = mood;
    }

    pub(super) fn apply(&self, command: &Command) -> Outcome {
        let revision = self.revision.borrow().next();
        let outcome = self.inner().0.apply(revision, command);
        self.revision.send_replace(revision);
        outcome
    }

    pub(super) fn change(&self, action: DataAction) -> DataOutcome {
        let revision = self.revision.borrow().next();
        let outcome = self.inner().1.apply(revision, LogTime(revision.0), &action.into());
        self.revision.send_replace(revision);
        outcome
    }

    /// Writes the commits that were on their way.
    pub(super) fn arrive(&self) -> Vec<DataOutcome> {
        let commits = std::mem::take(&mut *self.on_the_way.lock().expect("not poisoned"));
        commits.into_iter().map(|commit| self.change(DataAction::Commit(commit))).collect()
    }

    /// How many commits are on their way.
    pub(super) fn on_the_way(&self) -> usize {
        self.on_the_way.lock().expect("not poisoned").len()
    }

    pub(super) fn view_data<R>(&self, look: impl FnOnce(&Data) -> R) -> R {
        look(&self.inner().1)
    }

    pub(super) fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.inner().0)
    }

    fn inner(&self) -> MutexGuard<'_, (State, Data, Mood)> {
        self.inner.lock().expect("not poisoned")
    }

    fn unwell(&self) -> StoreError {
        StoreError::NoQuorum {
            group: GroupId::Control,
            after: Duration::ZERO,
            reason: "the test says so".into(),
        }
    }
}

impl Ledger for Shelf {
    fn wanted(&self, node: &NodeId, _: Incarnation) -> Vec<Wanted> {
        self.view(|state| {
            let placed = |(replica, spec): (ReplicaId, &Arc<FirmwareSpec>)| {
                let placement = state.placements().get(&replica.entity());
                let epoch = placement.filter(|at| at.node == *node).map(|at| at.epoch);
                let former = state.former_of(&replica).map(|former| former.digest);
                Wanted { replica, spec: spec.clone(), epoch, former }
            };
            state.replicas().map(placed).collect()
        })
    }

    fn wanted_of(&self, replica: &ReplicaId, node: &NodeId, life: Incarnation) -> Option<Wanted> {
        self.wanted(node, life).into_iter().find(|wanted| wanted.replica == *replica)
    }

    fn layout(&self) -> Revision {
        self.view(State::layout)
    }

    fn placement(&self, entity: &EntityId) -> Option<Placement> {
        self.view(|state| state.placements().get(entity).cloned())
    }

    fn moved_from(&self, entity: &EntityId, epoch: Epoch) -> Option<Epoch> {
        self.view(|state| state.moved_from(entity, epoch))
    }

    fn variable(&self, session: &SessionId, key: &str) -> Option<Vec<u8>> {
        self.view_data(|data| {
            Some(data.sessions().get(session)?.variables().get(key)?.value().plain())
        })
    }

    fn remembered(&self, entity: &EntityId, request: &RequestId) -> Option<Remembered> {
        self.view_data(|data| data.remembered(entity, request).cloned())
    }

    fn changes(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    fn fence(
        &self,
        entity: &EntityId,
        epoch: Epoch,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>> {
        let born = |it: ReplicaId| self.view(|state| state.born(it.firmware()));
        let born = entity.replica().and_then(born).unwrap_or_default();
        let fence = DataAction::Fence { entity: entity.clone(), epoch, born };
        let well = self.inner().2 == Mood::Well;
        let result = if well { Ok(self.change(fence)) } else { Err(self.unwell()) };
        Box::pin(async { result })
    }

    fn confirm(
        &self,
        entity: &EntityId,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Option<Epoch>, StoreError>> {
        let mood = self.inner().2;
        let epoch = self.view_data(|data| data.epoch(entity));
        let result = if mood == Mood::Well { Ok(epoch) } else { Err(self.unwell()) };
        Box::pin(async move { result })
    }

    fn known(&self, _entity: &EntityId) -> Option<Revision> {
        Some(*self.revision.borrow())
    }

    fn commit(
        &self,
        commit: Commit,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<DataOutcome, StoreError>> {
        let mood = self.inner().2;
        let outcome = match mood {
            Mood::Well | Mood::InDoubt => Some(self.change(DataAction::Commit(commit))),
            Mood::Lost => None,
            Mood::Late | Mood::Mute => {
                self.on_the_way.lock().expect("not poisoned").push(commit);
                None
            }
        };
        if mood == Mood::Mute {
            return Box::pin(std::future::pending());
        }
        let known = outcome.filter(|_| mood == Mood::Well).ok_or_else(|| self.unwell());
        Box::pin(async { known })
    }

    fn renew(
        &self,
        entity: &EntityId,
        node: &NodeId,
        epoch: Epoch,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        let (entity, node) = (entity.clone(), node.clone());
        let place = Command::Place { entity, node, expected: Some(epoch) };
        let mood = self.inner().2;
        let known = if mood == Mood::Well { Ok(self.apply(&place)) } else { Err(self.unwell()) };
        Box::pin(async { known })
    }

    fn roll_back(
        &self,
        name: &Name,
        failed: Digest,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        let outcome = self.apply(&Command::RollBack { name: name.clone(), failed });
        Box::pin(async { Ok(outcome) })
    }

    fn settle(
        &self,
        replica: &ReplicaId,
        kept: Digest,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        let outcome = self.apply(&Command::Settle { replica: replica.clone(), kept });
        Box::pin(async { Ok(outcome) })
    }
}

/// What other nodes have.
#[derive(Default)]
pub(super) struct Peers {
    packages: Mutex<BTreeMap<Digest, Bytes>>,
    asked: Mutex<usize>,
}

impl Peers {
    pub(super) fn give(&self, digest: Digest, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.packages.lock().expect("not poisoned").insert(digest, bytes);
    }

    pub(super) fn asked(&self) -> usize {
        *self.asked.lock().expect("not poisoned")
    }
}

impl PackageSource for Peers {
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, FetchError>> {
        *self.asked.lock().expect("not poisoned") += 1;
        let found = self.packages.lock().expect("not poisoned").get(&digest).cloned();
        Box::pin(async { found.ok_or(FetchError::Missing { asked: 1 }) })
    }
}

/// What is active, as the router would know it.
pub(super) struct Active(
    Mutex<BTreeMap<EntityId, (Epoch, HostHandle)>>,
    broadcast::Sender<(String, Bytes)>,
);

impl Activate for Active {
    fn activate(&self, entity: EntityId, epoch: Epoch, host: HostHandle) {
        self.0.lock().expect("not poisoned").insert(entity, (epoch, host));
    }

    fn deactivate(&self, entity: &EntityId, epoch: Epoch) {
        let mut active = self.0.lock().expect("not poisoned");
        if active.get(entity).is_some_and(|(is, _)| *is <= epoch) {
            active.remove(entity);
        }
    }
}

/// What guests reach: each other, and topics nobody else is on.
impl Reach for Active {
    fn call(&self, message: Message) -> BoxFuture<'static, Result<CallReply, CallError>> {
        let call = message.call;
        let host = self.0.lock().expect("not poisoned").get(&call.entity).cloned();
        Box::pin(async move {
            match host {
                Some((_, host)) => host.deliver(call).await,
                None => Err(CallError::NotFound { entity: call.entity }),
            }
        })
    }

    fn handed_over(&self, _: ReplicaId, _: Epoch) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn publish(&self, topic: String, payload: Vec<u8>) -> BoxFuture<'static, Result<(), Box<str>>> {
        let _ = self.1.send((topic, payload.into()));
        Box::pin(async { Ok(()) })
    }

    fn subscribe(
        &self,
        topic: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, Box<str>>> {
        let published = self.1.subscribe();
        Box::pin(async move {
            let next = move |(mut published, topic): (broadcast::Receiver<_>, String)| async move {
                loop {
                    let (of, payload) = published.recv().await.ok()?;
                    if of == topic {
                        return Some((payload, (published, topic)));
                    }
                }
            };
            Ok(stream::unfold((published, topic), next).boxed())
        })
    }
}

pub(super) struct Stage {
    pub(super) shelf: Arc<Shelf>,
    pub(super) peers: Arc<Peers>,
    pub(super) active: Arc<Active>,
    pub(super) handle: FirmwareHandle,
    pub(super) root: Supervisor,
    /// The lease of the node.
    pub(super) lease: watch::Sender<Lease>,
    /// Of what is deployed from now on.
    pub(super) policy: Mutex<FirmwarePolicy>,
}

/// A lease that outlasts every test.
pub(super) fn long_lease() -> Lease {
    Lease::Held { epoch: Epoch(1), until: tokio::time::Instant::now() + 10 * PATIENCE }
}

pub(super) fn node() -> NodeId {
    "n1".parse().expect("valid")
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(RestartBudget::default()).await
    }

    pub(super) async fn with(restarts: RestartBudget) -> Self {
        Self::granting(restarts, Grants::default()).await
    }

    pub(super) async fn granting(restarts: RestartBudget, grants: Grants) -> Self {
        let (shelf, peers) = (Arc::new(Shelf::new()), Arc::<Peers>::default());
        let active = Arc::new(Active(Mutex::default(), broadcast::Sender::new(64)));
        for id in ["n1", "n2"] {
            let any = "127.0.0.1:1".parse().expect("valid");
            shelf.apply(&Command::PutNode(NodeRecord {
                id: id.parse().expect("valid"),
                disk: DiskId::random(),
                incarnation: Incarnation(1),
                cluster_addr: any,
                api_addr: any,
                version: "0".into(),
                kinds: BTreeMap::new(),
                labels: BTreeMap::new(),
                zone: None,
                capacity: NodeRecord::CAPACITY,
            }));
        }
        let (lease, held) = watch::channel(long_lease());
        let (handle, spec) = firmware(FirmwareParts {
            node: node(),
            life: Incarnation(1),
            engine: Engine::new().expect("an engine"),
            source: Arc::clone(&peers) as _,
            trust: Trust { allow_unsigned: true, ..Trust::default() },
            ledger: Arc::clone(&shelf) as _,
            activate: Arc::clone(&active) as _,
            lease: LeaseHandle::of(held),
            grants,
            reach: Arc::clone(&active) as _,
            launcher: Launcher::this_executable(),
            chronicles: Chronicles::default(),
        });
        let root = spec.start().await.expect("starts");
        let policy = Mutex::new(FirmwarePolicy { restarts, ..FirmwarePolicy::default() });
        Self { shelf, peers, active, handle, root, lease, policy }
    }

    /// Deploys a package under a name and places it on this node.
    pub(super) async fn deploy(&self, name: &str, file: &[u8]) -> Epoch {
        let package = self.checked(file).await;
        self.apply_spec(name, package.digest);
        self.place(name, "n1")
    }

    /// Checks a package and gives it to those who keep packages.
    pub(super) async fn checked(&self, file: &[u8]) -> Checked {
        let name = "guest".parse().expect("valid");
        let package = self.handle.cache.check(name, Bytes::copy_from_slice(file)).await;
        let package = package.expect("it can run");
        self.peers.give(package.digest, &package.file);
        package
    }

    pub(super) fn apply_spec(&self, name: &str, digest: Digest) {
        let limits =
            FirmwareLimits { memory_bytes: 4 << 20, message_time: Duration::from_millis(300) };
        let name = name.parse().expect("valid");
        self.shelf.apply(&Command::PutFirmware(FirmwareSpec {
            name,
            digest,
            size: 1,
            limits,
            policy: self.policy.lock().expect("not poisoned").clone(),
            replicas: 1,
        }));
    }

    pub(super) fn place(&self, name: &str, node: &str) -> Epoch {
        let entity = entity(name);
        let expected = self.shelf.epoch(&entity);
        let node = node.parse().expect("valid");
        match self.shelf.apply(&Command::Place { entity, node, expected }) {
            Outcome::Placed { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    /// One try of a call, as the router makes it.
    pub(super) async fn try_call(
        &self,
        name: &str,
        request: &str,
        body: &str,
    ) -> Result<CallReply, CallError> {
        let entity = entity(name);
        let host = self.active.0.lock().expect("not poisoned").get(&entity).cloned();
        let Some((_, host)) = host else {
            return Err(CallError::NotHere { entity, node: node() });
        };
        let call = CallRequest {
            entity,
            request: request.parse().expect("valid"),
            session: None,
            body: body.as_bytes().to_vec(),
            remaining: PATIENCE,
        };
        host.deliver(call).await
    }

    /// Gives a call to the host that is active.
    pub(super) async fn deliver(&self, call: CallRequest) -> Result<CallReply, CallError> {
        Reach::call(&*self.active, Message { call, spread_by: None }).await
    }

    /// A call with its retries.
    pub(super) async fn call(
        &self,
        name: &str,
        request: &str,
        body: &str,
    ) -> Result<CallReply, CallError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.try_call(name, request, body).await {
                Err(error) if error.is_retryable() && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => return other,
            }
        }
    }

    /// The reply's text.
    pub(super) async fn said(&self, name: &str, request: &str, body: &str) -> String {
        let reply = self.call(name, request, body).await.expect("replies");
        String::from_utf8(reply.body).expect("text")
    }

    pub(super) async fn status(&self, name: &str) -> Option<FirmwareStatus> {
        let name: ReplicaId = name.parse().expect("valid");
        let list = self.handle.coordinator.list().await.expect("lists");
        list.into_iter().find(|status| status.name == name)
    }

    pub(super) async fn until_state(&self, name: &str, state: HostState) -> FirmwareStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status(name).await;
            match status {
                Some(status) if status.state == state => return status,
                other => assert!(Instant::now() < end, "{name} is {other:?}, not {state:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn count(&self) -> Option<String> {
        let session = "counter/default".parse().expect("valid");
        let value = self.shelf.variable(&session, "count")?;
        Some(String::from_utf8(value).expect("text"))
    }
}

pub(super) fn entity(name: &str) -> EntityId {
    EntityId::firmware(name.parse().expect("valid"))
}
