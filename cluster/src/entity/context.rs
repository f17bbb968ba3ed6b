//! What an entity can do from inside: know itself, reach others, own timers and tasks.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use odeum_actors::Context;
use odeum_proto::{EntityId, NodeId};
use tokio::time::Instant;

use super::envelope::{Envelope, Payload};
use super::runner::Runner;
use super::slot::{Held, Slot};
use super::{Entity, EntityMessage, EntityRef};
use crate::store::StoreHandle;

/// An entity's view of itself. What it owns here ends with this activation.
pub struct EntityContext<'a, E: Entity> {
    ctx: &'a mut Context<Runner<E>>,
    slot: &'a Arc<Slot<E>>,
}

/// A timer of an entity. It ends with this activation.
#[derive(Debug, Clone)]
pub struct EntityTimer {
    task: tokio::task::AbortHandle,
    began: Instant,
    wait: Duration,
    repeats: bool,
}

impl EntityTimer {
    /// Ends the timer; a message it has already sent still arrives.
    pub fn cancel(&self) {
        self.task.abort();
    }

    /// How long until its next message; `None` when there will be none. For who is frozen and
    /// begins it again where it is thawed.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        if self.task.is_finished() {
            return None;
        }
        let past = self.began.elapsed();
        if !self.repeats {
            return Some(self.wait.saturating_sub(past));
        }
        let into = past.as_nanos().checked_rem(self.wait.as_nanos()).unwrap_or_default();
        let into = Duration::from_nanos(u64::try_from(into).unwrap_or_default());
        Some(self.wait.saturating_sub(into))
    }
}

impl<'a, E: Entity> EntityContext<'a, E> {
    pub(super) fn new(ctx: &'a mut Context<Runner<E>>, slot: &'a Arc<Slot<E>>) -> Self {
        Self { ctx, slot }
    }

    /// The entity's name.
    #[must_use]
    pub fn id(&self) -> &EntityId {
        &self.slot.id
    }

    /// The node it is active on.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        self.slot.host.node()
    }

    /// Whether the node has the right to have this entity active at this moment. The lease is
    /// looked at before each question and each answer, and before what is told too, unless it
    /// follows messages whose handlers waited for nothing and took less than a millisecond
    /// together; who works for long, or acts on something outside, asks in between.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.slot.host.tenure().holds()
    }

    /// Another entity, wherever it is; `None` while the node is stopping.
    #[must_use]
    pub fn entity<M: EntityMessage>(&self, id: EntityId) -> Option<EntityRef<M>> {
        self.slot.host.hub().map(|hub| EntityRef::new(hub, id))
    }

    /// The replicated store, for what must survive the crash of the node: what was written there
    /// before a reply is there wherever the entity is made next. `None` while the node is stopping.
    ///
    /// Writes are not fenced: one that was under way when the lease of the node was over may be made
    /// after the next activation has begun. Write with the version that was read
    /// ([`compare_and_set`](crate::store::SessionHandle::compare_and_set)).
    #[must_use]
    pub fn store(&self) -> Option<StoreHandle> {
        self.slot.host.hub().map(|hub| hub.store().clone())
    }

    /// Tells the entity something after `wait`, behind what is in its queue then.
    pub fn tell_after(&mut self, wait: Duration, message: E::Message) -> EntityTimer {
        let slot = Arc::downgrade(self.slot);
        let task = self.ctx.spawn(async move {
            tokio::time::sleep(wait).await;
            push(&slot, message).await;
        });
        EntityTimer { task, began: Instant::now(), wait, repeats: false }
    }

    /// Tells the entity something every `period`, the first time after one period. A tick that
    /// finds the queue full waits for space.
    pub fn tell_every(
        &mut self,
        period: Duration,
        make: impl Fn() -> E::Message + Send + 'static,
    ) -> EntityTimer {
        let slot = Arc::downgrade(self.slot);
        let began = Instant::now();
        let start = began + period;
        let task = self.ctx.spawn(async move {
            let mut interval = tokio::time::interval_at(start, period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                interval.tick().await;
                if !push(&slot, make()).await {
                    return;
                }
            }
        });
        EntityTimer { task, began, wait: period, repeats: true }
    }

    /// Runs a future as a task of the entity: it is aborted when this activation ends. Without the
    /// lease of its node an entity with such a task is ended, also when it rests.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        let at_work = self.slot.begin_task();
        self.ctx.spawn(async move {
            let _at_work = at_work;
            future.await;
        });
    }

    /// Ends the entity in good order once its queue is empty; the next message makes it anew.
    pub fn passivate(&mut self) {
        self.slot.end_soon();
    }
}

/// Queues a message of the entity to itself; `false` when it has ended for good.
async fn push<E: Entity>(slot: &Weak<Slot<E>>, message: E::Message) -> bool {
    let mut envelope = Envelope::Tell(Payload::Value(message));
    loop {
        let Some(slot) = slot.upgrade() else { return false };
        match slot.push(envelope) {
            Ok(()) => return true,
            Err((Held::Full, back)) => envelope = back,
            // Of one that is frozen to move this is what remains: it begins the timer again.
            Err((Held::Paused | Held::Moving, back)) => {
                envelope = back;
                let Some(hub) = slot.host.hub() else { return false };
                // Listened to before the look, so that its end is not missed.
                let mut changes = hub.changes();
                let waits = slot.is_moving() || slot.host.tenure().is_paused();
                drop((slot, hub));
                if waits && changes.changed().await.is_err() {
                    return false;
                }
                continue;
            }
            // A timer ends with its activation.
            Err(_) => return false,
        }
        slot.space().await;
    }
}

impl<E: Entity> fmt::Debug for EntityContext<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityContext").field("id", self.id()).finish_non_exhaustive()
    }
}
