//! Counters: each increment is a read and a compare-and-set, by several clients at a time.

/// Before the name of every session of a counter.
pub(super) const PREFIX: &str = "counter-";

/// What was done with a counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Increments that were acknowledged.
    pub(super) acknowledged: i64,
    /// Increments of unknown outcome.
    pub(super) unknown: i64,
}

impl Tally {
    /// Whether a counter can be at `value` now that nothing is under way any more.
    pub(super) fn allows(self, value: i64) -> bool {
        (self.acknowledged..=self.acknowledged + self.unknown).contains(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_between_what_was_acknowledged_and_that_with_all_that_is_unknown() {
        let tally = Tally { acknowledged: 10, unknown: 2 };
        let allowed: Vec<i64> = (0..20).filter(|value| tally.allows(*value)).collect();
        assert_eq!(allowed, [10, 11, 12]);
    }
}
