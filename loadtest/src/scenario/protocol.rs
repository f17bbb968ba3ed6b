//! What the director and its generators say to each other: lines of JSON on their inputs and outputs.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::measure::Second;

/// What a generator is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The scenario's file, for errors, and its text.
    pub(crate) file: String,
    pub(crate) text: String,
    /// What the command line says instead.
    pub(crate) changes: Changes,
    /// Which generator, of how many.
    pub(crate) index: usize,
    pub(crate) of: usize,
    /// Names what this run makes in the cluster.
    pub(crate) run: String,
    /// The nodes.
    pub(crate) nodes: Vec<NodeAt>,
}

/// What the command line says instead of the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Changes {
    pub(crate) seed: Option<u64>,
    pub(crate) generators: Option<usize>,
    /// Divides the times of phases and of the timetable.
    pub(crate) quick: u32,
    pub(crate) urls: Vec<String>,
    pub(crate) nodes: Vec<usize>,
}

/// A node, as generators reach it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeAt {
    pub(crate) name: String,
    pub(crate) url: String,
    /// Where its entities are reached.
    pub(crate) door: Option<SocketAddr>,
}

/// What a generator is told, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// To prepare.
    Prepare(Box<Assignment>),
    /// To begin, at that time of the machine's clock, in nanoseconds.
    Begin { at: u64 },
    /// To look at what is left in the cluster: it is whole, and nothing happens to it any more.
    Finish,
}

/// What a generator says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It is prepared.
    Ready,
    /// What came of requests that were due in the second with that number since the last time it was
    /// told.
    Second { number: u32, counts: Second },
    /// Something is wrong.
    Found(Found),
    /// All is sent and answered.
    Over { longest_gap_us: u64 },
    /// It has looked at everything.
    Done(Looked),
    /// It cannot go on.
    Failed(String),
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Which check found it.
    pub check: Check,
    /// What, in one line.
    pub title: String,
    /// With what a person needs to see it.
    pub account: String,
}

/// What is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// What was acknowledged is there at the end.
    Lost,
    /// Nothing is done twice.
    Doubled,
    /// What was sent after an answer has its effect after it.
    Reordered,
    /// At no time two activations answer.
    DoubleActivation,
    /// Variables of sessions are linearizable.
    Linearizability,
    /// A watch tells every change once, in order.
    Watch,
    /// Processes, memory and files are given back.
    Leak,
    /// Nodes neither end by themselves nor panic, and are whole again after faults.
    Health,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Lost,
        Self::Doubled,
        Self::Reordered,
        Self::DoubleActivation,
        Self::Linearizability,
        Self::Watch,
        Self::Leak,
        Self::Health,
    ];

    /// What it looks for.
    #[must_use]
    pub fn promise(self) -> &'static str {
        match self {
            Self::Lost => "acknowledged, and not there",
            Self::Doubled => "carried out twice",
            Self::Reordered => "carried out in another order",
            Self::DoubleActivation => "active on two nodes at a time",
            Self::Linearizability => "answers that no order explains",
            Self::Watch => "changes missed, doubled or reordered",
            Self::Leak => "files and processes not given back",
            Self::Health => "panics, and nodes that do not come back",
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Reordered => "reordered",
            Self::DoubleActivation => "double activation",
            Self::Linearizability => "linearizability",
            Self::Watch => "watch completeness",
            Self::Leak => "leaks",
            Self::Health => "health",
        }
    }

    /// Which one found what begins so.
    pub(crate) fn of(title: &str) -> Self {
        let found = Self::ALL.into_iter().find(|check| title.starts_with(check.name()));
        found.unwrap_or(Self::Health)
    }
}

/// What was looked at, so that it can be seen what a check that found nothing is worth.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Looked {
    /// Counters of firmware, and answers that they gave.
    pub(crate) counters: u64,
    pub(crate) counted: u64,
    /// Those of which nobody knows what came of them.
    pub(crate) unknown: u64,
    /// Entities, and messages they had.
    pub(crate) entities: u64,
    pub(crate) messages: u64,
    /// Messages to entities that were lost with a node or a link, which is no fault of the cluster.
    pub(crate) lost_with_a_node: u64,
    /// Variables that were checked, and operations on them.
    pub(crate) variables: u64,
    pub(crate) operations: u64,
    /// Changes that watches told, and how often some were not kept.
    pub(crate) changes: u64,
    pub(crate) lapses: u64,
}

impl Looked {
    /// Adds what another generator has looked at.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counters += other.counters;
        self.counted += other.counted;
        self.unknown += other.unknown;
        self.entities += other.entities;
        self.messages += other.messages;
        self.lost_with_a_node += other.lost_with_a_node;
        self.variables += other.variables;
        self.operations += other.operations;
        self.changes += other.changes;
        self.lapses += other.lapses;
    }
}
