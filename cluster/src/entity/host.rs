//! The entities of one kind that this node owns.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use futures::future::BoxFuture;
use odeum_actors::{ChildSpec, Intensity, Strategy, Supervisor, SupervisorSpec};
use odeum_proto::handover::FrozenEntity;
use odeum_proto::{EntityId, EntityKind, Epoch, NodeId};
use tokio::time::Instant;

use super::drained::Drained;
use super::envelope::{Envelope, Payload, Question, ReplyTo, Source};
use super::frozen::{Frozen, FrozenEntities};
use super::gate::{Gate, Gates, Why};
use super::hub::Hub;
use super::kind::Settings;
use super::runner::LONGEST_PAUSE;
use super::slot::{Held, Slot};
use super::tenure::Tenure;
use super::window::Window;
use super::{Entity, EntityMessage, Path};
use crate::transport::lane::Packet;

/// Ticks after which the slot of an entity that crashed is forgotten.
const FORGET_TICKS: u64 = 60;

/// An entity of this node, as who sends to it sees it.
pub(super) trait Local<M: EntityMessage>: Send + Sync {
    /// Queues a message, or gives it back.
    fn push(&self, envelope: Envelope<M>) -> Result<(), (Held, Envelope<M>)>;

    /// Waits until the queue has room.
    fn space(&self) -> BoxFuture<'_, ()>;

    /// Its name, shared.
    fn id(&self) -> Arc<EntityId>;
}

/// A kind without its types. What is boxed as `Any` is an `Arc<dyn Local<M>>`.
pub(super) trait Host: Send + Sync {
    fn settings(&self) -> &Settings;
    /// Takes messages of one entity, in order.
    fn accept(&self, from: &Source, path: &[u8], packets: &mut VecDeque<Packet>);
    /// An entity of this node; `None` when it is not, or not now.
    fn local(&self, path: &Path) -> Option<Box<dyn Any + Send + Sync>>;
    /// Keeps messages from these shards and ends their entities.
    fn close(&self, shards: &BTreeSet<u16>) -> Arc<Drained>;
    /// Delivers or sends back what was kept, where the table allows it.
    fn open(&self, all: bool);
    /// Has the shards that were closed take messages again, unless they are another node's now.
    fn reopen(&self, shards: &BTreeSet<u16>);
    /// Keeps entities that another node has stopped, until it is known where they go on.
    fn receive(&self, entities: Vec<FrozenEntity>) -> Result<(), Box<str>>;
    /// Keeps an entity that was stopped here under `epoch` and may stay.
    fn put_back(&self, epoch: Epoch, frozen: Frozen);
    /// Has those of them go on that are here by the table.
    fn welcome(&self);
    /// How many entities there are here.
    fn count(&self) -> usize;
    /// How many entities each shard has here.
    fn residents(&self) -> BTreeMap<u16, usize>;
    /// A tick of the clock: ends what is idle. A long one also forgets what crashed long ago.
    fn tick(&self, is_long: bool);
    /// Makes this entity active if it is this node's.
    fn ensure(&self, path: &Path);
    /// Ends those who are at work: the lease is over. The others pause by themselves.
    fn cut_off(&self);
    /// There is a lease again: ends those whose shard is not among these, which have been this
    /// node's all the while, and has the others go on.
    fn take_up(&self, kept: &dyn Fn(u16) -> bool);
    fn attach(&self, hub: Weak<Hub>);
    fn spec(&self) -> ChildSpec;
}

/// See the module.
pub(super) struct KindHost<E: Entity> {
    settings: Settings,
    node: NodeId,
    tenure: Arc<Tenure>,
    make: Box<dyn Fn(&EntityId) -> E + Send + Sync>,
    slots: DashMap<Arc<str>, Arc<Slot<E>>>,
    supervisor: Supervisor,
    spec: ChildSpec,
    hub: OnceLock<Weak<Hub>>,
    ticks: AtomicU64,
    activations: AtomicU64,
    gates: Gates,
    frozen: FrozenEntities,
    me: Weak<Self>,
}

impl<E: Entity> fmt::Debug for KindHost<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindHost").field("kind", &self.settings.kind).finish_non_exhaustive()
    }
}

impl<E: Entity> KindHost<E> {
    pub(super) fn new(
        settings: Settings,
        node: NodeId,
        tenure: Arc<Tenure>,
        make: Box<dyn Fn(&EntityId) -> E + Send + Sync>,
    ) -> Arc<Self> {
        // One entity that crashes again and again must not end the others: each has its pauses.
        let (supervisor, spec) =
            SupervisorSpec::new(format!("Kind {}", settings.kind), Strategy::OneForOne)
                .intensity(Intensity::unlimited())
                .nested();
        Arc::new_cyclic(|me| Self {
            settings,
            frozen: FrozenEntities::new(node.clone()),
            node,
            tenure,
            make,
            slots: DashMap::new(),
            supervisor,
            spec,
            hub: OnceLock::new(),
            ticks: AtomicU64::new(0),
            activations: AtomicU64::new(0),
            gates: Gates::default(),
            me: Weak::clone(me),
        })
    }

