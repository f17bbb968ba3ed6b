//! The actor of a supervisor: carries out what [`core`](super::core) decides.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Noted` | a child | – |
//! | `Add` | a handle | when the child is ready, or why it is not |
//! | `Remove` | a handle | when the child is gone |
//! | `Restart` | a handle | when the child is ready again |
//! | `GetMembers` | a handle | the children now |
//! | `Shutdown` | a handle, the parent | – (its end is told) |
//! | `Tick` | its own alarm | – |

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use ractor::ActorCell;
use tokio::sync::watch;

use crate::actor::{Actor, ActorError};
use crate::child::{Body, ChildSpec, Start, Vitals};
use crate::context::{Context, TimerKey};
use crate::error::{StartError, SupervisorError};
use crate::event::{Change, LifecycleEvent};
use crate::handle::Reply;
use crate::parent::{Note, Parent, RootState};
use crate::policy::exit::Exit;

use super::core::{ChildId, Command, Core, Event};
use super::{Supervisor, SupervisorSpec};

pub(crate) type Done = Reply<Result<(), SupervisorError>>;

/// What a supervisor is told.
pub(crate) enum SupervisorMessage {
    Noted { child: ChildId, run: u64, note: Note },
    Add { spec: ChildSpec, reply: Done },
    Remove { name: Arc<str>, reply: Done },
    Restart { name: Arc<str>, reply: Done },
    GetMembers { reply: Reply<Vec<Member>> },
    Shutdown,
    Tick,
}

/// A child as it is listed.
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) vitals: Vitals,
    pub(crate) supervisor: Option<Supervisor>,
}

struct Entry {
    body: Arc<dyn Body>,
    cell: Option<ActorCell>,
}

/// Who waits for what of a child.
enum Pending {
    Ready(Done),
    Removed(Done),
}

pub(crate) struct SupervisorActor {
    core: Core,
    name: Arc<str>,
    /// The names of all supervisors down to this one; known when it has started.
    path: Arc<str>,
    entries: BTreeMap<ChildId, Entry>,
    names: HashMap<Arc<str>, ChildId>,
    pending: HashMap<ChildId, Vec<Pending>>,
    alarm: Option<(Instant, TimerKey)>,
    /// Told of this incarnation's end; a root's is told by its shell, when all is gone.
    state: Option<watch::Sender<RootState>>,
    exit: Option<Exit>,
    /// A name that two children have, which fails the start.
    twice: Option<Arc<str>>,
}

impl Drop for SupervisorActor {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            state.send_replace(RootState::Ended(self.exit.take().unwrap_or(Exit::Killed)));
        }
    }
}

impl SupervisorActor {
    pub(crate) fn new(spec: &SupervisorSpec, state: watch::Sender<RootState>) -> Self {
        let name = Arc::clone(&spec.name);
        let mut actor = Self {
            core: Core::new(Arc::clone(&name), spec.strategy, spec.intensity, crate::sync::now()),
            path: Arc::clone(&name),
            name,
            entries: BTreeMap::new(),
            names: HashMap::new(),
            pending: HashMap::new(),
            alarm: None,
            state: Some(state),
            exit: None,
            twice: None,
        };
        for spec in &spec.children {
            actor.declare(spec);
        }
        actor
    }

    fn declare(&mut self, spec: &ChildSpec) -> ChildId {
        let name = Arc::clone(spec.name());
        let id = self.core.declare(Arc::clone(&name), spec.policy);
        self.entries.insert(id, Entry { body: Arc::clone(&spec.body), cell: None });
        if self.names.insert(Arc::clone(&name), id).is_some() {
            self.twice = Some(name);
        }
        id
    }

