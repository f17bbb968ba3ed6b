//! Why a change to sessions was not made.

use serde::{Deserialize, Serialize};

use crate::ids::{EntityId, Epoch};

/// Why the state machine refused a change to sessions. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SessionRefusal {
    /// The entity was activated anew in the meantime; the activation that spoke is over.
    #[error("epoch {claimed} of {entity} is over, it is at {is}")]
    StaleEpoch {
        /// The entity.
        entity: EntityId,
        /// The latest epoch that was seen of it, or under which it was forgotten.
        is: Epoch,
        /// The epoch that was claimed.
        claimed: Epoch,
    },
    /// A bound would be exceeded.
    #[error("{what}: {got} where at most {limit} are allowed")]
    TooMuch {
        /// What is bounded, with its unit and its name.
        what: Box<str>,
        /// What it would be.
        got: u64,
        /// The bound.
        limit: u64,
    },
}
