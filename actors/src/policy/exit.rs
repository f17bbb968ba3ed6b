//! How an actor ended, as its supervisor and its observers see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Intensity;

/// How an actor, a service or a supervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It ended itself in good order ([`Context::stop`](crate::Context::stop)).
    Normal,
    /// Its supervisor (or the user, for a root) stopped it in good order.
    Shutdown,
    /// It was killed: its future was dropped wherever it stood.
    Killed,
    /// `started` returned an error, or making the actor panicked.
    StartFailed {
        /// The error's text.
        reason: Box<str>,
    },
    /// `started` did not return in time; the actor was killed.
    StartTimeout,
    /// `handle` returned an error.
    Failed {
        /// The error's text.
        reason: Box<str>,
    },
    /// It panicked.
    Panicked {
        /// The panic's text.
        reason: Box<str>,
    },
    /// It did not even end when killed, since it blocks its thread. The supervisor went on
    /// without it.
    Stuck,
    /// A child process ended with a non-zero code.
    Code {
        /// The exit code.
        code: i32,
    },
    /// A child process was ended by a signal.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// No sign of life for too long; it was killed.
    Silent,
    /// It is a supervisor whose children crashed too often.
    GaveUp(Arc<GaveUp>),
}

impl Exit {
    /// Whether this is a crash: neither a normal end nor an ordered one.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        !matches!(self, Self::Normal | Self::Shutdown)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("ended normally"),
            Self::Shutdown => f.write_str("was shut down"),
            Self::Killed => f.write_str("was killed"),
            Self::StartFailed { reason } => write!(f, "failed to start: {reason}"),
            Self::StartTimeout => f.write_str("was not ready in time"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Panicked { reason } => write!(f, "panicked: {reason}"),
            Self::Stuck => f.write_str("could not be stopped"),
            Self::Code { code } => write!(f, "exited with code {code}"),
            Self::Signal { signal } => write!(f, "was ended by signal {signal}"),
            Self::Silent => f.write_str("gave no sign of life"),
            Self::GaveUp(report) => write!(f, "{report}"),
        }
    }
}

/// The report of a supervisor that gave up: which child, how often, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaveUp {
    /// The supervisor.
    pub supervisor: Arc<str>,
    /// The child whose restart was one too many.
    pub child: Arc<str>,
    /// How often that child had been restarted in all.
    pub restarts: u64,
    /// How many restarts were allowed.
    pub max_restarts: u32,
    /// In which time.
    pub within: Duration,
    /// The last exits of that supervisor's children, oldest first.
    pub last: Vec<(Arc<str>, Exit)>,
}

impl GaveUp {
    pub(crate) fn new(supervisor: Arc<str>, child: Arc<str>, intensity: Intensity) -> Self {
        Self {
            supervisor,
            child,
            restarts: 0,
            max_restarts: intensity.max_restarts,
            within: intensity.within,
            last: Vec::new(),
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "supervisor {} gave up on {} after more than {} restarts in {:?}",
            self.supervisor, self.child, self.max_restarts, self.within
        )?;
        for (index, (child, exit)) in self.last.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{child} {exit}")?;
        }
        Ok(())
    }
}
