//! The mailbox of a supervised actor: a bounded queue that outlives the actor's restarts.
//!
//! ractor's own mailboxes are unbounded and end with the actor. So messages wait here, and
//! the ractor actor only gets a [`Wake`] when its queue was empty: one wake serves a whole
//! burst, and a handle stays the same over restarts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
#[cfg(feature = "testing")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ractor::ActorRef;
use serde::Serialize;
use tokio::sync::Notify;

use crate::dead_letter::Cause;
use crate::error::{Down, TellError};
use crate::parent::Scope;
use crate::policy::exit::Exit;
use crate::sync::lock;

use self::queue::{Push, Queue};

pub use self::queue::Overflow;

pub(crate) mod queue;

/// Messages a mailbox holds by default: enough to ride out a pause of a millisecond at a
/// million messages a second, little enough that a stuck actor is noticed by its senders.
pub(crate) const DEFAULT_CAPACITY: usize = 1024;

/// Tells the ractor actor of a mailbox that there is something in it.
#[derive(Debug)]
pub(crate) struct Wake;

impl ractor::Message for Wake {}

/// Where an actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Phase {
    /// Not started, between two runs, or ended.
    Down = 0,
    /// `started` is running.
    Starting = 1,
    /// Ready for messages.
    Running = 2,
    /// Asked to stop.
    Stopping = 3,
}

/// What the actor does next.
pub(crate) enum Next<M> {
    Message(M),
    Idle,
    /// The mailbox was closed by [`Mailbox::drain`] and is empty now.
    Drained,
}

pub(crate) struct Mailbox<M> {
    name: Arc<str>,
    inner: Mutex<Inner<M>>,
    space: Notify,
    /// How many senders wait for `space`.
    waiting: AtomicUsize,
    phase: AtomicU8,
    handled: AtomicU64,
    busy_nanos: AtomicU64,
    starts: AtomicU64,
    /// A fault and after how many messages it comes.
    #[cfg(feature = "testing")]
    fault: Mutex<Option<(u64, crate::testing::Fault)>>,
    #[cfg(feature = "testing")]
    has_fault: AtomicBool,
}

struct Inner<M> {
    queue: Queue<M>,
    target: Option<ActorRef<Wake>>,
    run: u64,
    accepting: bool,
    scheduled: bool,
    draining: bool,
    scope: Option<Arc<Scope>>,
    watchers: Vec<Watcher>,
}

/// Called once with the end of the present incarnation.
pub(crate) type Watcher = Box<dyn FnOnce(Exit) + Send>;

