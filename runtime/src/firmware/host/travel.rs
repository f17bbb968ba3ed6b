//! A host whose guest moves to another node.
//!
//! While the guest is frozen it stays where it is in memory and is given nothing: messages and what
//! was published wait here. What becomes of it then is said by whoever froze it.
//!
//! Whoever moves it speaks to the host before the messages that wait, so that a long queue does not
//! hold a move up. What it is asked is done between two messages.

mod leaving;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use odeum_actors::{ActorError, Context, Reply};
use odeum_cluster::migration::Cannot;
use odeum_proto::{
    Epoch, NodeId,
    call::{CallError, CallRequest},
    chronicle::What,
};
use tokio::sync::OwnedSemaphorePermit;

use self::leaving::Leaving;
use super::{
    HostActor, HostHandle, HostMessage, MAILBOX, Stands,
    events::{ANY_LIFE, Event},
    message::Answered,
};
use crate::firmware::{heap::Packed, module::Module, runner::Running, travel::Thawed};

/// Longest wait for an answer: it comes after the message at hand, which has bounds of its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publications that wait for a frozen guest. Later ones are dropped, as from a full mailbox.
const PUBLICATIONS: usize = 256;

/// What a host is asked in a move.
pub(super) enum Ask {
    Depart {
        reply: Reply<Result<Departs, Cannot>>,
    },
    Pack {
        reply: Reply<Result<Packed, Cannot>>,
    },
    Freeze {
        reply: Reply<Result<(), Cannot>>,
    },
    /// What was under way when it was frozen is answered.
    Quiet {
        reply: Reply<Result<(), Cannot>>,
        slots: OwnedSemaphorePermit,
    },
    PackRest {
        with_memory: bool,
        reply: Reply<Result<Vec<Bytes>, Cannot>>,
    },
    Stay,
    Gone(Gone),
    Forsaken,
}

/// What can be said of a guest before it moves.
#[derive(Debug)]
pub(in crate::firmware) struct Departs {
    /// Why its memory would stay behind.
    pub(in crate::firmware) stays_behind: Option<Box<str>>,
    /// Whether there is so little of it that it need not be copied before.
    pub(in crate::firmware) small: bool,
}

/// Where a guest has gone.
#[derive(Debug, Clone)]
pub(in crate::firmware) struct Gone {
    pub(in crate::firmware) to: NodeId,
    pub(in crate::firmware) epoch: Epoch,
}

/// How a move from here stands.
#[derive(Default)]
pub(super) struct Travel {
    leaving: Option<Leaving>,
    frozen: Option<Frozen>,
    /// Whether what it has in memory goes with it.
    with_memory: bool,
    gone: Option<Gone>,
}

/// What waits for a frozen guest.
#[derive(Default)]
struct Frozen {
    calls: Vec<(CallRequest, Reply<Answered>)>,
    events: Vec<(u64, Event)>,
    /// Held, so that no request begins.
    slots: Option<OwnedSemaphorePermit>,
}

impl HostHandle {
    /// What can be said of the guest before it moves.
    pub(in crate::firmware) async fn depart(&self) -> Result<Departs, Cannot> {
        self.asked(|reply| Ask::Depart { reply }).await
    }

    /// The next piece of its memory, while it runs.
    pub(in crate::firmware) async fn pack(&self) -> Result<Packed, Cannot> {
        self.asked(|reply| Ask::Pack { reply }).await
    }

    /// Has it come to the end of the message at hand and be given nothing more.
    pub(in crate::firmware) async fn freeze(&self) -> Result<(), Cannot> {
        self.asked(|reply| Ask::Freeze { reply }).await
    }

    /// What is left of its memory, if that is to come, and what waits for it but for calls, in pieces.
    /// What it wrote is in the store then.
    pub(in crate::firmware) async fn pack_rest(
        &self,
        with_memory: bool,
    ) -> Result<Vec<Bytes>, Cannot> {
        self.asked(|reply| Ask::PackRest { with_memory, reply }).await
    }

    /// It stays, and goes on.
    pub(in crate::firmware) fn stay(&self) {
        self.told(Ask::Stay);
    }

