//! What a watcher is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Key, LENGTH, Value};
use crate::ids::{Revision, SessionId};

/// One change to a session. Ordered by `(revision, index)`, which no two changes of a group share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The log entry that made it.
    pub revision: Revision,
    /// Its place among the changes of that entry, from 0.
    pub index: u32,
    /// The session.
    pub session: SessionId,
    /// What happened.
    pub what: What,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It was deleted.
    Deleted,
    /// Its time to live was over.
    Expired,
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// It was created.
    Created,
    /// It ended, with all that was in it.
    Deleted(Ended),
    /// Its time to live is another one.
    Ttl(Option<Duration>),
    /// A variable was made or written.
    Set {
        /// Its name.
        key: Key,
        /// Its value.
        value: Value,
        /// Its version.
        version: u64,
    },
    /// A variable has another definition; its value is the same.
    Defined {
        /// Its name.
        key: Key,
    },
    /// A variable was removed.
    Removed {
        /// Its name.
        key: Key,
    },
    /// An entry of the metadata was set or removed.
    Noted {
        /// Its name.
        key: Box<str>,
        /// What it says; `None` when it was removed.
        value: Option<Box<str>>,
    },
    /// A program was stored.
    ProgramPut {
        /// Its name.
        name: Box<str>,
    },
    /// A program was removed.
    ProgramDeleted {
        /// Its name.
        name: Box<str>,
    },
}

impl Change {
    /// How many bytes it has where it is kept.
    #[must_use]
    pub fn weight(&self) -> u64 {
        /// Two numbers, a tag and the allocations of what is in memory.
        const SMALL: usize = 64;
        let contents = match &self.what {
            What::Created | What::Deleted(_) | What::Ttl(_) => 0,
            What::Set { key, value, .. } => key.len() + value.weight() + 12,
            What::Defined { key } | What::Removed { key } => key.len(),
            What::Noted { key, value } => {
                key.len() + value.as_ref().map_or(0, |text| text.len()) + LENGTH
            }
            What::ProgramPut { name } | What::ProgramDeleted { name } => name.len(),
        };
        (SMALL + self.session.as_str().len() + contents) as u64
    }
}
