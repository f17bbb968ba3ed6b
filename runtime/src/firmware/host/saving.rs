//! When a host saves what its guest has written and was told that it is kept.

use std::time::Duration;

use odeum_actors::{ActorError, Context};
use odeum_proto::call::CallError;

use super::{
    HostActor, HostMessage, HostParts, Stands,
    events::remind,
    message::{Next, not_kept},
};
use crate::firmware::keeping::Unsaved;

/// Pause before another try to save something, and to tell a guest what waits for that.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(500);

impl HostActor {
    /// Saves what should have been saved by now; what comes next waits for that.
    ///
    /// # Errors
    /// What a caller is told, and how the host goes on if not as it is.
    pub(super) async fn catch_up(&mut self) -> Result<(), (CallError, Option<Next>)> {
        if !self.parts.keeper.is_due() {
            return Ok(());
        }
        Box::pin(self.catch_up_for_good()).await
    }

    /// Saves all that is kept; what comes next waits for that.
    ///
    /// # Errors
    /// As those of [`Self::catch_up`].
    pub(super) async fn catch_up_for_good(&mut self) -> Result<(), (CallError, Option<Next>)> {
        let parts = &self.parts;
        match parts.keeper.save().await {
            Ok(()) => Ok(()),
            Err(Unsaved::Later(reason)) => Err((CallError::NoQuorum { reason }, None)),
            Err(Unsaved::Over) => Err((parts.not_here(), Some(Next::End))),
            Err(Unsaved::Refused(refusal)) => {
                let failure = not_kept(&refusal);
                parts.erred(&failure);
                // The instance knows what is not so.
                self.stands = Stands::Away;
                Err((self.parts.failed(&failure), Some(Next::Crash(failure))))
            }
        }
    }

    /// After a message: saves what is due, and sees to it that the rest is saved when it is.
    pub(super) async fn save_if_due(&mut self, ctx: &mut Context<Self>, next: Next) -> Next {
        if !matches!(next, Next::Keep(_)) {
            return next;
        }
        let next = match self.parts.keeper.is_due() {
            true => Box::pin(self.parts.saved(next)).await,
            false => next,
        };
        self.await_saving(ctx);
        next
    }

    pub(super) async fn on_save(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        self.will_save = false;
        let parts = &self.parts;
        if parts.keeper.is_due() {
            match parts.keeper.save().await {
                Ok(()) => {}
                Err(Unsaved::Later(reason)) => {
                    tracing::warn!(entity = %parts.entity, reason, "checkpoint waits");
                }
                Err(Unsaved::Over) => return self.go_on(ctx, Next::End),
                Err(Unsaved::Refused(refusal)) => {
                    let failure = not_kept(&refusal);
                    parts.erred(&failure);
                    self.stands = Stands::Away;
                    return self.go_on(ctx, Next::Crash(failure));
                }
            }
        }
        self.await_saving(ctx);
        Ok(())
    }

    /// Has what is kept saved when it is due by its age.
    pub(super) fn await_saving(&mut self, ctx: &mut Context<Self>) {
        let Some(left) = self.parts.keeper.due_in().filter(|_| !self.will_save) else { return };
        self.will_save = true;
        // What is due already was tried just now.
        remind(ctx, if left.is_zero() { TRY_AGAIN } else { left }, HostMessage::Save);
    }
}

impl HostParts {
    async fn saved(&self, next: Next) -> Next {
        match self.keeper.save().await {
            Ok(()) => next,
            Err(Unsaved::Later(reason)) => {
                // The next message waits for it.
                tracing::warn!(entity = %self.entity, reason, "checkpoint waits");
                next
            }
            Err(Unsaved::Over) => Next::End,
            Err(Unsaved::Refused(refusal)) => {
                let failure = not_kept(&refusal);
                self.erred(&failure);
                Next::Crash(failure)
            }
        }
    }
}
