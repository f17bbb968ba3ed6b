//! A message of a caller: from its checks to its answer.

use odeum_actors::{ActorError, Context, Reply};
use odeum_cluster::entity::window::Remembered;
use odeum_proto::call::{CallError, CallRequest};
use tokio::time::Instant;

use super::{
    HostActor, Stands,
    message::{Answered, Next, Outcome},
};

impl HostActor {
    pub(super) async fn on_deliver(
        &mut self,
        ctx: &mut Context<Self>,
        call: CallRequest,
        reply: Reply<Answered>,
    ) -> Result<(), ActorError> {
        let Some((call, reply)) = self.travel.keep_call(call, reply) else { return Ok(()) };
        if reply.is_closed() {
            // Its caller gave up while it waited here. Nothing was done, as with any lost call.
            return Ok(());
        }
        let parts = &self.parts;
        if let Stands::Http(serving) = &self.stands {
            serving.begin(parts, ctx, call, reply);
            return Ok(());
        }
        let session = match parts.check(&call) {
            Ok(session) => session,
            Err(answered) => {
                reply.send(answered);
                return Ok(());
            }
        };
        if let Err((error, next)) = self.catch_up().await {
            reply.send(Err(error));
            return next.map_or(Ok(()), |next| self.go_on(ctx, next));
        }
        if let Err(error) = self.wake(ctx).await {
            let (entity, reason) = (self.parts.entity.clone(), error.to_string().into());
            reply.send(Err(CallError::Unavailable { entity, reason }));
            return Err(error);
        }
        let parts = &self.parts;
        if let Some(remembered) = self.recent.get(&call.request) {
            let answered = match remembered {
                Remembered::Reply(body) => Ok(parts.reply(body, true)),
                Remembered::TooLarge => Err(CallError::ReplyForgotten { request: call.request }),
            };
            self.answer_when_confirmed(ctx, answered, reply).await;
            return Ok(());
        }
        let instance = match std::mem::replace(&mut self.stands, Stands::Away) {
            Stands::Ready(instance) => instance,
            other => {
                reply.send(Err(parts.not_ready(&other)));
                self.stands = other;
                return Ok(());
            }
        };
        let request = call.request.clone();
        let mut outcome = parts.run(instance, call, session, None).await;
        let is_in_store = !outcome.unconfirmed;
        if !outcome.deeds.is_empty() {
            // In the order of the messages, and only when there is an answer.
            outcome = Box::pin(parts.confirm(outcome)).await;
        }
        if let (Ok(reply), false) = (&outcome.answered, is_in_store) {
            self.recent.put(&request, &reply.body, Instant::now());
        }
        let parts = &self.parts;
        let Outcome { answered, next, deeds, unconfirmed } = outcome;
        if let Next::Crash(failure) = &next {
            // Before the caller hears of it, so that who looks then sees it.
            parts.erred(failure);
        }
        match &answered {
            Ok(_) => self.do_deeds(ctx, deeds),
            Err(error) if matches!(next, Next::Keep(_)) => self.leave_undone(ctx, deeds, error),
            Err(_) => {}
        }
        match unconfirmed {
            true => self.answer_when_confirmed(ctx, answered, reply).await,
            false => reply.send(answered),
        }
        let next = self.save_if_due(ctx, next).await;
        self.go_on(ctx, next)
    }
}
