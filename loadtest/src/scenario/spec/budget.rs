//! What must hold.

use odeum_runtime::config::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// What must hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// The time that so many of a hundred requests do not exceed.
    Latency(Latency),
    /// Requests a second that were answered, as a mean of the whole load.
    Rate(Rate),
    /// The share of requests that failed or were dropped.
    Errors(Errors),
    /// Memory of any node at any time.
    Memory(Memory),
    /// By how much the memory of any node is larger at the end than after its start.
    Growth(Memory),
    /// By how much the memory of any generator is larger in the last fifth of the load than in the second, by
    /// the median of each: a generator keeps no more for having sent for longer.
    GeneratorGrowth(Memory),
    /// The longest time in which nobody was answered.
    Outage(Outage),
    /// The longest time from the end of a fault until the cluster was whole again: all nodes are there, and
    /// each agrees with the others.
    Whole(Outage),
}

/// A bound of times.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Latency {
    /// Which of a hundred, such as 99.9.
    pub percentile: f64,
    /// Of which target; of all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub of: Option<Spanned<String>>,
    /// The bound.
    #[schemars(with = "String")]
    pub at_most: HumanDuration,
}

/// A bound of rates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rate {
    /// Of which target; of all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub of: Option<Spanned<String>>,
    /// The bound.
    pub at_least: f64,
}

/// A bound of errors.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Errors {
    /// Of which target; of all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub of: Option<Spanned<String>>,
    /// The bound, in percent.
    pub at_most_percent: f64,
}

/// A bound of memory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    /// The bound.
    #[schemars(with = "String")]
    pub at_most: ByteSize,
}

/// A bound of a time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Outage {
    /// The bound.
    #[schemars(with = "String")]
    pub at_most: HumanDuration,
}

impl Budget {
    /// The target it is about.
    #[must_use]
    pub fn of(&self) -> Option<&Spanned<String>> {
        match self {
            Self::Latency(it) => it.of.as_ref(),
            Self::Rate(it) => it.of.as_ref(),
            Self::Errors(it) => it.of.as_ref(),
            Self::Memory(_)
            | Self::Growth(_)
            | Self::GeneratorGrowth(_)
            | Self::Outage(_)
            | Self::Whole(_) => None,
        }
    }
}
