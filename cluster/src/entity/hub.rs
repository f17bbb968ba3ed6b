//! What the entities of a node and those who talk to them share: the table, the kinds that are
//! hosted here, the routes, and the asks that wait. It takes what comes by the lanes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use dashmap::DashMap;
use odeum_actors::{Handle, Strategy, SupervisorSpec, child};
use odeum_proto::{EntityId, EntityKind, NodeId};
use tokio::sync::watch;

use super::envelope::Source;
use super::handoff::Reception;
use super::host::{Host, entity_of};
use super::kind::{Kind, SINGLETON};
use super::pending::Pending;
use super::route::Route;
use super::shards::{Shards, ShardsMessage, Sources};
use super::table::Table;
use super::tenure::Tenure;
use super::{EntityMessage, EntityRef, Path};
use crate::lease::LeaseHandle;
use crate::membership::LiveSet;
use crate::store::StoreHandle;
use crate::transport::lane::{LanePeer, LaneSink, Malformed, Outlet, Packet};
use crate::transport::{Service, TransportHandle};

/// Looks after which a route that nobody holds or uses is forgotten: longer than a message can be
/// under way, so that messages sent one after the other by different references keep their order.
const ROUTE_LOOKS: u64 = 3;

/// How long a former owner may take to answer a fence: it comes behind all that waits for the
/// entity there.
const FENCE_PATIENCE: Duration = Duration::from_secs(30);

/// Messages that wait for the `Shards` actor: changes, of which one is as good as many, and
/// routes whose messages came back.
const MAILBOX: usize = 4_096;

/// What entities are made of.
#[derive(Debug)]
pub(crate) struct HubParts {
    pub(crate) node: NodeId,
    pub(crate) transport: TransportHandle,
    pub(crate) store: StoreHandle,
    pub(crate) live: watch::Receiver<Arc<LiveSet>>,
    pub(crate) lease: LeaseHandle,
    pub(crate) kinds: Vec<Kind>,
}

/// The entities' handle and the supervisor that runs them, a child of the `ClusterSupervisor`.
pub(crate) fn entities(parts: HubParts) -> (EntitiesHandle, SupervisorSpec) {
    let HubParts { node, transport, store, live, lease, kinds } = parts;
    let tenure = Arc::new(Tenure::new());
    let host = |kind: &Kind| kind.host(node.clone(), Arc::clone(&tenure));
    let hosts: BTreeMap<EntityKind, Arc<dyn Host>> =
        kinds.iter().map(|kind| (kind.name().clone(), host(kind))).collect();
    let slot = Arc::new(std::sync::OnceLock::<Arc<Hub>>::new());
    let made = Arc::clone(&slot);
    let sources = Sources { store: store.clone(), live, lease: lease.watch() };
    let (actor, spec) = child("Shards", move || Shards::new(made.get().cloned(), sources.clone()));
    let hub = Arc::new_cyclic(|me| Hub {
        me: Weak::clone(me),
        node,
        store,
        transport: transport.clone(),
        hosts,
        tenure,
        table: ArcSwap::default(),
        version: watch::Sender::new(1),
        routes: DashMap::new(),
        fences: Mutex::default(),
        pending: Pending::default(),
        actor,
    });
    let mut supervisor = SupervisorSpec::new("Entities", Strategy::RestForOne);
    for host in hub.hosts.values() {
        host.attach(Arc::downgrade(&hub));
        supervisor = supervisor.child(host.spec());
    }
    transport.on_packets(Arc::clone(&hub) as Arc<dyn LaneSink>);
    transport.services().insert(Service::Handover, Arc::new(Reception(Arc::clone(&hub))));
    // Set before the actor can be made, which is when the supervisor starts.
    let _ = slot.set(Arc::clone(&hub));
    (EntitiesHandle { hub }, supervisor.child(spec.capacity(MAILBOX)))
}

/// Reaches entities and tells how many there are here. Cheap to clone.
#[derive(Clone)]
pub struct EntitiesHandle {
    hub: Arc<Hub>,
}

impl EntitiesHandle {
    /// A reference to an entity, wherever it is.
    #[must_use]
    pub fn entity<M: EntityMessage>(&self, id: EntityId) -> EntityRef<M> {
        EntityRef::new(Arc::clone(&self.hub), id)
    }

