//! The address of an entity.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use odeum_proto::{EntityId, RequestId, call::CallError, codec};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::call::{body_error, too_late};
use super::envelope::{Envelope, Payload, Question, ReplyTo};
use super::host::Local;
use super::hub::Hub;
use super::pending::{Answer, Ticket};
use super::route::{Route, State, Target, Wait, waited};
use super::slot::Held;
use super::{EntityMessage, HOLD, Path};
use crate::transport::lane::Refused;
use crate::transport::lane::packet::{AskHead, put_ask, put_tell};

/// The pause before an ask with a key is tried again at a node that was lost.
const RETRY: Duration = Duration::from_millis(20);

/// The address of an entity: the same wherever it is, also while it moves. Cheap to clone.
pub struct EntityRef<M> {
    hub: Arc<Hub>,
    route: Arc<Route>,
    message: PhantomData<fn(M)>,
}

/// What one attempt came to.
enum Attempt<T> {
    Done(T),
    /// At once: what was known is out of date.
    Again,
    Wait(Wait),
    Local(Box<dyn Future<Output = ()> + Send + Unpin>),
    Fail(CallError),
}

/// Where an answer comes from.
enum Answering<'a, R> {
    Here(oneshot::Receiver<Result<R, CallError>>),
    There(Ticket<'a>, oneshot::Receiver<Answer>),
}

impl<M: EntityMessage> EntityRef<M> {
    pub(super) fn new(hub: Arc<Hub>, id: EntityId) -> Self {
        let route = hub.route(Path::new(id));
        Self { hub, route, message: PhantomData }
    }

    /// The entity's name.
    #[must_use]
    pub fn id(&self) -> &EntityId {
        &self.route.path().id
    }

    /// Sends a message that wants no answer. Returns when it is queued, here or on its way;
    /// waits while the entity has too many messages, and up to [`HOLD`] while it has no owner.
    ///
    /// Cancel-safe: a dropped call has not sent.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] when no owner is found in time, [`CallError::TooLarge`].
    pub async fn tell(&self, message: M) -> Result<(), CallError> {
        let mut message = Some(message);
        let mut attempt = || self.try_tell(&mut message);
        match attempt() {
            Attempt::Done(()) => Ok(()),
            Attempt::Fail(error) => Err(error),
            _ => self.persist(Instant::now() + HOLD, attempt).await,
        }
    }

    /// Sends a message and waits for its answer.
    ///
    /// # Errors
    /// Before or at the deadline, such as [`CallError::NotHere`] by a node that is about to end. After
    /// [`CallError::Unreachable`] and
    /// [`CallError::DeadlineExceeded`] the message may have been handled.
    pub async fn ask(&self, message: M, deadline: Duration) -> Result<M::Reply, CallError> {
        let until = Instant::now() + deadline;
        let mut message = Some(message);
        self.attempt_ask(&mut message, None, until, deadline).await
    }

    /// As [`ask`](Self::ask), with an idempotency key: asked again with the same key, also by
    /// another caller, the entity answers what it answered first, for as long as it is active and
    /// within [`odeum_proto::limits::DEDUPLICATION_WINDOW`] keys or
    /// [`odeum_proto::limits::DEDUPLICATION_TIME`], whichever is longer. So a node that was lost while it
    /// worked is no error here: the next owner is asked.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); [`CallError::ReplyForgotten`] when the first reply was too large.
    pub async fn ask_once(
        &self,
        key: RequestId,
        message: M,
        deadline: Duration,
    ) -> Result<M::Reply, CallError> {
        let until = Instant::now() + deadline;
        let mut message = Some(message);
        loop {
            let result = self.attempt_ask(&mut message, Some(&key), until, deadline).await;
            match result {
                Err(CallError::Unreachable { .. } | CallError::NotHere { .. })
                    if message.is_some() =>
                {
                    let again = Instant::now() + RETRY;
                    if again >= until {
                        return result;
                    }
                    tokio::time::sleep_until(again).await;
                }
                _ => return result,
            }
        }
    }

