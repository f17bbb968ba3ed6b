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
//! A message that changed nothing is answered when the store has confirmed that this activation is the
//! present one. The next message is handled meanwhile, so that one confirmation serves many. It may
//! have changed what the guest has in memory: as long as that lives and wherever it moves, a retry of
//! the request is answered again and not handled again.
//!
//! No message is begun without the lease of the node, and no instance is started: a host waits for
//! it. A message that is under way when the lease is over may still be answered: no answer is given
//! before a majority has confirmed or committed it under this epoch, and the next host takes the
//! sessions over before it begins; or it goes on with the memory of this one, which was frozen then and
//! has nothing under way.
//!
//! A guest that traps or exceeds a limit ends the host with an error, and its supervisor starts
//! it again after a pause. A package that cannot be had yet or a store without majority is not the
//! guest's fault: the host waits for them.
//!
//! A guest whose manifest asks for less than `durable` gets its replies before the store has what they
//! tell of: that is kept here until then ([`super::keeping`]).
//!
//! An instance that has had nothing to do for the time that its policy says is ended, and the next
//! message starts another one: its memory is gone then, its sessions are not.
//!
//! A guest that moves to another node is frozen between two messages (`travel`). What came from
//! another node goes on instead of beginning.
//!
//! A guest that is a job runs beside the actor, which takes its end (`job`). What happens to a guest
//! beside calls (a timer, an answer, something that was published) is a message that nobody waits
//! for (`events`), and is told later when nothing may be begun (`late`).
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Deliver` | [`HostHandle::deliver`] | the reply, or the error, of one message |
//! | `Prepared`, `Fenced`, `Overtaken`, `Happened`, `JobEnded`, `Checked`, `ProcessLost` | a task of the actor | none |
//! | `Rest`, `Save`, `Late` | a timer | none |
//! | `Fail` | [`HostHandle::fail`] | none |
//! | `Check` | [`HostHandle::check`] | that it was taken |
//! | `Travel` | who moves the guest to another node | what was asked for |
//!
//! Not done, and why: what is written to or deleted from a session of an entity through the API
//! while a message of that entity is under way may be missing from what the guest reads, and be
//! overwritten by what it writes. Refusing that needs the versions that were read in the commit.

mod confirming;
mod deliver;
mod events;
mod idling;
mod job;
mod late;
pub(super) mod liveness;
mod message;
mod outstanding;
mod prepare;
mod saving;
mod serving;
mod travel;

use std::{fmt, time::Duration};

use odeum_actors::{
    Actor, ActorError, AskError, ChildSpec, Context, Handle, Overflow, Reply, Restart, Shutdown,
    child,
};
use odeum_cluster::entity::window::Window;
use odeum_proto::{
    EntityId, Epoch,
    call::{CallError, CallReply, CallRequest},
};

use tokio::{sync::oneshot, time::Instant};

use self::{
    confirming::Confirming,
    events::Event,
    job::JobEnd,
    message::{Answered, Next},
    outstanding::Outstanding,
    serving::Serving,
    travel::Travel,
};
use super::{
    abi::Kind,
    bridge::Publisher,
    error::{CacheError, GuestFailure, GuestLimit},
    module::Module,
    restart,
    runner::{ProcessEnd, Running},
    status::HostState,
};
use crate::package::manifest::RestartWhen;

pub(super) use self::{
    message::{HostParts, home},
    travel::Gone,
};

/// Messages that wait for one host: as many as the router carries at once for its callers.
const MAILBOX: usize = 1_024;

/// How long the store may take for a commit or a confirmation: an election and some more. Not the
/// caller's deadline, because giving up early on a commit costs the instance.
pub(super) const STORE_DEADLINE: Duration = Duration::from_secs(5);

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
    /// Ends the guest as if it had crashed, behind the message at hand.
    pub(super) fn fail(&self, failure: GuestFailure) {
        // One that is down has failed already.
        let _ = self.actor.tell_control(HostMessage::Fail { failure });
    }

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
pub(super) fn host(name: String, parts: HostParts) -> (HostHandle, ChildSpec) {
    let entity = parts.entity.clone();
    let backoff = restart::backoff(&parts.spec.policy.restarts);
    let (actor, spec) = child(name, move || HostActor {
        parts: parts.clone(),
        stands: Stands::Away,
        module: None,
        when: RestartWhen::default(),
        publisher: None,
        outstanding: Outstanding::default(),
        confirming: Confirming::default(),
        recent: Window::default(),
        used: Instant::now(),
        is_watched: false,
        travel: Travel::default(),
        failed_checks: 0,
        will_save: false,
    });
    let spec = spec
        .capacity(MAILBOX)
        .overflow(Overflow::Reject)
        .restart(Restart::Transient)
        // Longer than a commit may take, so that the message at hand comes to its end.
        .shutdown(Shutdown::Timeout(STORE_DEADLINE + Duration::from_secs(1)))
        .backoff(backoff);
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
    /// A later activation has the entity.
    Overtaken,
    Happened {
        /// The instance it is for.
        life: u64,
        event: Event,
    },
    JobEnded {
        end: JobEnd,
    },
    Rest,
    Save,
    /// Something could not be told when it came.
    Late {
        /// The instance it is for.
        life: u64,
    },
    Fail {
        failure: GuestFailure,
    },
    Check {
        /// Told when this is taken.
        taken: oneshot::Sender<()>,
    },
    Checked {
        /// The server that was asked.
        life: u64,
        said: Result<(), String>,
    },
    ProcessLost {
        /// The instance that was in it.
        life: u64,
        failure: GuestFailure,
    },
    Travel(travel::Ask),
}

impl fmt::Debug for HostMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deliver { .. } => "Deliver",
            Self::Prepared { .. } => "Prepared",
            Self::Fenced => "Fenced",
            Self::Overtaken => "Overtaken",
            Self::Happened { .. } => "Happened",
            Self::JobEnded { .. } => "JobEnded",
            Self::Rest => "Rest",
            Self::Save => "Save",
            Self::Late { .. } => "Late",
            Self::Fail { .. } => "Fail",
            Self::Check { .. } => "Check",
            Self::Checked { .. } => "Checked",
            Self::ProcessLost { .. } => "ProcessLost",
            Self::Travel(_) => "Travel",
        })
    }
}

struct HostActor {
    parts: HostParts,
    stands: Stands,
    /// What it is an instance of, once that is known.
    module: Option<Module>,
    /// After which ends the guest is started again, once its package is known.
    when: RestartWhen,
    /// Where the guest publishes, once it has a connection to the broker.
    publisher: Option<Publisher>,
    outstanding: Outstanding,
    /// Answers that are not given yet.
    confirming: Confirming,
    /// Answers of the present instance that are nowhere in the store: what it has in memory counts
    /// a request that is asked again once, too.
    recent: Window,
    /// When the guest was given something last.
    used: Instant,
    /// Whether `Rest` is on its way.
    is_watched: bool,
    /// How a move from here stands.
    travel: Travel,
    /// Checks in a row that failed.
    failed_checks: u32,
    /// Whether `Save` is on its way.
    will_save: bool,
}

/// How the guest stands.
enum Stands {
    /// It is prepared, or handles a message.
    Away,
    /// It waits for a message.
    Ready(Running),
    /// It has had nothing to do for so long that its instance is gone until the next message.
    Asleep(Module),
    /// It is a job: it runs, or has run.
    Job,
    /// It serves HTTP requests.
    Http(Serving),
    /// It failed and is not started again.
    Failed,
}

impl Actor for HostActor {
    type Message = HostMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        self.parts.facts.started();
        // What was sent of it may go on elsewhere, and must not go on here as well.
        if self.parts.again || self.parts.sent.is() {
            self.fence(ctx);
        } else {
            self.prepare(ctx);
        }
        Ok(())
    }

    /// What comes seldom is boxed: the future is moved with each message, and as large as its largest
    /// arm.
    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: HostMessage,
    ) -> Result<(), ActorError> {
        match message {
            HostMessage::Deliver { call, reply } => self.on_deliver(ctx, call, reply).await,
            HostMessage::Prepared { module } => Box::pin(self.on_prepared(ctx, module)).await,
            HostMessage::Fenced | HostMessage::Overtaken => {
                // The coordinator starts the next host when it sees the new epoch.
                self.end(ctx);
                Ok(())
            }
            HostMessage::Happened { life, event } => self.on_happened(ctx, life, event).await,
            HostMessage::JobEnded { end } => self.on_job_ended(ctx, end),
            HostMessage::Rest => {
                Box::pin(self.on_rest(ctx)).await;
                Ok(())
            }
            HostMessage::Save => Box::pin(self.on_save(ctx)).await,
            HostMessage::Late { life } => Box::pin(self.on_late(ctx, life)).await,
            HostMessage::Fail { failure } => {
                self.parts.erred(&failure);
                self.crashed(failure)
            }
            HostMessage::Check { taken } => Box::pin(self.on_check(ctx, taken)).await,
            HostMessage::Checked { life, said } => self.on_checked(life, said),
            HostMessage::ProcessLost { life, failure } => self.on_process_lost(life, failure),
            HostMessage::Travel(ask) => Box::pin(self.on_travel(ctx, ask)).await,
        }
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        self.parts.activate.deactivate(&self.parts.entity, self.parts.epoch);
        self.travel.let_go();
        drop(self.confirming.quiet().await);
        let goes_on_elsewhere = self.send_on_at_end();
        let stands = std::mem::replace(&mut self.stands, Stands::Away);
        if let (Stands::Ready(instance), false) = (stands, goes_on_elsewhere) {
            instance.end().await;
        }
        // The coordinator tries on when this fails.
        if let Err(error) = self.parts.keeper.save().await {
            tracing::debug!(entity = %self.parts.entity, ?error, "not saved yet");
        }
    }
}

impl HostActor {
    fn prepare(&mut self, ctx: &mut Context<Self>) {
        self.prepare_after(ctx, Duration::ZERO);
    }

    fn prepare_after(&mut self, ctx: &mut Context<Self>, pause: Duration) {
        self.parts.facts.starting();
        let (parts, actor) = (self.parts.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
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
        self.when = module.manifest().restart.when;
        // What an instance before has written and did not live to see saved.
        self.await_saving(ctx);
        let abi = module.abi();
        match module.kind() {
            Kind::Job => self.begin_job(ctx, module),
            Kind::Http => match self.parts.runner(module).server().await {
                Ok(server) => {
                    self.outstanding.renew(false);
                    self.parts.facts.running(0, server.pid());
                    self.watch(ctx, server.process_end());
                    self.stands = Stands::Http(Serving::new(server));
                }
                Err(failure) => {
                    self.parts.erred(&failure);
                    return self.crashed(failure);
                }
            },
            Kind::Messages => {
                match self.parts.arrived.take() {
                    Some(thawed) => self.go_on_here(ctx, &module, thawed).await?,
                    None => self.begin(ctx, &module).await?,
                }
                self.module = Some(module);
                // What could not be told that it has started begins once more.
                if matches!(self.stands, Stands::Away | Stands::Failed) {
                    return Ok(());
                }
            }
        }
        let parts = &self.parts;
        let host = HostHandle { actor: ctx.handle().clone(), entity: parts.entity.clone() };
        parts.activate.activate(parts.entity.clone(), parts.epoch, host);
        tracing::info!(
            entity = %parts.entity, epoch = %parts.epoch, %abi, "firmware running"
        );
        Ok(())
    }

    /// Starts an instance, within the time that it may take for that.
    async fn begin(&mut self, ctx: &mut Context<Self>, module: &Module) -> Result<(), ActorError> {
        let publisher = self.publisher(ctx, module.manifest());
        let allowed = self.parts.spec.policy.boot_time;
        let runner = self.parts.runner(module.clone());
        let started = tokio::time::timeout(allowed, runner.start(publisher)).await;
        match started.unwrap_or_else(|_| Err(GuestLimit::Boot { allowed }.into())) {
            Ok(instance) => {
                self.outstanding.renew(module.carries());
                self.recent = Window::default();
                self.watch(ctx, instance.process_end());
                let hears = instance.hears_of_its_start();
                self.rest(ctx, instance);
                if hears { self.begin_actor(ctx).await } else { Ok(()) }
            }
            Err(failure) => {
                self.parts.erred(&failure);
                self.crashed(failure)
            }
        }
    }

    /// The guest waits for its next message.
    fn rest(&mut self, ctx: &mut Context<Self>, instance: Running) {
        self.parts.facts.running(instance.memory_bytes(), instance.pid());
        self.stands = Stands::Ready(instance);
        self.used = Instant::now();
        self.await_idling(ctx);
    }

    /// Takes the end of a process that is not at work as the crash that it is.
    fn watch(&self, ctx: &mut Context<Self>, end: Option<ProcessEnd>) {
        let Some(end) = end else { return };
        let (life, actor) = (self.outstanding.life(), ctx.handle().clone());
        ctx.spawn(async move {
            if let Some(failure) = end.await {
                // An error means that the actor ended.
                let _ = actor.tell_control(HostMessage::ProcessLost { life, failure });
            }
        });
    }

    fn on_process_lost(&mut self, life: u64, failure: GuestFailure) -> Result<(), ActorError> {
        let is_present = life == self.outstanding.life();
        // What is away was at work, and its message has told already.
        if !is_present || !matches!(self.stands, Stands::Ready(_) | Stands::Http(_)) {
            return Ok(());
        }
        self.parts.erred(&failure);
        self.stands = Stands::Away;
        self.crashed(failure)
    }

    /// The guest is gone. It is started again unless its manifest says otherwise.
    fn crashed(&mut self, failure: GuestFailure) -> Result<(), ActorError> {
        if self.when != RestartWhen::Never {
            return Err(failure.into());
        }
        let parts = &self.parts;
        parts.facts.erred(HostState::Failed, failure.to_string());
        parts.activate.deactivate(&parts.entity, parts.epoch);
        self.stands = Stands::Failed;
        Ok(())
    }

    fn go_on(&mut self, ctx: &mut Context<Self>, next: Next) -> Result<(), ActorError> {
        match next {
            Next::Keep(instance) => self.rest(ctx, instance),
            Next::Renew => self.prepare(ctx),
            Next::Fence => self.fence(ctx),
            Next::End => self.end(ctx),
            Next::Crash(failure) => return self.crashed(failure),
        }
        Ok(())
    }
}
