//! The move of an entity from one node to another, as the log has it.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, NodeId, Revision};

/// A move that has begun. Until it is switched the entity is where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who gives the entity away.
    pub from: NodeId,
    /// Who takes it in.
    pub to: NodeId,
    /// The activation that moves.
    pub epoch: Epoch,
    /// When it began: its place in history.
    pub began: Revision,
    /// The activation that goes on with the state of the one that moved, once there is one.
    pub switched: Option<Epoch>,
}

impl Move {
    /// Whether the entity is still on its way.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.switched.is_none()
    }
}
