//! Policies of supervision: what to restart, when to give up, how to stop. Pure data; the
//! decisions are in [`supervisor::core`](crate::supervisor).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::exit::Exit;

pub(crate) mod backoff;
pub(crate) mod exit;

/// Whether a child that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Always, also after a normal end.
    #[default]
    Permanent,
    /// Only after an abnormal end (error, panic, kill, failed start).
    Transient,
    /// Never; the supervisor forgets the child when it ends.
    Temporary,
}

impl Restart {
    /// Whether a child with this policy is restarted after `exit`.
    #[must_use]
    pub fn applies(self, exit: &Exit) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => exit.is_abnormal(),
            Self::Temporary => false,
        }
    }
}

/// How a supervisor stops a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shutdown {
    /// Orderly (what is in the mailbox is handled, then `stopping` runs), and killed when
    /// this has not ended in time.
    Timeout(Duration),
    /// Killed at once.
    Kill,
    /// Orderly, however long it takes.
    Infinity,
}

impl Default for Shutdown {
    /// Five seconds, as in OTP.
    fn default() -> Self {
        Self::Timeout(Duration::from_secs(5))
    }
}

/// Which children are restarted when one crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Only the one that crashed.
    #[default]
    OneForOne,
    /// All: the others are stopped in reverse order, then all start in order.
    OneForAll,
    /// The one that crashed and those started after it.
    RestForOne,
}

/// How many restarts a supervisor tolerates before it gives up and fails itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Intensity {
    /// Restarts tolerated inside the window; the next one is too many.
    pub max_restarts: u32,
    /// Length of the sliding window.
    pub within: Duration,
}

impl Intensity {
    /// At most `max_restarts` within `within`.
    #[must_use]
    pub fn new(max_restarts: u32, within: Duration) -> Self {
        Self { max_restarts, within }
    }

    /// For firmware: ten restarts in an hour. See [`Backoff::firmware`](crate::Backoff::firmware).
    #[must_use]
    pub fn firmware() -> Self {
        Self::new(10, Duration::from_secs(3600))
    }

    /// Never gives up.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { max_restarts: u32::MAX, within: Duration::ZERO }
    }
}

impl Default for Intensity {
    /// Five restarts in ten seconds: with the default backoff a child that cannot run is
    /// reported after about a second.
    fn default() -> Self {
        Self { max_restarts: 5, within: Duration::from_secs(10) }
    }
}

/// The restarts of one supervisor inside its sliding window.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    intensity: Intensity,
    restarts: VecDeque<Instant>,
}

impl Window {
    pub(crate) fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Counts a restart at `now`; false if it is one too many.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        if self.intensity.max_restarts == u32::MAX {
            return true;
        }
        while let Some(oldest) = self.restarts.front() {
            if now.saturating_duration_since(*oldest) < self.intensity.within {
                break;
            }
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        self.restarts.len() <= self.intensity.max_restarts as usize
    }

    pub(crate) fn intensity(&self) -> Intensity {
        self.intensity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Exactly those restarts are refused that would be one too many in their window.
        #[test]
        fn a_window_admits_just_as_many_restarts_as_allowed(
            max_restarts in 0u32..6, gaps in prop::collection::vec(0u64..20, 1..100),
        ) {
            let within = Duration::from_secs(10);
            let mut window = Window::new(Intensity::new(max_restarts, within));
            let mut now = Instant::now();
            let mut all = Vec::new();
            for gap in gaps {
                now += Duration::from_secs(gap);
                all.push(now);
                let recent = all.iter().filter(|at| now.duration_since(**at) < within).count();
                prop_assert_eq!(window.admit(now), recent <= max_restarts as usize);
            }
        }
    }
}
