//! Whether the guest is alive: asked between messages, as often as its policy says.
//!
//! Who asks is the coordinator. That the host takes the question shows that it comes to its next
//! message; what the guest says, or its process does, comes after that. So a guest that exports
//! nothing to be asked is alive as long as its host is, and a message that takes too long is ended by
//! its own limit.

use std::time::Duration;

use odeum_actors::{ActorError, Context};
use odeum_proto::{
    chronicle::What,
    http::HttpRequest,
    store::{FirmwareSpec, Liveness},
};
use tokio::{sync::oneshot, time::timeout};

use super::{HostActor, HostHandle, HostMessage, Stands, message::Next};
use crate::firmware::{
    effect::Answer,
    error::GuestFailure,
    instance::Arrival,
    runner::{Running, Server},
};

/// What a check may take longer than the guest may: the way to its process and back.
const SLACK: Duration = Duration::from_millis(500);

impl HostHandle {
    /// Has the guest asked, behind the message at hand; whether the host took that within `patience`,
    /// or has ended.
    pub(in crate::firmware) async fn check(&self, patience: Duration) -> bool {
        let (taken, took) = oneshot::channel();
        if self.actor.tell_control(HostMessage::Check { taken }).is_err() {
            return true;
        }
        timeout(patience, took).await.is_ok()
    }
}

impl HostActor {
    pub(super) async fn on_check(
        &mut self,
        ctx: &mut Context<Self>,
        taken: oneshot::Sender<()>,
    ) -> Result<(), ActorError> {
        let _ = taken.send(());
        let Some(liveness) = self.parts.spec.policy.liveness.clone() else { return Ok(()) };
        match std::mem::replace(&mut self.stands, Stands::Away) {
            Stands::Ready(instance) => self.probe(ctx, instance, &liveness).await,
            Stands::Http(serving) => {
                let server = serving.server().clone();
                self.stands = Stands::Http(serving);
                self.request(ctx, server, liveness);
                Ok(())
            }
            // There is nobody to ask: how long it may take to start is another matter.
            other => {
                self.stands = other;
                Ok(())
            }
        }
    }

    async fn probe(
        &mut self,
        ctx: &mut Context<Self>,
        instance: Running,
        liveness: &Liveness,
    ) -> Result<(), ActorError> {
        let used = self.used;
        let Some(variables) = self.parts.variables_of_no_message() else {
            self.rest(ctx, instance);
            return Ok(());
        };
        let within = liveness.timeout;
        let asked = timeout(within + SLACK, instance.handle(Arrival::Probed { within }, variables));
        let (said, next) = match asked.await {
            Err(_) => {
                let reason = format!("it did not answer within {within:?}").into();
                let failure = GuestFailure::NotAlive { failures: 1, reason };
                (Err(failure.to_string()), Next::Crash(failure))
            }
            Ok(Err(failure)) => (Err(failure.to_string()), Next::Crash(failure)),
            Ok(Ok((instance, Answer::Refused { reason, .. }))) => {
                (Err(reason.into()), Next::Keep(instance))
            }
            Ok(Ok((instance, Answer::Done(effect)))) => {
                match effect.writes.is_empty() && effect.deeds.is_empty() {
                    true => (Ok(()), Next::Keep(instance)),
                    // Its memory may hold what the store does not.
                    false => {
                        let reason = "it wrote or sent something, which is not kept";
                        (Err(reason.to_owned()), Next::Renew)
                    }
                }
            }
        };
        let next = match (self.judge(said, liveness), next) {
            // The instance is gone, and its end says more.
            (_, Next::Crash(failure)) => Next::Crash(failure),
            (Some(failure), _) => Next::Crash(failure),
            (None, next) => next,
        };
        if let Next::Crash(failure) = &next {
            self.parts.erred(failure);
        }
        self.go_on(ctx, next)?;
        // A check is no use of it: it may still become idle.
        self.used = used;
        Ok(())
    }

    /// Has a request answered beside the actor.
    fn request(&self, ctx: &mut Context<Self>, server: Server, liveness: Liveness) {
        let Some(path) = liveness.path else { return };
        let (life, actor) = (self.outstanding.life(), ctx.handle().clone());
        ctx.spawn(async move {
            let request = HttpRequest {
                method: "GET".to_owned(),
                authority: "localhost".to_owned(),
                path: path.clone(),
                headers: Vec::new(),
                body: Vec::new(),
            };
            let said = match timeout(liveness.timeout, server.serve(request)).await {
                Err(_) => Err(format!("GET {path} had no answer within {:?}", liveness.timeout)),
                Ok(Err(failure)) => Err(format!("GET {path}: {failure}")),
                Ok(Ok(answer)) if (200..300).contains(&answer.status) => Ok(()),
                Ok(Ok(answer)) => Err(format!("GET {path} had status {}", answer.status)),
            };
            // An error means that the actor ended.
            let _ = actor.tell_control(HostMessage::Checked { life, said });
        });
    }

    /// What came of a request.
    pub(super) fn on_checked(
        &mut self,
        life: u64,
        said: Result<(), String>,
    ) -> Result<(), ActorError> {
        let Some(liveness) = self.parts.spec.policy.liveness.clone() else { return Ok(()) };
        if life != self.outstanding.life() || !matches!(self.stands, Stands::Http(_)) {
            return Ok(());
        }
        match self.judge(said, &liveness) {
            None => Ok(()),
            Some(failure) => {
                self.parts.erred(&failure);
                self.stands = Stands::Away;
                self.crashed(failure)
            }
        }
    }

    /// Counts; the crash that it comes to, if it does.
    fn judge(&mut self, said: Result<(), String>, liveness: &Liveness) -> Option<GuestFailure> {
        let Err(reason) = said else {
            self.failed_checks = 0;
            return None;
        };
        self.failed_checks = self.failed_checks.saturating_add(1);
        let (failures, entity) = (self.failed_checks, &self.parts.entity);
        tracing::warn!(%entity, failures, reason, "firmware is not alive");
        self.parts.facts.happened(What::NotAlive { reason: reason.clone() });
        let reason = reason.into();
        (failures >= liveness.failures).then_some(GuestFailure::NotAlive { failures, reason })
    }
}

/// How long a host may take to come to its next message: all that it may be at.
pub(in crate::firmware) fn patience(spec: &FirmwareSpec, liveness: &Liveness) -> Duration {
    let message = spec.limits.message_time + 2 * super::STORE_DEADLINE;
    liveness.timeout + spec.policy.boot_time + message
}
