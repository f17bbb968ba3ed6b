//! The actor of a pool's queue: carries out what [`core`](super::core) decides.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Submit` | a handle of the pool | none; the job's answer goes through its ticket |
//! | `Noted` | workers, own tasks | none |
//! | `Resize` | a handle | none |
//! | `Drain` | a handle | when nothing waits or runs any more |
//! | `AwaitSettled` | a handle | when all workers are up |
//! | `GetStats` | a handle | the counters now |
//! | `Ended` | the monitor of a worker | none |
//! | `Tick` | its own alarm | none |

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant as StdInstant;

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::actor::{Actor, ActorError};
use crate::child::ChildSpec;
use crate::context::{Context, TimerKey};
use crate::error::SupervisorError;
use crate::handle::{Handle, Reply};
use crate::policy::backoff::Backoff;
use crate::policy::exit::Exit;
use crate::supervisor::Supervisor;

use super::Shared;
use super::core::{Command, Core, Event, Refusal, Rules, Terms};
use super::error::PoolError;
use super::stats::PoolStats;
use super::ticket::{Assignment, Ticket};

type Payload<J, R> = Arc<Ticket<J, R>>;

/// What a pool's queue is told.
pub(crate) enum QueueMessage<J, R> {
    Submit { ticket: Payload<J, R>, terms: Terms },
    Noted(Event<Payload<J, R>>),
    Resize { size: usize },
    Drain { reply: Reply<()> },
    AwaitSettled { reply: Reply<()> },
    GetStats { reply: Reply<PoolStats> },
    Ended { worker: usize, generation: u64, exit: Option<Exit> },
    Tick,
}

/// Makes the child of a worker.
pub(crate) type MakeWorker<J, R> = Arc<
    dyn Fn(Handle<QueueMessage<J, R>>, usize) -> (Handle<Assignment<J, R>>, ChildSpec)
        + Send
        + Sync,
>;

pub(crate) struct QueueSetup<J, R> {
    pub(crate) rules: Rules,
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Supervisor,
    pub(crate) make: MakeWorker<J, R>,
    pub(crate) backoff: Backoff,
}

struct Member<J, R> {
    handle: Handle<Assignment<J, R>>,
    /// The task that adds it, until it has.
    adding: AbortHandle,
}

pub(crate) struct QueueActor<J, R> {
    core: Core<Payload<J, R>>,
    setup: Arc<QueueSetup<J, R>>,
    members: HashMap<usize, Member<J, R>>,
    alarm: Option<(StdInstant, TimerKey)>,
    drained: Vec<Reply<()>>,
    settled: Vec<Reply<()>>,
}

impl<J: Send + 'static, R: Send + 'static> QueueActor<J, R> {
    pub(crate) fn new(setup: Arc<QueueSetup<J, R>>) -> Self {
        Self {
            core: Core::new(setup.rules.clone(), Instant::now().into_std()),
            setup,
            members: HashMap::new(),
            alarm: None,
            drained: Vec::new(),
            settled: Vec::new(),
        }
    }

    fn drive(&mut self, ctx: &mut Context<Self>, event: Event<Payload<J, R>>) {
        let now = Instant::now().into_std();
        for command in self.core.on(event, now) {
            self.carry_out(ctx, command, now);
        }
        if !self.drained.is_empty() && self.core.is_drained() {
            self.drained.drain(..).for_each(|reply| reply.send(()));
        }
        if !self.settled.is_empty() && self.core.is_settled() {
            self.settled.drain(..).for_each(|reply| reply.send(()));
        }
        self.set_alarm(ctx, now);
    }

    fn carry_out(
        &mut self,
        ctx: &mut Context<Self>,
        command: Command<Payload<J, R>>,
        now: StdInstant,
    ) {
        match command {
            Command::Assign { worker, generation, job, payload } => {
                payload.assign();
                if let Some(member) = self.members.get(&worker) {
                    // Past the bound of its mailbox: the core keeps count, and what was
                    // meant for an earlier incarnation must not take the place of this. If
                    // it has ended, its end brings the job back.
                    let assignment = Assignment { generation, job, ticket: payload };
                    member.handle.mailbox.push_note(assignment);
                }
            }
            Command::Refuse { payload, refusal } => payload.refuse(match refusal {
                Refusal::Busy => PoolError::Busy,
                Refusal::Gone => PoolError::Gone,
                Refusal::Expired => PoolError::Expired,
                Refusal::Draining => PoolError::Draining,
                Refusal::Evicted => PoolError::Evicted,
            }),
            Command::Overdue { payload } => payload.overdue(now),
            Command::Fail { payload, exit, attempts } => {
                payload.answer(Err(PoolError::WorkerDied { exit, attempts }));
            }
            Command::Add { worker } => self.add(ctx, worker),
            Command::Restart { worker } => {
                let (workers, name) = (self.setup.workers.clone(), worker_name(worker));
                ctx.spawn(async move {
                    // An error means that it has not started; its restart policy goes on.
                    let _ = workers.restart(&name).await;
                });
            }
            Command::Remove { worker } => self.remove(ctx, worker),
            Command::Kill { worker } => {
                if let Some(member) = self.members.get(&worker) {
                    member.handle.kill();
                }
            }
        }
    }

