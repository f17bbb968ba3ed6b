//! Decides to which replica of a firmware a call goes. Pure.
//!
//! A call that has a key, or a request id of its caller's choice, goes to the replica that this text
//! selects among all there are, ready or not: what the text is about is in that replica's sessions,
//! and what became of the request in its window. The others take turns among the replicas that may
//! answer, and stay with one as soon as it may have begun with them.

use odeum_proto::{EntityId, ReplicaId, call::CallError, shard::rendezvous};

/// Which replica of a firmware is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The one that is named.
    This,
    /// The one that this text selects. While the number of replicas stays it is always the same, and
    /// when it changes, it is another one for as few texts as can be.
    By(String),
    /// Any that is ready.
    Any,
}

/// A replica as a node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) replica: ReplicaId,
    /// Whether nothing is known that keeps it from answering.
    pub(super) may_answer: bool,
}

/// The choice of one call, over all its attempts.
#[derive(Debug)]
pub(super) struct Choosing {
    choice: Choice,
    turn: u32,
    /// Whom the present attempt is for.
    last: Option<ReplicaId>,
    /// Whom attempts were for that cannot have begun with the call.
    passed: Vec<ReplicaId>,
    /// Who may have begun with it.
    bound: Option<ReplicaId>,
    /// How many replicas there were last.
    count: usize,
}

impl Choosing {
    pub(super) fn new(choice: Choice, turn: u32) -> Self {
        Self { choice, turn, last: None, passed: Vec::new(), bound: None, count: 0 }
    }

    /// Whether there is anything to choose.
    pub(super) fn is_open(&self) -> bool {
        self.choice != Choice::This
    }

    /// Whom the next attempt is for, of all replicas; `None` when there are none.
    pub(super) fn next(&mut self, seen: &[Seen]) -> Option<EntityId> {
        self.count = seen.len();
        let chosen = match (&self.choice, &self.bound) {
            (_, Some(bound)) => bound.clone(),
            (Choice::By(text), None) => {
                let weight = |it: &&Seen| rendezvous(text, it.replica.number());
                seen.iter().max_by_key(weight)?.replica.clone()
            }
            (Choice::This | Choice::Any, None) => self.in_turn(seen)?,
        };
        let entity = chosen.entity();
        self.last = Some(chosen);
        Some(entity)
    }

    /// Nothing was sent.
    pub(super) fn held(&mut self) {
        self.passed.extend(self.last.clone());
    }

    /// It was sent, and this came of it.
    pub(super) fn tried(&mut self, error: Option<&CallError>) {
        match error {
            Some(CallError::NotHere { .. } | CallError::Overloaded { .. }) => self.held(),
            _ => self.bound = self.last.clone(),
        }
    }

    /// As [`Self::tried`], of what came of it.
    pub(super) fn noted<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        self.tried(result.as_ref().err());
        result
    }

    /// Whether there is one that has not been tried, when one has too much to do.
    pub(super) fn has_another(&self) -> bool {
        self.choice == Choice::Any && self.bound.is_none() && self.passed.len() < self.count
    }

    fn in_turn(&mut self, seen: &[Seen]) -> Option<ReplicaId> {
        let start = self.turn as usize % seen.len().max(1);
        let (before, from) = seen.split_at(start);
        let all = || from.iter().chain(before);
        let fresh = |it: &&Seen| it.may_answer && !self.passed.contains(&it.replica);
        if let Some(it) = all().find(fresh) {
            return Some(it.replica.clone());
        }
        // Each was tried: all of them again.
        self.passed.clear();
        all().find(|it| it.may_answer).or(seen.get(start)).map(|it| it.replica.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(ready: &[bool]) -> Vec<Seen> {
        let replica = |n: u32| ReplicaId::new("shop".parse().expect("a name"), n).expect("one");
        (1..)
            .zip(ready)
            .map(|(n, ready)| Seen { replica: replica(n), may_answer: *ready })
            .collect()
    }

    fn number_of(entity: Option<EntityId>) -> u32 {
        entity.expect("there are some").replica().expect("a replica").number()
    }

    fn not_here() -> CallError {
        let entity = "firmware/shop".parse().expect("valid");
        CallError::NotHere { entity, node: "n1".parse().expect("valid") }
    }

    #[test]
    fn those_that_may_answer_take_turns() {
        let seen = seen(&[true, false, true, true]);
        let next = |turn| number_of(Choosing::new(Choice::Any, turn).next(&seen));
        assert_eq!((0..8).map(next).collect::<Vec<_>>(), [1, 3, 3, 4, 1, 3, 3, 4]);
    }

    #[test]
    fn a_call_goes_on_to_another_one_only_while_nobody_can_have_begun_with_it() {
        let all = seen(&[true, true, true]);
        let mut choosing = Choosing::new(Choice::Any, 1);
        assert_eq!(number_of(choosing.next(&all)), 2);
        choosing.tried(Some(&not_here()));
        assert_eq!(number_of(choosing.next(&all)), 3);
        choosing.held();
        assert_eq!(number_of(choosing.next(&all)), 1);
        choosing.held();
        assert_eq!(number_of(choosing.next(&all)), 2, "all of them again");
        let lost = CallError::NoQuorum { reason: "none".into() };
        choosing.tried(Some(&lost));
        for _ in 0..3 {
            assert_eq!(number_of(choosing.next(&seen(&[true, false, true]))), 2);
            choosing.held();
        }
    }

    #[test]
    fn one_that_has_too_much_to_do_is_passed_over_as_long_as_there_are_others() {
        let all = seen(&[true, true]);
        let entity: EntityId = "firmware/shop".parse().expect("valid");
        let full = CallError::Overloaded { entity, queued: 9 };
        let mut choosing = Choosing::new(Choice::Any, 0);
        for (number, has_another) in [(1, true), (2, false)] {
            assert_eq!(number_of(choosing.next(&all)), number);
            choosing.tried(Some(&full));
            assert_eq!(choosing.has_another(), has_another);
        }
        let mut choosing = Choosing::new(Choice::By("alice".to_owned()), 0);
        choosing.next(&all);
        choosing.tried(Some(&full));
        assert!(!choosing.has_another(), "it is for that one");
    }

    #[test]
    fn while_nobody_can_answer_it_waits_for_one_of_them() {
        let none = seen(&[false, false]);
        assert_eq!(number_of(Choosing::new(Choice::Any, 1).next(&none)), 2);
        assert_eq!(Choosing::new(Choice::Any, 1).next(&[]), None);
    }

    proptest! {
        #[test]
        fn a_text_selects_the_same_replica_whoever_is_ready_and_one_more_takes_only_its_share(
            text in "[a-z0-9-]{1,36}", ready in proptest::collection::vec(any::<bool>(), 2..20),
        ) {
            let select = |ready: &[bool]| {
                number_of(Choosing::new(Choice::By(text.clone()), 0).next(&seen(ready)))
            };
            let is = select(&ready);
            prop_assert_eq!(is, select(&vec![true; ready.len()]));
            let fewer = select(&ready[1..]);
            prop_assert!(is == fewer || is as usize == ready.len());
        }
    }
}
