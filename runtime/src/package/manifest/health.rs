//! `[health]`: when an instance is not well, and what is done about it.

use odeum_proto::store::Remedy;
use serde::{Deserialize, Serialize};

use super::bounded::{Bytes, Count, Time};

/// For how long something is borne: up to a day.
pub type Lasting = Time<0, 86_400_000>;

/// When an instance is not well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// How long it may take to start once its package is there, 100 ms to an hour; longer is a
    /// crash. When left out: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_time: Option<Time<100, 3_600_000>>,
    /// How much it may compute. When left out: as much as there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuThreshold>,
    /// How much memory it may use before something is done about it; never more than
    /// `limits.memory`. When left out: that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryThreshold>,
}

/// How much an instance may compute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CpuThreshold {
    /// The most, in percent of one core, smoothed over some ten seconds. No default.
    pub above: Count<1, 100_000>,
    /// For how long more is borne, up to a day. No default.
    pub lasting: Lasting,
    /// What is done then. Default: `warn`.
    #[serde(default)]
    pub then: Then,
}

/// How much memory an instance may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MemoryThreshold {
    /// The most. No default.
    pub above: Bytes<0, { 4 << 30 }>,
    /// For how long more is borne, up to a day. No default.
    pub lasting: Lasting,
    /// What is done then. Default: `warn`.
    #[serde(default)]
    pub then: Then,
}

/// What is done about an instance that uses too much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The node's log says so.
    #[default]
    Warn,
    /// It is started anew, which counts as a crash.
    Restart,
    /// It is given up.
    Stop,
}

impl From<Then> for Remedy {
    fn from(then: Then) -> Self {
        match then {
            Then::Warn => Self::Warn,
            Then::Restart => Self::Restart,
            Then::Stop => Self::Stop,
        }
    }
}
