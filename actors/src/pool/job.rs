//! A job as its caller describes it.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::error::PoolError;

/// How urgent a job is. Among equals the oldest is first; a steady stream of urgent jobs
/// can keep others waiting until they expire.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// After all others.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// What ties jobs to a worker: jobs of one key belong to one worker.
///
/// Which one depends on the key and the size of the pool only. When the pool grows from n
/// to n+1 workers, one key in n+1 moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of a value, equal for equal values in this process.
    pub fn of(value: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }

    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}

/// Which worker may do a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Affinity {
    #[default]
    None,
    Prefer(Key),
    Only(Key),
    OnlyIfFree(Key),
}

impl Affinity {
    pub(crate) fn key(self) -> Option<Key> {
        match self {
            Self::None => None,
            Self::Prefer(key) | Self::Only(key) | Self::OnlyIfFree(key) => Some(key),
        }
    }
}

/// A job and the terms on which it is to be done. Any `J` is one with the usual terms.
pub struct Job<J> {
    pub(crate) job: J,
    pub(crate) priority: Priority,
    pub(crate) affinity: Affinity,
    pub(crate) expires: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) attempts: u32,
    /// Copies the job, if it may be begun more than once.
    pub(crate) copy: Option<fn(&J) -> J>,
}

impl<J> Job<J> {
    /// A job of normal priority for any worker, with the pool's deadline, done at most once.
    pub fn new(job: J) -> Self {
        Self {
            job,
            priority: Priority::default(),
            affinity: Affinity::default(),
            expires: None,
            deadline: None,
            attempts: 1,
            copy: None,
        }
    }

    /// Sets how urgent it is.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Affinity as a hint: the worker of the key if it has no more to do than the others,
    /// else any with room.
    #[must_use]
    pub fn prefer(mut self, key: Key) -> Self {
        self.affinity = Affinity::Prefer(key);
        self
    }

    /// Strict affinity: only the worker of the key; the job waits while that is busy or
    /// being restarted.
    #[must_use]
    pub fn only(mut self, key: Key) -> Self {
        self.affinity = Affinity::Only(key);
        self
    }

    /// Strict affinity without waiting: only the worker of the key, and
    /// [`PoolError::Busy`] or [`PoolError::Gone`] at once if it has a job or is not up.
    #[must_use]
    pub fn only_if_free(mut self, key: Key) -> Self {
        self.affinity = Affinity::OnlyIfFree(key);
        self
    }

    /// How long it may wait to be begun, counted from when it is submitted; by default
    /// until its deadline.
    #[must_use]
    pub fn expires(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }

    /// When its caller gets an answer at the latest, counted from when it is submitted; by
    /// default as the pool says.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Says that it may be begun again when its worker dies in the middle, up to `attempts`
    /// times in all. A worker is given a copy each time.
    #[must_use]
    pub fn idempotent(mut self, attempts: u32) -> Self
    where
        J: Clone,
    {
        self.attempts = attempts.max(1);
        self.copy = Some(J::clone);
        self
    }
}

impl<J> From<J> for Job<J> {
    fn from(job: J) -> Self {
        Self::new(job)
    }
}

impl<J> fmt::Debug for Job<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("priority", &self.priority)
            .field("affinity", &self.affinity)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// The answer to an accepted job, to be awaited. Dropping it gives up the answer; the job
/// is done all the same.
#[must_use = "the answer comes only to who awaits it"]
pub struct Pending<J, R> {
    pub(crate) answer: oneshot::Receiver<Result<R, PoolError<J>>>,
}

impl<J, R> Future for Pending<J, R> {
    type Output = Result<R, PoolError<J>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or(Err(PoolError::Dropped)))
    }
}

impl<J, R> fmt::Debug for Pending<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
