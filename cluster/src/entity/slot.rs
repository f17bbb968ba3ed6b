//! One entity on the node that owns it: its queue, and where its activation is in its life.
//!
//! The queue outlives activations. The actor behind it is woken when there is something in an
//! empty queue and takes entries until it is empty again, so a message costs one lock. Whoever
//! fills the queue beyond its bound waits (on this node) or is told to pause (another node).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use odeum_actors::{Handle, Restart, Shutdown, child};
use odeum_proto::{EntityId, call::CallError};
use tokio::sync::Notify;

use super::drained::Drained;
use super::envelope::{Envelope, Source, push_short};
use super::host::{KindHost, envelope};
use super::runner::{Poke, Runner};
use super::{Entity, EntityMessage};
use crate::transport::lane::{LanePeer, Packet};

/// Bytes from other nodes that may wait for one entity. Nodes are told to pause long before; this
/// is what one that does not is stopped by.
const QUEUE_BYTES: usize = 64 << 20;

/// Pokes that may wait for an activation: one, and a repeated one.
const POKES: usize = 4;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// The queue is full: wait for space.
    Full,
    /// The shard is on its way to another node: wait for the table to change.
    Moving,
    /// The lease of this node is over: wait for the next one.
    Paused,
    /// This slot is no longer in use: look the entity up again.
    Gone,
}

/// Where the activation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// There is none.
    Idle,
    /// It is being made.
    Starting,
    /// It takes messages.
    Active,
    /// It is ending in good order.
    Ending,
    /// The slot is out of the host's table and takes nothing.
    Gone,
}

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// In good order.
    Orderly,
    /// It crashed on a message.
    Crashed,
    /// It did not start.
    NotStarted(Box<str>),
    /// It was not made: the node is stopping.
    NotMade,
}

/// What the activation does next.
pub(super) enum Next<M: EntityMessage> {
    Handle(Envelope<M>),
    Rest,
    End,
    /// Its shard goes to another node, and it goes with it.
    Freeze(Arc<Drained>),
}

/// See the module.
pub(super) struct Slot<E: Entity> {
    pub(super) id: Arc<EntityId>,
    pub(super) path: Arc<str>,
    pub(super) shard: u16,
    pub(super) host: Arc<KindHost<E>>,
    inner: Mutex<Inner<E::Message>>,
    space: Notify,
    /// The host's tick at the last message.
    used: AtomicU64,
    /// Tasks of the entity's own that run.
    tasks: AtomicUsize,
}

struct Inner<M: EntityMessage> {
    life: Life,
    queue: VecDeque<Envelope<M>>,
    bytes: usize,
    handle: Option<Handle<Poke>>,
    /// Whether the activation knows that there is something to do.
    poked: bool,
    /// Whether it is handling a message.
    busy: bool,
    /// Whether the activation was ended where it stood, because the lease was over.
    cut_off: bool,
    /// Whether it shall end once its queue is empty.
    ending: bool,
    /// Who waits for it to end for good.
    drain: Option<Arc<Drained>>,
    /// Nodes that were told to pause.
    paused: Vec<LanePeer>,
    /// Whether senders of this node wait for space.
    awaited: bool,
    run: u64,
    /// Crashes since it last ended well.
    crashes: u32,
}

