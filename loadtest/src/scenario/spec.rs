//! What a scenario file says. The documentation of each field is its documentation in the schema, which
//! editors show.

use std::collections::BTreeMap;
use std::fmt;

use odeum_runtime::config::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

mod budget;
mod fault;
mod phase;
mod target;

pub use self::budget::{Budget, Errors, Latency, Memory, Outage, Rate};
pub use self::fault::{
    Bandwidth, Delay, Fault, Isolate, Jump, Loss, Moved, OfNode, Once, Split, Way, Who,
};
pub use self::phase::Phase;
pub use self::target::{
    Call, Consistency, Deployed, Entities, Http, Keys, Method, Move, State, Target, Variables,
};

/// A load test: what is asked of which cluster, how often, what breaks meanwhile, and what must hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name: also that of its report.
    pub name: String,
    /// What it finds out, in a sentence.
    #[serde(default)]
    pub about: String,
    /// Decides what is drawn by lot: keys, sizes, the order of targets, who is struck by a fault. Another
    /// one for each run when left out; the report names it.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Which cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// Processes that make the load.
    #[serde(default = "defaults::generators")]
    #[schemars(range(min = 1, max = 64))]
    pub generators: usize,
    /// How sends are spread in time in an open loop.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Requests that one generator has under way at most. What would exceed it is not sent, and
    /// counted as dropped.
    #[serde(default = "defaults::in_flight")]
    #[schemars(range(min = 1))]
    pub in_flight: usize,
    /// How long a request may take, with all its tries, before it has failed.
    #[serde(default = "defaults::deadline")]
    #[schemars(with = "String")]
    pub deadline: HumanDuration,
    /// A send that begins later than so much after its time is counted as late.
    #[serde(default = "defaults::late")]
    #[schemars(with = "String")]
    pub late: HumanDuration,
    /// What is asked, by names of your choice.
    #[schemars(length(min = 1))]
    pub targets: BTreeMap<String, Target>,
    /// How often each target is asked in proportion to the others; all alike when left out.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, u32>")]
    pub mix: BTreeMap<String, Spanned<u32>>,
    /// How much is asked when, one after the other.
    #[schemars(length(min = 1))]
    pub phases: Vec<Phase>,
    /// What breaks when.
    #[serde(default)]
    #[schemars(with = "Vec<Fault>")]
    pub faults: Vec<Spanned<Fault>>,
    /// What must hold. That nothing is lost, doubled, out of order or wrong must always.
    #[serde(default)]
    #[schemars(with = "Vec<Budget>")]
    pub budgets: Vec<Spanned<Budget>>,
}

impl Scenario {
    /// The seed. A run has drawn one when nobody said any.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or_default()
    }
}

/// Which cluster is asked: one that runs, or one that is started on this machine for the time of the test.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// How many nodes are started, called n1, n2 and so on. With a list the scenario runs once for each.
    pub nodes: Sizes,
    /// The APIs of the nodes of a cluster that runs, such as `http://10.0.0.1:7070`. None is started then.
    pub urls: Vec<String>,
    /// Where the nodes that are started are.
    pub network: Network,
}

/// Numbers of nodes.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "OneOrMany")]
pub struct Sizes(pub Vec<usize>);

impl Default for Sizes {
    fn default() -> Self {
        Self(vec![3])
    }
}

/// For the schema alone.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the schema is made of it")]
enum OneOrMany {
    One(usize),
    Many(Vec<usize>),
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not an untagged enum, whose errors would not say where.
        struct Said;

        impl<'de> de::Visitor<'de> for Said {
            type Value = Sizes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of nodes, or a list of such numbers")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Sizes, E> {
                let number = usize::try_from(number).map_err(E::custom)?;
                Ok(Sizes(vec![number]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Sizes, E> {
                let number = usize::try_from(number).map_err(E::custom)?;
                Ok(Sizes(vec![number]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut all: A) -> Result<Sizes, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = all.next_element()? {
                    sizes.push(size);
                }
                Ok(Sizes(sizes))
            }
        }

        from.deserialize_any(Said)
    }
}

/// Where the nodes are that a scenario starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// In network namespaces where a fault needs them and root is there, else on loopback.
    #[default]
    Auto,
    /// On loopback.
    Loopback,
    /// Each in a network namespace of its own: takes root, `ip` and `nft`.
    Namespaces,
}

/// How sends are spread in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At even distances.
    #[default]
    Even,
    /// At random, as from many users who know nothing of each other (a Poisson process).
    Poisson,
}

/// What is meant when nothing is said.
mod defaults {
    use std::time::Duration;

    use super::HumanDuration;

    pub(super) fn generators() -> usize {
        2
    }

    pub(super) fn in_flight() -> usize {
        1_024
    }

    pub(super) fn deadline() -> HumanDuration {
        HumanDuration(Duration::from_secs(10))
    }

    pub(super) fn late() -> HumanDuration {
        HumanDuration(Duration::from_millis(1))
    }
}
