//! Why a request to a node has no result, told apart by what the caller can do.

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The node answered and said no. `retryable` says whether a retry may help.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The fixed word for machines, such as `not-found`.
        code: Box<str>,
        /// What happened, for people.
        message: Box<str>,
        /// Whether the same request may succeed a moment later.
        retryable: bool,
    },
    /// Nothing listens there. The request had no effect; start the node or correct the address.
    #[error("no node answers at {url}: {reason}")]
    NotRunning {
        /// Where.
        url: Box<str>,
        /// What the system said.
        reason: Box<str>,
    },
    /// The connection stood, and then no complete answer came. Whether the request had an effect
    /// is unknown: retry a call with the same request id.
    #[error("{url} gave no answer: {reason}")]
    NoAnswer {
        /// Where.
        url: Box<str>,
        /// What happened to the connection.
        reason: Box<str>,
    },
    /// What answered does not speak this API; something else listens there.
    #[error("{url} does not answer as an Odeum node does: {reason}")]
    NotOdeum {
        /// Where.
        url: Box<str>,
        /// What is wrong with the answer.
        reason: Box<str>,
    },
    /// The address is none.
    #[error(
        "{given:?} is no address of an API: {reason}; expected something like http://127.0.0.1:7070"
    )]
    BadUrl {
        /// What was given.
        given: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// The name cannot be part of an address: `.` and `..` mean something else there. What bears it
    /// can be changed by a batch.
    #[error("{name:?} cannot be part of an address; choose another name")]
    NoPath {
        /// The name.
        name: Box<str>,
    },
    /// No HTTP client could be made on this system.
    #[error("cannot set up an HTTP client: {reason}")]
    Client {
        /// What the library said.
        reason: Box<str>,
    },
}

impl ApiError {
    /// Whether the same request (a call: with the same request id) may succeed a moment later,
    /// there or at another node.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { retryable, .. } => *retryable,
            Self::NotRunning { .. } | Self::NoAnswer { .. } => true,
            Self::NotOdeum { .. }
            | Self::BadUrl { .. }
            | Self::NoPath { .. }
            | Self::Client { .. } => false,
        }
    }

    /// Whether the request may have been carried out all the same.
    #[must_use]
    pub fn may_have_had_an_effect(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            // A gateway timeout is the node's answer that it does not know either; nor does it
            // when a leader lost its majority on the way.
            Self::Refused { status, code, .. } => *status == 504 || &**code == "no-quorum",
            _ => false,
        }
    }

    /// The node's fixed word for what happened, when a node answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}