impl<E: Entity> Slot<E> {
    pub(super) fn new(host: Arc<KindHost<E>>, id: EntityId, path: Arc<str>, shard: u16) -> Self {
        Self {
            id: Arc::new(id),
            path,
            shard,
            used: AtomicU64::new(host.now()),
            tasks: AtomicUsize::new(0),
            host,
            inner: Mutex::new(Inner {
                life: Life::Idle,
                queue: VecDeque::new(),
                bytes: 0,
                handle: None,
                poked: false,
                busy: false,
                cut_off: false,
                ending: false,
                drain: None,
                paused: Vec::new(),
                awaited: false,
                run: 0,
                crashes: 0,
            }),
            space: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<E::Message>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message of this node; it comes back when it must wait.
    pub(super) fn push(
        self: &Arc<Self>,
        envelope: Envelope<E::Message>,
    ) -> Result<(), (Held, Envelope<E::Message>)> {
        let mut inner = self.lock();
        let held = match inner.life {
            Life::Gone => Some(Held::Gone),
            _ if inner.drain.is_some() => Some(Held::Moving),
            _ if self.host.tenure().is_paused() => Some(Held::Paused),
            _ if inner.queue.len() >= self.host.capacity() => Some(Held::Full),
            _ => None,
        };
        if let Some(held) = held {
            inner.awaited |= held == Held::Full;
            return Err((held, envelope));
        }
        inner.queue.push_back(envelope);
        self.wake(inner);
        Ok(())
    }

    /// Queues messages of another node, all for this entity; they stay where they are when the
    /// slot is gone.
    pub(super) fn fill(self: &Arc<Self>, from: &Source, packets: &mut VecDeque<Packet>) {
        let mut inner = self.lock();
        if inner.life == Life::Gone {
            return;
        }
        let mut dropped = Vec::new();
        inner.queue.reserve(packets.len());
        let envelopes = packets.drain(..).filter_map(|packet| envelope(from, &self.id, packet));
        for envelope in envelopes {
            if inner.bytes + envelope.weight() > QUEUE_BYTES {
                dropped.push(envelope);
                continue;
            }
            inner.bytes += envelope.weight();
            inner.queue.push_back(envelope);
        }
        let full = inner.queue.len() > self.host.capacity();
        let pause = from
            .peer()
            .filter(|peer| full && !inner.paused.iter().any(|paused| paused.is_same_link(peer)));
        // Sent within the lock, as its resume is: the two must leave in the order in which they
        // were decided, or the sender would wait for a resume that has passed.
        if let Some(peer) = pause {
            push_short(peer, &Packet::Pause { entity: self.path_bytes() });
            inner.paused.push(peer.clone());
        }
        self.wake(inner);
        self.overrun(dropped);
    }

    /// Refuses what a node sent though it was told to pause.
    fn overrun(&self, dropped: Vec<Envelope<E::Message>>) {
        if dropped.is_empty() {
            return;
        }
        tracing::warn!(
            entity = %self.path, count = dropped.len(),
            "messages dropped: their senders do not pause"
        );
        for envelope in dropped {
            if let Envelope::Ask(question) = envelope {
                let (entity, queued) = (EntityId::clone(&self.id), self.host.capacity());
                question.reply.send(Err(CallError::Overloaded { entity, queued }));
            }
        }
    }

    /// Waits until the queue has room; returns at once when it has.
    pub(super) async fn space(&self) {
        loop {
            let mut space = std::pin::pin!(self.space.notified());
            space.as_mut().enable();
            {
                let mut inner = self.lock();
                if inner.queue.len() < self.host.capacity() || inner.life == Life::Gone {
                    return;
                }
                inner.awaited = true;
            }
            space.await;
        }
    }

    /// Sees to it that somebody handles what is in the queue.
    fn wake(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<E::Message>>) {
        match inner.life {
            Life::Idle => self.start(inner),
            Life::Active if !inner.poked => {
                inner.poked = true;
                let handle = inner.handle.clone();
                drop(inner);
                // One that is ending by a crash is followed by the next activation.
                let _ = handle.map(|handle| handle.try_tell(Poke));
            }
            _ => {}
        }
    }

    /// Begins an activation; without a lease, when there is one again.
    fn start(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<E::Message>>) {
        if !self.host.tenure().holds() {
            return;
        }
        inner.life = Life::Starting;
        inner.run += 1;
        inner.ending = false;
        let run = inner.run;
        let maker = Making { slot: Arc::clone(self), run };
        // The name is of this activation: the one before it may still be ending.
        let name = format!("{} #{}", self.path, self.host.next_activation());
        let (handle, spec) = child(name, move || maker.make());
        inner.handle = Some(handle);
        drop(inner);
        let spec = spec
            .capacity(POKES)
            .restart(Restart::Temporary)
            .start_timeout(self.host.start_timeout())
            .shutdown(Shutdown::Timeout(self.host.stop_timeout()));
        // Refused, the maker is dropped, which ends the activation that never was.
        self.host.add(spec);
    }

    /// Makes the entity active, should it not be.
    pub(super) fn ensure(self: &Arc<Self>) {
        let inner = self.lock();
        if inner.life == Life::Idle && inner.drain.is_none() {
            self.start(inner);
        }
    }

    /// The activation has started: it takes what waits.
    pub(super) fn active(&self) {
        let mut inner = self.lock();
        inner.life = Life::Active;
        inner.cut_off = false;
        inner.poked = !inner.queue.is_empty() || inner.drain.is_some();
        let handle = inner.poked.then(|| inner.handle.clone()).flatten();
        drop(inner);
        let _ = handle.map(|handle| handle.try_tell(Poke));
    }

    /// The pause before this start, after crashes.
    pub(super) fn crashes(&self) -> u32 {
        self.lock().crashes
    }

    /// The next entry for the activation; without a lease there is none, if this is a moment to
    /// look at it.
    pub(super) fn next(&self, looks: bool) -> Next<E::Message> {
        let mut inner = self.lock();
        inner.busy = false;
        if inner.life == Life::Gone || (looks && !self.host.tenure().holds()) {
            inner.poked = false;
            return Next::Rest;
        }
        let Some(envelope) = inner.queue.pop_front() else {
            if inner.ending || inner.drain.is_some() {
                inner.life = Life::Ending;
                let drain = inner.drain.as_ref().filter(|_| self.host.is_movable());
                return drain.map_or(Next::End, |drained| Next::Freeze(Arc::clone(drained)));
            }
            inner.poked = false;
            // At rest it should cost little, and there may be many.
            inner.queue = VecDeque::new();
            self.used.store(self.host.now(), Ordering::Relaxed);
            return Next::Rest;
        };
        inner.bytes -= envelope.weight().min(inner.bytes);
        if (inner.awaited || !inner.paused.is_empty())
            && inner.queue.len() <= self.host.capacity() / 2
        {
            inner.awaited = false;
            self.resume(&mut inner);
        }
        inner.busy = true;
        Next::Handle(envelope)
    }

    /// Has those who were held up go on.
    fn resume(&self, inner: &mut Inner<E::Message>) {
        for peer in inner.paused.drain(..) {
            push_short(&peer, &Packet::Resume { entity: self.path_bytes() });
        }
        self.space.notify_waiters();
    }

    fn path_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.path.as_bytes())
    }

