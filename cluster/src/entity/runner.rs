//! The actor that runs one activation of an entity.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Poke` | the slot, when its queue is no longer empty or the entity shall end | none |

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context, Pace};
use odeum_proto::{EntityId, RequestId, call::CallError, codec, limits};
use tokio::time::Instant;

use super::call::too_late;
use super::context::EntityContext;
use super::drained::Drained;
use super::envelope::{Envelope, Question};
use super::frozen::Frozen;
use super::slot::{Ended, Next, Slot};
use super::window::{Remembered, Window};
use super::{Entity, EntityMessage, Path};

/// Messages handled per poke before this actor looks for what else it was told. The other actors
/// of the thread get their turn by [`Pace`].
const BATCH: usize = 64;

/// First pause before an entity that crashed is made anew; doubled with each crash in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest such pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why an activation ends that did nothing wrong.
const OVER: &str = "the lease of its node was over";

/// There is something to do.
#[derive(Debug)]
pub(super) struct Poke;

/// See the module.
pub(super) struct Runner<E: Entity> {
    slot: Arc<Slot<E>>,
    run: u64,
    entity: Option<E>,
    /// Replies by idempotency key; made with the first one.
    window: Option<Box<Window>>,
    ended: Ended,
}

impl<E: Entity> Runner<E> {
    pub(super) fn new(slot: Arc<Slot<E>>, run: u64) -> Self {
        let ended = Ended::NotStarted("it panicked, was killed or took too long to start".into());
        Self { slot, run, entity: None, window: None, ended }
    }
}

impl<E: Entity> Drop for Runner<E> {
    fn drop(&mut self) {
        // The entity's value is gone before its next one can be made.
        self.entity = None;
        let ended = std::mem::replace(&mut self.ended, Ended::Orderly);
        self.slot.ended(self.run, ended);
    }
}

impl<E: Entity> Actor for Runner<E> {
    type Message = Poke;

    // Boxed, all three: what an entity needs while it works is many times what it needs while it
    // waits, and a task is as large as the most it ever needs.
    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        Box::pin(self.start(ctx)).await
    }

    async fn handle(&mut self, ctx: &mut Context<Self>, _: Poke) -> Result<(), ActorError> {
        Box::pin(self.work(ctx)).await
    }

    /// The node is stopping, or the entity has ended already.
    async fn stopping(&mut self, ctx: &mut Context<Self>) {
        Box::pin(self.end(ctx)).await;
    }
}

type ReplyOf<E> = <<E as Entity>::Message as EntityMessage>::Reply;

impl<E: Entity> Runner<E> {
    async fn start(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let crashes = self.slot.crashes();
        if crashes > 0 {
            let doubled = FIRST_PAUSE.saturating_mul(1 << (crashes - 1).min(10));
            tokio::time::sleep(doubled.min(LONGEST_PAUSE)).await;
        }
        if !self.slot.host.tenure().holds() {
            // What waits stays, and it is made when there is a lease again.
            self.ended = Ended::Orderly;
            return Err(ActorError::msg(OVER));
        }
        let entity = self.entity.insert(self.slot.host.make(&self.slot.id));
        let mut own = EntityContext::new(ctx, &self.slot);
        let frozen = self.slot.host.state_of(&self.slot.path);
        let goes_on = frozen.is_some();
        let began = match frozen {
            Some(state) => entity.thaw(&mut own, state).await,
            None => entity.activated(&mut own).await,
        };
        if let Err(error) = began {
            self.ended = Ended::NotStarted(error.to_string().into());
            return Err(error);
        }
        if goes_on {
            self.window = self.slot.host.went_on(&self.slot.path);
        }
        self.ended = Ended::Crashed;
        self.slot.active();
        Ok(())
    }

    async fn work(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let mut pace = Pace::default();
        // See `Tenure` for when the lease is looked at.
        let mut looks = true;
        for _ in 0..BATCH {
            match self.slot.next(std::mem::take(&mut looks)) {
                Next::Handle(Envelope::Tell(payload)) => {
                    let message = match payload.open() {
                        Ok(message) => message,
                        Err(error) => {
                            tracing::warn!(entity = %self.slot.path, %error, "message refused");
                            continue;
                        }
                    };
                    noticing(self.run(ctx, message), &mut looks).await?;
                }
                Next::Handle(Envelope::Ask(question)) => {
                    self.answer(ctx, *question).await?;
                    looks = true;
                }
                Next::Handle(Envelope::Fence { call, from }) => from.fenced(call),
                Next::Rest => return Ok(()),
                Next::End => {
                    self.end(ctx).await;
                    return Ok(());
                }
                Next::Freeze(drained) => {
                    self.freeze(ctx, &drained).await;
                    return Ok(());
                }
            }
            looks |= pace.step().await;
        }
        // Its own mailbox has room: it holds pokes only.
        let _ = ctx.handle().try_tell(Poke);
        Ok(())
    }

