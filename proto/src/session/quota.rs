//! Bounds and settings by name, for refusals; the bounds that can be changed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A bound by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quota {
    /// Sessions of a group.
    Sessions,
    /// Variables of a session.
    VariablesPerSession,
    /// Bytes of a value.
    VariableBytes,
    /// Bytes of a group.
    GroupBytes,
    /// Programs of a session.
    ProgramsPerSession,
    /// Bytes of a program.
    ProgramBytes,
    /// Entries of metadata.
    MetadataEntries,
    /// Bytes of one entry of metadata.
    MetadataBytes,
    /// Operations and comparisons in one command.
    Operations,
    /// Bytes of one command.
    CommandBytes,
    /// Writes of one message to an entity.
    Writes,
    /// Bytes of a reply.
    ReplyBytes,
    /// Bytes of a variable's name.
    KeyBytes,
    /// Time to live of a session, in seconds.
    TtlSeconds,
    /// Entities that a group knows the epochs of.
    Entities,
    /// Commands of one client without a known outcome.
    Outstanding,
    /// Clients of a group.
    Clients,
    /// Revisions of a group.
    Revisions,
    /// Epochs of a group.
    Epochs,
    /// Requests that one commit tells of.
    Requests,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sessions => "sessions of the group",
            Self::VariablesPerSession => "variables of a session",
            Self::VariableBytes => "bytes of a variable",
            Self::GroupBytes => "bytes of the group",
            Self::ProgramsPerSession => "programs of a session",
            Self::ProgramBytes => "bytes of a program",
            Self::MetadataEntries => "entries of metadata",
            Self::MetadataBytes => "bytes of an entry of metadata",
            Self::Operations => "operations of one command",
            Self::CommandBytes => "bytes of one command",
            Self::Writes => "writes of one message",
            Self::ReplyBytes => "bytes of a reply",
            Self::KeyBytes => "bytes of a variable's name",
            Self::TtlSeconds => "seconds of time to live",
            Self::Entities => "entities of the group",
            Self::Outstanding => "outstanding commands of a node",
            Self::Clients => "nodes that write to the group",
            Self::Revisions => "revisions of the group",
            Self::Epochs => "epochs of the group",
            Self::Requests => "requests of one commit",
        })
    }
}

/// A setting of a session by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// Its time to live.
    Ttl {
        /// What it is.
        is: Option<Duration>,
        /// What was claimed.
        claimed: Option<Duration>,
    },
    /// An entry of its metadata.
    Metadata {
        /// The first entry that differs.
        key: Box<str>,
        /// What it is.
        is: Option<Box<str>>,
        /// What was claimed.
        claimed: Option<Box<str>>,
    },
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ttl { is, claimed } => {
                let text = |ttl: &Option<Duration>| match ttl {
                    Some(ttl) => format!("{ttl:?}"),
                    None => "none".to_owned(),
                };
                write!(f, "ttl {}, not {}", text(is), text(claimed))
            }
            Self::Metadata { key, is, claimed } => {
                let text = |value: &Option<Box<str>>| match value {
                    Some(value) => format!("{value:?}"),
                    None => "none".to_owned(),
                };
                write!(f, "metadata {key} {}, not {}", text(is), text(claimed))
            }
        }
    }
}

/// Bounds on what a data group holds. Lowering one removes nothing: what exceeds it stays, and may
/// shrink but not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Most sessions.
    pub sessions: u64,
    /// Most variables in one session.
    pub variables_per_session: u64,
    /// Largest value of one variable, in bytes.
    pub variable_bytes: u64,
    /// Most data of the group, in bytes with their overhead.
    pub group_bytes: u64,
}

impl Quotas {
    /// The bounds of this build, which are also the highest that can be set.
    pub const HIGHEST: Self = Self {
        sessions: limits::SESSIONS as u64,
        variables_per_session: limits::VARIABLES_PER_SESSION as u64,
        variable_bytes: limits::VARIABLE_BYTES as u64,
        group_bytes: limits::GROUP_BYTES,
    };
}

impl Default for Quotas {
    fn default() -> Self {
        Self::HIGHEST
    }
}
