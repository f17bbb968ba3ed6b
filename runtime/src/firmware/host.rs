//! Runs one activation of a firmware: its instance, its messages, its commits.
//!
//! A message's writes, its reply and its request id are one commit, and the caller gets the reply
//! after it. So a reply that was given is never lost, and a request that was carried out is never
//! carried out again, on whatever node it is retried. The commit names the epoch of this
//! activation; when the entity has been placed anew the store refuses it and this host ends.
//!
//! Between messages the memory of the instance never holds an effect that the store does not:
//! when a commit fails the instance is dropped, and a new one starts after the store has told what
//! is true. A commit in doubt may still be under way, in the log of a leader that waits for its
//! majority or on the wire, and no question to the store tells that. So the host has the entity
//! placed here anew and ends: under the old epoch that commit was made before, and the next host
//! sees it, or it is refused. Without this it could overwrite what a later message wrote. A host
//! under an epoch that one has run under here begins with it: that one may have been ended before
//! it came to it.
//!
//! No message is begun without the lease of the node, and no instance is started: a host waits for
//! it. A message that is under way when the lease is over may still be answered: no answer is given
//! before a majority has confirmed or committed it under this epoch, and the next host takes the
//! sessions over before it begins.
//!
//! A guest that traps or exceeds a limit ends the host with an error, and its supervisor starts
//! it again after a pause. A package that cannot be had yet or a store without majority is not the
//! guest's fault: the host waits for them.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Deliver` | [`HostHandle::deliver`] | the reply, or the error, of one message |
//! | `Prepared`, `Fenced` | a task of the actor | none |
//!
//! Not done, and why: what is written to or deleted from a session of an entity through the API
//! while a message of that entity is under way may be missing from what the guest reads, and be
//! overwritten by what it writes. Refusing that needs the versions that were read in the commit.

mod message;

use std::{fmt, time::Duration};

use odeum_actors::{
    Actor, ActorError, AskError, ChildSpec, Context, Handle, Overflow, Reply, Restart, Shutdown,
    child,
};
use odeum_cluster::store::StoreError;
use odeum_proto::{
    EntityId, Epoch,
    call::{CallError, CallReply, CallRequest},
    session::{DataOutcome, SessionRefusal},
};

use tokio::time::Instant;

use self::message::{Answered, Next};
use super::{
    error::CacheError, instance::Instance, module::Module, restart::RestartPolicy,
    status::HostState,
};

pub(super) use self::message::HostParts;

/// Messages that wait for one host: as many as the router carries at once for its callers.
const MAILBOX: usize = 1_024;

/// How long the store may take for a commit or a confirmation: an election and some more. Not the
/// caller's deadline, because giving up early on a commit costs the instance.
const STORE_DEADLINE: Duration = Duration::from_secs(5);

/// First and longest pause before another try to get the package and the store's word.
const PREPARE_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Who is told what is active on this node.
pub trait Activate: Send + Sync + 'static {
    /// The host of `entity` handles messages under `epoch`.
    fn activate(&self, entity: EntityId, epoch: Epoch, host: HostHandle);
    /// It no longer does.
    fn deactivate(&self, entity: &EntityId, epoch: Epoch);
}

/// The address of a host, valid across its restarts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HostHandle {
    actor: Handle<HostMessage>,
    entity: EntityId,
}

impl HostHandle {
    /// Gives the guest one message and waits for what comes of it, for the call's remaining time.
    ///
    /// # Errors
    /// [`CallError`]; while the host restarts, the retryable [`CallError::Unavailable`] at once.
    pub async fn deliver(&self, call: CallRequest) -> Result<CallReply, CallError> {
        let after = call.remaining;
        let asked = self.actor.ask(after, |reply| HostMessage::Deliver { call, reply }).await;
        let entity = self.entity.clone();
        asked.unwrap_or_else(|error| {
            Err(match error {
                AskError::Deadline => CallError::DeadlineExceeded { entity, after },
                AskError::Full => CallError::Overloaded { entity, queued: MAILBOX },
                AskError::Down | AskError::Dropped => {
                    CallError::Unavailable { entity, reason: "it is restarting".into() }
                }
            })
        })
    }
}