impl<M: Send + 'static> Mailbox<M> {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            inner: Mutex::new(Inner {
                queue: Queue::new(DEFAULT_CAPACITY, Overflow::default()),
                target: None,
                run: 0,
                accepting: false,
                scheduled: false,
                draining: false,
                scope: None,
                watchers: Vec::new(),
            }),
            space: Notify::new(),
            waiting: AtomicUsize::new(0),
            phase: AtomicU8::new(Phase::Down as u8),
            handled: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            starts: AtomicU64::new(0),
            #[cfg(feature = "testing")]
            fault: Mutex::new(None),
            #[cfg(feature = "testing")]
            has_fault: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn configure(&self, capacity: Option<usize>, overflow: Option<Overflow>) {
        lock(&self.inner).queue.configure(capacity, overflow);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            1 => Phase::Starting,
            2 => Phase::Running,
            3 => Phase::Stopping,
            _ => Phase::Down,
        }
    }

    pub(crate) fn depth(&self) -> usize {
        lock(&self.inner).queue.len()
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_nanos.load(Ordering::Relaxed))
    }

    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Only the actor itself counts, so a load and a store are enough.
    pub(crate) fn count(&self, handled: u64, busy: Duration) {
        let nanos = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.handled.store(self.handled().wrapping_add(handled), Ordering::Relaxed);
        let before = self.busy_nanos.load(Ordering::Relaxed);
        self.busy_nanos.store(before.saturating_add(nanos), Ordering::Relaxed);
    }

    #[cfg(feature = "testing")]
    pub(crate) fn inject(&self, nth: u64, fault: crate::testing::Fault) {
        *lock(&self.fault) = Some((nth, fault));
        self.has_fault.store(true, Ordering::Release);
    }

    /// Counts a message; the fault, if it is this one's turn.
    #[cfg(feature = "testing")]
    pub(crate) fn fault(&self) -> Option<crate::testing::Fault> {
        // Benches have this feature on, too.
        if !self.has_fault.load(Ordering::Acquire) {
            return None;
        }
        let mut planned = lock(&self.fault);
        let (left, fault) = planned.as_mut()?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return None;
        }
        let fault = *fault;
        *planned = None;
        Some(fault)
    }

    /// Connects a new incarnation. From here on messages are taken.
    pub(crate) fn attach(&self, run: u64, target: ActorRef<Wake>, scope: &Arc<Scope>) {
        let mut inner = lock(&self.inner);
        inner.target = Some(target);
        inner.scope = Some(Arc::clone(scope));
        inner.run = run;
        inner.accepting = true;
        inner.scheduled = false;
        inner.draining = false;
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.phase.store(Phase::Starting as u8, Ordering::Release);
    }

    pub(crate) fn mark_running(&self) {
        let _ = self.phase.compare_exchange(
            Phase::Starting as u8,
            Phase::Running as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// Disconnects incarnation `run` and drops what was waiting for it, so that who asked
    /// learns it at once.
    pub(crate) fn detach(&self, run: u64, exit: &Exit) {
        let (left, scope, watchers) = {
            let mut inner = lock(&self.inner);
            if inner.run != run {
                return;
            }
            inner.target = None;
            inner.accepting = false;
            self.phase.store(Phase::Down as u8, Ordering::Release);
            (inner.queue.take(), inner.scope.take(), std::mem::take(&mut inner.watchers))
        };
        self.space.notify_waiters();
        if let Some(scope) = scope {
            scope.dead_letters.record::<M>(&self.name, left.len(), Cause::ActorEnded);
        }
        // Outside the lock: dropping a message runs its sender's code.
        drop(left);
        for watcher in watchers {
            watcher(exit.clone());
        }
    }

    /// Has `watcher` called at the end of the present incarnation; gives it back if there
    /// is none.
    pub(crate) fn watch(&self, watcher: Watcher) -> Result<(), Watcher> {
        let mut inner = lock(&self.inner);
        if inner.target.is_none() {
            return Err(watcher);
        }
        inner.watchers.push(watcher);
        Ok(())
    }

    /// Drops the present incarnation's future wherever it stands.
    pub(crate) fn kill(&self) {
        let target = lock(&self.inner).target.clone();
        if let Some(target) = target {
            target.kill();
        }
    }

    /// Takes no more messages; the actor stops when it has handled those it has.
    pub(crate) fn drain(&self) {
        let mut inner = lock(&self.inner);
        if inner.target.is_none() {
            return;
        }
        inner.accepting = false;
        inner.draining = true;
        self.phase.store(Phase::Stopping as u8, Ordering::Release);
        let sleeper = inner.sleeper();
        drop(inner);
        wake(sleeper);
        self.space.notify_waiters();
    }

    /// Takes no more messages; the actor is about to stop by itself.
    pub(crate) fn close(&self) {
        lock(&self.inner).accepting = false;
        self.phase.store(Phase::Stopping as u8, Ordering::Release);
        self.space.notify_waiters();
    }

    pub(crate) fn next(&self) -> Next<M> {
        let mut inner = lock(&self.inner);
        if let Some(message) = inner.queue.pop() {
            drop(inner);
            if self.waiting.load(Ordering::SeqCst) > 0 {
                self.space.notify_one();
            }
            return Next::Message(message);
        }
        if inner.draining {
            return Next::Drained;
        }
        inner.scheduled = false;
        Next::Idle
    }

    /// Puts a message in, applying `reject` and `drop_oldest` but never waiting.
    pub(crate) fn push(&self, message: M) -> Result<(), TellError<M>> {
        let mut inner = lock(&self.inner);
        if !inner.accepting {
            return Err(TellError::Down(message));
        }
        match inner.queue.push(message) {
            Push::Accepted => {
                let sleeper = inner.sleeper();
                drop(inner);
                wake(sleeper);
                Ok(())
            }
            Push::Evicted(oldest) => {
                let scope = inner.scope.clone();
                drop(inner);
                drop(oldest);
                if let Some(scope) = scope {
                    scope.dead_letters.record::<M>(&self.name, 1, Cause::Evicted);
                }
                Ok(())
            }
            Push::Full(message) => Err(TellError::Full(message)),
        }
    }

    /// Puts in as many messages as fit, under one lock and with one wake; the rest stays.
    /// How many were taken.
    pub(crate) fn push_many(&self, messages: &mut VecDeque<M>) -> Result<usize, Down> {
        let offered = messages.len();
        let mut inner = lock(&self.inner);
        if !inner.accepting {
            return Err(Down);
        }
        let evicted = inner.queue.push_many(messages);
        let taken = offered - messages.len();
        let sleeper = if taken > 0 { inner.sleeper() } else { None };
        let scope = if evicted.is_empty() { None } else { inner.scope.clone() };
        drop(inner);
        wake(sleeper);
        if let Some(scope) = scope {
            scope.dead_letters.record::<M>(&self.name, evicted.len(), Cause::Evicted);
        }
        Ok(taken)
    }

    /// Puts a message into the control lane.
    pub(crate) fn push_control(&self, message: M) -> Result<(), TellError<M>> {
        let mut inner = lock(&self.inner);
        if !inner.accepting {
            return Err(TellError::Down(message));
        }
        match inner.queue.push_control(message) {
            Push::Full(message) => Err(TellError::Full(message)),
            Push::Accepted | Push::Evicted(_) => {
                let sleeper = inner.sleeper();
                drop(inner);
                wake(sleeper);
                Ok(())
            }
        }
    }

    /// Puts in a note past the bound, such as one of a child for its supervisor: its senders
    /// keep the number small. Lost if the actor is not running.
    pub(crate) fn push_note(&self, message: M) {
        let mut inner = lock(&self.inner);
        if inner.accepting {
            inner.queue.push_note(message);
            let sleeper = inner.sleeper();
            drop(inner);
            wake(sleeper);
        }
    }

    /// Puts a message in, waiting for space if that is the policy.
    pub(crate) async fn send(&self, message: M) -> Result<(), TellError<M>> {
        match self.push(message) {
            Err(TellError::Full(message))
                if lock(&self.inner).queue.overflow() == Overflow::Wait =>
            {
                self.send_when_space(message).await
            }
            done => done,
        }
    }

    /// Until a message would be taken, or the actor is not running.
    pub(crate) async fn space(&self) {
        if !self.is_full() {
            return;
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let mut space = std::pin::pin!(self.space.notified());
            space.as_mut().enable();
            if !self.is_full() {
                break;
            }
            space.await;
            // This waiter may put nothing in, so the next one has to look, too.
            if !self.is_full() {
                self.space.notify_one();
                break;
            }
        }
    }

    fn is_full(&self) -> bool {
        let inner = lock(&self.inner);
        inner.accepting && inner.queue.is_full()
    }

    async fn send_when_space(&self, mut message: M) -> Result<(), TellError<M>> {
        // Counted before the push is tried again, so a pop in between sees a waiter.
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let mut space = std::pin::pin!(self.space.notified());
            space.as_mut().enable();
            match self.push(message) {
                Err(TellError::Full(back)) => message = back,
                done => return done,
            }
            space.await;
        }
    }
}

impl<M> Inner<M> {
    /// Whom to wake, if the actor does not know yet that there is something.
    fn sleeper(&mut self) -> Option<ActorRef<Wake>> {
        if self.scheduled {
            return None;
        }
        self.scheduled = true;
        self.target.clone()
    }
}

/// Wakes an actor. Never while its mailbox is locked: it would run into the lock at once.
fn wake(sleeper: Option<ActorRef<Wake>>) {
    if let Some(actor) = sleeper {
        // An error means that the actor is ending; its end empties the queue.
        let _ = actor.send_message(Wake);
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
