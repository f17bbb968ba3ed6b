//! A node is told to begin anew, and asked whether it has.

use serde::{Deserialize, Serialize};

use crate::ids::Incarnation;

/// What a node is told or asked. The answer to either is a [`Standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// It is to end in good order and to begin anew, if this is its present life. Told twice it
    /// does so once.
    Restart {
        /// The life that is to end.
        incarnation: Incarnation,
    },
    /// How it is.
    Standing,
}

/// How the life of a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which one it is.
    pub incarnation: Incarnation,
    /// Whether it knows all that was acknowledged before it began, so that others may go.
    pub caught_up: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn the_bytes_of_question_and_answer_are_those_of_this_wire_version() {
        let restart = Question::Restart { incarnation: Incarnation(7) };
        assert_eq!(codec::encode(&restart).expect("it can be"), [0, 7]);
        assert_eq!(codec::encode(&Question::Standing).expect("it can be"), [1]);
        let standing = Standing { incarnation: Incarnation(7), caught_up: true };
        assert_eq!(codec::encode(&standing).expect("it can be"), [7, 1]);
    }
}
