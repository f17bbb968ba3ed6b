//! A counter that several requests add one to at a time, each of which is told the count: what was lost,
//! done twice or in another order, and whether two activations answered.
//!
//! | what is seen | what it means |
//! |---|---|
//! | a count that was told before | the state went back, or two activations count |
//! | a count that is not above one that was told before the request was sent | the same, or another order |
//! | a count at the end that is below the number of acknowledged requests | acknowledged requests are lost |
//! | a count at the end that is above that and all that may have been made | requests were made twice |
//! | an epoch that is older than one that had answered before the request was sent | an activation goes on that has a successor |
//! | two nodes that answer in one epoch | two activations |
//! | a count that is told in an earlier epoch than a lower one | the same |
//!
//! Pure. Memory is bounded by the requests of which nobody knows what came of them.

use std::collections::BTreeMap;

/// Epochs of which the node is remembered.
const EPOCHS: usize = 8;

/// What a request must not be told: taken down when it is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Floor {
    count: (u64, u64),
    epoch: u64,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) count: u64,
    pub(crate) epoch: u64,
    pub(crate) node: &'a str,
    /// Whether it is what an earlier try was told: then the activation may be another one.
    pub(crate) replayed: bool,
}

/// Who answered in an epoch, and the lowest and the highest count that it told first.
#[derive(Debug)]
struct Reign {
    node: String,
    lowest: u64,
    highest: u64,
}

/// What is known of one counter.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// Whether it begins anew with an epoch, so that counts of different epochs are not compared.
    by_epoch: bool,
    answered: u64,
    unknown: u64,
    highest: Floor,
    /// Counts that were told, as ranges: the first and the last of each, by (life, first).
    told: BTreeMap<(u64, u64), u64>,
    /// Those of the latest epochs.
    reigns: BTreeMap<u64, Reign>,
}

impl Counter {
    /// One that nobody has asked. `by_epoch` when its count is in memory alone, which may be lost with an
    /// activation in this run.
    pub(crate) fn new(by_epoch: bool) -> Self {
        Self { by_epoch, ..Self::default() }
    }

    /// A request is about to be sent.
    pub(crate) fn sent(&self) -> Floor {
        self.highest
    }

    /// Nobody knows whether a request was carried out, or will be.
    pub(crate) fn is_unknown(&mut self) {
        self.unknown += 1;
    }

    /// A request was answered.
    ///
    /// # Errors
    /// What is wrong with that.
    pub(crate) fn answered(&mut self, floor: Floor, told: Told<'_>) -> Result<(), String> {
        let Told { count, epoch, node, replayed } = told;
        self.answered += 1;
        let life = if self.by_epoch { epoch } else { 0 };
        let place = (life, count);
        if !self.is_new(place) {
            return Err(format!(
                "doubled: count {count} was told to two requests (the second by {node}, epoch {epoch})"
            ));
        }
        if place <= floor.count && !(self.by_epoch && replayed) {
            return Err(format!(
                "reordered: {node} (epoch {epoch}) told {count} to a request that was sent after {} had \
                 been told",
                floor.count.1
            ));
        }
        self.highest.count = self.highest.count.max(place);
        if replayed {
            return Ok(());
        }
        if epoch < floor.epoch {
            return Err(format!(
                "double activation: {node} answered in epoch {epoch} a request that was sent after one \
                 was answered in epoch {}",
                floor.epoch
            ));
        }
        self.reigns(epoch, node, count)?;
        self.highest.epoch = self.highest.epoch.max(epoch);
        Ok(())
    }

