//! Packages of this node.

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::Digest;

/// Where packages that are not on this node come from.
pub trait PackageSource: Send + Sync + 'static {
    /// The bytes of `digest` from any other node. They are checked by the cache.
    fn fetch(&self, digest: Digest) -> BoxFuture<'static, Result<Bytes, FetchError>>;
}

/// No other node gave the package. Retry when more of them can be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Every node that was asked answered that it has no such package.
    #[error("none of {asked} other nodes has it")]
    Missing {
        /// How many were asked.
        asked: usize,
    },
    /// Nodes that may have it did not answer.
    #[error("{reason}")]
    Failed {
        /// What the last of them said.
        reason: Box<str>,
    },
}
