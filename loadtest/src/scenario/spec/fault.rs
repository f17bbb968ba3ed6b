//! What breaks, or is done to a cluster while it works.

use std::fmt;
use std::time::Duration;

use odeum_runtime::config::HumanDuration;
use schemars::JsonSchema;
use serde::Deserialize;

mod kinds;

pub use self::kinds::{
    Bandwidth, Delay, Isolate, Jump, Loss, Moved, OfNode, Once, Split, Way, Who,
};

/// Something that breaks, or is done to the cluster while it works. `node` is a name (n1, n2 …), `leader`
/// or `any`, which is drawn; `for` is how long it lasts; with `every` it comes again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9` of a node, which is started again afterwards.
    Kill(OfNode),
    /// A node stops (SIGSTOP) and goes on (SIGCONT).
    Pause(OfNode),
    /// A node is told to end (SIGTERM), and started again afterwards.
    Restart(OfNode),
    /// All nodes are restarted, one after the other, each when the one before is back.
    Roll(Once),
    /// Firmware of the harness moves to other nodes.
    Move(Moved),
    /// A node gives away all it has, and takes things again afterwards.
    Drain(OfNode),
    /// Firmware of the harness is replaced by another version of it.
    Update(Once),
    /// A node is cut off from all others. Takes namespaces.
    Isolate(Isolate),
    /// Nodes are cut off from the others. Takes namespaces.
    Split(Split),
    /// Packets between nodes are lost. Takes namespaces.
    Loss(Loss),
    /// Packets of a node are late. Takes namespaces, and netem in the kernel.
    Delay(Delay),
    /// A node can send no more than so much. Takes namespaces.
    Bandwidth(Bandwidth),
    /// The disk of a node is full. Takes root.
    DiskFull(OfNode),
    /// Each time a node waits for its disk it waits longer. Takes a C compiler.
    SlowDisk(Delay),
    /// The time of day of a node jumps. Takes a C compiler.
    Clock(Jump),
}

impl Fault {
    /// When it comes, and again after how long.
    #[must_use]
    pub fn when(&self) -> (Duration, Option<Duration>) {
        let mut fault = self.clone();
        let (at, every) = fault.timing();
        (at.0, every.map(|every| every.0))
    }

    fn timing(&mut self) -> (&mut HumanDuration, &mut Option<HumanDuration>) {
        match self {
            Self::Kill(it)
            | Self::Pause(it)
            | Self::Restart(it)
            | Self::Drain(it)
            | Self::DiskFull(it) => (&mut it.at, &mut it.every),
            Self::Roll(it) | Self::Update(it) => (&mut it.at, &mut it.every),
            Self::Move(it) => (&mut it.at, &mut it.every),
            Self::Isolate(it) => (&mut it.at, &mut it.every),
            Self::Split(it) => (&mut it.at, &mut it.every),
            Self::Loss(it) => (&mut it.at, &mut it.every),
            Self::Delay(it) | Self::SlowDisk(it) => (&mut it.at, &mut it.every),
            Self::Bandwidth(it) => (&mut it.at, &mut it.every),
            Self::Clock(it) => (&mut it.at, &mut it.every),
        }
    }

    /// Whether firmware may lose by it what it has in memory alone. A move and a drain take that along.
    #[must_use]
    pub fn may_cost_memory(&self) -> bool {
        !matches!(self, Self::Move(_) | Self::Drain(_))
    }

    /// How long it lasts, where that is said.
    #[must_use]
    pub fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Kill(it)
            | Self::Pause(it)
            | Self::Restart(it)
            | Self::Drain(it)
            | Self::DiskFull(it) => Some(it.lasts.0),
            Self::Roll(_) | Self::Update(_) | Self::Move(_) => None,
            Self::Isolate(it) => Some(it.lasts.0),
            Self::Split(it) => Some(it.lasts.0),
            Self::Loss(it) => Some(it.lasts.0),
            Self::Delay(it) | Self::SlowDisk(it) => Some(it.lasts.0),
            Self::Bandwidth(it) => Some(it.lasts.0),
            Self::Clock(it) => Some(it.lasts.0),
        }
    }

    /// Makes the timetable so many times shorter. How long a fault lasts stays: what is detected within
    /// a second is not detected earlier.
    pub fn shorten(&mut self, by: u32) {
        let (at, every) = self.timing();
        at.0 /= by;
        if let Some(every) = every {
            every.0 /= by;
        }
    }

    /// For whom it is, where it is for one.
    #[must_use]
    pub fn who(&self) -> Option<&Who> {
        match self {
            Self::Kill(it)
            | Self::Pause(it)
            | Self::Restart(it)
            | Self::Drain(it)
            | Self::DiskFull(it) => Some(&it.node),
            Self::Isolate(it) => Some(&it.node),
            Self::Delay(it) | Self::SlowDisk(it) => Some(&it.node),
            Self::Bandwidth(it) => Some(&it.node),
            Self::Clock(it) => Some(&it.node),
            Self::Roll(_) | Self::Move(_) | Self::Update(_) | Self::Split(_) | Self::Loss(_) => {
                None
            }
        }
    }

    /// Whether messages that were told, and were not answered, may be lost by it: that is no fault of
    /// the cluster.
    #[must_use]
    pub fn loses_what_is_told(&self) -> bool {
        !matches!(
            self,
            Self::Move(_)
                | Self::Update(_)
                | Self::SlowDisk(_)
                | Self::Clock(_)
                | Self::DiskFull(_)
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(it) => write!(f, "kill -9 of {}", it.node),
            Self::Pause(it) => write!(f, "{} stopped", it.node),
            Self::Restart(it) => write!(f, "restart of {}", it.node),
            Self::Roll(_) => f.write_str("rolling restart"),
            Self::Move(it) => write!(f, "{} guests move", it.guests),
            Self::Drain(it) => write!(f, "drain of {}", it.node),
            Self::Update(_) => f.write_str("hot update"),
            Self::Isolate(it) => match it.way {
                Way::Both => write!(f, "{} cut off", it.node),
                Way::Out => write!(f, "what {} sends lost", it.node),
                Way::In => write!(f, "what {} is sent lost", it.node),
            },
            Self::Split(it) => write!(f, "{} cut off from the others", it.side.join(", ")),
            Self::Loss(it) => write!(f, "{} % of packets lost", it.percent),
            Self::Delay(it) => write!(f, "packets of {} late by {}", it.node, it.by),
            Self::Bandwidth(it) => write!(f, "{} sends at most {}/s", it.node, it.rate),
            Self::DiskFull(it) => write!(f, "the disk of {} full", it.node),
            Self::SlowDisk(it) => write!(f, "the disk of {} slower by {}", it.node, it.by),
            Self::Clock(it) => write!(f, "time of day of {} moved by {} s", it.node, it.seconds),
        }
    }
}
