//! What the store needs of a network: ask a peer of a group.
//!
//! A trait of its own, so that several replicas can run in one test without sockets, with links
//! that the test cuts. In a node the transport stands behind it.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{GroupId, NodeId};

/// Whose question it is, which also says how urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Votes, heartbeats and entries: before everything but the control plane.
    Consensus,
    /// A snapshot: large, behind everything else.
    Snapshot,
    /// A write or a read barrier on its way to the leader.
    Forward,
}

/// Asks peers. Peers are known by name; where they listen is the network's business.
pub trait Rpc: Send + Sync + 'static {
    /// Asks `peer`'s replica of `group` and waits for the answer until `deadline`.
    fn ask(
        &self,
        peer: &NodeId,
        group: GroupId,
        purpose: Purpose,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, RpcError>>;
}

/// Why a peer did not answer. Whether it did what was asked is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// There is no way to it now.
    #[error("{peer} cannot be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        peer: NodeId,
        /// What the network said.
        reason: Box<str>,
    },
    /// It did not answer in time.
    #[error("no answer from {peer} within {after:?}")]
    Deadline {
        /// Who was asked.
        peer: NodeId,
        /// How long was waited.
        after: Duration,
    },
}
