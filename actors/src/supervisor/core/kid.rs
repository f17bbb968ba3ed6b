//! What a supervisor knows of each child, and of what it is about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::child::Policy;
use crate::policy::exit::Exit;

use super::ChildId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not running; to be started when its group is.
    Idle,
    Starting,
    Running {
        since: Instant,
    },
    /// Waits for its restart.
    Backoff,
    Stopping {
        then: Then,
        killed: bool,
    },
    /// Ended and not to be restarted.
    Done,
}

/// What follows a wanted stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Idle,
    Remove,
    Start,
}

#[derive(Debug)]
pub(super) struct Kid {
    pub(super) name: Arc<str>,
    pub(super) policy: Policy,
    pub(super) phase: Phase,
    pub(super) run: u64,
    /// Crashes since it last ran in good health.
    pub(super) streak: u32,
    pub(super) restarts: u64,
    /// Whether it has been ready once; before, a failed start fails its `add` or the boot.
    pub(super) proven: bool,
    pub(super) timed_out: bool,
    pub(super) timer: Option<(Instant, u64)>,
}

/// A restart of several children, or the first start of all.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) from: ChildId,
    /// All before it (stopping: after it) are dealt with.
    pub(super) cursor: ChildId,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Stopping { wait: Duration },
    Waiting,
    Starting,
}

#[derive(Debug, PartialEq)]
pub(super) enum Mode {
    Booting,
    Running,
    Ending { exit: Exit, cursor: ChildId },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Child(ChildId),
    Group,
}
