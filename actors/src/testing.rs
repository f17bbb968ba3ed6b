//! The testing kit (feature `testing`): a manual clock, probes, waiting for a condition,
//! and faults at a chosen message.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::actor::{Actor, ActorError};
use crate::child::{ChildSpec, child};
use crate::context::Context;
use crate::handle::Handle;

/// How long [`eventually`] waits: far longer than anything takes, so that only a real fault
/// meets it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until a condition holds.
///
/// # Panics
/// If it does not hold within 20 s; the message says `what`.
#[expect(clippy::panic, reason = "an assertion for tests")]
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    // Counted rather than timed, so that it works with the manual clock too.
    for _ in 0..PATIENCE.as_millis() / LOOK_EVERY.as_millis() {
        if holds().await {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("never happened: {what}");
}

/// Time that passes only when told: backoffs, timers, breakers, deadlines and restart
/// windows of this thread's runtime follow it.
#[derive(Debug)]
pub struct ManualClock(());

impl ManualClock {
    /// Stops the clock of the runtime this is called in, which must be a current-thread
    /// one. When every task waits for time, the clock jumps to the earliest.
    ///
    /// # Panics
    /// If the runtime has several threads, or its clock is stopped already.
    #[must_use]
    pub fn stop() -> Self {
        tokio::time::pause();
        Self(())
    }

    /// Lets time pass.
    pub async fn advance(&self, time: Duration) {
        tokio::time::advance(time).await;
    }

    /// How much of it has passed since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: tokio::time::Instant) -> Duration {
        earlier.elapsed()
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }
}

impl Drop for ManualClock {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

/// What an actor under test talks to: keeps every message for the test to look at.
#[derive(Debug)]
pub struct Probe<M> {
    received: mpsc::Receiver<M>,
}

/// A probe, its handle for the actor under test, and its child for the supervisor.
#[must_use]
pub fn probe<M: Send + 'static>(name: &str) -> (Probe<M>, Handle<M>, ChildSpec) {
    let (sender, received) = mpsc::channel(crate::mailbox::DEFAULT_CAPACITY);
    let (handle, spec) = child(name, move || ProbeActor { sender: sender.clone() });
    (Probe { received }, handle, spec)
}

impl<M> Probe<M> {
    /// The next message, or `None` if none comes in time.
    pub async fn next(&mut self, within: Duration) -> Option<M> {
        tokio::time::timeout(within, self.received.recv()).await.ok().flatten()
    }
}

struct ProbeActor<M> {
    sender: mpsc::Sender<M>,
}

impl<M: Send + 'static> Actor for ProbeActor<M> {
    type Message = M;

    async fn handle(&mut self, _: &mut Context<Self>, message: M) -> Result<(), ActorError> {
        // An error means that the test no longer looks.
        let _ = self.sender.send(message).await;
        Ok(())
    }
}

/// How an injected fault ends an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its handler panics.
    Panic,
    /// Its handler returns an error.
    Fail,
    /// It is killed.
    Kill,
}

/// Has an actor meet a fault instead of handling its `nth` message from now (the first
/// is 1).
pub fn inject<M: Send + 'static>(handle: &Handle<M>, nth: u64, fault: Fault) {
    handle.mailbox.inject(nth, fault);
}
