//! Supervisors: actors that start children in order, restart them by a policy, and stop
//! them in reverse order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::ActorCell;
use tokio::sync::watch;

use crate::child::{Body, ChildSpec, Start, Vitals, spawn};
use crate::dead_letter::DeadLetter;
use crate::error::{StartError, SupervisorError};
use crate::event::Subscription;
use crate::handle::{Handle, Reply};
use crate::mailbox::{Mailbox, Overflow, Phase};
use crate::parent::{Parent, RootState, Scope};
use crate::policy::exit::Exit;
use crate::policy::{Intensity, Shutdown, Strategy};
use crate::registry::{Groups, Registry};
use crate::shell::Maker;
use crate::tree::{Kind, Tree};

pub(crate) use self::actor::SupervisorMessage;
use self::actor::{Done, Member, SupervisorActor};

mod actor;
pub(crate) mod core;

/// How long a supervisor may take to list its children: it never does anything long, so a
/// late answer means that the runtime itself is starved.
const LIST_DEADLINE: Duration = Duration::from_secs(5);

/// A supervisor to be: its policy and its children in start order.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    name: Arc<str>,
    strategy: Strategy,
    intensity: Intensity,
    children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor without children.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, strategy: Strategy) -> Self {
        let name = name.into();
        Self { name, strategy, intensity: Intensity::default(), children: Vec::new() }
    }

    /// How many restarts are tolerated; by default five in ten seconds.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Adds a child. Children start in the order they are added, each when the one before
    /// is ready.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Adds a supervisor as a child.
    #[must_use]
    pub fn supervisor(self, spec: Self) -> Self {
        let (_, child) = spec.nested();
        self.child(child)
    }

    /// Makes this supervisor a child of another. The handle is valid at once and after
    /// restarts; children added at run time end with the incarnation they were added to.
    #[must_use]
    pub fn nested(self) -> (Supervisor, ChildSpec) {
        let body = Arc::new(SupervisorBody::new(self));
        let supervisor = body.supervisor.clone();
        let mut spec = ChildSpec::new(body);
        // Every child has its own limits, so the sum of them is this one's.
        spec.policy.start_timeout = None;
        spec.policy.shutdown = Shutdown::Infinity;
        (supervisor, spec)
    }

    /// Starts it as the root of a tree and waits until all children are ready.
    ///
    /// # Errors
    /// If a child does not start; those before it were stopped again.
    pub async fn start(self) -> Result<Supervisor, StartError> {
        let children: Vec<Arc<str>> =
            self.children.iter().map(|child| Arc::clone(child.name())).collect();
        for (index, name) in children.iter().enumerate() {
            if children.iter().take(index).any(|other| other == name) {
                return Err(StartError::Duplicate { name: Arc::clone(name) });
            }
        }
        let name = Arc::clone(&self.name);
        let body = Arc::new(SupervisorBody::new(self));
        let supervisor = body.supervisor.clone();
        let mut state = supervisor.state.subscribe();
        let start = Start {
            parent: Parent::Root(supervisor.state.clone()),
            scope: Scope::new(),
            run: 1,
            supervisor: None,
            path: Arc::from(""),
        };
        body.start(start).await.map_err(|reason| StartError::Spawn { reason })?;
        let settled = state.wait_for(|state| *state != RootState::Starting).await;
        match settled.as_deref() {
            Ok(RootState::Ended(exit)) => {
                Err(StartError::Child { child: name, exit: exit.clone() })
            }
            _ => Ok(supervisor),
        }
    }
}

/// The handle of a running supervisor. Cheap to clone; dropping it stops nothing.
#[derive(Clone)]
pub struct Supervisor {
    handle: Handle<SupervisorMessage>,
    state: watch::Sender<RootState>,
    scope: Arc<arc_swap::ArcSwapOption<Scope>>,
}

impl Supervisor {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Adds a child and waits until it is ready.
    ///
    /// # Errors
    /// If there is one of that name, or if it does not start; then it is not a child.
    pub async fn add(&self, spec: ChildSpec) -> Result<(), SupervisorError> {
        self.request(|reply| SupervisorMessage::Add { spec, reply }).await
    }

    /// Adds a child without waiting for it, for callers that cannot wait and whose child tells by
    /// itself how it fares. One that is refused or does not start is dropped.
    ///
    /// # Errors
    /// [`SupervisorError::Down`] if the supervisor is not running; the spec is dropped.
    pub fn add_soon(&self, spec: ChildSpec) -> Result<(), SupervisorError> {
        if self.handle.phase() != Phase::Running {
            return Err(SupervisorError::Down);
        }
        let (reply, _nobody) = Reply::channel();
        self.handle.mailbox.push_note(SupervisorMessage::Add { spec, reply });
        Ok(())
    }

    /// Stops a child by its shutdown policy and forgets it.
    ///
    /// # Errors
    /// If there is no such child, or the supervisor is not running.
    pub async fn remove(&self, name: &str) -> Result<(), SupervisorError> {
        let name = name.into();
        self.request(|reply| SupervisorMessage::Remove { name, reply }).await
    }

    /// Stops a child if it runs, starts it again and waits until it is ready. Does not count
    /// as a crash.
    ///
    /// # Errors
    /// If there is no such child, or it does not start; then its restart policy goes on.
    pub async fn restart(&self, name: &str) -> Result<(), SupervisorError> {
        let name = name.into();
        self.request(|reply| SupervisorMessage::Restart { name, reply }).await
    }

    /// The tree from here down, as it is now.
    pub async fn tree(&self) -> Tree {
        self.clone().subtree().await
    }

