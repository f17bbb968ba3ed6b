//! Whether a history is linearizable: whether each operation can have happened at one moment
//! between its call and its return, so that what they came to is what they would have come to one
//! after the other.
//!
//! Calls and returns are followed in the order of their times. What is known after each is a set
//! of configurations: a state in which the object can be, and the operations that have happened on
//! the way there though they have not returned. When one returns, whatever must have happened for
//! it to have is tried, and no more. When no configuration is left, no order explains the history.
//! Source: Lowe 2017, "Testing for linearizability" §4 (just-in-time linearization).
//!
//! An operation whose outcome nobody knows is called and never returns: it may happen at any later
//! time, or never.
//!
//! # Not done, and why
//! The crate `porcupine-rs` (0.3.0) searches a whole history backwards and forwards. It begins with
//! one state and does not say in which ones the object can be at the end, so that a history cannot
//! be gone on with; a search that is out of time is reported as a violation when it is to be
//! explained; and criterion, regex and the abandoned `paste` come with it. `todc-utils` (0.1.1) has
//! the same search, and operations without an outcome not at all.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

/// Configurations that are looked at for one return. With a dozen operations at a time of which
/// nobody knows the outcome there are some thousands.
const LOOKED_AT: usize = 200_000;

/// A sequential object.
pub(crate) trait Model {
    /// What it is like.
    type State: Clone + Debug + Eq + Hash;
    /// What is done with it.
    type Op: Debug;
    /// What that comes to.
    type Answer: Debug;

    /// The state after `op`, when that can come to `answer` in `state`; nobody knows what it came
    /// to when there is none.
    fn step(
        state: &Self::State,
        op: &Self::Op,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;

    /// Whether an operation that comes to `answer` leaves every state as it is.
    fn changes_nothing(op: &Self::Op, answer: &Self::Answer) -> bool;
}

/// Why a history is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault<S> {
    /// No order explains what this operation came to.
    Impossible {
        /// The operation.
        id: u32,
        /// In which states the object could have been before it returned.
        states: Vec<S>,
    },
    /// There are too many orders to try.
    Undecided {
        /// The operation that returned then.
        id: u32,
    },
}

/// Follows one history.
#[derive(Debug)]
pub(crate) struct Checker<M: Model> {
    configurations: HashSet<Configuration<M::State>>,
    /// What was called and has not returned.
    open: BTreeMap<u32, Open<M>>,
}

#[derive(Debug)]
struct Open<M: Model> {
    op: M::Op,
    answer: Option<M::Answer>,
}

/// One way in which things can have gone so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration<S> {
    state: S,
    /// Which of those that are open have happened, in the order of their numbers.
    happened: Vec<u32>,
}

impl<S> Configuration<S> {
    fn has(&self, id: u32) -> bool {
        self.happened.binary_search(&id).is_ok()
    }

    fn add(&mut self, id: u32) {
        if let Err(place) = self.happened.binary_search(&id) {
            self.happened.insert(place, id);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Ok(place) = self.happened.binary_search(&id) {
            self.happened.remove(place);
        }
    }
}

impl<M: Model> Checker<M> {
    /// Of an object that is new.
    pub(crate) fn new(state: M::State) -> Self {
        let new = Configuration { state, happened: Vec::new() };
        Self { configurations: [new].into(), open: BTreeMap::new() }
    }

    /// An operation is called that will come to `answer`; to what nobody knows when there is none,
    /// and then it does not return.
    pub(crate) fn call(&mut self, id: u32, op: M::Op, answer: Option<M::Answer>) {
        self.open.insert(id, Open { op, answer });
    }

    /// An operation returns.
    pub(crate) fn returns(&mut self, id: u32) -> Result<(), Fault<M::State>> {
        let mut left = HashSet::new();
        let mut seen = HashSet::new();
        let mut ahead: Vec<_> = self.configurations.iter().cloned().collect();
        while let Some(mut configuration) = ahead.pop() {
            self.settle(&mut configuration);
            if configuration.has(id) {
                configuration.remove(id);
                left.insert(configuration);
                continue;
            }
            if !seen.insert(configuration.clone()) {
                continue;
            }
            if seen.len() > LOOKED_AT {
                return Err(Fault::Undecided { id });
            }
            ahead.extend(self.steps_from(&configuration));
        }
        if left.is_empty() {
            let states = self.configurations.iter().map(|each| each.state.clone());
            let states: HashSet<_> = states.collect();
            return Err(Fault::Impossible { id, states: states.into_iter().collect() });
        }
        self.configurations = left;
        self.open.remove(&id);
        Ok(())
    }

    /// What changes nothing and can happen now, happens now: whatever follows stays possible.
    fn settle(&self, configuration: &mut Configuration<M::State>) {
        for (id, Open { op, answer }) in &self.open {
            let Some(answer) = answer.as_ref().filter(|answer| M::changes_nothing(op, answer))
            else {
                continue;
            };
            if M::step(&configuration.state, op, Some(answer)).is_some() {
                configuration.add(*id);
            }
        }
    }

    /// What can be the case after one more operation that is open.
    fn steps_from(
        &self,
        from: &Configuration<M::State>,
    ) -> impl Iterator<Item = Configuration<M::State>> {
        self.open.iter().filter(|(id, _)| !from.has(**id)).filter_map(
            |(id, Open { op, answer })| {
                let state = M::step(&from.state, op, answer.as_ref())?;
                // One that may never happen need not happen to no effect.
                (answer.is_some() || state != from.state).then(|| {
                    let mut to = Configuration { state, happened: from.happened.clone() };
                    to.add(*id);
                    to
                })
            },
        )
    }
}

#[cfg(test)]
mod tests;
