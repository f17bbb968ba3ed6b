//! `[checkpoint]`, `[restart]`, `[update]`, `[transient]`: what becomes of an instance over time.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::bounded::{Count, Time};

/// Whether and how soon an instance that ended is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Restart {
    /// After which ends. Default: `on-failure`.
    pub when: RestartWhen,
    /// Restarts within `within` before it is given up. When left out: the node's
    /// `firmware.max-restarts` (12).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<NonZeroU32>,
    /// The time in which restarts count, 1 s to a day. When left out: 90 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Time<1_000, 86_400_000>>,
    /// Restarts within an hour before it is given up: what crashes slowly is found out, too. When
    /// left out: the node's `firmware.max-restarts-per-hour` (60).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<NonZeroU32>,
    /// Pause before the first restart, up to a minute; it doubles with every crash in a row. When
    /// left out: the node's `firmware.restart-pause` (250 ms).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Time<0, 60_000>>,
    /// The longest of these pauses, up to an hour. When left out: the node's
    /// `firmware.longest-restart-pause` (8 s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_pause: Option<Time<0, 3_600_000>>,
}

/// After which ends an instance is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// After each.
    Always,
    /// After a trap, an exceeded limit, an exit code other than 0.
    #[default]
    OnFailure,
    /// After none.
    Never,
}

/// How a new version takes the place of this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Update {
    /// Most replicas that are down at a time. More updates faster. Default: 1.
    pub max_unavailable: NonZeroU32,
    /// Restarts of any new replica, within `rollback-within` of the update, after which the version
    /// before comes back everywhere. Default: 3.
    pub rollback_restarts: u32,
    /// How long an update is watched, 1 s to a day. Default: 5 minutes.
    pub rollback_within: Time<1_000, 86_400_000>,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            max_unavailable: NonZeroU32::MIN,
            rollback_restarts: 3,
            rollback_within: Time::clamped(300_000),
        }
    }
}

/// When what a guest wrote is saved whose `durability` is `checkpointed`: whichever comes first. A crash
/// of its node loses what was written since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Checkpoint {
    /// So long after the first of it was written, 10 ms to an hour. More writes less often, less
    /// loses less. Default: 1 s.
    pub every: Time<10, 3_600_000>,
    /// After so many messages that wrote something, at most 1,000. Default: 100.
    pub messages: Count<1, 1_000>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: Time::clamped(1_000), messages: Count::clamped(100) }
    }
}

/// Stops an idle instance until its next message: its memory is gone then, its sessions are not. One
/// that waits for a timer, an answer or a subscription of its own is not idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transient {
    /// How long it has had no message when it is stopped, 100 ms to 30 days. No default.
    pub idle: Time<100, 2_592_000_000>,
}
