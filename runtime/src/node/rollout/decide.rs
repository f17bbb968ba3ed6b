//! Decides the next step of an update: a pure function of how the replicas fare.
//!
//! At most `max_unavailable` replicas are not ready at once because of the update. One that does not
//! run anyway is updated before others, since that takes nothing from anybody; but no more of those
//! than may be on their way at once, so that what is wrong with the new version shows on as few as
//! can be. What is not known of a replica is held against it both ways: it counts as not ready, and
//! is not updated as if it were down.

/// How a replica fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fares {
    /// It does what it is for.
    Ready,
    /// It is known not to, or has no node.
    Down,
    /// It has failed for good.
    Failed,
    /// Its node does not say.
    Unknown,
}

/// A replica of a firmware that is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) number: u32,
    /// Whether it still runs what was deployed before.
    pub(super) is_behind: bool,
    pub(super) fares: Fares,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing at present.
    Wait,
    /// Update these, in this order.
    Advance(Vec<u32>),
    /// The new version has failed on this one: the version before comes back.
    RollBack(u32),
}

/// The next step of an update of `replicas`, which are in the order of their numbers.
#[must_use]
pub(super) fn decide(replicas: &[Replica], max_unavailable: u32, can_roll_back: bool) -> Step {
    let is_new = |it: &&Replica| !it.is_behind;
    let failed = replicas.iter().filter(is_new).find(|it| it.fares == Fares::Failed);
    if let Some(failed) = failed.filter(|_| can_roll_back) {
        return Step::RollBack(failed.number);
    }
    let most = max_unavailable.max(1) as usize;
    let not_ready = |it: &&Replica| it.fares != Fares::Ready;
    let on_their_way = replicas.iter().filter(is_new).filter(not_ready).count();
    let room = most.saturating_sub(on_their_way);
    let behind = || replicas.iter().filter(|it| it.is_behind);
    let is_down = |it: &&Replica| matches!(it.fares, Fares::Down | Fares::Failed);
    let mut next: Vec<u32> = behind().filter(is_down).map(|it| it.number).take(room).collect();
    // Each of those that are ready is one less for its callers.
    let unavailable = replicas.iter().filter(not_ready).count();
    let free = most.saturating_sub(unavailable).min(room - next.len());
    let ready = behind().filter(|it| it.fares == Fares::Ready).map(|it| it.number);
    next.extend(ready.take(free));
    if next.is_empty() { Step::Wait } else { Step::Advance(next) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Fares::*, *};

    fn replicas(all: &[(bool, Fares)]) -> Vec<Replica> {
        let one = |(number, (is_behind, fares)): (u32, &(bool, Fares))| Replica {
            number,
            is_behind: *is_behind,
            fares: *fares,
        };
        (1..).zip(all).map(one).collect()
    }

    fn next(all: &[(bool, Fares)], most: u32) -> Step {
        decide(&replicas(all), most, true)
    }

    #[test]
    fn one_after_the_other_is_updated_when_the_one_before_is_ready() {
        assert_eq!(next(&[(true, Ready); 3], 1), Step::Advance(vec![1]));
        assert_eq!(next(&[(false, Down), (true, Ready), (true, Ready)], 1), Step::Wait);
        let second = [(false, Ready), (true, Ready), (true, Ready)];
        assert_eq!(next(&second, 1), Step::Advance(vec![2]));
        assert_eq!(next(&second, 2), Step::Advance(vec![2, 3]));
        assert_eq!(next(&[(false, Ready); 3], 1), Step::Wait);
    }

    #[test]
    fn what_does_not_run_is_updated_first_and_is_in_nobodys_way() {
        let one_down = [(true, Ready), (true, Failed), (true, Ready)];
        assert_eq!(next(&one_down, 1), Step::Advance(vec![2]));
        assert_eq!(next(&[(true, Down); 3], 2), Step::Advance(vec![1, 2]));
    }

    #[test]
    fn nothing_is_taken_from_callers_while_a_node_does_not_answer() {
        assert_eq!(next(&[(true, Ready), (true, Unknown), (true, Ready)], 1), Step::Wait);
        assert_eq!(next(&[(true, Unknown); 3], 3), Step::Wait);
        assert_eq!(
            next(&[(true, Ready), (true, Unknown), (true, Ready)], 2),
            Step::Advance(vec![1])
        );
    }

    #[test]
    fn a_new_version_that_has_failed_is_undone_and_an_old_one_is_not() {
        let failed = [(false, Ready), (false, Failed), (true, Ready)];
        assert_eq!(next(&failed, 1), Step::RollBack(2));
        assert_eq!(decide(&replicas(&failed), 1, false), Step::Wait, "there is nothing before");
    }

    /// What becomes of replicas between two looks.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        /// One that is not ready becomes so.
        Recovers(usize),
        /// Its node dies, is cut off, or it crashes.
        Lost(usize, Fares),
        /// The leader is killed: the next one knows what the log says and what nodes tell.
        NewLeader,
        /// The leader looks.
        Look,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            (0_usize..8).prop_map(Event::Recovers),
            (0_usize..8, prop_oneof![Just(Down), Just(Unknown)])
                .prop_map(|(n, f)| Event::Lost(n, f)),
            Just(Event::NewLeader),
            Just(Event::Look),
            Just(Event::Look),
        ];
        proptest::collection::vec(event, 0..80)
    }

    proptest! {
        #[test]
        fn whatever_dies_no_step_takes_more_than_it_may_and_the_update_comes_to_its_end(
            count in 1_usize..9, most in 1_u32..5, events in events(),
        ) {
            let mut all = replicas(&vec![(true, Ready); count]);
            let look = |all: &mut Vec<Replica>| -> Result<(), TestCaseError> {
                // All that a leader knows is in `all`: one that has just come decides the same.
                let step = decide(all, most, true);
                let unavailable = all.iter().filter(|it| it.fares != Ready).count();
                let Step::Advance(numbers) = step else { return Ok(()) };
                let mut taken = 0;
                for number in numbers {
                    let it = &mut all[number as usize - 1];
                    prop_assert!(it.is_behind && it.fares != Unknown);
                    taken += usize::from(it.fares == Ready);
                    (it.is_behind, it.fares) = (false, Down);
                }
                prop_assert!(taken == 0 || unavailable + taken <= most as usize);
                let on_their_way = all.iter().filter(|it| !it.is_behind && it.fares != Ready);
                prop_assert!(taken == 0 || on_their_way.count() <= most as usize);
                Ok(())
            };
            for event in events {
                match event {
                    Event::Recovers(n) => if let Some(it) = all.get_mut(n) { it.fares = Ready },
                    Event::Lost(n, fares) => if let Some(it) = all.get_mut(n) { it.fares = fares },
                    Event::NewLeader => {}
                    Event::Look => look(&mut all)?,
                }
            }
            for _ in 0..2 * count {
                all.iter_mut().for_each(|it| it.fares = Ready);
                look(&mut all)?;
            }
            prop_assert!(all.iter().all(|it| !it.is_behind));
        }
    }
}