    /// A reference to the one entity of a [`Kind::singleton`].
    #[must_use]
    pub fn singleton<M: EntityMessage>(&self, name: EntityKind) -> EntityRef<M> {
        self.entity(singleton(name))
    }

    /// How many entities of each kind are in memory on this node.
    #[must_use]
    pub fn residents(&self) -> BTreeMap<EntityKind, usize> {
        self.hub.hosts.iter().map(|(kind, host)| (kind.clone(), host.count())).collect()
    }

    /// Gives all shards of this node to other nodes that host their kinds, each after its
    /// entities have handled what they have; ends early at the deadline. To be called before a
    /// node stops, so that nobody waits for its failure to be noticed.
    pub async fn hand_off(&self, deadline: Duration) {
        let all = self.hub.actor.ask(deadline, |reply| ShardsMessage::HandOffAll { reply });
        // At the deadline what is left is taken over as from a node that failed.
        let _ = all.await;
    }
}

impl fmt::Debug for EntitiesHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntitiesHandle").field("node", &self.hub.node).finish_non_exhaustive()
    }
}

pub(super) fn singleton(name: EntityKind) -> EntityId {
    // A constant that is a valid key.
    EntityId::new(name, SINGLETON.parse().unwrap_or_else(|_| unreachable!("a valid key")))
}

/// A fence under way.
struct Fence {
    route: Arc<Route>,
    /// The generation of the lanes it went by.
    generation: u64,
    since: Instant,
}

/// See the module.
pub(super) struct Hub {
    me: Weak<Self>,
    node: NodeId,
    store: StoreHandle,
    transport: TransportHandle,
    hosts: BTreeMap<EntityKind, Arc<dyn Host>>,
    tenure: Arc<Tenure>,
    table: ArcSwap<Table>,
    /// Counts changes of the table and of the links: a route of another version aims anew.
    version: watch::Sender<u64>,
    routes: DashMap<Arc<str>, Arc<Route>>,
    /// Fences under way, by number.
    fences: Mutex<HashMap<u64, Fence>>,
    pending: Pending,
    actor: Handle<ShardsMessage>,
}

