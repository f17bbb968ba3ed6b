//! The time of a group, as its leader counts it.
//!
//! It goes on by what the leader's monotonic clock measures while it leads, from where the log
//! left it. So no clock that is set changes it, and what is due by it was due by every clock that
//! ran all the while: nothing ever expires early. It stands still while nobody leads.
//!
//! An office takes nothing along from the one before. A leader that was cut off counts on until it
//! learns of it, while the others' time stood still during their election: what they have touched
//! since would be due earlier by its time than by theirs.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use odeum_proto::LogTime;

/// Counts the time of one group on one node, whenever that leads it.
#[derive(Debug, Default)]
pub(super) struct TermClock(Mutex<Option<Office>>);

/// A time in office.
#[derive(Debug, Clone, Copy)]
struct Office {
    term: u64,
    began: Instant,
    /// The group's time when it began.
    at: LogTime,
    /// The latest time that was told.
    told: LogTime,
}

impl TermClock {
    /// The time of the group, at `now` by this machine's monotonic clock, in an office of `term`.
    /// `known` is what the log says so far. Never goes back within an office, nor behind the log.
    pub(super) fn now(&self, term: u64, known: LogTime, now: Instant) -> LogTime {
        let mut office = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Office { term, began: now, at: known, told: known };
        let current = office.get_or_insert(new);
        if current.term != term {
            *current = new;
        }
        let passed = now.saturating_duration_since(current.began).as_millis();
        let time = LogTime(current.at.0 + u64::try_from(passed).unwrap_or(u64::MAX));
        if known > time {
            // A backup was brought into the group: its sessions' time goes on from there.
            *current = new;
            return known;
        }
        current.told = time.max(current.told);
        current.told
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_stands_still_between_two_times_in_office() {
        let (clock, start) = (TermClock::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(clock.now(3, LogTime(100), start), LogTime(100));
        assert_eq!(clock.now(3, LogTime(100), after(50)), LogTime(150));
        // Another led for 20 ms of the group's time, and long passed.
        assert_eq!(clock.now(5, LogTime(170), after(60_000)), LogTime(170));
        assert_eq!(clock.now(5, LogTime(170), after(60_010)), LogTime(180));
    }

    /// Broken once: it came back into office with a time that was seconds ahead of the others', and
    /// sessions ended by as much before their time to live was over.
    #[test]
    fn a_leader_that_was_cut_off_takes_no_time_along() {
        let (clock, start) = (TermClock::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(clock.now(3, LogTime(100), start), LogTime(100));
        // It believes that it leads, while another has been elected after 1.4 s.
        assert_eq!(clock.now(3, LogTime(100), after(5_000)), LogTime(5_100));
        let others = LogTime(100 + 3_600);
        assert_eq!(clock.now(5, others, after(5_100)), others);
        assert_eq!(clock.now(5, others, after(5_200)), LogTime(3_800));
    }

    #[test]
    fn time_that_came_with_a_backup_goes_on_at_once() {
        let (clock, start) = (TermClock::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        clock.now(1, LogTime(0), start);
        assert_eq!(clock.now(1, LogTime(90_000), after(10)), LogTime(90_000));
        assert_eq!(clock.now(1, LogTime(90_000), after(35)), LogTime(90_025));
    }

    proptest! {
        /// What is due after a time is due after that time by every clock.
        #[test]
        fn it_never_goes_back_nor_faster_than_the_clock(
            steps in proptest::collection::vec((0..3_u64, 0..1_000_u64), 1..50),
        ) {
            let (clock, start) = (TermClock::default(), Instant::now());
            let (mut term, mut passed, mut last) = (1, 0, LogTime(0));
            for (terms, ms) in steps {
                term += terms;
                passed += ms;
                let now = clock.now(term, last, start + Duration::from_millis(passed));
                prop_assert!(now >= last && now.0 <= passed, "{now} after {passed}");
                last = now;
            }
        }
    }
}