/// A host and its spec.
pub(super) fn host(
    name: String,
    parts: HostParts,
    restarts: RestartPolicy,
) -> (HostHandle, ChildSpec) {
    let entity = parts.entity.clone();
    let (actor, spec) = child(name, move || HostActor { parts: parts.clone(), instance: None });
    let spec = spec
        .capacity(MAILBOX)
        .overflow(Overflow::Reject)
        .restart(Restart::Transient)
        // Longer than a commit may take, so that the message at hand comes to its end.
        .shutdown(Shutdown::Timeout(STORE_DEADLINE + Duration::from_secs(1)))
        .backoff(restarts.backoff());
    (HostHandle { actor, entity }, spec)
}

enum HostMessage {
    Deliver {
        call: CallRequest,
        reply: Reply<Answered>,
    },
    /// `None` when this activation is over.
    Prepared {
        module: Result<Option<Module>, CacheError>,
    },
    Fenced,
}

impl fmt::Debug for HostMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deliver { .. } => "Deliver",
            Self::Prepared { .. } => "Prepared",
            Self::Fenced => "Fenced",
        })
    }
}

struct HostActor {
    parts: HostParts,
    /// `None` until it is prepared, and while it handles a message.
    instance: Option<Instance>,
}

impl Actor for HostActor {
    type Message = HostMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        self.parts.facts.started();
        if self.parts.again {
            self.fence(ctx);
        } else {
            self.prepare(ctx);
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: HostMessage,
    ) -> Result<(), ActorError> {
        match message {
            HostMessage::Deliver { call, reply } => self.on_deliver(ctx, call, reply).await,
            HostMessage::Prepared { module } => self.on_prepared(ctx, module).await,
            HostMessage::Fenced => {
                // The coordinator starts the next host when it sees the new epoch.
                self.end(ctx);
                Ok(())
            }
        }
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        self.parts.activate.deactivate(&self.parts.entity, self.parts.epoch);
    }
}

impl HostActor {
    fn prepare(&mut self, ctx: &mut Context<Self>) {
        self.parts.facts.starting();
        let (parts, actor) = (self.parts.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            let module = parts.prepared().await;
            // Before the messages that wait: they would all be turned away. An error means that
            // the actor ended.
            let _ = actor.tell_control(HostMessage::Prepared { module });
        });
    }

    fn fence(&mut self, ctx: &mut Context<Self>) {
        self.parts.facts.starting();
        let (parts, actor) = (self.parts.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            parts.fenced().await;
            let _ = actor.tell_control(HostMessage::Fenced);
        });
    }

    /// Ends this activation, and has the coordinator look for the next.
    fn end(&self, ctx: &mut Context<Self>) {
        self.parts.facts.over();
        ctx.stop();
    }

    async fn on_prepared(
        &mut self,
        ctx: &mut Context<Self>,
        module: Result<Option<Module>, CacheError>,
    ) -> Result<(), ActorError> {
        let parts = &self.parts;
        let module = module.inspect_err(|error| parts.erred(error))?;
        let current = parts.ledger.epoch(&parts.entity) == Some(parts.epoch);
        let Some(module) = module.filter(|_| current) else {
            self.end(ctx);
            return Ok(());
        };
        if !parts.lease.holds(Instant::now()) {
            // It waits for the lease, and then for the store's word again.
            self.prepare(ctx);
            return Ok(());
        }
        let name = parts.spec.name.clone();
        let started = Instance::start(&module, name, &parts.spec.limits).await;
        let instance = started.inspect_err(|error| parts.erred(error))?;
        parts.facts.running(instance.memory_bytes());
        self.instance = Some(instance);
        let host = HostHandle { actor: ctx.handle().clone(), entity: parts.entity.clone() };
        parts.activate.activate(parts.entity.clone(), parts.epoch, host);
        tracing::info!(entity = %parts.entity, epoch = %parts.epoch, "firmware running");
        Ok(())
    }

    async fn on_deliver(
        &mut self,
        ctx: &mut Context<Self>,
        call: CallRequest,
        reply: Reply<Answered>,
    ) -> Result<(), ActorError> {
        if reply.is_closed() {
            // Its caller gave up while it waited here. Nothing was done, as with any lost call.
            return Ok(());
        }
        let parts = &self.parts;
        let session = match parts.check(&call) {
            Ok(session) => session,
            Err(answered) => {
                reply.send(answered);
                return Ok(());
            }
        };
        let Some(instance) = self.instance.take() else {
            let (entity, reason) = (parts.entity.clone(), "it is starting".into());
            reply.send(Err(CallError::Unavailable { entity, reason }));
            return Ok(());
        };
        let (answered, next) = parts.run(instance, call, session).await;
        if let Next::Crash(failure) = &next {
            // Before the caller hears of it, so that who looks then sees it.
            parts.erred(failure);
        }
        reply.send(answered);
        match next {
            Next::Keep(instance) => {
                parts.facts.running(instance.memory_bytes());
                self.instance = Some(instance);
            }
            Next::Renew => self.prepare(ctx),
            Next::Fence => self.fence(ctx),
            Next::End => self.end(ctx),
            Next::Crash(failure) => return Err(failure.into()),
        }
        Ok(())
    }
}