    /// It has gone.
    pub(in crate::firmware) fn gone(&self, gone: Gone) {
        self.told(Ask::Gone(gone));
    }

    /// Nobody knows what has become of its move.
    pub(in crate::firmware) fn forsaken(&self) {
        self.told(Ask::Forsaken);
    }

    fn told(&self, ask: Ask) {
        // One that is down has ended otherwise.
        let _ = self.actor.tell_control(HostMessage::Travel(ask));
    }

    async fn asked<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Reply<Result<T, Cannot>>) -> Ask + Send,
    ) -> Result<T, Cannot> {
        let answer = self.actor.ask_control(PATIENCE, |reply| HostMessage::Travel(ask(reply)));
        let answer = answer.await;
        answer.unwrap_or_else(|error| Err(Cannot::because(error)))
    }
}

impl Travel {
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Whether the guest goes on elsewhere.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Keeps a call while the guest is frozen, or says where it has gone; else gives it back.
    pub(super) fn keep_call(
        &mut self,
        call: CallRequest,
        reply: Reply<Answered>,
    ) -> Option<(CallRequest, Reply<Answered>)> {
        if let Some(gone) = &self.gone {
            reply.send(Err(gone.moved(call)));
            return None;
        }
        let Some(frozen) = &mut self.frozen else { return Some((call, reply)) };
        if frozen.calls.len() >= MAILBOX {
            reply.send(Err(CallError::Overloaded { entity: call.entity, queued: MAILBOX }));
        } else {
            frozen.calls.push((call, reply));
        }
        None
    }

    /// Keeps what happened to a frozen guest; gives it back when the guest is not.
    pub(super) fn keep_event(&mut self, life: u64, event: Event) -> Option<Event> {
        if self.gone.is_some() {
            return None;
        }
        let Some(frozen) = &mut self.frozen else { return Some(event) };
        let is_published = |event: &Event| matches!(event, Event::Published(_));
        let published = frozen.events.iter().filter(|(_, event)| is_published(event)).count();
        // Timers and answers are no more than the guest may wait for.
        if published < PUBLICATIONS || !is_published(&event) {
            frozen.events.push((life, event));
        }
        None
    }

    /// Nothing comes any more that would have to be kept from beginning: the host ends.
    pub(super) fn let_go(&mut self) {
        if let Some(frozen) = &mut self.frozen {
            frozen.slots = None;
        }
    }

    /// Who waited for a guest that is here no more is told where it is, as far as that is known.
    pub(super) fn send_on(&mut self, gone: Option<Gone>, here: &NodeId) {
        for (call, reply) in self.frozen.take().unwrap_or_default().calls {
            reply.send(Err(match &gone {
                Some(gone) => gone.moved(call),
                None => CallError::NotHere { entity: call.entity, node: here.clone() },
            }));
        }
    }
}

impl Gone {
    fn moved(&self, call: CallRequest) -> CallError {
        CallError::Moved { entity: call.entity, to: self.to.clone(), epoch: self.epoch }
    }
}

impl HostActor {
    pub(super) async fn on_travel(
        &mut self,
        ctx: &mut Context<Self>,
        ask: Ask,
    ) -> Result<(), ActorError> {
        match ask {
            Ask::Depart { reply } => reply.send(self.departs()),
            Ask::Pack { reply } => reply.send(self.pack()),
            Ask::Freeze { reply } => self.on_freeze(ctx, reply),
            Ask::Quiet { reply, slots } => {
                if let Some(frozen) = &mut self.travel.frozen {
                    frozen.slots = Some(slots);
                }
                reply.send(Ok(()));
            }
            Ask::PackRest { with_memory, reply } => {
                // Where it goes on nobody has what is kept here.
                if let Err((error, next)) = self.catch_up_for_good().await {
                    reply.send(Err(Cannot::because(error)));
                    return next.map_or(Ok(()), |next| self.go_on(ctx, next));
                }
                reply.send(self.pack_rest(with_memory).await);
            }
            Ask::Stay => return self.on_stay(ctx).await,
            Ask::Gone(gone) => self.on_gone(ctx, gone).await,
            Ask::Forsaken => {
                if self.travel.is_frozen() {
                    // It may have been switched: what it has in memory may be elsewhere by now.
                    self.stands = Stands::Away;
                    self.travel.send_on(None, &self.parts.node);
                    self.fence(ctx);
                }
            }
        }
        Ok(())
    }

