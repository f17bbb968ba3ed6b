//! Entities that move from node to node.

use std::time::{Duration, UNIX_EPOCH};

use odeum_proto::{
    EntityId, Epoch, NodeId,
    moves::{Carriage, MovePhase, MoveReport},
};
use serde::{Deserialize, Serialize};

use super::text;

/// The body of `POST /v1/moves`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    /// What is to move.
    #[serde(with = "text")]
    pub entity: EntityId,
    /// Where to.
    pub to: NodeId,
}

/// A move that has begun: one of `GET /v1/moves` tells how it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveBegun {
    /// What moves.
    #[serde(with = "text")]
    pub entity: EntityId,
    /// From where.
    pub from: NodeId,
    /// Where to.
    pub to: NodeId,
    /// The activation that moves.
    pub epoch: Epoch,
}

/// Where a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveState {
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
    Moved,
    /// It stayed where it was.
    Stayed,
    /// It was placed anew meanwhile, for another reason.
    Overtaken,
}

impl MoveState {
    /// The word for it in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Copying => "copying",
            Self::Freezing => "freezing",
            Self::Sending => "sending",
            Self::Switching => "switching",
            Self::CallingOff => "calling-off",
            Self::Moved => "moved",
            Self::Stayed => "stayed",
            Self::Overtaken => "overtaken",
        }
    }

    /// Whether the move is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Moved | Self::Stayed | Self::Overtaken)
    }
}

/// One of `GET /v1/moves`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveSummary {
    /// When it began, as RFC 3339 has it, by the clock of the node it began at.
    pub began: String,
    /// What moves.
    #[serde(with = "text")]
    pub entity: EntityId,
    /// From where.
    pub from: NodeId,
    /// Where to.
    pub to: NodeId,
    /// The activation that moves.
    pub epoch: Epoch,
    /// What it has become, once it has moved.
    pub new_epoch: Option<Epoch>,
    /// Where it is.
    pub state: MoveState,
    /// Whether its memory goes with it; `null` until that is known.
    pub live: Option<bool>,
    /// Why its memory stays behind, or why it stayed.
    pub reason: Option<String>,
    /// How often its state was copied while it ran.
    pub rounds: u32,
    /// Bytes of its state that were sent.
    pub bytes: u64,
    /// How long the move has taken so far, or did, in milliseconds.
    pub took_ms: f64,
    /// How long the entity handled nothing, until the switch, in milliseconds.
    pub paused_ms: Option<f64>,
}

impl From<MoveReport> for MoveSummary {
    fn from(report: MoveReport) -> Self {
        let began = UNIX_EPOCH + Duration::from_millis(report.began_ms);
        let (state, new_epoch, stayed) = match report.phase {
            MovePhase::Preparing => (MoveState::Preparing, None, None),
            MovePhase::Copying => (MoveState::Copying, None, None),
            MovePhase::Freezing => (MoveState::Freezing, None, None),
            MovePhase::Sending => (MoveState::Sending, None, None),
            MovePhase::Switching => (MoveState::Switching, None, None),
            MovePhase::CallingOff => (MoveState::CallingOff, None, None),
            MovePhase::Moved { epoch } => (MoveState::Moved, Some(epoch), None),
            MovePhase::Stayed { reason } => (MoveState::Stayed, None, Some(reason)),
            MovePhase::Overtaken => (MoveState::Overtaken, None, None),
        };
        let (live, behind) = match report.how {
            None => (None, None),
            Some(Carriage::Live) => (Some(true), None),
            Some(Carriage::Anew { reason }) => (Some(false), Some(reason)),
        };
        Self {
            began: humantime::format_rfc3339_millis(began).to_string(),
            entity: report.entity,
            from: report.from,
            to: report.to,
            epoch: report.epoch,
            new_epoch,
            state,
            live,
            reason: stayed.or(behind),
            rounds: report.rounds,
            bytes: report.bytes,
            took_ms: millis(report.took_us),
            paused_ms: report.paused_us.map(millis),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact for 285 years of microseconds")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
