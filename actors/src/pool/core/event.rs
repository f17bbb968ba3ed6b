//! What a pool's core is told, what it commands, and the terms of both.

use std::time::{Duration, Instant};

use crate::policy::exit::Exit;
use crate::pool::config::Recycle;
use crate::pool::job::{Affinity, Priority};

/// Names a job; later jobs have greater ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(pub(in crate::pool) u64);

/// What a pool is bound to.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) prefetch: usize,
    /// How many jobs may wait before one is given back for each that comes; none if those
    /// who submit see to it.
    pub(crate) room: Option<usize>,
    pub(crate) grace: Option<Duration>,
    pub(crate) recycle: Recycle,
}

/// What was agreed for a job.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) priority: Priority,
    pub(crate) affinity: Affinity,
    /// Not begun from here on; at most `deadline`.
    pub(crate) expires: Instant,
    pub(crate) deadline: Instant,
    /// How often it may be begun: 1 unless it is idempotent.
    pub(crate) attempts: u32,
}

#[derive(Debug)]
pub(crate) enum Event<P> {
    Submit {
        payload: P,
        terms: Terms,
    },
    /// A worker's incarnation takes jobs.
    Ready {
        worker: usize,
        generation: u64,
    },
    /// A worker is through with a job: done, or skipped since it was withdrawn or expired.
    Finished {
        worker: usize,
        generation: u64,
        job: JobId,
        done: bool,
        memory: Option<u64>,
    },
    /// A worker's incarnation ended.
    Ended {
        worker: usize,
        generation: u64,
        /// Whether it had begun the first of its jobs.
        begun: bool,
        /// Whether that job can be begun again.
        kept: bool,
        exit: Exit,
    },
    /// A worker that was to be removed is gone.
    Removed {
        worker: usize,
    },
    Resize {
        size: usize,
    },
    Drain,
    /// Time passed.
    Tick,
}

/// Why a job was never begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Busy,
    Gone,
    Expired,
    Draining,
    /// It made room for a newer one.
    Evicted,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Command<P> {
    Assign {
        worker: usize,
        generation: u64,
        job: JobId,
        payload: P,
    },
    /// Tell the caller that the job was not begun and will not be.
    Refuse {
        payload: P,
        refusal: Refusal,
    },
    /// A job that a worker has is past its expiry or its deadline: withdraw it if it was
    /// not begun, else give its caller up if its deadline has passed.
    Overdue {
        payload: P,
    },
    /// Tell the caller that the worker died in the middle.
    Fail {
        payload: P,
        exit: Exit,
        attempts: u32,
    },
    Add {
        worker: usize,
    },
    /// Stop in good order and start again.
    Restart {
        worker: usize,
    },
    Remove {
        worker: usize,
    },
    Kill {
        worker: usize,
    },
}
