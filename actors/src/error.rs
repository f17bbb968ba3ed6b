//! Every error of this crate.

use std::sync::Arc;

use thiserror::Error;

use crate::policy::exit::Exit;

/// Why a message was not taken. It comes back.
#[derive(Error, PartialEq, Eq)]
pub enum TellError<M> {
    /// The mailbox is full and its overflow policy is not to wait: try later or shed load.
    #[error("the mailbox is full")]
    Full(M),
    /// The actor is not running now: it has not started, is being restarted, or has ended.
    #[error("the actor is not running")]
    Down(M),
}

impl<M> TellError<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message) | Self::Down(message) => message,
        }
    }

    /// Whether the same message may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        true
    }
}

impl<M> std::fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Down(_) => f.write_str("Down(..)"),
        }
    }
}

/// No message was taken, since the actor is not running now: it has not started, is being
/// restarted, or has ended.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error("the actor is not running")]
pub struct Down;

/// Why an ask has no reply.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum AskError {
    /// The mailbox is full and its overflow policy is not to wait; nothing was done.
    #[error("the mailbox is full")]
    Full,
    /// The actor is not running now; nothing was done.
    #[error("the actor is not running")]
    Down,
    /// No reply in time; whether the message was or will be handled is unknown.
    #[error("no reply before the deadline")]
    Deadline,
    /// The actor dropped the reply port or ended before it replied; whether the message was
    /// handled is unknown.
    #[error("the actor ended or dropped the request without a reply")]
    Dropped,
}

impl AskError {
    /// Whether asking again later may help. Only after `Full` and `Down` is it sure that
    /// the request had no effect.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        true
    }
}

/// Why a tree did not start.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum StartError {
    /// A child, or a child of a child, did not start; those before it were stopped again.
    #[error("{child} {exit}")]
    Child {
        /// The supervisor's child.
        child: Arc<str>,
        /// How it ended.
        exit: Exit,
    },
    /// Two children have one name.
    #[error("there are two children named {name}")]
    Duplicate {
        /// The name.
        name: Arc<str>,
    },
    /// The runtime refused to spawn the supervisor.
    #[error("the supervisor cannot be spawned: {reason}")]
    Spawn {
        /// ractor's words.
        reason: Box<str>,
    },
}

/// Why a running supervisor did not do what it was asked.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum SupervisorError {
    /// There is a child of that name.
    #[error("there is already a child named {name}")]
    Duplicate {
        /// The name.
        name: Arc<str>,
    },
    /// There is no child of that name.
    #[error("there is no child named {name}")]
    Unknown {
        /// The name.
        name: Arc<str>,
    },
    /// The child did not start, and was removed again if it was being added.
    #[error("{child} {exit}")]
    StartFailed {
        /// The child.
        child: Arc<str>,
        /// How it ended.
        exit: Exit,
    },
    /// The supervisor is not running, or it is stopping.
    #[error("the supervisor is not running")]
    Down,
}

impl SupervisorError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::StartFailed { .. } | Self::Down)
    }
}
