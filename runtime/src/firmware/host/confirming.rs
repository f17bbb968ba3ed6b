//! Answers of messages that changed nothing: each is given when the store has confirmed that this
//! activation is the present one. The next message is handled meanwhile.

use std::sync::Arc;

use odeum_actors::{Context, Reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{HostActor, HostMessage, MAILBOX, message::Answered};

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
        let confirmed = self.parts.confirmed(answered);
        let (slots, actor) = (Arc::clone(&self.confirming.0), ctx.handle().clone());
        let Ok(slot) = slots.acquire_owned().await else { return };
        let mut answering = Box::pin(async move {
            let (answered, is_over) = confirmed.await;
            reply.send(answered);
            drop(slot);
            if is_over {
                // An error means that the actor ended.
                let _ = actor.tell_control(HostMessage::Overtaken);
            }
        });
        if futures::poll!(answering.as_mut()).is_pending() {
            ctx.spawn(answering);
        }
    }
}
