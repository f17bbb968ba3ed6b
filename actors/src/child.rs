//! The description of a child: how it is made, restarted and stopped.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::ActorCell;

use crate::actor::Actor;
use crate::handle::Handle;
use crate::mailbox::{Mailbox, Overflow, Phase};
use crate::parent::{Parent, Scope};
use crate::policy::backoff::Backoff;
use crate::policy::{Restart, Shutdown};
use crate::shell::{Maker, Shell, ShellArguments};
use crate::supervisor::Supervisor;
use crate::sync::lock;

/// A child and its stable handle. `make` is called for every start and restart, in the
/// child's own task.
pub fn child<A: Actor>(
    name: impl Into<Arc<str>>,
    make: impl FnMut() -> A + Send + 'static,
) -> (Handle<A::Message>, ChildSpec) {
    let mailbox = Arc::new(Mailbox::new(name.into()));
    let handle = Handle { mailbox: Arc::clone(&mailbox) };
    let body = Arc::new(ActorBody::new(mailbox, make));
    (handle, ChildSpec::new(body))
}

/// How a child is made, restarted and stopped. Made by [`child`] or by
/// [`SupervisorSpec::nested`](crate::SupervisorSpec::nested).
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) body: Arc<dyn Body>,
    pub(crate) policy: Policy,
}

/// What the supervisor's decisions depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) backoff: Backoff,
    /// None for supervisors: their children have their own.
    pub(crate) start_timeout: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart: Restart::default(),
            shutdown: Shutdown::default(),
            backoff: Backoff::default(),
            // Long enough to open a database on a busy machine, short enough to be noticed.
            start_timeout: Some(Duration::from_secs(30)),
        }
    }
}

impl ChildSpec {
    pub(crate) fn new(body: Arc<dyn Body>) -> Self {
        Self { body, policy: Policy::default() }
    }

    /// Whether it is started again when it ends; by default always.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = restart;
        self
    }

    /// How it is stopped; by default in good order within 5 s, then killed.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.policy.shutdown = shutdown;
        self
    }

    /// The wait before a restart; by default exponential from 50 ms to 5 s with jitter.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// How many messages its mailbox holds; by default 1024, at least 1.
    #[must_use]
    pub fn capacity(self, messages: usize) -> Self {
        self.body.configure(Some(messages), None);
        self
    }

    /// What a full mailbox does; by default the sender waits.
    #[must_use]
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.body.configure(None, Some(overflow));
        self
    }

    /// How long `started` may take; by default 30 s.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.policy.start_timeout = Some(limit);
        self
    }

    /// The child's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        self.body.name()
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", self.name())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// What a start needs.
pub(crate) struct Start {
    pub(crate) parent: Parent,
    pub(crate) scope: Arc<Scope>,
    pub(crate) run: u64,
    pub(crate) supervisor: Option<ActorCell>,
    /// The path of the supervisor.
    pub(crate) path: Arc<str>,
}

/// A child without its types: what a supervisor does to it.
pub(crate) trait Body: Send + Sync {
    fn name(&self) -> &Arc<str>;
    fn configure(&self, capacity: Option<usize>, overflow: Option<Overflow>);
    /// Starts an incarnation and links it; returns before it is ready.
    fn start(self: Arc<Self>, start: Start) -> BoxFuture<'static, Result<ActorCell, Box<str>>>;
    /// Asks the incarnation to stop in good order.
    fn stop(&self);
    fn vitals(&self) -> Vitals;
    /// The handle, if the child is a supervisor.
    fn as_supervisor(&self) -> Option<Supervisor>;
}

/// The counters of a child.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vitals {
    pub(crate) phase: Phase,
    pub(crate) depth: usize,
    pub(crate) handled: u64,
    pub(crate) busy: Duration,
    pub(crate) starts: u64,
}

impl Vitals {
    pub(crate) fn of<M: Send + 'static>(mailbox: &Mailbox<M>) -> Self {
        Self {
            phase: mailbox.phase(),
            depth: mailbox.depth(),
            handled: mailbox.handled(),
            busy: mailbox.busy(),
            starts: mailbox.starts(),
        }
    }
}

/// The body of a user's actor.
pub(crate) struct ActorBody<A: Actor, F> {
    mailbox: Arc<Mailbox<A::Message>>,
    make: Mutex<F>,
}

impl<A: Actor, F: FnMut() -> A + Send + 'static> ActorBody<A, F> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A::Message>>, make: F) -> Self {
        Self { mailbox, make: Mutex::new(make) }
    }
}

impl<A: Actor, F: FnMut() -> A + Send + 'static> Maker<A> for ActorBody<A, F> {
    fn make(&self) -> A {
        lock(&self.make)()
    }
}

impl<A: Actor, F: FnMut() -> A + Send + 'static> Body for ActorBody<A, F> {
    fn name(&self) -> &Arc<str> {
        self.mailbox.name()
    }

    fn configure(&self, capacity: Option<usize>, overflow: Option<Overflow>) {
        self.mailbox.configure(capacity, overflow);
    }

    fn start(self: Arc<Self>, start: Start) -> BoxFuture<'static, Result<ActorCell, Box<str>>> {
        let mailbox = Arc::clone(&self.mailbox);
        Box::pin(spawn(self, mailbox, start))
    }

    fn stop(&self) {
        self.mailbox.drain();
    }

    fn vitals(&self) -> Vitals {
        Vitals::of(&self.mailbox)
    }

    fn as_supervisor(&self) -> Option<Supervisor> {
        None
    }
}

/// Spawns the ractor actor of one incarnation. Nothing in it waits: `pre_start` only
/// connects the mailbox, everything else runs in the new actor's task.
pub(crate) async fn spawn<A: Actor>(
    maker: Arc<dyn Maker<A>>,
    mailbox: Arc<Mailbox<A::Message>>,
    start: Start,
) -> Result<ActorCell, Box<str>> {
    let Start { parent, scope, run, supervisor, path } = start;
    let arguments = ShellArguments { maker, mailbox, parent, scope, run, path };
    // Unnamed: ractor's name registry is one per process, ours are one per tree.
    let spawned = match supervisor {
        Some(cell) => ractor::Actor::spawn_linked(None, Shell::<A>::new(), arguments, cell).await,
        None => ractor::Actor::spawn(None, Shell::<A>::new(), arguments).await,
    };
    match spawned {
        // Its task is owned by ractor's tree; its end is told by the shell.
        Ok((actor, _task)) => Ok(actor.get_cell()),
        Err(error) => Err(error.to_string().into()),
    }
}