    /// Whether its entities go with their shard.
    pub(super) fn is_movable(&self) -> bool {
        self.settings.movable
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }

    pub(super) fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    pub(super) fn hub(&self) -> Option<Arc<Hub>> {
        self.hub.get()?.upgrade()
    }

    /// Seconds since it was made, roughly.
    pub(super) fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Tells one activation from all others of the kind.
    pub(super) fn next_activation(&self) -> u64 {
        self.activations.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn capacity(&self) -> usize {
        self.settings.mailbox
    }

    pub(super) fn start_timeout(&self) -> Duration {
        self.settings.start_timeout + LONGEST_PAUSE
    }

    pub(super) fn stop_timeout(&self) -> Duration {
        self.settings.stop_timeout
    }

    pub(super) fn make(&self, id: &EntityId) -> E {
        (self.make)(id)
    }

    /// What an entity had in memory that goes on here.
    pub(super) fn state_of(&self, path: &str) -> Option<Bytes> {
        // Of other kinds nothing waits, and activations are many.
        let hub = self.hub().filter(|_| self.is_movable())?;
        let table = hub.table();
        self.frozen.state_of(path, table.row(&self.settings.kind)?)
    }

    /// An entity goes on here: what it has answered.
    pub(super) fn went_on(&self, path: &str) -> Option<Box<Window>> {
        self.frozen.went_on(path)
    }

    /// An entity has stopped, and nobody wants it any more: it goes on here, if it is this node's.
    pub(super) fn keep(&self, frozen: Frozen) {
        let Some(hub) = self.hub() else { return };
        let table = hub.table();
        let row = table.row(&self.settings.kind);
        let place = row.and_then(|row| row.shard(frozen.shard));
        if let Some(place) = place.filter(|place| place.node == self.node) {
            self.frozen.put_back(place.epoch, frozen);
        }
    }

    /// Starts an activation's actor. Refused, because the node is stopping, the spec is dropped.
    pub(super) fn add(&self, spec: ChildSpec) {
        if self.supervisor.add_soon(spec).is_err() {
            tracing::debug!(node = %self.node, kind = %self.settings.kind, "entity not started");
        }
    }

    /// Takes a slot that is no longer in use out of the table.
    pub(super) fn forget(&self, slot: &Arc<Slot<E>>) {
        self.slots.remove_if(&slot.path, |_, current| Arc::ptr_eq(current, slot));
    }

    /// The slot of an entity, made if need be. The gates are held, so that none is made behind a
    /// closed one.
    fn slot(&self, path: &str, shard: u16) -> Option<Arc<Slot<E>>> {
        if let Some(slot) = self.slots.get(path) {
            return Some(Arc::clone(&slot));
        }
        // With the host's own copy of the kind's name, of which there may be many entities.
        let key = path.parse::<EntityId>().ok()?.key().clone();
        let id = EntityId::new(self.settings.kind.clone(), key);
        let host = self.me.upgrade()?;
        let path: Arc<str> = path.into();
        let slot = self.slots.entry(Arc::clone(&path));
        Some(Arc::clone(&slot.or_insert_with(|| Arc::new(Slot::new(host, id, path, shard)))))
    }

    fn all_slots(&self) -> Vec<Arc<Slot<E>>> {
        // Collected first: what is done to a slot may take it out of the table.
        self.slots.iter().map(|slot| Arc::clone(&slot)).collect()
    }

    /// Queues messages of an entity of this node; those that cannot be are given back.
    fn take(
        &self,
        from: &Source,
        path: &str,
        shard: u16,
        packets: &mut VecDeque<Packet>,
    ) -> VecDeque<Packet> {
        while !packets.is_empty() {
            let Some(slot) = self.slot(path, shard) else { return std::mem::take(packets) };
            slot.fill(from, packets);
        }
        VecDeque::new()
    }

    /// What to do with messages of a shard, by the table.
    fn verdict(&self, hub: &Hub, shard: u16, epoch: Epoch) -> Verdict {
        let table = hub.table();
        let placement = table.row(&self.settings.kind).and_then(|row| row.shard(shard));
        match placement {
            Some(placement) if placement.node == self.node => Verdict::Take,
            Some(placement) if placement.epoch >= epoch => Verdict::Bounce,
            _ => Verdict::Wait,
        }
    }
}

enum Verdict {
    Take,
    Bounce,
    Wait,
}

impl<E: Entity> Host for KindHost<E> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn accept(&self, from: &Source, path: &[u8], packets: &mut VecDeque<Packet>) {
        let (Some(first), Some(hub)) = (packets.front(), self.hub()) else { return };
        let epoch = epoch_of(first);
        let parsed = std::str::from_utf8(path).ok();
        let Some((text, id)) = parsed.and_then(|t| Some((t, t.parse::<EntityId>().ok()?))) else {
            packets.drain(..).for_each(|packet| from.bounce(packet));
            return;
        };
        let gates = self.gates.read();
        // Read behind the gates: an older table could claim a shard that has left.
        let shard = self.settings.shard_of(id.key());
        if let Some(gate) = gates.get(&shard) {
            gate.keep(from, packets);
            return;
        }
        match self.verdict(&hub, shard, epoch) {
            Verdict::Take => {
                let refused = self.take(from, text, shard, packets);
                // What goes back may be this node's own: its route is locked then, and who holds
                // that may wait for the gates.
                drop(gates);
                refused.into_iter().for_each(|packet| from.bounce(packet));
            }
            // To a peer behind the gates, so that what was kept goes first.
            Verdict::Bounce if from.peer().is_some() => {
                packets.drain(..).for_each(|packet| from.bounce(packet));
            }
            Verdict::Bounce => {
                drop(gates);
                packets.drain(..).for_each(|packet| from.bounce(packet));
            }
            Verdict::Wait => {
                drop(gates);
                let mut gates = self.gates.write();
                let unseen = || Gate::new(Why::Unseen(epoch));
                gates.entry(shard).or_insert_with(unseen).keep(from, packets);
                drop(gates);
                hub.nudge();
            }
        }
    }

