//! Why a demo ended early, in words that name the node at fault.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use odeum_proto::NodeId;

use crate::api::client::ApiError;

/// Why the demo did not reach its end. Which act it was in, the story knows.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// This machine did not let the demo prepare or clean up something.
    #[error("cannot {doing}: {reason}")]
    Setup {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        reason: io::Error,
    },
    /// The certificates could not be made.
    #[error("cannot make the certificates: {reason}")]
    Certificates {
        /// What the authority said.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A node's process could not be started or signalled.
    #[error("cannot {doing} {node}: {reason}")]
    Process {
        /// What was tried: `start`, `kill`, `stop`.
        doing: &'static str,
        /// The node.
        node: NodeId,
        /// What the system said.
        reason: io::Error,
    },
    /// A node ended that nobody stopped.
    #[error("{node} ended by itself: {status}")]
    Died {
        /// The node.
        node: NodeId,
        /// How.
        status: ExitStatus,
    },
    /// A node was asked to stop and did not end with success.
    #[error("{node} did not stop cleanly: {status}")]
    NotClean {
        /// The node.
        node: NodeId,
        /// How it ended.
        status: ExitStatus,
    },
    /// Something that should have happened did not, in ample time.
    #[error("waited {after:?} in vain for {event}{}", last.as_ref().map_or_else(String::new, |last| format!("; last seen: {last}")))]
    Deadline {
        /// What was waited for.
        event: Box<str>,
        /// The node it was expected of.
        node: NodeId,
        /// How long.
        after: Duration,
        /// What was seen instead.
        last: Option<Box<str>>,
    },
    /// A node refused what it should have accepted.
    #[error("cannot {doing} through {node}: {reason}")]
    Api {
        /// What was tried.
        doing: &'static str,
        /// The node that was asked.
        node: NodeId,
        /// What it said.
        reason: ApiError,
    },
    /// The guest or a node answered something that makes no sense.
    #[error("{node} answered {got:?} where {expected} was expected")]
    Answer {
        /// The node that was asked.
        node: NodeId,
        /// What it answered.
        got: Box<str>,
        /// What makes sense.
        expected: &'static str,
    },
    /// A message of the traffic was refused for good.
    #[error("the traffic broke off: {reason}")]
    Traffic {
        /// Why.
        reason: Box<str>,
        /// The node it went through.
        node: NodeId,
    },
    /// The report could not be written.
    #[error("cannot write the report {path:?}: {reason}")]
    Report {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

impl DemoError {
    /// The node whose log may tell more.
    pub(super) fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Process { node, .. }
            | Self::Died { node, .. }
            | Self::NotClean { node, .. }
            | Self::Deadline { node, .. }
            | Self::Api { node, .. }
            | Self::Answer { node, .. }
            | Self::Traffic { node, .. } => Some(node),
            Self::Setup { .. } | Self::Certificates { .. } | Self::Report { .. } => None,
        }
    }
}
