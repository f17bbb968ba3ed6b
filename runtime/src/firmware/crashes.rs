//! What follows a crash besides the next start: nothing, the package before, or the end.
//!
//! Crashes that follow each other fast are for the host's supervisor to bear or not
//! ([`super::restart`]). Here is what only shows over a longer time. Pure: times are given.

use std::collections::VecDeque;
use std::time::Duration;

use odeum_proto::{Digest, store::FirmwarePolicy};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3_600);

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is started again, as ever.
    GoesOn,
    /// The package before it comes back.
    RollsBack,
    /// It is given up.
    IsGivenUp,
}

/// The crashes of one package of a firmware on one node.
#[derive(Debug)]
pub(super) struct Crashes {
    /// The package.
    digest: Digest,
    /// When it was seen first.
    since: Instant,
    /// Those that the rollback counts.
    of_update: u32,
    /// When those of the last hour were.
    of_hour: VecDeque<Instant>,
}

impl Crashes {
    pub(super) fn new(digest: Digest, now: Instant) -> Self {
        Self { digest, since: now, of_update: 0, of_hour: VecDeque::new() }
    }

    /// Whether they are of this package.
    pub(super) fn are_of(&self, digest: &Digest) -> bool {
        self.digest == *digest
    }

    /// One more. `can_roll_back` is whether there is a package before it.
    pub(super) fn one_more(
        &mut self,
        now: Instant,
        policy: &FirmwarePolicy,
        can_roll_back: bool,
    ) -> Verdict {
        self.of_hour.push_back(now);
        while self.of_hour.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            self.of_hour.pop_front();
        }
        if can_roll_back && !self.is_settled(now, policy) {
            self.of_update += 1;
            if self.of_update >= policy.rollback.crashes {
                return Verdict::RollsBack;
            }
        }
        if self.of_hour.len() > policy.restarts.per_hour as usize {
            return Verdict::IsGivenUp;
        }
        Verdict::GoesOn
    }

    /// Whether it has been here for so long that the one before it is not needed any more.
    pub(super) fn is_settled(&self, now: Instant, policy: &FirmwarePolicy) -> bool {
        now.duration_since(self.since) >= policy.rollback.within
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::store::{RestartBudget, RollbackBudget};

    use super::*;

    fn policy(crashes: u32, per_hour: u32) -> FirmwarePolicy {
        FirmwarePolicy {
            restarts: RestartBudget { per_hour, ..RestartBudget::default() },
            rollback: RollbackBudget { crashes, within: Duration::from_secs(60) },
            ..FirmwarePolicy::default()
        }
    }

    #[test]
    fn an_update_that_crashes_too_often_soon_after_it_is_undone() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let policy = policy(3, 100);
        let mut crashes = Crashes::new(Digest::of(b"new"), start);
        assert_eq!(crashes.one_more(after(1), &policy, true), Verdict::GoesOn);
        assert_eq!(crashes.one_more(after(2), &policy, true), Verdict::GoesOn);
        assert!(!crashes.is_settled(after(59), &policy));
        assert_eq!(crashes.one_more(after(59), &policy, true), Verdict::RollsBack);
        let mut crashes = Crashes::new(Digest::of(b"new"), start);
        for secs in [1, 2] {
            assert_eq!(crashes.one_more(after(secs), &policy, true), Verdict::GoesOn);
        }
        assert!(crashes.is_settled(after(60), &policy));
        assert_eq!(crashes.one_more(after(60), &policy, true), Verdict::GoesOn, "it is settled");
        let mut first = Crashes::new(Digest::of(b"new"), start);
        for secs in 1..50 {
            assert_eq!(first.one_more(after(secs), &policy, false), Verdict::GoesOn);
        }
    }

    #[test]
    fn what_crashes_slowly_is_given_up_by_the_hour() {
        let start = Instant::now();
        let after = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let policy = policy(1, 4);
        let mut crashes = Crashes::new(Digest::of(b"it"), start);
        for minutes in [1, 2, 3, 4] {
            assert_eq!(crashes.one_more(after(minutes), &policy, false), Verdict::GoesOn);
        }
        // The first two are older than an hour.
        assert_eq!(crashes.one_more(after(62), &policy, false), Verdict::GoesOn);
        assert_eq!(crashes.one_more(after(62), &policy, false), Verdict::GoesOn);
        assert_eq!(crashes.one_more(after(62), &policy, false), Verdict::IsGivenUp);
    }
}
