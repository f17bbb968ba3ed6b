//! Why a job has no result.

use std::fmt;

use thiserror::Error;

use crate::policy::exit::Exit;

/// Why a job has no result. A job that was not begun comes back.
#[derive(Error)]
pub enum PoolError<J> {
    /// The queue is full; nothing was done. Try later or shed load.
    #[error("the queue of the pool is full")]
    Full(J),
    /// The pool is not running, or stopped before the job was begun.
    #[error("the pool is not running")]
    Down(J),
    /// The pool is being drained and takes no jobs.
    #[error("the pool is being drained")]
    Draining(J),
    /// The queue was full, and it was the one to make room for a newer job.
    #[error("the job made room for a newer one")]
    Evicted(J),
    /// It was not begun before it expired.
    #[error("the job expired before it was begun")]
    Expired(J),
    /// The worker of its key has another job, and it was not to wait.
    #[error("the worker of the key is busy")]
    Busy(J),
    /// The worker of its key is not up, and it was not to wait.
    #[error("the worker of the key is not running")]
    Gone(J),
    /// It was begun and has not ended in time; whether it will is unknown.
    #[error("no result before the deadline")]
    Deadline,
    /// Its worker died in the middle; how much was done is unknown.
    #[error("attempt {attempts} ended in the middle: the worker {exit}")]
    WorkerDied {
        /// How the worker ended.
        exit: Exit,
        /// How often the job was begun.
        attempts: u32,
    },
    /// The pool ended in the middle; how much was done is unknown.
    #[error("the pool ended in the middle of the job")]
    Dropped,
}

impl<J> PoolError<J> {
    /// The job, if it was not begun.
    pub fn into_job(self) -> Option<J> {
        match self {
            Self::Full(job)
            | Self::Down(job)
            | Self::Draining(job)
            | Self::Evicted(job)
            | Self::Expired(job)
            | Self::Busy(job)
            | Self::Gone(job) => Some(job),
            Self::Deadline | Self::WorkerDied { .. } | Self::Dropped => None,
        }
    }

    /// Whether the same job may succeed later. That it had no effect is sure only if it
    /// came back.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Draining(_))
    }
}

impl<J> fmt::Debug for PoolError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Down(_) => f.write_str("Down(..)"),
            Self::Draining(_) => f.write_str("Draining(..)"),
            Self::Evicted(_) => f.write_str("Evicted(..)"),
            Self::Expired(_) => f.write_str("Expired(..)"),
            Self::Busy(_) => f.write_str("Busy(..)"),
            Self::Gone(_) => f.write_str("Gone(..)"),
            Self::Deadline => f.write_str("Deadline"),
            Self::WorkerDied { exit, attempts } => f
                .debug_struct("WorkerDied")
                .field("exit", exit)
                .field("attempts", attempts)
                .finish(),
            Self::Dropped => f.write_str("Dropped"),
        }
    }
}
