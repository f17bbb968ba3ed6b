//! What happens to a guest beside calls, and what it does to others.
//!
//! Timers, asks and subscriptions are those of one instance (`outstanding`): what comes for an earlier
//! one is dropped. What comes when nothing may be begun is told later (`late`).

use std::{fmt, time::Duration};

use futures::StreamExt as _;
use odeum_actors::{ActorError, Context, Handle, TellError};
use odeum_proto::{
    Recipient, RequestId,
    call::{CallError, CallRequest},
};
use tokio::task::AbortHandle;

use super::{
    HostActor, HostMessage, STORE_DEADLINE, Stands,
    message::{Next, Outcome},
};
use crate::firmware::{
    bridge::{Publication, Publisher, bridge},
    deeds::{Deed, LONGEST_ASK, Message},
    error::GuestFailure,
    instance::Arrival,
    travel::{Asked, Carried},
};
use crate::package::manifest::Manifest;

/// Names no instance: the event is for whichever there is.
pub(super) const ANY_LIFE: u64 = 0;

/// Something that happens to a guest.
pub(super) enum Event {
    /// It has started.
    Started,
    /// Something was published under a topic of its own.
    Published(Publication),
    /// A timer has run out.
    TimedOut(u64),
    /// An ask has its outcome.
    Answered { number: u64, outcome: Result<Vec<u8>, Box<str>> },
}

impl fmt::Debug for Event {
    /// Which it is, without what is in it: that is the guest's own, and may be as large as a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("Started"),
            Self::Published(it) => write!(f, "Published({:?})", it.topic),
            Self::TimedOut(number) => write!(f, "TimedOut({number})"),
            Self::Answered { number, .. } => write!(f, "Answered({number})"),
        }
    }
}

impl Event {
    fn arrival(&self) -> Arrival<'_> {
        match self {
            Self::Started => Arrival::Started,
            Self::Published(it) => Arrival::Published { topic: &it.topic, payload: &it.payload },
            Self::TimedOut(number) => Arrival::TimedOut { number: *number },
            Self::Answered { number, outcome } => {
                let outcome = outcome.as_deref().map_err(AsRef::as_ref);
                Arrival::Answered { number: *number, outcome }
            }
        }
    }
}

impl HostActor {
    /// Where the guest publishes. Its topics are subscribed to from then on.
    pub(super) fn publisher(&mut self, ctx: &mut Context<Self>, manifest: &Manifest) -> Publisher {
        let mqtt = &manifest.capabilities.mqtt;
        if let Some(publisher) = &self.publisher {
            return publisher.clone();
        }
        let access = self.parts.setting.grants.broker.as_ref();
        let access = access.filter(|_| !mqtt.publish.is_empty() || !mqtt.subscribe.is_empty());
        let Some(access) = access else { return Publisher::none() };
        let name = &self.parts.replica;
        let id = format!("odeum-{name}-{}", self.parts.epoch);
        let (publisher, bridge) = bridge(access, name, &id, &mqtt.subscribe);
        let actor = ctx.handle().clone();
        // For whichever instance there is then.
        let arrived = move |publication| {
            let event = Event::Published(publication);
            actor.try_tell(HostMessage::Happened { life: ANY_LIFE, event }).is_ok()
        };
        ctx.spawn(bridge.run(arrived));
        self.publisher = Some(publisher.clone());
        publisher
    }

    /// Tells a new actor that it has started. What it does then is committed.
    pub(super) async fn begin_actor(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let life = self.outstanding.life();
        self.on_happened(ctx, life, Event::Started).await
    }

    /// Gives the guest what nobody waits for.
    pub(super) async fn on_happened(
        &mut self,
        ctx: &mut Context<Self>,
        life: u64,
        event: Event,
    ) -> Result<(), ActorError> {
        let Some(event) = self.travel.keep_event(life, event) else { return Ok(()) };
        let is_present = life == ANY_LIFE || life == self.outstanding.life();
        // A timer may have been taken back when its end was on its way already.
        if !is_present || !self.outstanding.waits_for(&event) {
            return Ok(());
        }
        let Some(event) = self.outstanding.kept_behind(event) else { return Ok(()) };
        if let Some((event, error)) = self.tell(ctx, event).await? {
            self.put_off(ctx, event, &error);
        }
        Ok(())
    }