    fn local(&self, path: &Path) -> Option<Box<dyn Any + Send + Sync>> {
        let gates = self.gates.read();
        let shard = self.settings.shard_of(path.id.key());
        let hub = self.hub()?;
        if gates.contains_key(&shard)
            || !matches!(self.verdict(&hub, shard, Epoch(0)), Verdict::Take)
        {
            return None;
        }
        let slot: Arc<dyn Local<E::Message>> = Arc::new(SlotRef(self.slot(&path.text, shard)?));
        Some(Box::new(slot))
    }

    fn close(&self, shards: &BTreeSet<u16>) -> Arc<Drained> {
        let mut gates = self.gates.write();
        for shard in shards {
            gates.entry(*shard).or_insert_with(|| Gate::new(Why::Moving)).why = Why::Moving;
        }
        drop(gates);
        let drained = Drained::new();
        for slot in self.all_slots() {
            if shards.contains(&slot.shard) {
                slot.drain(&drained);
            }
        }
        drained
    }

    fn reopen(&self, shards: &BTreeSet<u16>) {
        for slot in self.all_slots() {
            if shards.contains(&slot.shard) {
                slot.undrain();
            }
        }
        let mut gates = self.gates.write();
        for shard in shards {
            if let Some(gate) = gates.get_mut(shard) {
                gate.why = Why::Unseen(Epoch(0));
            }
        }
        drop(gates);
        self.open(false);
    }

    fn open(&self, all: bool) {
        let Some(hub) = self.hub() else { return };
        // Held for writing until what was kept is delivered: nothing later may overtake it.
        let mut gates = self.gates.write();
        let ready: Vec<u16> = gates
            .iter()
            .filter(|(shard, gate)| match gate.why {
                Why::Moving => false,
                Why::Unseen(epoch) => {
                    all && gate.age() >= super::HOLD
                        || !matches!(self.verdict(&hub, **shard, epoch), Verdict::Wait)
                }
            })
            .map(|(shard, _)| *shard)
            .collect();
        let mut refused = Vec::new();
        for shard in ready {
            let Some(gate) = gates.remove(&shard) else { continue };
            let takes = matches!(self.verdict(&hub, shard, Epoch(0)), Verdict::Take);
            for (from, packet) in gate.open() {
                match entity_of(&packet).and_then(|path| std::str::from_utf8(path).ok()) {
                    Some(path) if takes => {
                        let path = path.to_owned();
                        let left = self.take(&from, &path, shard, &mut VecDeque::from([packet]));
                        refused.extend(left.into_iter().map(|packet| (from.clone(), packet)));
                    }
                    _ if from.peer().is_some() => from.bounce(packet),
                    _ => refused.push((from, packet)),
                }
            }
        }
        // This node's own, as in `accept`.
        drop(gates);
        refused.into_iter().for_each(|(from, packet)| from.bounce(packet));
    }

