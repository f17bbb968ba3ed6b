//! Answers of messages that changed nothing: each is given when the store has confirmed that this
//! activation is the present one. The next message is handled meanwhile.

use std::sync::Arc;
use std::task::Poll;

use odeum_actors::{Context, Handle, Reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    HostActor, HostMessage, MAILBOX, STORE_DEADLINE,
    message::{Answered, settled},
};

/// Those that are not given yet.
pub(super) struct Confirming(Arc<Semaphore>);

impl Default for Confirming {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAILBOX)))
    }
}

impl Confirming {
    /// What waits until all are given, and keeps others from waiting while it is held.
    pub(super) fn quiet(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let slots = Arc::clone(&self.0);
        let all = u32::try_from(MAILBOX).unwrap_or(u32::MAX);
        // Nobody closes it.
        async move { slots.acquire_many_owned(all).await.ok() }
    }
}

impl HostActor {
    /// Gives an answer as soon as it is confirmed: at once, or by a task.
    pub(super) async fn answer_when_confirmed(
        &mut self,
        ctx: &mut Context<Self>,
        answered: Answered,
        reply: Reply<Answered>,
    ) {
        let parts = &self.parts;
        if !parts.keeper.is_durable() {
            reply.send(parts.check_lease().and(answered));
            return;
        }
        let (epoch, actor) = (parts.epoch, ctx.handle());
        let mut seen = parts.ledger.confirm(&parts.entity, STORE_DEADLINE);
        if let Poll::Ready(seen) = futures::poll!(&mut seen) {
            let at = (&parts.entity, &parts.node);
            give(reply, settled(answered, seen, epoch, at), actor);
            return;
        }
        let Ok(slot) = Arc::clone(&self.confirming.0).acquire_owned().await else { return };
        let (entity, node) = (parts.entity.clone(), parts.node.clone());
        let actor = actor.clone();
        ctx.spawn(async move {
            let settled = settled(answered, seen.await, epoch, (&entity, &node));
            give(reply, settled, &actor);
            drop(slot);
        });
    }
}

/// Gives an answer, and ends an activation that is over.
fn give(
    reply: Reply<Answered>,
    (answered, is_over): (Answered, bool),
    actor: &Handle<HostMessage>,
) {
    reply.send(answered);
    if is_over {
        // An error means that the actor ended.
        let _ = actor.tell_control(HostMessage::Overtaken);
    }
}