    /// Tells the guest of it. Gives it back, with the reason, when nothing may be begun at present: the
    /// lease of the node is over, or what is to be saved before cannot be.
    pub(super) async fn tell(
        &mut self,
        ctx: &mut Context<Self>,
        event: Event,
    ) -> Result<Option<(Event, CallError)>, ActorError> {
        let call = CallRequest {
            entity: self.parts.entity.clone(),
            request: RequestId::random(),
            session: None,
            body: Vec::new(),
            remaining: STORE_DEADLINE,
        };
        // Before it is woken: no instance is started without the lease.
        let session = match self.parts.check(&call) {
            Err(Err(error)) if error.is_retryable() => return Ok(Some((event, error))),
            checked => checked.ok(),
        };
        match self.catch_up().await {
            Ok(()) => {}
            Err((error, None)) => return Ok(Some((event, error))),
            Err((error, Some(next))) => {
                tracing::warn!(entity = %self.parts.entity, ?event, %error, "dropped");
                return self.go_on(ctx, next).map(|()| None);
            }
        }
        self.wake(ctx).await?;
        let parts = &self.parts;
        let stands = std::mem::replace(&mut self.stands, Stands::Away);
        let (instance, session) = match (stands, session) {
            (Stands::Ready(instance), Some(session)) => (instance, session),
            (other, _) => {
                self.stands = other;
                tracing::debug!(entity = %parts.entity, ?event, "dropped: nobody is ready for it");
                return Ok(None);
            }
        };
        self.outstanding.came(&event);
        let arrival = Some(event.arrival());
        let outcome = parts.run(instance, call, session, arrival).await;
        let Outcome { answered, next, deeds, .. } = Box::pin(parts.confirm(outcome)).await;
        match (&next, answered) {
            (Next::Crash(failure), _) => parts.erred(failure),
            (_, Ok(_)) => self.do_deeds(ctx, deeds),
            (_, Err(error)) if matches!(event, Event::Started) => {
                let failure = GuestFailure::NotStarted { reason: error.to_string().into() };
                parts.erred(&failure);
                return self.crashed(failure).map(|()| None);
            }
            (_, Err(error)) => {
                tracing::warn!(entity = %parts.entity, ?event, %error, "guest failed to handle it");
                if matches!(next, Next::Keep(_)) {
                    self.leave_undone(ctx, deeds, &error);
                }
            }
        }
        let next = self.save_if_due(ctx, next).await;
        self.go_on(ctx, next).map(|()| None)
    }

