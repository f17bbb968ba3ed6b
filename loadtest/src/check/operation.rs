//! What is done with a variable of the store, and what that comes to: in the words of which histories
//! are written and read by people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something done with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Read it.
    Get {
        /// By the lease of the leader.
        lease: bool,
    },
    /// Write it.
    Set {
        /// Its new value.
        value: i64,
    },
    /// Write it if it has a version, 0 if it is not there.
    CompareAndSet {
        /// The version.
        expected: u64,
        /// Its new value.
        value: i64,
    },
    /// Remove it.
    Delete,
}

/// A place in history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct At {
    /// The group.
    pub(crate) group: u16,
    /// The revision.
    pub(crate) revision: u64,
}

/// What something came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// Whether it is so.
    Is(bool),
    /// A variable's version and value, if it is there.
    Found(Option<(u64, i64)>),
    /// It was written.
    Written {
        /// Its version.
        version: u64,
        /// Where in history.
        at: Option<At>,
    },
    /// It was not written: it has another version.
    Conflict {
        /// Which.
        is: u64,
    },
    /// It was not written: it has another version, and which was not told.
    Otherwise,
    /// It is not there any more.
    Removed {
        /// Whether it was.
        existed: bool,
        /// Where in history.
        at: Option<At>,
    },
    /// Who leads each group of sessions, as far as the node knows.
    Leaders(Vec<Option<String>>),
    /// There is no such session.
    NoSession,
    /// Nothing was done, and will not be.
    Refused(String),
    /// Nobody knows whether it was done, or will be.
    Failed(String),
}

impl Answer {
    /// Whether it is the same answer, wherever in history it was given.
    pub(crate) fn says_as_much_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Written { version, .. }, Self::Written { version: other, .. }) => {
                version == other
            }
            (Self::Removed { existed, .. }, Self::Removed { existed: other, .. }) => {
                existed == other
            }
            (Self::Otherwise, Self::Conflict { .. }) => true,
            _ => self == other,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { lease: false } => f.write_str("get"),
            Self::Get { lease: true } => f.write_str("get by lease"),
            Self::Set { value } => write!(f, "set {value}"),
            Self::CompareAndSet { expected, value } => {
                write!(f, "set {value} if at version {expected}")
            }
            Self::Delete => f.write_str("delete"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Is(so) => write!(f, "{so}"),
            Self::Found(None) => f.write_str("nothing"),
            Self::Found(Some((version, value))) => write!(f, "{value} at version {version}"),
            Self::Written { version, at } => write!(f, "version {version}{}", Place(*at)),
            Self::Conflict { is } => write!(f, "is at version {is}"),
            Self::Otherwise => f.write_str("is at another version"),
            Self::Removed { existed, at } => write!(f, "was there: {existed}{}", Place(*at)),
            Self::Leaders(leaders) => write!(f, "{leaders:?}"),
            Self::NoSession => f.write_str("no such session"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Failed(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// A place in history, when it is known.
struct Place(Option<At>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |At { group, revision }| {
            write!(f, ", revision {revision} of data-{group}")
        })
    }
}
