//! What the store needs of a network: ask a peer of a group.
//!
//! A trait of its own, so that several replicas can run in one test without sockets, with links
//! that the test cuts. In a node the transport stands behind it.

use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
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
///
/// What one peer is asked for one group and purpose should arrive in the order in which it was
/// asked, which is when the future is first polled, and be begun in that order. Nothing goes wrong
/// otherwise, but entries have to be sent again.
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

/// Takes the first step of `work` now, so that what is begun one after the other has its place in
/// the queues it goes to in that order.
pub(crate) fn begun<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> BoxFuture<'static, T> {
    // A task that has had its turn would otherwise be sent away before the first queue.
    let mut work = Box::pin(tokio::task::unconstrained(work));
    // Whoever waits for it polls it again, with a waker that is heard.
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => std::future::ready(done).boxed(),
        Poll::Pending => work,
    }
}