    async fn drive(&mut self, ctx: &mut Context<Self>, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let commands = self.core.on(event, crate::sync::now(), rand::random());
            for command in commands {
                match command {
                    Command::Start { child, run } => {
                        if let Some(failed) = self.start(ctx, child, run).await {
                            events.push_back(failed);
                        }
                    }
                    Command::Stop { child } => {
                        if let Some(entry) = self.entries.get(&child) {
                            entry.body.stop();
                        }
                    }
                    Command::Kill { child } => {
                        if let Some(cell) = self.entries.get(&child).and_then(|e| e.cell.as_ref()) {
                            cell.kill();
                        }
                    }
                    Command::Publish { child, change } => self.publish(ctx, child, change),
                    Command::Ready => ctx.ready(),
                    Command::Finish(exit) => {
                        self.exit = Some(exit.clone());
                        ctx.end(exit);
                    }
                }
            }
        }
        self.set_alarm(ctx);
    }

    async fn start(&mut self, ctx: &Context<Self>, child: ChildId, run: u64) -> Option<Event> {
        let entry = self.entries.get_mut(&child)?;
        let start = Start {
            parent: Parent::Supervisor { mailbox: Arc::clone(&ctx.origin.handle.mailbox), child },
            scope: Arc::clone(&ctx.origin.scope),
            run,
            supervisor: Some(ctx.origin.cell.clone()),
            path: Arc::clone(&self.path),
        };
        match Arc::clone(&entry.body).start(start).await {
            Ok(cell) => {
                entry.cell = Some(cell);
                None
            }
            Err(reason) => Some(Event::Exited { child, run, exit: Exit::StartFailed { reason } }),
        }
    }

    fn publish(&mut self, ctx: &Context<Self>, child: ChildId, change: Change) {
        let Some(entry) = self.entries.get(&child) else { return };
        let name = Arc::clone(entry.body.name());
        self.log(&name, &change);
        let events = &ctx.origin.scope.events;
        // Before the answer: who has been answered and subscribes then must not see this.
        if events.receiver_count() > 0 {
            let (supervisor, child) = (Arc::clone(&self.path), Arc::clone(&name));
            // An error means that the last observer has just left.
            let _ = events.send(LifecycleEvent { supervisor, child, change: change.clone() });
        }
        self.answer(child, &name, &change);
        if change == Change::Removed {
            self.entries.remove(&child);
            self.names.remove(&name);
        }
    }

    fn log(&self, child: &Arc<str>, change: &Change) {
        let supervisor = &*self.path;
        match change {
            Change::Exited(exit) if exit.is_abnormal() => {
                tracing::warn!(supervisor, child = &**child, reason = %exit, "child crashed");
            }
            Change::Restarting { after, attempt } => {
                let wait_ms = after.as_millis();
                tracing::info!(supervisor, child = &**child, attempt, wait_ms, "child restarts");
            }
            Change::Abandoned => {
                tracing::error!(supervisor, child = &**child, "child does not stop, left behind");
            }
            other => {
                tracing::debug!(supervisor, child = &**child, change = ?other, "child changed")
            }
        }
    }

    fn answer(&mut self, child: ChildId, name: &Arc<str>, change: &Change) {
        if self.pending.is_empty() {
            return;
        }
        let failed = |exit: &Exit| SupervisorError::StartFailed {
            child: Arc::clone(name),
            exit: exit.clone(),
        };
        let Some(waiting) = self.pending.remove(&child) else { return };
        let mut still = Vec::new();
        for pending in waiting {
            match (pending, change) {
                (Pending::Ready(reply), Change::Ready) => reply.send(Ok(())),
                (Pending::Ready(reply), Change::Exited(exit)) => reply.send(Err(failed(exit))),
                (Pending::Ready(reply), Change::Removed) => {
                    reply.send(Err(SupervisorError::Unknown { name: Arc::clone(name) }));
                }
                (Pending::Removed(reply), Change::Removed) => reply.send(Ok(())),
                (pending, _) => still.push(pending),
            }
        }
        if !still.is_empty() {
            self.pending.insert(child, still);
        }
    }

    /// Keeps one timer set to the core's next deadline. One that rings too early is reset.
    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let Some(deadline) = self.core.next_deadline() else { return };
        if let Some((at, key)) = self.alarm {
            if at <= deadline {
                return;
            }
            ctx.cancel(key);
        }
        let wait = deadline.saturating_duration_since(crate::sync::now());
        self.alarm = Some((deadline, ctx.note_after(wait, SupervisorMessage::Tick)));
    }

    fn on_add(&mut self, spec: &ChildSpec, reply: Done) -> Option<Event> {
        if !self.core.is_open() {
            reply.send(Err(SupervisorError::Down));
            return None;
        }
        if self.names.contains_key(spec.name()) {
            reply.send(Err(SupervisorError::Duplicate { name: Arc::clone(spec.name()) }));
            return None;
        }
        let child = self.declare(spec);
        self.pending.entry(child).or_default().push(Pending::Ready(reply));
        Some(Event::Restart { child })
    }

    fn child(&self, name: &Arc<str>, reply: Done) -> Option<(ChildId, Done)> {
        if !self.core.is_open() {
            reply.send(Err(SupervisorError::Down));
            return None;
        }
        if let Some(child) = self.names.get(name) {
            return Some((*child, reply));
        }
        reply.send(Err(SupervisorError::Unknown { name: Arc::clone(name) }));
        None
    }

    fn members(&self) -> Vec<Member> {
        let member = |entry: &Entry| Member {
            name: Arc::clone(entry.body.name()),
            vitals: entry.body.vitals(),
            supervisor: entry.body.as_supervisor(),
        };
        self.entries.values().map(member).collect()
    }
}

impl Actor for SupervisorActor {
    type Message = SupervisorMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        if !ctx.origin.path.is_empty() {
            self.path = format!("{}/{}", ctx.origin.path, self.name).into();
        }
        if matches!(ctx.origin.parent, Parent::Root(_)) {
            self.state = None;
        } else if let Some(state) = &self.state {
            state.send_replace(RootState::Running);
        }
        if let Some(name) = self.twice.take() {
            return Err(StartError::Duplicate { name }.into());
        }
        ctx.defers_ready = true;
        self.drive(ctx, Event::Boot).await;
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: SupervisorMessage,
    ) -> Result<(), ActorError> {
        let event = match message {
            SupervisorMessage::Noted { child, run, note: Note::Ready } => {
                Some(Event::Ready { child, run })
            }
            SupervisorMessage::Noted { child, run, note: Note::Exited(exit) } => {
                Some(Event::Exited { child, run, exit })
            }
            SupervisorMessage::Add { spec, reply } => self.on_add(&spec, reply),
            SupervisorMessage::Remove { name, reply } => {
                self.child(&name, reply).map(|(child, reply)| {
                    self.pending.entry(child).or_default().push(Pending::Removed(reply));
                    Event::Remove { child }
                })
            }
            SupervisorMessage::Restart { name, reply } => {
                self.child(&name, reply).map(|(child, reply)| {
                    self.pending.entry(child).or_default().push(Pending::Ready(reply));
                    Event::Restart { child }
                })
            }
            SupervisorMessage::GetMembers { reply } => {
                reply.send(self.members());
                None
            }
            SupervisorMessage::Shutdown => Some(Event::Shutdown(Exit::Shutdown)),
            SupervisorMessage::Tick => {
                self.alarm = None;
                Some(Event::Tick)
            }
        };
        if let Some(event) = event {
            self.drive(ctx, event).await;
        }
        Ok(())
    }
}