    /// Does what a committed message does to others.
    pub(super) fn do_deeds(&mut self, ctx: &mut Context<Self>, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::SetTimer { number, after } => self.set_timer(ctx, number, after),
                Deed::CancelTimer { number } => {
                    self.outstanding.cancel_timer(number);
                }
                Deed::Tell { to, body } => {
                    let told = self.parts.reach.call(self.message(&to, body, LONGEST_ASK));
                    let entity = self.parts.entity.clone();
                    ctx.spawn(async move {
                        if let Err(error) = told.await {
                            tracing::warn!(%entity, %to, %error, "message of a guest not delivered");
                        }
                    });
                }
                Deed::Ask { number, to, body, deadline } => {
                    self.ask(ctx, number, self.message(&to, body, deadline));
                }
                Deed::Publish { topic, payload } => {
                    let published = self.parts.reach.publish(topic, payload);
                    let entity = self.parts.entity.clone();
                    ctx.spawn(async move {
                        if let Err(error) = published.await {
                            tracing::warn!(%entity, %error, "publication of a guest not sent");
                        }
                    });
                }
                Deed::Subscribe { topic } => self.subscribe(ctx, topic),
            }
        }
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>, number: u64, after: Duration) {
        let (life, event) = (self.outstanding.life(), Event::TimedOut(number));
        let task = remind(ctx, after, HostMessage::Happened { life, event });
        self.outstanding.timer_set(number, task, after);
    }

    fn ask(&mut self, ctx: &mut Context<Self>, number: u64, message: Message) {
        self.outstanding.asked(number, &message);
        let answer = self.parts.reach.call(message);
        self.tell_outcome(ctx, number, async move {
            let reply = answer.await.map_err(|error| error.to_string())?;
            Ok(reply.body)
        });
    }

    /// Tells the guest the outcome of an ask, once there is one.
    fn tell_outcome(
        &self,
        ctx: &mut Context<Self>,
        number: u64,
        outcome: impl Future<Output = Result<Vec<u8>, String>> + Send + 'static,
    ) {
        let (life, actor) = (self.outstanding.life(), ctx.handle().clone());
        ctx.spawn(async move {
            let outcome = outcome.await.map_err(Box::from);
            let event = Event::Answered { number, outcome };
            told(&actor, HostMessage::Happened { life, event }).await;
        });
    }

    /// What a message did is not done, and its guest goes on with a memory in which it is: others hear
    /// nothing of it, what it asked them has an outcome, and what concerns nobody else is set.
    pub(super) fn leave_undone(
        &mut self,
        ctx: &mut Context<Self>,
        deeds: Vec<Deed>,
        error: &CallError,
    ) {
        let mut own = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Ask { number, .. } => {
                    let reason = format!("it was not asked: {error}");
                    self.outstanding.answered(number);
                    self.tell_outcome(ctx, number, std::future::ready(Err(reason)));
                }
                Deed::Tell { .. } | Deed::Publish { .. } => {
                    let entity = &self.parts.entity;
                    tracing::warn!(%entity, %error, "message of a guest not sent");
                }
                Deed::SetTimer { .. } | Deed::CancelTimer { .. } | Deed::Subscribe { .. } => {
                    own.push(deed);
                }
            }
        }
        self.do_deeds(ctx, own);
    }

    fn message(&self, to: &Recipient, body: Vec<u8>, remaining: Duration) -> Message {
        Message::new(&self.parts.replica, to, body, remaining)
    }

    fn subscribe(&mut self, ctx: &mut Context<Self>, topic: String) {
        let (life, actor) = (self.outstanding.life(), ctx.handle().clone());
        let (subscribed, entity) =
            (self.parts.reach.subscribe(topic.clone()), self.parts.entity.clone());
        let name = topic.clone();
        let task = ctx.spawn(async move {
            let mut messages = match subscribed.await {
                Ok(messages) => messages,
                Err(error) => {
                    tracing::warn!(%entity, topic, %error, "guest not subscribed");
                    return;
                }
            };
            while let Some(payload) = messages.next().await {
                let it = Publication { topic: topic.clone(), payload: payload.to_vec() };
                let event = Event::Published(it);
                if actor.tell(HostMessage::Happened { life, event }).await.is_err() {
                    tracing::debug!(%entity, topic, "dropped: too many messages wait");
                }
            }
        });
        self.outstanding.subscribed(name, task);
    }

    /// The instance, which came by a move, waits for what it waited for where it was.
    pub(super) async fn take_up(
        &mut self,
        ctx: &mut Context<Self>,
        carried: Carried,
    ) -> Result<(), ActorError> {
        let life = self.outstanding.life();
        for topic in carried.topics {
            self.subscribe(ctx, topic);
        }
        for (number, after) in carried.timers {
            self.set_timer(ctx, number, after);
        }
        for Asked { number, call, is_spread } in carried.asks {
            let spread_by = is_spread.then(|| self.parts.replica.clone());
            self.ask(ctx, number, Message { call, spread_by });
        }
        for (number, _) in &carried.answers {
            self.outstanding.answered(*number);
        }
        for (number, outcome) in carried.answers {
            let outcome = outcome.map(Vec::from);
            self.on_happened(ctx, life, Event::Answered { number, outcome }).await?;
        }
        Ok(())
    }
}

/// Has a host given a message after that time, as [`told`] does.
pub(super) fn remind(
    ctx: &mut Context<HostActor>,
    after: Duration,
    message: HostMessage,
) -> AbortHandle {
    let actor = ctx.handle().clone();
    ctx.spawn(async move {
        tokio::time::sleep(after).await;
        told(&actor, message).await;
    })
}

/// Has a host given a message that it counts on, however many wait before.
async fn told(actor: &Handle<HostMessage>, mut message: HostMessage) {
    // Any other error means that the actor ended, and the instance with it.
    while let Err(TellError::Full(back)) = actor.tell(message).await {
        actor.space().await;
        message = back;
    }
}