    /// Has the activation end once its queue is empty.
    pub(super) fn end_soon(&self) {
        self.lock().ending = true;
    }

    /// Asks an activation that has been idle for so many ticks to end. A slot without one is
    /// forgotten then.
    pub(super) fn passivate(self: &Arc<Self>, idle: Option<u64>, forget: u64) {
        let mut inner = self.lock();
        let since = self.host.now().saturating_sub(self.used.load(Ordering::Relaxed));
        match inner.life {
            Life::Idle if since >= forget && inner.queue.is_empty() => self.go(inner),
            Life::Active
                if idle.is_some_and(|idle| since >= idle)
                    && inner.queue.is_empty()
                    && !inner.poked =>
            {
                inner.ending = true;
                self.wake(inner);
            }
            _ => {}
        }
    }

    /// Has the activation end after what it has, for good; `drained` is told.
    pub(super) fn drain(self: &Arc<Self>, drained: &Arc<Drained>) {
        let mut inner = self.lock();
        match inner.life {
            Life::Gone => {}
            Life::Idle if inner.queue.is_empty() => self.go(inner),
            _ => {
                drained.add();
                inner.drain = Some(Arc::clone(drained));
                self.wake(inner);
            }
        }
    }

    /// Whether its shard is on its way.
    pub(super) fn is_moving(&self) -> bool {
        self.lock().drain.is_some()
    }

    /// The shard stays after all.
    pub(super) fn undrain(self: &Arc<Self>) {
        self.lock().drain = None;
        self.space.notify_waiters();
    }

    /// The activation that was to end goes on after all.
    pub(super) fn stays(self: &Arc<Self>) {
        let mut inner = self.lock();
        if inner.life == Life::Ending {
            inner.life = Life::Active;
            inner.poked = false;
            if !inner.queue.is_empty() {
                self.wake(inner);
            }
        }
    }

    /// The entity has a task of its own, for as long as what is returned is kept.
    pub(super) fn begin_task(self: &Arc<Self>) -> AtWork<E> {
        self.tasks.fetch_add(1, Ordering::AcqRel);
        AtWork(Arc::clone(self))
    }

    /// The lease of this node is over: an activation that is at work, be it with a task of its own,
    /// is ended where it stands. One that is not has nothing to do until there is a lease again.
    pub(super) fn cut_off(&self) {
        let mut inner = self.lock();
        let at_work = inner.busy
            || matches!(inner.life, Life::Starting | Life::Ending)
            || self.tasks.load(Ordering::Acquire) > 0;
        inner.cut_off = at_work;
        let handle = inner.handle.clone().filter(|_| at_work);
        drop(inner);
        if let Some(handle) = handle {
            handle.kill();
        }
    }