    async fn attempt_ask(
        &self,
        message: &mut Option<M>,
        key: Option<&RequestId>,
        until: Instant,
        deadline: Duration,
    ) -> Result<M::Reply, CallError> {
        let late = || too_late(self.id(), deadline);
        let mut attempt = || self.try_ask(message, key, until);
        let answering = match attempt() {
            Attempt::Done(answering) => answering,
            Attempt::Fail(error) => return Err(error),
            _ => self.persist(until, attempt).await?,
        };
        let answer = async {
            match answering {
                Answering::Here(answer) => answer.await.unwrap_or_else(|_| Err(late())),
                Answering::There(_ticket, answer) => {
                    let bytes = answer.await.unwrap_or_else(|_| Err(late()))?;
                    codec::decode(&bytes).map_err(|error| CallError::Refused {
                        entity: self.id().clone(),
                        reason: format!("its reply is not understood: {error}").into(),
                    })
                }
            }
        };
        timeout_at(until, answer).await.unwrap_or_else(|_| Err(late()))
    }

    /// Tries until something else than waiting comes of it.
    async fn persist<T>(
        &self,
        until: Instant,
        mut attempt: impl FnMut() -> Attempt<T>,
    ) -> Result<T, CallError> {
        let mut changes = self.hub.changes();
        let mut reason: Box<str>;
        loop {
            // Both listened to before the attempt: a change after it is not missed.
            changes.mark_unchanged();
            let mut changed = std::pin::pin!(self.route.changed().notified());
            changed.as_mut().enable();
            let waiting = match attempt() {
                Attempt::Done(done) => return Ok(done),
                Attempt::Fail(error) => return Err(error),
                Attempt::Again => continue,
                Attempt::Wait(Wait::Change(why)) => {
                    reason = why;
                    let change = async {
                        tokio::select! {
                            _ = changes.changed() => {}
                            () = changed => {}
                        }
                    };
                    timeout_at(until, change).await
                }
                Attempt::Wait(Wait::Lane(outlet)) => {
                    reason = "the lane to its node is full".into();
                    timeout_at(until, outlet.space()).await
                }
                Attempt::Local(space) => {
                    reason = "it has too many messages waiting".into();
                    timeout_at(until, space).await
                }
            };
            if waiting.is_err() {
                return Err(waited(self.route.path(), &reason));
            }
        }
    }

    fn try_tell(&self, message: &mut Option<M>) -> Attempt<()> {
        let mut state = self.route.lock();
        if let Err(wait) = self.route.aim(&self.hub, &mut state) {
            return Attempt::Wait(wait);
        }
        match &state.target {
            Target::Here(local) => {
                let Some(local) = local.downcast_ref::<Arc<dyn Local<M>>>() else {
                    return Attempt::Fail(self.other_type());
                };
                let Some(value) = message.take() else { return Attempt::Done(()) };
                match local.push(Envelope::Tell(Payload::Value(value))) {
                    Ok(()) => Attempt::Done(()),
                    Err((held, back)) => {
                        if let Envelope::Tell(Payload::Value(value)) = back {
                            *message = Some(value);
                        }
                        let local = Arc::clone(local);
                        held_back(held, local, &mut state)
                    }
                }
            }
            Target::There { epoch, outlet, .. } => {
                let Some(value) = &*message else { return Attempt::Done(()) };
                let path = &self.route.path().text;
                let sent = outlet.push(|out| put_tell(out, *epoch, path, value));
                let outlet = Arc::clone(outlet);
                self.sent(sent, outlet, &mut state).unwrap_or(Attempt::Done(()))
            }
            Target::Nowhere => Attempt::Wait(Wait::Change("it has no owner".into())),
        }
    }

