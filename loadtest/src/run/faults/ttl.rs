//! Sessions with a short time to live, which may end late and never early.
//!
//! Pure. All times are of one clock that nobody sets, the harness's own: a session that was touched
//! is there for its time to live from before the touch was asked for, at least.

use std::collections::HashMap;
use std::time::Duration;

use crate::check::findings::Finding;

/// Before the name of every session with a time to live.
pub(super) const PREFIX: &str = "lease-";

/// All such sessions.
#[derive(Debug, Default)]
pub(super) struct Leases {
    sessions: HashMap<String, Lease>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lease {
    /// Until when it must be there, in microseconds since the scenario began.
    until: u64,
    /// When somebody first knew that it is gone.
    gone: Option<u64>,
}

impl Leases {
    /// A session was created or touched, which was asked for at `asked` and is acknowledged.
    ///
    /// # Errors
    /// If it had been seen gone before it may go.
    pub(super) fn kept(&mut self, session: &str, asked: u64, ttl: Duration) -> Result<(), Finding> {
        let ttl = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        let lease = self.sessions.entry(session.to_owned()).or_default();
        lease.until = lease.until.max(asked.saturating_add(ttl));
        lease.check(session)
    }

    /// A session is known to be gone at `at`.
    ///
    /// # Errors
    /// If that is too early.
    pub(super) fn gone(&mut self, session: &str, at: u64) -> Result<(), Finding> {
        let lease = self.sessions.entry(session.to_owned()).or_default();
        lease.gone = Some(lease.gone.map_or(at, |earlier| earlier.min(at)));
        lease.check(session)
    }

    /// How many have ended.
    pub(super) fn ended(&self) -> usize {
        self.sessions.values().filter(|lease| lease.gone.is_some()).count()
    }
}

impl Lease {
    fn check(self, session: &str) -> Result<(), Finding> {
        match self.gone {
            Some(gone) if gone < self.until => Err(Finding::new(format!(
                "session {session} was gone at {gone} µs, {} µs before its time to live was over",
                self.until - gone
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_micros(100);

    #[test]
    fn a_session_that_ends_late_is_fine_and_one_that_ends_early_is_found() {
        let mut leases = Leases::default();
        assert!(leases.kept("late", 10, TTL).is_ok());
        assert!(leases.gone("late", 110).is_ok());
        assert!(leases.kept("early", 10, TTL).is_ok());
        assert!(leases.gone("early", 109).is_err());
        assert_eq!(leases.ended(), 2);
    }

    #[test]
    fn a_touch_counts_from_when_it_was_asked_for_whichever_comes_to_be_known_first() {
        let mut leases = Leases::default();
        assert!(leases.kept("s", 0, TTL).is_ok());
        assert!(leases.gone("s", 120).is_ok());
        // Acknowledged after the end was seen; asked for before.
        assert!(leases.kept("s", 50, TTL).is_err());
    }
}
