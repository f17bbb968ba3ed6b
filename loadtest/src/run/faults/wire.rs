//! The conversation with a node: what it is asked by lines on its input, what it says by lines on
//! its output. JSON, so that a history can be read by people.

use serde::{Deserialize, Serialize};

use crate::check::operation::{Answer, Op};

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
