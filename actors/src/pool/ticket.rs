//! A job on its way: shared by the queue, which may take it back, and the worker, which may
//! begin it. Whoever is first decides; so a job is never both returned and begun.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::sync::lock;

use super::core::JobId;
use super::error::PoolError;
use super::job::Key;

type Answer<J, R> = Result<R, PoolError<J>>;

/// What a worker is told about a job besides the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// 1 the first time, more when earlier workers died in the middle.
    pub attempt: u32,
    /// When its caller gives up.
    pub deadline: Instant,
    /// The key it was submitted with.
    pub key: Option<Key>,
}

pub(crate) struct Ticket<J, R> {
    pub(crate) expires: Instant,
    pub(crate) deadline: Instant,
    pub(crate) key: Option<Key>,
    copy: Option<fn(&J) -> J>,
    state: Mutex<State<J, R>>,
}

struct State<J, R> {
    job: Option<J>,
    reply: Option<oneshot::Sender<Answer<J, R>>>,
    /// Its place in the queue, if those are counted; given back when a worker has it, or
    /// when it is dropped.
    permit: Option<OwnedSemaphorePermit>,
    /// Whether the incarnation of a worker that has it has begun it.
    begun: bool,
    attempt: u32,
}

/// A ticket on its way to one incarnation of a worker. A worker's mailbox outlives its
/// incarnations, so this may reach a later one, which must not take it for its own: the
/// ticket may have been given to that one too, after others.
pub(crate) struct Assignment<J, R> {
    pub(crate) generation: u64,
    pub(crate) job: JobId,
    pub(crate) ticket: Arc<Ticket<J, R>>,
}

impl<J, R> Ticket<J, R> {
    pub(crate) fn new(
        job: J,
        copy: Option<fn(&J) -> J>,
        key: Option<Key>,
        (expires, deadline): (Instant, Instant),
        permit: Option<OwnedSemaphorePermit>,
    ) -> (Arc<Self>, oneshot::Receiver<Answer<J, R>>) {
        let (reply, answer) = oneshot::channel();
        let state = State { job: Some(job), reply: Some(reply), permit, begun: false, attempt: 0 };
        let ticket = Self { expires, deadline, key, copy, state: Mutex::new(state) };
        (Arc::new(ticket), answer)
    }

    /// Gives it to an incarnation of a worker; the one that had it before has ended.
    pub(crate) fn assign(&self) {
        let mut state = lock(&self.state);
        state.begun = false;
        let permit = state.permit.take();
        drop(state);
        drop(permit);
    }

    /// Begins it on behalf of the incarnation it was given to, unless it was taken back or
    /// is too late.
    pub(crate) fn begin(&self, now: Instant) -> Option<(J, Task)> {
        let mut state = lock(&self.state);
        // What was begun before only its deadline ends.
        let late = now >= if state.attempt > 0 { self.deadline } else { self.expires };
        if late {
            let refused = state.refuse(PoolError::Expired);
            drop(state);
            refused.send();
            return None;
        }
        let job = state.job.take()?;
        state.begun = true;
        state.attempt += 1;
        let attempt = state.attempt;
        drop(state);
        if let Some(copy) = self.copy {
            // Outside the lock: it is the user's code.
            let kept = copy(&job);
            lock(&self.state).job = Some(kept);
        }
        Some((job, Task { attempt, deadline: self.deadline, key: self.key }))
    }

    /// Takes the job out of a ticket that went nowhere.
    pub(crate) fn take(&self) -> Option<J> {
        lock(&self.state).job.take()
    }

    /// Whether it was begun by its present holder, and whether it can be begun again.
    pub(crate) fn begun(&self) -> (bool, bool) {
        let state = lock(&self.state);
        (state.begun, state.job.is_some())
    }

    pub(crate) fn answer(&self, answer: Answer<J, R>) {
        let reply = lock(&self.state).reply.take();
        if let Some(reply) = reply {
            // An error means that the caller has gone.
            let _ = reply.send(answer);
        }
    }

    /// Gives a job that was not begun back to its caller.
    pub(crate) fn refuse(&self, error: impl FnOnce(J) -> PoolError<J>) {
        let refused = lock(&self.state).refuse(error);
        refused.send();
    }

    /// Takes the job back if it was not begun; else gives its caller up if it is time.
    pub(crate) fn overdue(&self, now: Instant) {
        let mut state = lock(&self.state);
        if !state.begun && state.attempt == 0 {
            let refused = state.refuse(PoolError::Expired);
            drop(state);
            return refused.send();
        }
        if now >= self.deadline {
            let left = state.job.take();
            drop(state);
            drop(left);
            self.answer(Err(PoolError::Deadline));
        }
    }
}

/// Whoever had it last is gone, without a word to the caller.
impl<J, R> Drop for Ticket<J, R> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(reply) = state.reply.take() else { return };
        let error = match state.job.take() {
            Some(job) if state.attempt == 0 => PoolError::Down(job),
            _ => PoolError::Dropped,
        };
        // An error means that the caller has gone.
        let _ = reply.send(Err(error));
    }
}

/// A refusal to be sent once the lock is released.
struct Refused<J, R> {
    reply: Option<oneshot::Sender<Answer<J, R>>>,
    error: PoolError<J>,
}

impl<J, R> Refused<J, R> {
    fn send(self) {
        if let Some(reply) = self.reply {
            // An error means that the caller has gone.
            let _ = reply.send(Err(self.error));
        }
    }
}

impl<J, R> State<J, R> {
    fn refuse(&mut self, error: impl FnOnce(J) -> PoolError<J>) -> Refused<J, R> {
        // A job that was begun before does not come back as if it had not been.
        let error = match self.job.take().map(error) {
            Some(error) if self.attempt == 0 => error,
            Some(PoolError::Down(_)) => PoolError::Dropped,
            _ => PoolError::Deadline,
        };
        Refused { reply: self.reply.take(), error }
    }
}
