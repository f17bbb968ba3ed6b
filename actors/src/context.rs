//! What an actor can do from inside: know itself, stop, own tasks and timers.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::ActorCell;
use tokio::task::{AbortHandle, JoinSet};

use crate::actor::Actor;
use crate::error::TellError;
use crate::handle::Handle;
use crate::parent::{Note, Parent, Scope};
use crate::policy::exit::Exit;
use crate::registry::{Groups, Registry};
use crate::sync::lock;

/// Names a timer of one actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerKey(u64);

/// Names a monitor of one actor.
#[derive(Debug, Clone)]
pub struct MonitorKey(Arc<AtomicBool>);

/// An actor's view of itself. Everything it owns here ends with this incarnation.
pub struct Context<A: Actor> {
    /// How to end after the message at hand, if at all.
    pub(crate) end: Option<Exit>,
    /// Whether readiness is announced by [`Context::ready`] rather than by the end of
    /// `started`.
    pub(crate) defers_ready: bool,
    owned: Option<Box<Owned>>,
    /// Last, since its drop tells that all before it is gone.
    pub(crate) origin: Origin<A::Message>,
}

/// Where an incarnation comes from. Its drop is the incarnation's end: it disconnects the
/// mailbox and tells the parent.
pub(crate) struct Origin<M: Send + 'static> {
    pub(crate) handle: Handle<M>,
    pub(crate) run: u64,
    pub(crate) parent: Parent,
    pub(crate) scope: Arc<Scope>,
    pub(crate) cell: ActorCell,
    /// The path of the supervisor.
    pub(crate) path: Arc<str>,
    /// How it ended; `None` when its future was dropped from outside.
    pub(crate) exit: Option<Exit>,
}

impl<M: Send + 'static> Drop for Origin<M> {
    fn drop(&mut self) {
        let exit = self.exit.take().unwrap_or(Exit::Killed);
        self.handle.mailbox.detach(self.run, &exit);
        self.parent.notify(self.run, Note::Exited(exit));
    }
}

/// Made on first use: most actors own no task, and an idle one should cost little.
#[derive(Default)]
struct Owned {
    tasks: JoinSet<()>,
    timers: HashMap<TimerKey, AbortHandle>,
    next_timer: u64,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(origin: Origin<A::Message>) -> Self {
        Self { origin, end: None, defers_ready: false, owned: None }
    }