    fn try_ask(
        &self,
        message: &mut Option<M>,
        key: Option<&RequestId>,
        until: Instant,
    ) -> Attempt<Answering<'_, M::Reply>> {
        let mut state = self.route.lock();
        if let Err(wait) = self.route.aim(&self.hub, &mut state) {
            return Attempt::Wait(wait);
        }
        match &state.target {
            Target::Here(local) => {
                let Some(local) = local.downcast_ref::<Arc<dyn Local<M>>>() else {
                    return Attempt::Fail(self.other_type());
                };
                let Some(value) = message.take() else { return Attempt::Again };
                let (sender, receiver) = oneshot::channel();
                let question = Question {
                    payload: Payload::Value(value),
                    key: key.cloned(),
                    until,
                    reply: ReplyTo::here(sender, local.id()),
                };
                match local.push(Envelope::Ask(Box::new(question))) {
                    Ok(()) => Attempt::Done(Answering::Here(receiver)),
                    Err((held, back)) => {
                        if let Envelope::Ask(question) = back
                            && let Question { payload: Payload::Value(value), .. } = *question
                        {
                            *message = Some(value);
                        }
                        let local = Arc::clone(local);
                        held_back(held, local, &mut state)
                    }
                }
            }
            Target::There { epoch, outlet, .. } => {
                let Some(value) = &*message else { return Attempt::Again };
                let generation = outlet.generation();
                let (ticket, receiver) = self.hub.pending().wait(generation);
                let head = AskHead {
                    call: ticket.call,
                    epoch: *epoch,
                    remaining: until.saturating_duration_since(Instant::now()),
                    key: key.map(RequestId::as_str).unwrap_or_default(),
                    entity: &self.route.path().text,
                };
                let sent = outlet.push(|out| put_ask(out, &head, value));
                let outlet = Arc::clone(outlet);
                let is_of = outlet.generation();
                match self.sent(sent, outlet, &mut state) {
                    Some(attempt) => attempt,
                    None => {
                        if is_of != generation {
                            // What was lost in between was sent before this.
                            self.hub.pending().resent(ticket.call, is_of);
                        }
                        Attempt::Done(Answering::There(ticket, receiver))
                    }
                }
            }
            Target::Nowhere => Attempt::Wait(Wait::Change("it has no owner".into())),
        }
    }

    /// What follows when a packet was not queued.
    fn sent<T>(
        &self,
        sent: Result<(), Refused>,
        outlet: Arc<crate::transport::lane::Outlet>,
        state: &mut State,
    ) -> Option<Attempt<T>> {
        Some(match sent {
            Ok(()) => return None,
            Err(Refused::Full) => Attempt::Wait(Wait::Lane(outlet)),
            Err(Refused::Closed) => {
                state.version = 0;
                state.target = Target::Nowhere;
                Attempt::Wait(Wait::Change("the link to its node was lost".into()))
            }
            Err(Refused::Body(error)) => Attempt::Fail(body_error(self.id(), &error)),
        })
    }

    fn other_type(&self) -> CallError {
        let expected = std::any::type_name::<M>();
        let reason = format!("its messages are not of type {expected}").into();
        CallError::Refused { entity: self.id().clone(), reason }
    }
}

/// What follows when an entity of this node did not take a message.
fn held_back<M: EntityMessage, T>(
    held: Held,
    local: Arc<dyn Local<M>>,
    state: &mut State,
) -> Attempt<T> {
    match held {
        Held::Full => Attempt::Local(Box::new(Box::pin(async move { local.space().await }))),
        Held::Moving => {
            state.version = 0;
            Attempt::Wait(Wait::Change("its shard is moving".into()))
        }
        Held::Paused => {
            state.version = 0;
            Attempt::Wait(Wait::Change("the lease of its node is over".into()))
        }
        Held::Gone => {
            state.version = 0;
            state.target = Target::Nowhere;
            Attempt::Again
        }
    }
}

impl<M> Clone for EntityRef<M> {
    fn clone(&self) -> Self {
        let (hub, route) = (Arc::clone(&self.hub), Arc::clone(&self.route));
        Self { hub, route, message: PhantomData }
    }
}

impl<M> fmt::Debug for EntityRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EntityRef").field(self.route.path()).finish()
    }
}
