//! What a command to a data group came to.

use serde::{Deserialize, Serialize};

use super::SessionRefusal;
use crate::ids::Revision;

/// What applying a command came to. `revision` is where in the group's history that was: a reader
/// who has seen it sees the effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataOutcome {
    /// The command changed the state, or found it as wished.
    Applied {
        /// Its place in history.
        revision: Revision,
    },
    /// A session is there.
    Created {
        /// Its place in history.
        revision: Revision,
        /// Whether it is new; if not it was there with the same settings.
        created: bool,
    },
    /// A session is not there.
    Deleted {
        /// Its place in history.
        revision: Revision,
        /// Whether it was there before.
        existed: bool,
    },
    /// One thing was done in a session.
    Operated {
        /// Its place in history.
        revision: Revision,
        /// What it came to.
        done: Done,
    },
    /// A batch was carried out.
    Batch {
        /// Its place in history.
        revision: Revision,
        /// What each operation came to, in order. In an atomic batch none is refused.
        results: Vec<Result<Done, SessionRefusal>>,
    },
    /// A transaction was carried out.
    Transaction {
        /// Its place in history.
        revision: Revision,
        /// Whether all comparisons held.
        succeeded: bool,
        /// What each operation of the list that was done came to, in order.
        results: Vec<Done>,
    },
    /// Sessions that were due are gone.
    Expired {
        /// Its place in history.
        revision: Revision,
        /// How many.
        sessions: u32,
    },
    /// The firmware's request was carried out before.
    Replayed {
        /// Its reply; `None` when it was too large to be remembered.
        reply: Option<Vec<u8>>,
    },
    /// Nothing was changed, for a reason that every replica agrees on.
    Refused(SessionRefusal),
}

/// What one operation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// A variable is there with this definition.
    Registered {
        /// Its version.
        version: u64,
        /// Whether it or its definition is new.
        changed: bool,
    },
    /// A variable was written.
    Written {
        /// Its new version.
        version: u64,
    },
    /// A variable, a program or an entry of metadata is not there.
    Removed {
        /// Whether it was there before.
        existed: bool,
    },
    /// A program or an entry of metadata was stored.
    Stored,
}

impl DataOutcome {
    /// How many bytes it has where it is remembered.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Tag and revision.
        const SMALL: usize = 24;
        const DONE: usize = 12;
        match self {
            Self::Batch { results, .. } => {
                let one = |result: &Result<Done, SessionRefusal>| match result {
                    Ok(_) => DONE,
                    Err(refusal) => refusal.weight(),
                };
                SMALL + results.iter().map(one).sum::<usize>()
            }
            Self::Transaction { results, .. } => SMALL + results.len() * DONE,
            Self::Replayed { reply } => SMALL + reply.as_ref().map_or(0, Vec::len),
            Self::Refused(refusal) => SMALL + refusal.weight(),
            _ => SMALL,
        }
    }
}
