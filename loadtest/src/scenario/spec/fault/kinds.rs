//! What each sort of fault takes: when, whom, how long.

use std::fmt;
use std::time::Duration;

use odeum_runtime::config::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::Deserialize;

/// How long a fault lasts when nobody says.
fn usual() -> HumanDuration {
    HumanDuration(Duration::from_secs(5))
}

/// How much firmware moves when nobody says.
fn one() -> usize {
    1
}

/// For whom a fault is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub enum Who {
    /// One that is drawn.
    #[default]
    Any,
    /// Who leads the group that knows what is where.
    Leader,
    /// The one with this name.
    Named(String),
}

impl From<String> for Who {
    fn from(text: String) -> Self {
        match text.as_str() {
            "any" => Self::Any,
            "leader" => Self::Leader,
            _ => Self::Named(text),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any node"),
            Self::Leader => f.write_str("the leader"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Which way is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// What it sends and what it is sent.
    #[default]
    Both,
    /// What it sends.
    Out,
    /// What it is sent.
    In,
}

/// A fault of one node.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OfNode {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whom.
    #[serde(default)]
    pub node: Who,
    /// How long.
    #[serde(default = "usual", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Something that takes as long as it takes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Once {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
}

/// Firmware moves.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Moved {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// How many of them.
    #[serde(default = "one")]
    pub guests: usize,
}

/// A node is cut off.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Isolate {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whom.
    #[serde(default)]
    pub node: Who,
    /// Which way.
    #[serde(default)]
    pub way: Way,
    /// How long.
    #[serde(default = "usual", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Some nodes are cut off from the others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Split {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// The names of those on one side.
    pub side: Vec<String>,
    /// How long.
    #[serde(default = "usual", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Packets are lost.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Loss {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// How many of a hundred.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
    /// How long.
    #[serde(default = "usual", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Something takes longer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Delay {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whose.
    #[serde(default)]
    pub node: Who,
    /// How much longer.
    #[schemars(with = "String")]
    pub by: HumanDuration,
    /// How long.
    #[serde(default = "usual", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// A narrow way.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bandwidth {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whose.
    #[serde(default)]
    pub node: Who,
    /// Bytes that it can send in a second.
    #[schemars(with = "String")]
    pub rate: ByteSize,
    /// How long.
    #[serde(default = "usual", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// The time of day jumps.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Jump {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whose.
    #[serde(default)]
    pub node: Who,
    /// Seconds, backwards when negative.
    pub seconds: i64,
    /// How long.
    #[serde(default = "usual", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}