    /// The actor's own handle.
    #[must_use]
    pub fn handle(&self) -> &Handle<A::Message> {
        &self.origin.handle
    }

    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.origin.handle.name()
    }

    /// Ends the actor in good order after the message at hand: `stopping` runs, then it
    /// exits normally. Messages that wait are dropped.
    pub fn stop(&mut self) {
        self.end.get_or_insert(Exit::Normal);
    }

    /// Ends the actor after the message at hand with a given exit.
    pub(crate) fn end(&mut self, exit: Exit) {
        self.end = Some(exit);
    }

    pub(crate) fn ready(&self) {
        self.origin.handle.mailbox.mark_running();
        self.origin.parent.notify(self.origin.run, Note::Ready);
    }

    /// The names of the tree this actor is in.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.origin.scope.registry
    }

    /// The groups of the tree this actor is in.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.origin.scope.groups
    }

    /// Sends this actor a message when the present incarnation of another one ends: its
    /// exit, or `None` at once if that is not running. Told once; the other's restart needs
    /// a new monitor.
    pub fn monitor<M: Send + 'static>(
        &self,
        other: &Handle<M>,
        make: impl FnOnce(Option<Exit>) -> A::Message + Send + 'static,
    ) -> MonitorKey {
        let key = MonitorKey(Arc::new(AtomicBool::new(true)));
        let (watched, me) = (key.clone(), self.origin.handle.downgrade());
        let tell = move |exit| {
            if watched.0.load(Ordering::Acquire)
                && let Some(me) = me.upgrade()
            {
                me.mailbox.push_note(make(exit));
            }
        };
        let slot = Arc::new(Mutex::new(Some(tell)));
        let told = Arc::clone(&slot);
        let watcher = Box::new(move |exit| {
            if let Some(tell) = lock(&told).take() {
                tell(Some(exit));
            }
        });
        if other.mailbox.watch(watcher).is_err()
            && let Some(tell) = lock(&slot).take()
        {
            tell(None);
        }
        key
    }

    /// Ends a monitor; what it has already told still arrives.
    pub fn demonitor(&self, monitor: &MonitorKey) {
        monitor.0.store(false, Ordering::Release);
    }

    /// Ties this incarnation to another actor's: if one ends abnormally, the other is
    /// killed. At once if the other is not running.
    pub fn link<M: Send + 'static>(&self, other: &Handle<M>) {
        let me = self.origin.handle.downgrade();
        let kill_me = move |exit: Exit| {
            if exit.is_abnormal()
                && let Some(me) = me.upgrade()
            {
                me.kill();
            }
        };
        if other.mailbox.watch(Box::new(kill_me)).is_err() {
            self.origin.handle.kill();
            return;
        }
        let other = other.downgrade();
        let kill_other = move |exit: Exit| {
            if exit.is_abnormal()
                && let Some(other) = other.upgrade()
            {
                other.kill();
            }
        };
        // An error means that this actor is ending already; then nothing is tied to it.
        let _ = self.origin.handle.mailbox.watch(Box::new(kill_other));
    }

    /// Runs a future as a task owned by the actor: it is aborted when the actor ends.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let owned = self.owned.get_or_insert_default();
        while owned.tasks.try_join_next().is_some() {}
        owned.tasks.spawn(future)
    }

    /// Sends the actor a message after `wait`.
    pub fn tell_after(&mut self, wait: Duration, message: A::Message) -> TimerKey {
        let handle = self.origin.handle.clone();
        self.timer(async move {
            tokio::time::sleep(wait).await;
            // An error means that the actor ended in the meantime.
            let _ = handle.tell(message).await;
        })
    }

    /// Sends the actor a message every `period`, the first after one period. A tick that
    /// finds the mailbox full is skipped.
    pub fn tell_every(
        &mut self,
        period: Duration,
        make: impl Fn() -> A::Message + Send + 'static,
    ) -> TimerKey {
        let handle = self.origin.handle.clone();
        self.timer(async move {
            let start = tokio::time::Instant::now() + period;
            let mut interval = tokio::time::interval_at(start, period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                interval.tick().await;
                if let Err(TellError::Down(_)) = handle.try_tell(make()) {
                    return;
                }
            }
        })
    }

    /// Sends the actor a note after `wait`, past the bound of its mailbox.
    pub(crate) fn note_after(&mut self, wait: Duration, message: A::Message) -> TimerKey {
        let mailbox = Arc::clone(&self.origin.handle.mailbox);
        self.timer(async move {
            tokio::time::sleep(wait).await;
            mailbox.push_note(message);
        })
    }

    /// Ends a timer; does nothing if it has fired or is unknown. A message it has already
    /// sent still arrives.
    pub fn cancel(&mut self, timer: TimerKey) {
        if let Some(owned) = &mut self.owned
            && let Some(task) = owned.timers.remove(&timer)
        {
            task.abort();
        }
    }

    fn timer(&mut self, future: impl Future<Output = ()> + Send + 'static) -> TimerKey {
        let task = self.spawn(future);
        let owned = self.owned.get_or_insert_default();
        owned.timers.retain(|_, task| !task.is_finished());
        let key = TimerKey(owned.next_timer);
        owned.next_timer += 1;
        owned.timers.insert(key, task);
        key
    }

    /// Aborts the owned tasks and waits until they are gone.
    pub(crate) async fn end_tasks(&mut self) {
        if let Some(mut owned) = self.owned.take() {
            owned.tasks.shutdown().await;
        }
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name()).finish_non_exhaustive()
    }
}