    fn receive(&self, entities: Vec<FrozenEntity>) -> Result<(), Box<str>> {
        if !self.is_movable() {
            return Err(format!("{} is no movable kind there", self.settings.kind).into());
        }
        let frozen = entities.into_iter().map(|entity| {
            let id = EntityId::new(self.settings.kind.clone(), entity.key.clone());
            let shard = self.settings.shard_of(id.key());
            (entity.epoch, Frozen::of_wire(id, shard, entity))
        });
        self.frozen.put(frozen.collect()).map_err(|error| error.to_string().into())
    }

    fn put_back(&self, epoch: Epoch, frozen: Frozen) {
        self.frozen.put_back(epoch, frozen);
    }

    fn welcome(&self) {
        let Some(hub) = self.hub().filter(|_| self.is_movable()) else { return };
        let table = hub.table();
        let Some(row) = table.row(&self.settings.kind) else { return };
        let here = self.frozen.sift(row);
        drop(table);
        here.iter().for_each(|path| self.ensure(path));
    }

    fn count(&self) -> usize {
        self.slots.len()
    }

    fn residents(&self) -> BTreeMap<u16, usize> {
        let mut residents = BTreeMap::new();
        for slot in &self.slots {
            *residents.entry(slot.shard).or_default() += 1;
        }
        residents
    }

    fn tick(&self, is_long: bool) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        if self.settings.idle.is_none() && !is_long {
            return;
        }
        let idle = self.settings.idle.map(|idle| idle.as_secs().max(1));
        for slot in self.all_slots() {
            slot.passivate(idle, FORGET_TICKS);
        }
    }

    fn ensure(&self, path: &Path) {
        let gates = self.gates.read();
        let shard = self.settings.shard_of(path.id.key());
        let takes = |hub: &Arc<Hub>| matches!(self.verdict(hub, shard, Epoch(0)), Verdict::Take);
        if !gates.contains_key(&shard)
            && self.hub().as_ref().is_some_and(takes)
            && let Some(slot) = self.slot(&path.text, shard)
        {
            slot.ensure();
        }
    }

    fn cut_off(&self) {
        self.all_slots().iter().for_each(|slot| slot.cut_off());
    }

    fn take_up(&self, kept: &dyn Fn(u16) -> bool) {
        for slot in self.all_slots() {
            if kept(slot.shard) {
                slot.take_up();
            } else {
                slot.expel();
            }
        }
    }

    fn attach(&self, hub: Weak<Hub>) {
        // Attached once, when the hub is made.
        let _ = self.hub.set(hub);
    }

    fn spec(&self) -> ChildSpec {
        self.spec.clone()
    }
}

/// An entry of the queue made of a packet.
pub(super) fn envelope<M: EntityMessage>(
    from: &Source,
    id: &Arc<EntityId>,
    packet: Packet,
) -> Option<Envelope<M>> {
    match packet {
        Packet::Tell(tell) => Some(Envelope::Tell(Payload::Wire(tell.letter.into_body()))),
        Packet::Ask(ask) => Some(Envelope::Ask(Box::new(Question {
            // Not printable, it cannot be a key: its sender has no use for it.
            key: std::str::from_utf8(ask.letter.key()).ok().and_then(|key| key.parse().ok()),
            payload: Payload::Wire(ask.letter.into_body()),
            until: Instant::now() + ask.remaining,
            reply: ReplyTo::there(from.clone(), ask.call, Arc::clone(id)),
        }))),
        Packet::Fence { call, .. } => Some(Envelope::Fence { call, from: from.clone() }),
        _ => None,
    }
}

/// The entity that a message is for.
pub(super) fn entity_of(packet: &Packet) -> Option<&[u8]> {
    match packet {
        Packet::Tell(tell) => Some(tell.letter.entity()),
        Packet::Ask(ask) => Some(ask.letter.entity()),
        Packet::Fence { entity, .. } => Some(entity),
        _ => None,
    }
}

fn epoch_of(packet: &Packet) -> Epoch {
    match packet {
        Packet::Tell(tell) => tell.epoch,
        Packet::Ask(ask) => ask.epoch,
        _ => Epoch(0),
    }
}

struct SlotRef<E: Entity>(Arc<Slot<E>>);

impl<E: Entity> Local<E::Message> for SlotRef<E> {
    fn push(&self, envelope: Envelope<E::Message>) -> Result<(), (Held, Envelope<E::Message>)> {
        self.0.push(envelope)
    }

    fn space(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.space())
    }

    fn id(&self) -> Arc<EntityId> {
        Arc::clone(&self.0.id)
    }
}

/// For the error of a kind that no node has.
pub(super) fn no_kind(kind: &EntityKind) -> String {
    format!("no node hosts entities of kind {kind}")
}