    /// Who told a count in an epoch reigns in it, alone, after all before it and before all after it.
    fn reigns(&mut self, epoch: u64, node: &str, count: u64) -> Result<(), String> {
        let new = || Reign { node: node.to_owned(), lowest: count, highest: count };
        let reign = self.reigns.entry(epoch).or_insert_with(new);
        if reign.node != node {
            let known = &reign.node;
            return Err(format!("double activation: {known} and {node} answered in epoch {epoch}"));
        }
        reign.lowest = reign.lowest.min(count);
        reign.highest = reign.highest.max(count);
        if self.reigns.len() > EPOCHS {
            self.reigns.pop_first();
        }
        if self.by_epoch {
            return Ok(());
        }
        let before = self.reigns.range(..epoch).next_back();
        let before = before.filter(|(_, reign)| reign.highest > count);
        let after = self.reigns.range(epoch + 1..).next();
        let after = after.filter(|(_, reign)| reign.lowest < count);
        match before.or(after) {
            None => Ok(()),
            Some((other, reign)) => Err(format!(
                "double activation: {node} told {count} in epoch {epoch}, and {} told {} to {} in epoch \
                 {other}",
                reign.node, reign.lowest, reign.highest
            )),
        }
    }

    /// Takes a count down; whether it was not there.
    fn is_new(&mut self, (life, count): (u64, u64)) -> bool {
        let before = self.told.range(..=(life, count)).next_back();
        let before = before.map(|((of, first), last)| (*of, *first, *last));
        if let Some((of, first, last)) = before.filter(|(of, ..)| *of == life) {
            if count <= last {
                return false;
            }
            if count == last + 1 {
                let joined = self.told.remove(&(life, count + 1)).unwrap_or(count);
                self.told.insert((of, first), joined);
                return true;
            }
        }
        let last = self.told.remove(&(life, count + 1)).unwrap_or(count);
        self.told.insert((life, count), last);
        // What was told in lives that are long over is not told again.
        if self.by_epoch {
            while self.told.len() > 1_000 {
                self.told.pop_first();
            }
        }
        true
    }

    /// How many requests were answered, and of how many nobody knows.
    pub(crate) fn asked(&self) -> (u64, u64) {
        (self.answered, self.unknown)
    }

    /// The highest count that was told.
    pub(crate) fn highest(&self) -> u64 {
        self.highest.count.1
    }