    /// Boxed, since a tree nests.
    fn subtree(self) -> BoxFuture<'static, Tree> {
        Box::pin(async move {
            let vitals = Vitals::of(&self.handle.mailbox);
            let mut children = Vec::new();
            for member in self.members().await {
                children.push(match member.supervisor {
                    Some(supervisor) => supervisor.subtree().await,
                    None => node(member.name, Kind::Actor, member.vitals, Vec::new()),
                });
            }
            node(Arc::clone(self.handle.mailbox.name()), Kind::Supervisor, vitals, children)
        })
    }

    /// Stops all children in reverse order, then itself, and waits for the end.
    pub async fn shutdown(&self) {
        let asked = self.handle.tell_control(SupervisorMessage::Shutdown);
        if asked.is_err() && self.handle.phase() == Phase::Down {
            return;
        }
        self.finished().await;
    }

    /// Ends its present incarnation and all below it by force, as a crash; its own supervisor
    /// decides what follows. For emergencies and tests.
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Waits until this supervisor ends, and tells how: for a root, [`Exit::Shutdown`] or
    /// [`Exit::GaveUp`]; for a nested one, how its present incarnation ended.
    pub async fn finished(&self) -> Exit {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, RootState::Ended(_))).await;
        match ended.as_deref() {
            Ok(RootState::Ended(exit)) => exit.clone(),
            // The sender is in `self`, so it cannot have gone first.
            _ => Exit::Killed,
        }
    }

    /// Subscribes to every change in the life of the actors of the whole tree.
    #[must_use]
    pub fn events(&self) -> Subscription {
        match &*self.scope.load() {
            Some(scope) => Subscription::new(scope.events.subscribe()),
            None => Subscription::closed(),
        }
    }

    /// The names of the tree; empty and unconnected before it has started.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.scope.load().as_ref().map(|scope| scope.registry.clone()).unwrap_or_default()
    }

    /// The groups of the tree; empty and unconnected before it has started.
    #[must_use]
    pub fn groups(&self) -> Groups {
        self.scope.load().as_ref().map(|scope| scope.groups.clone()).unwrap_or_default()
    }

    /// The latest messages in the tree that nobody handled, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.scope.load().as_ref().map(|scope| scope.dead_letters.list()).unwrap_or_default()
    }

    /// How many messages in the tree nobody handled, since it started.
    #[must_use]
    pub fn dead_letters_total(&self) -> u64 {
        self.scope.load().as_ref().map(|scope| scope.dead_letters.total()).unwrap_or_default()
    }

    /// How many children there are in each state.
    pub async fn count(&self) -> BTreeMap<Phase, usize> {
        let mut counts = BTreeMap::new();
        for member in self.members().await {
            *counts.entry(member.vitals.phase).or_default() += 1;
        }
        counts
    }

    pub(crate) async fn members(&self) -> Vec<Member> {
        let asked =
            self.handle.ask(LIST_DEADLINE, |reply| SupervisorMessage::GetMembers { reply }).await;
        asked.unwrap_or_default()
    }

    async fn request(
        &self,
        make: impl FnOnce(Done) -> SupervisorMessage,
    ) -> Result<(), SupervisorError> {
        let (reply, answer) = Reply::channel();
        if self.handle.tell(make(reply)).await.is_err() {
            return Err(SupervisorError::Down);
        }
        // No deadline of its own: the child's start and shutdown limits bound the wait.
        answer.await.unwrap_or(Err(SupervisorError::Down))
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("name", &self.name()).finish_non_exhaustive()
    }
}

fn node(name: Arc<str>, kind: Kind, vitals: Vitals, children: Vec<Tree>) -> Tree {
    Tree {
        name,
        kind,
        state: vitals.phase,
        restarts: vitals.starts.saturating_sub(1),
        mailbox: vitals.depth,
        handled: vitals.handled,
        busy: vitals.busy,
        children,
    }
}

/// The body of a supervisor: an actor's body that also knows its handle.
struct SupervisorBody {
    spec: SupervisorSpec,
    supervisor: Supervisor,
}

impl SupervisorBody {
    fn new(spec: SupervisorSpec) -> Self {
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&spec.name)));
        let supervisor = Supervisor {
            handle: Handle { mailbox },
            state: watch::Sender::new(RootState::Starting),
            scope: Arc::default(),
        };
        Self { spec, supervisor }
    }
}

impl Maker<SupervisorActor> for SupervisorBody {
    fn make(&self) -> SupervisorActor {
        SupervisorActor::new(&self.spec, self.supervisor.state.clone())
    }
}

impl Body for SupervisorBody {
    fn name(&self) -> &Arc<str> {
        &self.spec.name
    }

    fn configure(&self, capacity: Option<usize>, overflow: Option<Overflow>) {
        self.supervisor.handle.mailbox.configure(capacity, overflow);
    }

    fn start(self: Arc<Self>, start: Start) -> BoxFuture<'static, Result<ActorCell, Box<str>>> {
        self.supervisor.scope.store(Some(Arc::clone(&start.scope)));
        let mailbox = Arc::clone(&self.supervisor.handle.mailbox);
        Box::pin(spawn(self, mailbox, start))
    }

    fn stop(&self) {
        self.supervisor.handle.mailbox.push_note(SupervisorMessage::Shutdown);
    }

    fn vitals(&self) -> Vitals {
        Vitals::of(&self.supervisor.handle.mailbox)
    }

    fn as_supervisor(&self) -> Option<Supervisor> {
        Some(self.supervisor.clone())
    }
}
