//! What happened to a guest when nothing could be begun, and is told later.
//!
//! It waits in the order in which it came, in one place: what comes meanwhile gets behind it, one try
//! is made for all of it, and it goes with a guest that moves.

use std::time::Duration;

use odeum_actors::{ActorError, Context, TellError};
use odeum_proto::call::CallError;

use super::{
    HostActor, HostMessage, Stands,
    events::{Event, remind},
    saving::TRY_AGAIN,
};

impl HostActor {
    /// Has the guest told of it before all else that is late, if it is still there then.
    pub(super) fn put_off(&mut self, ctx: &mut Context<Self>, event: Event, error: &CallError) {
        let entity = &self.parts.entity;
        match event {
            // It waits for them still.
            Event::TimedOut(_) | Event::Answered { .. } => {
                tracing::debug!(%entity, ?event, %error, "put off");
                self.outstanding.put_off(event);
                let life = self.outstanding.life();
                remind(ctx, TRY_AGAIN, HostMessage::Late { life });
            }
            // As a subscriber that is slow.
            Event::Published(_) => tracing::warn!(%entity, ?event, %error, "dropped"),
            // Nothing may come to it before that: it begins anew.
            Event::Started => {
                tracing::warn!(%entity, %error, "guest not told of its start");
                self.stands = Stands::Away;
                self.prepare_after(ctx, TRY_AGAIN);
            }
        }
    }

    /// Tells the guest the first of what is late. As long as something is late there is one `Late` on its
    /// way.
    pub(super) async fn on_late(
        &mut self,
        ctx: &mut Context<Self>,
        life: u64,
    ) -> Result<(), ActorError> {
        if life != self.outstanding.life() || self.travel.is_gone() {
            return Ok(());
        }
        if self.travel.is_frozen() {
            // It goes with the guest, or the guest goes on here.
            remind(ctx, TRY_AGAIN, HostMessage::Late { life });
            return Ok(());
        }
        let Some(event) = self.outstanding.next_late() else { return Ok(()) };
        if let Some((event, error)) = self.tell(ctx, event).await? {
            self.put_off(ctx, event, &error);
            return Ok(());
        }
        if life != self.outstanding.life() || self.outstanding.late().next().is_none() {
            return Ok(());
        }
        // Before the calls that wait, which came later, and behind what the host is asked meanwhile.
        let told = ctx.handle().tell_control(HostMessage::Late { life });
        if let Err(TellError::Full(message)) = told {
            remind(ctx, Duration::ZERO, message);
        }
        Ok(())
    }
}