impl Hub {
    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }

    pub(super) fn store(&self) -> &StoreHandle {
        &self.store
    }

    pub(super) fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &Arc<dyn Host>> {
        self.hosts.values()
    }

    pub(super) fn host(&self, kind: &EntityKind) -> Option<&Arc<dyn Host>> {
        self.hosts.get(kind)
    }

    pub(super) fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    pub(super) fn version(&self) -> u64 {
        *self.version.borrow()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(super) fn transport(&self) -> &TransportHandle {
        &self.transport
    }

    /// Takes a table into use; whether it was another one.
    pub(super) fn set_table(&self, table: Table) -> bool {
        let is_new = **self.table.load() != table;
        if is_new {
            self.table.store(Arc::new(table));
            self.changed();
            for host in self.hosts.values() {
                host.welcome();
                host.open(false);
            }
        }
        is_new
    }

    /// Has every route aim anew.
    pub(super) fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Has the table looked at soon. When the actor's mailbox is full, it is about to.
    pub(super) fn nudge(&self) {
        let _ = self.actor.try_tell(ShardsMessage::Look);
    }

    /// The route to an entity, shared by all its references on this node.
    pub(super) fn route(&self, path: Path) -> Arc<Route> {
        if let Some(route) = self.routes.get(&path.text) {
            return Arc::clone(&route);
        }
        let text = Arc::clone(&path.text);
        Arc::clone(&self.routes.entry(text).or_insert_with(|| Arc::new(Route::new(path))))
    }

    /// Forgets routes that nobody holds and nobody has used for a while.
    pub(super) fn forget_routes(&self) {
        self.routes.retain(|_, route| {
            Arc::strong_count(route) > 1 || !route.has_been_idle_for(ROUTE_LOOKS)
        });
    }

    /// Asks the former owner to tell when it has sent back all that comes back.
    pub(super) fn fence(&self, route: &Arc<Route>, outlet: &Outlet) -> Option<u64> {
        let call = self.pending.number();
        let entity = Bytes::copy_from_slice(route.path().text.as_bytes());
        let fence = Fence {
            route: Arc::clone(route),
            generation: outlet.generation(),
            since: Instant::now(),
        };
        self.lock_fences().insert(call, fence);
        let sent = outlet.push_short(&Packet::Fence { call, entity });
        if sent.is_err() {
            self.lock_fences().remove(&call);
        }
        sent.ok().map(|()| call)
    }

    /// All before a fence has been handled or has come back.
    pub(super) fn fenced(&self, call: u64) {
        let fence = self.lock_fences().remove(&call);
        if let Some(Fence { route, .. }) = fence
            && route.fenced(call)
        {
            self.resend(route);
        }
    }

    /// Gives up fences that a peer does not answer. Its senders have waited long enough.
    pub(super) fn expire_fences(&self) {
        for call in self.fences_that(|fence| fence.since.elapsed() > FENCE_PATIENCE) {
            tracing::warn!(node = %self.node, "a former owner does not answer");
            self.fenced(call);
        }
    }

    fn fences_that(&self, is: impl Fn(&Fence) -> bool) -> Vec<u64> {
        let fences = self.lock_fences();
        fences.iter().filter(|(_, fence)| is(fence)).map(|(call, _)| *call).collect()
    }

    /// A message came back: by a lane, or from a host of this node.
    pub(super) fn came_back(&self, from: Option<&LanePeer>, packet: Packet) {
        let id = entity_of(&packet).and_then(|path| std::str::from_utf8(path).ok()?.parse().ok());
        // Nothing that this node has sent.
        let Some(id) = id else { return };
        let route = self.route(Path::new(id));
        if route.came_back(self, from, packet) {
            self.resend(route);
        }
    }

    fn resend(&self, route: Arc<Route>) {
        let Some(hub) = self.me.upgrade() else { return };
        if let Err(error) = self.actor.try_tell(ShardsMessage::Resend { route }) {
            // Only while the node stops, or starts that actor anew: the senders' own limits hold.
            if let ShardsMessage::Resend { route } = error.into_message() {
                route.give_up(&hub, "the node is busy");
            }
        }
    }

    /// Takes messages for entities of this node.
    pub(super) fn accept(&self, from: &Source, path: &[u8], packets: &mut VecDeque<Packet>) {
        let kind = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        let host = std::str::from_utf8(kind)
            .ok()
            .and_then(|kind| kind.parse::<EntityKind>().ok())
            .and_then(|kind| self.hosts.get(&kind));
        match host {
            Some(host) => host.accept(from, path, packets),
            None => packets.drain(..).for_each(|packet| from.bounce(packet)),
        }
    }

    fn lock_fences(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Fence>> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_route(&self, path: &Bytes, f: impl FnOnce(&Route)) {
        if let Ok(path) = std::str::from_utf8(path)
            && let Some(route) = self.routes.get(path).map(|route| Arc::clone(&route))
        {
            f(&route);
        }
    }
}

impl LaneSink for Hub {
    fn deliver(&self, from: &LanePeer, packets: &mut Vec<Packet>) -> Result<(), Malformed> {
        let source = Source::Peer(from.clone());
        let mut run = VecDeque::new();
        let mut packets = packets.drain(..).peekable();
        while let Some(packet) = packets.next() {
            match packet {
                Packet::Tell(_) | Packet::Ask(_) | Packet::Fence { .. } => {
                    // Of its own, because the packet is given away; one for all that follow it.
                    let Some(path) = entity_of(&packet).map(<[u8]>::to_vec) else { continue };
                    let same = |packet: &Packet| entity_of(packet) == Some(&*path);
                    run.push_back(packet);
                    while let Some(next) = packets.next_if(same) {
                        run.push_back(next);
                    }
                    #[cfg(feature = "testing")]
                    crate::mishap::befall(from.node(), &path, &mut run);
                    self.accept(&source, &path, &mut run);
                    run.clear();
                }
                Packet::Reply { call, body } => self.pending.answer(call, Ok(body)),
                Packet::Failure { call, body } => self.pending.fail(call, from.node(), &body),
                Packet::Bounce(packet) => self.came_back(Some(from), *packet),
                Packet::Fenced { call } => self.fenced(call),
                Packet::Pause { entity } => self.with_route(&entity, |route| route.pause(from)),
                Packet::Resume { entity } => self.with_route(&entity, Route::resume),
            }
        }
        Ok(())
    }

    fn lost(&self, peer: &NodeId, generation: u64) {
        self.pending.lost(peer, generation);
        for call in self.fences_that(|fence| fence.generation == generation) {
            self.fenced(call);
        }
        self.changed();
    }
}