    /// The guest goes on here as it was on another node.
    pub(super) async fn go_on_here(
        &mut self,
        ctx: &mut Context<Self>,
        module: &Module,
        thawed: Thawed,
    ) -> Result<(), ActorError> {
        let Thawed { instance, carried, inbox, answers, .. } = thawed;
        match instance {
            Some(mut instance) => {
                instance.publish_to(self.publisher(ctx, module.manifest()));
                self.outstanding.renew(module.carries());
                self.recent = answers;
                self.rest(ctx, Running::inside(instance));
                self.take_up(ctx, carried).await?;
            }
            None if inbox.asleep => {
                self.parts.facts.idle();
                self.stands = Stands::Asleep(module.clone());
            }
            None => self.begin(ctx, module).await?,
        }
        for publication in inbox.publications() {
            self.on_happened(ctx, ANY_LIFE, Event::Published(publication)).await?;
        }
        Ok(())
    }

    /// Who waits is told where the guest is, if somebody has it.
    pub(super) fn send_on_at_end(&mut self) -> bool {
        let parts = &self.parts;
        let place = parts.ledger.placement(&parts.entity).filter(|it| it.node != parts.node);
        let gone = place.map(|place| Gone { to: place.node, epoch: place.epoch });
        let is_frozen = self.travel.is_frozen();
        self.travel.send_on(gone, &parts.node);
        is_frozen && self.travel.with_memory
    }

    fn on_freeze(&mut self, ctx: &mut Context<Self>, reply: Reply<Result<(), Cannot>>) {
        let quiet = match &self.stands {
            Stands::Ready(_) | Stands::Asleep(_) => self.confirming.quiet().left_future(),
            Stands::Http(serving) => serving.quiet().right_future(),
            Stands::Away => return reply.send(Err(Cannot::because("it is starting"))),
            Stands::Job => return reply.send(Err(Cannot::because("it is a job"))),
            Stands::Failed => return reply.send(Err(Cannot::because("it failed"))),
        };
        self.travel.frozen.get_or_insert_default();
        let actor = ctx.handle().clone();
        ctx.spawn(async move {
            if let Some(slots) = quiet.await {
                // An error means that the actor ended.
                let _ = actor.tell_control(HostMessage::Travel(Ask::Quiet { reply, slots }));
            }
        });
    }

    async fn on_stay(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        self.travel.leaving = None;
        self.parts.sent.set(false);
        let Some(Frozen { calls, events, slots }) = self.travel.frozen.take() else {
            return Ok(());
        };
        drop(slots);
        for (life, event) in events {
            self.on_happened(ctx, life, event).await?;
        }
        for (call, reply) in calls {
            self.on_deliver(ctx, call, reply).await?;
        }
        Ok(())
    }

    async fn on_gone(&mut self, ctx: &mut Context<Self>, gone: Gone) {
        let parts = &self.parts;
        parts.activate.deactivate(&parts.entity, parts.epoch);
        let live = self.travel.with_memory;
        parts.facts.happened(What::Moved { to: gone.to.clone(), next: gone.epoch, live });
        // All of it is saved: nobody need wait for the end of this host.
        parts.keepers.finish(&parts.replica).await;
        self.travel.send_on(Some(gone.clone()), &parts.node);
        self.travel.gone = Some(gone);
        let leaving = self.travel.leaving.take();
        let Stands::Ready(instance) = std::mem::replace(&mut self.stands, Stands::Away) else {
            return;
        };
        if !self.travel.with_memory {
            // The one that goes on is another one.
            instance.end().await;
            return;
        }
        // To give a large memory back takes milliseconds, in which others could not be answered.
        let given_back = tokio::task::spawn_blocking(move || drop((leaving, instance)));
        ctx.spawn(async move {
            // It says nothing; an error would be a panic of the engine.
            let _ = given_back.await;
        });
    }
}