impl HostParts {
    /// Returns when the node has its lease.
    async fn leased(&self) {
        let mut lease = self.lease.watch();
        if lease.wait_for(|lease| lease.holds(Instant::now())).await.is_err() {
            // Nobody renews it any more: the node ends, and this with it.
            std::future::pending::<()>().await;
        }
    }

    /// The module, once the node has its lease, it is here and this activation has taken over the
    /// entity's sessions; `None` when a later one has them.
    async fn prepared(&self) -> Result<Option<Module>, CacheError> {
        self.leased().await;
        let (mut pause, longest) = PREPARE_PAUSES;
        loop {
            let reason = match self.cache.load(self.spec.digest).await {
                Ok(module) => match self.take_over().await {
                    Ok(true) => return Ok(Some(module)),
                    Ok(false) => return Ok(None),
                    Err(reason) => reason,
                },
                Err(error) if error.is_retryable() => error.to_string(),
                Err(error) => return Err(error),
            };
            tracing::warn!(entity = %self.entity, reason, "firmware waits");
            self.facts.erred(HostState::Starting, reason);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Whether the entity's sessions are this activation's now, and no later one's; then this node
    /// knows all that was written to them before.
    ///
    /// # Errors
    /// Why that is not known yet.
    async fn take_over(&self) -> Result<bool, String> {
        let said = |error: StoreError| error.to_string();
        let fenced = self.ledger.fence(&self.entity, self.epoch, STORE_DEADLINE).await;
        match fenced.map_err(said)? {
            DataOutcome::Refused(SessionRefusal::StaleEpoch { .. }) => return Ok(false),
            // A full group has room again some day.
            DataOutcome::Refused(refusal) => return Err(refusal.to_string()),
            _ => {}
        }
        let holds = self.ledger.confirm(&self.entity, STORE_DEADLINE).await.map_err(said)?;
        Ok(holds == Some(self.epoch))
    }

    /// Returns when nothing can be committed under this epoch any more, and this node knows it.
    async fn fenced(&self) {
        let mut changes = self.ledger.changes();
        let (mut pause, longest) = PREPARE_PAUSES;
        // A refusal is as good: somebody else has placed it anew, or it is gone.
        while let Err(error) =
            self.ledger.renew(&self.entity, &self.node, self.epoch, STORE_DEADLINE).await
        {
            tracing::warn!(entity = %self.entity, epoch = %self.epoch, %error, "firmware waits");
            self.facts.erred(HostState::Starting, error.to_string());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        // Before that the next host would begin under the same one.
        while self.ledger.epoch(&self.entity) == Some(self.epoch) && changes.changed().await.is_ok()
        {
        }
    }

    fn erred(&self, error: &dyn std::error::Error) {
        tracing::warn!(entity = %self.entity, epoch = %self.epoch, %error, "firmware crashed");
        self.facts.erred(HostState::Restarting, error.to_string());
    }
}
