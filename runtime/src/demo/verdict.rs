//! Whether every acknowledged count was kept, and kept once: the judgement at the end of the
//! demo.
//!
//! Pure, so that the tests can hand it histories that no healthy cluster produces.
//!
//! Each `add 1` that took effect moved the counter by one and replied with the new number. So if
//! every sender went on until it had its acknowledgement, the acknowledged numbers are exactly
//! `before + 1 ..= after`, each once:
//! * a number acknowledged twice, or one beyond `after`: the state behind an acknowledgement was
//!   lost and counted anew;
//! * a number in that range that nobody was told: a message took effect more often than it was
//!   acknowledged.

use std::collections::BTreeSet;

/// What became of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Acknowledgements that the final count does not contain.
    pub lost: u64,
    /// Counts that no acknowledgement accounts for.
    pub doubled: u64,
}

impl Verdict {
    /// Judges the numbers that were acknowledged, in any order, by the counter's value `before`
    /// the first message and `after` the last one was acknowledged.
    pub(super) fn judge(acknowledged: &[u64], before: u64, after: u64) -> Self {
        let told: BTreeSet<u64> =
            acknowledged.iter().copied().filter(|&n| n > before && n <= after).collect();
        let counted = after.saturating_sub(before);
        // Lossless: a set in memory has fewer than 2^64 members.
        let accounted = told.len() as u64;
        Self { lost: acknowledged.len() as u64 - accounted, doubled: counted - accounted }
    }

    /// Whether nothing was lost and nothing doubled.
    pub(super) fn is_clean(self) -> bool {
        self.lost == 0 && self.doubled == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The counter as it should be and its two ways to break, each message acknowledged.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Step {
        Counted,
        /// The state behind the acknowledgement is gone; the next message finds the old count.
        Lost,
        /// A retry took effect again; only the second reply arrived.
        Doubled,
    }

    fn play(before: u64, steps: &[Step]) -> (Vec<u64>, u64) {
        let mut count = before;
        let mut acknowledged = Vec::new();
        for step in steps {
            count += if *step == Step::Doubled { 2 } else { 1 };
            acknowledged.push(count);
            if *step == Step::Lost {
                count -= 1;
            }
        }
        (acknowledged, count)
    }

    fn number(steps: &[Step], wanted: Step) -> u64 {
        steps.iter().filter(|step| **step == wanted).count() as u64
    }

    proptest! {
        #[test]
        fn a_counter_that_keeps_its_promise_is_clean_in_any_order_of_replies(
            before in 0..100_u64,
            order in (0..200_u64).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle()),
        ) {
            let replies: Vec<_> = order.iter().map(|n| before + 1 + n).collect();
            let after = before + order.len() as u64;
            prop_assert!(Verdict::judge(&replies, before, after).is_clean());
        }

        #[test]
        fn every_lost_count_is_found(
            before in 0..100_u64,
            steps in prop::collection::vec(prop_oneof![Just(Step::Counted), Just(Step::Lost)], 0..200),
        ) {
            let (replies, after) = play(before, &steps);
            let verdict = Verdict::judge(&replies, before, after);
            prop_assert_eq!(verdict, Verdict { lost: number(&steps, Step::Lost), doubled: 0 });
        }

        #[test]
        fn every_doubled_count_is_found(
            before in 0..100_u64,
            steps in prop::collection::vec(prop_oneof![Just(Step::Counted), Just(Step::Doubled)], 0..200),
        ) {
            let (replies, after) = play(before, &steps);
            let verdict = Verdict::judge(&replies, before, after);
            prop_assert_eq!(verdict, Verdict { lost: 0, doubled: number(&steps, Step::Doubled) });
        }

        #[test]
        fn only_exactly_the_numbers_counted_are_clean(
            mut replies in prop::collection::vec(0..12_u64, 0..8),
            before in 0..4_u64,
            counted in 0..8_u64,
        ) {
            let after = before + counted;
            let clean = Verdict::judge(&replies, before, after).is_clean();
            replies.sort_unstable();
            prop_assert_eq!(clean, replies == (before + 1..=after).collect::<Vec<_>>());
        }

        #[test]
        fn no_history_makes_it_fail(
            replies in prop::collection::vec(any::<u64>(), 0..50),
            before in any::<u64>(),
            after in any::<u64>(),
        ) {
            let verdict = Verdict::judge(&replies, before, after);
            prop_assert!(verdict.lost <= replies.len() as u64);
        }
    }

    #[test]
    fn a_counter_that_forgot_everything_lost_all_that_was_acknowledged() {
        assert_eq!(Verdict::judge(&[1, 2, 3], 0, 0), Verdict { lost: 3, doubled: 0 });
    }
}
