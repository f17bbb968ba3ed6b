//! Until when the entities of this node may be at work: its lease, as far as they have been brought
//! in line with it.
//!
//! Asked all the time, so it is one number. It is set by the `Shards` actor, after that has ended
//! what is not this node's any more; a lease that is over ends it by itself.
//!
//! It is asked before a message, unless all since it was asked last were messages told to the same
//! entity whose handlers waited for nothing and are still few or quick: those are like one handler,
//! in the midst of which nobody looks either. Reading the clock costs as much as a small message.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use odeum_proto::Epoch;
use tokio::time::Instant;

/// Of a node whose entities do not work.
const NEVER: u64 = 0;

/// See the module.
pub(super) struct Tenure {
    made: Instant,
    /// In nanoseconds since it was made: 584 years fit.
    until: AtomicU64,
    /// The lease that the entities are in line with; 0 before the first.
    lease: AtomicU64,
}

impl Tenure {
    pub(super) fn new() -> Self {
        let (until, lease) = (AtomicU64::new(NEVER), AtomicU64::new(0));
        Self { made: Instant::now(), until, lease }
    }

    /// The lease that the entities were brought in line with last.
    pub(super) fn lease(&self) -> Option<Epoch> {
        Some(Epoch(self.lease.load(Ordering::Acquire))).filter(|epoch| *epoch != Epoch(0))
    }

    /// They are in line with this one. They were told to pause before.
    pub(super) fn set_lease(&self, epoch: Epoch) {
        self.lease.store(epoch.0, Ordering::Release);
    }

    /// Whether entities may work now.
    pub(super) fn holds(&self) -> bool {
        since(self.made, Instant::now()) < self.until.load(Ordering::Acquire)
    }

    /// Whether they were told to pause. Cheaper than [`holds`](Self::holds) and later to know: for
    /// who sends to them and not for who works.
    pub(super) fn is_paused(&self) -> bool {
        self.until.load(Ordering::Relaxed) == NEVER
    }

    /// They may work until then; whether they could not just before, so that some of them may rest
    /// that have something to do.
    pub(super) fn extend(&self, until: Instant) -> bool {
        let now = since(self.made, Instant::now());
        let until = since(self.made, until).max(NEVER + 1);
        self.until.swap(until, Ordering::AcqRel) <= now
    }

    /// They are told to pause.
    pub(super) fn end(&self) {
        self.until.store(NEVER, Ordering::Release);
    }
}

fn since(made: Instant, then: Instant) -> u64 {
    let passed: Duration = then.saturating_duration_since(made);
    u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure").field("holds", &self.holds()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_by_itself_and_is_paused_only_when_told() {
        let tenure = Tenure::new();
        assert!(!tenure.holds() && tenure.is_paused());
        assert!(tenure.extend(Instant::now() + Duration::from_millis(500)), "it was paused");
        assert!(!tenure.extend(Instant::now() + Duration::from_secs(1)), "it was not over");
        assert!(tenure.holds());
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(tenure.holds());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!tenure.holds() && !tenure.is_paused());
        assert!(tenure.extend(Instant::now() + Duration::from_secs(1)), "it was over");
        assert!(tenure.holds());
        tenure.end();
        assert!(!tenure.holds() && tenure.is_paused());
    }
}