    /// Whether the count at the end can be, now that nothing is under way any more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn ends_at(&self, count: u64) -> Result<(), String> {
        let (least, most) = (self.answered, self.answered + self.unknown);
        if self.by_epoch {
            return Ok(());
        }
        if count < least.max(self.highest.count.1) {
            return Err(format!(
                "lost: it has counted {count}; {least} requests were acknowledged, the highest count \
                 told was {}",
                self.highest.count.1
            ));
        }
        if count > most {
            return Err(format!(
                "doubled: it has counted {count}; {least} requests were acknowledged and {} may have \
                 been made",
                self.unknown
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(count: u64, epoch: u64, node: &str) -> Told<'_> {
        Told { count, epoch, node, replayed: false }
    }

    #[test]
    fn requests_at_a_time_may_be_told_in_any_order() {
        let mut counter = Counter::new(false);
        let floors = [counter.sent(), counter.sent(), counter.sent()];
        for (floor, count) in floors.into_iter().zip([3, 1, 2]) {
            counter.answered(floor, told(count, 1, "n1")).unwrap();
        }
        assert_eq!(counter.ends_at(3), Ok(()));
        assert_eq!(counter.told.len(), 1);
    }

    #[test]
    fn a_count_that_is_told_twice_is_found() {
        let mut counter = Counter::new(false);
        let floors = [counter.sent(), counter.sent()];
        counter.answered(floors[0], told(1, 1, "n1")).unwrap();
        assert!(counter.answered(floors[1], told(1, 2, "n2")).unwrap_err().starts_with("doubled"));
    }

    #[test]
    fn a_count_below_what_was_told_before_is_found() {
        let mut counter = Counter::new(false);
        let early = counter.sent();
        counter.answered(early, told(5, 1, "n1")).unwrap();
        let late = counter.sent();
        assert!(counter.answered(late, told(4, 1, "n1")).unwrap_err().starts_with("reordered"));
    }

    #[test]
    fn an_activation_that_answers_after_its_successor_is_found() {
        let mut counter = Counter::new(false);
        let early = counter.sent();
        counter.answered(early, told(5, 4, "n2")).unwrap();
        let late = counter.sent();
        let found = counter.answered(late, told(6, 3, "n1")).unwrap_err();
        assert!(found.starts_with("double activation"), "{found}");
        // One that was under way when the successor answered may have been answered before.
        counter.answered(early, told(3, 3, "n1")).unwrap();
        assert!(counter.answered(early, told(4, 4, "n3")).unwrap_err().contains("n2 and n3"));
    }

    #[test]
    fn an_activation_that_counts_on_after_its_successor_has_is_found_whoever_is_told_first() {
        let mut counter = Counter::new(false);
        let early = counter.sent();
        counter.answered(early, told(5, 2, "n2")).unwrap();
        let found = counter.answered(early, told(6, 1, "n1")).unwrap_err();
        assert!(found.starts_with("double activation") && found.contains("told 5 to 5"), "{found}");
        let mut counter = Counter::new(false);
        counter.answered(early, told(6, 1, "n1")).unwrap();
        assert!(counter.answered(early, told(5, 2, "n2")).unwrap_err().contains("n1 told 6 to 6"));
        // Who answers again for another says nothing of who counted.
        let replayed = Told { replayed: true, ..told(3, 4, "n3") };
        counter.answered(early, replayed).unwrap();
    }

    #[test]
    fn a_lost_request_and_one_that_is_made_twice_are_found_at_the_end() {
        let mut counter = Counter::new(false);
        for count in 1..=4 {
            counter.answered(counter.sent(), told(count, 1, "n1")).unwrap();
        }
        counter.is_unknown();
        assert!(counter.ends_at(3).unwrap_err().starts_with("lost"));
        assert_eq!([counter.ends_at(4), counter.ends_at(5)], [Ok(()), Ok(())]);
        assert!(counter.ends_at(6).unwrap_err().starts_with("doubled"));
    }

    #[test]
    fn a_count_in_memory_may_begin_anew_with_an_epoch_and_not_within_one() {
        let mut counter = Counter::new(true);
        counter.answered(counter.sent(), told(7, 1, "n1")).unwrap();
        counter.answered(counter.sent(), told(1, 2, "n2")).unwrap();
        assert_eq!(counter.ends_at(1), Ok(()));
        assert!(counter.answered(counter.sent(), told(1, 2, "n2")).is_err());
    }

    proptest! {
        /// Requests overlap as they like; a counter that counts each of them once is never accused.
        #[test]
        fn a_right_counter_is_never_accused(steps in prop::collection::vec(0_usize..4, 1..200)) {
            let (mut counter, mut count, mut under_way) = (Counter::new(false), 0, Vec::new());
            let mut unanswered = Vec::new();
            for step in steps {
                match step {
                    0 => under_way.push(counter.sent()),
                    1 => if let Some(floor) = under_way.pop() {
                        count += 1;
                        unanswered.push((floor, count));
                    },
                    2 => if !unanswered.is_empty() {
                        let (floor, count) = unanswered.remove(0);
                        prop_assert_eq!(counter.answered(floor, told(count, 1, "n1")), Ok(()));
                    },
                    _ => if unanswered.pop().is_some() {
                        counter.is_unknown();
                    },
                }
            }
            unanswered.iter().for_each(|_| counter.is_unknown());
            prop_assert_eq!(counter.ends_at(count), Ok(()));
        }

        /// An acknowledged request that was dropped is found, whatever else happened.
        #[test]
        fn a_dropped_request_is_found(before in 0_u64..50, after in 0_u64..50) {
            let mut counter = Counter::new(false);
            let mut found = false;
            let mut count = 0;
            for n in 0..before + 1 + after {
                // The one that is dropped is acknowledged with the count it would have had.
                let real = n != before;
                count += u64::from(real);
                let told_count = if real { count } else { count + 1 };
                found |= counter.answered(counter.sent(), told(told_count, 1, "n1")).is_err();
            }
            prop_assert!(found || counter.ends_at(count).is_err());
        }
    }
}
