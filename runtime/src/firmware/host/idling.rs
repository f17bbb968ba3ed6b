//! Instances that have nothing to do end, and begin again with the next message.

use odeum_actors::{ActorError, Context};

use super::{HostActor, HostMessage, Stands, events::remind};

impl HostActor {
    /// Has somebody look whether the guest idles, when it could have done so for long enough.
    pub(super) fn await_idling(&mut self, ctx: &mut Context<Self>) {
        if let Some(idle) = self.parts.spec.policy.idle.filter(|_| !self.is_watched) {
            self.is_watched = true;
            // One that is idle and waits for something of its own is looked at again later.
            let left = idle.saturating_sub(self.used.elapsed());
            remind(ctx, if left.is_zero() { idle } else { left }, HostMessage::Rest);
        }
    }

    pub(super) async fn on_rest(&mut self, ctx: &mut Context<Self>) {
        self.is_watched = false;
        if self.travel.is_frozen() {
            self.await_idling(ctx);
            return;
        }
        let is_idle = self.parts.spec.policy.idle.is_some_and(|idle| self.used.elapsed() >= idle);
        let module = self.module.clone().filter(|_| is_idle && self.outstanding.is_nothing());
        match (std::mem::replace(&mut self.stands, Stands::Away), module) {
            (Stands::Ready(instance), Some(module)) => {
                instance.end().await;
                self.parts.facts.idle();
                tracing::debug!(entity = %self.parts.entity, "idle: its instance ended");
                self.stands = Stands::Asleep(module);
            }
            (stands @ Stands::Ready(_), None) => {
                self.stands = stands;
                self.await_idling(ctx);
            }
            // Whoever makes it ready has it watched.
            (other, _) => self.stands = other,
        }
    }

    /// Has an instance that ended because it was idle begin again.
    pub(super) async fn wake(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        // What stands is large, and is moved only when it must be.
        let Stands::Asleep(_) = &self.stands else { return Ok(()) };
        // It may be told that it has started, which is a message, too.
        if let Stands::Asleep(module) = std::mem::replace(&mut self.stands, Stands::Away) {
            Box::pin(self.begin(ctx, &module)).await?;
        }
        Ok(())
    }
}