    fn add(&mut self, ctx: &mut Context<Self>, worker: usize) {
        let (handle, spec) = (self.setup.make)(ctx.handle().clone(), worker);
        let setup = Arc::clone(&self.setup);
        let (workers, first) = (setup.workers.clone(), spec.clone());
        let mut added = Box::pin(async move { workers.add(first).await });
        // Asked here, so that workers are listed in the order of their indices.
        let at_once = added.as_mut().now_or_never();
        let adding = ctx.spawn(async move {
            let mut outcome = match at_once {
                Some(outcome) => outcome,
                None => added.await,
            };
            let mut attempt = 0;
            // A child whose first start fails is none, so the policy for later starts is
            // kept up here.
            while let Err(SupervisorError::StartFailed { .. }) = outcome {
                attempt += 1;
                let wait = setup.backoff.wait(attempt, rand::random());
                tracing::warn!(worker = &**spec.name(), attempt, "worker of a pool did not start");
                tokio::time::sleep(wait).await;
                outcome = setup.workers.add(spec.clone()).await;
            }
        });
        self.members.insert(worker, Member { handle, adding });
    }

    fn remove(&mut self, ctx: &mut Context<Self>, worker: usize) {
        if let Some(member) = self.members.remove(&worker) {
            member.adding.abort();
        }
        let (workers, me) = (self.setup.workers.clone(), ctx.handle().clone());
        ctx.spawn(async move {
            // An error means that there is none, which is what is wanted.
            let _ = workers.remove(&worker_name(worker)).await;
            me.mailbox.push_note(QueueMessage::Noted(Event::Removed { worker }));
        });
    }

    /// Has the end of the incarnation that is ready told.
    fn watch(&self, ctx: &Context<Self>, worker: usize, generation: u64) {
        if let Some(member) = self.members.get(&worker) {
            ctx.monitor(&member.handle, move |exit| QueueMessage::Ended {
                worker,
                generation,
                exit,
            });
        }
    }

    fn on_ended(
        &mut self,
        ctx: &mut Context<Self>,
        worker: usize,
        generation: u64,
        exit: Option<Exit>,
    ) {
        let first = self.core.first_of(worker, generation);
        let (begun, kept) = first.map_or((false, false), |ticket| ticket.begun());
        let exit = exit.unwrap_or(Exit::Killed);
        self.drive(ctx, Event::Ended { worker, generation, begun, kept, exit });
    }

    /// Keeps one timer set to the core's next deadline. One that rings too early is reset.
    fn set_alarm(&mut self, ctx: &mut Context<Self>, now: StdInstant) {
        let Some(deadline) = self.core.next_deadline() else { return };
        if let Some((at, key)) = self.alarm {
            if at <= deadline {
                return;
            }
            ctx.cancel(key);
        }
        let wait = deadline.saturating_duration_since(now);
        self.alarm = Some((deadline, ctx.note_after(wait, QueueMessage::Tick)));
    }

    fn stats(&self) -> PoolStats {
        let (counters, load) = self.core.counters();
        PoolStats {
            size: load.size,
            ready: load.ready,
            busy: load.busy,
            waiting: load.waiting,
            running: load.running,
            draining: load.draining,
            rejected: self.setup.shared.rejected.load(Ordering::Relaxed),
            counters,
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Actor for QueueActor<J, R> {
    type Message = QueueMessage<J, R>;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        // An earlier incarnation may have been told both.
        let shared = Arc::clone(&self.setup.shared);
        self.drive(ctx, Event::Resize { size: shared.size.load(Ordering::Acquire) });
        if shared.draining.load(Ordering::Acquire) {
            self.drive(ctx, Event::Drain);
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: QueueMessage<J, R>,
    ) -> Result<(), ActorError> {
        match message {
            QueueMessage::Submit { ticket, terms } => {
                self.drive(ctx, Event::Submit { payload: ticket, terms });
            }
            QueueMessage::Noted(event) => {
                if let Event::Ready { worker, generation } = event {
                    self.watch(ctx, worker, generation);
                }
                self.drive(ctx, event);
            }
            QueueMessage::Ended { worker, generation, exit } => {
                self.on_ended(ctx, worker, generation, exit);
            }
            QueueMessage::Resize { size } => {
                self.setup.shared.size.store(size, Ordering::Release);
                self.drive(ctx, Event::Resize { size });
            }
            QueueMessage::Drain { reply } => {
                self.setup.shared.draining.store(true, Ordering::Release);
                self.drained.push(reply);
                self.drive(ctx, Event::Drain);
            }
            QueueMessage::AwaitSettled { reply } => {
                self.settled.push(reply);
                self.drive(ctx, Event::Tick);
            }
            QueueMessage::GetStats { reply } => reply.send(self.stats()),
            QueueMessage::Tick => {
                self.alarm = None;
                self.drive(ctx, Event::Tick);
            }
        }
        Ok(())
    }

    async fn stopping(&mut self, _: &mut Context<Self>) {
        for ticket in self.core.take_waiting() {
            ticket.refuse(PoolError::Down);
        }
    }
}

pub(crate) fn worker_name(worker: usize) -> Arc<str> {
    format!("worker-{worker}").into()
}