    /// There is a lease again, and the shard was this node's all the while: what waits goes on.
    pub(super) fn take_up(self: &Arc<Self>) {
        let inner = self.lock();
        let is_to_end = inner.life == Life::Active && (inner.ending || inner.drain.is_some());
        if is_to_end || !inner.queue.is_empty() {
            self.wake(inner);
        }
    }

    /// The shard was another node's in the meantime: what is here of the entity is of the past.
    pub(super) fn expel(self: &Arc<Self>) {
        let mut inner = self.lock();
        if inner.life == Life::Gone {
            return;
        }
        let queue = std::mem::take(&mut inner.queue);
        let handle = inner.handle.take();
        inner.bytes = 0;
        self.go(inner);
        if let Some(handle) = handle {
            handle.kill();
        }
        self.fail(queue, "its shard went to another node", |entity, reason| {
            CallError::Unavailable { entity, reason }
        });
    }

    /// An activation has ended.
    pub(super) fn ended(self: &Arc<Self>, run: u64, how: Ended) {
        let mut inner = self.lock();
        if inner.run != run || matches!(inner.life, Life::Idle | Life::Gone) {
            return;
        }
        inner.busy = false;
        // That is no fault of its own, and what waits stays.
        let how = if std::mem::take(&mut inner.cut_off) { Ended::Orderly } else { how };
        inner.life = Life::Idle;
        inner.handle = None;
        inner.poked = false;
        let mut failed = VecDeque::new();
        match &how {
            Ended::Orderly => inner.crashes = 0,
            Ended::Crashed => inner.crashes = inner.crashes.saturating_add(1),
            Ended::NotStarted(_) | Ended::NotMade => {
                inner.crashes = inner.crashes.saturating_add(1);
                failed = std::mem::take(&mut inner.queue);
                inner.bytes = 0;
            }
        }
        if !inner.queue.is_empty() {
            self.start(inner);
        } else if inner.crashes == 0 || inner.drain.is_some() {
            self.go(inner);
        } else {
            // Kept for a while, so that the next start is after a pause.
            self.used.store(self.host.now(), Ordering::Relaxed);
            self.resume(&mut inner);
            drop(inner);
        }
        match how {
            Ended::NotStarted(reason) => {
                self.fail(failed, &reason, |entity, reason| CallError::Failed { entity, reason });
            }
            Ended::NotMade => self.fail(failed, "the node is stopping", |entity, _| {
                CallError::NotHere { entity, node: self.host.node().clone() }
            }),
            Ended::Orderly | Ended::Crashed => {}
        }
    }

    /// Answers messages that nobody will handle.
    fn fail(
        &self,
        queue: VecDeque<Envelope<E::Message>>,
        reason: &str,
        error: impl Fn(EntityId, Box<str>) -> CallError,
    ) {
        let tells = queue.iter().filter(|e| matches!(e, Envelope::Tell(_))).count();
        if tells > 0 {
            tracing::warn!(entity = %self.path, count = tells, %reason, "messages lost");
        }
        for envelope in queue {
            match envelope {
                Envelope::Tell(_) => {}
                Envelope::Ask(question) => {
                    let (entity, reason) = (EntityId::clone(&self.id), reason.into());
                    question.reply.send(Err(error(entity, reason)));
                }
                Envelope::Fence { call, from } => from.fenced(call),
            }
        }
    }

    /// Takes the slot out of use.
    fn go(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<E::Message>>) {
        inner.life = Life::Gone;
        let drain = inner.drain.take();
        self.resume(&mut inner);
        drop(inner);
        self.host.forget(self);
        if let Some(drained) = drain {
            drained.done();
        }
    }
}

/// A task of an entity that runs.
pub(super) struct AtWork<E: Entity>(Arc<Slot<E>>);

impl<E: Entity> Drop for AtWork<E> {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Makes the actor of one activation. Dropped without having done so, because the supervisor did
/// not take it, it ends the activation that never was.
struct Making<E: Entity> {
    slot: Arc<Slot<E>>,
    run: u64,
}

impl<E: Entity> Making<E> {
    fn make(&self) -> Runner<E> {
        Runner::new(Arc::clone(&self.slot), self.run)
    }
}

impl<E: Entity> Drop for Making<E> {
    fn drop(&mut self) {
        let starting = {
            let inner = self.slot.lock();
            inner.run == self.run && inner.life == Life::Starting
        };
        if starting {
            self.slot.ended(self.run, Ended::NotMade);
        }
    }
}
