//! What nodes say to each other about entities that move, and how a move is told.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, EntityId, Epoch, NodeId, Revision};

/// Most bytes of a text in a report.
pub const REASON_BYTES: usize = 512;

/// What is asked of a node. Behind some of them come bytes of the entity's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// An entity is to come: make room for it. Behind it comes what its kind must know.
    Prepare {
        /// The entity.
        entity: EntityId,
        /// The activation that moves.
        epoch: Epoch,
        /// When its move began.
        began: Revision,
    },
    /// A piece of its state comes behind this.
    Piece {
        /// The entity.
        entity: EntityId,
        /// The activation that moves.
        epoch: Epoch,
        /// Which piece, from 0.
        number: u32,
    },
    /// Behind this comes the last piece: the entity has stopped, and is to be ready to go on there.
    Thaw {
        /// The entity.
        entity: EntityId,
        /// The activation that moves.
        epoch: Epoch,
        /// Which piece this is.
        number: u32,
        /// Of all pieces in their order.
        digest: Digest,
    },
    /// It is switched.
    Begin {
        /// The entity.
        entity: EntityId,
        /// The activation that moved.
        epoch: Epoch,
        /// What it has become.
        next: Epoch,
    },
    /// It does not come.
    Discard {
        /// The entity.
        entity: EntityId,
        /// The activation that was to move.
        epoch: Epoch,
    },
    /// Which moves have begun at this node lately; answered by [`Answer::Moves`].
    List,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// It cannot be done.
    Refused {
        /// Why.
        reason: String,
    },
    /// The moves from this node, the oldest first.
    Moves(Vec<MoveReport>),
}

/// How a move stands, or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// What moves.
    pub entity: EntityId,
    /// From where.
    pub from: NodeId,
    /// Where to.
    pub to: NodeId,
    /// The activation that moves.
    pub epoch: Epoch,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it has taken so far, or did, in microseconds.
    pub took_us: u64,
    /// Where it is.
    pub phase: MovePhase,
    /// What of the entity moves, once that is known.
    pub how: Option<Carriage>,
    /// How often its state was copied while it ran.
    pub rounds: u32,
    /// Bytes of its state that were sent.
    pub bytes: u64,
    /// How long it handled nothing, in microseconds; as far as its former node can tell, which is
    /// until the switch.
    pub paused_us: Option<u64>,
}

/// What of an entity moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carriage {
    /// It goes on where it was, with all that it has in memory.
    Live,
    /// It begins anew with what it has in the store.
    Anew {
        /// Why its memory cannot go with it.
        reason: String,
    },
}

/// Where a move is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MovePhase {
    /// The other node makes room.
    Preparing,
    /// Its state is copied while it runs.
    Copying,
    /// It comes to the end of the message at hand.
    Freezing,
    /// The rest of its state is sent.
    Sending,
    /// The log is to say that it is there now.
    Switching,
    /// It stays; the log is to say so.
    CallingOff,
    /// It has moved.
    Moved {
        /// Its epoch there.
        epoch: Epoch,
    },
    /// It stayed where it was.
    Stayed {
        /// Why.
        reason: String,
    },
    /// Something else has given it another epoch meanwhile.
    Overtaken,
}

impl MovePhase {
    /// Whether the move is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Moved { .. } | Self::Stayed { .. } | Self::Overtaken)
    }
}
