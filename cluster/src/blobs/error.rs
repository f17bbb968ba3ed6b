//! Why a blob is not where it should be.

use odeum_proto::{Digest, store::Refusal};

use super::shelf::ShelfError;
use crate::store::StoreError;

/// Why a blob was not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// More bytes than one blob can have. Cut it into several.
    #[error("a blob has at most {limit} bytes, this one has {got}")]
    TooLarge {
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// No node that is alive has it. A node that is away may; ask again, or put it again.
    #[error("no node that is alive has the bytes of {digest} (asked {asked})")]
    Missing {
        /// What was wanted.
        digest: Digest,
        /// How many other nodes were asked.
        asked: usize,
    },
    /// Fewer nodes than should could keep it. Nothing was noted, and what was kept is removed after
    /// a while. Correct what the reason says, such as a full disk, and put it again.
    #[error("{kept} of {wanted} nodes could keep {digest}: {reason}")]
    TooFew {
        /// What was to be kept.
        digest: Digest,
        /// How many keep it.
        kept: usize,
        /// How many should.
        wanted: usize,
        /// What the last one said.
        reason: Box<str>,
    },
    /// This node's disk did not do its part.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The index refused it: a bound is reached. Release blobs that are not needed.
    #[error(transparent)]
    Refused(Refusal),
    /// The index was not changed for sure; it may have been. Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl BlobError {
    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::TooFew { .. } => true,
            Self::Store(error) => error.is_retryable(),
            Self::TooLarge { .. } | Self::Refused(_) | Self::Shelf(_) | Self::Stopping => false,
        }
    }
}
