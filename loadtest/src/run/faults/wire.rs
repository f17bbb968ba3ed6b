//! The conversation with a node: what it is asked by lines on its input, what it says by lines on
//! its output. JSON, so that a history can be read by people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The variable of each session.
pub(super) const VARIABLE: &str = "value";

/// Another one, whose value is large.
pub(super) const LOAD: &str = "load";

/// Groups of sessions of the cluster.
pub(super) const GROUPS: u16 = 2;

/// What a node is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// To do something, and to say under the same number what it came to.
    Do {
        /// The number.
        id: u64,
        /// What.
        what: Do,
    },
    /// To tell every change of a group after a revision, under a number.
    Watch {
        /// The number.
        id: u64,
        /// The group.
        group: u16,
        /// The revision.
        after: u64,
    },
    /// To tell no more under that number.
    Unwatch {
        /// The number.
        id: u64,
    },
}

/// One thing to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Do {
    /// Create a session.
    Create {
        /// Its id.
        session: String,
        /// How long it lives, in milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Renew a session's time to live.
    Touch {
        /// Its id.
        session: String,
    },
    /// Say whether a session is there.
    Look {
        /// Its id.
        session: String,
    },
    /// Something with the variable of a session.
    Operate {
        /// The session.
        session: String,
        /// What.
        op: Op,
        /// The idempotency key.
        request: Option<String>,
    },
    /// Write much into a session.
    Load {
        /// Its id.
        session: String,
        /// Bytes.
        bytes: usize,
    },
    /// Say whether its disk is full, as far as it knows.
    IsFull,
    /// Say who leads each group of sessions.
    Leaders,
    /// Let a node, which is gone for good, leave the cluster.
    Remove {
        /// Its name.
        node: String,
    },
}

/// Something done with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Op {
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
pub(super) struct At {
    /// The group.
    pub(super) group: u16,
    /// The revision.
    pub(super) revision: u64,
}

/// What something came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
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
    pub(super) fn says_as_much_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Written { version, .. }, Self::Written { version: other, .. }) => {
                version == other
            }
            (Self::Removed { existed, .. }, Self::Removed { existed: other, .. }) => {
                existed == other
            }
            _ => self == other,
        }
    }
}

/// What a node says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// What something came to.
    Answer {
        /// The number under which it was asked.
        id: u64,
        /// What.
        answer: Answer,
    },
    /// Changes, those of an entry of the log together.
    Changes {
        /// The number of the watch.
        id: u64,
        /// The changes.
        changes: Vec<Seen>,
    },
    /// Not all changes are there any more.
    Lapsed {
        /// The number of the watch.
        id: u64,
    },
}

/// A change as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Its revision.
    pub(super) revision: u64,
    /// Its place among those of that revision.
    pub(super) index: u32,
    /// The session.
    pub(super) session: String,
    /// What happened.
    pub(super) what: What,
}

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// It was created.
    Created,
    /// Its time was over.
    Expired,
    /// Its variable was written.
    Set {
        /// The version.
        version: u64,
        /// The value.
        value: i64,
    },
    /// Its variable was removed.
    Removed,
    /// What nobody here does.
    Other,
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
