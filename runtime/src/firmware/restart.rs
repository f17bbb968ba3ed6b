//! How often and how soon a crashed host is started again.

use std::time::Duration;

use odeum_actors::{Backoff, Intensity};

/// The restart policy of the hosts of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Pause before the first restart; it doubles with every crash in a row. Shorter and a person
    /// does not see it happen, longer and callers wait for nothing.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Restarts of one firmware before it is given up.
    pub max_restarts: u32,
    /// The time in which they count.
    pub within: Duration,
}

impl Default for RestartPolicy {
    /// With these pauses a guest that cannot run is given up after a minute.
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
            max_restarts: 12,
            within: Duration::from_secs(90),
        }
    }
}

impl RestartPolicy {
    /// Without jitter: hosts of different firmware have no reason to crash together.
    pub(super) fn backoff(self) -> Backoff {
        Backoff::exponential(self.first_pause, self.longest_pause).jitter(false)
    }

    pub(super) fn intensity(self) -> Intensity {
        Intensity::new(self.max_restarts, self.within)
    }
}