    async fn run(
        &mut self,
        ctx: &mut Context<Self>,
        message: E::Message,
    ) -> Result<ReplyOf<E>, ActorError> {
        let Some(entity) = &mut self.entity else {
            return Err(ActorError::msg("the entity has ended"));
        };
        entity.handle(&mut EntityContext::new(ctx, &self.slot), message).await
    }

    async fn answer(
        &mut self,
        ctx: &mut Context<Self>,
        question: Question<E::Message>,
    ) -> Result<(), ActorError> {
        let Question { payload, key, until, reply } = question;
        if reply.is_closed() {
            return Ok(());
        }
        let entity = || EntityId::clone(&self.slot.id);
        if Instant::now() >= until {
            reply.send(Err(too_late(&self.slot.id, Duration::ZERO)));
            return Ok(());
        }
        if let Some(before) = key.as_ref().and_then(|key| self.remembered(key)) {
            reply.send(before);
            return Ok(());
        }
        let message = match payload.open() {
            Ok(message) => message,
            Err(error) => {
                let reason = error.to_string().into();
                reply.send(Err(CallError::Refused { entity: entity(), reason }));
                return Ok(());
            }
        };
        match self.run(ctx, message).await {
            Ok(_) if !self.slot.host.tenure().holds() => {
                // Another node may have it by now. What it knows is not to be relied on either.
                let entity = EntityId::clone(&self.slot.id);
                reply.send(Err(CallError::Unavailable { entity, reason: OVER.into() }));
                Err(ActorError::msg(OVER))
            }
            Ok(answer) => {
                if let Some(key) = key {
                    // A reply that cannot be encoded cannot be sent either, which tells the asker.
                    let bytes = codec::encode(&answer).unwrap_or_default();
                    let window = self.window.get_or_insert_default();
                    window.put(&key, &bytes, Instant::now());
                }
                reply.send(Ok(answer));
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string().into();
                let entity = EntityId::clone(&self.slot.id);
                reply.send(Err(CallError::Failed { entity, reason }));
                Err(error)
            }
        }
    }

    /// What was answered under this key before.
    fn remembered(&self, key: &RequestId) -> Option<Result<ReplyOf<E>, CallError>> {
        Some(match self.window.as_ref()?.get(key)? {
            Remembered::TooLarge => Err(CallError::ReplyForgotten { request: key.clone() }),
            Remembered::Reply(bytes) => codec::decode(&bytes).map_err(|error| CallError::Refused {
                entity: EntityId::clone(&self.slot.id),
                reason: error.to_string().into(),
            }),
        })
    }

    /// Stops for good, and gives what it has in memory to whoever moves its shard; or stays.
    async fn freeze(&mut self, ctx: &mut Context<Self>, drained: &Drained) {
        let Some(entity) = self.entity.as_mut().filter(|_| self.slot.host.tenure().holds()) else {
            return self.end(ctx).await;
        };
        let limit = limits::ENTITY_STATE_BYTES;
        let reason = match entity.freeze(&mut EntityContext::new(ctx, &self.slot)).await {
            Ok(state) if state.len() <= limit => {
                self.entity = None;
                let (id, text) = (EntityId::clone(&self.slot.id), Arc::clone(&self.slot.path));
                let (path, shard) = (Path { id, text }, self.slot.shard);
                let frozen = Frozen { path, shard, state, window: self.window.take() };
                if let Err(frozen) = drained.collect(frozen) {
                    self.slot.host.keep(frozen);
                }
                self.ended = Ended::Orderly;
                return ctx.stop();
            }
            Ok(state) => format!("it has {} bytes in memory; {limit} can go", state.len()),
            Err(error) => error.to_string(),
        };
        drained.refuse(format!("{}: {reason}", self.slot.path).into());
        self.slot.stays();
    }

    async fn end(&mut self, ctx: &mut Context<Self>) {
        // Without a lease it may not even say farewell: it might write something.
        if let Some(mut entity) = self.entity.take().filter(|_| self.slot.host.tenure().holds()) {
            entity.passivating(&mut EntityContext::new(ctx, &self.slot)).await;
        }
        self.ended = Ended::Orderly;
        ctx.stop();
    }
}

/// Whether the work waited for something is told besides what came of it.
async fn noticing<F: Future>(work: F, waited: &mut bool) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        *waited |= polled.is_pending();
        polled
    })
    .await
}
