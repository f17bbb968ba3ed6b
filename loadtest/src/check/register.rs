//! What a variable of the store is, as one that nobody shares: the model that histories are held
//! against.

use std::fmt;

use super::linear::Model;
use super::operation::{Answer, Op};

/// A variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Register {
    /// Its value, while it is there.
    pub(crate) value: Option<i64>,
    /// How often it was written.
    pub(crate) version: u64,
}

impl Register {
    /// The version that a comparison sees.
    fn is(self) -> u64 {
        if self.value.is_some() { self.version } else { 0 }
    }

    fn written(self, value: i64) -> Self {
        Self { value: Some(value), version: self.version + 1 }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => write!(f, "{value} at version {}", self.version),
            None => write!(f, "nothing after version {}", self.version),
        }
    }
}

impl Model for Register {
    type State = Self;
    type Op = Op;
    type Answer = Answer;

    fn step(state: &Self, op: &Op, answer: Option<&Answer>) -> Option<Self> {
        let (after, would_be) = match op {
            Op::Get { .. } => {
                let found = state.value.map(|value| (state.version, value));
                (*state, Answer::Found(found))
            }
            Op::CompareAndSet { expected, .. } if *expected != state.is() => {
                (*state, Answer::Conflict { is: state.is() })
            }
            Op::Set { value } | Op::CompareAndSet { value, .. } => {
                let after = state.written(*value);
                (after, Answer::Written { version: after.version, at: None })
            }
            Op::Delete => {
                let after = Self { value: None, ..*state };
                (after, Answer::Removed { existed: state.value.is_some(), at: None })
            }
        };
        answer.is_none_or(|answer| answer.says_as_much_as(&would_be)).then_some(after)
    }

    fn changes_nothing(_: &Op, answer: &Answer) -> bool {
        !matches!(answer, Answer::Written { .. } | Answer::Removed { existed: true, .. })
    }
}
